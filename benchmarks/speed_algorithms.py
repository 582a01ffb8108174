"""How fast each algorithm trains, against SAC, and PPO against Stable-Baselines3's, in turns on one core.

    python benchmarks/speed_algorithms.py [--peers .venv-peers/bin/python] [--out results/record/benchmark/algorithms]

Default settings on HalfCheetah-v5, one run each (PPO in 8 environments), full training steps: environment, replay and
updates. Rounds as in benchmarks/speed.py; about five minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import pandas as pd
from speed import HERE, ROUNDS, _cpu, _shown, ours, started

from sac_bench.report.tables import markdown

ENV, SECONDS = "HalfCheetah-v5", 5.0
ALGORITHMS = {name: {"algorithm": name} for name in ("sac", "td3", "ddpg", "sql")}
ALGORITHMS["ppo, 8 environments"] = {"algorithm": "ppo", "num_envs": 8}
PEER = "Stable-Baselines3's PPO, 8 environments"


def measure(peers: str, core: int) -> pd.DataFrame:
    """Rows: round, implementation, steps per second."""
    commands = {name: ours(env=ENV, **options) for name, options in ALGORITHMS.items()}
    commands[PEER] = [peers, str(HERE / "speed_peer.py"), "sb3-ppo", ENV]
    rows = []
    with started(commands, [core]) as subjects:
        for turn in range(ROUNDS):
            for name, (subject,) in subjects.items():
                subject.ask("train", SECONDS)
                rows.append({"round": turn, "implementation": name, "steps": subject.answer()["steps"]})
            print(f"round {turn + 1} of {ROUNDS}", flush=True)
    return pd.DataFrame(rows)


def table(rounds: pd.DataFrame) -> pd.DataFrame:
    """Medians over rounds, and medians of each round's ratios to SAC and to the peer."""
    rates = rounds.pivot_table(index="round", columns="implementation", values="steps", sort=False)
    to_sac = rates.div(rates["sac"], axis=0).median()
    to_peer = rates.filter(regex="(?i)ppo").div(rates[PEER], axis=0).median()
    columns = {"steps/s": rates.median(), "x sac": to_sac, "x Stable-Baselines3": to_peer}
    return pd.DataFrame(columns).reindex(rates.columns).rename_axis("implementation").reset_index()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default=sys.executable, help="a Python that has Stable-Baselines3")
    parser.add_argument("--out", type=Path, default=Path("results/record/benchmark/algorithms"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rounds = measure(options.peers, min(os.sched_getaffinity(0)))
    rounds.to_csv(options.out / "rounds.csv", index=False, float_format="%.6g")
    summary = table(rounds)
    summary.to_csv(options.out / "table.csv", index=False, float_format="%.4g")
    (options.out / "table.md").write_text(markdown(summary.map(_shown)), encoding="utf-8")
    (options.out / "machine.json").write_text(
        json.dumps({"device": _cpu(), "rounds": ROUNDS, "seconds a turn": SECONDS}), encoding="utf-8"
    )
    print((options.out / "table.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
