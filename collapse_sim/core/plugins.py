"""User-defined classes: errors that they raise are reported by their name, and their source is part of content keys."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import FunctionType
from typing import Any
from weakref import WeakKeyDictionary

from collapse_sim.core.component import Component, is_plugin
from collapse_sim.core.errors import CollapseSimError, PluginError
from collapse_sim.core.hashing import canonical_json

INSTALLED = frozenset({"site-packages", "dist-packages"})  # folders of a path that pip installs into
LONGEST = 300  # characters shown of a user-defined class's exception


def name_of(cls: type[Any] | FunctionType) -> str:
    """A class or function as recipes name it: "my_models:Mine"."""
    return f"{cls.__module__}:{cls.__qualname__}"


def error_text(error: BaseException) -> str:
    """An exception of foreign code on one line: its type and its text."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # its __str__ may fail, too
        text = ""
    text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


@contextmanager
def plugin_errors(component: object, method: str, expected: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Within this context, any exception of a user-defined class becomes a PluginError that names class and method.

    Passed on unchanged: this package's own errors, those in `expected`, Ctrl-C, and whatever classes of this package
    raise.
    """
    own = is_plugin(type(component))
    try:
        with redirect_stdout(sys.stderr) if own else nullcontext():  # stdout is the command's data
            yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if isinstance(error, (CollapseSimError, *expected)) or not own:
            raise
        raise PluginError(f"{name_of(type(component))}: `{method}` raised {error_text(error)}") from error


def responsible_component(error: BaseException, components: Iterable[object]) -> object | None:
    """The user-defined component in whose module an exception was raised, or through which it passed; None if none."""
    names = set()
    trace = error.__traceback__
    while trace is not None:
        names.add(trace.tb_frame.f_globals.get("__name__"))
        trace = trace.tb_next
    for component in components:
        bases = [base for base in type(component).__mro__ if issubclass(base, Component) and is_plugin(base)]
        if names & {base.__module__ for base in bases}:
            return component
    return None


def described(component: Any) -> dict[str, Any]:
    """What determines a component's numbers, for content keys: `describe()`, and the source of the user-defined classes
    in it (its own, and those of components among its settings).

    Raises PluginError when `describe` of such a class fails, or returns anything but plain JSON.
    """
    with plugin_errors(component, "describe"):
        description = component.describe()
        if not isinstance(description, dict):
            raise TypeError(f"it returns {type(description).__name__}; needed: a dict of plain JSON")
        canonical_json(description)
    sources = {name_of(cls): source_of(cls) for cls in _own_classes(component)}
    return {**description, "source": sources} if sources else description


def _own_classes(value: object) -> list[type[Any]]:
    """The user-defined classes of a component and of the components among its settings, each once."""
    classes: dict[type[Any], None] = {}
    if isinstance(value, Component):
        classes |= dict.fromkeys(cls for cls in [type(value)] if is_plugin(cls))
        for name in type(value).model_fields:
            classes |= dict.fromkeys(_own_classes(getattr(value, name)))
    elif isinstance(value, dict):
        classes |= dict.fromkeys(cls for part in value.values() for cls in _own_classes(part))
    elif isinstance(value, list | tuple):
        classes |= dict.fromkeys(cls for part in value for cls in _own_classes(part))
    return list(classes)


_source_hashes: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


def source_of(own: type[Any] | FunctionType) -> str:
    """sha256 over the sources of the modules that a user-defined class or function depends on, by their names and
    contents.

    These are the module of the function, or those of the class and of its bases, and all of the user's own that those
    import, directly or not, anywhere in their text. They are found by parsing; nothing is imported. The user's own are
    those outside of the standard library, of this package, and of folders of installed packages; for a class of an
    installed package, all of that package. The hash is computed once, when it is imported: later edits do not change
    it.

    Raises PluginError when its module has no file.
    """
    if own not in _source_hashes:
        _source_hashes[own] = hashlib.sha256(canonical_json(_sources(own)).encode()).hexdigest()
    return _source_hashes[own]


def _sources(own: type[Any] | FunctionType) -> dict[str, str]:
    """{module: sha256 of its source}."""
    bases = own.__mro__ if isinstance(own, type) else (own,)
    modules = [base.__module__ for base in bases if is_plugin(base) and _top(base.__module__) not in _STANDARD]
    home = _top(own.__module__)
    sources: dict[str, str] = {}
    pending = list(dict.fromkeys(modules))
    while pending:
        name = pending.pop()
        if name in sources:
            continue
        file = _own_file(name, home)
        if file is None:
            if name == own.__module__:
                kind = "class" if isinstance(own, type) else "function"
                raise PluginError(
                    f"{name_of(own)}: its module has no file, so its results cannot be distinguished from those of "
                    f"another version; put the {kind} into a .py file"
                )
            continue
        content = b"" if file.is_dir() else file.read_bytes()
        sources[name] = hashlib.sha256(content).hexdigest()
        package = name if file.is_dir() or file.name.startswith("__init__.") else name.rpartition(".")[0]
        pending += [*_parents(name), *_imported(content, package)]
    return sources


_STANDARD = frozenset({"collapse_sim", *sys.stdlib_module_names})


def _top(module: str) -> str:
    return module.partition(".")[0]


def _parents(module: str) -> list[str]:
    """The packages that contain a module: their __init__ runs, too."""
    parts = module.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]


def _imported(content: bytes, package: str) -> Iterator[str]:
    """Names of modules that a source imports or may import: in `from a import b`, b may be a module or not."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # not Python, or not of this version
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                parts = parts[: len(parts) - node.level + 1]
                base = ".".join([*parts, *([base] if base else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _own_file(module: str, home: str) -> Path | None:
    """The file of a user's own module (the folder of a package without __init__), or None for any other module."""
    if not module or _top(module) in _STANDARD:
        return None
    spec = _spec(module)
    if spec is None:
        return None
    if spec.origin is not None and spec.has_location:
        path = Path(spec.origin)
    elif spec.submodule_search_locations:
        path = Path(next(iter(spec.submodule_search_locations)))
    else:
        return None
    if not path.exists() or (_top(module) != home and INSTALLED & set(path.parts)):
        return None
    return path


def _spec(module: str) -> ModuleSpec | None:
    """The spec of a module, without importing the packages that contain it."""
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
        for length in range(len(rest)):
            if spec is None or spec.submodule_search_locations is None:
                return None
            spec = _find(".".join([top, *rest[: length + 1]]), spec.submodule_search_locations)
    except (ImportError, ValueError, AttributeError):
        return None
    return spec


def _find(name: str, where: Any) -> ModuleSpec | None:
    for finder in sys.meta_path:
        spec = finder.find_spec(name, where) if hasattr(finder, "find_spec") else None
        if spec is not None:
            return spec
    return None
