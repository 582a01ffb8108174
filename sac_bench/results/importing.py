"""Makes an experiment's folder of results that others trained, so that reports and comparisons read it like ours."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from sac_bench.errors import InputError, nearest
from sac_bench.results.collect import write_results
from sac_bench.results.foreign.formats import FORMATS
from sac_bench.results.foreign.runs import ForeignResult, ForeignRun, agreed, labelled
from sac_bench.results.load import Results, lock_of
from sac_bench.results.manifest import FILE, ImportedRecord, Manifest, VariantRecord, load_manifest
from sac_bench.results.protocol import ProtocolCard
from sac_bench.results.schema import frame
from sac_bench.spec.load import NAME, check_name
from sac_bench.spec.toml import validate
from sac_bench.store import locks

BINS = 100
"""Training returns are averaged over about so many equal parts of a training."""
Rows = list[dict[str, Any]]


VERSIONED = re.compile(r"-v\d+$")
"""The end of the id of an environment."""


@dataclass(frozen=True)
class ImportOptions:
    """What the files do not say."""

    env: str | None = None
    variant: str | None = None
    paths: str | None = None
    """A template of the folders of runs, such as "{variant}/{env}_{seed}"."""
    rename: Mapping[str, str] = field(default_factory=dict)
    """{variant or environment in the files: its name here}."""
    every: int | None = None
    """Average the returns of each so many steps."""
    steps: int | None = None
    """The steps of a whole training; None: those of the longest run."""
    reference: str | None = None
    card: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the protocol card, for all variants."""
    cards: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """{variant: fields of its card}; these take precedence."""


def import_results(format: str, path: Path, name: str, folder: Path, options: ImportOptions) -> Path:
    """Write the results of others to the results folder `folder`, as experiment `name`; return its own folder.

    A result of the same name is replaced if it was imported. Raises InputError for files that cannot be read, labels
    that are missing, and names that are in use.
    """
    if format not in FORMATS:
        raise InputError(f"import {format}: must be one of {', '.join(FORMATS)}{nearest(format, FORMATS)}")
    check_name(name, "--name")
    into = folder / name
    if (into / FILE).exists() and not all(one.imported for one in load_manifest(into).variants.values()):
        raise InputError(f"{into}: has results that were trained here; choose another --name")
    found = labelled(FORMATS[format].read(path), path, options.paths)
    results = imported(found, format, path, name, options)
    with locks.locked(lock_of(into, "tables")):
        write_results(results, into)
    return into


def imported(found: ForeignResult, format: str, path: Path, name: str, options: ImportOptions) -> Results:
    """Return the results of foreign runs. `path`: where they were read, for messages and the record."""
    runs = _numbered([_named(run, options) for run in found.runs], path)
    cards = _cards(runs, options, path)
    every = _every(replace(found, runs=runs), cards, options)
    grids = [_on_grid(run, every, options.steps) for run in runs]
    last = _last_steps(runs, grids, options.steps)
    seeds, runs = _seeds(runs)
    tables: dict[str, Rows] = {"runs": [], "evaluations": [], "episodes": []}
    for run, rows in zip(runs, grids, strict=True):
        end, card = last[str(run.env), str(run.variant)], cards[str(run.variant)]
        rows = rows[rows["step"] <= end]
        labels = {"run_id": _run_id(run, rows, card), "variant": run.variant, "env": run.env, "seed": run.seed}
        tables["runs"].append(labels | _status(rows, end) | _algorithm(run))
        tables["evaluations"] += [labels | row for row in _evaluations(rows, card, found.rows_are_episodes)]
        if found.rows_are_episodes and card.metric == "evaluation" and every is None:
            tables["episodes"] += [labels | row for row in _episodes(rows, card)]
    manifest = _manifest(runs, grids, cards, last, seeds, format, path, name, options)
    made = {table: frame(table, rows) for table, rows in tables.items()}
    if len(made["episodes"]):
        made["episodes"]["return"] = [row["return"] for row in tables["episodes"]]
    return Results(_counted(manifest, made["runs"], options), training=pd.DataFrame(), **made)


def _named(run: ForeignRun, options: ImportOptions) -> ForeignRun:
    """Return a run with variant and environment. Raises InputError if neither files nor options say them."""
    labels: dict[str, Any] = {"variant": options.variant or run.variant, "env": options.env or run.env}
    for label, value in labels.items():
        if not value:
            raise InputError(f"{run.where}: the files do not say the {label}; give --{label} NAME, or --paths")
        labels[label] = options.rename.get(value, value)
    if run.env and VERSIONED.search(run.env) and _task(labels["env"]) != _task(run.env):
        raise InputError(
            f"{run.where}: the files say {run.env}, not {labels['env']}; only names without a version can be replaced"
        )
    if not NAME.fullmatch(str(labels["variant"])):
        raise InputError(f"{run.where}: {labels['variant']!r} is not a plain name; give --rename OLD=NEW")
    return replace(run, **labels)


