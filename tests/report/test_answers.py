"""Answers in plain words, with known answers for every verdict, and names and settings as readers see them."""

import math

import pandas as pd
import pytest

from sac_bench.analysis.differences import ALL_ENVIRONMENTS
from sac_bench.report.answers import answer, count_tested, finding, finding_over
from sac_bench.report.figures.groups import panels, sweeps
from sac_bench.report.labels import axes, is_quick, setting, setting_in_words, titled
from sac_bench.report.tables import presented
from tests.made_up import manifest_of

ENV, OTHER = "Hopper-v5", "Ant-v5"


def row(verdict, numbers=(-128.0, -1158.0, 902.0), **of):
    """A row of the table of differences with 5 seeds."""
    names = ("difference", "difference_ci_low", "difference_ci_high")
    given = {"env": ENV, "variant": "one-q", "state": "open", "look": None, "seeds_needed": None, "no_verdict": ""}
    return given | {"verdict": verdict, "seeds": 5} | dict(zip(names, numbers, strict=True)) | of


LESS, MORE, NEAR = (-1093.0, -1462.0, -650.0), (628.0, 122.0, 1220.0), (12.0, -40.0, 64.0)
KNOWN = [
    (row("better", MORE), "**better**, 628 [122, 1220] with 5 seeds"),
    (row("worse", LESS), "**worse**, -1093 [-1462, -650] with 5 seeds"),
    (row("equivalent", NEAR), "**equivalent** (within 10% of the reference's gain), 12 [-40, 64] with 5 seeds"),
    (
        row("undecided", seeds_needed=74),
        "**no difference found**, -128 [-1158, 902] with 5 seeds, 74 seeds would decide",
    ),
    (row("undecided"), "**no difference found**, -128 [-1158, 902] with 5 seeds, more than 1000 seeds would decide"),
    (
        row("undecided", (-128.0, -math.inf, math.inf), seeds_needed=6),
        "**no difference found**, -128 [unknown] with 5 seeds, 6 seeds would decide",
    ),
    (
        row("undecided", (0.0, 0.0, 0.0)),
        "**no difference found**, 0 [0, 0] with 5 seeds, the same in every seed",
    ),
    (
        row("undecided", MORE, seeds_needed=10),
        "**no difference shown** among 8 comparisons, 628 [122, 1220] with 5 seeds, 10 seeds would decide",
    ),
    (row("", no_verdict="3 seeds"), "**no verdict** (3 seeds), -128 [-1158, 902]"),
    (
        row("", (math.nan,) * 3, no_verdict="0 seeds", ended_otherwise="3 failed (left out)"),
        "**no verdict** (0 seeds), 3 failed (left out)",
    ),
    (row("worse", LESS, exploded=4), "**worse**, -1093 [-1462, -650] with 5 seeds, 4 exploded"),
    # Looks: the seeds are those of the look, also if a cell has more by now.
    (row("worse", LESS, state="decided", look=8, seeds=12), "**worse**, -1093 [-1462, -650] with 8 seeds"),
    (
        row("undecided", state="futile", look=8, seeds_needed=80),
        "**no difference found**, -128 [-1158, 902] with 8 seeds, stopped there, 80 seeds would decide",
    ),
    (
        row("undecided", state="open", look=30),
        "**no difference found**, -128 [-1158, 902] with 30 seeds, more than 800 seeds would decide",
    ),
    (
        row("undecided", state="waiting", look=5, seeds_needed=12),
        "**no difference found**, -128 [-1158, 902] with 5 seeds, not all runs of the next look have ended, "
        "12 seeds would decide",
    ),
    (
        row("undecided", (0.0, 0.0, 0.0), state="futile", look=5),
        "**no difference found**, 0 [0, 0] with 5 seeds, stopped there, the same in every seed",
    ),
]


PLACES = [str(place) for place in range(len(KNOWN))]


@pytest.mark.parametrize(("of", "words"), KNOWN, ids=PLACES)
def test_a_comparison_has_a_known_answer(of, words):
    assert finding(of, ".0f", 8, 0.1) == words


@pytest.mark.parametrize("of", [of for of, _ in KNOWN], ids=PLACES)
def test_no_answer_says_that_there_is_no_difference(of):
    words = finding(of, ".0f", 8, 0.1).replace("no difference found", "").replace("no difference shown", "")
    assert "no difference" not in words
    assert ("better" in words, "worse" in words) == (of["verdict"] == "better", of["verdict"] == "worse")


