"""Compare our SAC, TD3 and DDPG with Stable-Baselines3's under the same settings, steps and number of seeds.

    python benchmarks/parity.py [benchmarks/parity.toml] [--results results] [--out results/record/parity]

Ours is trained, or reused, through the ordinary store; the peer by benchmarks/parity_sb3.py, one process per core,
and its finished runs are kept in RESULTS/parity-sb3/. Writes both sides' evaluations, a table with the 95% interval
of the difference, and the curves.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sac_bench.analysis.statistics import Estimate, difference_interval, mean_interval, run_score
from sac_bench.report.tables import markdown
from sac_bench.results.load import load_results
from sac_bench.spec.experiment import Experiment
from sac_bench.spec.load import load
from sac_bench.spec.run import RunSpec
from sac_bench.spec.variant import Variant

OURS, PEER = "sac_bench", "Stable-Baselines3"
COLUMNS = ["variant", "env", "seed", "step", "return_mean"]
VERSIONS = {name: version(name) for name in ("stable-baselines3", "gymnasium", "mujoco", "torch")}


def train_ours(file: Path, results: Path) -> pd.DataFrame:
    """Evaluations by the mean action: variant, env, seed, step, return_mean."""
    command = [sys.executable, "-m", "sac_bench.cli.main", "run", str(file), "--results", str(results)]
    subprocess.run(command, check=True)
    trained = load_results(load(file).name, results)
    if set(trained.runs["status"]) != {"finished"}:
        raise SystemExit(f"not all of ours finished: {trained.runs['status'].value_counts().to_dict()}")
    rows = trained.evaluations.query("policy == 'mean' and step > 0")
    return rows[COLUMNS]


def train_peer(experiment: Experiment, folder: Path) -> pd.DataFrame:
    """The same of Stable-Baselines3, as many runs at once as there are cores."""
    folder.mkdir(parents=True, exist_ok=True)

    def run(variant: Variant, spec: RunSpec) -> pd.DataFrame:
        payload = json.dumps(
            {
                "algorithm": spec.algorithm,
                "env": spec.env,
                "seed": spec.seed,
                "steps": variant.steps[spec.env],
                "config": spec.config.model_dump(mode="json"),
                "versions": VERSIONS,
            },
            indent=1,
        )
        out = folder / f"{hashlib.sha256(payload.encode()).hexdigest()[:12]}.csv"
        if not out.exists():
            settings = out.with_suffix(".json")
            settings.write_text(payload, encoding="utf-8")
            script = Path(__file__).with_name("parity_sb3.py")
            subprocess.run([sys.executable, str(script), str(settings), str(out)], check=True)
            print(f"{PEER}: {variant.name} on {spec.env}, seed {spec.seed}, is done", flush=True)
        return pd.read_csv(out).assign(variant=variant.name, env=spec.env, seed=spec.seed)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return pd.concat(list(pool.map(lambda task: run(*task), experiment.runs())))[COLUMNS]


def measures(rows: pd.DataFrame, steps: int) -> dict[str, list[float]]:
    """{measure: one value per seed} of one environment's evaluations."""
    runs = [run for _, run in rows.groupby("seed")]
    return {
        "last 10%": [run_score(run["step"], run["return_mean"], steps) for run in runs],
        "whole curve": [float(run["return_mean"].mean()) for run in runs],
    }


def compare(ours: pd.DataFrame, peer: pd.DataFrame, steps: int) -> Iterator[dict[str, Any]]:
    """One row per variant, environment and measure."""
    for variant, env in ours[["variant", "env"]].drop_duplicates().itertuples(index=False):
        pair = [measures(_of(rows, variant, env), steps) for rows in (ours, peer)]
        for measure in pair[0]:
            a, b = (side[measure] for side in pair)
            gap = difference_interval(a, b)
            yield {
                "algorithm": variant,
                "environment": env,
                "measure": measure,
                OURS: _interval(mean_interval(a)),
                PEER: _interval(mean_interval(b)),
                "difference": _interval(gap),
                "excludes 0": "yes" if gap.low > 0 or gap.high < 0 else "no",
            }


def _of(rows: pd.DataFrame, variant: str, env: str) -> pd.DataFrame:
    return rows[(rows["variant"] == variant) & (rows["env"] == env)]


def _interval(estimate: Estimate) -> str:
    return f"{estimate.value:.0f} [{estimate.low:.0f}, {estimate.high:.0f}]"


