"""Where the demo's text comes from: the documentation that every Python carries with it.

Two readers, and nothing is run to please them: the standard library's own source files are
parsed, never imported; only modules written in C, whose text exists nowhere else, are.
"""

from __future__ import annotations

import ast
import enum
import functools
import importlib
import inspect
import re
import sys
import sysconfig
import types
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from rerank_plugins.errors import RerankError

# Test suites, programs with windows, jokes, machine-made tables, and what newer Pythons dropped.
_SKIPPED = frozenset(
    "__phello__ antigravity asynchat asyncore binhex distutils encodings ensurepip idlelib imp "
    "lib2to3 msilib nturl2path pydoc_data sre_compile sre_constants sre_parse smtpd test tests "
    "ntpath this tkinter turtle turtledemo __hello__".split()
)
# Source files in which a public module keeps its documented Python twin.
_TWINS = {
    "_collections_abc": "collections.abc",
    "_pydatetime": "datetime",
    "_pydecimal": "decimal",
    "_threading_local": "threading.local",
    "genericpath": "os.path",
    "posixpath": "os.path",
}
# Python 3.13 documents what pathlib.Path does in private base classes that it did not keep.
_BASES = {"PathBase": "Path", "PurePathBase": "PurePath"}
# Modules with documented parts in C. Each is imported by ordinary programs all the time.
_COMPILED = (
    "builtins array asyncio atexit binascii bisect bz2 cmath collections contextvars csv datetime "
    "decimal fcntl functools gc hashlib heapq io itertools json lzma marshal math mmap operator os "
    "os.path pickle queue random re resource select signal socket sqlite3 ssl struct sys termios "
    "threading time tracemalloc types unicodedata weakref zlib"
).split()
_COMPILED_HOMES = frozenset("posix nt posixpath ntpath genericpath".split())
_WRITTEN_IN_C = (
    types.BuiltinFunctionType,
    types.ClassMethodDescriptorType,
    types.GetSetDescriptorType,
    types.MethodDescriptorType,
)


@dataclass(frozen=True, slots=True)
class Entry:
    """The documentation of one symbol, or one topic of the language reference."""

    symbol: str
    owner: str
    signature: str
    text: str


def topic_entries() -> Iterator[Entry]:
    """Yield the language reference's chapters, as ``help()`` shows them."""
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise RerankError(
            f"this Python ({sys.executable}) has no pydoc_data.topics, the language reference; "
            "install the full standard library, or use a Python from python.org or pyenv"
        ) from error
    # Chapters contain one another: "compound" has all of "for", "try" and "with". A paragraph is
    # kept in the shortest chapter that has it, where it is least diluted.
    seen: set[str] = set()
    for name in sorted(topics, key=lambda name: (len(topics[name]), name)):
        paragraphs = re.split(r"\n\s*\n", topics[name].strip())
        fresh = [paragraph for paragraph in paragraphs if paragraph not in seen]
        seen.update(fresh)
        if fresh:
            yield Entry(f"topics/{name}", f"topics/{name}", "", "\n\n".join(fresh))


def source_files() -> list[Path]:
    """Return the standard library's public source files, in a fixed order."""
    root = _root()
    files = []
    for name in sorted(sys.stdlib_module_names - _SKIPPED):
        if name.startswith("_") and name not in {*_TWINS, "__future__"}:
            continue
        if (root / f"{name}.py").is_file():
            files.append(root / f"{name}.py")
        elif (root / name).is_dir():
            files += sorted(
                path
                for path in (root / name).rglob("*.py")
                if not _SKIPPED.intersection(path.relative_to(root).parts)
            )
    return files


def source_entries(path: Path) -> Iterator[Entry]:
    """Yield the documented public symbols of one source file, without running it."""
    parts = path.relative_to(_root()).with_suffix("").parts
    # A package's private files hold what the package offers: pathlib._local.Path is pathlib.Path.
    public = [part for part in parts if not part.startswith("_") or part == "__future__"]
    module = _TWINS.get(parts[0]) or ".".join(public)
    tree = _parsed(path)
    text = ast.get_docstring(tree)
    if text and (len(public) == len(parts) or parts[-1] == "__init__" or parts[0] in _TWINS):
        yield Entry(module, module, "", text)
    exports = _exports(path.parent / "__init__.py") if len(parts) > 1 else {}
    names = exports.get(parts[-1], frozenset())
    for entry in _definitions(tree.body, module):
        first = entry.symbol[len(module) + 1 :].partition(".")[0]
        if first in names or "*" in names:  # asyncio.tasks.gather is offered as asyncio.gather
            package = ".".join(part for part in parts[:-1] if part in public)
            symbol = package + entry.symbol[len(module) :]
            yield replace(entry, symbol=symbol, owner=package + entry.owner[len(module) :])
        else:
            yield entry


