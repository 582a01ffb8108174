"""Which candidate a variant chooses, and what a choice at the edge of its grid means."""

import numpy as np
import pytest

from sac_bench.analysis.choice import choose, chosen, grid, rules, tolerance
from sac_bench.analysis.differences import table_of
from sac_bench.errors import InputError
from sac_bench.report.answers import answer
from sac_bench.report.tables import all_differences, final_performance
from sac_bench.results.manifest import Manifest
from sac_bench.spec.choose import Choice, Score
from sac_bench.spec.load import load
from tests.made_up import manifest_of, results_of

FILE = """
name = "tuned"
envs = ["Hopper-v5"]
seeds = 5
steps = 20000
[variants.learned]
[variants.fixed]
learn_temperature = false
[choose]
seeds = 3
[choose.base]
temperature_lr = [1e-4, 3e-4, 1e-3]
[choose.variants.fixed]
temperature = [0.01, 0.1, 1.0]
"""


def file_with(tmp_path, seeds=3, more=""):
    (tmp_path / "tuned.toml").write_text(FILE.replace("[choose]\nseeds = 3", f"[choose]\nseeds = {seeds}") + more)
    return load(tmp_path / "tuned.toml")


@pytest.fixture
def experiment(tmp_path):
    return file_with(tmp_path)


def selected(experiment, returns, failed=(), sampled=None):
    """Results of the selection: {candidate: [return of each seed]}; candidates in `failed` lose their first seed.

    `sampled`: the same of sampled actions, by default equal.
    """
    selection = experiment.selection()
    runs, evaluations = [], []
    for name, values in returns.items():
        for i, (seed, value) in enumerate(zip(selection.seeds, values, strict=True)):
            labels = {"run_id": f"{name}-{seed}", "variant": name, "env": "Hopper-v5", "seed": seed}
            status = "failed" if name in failed and i == 0 else "finished"
            runs.append(labels | {"status": status, "steps": 20000, "target_steps": 20000})
            for policy, of in {"mean": value, "sample": (sampled or returns)[name][i]}.items():
                evaluations.append(labels | {"step": 20000, "policy": policy, "return_mean": of})
    about = {
        "name": selection.name,
        "seeds": list(selection.seeds),
        "reference": selection.reference,
        "variants": {name: {"steps": {"Hopper-v5": 20000}} for name in returns},
        "config": {name: {"Hopper-v5": {"eval_every": 10000}} for name in returns},
    }
    return results_of(about, runs, evaluations)


SCORES = {
    "learned+temperature_lr=0.0001": [1.0, 2.0, 1.5],
    "learned+temperature_lr=0.0003": [5.0, 3.0, 4.0],
    "learned+temperature_lr=0.001": [9.0, -3.0, 3.0],
    "fixed+temperature=0.01": [1.0, 1.0, 1.0],
    "fixed+temperature=0.1": [2.0, 2.0, 2.0],
    "fixed+temperature=1": [3.0, 3.0, 3.0],
}


def test_the_candidate_with_the_best_mean_over_the_selection_seeds_is_chosen(experiment):
    learned, fixed = choose(experiment, selected(experiment, SCORES))
    assert (learned.options, learned.at_edge) == ({"temperature_lr": 3e-4}, ())
    assert (fixed.options, fixed.at_edge) == ({"temperature": 1.0}, ("temperature",))
    assert [one.mean for one in learned.candidates] == [1.5, 4.0, 3.0]


GRID = [f"fixed+temperature={value}" for value in ("0.01", "0.1", "1")]


def fixed_choice(experiment, *returns):
    """What `fixed` chooses, given the returns of its three candidates."""
    _, fixed = choose(experiment, selected(experiment, SCORES | dict(zip(GRID, returns, strict=True))))
    return fixed


