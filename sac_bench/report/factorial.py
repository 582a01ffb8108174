"""The effects of a factorial design in words, and their section of the report."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from sac_bench.analysis.factorial import Effect
from sac_bench.analysis.format import interval, number, score_format
from sac_bench.report.page import Answer, Block, Grid, Picture, text
from sac_bench.results.manifest import Manifest

RULES = (
    "An effect is the mean score at the factor's high level minus that at its low level, over all levels of the other "
    "factors. An interaction of two factors is half the difference between the effect of one at the high and at the "
    "low level of the other. Intervals: 95%, Student's t of each effect by itself, with Satterthwaite's degrees of "
    "freedom. Verdicts are corrected for all effects (Holm, 5%)."
)
HALF = (
    "Half of all combinations were trained. So a main effect includes the interaction of all the other factors, and an "
    "interaction of two includes that of all the others."
)
LEGEND = "Numbers: effect on the score [95% interval] of each by itself; verdicts are corrected for all effects."


def called(factors: Sequence[str], manifest: Manifest) -> str:
    """Return what readers call a factor, or the interaction of several."""
    design = manifest.factorial
    return " x ".join(design.factors[name] if design else name for name in factors)


def answer(found: Sequence[Effect], manifest: Manifest) -> Answer:
    """Return the answer: a sentence per factor, then one per interaction that was shown."""
    spec = score_format(max((abs(one.estimate.value) for one in found), default=0.0))
    sentences = []
    for one in found:
        if len(one.factors) > 1 and one.verdict in ("undecided", ""):
            continue
        where = f" on {one.env}" if len(manifest.envs) > 1 else ""
        verdict = {"undecided": "no effect shown", "": "no verdict"}.get(one.verdict, f"{one.verdict} the score")
        kind = "the interaction of " * (len(one.factors) > 1)
        name = f"{kind}{called(one.factors, manifest)}{where}"
        sentences.append(f"{name[:1].upper()}{name[1:]}: **{verdict}**, {interval(*one.estimate, spec=spec)}.")
    pairs = [one for one in found if len(one.factors) > 1]
    shown = [one for one in pairs if one.verdict in ("raises", "lowers")]
    if pairs and not shown:
        sentences.append(f"None of the {len(pairs)} interactions of two factors is shown.")
    places = ", ".join(manifest.envs)
    return Answer(f"What the high level of each factor does to the score on {places}:", tuple(sentences), (LEGEND,))


def effects_section(found: Sequence[Effect], manifest: Manifest, pictures: Sequence[Picture]) -> list[Block]:
    """Return the section on effects; [] without any."""
    design = manifest.factorial
    if not found or design is None:
        return []
    half = len(design.cells) < 2 ** len(design.factors)
    grid = Grid(presented(found, manifest), 5, ("verdict",))
    return [*pictures, grid, *(text(words, small=True) for words in (RULES, *[HALF] * half))]


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
        }
    )
    return shown.drop(columns="environment") if len(manifest.envs) == 1 else shown
