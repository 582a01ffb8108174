"""sac-bench watch: a video of a trained policy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from sac_bench.cli.common import ImportOption, ResultsOption, app, import_modules, say, user_errors
from sac_bench.errors import counted


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
        from sac_bench.algorithms import ALGORITHMS
        from sac_bench.evaluation import video
        from sac_bench.evaluation.policy import policy_of_run
        from sac_bench.results.policies import find_run
        from sac_bench.store.store import Store

        if out is not None:
            video.check_out(out)
        run = find_run(run, results)
        policy = policy_of_run(run, results)
        for difference in Store(results).run(run).differences():
            say(f"trained with {difference}; the video uses the current version")
        out = out or Path(f"{run}{'.mp4' if video.has_ffmpeg() else '.gif'}")
        say(f"run {run}: {policy.spec.algorithm} on {policy.spec.env}, seed {policy.spec.seed}, {policy.steps:,} steps")
        sampled = sample or ALGORITHMS[policy.spec.algorithm].scored_by == "sample"
        for episode in video.watch(policy, out, episodes, sampled, seed):
            say(f"return {episode.score:.1f} in {counted(episode.length, 'step')}")
        say(f"video: {out}")
