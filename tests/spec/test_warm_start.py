"""Warm starts: what a file may contain, the order of training, and the initial weights."""

import math
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import sac_bench
from sac_bench.algorithms import SHIPPED
from sac_bench.algorithms.sac import temperature
from sac_bench.errors import InputError
from sac_bench.execution import gc, worker
from sac_bench.execution.plan import make_plan, write
from sac_bench.execution.warm_start import read, settle
from sac_bench.results.collect import collect
from sac_bench.spec import warm_start
from sac_bench.spec.load import load
from sac_bench.spec.run import RunSpec
from sac_bench.store.store import Store
from sac_bench.training.evaluate import evaluate
from sac_bench.training.trainer import Trainer
from sac_bench.tuning import study
from tests.conftest import small
from tests.execution.test_faults import DIE, comparable, prepare

EXPERIMENT = (
    small("tuned")
    + """
[variants.sac]

[variants.tuned]
start = { variant = "sac", env = "InvertedPendulum-v5" }
gamma = 0.9
learning_starts = 0
"""
)


@pytest.fixture
def file(tmp_path):
    """A function that writes the experiment with changes and returns its path."""
    path = tmp_path / "tuned.toml"

    def written(*changes):
        text = EXPERIMENT
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path.write_text(text)
        return path

    return written


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "cannot_compile", lambda: "not here")
    return Store(tmp_path / "results")


def carry_out(plan, store):
    """Train a plan's cohorts and return their workers."""
    write(plan, store)
    workers = [worker.Worker(store, cohort.id, cohort.steps, "cpu", 1) for cohort in plan.cohorts]
    for made in workers:
        made.train()
    return workers


def planned(path, store, **options):
    make = {name: options.pop(name) for name in ("retrain", "skip") if name in options}
    return make_plan(load(path, **options), store, 1, 8e9, **make)


def variants_of(plan, path):
    names = {spec.id: variant.name for variant, spec in load(path).runs()}
    return [sorted(names[spec.id] for spec in cohort.runs) for cohort in plan.cohorts]


# -- files -----------------------------------------------------------------------------------------


def test_the_start_is_part_of_a_runs_id_and_changes_no_other_id(file):
    runs = load(file()).runs()
    sac, tuned = ([spec for variant, spec in runs if variant.name == name] for name in ("sac", "tuned"))
    assert [(spec.start.run, spec.start.steps) for spec in tuned] == [(spec.id, 200) for spec in sac]
    plain = load(file(('start = { variant = "sac", env = "InvertedPendulum-v5" }', ""))).runs()
    assert [spec.id for _, spec in plain[:2]] == [spec.id for spec in sac]
    assert "start" not in sac[0].identity()
    assert len({spec.id for _, spec in runs + plain}) == 6
    assert tuned[0].structure() == plain[2][1].structure()  # may share a cohort
    assert RunSpec.from_dict(tuned[0].as_dict()) == tuned[0]
    longer = load(file(), steps=300).runs()
    assert longer[2][1].id != tuned[0].id


def test_the_start_may_be_on_an_environment_that_is_not_requested(file):
    path = file(('v5" }', 'v4" }'), ("[variants.tuned]", "[on.InvertedPendulum-v4]\ntau = 0.1\n[variants.tuned]"))
    loaded = load(path, variants=["tuned"])
    tuned = loaded.variants["tuned"]
    assert {spec.env for _, spec in loaded.runs()} == set(tuned.configs) == set(tuned.steps) == {"InvertedPendulum-v5"}
    assert tuned.parent.run(0).env == "InvertedPendulum-v4"
    assert (tuned.parent.run(0).config.tau, tuned.configs["InvertedPendulum-v5"].tau) == (0.1, 0.005)
    assert load(path, steps=500).variants["tuned"].parent.steps == 500
    assert tuned.overrides["start"] == {"variant": "sac", "env": "InvertedPendulum-v4"}


