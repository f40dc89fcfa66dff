"""The passages of the training corpus: what the model learns to read."""

from __future__ import annotations

import gzip
import json
import random
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from training.dictionaries import Entry, dictd_entries, wordnet_entries
from training.markup import Section, sections
from training.sources import (
    DICTIONARIES,
    DOCUMENTATION,
    UNSEEN_DOCUMENTATION,
    documentation_pages,
    package_descriptions,
    unpacked_debian,
)

Kind = Literal["definition", "section", "description", "answer", "text"]

DESCRIPTIONS = "package descriptions"
# The demo judges the models on Python's documentation, so nothing about Python is trained on.
_PYTHON = re.compile(
    r"python|\bpip3?\b|numpy|scipy|sklearn|django|pandas|matplotlib|jupyter|\.py\b", re.IGNORECASE
)
# Sources of the files of pairs and passages that are for validation alone: whole books and sites.
HELD_OUT_SOURCES = frozenset(
    {
        "xquad",
        "philschatz/psychology-book",
        "openstax/osbooks-introduction-anthropology",
        "DFE-Digital/get-into-teaching-app",
        "alphagov/smart-answers",
        "US CDC / FDA questions",
    }
)
PASSAGE_WORDS = 210
# The two large dictionaries, thinned out.
HEADWORDS_ONE_IN = {"dict-gcide": 5, "wordnet-base": 6}


@dataclass(frozen=True, slots=True)
class Passage:
    """``title`` is the headword, heading or summary; ``text`` is what the model reads.

    ``questions`` are questions a person wrote that this passage answers.
    """

    source: str
    kind: Kind
    title: str
    text: str
    questions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Files:
    """JSON lines of the reader's own: pairs, passages, and questions without a passage."""

    pairs: tuple[Path, ...] = ()
    passages: tuple[Path, ...] = ()
    questions: tuple[Path, ...] = ()

    @property
    def names(self) -> list[str]:
        return [path.name for path in (*self.pairs, *self.passages, *self.questions)]


def chunks(paragraphs: Sequence[str], *, n_words: int) -> Iterator[str]:
    """Yield runs of whole sentences, about ``n_words`` words each.

    >>> list(chunks(["One two. Three four five.", "Six."], n_words=4))
    ['One two. Three four five.', 'Six.']
    """
    chunk: list[str] = []
    size = 0
    for paragraph in paragraphs:
        for sentence in re.split(r"(?<=[.!?])\s+(?=[A-Z\"'(])", paragraph):
            chunk.append(sentence)
            size += len(sentence.split())
            if size >= n_words:
                yield " ".join(chunk)
                chunk, size = [], 0
    if chunk:
        yield " ".join(chunk)


def about_python(*texts: str) -> bool:
    """Say whether a text is about Python, the language or what belongs to it.

    >>> about_python("How to open a file", "import numpy"), about_python("A snake in the grass")
    (True, False)
    """
    return any(_PYTHON.search(text) for text in texts)


def passage_length(rng: random.Random) -> int:
    """Return how many words a passage gets: web passages are 40 to 80, some texts far longer."""
    if rng.random() < 0.1:
        return rng.randint(110, 200)
    return rng.randint(30, 85)


def _section_passages(
    package: str, found: Iterable[Section], rng: random.Random
) -> Iterator[Passage]:
    for section in found:
        words = sum(len(paragraph.split()) for paragraph in section.paragraphs)
        if words < 12:
            continue
        for position, text in enumerate(chunks(section.paragraphs, n_words=passage_length(rng))):
            if len(text.split()) < 10 or position >= 6:
                continue
            # With the title in front half of the time: corpora come both ways.
            whole = f"{section.title}. {text}" if rng.random() < 0.4 else text
            yield Passage(package, "section", section.title, whole)


def _dictionary(package: str, work: Path) -> Iterator[Entry]:
    folder = unpacked_debian(package, work)
    if package == "wordnet-base":
        for part in ("noun", "verb"):
            with (folder / f"usr/share/wordnet/data.{part}").open(encoding="utf-8") as lines:
                yield from wordnet_entries(lines)
    else:
        (path,) = folder.rglob("*.dict.dz")
        text = gzip.decompress(path.read_bytes()).decode("utf-8", errors="replace")
        yield from dictd_entries(text)


def sampled_headword(headword: str, *, one_in: int) -> bool:
    """Return whether a headword is in the sample: all words with the same beginning, or none.

    The same words from every dictionary, and their relatives, are each other's hard negatives.
    """
    return zlib.crc32(headword[:4].lower().encode()) % one_in == 0


def _definition_passages(package: str, work: Path, rng: random.Random) -> Iterator[Passage]:
    one_in = HEADWORDS_ONE_IN.get(package, 1)
    for headword, definition in _dictionary(package, work):
        if not sampled_headword(headword, one_in=one_in):
            continue
        if len(definition.split()) < 8 or not re.match(r"^[A-Za-z][A-Za-z0-9 '\-/.]*$", headword):
            continue
        text = next(chunks([definition], n_words=passage_length(rng)))
        text = " ".join(text.split()[:200])
        form = rng.choice(["{word}: {text}", "{word}. {text}", "{word} - {text}", "{text}"])
        # Without its headword a definition answers only by meaning; keep those the exception.
        if form == "{text}" and rng.random() < 0.5:
            form = "{word}: {text}"
        yield Passage(package, "definition", headword, form.format(word=headword, text=text))


