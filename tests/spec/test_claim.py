"""Expectations of claims, read from text; and experiment files with a common part and a quick setting."""

import pytest

from sac_bench.errors import InputError
from sac_bench.results.manifest import ClaimRecord
from sac_bench.spec.claim import Claim, Side, expectation
from sac_bench.spec.experiment import ExperimentGroup
from sac_bench.spec.includes import files
from sac_bench.spec.load import load

VARIANTS = ("sac", "one-q", "tau=0.1")


def test_an_expectation_has_two_sides_and_a_relation():
    one = expectation("sac:area ~ tau=0.1:sampled", VARIANTS)
    assert (one.a, one.relation, one.b) == (Side("sac", "area"), "~", Side("tau=0.1", "sampled"))
    assert str(one) == "sac:area ~ tau=0.1:sampled"


@pytest.mark.parametrize(("less", "more"), [("one-q < sac", "sac > one-q"), ("one-q <= sac", "sac >= one-q")])
def test_less_than_is_read_as_greater_than_with_sides_swapped(less, more):
    assert str(expectation(less, VARIANTS)) == more


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sac>one-q", "with spaces"),
        ("sac > one_q", "no variant 'one_q'; did you mean 'one-q'?"),
        ("sac == one-q", "must be"),
        ("sac:aera > one-q:area", "no measure 'aera'; did you mean 'area'?"),
        ("sac > sac:score", "both sides are the same"),
    ],
)
def test_bad_input_an_invalid_expectation_is_refused(text, words):
    with pytest.raises(InputError, match=words.replace("?", r"\?")):
        expectation(text, VARIANTS)


COMMON = """
envs = ["Hopper-v5", "Ant-v5"]
seeds = 10
steps = 100000
margin = 0.1
[base]
gamma = 0.98
[quick]
envs = ["Hopper-v5", "Walker2d-v5"]
steps = 20000
[quick.base]
learning_starts = 1000
"""
CLAIM = """
name = "qs"
common = "_common.toml"
claim = "Two are better."
source = "a paper"
refuted_by = "One is as good."
margin = 0.2
expect = ["sac > one-q", "sac >= one-q:sampled"]
grows = ["Hopper-v5", "Ant-v5"]
[variants.sac]
[variants.sac.on.Ant-v5]
tau = 0.01
[variants.one-q]
critics = 1
eval_sampled_every = 1
[quick]
seeds = 5
grows = ["Hopper-v5", "Walker2d-v5"]
[quick.variants.one-q]
tau = 0.02
"""

PLAYED = "eval_sampled_every = 1"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "_common.toml").write_text(COMMON)
    (tmp_path / "qs.toml").write_text(CLAIM)
    return tmp_path


def test_a_file_overrides_its_common_part_and_quick_overrides_both(folder):
    full, quick = (load(folder / "qs.toml", quick=quick) for quick in (False, True))
    assert (full.name, full.envs, full.steps, len(full.seeds)) == ("qs", ("Hopper-v5", "Ant-v5"), 100000, 10)
    assert (quick.name, quick.envs, quick.steps, len(quick.seeds)) == (
        "qs-quick",
        ("Hopper-v5", "Walker2d-v5"),
        20000,
        5,
    )
    config = quick.variants["one-q"].configs["Hopper-v5"]
    assert (config.gamma, config.learning_starts, config.critics, config.tau) == (0.98, 1000, 1, 0.02)
    assert full.variants["one-q"].configs["Hopper-v5"].tau == 0.005
    assert full.variants["sac"].configs["Ant-v5"].tau == 0.01
    assert full.question == full.claim.words == "Two are better."
    assert full.claim.margin == 0.2  # its own, not the common one


def test_later_common_files_override_earlier_ones_and_variants_keep_their_order(folder):
    (folder / "_more.toml").write_text("[variants.more]\ncritics = 3\n[base]\ngamma = 0.97\n")
    (folder / "qs.toml").write_text(CLAIM.replace('"_common.toml"', '["_common.toml", "_more.toml"]'))
    loaded = load(folder / "qs.toml")
    assert list(loaded.variants)[-1] == "more"
    assert loaded.variants["more"].configs["Hopper-v5"].critics == 3
    assert loaded.variants["sac"].configs["Hopper-v5"].gamma == 0.97


