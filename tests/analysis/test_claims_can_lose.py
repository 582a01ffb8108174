"""Every claim file against made-up runs in which the claim is true, and in which it is false: it can win and lose."""

from functools import cache
from itertools import product
from pathlib import Path

import pytest

from sac_bench.algorithms import ALGORITHMS, gradients
from sac_bench.algorithms.metric import names
from sac_bench.analysis.claims import comparisons, verdict
from sac_bench.spec.includes import files
from sac_bench.spec.load import load
from sac_bench.spec.measures import MEASURES, ROBUSTNESS
from tests.made_up import results_of

CLAIMS = files([Path(__file__).parents[2] / "experiments" / "claims"])
CURVES = ("score", "area", "adaptation", "early", "sampled")
STABILITY = {"relative_spread": 0.02, "largest_fall": 0.02}
"""{measure: its lowest value}; each rank adds 0.2."""


@cache
def loaded(path, quick):
    return load(path, quick=quick)


def group_of(side):
    """Return the measure that is made up for this one: score, area and adaptation have one order on curves from 0."""
    return side.variant, "curve" if side.measure in ("score", "area", "adaptation") else side.measure


def ranks(claim, true, env):
    """Return {group: its rank}, so that every a-side ranks above its b-side if the claim is true, else below.

    The sides of `a ~ b` rank the same if it is true.
    """
    same, above = {}, []
    expected = [one for one in claim.expect if one.env in (None, env)]
    for one in expected:
        a, b = group_of(one.a), group_of(one.b)
        if one.relation == "~" and true:
            same[b] = a
        else:
            above.append((a, b) if true else (b, a))
    rank = {group_of(side): 0 for one in expected for side in (one.a, one.b)}
    for _ in rank:
        for high, low in above:
            rank[high] = max(rank[high], rank[low] + 1)
        for b, a in same.items():
            rank[a] = rank[b] = max(rank[a], rank[b])
    assert all(rank[high] > rank[low] for high, low in above), "the expectations contradict each other"
    return rank


def made_up(experiment, true):
    """Return results of an experiment in which its claim is clearly true, or in which it is clearly false.

    At most two of its environments, for speed, and those that the claim names.
    """
    claim = experiment.claim
    used = {side.measure for one in claim.expect for side in (one.a, one.b)}
    unknown = used - {*CURVES, *STABILITY, "weak_seed", *names(gradients.VARIANCES), *ROBUSTNESS}
    assert not unknown, f"make up runs for {unknown}, too"
    seeds = range(40 if "weak_seed" in used else 12)  # a share of seeds requires more of them
    named = [one.env for one in claim.expect if one.env]
    envs = tuple(dict.fromkeys((*experiment.envs[:2], *(claim.grows or ()), *named)))
    rank = {env: ranks(claim, true, env) for env in envs}
    runs, evaluations, training, robustness = [], [], [], []
    for variant, env, seed in product(experiment.variants.values(), envs, seeds):
        steps = variant.steps[env]
        labels = {"run_id": f"{variant.name} {env} {seed}", "variant": variant.name, "env": env, "seed": seed}
        ranked = {name: rank[env].get((variant.name, name), 0) for name in ("curve", *MEASURES)}
        noise = 1 + seed % 3 / 100
        variances = {name: 10 ** (ranked[name] + noise) for name in names(gradients.VARIANCES)}
        runs.append(labels | {"status": "finished", "steps": steps, "target_steps": steps})
        training.append(labels | {"step": steps} | variances)
        for policy, name in {"sample": "sampled", ALGORITHMS[variant.algorithm].scored_by: "curve"}.items():
            harder = claim.grows and env == claim.grows[1]
            level = 1000 * (1 + (8 if harder else 1) * ranked[name])  # differences are larger in the harder environment
            returns = [level * value for value in curve(ranked, seed, noise)]
            if "early" in used:
                returns[0] = 100 * (1 + ranked["early"]) * noise
            for at, value in zip((0, 0.25, 0.5, 0.75, 1), (0.0, *returns), strict=True):
                evaluations.append(labels | {"step": int(at * steps), "policy": policy, "return_mean": value})
        for name in used & set(ROBUSTNESS):
            value = 10 * (MEASURES[name].margin or 100) * noise * (1 + ranked[name])
            robustness.append(labels | {"measure": name, "value": value})
    return results_of(about(experiment, envs, seeds), runs, evaluations, training=training, robustness=robustness)


def curve(ranked, seed, noise):
    """Return a seed's four evaluations in gains of its variant: half of the seeds are above 1 and half below."""
    away, fall = (noise * (least + 0.2 * ranked[name]) for name, least in STABILITY.items())
    final = 0 if ranked["weak_seed"] and seed % 5 < 2 else 1 + (-1) ** seed * away
    return final, final - fall, final, final


def about(experiment, envs, seeds):
    """Return the manifest's fields. A random policy gets 0."""
    variants = experiment.variants.items()
    return {
        "envs": envs,
        "seeds": tuple(seeds),
        "reference": experiment.reference,
        "random": {env: {"return_mean": 0.0} for env in envs},
        "variants": {name: {"algorithm": of.algorithm, "steps": of.steps} for name, of in variants},
        "config": {
            name: {env: config.model_dump(mode="json") for env, config in of.configs.items()} for name, of in variants
        },
    }


CASES = [
    pytest.param(True, False, "contradicted", id="quick-contradicted"),
    pytest.param(True, True, "supported", id="quick-supported", marks=pytest.mark.thorough),
    pytest.param(False, True, "supported", id="full-supported", marks=pytest.mark.thorough),
    pytest.param(False, False, "contradicted", id="full-contradicted", marks=pytest.mark.thorough),
]
"""Both settings, and both outcomes; make test shows that the quick form of every claim can lose."""


@pytest.mark.parametrize(("quick", "true", "words"), CASES)
@pytest.mark.parametrize("path", CLAIMS, ids=lambda path: path.stem)
def test_a_claim_can_be_supported_and_contradicted(path, quick, true, words):
    experiment = loaded(path, quick)
    decided = comparisons(experiment.claim, made_up(experiment, true))
    assert verdict(decided) == words, [(one.expected, one.env, one.outcome, one.interval) for one in decided]


@pytest.mark.parametrize("path", CLAIMS, ids=lambda path: path.stem)
def test_every_claim_says_in_a_sentence_what_would_refute_it(path):
    sentence = loaded(path, False).claim.refuted_by
    assert sentence[0].isupper()
    assert sentence.endswith(".")
    assert loaded(path, True).claim.refuted_by
