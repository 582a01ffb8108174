"""Results of others: each format gives the numbers that its files hold, with what they say of the protocol."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sac_bench.errors import InputError
from sac_bench.results.foreign.formats import FORMATS
from sac_bench.results.importing import ImportOptions, import_results, round_up
from sac_bench.results.load import load_results
from sac_bench.results.protocol import UNKNOWN, ProtocolCard, differences, unknown, why_not_the_same


def imported(tmp_path, format, path, **options):
    import_results(format, path, "theirs", tmp_path / "results", ImportOptions(**options))
    return load_results("theirs", tmp_path / "results")


def card(results, variant):
    return results.manifest.variants[variant].imported.card


def curve(results, variant, seed=None):
    """{step: mean return} of a variant's run."""
    rows = results.evaluations[results.evaluations["variant"] == variant]
    rows = rows if seed is None else rows[rows["seed"] == seed]
    return dict(zip(rows["step"], rows["return_mean"], strict=True))


def tidy(path, cells, steps=(100, 200), name="env,variant,seed,step,return"):
    """A tidy file; cells: {(variant, seed): the return at the last step}, which grows linearly."""
    rows = [f"Toy-v1,{v},{seed},{t},{r * t / steps[-1]}" for (v, seed), r in cells.items() for t in steps]
    path.write_text("\n".join([name, *rows]) + "\n")
    return path


@pytest.mark.thorough
def test_what_stable_baselines3_writes_is_read(tmp_path):
    import gymnasium
    from stable_baselines3 import SAC
    from stable_baselines3.common.callbacks import EvalCallback
    from stable_baselines3.common.monitor import Monitor

    stated = {}
    for seed in (0, 1):
        folder = tmp_path / f"sac/Pendulum-v1_{seed}"
        env = Monitor(gymnasium.make("Pendulum-v1"), str(folder / "0"))
        kept = EvalCallback(
            Monitor(gymnasium.make("Pendulum-v1")),
            n_eval_episodes=2,
            eval_freq=200,
            log_path=str(folder),
            verbose=0,
        )
        model = SAC("MlpPolicy", env, seed=seed, learning_starts=390, policy_kwargs={"net_arch": [8]}, device="cpu")
        model.learn(400, callback=kept)
        stated[seed] = kept.evaluations_results
    results = imported(tmp_path, "sb3", tmp_path / "sac", variant="sac", paths="{env}_{seed}")
    for seed, returns in stated.items():
        assert curve(results, "sac", seed) == pytest.approx(
            dict(zip((200, 400), np.mean(returns, axis=1), strict=True))
        )
    assert set(results.runs["env"]) == {"Pendulum-v1"}
    episodes = results.episodes[results.episodes["seed"] == 1]
    assert episodes["return"].tolist() == pytest.approx([*stated[1][0], *stated[1][1]])
    assert (episodes["length"] == 200).all()
    known = card(results, "sac")
    assert (known.metric, known.episodes, known.actions, known.updates_per_transition) == (
        "evaluation",
        2,
        UNKNOWN,
        UNKNOWN,
    )

    for file in (tmp_path / "sac").rglob("evaluations.npz"):
        file.unlink()
    results = imported(tmp_path, "sb3", tmp_path / "sac", variant="sac", every=200)
    assert set(results.runs["env"]) == {"Pendulum-v1"}  # from the monitor files
    first = pd.read_csv(tmp_path / "sac/Pendulum-v1_0/0.monitor.csv", comment="#")
    assert curve(results, "sac", 0) == pytest.approx({200: first["r"][0], 400: first["r"][1]})
    assert (card(results, "sac").metric, card(results, "sac").actions) == ("training return", "sampled")


def test_monitor_files_of_parallel_environments_step_together(tmp_path):
    for i, returns in enumerate([(1.0, 3.0), (5.0, 7.0)]):
        lines = ['#{"t_start": 0.5, "env_id": "Toy-v1"}', "r,l,t", *(f"{r},50,{t}" for t, r in enumerate(returns))]
        (tmp_path / f"{i}.monitor.csv").write_text("\n".join(lines) + "\n")
    results = imported(tmp_path, "sb3", tmp_path, variant="sac", every=100)
    assert curve(results, "sac") == {100: 3.0, 200: 5.0}
    assert results.evaluations["episodes"].tolist() == [2, 2]


def write_events(folder, returns, hyperparameters=""):
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(folder)
    if hyperparameters:
        writer.add_text("hyperparameters", "|param|value|\n|-|-|\n" + hyperparameters)
    for step, value in returns:
        writer.add_scalar("charts/episodic_return", value, step)
        writer.add_scalar("losses/alpha", 1.0, step)
    writer.close()