def test_the_common_part_may_set_options_for_an_environment(folder):
    with open(folder / "_common.toml", "a", encoding="utf-8") as file:
        file.write("[on.Ant-v5]\ntau = 0.03\n")
    assert load(folder / "qs.toml").variants["one-q"].configs["Ant-v5"].tau == 0.03
    assert load(folder / "qs.toml", quick=True).variants["one-q"].configs["Hopper-v5"].tau == 0.02
    with open(folder / "_common.toml", "a", encoding="utf-8") as file:
        file.write("[on.Antt-v5]\ntau = 0.03\n")
    with pytest.raises(InputError, match=r"Antt-v5.*must be one of envs; did you mean 'Ant-v5'"):
        load(folder / "qs.toml")


def test_quick_requires_more_than_common_settings_of_variants(folder):
    """A common file may say how small networks set a variant. That does not make a full-size experiment quick."""
    (folder / "_one-q.toml").write_text("[variants.one-q]\ncritics = 1\n[quick.variants.one-q]\ntau = 0.02\n")
    path, full = folder / "full.toml", 'name = "full"\nreference = "sac"\n{}\n[variants.sac]\n[variants.one-q]\n'
    path.write_text(full.format('common = "_one-q.toml"\nenvs = ["Ant-v5"]\nseeds = 5\nsteps = 100000'))
    assert load(path).variants["one-q"].configs["Ant-v5"].critics == 1
    with pytest.raises(InputError, match=r"full\.toml: --quick requires a \[quick\] table$"):
        load(path, quick=True)
    (folder / "full-quick.toml").write_text("")
    with pytest.raises(InputError, match=r"\[quick\] table; the quick form is an experiment of its own: full-quick$"):
        load(path, quick=True)
    path.write_text(path.read_text() + "[quick]\nsteps = 20000\n")
    assert load(path, quick=True).variants["one-q"].configs["Ant-v5"].tau == 0.02
    path.write_text(full.format('common = "_common.toml"'))  # whose [quick] has environments and steps
    assert load(path, quick=True).steps == 20000


def test_a_claim_can_be_read_back_without_its_file(folder):
    claim = load(folder / "qs.toml").claim
    assert Claim.from_plain(claim.as_plain(), VARIANTS) == claim
    assert claim.as_plain()["refuted_by"] == "One is as good."


def test_a_recorded_claim_without_refuted_by_can_be_read(folder):
    recorded = load(folder / "qs.toml").claim.as_plain()
    del recorded["refuted_by"]
    assert ClaimRecord.model_validate(recorded).refuted_by == ""
    assert Claim.from_plain(recorded, VARIANTS).refuted_by == ""


@pytest.mark.parametrize("relation", [">", ">=", "~"])
def test_measures_with_their_own_margin_require_no_margin_in_the_file(folder, relation):
    text = CLAIM.replace("sac >= one-q:sampled", f"sac:largest_fall {relation} one-q:largest_fall")
    (folder / "qs.toml").write_text(text.replace("margin = 0.2\n", ""))
    assert load(folder / "qs.toml").claim.expect[1].relation == relation


def test_a_claim_is_dropped_unless_all_its_variants_are_requested(folder):
    assert load(folder / "qs.toml", variants=["sac", "one-q"]).claim
    assert load(folder / "qs.toml", variants=["sac"]).claim is None


def test_growth_is_dropped_unless_both_its_environments_are_requested(folder):
    assert load(folder / "qs.toml", envs=["Ant-v5", "Hopper-v5"]).claim.grows
    assert load(folder / "qs.toml", envs=["Ant-v5"]).claim.grows is None


def test_an_expectation_may_be_about_one_environment(folder):
    text = CLAIM.replace("sac >= one-q:sampled", "sac ~ one-q on Ant-v5").split("[quick]")[0]
    (folder / "qs.toml").write_text(text)
    everywhere, in_one = load(folder / "qs.toml").claim.expect
    assert (everywhere.env, in_one.env, str(in_one)) == (None, "Ant-v5", "sac ~ one-q on Ant-v5")
    assert load(folder / "qs.toml", envs=["Hopper-v5"]).claim.expect == (everywhere,)
    (folder / "qs.toml").write_text(text.replace('"sac > one-q", ', "").replace("grows", "# grows"))
    assert load(folder / "qs.toml", envs=["Hopper-v5"]).claim is None


def test_bad_input_a_common_part_that_includes_another(folder):
    (folder / "_common.toml").write_text('common = "other.toml"\n' + COMMON)
    with pytest.raises(InputError, match=r"_common.toml: common: an included file cannot include another"):
        load(folder / "qs.toml")


