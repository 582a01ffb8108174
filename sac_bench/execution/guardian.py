"""The process between the command and a worker: it ends the worker's environment processes along with the worker.

The engine (execution/engine.py) starts it as `python -m sac_bench.execution.guardian PARENT ...`. It starts the worker
with the other arguments, kills all of its descendants once the worker has ended, and exits as the worker did. If the
command is gone, it also stops the worker. SIGTERM is passed on; SIGINT kills the worker at once.

On Linux it adopts orphaned descendants, so a child with its own session cannot escape. Elsewhere only the process group
is killed. It imports very little, because there is one per worker.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterator
from pathlib import Path

GRACE_SECONDS = 8.0
"""Time for a worker to finish saving after a request to stop."""
POLL_SECONDS = 0.5
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_LIBC = ctypes.CDLL(None)


def adopt() -> None:
    """Make orphaned descendants children of this process, where the system can."""
    if hasattr(_LIBC, "prctl"):
        _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


@contextlib.contextmanager
def no_child_left() -> Iterator[None]:
    """Kill, at the end of the block, every descendant that did not exist before it."""
    adopt()
    before = set(_children())
    try:
        yield
    finally:
        end_children(before)


def end_children(but: Collection[int] = ()) -> None:
    """Kill every descendant of this process except `but`. Call `adopt` first."""
    while children := [pid for pid in _children() if pid not in but]:
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in children:  # whose children are now this process's
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _children() -> Iterator[int]:
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1]
            if int(parent) == os.getpid():
                yield int(path.parent.name)


def _die_with_parent() -> None:
    if hasattr(_LIBC, "prctl"):
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _stop_without(parent: int, worker: subprocess.Popen[bytes]) -> None:
    """Stop the worker once the command is gone."""
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    print("the command is gone: stopping", file=sys.stderr, flush=True)
    worker.terminate()
    time.sleep(GRACE_SECONDS)
    worker.kill()


def main() -> None:
    """Run the guardian's process."""
    parent, workers = int(sys.argv[1]), list[subprocess.Popen[bytes]]()

    def pass_on(number: int) -> None:
        if not workers:
            os._exit(128 + number)
        workers[0].send_signal(number)

    adopt()
    signal.signal(signal.SIGTERM, lambda *_: pass_on(signal.SIGTERM))
    signal.signal(signal.SIGINT, lambda *_: pass_on(signal.SIGKILL))
    command = [sys.executable, "-m", "sac_bench.execution.worker", *sys.argv[2:]]
    workers.append(subprocess.Popen(command, close_fds=False, preexec_fn=_die_with_parent))
    threading.Thread(target=_stop_without, args=(parent, workers[0]), daemon=True).start()
    code = workers[0].wait()
    end_children()
    if os.getppid() != parent:
        os.killpg(0, signal.SIGKILL)  # no other process is left to do it
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    main()
