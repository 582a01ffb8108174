"""[choose]: each variant's options from a small grid, on selection seeds."""

import pytest

from sac_bench.errors import InputError
from sac_bench.spec.choose import Choice
from sac_bench.spec.experiment import supposed
from sac_bench.spec.load import load
from sac_bench.tuning import study as studies

FILE = """
name = "tuned"
envs = ["Hopper-v5", "HalfCheetah-v5"]
seeds = 5
steps = 20000

[variants.learned]
[variants.fixed]
learn_temperature = false

[choose]
seeds = 2
[choose.base]
temperature_lr = [1e-4, 3e-4, 1e-3]
[choose.variants.fixed]
temperature = [0.01, 0.1, 1.0]
"""


@pytest.fixture
def write(tmp_path):
    def written(text, **options):
        path = tmp_path / "tuned.toml"
        path.write_text(text)
        return load(path, **options)

    return written


def chosen(variant, env, **options):
    return Choice(variant=variant, env=env, options=options, at_edge=(), candidates=(), seeds=(0,))


def edges_of(experiment, variant, options, missing=()):
    """Return the options at an edge, if all candidates but `missing` have a score."""
    candidates = [one.options for one in experiment.choose.candidates[variant]]
    return experiment.choose.at_edge(variant, options, [one for one in candidates if one not in missing])


def test_every_candidate_is_trained_only_on_selection_seeds(write):
    selection = write(FILE).selection()
    assert selection.name == "tuned-choice"
    assert list(selection.variants) == [
        *(f"learned+temperature_lr={rate}" for rate in ("0.0001", "0.0003", "0.001")),
        *(f"fixed+temperature={alpha}" for alpha in ("0.01", "0.1", "1")),
    ]
    specs = [spec for _, spec in selection.runs()]
    assert {spec.seed for spec in specs} == {1_000_000, 1_000_001}
    assert len({spec.id for spec in specs}) == 6 * 2 * 2
    assert selection.variants["fixed+temperature=0.01"].configs["Hopper-v5"].temperature == 0.01


def test_candidates_are_shown_below_their_variant_with_its_label(write):
    shown = write(FILE.replace("[variants.fixed]", '[variants.fixed]\nlabel = "Fixed"', 1)).selection().variants
    assert [one.shown.group for one in shown.values()] == ["learned"] * 3 + ["Fixed"] * 3
    assert [one.shown.label for one in shown.values()][2:] == [
        "",
        *(f"Fixed, temperature = {alpha}" for alpha in ("0.01", "0.1", "1")),
    ]


def test_the_comparison_uses_the_options_chosen_per_environment_and_its_own_seeds(write):
    tuned = write(FILE).with_choices(
        [
            chosen("learned", "Hopper-v5", temperature_lr=1e-3),
            chosen("learned", "HalfCheetah-v5", temperature_lr=1e-3),
            chosen("fixed", "Hopper-v5", temperature=0.1),
            chosen("fixed", "HalfCheetah-v5", temperature=0.01),
        ]
    )
    assert tuned.selection() is None
    assert {spec.seed for _, spec in tuned.runs()} == set(range(5))
    assert {name: v.configs["Hopper-v5"].temperature for name, v in tuned.variants.items()} == {
        "learned": 1.0,
        "fixed": 0.1,
    }
    assert tuned.variants["fixed"].configs["HalfCheetah-v5"].temperature == 0.01
    assert tuned.variants["learned"].overrides == {"temperature_lr": 1e-3}
    assert tuned.variants["fixed"].overrides["on"]["HalfCheetah-v5"] == {"temperature": 0.01}


