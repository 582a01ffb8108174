"""Output of environments goes to a log, and only the command writes to the terminal."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import sac_bench_environment

CHATTY = """
import gymnasium, numpy as np, os, subprocess, warnings
print("imported")
class Chatty(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-9, 9, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    def __init__(self):
        print("made")
        subprocess.run(["echo", "a child's"])
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1), {}
    def step(self, action):
        print("python's")
        os.write(1, b"descriptor 1\\n")
        os.write(2, b"descriptor 2\\n")
        warnings.warn("a warning")
        if FAIL: raise RuntimeError("it broke")
        return np.zeros(1), 0.0, False, False, {}
    def close(self):
        print("closed")
gymnasium.register("Chatty-v0", Chatty, max_episode_steps=5)
"""

EXPERIMENT = """
name = "chatty"
envs = ["gymnasium:Chatty-v0"]
seeds = 1
steps = 20
[base]
layers = [8]
batch_size = 4
learning_starts = 10
eval_every = 10
eval_episodes = 1
"""

PRINTED = ["imported", "made", "a child's", "python's", "descriptor 1", "descriptor 2", "closed"]


@pytest.fixture
def chatty(tmp_path):
    def write(fails=False):
        (tmp_path / "chatty.py").write_text(CHATTY.replace("FAIL", str(fails)))
        (tmp_path / "chatty.toml").write_text(EXPERIMENT)
        return ["run", "chatty.toml", "--import", "chatty"]

    return write


def assert_only_in(log, *shown):
    text = log.read_text()
    assert [line for line in PRINTED if line not in text] == []
    for of in shown:
        assert [line for line in [*PRINTED, "warning", "WARN"] if line in of] == []


@pytest.mark.thorough
def test_a_plan_hides_what_environments_print(command, chatty, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    planned = command(*chatty(), "--dry-run")
    assert planned.returncode == 0, planned.stderr
    (log,) = tmp_path.glob("sac-bench-*.txt")
    assert f"output of environments: {log}" in planned.stdout
    assert_only_in(log, planned.stdout.replace("chatty", ""), planned.stderr)
    assert not (tmp_path / "results").exists()


@pytest.mark.thorough
def test_a_refusal_is_one_line_even_if_environments_print(command, chatty, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    refused = command(*chatty(fails=True))
    assert refused.returncode == 2
    message = "envs: environment 'gymnasium:Chatty-v0' cannot be stepped: RuntimeError: it broke\n"
    assert re.match(rf"sac-bench: chatty\.toml:\d+: {re.escape(message)} +\d+ \| envs = ", refused.stderr)
    assert len(refused.stderr.splitlines()) == 2
    (log,) = tmp_path.glob("sac-bench-*.txt")
    assert_only_in(log, refused.stdout)
    assert not (tmp_path / "results").exists()  # no worker was started


def test_a_module_that_exits_at_import_is_refused(command, tmp_path):
    (tmp_path / "script.py").write_text("import argparse; argparse.ArgumentParser().parse_args()")
    refused = command("list", "algorithms", "--import", "script")
    assert refused.returncode == 2
    assert refused.stderr == "sac-bench: --import script: SystemExit: 2\n"


RANDOM = """
import sys; sys.path.insert(0, "")
from pathlib import Path
from sac_bench.envs import output
from sac_bench.envs.pool import describe
from sac_bench.training.evaluate import random_episodes
with output.logged():
    with output.captured("import"):
        import chatty
    output.keep_in(Path("folder/log.txt"))
    print(random_episodes(describe("gymnasium:Chatty-v0"), episodes=3).returns.tolist())
print("afterwards")
"""


@pytest.mark.thorough
def test_measuring_a_random_policy_prints_nothing(chatty, tmp_path):
    chatty()
    environment = sac_bench_environment() | {"PYTHONPATH": str(Path(__file__).parents[2])}
    ran = subprocess.run(
        [sys.executable, "-c", RANDOM], cwd=tmp_path, capture_output=True, text=True, timeout=100, env=environment
    )
    assert ran.stdout == "[0.0, 0.0, 0.0]\noutput of environments: folder/log.txt\nafterwards\n"
    assert ran.stderr == ""
    log = tmp_path / "folder" / "log.txt"
    assert_only_in(log)
    assert log.read_text().count("python's") == 15
    assert "--- gymnasium:Chatty-v0, random policy" in log.read_text()
    assert "a warning" in log.read_text()


@pytest.mark.soak
def test_a_whole_run_hides_what_environments_print(command, chatty, tmp_path):
    ran = command(*chatty(), "--workers", "1")
    assert ran.returncode == 0, ran.stderr
    assert "output of environments: results/environments/log.txt" in ran.stdout
    assert_only_in(tmp_path / "results/environments/log.txt", ran.stdout, ran.stderr)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("harm", "code", "words"),
    [
        ("input('licence? ')", 2, "cannot be made: EOFError"),
        ("os.write(2, b'hidden'); os.abort()", -signal.SIGABRT, "Fatal Python error: Aborted"),
    ],
)
def test_environments_that_ask_for_input_or_crash_are_reported(chatty, tmp_path, harm, code, words):
    arguments = chatty()
    path = tmp_path / "chatty.py"
    path.write_text(path.read_text().replace('print("made")', harm))
    ours, theirs = os.openpty()  # standard input is a terminal, where nobody answers
    ran = subprocess.run(
        [sys.executable, "-m", "sac_bench.cli.main", *arguments, "--dry-run"],
        cwd=tmp_path,
        stdin=theirs,
        env=sac_bench_environment(),
        capture_output=True,
        text=True,
        timeout=100,
    )
    os.close(theirs)
    os.close(ours)
    assert ran.returncode == code
    assert words in ran.stderr
    assert "hidden" not in ran.stderr
