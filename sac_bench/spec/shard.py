"""A fixed share of runs, by their ids. Machines that share nothing each train one share."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sac_bench.errors import InputError, one_line
from sac_bench.spec.experiment import Experiment, Plannable
from sac_bench.spec.run import RunSpec
from sac_bench.spec.variant import Variant
from sac_bench.spec.warm_start import with_parents

MAX_SHARDS = 10_000
_SHARD = re.compile(r"(\d{1,5})/(\d{1,5})", re.ASCII)


@dataclass(frozen=True)
class Shard:
    """Share `number`, from 1, of `count`."""

    number: int
    count: int

    @staticmethod
    def parse(text: str) -> Shard:
        """Return the share that a user wrote, as "3/8"; InputError for anything else."""
        match = _SHARD.fullmatch(text.strip())
        if match is None or not 1 <= int(match[1]) <= int(match[2]) <= MAX_SHARDS:
            raise InputError(f"--shard {one_line(text, 60)}: must be i/n with i from 1 to n, such as 3/8")
        return Shard(int(match[1]), int(match[2]))

    def left_out(self, requested: Plannable) -> frozenset[str]:
        """Return the ids of the requested runs and their parents that other shares have.

        A run is in the share of the run that its warm start begins with, so that no share waits for another one.
        """
        roots = {spec.id: _root(variant, spec).id for variant, spec in with_parents(requested.runs())}
        return frozenset(run_id for run_id, root in roots.items() if int(root, 16) % self.count != self.number - 1)

    def check(self, experiment: Experiment) -> None:
        """Raise InputError if which runs an experiment has depends on results that other shares have."""
        chosen = "options" if experiment.choose else "seeds"
        if experiment.choose or experiment.seed_range:
            raise InputError(
                f"--shard {self.number}/{self.count}: {experiment.name} chooses {chosen} by the results of all "
                "shares, and no share has them all; use a shared results folder without --shard, or fixed seeds and "
                "options"
            )


def _root(variant: Variant, spec: RunSpec) -> RunSpec:
    """Return the run that a run's warm starts begin with."""
    if variant.parent is None:
        return spec
    return _root(variant.parent.variant, variant.parent.run(spec.seed))
