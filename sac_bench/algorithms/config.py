"""What a user's module needs to declare an algorithm's options. They are defined in options/config.py."""

from sac_bench.options.config import (
    Activation,
    ActorCriticConfig,
    Initialisation,
    Layers,
    PerMember,
    Precision,
    QLearningConfig,
    ReplayConfig,
    RolloutConfig,
    Switched,
    Temperature,
    TrainingConfig,
    option,
    require_multiple,
)

__all__ = [
    "Activation",
    "ActorCriticConfig",
    "Initialisation",
    "Layers",
    "PerMember",
    "Precision",
    "QLearningConfig",
    "ReplayConfig",
    "RolloutConfig",
    "Switched",
    "Temperature",
    "TrainingConfig",
    "option",
    "require_multiple",
]
