"""Stable-Baselines3's SAC on an experiment's reference settings: the yardstick of results/record/reference-sb3/.

Runs in an environment of its own, beside the product's (`make reference-sb3`):

    python benchmarks/reference_sb3.py SETTINGS.json OUT.csv

SETTINGS.json holds {"env", "steps", "seeds", "config"} as benchmarks/compare_sb3.py writes it. Gymnasium's
environments, one at a time, as SB3 users run them; evaluated at the same steps with as many episodes.
"""

from __future__ import annotations

import csv
import json
import sys
import time

import gymnasium
import torch
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor


class Evaluate(BaseCallback):
    """Deterministic evaluation every `every` steps on an environment of its own."""

    def __init__(self, env_id: str, seed: int, every: int, episodes: int, rows: list[dict]) -> None:
        super().__init__()
        self.env = Monitor(gymnasium.make(env_id))
        self.env.reset(seed=seed + 10_000)
        self.seed, self.every, self.episodes, self.rows = seed, every, episodes, rows
        self.began = time.perf_counter()

    def _on_step(self) -> bool:
        if self.num_timesteps % self.every == 0:
            returns, _ = evaluate_policy(self.model, self.env, self.episodes, return_episode_rewards=True)
            mean = sum(returns) / len(returns)
            seconds = round(time.perf_counter() - self.began, 1)
            row = {"seed": self.seed, "step": self.num_timesteps, "return_mean": mean, "episodes": len(returns)}
            self.rows.append(row | {"wall_seconds": seconds})
            print(self.rows[-1], flush=True)
        return True


def main() -> None:
    with open(sys.argv[1]) as file:
        asked = json.load(file)
    c, rows = asked["config"], []
    torch.set_num_threads(1)
    for seed in asked["seeds"]:
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
            policy_kwargs={"net_arch": c["layers"]},
            seed=seed,
            device="cpu",
        )
        model.learn(asked["steps"], Evaluate(asked["env"], seed, c["eval_every"], c["eval_episodes"], rows))
    with open(sys.argv[2], "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
