"""Faults: workers that die, signals, full and read-only disks, several commands at once.

Real commands and processes. Where possible, the environment causes the fault at a chosen step.
"""

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest

import sac_bench
from sac_bench.store import locks
from sac_bench.store.store import Store
from tests import forked
from tests.conftest import sac_bench_environment, small

LINE = """
import gymnasium, numpy as np, os, signal, pathlib, psutil, subprocess, sys
HARM = compile(pathlib.Path("harm").read_text(), "harm", "exec")  # in its own file, which is not part of run ids
class Line(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-9, 9, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    made = 0
    def __init__(self):
        self.steps, self.place = 0, Line.made  # 0 is only inspected; 1 is the first to train with
        Line.made += 1
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = self.np_random.uniform(-1, 1, 1).astype(np.float32)
        return self.x, {}
    def step(self, action):
        self.steps += 1
        exec(HARM)
        self.x = np.clip(self.x + action, -9, 9).astype(np.float32)
        return self.x, -SCALE * float(abs(self.x[0])), False, False, {}
gymnasium.register("Line-v0", Line, max_episode_steps=20)
"""

EXPERIMENT = small("line", "gymnasium:Line-v0", steps=300, utd=0.2)

RUN = ["run", "line.toml", "--import", "line", "--workers", "1"]


def prepare(folder, harm="pass", scale="1", experiment=EXPERIMENT):
    (folder / "harm").write_text(textwrap.dedent(harm))
    (folder / "line.py").write_text(LINE.replace("SCALE", scale))
    (folder / "line.toml").write_text(experiment)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The results of an undisturbed command."""
    folder = tmp_path_factory.mktemp("reference")
    prepare(folder)
    forked.python(forked.WITHOUT_FIGURES, RUN, cwd=folder, env=sac_bench_environment(), timeout=240).check_returncode()
    return comparable(folder / "results")


def comparable(results: Path) -> dict[str, object]:
    """Return what must be bit-identical: every run's tables without times, and its policy."""
    found: dict[str, object] = {}
    for run in sorted((results / "runs").iterdir()):
        for name in ("evaluations", "episodes", "training"):
            found[f"{run.name} {name}"] = (
                pd.read_csv(run / f"{name}.csv").drop(columns="wall_seconds", errors="ignore").to_csv()
            )
        found[f"{run.name} policy"] = (run / "policy.safetensors").read_bytes()
    return found


def start(folder, *arguments, program=("-m", "sac_bench.cli.main")):
    return subprocess.Popen(
        [sys.executable, *program, *arguments],
        cwd=folder,
        env=sac_bench_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=listen,
    )


def listen():
    """Handle signals as in a shell's foreground, even if the tests run in the background or under nohup."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def wait_for(process, condition, timeout=120.0):
    deadline = time.monotonic() + timeout
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def read_until(process, words):
    for line in process.stdout:
        if words in line:
            return line
    raise AssertionError(f"{words!r} was never printed: {process.stderr.read()}")


DIE = """
        deaths = pathlib.Path("deaths")
        if self.steps == 250 and len(deaths.read_text() if deaths.exists() else "") < TIMES:
            deaths.open("a").write("x")
            os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.soak
def test_a_killed_worker_is_restarted_and_the_results_are_identical(command, tmp_path, reference):
    prepare(tmp_path, DIE.replace("TIMES", "2"))
    ran = command(*RUN)
    assert ran.returncode == 0, ran.stderr + ran.stdout
    assert ran.stdout.count("worker killed by SIGKILL; restarted from its last segment") == 2
    assert comparable(tmp_path / "results") == reference
    log = next(tmp_path.glob("results/runs/*/log.txt")).read_text()
    assert [log.count(f"step {step}:") for step in (0, 100, 200, 300)] == [1, 1, 1, 1]


