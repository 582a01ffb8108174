"""The measures that claims compare: their names, units and meaning.

They are computed from a run's tables in analysis/measures.py, and from its trained policy in evaluation/robustness.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from sac_bench.envs.known import check_goals, check_masses
from sac_bench.errors import InputError, nearest


@dataclass(frozen=True)
class Measure:
    """One number per run."""

    label: str
    unit: str = "return"
    margin: float | None = None
    """The smallest difference that matters, in the measure's unit. None: for returns it is the claim's margin times the
    reference's gain, and other measures have none."""
    is_log_of_metric: bool = False
    """Whether it is the log10 of a metric's mean over the last share of the steps. The metric has its name."""

    @property
    def in_returns(self) -> bool:
        """Whether the reference's gain is its scale, and a claim's margin applies."""
        return self.unit == "return"


LAST_SHARE = 0.1
"""A run's score is by default the mean of its evaluations in the last tenth of its steps (`score_last`)."""
GAINS = "gains of the variant itself"
"""A variant's own gain is its mean score minus a random policy's return, or minus its own before the first step if that
is higher."""
SHARE = "share of seeds"
"""The values are 0 or 1."""
LOG_VARIANCE = "log10 variance"


@dataclass(frozen=True)
class RobustnessMeasure:
    """A measure of a trained policy. `requires`: "masses" that can be changed, or "goals" to count."""

    label: str
    unit: str = "return"
    """A "share" is of the undisturbed gain: the undisturbed return minus a random policy's."""
    requires: str = ""
    version: int = 1
    """Raised when the numbers change; stored values of another version are measured again."""


_DISTURBED = {
    "undisturbed": RobustnessMeasure("mean return of 10 episodes"),
    "action-noise": RobustnessMeasure(
        "mean return of 10 episodes with Gaussian noise of standard deviation 0.3 on every action in [-1, 1]"
    ),
    "observation-noise": RobustnessMeasure(
        "mean return of 10 episodes with Gaussian noise on the observations, of 0.1 of the standard deviation that "
        "each number has in a random policy's episodes",
        version=2,
    ),
    "mass": RobustnessMeasure(
        "mean return of 10 episodes in Gymnasium's environment with the bodies' masses and inertias times 1.5",
        requires="masses",
    ),
    # EnvPool brings another MuJoCo, where the same seed starts elsewhere: `mass` is compared with this.
    "unchanged-mass": RobustnessMeasure(
        "mean return of 10 episodes in Gymnasium's environment, undisturbed", requires="masses"
    ),
    "lost-to-action-noise": RobustnessMeasure(
        "share of the undisturbed gain that action-noise takes", "share", version=2
    ),
    "lost-to-observation-noise": RobustnessMeasure(
        "share of the undisturbed gain that observation-noise takes", "share", version=2
    ),
    "lost-to-mass": RobustnessMeasure(
        "share of the gain with unchanged-mass that mass takes, both in Gymnasium's environment",
        "share",
        requires="masses",
        version=2,
    ),
}

ROBUSTNESS = {
    **_DISTURBED,
    **{f"{name}-sampled": replace(one, label=f"{one.label}, by sampled actions") for name, one in _DISTURBED.items()},
    "goals": RobustnessMeasure(
        "number of the four goals that at least a tenth of 100 episodes from the origin by sampled actions end at",
        "goals",
        "goals",
        version=2,
    ),
    "goal-entropy": RobustnessMeasure(
        "entropy of the goals' shares in those of 100 episodes from the origin by sampled actions that end at one; "
        "0 if none does",
        "nats",
        "goals",
        version=2,
    ),
    "modes": RobustnessMeasure(
        "number of the four goals in whose direction 10,000 actions that are sampled at the origin have a mode",
        "goals",
        "goals",
    ),
}

MARGINS = {"goals": 0.5, "nats": 0.2, "share": 0.1}
"""{unit: the smallest difference that matters} of robustness measures that are not returns."""


MEASURES = {
    "score": Measure("score"),
    "sampled": Measure("score of sampled actions"),
    "area": Measure("mean return over the whole curve"),
    "early": Measure("mean return over the first quarter of the curve"),
    "adaptation": Measure("mean return over the whole curve minus that before the first step"),
    "score_per_compute": Measure("mean return over the logarithm of FLOPs, between those that all variants reach"),
    "relative_spread": Measure(
        "distance of a seed's score from the median seed's, in gains of the variant itself", GAINS, 0.1
    ),
    "largest_fall": Measure(
        "largest fall of a seed's curve from an evaluation to a later one, in gains of the variant itself", GAINS, 0.1
    ),
    "weak_seed": Measure("share of seeds that gain less than half of the variant's median gain", SHARE, 0.2),
    "gradient_variance_reparameterised": Measure(
        "log10 variance of the reparameterised gradient", LOG_VARIANCE, 0.3, is_log_of_metric=True
    ),
    "gradient_variance_likelihood_ratio": Measure(
        "log10 variance of the likelihood ratio's gradient", LOG_VARIANCE, 0.3, is_log_of_metric=True
    ),
    **{name: Measure(one.label, one.unit, MARGINS.get(one.unit)) for name, one in ROBUSTNESS.items()},
}
"""The mean distance from the median seed is what Brown and Forsythe (1974) compare, a test of spread that does not
assume normal scores. 0.3 in log10 is a factor of 2."""


def check_robustness(names: Iterable[str], env_id: str) -> None:
    """Raise InputError unless these robustness measures exist and can be measured in the environment."""
    checks = {"masses": check_masses, "goals": check_goals}
    for name in names:
        if name not in ROBUSTNESS:
            raise InputError(f"no robustness measure {name!r}{nearest(name, ROBUSTNESS)}")
        if requires := ROBUSTNESS[name].requires:
            try:
                checks[requires](env_id)
            except InputError as error:
                raise InputError(f"robustness measure {name!r}: {error}") from None
