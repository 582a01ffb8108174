"""Protocol cards on pages: what is not the same experiment gets no verdict, what is gets one."""

from dataclasses import replace
from pathlib import Path

import pytest

from sac_bench.report.compare import in_text, page
from sac_bench.report.experiment import write_report
from sac_bench.report.sides import Side, compare, load_side
from sac_bench.report.tables import all_differences
from sac_bench.results.importing import ImportOptions, import_results
from sac_bench.results.load import load_results
from sac_bench.results.manifest import ImportedRecord
from sac_bench.results.protocol import ProtocolCard
from tests.made_up import results_of
from tests.results.test_importing import tidy

OURS = {"metric": "evaluation", "actions": "deterministic", "updates_per_transition": 1.0, "episodes": 5}


def theirs(tmp_path, name, better=0.0, **card):
    """Ten seeds of a variant "sac" with a returns of 100 and spread, plus `better`."""
    path = tidy(tmp_path / f"{name}.csv", {("sac", seed): 100.0 + seed + better for seed in range(10)})
    import_results("tidy", path, name, tmp_path, ImportOptions(card=card))
    return load_side(name, tmp_path)


def ours(config):
    """Ten seeds of "sac" trained here, with returns of 100 and spread."""
    about = {"envs": ["Toy-v1"], "seeds": list(range(10)), "reference": "sac"}
    about |= {"variants": {"sac": {"steps": {"Toy-v1": 200}}}, "config": {"sac": {"Toy-v1": config}}}
    runs, evaluations = [], []
    for seed in range(10):
        of = {"run_id": f"{seed:016x}", "variant": "sac", "env": "Toy-v1", "seed": seed}
        runs.append(of | {"status": "finished", "steps": 200, "target_steps": 200, "backend": "envpool 1"})
        evaluations.append(of | {"step": 200, "policy": "mean", "return_mean": 100.0 + seed})
    return Side(Path("ours"), results_of(about, runs, evaluations))


def verdict(a, b):
    row = compare(a, b).iloc[0]
    return row["verdict"] or row["no_verdict"]


def test_other_protocols_get_no_verdict_and_equal_ones_do(tmp_path):
    a = theirs(tmp_path, "a", **OURS)
    assert verdict(a, theirs(tmp_path, "b", 50.0, **OURS | {"episodes": 1})) == "better"
    for field, other in (("metric", "training return"), ("actions", "sampled"), ("updates_per_transition", 0.25)):
        side = theirs(tmp_path, field, 50.0, **OURS | {field: other})
        assert verdict(a, side).startswith(f"not the same experiment: {field.replace('_', ' ')} ")


def test_ours_have_cards_made_of_their_settings(tmp_path):
    config = {"utd": 1.0, "eval_episodes": 5, "eval_every": 100}
    a = theirs(tmp_path, "a", 50.0, **OURS)
    assert verdict(ours(config), a) == "better"
    assert verdict(ours(config | {"utd": 0.25}), a) == "not the same experiment: updates per transition 0.25 and 1"
    assert verdict(ours({"epochs": 10, "rollout": 2048, "batch_size": 64}), a).endswith("0.15625 and 1")


def test_two_results_of_ours_may_differ_in_settings():
    shifted = ours({"utd": 0.25})
    shifted.results.evaluations["return_mean"] += 50
    shifted.results.runs["run_id"] = shifted.results.evaluations["run_id"] = [f"{i + 99:016x}" for i in range(10)]
    assert verdict(ours({"utd": 1.0}), shifted) == "better"


def test_a_comparison_shows_cards_and_says_what_they_leave_open(tmp_path):
    a, b = ours({"utd": 1.0, "eval_episodes": 5}), theirs(tmp_path, "b", 50.0, metric="evaluation")
    shown = page(a, b, tmp_path)
    text = in_text(shown, 200)
    assert "The protocols do not say whether these are equal in both: actions, updates per transition." in text
    assert "Equal seeds of different sources have nothing in common" in text
    assert "share initial weights" not in text
    assert "no such option" not in text
    rows = {line.split()[0]: line.split()[-1] for line in text[text.index("protocol") :].splitlines() if line.strip()}
    assert (rows["episodes"], rows["metric"], rows["environment"]) == ("unknown", "evaluation", "Toy-v1")


def test_an_imported_result_has_a_report(tmp_path):
    import_results(
        "tidy",
        tidy(tmp_path / "t.csv", {(name, seed): 10.0 * seed for name in ("sac", "td3") for seed in range(6)}),
        "theirs",
        tmp_path,
        ImportOptions(cards={"td3": {"metric": "maximum"}, "sac": {"metric": "evaluation"}}),
    )
    write_report(tmp_path / "theirs")
    report = (tmp_path / "theirs/report.md").read_text()
    assert "no verdict** (not the same experiment: metric maximum and evaluation)" in report
    assert "superseded" not in report
    assert "## Protocol" in report
    assert "## Settings" not in report
    assert "mean action" not in report


def test_cards_that_agree_give_verdicts_in_one_result(tmp_path):
    cells = {(name, seed): gain + seed for name, gain in (("sac", 100.0), ("td3", 50.0)) for seed in range(6)}
    import_results("tidy", tidy(tmp_path / "t.csv", cells), "theirs", tmp_path, ImportOptions(card=OURS))
    write_report(tmp_path / "theirs")
    assert "`td3`: **worse**" in (tmp_path / "theirs/report.md").read_text()
    results = load_results("theirs", tmp_path)
    record = results.manifest.variants["td3"]
    card = ProtocolCard(**OURS | {"actions": "sampled"})
    other = record.model_copy(
        update={"imported": ImportedRecord(format="tidy", card=card, evaluated=record.imported.evaluated)}
    )
    manifest = results.manifest.model_copy(update={"variants": results.manifest.variants | {"td3": other}})
    assert all_differences(replace(results, manifest=manifest))[0].no_verdict.startswith("not the same experiment")


@pytest.mark.thorough
def test_the_command_imports_reports_and_compares(command, tmp_path):
    tidy(tmp_path / "t.csv", {("SAC", seed): 100.0 + seed for seed in range(6)})
    (tmp_path / "card.toml").write_text('metric = "evaluation"\n[variants.sac]\nepisodes = 3\n')
    same = ("import", "tidy", "t.csv", "--rename", "SAC=sac")
    done = command(*same, "--name", "a", "--card", "card.toml")
    assert (done.returncode, done.stdout) == (0, "results/a/report.html\n"), done.stderr
    assert command(*same, "--name", "b", "--card", "metric=maximum").returncode == 0
    assert "not the same experiment: metric evaluation and maximum" in command("compare", "a", "b").stdout
    wrong = command("import", "tsv", "t.csv", "--name", "b")
    assert (wrong.returncode, "must be one of sb3, cleanrl" in wrong.stderr) == (2, True)
