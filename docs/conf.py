"""How the documentation is built: ``make docs``."""

from __future__ import annotations

import importlib.util
import sys
import types
from importlib.machinery import ModuleSpec
from pathlib import Path

import rerank_plugins

project = "rerank_plugins"
author = "The rerank_plugins authors"
copyright = author
release = version = rerank_plugins.__version__

# Sphinx with MyST: kept by many hands for years, takes the docstrings as they are, warns of every
# broken reference, checks links, and needs no theme of ours. MkDocs Material only gets security
# fixes since its authors went on to Zensical, which cannot read docstrings without help yet.
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.viewcode",
]
html_theme = "furo"
html_title = f"rerank_plugins {release}"
html_static_path: list[str] = []
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]
default_role = "code"
# Ray is in no environment but its own; what is said of `rerank_plugins.ray` needs only its name.
if importlib.util.find_spec("ray") is None:
    for _name in ("ray", "ray.data"):
        sys.modules[_name] = types.ModuleType(_name)
        sys.modules[_name].__spec__ = ModuleSpec(_name, None)
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False  # those of the frameworks are written in other dialects
nitpicky = False
# Only what needs no network is asked at a build; `make linkcheck` asks for the rest.
intersphinx_mapping: dict[str, tuple[str, None]] = {}


def _models_table() -> str:
    """Return the known models as two tables, from the package's own data."""
    from rerank_plugins.models import known_models

    choice = ["| model | parameters | tokens | MTEB | take this when |", "|---|---:|---:|---:|---|"]
    figures = ["| model | licence | other figures |", "|---|---|---|"]
    for model in known_models():
        parameters = "" if model.parameters is None else f"{model.parameters / 1e6:,.1f} M"
        # The one figure that is of the same data and candidates for many models.
        mteb = [q.value for q in model.quality if q.data.startswith("MTEB")]
        others = [q for q in model.quality if not q.data.startswith("MTEB")]
        when = f"{model.take_when} ({model.note})" if model.note else model.take_when
        choice.append(
            f"| `{model.model}` | {parameters} | {model.max_length or ''} "
            f"| {mteb[0] if mteb else ''} | {when} |"
        )
        shown = "; ".join(f"{q.measure} {q.value:.2f} ({q.data})" for q in others)
        figures.append(f"| `{model.model}` | {model.licence or ''} | {shown} |")
    return "\n".join([*choice, "", *figures, ""])


Path(__file__).with_name("_models_table.md").write_text(_models_table(), encoding="utf-8")
exclude_patterns.append("_models_table.md")