@pytest.mark.parametrize("order", [1, -1])
def test_a_chain_of_more_than_10_starts_is_refused(file, order):
    tables = [
        f"[variants.t{i}]\nstart = {{ variant = '{f't{i - 1}' if i else 'sac'}', env = 'InvertedPendulum-v5' }}\n"
        for i in range(1200)
    ]
    assert load(file(("[variants.tuned]", "".join(tables[:10][::order]) + "[variants.tuned]")), seeds=1).runs()
    with pytest.raises(InputError, match="start: a chain of starts must not be longer than 10"):
        load(file(("[variants.tuned]", "".join(tables[::order]) + "[variants.tuned]")), seeds=1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (('variant = "sac"', 'variant = "sc"'), "[variants.tuned] start: no variant 'sc'; did you mean 'sac'?"),
        (('variant = "sac"', 'variant = "tuned"'), "start: is circular: tuned from tuned"),
        (('"InvertedPendulum-v5" }', '"InvertedPendulum-v55" }'), "[variants.tuned] start: env: "),
        ((', env = "InvertedPendulum-v5" }', " }"), "[variants.tuned] start: env: is required"),
        (('v5" }', 'v5", seed = 3 }'), "[variants.tuned] start: seed: unknown key"),
        (('v5" }', 'v5", steps = 0 }'), "[variants.tuned] start: steps: "),
        (('{ variant = "sac", env = "InvertedPendulum-v5" }', '"sac"'), "start: must be { variant = NAME, env = ID }"),
        (("[base]", '[base]\nstart = "sac"'), "[base] start: belongs in [variants.NAME]"),
        (("[variants.tuned]", '[sweep]\nstart = ["sac"]\n[variants.tuned]'), "[sweep] start: belongs in"),
        (
            ('v5" }', 'v5", steps = 150 }'),
            "'tuned' starts from 'sac' on InvertedPendulum-v5 at 150 steps, but that is "
            "trained to 200; a run keeps only the weights of its end",
        ),
        (('InvertedPendulum-v5" }', 'InvertedPendulum-v4", steps = 100 }'), "'sac': steps = 100 allows no update"),
        (
            ('InvertedPendulum-v5" }', 'Hopper-v5" }'),
            "does not fit: 11 observations and 3 actions on Hopper-v5, 4 "
            "observations and 1 actions on InvertedPendulum-v5",
        ),
        (("gamma = 0.9", "layers = [9]"), "does not fit: params/actor/0/weight is [4, 8] in 'sac' and [4, 9] here"),
        (("gamma = 0.9", "value_network = true"), "params/value/0/weight is nothing in 'sac' and [4, 8] here"),
        (("gamma = 0.9", 'algorithm = "td3"'), "'sac' uses sac and 'tuned' uses td3; a warm start requires the same"),
    ],
)
def test_invalid_starts_are_refused_with_the_file_name(file, change, words):
    with pytest.raises(InputError) as refused:
        load(file(change))
    assert words in str(refused.value)
    assert str(refused.value).count("tuned.toml") == 1


FIXED = "learn_temperature = false\ntemperature = 0.3"
OPTIONS = {"learned": "", "fixed": FIXED, "fixed 0": FIXED.replace("0.3", "0.0"), "own 0.05": "temperature = 0.05"}


def with_temperatures(file, parent, child, start):
    """The experiment in which parent and child have these options and `start` this temperature."""
    return file(
        ("[variants.sac]", f"[variants.sac]\n{OPTIONS[parent]}"),
        ("gamma = 0.9", f"gamma = 0.9\n{OPTIONS[child]}"),
        ('v5" }', f'v5", temperature = {start} }}' if start else 'v5" }'),
    )


