"""Runs of different kinds of devices are compared only on request."""

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from sac_bench.cli import report as report_command
from sac_bench.report.compare import in_text, write_page
from sac_bench.report.experiment import write_report
from sac_bench.report.sides import Side, compare
from sac_bench.report.tables import final_performance
from sac_bench.results.devices import are_comparable, mixed
from tests.made_up import manifest_of, results_of, write_results

VARIANTS = ("sac", "one-q")
CLAIM = {"words": "One Q is worse.", "source": "made up", "expect": ["sac > one-q"]}


def made_up(kinds=("cpu",), accepted=False, claim=None):
    """Five seeds of each of two variants, on the kinds of devices in turn."""
    about = {"envs": ["Hopper-v5"], "seeds": [*range(5)], "reference": "sac", "mix_devices": accepted, "claim": claim}
    about |= {"variants": {name: {} for name in VARIANTS}, "random": {"Hopper-v5": {"return_mean": 0.0}}}
    about |= {"config": {name: {"Hopper-v5": {"tau": 0.005}} for name in VARIANTS}}
    runs, evaluations = [], []
    for v, variant in enumerate(VARIANTS):
        for seed in range(5):
            labels = {"run_id": f"{variant}{seed}", "variant": variant, "env": "Hopper-v5", "seed": seed}
            about_run = {"status": "finished", "steps": 100, "target_steps": 100, "wall_seconds": 1.0, "cohort_size": 1}
            runs.append(labels | about_run | {"device": "its name", "device_kind": kinds[seed % len(kinds)]})
            for policy in ("mean", "sample"):
                evaluations.append(labels | {"step": 100, "policy": policy, "return_mean": 100.0 - 50 * v + seed})
    return results_of(manifest_of(about), runs, evaluations)


def report_of(results, tmp_path):
    write_results(tmp_path / "made-up", results)
    write_report(tmp_path / "made-up")
    return (tmp_path / "made-up" / "report.md").read_text()


def verdicts(results):
    return final_performance(results).set_index("variant")["verdict"].to_dict()


@pytest.mark.parametrize("kinds", [("cpu", "cuda"), ("cpu; then cuda",), ("cuda", "cpu; then cuda")])
def test_runs_on_two_kinds_of_devices_have_no_verdicts_unless_accepted(kinds):
    assert verdicts(made_up()) == {"sac": "", "one-q": "worse"}
    assert verdicts(made_up(kinds)) == {"sac": "", "one-q": ""}
    assert verdicts(made_up(kinds, accepted=True)) == {"sac": "", "one-q": "worse"}
    assert not are_comparable(made_up(kinds))


@pytest.mark.usefixtures("without_figures")
def test_a_report_says_which_devices_are_mixed(tmp_path):
    assert mixed(made_up()) == ""
    text = report_of(made_up(("cpu", "cuda")), tmp_path)
    assert "**Runs were trained on different kinds of devices (6 on cpu, 4 on cuda), which are compared only" in text
    assert "- `one-q`: **no verdict** (mixed devices), " in text
    assert "**worse**" not in text
    accepted = report_of(made_up(("cpu", "cuda"), accepted=True), tmp_path / "accepted")
    assert "(6 on cpu, 4 on cuda), as --mix-devices allows.**" in accepted
    assert "- `one-q`: **worse**, " in accepted


@pytest.mark.usefixtures("without_figures")
def test_a_claim_on_mixed_devices_has_no_verdict(tmp_path):
    assert "`one-q`: **no verdict** (mixed devices)" in report_of(made_up(("cpu", "cuda"), claim=CLAIM), tmp_path)
    assert not (tmp_path / "made-up" / "tables" / "claim.csv").exists()
    report_of(made_up(claim=CLAIM), tmp_path / "one")
    assert (tmp_path / "one" / "made-up" / "tables" / "claim.csv").exists()


def side(name, kinds, more=0.0, accepted=False):
    """One of two results, with its own runs, whose returns are higher by `more`."""
    made = made_up(kinds, accepted)
    runs, evaluations = (rows.assign(run_id=rows["run_id"] + name) for rows in (made.runs, made.evaluations))
    evaluations["return_mean"] += more
    return Side(Path(name), replace(made, runs=runs, evaluations=evaluations))


@pytest.mark.parametrize(
    ("a", "b", "counts"),
    [
        (("cpu",), ("cuda",), "A: 10 on cpu; B: 10 on cuda"),
        (("cpu",), ("cpu", "cuda"), "A: 10 on cpu; B: 6 on cpu, 4 on cuda"),
        (("cpu; then cuda",), ("cpu; then cuda",), "A: 10 on cpu; then cuda; B: 10 on cpu; then cuda"),
    ],
)
def test_two_results_of_different_kinds_of_devices_are_compared_only_on_request(a, b, counts):
    sides = side("a", a), side("b", b, 50.0)
    assert set(compare(*sides)["verdict"]) == {""}
    text = in_text(write_page(*sides, None), 1000)
    assert f"Runs were trained on different kinds of devices ({counts}), which are compared only on request" in text
    assert "no verdict (mixed devices)" in text
    assert "better" not in text
    assert set(compare(*sides, mix_devices=True)["verdict"]) == {"better"}
    text = in_text(write_page(*sides, None, mix_devices=True), 1000)
    assert f"({counts}), as --mix-devices allows." in text
    assert "better" in text


def test_a_result_that_was_allowed_to_mix_devices_does_not_allow_it_in_a_comparison():
    mixture = side("b", ("cpu", "cuda"), 50.0, accepted=True)
    assert set(compare(side("a", ("cpu",)), mixture)["verdict"]) == {""}


def test_results_of_one_kind_or_of_unknown_devices_are_compared():
    assert set(compare(side("a", ("cuda",)), side("b", ("cuda",), 50.0))["verdict"]) == {"better"}
    assert set(compare(side("a", (None,)), side("b", (None,), 50.0))["verdict"]) == {"better"}
    assert "kinds of devices" not in in_text(write_page(side("a", ("cpu",)), side("b", ("cpu",)), None), 1000)


def test_the_command_compares_different_kinds_of_devices_only_on_request(tmp_path, monkeypatch, capsys):
    for name, kind, more in (("one", "cpu", 0.0), ("other", "cuda", 50.0)):
        write_results(tmp_path / name, side(name, (kind,), more).results)
    monkeypatch.setattr(report_command, "console", Console(width=200))
    for accepted, words in ((False, "no verdict (mixed devices)"), (True, "better")):
        report_command.compare("one", "other", results=tmp_path, mix_devices=accepted)
        assert words in capsys.readouterr().out