@pytest.mark.soak
def test_a_worker_killed_three_times_fails_its_runs_and_the_command_can_be_repeated(command, tmp_path, reference):
    prepare(tmp_path, DIE.replace("TIMES", "3"))
    ran = command(*RUN)
    assert ran.returncode == 1
    assert "failed: 2 runs on gymnasium:Line-v0" in ran.stdout
    assert "2 failed (at 200 steps)" in ran.stdout
    runs = sac_bench.load_results("line", tmp_path / "results").runs
    assert set(runs["reason"]) == {"killed by SIGKILL"}
    table = (tmp_path / "results" / "line" / "tables" / "final.md").read_text()
    assert "0 of 2" in table
    assert "2 failed (left out)" in table
    again = command(*RUN)
    assert again.returncode == 0, again.stderr + again.stdout
    assert comparable(tmp_path / "results") == reference


@pytest.mark.soak
def test_an_exception_that_a_worker_raises_twice_is_reported_and_not_retried(command, tmp_path):
    prepare(tmp_path, r"if self.steps == 250 and self.place == 1: raise MemoryError('no room\nfor more')")
    ran = command(*RUN)
    assert ran.returncode == 1
    assert ran.stdout.count("worker MemoryError: no room for more; restarted") == 1
    assert set(sac_bench.load_results("line", tmp_path / "results").runs["reason"]) == {"MemoryError: no room for more"}


@pytest.mark.thorough
def test_an_exception_of_an_environment_is_reported_and_not_retried(command, tmp_path, reference):
    prepare(tmp_path, r"if self.steps == 250 and self.place == 2: raise ValueError('the arm\nbroke')")
    ran = command(*RUN)
    assert ran.returncode == 1, ran.stderr + ran.stdout
    reason = "ValueError: the arm broke (environment's step(), training, step 250)"
    assert re.search(rf"failed: 1 of 2 runs on \S+ \(sac\): {re.escape(reason)} \(log: ", ran.stdout)
    assert "restarted" not in ran.stdout
    assert "1 finished, 1 failed (at 200 steps)" in ran.stdout
    runs = sac_bench.load_results("line", tmp_path / "results").runs.set_index("seed")
    assert runs["status"].to_dict() == {0: "finished", 1: "failed"}
    assert runs.loc[1, "reason"] == reason
    found = comparable(tmp_path / "results")
    own = [name for name in found if name.startswith(runs.loc[0, "run_id"])]
    assert len(own) == 4
    assert all(found[name] == reference[name] for name in own)
    assert "1 failed (left out)" in (tmp_path / "results" / "line" / "report.md").read_text()
    again = command(*RUN)
    assert again.returncode == 1
    assert "1 failed in their environment (--retrain trains them again)" in again.stdout
    assert comparable(tmp_path / "results") == found
    assert "1 finished, 1 failed" in command("status", "line").stdout
    prepare(tmp_path)
    assert command(*RUN, "--retrain").returncode == 0
    assert "2 reused" in command(*RUN, "--dry-run").stdout


TWO_SCALES = EXPERIMENT + "[variants.line]\n[variants.other]\nreward_scale = OTHER\n"


@pytest.mark.thorough
def test_a_member_that_diverges_ends_and_does_not_affect_its_cohort(command, tmp_path):
    both = {}
    for other in ("2.0", "1e6"):  # (1e15 * 1e6)^2 is more than float32 holds
        prepare(tmp_path, scale="1e15", experiment=TWO_SCALES.replace("OTHER", other))
        ran = command(*RUN, "--results", other)
        assert ran.returncode == 0, ran.stderr + ran.stdout
        runs = sac_bench.load_results("line", tmp_path / other).runs
        assert set(runs["cohort_size"]) == {4}
        both[other] = comparable(tmp_path / other)
    of_line = [name for name in both["2.0"] if name.split()[0] in set(runs[runs["variant"] == "line"]["run_id"])]
    assert len(of_line) == 8
    assert all(both["2.0"][name] == both["1e6"][name] for name in of_line)

    diverged = runs[runs["variant"] == "other"]
    assert set(diverged["status"]) == {"diverged"}
    assert set(diverged["steps"]) == {105}  # the first update
    assert diverged["reason"].str.contains("step 105").all()
    status = Store(tmp_path / "1e6").run(diverged["run_id"].iloc[0]).status()
    assert all(np.isfinite(value) for value in status["last_finite"].values())
    results = sac_bench.load_results("line", tmp_path / "1e6")
    assert set(results.evaluations.query("variant == 'other'")["step"]) == {0, 100}
    assert "2 diverged (as random)" in (tmp_path / "1e6" / "line" / "report.md").read_text()
    again = command(*RUN, "--results", "1e6")
    assert "2 diverged (not trained again)" in again.stdout