@pytest.mark.parametrize(
    ("parent", "child", "start", "alpha"),
    [
        ("learned", "learned", "", 0.03),
        ("learned", "learned", '"keep"', 0.03),
        ("learned", "learned", '"own"', 1.0),
        ("learned", "own 0.05", '"own"', 0.05),
        ("learned", "own 0.05", "0.2", 0.2),
        ("learned", "learned", "2", 2.0),
        ("fixed", "learned", "", 0.3),
        ("fixed", "own 0.05", '"own"', 0.05),
        ("fixed 0", "learned", '"own"', 1.0),
        ("fixed 0", "own 0.05", "0.2", 0.2),
        ("learned", "fixed", "", 0.3),
        ("fixed 0", "fixed", '"own"', 0.3),
        ("fixed", "fixed 0", "", 0.0),
    ],
)
def test_the_temperature_at_step_0_is_the_one_set_by_the_start(file, parent, child, start, alpha):
    runs = {variant.name: spec for variant, spec in load(with_temperatures(file, parent, child, start), seeds=1).runs()}
    made = {name: Trainer([spec], 200, compiled=False) for name, spec in runs.items()}
    made["sac"].cohort.state["params"]["temperature"].fill_(math.log(0.03))  # its final one, where it is learned
    made["tuned"].start(0, made["sac"].cohort.weights(0), runs["tuned"].start.temperature, math.inf)
    state, hyper = made["tuned"].cohort.state, made["tuned"].cohort.hyper
    assert float(temperature(state["params"], hyper)) == pytest.approx(alpha)
    assert RunSpec.from_dict(runs["tuned"].as_dict()) == runs["tuned"]


def test_a_changed_initial_temperature_changes_the_id_unless_it_is_the_parents(file):
    ids = {start: load(with_temperatures(file, "learned", "learned", start)).runs()[2][1].id for start in STARTS}
    assert ids[""] == ids['"keep"']
    assert len(set(ids.values())) == 3
    assert "temperature" not in load(file()).runs()[2][1].identity()["start"]


STARTS = ("", '"keep"', '"own"', "0.5")


@pytest.mark.parametrize(
    ("parent", "child", "start", "words"),
    [
        (
            "learned",
            "own 0.05",
            "",
            "the variant sets temperature = 0.05, but starts with its parent's temperature; write",
        ),
        ("fixed", "own 0.05", '"keep"', 'write temperature = "own" in start, or remove the option'),
        ("fixed 0", "learned", "", "a learned temperature cannot start at that of 'sac', 0; write temperature = "),
        ("learned", "fixed", '"keep"', "has no effect on InvertedPendulum-v5, where learn_temperature = false"),
        ("learned", "fixed", "0.2", "fixes it at 0.3; remove this key"),
        ("learned", "learned", "0", 'temperature: must be "keep", "own" or a number between 1e-06 and 1e6, not 0'),
        ("learned", "learned", "true", 'must be "keep", "own" or a number'),
        ("learned", "learned", '"kept"', "not 'kept'"),
    ],
)
def test_invalid_temperatures_of_a_start_are_refused_with_a_fix(file, parent, child, start, words):
    with pytest.raises(InputError) as refused:
        load(with_temperatures(file, parent, child, start))
    assert words in str(refused.value)
    assert "[variants.tuned] start: " in str(refused.value)


ELSEWHERE = {
    "[base]": "[base]\ntemperature = 0.05",
    "[base.sac]": "[base.sac]\ntemperature = 0.05\n[base]",
    "[on.InvertedPendulum-v5]": "[on.InvertedPendulum-v5]\ntemperature = 0.05\n[base]",
}


