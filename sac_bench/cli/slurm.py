"""sac-bench slurm: print a batch script for a SLURM cluster."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Optional

import typer

from sac_bench.cli.common import LEFT_TO_OTHERS, OUT_OF_TIME, ResultsOption, app, say, user_errors
from sac_bench.errors import InputError
from sac_bench.store.atomic import BESIDE

MARGIN_SECONDS = 600.0
"""The most time between the end of the last segment and the job's limit; a sixth of a short job."""
SIGNAL_SECONDS = 120
"""Before its limit a job gets SIGTERM: a save that has begun has time to end."""


@dataclass(frozen=True)
class Jobs:
    """An array of jobs: how many, what each gets, and for how many seconds."""

    count: int
    gpus: int
    cores: int
    seconds: float
    partition: str | None = None

    @property
    def workers(self) -> int:
        """The workers of all jobs: one per GPU, or per core."""
        return self.count * (self.gpus or self.cores)


def script(command: str, name: str, jobs: Jobs, results: Path) -> str:
    """Return a batch script: every job of the array runs the same command, and trains what no other job trains.

    A job that ends by its limit is queued again; SLURM does that itself for one that is preempted or whose node fails.
    It is not queued again if a user cancels it, or if no job saved a segment meanwhile: the next would not either.
    """
    late = jobs.seconds - 2 * SIGNAL_SECONDS
    until = jobs.seconds - min(MARGIN_SECONDS, jobs.seconds / 6)
    gpus = f"#SBATCH --gpus-per-task={jobs.gpus}\n" if jobs.gpus else ""
    partition = f"#SBATCH --partition={shlex.quote(jobs.partition)}\n" if jobs.partition else ""
    device = "cuda" if jobs.gpus else "cpu"
    return f"""#!/bin/bash
#SBATCH --job-name={re.sub(r"[^A-Za-z0-9._-]", "_", name)}
#SBATCH --array=1-{jobs.count}
#SBATCH --ntasks=1
#SBATCH --cpus-per-task={jobs.cores}
{gpus}{partition}#SBATCH --time={clock_time(jobs.seconds)}
#SBATCH --signal=TERM@{SIGNAL_SECONDS}
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%A_%a.log

# The folder must be shared by all nodes: sac-bench doctor tests it. Once all jobs have ended, the command without
# --until, --no-wait and --plan-for trains nothing more and writes the report.
results={shlex.quote(str(results))}
began="$results/{BESIDE}job-${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
mkdir -p "$results/runs" && touch "$began"
srun {command} --device {device} --until {clock_time(until)} --no-wait --plan-for {jobs.workers}
code=$?
saved=$(find "$results/runs" -name evaluations.csv -newer "$began" -print -quit)
rm -f "$began"
# {OUT_OF_TIME}: --until left runs. 143: SIGTERM, by SLURM if it comes late. The same command continues.
if [ $code -eq {OUT_OF_TIME} ] || {{ [ $code -eq 143 ] && [ $SECONDS -ge {late:.0f} ] && [ -n "$saved" ]; }}; then
    scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
fi
# {LEFT_TO_OTHERS}: the other jobs train what is left.
[ $code -eq {LEFT_TO_OTHERS} ] && exit 0
exit $code
"""


def clock_time(seconds: float) -> str:
    """Return "4:00:00", or "2-04:00:00" from a day on."""
    days, rest = divmod(int(seconds), 86_400)
    hours, minutes = divmod(rest // 60, 60)
    return (f"{days}-{hours:02}" if days else str(hours)) + f":{minutes:02}:{rest % 60:02}"


@app.command()
def slurm(
    experiments: Annotated[list[Path], typer.Argument(help="Experiments or folders, as for sac-bench run.")],
    jobs: Annotated[int, typer.Option(metavar="N", min=1, max=10_000, help="Jobs in the array.")] = 8,
    gpus: Annotated[int, typer.Option(metavar="N", min=0, max=64, help="GPUs per job; 0 trains on CPUs.")] = 0,
    cores: Annotated[int, typer.Option(metavar="N", min=1, max=4096, help="Cores per job.")] = 8,
    time: Annotated[str, typer.Option(metavar="H:MM:SS", help="Limit of each job.")] = "4:00:00",
    partition: Annotated[Optional[str], typer.Option(help="SLURM's partition.")] = None,
    options: Annotated[str, typer.Option(metavar="WORDS", help="More options of sac-bench run, quoted.")] = "",
    results: ResultsOption = Path("results"),
) -> None:
    """Print a batch script for SLURM: sac-bench slurm FILE --jobs 8 --gpus 1 --time 4:00:00 | sbatch."""
    with user_errors():
        from sac_bench.execution.budget import TimeLimit
        from sac_bench.spec.includes import files
        from sac_bench.spec.names import find_all

        files(find_all(experiments))  # they must exist
        try:
            seconds = TimeLimit.parse(time, lambda: 0.0).left
            words = shlex.split(options)
        except InputError as error:
            raise InputError(str(error).replace("--until", "--time")) from None
        except ValueError as error:
            raise InputError(f"--options {options}: {error}") from None
        if seconds < 600:
            raise InputError(f"--time {time}: must be at least 10 minutes")
        command = shlex.join(["sac-bench", "run", *map(str, experiments), "--results", str(results), *words])
        name = f"sac-bench-{experiments[0].stem}"
        say(script(command, name, Jobs(jobs, gpus, cores, seconds, partition), results).rstrip())
