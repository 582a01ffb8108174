"""The algorithms by name. An algorithm is a config class, a function that makes its learner, and a version.

Importing this imports no torch: a learner of sac_bench is imported when it is first made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from sac_bench.envs import sources
from sac_bench.options import a2c as of_a2c
from sac_bench.options import ppo as of_ppo  # `ppo` is the module of this package
from sac_bench.options import sac as of_sac
from sac_bench.options import sql as of_sql
from sac_bench.options import td3 as of_td3
from sac_bench.options import trpo as of_trpo
from sac_bench.options.config import TrainingConfig
from sac_bench.options.metric import Metric

if TYPE_CHECKING:
    from sac_bench.algorithms.protocol import Learner


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
    def is_shipped(self) -> bool:
        """Whether it is one of sac_bench's, not a user's."""
        return SHIPPED.get(self.name) is self

    @property
    def definition(self) -> sources.Definition:
        """The sources of a user-defined algorithm; empty for those of sac_bench."""
        return {} if self.is_shipped else sources.of_algorithm(self.config, self.learner)


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


class _LearnerIn:
    """The function `learner` of a module, which is imported at the first call.

    It has that function's name, which is in the ids of users' algorithms that use it.
    """

    def __init__(self, module: str) -> None:
        self.__module__, self.__qualname__ = module, "learner"

    def __call__(self, *arguments: Any, **options: Any) -> Learner:
        made: Learner = import_module(self.__module__).learner(*arguments, **options)
        return made


SAC, TD3, PPO, SQL, A2C, TRPO = (
    _LearnerIn(f"sac_bench.algorithms.{name}") for name in ("sac", "td3", "ppo", "sql", "a2c", "trpo")
)
register(Algorithm("sac", of_sac.SACConfig, SAC, of_sac.VERSION, metrics=of_sac.ALL_METRICS))
register(Algorithm("td3", of_td3.TD3Config, TD3, of_td3.VERSION, metrics=of_td3.METRICS))
register(Algorithm("ddpg", of_td3.DDPGConfig, TD3, of_td3.VERSION, metrics=of_td3.METRICS))
register(Algorithm("ppo", of_ppo.PPOConfig, PPO, of_ppo.VERSION, metrics=of_ppo.METRICS))
register(Algorithm("sql", of_sql.SQLConfig, SQL, of_sql.VERSION, scored_by="sample", metrics=of_sql.METRICS))
register(Algorithm("a2c", of_a2c.A2CConfig, A2C, of_a2c.VERSION, metrics=of_a2c.METRICS))
register(Algorithm("trpo", of_trpo.TRPOConfig, TRPO, of_trpo.VERSION, metrics=of_trpo.METRICS))

SHIPPED = dict(ALGORITHMS)
