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
from typing import Literal

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

Kind = Literal["definition", "section", "description", "answer"]

DESCRIPTIONS = "package descriptions"
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


def pair_passages(path: Path, rng: random.Random) -> Iterator[Passage]:
    """Yield the passages of a file of question and passage pairs (JSON lines).

    Each line has ``query`` and ``passage``, and may have ``negatives``: passages of their own.
    Runs of short passages are neighbours in one article, so they are joined into one.
    """
    with path.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    distinct: dict[str, list[str]] = {}
    for row in rows:
        distinct.setdefault(row["passage"], []).append(row["query"])
        for negative in row.get("negatives", ()):
            distinct.setdefault(negative, [])
    items = iter(distinct.items())
    for text, questions in items:
        target = passage_length(rng)
        texts, asked = [next(chunks([text], n_words=target))], list(questions)
        while len(" ".join(texts).split()) < 0.6 * target and len(text.split()) < 60:
            following = next(items, None)
            if following is None:
                break
            texts.append(following[0])
            asked.extend(following[1])
        whole = " ".join(" ".join(texts).split()[:220])
        yield Passage(path.stem, "answer", "", whole, tuple(dict.fromkeys(asked)))


def build_passages(
    work: Path,
    *,
    pairs: Sequence[Path],
    sources: Sequence[str] | None,
    limit_per_source: int,
    limits: Mapping[str, int],
) -> list[Passage]:
    """Return the distinct passages of all sources, at most so many of each."""
    found: list[Passage] = []
    public = (*DICTIONARIES, *DOCUMENTATION, DESCRIPTIONS) if sources is None else sources
    everything: list[str | Path] = [*public, *pairs]
    for source in everything:
        name = source.stem if isinstance(source, Path) else source
        # One generator a source, so that leaving one out changes no other.
        rng = random.Random(name)
        distinct = list({p.text: p for p in source_passages(source, work, rng)}.values())
        rng.shuffle(distinct)
        found.extend(distinct[: limits.get(name, limit_per_source)])
    return list({passage.text: passage for passage in found}.values())


def source_passages(source: str | Path, work: Path, rng: random.Random) -> Iterator[Passage]:
    """Yield the passages of a package, of the package descriptions, or of a file of pairs."""
    if isinstance(source, Path):
        yield from pair_passages(source, rng)
    elif source in DICTIONARIES:
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
