"""Compile the forward pass when a wheel is built, or the package installed as editable.

Where there is no compiler, or one that fails, a pure wheel is built as before, and says why.
"""

from __future__ import annotations

import runpy
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NATIVE = "rerank_plugins/cross_encoder/forward/native"


class NativeBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """The libraries of `rerank_plugins.cross_encoder.forward.native.build`, into the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        # As a file: what the package imports is not there while it is built.
        native = runpy.run_path(str(Path(self.root, NATIVE, "build.py")))
        if not native["is_for_this_platform"]():
            return
        if version == "editable":
            folder = Path(self.root, NATIVE)
        else:
            self._temporary = tempfile.TemporaryDirectory()
            folder = Path(self._temporary.name)
        failures = native["build"](folder)
        for path, reason in failures.items():
            self.app.display_warning(f"No compiled forward pass for {path}, as {reason}")
        if version == "editable" or len(failures) == len(native["FLAGS"]):
            return
        for path in native["FLAGS"].keys() - failures:
            file = native["library"](folder, path)
            build_data["force_include"][str(file)] = f"{NATIVE}/{file.name}"
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"