@pytest.mark.parametrize("start", ["", '"keep"'])
@pytest.mark.parametrize("table", ELSEWHERE)
def test_a_temperature_of_all_variants_that_a_start_ignores_is_refused_with_its_line(file, table, start):
    change = ("[base]", ELSEWHERE[table])
    path = file(change, ('v5" }', f'v5", temperature = {start} }}' if start else 'v5" }'))
    with pytest.raises(InputError) as refused:
        load(path)
    line = path.read_text().splitlines().index("temperature = 0.05") + 1
    assert str(refused.value).startswith(
        f"{path}:{line}: {table} temperature: has no effect on 'tuned' on InvertedPendulum-v5, which starts with its "
        "parent's temperature; write temperature = "
    )
    for used in ('"own"', "0.2"):
        assert load(file(change, ('v5" }', f'v5", temperature = {used} }}')))
    fixed = ("gamma = 0.9", "gamma = 0.9\nlearn_temperature = false")  # always uses the option
    assert load(file(change, fixed))


def test_a_temperature_of_the_command_line_that_a_start_ignores_is_refused(file):
    path = file()
    with pytest.raises(InputError, match=r"tuned.toml: --set temperature: has no effect on 'tuned'"):
        load(path, settings=["temperature=0.05"])
    assert load(path, settings=["tau=0.1"])
    own = load(file(('v5" }', 'v5", temperature = "own" }')), settings=["temperature=0.05"])
    assert own.runs()[2][1].start.temperature == 0.05


def test_a_temperature_of_another_environment_or_of_the_parent_alone_is_accepted(file):
    elsewhere = ("[base]", "[on.InvertedPendulum-v4]\ntemperature = 0.05\n[base]")
    assert load(file(elsewhere, ('env = "InvertedPendulum-v5" }', 'env = "InvertedPendulum-v4" }')))
    assert load(file(("[variants.sac]", "[variants.sac]\ntemperature = 0.05")))


def test_algorithms_without_a_temperature_refuse_the_key_in_a_start(file):
    with pytest.raises(InputError, match=r"start: temperature: td3 has no temperature; remove this key"):
        load(file(("seeds = 2", 'seeds = 2\nalgorithm = "td3"'), ('v5" }', 'v5", temperature = "keep" }')))


def test_a_start_in_the_middle_of_a_chain_is_checked_on_its_own_environment(file):
    chained = "[variants.last]\nstart = { variant = 'tuned', env = 'InvertedPendulum-v4' }\n[variants.tuned]"
    path = file(("[variants.tuned]", chained), ("gamma = 0.9", "on = { InvertedPendulum-v4 = { temperature = 0.1 } }"))
    with pytest.raises(InputError, match=r"\[variants.tuned\] start: the variant sets temperature = 0.1"):
        load(path)


def test_a_study_of_a_variant_with_a_warm_start_is_refused(file, tmp_path):
    file()
    path = tmp_path / "study.toml"
    path.write_text(
        'name = "s"\nexperiment = "tuned.toml"\nvariant = "tuned"\nsteps = 300\ntrials = 2\nseeds = 1\n'
        '[space]\ntau = { type = "float", low = 0.1, high = 0.2 }\n'
    )
    with pytest.raises(InputError, match="'tuned' has a warm start"):
        study.load(path)


# -- order of training, and initial weights --------------------------------------------------------------------


@pytest.mark.thorough
def test_each_run_starts_from_the_final_weights_of_the_run_with_its_seed(file, store):
    path = file()
    first = planned(path, store, variants=["tuned"])  # the parent is trained though it is not requested
    assert variants_of(first, path) == [["sac", "sac"]]
    assert len(first.waiting) == 2
    (parents,) = carry_out(first, store)
    assert settle(first.waiting, store)
    then = planned(path, store)
    assert (variants_of(then, path), then.waiting, len(then.reused)) == ([["tuned", "tuned"]], (), 2)
    (children,) = carry_out(then, store)
    started = worker.Worker(store, then.cohorts[0].id, 200, "cpu", 1)
    for m, spec in enumerate(then.cohorts[0].runs):
        weights, q_bound = read(store, spec.start)
        started.trainer.start(m, weights, spec.start.temperature, q_bound)
        saved = load_file(store.run(spec.start.run).weights)
        ended = parents.trainer.cohort.weights(m)
        for name, leaf in started.trainer.cohort.weights(m).items():
            assert torch.equal(leaf, saved[name]), name
            assert torch.equal(leaf, ended[name]), name
        policy = sac_bench.load_policy(spec.start.run, store.root)
        assert torch.equal(policy._policy["actor"][0].weight, saved["params/actor/0/weight"])
    weights = [store.run(spec.start.run).weights.read_bytes() for spec in then.cohorts[0].runs]
    assert weights[0] != weights[1]
    # Before its first update a child acts as its parent: same environments and noise, step 0.
    as_parents = evaluate(parents.trainer.cohort, parents.trainer.env, parents.trainer.seeds, 0, 1, 1)
    for m, run in enumerate(children.runs):
        rows = run.table("episodes").query("step == 0")
        np.testing.assert_array_equal(rows["return"], as_parents.returns[m].flatten())
    assert not planned(path, store).cohorts


