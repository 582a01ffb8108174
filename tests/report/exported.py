"""Results whose exported files other programs have read: see oracle_exports.py."""

from functools import cache
from pathlib import Path

import sac_bench
from sac_bench.report.results import Results
from tests.made_up import results_of

RECORD = Path(__file__).parents[2] / "results" / "record"
ENVS = ("Hopper-v5", "Ant-v5")


def several(failed: int = 2) -> Results:
    """Two environments; the second has no score of seed `failed` of "b"."""
    runs, evaluations = [], []
    for number, (env, name, seed) in enumerate((e, v, s) for e in ENVS for v in ("a", "b") for s in range(3)):
        status = "failed" if (env, name, seed) == ("Ant-v5", "b", failed) else "finished"
        labels = {"run_id": str(number), "variant": name, "env": env, "seed": seed}
        runs.append(labels | {"status": status, "steps": 100, "target_steps": 100})
        evaluations += [
            labels | {"step": step, "policy": "mean", "return_mean": number * step / 10} for step in (0, 50, 100)
        ]
    about = {"envs": list(ENVS), "reference": "a", "variants": {"a": {}, "b": {}}}
    return Results.of(results_of(about, runs, evaluations))


@cache
def sources() -> dict[str, Results]:
    """Return {name: results}. In the made-up ones, variants lack different seeds."""
    return {"ablation-quick": sac_bench.load_results("ablation-quick", RECORD), "made-up": several(failed=1)}
