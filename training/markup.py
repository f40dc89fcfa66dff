"""HTML and Mallard pages in, titled sections of plain text out."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

HEADINGS = frozenset({"h1", "h2", "h3", "h4", "title"})
PARAGRAPHS = frozenset({"p", "li", "dd", "dt", "td", "blockquote", "item"})
# Code reads like nothing anyone asks for; navigation is the same on every page.
SKIPPED = frozenset(
    {"script", "style", "nav", "pre", "screen", "code-block", "footer", "head", "info"}
)


@dataclass(slots=True)
class Section:
    """A heading and the paragraphs under it."""

    title: str
    paragraphs: list[str] = field(default_factory=list)


class _SectionParser(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.sections: list[Section] = [Section("")]
        self._text: list[str] = []
        self._skipped: list[str] = []
        self._heading = False

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in SKIPPED:
            self._skipped.append(tag)
        elif tag in HEADINGS:
            self._flush()
            self._heading = True
        elif tag in PARAGRAPHS:
            self._flush()

    def handle_endtag(self, tag: str) -> None:
        if self._skipped and tag == self._skipped[-1]:
            self._skipped.pop()
        elif tag in HEADINGS:
            self._flush()
            self._heading = False
        elif tag in PARAGRAPHS:
            self._flush()

    def handle_data(self, data: str) -> None:
        if not self._skipped:
            self._text.append(data)

    def finish(self) -> None:
        """Take what an unclosed tag left open."""
        self._flush()

    def _flush(self) -> None:
        text = " ".join("".join(self._text).split()).strip("¶# ")
        self._text.clear()
        if self._heading:
            if text:
                self.sections.append(Section(clean_heading(text)))
        elif text:
            self.sections[-1].paragraphs.append(text)


def clean_heading(heading: str) -> str:
    """Return a heading without its number.

    >>> clean_heading("8.4.1. Creating an Index")
    'Creating an Index'
    """
    return re.sub(r"^(Chapter|Appendix|Section)?\s*([A-Z]|\d+)?(\.\d+)*\.\s+", "", heading).strip()


def sections(page: str) -> list[Section]:
    """Return the sections of a page that have a heading and text.

    >>> sections("<h2>1.2. Cats</h2><p>A cat <b>purrs</b>.</p><pre>meow()</pre>")
    [Section(title='Cats', paragraphs=['A cat purrs.'])]
    """
    parser = _SectionParser()
    parser.feed(page)
    parser.close()
    parser.finish()
    return [section for section in parser.sections if section.title and section.paragraphs]