THE_COMMAND = "psutil.Process().parents()[1].pid"  # between them is the worker's guardian


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGTERM, 143),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.soak),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.soak),
    ],
)
def test_a_signal_stops_the_command_shows_the_status_and_loses_no_segment(number, code, command, tmp_path, reference):
    # The environment itself asks for the end, in the middle of the third segment.
    prepare(tmp_path, f"if self.steps == 250 and self.place == 1: os.kill({THE_COMMAND}, {int(number)})")
    process = start(tmp_path, *RUN)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert "2 interrupted (at 200 steps); continue with: sac-bench run line.toml" in errors
    assert "Traceback" not in errors
    assert "2 interrupted" in command("status", "line").stdout
    prepare(tmp_path)
    again = command(*RUN)
    assert "2 to be continued" in again.stdout
    assert again.returncode == 0, again.stderr
    assert comparable(tmp_path / "results") == reference


@pytest.mark.soak
def test_an_environment_that_changes_its_working_folder_changes_no_result(command, tmp_path, reference):
    (tmp_path / "elsewhere").mkdir()
    prepare(tmp_path, f"os.chdir({str(tmp_path / 'elsewhere')!r})")
    ran = command(*RUN)
    assert ran.returncode == 0, ran.stderr + ran.stdout
    assert comparable(tmp_path / "results") == reference
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.soak
def test_a_process_forked_by_an_environment_delays_nothing(command, tmp_path, reference):
    """It holds the worker's lock and the pipe that the command reads."""
    fork = "if self.steps == 1 and self.place == 1 and os.fork() == 0: signal.pause()\n"
    prepare(tmp_path, fork + textwrap.dedent(DIE.replace("TIMES", "1")))
    ran = command(*RUN)
    assert ran.returncode == 0, ran.stderr + ran.stdout
    assert comparable(tmp_path / "results") == reference


CHILDREN = """
        if self.steps == 1 and self.place == 1:
            sleep = [sys.executable, "-c", "import time; time.sleep(1e6)"]
            twice = f"import subprocess; print(subprocess.Popen({sleep}, start_new_session=True, stdout=2).pid)"
            children = [subprocess.Popen(sleep), subprocess.Popen(sleep, start_new_session=True)]
            grandchild = subprocess.run([sys.executable, "-c", twice], stdout=subprocess.PIPE).stdout.decode()
            worker = any("execution.worker" in part for part in psutil.Process().cmdline())
            with open("children" if worker else "children-of-the-command", "a") as file:
                print(*(child.pid for child in children), grandchild, file=file, flush=True)
        if self.steps == 150 and self.place == 1:
            END
"""
ENDS = {
    "the worker is killed": ("os.kill(os.getpid(), signal.SIGKILL)", 1),
    "the worker's guardian is killed": ("os.kill(os.getppid(), signal.SIGKILL); signal.pause()", 1),
    "Ctrl-C": (f"os.kill({THE_COMMAND}, signal.SIGINT); signal.pause()", 130),
    "the command is killed": (f"os.kill({THE_COMMAND}, signal.SIGKILL); signal.pause()", -signal.SIGKILL),
    "nothing": ("pass", 0),
}


