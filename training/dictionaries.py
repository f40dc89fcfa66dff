"""Dictionaries in the dictd and WordNet file formats: headword and definition."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

Entry = tuple[str, str]

_TAGS = re.compile(r"\[(1913 Webster|Webster 1913 Suppl\.|PJC|WordNet [^\]]*|Obs\.?|R\.)\]")
_PRONUNCIATION = re.compile(r"\\[^\\]*\\|/[^/\s]{2,}[^/]*/(?=[,;]|\s|$)")
_DATE = re.compile(r"\(\d{4}-\d\d-\d\d\)")


def dictd_entries(text: str, *, indent: int = 2) -> Iterator[Entry]:
    r"""Yield (headword, definition): headwords start a line, definitions are indented.

    >>> list(dictd_entries("Abacus\n   A table for {counting}.\naard\n   <tool> Checks."))
    [('Abacus', 'A table for counting.'), ('aard', 'Checks.')]
    """
    headword: str | None = None
    lines: list[str] = []
    for line in text.split("\n"):
        if line and not line[0].isspace():
            if headword is not None and lines:
                yield headword, clean_definition(" ".join(lines))
                lines = []
            # Adjacent headword lines are names of one entry; the first is kept.
            if headword is None or lines == []:
                headword = re.split(r"\s*[\\(\[]|\s+/", line, maxsplit=1)[0].strip(" ,.;")
        elif line.startswith(" " * indent):
            lines.append(line.strip())
    if headword is not None and lines:
        yield headword, clean_definition(" ".join(lines))


def clean_definition(text: str) -> str:
    """Return a definition without the dictionary's own marks.

    >>> clean_definition("<tool> A {table} for counting. [1913 Webster] (1998-03-03)")
    'A table for counting.'
    """
    text = _DATE.sub("", _TAGS.sub("", _PRONUNCIATION.sub("", text)))
    text = re.sub(r"^\s*<[^>]*>\s*", "", text)
    text = re.sub(r"\[[^\]]{0,80}\]|\{\(?[a-z]+://[^}]*\}", "", text)
    text = text.replace("{", "").replace("}", "").replace("``", '"').replace("''", '"')
    return " ".join(text.split())


def wordnet_entries(lines: Iterable[str]) -> Iterator[Entry]:
    """Yield (lemma, its glosses joined) from the lines of a WordNet ``data.*`` file.

    >>> line = "00977214 04 n 02 swoop 1 dive 0 001 @ 00975452 n 0000 | a raid  "
    >>> list(wordnet_entries([line]))
    [('swoop', 'a raid (also called dive)'), ('dive', 'a raid (also called swoop)')]
    """
    glosses: dict[str, list[str]] = defaultdict(list)
    for line in lines:
        if line.startswith(" ") or " | " not in line:
            continue
        fields, gloss = line.split(" | ", 1)
        columns = fields.split()
        names = [
            columns[4 + 2 * position].replace("_", " ") for position in range(int(columns[3], 16))
        ]
        for name in names:
            others = [other for other in names if other != name]
            also = f" (also called {', '.join(others[:3])})" if others else ""
            glosses[name].append(gloss.strip() + also)
    for name, all_glosses in glosses.items():
        yield name, "; ".join(all_glosses[:4])
