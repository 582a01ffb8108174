"""The user's own modules, which travel to workers on other machines."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib"))


def user_modules() -> dict[str, bytes]:
    """Return the sources of imported modules that are neither installed nor part of this package: {path: content}.

    Workers elsewhere cannot import them otherwise.
    """
    found = {}
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
            found[f"{path}/__init__.py" if file.name == "__init__.py" else f"{path}.py"] = file.read_bytes()
    return found
