"""sac-bench watch: a video of a trained policy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from sac_bench.cli.common import ImportOption, ResultsOption, app, console, import_modules, say, user_errors
from sac_bench.errors import counted

if TYPE_CHECKING:
    from sac_bench.evaluation.video import Episode


@app.command()
def watch(
    run: Annotated[str, typer.Argument(help="EXPERIMENT[/VARIANT[/ENVIRONMENT[/SEED]]], or a run's id.")],
    results: ResultsOption = Path("results"),
    out: Annotated[Optional[Path], typer.Option(metavar="FILE", help="The video: .mp4 or .gif.")] = None,
    episodes: Annotated[int, typer.Option(metavar="N", min=1, help="Number of episodes.")] = 1,
    sample: Annotated[
        bool, typer.Option("--sample", help="Sample the actions, as algorithms without a mean action always do.")
    ] = False,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed of the environment and the actions.")] = 0,
    import_: ImportOption = [],
) -> None:
    """Make a video of a trained policy."""
    with user_errors():
        import_modules(import_)
        from sac_bench.results.policies import find_run
        from sac_bench.store.store import Store

        run = find_run(run, results)
        say(f"loading run {run} and its simulator")  # at once: the following imports take seconds
        from sac_bench.algorithms import ALGORITHMS
        from sac_bench.evaluation import video
        from sac_bench.evaluation.policy import policy_of_run

        if out is not None:
            video.check_out(out)
        policy = policy_of_run(run, results)
        for difference in Store(results).run(run).differences():
            say(f"trained with {difference}; the video uses the current version")
        out = out or Path(f"{run}{'.mp4' if video.has_ffmpeg() else '.gif'}")
        say(
            f"{policy.spec.algorithm} on {policy.spec.env}, seed {policy.spec.seed}, {policy.steps:,} steps of training"
        )
        sampled = sample or ALGORITHMS[policy.spec.algorithm].scored_by == "sample"
        with _Shown(episodes) as shown:
            video.watch(policy, out, episodes, sampled, seed, shown.played)
        say(f"video: {out}")


class _Shown:
    """Shows the step of the current episode in a terminal, and a line for each episode that has ended."""

    def __init__(self, episodes: int) -> None:
        self._episodes, self._printed = episodes, 0
        self._status = console.status(self._now(0))

    def __enter__(self) -> _Shown:
        self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def played(self, ended: list[Episode], steps: int) -> None:
        """Show the episodes that have ended, and the steps of the current one."""
        for episode in ended[self._printed :]:
            self._printed += 1
            number = f"episode {self._printed} of {self._episodes}"
            say(f"{number}: return {episode.score:.1f} in {counted(episode.length, 'step')}")
        self._status.update(self._now(steps))

    def _now(self, steps: int) -> str:
        return f"playing episode {min(self._printed + 1, self._episodes)} of {self._episodes}: {counted(steps, 'step')}"
