"""The definition of a user-defined environment or algorithm, which is part of a run's id.

A definition is a JSON object: what was registered, the SHA-256 of every source and asset file, and the versions of
installed packages. It is empty for environments and algorithms of sac_bench and Gymnasium: the id has their versions.

Sources are the modules that define the environment, its base classes and wrappers, and the modules that these import by
`import` statements, except those of the standard library and of installed packages. They are read from disk; nothing is
imported. Line endings and the folder of the files do not count.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import importlib.util
import json
import logging
import math
import os.path
import random
import re
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

Definition = dict[str, Any]

RECORDED = frozenset({"sac_bench", "gymnasium", "mujoco", "envpool", "numpy", "torch", "pydantic"})
"""Packages whose versions are recorded with every run."""
MODELS = (".xml", ".mjcf", ".urdf")
ASSETS = (*MODELS, ".sdf", ".usd", ".usda", ".usdc", ".usdz", ".obj", ".stl", ".msh", ".dae", ".ply", ".npy", ".npz")
"""Suffixes of the files that an environment's attributes may name. Other files may be its output."""
LOG = ".log"
"""Suffix of output files named by keyword arguments, which do not count."""
_OURS = ("gymnasium", "sac_bench")
_STDLIB = Path(sysconfig.get_path("stdlib")).resolve()


def of_environment(spec: Any, env: Any) -> Definition:
    """Return the definition of a registered Gymnasium environment, from its EnvSpec and an instance."""
    from sac_bench.envs.registry import SHIPPED  # Gymnasium takes a while

    if spec == SHIPPED.get(spec.id) and _module(spec.entry_point).partition(".")[0] in _OURS:
        return {}
    reader = _Reader()
    registered = {
        "entry_point": reader.plain(spec.entry_point),
        "kwargs": reader.plain(spec.kwargs),
        "max_episode_steps": spec.max_episode_steps,
        "wrappers": [[reader.plain(one.entry_point), reader.plain(one.kwargs)] for one in spec.additional_wrappers],
    }
    reader.modules += [_module(one.entry_point) for one in spec.additional_wrappers] + [_module(spec.entry_point)]
    for layer in _layers(env):
        reader.modules += [base.__module__ for base in type(layer).__mro__]
        for value in getattr(layer, "__dict__", {}).values():
            if isinstance(value, (str, Path)) and Path(value).suffix.lower() in ASSETS:
                reader.asset(value)
    return _definition(registered, reader)


