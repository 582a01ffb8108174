"""What the arms of every claim differ in, written by hand: one thing each, or what the claim's paper changed."""

from functools import cache
from pathlib import Path

import pytest

from sac_bench.spec.includes import files
from sac_bench.spec.load import load

ROOT = Path(__file__).parents[2]
CLAIMS = {path.stem: path for path in files([ROOT / "experiments" / "claims"])}
WITHOUT_ENTROPY = {"learn_temperature": False, "temperature": 0.0}
FIXED_NOISE = {"stochastic_updates": False, "log_std_min": -2.3, "log_std_max": -2.3}
BY_SCORE = {"gradient_estimator": "score-function"}

BATCH_NORM = {"body": "batch-norm-after", "norm_epsilon": 1e-3, "renorm_after": 100_000, "joint_pass": True}
NORMALISED = {"normalize_rewards": True, "return_bound": 0.0, "temperature": 0.01}
HIGH = {"utd": 20.0, "actor_delay": 20}

DIFFERENCES = {
    "against-others": {"ddpg": "ddpg", "td3": "td3", "ppo": "ppo", "sql": "sql"},
    "batch-norm-without-target": {
        "without-target": {"target_network": False},
        "batch-norm": BATCH_NORM,
        "batch-norm-without-target": BATCH_NORM | {"target_network": False},
    },
    "categorical-head": {
        "scalar": NORMALISED,
        "categorical": NORMALISED | {"critic_head": "categorical", "atoms": 101, "critic_pool": "lowest"},
    },
    "delayed-policy": {
        "td3-delay": {"actor_delay": 2, "target_period": 2, "temperature_delay": 1},
        "policy-delay": {"actor_delay": 2, "temperature_delay": 1},
    },
    "entropy-in-backup": {"regulariser": {"entropy_in_backup": False}},
    "hard-targets": {"hard-target": {"tau": 1.0, "target_period": 1000, "utd": 4.0}, "averaged-4": {"utd": 4.0}},
    "layer-norm-high-ratio": {
        "layer-norm": {"layer_norm": "critics"},
        "high": HIGH,
        "high-layer-norm": HIGH | {"layer_norm": "critics"},
    },
    "learned-temperature": {"fixed": {"learn_temperature": False}},
    "learned-temperature-humanoid": {"fixed": {"learn_temperature": False, "temperature": 0.05}},
    "mean-action": {},
    "reparameterisation": {
        "score-function": BY_SCORE,
        "without-v": {"value_network": False},
        "leave-one-out": {"value_network": False} | BY_SCORE,
    },
    "reward-scale": {"reward_scale=0.1": {"reward_scale": 0.1}, "reward_scale=100": {"reward_scale": 100.0}},
    "robustness": {"without-entropy": WITHOUT_ENTROPY},
    "several-modes": {"mixture": {"mixture": 4}, "sql": "sql", "deterministic": FIXED_NOISE | {"temperature": 0.0}},
    "similar-seeds": {"ddpg": "ddpg", "td3": "td3"},
    "stochastic-stability": {"deterministic": FIXED_NOISE | WITHOUT_ENTROPY},
    "target-entropy": {f"target_entropy_scale={x:g}": {"target_entropy_scale": x} for x in (0.0, 0.5, 2.0)},
    "target-policy": {"target-policy": {"target_policy": True}},
    "target-step": {"tau=0.0001": {"tau": 0.0001}, "tau=0.1": {"tau": 0.1}},
    "time-limits": {"limit-is-terminal": {"bootstrap_truncated": False}},
    "twin-qs-td3": {"one-critic": {"critics": 1}},
    "two-qs": {"one-q": {"critics": 1}, "mean-q": {"pessimism": 0.0}},
    "value-network-estimator": {
        "sac-v": {"value_network": True},
        "score-function": BY_SCORE,
        "score-function-v": {"value_network": True} | BY_SCORE,
    },
    "value-network-redundant": {"v-network": {"value_network": True}},
    "value-network-stabilises": {"without-v": {"value_network": False}},
}
"""{claim: {arm: its options that differ from the reference's, or its algorithm}}."""

