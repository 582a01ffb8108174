"""`sac-bench tune` in its own process, with simulated training: python -m tests.tuning.pretending FILE RESULTS [URL] [--fail]"""

import sys
import time
from pathlib import Path

from rich.console import Console

from sac_bench.execution import train
from sac_bench.execution.worker_options import Workers
from sac_bench.store.store import Store
from sac_bench.tuning import report
from sac_bench.tuning import tune as tuning
from sac_bench.tuning.study import load
from tests.tuning.conftest import Pretended


class Slow(Pretended):
    """Simulates training that takes long enough for other processes to interfere."""

    def train(self, cohort):
        time.sleep(0.2)
        if "--fail" in sys.argv and not self.is_default(cohort):
            for spec in cohort.runs:
                self.store.run(spec.id).update(status="failed", reason="asked to")
            return
        super().train(cohort)

    def is_default(self, cohort):
        return any(spec.config.actor_lr == 3e-4 for spec in cohort.runs)


if __name__ == "__main__":
    train.Engine = Slow
    train.Display = lambda *_: None
    tuning.write_experiment_report = lambda folder: None
    report.write_figures = lambda about, folder: []
    file, results, *url = [word for word in sys.argv[1:] if word != "--fail"]
    ended = tuning.tune(
        load(file),
        Store(Path(results)),
        Workers("cpu", 1),
        storage=(url or [None])[0],
        retrain=False,
        console=Console(quiet=True),
        command="sac-bench tune",
    )
    sys.exit(0 if ended else 1)
