"""Several machines and several GPUs: the batch script, merging, and shares on the command line."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from sac_bench.cli.run import _what_follows
from sac_bench.cli.slurm import Jobs, clock_time, own_words, script
from sac_bench.errors import InputError
from sac_bench.execution import worker
from sac_bench.execution.budget import TimeLimit
from sac_bench.execution.plan import make_plan, write
from sac_bench.spec.experiment import ExperimentGroup
from sac_bench.spec.load import load
from sac_bench.store.store import Store
from tests.store.hosts import Clock


@pytest.mark.parametrize(
    ("seconds", "text"), [(14_400, "4:00:00"), (13_800, "3:50:00"), (90_061, "1-01:01:01"), (599, "0:09:59")]
)
def test_a_time_is_written_in_slurms_format(seconds, text):
    assert clock_time(seconds) == text


def test_the_batch_script_is_valid_and_ends_segments_in_time():
    text = script(
        "sac-bench run 'a b.toml' --results results", "sac-bench-a b", Jobs(8, 1, 6, 14_400, "gpu"), Path("r s")
    )
    for line in (
        "#SBATCH --array=1-8",
        "#SBATCH --gpus-per-task=1",
        "#SBATCH --cpus-per-task=6",
        "#SBATCH --time=4:00:00",
        "#SBATCH --signal=TERM@120",
        "#SBATCH --requeue",
        "#SBATCH --partition=gpu",
        "srun --cpus-per-task=6 sac-bench run 'a b.toml' --results results --device cuda --until 3:50:00 --no-wait "
        "--plan-for 8",
    ):
        assert line in text.splitlines()
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)


@pytest.mark.parametrize(
    ("code", "state", "saves", "requeued"),
    [
        (0, "RUNNING", True, False),
        (1, "RUNNING", True, False),
        (2, "RUNNING", True, False),
        (3, "RUNNING", True, True),
        (3, "RUNNING", False, False),
        (4, "RUNNING", True, False),
        (143, "RUNNING", True, True),
        (143, "CANCELLED", True, False),
        (143, "RUNNING", False, False),
    ],
)
def test_a_job_is_queued_again_only_if_its_command_can_continue(code, state, saves, requeued, tmp_path):
    """SIGTERM comes near the limit, before preemption, or when a user cancels the job.

    If no segment is saved, requeueing would never end.
    """
    checkpoint = tmp_path / "r s" / "cohorts" / "0" / "checkpoint-000000000000.json"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    os.utime(checkpoint, (0, 0))  # saved by an earlier job
    save = "touch -t 209901010000 'r s/cohorts/0/checkpoint-000000000100.json'; " if saves else ""
    for name, body in (
        ("srun", f"{save}exit {code}"),
        ("scontrol", 'echo "$@" > requeued'),
        ("squeue", f'[ "$2" = --jobs=9 ] && echo {state}'),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    text = script("sac-bench run a.toml", "a", Jobs(2, 0, 1, 14_400), Path("r s"))
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_ID": "9"}
    environment |= {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2"}
    ran = subprocess.run(["bash"], input=text, text=True, cwd=tmp_path, env=environment, stderr=subprocess.PIPE)
    assert ran.returncode == (0 if code == 4 else code)
    assert ("no job saved a segment" in ran.stderr) is (code in (3, 143) and not saves)
    assert not list(tmp_path.rglob(".tmp-*"))
    assert (tmp_path / "requeued").exists() is requeued
    if requeued:
        assert (tmp_path / "requeued").read_text() == "requeue 7_2\n"


@pytest.mark.thorough
def test_only_a_saved_segment_counts_as_progress(experiment_file, tmp_path, monkeypatch):
    """A cohort that only resumes writes its tables, statuses and policies again."""
    monkeypatch.setattr(worker, "cannot_compile", lambda: "not here")
    store, clock = Store(tmp_path / "r s"), Clock()
    experiment = load(experiment_file, variants=["sac"], steps=200, settings=["eval_every=100", "eval_episodes=1"])
    write(make_plan(experiment, store, 1, 8e9), store)
    (cohort,) = store.cohort_ids()
    (look,) = re.findall(r"^saved=.*?\)$", script("", "", Jobs(1, 0, 1, 14_400), store.root), re.MULTILINE | re.DOTALL)

    def saved_in(seconds):
        """Return what the script finds after a job of this many seconds. Each segment takes one second."""
        began = tmp_path / "began"
        began.touch()
        trained = worker.Worker(store, cohort, 200, "cpu", 1, limit=TimeLimit(clock.now + seconds, clock))
        usual = trained.trainer.train

        def timed(*arguments):
            clock.now += 1.0
            return usual(*arguments)

        trained.trainer.train = timed
        trained.train()
        variables = {"results": str(store.root), "began": str(began), "PATH": os.environ["PATH"]}
        ran = subprocess.run(["bash", "-c", f'{look}; echo "$saved"'], env=variables, capture_output=True, text=True)
        return ran.stdout.strip()

    assert "checkpoint-" in saved_in(2.5)  # the evaluation before the first step, and a segment
    assert saved_in(-1.0) == ""
    assert "weights.safetensors" in saved_in(1.5)
    assert not list(store.cohort(cohort).glob("checkpoint-*"))


@pytest.mark.thorough
def test_shares_of_unconnected_machines_are_merged_into_all_runs(command, experiment_file):
    arguments = ["run", experiment_file, "--workers", "1", "--steps", "200", "--variant", "sac", "--seeds", "6"]
    for share in ("1/2", "2/2"):
        ran = command(*arguments, "--shard", share, "--results", f"r{share[0]}")
        assert ran.returncode == 0, ran.stderr + ran.stdout
        assert "not started" in ran.stdout
    merged = command("merge", "r1", "r2")
    assert merged.returncode == 0, merged.stderr
    assert "0 different" in merged.stdout
    whole = command(*arguments)
    assert whole.returncode == 0, whole.stderr
    assert "nothing to train" in whole.stdout
    assert "6 finished" in whole.stdout


@pytest.mark.thorough
def test_a_command_without_time_trains_nothing_and_says_how_to_continue(command, experiment_file):
    ran = command("run", experiment_file, "--workers", "1", "--until", "0:00:05")
    assert ran.returncode == 3, ran.stderr + ran.stdout
    assert re.search(
        r"the limit --until 0:00:05 has been reached: .*not started.*; continue with: sac-bench run", ran.stderr
    ), ran.stderr


@pytest.mark.thorough
def test_a_plan_is_divided_for_the_workers_of_all_commands(command, experiment_file):
    arguments = ["run", experiment_file, "--seeds", "8", "--steps", "100000", "--dry-run"]
    alone, shared, as_many = (
        int(re.search(r"runs in (\d+) cohorts? on", command(*arguments, *more).stdout)[1])
        for more in (["--workers", "1"], ["--workers", "1", "--plan-for", "8"], ["--workers", "8"])
    )
    assert alone < shared == as_many


def test_a_command_that_does_not_wait_says_how_to_train_later_looks(experiment_file):
    fixed, ranged = (ExperimentGroup((load(experiment_file, seeds=seeds),)) for seeds in (2, "5..30"))
    assert _what_follows(fixed) == ""
    assert "start this command again" in _what_follows(ranged)


def test_invalid_options_are_refused_in_one_line(command, experiment_file):
    for options, words in (
        (["--until", "soon"], "--until soon: must be a positive time"),
        (["--shard", "3/2"], "--shard 3/2: must be i/n"),
        (["--gpus", "0", "--device", "cpu"], "--gpus 0: this command trains on the CPU"),
    ):
        ran = command("run", experiment_file, *options, "--dry-run")
        assert (ran.returncode, words in ran.stderr) == (2, True), ran.stderr
    unknown = command("slurm", "unknown.toml")
    assert (unknown.returncode, "unknown.toml: no such file" in unknown.stderr) == (2, True), unknown.stderr
    for options, words in (
        (["--time", "0:05:00"], "--time 0:05:00: must be at least 10 minutes"),
        (["--time", "soon"], "--time soon: must be a positive time, such as 3:50:00"),
        (["--options", "--seeds 3 --"], "--options --seeds 3 --: after --, the script's own options"),
        (["--options", "--until=8h"], "--options --until=8h: --until is set by the script"),
    ):
        printed = command("slurm", experiment_file, *options)
        assert (printed.returncode, words in printed.stderr) == (2, True), printed.stderr
    study = command("slurm", "sac-humanoid")
    assert (study.returncode, "this is a study; run it with sac-bench tune" in study.stderr) == (2, True), study.stderr


@pytest.mark.parametrize("option", ["--results", "--device", "--until", "--plan-for", "--no-wait"])
def test_options_that_the_script_sets_are_refused(option):
    with pytest.raises(InputError, match=f"{option} is set by the script"):
        own_words(f"--seeds 3 {option} 1")
    assert own_words("--seeds 3 --name 'a b'") == ["--seeds", "3", "--name", "a b"]


def test_more_jobs_than_arrays_usually_allow_give_a_warning_beside_the_script(command, experiment_file):
    printed = command("slurm", experiment_file, "--jobs", "1001")
    assert (printed.returncode, "MaxArraySize" in printed.stderr) == (0, True)
    assert printed.stdout.startswith("#!/bin/bash\n")
