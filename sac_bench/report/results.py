"""An experiment's results as Python users get them: tables, scores, curves, verdicts and plots.

What draws, or needs torch or SciPy, is imported when it is used, so that notebooks start quickly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from sac_bench.analysis.format import interval, score_format
from sac_bench.errors import InputError, nearest
from sac_bench.results import load
from sac_bench.results.schema import described
from sac_bench.results.standings import of_runs

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCORE_COLUMNS = ["variant", "env", "seed", "score", "status"]
CURVE_COLUMNS = ["variant", "env", "seed", "step", "return"]
INCHES = (6.4, 4.0)
"""The size of a plot without axes of its own."""


class Results(load.Results):
    """One experiment: its tables, scores, curves, verdicts and plots.

    `manifest` describes the experiment. `runs`, `evaluations`, `episodes`, `training` and `robustness` are
    DataFrames, which all have run_id, variant, env and seed; `describe` explains their columns. During training,
    scores, curves and plots show the last steps that the runs have in common, as reports do.

    Example:
        >>> r = sac_bench.load_results("ablation-quick", "results/record")
        >>> r.scores().groupby("variant")["score"].mean()
        >>> r.plot_curves(variants=["sac", "one-q"])
    """

    @classmethod
    def of(cls, results: load.Results) -> Results:
        """Return results with these methods."""
        return cls(**{field.name: getattr(results, field.name) for field in fields(results)})

    @cached_property
    def _compared(self) -> load.Results:
        from sac_bench.analysis import scores as scoring

        return scoring.up_to_common_steps(self)

    @cached_property
    def _differences(self) -> pd.DataFrame:
        results = self._compared
        from sac_bench.analysis import scores as scoring
        from sac_bench.analysis.differences import table_differences, table_of, why_no_verdict

        return table_of(table_differences(scoring.scores(results), results.manifest, why_no_verdict(results)))

    def scores(self) -> pd.DataFrame:
        """Return a row per variant and run: variant, env, seed, score, status.

        The score is the one that all reports use (docs/design.md): the mean return of the evaluations in the last tenth
        of the steps, or another share that the file gives (score_last). Its unit is that of the environment's returns.
        It is NaN for a run that has none.

        Example:
            >>> r.scores().groupby(["env", "variant"])["score"].agg(["mean", "std", "count"])
        """
        from sac_bench.analysis import scores as scoring

        return scoring.scores(self._compared)[SCORE_COLUMNS]

    def curves(self) -> pd.DataFrame:
        """Return a row per variant, run and evaluation: variant, env, seed, step, return.

        They are the learning curves that reports draw: mean returns of the policy that scores the run. From where it
        diverged, a run has a random policy's return.

        Example:
            >>> r.curves().pivot_table(index="step", columns="variant", values="return")
        """
        from sac_bench.analysis import scores as scoring

        results, parts = self._compared, []
        for env in results.manifest.envs:
            for variant in results.manifest.variants:
                wide = scoring.curves_of(results, env, variant)
                if len(wide):
                    long = wide.reset_index().melt("seed", var_name="step", value_name="return")
                    long = long.sort_values(["seed", "step"]).astype({"step": int})
                    parts.append(long.assign(variant=variant, env=env)[CURVE_COLUMNS])
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=CURVE_COLUMNS)

    def differences(self) -> pd.DataFrame:
        """Return a row per environment and variant other than the reference: its difference, intervals and verdict.

        With several environments, rows for all of them together follow, in gains of the reference over a random policy.
        `in_words` is the verdict as reports show it, or why there is none. It takes seconds for many variants.

        Example:
            >>> r.differences()[["variant", "difference", "in_words"]]
        """
        rows = self._differences.to_dict("records")
        from sac_bench.analysis.differences import words_of

        words = [words_of(row) or f"no verdict ({row['no_verdict']})" for row in rows]
        return self._differences.assign(in_words=words)

    def plot_curves(
        self, env: str | None = None, variants: Sequence[str] | None = None, ax: Axes | None = None
    ) -> Axes:
        """Draw the learning curves of variants in an environment (by default, all in the first one); return the axes.

        Curves have the style of reports: with few seeds the mean and the range over seeds, else the interquartile mean
        with its 95% interval. Raises InputError for an unknown environment or variant.

        Example:
            >>> figure, (left, right) = plt.subplots(1, 2)
            >>> r.plot_curves(variants=["sac", "one-q"], ax=left)
        """
        from sac_bench.report.figures.curves import Panel, draw_curves, names_of

        results, env = self._compared, self._env(env)
        shown = tuple(variants or results.manifest.variants)
        if unknown := [name for name in shown if name not in results.manifest.variants]:
            raise InputError(f"variants: {unknown[0]!r} is unknown{nearest(unknown[0], results.manifest.variants)}")
        if not len(results.evaluations):
            raise InputError(f"{results.manifest.name}: no evaluations to draw yet")
        axis, panel = ax or _new_axes(), Panel(env, env, shown)
        draw_curves(axis, results, panel, max(results.manifest.steps_on(env)))
        names = names_of(results.manifest, [panel])
        handles, labels = axis.get_legend_handles_labels()
        axis.legend(handles, [names.get(label, label) for label in labels], fontsize="small")
        axis.set(ylabel="return", title=env)
        return axis

    def plot_forest(self, env: str | None = None, ax: Axes | None = None) -> Axes:
        """Draw every variant's difference from the reference in an environment (by default, the first one).

        Thick lines are 95% intervals, thin ones are at the level of Holm's correction; verdicts stand at the right.
        Return the axes. Raises InputError for an unknown environment, or without another variant than the reference.

        Example:
            >>> r.plot_forest().figure.savefig("differences.png", bbox_inches="tight")
        """
        from sac_bench.report.figures.forest import draw_forest
        from sac_bench.report.figures.style import variant_styles
        from sac_bench.report.tables import performance

        results, env = self._compared, self._env(env)
        rows = self._differences[self._differences["env"] == env]
        if not len(rows):
            raise InputError(f"{results.manifest.name}: has no variant besides the reference to compare")
        rows = rows.merge(performance(results), "left", ["env", "variant"], validate="1:1")
        axis, manifest = ax or _new_axes(), results.manifest
        names = {name: (manifest.label(name), variant.group) for name, variant in manifest.variants.items()}
        colors = {name: style["color"] for name, style in variant_styles(manifest).items()}
        draw_forest(axis, rows, manifest.label(manifest.reference), names, colors)
        axis.set_title(env)
        return axis

    def _env(self, env: str | None) -> str:
        envs = self.manifest.envs
        if env is not None and env not in envs:
            raise InputError(f"env: {env!r} is not in {self.manifest.name}{nearest(env, envs)}")
        return env or envs[0]

    @staticmethod
    def describe(table: str = "runs") -> pd.DataFrame:
        """Return what the columns of a table mean: column, unit, description. Raises InputError for an unknown table.

        Example:
            >>> r.describe("evaluations")
        """
        return described(table)

    def _repr_html_(self) -> str:
        """Return the question, the state of the runs, and a row per variant: notebooks show it."""
        results = self._compared
        from sac_bench.analysis import scores as scoring

        summary = f"{of_runs(self.runs) if len(self.runs) else 'no runs'}. {scoring.note(results.manifest)}".strip()
        head = f"<b>{escape(results.manifest.name)}</b>: {escape(results.manifest.question)}<br>{escape(summary)}"
        return f"<div>{head}{_score_table(results).to_html(index=False, border=0)}</div>"


def _score_table(results: load.Results) -> pd.DataFrame:
    """Return a row per environment and variant: seeds with a score, and the mean score with its 95% interval."""
    from sac_bench.analysis import scores as scoring
    from sac_bench.analysis.statistics import mean_interval

    manifest, table = results.manifest, scoring.scores(results)
    spec, rows = "," + score_format(table["score"].abs().max()), []
    for env in manifest.envs:
        for variant in manifest.variants:
            values = scoring.entered(table, env, variant)
            rows.append(
                {
                    "variant": manifest.label(variant) + (" (reference)" if variant == manifest.reference else ""),
                    "environment": env,
                    "seeds": f"{len(values)} of {len(manifest.seeds_of(env, variant))}",
                    "score [95% CI]": interval(*mean_interval(values), spec=spec),
                }
            )
    return pd.DataFrame(rows)


def _new_axes() -> Axes:
    """Return the axes of a new figure of pyplot, which notebooks show."""
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=INCHES, layout="constrained")[1]


def load_results(name: str, results: str | Path = "results") -> Results:
    """Load an experiment's results.

    `results` is the folder that contains `<name>/`; "results/record" holds the committed results.

    Raises InputError if there is no such experiment, or its files are damaged.

    Example:
        >>> sac_bench.load_results("ablation-quick", "results/record").scores()
    """
    return Results.of(load.load_results(name, results))