def test_a_chosen_value_replaces_the_value_set_for_its_environment(write):
    text = FILE.replace("learn_temperature = false\n", "learn_temperature = false\non.Hopper-v5.temperature = 0.5\n")
    envs = ("Hopper-v5", "HalfCheetah-v5")
    choices = [chosen("learned", env, temperature_lr=1e-3) for env in envs]
    tuned = write(text).with_choices([*choices, *(chosen("fixed", env, temperature=0.1) for env in envs)])
    assert tuned.variants["fixed"].configs["Hopper-v5"].temperature == 0.1
    assert {env: tuned.variants["fixed"].overrides["on"][env] for env in envs} == {
        env: {"temperature": 0.1} for env in envs
    }


def test_times_are_estimated_with_the_value_in_the_middle(write):
    estimated = supposed(write(FILE))
    config = {name: variant.configs["HalfCheetah-v5"] for name, variant in estimated.variants.items()}
    assert (config["learned"].temperature_lr, config["fixed"].temperature) == (3e-4, 0.1)
    assert {spec.seed for _, spec in estimated.runs()} == set(range(5))


def test_runs_require_the_choice_first(write):
    with pytest.raises(AssertionError, match="not chosen yet"):
        write(FILE).runs()


def test_a_chosen_value_takes_precedence_over_all_other_tables(write):
    text = FILE.replace(
        "learn_temperature = false\n", "learn_temperature = false\non.Hopper-v5 = { temperature = 0.5 }\n"
    )
    variants = write(text).selection().variants
    assert variants["fixed+temperature=0.1"].configs["Hopper-v5"].temperature == 0.1


def test_a_swept_variant_chooses_like_its_reference(write):
    text = FILE.replace("[choose.variants.fixed]\ntemperature", "[choose.variants.fixed]\ncritic_lr")
    text += "\n[sweep]\ntau = [0.1]\n"
    config = write(text).selection().variants["tau=0.1+temperature_lr=0.001"].configs["Hopper-v5"]
    assert (config.tau, config.temperature_lr) == (0.1, 1e-3)


def test_steps_and_variants_of_the_command_line_apply_to_the_candidates(write):
    selection = write(FILE, steps=30000, variants=["fixed"]).selection()
    assert len(selection.variants) == 3
    assert {steps for variant in selection.variants.values() for steps in variant.steps.values()} == {30000}


@pytest.mark.parametrize(
    ("value", "edges"),
    [(0.01, ("temperature",)), (0.1, ()), (1.0, ("temperature",))],
)
def test_the_lowest_and_highest_values_are_the_edges_of_a_grid(write, value, edges):
    assert edges_of(write(FILE), "fixed", {"temperature": value}) == edges


@pytest.mark.parametrize(("missing", "edges"), [(1.0, ("temperature",)), (0.01, ("temperature",))])
def test_a_grid_ends_at_the_last_value_with_a_score(write, missing, edges):
    assert edges_of(write(FILE), "fixed", {"temperature": 0.1}, missing=[{"temperature": missing}]) == edges


def test_a_grid_of_two_options_ends_before_a_neighbour_without_a_score(write):
    taus = "\ntau = [0.01, 0.05, 0.1]"
    text = FILE.replace("[0.01, 0.1, 1.0]", "[0.01, 0.1, 1.0]" + taus).replace("1e-3]", "1e-3]" + taus)
    best, beyond = {"temperature": 0.1, "tau": 0.05}, {"temperature": 1.0, "tau": 0.05}
    assert edges_of(write(text), "fixed", best) == ()
    assert edges_of(write(text), "fixed", best, missing=[beyond]) == ("temperature",)


def test_a_limit_of_an_option_is_not_an_edge_of_the_grid(write):
    text = FILE.replace("temperature = [0.01, 0.1, 1.0]", "tau = [0.01, 0.1, 1.0]")
    experiment = write(text)
    assert edges_of(experiment, "fixed", {"tau": 1.0}) == ()
    assert edges_of(experiment, "fixed", {"tau": 0.01}) == ("tau",)


