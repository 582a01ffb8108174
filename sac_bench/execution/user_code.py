"""The user's own modules, which travel to workers on other machines."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from sac_bench.algorithms import ALGORITHMS
from sac_bench.envs.pool import describe
from sac_bench.envs.sources import local_files
from sac_bench.execution.launch import Refused
from sac_bench.spec.run import RunSpec

STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib"))
TEMPORARY = "temporary."
"""Beginning of the names of files that an environment itself writes (envs/sources.py)."""


def user_code(runs: Sequence[RunSpec]) -> dict[str, bytes]:
    """Return what workers elsewhere must import to train these runs: {path: content}.

    That is all that is imported here, and what it would import later. Raises Refused if a definition has other files,
    such as models: the code names them by paths that are valid here only.
    """
    code = user_modules()
    names = [path.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in code]
    code |= {path: file.read_bytes() for path, file in local_files(names).items()}
    for spec in runs:
        of_env, of_algorithm = describe(spec.env).definition, ALGORITHMS[spec.algorithm].definition
        for what, definition in ((spec.env, of_env), (spec.algorithm, of_algorithm)):
            others = [name for name in definition.get("files", {}) if name not in code]
            files = [name for name in others if not name.startswith(TEMPORARY)]
            if files:
                raise Refused(
                    f"{what} reads {', '.join(files)}, and only modules are sent to other machines: install it, with "
                    "these files, as a package on all machines, or train without --engine"
                )
    return code


def user_modules() -> dict[str, bytes]:
    """Return the sources of imported modules that are neither installed nor part of this package: {path: content}.

    Workers elsewhere cannot import them otherwise.
    """
    sources = {}
    for name, module in list(sys.modules.items()):
        file = Path(getattr(module, "__file__", None) or "")
        top = name.partition(".")[0]
        installed = bool({"site-packages", "dist-packages"} & set(file.parts)) or top in (
            "sac_bench",
            "__main__",
            "__mp_main__",
        )
        installed |= top in sys.stdlib_module_names or file.is_relative_to(STANDARD_LIBRARY)
        if file.suffix == ".py" and not installed and file.exists():
            path = name.replace(".", "/")
            sources[f"{path}/__init__.py" if file.name == "__init__.py" else f"{path}.py"] = file.read_bytes()
    return sources
