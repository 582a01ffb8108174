"""An experiment's page: the question, the table, the figures, what is missing, how it was made."""

from __future__ import annotations

import html
import json
import os
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from sac_bench import locks
from sac_bench.analysis.comparison import (
    LEGEND,
    algorithms,
    comparison,
    presented_comparison,
    without_published,
    write_comparison,
)
from sac_bench.analysis.figures import write_figures
from sac_bench.analysis.published import citations
from sac_bench.analysis.tables import RULES, markdown, presented, write_tables
from sac_bench.errors import InputError
from sac_bench.files import write_atomically
from sac_bench.results import Results, load_results, lock_of
from sac_bench.results import about as experiment_of

SOURCES = "docs/published.md"
TEMPLATE = """\
# {{ about.name }}
{% if about.question %}
{{ about.question }}
{% endif %}
{{ summary }}

{{ answer }}

## Final performance

{{ table }}

{{ rules }}
{% if comparison %}
## Comparison

{{ comparison }}
{% endif %}
## Figures
{% for figure in figures %}
![{{ figure.stem }}](figures/{{ figure.name }})
{% endfor %}
{%- if missing %}
## Runs that did not finish

{{ missing }}
{% endif %}
## Settings

The reference is `{{ about.reference }}`: {{ about.variants[about.reference].algorithm }} with

{{ settings }}

What each variant changes:

{{ variants }}

Random policy: {% for env, r in about.random.items() %}{{ env }} {{ "%.1f"|format(r.return_mean) }}
(std {{ "%.1f"|format(r.return_std) }}, {{ r.episodes }} episodes){{ "; " if not loop.last }}{% endfor %}

Made by `{{ about.command }}` on {{ machines }} with {{ versions }}; code {{ commits }}.
Training took {{ hours }} in all cohorts together (of several on one machine at once).
"""


def write_report(folder: Path) -> None:
    """Tables, figures and report.md of results/<name>/, from the CSV files there alone.

    Raises InputError when they are damaged.
    """
    with locks.locked(lock_of(folder, "report")):  # two processes may report one experiment
        results = load_results(folder.name, folder.parent)
        try:
            about = experiment_of(folder)
            final = write_tables(results, about, folder / "tables")
            compared = comparison(final, about) if len(algorithms(about)) > 1 else None
            if compared is not None:
                write_comparison(compared, about, folder / "tables")
            figures = write_figures(results, about, folder / "figures")
            page = render(results, about, final, compared, figures, _link_to_sources(folder))
            write_atomically(folder / "report.md", page.encode())
        except (KeyError, TypeError, AttributeError, ValueError, jinja2.TemplateError) as error:
            raise InputError(
                f"{folder}: its files are not what sac-bench writes: {type(error).__name__}: {error}"
            ) from None


def answer(final: pd.DataFrame, about: dict[str, Any]) -> str:
    """What the intervals of the differences from the reference show, in a sentence an environment."""
    sentences = []
    for env in about["envs"]:
        rows = final[(final["env"] == env) & (final["variant"] != about["reference"])]
        groups = {
            "below": rows["difference_ci_high"] < 0,
            "above": rows["difference_ci_low"] > 0,
        }
        groups["not told apart from it"] = rows["difference_ci_low"].notna() & ~(groups["below"] | groups["above"])
        groups["too few seeds for an interval"] = rows["difference_ci_low"].isna()
        names = rows["variant"] + [f" ({ended})" if ended else "" for ended in rows["ended_otherwise"]]
        named = {word: ", ".join(names[mask]) for word, mask in groups.items()}
        words = "; ".join(f"{word}: {names}" for word, names in named.items() if names) or "nothing to compare"
        sentences.append(f"On {env}, against `{about['reference']}` (95% interval of the difference): {words}.")
    return "\n\n".join(sentences)


def compare(compared: pd.DataFrame, about: dict[str, Any], link: str) -> str:
    """The section on several algorithms: the table, what is not in it, the metrics, the sources."""
    shown = compared[(compared["kind"] == "published") & compared["near"]]
    sources = [f"- {key}: {citations()[key]}" for key in sorted(set(shown["source"]))]
    listed = "\n".join(["Sources of the published scores:\n", *sources]) if sources else ""
    parts = [markdown(presented_comparison(compared, about)), without_published(compared, about),
             LEGEND.replace(SOURCES, link), listed]  # fmt: skip
    return "\n\n".join(part for part in parts if part)


def _link_to_sources(folder: Path) -> str:
    """A link from a report in `folder` to the published scores' document, by name alone outside of the project."""
    root = Path(__file__).resolve().parents[2]
    inside = folder.resolve().is_relative_to(root) and (root / SOURCES).exists()
    return f"[{SOURCES}]({Path(os.path.relpath(root / SOURCES, folder.resolve())).as_posix()})" if inside else SOURCES


def render(
    results: Results,
    about: dict[str, Any],
    final: pd.DataFrame,
    compared: pd.DataFrame | None,
    figures: list[Path],
    link: str,
) -> str:
    """The report as Markdown; `compared` where there are several algorithms, `link` to the published scores."""
    runs = results.runs.drop_duplicates("run_id")
    absent = results.runs[results.runs["status"] != "finished"]
    missing = ""
    if len(absent):
        columns = ["variant", "env", "seed", "status", "steps", "target_steps", "run_id", "reason"]
        missing = markdown(absent.reindex(columns=columns).astype({"reason": object}).fillna({"reason": ""}))
    config = about["config"][about["reference"]][about["envs"][0]]
    settings = pd.DataFrame({"option": list(config), "value": [json.dumps(v) for v in config.values()]})
    variants = pd.DataFrame(
        {
            "variant": list(about["variants"]),
            "algorithm": [v["algorithm"] for v in about["variants"].values()],
            "changes": [_changes(v["overrides"]) for v in about["variants"].values()],
            "steps": [_steps(v["steps"]) for v in about["variants"].values()],
        }
    )
    # A cohort's time is all its members' time: count it once.
    seconds = (runs["wall_seconds"] / runs["cohort_size"]).sum()
    escaped = lambda value: html.escape(value, quote=False) if isinstance(value, str) else value
    return jinja2.Environment(undefined=jinja2.StrictUndefined, finalize=escaped).from_string(TEMPLATE).render(
        about=about,
        summary=f"{len(runs)} runs: {', '.join(f'{n} {s}' for s, n in runs['status'].value_counts().items())}; "
        f"{len(about['seeds'])} seeds a variant.",
        answer=answer(final, about),
        table=markdown(presented(final, about)),
        rules=RULES,
        comparison="" if compared is None else compare(compared, about, link),
        figures=figures,
        missing=missing,
        settings=markdown(settings),
        variants=markdown(variants),
        machines=_distinct(runs["device"]),
        versions=_distinct(runs["versions"]),
        commits=_distinct(runs["commit"]),
        hours=f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h",
    )  # fmt: skip


def _changes(overrides: dict[str, Any]) -> str:
    return ", ".join(f"{key} = {json.dumps(value)}" for key, value in overrides.items()) or "nothing"


def _steps(steps: dict[str, int]) -> str:
    if len(set(steps.values())) == 1:
        return f"{next(iter(steps.values())):,}"
    return ", ".join(f"{env} {count:,}" for env, count in steps.items())


def _distinct(values: pd.Series) -> str:
    return "; ".join(sorted({str(v) for v in values.dropna()})) or "unknown"
