"""The key `backends`: which environments, settings and expectations a file stands for, ids, and errors."""

import json
from pathlib import Path

import pytest

from sac_bench.errors import InputError
from sac_bench.results.manifest import Manifest, load_manifest, write_manifest
from sac_bench.spec.backends import shown
from sac_bench.spec.load import load
from tests.made_up import manifest_of

TEXT = """
name = "both"
question = "Does it survive?"
envs = ["HalfCheetah-v5"]
backends = ["envpool", "gymnasium"]
seeds = 2
steps = 3000

[base]
learning_starts = 1000

[variants.sac]
[variants.hard]
tau = 1.0
"""
KEY = 'backends = ["envpool", "gymnasium"]\n'
CLAIM = """
claim = "sac is better."
source = "a paper"
refuted_by = "hard gets as much return."
expect = "sac > hard"
"""
ONE, OTHER = "HalfCheetah-v5", "gymnasium:HalfCheetah-v5"


@pytest.fixture
def loaded(tmp_path):
    """Load a file with this text."""

    def load_text(text, **options):
        path = tmp_path / "both.toml"
        path.write_text(text)
        return load(path, **options)

    return load_text


def errors(loaded, text):
    """Return the messages about a file, without its folder."""
    with pytest.raises(InputError) as raised:
        loaded(text)
    return [str(part).rpartition("/")[2] for part in raised.value.parts]


def ids(experiment):
    return [(variant.name, spec.env, spec.id) for variant, spec in experiment.runs()]


def test_every_environment_is_trained_on_every_backend(loaded):
    both = loaded(TEXT)
    assert both.envs == (ONE, OTHER)
    assert both.backends == ("envpool", "gymnasium")
    assert [spec.env for _, spec in both.runs()] == [ONE] * 4 + [OTHER] * 4
    assert shown(both.backends, both.envs) == "EnvPool (HalfCheetah-v5), Gymnasium (gymnasium:HalfCheetah-v5)"


def test_ids_are_those_of_a_file_that_names_the_environments(loaded):
    on = '[on."{}"]\ngamma = 0.9\n[variants.hard.on."{}"]\nn_step = 3\n'
    both = loaded(TEXT + on.format(ONE, ONE))
    by_hand = TEXT.replace(KEY, "").replace(f'["{ONE}"]', f'["{ONE}", "{OTHER}"]')
    by_hand = loaded(by_hand + on.format(ONE, ONE) + on.format(OTHER, OTHER))
    assert ids(both) == ids(by_hand)
    assert both.variants == by_hand.variants  # also what the record says that variants change
    assert by_hand.backends == ()


def test_without_the_key_nothing_changes(loaded, tmp_path):
    plain = loaded(TEXT.replace(KEY, ""))
    assert (plain.envs, plain.backends) == ((ONE,), ())
    assert [one for one in ids(loaded(TEXT)) if one[1] == ONE] == ids(plain)
    write_manifest(tmp_path, manifest_of({"reference": "a", "variants": {"a": {}}}))
    assert "backends" not in json.loads((tmp_path / "experiment.json").read_text())


def test_the_record_keeps_the_backends(tmp_path):
    envs = [ONE, "gymnasium:HalfCheetah-v5", "Hopper-v5"]
    about = {"reference": "a", "variants": {"a": {}}, "envs": envs}
    write_manifest(tmp_path, manifest_of(about | {"backends": ["envpool", "gymnasium"]}))
    read = load_manifest(tmp_path)
    assert isinstance(read, Manifest)
    assert read.tasks == {ONE: (ONE, OTHER), "Hopper-v5": ("Hopper-v5",)}
    assert list(manifest_of(about).tasks) == envs


def test_settings_apply_to_a_task_on_every_backend_or_to_one(loaded):
    both = loaded(
        TEXT
        + f'[on.{ONE}]\ngamma = 0.9\n[on."{OTHER}"]\ngamma = 0.8\n'
        + f'[variants.hard.on."envpool:{ONE}"]\nn_step = 3\n[variants.hard.on.{ONE}]\nn_step = 2\n'
    )
    found = {name: [(c.gamma, c.n_step) for c in of.configs.values()] for name, of in both.variants.items()}
    assert found == {"sac": [(0.9, 1), (0.8, 1)], "hard": [(0.9, 3), (0.8, 2)]}


