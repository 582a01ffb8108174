"""Python processes that start in a tenth of the time: forks of one that has imported the modules that commands import late.

Each is a separate process, with its own folder, environment and output. Effects of imports are not
repeated: a test of imports, of the environment in which they happen or of signals needs `subprocess`.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from pathlib import Path

LATE = ("envpool", "sac_bench.workflow.run", "sac_bench.report.figures.all", "sac_bench.tuning.report")
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload([__name__, "sac_bench.cli.main", *LATE])

COMMAND = "from sac_bench.cli.main import main; main()"
WITHOUT_FIGURES = f"""
from collections import defaultdict
from sac_bench.report import experiment
from sac_bench.tuning import report
experiment.write_figures = lambda *_: defaultdict(list)
report.write_figures = lambda *_: []
{COMMAND}"""


def python(
    program: str, arguments: Sequence[str] = (), *, cwd: Path, env: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """Return the result of `python -c program arguments` in a folder. Raises TimeoutExpired after `timeout` seconds."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        names = [f"/proc/{os.getpid()}/fd/{file.fileno()}" for file in (output, errors)]
        process = SERVER.Process(target=_execute, args=(program, list(arguments), str(cwd), dict(env), names))
        _start_server(dict(env))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired([program, *arguments], timeout)
        texts = []
        for file in (output, errors):
            file.seek(0)
            texts.append(file.read().decode())
        assert process.exitcode is not None
        return subprocess.CompletedProcess([program, *arguments], process.exitcode, *texts)


def _start_server(env: dict[str, str]) -> None:
    """Start the process that is forked, if it is not running. Its imports read COLUMNS once, for all tables."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(env)
    try:
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)


def _execute(program: str, arguments: list[str], cwd: str, env: dict[str, str], outputs: list[str]) -> None:
    for number, name in zip((1, 2), outputs, strict=True):
        opened = os.open(name, os.O_WRONLY | os.O_APPEND)
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    tempfile.tempdir = None  # TMPDIR may be another one
    sys.argv = ["sac-bench", *arguments]
    exec(compile(program, "<program>", "exec"), {"__name__": "__main__"})
