"""From TOML to runs: ids, variants, and every kind of invalid input."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sac_bench.algorithms import ALGORITHMS
from sac_bench.algorithms.hyperparameters import dtype_of
from sac_bench.analysis.verdicts import MIN_SEEDS
from sac_bench.envs.multigoal import GOALS, MultiGoal
from sac_bench.errors import InputError
from sac_bench.options.sac import SACConfig
from sac_bench.spec import run
from sac_bench.spec.includes import files
from sac_bench.spec.load import load
from sac_bench.spec.run import RunSpec, digest
from sac_bench.spec.variant import Shown
from tests.conftest import EXPERIMENT, tiny

DEFAULTS = {
    "num_envs": 1,
    "eval_every": 10000,
    "eval_episodes": 5,
    "pool_episodes": 50,
    "precision": "float32",
    "learning_starts": 10000,
    "replay_capacity": 1000000,
    "batch_size": 256,
    "utd": 1.0,
    "n_step": 1,
    "layers": [256, 256],
    "activation": "relu",
    "critics": 2,
    "value_network": False,
    "actor_lr": 3e-4,
    "critic_lr": 3e-4,
    "value_lr": 3e-4,
    "temperature_lr": 3e-4,
    "gamma": 0.99,
    "tau": 0.005,
    "target_period": 1.0,
    "reward_scale": 1.0,
    "learn_temperature": 1.0,
    "temperature": 1.0,
    "target_entropy_scale": 1.0,
    "entropy_in_backup": 1.0,
    "pessimism": 1.0,
    "actor_objective": 0.0,
    "log_std_min": -20.0,
    "log_std_max": 2.0,
}
SHIPPED = files([Path(__file__).parents[2] / "experiments"])
CLAIMS = files([Path(__file__).parents[2] / "experiments" / "claims"])


def test_an_experiment_is_loaded_into_variants_and_runs(experiment_file):
    e = load(experiment_file)
    assert list(e.variants) == ["sac", "v-network", "tau=0.005", "tau=1"]
    assert e.variants["v-network"].configs["InvertedPendulum-v5"].value_network
    assert e.variants["tau=1"].swept == ("tau", 1.0)
    assert e.variants["sac"].configs["InvertedPendulum-v5"].layers == (8,)
    runs = e.runs()
    assert len(runs) == 8
    assert len({spec.id for _, spec in runs}) == 6  # tau = 0.005 is the reference itself


def test_sweeps_change_one_factor_of_the_reference(tmp_path):
    text = EXPERIMENT.replace("[variants.sac]", "[variants.sac]\nvalue_network = true")
    path = tmp_path / "e.toml"
    path.write_text(text)
    assert load(path).variants["tau=1"].configs["InvertedPendulum-v5"].value_network


def test_a_sweep_may_be_of_another_variant(tmp_path):
    path = tmp_path / "swept.toml"
    path.write_text(EXPERIMENT + "\n[sweep.v-network]\nreward_scale = [0.1, 10.0]\n")
    variants = load(path).variants
    swept = variants["v-network+reward_scale=10"]
    assert (swept.swept, swept.sweep_of) == (("reward_scale", 10.0), "v-network")
    config = swept.configs["InvertedPendulum-v5"]
    assert (config.value_network, config.reward_scale) == (True, 10.0)
    assert variants["tau=1"].sweep_of is None


def test_a_label_and_a_group_change_only_what_is_shown(tmp_path):
    path = tmp_path / "a.toml"
    text = EXPERIMENT + "\n[sweep.v-network]\ntau = [0.5]\n"
    path.write_text(text)
    plain = load(path)
    path.write_text(
        text.replace("[variants.v-network]", '[variants.v-network]\nlabel = "V network"\ngroup = "critics"')
    )
    shown = load(path)
    assert [spec.id for _, spec in shown.runs()] == [spec.id for _, spec in plain.runs()]
    assert shown.variants["v-network"].shown == Shown(label="V network", group="critics")
    assert shown.variants["v-network"].overrides == plain.variants["v-network"].overrides
    assert shown.variants["v-network+tau=0.5"].shown == Shown(label="V network, tau = 0.5", group="critics")
    assert plain.variants["v-network"].shown == shown.variants["tau=1"].shown == Shown()


def test_a_sweep_may_have_a_label_and_a_group(tmp_path):
    path = tmp_path / "a.toml"
    text = EXPERIMENT + "\n[sweep.v-network]\ntau = [0.5]\n"
    path.write_text(text)
    plain = load(path)
    labelled = '{ values = [0.005, 1.0], label = "target smoothing", group = "targets" }'
    text = text.replace("tau = [0.005, 1.0]", f"tau = {labelled}").replace(
        "tau = [0.5]", 'tau = { values = [0.5], label = "smoothing" }'
    )
    path.write_text(text)
    shown = load(path)
    assert [spec.id for _, spec in shown.runs()] == [spec.id for _, spec in plain.runs()]
    assert list(shown.variants) == list(plain.variants)
    assert shown.variants["tau=1"].shown == Shown(label="target smoothing = 1", group="targets")
    assert shown.variants["tau=1"].sweep_label == "target smoothing"
    assert shown.variants["v-network+tau=0.5"].shown == Shown(label="v-network, smoothing = 0.5")
    path.write_text(text.replace("[variants.v-network]", '[variants.v-network]\nlabel = "V"\ngroup = "g"'))
    assert load(path).variants["v-network+tau=0.5"].shown == Shown(label="V, smoothing = 0.5", group="g")


@pytest.mark.parametrize(
    ("sweep", "words"),
    [
        ("3", "sweep.tau: input should be a valid list, not 3"),
        ("{ label = 'smoothing' }", "[sweep.tau]: values: is required"),
        ("{ value = [0.1], label = 'smoothing' }", "[sweep.tau]: value: unknown key; did you mean 'values'?"),
        ("{ value = [0.1] }", "[sweep.tau]: value: unknown key; did you mean 'values'?"),
        ("[]", "[sweep.tau]: values: must not be empty"),
        ("{ values = 3 }", "[sweep.tau]: values: input should be a valid list, not 3"),
        ("{ values = [0.1], label = 3 }", "[sweep.tau]: label: input should be a valid string, not 3"),
        ("{ values = [0.1], title = 'smoothing' }", "[sweep.tau]: title: unknown key"),
        ("[0.1]\n[sweep.v-network]\ngamma = 3", "[sweep.v-network.gamma]: values: input should be a valid list, not 3"),
    ],
)
def test_an_invalid_sweep_is_refused_with_the_reason(tmp_path, sweep, words):
    path = tmp_path / "a.toml"
    path.write_text(EXPERIMENT.replace("tau = [0.005, 1.0]", f"tau = {sweep}"))
    with pytest.raises(InputError, match=re.escape(words)):
        load(path)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('label = ""', r"\[variants.v-network\]: label: must be one line of 1 to 60 characters"),
        (f'label = "{61 * "a"}"', r"label: must be one line of 1 to 60 characters"),
        (r'group = "a\nb"', r"\[variants.v-network\]: group: must be one line"),
        ("label = 3", r"label: input should be a valid string, not 3"),
        ('label = "sac"', r"label: 'sac' is used for two variants"),
        (
            r"label = '$\foo$'",
            r"a\.toml:\d+: .*label: has a formula that figures cannot draw, in .*: Unknown symbol: \\foo",
        ),
        ("group = '5 $'", r"a\.toml:\d+: .*group: has a \$ without a second one, in '5 \$'; write formulas as"),
    ],
)
def test_labels_and_groups_must_be_single_lines_and_labels_must_differ(line, words, tmp_path):
    path = tmp_path / "a.toml"
    path.write_text(EXPERIMENT.replace("[variants.v-network]", f"[variants.v-network]\n{line}"))
    with pytest.raises(InputError, match=words):
        load(path)


def test_a_label_must_not_be_another_variants_name(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text(EXPERIMENT.replace("[variants.sac]", '[variants.sac]\nlabel = "v-network"'))
    with pytest.raises(InputError, match="'v-network' is used for two variants"):
        load(path)


@pytest.mark.parametrize("label", [r"$\tau$ of $Q_{target}$", r"5 \$", r"5 \$ for $\alpha$"])
def test_a_label_may_have_formulas_and_dollar_signs(tmp_path, label):
    path = tmp_path / "a.toml"
    path.write_text(EXPERIMENT.replace("[variants.v-network]", f"[variants.v-network]\nlabel = '{label}'"))
    assert load(path).variants["v-network"].shown.label == label


@pytest.mark.parametrize(
    ("sweeps", "words"),
    [
        ('gamma = { values = [0.9], label = "tau" }', "[sweep.gamma] label: 'tau' is used for two sweeps"),
        (
            '[sweep.v-network]\ntau = { values = [0.1], label = "x" }\ngamma = { values = [0.9], label = "x" }',
            "[sweep.v-network.gamma] label: 'x' is used for two sweeps",
        ),
    ],
)
def test_two_sweeps_of_a_variant_must_not_have_one_label(tmp_path, sweeps, words):
    path = tmp_path / "a.toml"
    path.write_text(EXPERIMENT.replace("tau = [0.005, 1.0]", f"tau = [0.005, 1.0]\n{sweeps}"))
    line = path.read_text().split("\n").index(sweeps.split("\n")[-1]) + 1
    with pytest.raises(InputError, match=re.escape(f"{path}:{line}: {words}")):
        load(path)


def test_sweeps_of_different_variants_may_have_one_label(tmp_path):
    path = tmp_path / "a.toml"
    of_both = 'tau = { values = [0.1], label = "x" }\n[sweep.v-network]\ntau = { values = [0.1], label = "x" }'
    path.write_text(EXPERIMENT.replace("tau = [0.005, 1.0]", of_both))
    assert load(path).variants["v-network+tau=0.1"].shown.label == "v-network, x = 0.1"


def test_a_list_in_quick_keeps_the_label_of_a_sweep(tmp_path):
    path = tmp_path / "a.toml"
    labelled = '{ values = [0.005, 1.0], label = "smoothing", group = "targets" }'
    path.write_text(
        EXPERIMENT.replace("tau = [0.005, 1.0]", f"tau = {labelled}\n[sweep.v-network]\ntau = {labelled}")
        + "\n[quick.sweep]\ntau = [0.5]\n[quick.sweep.v-network]\ntau = [0.25]\n"
    )
    variants = load(path, quick=True).variants
    assert [name for name in variants if "tau" in name] == ["tau=0.5", "v-network+tau=0.25"]
    assert variants["tau=0.5"].shown == Shown(label="smoothing = 0.5", group="targets")
    assert variants["v-network+tau=0.25"].shown == Shown(label="v-network, smoothing = 0.25", group="targets")


def test_a_label_in_base_is_refused(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text(EXPERIMENT.replace("[base]", '[base]\nlabel = "all"'))
    with pytest.raises(InputError, match=r"\[base\] label: belongs in \[variants.NAME\]"):
        load(path)


def test_the_command_line_overrides_the_file(experiment_file):
    e = load(experiment_file, seeds=1, steps=600, envs=["Hopper-v5"], variants=["tau=1"], settings=["gamma=0.9"])
    ((variant, spec),) = e.runs()
    assert (variant.steps["Hopper-v5"], spec.env, spec.seed, spec.config.gamma) == (600, "Hopper-v5", 0, 0.9)
    assert e.reference == "tau=1"
    words = (
        load(experiment_file, settings=["activation=tanh", "layers=[4, 4]"])
        .variants["sac"]
        .configs["InvertedPendulum-v5"]
    )
    assert (words.activation, words.layers) == ("tanh", (4, 4))
    bare = load(experiment_file, settings=["layers=8,8"]).variants["sac"].configs["InvertedPendulum-v5"]
    assert bare.layers == (8, 8)


def test_whole_numbers_may_be_written_with_an_exponent(experiment_file):
    given = experiment_file.read_text()
    experiment_file.write_text(given.replace("steps = 400", "steps = 4e2"))
    (variant, short), *_ = load(experiment_file, settings=["replay_capacity=5e4", "tau=1e0"]).runs()
    (_, long), *_ = load(experiment_file, settings=["replay_capacity=50000", "tau=1.0"]).runs()
    assert (variant.steps["InvertedPendulum-v5"], short.config.replay_capacity) == (400, 50000)
    assert short.id == long.id
    with pytest.raises(InputError, match=r"replay_capacity: input should be a valid integer, not 1500\.5"):
        load(experiment_file, settings=["replay_capacity=1.5005e3"])


def test_a_file_without_variants_has_one_variant_from_base(tmp_path):
    path = tmp_path / "e.toml"
    path.write_text(EXPERIMENT.split("[variants.sac]")[0].replace('reference = "sac"\n', ""))
    (variant,) = load(path).variants.values()
    assert variant.configs["InvertedPendulum-v5"].layers == (8,)


def test_a_variant_may_set_its_own_steps(tmp_path):
    path = tmp_path / "e.toml"
    path.write_text(EXPERIMENT.replace("value_network = true", "value_network = true\nsteps = 800"))
    assert load(path).variants["v-network"].steps == {"InvertedPendulum-v5": 800}
    assert all(v.steps == {"InvertedPendulum-v5": 600} for v in load(path, steps=600).variants.values())


def test_the_id_depends_only_on_what_the_numbers_depend_on(experiment_file, tmp_path):
    renamed = tmp_path / "other.toml"
    renamed.write_text(
        EXPERIMENT.replace('"tiny"', '"other"')
        .replace("variants.sac", "variants.x")
        .replace('reference = "sac"', 'reference = "x"')
        .replace("steps = 400", "steps = 4000")
    )
    first = load(experiment_file).runs()[0][1]
    assert load(renamed).runs()[0][1].id == first.id
    base = RunSpec("sac", tiny(), "Hopper-v5", 0)
    others = [
        RunSpec("sac", tiny(tau=0.01), "Hopper-v5", 0),
        RunSpec("sac", tiny(critics=1), "Hopper-v5", 0),
        RunSpec("sac", tiny(precision="float64"), "Hopper-v5", 0),
        RunSpec("sac", tiny(precision="tf32"), "Hopper-v5", 0),
        RunSpec("sac", tiny(), "gymnasium:Hopper-v5", 0),
        RunSpec("sac", tiny(), "Hopper-v5", 1),
    ]
    assert len({base.id, *(spec.id for spec in others)}) == 7
    assert RunSpec.from_dict(base.as_dict()) == base


def test_the_id_hashes_only_options_that_differ_from_the_defaults():
    # A new option leaves stored results valid. A changed default does not, and requires a new `semantics`.
    identity = RunSpec("sac", SACConfig(tau=0.01, layers=(256, 256)), "HalfCheetah-v5", 0).identity()
    assert identity.pop("backend").startswith("envpool ")
    expected = {"algorithm": "sac", "semantics": 3, "evaluation": 3, "env": "HalfCheetah-v5", "seed": 0}
    assert identity == expected | {"config": {"tau": 0.01}}
    assert digest(identity) == "2c7089cc0577b7e4"
    defaults = SACConfig().hyperparameters() | SACConfig().structure()
    assert defaults.items() >= DEFAULTS.items()


def test_another_version_of_evaluations_gives_another_id_and_is_reported(monkeypatch):
    now = RunSpec("sac", tiny(), "Hopper-v5", 0)
    before = {key: value for key, value in now.as_dict().items() if key != "evaluation"}
    assert now.differences_from(now.as_dict()) == []
    assert now.differences_from(before) == ["version 1 of evaluations (now 3)"]
    first = now.id
    monkeypatch.setattr(run, "EVALUATION_VERSION", 99)
    assert replace(now).id != first


@pytest.mark.parametrize(("algorithm", "scoring", "other"), [("sac", "mean", "sample"), ("sql", "sample", "mean")])
def test_every_evaluation_plays_the_scoring_actions_and_some_play_the_others(algorithm, scoring, other):
    steps = np.arange(0, 1051, 50)

    def due(policy, every):
        spec = RunSpec(algorithm, tiny(algorithm, eval_every=100, eval_sampled_every=every), "Hopper-v5", 0)
        found = spec.evaluated_by(policy, steps, 1050)
        assert [bool(spec.evaluated_by(policy, int(step), 1050)) for step in steps] == found.tolist()
        assert spec.evaluated_by(np.array([policy] * len(steps)), steps, 1050).tolist() == found.tolist()
        return steps[found].tolist()

    assert {tuple(due(scoring, every)) for every in (0, 1, 4)} == {(*range(0, 1001, 100), 1050)}
    assert due(other, 1) == due(scoring, 1)
    assert due(other, 4) == [0, 400, 800, 1050]
    assert due(other, 0) == []


def test_an_options_version_changes_only_ids_of_runs_that_use_it(monkeypatch):
    runs = [RunSpec("sac", tiny(gamma=gamma), "Hopper-v5", 0) for gamma in (0.99, 0.9)]
    before = [(spec.id, spec.as_dict()) for spec in map(replace, runs)]
    versions = property(lambda config: {"gamma": 2} if config.gamma == 0.9 else {})
    monkeypatch.setattr(SACConfig, "option_versions", versions)
    other, used = map(replace, runs)
    assert other.id == before[0][0]
    assert used.id != before[1][0]
    assert ("option_versions" in other.identity(), used.identity()["option_versions"]) == (False, {"gamma": 2})
    assert RunSpec.from_dict(used.as_dict()) == used
    assert other.differences_from(before[0][1]) == used.differences_from(used.as_dict()) == []
    assert used.differences_from(before[1][1]) == ["version 1 of option gamma (now 2)"]


def test_runs_of_a_cohort_may_differ_in_numbers_but_not_in_structure():
    same = [tiny(), tiny(tau=1.0, learn_temperature=False, temperature=0.0, pessimism=0.0, actor_objective="first")]
    assert len({RunSpec("sac", c, "Hopper-v5", s).structure() for s, c in enumerate(same)}) == 1
    for other in (tiny(critics=1), tiny(value_network=True), tiny(batch_size=8), tiny(layers=[9]), tiny(utd=2.0)):
        assert RunSpec("sac", other, "Hopper-v5", 0).structure() != RunSpec("sac", tiny(), "Hopper-v5", 0).structure()
    assert tiny(actor_objective="first", learn_temperature=False).hyperparameters()["actor_objective"] == 1.0
    assert all(isinstance(v, float) for v in tiny().hyperparameters().values())


def test_every_default_names_its_source():
    for name, field in SACConfig.model_fields.items():
        assert field.description, name
        assert field.json_schema_extra["source"], name
    assert dtype_of(SACConfig()) is torch.float32


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_shipped_experiments_are_valid(path):
    e = load(path)
    assert e.name == path.stem
    assert e.question
    assert len(e.seeds) >= 3


def test_reward_scale_is_swept_with_a_fixed_temperature():
    # A learned temperature adapts to the scale, so such a sweep would change only the initial temperature.
    swept = [
        variant
        for path in [*SHIPPED, *CLAIMS]
        for variant in load(path).variants.values()
        if variant.swept and variant.swept[0] == "reward_scale"
    ]
    assert swept
    for variant in swept:
        assert not any(config.learn_temperature for config in variant.configs.values())


@pytest.mark.parametrize("path", CLAIMS, ids=lambda p: p.stem)
def test_shipped_claims_are_valid_at_both_settings(path):
    full, quick = load(path), load(path, quick=True)
    assert (full.name, quick.name) == (path.stem, f"{path.stem}-quick")
    tuned = {"sac-sampled:": "sac:", "reward_scale=1000": "reward_scale=100", "> reward_scale=1": "> reward_scale=0.1"}
    for one in map(str, quick.claim.expect):
        as_at_full_size = next((one.replace(small, large) for small, large in tuned.items() if small in one), one)
        assert as_at_full_size in map(str, full.claim.expect)
    assert full.claim.words.endswith(".")
    assert "arXiv" in full.claim.source
    assert min(len(full.seeds), len(quick.seeds)) >= MIN_SEEDS
    reference = quick.variants[quick.reference].configs[quick.envs[0]]
    assert set(reference.layers) == {64}


def every_setting():
    """Every experiment file, and its quick setting if it is a claim."""
    return [load(path) for path in SHIPPED] + [load(path, quick=quick) for path in CLAIMS for quick in (False, True)]


def test_no_two_arms_of_a_shipped_experiment_are_the_same_run():
    checked = 0
    for e in every_setting():
        if e.choose:  # its arms may choose differently
            continue
        for env in e.envs:
            ids = [one.run(env, 0).id for one in e.variants.values() if "ppo" not in one.name]  # two lengths of one run
            assert len(set(ids)) == len(ids), (e.name, env)
            checked += len(ids)
    assert checked > 200


def test_a_tuned_arm_of_a_claim_is_chosen_by_the_compared_measure():
    tuned = [e for e in every_setting() if e.claim and e.choose]
    for e in tuned:
        for side in (side for one in e.claim.expect for side in (one.a, one.b)):
            algorithm = ALGORITHMS[e.variants[side.variant].algorithm]
            by = e.choose.by.get(side.variant, "score")
            assert algorithm.scored_by == "sample" or by == side.measure, (e.name, str(side))
    assert len(tuned) == 4


def test_fixed_temperatures_without_a_published_value_are_tuned():
    for name in ("bipedal-walker", "humanoid-21"):
        (path,) = [p for p in SHIPPED if p.stem == name]
        e = load(path)
        fixed = [v.name for v in e.variants.values() if not all(c.learn_temperature for c in v.configs.values())]
        assert all(e.choose and "temperature" in e.choose.candidates[arm][0].options for arm in fixed), name


def test_retuned_differs_from_the_quick_ablation_only_in_what_is_tuned():
    ablation, retuned = (load(path) for path in SHIPPED if path.stem in ("ablation-quick", "retuned"))
    rates = dict.fromkeys(("actor_lr", "critic_lr"), 1e-3)
    for name in retuned.variants:
        untuned = rates if name != "fixed-temperature" else rates | {"temperature": 1.0, "reward_scale": 5.0}
        own = retuned.variants[name].configs["HalfCheetah-v5"]
        assert own.model_copy(update=untuned) == ablation.variants[name].configs["HalfCheetah-v5"]
        candidates = [one.options for one in retuned.choose.candidates[name]]
        inner = {option: 1e-3 for option in candidates[0] if option in rates}
        inner |= {"temperature": 0.01} if name == "fixed-temperature" else {}
        assert retuned.choose.at_edge(name, inner, candidates) == ()
    specs = [spec for _, spec in retuned.selection().runs()]
    assert len({spec.id for spec in specs}) == len(specs) == 16 * 3 * 4
    assert not {spec.seed for spec in specs} & set(retuned.seeds)


@pytest.mark.parametrize("quick", [False, True])
def test_all_arms_of_several_modes_start_with_random_steps_that_reach_every_goal(quick):
    (path,) = [path for path in CLAIMS if path.stem == "several-modes"]
    e = load(path, quick=quick)
    (env,) = e.envs
    shared = ("layers", "batch_size", "critic_lr", "gamma", "tau", "target_period", "reward_scale", "learning_starts")
    configs = [variant.configs[env] for variant in e.variants.values()]
    assert len({tuple(getattr(config, name) for name in shared) for config in configs}) == 1
    reached = [goals_reached(np.random.default_rng(seed), configs[0].warmup_steps) for seed in range(100)]
    assert np.mean(np.array(reached) == 4) > 0.9  # 1000 steps: 0.76


def goals_reached(random, steps):
    """Return how many goals uniformly random actions reach in this many steps of MultiGoal."""
    env, reached, at = MultiGoal(), set(), 0
    position, _ = env.reset(seed=int(random.integers(2**31)))
    for action in random.uniform(-1, 1, (steps, 2)):
        position, _, ended, _, _ = env.step(action)
        at += 1
        if ended:
            reached.add(int(np.abs(position - np.array(GOALS)).sum(1).argmin()))
        if ended or at == 30:
            (position, _), at = env.reset(), 0
    return len(reached)


@pytest.mark.parametrize("quick", [False, True])
def test_from_scratch_differs_from_a_warm_start_only_in_its_weights(quick):
    (path,) = [path for path in CLAIMS if path.stem == "starting-points"]
    e = load(path, quick=quick)
    scratch, warm = e.variants["from-scratch"], e.variants["from-sac"]
    (env,) = e.envs
    assert warm.parent.temperature == scratch.configs[env].temperature
    assert scratch.configs[env].model_copy(update={"temperature": 1.0}) == warm.configs[env]
    for frozen in ("from-sac-frozen", "from-without-frozen"):
        assert e.variants[frozen].configs[env].updates_due(e.variants[frozen].steps[env]) == 1


@pytest.mark.parametrize("name", ["ablation-quick", "ablation-halfcheetah", "ablation-hopper", "ablation-humanoid"])
def test_ablations_cover_the_five_axes(name):
    (path,) = [p for p in SHIPPED if p.stem == name]
    configs = [c for v in load(path).variants.values() for c in v.configs.values()]
    for field in ("value_network", "learn_temperature", "critics", "reward_scale", "tau"):
        assert len({getattr(c, field) for c in configs}) > 1, field


BAD_FILES = {
    "empty": ("", "the file is empty"),
    "blank": ("  \n\n", "the file is empty"),
    "invalid TOML": ('name = "x', "not valid TOML"),
    "unknown key": (EXPERIMENT.replace("seeds = 2", "seed = 2"), "seed: unknown key; did you mean 'seeds'?"),
    "unknown option": (
        EXPERIMENT.replace("batch_size", "batchsize"),
        "[base] batchsize: sac has no such option; did you mean 'batch_size'?",
    ),
    "unknown option in variant": (
        EXPERIMENT.replace("value_network = true", "value_net = true"),
        "[variants.v-network] value_net: sac has no such option; did you mean 'value_network'?",
    ),
    "unknown swept option": (
        EXPERIMENT.replace("tau = [", "taus = ["),
        "[sweep] taus: sac has no such option; did you mean 'tau'?",
    ),
    "missing": (EXPERIMENT.replace('envs = ["InvertedPendulum-v5"]', ""), "envs: is required"),
    "wrong type": (EXPERIMENT.replace("steps = 400", 'steps = "many"'), "steps: "),
    "wrong type of option": (EXPERIMENT.replace("batch_size = 4", 'batch_size = "4"'), "batch_size: "),
    "a bool is no number": (EXPERIMENT.replace("batch_size = 4", "batch_size = true"), "batch_size: "),
    "a fraction is no count": (EXPERIMENT.replace("batch_size = 4", "batch_size = 4.5"), "batch_size: "),
    "tau above 1": (EXPERIMENT.replace("[0.005, 1.0]", "[0.005, 1.5]"), "tau: input should be less than or equal to 1"),
    "NaN": (EXPERIMENT.replace("[0.005, 1.0]", "[nan]"), "tau: "),
    "infinite": (EXPERIMENT.replace("[0.005, 1.0]", "[inf]"), "tau: "),
    "negative steps": (EXPERIMENT.replace("steps = 400", "steps = -400"), "steps: "),
    "no critics": (EXPERIMENT.replace("value_network = true", "critics = 0"), "critics: "),
    "no layers": (EXPERIMENT.replace("[8]", "[]"), "layers: must be 1 to 64 layers"),
    "unknown activation": (EXPERIMENT.replace("[8]", '[8]\nactivation = "rellu"'), "activation: "),
    "learn from temperature 0": (
        EXPERIMENT.replace("[8]", "[8]\ntemperature = 0.0"),
        "temperature = 0 is too low",
    ),
    "unknown environment": (
        EXPERIMENT.replace("InvertedPendulum-v5", "InvertedPendulun-v5"),
        "did you mean 'InvertedPendulum-v5'?",
    ),
    "discrete actions": (EXPERIMENT.replace("InvertedPendulum-v5", "CartPole-v1"), "only continuous ones"),
    "environment twice": (EXPERIMENT.replace('envs = ["', 'envs = ["InvertedPendulum-v5", "'), "is duplicated"),
    "no such reference": (
        EXPERIMENT.replace('reference = "sac"', 'reference = "sacc"'),
        "no variant 'sacc'; did you mean",
    ),
    "a reference without a name": (
        EXPERIMENT.replace('reference = "sac"', 'reference = ""'),
        "reference: no variant ''",
    ),
    "unknown algorithm": (EXPERIMENT.replace("seeds = 2", 'seeds = 2\nalgorithm = "sca"'), "unknown algorithm 'sca'"),
    "duplicate variants": (EXPERIMENT + '\n[variants."tau=1"]\n', "the variant 'tau=1' is duplicated"),
    "duplicate tables": (EXPERIMENT + "\n[variants.sac]\n", "not valid TOML"),
    "a name that is a path": (EXPERIMENT.replace('"tiny"', '"../../tiny"'), "not a plain name"),
    "a name of the store's own": (EXPERIMENT.replace('"tiny"', '"runs"'), "is reserved for a folder of the store"),
    "the same in capitals": (EXPERIMENT.replace('"tiny"', '"Runs"'), "is reserved for a folder of the store"),
    "a variant that is a path": (EXPERIMENT.replace("v-network", '"a/b"'), "not a plain name"),
    "seed too large": (EXPERIMENT.replace("seeds = 2", "seeds = [5000000000]"), "seeds: 5000000000 must be between"),
    "seed twice": (EXPERIMENT.replace("seeds = 2", "seeds = [1, 1]"), "seed is duplicated"),
    "no seeds": (EXPERIMENT.replace("seeds = 2", "seeds = 0"), "seeds: must be between 1 and 10000"),
    "steps that allow no update": (EXPERIMENT.replace("steps = 400", "steps = 100"), "allows no update"),
    "steps no multiple of num_envs": (
        EXPERIMENT.replace("steps = 400", "steps = 402").replace("[8]", "[8]\nnum_envs = 4"),
        "steps = 402 is not a multiple of num_envs = 4; nearest: 400 or 404",
    ),
    "a sweep of no variant": (
        EXPERIMENT + "\n[sweep.v-netwrk]\ntau = [0.1]\n",
        "[sweep.v-netwrk]: no variant 'v-netwrk'; did you mean 'v-network'?",
    ),
    "learning_starts no multiple": (
        EXPERIMENT.replace("= 100", "= 90").replace("[8]", "[8]\nnum_envs = 4"),
        "learning_starts = 90 is not a multiple of num_envs = 4; nearest: 88 or 92",
    ),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_input_is_one_line_with_file_and_key(case, tmp_path):
    text, words = BAD_FILES[case]
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(InputError) as refused:
        load(path)
    message = str(refused.value)
    assert words in message
    assert message.startswith(str(path))
    assert "\n" not in message


def test_bad_input_files_that_cannot_be_read(tmp_path):
    (tmp_path / "binary.toml").write_bytes(bytes(range(256)))
    (tmp_path / "folder.toml").mkdir()
    for name, words in [
        ("binary.toml", "must be UTF-8 text"),
        ("folder.toml", "cannot be read"),
        ("none.toml", "no such file"),
    ]:
        with pytest.raises(InputError, match=words):
            load(tmp_path / name)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("tau", "must be KEY=VALUE"),
        ("taux=1", "did you mean 'tau'"),
        ("tau=2", "less than or equal to 1"),
        ("=1", "must be KEY"),
        ("tau=1\ngamma=1", r"tau: input should be a valid number, not '1\\ngamma=1'"),
    ],
)
def test_bad_input_in_settings(settings, words, experiment_file):
    with pytest.raises(InputError, match=words):
        load(experiment_file, settings=[settings])


def test_bad_input_unknown_variant_names_the_nearest(experiment_file):
    with pytest.raises(InputError, match="no variant 'vnetwork'; did you mean 'v-network'"):
        load(experiment_file, variants=["vnetwork"])


SEVERAL = """
name = "several"
envs = ["HalfCheetah-v5", "Humanoid-v5"]
steps = 100000
reference = "sac"

