"""Study files: every kind of invalid input is reported in one line, before anything is trained."""

import tomllib
from pathlib import Path

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from sac_bench.errors import InputError
from sac_bench.options.sac import SACConfig
from sac_bench.spec.load import load as load_experiment
from sac_bench.tuning.space import Choice, FloatRange, IntRange, parse, probes
from sac_bench.tuning.study import load
from tests.conftest import EXPERIMENT
from tests.tuning.conftest import STUDY

SHIPPED = sorted((Path(__file__).parents[2] / "experiments" / "tuning").glob("*.toml"))


def test_a_file_is_loaded_into_a_study(study_file):
    study = load(study_file)
    assert study.space == (
        FloatRange("actor_lr", 1e-4, 1e-2, log=True),
        IntRange("target_period", 1, 4),
        Choice("activation", ("relu", "tanh")),
    )
    assert (study.stages, study.seeds, study.held_out_seeds) == ((100, 200, 300), (0,), (1000, 1001))
    variant = study.variant("trial-0000", {"actor_lr": 1e-3, "target_period": 2, "activation": "tanh"}, 200)
    config = variant.configs["InvertedPendulum-v5"]
    assert (config.actor_lr, config.target_period, config.activation, config.layers) == (1e-3, 2, "tanh", (8,))
    assert variant.steps == {"InvertedPendulum-v5": 200}
    assert study.default.configs["InvertedPendulum-v5"].actor_lr == 3e-4
    assert load(study_file, trials=9).trials == 9


def test_a_study_may_start_from_a_variant_of_an_experiment(tmp_path):
    text = EXPERIMENT.replace("[variants.v-network]", "[on.InvertedPendulum-v5]\ngamma = 0.9\n\n[variants.v-network]")
    text = text.replace("value_network = true", "value_network = true\nsteps = 800\non.InvertedPendulum-v5.tau = 0.1")
    (tmp_path / "e.toml").write_text(text)
    (tmp_path / "s.toml").write_text("""
        name = "s"
        experiment = "e.toml"
        variant = "v-network"
        steps = 400
        trials = 2
        base.critic_lr = 0.1
        space.tau = {type = "float", low = 0.2, high = 0.3}
    """)
    study = load(tmp_path / "s.toml")
    (env,) = study.envs
    default, trial = study.default.configs[env], study.variant("t", {"tau": 0.25}, 400).configs[env]
    assert (default.value_network, default.tau, default.gamma, default.layers) == (True, 0.1, 0.9, (8,))
    assert (trial.value_network, trial.tau, trial.gamma, trial.critic_lr) == (
        True,
        0.25,
        0.9,
        0.1,
    )  # searched: everywhere
    assert study.default.steps == {env: 400}


def test_a_study_has_what_its_experiment_includes(tmp_path):
    (tmp_path / "common.toml").write_text("base.gamma = 0.9\n[on.InvertedPendulum-v5]\ntau = 0.1\n")
    (tmp_path / "e.toml").write_text(f"common = 'common.toml'\n{EXPERIMENT}")
    (tmp_path / "s.toml").write_text("""
        name = "s"
        experiment = "e.toml"
        steps = 400
        trials = 2
        space.critic_lr = {type = "float", low = 0.001, high = 0.01}
    """)
    study = load(tmp_path / "s.toml")
    (env,) = study.envs
    assert study.default.configs[env] == load_experiment(tmp_path / "e.toml").variants["sac"].configs[env]
    assert (study.default.configs[env].gamma, study.default.configs[env].tau) == (0.9, 0.1)


def test_a_study_may_start_from_a_point_of_a_sweep(tmp_path):
    text = EXPERIMENT.partition("[sweep]")[0] + "\n[sweep]\ntau = [0.02]\n"
    text = text.replace("[variants.sac]", "[variants.sac]\non.InvertedPendulum-v5.tau = 0.3")
    (tmp_path / "e.toml").write_text(text)
    (tmp_path / "s.toml").write_text("""
        name = "s"
        experiment = "e.toml"
        variant = "tau=0.02"
        steps = 400
        trials = 2
        space.actor_lr = {type = "float", low = 0.1, high = 0.3}
    """)
    ((own,), (theirs,)) = (
        load(tmp_path / "s.toml").default.configs.values(),
        load_experiment(tmp_path / "e.toml").variants["tau=0.02"].configs.values(),
    )
    assert own == theirs
    assert own.tau == 0.02


