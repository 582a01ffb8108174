"""Train Stable-Baselines3's SAC once and write its evaluations: the peer's side of benchmarks/parity.py.

    python benchmarks/parity_sb3.py SETTINGS.json OUT.csv

SETTINGS.json holds {"env", "seed", "steps", "config"}. One of Gymnasium's environments at a time, as its users
train; evaluated by its deterministic action at the same steps, with as many episodes, as ours.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import gymnasium
import pandas as pd
import torch
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from sac_bench.algorithms.sac import SACConfig

PASSED_ON = {
    "actor_lr", "critic_lr", "temperature_lr", "replay_capacity", "learning_starts", "batch_size", "tau", "gamma",
    "layers", "critics", "eval_every", "eval_episodes",
}  # fmt: skip
"""Settings that Stable-Baselines3's SAC is given, or that say how it is judged."""
OF_OURS_ALONE = {"value_lr", "pool_episodes"}
"""Settings without a meaning there: no V network, no pools."""


class Evaluate(BaseCallback):
    """Deterministic evaluation every `every` steps on an environment of its own."""

    def __init__(self, env_id: str, seed: int, every: int, episodes: int) -> None:
        super().__init__()
        self.env = Monitor(gymnasium.make(env_id))
        self.env.reset(seed=seed + 10_000)
        self.every, self.episodes = every, episodes
        self.rows: list[dict[str, float]] = []

    def _on_step(self) -> bool:
        if self.num_timesteps % self.every == 0:
            returns, _ = evaluate_policy(self.model, self.env, self.episodes, return_episode_rewards=True)
            self.rows.append({"step": self.num_timesteps, "return_mean": sum(returns) / len(returns)})
        return True


def train(asked: dict[str, Any]) -> pd.DataFrame:
    """Evaluations of one run: columns step, return_mean."""
    c = asked["config"]
    defaults = SACConfig().model_dump(mode="json")
    changed = {name for name, value in c.items() if value != defaults[name]} - PASSED_ON - OF_OURS_ALONE
    if changed or len({c["actor_lr"], c["critic_lr"], c["temperature_lr"]}) > 1:
        raise SystemExit(f"not passed on to Stable-Baselines3: {', '.join(sorted(changed)) or 'rates that differ'}")
    model = SAC(
        "MlpPolicy",
        gymnasium.make(asked["env"]),
        learning_rate=c["critic_lr"],
        buffer_size=c["replay_capacity"],
        learning_starts=c["learning_starts"],
        batch_size=c["batch_size"],
        tau=c["tau"],
        gamma=c["gamma"],
        ent_coef="auto",
        target_entropy="auto",
        policy_kwargs={"net_arch": c["layers"], "n_critics": c["critics"]},
        seed=asked["seed"],
        device="cpu",
    )
    judge = Evaluate(asked["env"], asked["seed"], c["eval_every"], c["eval_episodes"])
    model.learn(asked["steps"], judge)
    return pd.DataFrame(judge.rows)


if __name__ == "__main__":
    torch.set_num_threads(1)
    settings, out = map(Path, sys.argv[1:])
    evaluations = train(json.loads(settings.read_text()))
    unfinished = out.with_suffix(".part")
    evaluations.to_csv(unfinished, index=False)
    unfinished.replace(out)
