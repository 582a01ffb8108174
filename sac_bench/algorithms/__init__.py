"""The algorithms by name. An algorithm is a config class, a function that makes its learner, and its semantics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sac_bench.algorithms import sac
from sac_bench.algorithms.config import TrainingConfig
from sac_bench.algorithms.protocol import Learner


@dataclass(frozen=True)
class Algorithm:
    """`semantics` is raised whenever the numbers computed for a config change."""

    name: str
    config: type[TrainingConfig]
    learner: Callable[..., Learner]
    semantics: int


ALGORITHMS = {"sac": Algorithm("sac", sac.SACConfig, sac.learner, sac.SEMANTICS)}
