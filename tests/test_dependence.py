"""Modules depend in one direction: no room imports from a later one."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "sac_bench"
ORDER = [
    {"errors"},
    {"envs"},
    {"algorithms"},
    {"spec"},
    {"training", "store"},
    {"execution", "evaluation"},
    {"results"},
    {"analysis"},
    {"report"},
    {"tuning"},
    {"cli"},
]
PLACES = {room: place for place, rooms in enumerate(ORDER) for room in rooms}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Return the rooms that a module imports from, also inside functions and for type checking."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("sac_bench.")}


def test_every_room_has_its_place():
    assert {room_of(path) for path in MODULES} == set(PLACES)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_imports_from_a_later_room(path):
    later = {room for room in imported(path) if PLACES.get(room, len(ORDER)) > PLACES[room_of(path)]}
    assert later == set()
