"""``rerank-plugins rerank``: order a few passages by how well they answer a question."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rerank_plugins.commands.display import CommandProgress, print_json, write_out
from rerank_plugins.commands.scorer import add_scorer_options, scorer_options
from rerank_plugins.errors import DataFormatError, InvalidArgumentError
from rerank_plugins.models import EMBEDDED_MODEL
from rerank_plugins.progress import Progress
from rerank_plugins.ranking import Scorer, rank
from rerank_plugins.registry import shared_scorer
from rerank_plugins.terminal import harmless
from rerank_plugins.text_files import (
    STANDARD_INPUT,
    check_writable,
    decoded,
    json_object,
    numbered_lines,
)

HELP = "order passages by how well they answer a question"
DESCRIPTION = """\
Order passages, best first: score, id (the line, where none is given) and passage. FILE holds one
passage a line (empty lines are passed over), or, as .jsonl or with --jsonl, one JSON object a line
with "text" and, if wanted, "id" or "_id" and "title"; the passage is then title + " " + text.
Without FILE, standard input is read. With --json, "rank" counts from 1 and "index" from 0.
"""
EXAMPLES = """\
examples
  rerank-plugins rerank -q "how do birds fly" passages.txt -n 3
  grep -h '' notes/*.txt | rerank-plugins rerank -q "when is the meeting" --json
"""
_EXPECTED = 'an object {"text": "...", "id": "..."}'
_AT_A_TIME = 2048  # passages between two signs of progress


@dataclass(frozen=True, slots=True)
class _Given:
    """A passage with its id."""

    id: str
    passage: str


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    parser.add_argument("-q", "--query", required=True, metavar="TEXT", help="the question")
    parser.add_argument("file", nargs="?", metavar="FILE", help="passages (default, or '-': stdin)")
    parser.add_argument("--jsonl", action="store_true", help="the input is JSON lines")
    parser.add_argument(
        "-n", "--top-n", type=int, metavar="N", help="keep the best N (default: all)"
    )
    parser.add_argument(
        "-m",
        "--model",
        default=EMBEDDED_MODEL,
        help=f"a Hub id, a local folder or '{EMBEDDED_MODEL}' (default)",
    )
    parser.add_argument("-j", "--json", action="store_true", help="print the ranking as JSON")
    add_scorer_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Read, rank, print."""
    if arguments.top_n is not None and arguments.top_n < 1:
        raise InvalidArgumentError(
            f"--top-n must be at least 1, got {arguments.top_n}; leave it out to keep all"
        )
    if not arguments.query.strip():
        raise InvalidArgumentError("--query is empty; give the text of a question")
    check_writable(arguments.query, "--query", "command line")
    given = _read(arguments.file, arguments.jsonl)
    scorer = shared_scorer(arguments.model, **scorer_options(arguments))
    passages = [row.passage for row in given]
    with CommandProgress() as progress:
        stepwise = _Stepwise(scorer, progress)
        ranking = rank(stepwise, arguments.query, passages, top_n=arguments.top_n)
    if arguments.json:
        rows = [
            {
                "rank": row.rank + 1,
                "index": row.index,
                "id": given[row.index].id,
                "score": row.score,
                "passage": given[row.index].passage,
            }
            for row in ranking
        ]
        print_json({"model": scorer.model, "score_unit": scorer.score_unit, "ranking": rows})
        return 0
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for row in ranking:
        shown_id = harmless(given[row.index].id)
        passage = harmless(" ".join(given[row.index].passage.split()))
        write_out(f"{row.score:9.4f}  {shown_id:>4}  {passage}"[:width] + "\n")
    return 0


class _Stepwise:
    """A scorer that says how far it is."""

    def __init__(self, scorer: Scorer, progress: Progress) -> None:
        self.model, self.score_unit = scorer.model, scorer.score_unit
        self._scorer, self._progress = scorer, progress

    def score(self, query: str, passages: Sequence[str]) -> list[float]:
        advance = self._progress.step(self.model, len(passages), "passages")
        scores: list[float] = []
        for start in range(0, len(passages), _AT_A_TIME):
            scores += self._scorer.score(query, passages[start : start + _AT_A_TIME])
            advance(len(scores) - start)
        return scores

    async def ascore(self, query: str, passages: Sequence[str]) -> list[float]:
        return self.score(query, passages)


def _read(name: str | None, jsonl: bool) -> list[_Given]:
    path = Path(name) if name not in (None, "-") else None
    jsonl = jsonl or (path is not None and bool({".jsonl", ".ndjson"} & set(path.suffixes[-2:])))
    shown_name = str(path or STANDARD_INPUT)
    found = []
    for number, _, raw in numbered_lines(path):
        if not raw.strip():
            continue
        if jsonl:
            fields = json_object(raw, path, number, expected=_EXPECTED)
            found.append(_json_passage(fields, f"{shown_name}:{number}", number))
        else:
            found.append(_Given(str(number), decoded(raw, path, number).rstrip("\r\n")))
            if number == 1 and found[0].passage.lstrip().startswith(("[{", '{"')):
                raise DataFormatError(
                    f"{shown_name}:1: looks like JSON; give JSON lines with --jsonl, one object "
                    "a line"
                )
    if not found:
        raise DataFormatError(f"no passages in {shown_name}; give one a line, or JSON lines")
    return found


def _json_passage(fields: dict[str, Any], where: str, number: int) -> _Given:
    passage, title = fields.get("text"), fields.get("title") or ""
    key = fields.get("id", fields.get("_id", number))
    if not isinstance(passage, str):
        raise DataFormatError(f'{where}: no string "text"; expected {_EXPECTED}')
    if not isinstance(title, str):
        raise DataFormatError(f'{where}: "title" is not a string; expected {_EXPECTED}')
    if not isinstance(key, (str, int)):
        raise DataFormatError(f'{where}: "id" is neither a string nor a whole number')
    passage = f"{title} {passage}" if title else passage
    for name, text in (("the passage", passage), ("the id", str(key))):
        check_writable(text, name, where)
    return _Given(str(key), passage)
