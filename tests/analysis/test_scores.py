"""Scores: by the policy that the algorithm names, at the same steps for all variants that are compared."""

import dataclasses

import matplotlib.pyplot as plt
import pytest

from sac_bench.algorithms import ALGORITHMS
from sac_bench.analysis.measures import measured
from sac_bench.analysis.scores import equal_steps, note, scored_by, scores
from sac_bench.report.compare import page as page_of_two
from sac_bench.report.figures.curves import Panel, in_caption, learning_curves
from sac_bench.report.sides import Side, compare
from sac_bench.report.tables import final_performance, presented, rules
from sac_bench.spec.claim import Side as Measure
from tests.made_up import results_of

ENV = "Hopper-v5"


def experiment(variants, seeds=5, statuses=(), success_return=None, **options):
    """Return results of {name: (algorithm, steps, eval_every)}.

    A run's return at a step is the step plus its seed; for sampled actions, 1000 more.
    `options`: {name: options of its config}.
    """
    statuses = dict(statuses)
    about = {
        "envs": [ENV],
        "seeds": list(range(seeds)),
        "reference": next(iter(variants)),
        "success_return": success_return,
        "random": {ENV: {"return_mean": -5.0}},
        "variants": {name: {"algorithm": a, "steps": {ENV: steps}} for name, (a, steps, _) in variants.items()},
        "config": {name: {ENV: {"eval_every": n} | options.get(name, {})} for name, (_, _, n) in variants.items()},
    }
    runs, evaluations, episodes, training = [], [], [], []
    for name, (algorithm, steps, every) in variants.items():
        for seed in range(seeds):
            labels = {"run_id": f"{name}{seed}", "variant": name, "env": ENV, "seed": seed}
            status, reached = statuses.get((name, seed), ("finished", steps))
            runs.append(labels | {"status": status, "steps": reached, "target_steps": steps, "algorithm": algorithm})
            for step in range(0, reached + 1, every):
                training.append(labels | {"step": step, "gradient_variance_reparameterised": 10.0 ** (step / 10)})
                for policy, more in (("mean", seed), ("sample", 1000 + seed)):
                    evaluations.append(labels | {"step": step, "policy": policy, "return_mean": step + more})
                    episodes.append(labels | {"step": step, "policy": policy, "episode": 0, "return": step + more})
    return results_of(about, runs, evaluations, episodes, training)


def mean_scores(results):
    return scores(results).groupby("variant")["score"].mean().to_dict()


LONG = {"sac": ("sac", 100, 10), "ppo": ("ppo", 500, 50)}


def test_all_variants_are_scored_at_the_last_common_steps():
    results = experiment(LONG)
    assert equal_steps(results.manifest) == {(ENV, "sac"): 100, (ENV, "ppo"): 100}
    assert mean_scores(results) == {"sac": 102, "ppo": 102}  # PPO got 502 in the end
    final = final_performance(results)
    assert set(final["scored_at"]) == {100}
    assert final.set_index("variant").loc["ppo", ["difference", "verdict"]].to_list() == [0, "undecided"]
    assert final["area"].tolist() == [52, 52]
    names = list(presented(final, results.manifest)["variant"])
    assert names == ["sac (reference)", "ppo (trained to 500 steps)"]
    assert measured(results, Measure("ppo", "area"), ENV).mean() == 52
    assert measured(results, Measure("ppo", "gradient_variance_reparameterised"), ENV).mean() == 10


def test_sampled_actions_have_a_score_only_if_they_were_played_in_the_last_tenth():
    results = experiment({"sac": ("sac", 100, 10)})
    assert final_performance(results)["sampled_score"].tolist() == [1102]
    results = experiment({"sac": ("sac", 100, 10)})
    rows = results.evaluations
    kept = rows[(rows["policy"] == "mean") | (rows["step"] <= 90)]
    table = final_performance(dataclasses.replace(results, evaluations=kept))
    assert table["score"].tolist() == [102]
    assert table["sampled_score"].isna().all()


