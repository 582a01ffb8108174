"""Writes the reports of results that exist, and their index."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sac_bench.errors import InputError
from sac_bench.report.experiment import write_report as write_experiment_report
from sac_bench.report.index import write_index
from sac_bench.report.page import Page
from sac_bench.results.collect import refresh
from sac_bench.results.load import load_results
from sac_bench.results.manifest import FILE
from sac_bench.store.store import Store

Pages = dict[str, Page | str]
"""{experiment: its page, or why it could not be written}."""


def write_report(experiment: str, results: str | Path = "results") -> Path:
    """Write an experiment's tables, figures and report again from its CSV files; return the path of report.html.

    During training, the CSV files are first updated with everything saved so far. Raises InputError if there
    are no such results, or they are damaged.
    """
    load_results(experiment, results)
    _refreshed(Path(results) / experiment)
    return Path(results) / experiment / "report.html"


def _refreshed(folder: Path) -> Page:
    """Write an experiment's report again, after its tables if some of its runs had not ended; return its page."""
    refresh(Store(folder.parent), folder.name)
    return write_experiment_report(folder)


def write_reports(
    results: Path,
    names: Sequence[str],
    wrote: Callable[[Path], None],
    trackers: Sequence[Callable[[Path], Path]] = (),
) -> Pages:
    """Write reports of experiments and studies again, and of experiments what `trackers` write.

    `wrote` is called with the path of each file. Return {name: its page, or why it could not be written}.
    """
    from sac_bench.tuning.record import is_study  # imports Optuna
    from sac_bench.tuning.report import write_report as write_study_report

    pages: Pages = {}
    for name in names:
        folder = results / name
        try:
            study = is_study(folder)
            pages[name] = (write_study_report if study else _refreshed)(folder)
            wrote(folder / "report.html")
            for write in () if study else trackers:
                wrote(write(folder))
        except InputError as error:
            pages[name] = str(error)
    return pages


def reported(results: Path) -> list[str]:
    """Return the names of the experiments and studies in a results folder."""
    return sorted(path.parent.name for path in results.glob(f"*/{FILE}"))


def index(results: Path, pages: Mapping[str, Page | str]) -> Path:
    """Write the index of all reports; return its path."""
    write_index(pages, results)
    return results / "index.html"
