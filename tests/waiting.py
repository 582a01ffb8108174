"""Waits for events of other processes: a file that changes, a gate that opens. Nothing here pauses for a fixed time."""

import ctypes
import fcntl
import os
import select
import time

_LIBC = ctypes.CDLL(None, use_errno=True)
_CHANGES = 0x2 | 0x80 | 0x100  # modified, moved to, created (Linux, inotify(7))

# An environment whose instances stop at each step that has a closed gate: in training, within a segment.
LINE = """
import fcntl, gymnasium, numpy as np, os, pathlib
GATES = {int(path.suffix[1:]): path for path in pathlib.Path(os.environ["SAC_BENCH_TEST_GATES"]).glob("gate.*")}
class Line(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-9, 9, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    steps = 0
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = self.np_random.uniform(-1, 1, 1).astype(np.float32)
        return self.x, {}
    def step(self, action):
        self.steps += 1
        if self.steps in GATES:
            with open(GATES[self.steps]) as gate:
                fcntl.flock(gate, fcntl.LOCK_SH)
        self.x = np.clip(self.x + action, -9, 9).astype(np.float32)
        return self.x, -float(abs(self.x[0])), False, False, {}
gymnasium.register("Line-v0", Line, max_episode_steps=20)
"""


class Gates:
    """Files at which the instances of LINE stop: a closed gate is a file that is locked."""

    def __init__(self, folder, steps):
        self._held = {}
        self._paths = {step: folder / f"gate.{step}" for step in steps}
        for path in self._paths.values():
            path.touch()

    def close(self, step):
        """Close the gate at a step, then open the others."""
        descriptor = os.open(self._paths[step], os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        self.open()
        self._held[step] = descriptor

    def open(self):
        """Open all gates."""
        while self._held:
            os.close(self._held.popitem()[1])


def wait_until(condition, folder, process, seconds=150.0):
    """Return once `condition` holds. It is computed again whenever a file below `folder` changes.

    Fails if the process ends before, or after so many seconds.
    """
    deadline = time.monotonic() + seconds
    changes, ended = _LIBC.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), os.pidfd_open(process.pid)
    try:
        while True:
            _watch(changes, folder)
            if condition():
                return
            ready, _, _ = select.select([changes, ended], [], [], max(0.0, deadline - time.monotonic()))
            assert ended not in ready, f"the process ended with {process.wait()}"
            assert ready, f"the condition did not hold after {seconds} seconds"
            os.read(changes, 2**16)
    finally:
        os.close(changes)
        os.close(ended)


def _watch(changes, folder):
    """Watch a folder and then those in it, so that none is created unseen."""
    _LIBC.inotify_add_watch(changes, os.fsencode(folder), _CHANGES)
    try:
        inside = [entry.path for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return  # a temporary folder
    for path in inside:
        _watch(changes, path)