SPACE = 'activation = { type = "categorical", choices = ["relu", "tanh"] }'
BAD = {
    "empty": (STUDY, "", "the file is empty"),
    "not TOML": ('name = "', "name = ", "not valid TOML"),
    "no space": (STUDY[STUDY.index("[space]") : STUDY.index("[held_out]")], "", "space: is required"),
    "empty space": (STUDY[STUDY.index("actor_lr") : STUDY.index("[held_out]")], "", "[space]: must not be empty"),
    "no steps": ("steps = 300\n", "", "steps: is required"),
    "no trials": ("trials = 4\n", "", "trials: is required"),
    "no envs": ('envs = ["InvertedPendulum-v5"]', "", "envs: is required"),
    "unknown env": ("InvertedPendulum-v5", "InvertedPendulun-v5", "did you mean 'InvertedPendulum-v5'"),
    "env twice": ('["InvertedPendulum-v5"]', '["InvertedPendulum-v5", "InvertedPendulum-v5"]', "is duplicated"),
    "unknown key": ("batch = 2", "bach = 2", "bach: unknown key; did you mean 'batch'?"),
    "no trial": ("trials = 4", "trials = 0", "trials: input should be greater than or equal to 1, not 0"),
    "a name of the store's": ("tiny-study", "runs", "name: 'runs' is reserved for a folder of the store"),
    "no plain name": ("tiny-study", "../x", "name: '../x' is not a plain name"),
    "unknown sampler": (
        "batch = 2",
        'batch = 2\nsampler = "tpee"',
        "sampler: input should be 'tpe', 'cma-es' or 'random'",
    ),
    "unknown pruner": ('"successive-halving"', '"median"', "pruner: input should be 'hyperband'"),
    "a rung between evaluations": (
        "[100, 200]",
        "[150]",
        "rungs: 150 is not an evaluation point on InvertedPendulum-v5: eval_every = 100; nearest: 100 or 200",
    ),
    "an end between evaluations": ("steps = 300", "steps = 310", "steps: 310 is not an evaluation point"),
    "a rung at the end": ("[100, 200]", "[300]", "rungs: 300 must be between 0 and steps = 300"),
    "rungs out of order": ("[100, 200]", "[200, 100]", "rungs: must be ascending"),
    "a pruner without rungs": ("rungs = [100, 200]\n", "", 'rungs: is required for pruner = "successive-halving"'),
    "too few steps": ("learning_starts = 90", "learning_starts = 300", "allows no update"),
    "held-out seeds that were searched": (
        "top = 1\nseeds = 2",
        "seeds = [5, 0]",
        "[held_out] seeds: 0 is one of the search's",
    ),
    "unknown key of held_out": ("top = 1", "topp = 1", "[held_out]: topp: unknown key; did you mean 'top'?"),
    "no held-out seed": ("top = 1\nseeds = 2", "seeds = 0", "[held_out]: seeds: must be between 1 and"),
    "unknown algorithm": ("batch = 2", 'batch = 2\nalgorithm = "sacc"', "algorithm: unknown algorithm 'sacc'"),
    "a variant of no experiment": ("batch = 2", 'batch = 2\nvariant = "sac"', "variant: requires experiment"),
    "a missing experiment": ("batch = 2", 'batch = 2\nexperiment = "none.toml"', "none.toml: no such file"),
    "unknown base option": ("utd = 0.1", "utdd = 0.1", "[base] utdd: sac has no such option"),
    "a bad base option": ("utd = 0.1", "utd = -1", "utd: input should be greater than 0, not -1"),
    "steps for one environment": (
        "[space]",
        "[on.InvertedPendulum-v5]\nsteps = 100\n[space]",
        "must be the same for all runs of a study",
    ),
    "steps for one algorithm": (
        "[space]",
        "[base.sac]\nsteps = 100\n[space]",
        "[base.sac] steps: must be the same",
    ),
    "on another env": ("batch = 2", "batch = 2\n[on.Hopper-v5]\ngamma = 0.9\n", "[on.Hopper-v5]: must be one of envs"),
    "too many rungs": ("[100, 200]", f"{list(range(1, 40))}", "rungs: list should have at most 20 items"),
    "too many held-out seeds": (
        "top = 1\nseeds = 2",
        "top = 3\nseeds = 5000",
        "[held_out]: top, seeds and envs make 20,000 runs",
    ),
    "an endless scale": (
        "[space]",
        "[scale]\nInvertedPendulum-v5 = [-1.7e308, 1.7e308]\n[space]",
        "must be two returns",
    ),
    "choices for CMA-ES": (
        "batch = 2",
        'batch = 2\nsampler = "cma-es"',
        "sampler: cma-es requires at least two dimensions",
    ),
    "an int beyond doubles": (
        "low = 1, high = 4",
        "low = 1, high = 9223372036854775807",
        "[space] target_period: high: input should be less",
    ),
    "a tiny step": (
        "high = 1e-2, log = true",
        "high = 1e-2, step = 1e-300",
        "[space] actor_lr: step: 1e-300 is too small",
    ),
    "a choice of one value twice": ('["relu", "tanh"]', "[1, 1.0]", "choices: a choice is duplicated"),
    "a NUL": ("batch = 2", 'batch = 2\nexperiment = "a\\u0000b"', "cannot be read"),
    "scale of another env": (
        "[space]",
        "[scale]\nHopper-v5 = [0, 1]\n[space]",
        "[scale] Hopper-v5: must be one of envs",
    ),
    "scale upside down": ("[space]", "[scale]\nInvertedPendulum-v5 = [1, 0]\n[space]", "must be two returns"),
    "no scale for two envs": (
        '["InvertedPendulum-v5"]',
        '["InvertedPendulum-v5", "Pendulum-v1"]',
        "[scale] InvertedPendulum-v5: is required",
    ),
    # -- the space
    "unknown option": ("actor_lr =", "actor_rl =", "[space] actor_rl: sac has no such option; did you mean 'actor_lr'"),
    "an option of another algorithm": (
        "actor_lr =",
        "policy_delay =",
        "policy_delay: sac has no such option, an option of td3",
    ),
    "how it is table_differences": ("actor_lr =", "eval_every =", "[space] eval_every: cannot be searched"),
    "low above high": (
        "low = 1e-4, high = 1e-2",
        "low = 1e-2, high = 1e-4",
        "[space] actor_lr: low: 0.01 must be below high = 0.0001",
    ),
    "low is high": ("low = 1, high = 4", "low = 4, high = 4", "[space] target_period: low: 4 equals high"),
    "log with 0": ("low = 1e-4", "low = 0.0", "[space] actor_lr: low: must be above 0 for log = true, not 0"),
    "log below 0": ("low = 1e-4", "low = -1.0", "[space] actor_lr: low: must be above 0 for log = true, not -1"),
    "log with step": ("log = true", "log = true, step = 0.001", "[space] actor_lr: step: requires log = false"),
    "step too wide": (
        "low = 1, high = 4",
        "low = 1, high = 4, step = 9",
        "[space] target_period: step: 9 is larger than",
    ),
    "no step": (
        "low = 1, high = 4",
        "low = 1, high = 4, step = 0",
        "[space] target_period: step: input should be greater",
    ),
    "not a number": ("low = 1e-4", "low = nan", "[space] actor_lr: low: input should be a finite number"),
    "infinite": ("high = 1e-2", "high = inf", "[space] actor_lr: high: input should be a finite number"),
    "a word for a number": ("low = 1e-4", 'low = "x"', "[space] actor_lr: low: input should be a valid number"),
    "no low": ("low = 1e-4, ", "", "[space] actor_lr: low: is required"),
    "unknown type": (
        'type = "float"',
        'type = "flaot"',
        "[space] actor_lr: type: unknown type 'flaot'; did you mean 'float'?",
    ),
    "no type": ('type = "float", ', "", "[space] actor_lr: type: is required"),
    "no table": (SPACE, "activation = 3", "[space] activation: must be a table"),
    "unknown key of a range": ("log = true", "logg = true", "[space] actor_lr: logg: unknown key; did you mean 'log'?"),
    "one choice": ('["relu", "tanh"]', '["relu"]', "[space] activation: choices: must have at least 2 items"),
    "a choice twice": ('["relu", "tanh"]', '["relu", "relu"]', "[space] activation: choices: a choice is duplicated"),
    "a choice the config refuses": (
        '["relu", "tanh"]',
        '["relu", "swish"]',
        "[space]: activation: input should be 'relu'",
    ),
    "an end the config refuses": (
        "high = 1e-2",
        "high = 2.0",
        "[space]: actor_lr: input should be less than or equal to 1, not 2.0",
    ),
    "fractions of a whole number": (
        '{ type = "int", low = 1, high = 4 }',
        '{ type = "float", low = 1.0, high = 2.5 }',
        "[space]: target_period: input should be a valid integer",
    ),
    "a corner the config refuses": (
        SPACE,
        'log_std_min = {type = "float", low = -9.0, high = 1.0}\nlog_std_max = {type = "float", low = 0.0, high = 2.0}',
        "log_std_min = 1.0 is above log_std_max = 0.0",
    ),
    "a value inside that is refused": (
        'target_period = { type = "int", low = 1, high = 4 }',
        'num_envs = {type = "int", low = 1, high = 4}',
        "eval_every = 100 is not a multiple of num_envs = 3",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_invalid_studies_are_refused_in_one_line_with_file_and_key(case, tmp_path):
    old, new, words = BAD[case]
    assert old in STUDY
    path = tmp_path / "bad.toml"
    path.write_text(STUDY.replace(old, new))
    with pytest.raises(InputError) as refused:
        load(path)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "bad.toml:" in str(refused.value)


@pytest.mark.thorough
def test_the_command_refuses_an_invalid_study_before_writing_anything(command, study_file, tmp_path):
    study_file.write_text(STUDY.replace("low = 1e-4", "low = 0.0"))
    before = sorted(tmp_path.rglob("*"))
    refused = command("tune", study_file)
    assert refused.returncode == 2
    message, line = refused.stderr.strip().splitlines()
    assert message == f"sac-bench: {study_file}:21: [space] actor_lr: low: must be above 0 for log = true, not 0"
    assert line.split("|")[1].startswith(" actor_lr = ")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_shipped_studies_are_valid(path):
    study = load(path)
    assert study.name == path.stem
    assert study.question
    assert len(study.held_out_seeds) >= 5
    assert study.rungs


FLOATS = st.tuples(st.floats(1e-6, 0.4), st.floats(0.5, 1), st.booleans())


@settings(derandomize=True)
@given(FLOATS, st.integers(1, 5), st.integers(6, 50), st.lists(st.sampled_from([1, 2, 3, 4]), min_size=2, unique=True))
def test_the_config_accepts_all_values_of_a_space_including_its_ends(tau, low, high, critics):
    space = [
        parse("tau", {"type": "float", "low": tau[0], "high": tau[1], "log": tau[2]}, "f"),
        parse("target_period", {"type": "int", "low": low, "high": high}, "f"),
        parse("layers", {"type": "categorical", "choices": [[8] * n for n in critics]}, "f"),
    ]
    offered = list(probes(space))
    for params in offered:
        config = SACConfig.model_validate(params)
        assert tau[0] <= config.tau <= tau[1]
        assert list(config.layers) in [[8] * n for n in critics]
    for dimension in space:
        assert all(any(params[dimension.name] == end for params in offered) for end in dimension.ends())
    assert {params["target_period"] for params in offered} == set(range(low, high + 1))
    choice = space[2]
    wide = list(probes([parse("batch_size", {"type": "int", "low": 2, "high": 4000, "step": 2}, "f")]))
    assert all(2 <= params["batch_size"] <= 4000 and params["batch_size"] % 2 == 0 for params in wide)
    assert len({params["batch_size"] for params in wide}) > 100  # from inside, too
    assert [choice.value(stored) for stored in choice.distribution.choices] == [[8] * n for n in critics]


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SCALARS = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | TEXT
TABLES = st.recursive(
    SCALARS | st.lists(SCALARS, max_size=3), lambda inner: st.dictionaries(TEXT, inner, max_size=3), max_leaves=8
)


@settings(derandomize=True)
@given(st.dictionaries(TEXT, TABLES, max_size=4))
def test_tables_written_as_toml_are_read_back_unchanged(tables):
    assert tomllib.loads(tomli_w.dumps(tables)) == tables


def test_a_study_of_an_experiment_with_backends_is_refused(tmp_path):
    """Its [on.ENV] would be settings of one backend only."""
    (tmp_path / "e.toml").write_text(
        'name = "e"\nenvs = ["HalfCheetah-v5"]\nbackends = ["gymnasium"]\nsteps = 3000\n'
        "[base]\nlearning_starts = 100\n[variants.sac]\n[on.HalfCheetah-v5]\ngamma = 0.9\n"
    )
    path = tmp_path / "study.toml"
    path.write_text(STUDY.replace('envs = ["InvertedPendulum-v5"]', 'experiment = "e.toml"'))
    with pytest.raises(InputError, match=r"study.toml:\d+: experiment: e.toml has backends, which a study does not"):
        load(path)


def test_an_experiment_is_refused_as_a_study_and_vice_versa(study_file, experiment_file):
    with pytest.raises(InputError, match="this is an experiment; run it with sac-bench run "):
        load(experiment_file)
    with pytest.raises(InputError, match="this is a study; run it with sac-bench tune"):
        load_experiment(study_file)
