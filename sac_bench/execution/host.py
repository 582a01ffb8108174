"""What Ray starts on a machine. It needs only Python there, so it can say which packages are missing.

Ray sends the code of BY_VALUE itself, instead of importing it there (execution/on_ray.py).
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping
from typing import Any

from sac_bench.execution import versions as of_versions
from sac_bench.execution.versions import versions

BY_VALUE = (sys.modules[__name__], of_versions)
"""The modules whose code is sent."""


class Host:
    """A place (execution/place.py), which is made by the first call of one of its methods."""

    def __init__(self) -> None:
        self._place: Any = None

    def about(self) -> tuple[str, Mapping[str, str]]:
        """Return the name of the machine, and its versions."""
        return socket.gethostname(), versions()

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the place and return what it returns. The versions must be those of the command."""
        if self._place is None:
            from sac_bench.execution.place import Place

            self._place = Place()
        return getattr(self._place, method)(*arguments)
