"""Protocol cards on pages: a column per card, and what two cards leave open."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import product

import pandas as pd

from sac_bench.analysis.differences import Cell
from sac_bench.report.page import Block, Grid, text
from sac_bench.results.cards import card_of
from sac_bench.results.load import Results
from sac_bench.results.protocol import UNKNOWN, ProtocolCard, unknown

LEGEND = (
    'How the numbers came about. What a source does not say is "unknown", never guessed. There is no verdict between '
    "cards that differ in the environment, the metric, the actions or the updates per transition."
)
SEEDS_APART = "Equal seeds of different sources have nothing in common: they are only labels."


def of_results(results: Results) -> list[Block]:
    """Return the cards of a result's variants, those that are equal once."""
    names: dict[ProtocolCard, dict[str, list[str]]] = {}
    for env, variant in product(results.manifest.envs, results.manifest.variants):
        card = card_of(results, env, variant)
        group = names.setdefault(card.model_copy(update={"environment": UNKNOWN}), {"envs": [], "variants": []})
        group["envs"] += [] if card.environment in group["envs"] else [card.environment]
        group["variants"] += [] if variant in group["variants"] else [variant]
    blocks: list[Block] = []
    for card, of in names.items():
        blocks += [text(f"{', '.join(of['variants'])}:")] if len(names) > 1 else []
        blocks.append(Grid(_table({"value": card.model_copy(update={"environment": ", ".join(of["envs"])})})))
    return [*blocks, text(LEGEND, small=True)]


def beside(a: Results, b: Results, places: Iterable[Cell]) -> list[Block]:
    """Return the cards of both results for each of these variants and environments, those that are equal once."""
    blocks: list[Block] = []
    pairs: dict[tuple[ProtocolCard, ProtocolCard], list[str]] = {}
    for env, variant in places:
        pairs.setdefault((card_of(a, env, variant), card_of(b, env, variant)), []).append(f"{variant} on {env}")
    for (of_a, of_b), names in pairs.items():
        blocks += [text(f"{', '.join(names)}:")] if len(pairs) > 1 else []
        blocks.append(Grid(_table({"A": of_a, "B": of_b})))
    return [*blocks, text(LEGEND, small=True)]


def notes(a: Results, b: Results, places: Iterable[Cell]) -> list[str]:
    """Return sentences on what the cards of two results leave open, and on their seeds."""
    open_ = {name: None for place in places for name in unknown(card_of(a, *place), card_of(b, *place))}
    sentences = [f"The protocols do not say whether these are equal in both: {', '.join(open_)}."] if open_ else []
    return [*sentences, SEEDS_APART]


def _table(columns: Mapping[str, ProtocolCard]) -> pd.DataFrame:
    """Return a row per field, a column per card."""
    rows = {name: card.rows() for name, card in columns.items()}
    fields = list(next(iter(rows.values())))
    return pd.DataFrame({"protocol": fields} | {name: [row[one] for one in fields] for name, row in rows.items()})
