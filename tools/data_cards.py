"""Write datasets/*.md, the cards of the data sets, from the catalogue: `make cards`."""

from __future__ import annotations

from pathlib import Path

from set_cli.data.card_text import card_text
from set_cli.data.catalog import CATALOG

FOLDER = Path(__file__).resolve().parent.parent / "datasets"


def main() -> None:
    for card in CATALOG.values():
        (FOLDER / f"{card.name}.md").write_text(card_text(card))


if __name__ == "__main__":
    main()
