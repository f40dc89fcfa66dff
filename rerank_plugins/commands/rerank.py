"""``rerank-plugins rerank``: order a few passages by how well they answer a question."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from rerank_plugins.errors import DataFormatError
from rerank_plugins.models import EMBEDDED_MODEL
from rerank_plugins.ranking import check_top_n, rank
from rerank_plugins.registry import shared_scorer

HELP = "order passages by how well they answer a question"
DESCRIPTION = """\
Order passages, best first. FILE holds one passage a line (empty lines are passed over), or, as
.jsonl or with --jsonl, one JSON object a line with "text" and, if wanted, "id" or "_id" and
"title"; the passage is then title + " " + text. Without FILE, standard input is read.
"""
EXAMPLES = """\
examples
  rerank-plugins rerank --query "how do birds fly" passages.txt --top-n 3
  grep -h '' notes/*.txt | rerank-plugins rerank --query "when is the meeting" --json
"""


@dataclass(frozen=True, slots=True)
class _Passage:
    id: str
    text: str


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    parser.add_argument("--query", required=True, metavar="TEXT", help="the question")
    parser.add_argument("file", nargs="?", metavar="FILE", help="passages (default, or '-': stdin)")
    parser.add_argument("--jsonl", action="store_true", help="the input is JSON lines")
    parser.add_argument("--top-n", type=int, metavar="N", help="keep the best N (default: all)")
    parser.add_argument(
        "--model",
        default=EMBEDDED_MODEL,
        help=f"a Hub id, a local folder or '{EMBEDDED_MODEL}' (default)",
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps (default: the best there is)")
    parser.add_argument("--json", action="store_true", help="print the ranking as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Read, rank, print."""
    check_top_n(arguments.top_n)
    passages = _read(arguments.file, arguments.jsonl)
    if not passages:
        raise DataFormatError(
            f"no passages in {arguments.file or 'standard input'}; give one a line, or JSON lines"
        )
    scorer = shared_scorer(arguments.model, device=arguments.device)
    texts = [passage.text for passage in passages]
    ranking = rank(scorer, arguments.query, texts, top_n=arguments.top_n)
    if arguments.json:
        rows = [
            {
                "rank": row.rank,
                "index": row.index,
                "id": passages[row.index].id,
                "score": row.score,
                "text": passages[row.index].text,
            }
            for row in ranking
        ]
        found = {"model": scorer.model, "score_unit": scorer.score_unit, "ranking": rows}
        sys.stdout.write(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
        return 0
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for row in ranking:
        passage = passages[row.index]
        text = " ".join(passage.text.split())
        sys.stdout.write(f"{row.score:9.4f}  {passage.id:>4}  {text}"[:width] + "\n")
    return 0


def _read(name: str | None, jsonl: bool) -> list[_Passage]:
    path = Path(name) if name not in (None, "-") else None
    if path is None:
        with nullcontext(sys.stdin) as lines:
            return _passages(lines, "standard input", jsonl)
    try:
        with path.open(encoding="utf-8") as lines:
            return _passages(lines, str(path), jsonl or path.suffix in {".jsonl", ".ndjson"})
    except (OSError, UnicodeDecodeError) as error:
        raise DataFormatError(f"{path} cannot be read as text: {error}") from error


def _passages(lines: Iterable[str], name: str, jsonl: bool) -> list[_Passage]:
    passages = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        if jsonl:
            passages.append(_json_passage(line, number, name))
        else:
            passages.append(_Passage(str(number), line.rstrip("\n")))
    return passages


def _json_passage(line: str, number: int, name: str) -> _Passage:
    try:
        row = json.loads(line)
        text = row["text"]
        title = row.get("title") or ""
        key = row.get("id", row.get("_id", number))
        if not isinstance(text, str) or not isinstance(title, str):
            raise TypeError("text and title must be strings")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataFormatError(
            f'{name}, line {number}: {error!r}; expected {{"text": "...", "id": "..."}}'
        ) from error
    return _Passage(str(key), f"{title} {text}" if title else text)