def _description_passages(work: Path, rng: random.Random) -> Iterator[Passage]:
    seen = set()
    for package, summary, text in package_descriptions(work):
        if len(text.split()) < 15 or text in seen or summary.startswith("transitional"):
            continue
        seen.add(text)
        body = next(chunks([text], n_words=passage_length(rng)))
        whole = f"{package}: {body}" if rng.random() < 0.3 else body
        yield Passage(DESCRIPTIONS, "description", summary, whole)


def pair_passages(path: Path, rng: random.Random, *, held_out: bool = False) -> Iterator[Passage]:
    """Yield the passages of a file of question and passage pairs (JSON lines).

    Each line has ``query`` and ``passage``, and may have ``source`` and ``negatives``: passages of
    their own. Runs of single sentences are neighbours in one article, so they are joined.
    ``held_out`` asks for those of `HELD_OUT_SOURCES`, which are left out otherwise.
    """
    distinct: dict[str, list[str]] = {}
    for row in _rows(path, held_out=held_out):
        distinct.setdefault(row["passage"], []).append(row["query"])
        for negative in row.get("negatives", ()):
            distinct.setdefault(negative, [])
    items = iter(distinct.items())
    for text, questions in items:
        target = passage_length(rng)
        texts, asked = [text], list(questions)
        while len(" ".join(texts).split()) < 0.6 * target and len(text.split()) < 40:
            following = next(items, None)
            if following is None:
                break
            texts.append(following[0])
            asked.extend(following[1])
        whole = " ".join(" ".join(texts).split()[:PASSAGE_WORDS])
        yield Passage(path.stem, "answer", "", whole, tuple(dict.fromkeys(asked)))


def plain_passages(path: Path, *, held_out: bool = False) -> Iterator[Passage]:
    """Yield the passages of a file of passages (JSON lines with ``passage`` and ``source``)."""
    for row in _rows(path, held_out=held_out):
        whole = " ".join(row["passage"].split()[:PASSAGE_WORDS])
        yield Passage(path.stem, "text", row.get("title", ""), whole)


def _rows(path: Path, *, held_out: bool) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            row = json.loads(line)
            if "passage" not in row:
                raise ValueError(f"{path}, line {number} has no 'passage'")
            if (row.get("source") in HELD_OUT_SOURCES) == held_out:
                yield row


def build_passages(
    work: Path,
    *,
    files: Files,
    sources: Sequence[str] | None,
    limit_per_source: int,
    limit_per_file: int,
    limits: Mapping[str, int],
    held_out: bool = False,
) -> list[Passage]:
    """Return the distinct passages of all sources, at most so many of each; none about Python."""
    found: list[Passage] = []
    public = (*DICTIONARIES, *DOCUMENTATION, DESCRIPTIONS) if sources is None else sources
    everything: list[str | Path] = [*public, *files.pairs, *files.passages]
    for source in everything:
        name = source.stem if isinstance(source, Path) else source
        # One generator a source, so that leaving one out changes no other.
        rng = random.Random(name)
        if isinstance(source, str):
            read, limit = source_passages(source, work, rng), limit_per_source
        elif source in files.pairs:
            read, limit = pair_passages(source, rng, held_out=held_out), limit_per_file
        else:
            read, limit = plain_passages(source, held_out=held_out), limit_per_file
        distinct = list({p.text: p for p in read}.values())
        kept = [p for p in distinct if not about_python(p.title, p.text, *p.questions)]
        rng.shuffle(kept)
        found.extend(kept[: limits.get(name, limit)])
    # A pair's passage comes before the same text without a question.
    unique: dict[str, Passage] = {}
    for passage in found:
        unique.setdefault(passage.text, passage)
    return list(unique.values())


def source_passages(source: str, work: Path, rng: random.Random) -> Iterator[Passage]:
    """Yield the passages of a package, or of the package descriptions."""
    if source in DICTIONARIES:
        yield from _definition_passages(source, work, rng)
    elif source in DOCUMENTATION or source in UNSEEN_DOCUMENTATION:
        for page in documentation_pages(source, work):
            yield from _section_passages(source, sections(page), rng)
    elif source == DESCRIPTIONS:
        yield from _description_passages(work, rng)
    else:
        known = ", ".join((*DICTIONARIES, *DOCUMENTATION, DESCRIPTIONS))
        raise ValueError(f"no source is called {source!r}; there are {known}")


def write_passages(passages: Iterable[Passage], path: Path) -> None:
    lines = (json.dumps(asdict(passage), ensure_ascii=False) for passage in passages)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_passages(path: Path) -> list[Passage]:
    with path.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [Passage(**{**row, "questions": tuple(row["questions"])}) for row in rows]
