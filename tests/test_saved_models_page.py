"""docs/saved_models.md is what its generator writes."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_page_of_saved_models_is_up_to_date() -> None:
    made = runpy.run_path(str(ROOT / ".ci" / "saved_models.py"))["page"]()
    page = (ROOT / "docs" / "saved_models.md").read_text(encoding="utf-8")
    assert page == made, "run python .ci/saved_models.py"