def test_a_single_comparison_does_not_mention_others():
    assert finding(row("undecided", MORE, seeds_needed=10), ".0f", 1).startswith("**no difference shown**, 628")


def test_several_environments_are_answered_together_and_separately():
    each = [row("worse", LESS), row("undecided", env=OTHER), row("", env="Cheetah-v5", no_verdict="3 seeds")]
    pooled = row("worse", (-0.2, -0.3, -0.1), env=ALL_ENVIRONMENTS)
    assert finding_over([*each, pooled], ".0f", 8) == (
        "over 3 environments **worse**, -0.20 [-0.30, -0.10] gains with 5 seeds; **worse** on Hopper-v5; "
        "**no difference found** on Ant-v5; **no verdict** (3 seeds) on Cheetah-v5"
    )
    without = row("", (math.nan,) * 3, env=ALL_ENVIRONMENTS, no_verdict="the gain is not known")
    assert finding_over([*each[:2], without], ".0f", 8) == (
        "on Hopper-v5 **worse**, -1093 [-1462, -650] with 5 seeds; on Ant-v5 **no difference found**, "
        "-128 [-1158, 902] with 5 seeds, more than 1000 seeds would decide"
    )


SWEPT = {"tau=0.5": ["tau", 0.5], "tau=1": ["tau", 1.0], "fixed+scale=9": ["reward_scale", 9.0]}


def experiment(envs=(ENV,), steps=(), **labels):
    """A reference, two axes of one variant and two sweeps; `steps` of variants that differ from 20,000."""
    names = ["sac", "one-q", "fixed", *SWEPT]
    steps = dict.fromkeys(names, 20_000) | dict(steps)
    about = {
        "name": "made-up",
        "envs": list(envs),
        "reference": "sac",
        "margin": 0.1,
        "variants": {
            name: {
                "steps": dict.fromkeys(envs, steps[name]),
                "swept": SWEPT.get(name),
                "sweep_of": "fixed" if name.startswith("fixed+") else None,
            }
            for name in names
        },
        "config": {
            name: {env: {"tau": 0.005, "reward_scale": 5.0, "layers": [64, 64]} for env in envs} for name in names
        },
    }
    manifest = manifest_of(about)
    for name, label in labels.items():
        object.__setattr__(manifest.variants[name.replace("_", "-")], "label", label)
    return manifest


def tables(manifest):
    """Final performance and differences, in which everything is worse by 1093."""
    others = [name for name in manifest.variants if name != manifest.reference]
    gaps = pd.DataFrame([row("worse", LESS, env=env, variant=v) for env in manifest.envs for v in others])
    final = pd.DataFrame(
        {"env": env, "variant": v, "seeds": 5, "exploded": 0, "ended_otherwise": ""}
        | {"score": 1243.0, "ci_low": 936.0, "ci_high": 1549.0}
        for env in manifest.envs
        for v in manifest.variants
    )
    return final, gaps.drop(columns="seeds")


WORSE = "**worse**, -1093 [-1462, -650] with 5 seeds"


def test_each_axis_has_one_sentence_and_a_sweep_is_one_axis():
    manifest = experiment()
    assert axes(manifest) == [["one-q"], ["fixed"], ["tau=0.5", "tau=1"], ["fixed+scale=9"]]
    found = answer(*tables(manifest), manifest)
    assert found.lead == "Against `sac` (1243 [936, 1549] with 5 seeds) on Hopper-v5:"
    assert found.sentences == (
        f"`one-q`: {WORSE}.",
        f"`fixed`: {WORSE}.",
        f"`tau` (0.005 in `sac`): at 0.5 {WORSE}; at 1 {WORSE}.",
        f"`reward_scale` in `fixed` (5 there): at 9 {WORSE}.",
    )
    assert found.paragraphs[1] == "`one-q`: worse, -1093 [-1462, -650] with 5 seeds."
    several = answer(*tables(experiment((ENV, OTHER))), experiment((ENV, OTHER)))
    assert several.lead == "Against `sac` on 2 environments:"
    assert several.sentences[2] == f"`tau=0.5`: on Hopper-v5 {WORSE}; on Ant-v5 {WORSE}."
    assert answer(tables(manifest)[0][:1], tables(manifest)[1][:0], lone()).lead == "There is nothing to compare."


