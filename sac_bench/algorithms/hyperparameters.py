"""A config's hyperparameters as tensors."""

from __future__ import annotations

import torch

from sac_bench.algorithms.protocol import Hyperparameters
from sac_bench.options.config import TrainingConfig


def dtype_of(config: TrainingConfig) -> torch.dtype:
    """Return the type of the state and the losses; bfloat16 is used inside hidden layers only."""
    return torch.float64 if config.precision == "float64" else torch.float32


def hyperparameters_of(config: TrainingConfig) -> Hyperparameters:
    """Return the hyperparameters of one learner as scalars []."""
    return {name: torch.tensor(value, dtype=dtype_of(config)) for name, value in config.hyperparameters().items()}
