"""Write docs/saved_models.md from the list of keys that the package decides by.

Run ``python .ci/saved_models.py`` after a change of ``checkpoint/saved_keys.py``.
"""

from __future__ import annotations

from pathlib import Path

from rerank_plugins.cross_encoder.checkpoint.saved_keys import KEYS

PAGE = Path(__file__).parents[1] / "docs" / "saved_models.md"
INTRODUCTION = """# What is read from a saved model

Every key of a model's files is *done* as sentence-transformers and transformers do it, is
*harmless*, because it changes no score, or is *refused* with an `UnsupportedModelError` that names
the key, its value and the remedy. A key that is not in this table is refused too, except where it
says "any other key". The files of sentence-transformers count where there is a `modules.json`.

This page is made by `python .ci/saved_models.py`.
"""


def page() -> str:
    """Return the page as Markdown."""
    rows = [f"| {entry.file} | {entry.key} | {entry.verdict} | {entry.why} |" for entry in KEYS]
    table = [
        "| file | key | verdict | what is done, or why nothing has to be |",
        "|---|---|---|---|",
    ]
    return INTRODUCTION + "\n" + "\n".join([*table, *rows]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
