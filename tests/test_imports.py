"""Imports load only what they need: reading files and results no simulator or torch, planning no compiler."""

import os
import subprocess
import sys

import pytest

from sac_bench.envs.known import KNOWN, backend

SIMULATION = ("torch", "gymnasium", "mujoco", "envpool")
ALL_FILES = """
from sac_bench.spec.load import load
from sac_bench.spec.names import known
from sac_bench.spec.toml import read
for path in known().values():
    if "space" not in read(path):
        file = load(path)
        assert [spec.id for _, spec in (file.selection() or file).runs()]
"""
COMMAND = """
import sys
from sac_bench.cli.main import main
try:
    main()
except SystemExit as error:
    assert not error.code, error.code
"""
for_the_tables_versions = pytest.mark.skipif(
    any(row.backend != backend(env_id) for env_id, row in KNOWN.items()), reason="other versions than envs/known.py's"
)


def loaded(program, unwanted, *arguments, **options):
    """Return those of the modules that a program has loaded at its end."""
    program += f"\nimport sys; print([name for name in {unwanted!r} if name in sys.modules])"
    command = [sys.executable, "-c", program, *arguments]
    ran = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120, **options)
    return ran.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("statement", "unwanted"),
    [
        ("import sac_bench", ("pandas", "torch")),
        ("from sac_bench import load_results", SIMULATION),
        ("import sac_bench.algorithms, sac_bench.algorithms.config, sac_bench.options.sac", SIMULATION),
        ("import sac_bench.spec.load, sac_bench.tuning.study", SIMULATION),
        ("import sac_bench.workflow.reports, sac_bench.results.collect", SIMULATION),
        pytest.param("import sac_bench; sac_bench.run", ("optuna", "torch._dynamo"), marks=pytest.mark.thorough),
        pytest.param(
            "import sac_bench.execution.train", ("torch._dynamo", "torch._inductor"), marks=pytest.mark.thorough
        ),
    ],
)
def test_an_import_loads_only_the_modules_it_needs(statement, unwanted):
    assert loaded(statement, unwanted) == "[]"


@for_the_tables_versions
def test_reading_the_shipped_experiments_and_their_ids_loads_no_simulation():
    assert loaded(ALL_FILES, SIMULATION) == "[]"


@for_the_tables_versions
@pytest.mark.parametrize("arguments", ["list", "list sac", "--help", "status ablation-quick", "init ablation-quick"])
def test_commands_that_train_nothing_load_no_simulation(arguments, tmp_path):
    path = os.pathsep.join(filter(None, sys.path))
    env = os.environ | {"PYTHONPATH": path}
    assert loaded(COMMAND, SIMULATION, *arguments.split(), cwd=tmp_path, env=env) == "[]"
