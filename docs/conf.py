"""How the documentation is built: ``make docs``."""

from __future__ import annotations

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
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False  # those of the frameworks are written in other dialects
nitpicky = False
# Only what needs no network is asked at a build; `make linkcheck` asks for the rest.
intersphinx_mapping: dict[str, tuple[str, None]] = {}