[base]
eval_every = 5000

[base.sac]
critics = 3

[base.td3]
policy_delay = 4

[on.Humanoid-v5]
steps = 300000
gamma = 0.9

[variants.sac]

[variants.v1]
reward_scale = 5.0

[variants.v1.on.Humanoid-v5]
reward_scale = 20.0
gamma = 0.8

[variants.td3]
algorithm = "td3"
steps = 200000

[sweep]
tau = [0.1]
"""


@pytest.fixture
def several(tmp_path):
    path = tmp_path / "several.toml"

    def written(*changes):
        text = SEVERAL
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path.write_text(text)
        return path

    return written


def test_variants_may_set_options_per_algorithm_and_environment(several):
    variants = load(several()).variants
    assert {name: v.algorithm for name, v in variants.items()} == {
        "sac": "sac",
        "v1": "sac",
        "td3": "td3",
        "tau=0.1": "sac",
    }
    cheetah, humanoid = ({n: v.configs[env] for n, v in variants.items()} for env in ("HalfCheetah-v5", "Humanoid-v5"))
    assert {c.eval_every for c in (*cheetah.values(), *humanoid.values())} == {5000}
    assert (cheetah["sac"].critics, cheetah["td3"].critics) == (3, 2)
    assert (cheetah["v1"].reward_scale, humanoid["v1"].reward_scale) == (5.0, 20.0)
    assert {n: c.gamma for n, c in humanoid.items()} == {"sac": 0.9, "v1": 0.8, "td3": 0.9, "tau=0.1": 0.9}
    assert {c.gamma for c in cheetah.values()} == {0.99}
    assert variants["sac"].steps == {"HalfCheetah-v5": 100000, "Humanoid-v5": 300000}
    assert variants["td3"].steps == {
        "HalfCheetah-v5": 200000,
        "Humanoid-v5": 200000,
    }  # a variant's value takes precedence
    assert {spec.algorithm for _, spec in load(several()).runs()} == {"sac", "td3"}


def test_a_swept_value_overrides_every_value_of_the_reference(several):
    file = several(("[variants.sac]", "[variants.sac.on.Humanoid-v5]\ntau = 0.3"), ("tau = [0.1]", "tau = [0.1, 0.2]"))
    found = {name: v.configs["Humanoid-v5"].tau for name, v in load(file).variants.items() if name != "td3"}
    assert found == {"sac": 0.3, "v1": 0.005, "tau=0.1": 0.1, "tau=0.2": 0.2}


def test_steps_may_be_set_among_an_algorithms_options(several):
    variants = load(several(("policy_delay = 4", "steps = 400000"), ("steps = 200000", "tau = 0.1"))).variants
    assert variants["td3"].steps == {"HalfCheetah-v5": 400000, "Humanoid-v5": 300000}


def test_annealing_that_ends_before_training_is_refused(several):
    file = several(('algorithm = "td3"', 'algorithm = "ppo"\nanneal_steps = 200000'))
    load(file)
    with pytest.raises(InputError, match="variant 'ppo': steps = 204800 is more than anneal_steps = 200000") as refused:
        load(
            several(
                ('algorithm = "td3"\nsteps = 200000', 'algorithm = "ppo"\nanneal_steps = 200000\nsteps = 204800'),
                ("variants.td3", "variants.ppo"),
            )
        )
    assert "anneal_steps = 200000" in str(refused.value)


def test_annealing_that_ends_before_training_is_refused_for_replay_algorithms(several):
    load(several(('algorithm = "td3"', 'algorithm = "td3"\nanneal_steps = 200000')))
    with pytest.raises(InputError, match="'td3': steps = 200000 is more than anneal_steps = 199999"):
        load(several(('algorithm = "td3"', 'algorithm = "td3"\nanneal_steps = 199999')))


def test_an_option_set_on_the_command_line_applies_to_every_algorithm_that_has_it(several):
    variants = load(several(), settings=["policy_delay=1", "gamma=0.5"]).variants
    assert variants["td3"].configs["HalfCheetah-v5"].policy_delay == 1
    assert variants["sac"].configs["HalfCheetah-v5"].gamma == 0.5
    assert set(load(several(), envs=["Hopper-v5"]).variants["v1"].configs) == {"Hopper-v5"}
    with pytest.raises(InputError, match="--set policy_delay: none of the requested variants"):
        load(several(), settings=["policy_delay=1"], variants=["sac"])
    with pytest.raises(InputError, match="--set rollouts: unknown key"):
        load(several(), settings=["rollouts=1"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            ('algorithm = "td3"', 'algorithm = "td3"\ntemperature = 0.1'),
            "[variants.td3] temperature: td3 has no such option, an option of sac; available: num_envs, ",
        ),
        (("[base]", "[base]\nvalue_network = true"), "[base] value_network: td3 has no such option"),
        (("policy_delay = 4", "temperature = 1.0"), "[base.td3] temperature: td3 has no such option"),
        (
            ("gamma = 0.9", "policy_delay = 1"),
            "[on.Humanoid-v5] policy_delay: sac has no such option, an option of td3",
        ),
        (("gamma = 0.8", "policy_delay = 1"), "[variants.v1.on.Humanoid-v5] policy_delay: sac has no such option"),
        (
            ("[on.Humanoid-v5]", "[on.Humanoid-v4]"),
            "[on.Humanoid-v4]: must be one of envs; did you mean 'Humanoid-v5'?",
        ),
        (("v1.on.Humanoid-v5]", "v1.on.Hopper-v5]"), "[variants.v1.on.Hopper-v5]: must be one of envs"),
        (
            ('algorithm = "td3"', 'algorithm = "tdd3"'),
            "unknown algorithm 'tdd3'; did you mean 'td3'? (a custom one requires --import MODULE)",
        ),
        (('algorithm = "td3"', "algorithm = 3"), "unknown algorithm 3"),
        (
            ("[base.td3]\npolicy_delay = 4", "[base.tdd]\nx = 4"),
            "[base.tdd]: unknown algorithm 'tdd'; did you mean 'td3'?",
        ),
        (("[base]", '[base]\nalgorithm = "td3"'), "[base] algorithm: belongs at the top of the file"),
        (("tau = [0.1]", 'algorithm = ["td3"]'), "[sweep] algorithm: belongs at the top of the file"),
        (("policy_delay = 4", "policy_delay = 0"), "[base.td3]: policy_delay: "),
        (("[base.td3]", "[base.ppo]\nepochs = 0\n[base.td3]"), "[base.ppo]: epochs: "),  # though no variant is of PPO
        (("[base.td3]", "[base.ppo]\nsteps = 0\n[base.td3]"), "[base.ppo] steps: must be an integer"),
        (("gamma = 0.8", "gamma = 8"), "[variants.v1.on.Humanoid-v5]: gamma: "),
        (("tau = [0.1]", "policy_delay = [1]"), "[sweep] policy_delay: sac has no such option"),
    ],
)
def test_invalid_combinations_are_refused_in_one_line(several, change, words):
    with pytest.raises(InputError) as refused:
        load(several(change))
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
