"""Which candidate a variant chooses, and what a choice at the edge of its grid means."""

import numpy as np
import pytest

from sac_bench.analysis.choice import choose, chosen, grid
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
seeds = 2
[choose.base]
temperature_lr = [1e-4, 3e-4, 1e-3]
[choose.variants.fixed]
temperature = [0.01, 0.1, 1.0]
"""


@pytest.fixture
def experiment(tmp_path):
    (tmp_path / "tuned.toml").write_text(FILE)
    return load(tmp_path / "tuned.toml")


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
    "learned+temperature_lr=0.0001": [1.0, 2.0],
    "learned+temperature_lr=0.0003": [5.0, 3.0],
    "learned+temperature_lr=0.001": [9.0, -3.0],
    "fixed+temperature=0.01": [1.0, 1.0],
    "fixed+temperature=0.1": [2.0, 2.0],
    "fixed+temperature=1": [3.0, 3.0],
}


def test_the_candidate_with_the_best_mean_over_the_selection_seeds_is_chosen(experiment):
    learned, fixed = choose(experiment, selected(experiment, SCORES))
    assert (learned.options, learned.at_edge) == ({"temperature_lr": 3e-4}, ())
    assert (fixed.options, fixed.at_edge) == ({"temperature": 1.0}, ("temperature",))
    assert [one.mean for one in learned.candidates] == [1.5, 4.0, 3.0]


@pytest.mark.parametrize(("inner", "value", "edges"), [((2.2, 3.0), 0.1, ()), ((1.2, 2.0), 1.0, ("temperature",))])
def test_an_inner_candidate_is_chosen_if_it_is_within_a_standard_error_of_the_best(experiment, inner, value, edges):
    """The edge has 2.5 and 3.5. The standard error of the difference is sqrt(0.5^2 + 0.4^2) = 0.64."""
    returns = SCORES | {"fixed+temperature=0.1": list(inner), "fixed+temperature=1": [2.5, 3.5]}
    _, fixed = choose(experiment, selected(experiment, returns))
    assert (fixed.options, fixed.at_edge) == ({"temperature": value}, edges)
    assert fixed.candidates[2].error == pytest.approx(0.5)


def test_the_best_inner_candidate_is_chosen():
    scored = [Score(options={"tau": i}, mean=mean, error=2.0) for i, mean in enumerate([1.0, 2.0, 3.0, 2.9, 0.0])]
    assert chosen(scored, lambda options: ["tau"] if options["tau"] in (0, 4) else []).options == {"tau": 2}


def share_at_edge(means, draws=2000, seeds=3):
    """Share of draws in which the first or last of the candidates is chosen, with scores of standard deviation 1."""
    ends = (0, len(means) - 1)
    found = 0
    for scores in np.random.default_rng(0).normal(np.asarray(means)[:, None], size=(draws, len(means), seeds)):
        errors = scores.std(axis=1, ddof=1) / np.sqrt(seeds)
        scored = [
            Score(options={"tau": i}, mean=mean, error=error)
            for i, (mean, error) in enumerate(zip(scores.mean(axis=1), errors, strict=True))
        ]
        found += chosen(scored, lambda options: ["tau"] if options["tau"] in ends else []).options["tau"] in ends
    return found / draws


def test_an_option_without_effect_rarely_ends_at_an_edge_but_an_outer_optimum_does():
    assert share_at_edge([0, 0, 0, 0, 0]) < 0.15  # 0.4 by the highest mean alone
    assert share_at_edge([0, 2, 4, 6, 8]) > 0.85
    assert share_at_edge([0, 5, 10, 15, 20]) > 0.99


def test_a_variant_that_is_compared_by_sampled_actions_is_chosen_by_them(tmp_path):
    (tmp_path / "tuned.toml").write_text(FILE + '[choose.by]\nfixed = "sampled"\n')
    experiment = load(tmp_path / "tuned.toml")
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
