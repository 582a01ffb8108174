"""Storages of trials: journals and databases, shared, cut or unreachable; and owners of trials."""

import json
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from sac_bench.errors import InputError
from sac_bench.store.store import Store
from sac_bench.tuning import trials as module
from sac_bench.tuning.storage import hidden_in, open_storage
from sac_bench.tuning.study import load
from sac_bench.tuning.trials import Trials
from tests.conftest import sac_bench_environment
from tests.tuning.conftest import STUDY
from tests.tuning.postgresql import available, serving

ROOT = Path(__file__).parents[2]


def tuner(study_file, results, *url, fail=False):
    """Start a process that tunes with simulated training, which fails for every trial if `fail`."""
    more = ["--fail"] if fail else []
    command = [sys.executable, "-m", "tests.tuning.pretending", str(study_file), str(results), *url, *more]
    return subprocess.Popen(command, cwd=ROOT, env=sac_bench_environment(), stderr=subprocess.PIPE, text=True)


def test_a_recorded_command_contains_no_password():
    for url in (
        "postgresql://h/db?user=u&password=s3cret",
        "mysql+pymysql://u@h/db?passwd=s3cret",
        "mysql://me:s3/cret@h/d",
        "postgresql://me@srv:s3cret@h/d",
        "nonsense:s3cret",
    ):
        for command in (shlex.join(["tune", "s.toml", "--storage", url]), f"tune s.toml --storage={url}"):
            recorded = hidden_in(command, url)
            assert "cret" not in recorded
            assert recorded.startswith("tune s.toml --storage")


def assert_shared(processes, trials, total):
    for process in processes:  # one that waits for its errors to be read does so alive
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors
    assert [trial.number for trial in trials.all()] == list(range(total))
    assert {trial.state for trial in trials.all()} <= {"PRUNED", "COMPLETE"}


@pytest.mark.soak
def test_two_processes_share_a_journal(study_file, tmp_path):
    study_file.write_text(STUDY.replace("trials = 4", "trials = 7"))
    processes = [tuner(study_file, tmp_path / "results") for _ in range(2)]
    store = Store(tmp_path / "results")
    with store.planner() as planner:
        trials = Trials(load(study_file), store, planner)
    assert_shared(processes, trials, 7)
    assert len({trial.owner["pid"] for trial in trials.all()}) == 2


def test_an_incomplete_line_of_a_killed_process_is_removed(study_file, tmp_path):
    store = Store(tmp_path / "results")
    with store.planner() as planner:
        Trials(load(study_file), store, planner).request(1)
        journal = store.experiment("tiny-study") / "journal.log"
        with open(journal, "ab") as file:
            file.write(b'{"op_code": 4, "worker_')
        trials = Trials(load(study_file), store, planner)
        assert trials.request(1) == [1]
        assert [trial.number for trial in trials.all()] == [0, 1]
    assert all(json.loads(line) for line in journal.read_text().splitlines())


def test_trials_of_a_dead_tuner_are_taken_over_once_and_those_of_a_live_one_never(study_file, tmp_path):
    store, study = Store(tmp_path / "results"), load(study_file)
    with store.planner() as dead:
        requested = Trials(study, store, dead).request(2)
        with store.planner() as other:
            assert Trials(study, store, other).take_over() == []
    with store.planner() as one, store.planner() as two:
        first, second = Trials(study, store, one), Trials(study, store, two)
        assert first.take_over() == requested
        assert second.take_over() == []
        assert {trial.owner["planner"] for trial in second.all()} == {one}


@pytest.mark.thorough
def test_a_silent_owner_in_another_folder_is_taken_for_dead_by_the_database(study_file, tmp_path, monkeypatch):
    url, study = f"sqlite:///{tmp_path}/study.db", load(study_file)
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    with there.planner() as planner:
        requested = Trials(study, there, planner, url).request(1)
    with here.planner() as planner:
        trials = Trials(study, here, planner, url)
        assert trials.take_over() == []  # it may live: no lock tells here
        monkeypatch.setattr(trials.storage, "grace_period", 1)
        while not trials._silent():
            pass
        assert trials.take_over() == requested


def test_surplus_trials_requested_from_several_folders_are_closed_unused(study_file, tmp_path, monkeypatch):
    url, study = f"sqlite:///{tmp_path}/study.db", load(study_file, trials=2)
    stores = [Store(tmp_path / name) for name in ("here", "there")]
    with stores[0].planner() as one, stores[1].planner() as two:
        first, second = Trials(study, stores[0], one, url), Trials(study, stores[1], two, url)
        ask = optuna.Study.ask

        def both(study_, *arguments):
            monkeypatch.setattr(optuna.Study, "ask", ask)
            second.request(1)  # between the count and the question of the first
            return ask(study_, *arguments)

        assert first.request(1) == [0]
        monkeypatch.setattr(optuna.Study, "ask", both)
        assert first.request(1) == []
        assert [trial.number for trial in first.all()] == [0, 1]


