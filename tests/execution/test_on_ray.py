"""Experiments and a study on a real Ray cluster: several nodes on loopback, nothing shared but this machine's kernel.

Ray is in an environment of its own: `make test-all` builds it and runs this file with it, `make soak` the rest.
"""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import sac_bench
from sac_bench.execution.cluster import Node
from tests.conftest import sac_bench_environment, small
from tests.execution.test_faults import comparable, listen
from tests.tuning.conftest import STUDY
from tests.waiting import LINE, Gates, wait_until

pytest.importorskip("ray", reason="make test-all runs it in an environment with Ray")

NODE = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}

VARIANTS = """
[variants.sac]
[variants.one-q]
critics = 1
[variants.v-network]
value_network = true
"""  # a cohort of two runs each
SHORTER = {
    "steps = 300": "steps = 200",
    "rungs = [100, 200]\n": "",
    '"successive-halving"': '"none"',
    "trials = 4": "trials = 2",
}
RUN = ["run", "line.toml", "--import", "line", "--workers", "3"]


class Fleet:
    """A cluster with one CPU per node, and a folder from which commands use it."""

    def __init__(self, folder):
        from ray.cluster_utils import Cluster

        self.folder = folder
        self.gates = Gates(folder, (150, 250))
        self.cluster = Cluster(initialize_head=True, head_node_args=NODE)
        self.others = [self.cluster.add_node(**NODE), self.cluster.add_node(**NODE)]

    def start(self, *arguments, ray=True):
        """Start a command, on the cluster or here."""
        engine = ["--engine", "ray", "--address", self.cluster.address] if ray else []
        return subprocess.Popen(
            [sys.executable, "-m", "sac_bench.cli.main", *arguments, *engine],
            cwd=self.folder,
            env=sac_bench_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=listen,
        )

    def run(self, *arguments, ray=True):
        """Return the output of a command that succeeds."""
        process = self.start(*arguments, ray=ray)
        try:
            output, errors = process.communicate(timeout=200)
        finally:
            process.kill()
        assert process.returncode == 0, output + errors
        return output

    def wait_for(self, steps, process, results):
        """Wait until every run is saved at these steps."""

        def is_saved():
            statuses = list(results.glob("runs/*/status.json"))
            return [json.loads(path.read_text())["steps"] for path in statuses] == [steps] * 6

        wait_until(is_saved, self.folder, process)


def names(results):
    """Return the names of all files of runs and cohorts."""
    return {str(path.relative_to(results)) for folder in ("runs", "cohorts") for path in (results / folder).rglob("*")}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fleet")
    (folder / "line.py").write_text(LINE)
    (folder / "line.toml").write_text(small("line", "gymnasium:Line-v0", steps=300, utd=0.2) + VARIANTS)
    study = STUDY
    for old, new in SHORTER.items():
        assert old in study
        study = study.replace(old, new)
    (folder / "study.toml").write_text(study)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")  # by default 15: a busy machine would hardly run them
        patch.setenv("SAC_BENCH_TEST_GATES", str(folder))
        patch.setenv("TMPDIR", str(folder))
        patch.setenv("PYTHONPATH", str(Path(sac_bench.__file__).parents[1]))
        for name, value in sac_bench_environment().items():
            patch.setenv(name, value)  # of the nodes
        made = Fleet(folder)
        try:
            yield made
        finally:
            made.cluster.shutdown()


@pytest.fixture(scope="module")
def reference(fleet):
    """The results of the local engine."""
    fleet.run(*RUN, "--results", "here", ray=False)
    return fleet.folder / "here"


def test_ray_names_what_a_machine_has():
    from sac_bench.execution.on_ray import node_of

    about = {"CPU": 8.0, "GPU": 2.0, "memory": 1e9, "accelerator_type:H100": 1.0, "node:10.0.0.1": 1.0}
    assert node_of(about) == Node(8.0, 2.0, 1e9, "H100")
    assert node_of({"memory": 1e9}) == Node(0.0, 0.0, 1e9)