def test_a_folder_means_all_experiments_in_it(folder):
    assert files([folder, folder / "qs.toml"]) == [folder / "qs.toml"]
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match="no experiment files in this folder"):
        files([folder / "empty"])


def test_several_experiments_share_identical_runs(folder):
    (folder / "other.toml").write_text(CLAIM.replace('"qs"', '"other"').replace("critics = 1", "critics = 3"))
    both = ExperimentGroup(tuple(load(path) for path in files([folder])))
    ids = [spec.id for _, spec in both.runs()]
    assert len(ids) == 2 * 2 * 2 * 10
    assert len(set(ids)) == 3 * 2 * 10  # sac is the same in both


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('source = "a paper"', "", "source: is required with claim"),
        ('expect = ["sac > one-q", "sac >= one-q:sampled"]', "", "expect: is required with claim"),
        ('claim = "Two are better."', "", "claim: is required with expect"),
        ('refuted_by = "One is as good."', "", "refuted_by: is required with claim"),
        (
            "sac >= one-q:sampled",
            "sac >= one-q:gradient_variance_reparameterised",
            "compares measures of different units: return and log10 variance",
        ),
        ('grows = ["Hopper-v5", "Ant-v5"]', 'grows = ["Hopper-v5", "Walker2d-v5"]', "must be two of envs"),
        ('grows = ["Hopper-v5", "Ant-v5"]', 'grows = ["Ant-v5", "Ant-v5"]', "must be two of envs"),
        ("sac > one-q", "sac:weak_seed > one-q:weak_seed", "grows: the first expectation must compare returns"),
        ("sac >= one-q:sampled", "sac:spread > one-q:spread", "no measure 'spread'; did you mean"),
        ("sac >= one-q:sampled", "sac >= one-q on Hoper-v5", "must be one of envs; did you mean 'Hopper-v5'?"),
        ("sac >= one-q:sampled", "sac >= one-q in Hopper-v5", 'or "a > b on ENV"'),
        ("_common.toml", "_comon.toml", "no such file; did you mean '_common.toml'?"),
    ],
)
def test_bad_input_in_claims_is_one_line_with_the_key(folder, old, new, words):
    assert old in CLAIM
    (folder / "qs.toml").write_text(CLAIM.replace(old, new, 1))
    with pytest.raises(InputError) as error:
        load(folder / "qs.toml")
    assert words in str(error.value)


def test_bad_input_no_worse_in_returns_requires_a_margin(folder):
    (folder / "_common.toml").write_text(COMMON.replace("margin = 0.1\n", ""))
    (folder / "qs.toml").write_text(CLAIM.replace("margin = 0.2\n", ""))
    with pytest.raises(InputError, match="margin is required with '>='"):
        load(folder / "qs.toml")


def test_bad_input_refuted_by_requires_a_claim(folder):
    lines = [line for line in CLAIM.splitlines() if not line.startswith(("claim", "expect", "grows", "source"))]
    (folder / "qs.toml").write_text("\n".join(lines))
    with pytest.raises(InputError, match="claim: is required with refuted_by"):
        load(folder / "qs.toml")


def test_bad_input_quick_requires_a_quick_table(tmp_path):
    path = tmp_path / "plain.toml"
    path.write_text('name = "plain"\nenvs = ["Hopper-v5"]\nsteps = 20000\n')
    with pytest.raises(InputError, match=r"--quick requires a \[quick\] table"):
        load(path, quick=True)


@pytest.mark.parametrize("set_to", ["", "eval_sampled_every = 0", "eval_sampled_every = 2"])
def test_bad_input_a_claim_about_sampled_actions_requires_them_in_every_evaluation(folder, set_to):
    (folder / "qs.toml").write_text(CLAIM.replace(PLAYED, set_to))
    with pytest.raises(InputError, match=r"expect: one-q:sampled: requires .* set eval_sampled_every = 1 for one-q"):
        load(folder / "qs.toml")
    with pytest.raises(InputError, match="set eval_sampled_every = 1 for one-q, not"):
        load(folder / "qs.toml", settings=["eval_sampled_every=3"])


def test_an_algorithm_scored_by_sampled_actions_always_plays_them(folder):
    (folder / "qs.toml").write_text(CLAIM.replace(PLAYED, 'algorithm = "sql"'))
    assert load(folder / "qs.toml").claim