@pytest.mark.thorough
def test_two_tuners_whose_trials_failed_do_not_wait_for_each_other(study_file, tmp_path):
    processes = [tuner(study_file, tmp_path / "results", fail=True) for _ in range(2)]
    for process in processes:
        process.communicate(timeout=100)
        assert process.returncode == 1


def test_a_study_made_by_another_program_is_refused(study_file, tmp_path):
    url = f"sqlite:///{tmp_path}/study.db"
    optuna.create_study(study_name="tiny-study", storage=url).optimize(lambda trial: 0.0, n_trials=1)
    store = Store(tmp_path / "results")
    with store.planner() as planner, pytest.raises(InputError, match="that was not made by sac-bench"):
        Trials(load(study_file), store, planner, url)


BAD = {
    "in memory": ("sqlite://", "is in memory"),
    "no URL": ("nonsense", "must be a URL such as sqlite:///FILE"),
    "a closed port": (
        "postgresql+psycopg://me:{secret}@127.0.0.1:{port}/db",
        "--storage postgresql+psycopg://me:***@127.0.0.1:",
    ),
    "a password as an argument": ("postgresql+psycopg://me@127.0.0.1:{port}/db?password={secret}", "127.0.0.1"),
    "no such host": ("postgresql+psycopg://me:{secret}@no.such.host.invalid/db", "no.such.host.invalid"),
    "no such folder": (
        "sqlite:////nowhere/at/all/x.db",
        "--storage sqlite:////nowhere/at/all/x.db: cannot be used: unable to open",
    ),
    "no such dialect": ("oracledb9://me:{secret}@host/db", "--storage oracledb9://me:***@host/db: cannot be used"),
    "no driver": (
        "mysql://me:{secret}@host/db",
        "--storage mysql://me:***@host/db: no driver for mysql; pip install pymysql",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_an_unusable_storage_is_reported_with_its_host_but_not_its_password(case, tmp_path):
    url, words = BAD[case]
    if "psycopg" in url:
        pytest.importorskip("psycopg")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    secret = "s3cr%40t"
    with pytest.raises(InputError) as refused:
        open_storage(url.format(secret=secret, port=port), tmp_path)
    message = str(refused.value)
    assert words in message
    assert "\n" not in message
    assert "s3cr" not in message


@pytest.mark.thorough
def test_the_command_reports_an_unusable_storage_in_one_line(command, study_file, tmp_path):
    refused = command("tune", study_file, "--storage", "mysql+nodriver://me:s3cret@db.example/x")
    assert refused.returncode == 2
    (line,) = refused.stderr.strip().splitlines()
    assert "db.example" in line
    assert "s3cret" not in line + refused.stdout


@pytest.fixture
def postgresql():
    """The URL of a real server."""
    pytest.importorskip("psycopg")
    if not available():
        pytest.skip("there is no PostgreSQL here")
    with serving() as url:
        yield url


@pytest.mark.soak
def test_processes_in_two_folders_share_a_study_in_postgresql(postgresql, study_file, tmp_path):
    study_file.write_text(STUDY.replace("trials = 4", "trials = 9"))
    processes = [tuner(study_file, tmp_path / name, postgresql) for name in ("here", "there", "there")]
    store = Store(tmp_path / "here")
    with store.planner() as planner:
        trials = Trials(load(study_file), store, planner, postgresql)
        assert_shared(processes, trials, 9)
        assert "s3cret" not in trials.at
        assert "127.0.0.1" in trials.at
    for path in [*tmp_path.rglob("*.json"), *tmp_path.rglob("*.md")]:
        assert "s3cret" not in path.read_text(), path
    with pytest.raises(InputError) as refused:
        open_storage(postgresql.replace("s3cret", "wr0ng"), tmp_path)
    assert "password authentication failed" in str(refused.value)
    assert "wr0ng" not in str(refused.value)
    assert module.JOURNAL not in [path.name for path in tmp_path.rglob("*")]


@pytest.mark.soak
def test_a_killed_tuners_trials_in_postgresql_are_continued(postgresql, study_file, tmp_path):
    study_file.write_text(STUDY.replace("trials = 4", "trials = 6"))
    first = tuner(study_file, tmp_path / "results", postgresql)
    store = Store(tmp_path / "results")
    with store.planner() as planner:
        trials = Trials(load(study_file), store, planner, postgresql)
        while not any(trial.owner for trial in trials.all()):
            assert first.poll() is None
        first.kill()
        first.wait()
        second = tuner(study_file, tmp_path / "results", postgresql)
        assert_shared([second], trials, 6)