def test_cleanrl_events_are_averaged_over_equal_parts(tmp_path):
    for seed in (1, 2):
        returns = [(step, step * seed) for step in range(9, 1000, 10)]
        write_events(tmp_path / f"runs/Hopper-v4__sac_continuous_action__{seed}__1690000000", returns)
    results = imported(tmp_path, "cleanrl", tmp_path / "runs", rename={"sac_continuous_action": "sac"}, every=500)
    assert set(results.runs["env"]) == {"Hopper-v4"}
    assert results.manifest.seeds == (1, 2)
    means = [np.mean(range(9, 500, 10)), np.mean(range(509, 1000, 10))]
    assert curve(results, "sac", 2) == pytest.approx({500: 2 * means[0], 1000: 2 * means[1]})
    assert card(results, "sac").metric == "training return"


def test_cleanrl_hyperparameters_say_what_a_folder_does_not(tmp_path):
    write_events(tmp_path / "x", [(10, 1.0)], "|env_id|Ant-v4|\n|exp_name|td3|\n|seed|7|")
    runs = imported(tmp_path, "cleanrl", tmp_path / "x").runs
    assert runs[["env", "variant", "seed"]].to_numpy().tolist() == [["Ant-v4", "td3", 7]]


def test_xuance_folders_state_labels_updates_and_episodes(tmp_path):
    for agent, replay in (("SAC", {"start_training": 100, "training_frequency": 1}), ("PPO", {})):
        for seed in (1, 2):
            folder = tmp_path / f"Hopper-v5/{agent}/results/seed_{seed}"
            folder.mkdir(parents=True)
            (folder / "learning_curve.csv").write_text(f"step,avg_return\n0,1\n5000,{10 * seed}\n10000,{20 * seed}\n")
            config = {"agent": agent, "env_id": "Hopper-v5", "seed": seed, "parallels": 4, "test_episode": 3} | replay
            (folder / "config.json").write_text(json.dumps(config))
    results = imported(tmp_path, "xuance", tmp_path / "Hopper-v5", card={"actions": "deterministic"})
    assert curve(results, "SAC", 2) == {0: 1, 5000: 20, 10000: 40}
    assert card(results, "SAC").updates_per_transition == 0.25
    assert card(results, "PPO").updates_per_transition == UNKNOWN  # no replay: not what its config says
    assert (card(results, "SAC").episodes, card(results, "SAC").actions) == (3, "deterministic")
    assert set(results.evaluations["policy"]) == {"mean"}


def test_authors_files_have_their_returns_alone(tmp_path):
    rows = ["Ant-v4,1,avg_return,16666,5", "Ant-v4,1,avg_return,33332,9", "Ant-v4,1,q_loss,33332,0.1"]
    (tmp_path / "sac.csv").write_text(
        "\n".join([",exp_name,env_name,seed,metric,env_step,value", *(f"{i},SAC,{row}" for i, row in enumerate(rows))])
    )
    for format in ("authors", "simbav2"):
        assert curve(imported(tmp_path, format, tmp_path / "sac.csv"), "SAC") == {16666: 5, 33332: 9}


def test_spinning_up_logs_are_tests_or_training(tmp_path):
    for seed, column in enumerate(("AverageTestEpRet", "AverageEpRet")):
        folder = tmp_path / column / f"sac_s{seed}"
        folder.mkdir(parents=True)
        last = (3999, 7999) if seed == 0 else (4000, 8000)
        rows = [f"{i}\t{10.0 * i}\t{step}" for i, step in enumerate(last, 1)]
        (folder / "progress.txt").write_text("\n".join([f"Epoch\t{column}\tTotalEnvInteracts", *rows]) + "\n")
        config = {"exp_name": "sac", "seed": seed, "num_test_episodes": 10, "update_every": 50}
        (folder / "config.json").write_text(json.dumps(config))
    tested = imported(tmp_path, "spinningup", tmp_path / "AverageTestEpRet", env="Hopper-v3")
    trained = imported(tmp_path, "spinningup", tmp_path / "AverageEpRet", env="Hopper-v3")
    assert curve(tested, "sac") == curve(trained, "sac") == {4000: 10, 8000: 20}
    assert card(tested, "sac").model_dump(exclude={"source"}) == {
        "environment": UNKNOWN,
        "simulator": UNKNOWN,
        "updates_per_transition": 1.0,
        "metric": "evaluation",
        "actions": "deterministic",
        "episodes": 10,
        "seeds": "1",
        "unfinished": "none",
    }
    assert card(trained, "sac").metric == "training return"


def test_unfinished_runs_are_counted_and_have_no_score(tmp_path):
    path = tidy(tmp_path / "t.csv", {("sac", seed): 100.0 for seed in range(3)})
    path.write_text(path.read_text().replace("Toy-v1,sac,2,200,100.0\n", ""))
    results = imported(tmp_path, "tidy", path)
    assert results.runs["status"].tolist() == ["finished", "finished", "failed"]
    assert results.runs["reason"].iloc[2] == "unfinished: its files end at step 100 of 200"
    assert card(results, "sac").unfinished == "1 of 3 runs"
    assert set(imported(tmp_path, "tidy", path, steps=400).runs["status"]) == {"failed"}


