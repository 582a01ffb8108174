"""A run's id depends on the sources of a user-defined environment or algorithm, and on nothing else."""

import functools
import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pandas as pd
import pytest

from sac_bench.algorithms import ALGORITHMS, Algorithm
from sac_bench.envs import sources
from sac_bench.envs.pool import describe
from sac_bench.errors import InputError
from sac_bench.evaluation import random_policy
from sac_bench.evaluation.random_policy import measure_random_policies
from sac_bench.execution.plan import make_plan, superseded, write
from sac_bench.execution.worker import Worker
from sac_bench.options.sac import SACConfig
from sac_bench.spec.includes import files
from sac_bench.spec.load import load
from sac_bench.spec.run import RunSpec
from sac_bench.store.atomic import read_json, write_json
from sac_bench.store.store import Store
from tests import forked
from tests.conftest import small, tiny

ENVS = """
import gymnasium, numpy as np
from lab import scales
class Reach(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-9, 9, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    def __init__(self, bonus=0.0, model=None):
        self.bonus, self.model = bonus, model
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}
    def step(self, action):
        return np.zeros(1, np.float32), scales.SCALE + self.bonus, False, False, {}
class Louder(gymnasium.RewardWrapper):
    def reward(self, reward):
        return 2 * reward
gymnasium.register("lab/Reach-v0", Reach, max_episode_steps=10)
"""

TOML = small("reach", "gymnasium:lab/Reach-v0", utd=0.05)

RUN = ["run", "reach.toml", "--import", "lab.envs", "--workers", "1"]


@pytest.fixture
def lab(tmp_path):
    """A package with an environment, whose rewards are in a separate module, and an experiment on it."""
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "__init__.py").write_text("")
    (tmp_path / "lab" / "scales.py").write_text("SCALE = 1.0\n")
    (tmp_path / "lab" / "envs.py").write_text(ENVS)
    (tmp_path / "reach.toml").write_text(TOML)
    return tmp_path


DEFINE = """
import sac_bench.envs.registry, json, sys
sys.path[:0] = [*sys.argv[1:], ""]
import gymnasium, lab.envs
from lab.envs import Reach
from sac_bench.envs.pool import describe
EXTRA
print(json.dumps(describe("gymnasium:lab/Reach-v0").definition))
"""


def defined(folder, extra="", paths=()):
    """The environment's definition, read by a separate process in that folder."""
    ran = forked.python(DEFINE.replace("EXTRA", extra), paths, cwd=folder, env=os.environ, timeout=60)
    ran.check_returncode()
    return json.loads(ran.stdout)


@pytest.mark.soak
def test_editing_an_environment_gives_new_runs_and_the_command_reports_it(lab, command):
    assert command(*RUN).returncode == 0
    old = pd.read_csv(lab / "results" / "reach" / "runs.csv")
    (lab / "lab" / "scales.py").write_text("SCALE = 100.0\n")
    again = command(*RUN)
    assert again.returncode == 0, again.stderr
    message = "2 runs of gymnasium:lab/Reach-v0 were trained with another version of lab/scales.py; they are kept and not used"
    assert message in again.stdout
    assert "2 new, 0 reused" in again.stdout
    new = pd.read_csv(lab / "results" / "reach" / "runs.csv")
    assert not set(old["run_id"]) & set(new["run_id"])
    assert set(old["backend"]) != set(new["backend"])
    evaluations = pd.read_csv(lab / "results" / "reach" / "evaluations.csv")
    assert set(evaluations["return_mean"]) == {1000.0}
    (random,) = (lab / "results" / "environments").iterdir()
    assert json.loads(random.read_text())["return_mean"] == 1000.0
    assert command("status", "reach", "--import", "lab.envs").stdout.count("finished") == 2
    act = "import lab.envs, sac_bench; print(sac_bench.load_policy(RUN).act([0.0]).shape)"
    of_old = subprocess.run(
        [sys.executable, "-c", act.replace("RUN", repr(old["run_id"][0]))], cwd=lab, capture_output=True, text=True
    )
    assert of_old.stdout.strip() == "(1,)", of_old.stderr
    (lab / "lab" / "scales.py").write_text("SCALE = 1.0\n")
    back = command(*RUN)
    assert "0 new, 2 reused" in back.stdout
    assert set(pd.read_csv(lab / "results" / "reach" / "evaluations.csv")["return_mean"]) == {10.0}


