"""Write rliable's numbers on generated scores, for test_rliable.py to compare ours with.

    python tests/analysis/oracle_rliable.py         (needs PyPI)

rliable does not work with the versions of pandas and arch used here, so it gets a separate environment, in a
temporary folder that is removed. Writes rliable.json beside this file: the scores too, so that the test needs no
generator to stay as it is.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

import numpy as np

PINS = ["rliable==1.2.0", "arch==7.2.0", "numpy==2.4.6", "pandas==2.3.3", "scipy==1.17.1", "setuptools==80.9.0"]
INSIDE = "--inside"
OUT = Path(__file__).with_name("rliable.json")
RESAMPLES = 10_000
THRESHOLDS = [0.0, 0.25, 0.5, 0.75, 1.0, 1.5]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = str(Path(folder) / "bin" / "python")
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PINS], check=True)
        subprocess.run([python, __file__, INSIDE], check=True)


def numbers() -> dict[str, Any]:
    """{"scores": ..., "rliable": {statistic: {"value": ..., "low": ..., "high": ...}}}"""
    from rliable import library, metrics

    random = np.random.default_rng(0)
    np.random.seed(0)  # where rliable draws from
    # Environments far apart, so that a bootstrap that is not stratified by them is seen; rounded, so that scores tie.
    levels = np.array([0.1, 0.3, 0.6, 0.9, 1.4])
    a = (levels + 0.15 * random.normal(size=(10, 5))).round(2)
    b = (levels - 0.08 + 0.2 * random.normal(size=(7, 5))).round(2)
    curves = np.cumsum(0.2 * random.normal(size=(10, 5, 4)) + 0.1, axis=2).round(2)

    def of(scores: Any, statistic: Any) -> dict[str, list[float]]:
        value, interval = library.get_interval_estimates({"": scores}, statistic, reps=RESAMPLES)
        low, high = interval[""]
        return {"value": value[""].tolist(), "low": low.tolist(), "high": high.tolist()}

    points = range(curves.shape[2])
    return {
        "scores": {"a": a.tolist(), "b": b.tolist(), "curves": curves.tolist()},
        "resamples": RESAMPLES,
        "thresholds": THRESHOLDS,
        "rliable": {
            "mean": of(a, lambda x: np.array([metrics.aggregate_mean(x)])),
            "median": of(a, lambda x: np.array([metrics.aggregate_median(x)])),
            "iqm": of(a, lambda x: np.array([metrics.aggregate_iqm(x)])),
            "optimality_gap": of(a, lambda x: np.array([metrics.aggregate_optimality_gap(x)])),
            "iqm_of_curves": of(curves, lambda x: np.array([metrics.aggregate_iqm(x[..., t]) for t in points])),
            "profile": of(a, lambda x: library.score_distributions(x, THRESHOLDS)),
            "improvement": of([a, b], lambda x, y: np.array([metrics.probability_of_improvement(x, y)])),
        },
    }


if __name__ == "__main__":
    if sys.argv[1:] == [INSIDE]:
        OUT.write_text(json.dumps(numbers()) + "\n")
    else:
        main()