@functools.cache
def of_algorithm(config: type, learner: Callable[..., Any]) -> Definition:
    """Return the definition of a user-defined algorithm."""
    reader = _Reader()
    registered = {"config": reader.plain(config), "learner": reader.plain(learner)}
    reader.modules += [base.__module__ for base in config.__mro__]
    return _definition(registered, reader)


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Describe what differs in the first definition, in words that follow "trained with"."""
    if not (before and now):
        return ["sources that were not recorded"] if now else ["another definition"] if before else []
    words = [f"another version of {', '.join(changed)}"] if (changed := _changed(before, now, "files")) else []
    for part in ("packages", "registered"):
        for key in _changed(before, now, part):
            old, new = (json.dumps(one[part].get(key)).strip('"') for one in (before, now))
            words.append(f"{key} {old} (now {new})")
    return words


def _changed(before: Mapping[str, Any], now: Mapping[str, Any], part: str) -> list[str]:
    return [key for key in {**before[part], **now[part]} if before[part].get(key) != now[part].get(key)]


def unreadable(definition: Mapping[str, Any]) -> list[str]:
    """Return the modules without a file, such as those of a notebook or console."""
    return list(definition.get("unreadable", []))


def _definition(registered: Definition, reader: _Reader) -> Definition:
    files, packages, missing = _closure(reader.modules)
    for name, sha256 in reader.files:
        files[name] = "+".join(sorted({sha256, *filter(None, files.get(name, "").split("+"))}))
    definition: Definition = {"registered": registered, "files": files, "packages": packages}
    return definition | ({"unreadable": missing} if missing else {})


class _Reader:
    """Converts values to JSON that is equal in every process, and collects the modules and files that they name."""

    def __init__(self) -> None:
        self.modules: list[str] = []
        self.files: list[tuple[str, str]] = []
        self._inside: set[int] = set()

    def plain(self, value: Any) -> Any:
        """Return the value as JSON: numbers, texts and collections, and of other objects class and attributes."""
        if value is None or isinstance(value, (bool, int)):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else repr(value)
        if isinstance(value, (str, Path)):
            return self.asset(value) or str(value)
        if isinstance(value, bytes):
            return {"bytes": _sha256(value)}
        if id(value) in self._inside:
            return "..."
        self._inside.add(id(value))
        try:
            return self._nested(value)
        finally:
            self._inside.discard(id(value))

    def asset(self, name: str | Path) -> str | None:
        """Return an existing file's name without its folder; record its contents and those of files it includes."""
        path = Path(name)
        try:
            if not ((path.is_absolute() and path.exists()) or path.is_file()):
                return None
        except (OSError, ValueError):  # not a path
            return None
        if path.is_file() and path.suffix.lower() != LOG and not _is_installed(path):
            whole = path.resolve()
            if whole.is_relative_to(Path(tempfile.gettempdir()).resolve()) and not _is_of_a_module(whole):
                self.files.append((f"temporary{path.suffix}", _of_file(whole)))  # its name differs every time
                return f"temporary{path.suffix}"
            names = [Path(os.path.relpath(file, whole.parent)).as_posix() for file in _with_included(whole)]
            self.files += [(name, _of_file(whole.parent / name)) for name in names]
        return path.name

    def _nested(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            named = {key if isinstance(key, str) else json.dumps(self.plain(key)): value[key] for key in value}
            return {name: self.plain(named[name]) for name in sorted(named)}
        if isinstance(value, (list, tuple)):
            return [self.plain(item) for item in value]
        if isinstance(value, (set, frozenset)):
            return sorted((self.plain(item) for item in value), key=repr)
        if isinstance(value, (np.ndarray, np.generic)):
            return {"dtype": str(value.dtype), "values": self.plain(value.tolist())}
        if (state := _state(value)) is not None:
            words = state if isinstance(state, str) else _sha256(json.dumps(self.plain(state)).encode())
            return [type(value).__qualname__, words]
        if isinstance(value, functools.partial):
            return {"partial": list(map(self.plain, (value.func, value.args, value.keywords)))}
        if isinstance(value, type) or (callable(value) and hasattr(value, "__qualname__")):
            return self._named(value)
        self.modules.append(type(value).__module__)
        name = _name(type(value))
        if isinstance(value, Enum):
            return f"{name}.{value.name}"
        slots = [slot for kind in type(value).__mro__ for slot in getattr(kind, "__slots__", ())]
        held = {slot: getattr(value, slot) for slot in slots if not slot.startswith("__") and hasattr(value, slot)}
        if held or hasattr(value, "__dict__"):
            return {"class": name, "attributes": self.plain(held | getattr(value, "__dict__", {}))}
        return re.sub(r" at 0x[0-9a-f]+", "", repr(value), flags=re.IGNORECASE)

    def _named(self, value: Any) -> Any:
        """Return the name of a class or function, with the state of a function that its source does not show."""
        self.modules.append(value.__module__ or "builtins")
        name = _name(value)
        if isinstance(value, type):
            return name
        cells = []
        for cell in getattr(value, "__closure__", None) or ():
            with contextlib.suppress(ValueError):  # an empty cell
                cells.append(cell.cell_contents)
        held = [getattr(value, of, None) for of in ("__self__", "__defaults__", "__kwdefaults__")] + [cells]
        return [name, *map(self.plain, held)] if any(part is not None and part != [] for part in held) else name


def _name(value: Any) -> str:
    """Return a class's or function's name, which does not change when sac_bench's modules move."""
    return f"{value.__module__}.{value.__qualname__}".replace("sac_bench.options.", "sac_bench.algorithms.")


def _state(value: Any) -> Any:
    """Return a library object's state if neither its attributes nor its text contain it, else None."""
    import gymnasium  # takes a while

    if isinstance(value, np.random.Generator):
        return value.bit_generator.state
    if isinstance(value, np.random.RandomState):
        return value.get_state(legacy=False)
    if isinstance(value, random.Random):
        return value.getstate()
    if isinstance(value, (gymnasium.Space, logging.Logger)):  # their attributes change with use
        return repr(value)
    if type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "tolist"):
        return [str(getattr(value, "dtype", "")), value.tolist()]
    return None


def _is_of_a_module(path: Path) -> bool:
    """Return whether a file is in the folder of an imported module, or below it."""
    folders = {
        Path(file).resolve().parent
        for module in list(sys.modules.values())
        if (file := getattr(module, "__file__", None))
    }
    return any(folder in path.parents for folder in folders)