@pytest.mark.parametrize(("lower", "value", "edges"), [(0.8, 0.1, ()), (0.83, 1.0, ("temperature",))])
def test_an_inner_candidate_is_chosen_if_it_is_within_the_tolerance_of_the_best(experiment, lower, value, edges):
    """All candidates have a standard deviation of 1: the tolerance is sqrt(2 / 3) = 0.816."""
    edge = [9.0, 10.0, 11.0]
    fixed = fixed_choice(experiment, [0.0, 1.0, 2.0], [x - lower for x in edge], edge)
    assert (fixed.options, fixed.at_edge) == ({"temperature": value}, edges)
    assert fixed.candidates[2].error == pytest.approx(1 / np.sqrt(3))


def test_a_failed_seed_of_an_inner_candidate_does_not_widen_the_tolerance(experiment):
    fixed = fixed_choice(experiment, [4000, 4100, 4200], [900, 5000, 5200], [5050, 5100, 5150])
    assert (fixed.options, fixed.at_edge) == ({"temperature": 1.0}, ("temperature",))


def test_a_failed_seed_at_the_edge_does_not_widen_the_tolerance(experiment):
    fixed = fixed_choice(experiment, [4000, 4100, 4200], [4900, 5000, 5100], [900, 9000, 9000])
    assert fixed.at_edge == ("temperature",)


def test_the_tolerance_is_that_of_two_typical_candidates_and_requires_three_seeds():
    scored = [Score(options={}, mean=0.0, error=error) for error in (3.0, 1.0, 900.0, 2.0, 5.0)]
    assert tolerance(scored, 3) == pytest.approx(np.sqrt(2) * 3)
    assert tolerance(scored, 2) == 0
    assert tolerance([Score(options={}, mean=0.0)], 1) == 0


def test_two_seeds_give_no_tolerance(tmp_path):
    returns = {name: values[:2] for name, values in SCORES.items()}
    near = dict(zip(GRID, ([0.0, 5.0], [2.9, 8.9], [3.0, 9.0]), strict=True))
    experiment = file_with(tmp_path, seeds=2)
    _, fixed = choose(experiment, selected(experiment, returns | near))
    assert fixed.at_edge == ("temperature",)
    experiment = file_with(tmp_path)
    _, fixed = choose(experiment, selected(experiment, SCORES | {name: [*of, of[1]] for name, of in near.items()}))
    assert fixed.options == {"temperature": 0.1}


def test_the_best_inner_candidate_is_chosen():
    scored = [Score(options={"tau": i}, mean=mean, error=2.0) for i, mean in enumerate([1.0, 2.0, 3.0, 2.9, 3.1])]
    assert chosen(scored, lambda options: ["tau"] if options["tau"] in (0, 4) else [], 2.0).options == {"tau": 2}


def share_at_edge(means, draws=2000, seeds=3):
    """Share of draws in which the first or last of the candidates is chosen, with scores of standard deviation 1."""
    ends, found = (0, len(means) - 1), 0

    def at_ends(options):
        return ["tau"] if options["tau"] in ends else []

    for scores in np.random.default_rng(0).normal(np.asarray(means)[:, None], size=(draws, len(means), seeds)):
        errors = scores.std(axis=1, ddof=1) / np.sqrt(seeds)
        scored = [
            Score(options={"tau": i}, mean=mean, error=error)
            for i, (mean, error) in enumerate(zip(scores.mean(axis=1), errors, strict=True))
        ]
        found += chosen(scored, at_ends, tolerance(scored, seeds)).options["tau"] in ends
    return found / draws


def test_an_option_without_effect_rarely_ends_at_an_edge_but_an_outer_optimum_does():
    assert share_at_edge([0, 0, 0, 0, 0]) < 0.15  # 0.4 by the highest mean alone
    assert share_at_edge([0, 2, 4, 6, 8]) > 0.85
    assert share_at_edge([0, 5, 10, 15, 20]) > 0.99