def _task(env: str) -> str:
    return env.removeprefix("gymnasium:").removeprefix("envpool:")


def _numbered(runs: Sequence[ForeignRun], path: Path) -> list[ForeignRun]:
    """Return runs with seeds: 0, 1, ... in order for a variant and environment whose files state none.

    Raises InputError if two runs have the same labels.
    """
    by_cell: dict[tuple[Any, Any], list[ForeignRun]] = {}
    for run in runs:
        by_cell.setdefault((run.env, run.variant), []).append(run)
    made = []
    for (env, variant), own in by_cell.items():
        if all(run.seed is None for run in own):
            own = [replace(run, seed=i) for i, run in enumerate(own)]
        for run in own:
            if run.seed is None:
                raise InputError(f"{run.where}: its seed is not stated, unlike that of other runs; give --paths")
        seeds = [run.seed for run in own]
        if doubled := [seed for seed in seeds if seeds.count(seed) > 1]:
            raise InputError(f"{path}: {variant} on {env}: seed {doubled[0]} is duplicated; give --paths, or a part")
        made += sorted(own, key=lambda run: run.seed or 0)
    return made


def _cards(runs: Sequence[ForeignRun], options: ImportOptions, path: Path) -> dict[str, ProtocolCard]:
    """Return the card of each variant: what its files state, over which what the user states takes precedence."""
    cards = {}
    variants = dict.fromkeys(str(run.variant) for run in runs)
    for name in options.cards:
        if name not in variants:
            raise InputError(f"--card: no variant {name!r}{nearest(name, variants)}; there is {', '.join(variants)}")
    for name in variants:
        stated = agreed(run.card for run in runs if run.variant == name)
        fields = {"source": str(path.name)} | stated | dict(options.card) | dict(options.cards.get(name, {}))
        cards[name] = validate(ProtocolCard, fields, "--card")
    return cards


def _every(found: ForeignResult, cards: Mapping[str, ProtocolCard], options: ImportOptions) -> int | None:
    """Return the steps over which returns are averaged; None: those of evaluations stay as they are.

    For training returns, unless stated: about a hundredth of the training, and no part without an episode.
    """
    of_training = [run for run in found.runs if cards[str(run.variant)].metric == "training return"]
    if options.every or not (found.rows_are_episodes and of_training):
        return options.every
    longest = options.steps or max(run.returns["step"].max() for run in of_training)
    gaps = [run.returns["step"].diff().max() for run in of_training if len(run.returns) > 1]
    return round_up(max([longest / BINS, *gaps]))


