"""Train a peer's SAC on command: what benchmarks/speed.py starts, with the Python of the peers' environment.

    python benchmarks/speed_peer.py sb3 HalfCheetah-v5          (or sbx, or sb3-ppo)

Speaks as benchmarks/speed_ours.py does. Settings: 2x256 networks, batches of 256, one update per step, learned
temperature, a replay of a million; the environment is Gymnasium's, as these libraries use it.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import gymnasium
from stable_baselines3.common.callbacks import BaseCallback

WARM_UP = 1100


class OnCommand(BaseCallback):
    """Continues the training for the time in each command."""

    def __init__(self, update: Callable[[], None], warm_up: int = WARM_UP) -> None:
        super().__init__()
        self._update, self._until, self._warm_up, self._warm = update, 0.0, warm_up, False
        self._began = self._first = 0.0

    def _on_step(self) -> bool:
        if not self._warm and self.num_timesteps >= self._warm_up:
            self._warm = True
            say({"ready": True})
            return self._next_command()
        if self._warm and time.perf_counter() >= self._until:
            self._say_done(self.num_timesteps - self._first, self.num_timesteps - self._first)
            return self._next_command()
        return True

    def _next_command(self) -> bool:
        for line in sys.stdin:
            name, seconds = line.split()
            self._began, self._first = time.perf_counter(), self.num_timesteps
            self._until = self._began + float(seconds)
            if name == "train":
                return True
            updates = 0
            while time.perf_counter() < self._until:
                self._update()
                updates += 1
            self._say_done(0, updates)
        return False

    def _say_done(self, steps: int, updates: int) -> None:
        seconds = time.perf_counter() - self._began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        say({"seconds": seconds, "steps": steps, "updates": updates, "peak_bytes": peak})


def main() -> None:
    library, env = sys.argv[1:]
    if library == "sb3-ppo":
        ppo(env)
    shared: dict[str, Any] = {"learning_starts": 1000, "batch_size": 256, "buffer_size": 1_000_000}
    if library == "sb3":
        import torch
        from stable_baselines3 import SAC

        torch.set_num_threads(1)
        shared["device"] = "cpu"
    else:
        from sbx import SAC
    model = SAC("MlpPolicy", gymnasium.make(env), learning_rate=3e-4, policy_kwargs={"net_arch": [256, 256]}, **shared)
    model.learn(10**9, callback=OnCommand(lambda: model.train(gradient_steps=1, batch_size=256)))


def ppo(env: str) -> None:
    """PPO with the settings of ours: 8 environments, a rollout of 2048 transitions, 10 epochs of batches of 64."""
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env

    torch.set_num_threads(1)
    model = PPO("MlpPolicy", make_vec_env(env, 8), n_steps=256, batch_size=64, n_epochs=10, device="cpu")
    model.learn(10**9, callback=OnCommand(model.train, warm_up=2 * 2048))


def say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