@pytest.mark.parametrize(("last", "expected"), [(0.1, 10.0), (0.3, 9.0), (0.9, 6.0), (1.0, 5.5)])
def test_a_file_sets_the_last_share_of_the_steps_that_is_scored(last, expected):
    """Evaluations every 10 of 100 steps return 1, 2, ..., 10, and 0 before training."""
    row = {"run_id": "a", "variant": "a", "env": "Hopper-v5", "seed": 0}
    run = row | {"status": "finished", "steps": 100, "target_steps": 100}
    evaluations = [row | {"step": 10 * k, "policy": "mean", "return_mean": float(k)} for k in range(11)]
    about = {"variants": {"a": {}}, "reference": "a", "seeds": [0], "score_last": last}
    results = results_of(about | {"config": {"a": {"Hopper-v5": {"eval_every": 10}}}}, [run], evaluations)
    assert scores(results)["score"].tolist() == [expected]
    assert f"in the last {last:.0%} of its steps" in " ".join(rules(results.manifest))


def test_runs_not_evaluated_at_the_common_steps_have_no_score_and_are_named():
    results = experiment({"sac": ("sac", 30, 10), "ppo": ("ppo", 500, 50)})
    table = final_performance(results).set_index("variant")
    assert table["scored_at"].tolist() == [30, 30]
    assert table.loc["ppo", "seeds"] == 0
    assert table.loc["ppo", "ended_otherwise"] == "5 not evaluated at 30 steps (left out)"
    assert note(results.manifest).startswith(
        "On Hopper-v5, runs are scored at 30 steps, where the shortest training ends."
    )
    assert "`ppo` was trained to 500 steps and not evaluated at 30: it has no score here." in note(results.manifest)


def test_the_note_says_which_steps_are_scored_and_which_schedules_are_longer():
    manifest = experiment(LONG, ppo={"anneal_steps": 500}).manifest
    assert note(manifest) == (
        "On Hopper-v5, runs are scored at 100 steps, the last at which all variants were evaluated. Learning curves "
        "continue beyond. `ppo` was trained to 500 steps. Its learning rate falls to 0 over 500 steps, so its score is "
        "from early in this schedule."
    )
    assert rules(manifest)[0] == note(manifest)
    assert note(experiment({"sac": ("sac", 100, 10), "ppo": ("ppo", 100, 50)}).manifest) == ""


@pytest.mark.parametrize(
    ("status", "reached", "seeds"),
    [("diverged", 400, 5), ("failed", 300, 5), ("interrupted", 100, 5), ("failed", 50, 4)],
)
def test_the_fate_of_a_run_after_the_scored_steps_does_not_count(status, reached, seeds):
    results = experiment(LONG, statuses={("ppo", 0): (status, reached)})
    ppo = final_performance(results).set_index("variant").loc["ppo"]
    assert ppo["seeds"] == seeds
    assert ppo["diverged"] == 0
    assert ppo["score"] == (102 if seeds == 5 else 102.5)


def test_a_run_that_diverged_by_the_scored_steps_enters_as_random():
    results = experiment(LONG, statuses={("ppo", 0): ("diverged", 100)})
    ppo = final_performance(results).set_index("variant").loc["ppo"]
    assert ppo["diverged"] == 1
    assert ppo["score"] == pytest.approx((-5 + 101 + 102 + 103 + 104) / 5)


def test_sql_is_scored_by_sampled_actions_everywhere():
    results = experiment({"sql": ("sql", 100, 10)}, success_return=1050)
    assert ALGORITHMS["sql"].scored_by == "sample"
    assert scored_by(results.manifest, "sql") == "sample"
    row = final_performance(results).iloc[0]
    assert (row["score"], row["worst_episode"], row["success_share"]) == (1102, 1100, 1)
    panels = [Panel("variants", ENV, ("sql",))]
    assert in_caption(results, panels).startswith("return of sampled actions")
    figure = learning_curves(results, panels)
    assert figure.axes[0].lines[0].get_ydata()[-1] == 1102
    plt.close(figure)


def test_two_results_of_different_lengths_are_compared_at_equal_steps(tmp_path):
    sides = [Side(tmp_path / name, experiment({"sac": ("sac", steps, 10)})) for name, steps in (("a", 100), ("b", 300))]
    (row,) = compare(*sides).to_dict("records")
    assert (row["score_a"], row["score_b"], row["scored_at"]) == (102, 102, 100)
    for side in sides:
        side.results.runs["cohort_size"] = 1
    assert "On Hopper-v5, trained to 100 steps in A and 300 in B, and scored at 100: `sac`." in " ".join(
        page_of_two(*sides, tmp_path).answer.notes
    )