def _on_grid(run: ForeignRun, every: int | None, steps: int | None) -> pd.DataFrame:
    """Return a run's returns; with `every`, at the end of the part of the training that they are in."""
    rows = run.returns.assign(length=run.returns.get("length", float("nan")))
    if every is None:
        return rows
    return rows.assign(step=(-(-rows["step"] // every) * every).clip(upper=steps).astype("int64"))


def round_up(number: float) -> int:
    """Return the smallest 1, 2 or 5 times a power of ten that is at least `number`: 20 for 13."""
    power = 10 ** math.floor(math.log10(max(number, 1)))
    return next(int(factor * power) for factor in (1, 2, 5, 10) if factor * power >= number)


def _last_steps(
    runs: Sequence[ForeignRun], grids: Sequence[pd.DataFrame], steps: int | None
) -> dict[tuple[str, str], int]:
    """Return {(environment, variant): the steps of a whole training}: those of its longest run, unless stated."""
    last: dict[tuple[str, str], int] = {}
    for run, rows in zip(runs, grids, strict=True):
        cell = (str(run.env), str(run.variant))
        last[cell] = steps or max(last.get(cell, 0), int(rows["step"].max()))
    return last


def _seeds(runs: Sequence[ForeignRun]) -> tuple[tuple[int, ...], list[ForeignRun]]:
    """Return the seeds, and the runs. Every variant has the first seeds; otherwise seeds are renumbered from 0."""
    by_cell: dict[tuple[Any, Any], list[int]] = {}
    for run in runs:
        by_cell.setdefault((run.env, run.variant), []).append(int(run.seed or 0))
    every = [seed for seeds in by_cell.values() for seed in seeds]
    ordered = sorted(set(every), key=lambda seed: (-every.count(seed), seed))
    if all(set(seeds) == set(ordered[: len(seeds)]) for seeds in by_cell.values()):
        return tuple(ordered), list(runs)
    most = max(map(len, by_cell.values()))
    own = {cell: sorted(seeds) for cell, seeds in by_cell.items()}
    return tuple(range(most)), [replace(run, seed=own[run.env, run.variant].index(int(run.seed or 0))) for run in runs]


def _run_id(run: ForeignRun, rows: pd.DataFrame, card: ProtocolCard) -> str:
    """Return an id that depends on a run's labels, numbers and protocol: the same files have the same ids."""
    text = f"{run.variant},{run.env},{run.seed}\n{card.model_dump_json()}\n{rows.to_csv(index=False)}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _status(rows: pd.DataFrame, end: int) -> dict[str, Any]:
    reached = int(rows["step"].max()) if len(rows) else 0
    is_whole = reached >= end
    reason = None if is_whole else f"unfinished: its files end at step {reached:,} of {end:,}"
    return {"status": "finished" if is_whole else "failed", "steps": reached, "target_steps": end, "reason": reason}


def _algorithm(run: ForeignRun) -> dict[str, Any]:
    return {"algorithm": str(run.variant).lower(), "backend": "imported"}


def _evaluations(rows: pd.DataFrame, card: ProtocolCard, rows_are_episodes: bool) -> Rows:
    """Return a row of the table `evaluations` per step."""
    known = card.episodes if isinstance(card.episodes, int) else float("nan")
    return [
        {
            "step": step,
            "policy": card.policy,
            "return_mean": float(own["return"].mean()),
            "return_std": float(own["return"].std(ddof=0)) if rows_are_episodes else float("nan"),
            "length_mean": float(own["length"].mean()),
            "episodes": len(own) if rows_are_episodes else known,
        }
        for step, own in rows.groupby("step")
    ]


def _episodes(rows: pd.DataFrame, card: ProtocolCard) -> Rows:
    """Return a row of the table `episodes` per episode of an evaluation."""
    numbered = rows.assign(policy=card.policy, episode=rows.groupby("step").cumcount())
    return [{str(key): value for key, value in row.items()} for row in numbered.to_dict("records")]


def _manifest(
    runs: Sequence[ForeignRun],
    grids: Sequence[pd.DataFrame],
    cards: Mapping[str, ProtocolCard],
    last: Mapping[tuple[str, str], int],
    seeds: tuple[int, ...],
    format: str,
    path: Path,
    name: str,
    options: ImportOptions,
) -> Manifest:
    envs = tuple(dict.fromkeys(str(run.env) for run in runs))
    if missing := [(env, variant) for variant in cards for env in envs if (env, variant) not in last]:
        raise InputError(f"{path}: {missing[0][1]} has no run on {missing[0][0]}; import each environment by itself")
    reference = options.reference or next(iter(cards))
    if reference not in cards:
        raise InputError(f"--reference {reference}: no such variant{nearest(reference, cards)}")
    steps_at: dict[tuple[str, str], set[int]] = {}
    counts: dict[tuple[str, str], int] = {}
    for run, rows in zip(runs, grids, strict=True):
        cell = (str(run.env), str(run.variant))
        steps_at.setdefault(cell, set()).update(int(step) for step in rows["step"] if 0 < step <= last[cell])
        counts[cell] = counts.get(cell, 0) + 1
    variants = {
        variant: VariantRecord(
            algorithm=variant.lower(),
            scored_by=card.policy,
            seeds={env: counts[env, variant] for env in envs if counts[env, variant] < len(seeds)},
            steps={env: last[env, variant] for env in envs},
            configs={env: {} for env in envs},
            imported=ImportedRecord(
                format=format, card=card, evaluated={env: tuple(sorted(steps_at[env, variant])) for env in envs}
            ),
        )
        for variant, card in cards.items()
    }
    question = f"Results of others ({format})"
    return Manifest(name=name, question=question, envs=envs, seeds=seeds, reference=reference, variants=variants)


def _counted(manifest: Manifest, runs: pd.DataFrame, options: ImportOptions) -> Manifest:
    """Return a manifest whose cards say how many seeds there are and how many runs are unfinished."""
    variants = {}
    for name, variant in manifest.variants.items():
        assert variant.imported is not None
        own = runs[runs["variant"] == name]
        unfinished = int((own["status"] != "finished").sum())
        counted = {
            "seeds": manifest.model_copy(update={"variants": {name: variant}}).seeds_each(),
            "unfinished": f"{unfinished} of {len(own)} runs" if unfinished else "none",
        }
        stated = {**options.card, **options.cards.get(name, {})}
        card = variant.imported.card.model_copy(update={k: v for k, v in counted.items() if k not in stated})
        record = variant.imported.model_copy(update={"card": card})
        variants[name] = variant.model_copy(update={"imported": record})
    return manifest.model_copy(update={"variants": variants})
