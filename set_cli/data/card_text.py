"""A data set's card in prose, from the catalogue: `datasets/<name>.md` and `set-data show`."""

from __future__ import annotations

from set_cli.data.card import Card, Digest, Form, SourceFile


def card_text(card: Card) -> str:
    """Markdown, ending in a newline."""
    lines = [f"# {card.name}", "", f"{card.title}. Domain: {card.domain}.", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in _facts(card)]
    for note in card.notes:
        lines += ["", note]
    if card.bundled:
        lines += ["", "Comes with scikit-learn: nothing is fetched."]
    for number, form in enumerate(card.forms):
        lines += _form(card, form, first=number == 0)
    return "\n".join(lines) + "\n"


def _facts(card: Card) -> list[tuple[str, str]]:
    values = {"binary": "0 or 1", "bounded": f"0 to {card.maximum}", "real": "real numbers"}[card.kind]
    if card.mean is not None:
        values += f", mean {card.mean:g} over the training rows"
    facts = [("features", f"{card.features:,}"), ("values", values)]
    if card.shape is not None:
        facts.append(("images", " x ".join(map(str, card.shape)) + ", row by row"))
    classes = str(card.classes) if card.classes else "none: the rows have no labels"
    if card.per_class is not None:
        fewest, most = card.per_class
        of = f"{fewest:,}" if fewest == most else f"{fewest:,} to {most:,}"
        classes += f", of {of} training rows each"
    facts.append(("classes", classes))
    facts.append(("training / validation / test rows", f"{card.train:,} / {card.valid:,} / {card.test:,}"))
    if card.paper is not None:
        same = "the same" if card.paper == (card.train, card.test) else f"{card.paper[0]:,} / {card.paper[1]:,}"
        facts.append(("training / test rows in the paper's Table 1", same))
        facts.append(("the paper's model", ", ".join(model.upper() for model in card.models)))
    facts += [("home page", card.homepage), ("licence", card.licence), ("cite", card.citation)]
    return facts


FORMATS = {
    "idx": "IDX, gzipped or not",
    "cifar": "CIFAR-10 binary version",
    "made": "npz: train_data, valid_data, test_data",
    "debd": "text, comma-separated 0 and 1",
    "svmlight": "LIBSVM text: label index:value …",
    "amat": "text, blank-separated numbers, the target last",
    "mat": "MATLAB 5 .mat: train_data, train_labels, val_…, test_…",
    "letters": "tab-separated text: id, letter, next, word, position, fold, 128 pixels",
    "higgs": "gzipped csv: label, 28 features",
}


def _form(card: Card, form: Form, *, first: bool) -> list[str]:
    if form.can_be_fetched:
        how = "read where it is here" + (", fetched where labels are needed" if form.labels else "")
        how = "fetched first" if first else how
    else:
        how = "no checksums are known: taken in with `set-data import … --unverified`"
    labels = "with labels" if form.labels else "without labels"
    lines = ["", f"## {form.publisher}: {FORMATS[form.format]}", "", f"{labels.capitalize()}; {how}."]
    if form.note:
        lines += ["", f"Note: {form.note}."]
    lines += ["", "| file | rows | size in bytes and checksum |", "|---|---|---|"]
    files = (form.archive, *form.files) if form.archive else form.files
    lines += [f"| `{card.folder}/{file.published}` | {_rows(form, file)} | {_digests(file)} |" for file in files]
    urls = [url for file in files for url in file.urls]
    return [*lines, "", *(f"* {url}" for url in urls)]


def _rows(form: Form, file: SourceFile) -> str:
    if file.part != "all":
        return file.part
    return "train, valid" if any(other.part == "test" for other in form.files if file is not form.archive) else "all"


def _digests(file: SourceFile) -> str:
    parts = []
    if file.content is not None:
        parts.append(_digest(file.content) + (" (unpacked)" if file.packed or file.published != file.name else ""))
    if file.packed is not None:
        parts.append(_digest(file.packed) + " (as published)")
    return "; ".join(parts) or "not known"


def _digest(digest: Digest) -> str:
    size = f"{digest.size:,}, " if digest.size is not None else ""
    return f"{size}{digest.algorithm} `{digest.value}`"
