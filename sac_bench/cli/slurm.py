"""sac-bench slurm: print a batch script for a SLURM cluster."""

from __future__ import annotations

import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Optional

import typer

from sac_bench.cli.common import LEFT_TO_OTHERS, OUT_OF_TIME, ResultsOption, app, say, user_errors
from sac_bench.errors import InputError, one_line
from sac_bench.store.atomic import TEMPORARY_PREFIX

MARGIN_SECONDS = 600.0
"""Between the end of the last segment and the job's limit, at most; a sixth of a short job."""
OWN_OPTIONS = ("--results", "--device", "--until", "--plan-for", "--no-wait")
"""Options of sac-bench run that the script sets."""
USUAL_MAX_ARRAY_INDEX = 1000
"""The highest index of a job in an array, unless a cluster sets another MaxArraySize."""
SIGNAL_SECONDS = 120
"""A job gets SIGTERM this long before its limit, so a save in progress can finish."""


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

    A job that ends by its limit, or by notice that it is preempted, is queued again; SLURM does that itself for one
    that is preempted without notice, or whose node fails. One that a user cancels is not: its state is no longer
    RUNNING. Neither is one during which no job has saved a segment: the next one would not, either. Only a save creates
    a checkpoint, and only the end of a run its weights; a cohort that resumes writes its tables again.
    """
    until = clock_time(jobs.seconds - min(MARGIN_SECONDS, jobs.seconds / 6))
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
began="$results/{TEMPORARY_PREFIX}job-${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
mkdir -p "$results/cohorts" "$results/runs" && touch "$began"
srun --cpus-per-task={jobs.cores} {command} --device {device} --until {until} --no-wait --plan-for {jobs.workers}
code=$?
saved=$(find "$results/cohorts" "$results/runs" -newer "$began" \\
    \\( -name 'checkpoint-*.json' -o -name weights.safetensors \\) -print -quit)
rm -f "$began"
# {OUT_OF_TIME}: --until left runs. 143: SIGTERM, by SLURM unless the job was cancelled. The same command continues.
state=$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T)
if [ $code -eq {OUT_OF_TIME} ] || {{ [ $code -eq 143 ] && [ "$state" = RUNNING ]; }}; then
    if [ -n "$saved" ]; then
        scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
    else
        echo "no job saved a segment: not queued again; lower eval_every, or raise --time" >&2
    fi
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


def own_words(options: str) -> list[str]:
    """Return the words of --options; InputError if there is one that the script sets, or that ends its options."""
    where = f"--options {one_line(options, 60)}"
    try:
        words = shlex.split(options)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from None
    for name in (word.partition("=")[0] for word in words):
        if name in OWN_OPTIONS:
            raise InputError(f"{where}: {name} is set by the script; leave it out")
    if "--" in words:
        raise InputError(f"{where}: after --, the script's own options would be names of files; leave it out")
    return words


@app.command(short_help="Print a batch script for SLURM.")
def slurm(
    experiments: Annotated[list[Path], typer.Argument(help="Experiments or folders, as for sac-bench run.")],
    jobs: Annotated[
        int, typer.Option(metavar="N", min=1, max=10_000, help="Jobs in the array (see MaxArraySize).")
    ] = 8,
    gpus: Annotated[int, typer.Option(metavar="N", min=0, max=64, help="GPUs per job; 0 trains on CPUs.")] = 0,
    cores: Annotated[int, typer.Option(metavar="N", min=1, max=4096, help="Cores per job.")] = 8,
    time: Annotated[str, typer.Option(metavar="H:MM:SS", help="Limit of each job.")] = "4:00:00",
    partition: Annotated[Optional[str], typer.Option(help="SLURM's partition.")] = None,
    options: Annotated[str, typer.Option(metavar="WORDS", help="More options of sac-bench run, quoted.")] = "",
    results: ResultsOption = Path("results"),
) -> None:
    """Print a batch script for SLURM: sac-bench slurm FILE --jobs 8 --gpus 1 --time 4:00:00 | sbatch."""
    with user_errors():
        from sac_bench.execution.budget import seconds_in
        from sac_bench.spec.includes import files, tables
        from sac_bench.spec.load import refuse_study
        from sac_bench.spec.names import find_all

        for file in files(find_all(experiments)):
            refuse_study(tables(file, quick=False)[0], str(file))
        words, seconds = own_words(options), seconds_in(time, "--time")
        if seconds < 600:
            raise InputError(f"--time {time}: must be at least 10 minutes")
        command = shlex.join(["sac-bench", "run", *map(str, experiments), "--results", str(results), *words])
        if jobs > USUAL_MAX_ARRAY_INDEX:
            print(
                f"sac-bench: --jobs {jobs}: most clusters allow {USUAL_MAX_ARRAY_INDEX} jobs in an array; "
                "scontrol show config | grep MaxArraySize",
                file=sys.stderr,
            )
        name = f"sac-bench-{experiments[0].stem}"
        say(script(command, name, Jobs(jobs, gpus, cores, seconds, partition), results).rstrip())