SMALL_HIGH = {"utd": 8.0, "actor_delay": 8}
SETTLED = BATCH_NORM | {"renorm_after": 2000}
QUICK = DIFFERENCES | {
    "against-others": DIFFERENCES["against-others"] | {"sac-sampled": {}},
    "batch-norm-without-target": {
        "without-target": {"target_network": False},
        "batch-norm": SETTLED,
        "batch-norm-without-target": SETTLED | {"target_network": False},
    },
    "categorical-head": {
        "scalar": NORMALISED,
        "categorical": NORMALISED | {"critic_head": "categorical", "atoms": 51, "critic_pool": "lowest"},
    },
    "layer-norm-high-ratio": {
        "layer-norm": {"layer_norm": "critics"},
        "high": SMALL_HIGH,
        "high-layer-norm": SMALL_HIGH | {"layer_norm": "critics"},
    },
    "reward-scale": {"reward_scale=1": {"reward_scale": 1.0}, "reward_scale=1000": {"reward_scale": 1000.0}},
}
"""The same of the quick forms."""

DISTURBED = [
    f"lost-to-{kind}{policy}" for kind in ("action-noise", "observation-noise", "mass") for policy in ("", "-sampled")
]
EXPECTED = {
    "reparameterisation": [
        "sac:gradient_variance_likelihood_ratio > sac:gradient_variance_reparameterised",
        "sac > score-function",
        "without-v > leave-one-out",
    ],
    "robustness": [f"without-entropy:{lost} > sac:{lost}" for lost in DISTURBED],
    "similar-seeds": [f"{arm}:{m} > sac:{m}" for arm in ("ddpg", "td3") for m in ("relative_spread", "weak_seed")],
    "several-modes": [
        f"{high}:{measure} > {low}:{measure}"
        for high, low in (("sql", "gaussian"), ("mixture", "gaussian"), ("sql", "deterministic"))
        for measure in ("modes", "goals")
    ],
    "starting-points": [
        "from-sac:adaptation > from-without-entropy:adaptation",
        "from-sac-then-without:adaptation > from-without-then-without:adaptation",
        "from-sac:area > from-sac-frozen:area",
        "from-sac:area > from-scratch:area",
    ],
    "target-step": ["tau=0.1:largest_fall > sac:largest_fall", "sac > tau=0.0001"],
    "two-qs": ["sac > one-q", "sac > mean-q"],
}
"""{claim: its expectations}, of claims whose measures or arms exclude a confound."""


@cache
def loaded(name, quick=False):
    return load(CLAIMS[name], quick=quick)


def settings(experiment, arm, env):
    return experiment.variants[arm].configs[env].model_dump()


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("name", DIFFERENCES)
def test_the_arms_of_a_claim_differ_only_in_what_is_listed(name, quick):
    e, expected = loaded(name, quick), (QUICK if quick else DIFFERENCES)[name]
    assert set(e.variants) == {e.reference, *expected}
    for env in e.envs:
        reference = settings(e, e.reference, env)
        for arm, listed in expected.items():
            if e.variants[arm].algorithm != e.variants[e.reference].algorithm:
                assert listed == e.variants[arm].algorithm
                continue
            own = settings(e, arm, env)
            differing = {option: own[option] for option in own if own[option] != reference[option]}
            if name == "categorical-head":  # equal arithmetic: tests/training/test_equal_arithmetic.py
                differing.pop("utd", None)
            assert differing == listed, (arm, env)


def test_every_claim_is_listed():
    assert {*DIFFERENCES, "starting-points"} == set(CLAIMS)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_claim_expects_what_excludes_its_confounds(name):
    assert sorted(map(str, loaded(name).claim.expect)) == sorted(EXPECTED[name])