@pytest.fixture
def here(lab, monkeypatch):
    """The same, imported into this process."""
    monkeypatch.chdir(lab)
    monkeypatch.syspath_prepend(str(lab))
    yield importlib.import_module("lab.envs")
    for name in [name for name in sys.modules if name.partition(".")[0] == "lab"]:
        del sys.modules[name]
    gymnasium.registry.pop("lab/Reach-v0")
    describe.cache_clear()


def run_id():
    """A run's id as a new process computes it from the current files."""
    describe.cache_clear()
    return RunSpec("sac", tiny(), "gymnasium:lab/Reach-v0", 0).id


def test_runs_before_an_edit_are_reported_planned_again_and_refused_by_workers(here, lab):
    store = Store(lab / "results")

    def plan_of():
        return make_plan(load(lab / "reach.toml"), store, 1, 8e9)

    write(plan_of(), store)
    (cohort,) = store.cohort_ids()
    old = store.run_ids()
    (lab / "lab" / "scales.py").write_text("SCALE = 100.0\n")
    describe.cache_clear()
    words = "another version of lab/scales.py"
    assert superseded(load(lab / "reach.toml"), store) == {("gymnasium:lab/Reach-v0", words): 2}
    assert store.run(old[0]).spec() == RunSpec.from_dict(store.run(old[0]).spec().as_dict())
    (new,) = plan_of().cohorts
    assert new.is_new
    assert not {spec.id for spec in new.runs} & set(old)
    with pytest.raises(InputError, match=rf"planned with {words}, so it is not continued .* undo the change"):
        Worker(store, cohort, 200, "cpu", 1)
    (lab / "lab" / "scales.py").write_text("SCALE = 1.0\n")
    describe.cache_clear()
    assert {spec.id for spec in plan_of().cohorts[0].runs} == set(old)


def test_a_random_policy_is_measured_again_after_an_edit(here, lab):
    store, env = Store(lab / "results"), "gymnasium:lab/Reach-v0"

    def measure():
        return (measure_random_policies(store, [env]), json.loads(store.environment(env).read_text()))[1]

    assert measure()["return_mean"] == 10.0
    path = store.environment(env)
    write_json(path, {name: value for name, value in read_json(path).items() if name != "version"})
    assert measure()["version"] == random_policy.VERSION  # what an earlier version of sac_bench measured
    (lab / "lab" / "scales.py").write_text("SCALE = 100.0\n")
    describe.cache_clear()
    importlib.reload(sys.modules["lab.scales"])
    assert measure()["return_mean"] == 1000.0
    store.environment(env).unlink()
    assert measure()["return_mean"] == 1000.0


EDITS_ITSELF = """
import pathlib
def edit():
    path = pathlib.Path("lab/scales.py")
    path.write_text("SCALE = 2.0\\n")
"""


@pytest.mark.soak
def test_a_run_planned_before_an_edit_is_not_trained_after_it(lab, command):
    """The first cohort's environment edits the module that the second cohort is to import."""
    envs = ENVS.replace("return np.zeros(1, np.float32), scales", "edit(); return np.zeros(1, np.float32), scales")
    (lab / "lab" / "envs.py").write_text(EDITS_ITSELF + envs)
    (lab / "reach.toml").write_text(
        TOML.replace("seeds = 2", "seeds = 1") + "\n[variants.a]\n[variants.b]\nlayers = [4]\n"
    )
    done = command(*RUN)
    assert done.returncode == 1
    assert (
        "was planned with another version of lab/scales.py, and is not continued with what is there now; start the"
        in done.stdout
    )
    assert done.stdout.count("failed:") == 1  # not tried three times
    runs = pd.read_csv(lab / "results" / "reach" / "runs.csv")
    assert sorted(runs["status"]) == ["failed", "finished"]
    again = command(*RUN)
    assert again.returncode == 0, again.stdout
    assert set(pd.read_csv(lab / "results" / "reach" / "evaluations.csv")["return_mean"]) == {20.0}