def test_other_names_of_the_variant_and_seeds_of_several_variants(tmp_path):
    cells = {("a", 5): 1.0, ("a", 6): 1.0, ("b", 5): 1.0, ("b", 6): 1.0, ("b", 7): 1.0}
    results = imported(tmp_path, "tidy", tidy(tmp_path / "t.csv", cells, name="env,algorithm,seed,step,return"))
    assert results.manifest.seeds == (5, 6, 7)
    assert results.manifest.seeds_of("Toy-v1", "a") == (5, 6)
    apart = imported(tmp_path, "tidy", tidy(tmp_path / "t.csv", {("a", 1): 1.0, ("b", 8): 1.0, ("b", 9): 1.0}))
    assert apart.runs["seed"].tolist() == [0, 0, 1]  # labels that variants do not share are numbered anew


def test_the_same_files_are_the_same_runs(tmp_path):
    path = tidy(tmp_path / "t.csv", {("a", 1): 1.0})
    first, again = imported(tmp_path, "tidy", path), imported(tmp_path, "tidy", path)
    other = imported(tmp_path, "tidy", path, card={"metric": "maximum"})
    ids = [results.runs["run_id"].item() for results in (first, again, other)]
    assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rename": {"a": "not plain"}}, "'not plain' is not a plain name; give --rename OLD=NEW"),
        ({"card": {"metrik": "evaluation"}}, "metrik: unknown key; did you mean 'metric'?"),
        ({"card": {"actions": "greedy"}}, "actions: input should be 'deterministic', 'sampled' or 'unknown'"),
        ({"cards": {"b": {}}}, "no variant 'b'"),
        ({"paths": "{seeds}"}, "must contain some of {variant}, {env} and {seed}"),
        ({"reference": "c"}, "no such variant"),
        ({"rename": {"Toy-v1": "Toy-v2"}}, "the files say Toy-v1, not Toy-v2"),
        ({"env": "Walker2d-v5"}, "the files say Toy-v1, not Walker2d-v5"),
    ],
)
def test_wrong_options_are_refused(tmp_path, options, message):
    with pytest.raises(InputError, match=message.replace("{", r"\{").replace("?", r"\?").replace("(", r"\(")):
        imported(tmp_path, "tidy", tidy(tmp_path / "t.csv", {("a", 1): 1.0}), **options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("env,seed,step,return\nToy-v1,1,1,1\n", "column 'variant' is missing"),
        ("env,variant,seed,step\nToy-v1,a,1,1\n", "column 'return' is missing; it has env, variant, seed, step"),
        ("env,variant,seed,step,return\nToy-v1,a,1,1.5,1\n", "step: .*1.5.* in data row 1"),
        ("env,variant,seed,step,return\nToy-v1,a,1,1,\n", "return: nan in data row 1"),
        ("", "cannot be read"),
    ],
)
def test_wrong_files_are_named(tmp_path, text, message):
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"t\.csv: .*{message}"):
        imported(tmp_path, "tidy", path)


@pytest.mark.parametrize("format", FORMATS)
def test_a_folder_without_runs_is_refused(tmp_path, format):
    with pytest.raises(InputError, match="give the folder that holds the runs"):
        imported(tmp_path, format, tmp_path / "none")


def test_results_trained_here_are_not_replaced(tmp_path):
    path = tidy(tmp_path / "t.csv", {("a", 1): 1.0})
    record = Path(__file__).parents[2] / "results/record/ablation-quick/experiment.json"
    (tmp_path / "results/theirs").mkdir(parents=True)
    (tmp_path / "results/theirs/experiment.json").write_text(record.read_text())
    with pytest.raises(InputError, match="trained here; choose another --name"):
        imported(tmp_path, "tidy", path)


def test_cards_differ_in_what_is_known_and_changes_scores():
    a = ProtocolCard(metric="evaluation", updates_per_transition=1.0, episodes=10, source="A")
    assert differences(a, a.model_copy(update={"episodes": 3, "source": "B", "simulator": "other"})) == []
    b = ProtocolCard(metric="training return", updates_per_transition=0.25)
    assert why_not_the_same(a, b) == (
        "not the same experiment: metric evaluation and training return; updates per transition 1 and 0.25"
    )
    assert why_not_the_same(a, ProtocolCard()) == ""
    assert unknown(a, a) == ["environment", "actions"]
    most = ProtocolCard(metric="maximum", episodes=10)
    assert differences(most, most.model_copy(update={"episodes": 1})) == ["episodes per evaluation 10 and 1"]


def test_steps_are_rounded_up_to_plain_numbers():
    assert [round_up(number) for number in (1, 3, 13, 500, 501, 7300)] == [1, 5, 20, 500, 1000, 10000]
