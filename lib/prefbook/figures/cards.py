"""Preference pairs as cards that a person can read."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prefdyn.data import Pair

PROMPT_SHOWN, RESPONSE_SHOWN = 260, 420
"""Characters of a prompt's end and of a response's beginning that a card shows."""


@dataclass(frozen=True)
class Card:
    """A pair with a title and the figures that belong to it, already as text."""

    title: str
    pair: Pair
    figures: Mapping[str, str]


def cards(of: Sequence[Card]) -> str:
    """Cards side by side, as HTML; texts are shown as they are, whatever marks they hold."""
    return '<div class="pair-cards">' + "".join(map(_card, of)) + "</div>"


def _card(card: Card) -> str:
    prompt = card.pair.prompt.strip().removesuffix("Assistant:").strip()
    if len(prompt) > PROMPT_SHOWN:
        prompt = "…" + prompt[-PROMPT_SHOWN:]
    figures = "".join(
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in card.figures.items()
    )
    return (
        f'<article class="pair-card"><h4>{html.escape(card.title)}</h4><dl>{figures}</dl>'
        f"<strong>Prompt</strong><blockquote>{html.escape(prompt)}</blockquote>"
        f'<strong>Chosen</strong><blockquote class="chosen">{_shortened(card.pair.chosen)}</blockquote>'
        f'<strong>Rejected</strong><blockquote class="rejected">{_shortened(card.pair.rejected)}</blockquote></article>'
    )


def _shortened(response: str) -> str:
    text = response.strip()
    return html.escape(text if len(text) <= RESPONSE_SHOWN else text[:RESPONSE_SHOWN].rstrip() + "…")
