"""Modules depend in one direction: no package imports from a later one."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "sac_bench"
ORDER = [
    {"errors", "evaluations"},
    {"envs", "options"},
    {"algorithms"},
    {"spec"},
    {"training", "store"},
    {"execution", "evaluation"},
    {"results"},
    {"analysis"},
    {"report"},
    {"tuning"},
    {"workflow"},
    {"cli"},
]
PLACES = {package: place for place, packages in enumerate(ORDER) for package in packages}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def package_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Return the packages that a module imports from, also inside functions and for type checking."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("sac_bench.")}


def test_every_package_has_a_place_in_the_order():
    assert {package_of(path) for path in MODULES} == set(PLACES)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_imports_from_a_later_package(path):
    later = {package for package in imported(path) if PLACES.get(package, len(ORDER)) > PLACES[package_of(path)]}
    assert later == set()
