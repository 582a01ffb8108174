"""Experiments at equal arithmetic: every arm has the same budget; each arm of ablation-modern differs in one piece."""

from functools import cache
from pathlib import Path

import pytest

from sac_bench.spec.load import load
from sac_bench.training.flops import flops_per_transition

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
EQUAL = [
    ("ablation-modern", True),
    ("ablation-modern-removed", True),
    ("claims/categorical-head", True),
    ("claims/categorical-head", False),
]
"""(experiment, whether in its quick form): all arms have the arithmetic of its arm `sac`."""
PIECES = {
    "batch-norm": {"body", "joint_pass", "norm_epsilon"},
    "rewards": {"normalize_rewards", "return_bound", "temperature"},
    "head": {"critic_head", "atoms", "critic_pool"},
    "projection": {"project"},
    "size": {"actor_layers", "critic_layers"},
    "settings": {
        "initialisation",
        "log_std_min",
        "anneal_steps",
        "anneal_to",
        "target_entropy_scale",
        "actor_delay",
        "gamma",
    },
}


@cache
def loaded(name, quick):
    return load(EXPERIMENTS / f"{name}.toml", quick=quick)


@pytest.mark.parametrize(("name", "quick"), EQUAL)
def test_all_arms_have_the_same_arithmetic_per_transition(name, quick):
    experiment = loaded(name, quick)
    for env in experiment.envs:
        flops = {
            arm: flops_per_transition(of.algorithm, of.configs[env], env) for arm, of in experiment.variants.items()
        }
        assert flops == {arm: pytest.approx(flops["sac"], rel=0.02) for arm in flops}


def values(config):
    """Return the options of a config, with the sizes of its networks instead of their defaults."""
    sizes = {"actor_layers": config.actor_sizes, "critic_layers": config.critic_sizes}
    return {key: value for key, value in (config.model_dump() | sizes).items() if key not in ("layers", "utd")}


def differing(a, b):
    """Return the options with different values in two configs."""
    a, b = values(a), values(b)
    return {key for key in a if a[key] != b[key]}


@pytest.mark.parametrize("quick", [True, False], ids=["quick", "full"])
def test_a_piece_of_xqc_is_added_or_removed_alone(quick):
    """SAC and XQC differ in the pieces together; settings that mean nothing without a piece are left out."""
    experiment = loaded("ablation-modern", quick)
    for env in experiment.envs:
        config = {arm: of.configs[env] for arm, of in experiment.variants.items()}
        assert differing(config["sac"], config["xqc"]) == set.union(*PIECES.values())
        added = {name: PIECES[name] for name in ("batch-norm", "rewards", "size", "settings")}
        added["head"] = PIECES["head"] | PIECES["rewards"]
        assert {f"sac+{name}" for name in added} == {arm for arm in config if arm.startswith("sac+")}
        for name, options in added.items():
            arm = config[f"sac+{name}"]
            assert differing(config["sac"], arm) == options
            assert not differing(config["xqc"], arm) & options
        removed = {name: PIECES[name] for name in ("projection", "head", "size")}
        removed["batch-norm"] = {"body", "joint_pass", "project"}
        removed["settings"] = PIECES["settings"] - {"anneal_to"}
        assert {f"xqc-{name}" for name in removed} == {arm for arm in config if arm.startswith("xqc-")}
        for name, options in removed.items():
            arm = config[f"xqc-{name}"]
            assert differing(config["xqc"], arm) == options
            assert not differing(config["sac"], arm) & options


@pytest.mark.parametrize("quick", [True, False], ids=["quick", "full"])
def test_both_files_have_the_same_runs(quick):
    added, removed = (loaded(name, quick) for name in ("ablation-modern", "ablation-modern-removed"))
    for arm, of in removed.variants.items():
        for env in removed.envs:
            assert of.run(env, 0).id == added.variants[arm].run(env, 0).id


def test_at_full_size_all_arms_have_as_many_updates():
    experiment = loaded("ablation-modern", False)
    updates = {c.updates_due(of.steps[env]) for of in experiment.variants.values() for env, c in of.configs.items()}
    assert updates == {1_000_000 - 5000}
