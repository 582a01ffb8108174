"""The command and its workers are killed with SIGKILL, then the same command runs again."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from sac_bench.store.store import Store
from sac_bench.tuning.study import load
from sac_bench.tuning.trials import Trials
from tests.conftest import sac_bench_environment
from tests.tuning.conftest import STUDY

SETTINGS = {
    "steps = 300": "steps = 800",
    "rungs = [100, 200]\n": "",
    '"successive-halving"': '"none"',
    "trials = 4": "trials = 2",
    "utd = 0.1": "utd = 1.0",
    "seeds = 2": "seeds = 1",
    'activation = { type = "categorical", choices = ["relu", "tanh"] }\n': "",
}


def start(study_file, tmp_path):
    command = [sys.executable, "-m", "sac_bench.cli.main", "tune", str(study_file), "--workers", "1"]
    return subprocess.Popen(
        command,
        cwd=tmp_path,
        env=sac_bench_environment(),
        stdout=subprocess.PIPE,
        text=True,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def wait_for_steps(tmp_path, process, more_than):
    """Wait until a segment beyond these steps is saved."""
    deadline = time.monotonic() + 120
    while not any(steps > more_than for steps in steps_of(tmp_path)):
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def steps_of(tmp_path):
    return [json.loads(path.read_text())["steps"] for path in (tmp_path / "results").glob("runs/*/status.json")]


@pytest.mark.soak
def test_after_kills_of_worker_and_tuner_the_command_ends_with_the_same_trials(study_file, tmp_path):
    text = STUDY
    for old, new in SETTINGS.items():
        assert old in text
        text = text.replace(old, new)
    study_file.write_text(text)
    process = start(study_file, tmp_path)
    wait_for_steps(tmp_path, process, 0)
    (worker,) = psutil.Process(process.pid).children()
    os.kill(worker.pid, signal.SIGKILL)
    wait_for_steps(tmp_path, process, 100)
    workers = psutil.Process(process.pid).children()
    for pid in [process.pid, *(worker.pid for worker in workers)]:
        os.kill(pid, signal.SIGKILL)
    process.wait()
    before = steps_of(tmp_path)
    assert 100 < max(before) < 800
    again = start(study_file, tmp_path)
    output, _ = again.communicate(timeout=200)
    assert again.returncode == 0, output
    store = Store(tmp_path / "results")
    with store.planner() as planner:
        trials = Trials(load(study_file), store, planner).all()
    assert [(trial.number, trial.state, sorted(trial.values)) for trial in trials] == [
        (0, "COMPLETE", [800]),
        (1, "COMPLETE", [800]),
    ]
    logs = [path.read_text() for path in store.root.glob("runs/*/log.txt")]
    # Each segment is logged by every process that reached it: no run was restarted from step 0.
    assert all(log.count("step 0:") == 1 for log in logs)
    assert (store.root / "tiny-study" / "best.toml").exists()
