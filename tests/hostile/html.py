"""What a browser would make of a page, and that nothing in it does anything."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from html.parser import HTMLParser

# Every element of page.html, with every attribute that it has there.
ALLOWED = {
    "html": "lang", "head": "", "meta": "charset http-equiv name content", "title": "", "style": "", "body": "",
    "a": "class href", "header": "", "h1": "", "p": "class", "nav": "aria-label", "main": "",
    "section": "id class data-filter", "h2": "", "h3": "", "div": "class tabindex role aria-label", "table": "",
    "thead": "", "tbody": "", "tr": "", "th": "scope class", "td": "class", "ul": "", "li": "", "dl": "", "dt": "",
    "dd": "", "code": "", "pre": "", "details": "", "summary": "", "span": "class", "sup": "", "em": "",
    "svg": "class viewbox width height aria-hidden", "rect": "class width height", "figure": "", "picture": "",
    "source": "media srcset", "img": "src alt loading", "figcaption": "", "script": "",
}  # fmt: skip
PICTURE = "data:image/svg+xml;base64,"


class Page(HTMLParser):
    """What a browser would make of a page: elements in their order, text, and what is in scripts and styles."""

    def __init__(self, content: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.own: list[tuple[str, str]] = []  # (script or style, content)
        self.parts: list[str] = []
        self.others: list[str] = []  # comments, declarations, instructions
        self.feed(content)
        self.close()
        self.text = "".join(self.parts)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        assert len(dict(attrs)) == len(attrs), (tag, attrs)

    def handle_data(self, data: str) -> None:
        if self.cdata_elem is not None:
            self.own.append((self.cdata_elem, data))
        else:
            self.parts.append(data)

    def handle_comment(self, data: str) -> None:
        self.others.append(data)

    def handle_decl(self, decl: str) -> None:
        self.others.append(decl)

    def handle_pi(self, data: str) -> None:
        self.others.append(data)

    def unknown_decl(self, data: str) -> None:
        self.others.append(data)

    def pictures(self) -> list[bytes]:
        addresses = [attrs[name] for _, attrs in self.elements for name in ("src", "srcset") if name in attrs]
        return [base64.b64decode(address.removeprefix(PICTURE), validate=True) for address in addresses]


def assert_inert(content: str) -> Page:
    """One script and one style, those that the policy names; nothing else that does anything; all of it known."""
    page = Page(content)
    assert page.others == ["doctype html"]
    for tag, attributes in page.elements:
        assert tag in ALLOWED, tag
        assert set(attributes) <= set(ALLOWED[tag].split()), (tag, attributes)
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        for name, value in attributes.items():
            if name == "href":
                assert re.fullmatch(r"#[a-z-]+", value), value
            if name in ("src", "srcset"):
                assert re.fullmatch(re.escape(PICTURE) + r"[A-Za-z0-9+/]+=*", value), value[:100]
    tags = Counter(tag for tag, _ in page.elements)
    assert (tags["script"], tags["style"], tags["title"]) == (1, 1, 1)
    policies = [a["content"] for tag, a in page.elements if tag == "meta" and "http-equiv" in a]
    names = [a["http-equiv"] for tag, a in page.elements if "http-equiv" in a]
    assert (len(policies), names) == (1, ["Content-Security-Policy"])
    rules = dict(rule.strip().partition(" ")[::2] for rule in policies[0].split(";"))
    expected = {"default-src": "'none'", "img-src": "data:", "base-uri": "'none'", "form-action": "'none'"}
    for kind in ("script", "style"):
        own = "".join(data for tag, data in page.own if tag == kind)
        digest = base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()
        expected[f"{kind}-src"] = f"'sha256-{digest}'"
    assert rules == expected
    return page