def curves(ours: pd.DataFrame, peer: pd.DataFrame) -> Figure:
    """Above: every seed, the means and their intervals. Below: the difference of the means and its interval."""
    sns.set_theme(style="whitegrid", context="paper", rc={"svg.hashsalt": "sac_bench", "figure.dpi": 150})
    pairs = list(ours[["variant", "env"]].drop_duplicates().itertuples(index=False))
    figure, axes = plt.subplots(
        2,
        len(pairs),
        figsize=(4.4 * len(pairs), 5),
        sharex="col",
        squeeze=False,
        height_ratios=[2, 1],
        layout="constrained",
    )
    colors = dict(zip((OURS, PEER), sns.color_palette("colorblind"), strict=False))
    for (above, below), (variant, env) in zip(axes.T, pairs, strict=True):
        sides = {
            name: _of(rows, variant, env).pivot_table(index="seed", columns="step", values="return_mean")
            for name, rows in ((OURS, ours), (PEER, peer))
        }
        for name, table in sides.items():
            above.plot(table.columns, table.T, color=colors[name], linewidth=0.5, alpha=0.5)
            _band(
                above,
                table.columns,
                [mean_interval(table[step]) for step in table],
                colors[name],
                f"{name} (n={len(table)})",
            )
        gaps = [difference_interval(*(table[step] for table in sides.values())) for step in sides[OURS]]
        _band(below, sides[OURS].columns, gaps, "black", None)
        below.axhline(0, color="gray", linewidth=0.8)
        above.set(title=f"{variant} on {env}")
        above.legend(loc="upper left", fontsize=7)
        below.set_xlabel("environment steps")
        below.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=""))
    axes[0][0].set_ylabel("return, mean action\n(mean, 95% t interval, seeds)")
    axes[1][0].set_ylabel(f"{OURS} - {PEER}\n(95% Welch interval\nat each step)", fontsize=8)
    return figure


def _band(axis: Axes, at: pd.Index, estimates: list[Estimate], color: Any, label: str | None) -> None:
    value, low, high = np.array(estimates).T
    axis.plot(at, value, color=color, linewidth=1.8, label=label)
    axis.fill_between(at, low, high, color=color, alpha=0.15, linewidth=0)


def write_report(ours: pd.DataFrame, peer: pd.DataFrame, settings: str, steps: int, out: Path) -> str:
    """Evaluations, curves and table under `out`; returns the table's text."""
    out.mkdir(parents=True, exist_ok=True)
    both = pd.concat([ours.assign(learner=OURS), peer.assign(learner=PEER)])
    both.to_csv(out / "evaluations.csv", index=False, float_format="%.3f")
    figure = curves(ours, peer)
    figure.savefig(out / "curves.svg", metadata={"Date": None})
    figure.savefig(out / "curves.png")
    text = (
        f"# {_names(ours)} here and in {PEER} {VERSIONS['stable-baselines3']}\n\n"
        f"{ours['seed'].nunique()} seeds each, {steps:,} steps, the settings of `{settings}` on both sides; {OURS} on "
        f"EnvPool {version('envpool')} (its MuJoCo is 3.6.0), the peer on Gymnasium {VERSIONS['gymnasium']} (MuJoCo "
        f"{VERSIONS['mujoco']}). Returns of the mean action: mean over seeds with Student's 95% interval; differences "
        "with Welch's. Seeds share a number, not their weights and noise.\n\n"
        f"{markdown(pd.DataFrame(compare(ours, peer, steps)))}\n\n"
        "The measure asked about is the last 10% of the steps; the whole curve is a second look at the same runs. An "
        "interval that holds 0 is no proof of equality: a gap below half its width would not show. That the two "
        "learners compute the same is shown update by update (docs/correctness.md); this shows that what surrounds "
        "the update (environments, replay, exploration, evaluation) does no visible harm. The lower panels' intervals "
        "hold at each step, not for all steps at once.\n\n![Curves](curves.png)\n"
    )
    (out / "README.md").write_text(text, encoding="utf-8")
    return text


def _names(rows: pd.DataFrame) -> str:
    return " and ".join(name.upper() for name in rows["variant"].unique())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", type=Path, nargs="?", default=Path(__file__).with_suffix(".toml"))
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--out", type=Path, default=Path("results/record/parity"))
    arguments = parser.parse_args()

    experiment = load(arguments.experiment)
    ours = train_ours(arguments.experiment, arguments.results)
    peer = train_peer(experiment, arguments.results / "parity-sb3")
    print(write_report(ours, peer, arguments.experiment.name, experiment.steps, arguments.out))


if __name__ == "__main__":
    main()