@pytest.mark.thorough
def test_three_nodes_train_the_same_bytes_as_the_local_engine(fleet, reference):
    """The module of the environment travels along: the nodes do not run in the command's folder."""
    output = fleet.run("run", "line.toml", "--import", "line", "--results", "there")
    assert "6 runs in 3 cohorts on 3 cpu workers" in output
    assert comparable(fleet.folder / "there") == comparable(reference)
    assert names(fleet.folder / "there") == names(reference)


@pytest.mark.soak
def test_a_lost_node_is_replaced_by_a_new_one(fleet, reference):
    fleet.gates.close(250)
    results = fleet.folder / "lost"
    process = fleet.start(*RUN, "--results", "lost")
    fleet.wait_for(200, process, results)
    fleet.cluster.remove_node(fleet.others.pop(), allow_graceful=False)
    fleet.others.append(fleet.cluster.add_node(**NODE))
    fleet.gates.open()
    output, errors = process.communicate(timeout=200)
    assert process.returncode == 0, output + errors
    assert output.count("continues from its last segment where there is room (not counted as a crash)") == 1
    assert comparable(results) == comparable(reference)
    logs = [path.read_text() for path in results.glob("runs/*/log.txt")]
    assert [[log.count(f"step {step}:") for step in (0, 100, 200, 300)] for log in logs] == [[1, 1, 1, 1]] * 6


@pytest.mark.soak
def test_a_command_that_is_killed_or_stopped_is_continued_by_the_same_command(fleet, reference):
    results = fleet.folder / "killed"
    fleet.gates.close(150)
    process = fleet.start(*RUN, "--results", "killed")
    fleet.wait_for(100, process, results)
    assert "6 running" in fleet.run("status", "line", "--results", "killed", ray=False)
    process.kill()
    process.communicate(timeout=60)
    fleet.gates.close(250)
    process = fleet.start(*RUN, "--results", "killed")
    fleet.wait_for(200, process, results)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=60)
    assert "6 to be continued" in output
    assert process.returncode == 143, errors
    assert "6 interrupted (at 200 steps); continue with: sac-bench run line.toml" in errors
    fleet.gates.open()
    fleet.run(*RUN, "--results", "killed")
    assert comparable(results) == comparable(reference)
    assert names(results) == names(reference)


@pytest.mark.soak
def test_a_study_is_searched_on_the_cluster(fleet):
    fleet.run("tune", "study.toml", "--results", "study-here", "--workers", "2", ray=False)
    fleet.run("tune", "study.toml", "--results", "study-ray", "--workers", "2")
    here, there = fleet.folder / "study-here", fleet.folder / "study-ray"
    assert comparable(there) == comparable(here)
    assert names(there) == names(here)
    assert (there / "tiny-study" / "best.toml").read_text() == (here / "tiny-study" / "best.toml").read_text()


@pytest.mark.soak
def test_a_node_with_another_version_is_refused_and_both_are_named(fleet, tmp_path):
    shutil.copytree(Path(sac_bench.__file__).parent, tmp_path / "sac_bench", symlinks=False)
    with open(tmp_path / "sac_bench" / "errors.py", "a", encoding="utf-8") as file:
        file.write("# another version\n")
    fleet.cluster.remove_node(fleet.others.pop())
    node = fleet.cluster.add_node(**NODE, env_vars={"PYTHONPATH": str(tmp_path)})
    try:
        process = fleet.start(*RUN, "--results", "versions")
        _, errors = process.communicate(timeout=100)
        assert process.returncode == 2, errors
        (line,) = [line for line in errors.splitlines() if "install the same versions" in line]
        assert line.count("sac_bench 0.1.0 (sources ") == 2
        assert "torch" not in line
    finally:
        fleet.cluster.remove_node(node)
