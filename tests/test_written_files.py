"""Files of ours: whole or not at all, the old one kept, one writer at a time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rerank_plugins.errors import OutputInUseError
from rerank_plugins.written_files import locked_folder, whole_file, write_text

HOLD = """
import sys, time
from rerank_plugins.written_files import locked_folder, whole_file
with locked_folder(sys.argv[1]), whole_file(sys.argv[1] + "/report.json") as file:
    file.write(b"half")
    file.flush()
    print("writing", flush=True)
    time.sleep(60)
"""
FULL_DISK = """
import resource, signal, sys
from rerank_plugins.written_files import write_text
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
try:
    write_text(sys.argv[1], "new" * 1000)
except OSError:
    print("full")
"""


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "old")
    with pytest.raises(TypeError), whole_file(tmp_path / "a") as file:
        file.writelines([b"new", "no bytes"])  # type: ignore[list-item]
    assert (tmp_path / "a").read_text() == "old"
    assert names(tmp_path) == {"a"}


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files")
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "old")
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "a")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "full\n"
    assert (tmp_path / "a").read_text() == "old"
    assert names(tmp_path) == {"a"}


def test_a_second_writer_is_refused_and_a_killed_one_is_cleaned_up_after(tmp_path: Path) -> None:
    write_text(tmp_path / "report.json", "old")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "writing\n"
        with (
            pytest.raises(OutputInUseError, match="is being written by another process"),
            locked_folder(tmp_path),
        ):
            pass
        assert (tmp_path / "report.json").read_text() == "old"
        other.kill()
    with locked_folder(tmp_path):
        assert names(tmp_path) - {".lock"} == {"report.json"}
        write_text(tmp_path / "report.json", "new")
    assert (tmp_path / "report.json").read_text() == "new"
