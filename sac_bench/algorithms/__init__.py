"""The algorithms by name. An algorithm is a config class, a function that makes its learner, and a version."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from sac_bench.algorithms import gradients, ppo, sac, sql, td3
from sac_bench.algorithms.config import TrainingConfig
from sac_bench.algorithms.metric import Metric
from sac_bench.algorithms.protocol import Learner
from sac_bench.envs import sources


@dataclass(frozen=True)
class Algorithm:
    """A config class, a function that makes a learner, and what the other modules need to know of them.

    version: raised whenever the numbers computed for a config change; part of every run's id, like the source of a
        user-defined algorithm (`definition`)
    scored_by: the actions whose evaluations are a run's score: mean ones or, if an algorithm has none, sampled ones
    metrics: definitions of the metrics that its learner reports; metrics without one are drawn under their names
    """

    name: str
    config: type[TrainingConfig]
    learner: Callable[..., Learner]
    version: int
    scored_by: Literal["mean", "sample"] = "mean"
    metrics: tuple[Metric, ...] = ()

    @property
    def definition(self) -> sources.Definition:
        """The sources of a user-defined algorithm; empty for those of sac_bench."""
        return {} if SHIPPED.get(self.name) is self else sources.of_algorithm(self.config, self.learner)


ALGORITHMS: dict[str, Algorithm] = {}


def register(algorithm: Algorithm) -> None:
    """Register an algorithm by name; raise ValueError if the name is taken or is not an identifier.

    `--import MODULE` loads a user's module that calls this (example in docs/algorithms.md).
    """
    if not algorithm.name.isidentifier():
        raise ValueError(f"an algorithm's name must be an identifier, not {algorithm.name!r}")
    if algorithm.name in ALGORITHMS:
        raise ValueError(f"an algorithm {algorithm.name!r} is already registered")
    ALGORITHMS[algorithm.name] = algorithm


SAC_METRICS = (*sac.METRICS, *sac.VALUE_METRICS, *gradients.METRICS)
register(Algorithm("sac", sac.SACConfig, sac.learner, sac.VERSION, metrics=SAC_METRICS))
register(Algorithm("td3", td3.TD3Config, td3.learner, td3.VERSION, metrics=td3.METRICS))
register(Algorithm("ddpg", td3.DDPGConfig, td3.learner, td3.VERSION, metrics=td3.METRICS))
register(Algorithm("ppo", ppo.PPOConfig, ppo.learner, ppo.VERSION, metrics=ppo.METRICS))
register(Algorithm("sql", sql.SQLConfig, sql.learner, sql.VERSION, scored_by="sample", metrics=sql.METRICS))

SHIPPED = dict(ALGORITHMS)
