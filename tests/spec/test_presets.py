"""Presets: each value has a source, and those of Stable-Baselines3 are its defaults."""

import inspect

import pytest

from sac_bench.algorithms import ALGORITHMS
from sac_bench.errors import InputError
from sac_bench.spec.load import load
from sac_bench.spec.presets import presets

HEAD = 'name = "x"\nenvs = ["Pendulum-v1"]\nsteps = 20000\n'


def loaded(tmp_path, text, head=HEAD, **changes):
    (tmp_path / "x.toml").write_text(head + text)
    return load(tmp_path / "x.toml", **changes)


def config(tmp_path, name, more=""):
    return loaded(tmp_path, f'[variants.peer]\nas = "{name}"\n{more}').variants["peer"].configs["Pendulum-v1"]


@pytest.mark.parametrize("name", presets())
def test_every_value_of_a_preset_has_a_source_and_is_used(tmp_path, name):
    preset = presets()[name]
    assert list(preset.options) == list(preset.sources)
    resolved = config(tmp_path, name)
    for option, value in preset.options.items():
        if option != "algorithm":
            used = getattr(resolved, option)
            unset = option == "log_std_min" and used is None  # the default of this form, which no id contains
            assert (resolved.lower_bound if unset else list(used) if isinstance(used, tuple) else used) == value


def test_the_preset_of_stable_baselines3_has_its_defaults(tmp_path):
    sac = pytest.importorskip("stable_baselines3").SAC
    from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
    from stable_baselines3.sac import policies

    ours = config(tmp_path, "sb3-sac")
    theirs = {name: of.default for name, of in inspect.signature(sac.__init__).parameters.items()}
    assert (ours.actor_lr, ours.critic_lr, ours.temperature_lr) == (theirs["learning_rate"],) * 3
    assert ours.replay_capacity == theirs["buffer_size"]
    assert (ours.learning_starts, ours.warmup_steps) == (theirs["learning_starts"],) * 2
    assert ours.updates_due(theirs["learning_starts"] + 1) == 1  # the first update, as in OffPolicyAlgorithm.learn
    assert "self.num_timesteps > self.learning_starts" in inspect.getsource(OffPolicyAlgorithm.learn)
    assert (ours.batch_size, ours.tau, ours.gamma) == (theirs["batch_size"], theirs["tau"], theirs["gamma"])
    assert ours.utd == theirs["gradient_steps"] / theirs["train_freq"]
    assert ours.target_period == theirs["target_update_interval"]
    assert (theirs["ent_coef"], theirs["target_entropy"], theirs["use_sde"]) == ("auto", "auto", False)
    assert (ours.learn_temperature, ours.target_entropy, ours.target_entropy_scale) == (True, None, 1.0)
    assert (ours.lower_bound, ours.log_std_max) == (policies.LOG_STD_MIN, policies.LOG_STD_MAX)
    assert theirs.get("n_steps", 1) == ours.n_step

    model = sac("MlpPolicy", "Pendulum-v1", device="cpu", buffer_size=10)
    actor = [layer.out_features for layer in model.actor.latent_pi if hasattr(layer, "out_features")]
    critic = [layer.out_features for layer in model.critic.q_networks[0] if hasattr(layer, "out_features")]
    assert (list(ours.actor_sizes), [*ours.critic_sizes, 1]) == (actor, critic)
    assert {type(layer).__name__.lower() for layer in model.actor.latent_pi} - {"linear"} == {ours.activation}
    assert len(model.critic.q_networks) == ours.critics
    assert model.log_ent_coef.exp().item() == ours.temperature
    adam = model.actor.optimizer.param_groups[0]
    assert (adam["betas"], adam["eps"], adam["weight_decay"]) == (
        (ours.adam_beta1, ours.adam_beta2),
        ours.adam_epsilon,
        ours.actor_weight_decay,
    )


def test_a_variant_changes_its_preset(tmp_path):
    assert config(tmp_path, "spinningup-sac", "batch_size = 64").batch_size == 64
    assert config(tmp_path, "spinningup-sac").batch_size == 100


def test_a_preset_is_the_base_of_all_variants(tmp_path):
    text = '[base]\nas = "xuance-sac"\n[variants.sac]\n[variants.one]\nnum_envs = 1\n'
    variants = loaded(tmp_path, text).variants
    assert [variants[name].configs["Pendulum-v1"].num_envs for name in ("sac", "one")] == [4, 1]
    assert {variant.algorithm for variant in variants.values()} == {"sac"}


def test_a_preset_changes_no_id_that_its_options_do_not(tmp_path):
    options = [
        f"{key} = {str(value).lower() if isinstance(value, bool) else repr(value)}"
        for key, value in presets()["cleanrl-sac"].options.items()
    ]
    by_hand = loaded(tmp_path, "[variants.peer]\n" + "\n".join(options).replace("'", '"'))
    ids = [spec.id for _, spec in by_hand.runs()]
    assert [spec.id for _, spec in loaded(tmp_path, '[variants.peer]\nas = "cleanrl-sac"\n').runs()] == ids


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[variants.a]\nas = "sb3"\n', r"\[variants.a\] as: no preset 'sb3'; did you mean 'sb3-sac'"),
        ("[variants.a]\nas = 3\n", "no preset 3"),
        ('algorithm = "td3"\n[base]\nas = "sb3-sac"\n', r"\[base\] as: 'sb3-sac' is of sac, not of td3"),
    ],
)
def test_unknown_presets_are_refused(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        loaded(tmp_path, text)


def test_presets_are_of_algorithms_of_this_package():
    assert {preset.options["algorithm"] for preset in presets().values()} <= set(ALGORITHMS)
