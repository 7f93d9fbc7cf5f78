"""Cards of pairs: texts are shown as they are, whatever marks they hold."""

from __future__ import annotations

from prefbook.figures.cards import Card, cards


def test_cards_show_texts_as_they_are() -> None:
    html = cards(
        [Card("Hard", {"c": "1 < 2"}, "Is <b> & <i> HTML?", "Yes, <script>alert(1)</script>", "No\nno")]
    )
    assert "<script>" not in html and "Is &lt;b&gt; &amp; &lt;i&gt; HTML?" in html and "1 &lt; 2" in html
    assert html.count('class="pair-card"') == 1 and "No\nno" in html


def test_cards_stand_in_their_order() -> None:
    html = cards([Card(title, {}, "p", "a", "b") for title in ("Hard", "Easy", "Easy to flip")])
    assert html.index("Hard") < html.index("Easy<") < html.index("Easy to flip")