@functools.cache
def _exports(package: Path) -> dict[str, frozenset[str]]:
    """Map each submodule to the names that its package's ``__init__`` offers as its own."""
    names: dict[str, frozenset[str]] = {}
    if package.is_file():
        for node in _parsed(package).body:
            if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module:
                found = frozenset(alias.name for alias in node.names)
                names[node.module] = names.get(node.module, frozenset()) | found
    return names


def _parsed(path: Path) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in the library's own docstrings
        return ast.parse(path.read_bytes())


def _root() -> Path:
    return Path(sysconfig.get_path("stdlib"))


def _definitions(body: Iterable[ast.stmt], owner: str) -> Iterator[Entry]:
    for node in body:
        if isinstance(node, (ast.If, ast.Try)):  # definitions that depend on the platform
            yield from _definitions(node.body, owner)
            yield from _definitions(node.orelse, owner)
            continue
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        if node.name.startswith("_"):
            continue
        symbol = f"{owner}.{_BASES.get(node.name, node.name)}"
        text = ast.get_docstring(node)
        if isinstance(node, ast.ClassDef):
            if text:
                yield Entry(symbol, owner, "", text)
            yield from _definitions(node.body, symbol)
        elif text:
            yield Entry(symbol, owner, f"({_arguments(node.args)})", text)


def _arguments(arguments: ast.arguments) -> str:
    for argument in ast.walk(arguments):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    names = ast.unparse(arguments).split(", ")
    return ", ".join(names[1:] if names[0] in {"self", "cls"} else names)


def compiled_entries() -> Iterator[list[Entry]]:
    """Yield, for each module with parts in C, its documented public symbols."""
    for name in _COMPILED:
        try:
            module = importlib.import_module(name)
        except ImportError:  # of another platform, or left out of this build
            continue
        yield list(_module_entries(module, name))


def _module_entries(module: types.ModuleType, name: str) -> Iterator[Entry]:
    prefix = "" if name == "builtins" else f"{name}."
    if module.__doc__:
        yield Entry(name, name, "", inspect.cleandoc(module.__doc__))
    for key, value in sorted(vars(module).items()):
        home = getattr(value, "__module__", None) or ""
        # A debugger, such as a notebook's, adds functions of its own to builtins.
        internal = home.startswith("_") and home in sys.stdlib_module_names
        ours = home == name or internal or home in _COMPILED_HOMES
        maker = "threading" if home == "_thread" else home.lstrip("_")
        borrowed = maker in _COMPILED and maker != name
        if key.startswith("_") or borrowed or not ours:
            continue
        own_name = getattr(value, "__name__", "")
        if own_name != key and hasattr(module, own_name):  # another name for the same thing
            continue
        if isinstance(value, type) and not isinstance(value, enum.EnumMeta):
            yield from _class_entries(value, prefix + key, name)
        elif isinstance(value, (types.BuiltinFunctionType, types.FunctionType)):
            yield from _compiled_entry(value, prefix + key, name)


def _class_entries(cls: type, symbol: str, owner: str) -> Iterator[Entry]:
    yield from _compiled_entry(cls, symbol, owner)
    members: dict[str, object] = {}
    for base in reversed(cls.__mro__):
        if base.__name__ == cls.__name__:  # socket.socket gets its methods from _socket.socket
            members.update(vars(base))
    for key, member in sorted(members.items()):
        if not key.startswith("_") and isinstance(member, _WRITTEN_IN_C):
            yield from _compiled_entry(member, f"{symbol}.{key}", symbol)


def _compiled_entry(value: object, symbol: str, owner: str) -> Iterator[Entry]:
    text = value.__doc__
    if not isinstance(text, str) or not text.strip():
        return
    # inspect.signature evaluates defaults, and fails on a few of them.
    signature = getattr(value, "__text_signature__", None) or ""
    signature = re.sub(r"\$\w+(, /)?(, )?", "", signature)
    yield Entry(symbol, owner, signature, inspect.cleandoc(text))