@pytest.mark.thorough
def test_a_run_continues_from_its_checkpoint_without_loading_its_start_again(file, store):
    path = file()
    parents = planned(path, store)
    carry_out(parents, store)
    plan = planned(path, store)
    (straight,) = carry_out(plan, store)
    expected = {run.id: (run.policy.read_bytes(), run.weights.read_bytes()) for run in straight.runs}
    for run in straight.runs:
        shutil.rmtree(run.path)
    plan = planned(path, store)
    write(plan, store)
    worker.Worker(store, plan.cohorts[0].id, 100, "cpu", 1).train()
    for spec in plan.cohorts[0].runs:
        store.run(spec.start.run).weights.unlink()
    worker.Worker(store, plan.cohorts[0].id, 200, "cpu", 1).train()
    assert {run.id: (run.policy.read_bytes(), run.weights.read_bytes()) for run in straight.runs} == expected


def test_starts_may_be_chained_and_runs_that_start_from_a_diverged_run_fail(file, store):
    path = file(
        (
            "[variants.tuned]",
            "[variants.last]\nstart = {variant='tuned', env='InvertedPendulum-v5'}\n"
            "learning_starts = 0\n[variants.tuned]",
        )
    )
    plan = planned(path, store)
    assert (variants_of(plan, path), len(plan.waiting)) == ([["sac", "sac"]], 4)
    (parents,) = carry_out(plan, store)
    parents.runs[0].end("diverged", steps=200)
    assert settle(plan.waiting, store)
    statuses = {v.name: store.run(s.id).status() for v, s in load(path).runs() if s.seed == 0 and v.name != "sac"}
    assert statuses["tuned"]["reason"] == f"not started: its parent, run {parents.runs[0].id}, diverged"
    assert statuses["last"]["reason"].endswith("has not started")
    plan = planned(path, store)
    assert variants_of(plan, path) == [["tuned"]]
    assert {(spec.seed, spec.config.gamma) for spec in plan.waiting} == {(0, 0.9), (0, 0.99), (1, 0.99)}
    results = collect(store, load(path))
    assert list(results.runs["status"].value_counts().sort_index().items()) == [
        ("diverged", 1),
        ("failed", 2),
        ("finished", 1),
        ("not started", 2),
    ]


def test_missing_weights_are_reported_with_a_fix(file, store):
    path = file()
    carry_out(planned(path, store, variants=["sac"]), store)
    runs = [store.run(spec.id) for variant, spec in load(path).runs() if variant.name == "sac"]
    for run in runs:  # a finished run without weights
        run.update(weights=None)
        run.weights.unlink()
    with pytest.raises(InputError, match=r"the parent of other runs at 200 steps, has no weights on disk; --retrain"):
        planned(path, store)
    assert not planned(path, store, variants=["sac"], retrain=True).cohorts
    again = planned(path, store, retrain=True)
    assert (variants_of(again, path), len(again.waiting)) == ([["sac", "sac"]], 2)
    carry_out(again, store)
    assert variants_of(planned(path, store), path) == [["tuned", "tuned"]]
    assert store.run(runs[0].id).status()["status"] == "finished"
    runs[0].weights.write_bytes(b"")
    assert "weights.safetensors: damaged: cut to 0" in store.run(runs[0].id).status()["reason"]