@pytest.mark.soak
def test_half_trained_runs_are_not_continued_after_an_edit(lab, command):
    """Earlier runs and their checkpoint do not change; undoing the edit continues them."""
    envs = ENVS.replace("return np.zeros(1, np.float32), scales", "die(); return np.zeros(1, np.float32), scales")
    die = """
import os, pathlib
steps = 0
def die():
    global steps
    steps += 1
    if steps == 300 and not os.path.exists("died"):
        pathlib.Path("died").write_text("")
        os._exit(2)  # as where starting again does not help
"""
    (lab / "lab" / "envs.py").write_text(die + envs)
    assert command(*RUN).returncode == 1
    runs = lab / "results" / "runs"
    before = {path: path.read_bytes() for path in sorted(runs.rglob("*")) if path.is_file()}
    assert any(json.loads(data)["steps"] == 100 for path, data in before.items() if path.name == "status.json")
    (lab / "lab" / "scales.py").write_text("SCALE = 3.0\n")
    edited = command(*RUN)
    assert edited.returncode == 0, edited.stdout
    assert "2 new, 0 reused, 0 to be continued" in edited.stdout
    assert {path: path.read_bytes() for path in before} == before
    (lab / "lab" / "scales.py").write_text("SCALE = 1.0\n")
    assert "0 new, 0 reused, 2 to be continued" in command(*RUN).stdout
    assert set(pd.read_csv(lab / "results" / "reach" / "evaluations.csv")["return_mean"]) == {10.0}