@pytest.mark.parametrize(("value", "has_edge"), [(1e-4, True), (3e-4, False), (1e-3, True)])
def test_options_that_share_their_values_vary_together(write, value, has_edge):
    experiment = write(FILE.replace("temperature_lr = [", '"actor_lr, critic_lr" = ['))
    candidates = [one.options for one in experiment.choose.candidates["learned"]]
    assert candidates == [{"actor_lr": rate, "critic_lr": rate} for rate in (1e-4, 3e-4, 1e-3)]
    configs = [one.variant.configs["Hopper-v5"] for one in experiment.choose.candidates["learned"]]
    assert [(config.actor_lr, config.critic_lr) for config in configs] == [(r, r) for r in (1e-4, 3e-4, 1e-3)]
    both = {"actor_lr": value, "critic_lr": value}
    assert edges_of(experiment, "learned", both) == (("actor_lr", "critic_lr") if has_edge else ())


def test_switches_have_no_edges(write):
    text = FILE.replace("temperature = [0.01, 0.1, 1.0]", "entropy_in_backup = [true, false]").replace(
        "temperature_lr = [1e-4, 3e-4, 1e-3]", "value_network = [true, false]"
    )
    assert edges_of(write(text), "fixed", {"entropy_in_backup": False}) == ()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[0.01, 0.1, 1.0]", "[0.01, 0.1, 1.0, 2.0]", "'learned' has 3 candidates and 'fixed' has 4"),
        ("[0.01, 0.1, 1.0]", "[0.01, 0.1]", "temperature: must have at least 3 values"),
        ("[0.01, 0.1, 1.0]", "[0.01, 0.1, 0.1]", "temperature: a value is duplicated"),
        (
            "[choose.variants.fixed]",
            "[choose.variants.fixd]",
            "[choose.variants] fixd: no variant 'fixd'; did you mean 'fixed'?",
        ),
        ("[choose.base]\ntemperature_lr = [1e-4, 3e-4, 1e-3]\n", "", "'learned' has no grid"),
        ("seeds = 2", "seeds = [3, 9]", "seeds: 3 is also a seed of the comparison"),
        ("temperature_lr = [", "temprature_lr = [", "sac has no such option; did you mean 'temperature_lr'"),
        (
            "seeds = 2",
            'seeds = 2\nby = {fixd = "sampled"}',
            "[choose.by] fixd: no variant 'fixd'; did you mean 'fixed'?",
        ),
        ("seeds = 2", 'seeds = 2\nby = {fixed = "area"}', "choose.by.fixed: "),
        ("seeds = 2", "seed = 2", "choose.seed: unknown key"),
        ("[variants.learned]\n", '[variants.learned]\nstart = {variant = "fixed", env = "Hopper-v5"}\n', "warm start"),
        ("[0.01, 0.1, 1.0]", "[-1.0, 0.1, 1.0]", "greater than or equal to 0"),
        (
            "temperature_lr = [",
            '"actor_lr, temprature_lr" = [',
            "sac has no such option; did you mean 'temperature_lr'",
        ),
        (
            "temperature_lr = [",
            'actor_lr = [1e-4, 3e-4, 1e-3]\n"actor_lr, critic_lr" = [',
            "[choose] actor_lr: is given twice for 'learned'",
        ),
        ("temperature_lr = [", '"actor_lr, " = [', "sac has no such option"),
        ("temperature = [0.01, 0.1, 1.0]", "steps = [10000, 20000, 40000]", "steps: is not an option of an algorithm"),
    ],
)
def test_bad_input_names_the_key(write, old, new, words):
    assert old in FILE
    with pytest.raises(InputError) as raised:
        write(FILE.replace(old, new))
    assert words in str(raised.value)


def test_a_study_of_an_experiment_with_choose_is_refused(write, tmp_path):
    write(FILE)
    study = tmp_path / "study.toml"
    study.write_text('name = "s"\nexperiment = "tuned.toml"\nsteps = 20000\ntrials = 4\n[space]\ntau = [0.001, 0.1]\n')
    with pytest.raises(InputError, match=r"tuned.toml has \[choose\], which a study does not support"):
        studies.load(study)
