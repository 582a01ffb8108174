"""The algorithms by name. An algorithm is a config class, a function that makes its learner, and its semantics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from sac_bench.algorithms import ppo, sac, sql, td3
from sac_bench.algorithms.config import TrainingConfig
from sac_bench.algorithms.protocol import Learner
from sac_bench.envs import sources


@dataclass(frozen=True)
class Algorithm:
    """`semantics` is raised whenever the numbers computed for a config change. Of a user's own algorithm its source
    counts, too (`definition`).

    `scored_by`: the actions whose evaluations are a run's score, the mean ones or, where an algorithm has no such,
    those sampled from its policy.
    """

    name: str
    config: type[TrainingConfig]
    learner: Callable[..., Learner]
    version: int
    scored_by: Literal["mean", "sample"] = "mean"

    @property
    def definition(self) -> sources.Definition:
        """What it is made of, where it is not one of sac_bench's."""
        return {} if SHIPPED.get(self.name) is self else sources.of_algorithm(self.config, self.learner)


ALGORITHMS: dict[str, Algorithm] = {}


def register(algorithm: Algorithm) -> None:
    """Make an algorithm known by its name; ValueError where that is taken or no plain word.

    A module of one's own that calls this is loaded by `--import MODULE` (docs/algorithms.md has an example).
    """
    if not algorithm.name.isidentifier():
        raise ValueError(f"an algorithm's name is a plain word, not {algorithm.name!r}")
    if algorithm.name in ALGORITHMS:
        raise ValueError(f"there is an algorithm {algorithm.name!r} already")
    ALGORITHMS[algorithm.name] = algorithm


register(Algorithm("sac", sac.SACConfig, sac.learner, sac.VERSION))
register(Algorithm("td3", td3.TD3Config, td3.learner, td3.VERSION))
register(Algorithm("ddpg", td3.DDPGConfig, td3.learner, td3.VERSION))
register(Algorithm("ppo", ppo.PPOConfig, ppo.learner, ppo.VERSION))
register(Algorithm("sql", sql.SQLConfig, sql.learner, sql.VERSION, scored_by="sample"))

SHIPPED = dict(ALGORITHMS)
