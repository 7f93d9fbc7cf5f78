"""Results of expensive work, kept on disk by content: what they were made from decides where they lie.

The key of a result covers the science that made it: the code of the function that computes it and of whatever
this package has that the function's module imports, but neither comments and docstrings nor the rest of the
package. What a result's file looks like is in `values`.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from prefdyn import values
from prefdyn.errors import PrefdynError, first_line
from prefdyn.files import atomic_file, cache_folder, check_writable, in_cache

Result = TypeVar("Result")

LIBRARY = Path(__file__).parent
"""The folder of this package; a module's name begins with the folder's."""
PACKAGES = {
    "torch": "torch",
    "transformers": "transformers",
    "peft": "peft",
    "numpy": "numpy",
    "scipy": "scipy",
    "umap": "umap-learn",
}
"""Packages whose versions may move a number, by the names under which they are imported."""
_PARSING = threading.Lock()
"""CPython's parser may fail where two threads use it at once."""


def cached(
    kind: str, key: Mapping[str, Any], by: Callable[..., Any], compute: Callable[[], Result]
) -> Result:
    """The result of `compute`, from the cache if the same work was done before.

    Args:
        kind: a word for the folder.
        key: everything that the result depends on, but for the code.
        by: the function that does the work; see `science_version`.

    Raises:
        PrefdynError: the cache cannot be written, or its disk is full; what was finished before stays.
    """
    made_from = {"code": science_version(by.__module__), **dict(sorted(key.items()))}
    name = f"{kind}/{values.fingerprint(made_from)}"
    path = cache_folder() / "results" / f"{name}.kept"
    try:
        return values.load(path, name)
    except (FileNotFoundError, NotADirectoryError):
        pass
    # Of what passes its checksum, too: it may be of a library that this one is not.
    except Exception as error:
        said = f"the kept result {name} is damaged ({first_line(error)}); making it again"
        print(f"prefdyn: {said}", flush=True)
    with in_cache():
        check_writable(path.parent)
    result = compute()
    with in_cache(), atomic_file(path) as made:
        values.save(result, made, name)
    return result


@functools.cache
def science_version(*modules: str) -> str:
    """A short hash of what modules and all of this package behind them do, and of the versions of those of
    `PACKAGES` that they import.

    Raises:
        PrefdynError: one is no module of this package.
    """
    for module in modules:
        if _path(module) is None:
            raise PrefdynError(
                f"{module} is no module of prefdyn: a result is kept by a function of the library"
            )
    digest = hashlib.sha256()
    with _PARSING:
        trees = [_tree(name) for name in sorted(modules_behind(*modules))]
    for tree in trees:
        digest.update(ast.dump(tree).encode())
    for package in sorted(PACKAGES.keys() & set().union(*map(_packages, trees))):
        digest.update(f"{package} {_version(PACKAGES[package])}".encode())
    return digest.hexdigest()[:16]


def modules_behind(*modules: str) -> set[str]:
    """Names of modules of this package and of all the package's modules that they import, directly or not."""
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(_imports(name))
    return found


def _packages(code: ast.AST) -> set[str]:
    """Names of what code imports, without what is inside it."""
    found: set[str] = set()
    for node in ast.walk(code):
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def _version(package: str) -> str:
    """Of an installed package; "" where it is one of an extra that is not there."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _path(module: str) -> Path | None:
    """The file of a module of this package, None if it is none."""
    top, *inside = module.split(".")
    if top != LIBRARY.name:
        return None
    place = LIBRARY.joinpath(*inside)
    found = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    return found if found.is_file() else None


@functools.cache
def _tree(module: str) -> ast.Module:
    """What a module does: its syntax tree without docstrings and without imports for type checkers alone.

    Comments are in no tree.
    """
    path = _path(module)
    assert path is not None
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [part for part in body if not _does_nothing(part)]  # type: ignore[attr-defined]
    return tree


def _does_nothing(node: ast.stmt) -> bool:
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING" and not node.orelse
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _passed_on(module: str) -> Iterator[tuple[str, str]]:
    """Names that a package passes on, each with the module it takes them from.

    Its `__init__.pyi` says so where it has one, else its `__init__.py`.
    """
    path = _path(module)
    if path is None or path.name != "__init__.py":
        return
    stub = path.with_suffix(".pyi")
    for node in ast.parse((stub if stub.is_file() else path).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            inside = ".".join(filter(None, [module if node.level else "", node.module]))
            yield from ((alias.asname or alias.name, inside) for alias in node.names)


@functools.cache
def _imports(module: str) -> frozenset[str]:
    """Modules of this package that a module names; what a package passes on is looked up where it is from."""
    passed_on = {_home(inside, name) for name, inside in _passed_on(module) if _path(inside)}
    return frozenset(passed_on | modules_named(_tree(module)))


def modules_named(code: ast.AST) -> set[str]:
    """Modules of this package that code imports from."""
    found: set[str] = set()
    for node in ast.walk(code):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names if _path(alias.name))
        elif isinstance(node, ast.ImportFrom) and node.module and _path(node.module):
            found.update(_home(node.module, alias.name) for alias in node.names)
    return found


def _home(module: str, name: str) -> str:
    """The module that defines what `from module import name` brings."""
    inner = f"{module}.{name}"
    if _path(inner):
        return inner
    found = dict(_passed_on(module)).get(name)
    return _home(found, name) if found else module
