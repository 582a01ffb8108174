"""Compare an experiment's reference variant with Stable-Baselines3's SAC under the same settings and steps.

    python benchmarks/compare_sb3.py experiments/ablation-quick.toml --peer .venv-peers/bin/python --seeds 5

Ours is trained (or reused) through the ordinary store; the peer by benchmarks/reference_sb3.py in its own
virtual environment. Writes both sides' scores, their means with 95% intervals and the difference to
results/record/reference-sb3/.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd

from sac_bench.analysis.statistics import difference_interval, mean_interval, run_score
from sac_bench.analysis.tables import markdown
from sac_bench.experiment import load
from sac_bench.store import load_results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment", type=Path)
    parser.add_argument("--peer", default=".venv-peers/bin/python")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--out", type=Path, default=Path("results/record/reference-sb3"))
    arguments = parser.parse_args()

    experiment = load(arguments.experiment, seeds=arguments.seeds)
    variant, env = experiment.variants[experiment.reference], experiment.envs[0]
    name = f"{experiment.name}-against-sb3"
    subprocess.run(
        [sys.executable, "-m", "sac_bench.cli", "run", str(arguments.experiment), "--variant", variant.name,
         "--seeds", str(arguments.seeds), "--name", name, "--results", str(arguments.results)],
        check=True,
    )  # fmt: skip
    ours = load_results(name, arguments.results).evaluations.query("policy == 'mean'")

    arguments.out.mkdir(parents=True, exist_ok=True)
    curves, settings = arguments.out / "sb3-evaluations.csv", arguments.out / "settings.json"
    asked = {"env": env, "steps": variant.steps, "seeds": list(experiment.seeds),
             "config": variant.config.model_dump(mode="json")}  # fmt: skip
    if not (settings.exists() and json.loads(settings.read_text()) == asked):
        curves.unlink(missing_ok=True)
        settings.write_text(json.dumps(asked, indent=1) + "\n")
    if not curves.exists():
        script = Path(__file__).with_name("reference_sb3.py")
        subprocess.run([arguments.peer, str(script), str(settings), str(curves)], check=True)
    peer = pd.read_csv(curves)
    columns = ["seed", "step", "return_mean", "episodes"]
    ours[columns].to_csv(arguments.out / "ours-evaluations.csv", index=False)

    scores = {who: [run_score(g["step"], g["return_mean"], variant.steps) for _, g in rows.groupby("seed")]
              for who, rows in (("sac_bench", ours), ("Stable-Baselines3", peer))}  # fmt: skip
    rows = []
    for who, values in scores.items():
        mean = mean_interval(values)
        seeds = ", ".join(f"{value:.0f}" for value in values)
        rows.append({"learner": who, "score": f"{mean.value:.0f}", "95% CI": f"[{mean.low:.0f}, {mean.high:.0f}]",
                     "seeds": seeds})  # fmt: skip
    gap = difference_interval(*scores.values())
    ratio = sum(scores["sac_bench"]) / sum(scores["Stable-Baselines3"])
    text = (
        f"# {experiment.reference} of {experiment.name} against Stable-Baselines3\n\n"
        f"{env}, {variant.steps:,} steps, {arguments.seeds} seeds, the settings of `settings.json` on both sides. "
        "Score: mean return of the mean action over the evaluations in the last 10% of the steps.\n\n"
        f"{markdown(pd.DataFrame(rows))}\n\n"
        f"Ratio of means {ratio:.2f}; difference {gap.value:.0f}, 95% CI [{gap.low:.0f}, {gap.high:.0f}] (Welch).\n"
    )
    (arguments.out / "table.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