def test_a_definition_includes_only_files_that_define_the_environment(lab, tmp_path_factory):
    definition = defined(lab)
    assert set(definition["files"]) == {"lab/__init__.py", "lab/envs.py", "lab/scales.py"}
    (lab / "lab" / "unused.py").write_text("1\n")
    windows = tmp_path_factory.mktemp("elsewhere") / "windows"
    shutil.copytree(lab, windows)
    for path in (windows / "lab").glob("*.py"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert defined(windows) == definition
    (lab / "lab" / "scales.py").write_text("SCALE = 2.0\n")
    assert defined(lab) != definition


REGISTRATIONS = {
    "as it was": "",
    "a keyword argument": 'gymnasium.register("lab/Reach-v0", Reach, max_episode_steps=10, kwargs={"bonus": 1.0})',
    "a limit": 'gymnasium.register("lab/Reach-v0", Reach, max_episode_steps=11)',
    "a wrapper": 'gymnasium.register("lab/Reach-v0", Reach, max_episode_steps=10, additional_wrappers=('
    'gymnasium.envs.registration.WrapperSpec("Louder", "lab.envs:Louder", {}),))',
    "a wrapper's argument": 'gymnasium.register("lab/Reach-v0", Reach, max_episode_steps=10, additional_wrappers=('
    'gymnasium.envs.registration.WrapperSpec("Clip", "gymnasium.wrappers:ClipReward", {"max_reward": 1.0}),))',
    "an array": 'gymnasium.register("lab/Reach-v0", Reach, max_episode_steps=10, kwargs={"model": np.arange(2000.0)})',
    "another array": 'gymnasium.register("lab/Reach-v0", Reach, max_episode_steps=10, '
    'kwargs={"model": np.arange(2000.0) + (np.arange(2000) == 1000)})',
}


@pytest.mark.filterwarnings("ignore:.*Overriding environment.*")
def test_the_id_depends_on_the_registration(here):
    ids = {}
    for name, statement in REGISTRATIONS.items():
        exec(statement, {"gymnasium": gymnasium, "Reach": here.Reach, "np": np})
        ids[name] = run_id()
    assert len(set(ids.values())) == len(ids)


MODEL = '<mujoco><compiler meshdir="meshes"/><include file="parts/arm.xml"/></mujoco>'
WITH_MODEL = 'gymnasium.register("lab/Reach-v0", Reach, max_episode_steps=10, kwargs={"model": MODEL})'


def test_files_named_by_keyword_arguments_count_with_the_files_they_include(lab, tmp_path_factory):
    for name, text in (
        ("arm.xml", MODEL),
        ("parts/arm.xml", '<mujoco><asset><mesh file="a.stl"/></asset></mujoco>'),
        ("meshes/a.stl", "solid"),
    ):
        (lab / "lab" / name).parent.mkdir(exist_ok=True)
        (lab / "lab" / name).write_text(text)
    absolute = "from pathlib import Path; import lab\n" + WITH_MODEL.replace(
        "MODEL", 'str(Path(lab.__file__).parent / "arm.xml")'
    )
    definition = defined(lab, absolute)
    assert {"arm.xml", "parts/arm.xml", "meshes/a.stl"} < set(definition["files"])
    assert str(lab) not in json.dumps(definition)
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "lab"
    shutil.copytree(lab, elsewhere)
    assert defined(elsewhere, absolute) == definition
    (elsewhere / "lab" / "meshes" / "a.stl").write_text("other")
    assert defined(elsewhere, absolute) != definition


def test_circular_includes_of_models_end_and_logs_do_not_count(here, lab):
    (lab / "a.xml").write_text('<mujoco><include file="b.xml"/></mujoco>')
    (lab / "b.xml").write_text(f'<mujoco><include file="../{lab.name}/a.xml"/></mujoco>')
    (lab / "run.log").write_text("1")
    gymnasium.registry["lab/Reach-v0"].kwargs |= {"model": "a.xml", "bonus": "run.log"}
    before = run_id()
    (lab / "run.log").write_text("2")
    assert run_id() == before
    (lab / "b.xml").write_text("<mujoco/>")
    assert run_id() != before


def test_relative_imports_and_packages_are_followed(lab):
    (lab / "lab" / "envs.py").write_text(ENVS.replace("from lab import scales", "from .deep.er import scales"))
    (lab / "lab" / "deep").mkdir()
    (lab / "lab" / "deep" / "__init__.py").write_text("from . import er\n")
    (lab / "lab" / "deep" / "er.py").write_text("from .. import scales\nimport numpy, os\n")
    assert set(defined(lab)["files"]) == {
        f"lab/{name}.py" for name in ("__init__", "envs", "scales", "deep/__init__", "deep/er")
    }


def test_an_installed_package_is_identified_by_its_version(lab):
    packages = lab / "site-packages"
    (lab / "lab").rename(lab / "moved")
    packages.mkdir()
    (lab / "moved").rename(packages / "lab")
    info = packages / "lab_envs-1.2.dist-info"
    info.mkdir()
    (info / "top_level.txt").write_text("lab\n")
    for version in ("1.2", "1.3"):
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: lab-envs\nVersion: {version}\n")
        definition = defined(lab, paths=["site-packages"])
        assert (definition["files"], definition["packages"]) == ({}, {"lab-envs": version})


def test_shipped_environments_have_no_definition_unless_registered_differently():
    for name in (
        "HalfCheetah-v5",
        "gymnasium:HalfCheetah-v5",
        "gymnasium:MultiGoal-v0",
        "gymnasium:HeavyHalfCheetah-v5",
    ):
        assert describe(name).definition == {}
    assert all(ALGORITHMS[name].definition == {} for name in ("sac", "td3", "ddpg", "ppo", "sql", "a2c", "trpo"))
    entry_point = "gymnasium.envs.classic_control.pendulum:PendulumEnv"
    for g in (9.0, 10.0):
        gymnasium.register(f"lab/Pendulum{g:.0f}-v0", entry_point, max_episode_steps=200, kwargs={"g": g})
    definitions = [describe(f"gymnasium:lab/Pendulum{g}-v0").definition for g in (9, 10)]
    assert definitions[0]["registered"]["kwargs"] == {"g": 9.0}
    assert sources.differences(*definitions) == ['kwargs {"g": 9.0} (now {"g": 10.0})']


EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.mark.parametrize("path", files([EXPERIMENTS, EXPERIMENTS / "claims"]), ids=lambda path: path.stem)
def test_the_ids_of_shipped_experiments_hash_no_source(path):
    loaded = load(path)
    keys = {"algorithm", "semantics", "evaluation", "env", "backend", "seed", "config"}
    for _, spec in (loaded.selection() or loaded).runs():
        assert set(spec.identity()) - {"start", "option_versions"} == keys


def test_an_unreadable_source_is_refused_only_if_an_id_is_required():
    namespace = {"__name__": "notebook"}
    exec(ENVS.replace("from lab import scales", "").replace("lab/Reach", "notebook/Reach"), namespace)
    env = "gymnasium:notebook/Reach-v0"
    assert describe(env).action_dim == 1
    with pytest.raises(InputError, match=r"Reach-v0'.* source cannot be read: 'notebook' .*--import"):
        _ = RunSpec("sac", tiny(), env, 0).id


def test_the_contents_of_a_function_count_and_its_memory_address_does_not():
    def maker(scale):
        return lambda config, observations, actions: scale

    class Held:
        def __init__(self, scale):
            self.scale = scale

    config = ALGORITHMS["sac"].config

    def of(learner):
        return Algorithm("own", config, learner, 1).definition

    for make in (maker, lambda scale: functools.partial(maker, Held(scale)), lambda scale: lambda s=scale: s):
        assert of(make(1)) == of(make(1)) != of(make(2))


ALGORITHM = """
import own_algorithm
from dataclasses import replace
from sac_bench.algorithms import ALGORITHMS
from sac_bench.spec.run import RunSpec
config = ALGORITHMS["dpg"].config()
print(RunSpec("dpg", config, "Pendulum-v1", 0).id, RunSpec("sac", ALGORITHMS["sac"].config(), "Pendulum-v1", 0).id)
"""


@pytest.mark.thorough
def test_editing_an_algorithm_changes_only_its_own_ids(tmp_path):
    shutil.copy(Path(__file__).parents[2] / "examples" / "own_algorithm.py", tmp_path)

    def ids():
        return subprocess.run(
            [sys.executable, "-c", ALGORITHM], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout.split()

    before = ids()
    (tmp_path / "own_algorithm.py").write_text(
        (tmp_path / "own_algorithm.py").read_text().replace("torch.tanh", "torch.sin")
    )
    after = ids()
    assert before[0] != after[0]
    assert before[1] == after[1]


def test_an_algorithm_that_uses_parts_of_sac_bench_names_them_as_before_they_moved():
    """The names are in the ids of its runs."""
    of = sources.of_algorithm(SACConfig, functools.partial(ALGORITHMS["td3"].learner, 1))["registered"]
    assert of == {
        "config": "sac_bench.algorithms.sac.SACConfig",
        "learner": {"partial": ["sac_bench.algorithms.td3.learner", [1], {}]},
    }


ARGUMENTS = """
import functools, json, logging, random, gymnasium, numpy as np, torch
from sac_bench.envs.sources import _Reader
class Slots:
    __slots__ = ("held",)
    def __init__(self, held): self.held = held
class Key: pass
def made(n):
    return [np.random.default_rng(n), np.random.RandomState(n), random.Random(n), torch.full((2,), n), Slots(n),
            lambda *, s=n: s, (lambda: n), functools.partial(max, n), {Key(): n}, {"a": np.arange(n)}]
space = gymnasium.spaces.Box(-1, 1, (2,)); space.sample()
print(json.dumps([*map(_Reader().plain, made(1)), _Reader().plain(space), _Reader().plain(logging.getLogger("x"))]))
print(json.dumps([*map(_Reader().plain, made(2))]))
"""


@pytest.mark.thorough
def test_arguments_are_distinguished_and_equal_in_every_process():
    outputs = []
    for seed in ("0", "1"):
        found = subprocess.run(
            [sys.executable, "-c", ARGUMENTS],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        outputs.append(found.stdout)
    assert outputs[0] == outputs[1]
    ones, twos = map(json.loads, outputs[0].splitlines())
    for one, two in zip(ones, twos, strict=False):
        assert one != two, one
    assert len(json.dumps(ones)) < 20_000


def test_a_model_in_a_temporary_file_is_identified_by_its_contents(tmp_path):
    script = """
import sys, tempfile, json
from sac_bench.envs.sources import _Reader
file = tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".xml"); file.write(sys.argv[1]); file.flush()
reader = _Reader(); print(json.dumps([reader.plain(file.name), reader.files]))
"""
    found = [
        subprocess.run([sys.executable, "-c", script, text], capture_output=True, text=True, check=True).stdout
        for text in ("<mujoco/>", "<mujoco/>", "<mujoco a='1'/>")
    ]
    assert found[0] == found[1] != found[2]
