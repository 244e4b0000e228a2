"""Write datasets/*.md, the cards of the data sets, from the catalogue: `make cards`."""

from __future__ import annotations

from pathlib import Path

from set_cli.data.card import Card
from set_cli.data.card_text import card_text
from set_cli.data.catalog import CATALOG

HEADER = "<!-- Generated from set_cli/data/catalog.py by `make cards`; do not edit. -->\n\n"
FOLDER = Path(__file__).resolve().parent.parent / "datasets"


def page(card: Card) -> str:
    """The card's text under a line that says where it comes from."""
    return HEADER + card_text(card)


def main() -> None:
    for card in CATALOG.values():
        (FOLDER / f"{card.name}.md").write_text(page(card))


if __name__ == "__main__":
    main()
