"""Write the demo's corpus: ``python -m demo_corpus``.

Passages, questions and judgements go to ``rerank_plugins/demo/data``, in BEIR's form. They are
committed, so that every Python shows the same figures; CPython 3.11.7 wrote them. A judgement names
a symbol, or ``symbol: words``, and is the relevance of each passage that documents the symbol (and
holds the words).
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

from demo_corpus.judgements import judge, read_questions
from demo_corpus.passages import read_passages

HERE = Path(__file__).parent
DATA = HERE.parent / "rerank_plugins" / "demo" / "data"


def main() -> int:
    """Write the three files; return 1 if a judged symbol is not in this Python's documentation."""
    passages, questions = read_passages(), read_questions(HERE / "questions.jsonl")
    qrels, lacking = judge(questions, passages)
    DATA.mkdir(exist_ok=True)
    lines = [
        json.dumps({"_id": p.id, "title": p.title, "text": p.text}, ensure_ascii=False)
        for p in passages
    ]
    content = ("\n".join(lines) + "\n").encode()
    # Without a time, so that the same passages make the same file.
    (DATA / "corpus.jsonl.gz").write_bytes(gzip.compress(content, mtime=0))
    (DATA / "queries.jsonl").write_text(
        "".join(json.dumps({"_id": q.query_id, "text": q.query}) + "\n" for q in questions),
        encoding="utf-8",
    )
    (DATA / "qrels.txt").write_text(
        "".join(
            f"{query_id} 0 {doc_id} {relevance}\n"
            for query_id, judged in qrels.items()
            for doc_id, relevance in judged.items()
        ),
        encoding="utf-8",
    )
    print(f"{len(passages)} passages, {len(questions)} questions, {len(lacking)} symbols lacking")
    return 1 if lacking else 0


if __name__ == "__main__":
    sys.exit(main())
