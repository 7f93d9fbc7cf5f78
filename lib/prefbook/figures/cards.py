"""Preference pairs as cards that a person can read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jinja2 import Environment

TEMPLATE = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""\
<div class="pair-cards">
{% for card in cards %}
<article class="pair-card"><h3>{{ card.title }}</h3>
<dl>
{% for name, value in card.figures.items() %}
<dt>{{ name }}</dt><dd>{{ value }}</dd>
{% endfor %}
</dl>
<strong>Prompt</strong><blockquote>{{ card.prompt }}</blockquote>
<strong>Chosen</strong><blockquote class="chosen">{{ card.chosen }}</blockquote>
<strong>Rejected</strong><blockquote class="rejected">{{ card.rejected }}</blockquote>
</article>
{% endfor %}
</div>
""")


@dataclass(frozen=True)
class Card:
    """A pair with a title and the figures that belong to it, already as text."""

    title: str
    figures: Mapping[str, str]
    prompt: str
    chosen: str
    rejected: str


def cards(of: Sequence[Card]) -> str:
    """Cards side by side, as HTML; texts are shown as they are, whatever marks they hold."""
    return TEMPLATE.render(cards=of)