def test_a_run_that_trained_further_is_refused_as_a_start_at_its_former_end(file, store):
    path = file()
    carry_out(planned(path, store, variants=["sac"], steps=300), store)
    with pytest.raises(InputError, match="at 200 steps, has the weights of step 300 only"):
        planned(path, store)
    assert not planned(path, store, variants=["sac"]).cohorts


def test_gc_keeps_the_runs_that_listed_runs_start_from(file, store):
    path = file(('v5" }', 'v4" }'))
    experiment = load(path, variants=["tuned"])
    carry_out(planned(path, store, variants=["tuned"]), store)
    collect(store, experiment)
    assert gc.UNLISTED not in {item.why for item in gc.find(store)}
    (store.root / "tuned" / "runs.csv").write_text("run_id,start\n")
    assert [item.why for item in gc.find(store)].count(gc.UNLISTED) == 2


# -- the command ------------------------------------------------------------------------------------------------

HARM = DIE.replace("TIMES", "TIMES and len(list(pathlib.Path('results/runs').glob('*/weights.safetensors'))) == 2")


@pytest.mark.soak
def test_one_command_trains_parent_and_child_and_a_killed_child_is_bit_identical(command, tmp_path, file):
    path = file(("InvertedPendulum-v5", "gymnasium:Line-v0"), ("steps = 200", "steps = 300"))
    found = []
    for deaths in (0, 1):
        prepare(tmp_path, HARM.replace("TIMES", str(deaths)))
        ran = command("run", path.name, "--import", "line", "--workers", "1")
        assert ran.returncode == 0, ran.stderr + ran.stdout
        assert "2 new, 0 reused, 0 to be continued, 2 wait for the runs that they start from" in ran.stdout
        assert ran.stdout.count("restarted from its last segment") == deaths
        weights = {p.parent.name: p.read_bytes() for p in tmp_path.glob("results/runs/*/weights.safetensors")}
        found.append(comparable(tmp_path / "results") | weights)
        report = (tmp_path / "results" / "tuned" / "report.md").read_text()
        assert 'start = {"variant": "sac", "env": "gymnasium:Line-v0"}' in report.replace("\\", "")
        runs = pd.read_csv(tmp_path / "results" / "tuned" / "runs.csv")
        assert set(runs["status"]) == {"finished"}
        shutil.rmtree(tmp_path / "results")
    assert found[0] == found[1]


OF_TRAINING = {
    "num_envs": 4,
    "eval_every": 4096,
    "eval_episodes": 2,
    "eval_sampled_every": 2,
    "pool_episodes": 3,
    "precision": "float64",
    "batch_size": 32,
    "bootstrap_truncated": False,
    "learning_starts": 400,
    "random_steps": 40,
    "min_replay": 100,
    "replay_capacity": 40_000,
    "utd": 0.5,
    "n_step": 3,
    "rollout": 1024,
    "epochs": 3,
}


@pytest.mark.parametrize("name", SHIPPED)
def test_the_algorithms_of_sac_bench_support_warm_starts_whatever_the_options_of_training(name):
    assert set(OF_TRAINING) == warm_start.OF_TRAINING
    config = SHIPPED[name].config
    other = config(**{option: value for option, value in OF_TRAINING.items() if option in config.model_fields})
    assert all(getattr(config(), option) != value for option, value in OF_TRAINING.items() if hasattr(other, option))
    shapes = [warm_start._shapes(name, one, "InvertedPendulum-v5") for one in (config(), other)]
    assert shapes[0] == shapes[1]
    assert SHIPPED[name].learner(config(), 3, 1).start is not None