def _layers(env: Any) -> Iterator[Any]:
    """Yield an environment's wrappers, the outermost first, and the environment."""
    import gymnasium  # takes a while

    while isinstance(env, gymnasium.Wrapper):
        yield env
        env = env.env
    if env is not None:
        yield env


def _module(entry_point: Any) -> str:
    if isinstance(entry_point, str):
        return entry_point.partition(":")[0]
    return str(getattr(entry_point, "__module__", None) or type(entry_point).__module__)


def _closure(roots: list[str]) -> tuple[dict[str, str], dict[str, str], list[str]]:
    """Return sources, installed packages, and roots without a file.

    Sources: {file: SHA-256}, of what the modules `roots` reach by imports. Packages: {name: version}, among the roots.
    """
    packages: dict[str, str] = {}
    missing = []
    for root in sorted(set(roots)):
        top = root.partition(".")[0]
        if top in RECORDED:
            continue
        spec = _find(root)
        if spec is None:
            missing.append(root)
        elif spec.origin and _is_installed(Path(spec.origin)):
            packages |= {name: version(name) for name in sorted(_distributions().get(top, ()))}
    digests = {name: _of_file(path) for name, path in local_files(roots).items()}
    return dict(sorted(digests.items())), packages, missing


def local_files(roots: Iterable[str]) -> dict[str, Path]:
    """Return the files that modules reach by import statements, also by those in functions, except installed ones.

    The names have the folders of the packages: {"lab/envs.py": ...}.
    """
    found: dict[str, Path] = {}
    waiting, seen = list(roots), set[str]()
    while waiting:
        name = waiting.pop()
        if name in seen or name.partition(".")[0] in RECORDED:
            continue
        seen.add(name)
        if parent := name.rpartition(".")[0]:
            waiting.append(parent)
        if (spec := _find(name)) is None or (path := _local_file(spec)) is None:
            continue
        package = spec.submodule_search_locations is not None
        found[name.replace(".", "/") + (f"/{path.name}" if package else path.suffix)] = path
        if path.suffix == ".py":
            waiting += _imports(name, path.read_bytes(), package)
    return found


def _find(name: str) -> ModuleSpec | None:
    """Find a module as a new process would, without importing it or its parent packages."""
    top, *rest = name.split(".")
    try:
        spec = importlib.util.find_spec(top) if top else None
    except ValueError:  # __main__, and modules without a spec
        return None
    for i, _ in enumerate(rest):
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = PathFinder.find_spec(".".join([top, *rest[: i + 1]]), list(spec.submodule_search_locations))
    return spec


def _local_file(spec: ModuleSpec) -> Path | None:
    """Return a module's file, or None if it belongs to the standard library or an installed package."""
    if not spec.has_location or not spec.origin:
        return None
    path = Path(spec.origin)
    return None if _is_installed(path) or _STDLIB in path.resolve().parents else path


def _is_installed(path: Path) -> bool:
    return not {"site-packages", "dist-packages"}.isdisjoint(path.parts)


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    return packages_distributions()


def _imports(name: str, source: bytes, package: bool) -> Iterator[str]:
    """Yield the names in a module's import statements that may be modules."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = name.split(".")
            above = parts[: len(parts) - node.level + package] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _of_file(path: Path) -> str:
    """Return 16 hexadecimal digits of a file's SHA-256; texts are normalised to line feeds, without byte order mark."""
    data = path.read_bytes()
    if b"\0" not in data:
        data = data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return _sha256(data)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _with_included(path: Path) -> list[Path]:
    """Return a file and, for an XML model (MuJoCo, URDF), the files that it names, recursively."""
    files, folders = [path], [path.parent]
    for file in files:  # grows in the loop
        if file.suffix.lower() not in MODELS:
            continue
        try:
            elements = list(ElementTree.parse(file).iter())
        except (ElementTree.ParseError, OSError):
            continue
        for key in ("meshdir", "texturedir", "assetdir"):
            folders += [path.parent / element.attrib[key] for element in elements if key in element.attrib]
        names = [element.attrib[key] for key in ("file", "filename") for element in elements if key in element.attrib]
        for name in names:
            places = dict.fromkeys((folder / name).resolve() for folder in [file.parent, *folders])
            files += [place for place in places if place.is_file() and place not in files]
    return files
