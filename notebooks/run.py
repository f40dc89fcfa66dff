"""Run the notebooks from top to bottom and keep their outputs: ``python notebooks/run.py``.

``--check`` runs them and writes nothing. Each runs in an empty folder, so that what it leaves
behind goes away with it and no output names a folder of this machine.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parent
# What the kernel adds and what differs between two runs that show the same.
_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def executed(path: Path) -> nbformat.NotebookNode:
    """Return the notebook with fresh outputs; a cell that fails raises `CellExecutionError`."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=1800,
            kernel_name="python3",
            extra_arguments=["--IPKernelApp.log_level=40"],
            record_timing=False,
            resources={"metadata": {"path": folder}},
        )
        # tqdm, which a dependency imports, warns where its widget is missing; nothing here uses it.
        client.execute(env={**os.environ, "PYTHONWARNINGS": "ignore:IProgress not found"})
    notebook.metadata = nbformat.from_dict(_METADATA)
    return notebook


def machine_paths(notebook: nbformat.NotebookNode) -> list[str]:
    """Return the folders of this machine that an output names."""
    text = nbformat.writes(notebook)
    known = {FOLDER.parent, Path(sys.prefix), Path(tempfile.gettempdir()), Path.home()}
    return sorted(str(path) for path in known if f"{path}/" in text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="such as choose_a_model (default: all)")
    parser.add_argument("--check", action="store_true", help="run them and write nothing")
    arguments = parser.parse_args()
    names = arguments.names or sorted(path.stem for path in FOLDER.glob("*.ipynb"))
    for name in names:
        path = FOLDER / f"{name}.ipynb"
        notebook = executed(path)
        found = machine_paths(notebook)
        if found:
            print(f"{path.name}: an output names {', '.join(found)}; print something else")
            return 1
        if not arguments.check:
            nbformat.write(notebook, path)
        print(f"{path.name}: {'runs' if arguments.check else 'written'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