@pytest.mark.thorough
@pytest.mark.parametrize(
    "end", [e if e.startswith("the command") else pytest.param(e, marks=pytest.mark.soak) for e in ENDS]
)
def test_processes_started_by_environments_end_with_their_worker(end, tmp_path):
    harm, code = ENDS[end]
    prepare(tmp_path, CHILDREN.replace("END", harm))
    process = start(tmp_path, *RUN)
    process.communicate(timeout=120)
    assert process.returncode == code
    files = tmp_path.glob("children*") if end != "the command is killed" else [tmp_path / "children"]
    pids = [int(pid) for file in files for pid in file.read_text(encoding="utf-8").split()]
    assert len(pids) >= 3 * (3 if code == 1 else 1)  # a worker's, at each of three tries
    left = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    if "guardian" in end:  # then those with a session of their own escape
        for child in left:
            assert os.getsid(child.pid) == child.pid
            child.kill()
    elif "command" in end:
        assert psutil.wait_procs(left, timeout=60)[1] == []
    else:
        assert left == []


PATIENT = (
    "from sac_bench.execution import engine; engine.GRACE_SECONDS = 1e6; from sac_bench.cli.main import main; main()"
)


@pytest.mark.soak
def test_a_second_ctrl_c_stops_at_once(tmp_path):
    prepare(
        tmp_path,
        "if self.steps == 250: signal.signal(signal.SIGTERM, signal.SIG_IGN); open('hung', 'w'); signal.pause()",
    )
    process = start(tmp_path, *RUN, program=["-c", PATIENT])
    wait_for(process, (tmp_path / "hung").exists)
    process.send_signal(signal.SIGINT)
    read_until(process, "press Ctrl-C again to stop at once")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)  # otherwise it would wait for days
    assert process.returncode == 130
    assert "Traceback" not in errors


@pytest.mark.soak
def test_workers_end_after_their_command_is_killed(tmp_path):
    prepare(tmp_path)
    process = start(tmp_path, *RUN, "--steps", "200000")
    wait_for(process, lambda: list(tmp_path.glob("results/cohorts/*/checkpoint-*100.json")))
    process.kill()
    process.communicate()
    (cohort,) = tmp_path.glob("results/cohorts/*")
    with locks.locked(Store(tmp_path / "results").cohort_lock(cohort.name)):  # the lock ends with the worker
        assert "the command is gone" in (cohort / "log.txt").read_text()


