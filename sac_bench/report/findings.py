"""What an experiment's results show: tables, page and figures are written from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import jinja2
import pandas as pd

from sac_bench.analysis import aggregates, claim_words, claims, compute, factorial
from sac_bench.analysis.aggregates import on_one_scale
from sac_bench.analysis.backends import Across
from sac_bench.analysis.claims import Comparison
from sac_bench.analysis.differences import TableDifference
from sac_bench.analysis.factorial import Effect
from sac_bench.analysis.scores import scores
from sac_bench.errors import InputError
from sac_bench.report.backends import across_backends, format_of, write_backends
from sac_bench.report.baselines import comparison, write_comparison
from sac_bench.report.figures.looks import Progress, of_comparisons, of_differences
from sac_bench.report.tables import all_differences, final_performance, write_final
from sac_bench.results.devices import are_comparable
from sac_bench.results.load import Results
from sac_bench.results.manifest import Manifest
from sac_bench.spec.claim import Claim
from sac_bench.store.atomic import write_text


@dataclass(frozen=True, eq=False)
class Findings:
    """Everything that is computed from an experiment's results, once and when it is needed.

    folder: the experiment's, for messages.
    """

    results: Results
    folder: Path

    @property
    def manifest(self) -> Manifest:
        """What the experiment asked."""
        return self.results.manifest

    @cached_property
    def differences(self) -> list[TableDifference]:
        """The differences from the reference, with verdicts."""
        return all_differences(self.results)

    @cached_property
    def final(self) -> pd.DataFrame:
        """Final performance (`tables.final_performance`)."""
        return final_performance(self.results, self.differences)

    @cached_property
    def comparisons(self) -> list[Comparison]:
        """A claim's comparisons; none without a claim, or if runs are not comparable."""
        if not (self.manifest.claim and are_comparable(self.results)):
            return []
        try:
            claim = Claim.from_plain(self.manifest.claim.model_dump(), self.manifest.variants)
        except InputError as error:
            raise InputError(f"{self.folder}: {error}; sac-bench run with its file writes it again") from None
        return claims.comparisons(claim, self.results)

    @cached_property
    def across(self) -> list[Across]:
        """The comparisons on two backends."""
        return across_backends(self.results, self.differences, self.comparisons)

    @cached_property
    def effects(self) -> list[Effect]:
        """The effects of a factorial design."""
        return factorial.effects(self.results)

    @cached_property
    def compared(self) -> pd.DataFrame | None:
        """The table of several algorithms with published scores; None if there is one algorithm."""
        return comparison(self.final, self.manifest) if len(self.manifest.algorithms) > 1 else None

    @cached_property
    def aggregate(self) -> pd.DataFrame:
        """The aggregate scores over all environments; empty without a scale."""
        counts = self.final.groupby("variant")["exploded"].sum()
        exploded = {str(variant): int(count) for variant, count in counts.items()}
        return aggregates.aggregates(on_one_scale(scores(self.results), self.manifest), self.manifest, exploded)

    @cached_property
    def compute(self) -> pd.DataFrame:
        """What training took (`compute.table`)."""
        return compute.table(self.results)

    @cached_property
    def progress(self) -> Sequence[Progress]:
        """The comparisons with several looks."""
        claimed = self.manifest.claim is not None
        return of_comparisons(self.comparisons) if claimed else of_differences(self.differences, self.manifest)


def write_tables(findings: Findings, folder: Path) -> None:
    """Write all tables to a folder; delete those of earlier results that these do not have."""
    manifest = findings.manifest
    write_final(findings.results, findings.differences, findings.final, folder)
    write_text(folder / "aggregates.csv", aggregates.table(findings.aggregate).to_csv(index=False))
    write_backends(findings.across, manifest, folder, format_of(findings.final, manifest))
    if findings.compared is not None:
        write_comparison(findings.compared, manifest, folder)
    optional = {
        "claim": claim_words.table(findings.comparisons) if findings.comparisons else None,
        "compute": findings.compute if findings.compute["flops"].notna().any() else None,
        "effects": factorial.table(findings.effects) if findings.effects else None,
    }
    for name, table in optional.items():
        path = folder / f"{name}.csv"
        if table is None:
            path.unlink(missing_ok=True)
        else:
            write_text(path, table.to_csv(index=False))


@contextmanager
def readable(folder: Path) -> Iterator[None]:
    """Raise InputError in place of what results with foreign or damaged content raise in the block."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError, jinja2.TemplateError) as error:
        raise InputError(
            f"{folder}: its files are not what sac-bench writes: {type(error).__name__}: {error}"
        ) from None
