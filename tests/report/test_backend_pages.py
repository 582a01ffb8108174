"""What reports and tables say about a change of backend."""

import numpy as np
import pandas as pd
import pytest

from sac_bench.report.experiment import write_report
from tests.analysis.test_claims import NOISE, made_up
from tests.conftest import figures_left_out
from tests.made_up import write_results

BOTH = ("envpool", "gymnasium")
EFFECTS = {"b": (-50, -40, -30, -45), "c": (-50, 40, 0.1, 0.1)}
ENVS = ("Hopper-v5", "gymnasium:Hopper-v5", "Ant-v5", "gymnasium:Ant-v5")


def reported(folder, envs=ENVS, **more):
    """Write a report of made-up runs, without figures; return its page."""
    finals = {("a", env): 100 + NOISE for env in envs}
    for name, values in EFFECTS.items():
        finals |= {(name, env): 100 + value + np.roll(NOISE, 1) for env, value in zip(envs, values, strict=False)}
    config = {name: {env: {"tau": 0.005} for env in envs} for name in "abc"}
    write_results(folder, made_up(finals, config=config, **{"seeds": list(range(6)), "backends": BOTH} | more))
    with figures_left_out():
        return write_report(folder)


def test_each_variant_has_a_sentence_with_the_outcome_on_every_task(tmp_path):
    page = reported(tmp_path / "made-up")
    b, c = page.answer.sentences
    assert page.answer.lead == "Against `a` on 2 tasks with EnvPool and Gymnasium:"
    assert b.startswith("`b`: over 2 tasks with EnvPool and Gymnasium **worse**, -0.41")
    assert "From EnvPool to Gymnasium, on Hopper-v5 the verdict **survives**, and the difference changes by 10 [" in b
    assert "; on Ant-v5 the verdict **survives**, and the difference changes by -15 [" in b
    assert "on Hopper-v5 the verdict **differs**, and the difference changes by 90 [" in c
    assert "on Ant-v5 the verdict is **not decided on both**, and the difference changes by 0 [" in c
    assert "tasks on 2 backends" in page.setting
    table = pd.read_csv(tmp_path / "made-up" / "tables" / "backends.csv")
    assert list(table["outcome"]) == ["survives", "survives", "differs", "not decided on both"]
    words = (tmp_path / "made-up" / "tables" / "backends.md").read_text()
    assert (
        "- c: From EnvPool to Gymnasium, on Hopper-v5 the verdict differs, and the difference changes by 90 [" in words
    )
    for report in ("report.md", "report.html"):
        assert "Change of backend" in (tmp_path / "made-up" / report).read_text()


def test_of_one_task_the_sentence_does_not_name_it(tmp_path):
    page = reported(tmp_path / "made-up", ENVS[:2])
    assert page.answer.lead == "Against `a` on Hopper-v5 with EnvPool and Gymnasium:"
    assert page.answer.sentences[0].startswith("`b`: on Hopper-v5 **worse**, -50 [")
    assert page.answer.sentences[0].rpartition("]")[2] == "."
    assert "All environments together" not in (tmp_path / "made-up" / "report.md").read_text()


def test_a_claim_says_whether_its_verdict_survives(tmp_path):
    claim = {"words": "a is best.", "source": "a paper", "expect": ["a > b", "a > c"], "margin": 0.1}
    page = reported(tmp_path / "made-up", ENVS[:2], claim=claim)
    of_b, of_c, of_claim = page.answer.sentences
    assert "the verdict **survives**" in of_b
    assert "the verdict **differs**" in of_c
    assert of_claim == "The claim's verdict **differs**: supported with EnvPool, mixed with Gymnasium."
    table = pd.read_csv(tmp_path / "made-up" / "tables" / "backends.csv")
    assert list(table["comparison"]) == ["a > b", "a > c"]


@pytest.mark.parametrize("backends", [(), ("envpool",)])
def test_without_a_second_backend_there_is_no_table(tmp_path, backends):
    folder = tmp_path / "made-up"
    page = reported(folder, ENVS[::2], backends=backends)
    (folder / "tables" / "backends.csv").write_text("of earlier results")
    with figures_left_out():
        assert write_report(folder).answer == page.answer
    assert not (folder / "tables" / "backends.csv").exists()
    assert "From EnvPool" not in " ".join(page.answer.sentences)
