"""Write what rliable and marl-eval compute from exported files, for test_export.py to compare ours with.

    python tests/report/oracle_exports.py         (needs PyPI)

Both are run on the files of `sac-bench export`: of a committed record, and of made-up results with two environments. They
get a separate environment in a temporary folder that is removed. marl-eval's own requirements (pandas 1.4) cannot be
installed beside rliable's on Python 3.11, so it is installed without them. Writes exports.json beside this file.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

PINS = ["rliable==1.2.0", "arch==7.2.0", "numpy==2.4.6", "pandas==2.3.3", "scipy==1.17.1", "setuptools==80.9.0"]
PINS += ["wheel==0.48.0", "colorama==0.4.6", "colorcet==3.2.1"]
MARL_EVAL = "id-marl-eval==0.0.4"
INSIDE = "--inside"
OUT = Path(__file__).with_name("exports.json")
AGGREGATES = ("mean", "median", "iqm", "optimality_gap")


def main() -> None:
    root = Path(__file__).parents[2]
    sys.path.insert(0, str(root))
    from sac_bench.report.export import FORMATS, write_export
    from tests.report.exported import sources

    with tempfile.TemporaryDirectory() as folder:
        python = str(Path(folder) / "venv" / "bin" / "python")
        for name, results in sources().items():
            for form in ("rliable", "marl-eval"):
                write_export(results, form, Path(folder) / f"{name}.{FORMATS[form].suffix}")
        venv.create(Path(folder) / "venv", with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PINS], check=True)
        alone = ["--no-deps", "--no-build-isolation"]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *alone, MARL_EVAL], check=True)
        ran = subprocess.run([python, __file__, INSIDE, folder], check=True, capture_output=True, text=True)
    OUT.write_text(ran.stdout)


def answers(folder: Path) -> dict[str, Any]:
    """{source: {"rliable" | "marl-eval" | "marl-eval, normalised": {variant: {aggregate: value}}}}, and IQMs by step."""
    import numpy as np
    from marl_eval.utils.data_processing_utils import create_matrices_for_rliable, data_process_pipeline
    from rliable import metrics

    def aggregates(scores: Any) -> dict[str, float]:
        return {name: float(getattr(metrics, f"aggregate_{name}")(scores)) for name in AGGREGATES}

    found: dict[str, Any] = {}
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as arrays:
            found[path.stem] = {"rliable": {name: aggregates(scores) for name, scores in dict(arrays).items()}}
        raw = json.loads(path.with_suffix(".json").read_text())
        (experiment,) = raw
        for label, normalised in (("marl-eval", []), ("marl-eval, normalised", ["return"])):
            processed = data_process_pipeline(raw, metrics_to_normalize=normalised)
            key = "mean_norm_return" if normalised else "mean_return"
            final, curves = create_matrices_for_rliable(processed, experiment, metrics_to_normalize=normalised)
            found[path.stem][label] = {name: aggregates(scores) for name, scores in final[key].items()}
            found[path.stem][f"{label}, curves"] = {
                name: [float(metrics.aggregate_iqm(of_run[..., step])) for step in range(of_run.shape[-1])]
                for name, of_run in curves[key].items()
            }
    return found


if __name__ == "__main__":
    if sys.argv[1:2] == [INSIDE]:
        print(json.dumps(answers(Path(sys.argv[2])), indent=1))
    else:
        main()