@pytest.fixture
def disk(tmp_path):
    """A small disk: (folder, remount with these options)."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(*options):
        return subprocess.run(["mount", "-t", "tmpfs", *options, "none", folder], capture_output=True)

    if mount("-o", "size=64k").returncode:
        pytest.skip("mounting is not permitted here")
    yield folder, lambda options: subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.soak
def test_a_full_disk_is_reported_and_the_command_continues_after_space_is_freed(command, tmp_path, disk, reference):
    folder, remount = disk
    prepare(tmp_path)
    full = command(*RUN, "--results", folder)
    assert full.returncode == 1, full.stderr + full.stdout
    assert "No space left on device" in full.stdout + full.stderr
    assert "Traceback" not in full.stdout + full.stderr
    assert "restarted" not in full.stdout  # a restart would not help
    remount("size=64m")
    again = command(*RUN, "--results", folder)
    assert again.returncode == 0, again.stderr + again.stdout
    assert comparable(folder) == reference
    assert not list(folder.rglob(".tmp-*"))


@pytest.mark.soak
def test_a_read_only_disk_is_refused_for_training_but_can_be_read(command, tmp_path, disk):
    folder, remount = disk
    prepare(tmp_path)
    remount("size=64m")
    assert command(*RUN, "--results", folder, "--steps", "200").returncode == 0
    remount("ro")
    refused = command(*RUN, "--results", folder)
    assert (refused.returncode, "Read-only file system" in refused.stderr) == (2, True), refused.stderr
    report = command("report", "line", "--results", folder)
    assert (report.returncode, "Read-only file system" in report.stderr) == (1, True), report.stderr
    assert "Traceback" not in refused.stderr + report.stderr
    assert "2 finished" in command("status", "line", "--results", folder).stdout
    assert len(sac_bench.load_results("line", folder).evaluations) == 12


@pytest.mark.soak
def test_commands_that_share_runs_train_each_run_once(tmp_path, command):
    prepare(tmp_path)
    (tmp_path / "other.toml").write_text(EXPERIMENT.replace('"line"', '"other"').replace("seeds = 2", "seeds = [1, 2]"))
    first = start(tmp_path, *RUN)
    other = start(tmp_path, "run", "other.toml", *RUN[2:])
    for process in (first, other):
        output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors + output
    for name in ("line", "other"):
        assert set(sac_bench.load_results(name, tmp_path / "results").runs["status"]) == {"finished"}
    logs = [path.read_text() for path in tmp_path.glob("results/runs/*/log.txt")]
    assert len(logs) == 3
    assert all(log.count(f"step {step}:") == 1 for log in logs for step in (0, 100, 200, 300))
    assert "nothing to free" in command("gc").stdout


@pytest.mark.soak
def test_runs_of_a_dead_owner_are_taken_over(tmp_path, reference):
    hang = "if self.steps == 250 and not os.path.exists('hung'): open('hung', 'w').close(); signal.pause()"
    prepare(tmp_path, hang)
    first = start(tmp_path, *RUN)
    wait_for(first, (tmp_path / "hung").exists)
    second = start(tmp_path, *RUN)
    read_until(second, "2 to be continued")
    worker = int(subprocess.run(["pgrep", "-P", str(first.pid)], capture_output=True, text=True).stdout.split()[0])
    os.kill(first.pid, signal.SIGKILL)
    os.kill(worker, signal.SIGKILL)
    output, errors = second.communicate(timeout=120)
    assert second.returncode == 0, errors + output
    assert comparable(tmp_path / "results") == reference
    first.communicate()


@pytest.mark.soak
def test_a_lost_replay_is_reported_and_runs_are_retrained_only_on_request(command, tmp_path, reference):
    prepare(tmp_path)
    assert command(*RUN, "--steps", "200", "--keep-replay").returncode == 0
    for path in tmp_path.glob("results/cohorts/*/rows-*"):
        path.unlink()
    failed = command(*RUN)
    assert failed.returncode == 1
    assert "no checkpoint is intact; --retrain trains its runs again" in failed.stdout
    assert "restarted" not in failed.stdout
    assert "0 new, 2 reused" in command(*RUN, "--steps", "200", "--dry-run").stdout  # finished runs stay finished
    assert command(*RUN, "--retrain").returncode == 0
    assert comparable(tmp_path / "results") == reference


AUDIT = """
import sys
def hook(event, arguments):
    if event == "pickle.find_class":
        open("pickled", "a").write(str(arguments))
sys.addaudithook(hook)
"""


@pytest.mark.soak
def test_nothing_is_unpickled(command, tmp_path):
    prepare(tmp_path)
    assert command(*RUN, "--steps", "200", "--keep-replay").returncode == 0
    (tmp_path / "audited.py").write_text(AUDIT)
    (tmp_path / "probe.py").write_text("import pickle, audited; pickle.loads(pickle.dumps(print))")
    subprocess.run([sys.executable, tmp_path / "probe.py"], cwd=tmp_path, check=True)
    assert (tmp_path / "pickled").exists()
    (tmp_path / "pickled").unlink()
    resumed = command(*RUN, "--import", "audited")
    assert "2 to be continued" in resumed.stdout
    assert resumed.returncode == 0, resumed.stderr
    run = sac_bench.load_results("line", tmp_path / "results").runs["run_id"][0]
    acting = f"import audited, line, sac_bench; sac_bench.load_policy('{run}').act([0.0])"
    subprocess.run([sys.executable, "-c", acting], cwd=tmp_path, env=sac_bench_environment(), check=True)
    assert not (tmp_path / "pickled").exists()
