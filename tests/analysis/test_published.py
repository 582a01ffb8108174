"""Published scores: well-formed, cited, and shown only next to comparable scores."""

import re
from pathlib import Path

import pytest

from sac_bench.analysis.published import METRICS, citations, comparable, family, for_env, in_words, published

DOCUMENT = (Path(__file__).parents[2] / "docs" / "published.md").read_text()


def test_every_row_is_well_formed():
    rows = published()
    assert str(len(rows)) in DOCUMENT.splitlines()[2]
    assert set(rows["algorithm"]) == {"SAC", "SAC-v1", "SAC-v2", "TD3", "DDPG", "PPO", "A2C"}
    assert set(rows["metric"]) == set(METRICS)
    tasks = rows["env"].str.replace(r"-v[1-5]$", "", regex=True)
    assert set(tasks) == {"HalfCheetah", "Hopper", "Walker2d", "Ant", "Humanoid", "Swimmer"}
    assert rows["mean"].notna().all()
    assert (rows["steps"] > 0).all()
    assert ((rows["mean"] * 100).round(6) % 1 == 0).all()
    assert (rows["spread"].notna() == (rows["spread_kind"] == "std")).all()
    assert set(rows["spread_kind"]) == {"std", "none", "iqm"}
    assert rows.loc[rows["spread_kind"] == "iqm", "note"].str.contains("95% interval").all()
    assert not rows.duplicated(["algorithm", "env", "steps", "metric", "source"]).any()


def test_well_known_numbers_are_correct():
    rows = published().set_index(["source", "algorithm", "env", "steps", "metric"]).sort_index()
    assert rows.loc[("simbav2", "SAC", "HalfCheetah-v4", 1_000_000, "final_eval"), "mean"].item() == 11320.94
    v5 = rows.loc[("xuance", "SAC", "Ant-v5", 1_000_000, "final_eval")].squeeze()
    assert (v5["seeds"], "3 of 5 runs unfinished" in v5["note"]) == (2, True)
    td3 = rows.loc[("td3_author", "TD3", "HalfCheetah-v1", 1_000_000, "max_over_curve")].squeeze()
    assert (td3["mean"], td3["spread"], td3["seeds"]) == (9636.95, 859.06, 10)  # arXiv 1802.09477, Table 1


def test_every_source_is_cited_in_full_and_every_citation_is_used():
    assert set(published()["source"]) == set(citations())
    for source, citation in citations().items():
        assert f"| `{source}` | {citation} |" in DOCUMENT
        assert re.search(r"github\.com/\S+, .+, commit [0-9a-f]{40}, \S", citation)


@pytest.mark.parametrize(
    ("env", "ids"),
    [
        ("HalfCheetah-v5", {"HalfCheetah-v5", "HalfCheetah-v4"}),
        ("gymnasium:HalfCheetah-v5", {"HalfCheetah-v5", "HalfCheetah-v4"}),
        ("Swimmer-v4", {"Swimmer-v5", "Swimmer-v4"}),
        ("HalfCheetah-v3", {"HalfCheetah-v3"}),
        ("Hopper-v5", {"Hopper-v5"}),
        ("Ant-v4", {"Ant-v4"}),
        ("HumanoidWalk-v1", {"HumanoidWalk-v1"}),
        ("mine:HalfCheetah-v5", {"mine:HalfCheetah-v5"}),
    ],
)
def test_an_environment_is_compared_only_with_comparable_versions(env, ids):
    assert set(comparable(env)) == ids


def test_rows_of_an_environment_are_marked_if_their_steps_are_near():
    rows = for_env("HalfCheetah-v5", 1_000_000)
    assert set(rows["env"]) == {"HalfCheetah-v4", "HalfCheetah-v5"}
    assert set(rows.loc[rows["near"], "steps"]) == {1_000_000}
    assert {300_000, 3_000_000} <= set(rows.loc[~rows["near"], "steps"])
    ant = for_env("Ant-v4", 1_000_000).set_index("steps")
    assert ant.loc[983_040, "near"]  # 1.7% off
    assert not for_env("Ant-v4", 1_004_000).set_index("steps").loc[983_040, "near"]  # 2.1% off
    assert for_env("HumanoidWalk-v1", 1_000_000).empty
    assert set(for_env("Ant-v5", 1).source) == {"slm_lab", "xuance"}  # rl_games observes something else


def test_algorithm_families_and_step_counts_have_short_names():
    assert [family(name) for name in ("SAC-v1", "SAC", "PPO")] == ["sac", "sac", "ppo"]
    assert [in_words(n) for n in (50, 20_000, 983_040, 1_000_000, 3_072_000)] == ["50", "20k", "983k", "1M", "3.072M"]