def test_a_sweeps_label_replaces_its_option():
    manifest = experiment(fixed="fixed temperature")
    for name, label in {"tau=0.5": "target smoothing", "tau=1": "target smoothing", "fixed+scale=9": "scale"}.items():
        object.__setattr__(manifest.variants[name], "sweep_label", label)
    sentences = answer(*tables(manifest), manifest).sentences
    assert sentences[2].startswith("Target smoothing (0.005 in `sac`): at 0.5 ")
    assert sentences[3].startswith("Scale in fixed temperature (5 there): at 9 ")
    titles = {key: group.title for key, group in panels(manifest).items()}
    assert titles == {
        "variants": "variants",
        "tau": "target smoothing",
        "reward_scale of fixed": "scale of fixed temperature",
    }
    assert {key: (sweep.title, sweep.label) for key, sweep in sweeps(manifest).items()} == {
        "tau": ("target smoothing", "target smoothing"),
        "reward_scale of fixed": ("scale of fixed temperature", "scale"),
    }


def lone():
    return manifest_of({"name": "lone", "envs": [ENV], "reference": "sac", "variants": {"sac": {}}})


def test_a_label_replaces_the_variants_name():
    manifest = experiment(one_q="one Q instead of two")
    assert (manifest.label("one-q"), manifest.label("fixed")) == ("one Q instead of two", "fixed")
    assert answer(*tables(manifest), manifest).sentences[0] == f"One Q instead of two: {WORSE}."


def test_during_training_names_do_not_mention_longer_training():
    manifest = experiment().model_copy(update={"reached": dict.fromkeys(experiment().envs, 5000)})
    assert titled(manifest, "one-q") == "one-q"


def test_steps_are_shown_next_to_the_name_if_they_differ():
    assert titled(experiment(), "sac") == "sac (reference)"
    manifest = experiment(steps={"one-q": 500_000})
    assert titled(manifest, "one-q") == "one-q (trained to 500k steps)"
    found = answer(*tables(manifest), manifest)
    assert found.lead.endswith(" on Hopper-v5 at 20,000 steps:")
    assert found.sentences[0].startswith("`one-q` (trained to 500k steps): ")
    final, gaps = tables(manifest)
    columns = ["seed_correlation", "sampled_score", "area"]
    whole = final.merge(gaps, "left", ["env", "variant"]).assign(**dict.fromkeys(columns, 1.0))
    shown = presented(whole.fillna({"verdict": "", "no_verdict": "", "state": ""}), manifest)
    assert shown["variant"].tolist()[:2] == ["sac (reference)", "one-q (trained to 500k steps)"]


def test_waiting_comparisons_count_as_tested():
    states = pd.DataFrame(
        {"verdict": ["worse", "", "", "undecided"], "state": ["decided", "waiting", "untested", "open"]}
    )
    assert count_tested(states) == 3


def test_the_setting_is_described_in_words():
    assert setting(experiment()) == "Quick setting: 2x64 networks, 20k steps, one task (Hopper-v5)."
    different = experiment((ENV, OTHER), {"one-q": 500_000})
    assert setting(different) == "Quick setting: 2x64 networks, 20k to 500k steps, 2 tasks."
    full = setting_in_words([(256, 256)], [1_000_000, 3_000_000], [ENV, OTHER], is_quick=False)
    assert full == "Setting: 2x256 networks, 1M to 3M steps, 2 tasks."
    assert setting_in_words([], [50], [ENV], is_quick=True) == "Quick setting: 50 steps, one task (Hopper-v5)."
    assert setting_in_words([(64, 32), (8,)], [50], [ENV], is_quick=True).startswith("Quick setting: 1x8 or 64-32 net")


@pytest.mark.parametrize(
    ("name", "units", "steps", "quick"),
    [
        ("full", 256, 1_000_000, False),
        ("full-quick", 256, 1_000_000, True),
        ("full", 64, 1_000_000, True),
        ("full", 256, 50_000, True),
    ],
)
def test_a_setting_is_quick_by_its_name_networks_or_steps(name, units, steps, quick):
    about = {"name": name, "reference": "sac", "variants": {"sac": {"steps": {ENV: steps}}}}
    assert is_quick(manifest_of(about | {"config": {"sac": {ENV: {"layers": [units, units]}}}})) == quick
