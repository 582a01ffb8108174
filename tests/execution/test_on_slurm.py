"""The script of `sac-bench slurm` under a real SLURM: its daemons on loopback, with a partition of one node."""

import getpass
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import sac_bench
from tests import forked
from tests.conftest import sac_bench_environment, small
from tests.execution.test_faults import comparable
from tests.waiting import LINE, Gates, wait_until

SECONDS = 900
"""For a busy machine; an idle one needs half a minute."""
DAEMONS = ("slurmctld", "slurmd")
pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(not all(map(shutil.which, DAEMONS)), reason="needs Debian's slurmctld and slurmd"),
]
CONF = """
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={control}
SlurmdPort={node}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
SchedulerParameters=sched_interval=1,requeue_delay=1
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 CPUs=1 RealMemory=1000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
SLURM = "slurm line.toml --jobs 1 --cores 1 --time 1:00:00 --options '--import line'"
SBATCH = ("sbatch", "--parsable", "--wait")


def free_ports(count):
    """Return ports that nothing listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Cluster:
    """SLURM's daemons, and a folder from which jobs are submitted."""

    def __init__(self, folder):
        self.folder, self.gates = folder, Gates(folder, (150, 250))
        own = folder / "slurm"
        (own / "state").mkdir(parents=True)
        (own / "spool").mkdir()
        control, node = free_ports(2)
        about = {"host": socket.gethostname().partition(".")[0], "user": getpass.getuser(), "folder": own}
        (own / "slurm.conf").write_text(CONF.format(**about, control=control, node=node))
        program = folder / "bin" / "sac-bench"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m sac_bench.cli.main "$@"\n')
        program.chmod(0o755)
        self.environment = sac_bench_environment() | {
            "SLURM_CONF": str(own / "slurm.conf"),
            "SAC_BENCH_TEST_GATES": str(folder),
            "PATH": f"{program.parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(Path(sac_bench.__file__).parents[1]),
        }
        (folder / "line.py").write_text(LINE)
        (folder / "line.toml").write_text(small("line", "gymnasium:Line-v0", steps=300, utd=0.2))
        self.daemons = [
            subprocess.Popen([name, "-D"], env=self.environment, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for name in DAEMONS
        ]
        log = own / "slurmd.log"
        wait_until(lambda: log.exists() and "slurmd started" in log.read_text(), own, self.daemons[1])

    def ask(self, *command):
        """Return the output of one of SLURM's commands."""
        ran = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=SECONDS
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout.strip()

    def submit(self, results):
        """Start a command that submits the script of an array of one job, and ends when the job has ended."""
        script = forked.python(
            forked.COMMAND,
            [*shlex.split(SLURM), "--results", results],
            cwd=self.folder,
            env=self.environment,
            timeout=SECONDS,
        )
        assert script.returncode == 0, script.stderr
        job = subprocess.Popen(
            SBATCH, cwd=self.folder, env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        job.stdin.write(script.stdout)
        job.stdin.close()
        return job

    def wait_for(self, steps, job, results):
        """Wait until both runs are saved at these steps."""

        def is_saved():
            logs = [path.read_text() for path in (self.folder / results).glob("runs/*/log.txt")]
            return [f"step {steps}:" in log for log in logs] == [True] * 2

        wait_until(is_saved, self.folder, job, SECONDS)

    def close(self):
        """End the daemons and what they have started."""
        for daemon in self.daemons:
            daemon.terminate()
        for daemon in self.daemons:
            daemon.wait(timeout=30)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def reference(cluster):
    """The results of the command without SLURM."""
    ran = forked.python(
        forked.WITHOUT_FIGURES,
        ["run", "line.toml", "--import", "line", "--results", "here", "--workers", "1"],
        cwd=cluster.folder,
        env=cluster.environment,
        timeout=SECONDS,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return comparable(cluster.folder / "here")


@pytest.mark.timeout(3 * SECONDS)
@pytest.mark.parametrize(
    "interruption", [("scancel", "--signal=TERM"), ("scontrol", "requeue")], ids=["a signal", "a requeue by SLURM"]
)
def test_an_interrupted_job_is_queued_again_and_ends_in_the_same_bytes(interruption, cluster, reference):
    results = interruption[0]
    cluster.gates.close(150)
    job = cluster.submit(results)
    number = job.stdout.readline().strip()
    cluster.wait_for(100, job, results)
    cluster.ask(*interruption, f"{number}_1")
    cluster.gates.open()
    assert job.wait(timeout=SECONDS) == 0, "".join(path.read_text() for path in cluster.folder.glob("*.log"))
    assert comparable(cluster.folder / results) == reference
    logs = [path.read_text() for path in (cluster.folder / results).glob("runs/*/log.txt")]
    assert [[log.count(f"step {step}:") for step in (0, 100, 200, 300)] for log in logs] == [[1, 1, 1, 1]] * 2
    assert re.search(r"Restarts=1\b", cluster.ask("scontrol", "show", "job", number))
