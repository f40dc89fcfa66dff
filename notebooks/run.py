"""Run the notebooks from top to bottom and keep their outputs: ``python notebooks/run.py``.

``--check`` runs them and writes nothing. Each runs in an empty folder, so that what it leaves
behind goes away with it; a notebook whose text names a folder of this machine is not written.
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
    """Return the lines of the outputs' text that name a folder of this machine."""
    # An image is base64, which can hold any short path by chance.
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    texts = [output.get("text", "") for output in outputs]
    texts += [
        value
        for output in outputs
        for kind, value in output.get("data", {}).items()
        if not kind.startswith("image/")
    ]
    known = (FOLDER.parent, Path(sys.prefix), Path(tempfile.gettempdir()), Path.home())
    lines = [line for text in texts for line in str(text).splitlines()]
    return [line for line in lines if any(f"{path}/" in line for path in known)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="such as choose_a_model (default: all)")
    parser.add_argument("--check", action="store_true", help="run them and write nothing")
    arguments = parser.parse_args()
    names = arguments.names or sorted(path.stem for path in FOLDER.glob("*.ipynb"))
    for name in names:
        path = FOLDER / f"{name}.ipynb"
        notebook = executed(path)
        if arguments.check:
            print(f"{path.name}: runs")
            continue
        found = machine_paths(notebook)
        if found:
            print(f"{path.name}: an output names a folder of this machine: {found[0]}")
            return 1
        nbformat.write(notebook, path)
        print(f"{path.name}: written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
