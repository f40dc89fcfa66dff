"""Compile the forward pass for this machine's processors: a library for each instruction set."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
_COMMON = "-O3 -std=c++17 -fPIC -shared -fno-exceptions -fno-rtti -Wl,--as-needed -Wall"
_AVX512 = "-mavx512f -mavx512bw -mavx512vl -mavx512dq -mfma"
FLAGS = {
    "avx2": "-DPATH_AVX2 -mavx2 -mfma",
    "avx512": f"-DPATH_AVX512 {_AVX512}",
    "amx": f"-DPATH_AMX {_AVX512} -mavx512bf16 -mamx-tile -mamx-bf16",
}


def build(folder: Path = FOLDER, compiler: str = "g++") -> None:
    """Write a library for each path into ``folder``; raises OSError and CalledProcessError."""
    for path, flags in FLAGS.items():
        target = folder / f"forward_{path}.so"
        # Renamed at the end: a library that a process has mapped must not change under it.
        partial = target.with_suffix(".partial")
        source = str(FOLDER / "forward.cpp")
        subprocess.run(
            [compiler, *_COMMON.split(), *flags.split(), source, "-o", str(partial)], check=True
        )
        partial.replace(target)


if __name__ == "__main__":
    build()
    sys.stdout.write(f"built {', '.join(FLAGS)} in {FOLDER}\n")
