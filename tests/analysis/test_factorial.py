"""Effects of factorial designs, with known answers."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from sac_bench.analysis.factorial import contrast, effects, means_at, signs, table
from sac_bench.report.factorial import answer, called
from sac_bench.report.figures.all import write_figures
from sac_bench.report.findings import Findings
from sac_bench.results.manifest import FactorialRecord
from tests.made_up import results_of

ENV = "Hopper-v5"
FULL = {"base": (), "b": ("b",), "a": ("a",), "a+b": ("a", "b")}


def made_up(means, cells, noise=1.0, seeds=6):
    """Return results whose cells {variant: mean} have scores around their means."""
    random, runs, evaluations = np.random.default_rng(0), [], []
    for name, mean in means.items():
        for seed in range(seeds):
            labels = {"run_id": f"{name}-{seed}", "variant": name, "env": ENV, "seed": seed}
            runs.append(labels | {"status": "finished", "steps": 100, "target_steps": 100})
            score = mean + noise * random.normal()
            evaluations.append(labels | {"step": 100, "policy": "mean", "return_mean": score})
    names = list(dict.fromkeys(one for high in cells.values() for one in high))
    about = {
        "variants": {name: {} for name in means},
        "seeds": list(range(seeds)),
        "reference": "base",
        "factorial": {"factors": {name: name.upper() for name in sorted(names)}, "cells": cells},
    }
    return results_of(about, runs, evaluations)


def half_of(names):
    """The cells with an even number of factors at their high level."""
    every = [tuple(n for i, n in enumerate(names) if at >> i & 1) for at in range(2 ** len(names))]
    return [high for high in every if len(high) % 2 == 0]


def by_name(found):
    return table(found).set_index("effect")


def test_effects_and_interactions_of_known_means():
    # a adds 10, b adds nothing alone, and both together add 4 more: the interaction is half of 4.
    results = made_up({"base": 0, "b": 0, "a": 10, "a+b": 14}, FULL, noise=1e-6)
    values = by_name(effects(results))["value"]
    assert values["a"] == pytest.approx(12, abs=1e-4)
    assert values["b"] == pytest.approx(2, abs=1e-4)
    assert values["a:b"] == pytest.approx(2, abs=1e-4)


def test_only_effects_that_are_shown_have_verdicts():
    results = made_up({"base": 0, "b": 0, "a": -10, "a+b": -10}, FULL)
    verdicts = by_name(effects(results))["verdict"]
    assert verdicts.to_dict() == {"a": "negative", "b": "undecided", "a:b": "undecided"}


def test_effects_of_an_unfinished_training_are_not_tested():
    results = made_up({"base": 0, "b": 0, "a": -10, "a+b": -10}, FULL)
    unfinished = replace(results, manifest=results.manifest.model_copy(update={"reached": {ENV: 100}}))
    assert set(by_name(effects(unfinished))["verdict"]) == {"not tested"}
    assert "no verdicts, because training is not over" in answer(effects(unfinished), unfinished).lead


def test_effects_without_any_spread_are_not_tested():
    results = made_up({"base": 0, "b": 0, "a": 5, "a+b": 5}, FULL, noise=0.0)
    assert set(by_name(effects(results))["verdict"]) == {"not tested"}


def test_a_contrast_of_two_cells_is_welchs_test():
    random = np.random.default_rng(1)
    a, b = random.normal(1.0, 1.0, 5), random.normal(0.0, 3.0, 9)
    difference = contrast([a, b], np.array([1.0, -1.0]))
    expected = stats.ttest_ind(a, b, equal_var=False)
    assert difference.value == pytest.approx(a.mean() - b.mean())
    assert 2 * min(difference.above(), difference.below()) == pytest.approx(expected.pvalue)
    interval, known = difference.interval(), expected.confidence_interval(0.95)
    assert (interval.low, interval.high) == pytest.approx((known.low, known.high))


def test_contrasts_of_a_full_design_agree_with_least_squares():
    results = made_up({"base": 3, "b": 1, "a": 4, "a+b": 1}, FULL)
    coded = {False: -1.0, True: 1.0}
    rows, scores = [], []
    for row in results.evaluations.to_dict("records"):
        a, b = (coded[name in FULL[row["variant"]]] for name in "ab")
        rows.append([1.0, a, b, a * b])
        scores.append(row["return_mean"])
    fitted = np.linalg.lstsq(np.array(rows), np.array(scores), rcond=None)[0]
    np.testing.assert_allclose(by_name(effects(results))["value"], 2 * fitted[1:], rtol=1e-9)


def test_the_report_names_both_interactions_that_are_the_same_contrast():
    cells = {"+".join(high) or "base": high for high in half_of("abcd")}
    manifest = made_up(dict.fromkeys(cells, 0.0), cells).manifest
    assert called(("a", "b"), manifest) == "A x B or C x D"
    assert called(("a",), manifest) == "A"


@pytest.mark.parametrize(("factors", "named"), [(3, 3), (4, 7), (5, 15)])
def test_half_designs_name_no_contrast_twice(factors, named):
    names = "abcde"[:factors]
    cells = half_of(names)
    design = FactorialRecord(factors={n: n for n in names}, cells={"+".join(high) or "base": high for high in cells})
    found = effects(made_up(dict.fromkeys(design.cells, 0.0), dict(design.cells)))
    contrasts = {tuple(signs(design, one.factors)) for one in found}
    assert len(found) == named == len(contrasts)
    assert all(sum(one) == 0 and tuple(-x for x in one) not in contrasts for one in contrasts)


def test_a_cell_without_scores_leaves_its_effects_without_verdict():
    results = made_up({"base": 0, "b": 0, "a": 10, "a+b": 14}, FULL)
    results.runs.loc[results.runs["variant"] == "a", "status"] = "failed"
    assert set(by_name(effects(results))["verdict"]) == {"not tested"}
    assert "a has fewer than 2 seeds" in answer(effects(results), results).lead


def test_mean_scores_at_levels_average_over_the_other_factors():
    results = made_up({"base": 0, "b": 2, "a": 10, "a+b": 14}, FULL, noise=1e-6)
    assert means_at(results, ENV, {"a": True}).value == pytest.approx(12, abs=1e-4)
    assert means_at(results, ENV, {"a": False, "b": True}).value == pytest.approx(2, abs=1e-4)


def test_the_answer_has_a_sentence_per_factor_and_per_shown_interaction(tmp_path):
    results = made_up({"base": 0, "b": 0, "a": -10, "a+b": 10}, FULL)
    found = effects(results)
    sentences = answer(found, results).sentences
    assert [one.partition("**, ")[0] for one in sentences] == [
        "A: **no effect shown",
        "B: **raises the score",
        "Interaction of A x B: **positive",
    ]
    assert sentences[-1].endswith("each effect is larger at the other's high level.")
    written = write_figures(Findings(results, tmp_path), tmp_path)
    assert [picture.path.stem for picture in written["effects"]] == ["effects-Hopper-v5", "interactions-Hopper-v5"]