def test_a_variant_that_is_compared_by_sampled_actions_is_chosen_by_them(tmp_path):
    experiment = file_with(tmp_path, more='[choose.by]\nfixed = "sampled"\n')
    sampled = {name: [9.0 - value for value in values] for name, values in SCORES.items()}
    learned, fixed = choose(experiment, selected(experiment, SCORES, sampled=sampled))
    assert (learned.options, learned.by) == ({"temperature_lr": 3e-4}, "score")
    assert (fixed.options, fixed.by) == ({"temperature": 0.01}, "sampled")
    assert [one.mean for one in fixed.candidates] == [8.0, 7.0, 6.0]


def test_a_candidate_with_an_unscored_run_is_not_chosen(experiment):
    _, fixed = choose(experiment, selected(experiment, SCORES, failed=["fixed+temperature=1"]))
    assert fixed.options == {"temperature": 0.1}
    assert fixed.candidates[2].mean is None
    assert fixed.at_edge == ("temperature",)  # 1.0 may have been better


def test_nothing_can_be_chosen_without_scores(experiment):
    with pytest.raises(InputError, match="no candidate of 'fixed' on Hopper-v5 has a score"):
        choose(experiment, selected(experiment, SCORES, failed=[name for name in SCORES if name.startswith("fixed")]))


def compared(at_edge):
    """Five clearly different seeds of two variants, one of which chose a value at the edge, or not."""
    choice = Choice(
        variant="fixed",
        env="Hopper-v5",
        options={"temperature": 1.0},
        at_edge=("temperature",) if at_edge else (),
        candidates=(),
        seeds=(9,),
    )
    about = {"seeds": list(range(5)), "reference": "learned", "variants": {"learned": {}, "fixed": {}}}
    about = manifest_of(about).model_copy(update={"choices": (choice,)})
    runs, evaluations = [], []
    for variant, mean in (("learned", 100.0), ("fixed", 10.0)):
        for seed in range(5):
            labels = {"run_id": f"{variant}{seed}", "variant": variant, "env": "Hopper-v5", "seed": seed}
            runs.append(labels | {"status": "finished", "steps": 100, "target_steps": 100})
            evaluations += [
                labels | {"step": 100, "policy": policy, "return_mean": mean + seed} for policy in ("mean", "sample")
            ]
    return results_of(about, runs, evaluations)


def test_a_best_value_at_the_edge_of_its_grid_gives_no_verdict():
    final = final_performance(compared(at_edge=False)).set_index("variant")
    assert final.loc["fixed", "verdict"] == "worse"
    results = compared(at_edge=True)
    final = final_performance(results)
    row = final.set_index("variant").loc["fixed"]
    assert row["verdict"] == ""
    assert row["difference"] == -90
    table = table_of(all_differences(results))
    (sentence,) = answer(final, table, results.manifest).sentences
    assert "`fixed`: **no verdict** (temperature = 1.0 of `fixed` is at the edge of its grid), -90" in sentence


def test_a_reference_at_the_edge_of_its_grid_gives_no_verdicts():
    results = compared(at_edge=True)
    manifest = results.manifest.model_copy(update={"reference": "fixed"})
    final = final_performance(
        results_of(manifest, results.runs.to_dict("records"), results.evaluations.to_dict("records"))
    )
    assert set(final["verdict"]) == {""}


def test_choices_are_in_the_manifest_and_in_the_report(experiment):
    made = choose(experiment, selected(experiment, SCORES))
    manifest = manifest_of({"reference": "a", "variants": {"a": {}}}).model_copy(update={"choices": made})
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest
    shown = grid(manifest).set_index("variant")
    assert shown.loc["fixed", "edge of the grid"] == "temperature"
    assert shown.loc["fixed", "mean score of each candidate, with its standard error"].startswith(
        "temperature = 0.01: 1 ± 0; "
    )
    assert shown.loc["fixed", "chosen by"] == "score"
    assert "is lower by at most sqrt(2 v)" in rules(manifest)
    few = made[0].model_copy(update={"seeds": (1, 2)})
    assert "With fewer than 3 selection seeds, this holds at the edge of a grid, too." in rules(
        manifest.model_copy(update={"choices": (few,)})
    )