def test_arms_of_starting_points_differ_in_their_parents_and_in_entropy():
    e = loaded("starting-points")
    arms = {
        "from-sac": ("sac", 0.2),
        "from-without-entropy": ("without-entropy", 0.2),
        "from-sac-then-without": ("sac", "own"),
        "from-without-then-without": ("without-entropy", "own"),
    }
    (env,) = e.envs
    for arm, (parent, temperature) in arms.items():
        start = e.variants[arm].parent
        assert (start.variant.name, start.env, start.temperature) == (parent, "HalfCheetah-v5", temperature)
        own, first = settings(e, arm, env), settings(e, "from-sac", env)
        assert {option for option in own if own[option] != first[option]} == (
            {"learn_temperature", "temperature"} if arm.endswith("then-without") else set()
        )
        assert own["random_steps"] == 0


PUBLISHED = {
    ("value-network-stabilises", "sac-v1", "reward_scale"): [5.0, 5.0, 5.0, 5.0, 20.0],  # 1801.01290, table 2
    ("value-network-stabilises", "sac-v1", "learning_starts"): [1000, 1000, 10000, 10000, 1000],
    ("value-network-stabilises", "without-v", "learning_starts"): [1000, 1000, 10000, 10000, 1000],
    ("hard-targets", "sac-v1", "reward_scale"): [5.0, 5.0, 5.0, 5.0],
    ("against-others", "sql", "reward_scale"): [30.0, 10.0, 30.0, 300.0, 100.0],  # examples/mujoco_all_sql.py
}
"""{(claim, arm, option): its authors' values on Hopper, Walker2d, HalfCheetah, Ant and Humanoid}."""


@pytest.mark.parametrize(("name", "arm", "option"), PUBLISHED)
def test_an_arm_has_its_authors_values_in_every_environment(name, arm, option):
    e = loaded(name)
    order = ["Hopper-v5", "Walker2d-v5", "HalfCheetah-v5", "Ant-v5", "Humanoid-v5"]
    envs = [env for env in order if env in e.envs]
    assert [settings(e, arm, env)[option] for env in envs] == PUBLISHED[name, arm, option]


@pytest.mark.parametrize("name", ["hard-targets", "reward-scale", "value-network-stabilises"])
def test_all_arms_of_the_small_sac_v1_have_its_tuned_reward_scale(name):
    e = loaded(name, quick=True)
    scales = {arm: settings(e, arm, "HalfCheetah-v5")["reward_scale"] for arm in e.variants}
    swept = {"reward_scale=1": 1.0, "reward_scale=1000": 1000.0}
    assert scales == {arm: swept.get(arm, 50.0) for arm in e.variants}


def test_target_entropies_of_recipes_are_their_authors():
    e = load(ROOT / "experiments" / "recipes.toml")
    nats = {"Hopper-v5": -1.0, "HalfCheetah-v5": -3.0, "Walker2d-v5": -3.0, "Ant-v5": -4.0, "Humanoid-v5": -2.0}
    for arm in ("redq", "droq"):
        assert {env: config.target_entropy for env, config in e.variants[arm].configs.items()} == nats
    hopper = load(ROOT / "experiments" / "redq.toml")
    assert {variant.configs["Hopper-v5"].target_entropy for variant in hopper.variants.values()} == {-1.0}


def test_several_modes_has_its_authors_settings():
    e = loaded("several-modes")
    (env,) = e.envs
    sql = settings(e, "sql", env)
    assert (sql["kernel_particles"], sql["value_particles"], sql["kernel_update_ratio"]) == (32, 16, 0.5)
    for arm in e.variants:
        own = settings(e, arm, env)
        assert (own["gamma"], own["tau"], own["target_period"], own["critics"]) == (0.99, 1.0, 1000, 1)


def test_every_claim_has_a_row_of_confounds():
    section = (ROOT / "docs" / "claims.md").read_text().split("## Confounds")[1].split("\n## ")[0]
    rows = [line.split("|")[1].strip(" `") for line in section.splitlines() if line.startswith("| `")]
    assert sorted(rows) == sorted(CLAIMS)
