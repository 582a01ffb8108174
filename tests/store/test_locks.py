"""Locks between real processes."""

import subprocess
import sys

from sac_bench.store import locks

HOLD = (
    "import sys; from pathlib import Path; from sac_bench.store import locks; f = locks.take(Path(sys.argv[1])); "
    "print(f is not None, flush=True); sys.stdin.read()"
)


def holder(path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    return process, process.stdout.readline().strip() == "True"


def test_a_lock_ends_with_its_process_however_that_ends(tmp_path):
    path = tmp_path / "a" / "lock"
    assert not locks.is_taken(path)
    process, has_it = holder(path)
    assert has_it
    assert locks.is_taken(path)
    assert locks.take(path) is None
    assert holder(path)[1] is False
    process.kill()
    process.wait()
    assert not locks.is_taken(path)
    with locks.take(path):
        assert locks.is_taken(path)
    assert not locks.is_taken(path)


def test_a_child_that_inherits_a_lock_holds_it(tmp_path):
    path = tmp_path / "lock"
    with locks.take(path) as file:
        child = subprocess.Popen(
            [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, pass_fds=[file.fileno()]
        )
    assert locks.is_taken(path)
    child.kill()
    child.wait()
    assert not locks.is_taken(path)


def test_who_waits_gets_it(tmp_path):
    path = tmp_path / "lock"
    process, _ = holder(path)
    process.stdin.close()  # it ends by itself
    with locks.locked(path):
        assert locks.is_taken(path)
    with locks.settled(path):
        pass
    process.wait()