@pytest.mark.parametrize(
    ("names", "envs"),
    [([ONE], (ONE, OTHER)), ([OTHER], (OTHER,)), ([f"envpool:{ONE}"], (ONE,)), (["Hopper-v5"], None)],
)
def test_the_command_line_names_tasks_or_environments(loaded, names, envs):
    chosen = loaded(TEXT, envs=names)
    assert chosen.envs == (envs or ("Hopper-v5", "gymnasium:Hopper-v5"))


def test_quick_settings_may_have_other_backends(loaded):
    text = TEXT + '[quick]\nbackends = ["gymnasium"]\n'
    assert loaded(text, quick=True).envs == (OTHER,)


def test_expectations_are_of_every_backend_or_of_one(loaded):
    def expected(expect, **options):
        claim = CLAIM.replace('"sac > hard"', json.dumps(expect))
        found = loaded(TEXT.replace("\n[base]", f"{claim}\n[base]"), **options).claim
        return [str(one) for one in found.expect]

    assert expected(f"sac > hard on {ONE}") == [f"sac > hard on {ONE}", f"sac > hard on {OTHER}"]
    assert expected(["sac > hard", f"hard > sac on {OTHER}"]) == ["sac > hard", f"hard > sac on {OTHER}"]
    assert expected(f"sac > hard on envpool:{ONE}") == [f"sac > hard on {ONE}"]
    assert expected(f"sac > hard on {ONE}", envs=[OTHER]) == [f"sac > hard on {OTHER}"]


def test_growth_is_between_two_environments_of_named_backends(loaded):
    text = TEXT.replace(f'["{ONE}"]', f'["{ONE}", "Hopper-v5"]').replace("\n[base]", f"{CLAIM}grows = [%s]\n[base]", 1)
    claim = loaded(text % f'"envpool:{ONE}", "gymnasium:Hopper-v5"').claim
    assert claim.grows == (ONE, "gymnasium:Hopper-v5")
    (message,) = errors(loaded, text % f'"{ONE}", "Hopper-v5"')
    assert message.startswith("both.toml:13: grows: 'HalfCheetah-v5' has several backends; name one")
    assert message.endswith("such as envpool:HalfCheetah-v5")


def test_all_errors_are_reported_at_once_with_their_lines(loaded):
    envs = '[\n  "HalfCheetah-v5",\n  "HumanoidRun-v1",\n  "gymnasium:HalfCheetah-v5",\n]'
    text = TEXT.replace(f'["{ONE}"]', envs).replace('"envpool", ', '"envpool", "gymnasiun", "mujoco", "envpool", ')
    assert errors(loaded, text + "[on.HalfCheetah-v5]\ngama = 1.0\n[on.Hopper-v5]\n") == [
        "both.toml:6: envs: 'HumanoidRun-v1' on gymnasium: unknown Gymnasium environment 'HumanoidRun-v1'; did you mean "
        "'Humanoid-v5'? (user-defined ones require --import MODULE)",
        "both.toml:7: envs: 'gymnasium:HalfCheetah-v5' is duplicated",
        "both.toml:9: backends: 'envpool' is duplicated",
        "both.toml:9: backends: unknown backend 'gymnasiun'; did you mean 'gymnasium'?",
        "both.toml:9: backends: unknown backend 'mujoco'; available: envpool, gymnasium",
        "both.toml:20: [on.HalfCheetah-v5] gama: sac has no such option; did you mean 'gamma'?",
        "both.toml:21: [on.Hopper-v5]: must be one of envs",
    ]


@pytest.mark.parametrize(
    ("backends", "message"),
    [
        ("[]", "backends: must not be empty"),
        ('"envpool"', "backends: input should be a valid list, not 'envpool'"),
        ("[1]", "backends: input should be a valid string, not 1"),
        ('["envpool"]', "envs: 'gymnasium:Hopper-v5' is not on one of backends"),
    ],
)
def test_invalid_backends_are_refused(loaded, backends, message):
    text = TEXT.replace('["envpool", "gymnasium"]', backends).replace(f'["{ONE}"]', f'["{ONE}", "gymnasium:Hopper-v5"]')
    assert any(message in one for one in errors(loaded, text))


def test_the_included_experiment_has_two_backends_and_reads_without_simulators():
    both = load(Path(__file__).parents[2] / "experiments" / "backends.toml")
    assert both.envs == (ONE, OTHER)
