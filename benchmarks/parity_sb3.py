"""Train Stable-Baselines3's SAC, TD3 or DDPG once and write its evaluations: the peer's side of benchmarks/parity.py.

    python benchmarks/parity_sb3.py SETTINGS.json OUT.csv

SETTINGS.json holds {"algorithm", "env", "seed", "steps", "config"}. One of Gymnasium's environments at a time, as its
users train; evaluated by its deterministic action at the same steps, with as many episodes, as ours.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pandas as pd
import torch
from stable_baselines3 import DDPG, SAC, TD3
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from sac_bench.algorithms import ALGORITHMS

COMMON = {
    "actor_lr",
    "critic_lr",
    "replay_capacity",
    "learning_starts",
    "batch_size",
    "tau",
    "gamma",
    "layers",
    "critics",
    "eval_every",
    "eval_episodes",
}
NOISE = {"target_noise", "target_noise_clip", "policy_delay", "exploration_noise"}
PASSED_ON = {"sac": COMMON | {"temperature_lr"}, "td3": COMMON | NOISE, "ddpg": COMMON | {"exploration_noise"}}
"""Settings that Stable-Baselines3 is given, or that say how it is table_differences."""
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


def make(options: dict[str, Any]) -> OffPolicyAlgorithm:
    """Return the peer with these settings. Raises SystemExit for a setting that it does not support."""
    c, algorithm = options["config"], options["algorithm"]
    defaults = ALGORITHMS[algorithm].config().model_dump(mode="json")
    changed = {name for name, value in c.items() if value != defaults[name]} - PASSED_ON[algorithm] - OF_OURS_ALONE
    if changed or len({c[name] for name in ("actor_lr", "critic_lr", "temperature_lr") if name in c}) > 1:
        raise SystemExit(f"not passed on to Stable-Baselines3: {', '.join(sorted(changed)) or 'rates that differ'}")
    env = gymnasium.make(options["env"])
    settings: dict[str, Any] = {
        "learning_rate": c["critic_lr"],
        "buffer_size": c["replay_capacity"],
        "learning_starts": c["learning_starts"],
        "batch_size": c["batch_size"],
        "tau": c["tau"],
        "gamma": c["gamma"],
        "train_freq": 1,
        "gradient_steps": 1,
        "policy_kwargs": {"net_arch": c["layers"], "n_critics": c["critics"]},
        "seed": options["seed"],
        "device": "cpu",
    }
    if algorithm == "sac":
        return SAC("MlpPolicy", env, ent_coef="auto", target_entropy="auto", **settings)
    a = env.action_space.shape[0]
    settings["action_noise"] = NormalActionNoise(np.zeros(a), np.full(a, c["exploration_noise"]))
    if algorithm == "ddpg":
        return DDPG("MlpPolicy", env, **settings)
    smoothing = {"target_policy_noise": c["target_noise"], "target_noise_clip": c["target_noise_clip"]}
    return TD3("MlpPolicy", env, policy_delay=c["policy_delay"], **smoothing, **settings)


def train(options: dict[str, Any]) -> pd.DataFrame:
    """Evaluations of one run: columns step, return_mean."""
    c = options["config"]
    judge = Evaluate(options["env"], options["seed"], c["eval_every"], c["eval_episodes"])
    make(options).learn(options["steps"], judge)
    return pd.DataFrame(judge.rows)


if __name__ == "__main__":
    torch.set_num_threads(1)
    settings, out = map(Path, sys.argv[1:])
    evaluations = train(json.loads(settings.read_text(encoding="utf-8")))
    unfinished = out.with_suffix(".part")
    evaluations.to_csv(unfinished, index=False)
    unfinished.replace(out)
