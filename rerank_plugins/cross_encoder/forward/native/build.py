"""Compile the forward pass: a library for each instruction set.

Runs when a wheel is built or the package is installed as editable (`hatch_build.py`), and by hand:
``python -m rerank_plugins.cross_encoder.forward.native.build``. Imports nothing of the package.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
SOURCE = FOLDER / "forward.cpp"
_COMMON = (
    "-O3 -std=c++17 -fPIC -shared -fno-exceptions -fno-rtti -fno-math-errno -fvisibility=hidden "
    "-Wl,--as-needed -Wall"
)
_AVX512 = "-mavx512f -mavx512bw -mavx512vl -mavx512dq -mfma"
_AMX = "-mavx512bf16 -mamx-tile -mamx-bf16"
FLAGS = {
    "avx2": "-DPATH_AVX2 -mavx2 -mfma",
    "avx512": f"-DPATH_AVX512 {_AVX512}",
    "amx": f"-DPATH_AMX {_AVX512} {_AMX}",
    "amx_int8": f"-DPATH_AMX_INT8 {_AVX512} {_AMX} -mamx-int8",
}


def is_for_this_platform() -> bool:
    """Say whether there is anything to compile: on Linux on x86-64."""
    return sys.platform == "linux" and platform.machine() == "x86_64"


def library(folder: Path, path: str) -> Path:
    """Return where the library of a path, such as ``"avx512"``, is in ``folder``."""
    return folder / f"forward_{path}.so"


def digest() -> str:
    """Return what tells libraries of this source from those of another."""
    return hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]


def build(folder: Path = FOLDER, extra: str = "") -> dict[str, str]:
    """Write the libraries into ``folder``; return why for those that could not be made.

    ``extra`` are more flags for the compiler, which is that of `CXX`, g++ or clang++.
    """
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++"]
    compiler = next((name for name in names if shutil.which(shlex.split(name)[0])), None)
    if compiler is None:
        return dict.fromkeys(FLAGS, f"there is no {' and no '.join(names)}")
    failures = {}
    for path, flags in FLAGS.items():
        # Renamed at the end: a library that a process has mapped must not change under it.
        partial = library(folder, path).with_suffix(f".{os.getpid()}.partial")
        command = [
            *shlex.split(f'{compiler} {_COMMON} {flags} -DSOURCE=\\"{digest()}\\" {extra}'),
            *(str(SOURCE), "-o", str(partial)),
        ]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode == 0:
            partial.replace(library(folder, path))
        else:
            partial.unlink(missing_ok=True)
            failures[path] = f"{shlex.join(command)} says: {result.stderr.strip()}"
    return failures


if __name__ == "__main__":
    for _path, _reason in (_failures := build()).items():
        sys.stderr.write(f"{_path}: {_reason}\n")
    sys.exit(1 if _failures else 0)
