"""A threshold that was fitted: keep what answers, drop the rest, in the model's own unit.

    python examples/threshold.py

fits one on judged pairs and prints what it keeps of other candidates:

    how do I close a file?        file.close() closes the file.
    who won the match on Sunday?  nothing
"""

from __future__ import annotations

from langchain_core.documents import Document

from rerank_plugins import shared_scorer
from rerank_plugins.evaluation import fit_threshold
from rerank_plugins.langchain import CrossEncoderRerank

# Pairs that you judged, 1 for relevant. Take a hundred or more, of questions as users ask them.
JUDGED = [
    ("how do I sort a list?", "list.sort() sorts the items of the list in place.", 1),
    ("how do I sort a list?", "The river Thames flows through London.", 0),
    ("read a file", "open(path) returns a file object to read from.", 1),
    ("read a file", "Snakes are reptiles.", 0),
    ("what is a tuple?", "A tuple is an immutable sequence, written in parentheses.", 1),
    ("what is a tuple?", "The pump takes the water out of the drum.", 0),
]


def main() -> None:
    scorer = shared_scorer("embedded")
    scores = scorer.score_pairs([(query, passage) for query, passage, _ in JUDGED])
    fitted = fit_threshold(scores, [relevance for *_, relevance in JUDGED], target="recall@1.0")
    rerank = CrossEncoderRerank(scorer=scorer, score_threshold=fitted.threshold)
    texts = ["file.close() closes the file.", "Bats are mammals."]
    for question in ("how do I close a file?", "who won the match on Sunday?"):
        kept = rerank.compress_documents([Document(text) for text in texts], question)
        print(
            f"{question:28}  {', '.join(document.page_content for document in kept) or 'nothing'}"
        )


if __name__ == "__main__":
    main()
