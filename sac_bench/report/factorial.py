"""The effects of a factorial design in words, and their section of the report."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from sac_bench.analysis.factorial import Effect, why_untested
from sac_bench.analysis.format import interval, number, score_format
from sac_bench.report.page import Answer, Block, Grid, Picture, text
from sac_bench.results.load import Results
from sac_bench.results.manifest import Manifest

RULES = (
    "An effect is the mean score at the factor's high level minus that at its low level, over all levels of the other "
    "factors. An interaction of two factors is half the difference between the effect of one at the high and at the "
    "low level of the other. Intervals: 95%, Student's t of each effect by itself, with Satterthwaite's degrees of "
    "freedom. Verdicts are corrected for all effects (Holm, 5%)."
)
HALF = (
    "Half of all combinations were trained. So a main effect is the same contrast as the interaction of all the other "
    "factors, and an interaction of two factors the same as that of all the others."
)
OTHER_FAMILY = (
    "The differences from the reference below are corrected among themselves, apart from the effects. Both tables "
    "together may contain a false statement with a probability of up to 10%."
)
LEGEND = "Numbers: effect on the score [95% interval] of each by itself; verdicts are corrected for all effects."


def called(factors: Sequence[str], manifest: Manifest) -> str:
    """Return what readers call a factor, or the interaction of two: "A x B", "A x B or C x D" if these are the same."""
    design = manifest.factorial
    assert design is not None, f"{manifest.name}: no factorial design"
    words = " x ".join(design.factors[name] for name in factors)
    if len(factors) == 2 and design.is_half and len(design.factors) == 4:
        return f"{words} or {' x '.join(label for name, label in design.factors.items() if name not in factors)}"
    return words


def answer(found: Sequence[Effect], results: Results) -> Answer:
    """Return the answer: a sentence per factor, then one per interaction that was shown."""
    manifest, untested = results.manifest, why_untested(results)
    places = ", ".join(manifest.envs)
    if untested:
        return Answer(f"Effects on the score on {places}: no verdicts, because {untested}.", (), ())
    spec = score_format(max(abs(one.estimate.value) for one in found))
    mains, pairs = ([one for one in found if (len(one.factors) > 1) == paired] for paired in (False, True))
    shown = [one for one in pairs if one.verdict in ("positive", "negative")]
    sentences = [_sentence(one, manifest, spec) for one in [*mains, *shown]]
    if pairs and not shown:
        sentences.append("No interaction of two factors is shown.")
    half = manifest.factorial is not None and manifest.factorial.is_half
    notes = (*exploded_in_words(found), LEGEND, *[HALF] * half)
    return Answer(f"Effect of each factor's high level on the score on {places}:", tuple(sentences), notes)


def exploded_in_words(found: Sequence[Effect]) -> list[str]:
    """Return a sentence on the runs that exploded, if any did."""
    counts = {one.env: one.exploded for one in found if one.exploded}
    each = ", ".join(f"{count} on {env}" for env, count in counts.items())
    return [f"Runs that exploded: {each}. They keep their scores and count in every effect."] * bool(counts)


def _sentence(one: Effect, manifest: Manifest, spec: str) -> str:
    where = f" on {one.env}" if len(manifest.envs) > 1 else ""
    name = called(one.factors, manifest)
    verdict = {"undecided": "no effect shown", "not tested": "not tested, because no run differs"}.get(one.verdict)
    numbers = interval(*one.estimate, spec=spec)
    if len(one.factors) > 1:
        change = "larger" if one.verdict == "positive" else "smaller"
        words = f"each effect is {change} at the other's high level"
        return f"Interaction of {name}{where}: **{one.verdict}**, {numbers}; {words}."
    words = verdict or ("raises the score" if one.verdict == "positive" else "lowers the score")
    return f"{name[:1].upper()}{name[1:]}{where}: **{words}**, {numbers}."


def effects_section(found: Sequence[Effect], manifest: Manifest, pictures: Sequence[Picture]) -> list[Block]:
    """Return the section on effects; [] without any."""
    design = manifest.factorial
    if not found or design is None:
        return []
    notes = (RULES, *[HALF] * design.is_half, OTHER_FAMILY)
    return [*pictures, Grid(presented(found, manifest), 5, ("verdict",)), *(text(words, small=True) for words in notes)]


def presented(found: Sequence[Effect], manifest: Manifest) -> pd.DataFrame:
    """Return the effects for a reader."""
    spec = score_format(max(abs(one.estimate.value) for one in found))
    shown = pd.DataFrame(
        {
            "effect": [called(one.factors, manifest) for one in found],
            "environment": [one.env for one in found],
            "on the score [95% CI]": [interval(*one.estimate, spec=spec) for one in found],
            "verdict": [one.verdict for one in found],
            "p (Holm)": [number(one.p_holm, ".2g") for one in found],
            "exploded runs": [one.exploded for one in found],
        }
    )
    needed = {"environment": len(manifest.envs) > 1, "exploded runs": shown["exploded runs"].any()}
    return shown.drop(columns=[column for column, is_needed in needed.items() if not is_needed])
