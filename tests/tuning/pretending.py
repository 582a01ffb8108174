"""`sac-bench tune` in a process of its own, with pretended training: python -m tests.tuning.pretending FILE RESULTS [URL]"""

import sys
import time
from pathlib import Path

from rich.console import Console

from sac_bench.store import Store
from sac_bench.tuning import report, training
from sac_bench.tuning import tune as tuning
from sac_bench.tuning.study import load
from tests.tuning.conftest import Pretended


class Slow(Pretended):
    """Takes long enough for others to come by."""

    def train(self, cohort):
        time.sleep(0.2)
        super().train(cohort)


if __name__ == "__main__":
    training.Engine = Slow
    training.Display = lambda *_: None
    tuning.write_experiment_report = lambda folder: None
    report.write_figures = lambda about, folder: []
    tuning.tune(load(sys.argv[1]), Store(Path(sys.argv[2])), storage=(sys.argv[3:] or [None])[0], device="cpu", workers=1,
                imports=[], retrain=False, console=Console(quiet=True), command="sac-bench tune")  # fmt: skip
