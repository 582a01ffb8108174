"""Seeds of an experiment: fixed, or a range within which undecided comparisons get more."""

import pytest

from sac_bench.errors import InputError
from sac_bench.spec.load import load
from sac_bench.spec.seeds import typed
from sac_bench.tuning import study as studies
from tests.conftest import EXPERIMENT
from tests.spec.test_choose import FILE as CHOOSE

ENV = "InvertedPendulum-v5"
RANGE = EXPERIMENT.replace("seeds = 2", 'seeds = "5..12"')
CLAIM = """
claim = "It is better."
source = "a paper"
refuted_by = "It is worse."
expect = "v-network > sac"
"""


@pytest.fixture
def write(tmp_path):
    def written(text, **options):
        path = tmp_path / "seeds.toml"
        path.write_text(text)
        return load(path, **options)

    return written


def counts(experiment):
    """Return {variant: its seeds} from the runs alone."""
    seeds = {}
    for variant, spec in experiment.runs():
        seeds.setdefault(variant.name, []).append(spec.seed)
    return seeds


def test_a_range_begins_with_its_first_look_and_twice_the_seeds_for_the_reference(write):
    experiment = write(RANGE)
    assert str(experiment.seed_range) == "5..12"
    assert experiment.seed_range.looks == (5, 8, 12)
    assert counts(experiment) == {
        "sac": list(range(10)),
        **{name: list(range(5)) for name in ("v-network", "tau=0.005", "tau=1")},
    }
    assert experiment.seeds == tuple(range(10))


def test_in_a_claim_all_variants_have_the_same_number_of_seeds(write):
    experiment = write(RANGE.replace("[base]", CLAIM + "[base]"))
    assert {name: len(seeds) for name, seeds in counts(experiment).items()} == dict.fromkeys(experiment.variants, 5)
    alone = write(RANGE.replace("[base]", CLAIM + "[base]"), variants=["sac", "tau=1"])
    assert {name: len(seeds) for name, seeds in counts(alone).items()} == {"sac": 10, "tau=1": 5}


def test_a_range_overrides_fixed_seeds_and_vice_versa(write, tmp_path):
    quick = EXPERIMENT + '[quick]\nseeds = "8..20"\n'
    assert write(quick).seed_range is None
    assert str(write(quick, quick=True).seed_range) == "8..20"
    assert str(write(EXPERIMENT, seeds="5..8").seed_range) == "5..8"
    fixed = write(RANGE, seeds=3)
    assert (fixed.seed_range, fixed.seeds, fixed.allotment) == (None, (0, 1, 2), {})
    assert list(counts(fixed).values()) == [[0, 1, 2]] * 4


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("5", 5),
        ("0,1,2", [0, 1, 2]),
        ("3, 7", [3, 7]),
        ("4,", [4]),
        ("0..2", [0, 1, 2]),
        ("5..30", "5..30"),
        ("x", "x"),
    ],
)
def test_the_command_line_accepts_the_same_seeds_as_files(text, seeds, write):
    assert typed(text) == seeds
    if isinstance(seeds, list):
        assert write(EXPERIMENT, seeds=seeds).seeds == tuple(seeds)


def test_a_range_that_may_mean_single_seeds_is_refused_with_a_fix(write):
    with pytest.raises(InputError, match=r"'0\.\.9': a range is of the number of seeds .* use 10 for so many seeds"):
        write(EXPERIMENT, seeds="0..9")
    with pytest.raises(InputError, match=r"or a list for single ones, such as 1,4"):
        write(EXPERIMENT, seeds="1..4")


def test_variants_with_more_seeds_keep_their_runs_and_others_do_not_change(write):
    experiment = write(RANGE)
    raised = experiment.with_seeds({(ENV, "tau=1"): 8, (ENV, "sac"): 16})
    assert {name: len(seeds) for name, seeds in counts(raised).items()} == {
        "sac": 16,
        "v-network": 5,
        "tau=0.005": 5,
        "tau=1": 8,
    }
    assert raised.seeds_of(ENV, "tau=1") == tuple(range(8))
    assert raised.seeds == tuple(range(16))
    before, after = ({spec.id for _, spec in one.runs()} for one in (experiment, raised))
    assert before < after
    assert counts(experiment)["tau=1"] == [0, 1, 2, 3, 4]  # unchanged


@pytest.mark.parametrize(("cell", "seeds"), [("tau=1", 4), ("tau=1", 13), ("sac", 25)])
def test_seeds_cannot_be_removed_or_exceed_the_range(write, cell, seeds):
    experiment = write(RANGE)
    with pytest.raises(ValueError, match=f"{cell} on {ENV}: {seeds} seeds"):
        experiment.with_seeds({(ENV, cell): seeds})
    experiment.with_seeds({(ENV, "sac"): 24})


@pytest.mark.parametrize(
    ("seeds", "words"),
    [
        ("5..31", "verdicts are computed at 5, 8, 12"),
        ("3..8", "not at 3; use 5 or 8"),
        ("12..5", "the first number must not be above the second"),
        ("5-12", "must be a number, a list of seeds or a range"),
        ("5", "must be a number, a list of seeds or a range"),
        ("", "must be a number, a list of seeds or a range"),
        ("5.." + "9" * 5000, "seeds: '5..9999"),
    ],
)
def test_an_invalid_range_is_refused(write, seeds, words):
    with pytest.raises(InputError) as raised:
        write(EXPERIMENT.replace("seeds = 2", f'seeds = "{seeds}"'))
    assert "seeds.toml:5: seeds: " in str(raised.value)
    assert words in str(raised.value)


def test_the_limit_of_runs_counts_the_largest_case_of_a_range(write):
    many = RANGE.replace("[0.005, 1.0]", str([0.001 * i for i in range(1, 39)]))
    assert len(write(many, seeds="5..200").runs()) == 41 * 5  # up to 41 * 200 = 8,200
    with pytest.raises(InputError, match="make up to 12,300 runs; the maximum is 10,000"):
        write(many, seeds="5..300")


def test_selection_seeds_must_not_overlap_a_range(write):
    ranged = CHOOSE.replace("seeds = 5", 'seeds = "5..12"')
    selection = write(ranged.replace("seeds = 2", "seeds = [24, 25]")).selection()
    assert selection.seed_range is None
    assert {spec.seed for _, spec in selection.runs()} == {24, 25}
    with pytest.raises(InputError, match="seeds: 23 is also a seed of the comparison"):
        write(ranged.replace("seeds = 2", "seeds = [23, 24]"))
    with pytest.raises(InputError, match=r"\[choose\]: seeds: must be a number or a list here, not '5..8'"):
        write(CHOOSE.replace("seeds = 2", 'seeds = "5..8"'))


@pytest.mark.parametrize("where", ["seeds", "[held_out]\nseeds"])
def test_a_study_refuses_a_range_of_seeds(tmp_path, where):
    text = 'name = "s"\nenvs = ["Hopper-v5"]\nsteps = 20000\ntrials = 4\npruner = "none"\n'
    space = "[space]\ntau = [0.001, 0.1]\n"
    text = text + f'{where} = "5..8"\n' + space if where == "seeds" else text + space + f'{where} = "5..8"\n'
    (tmp_path / "study.toml").write_text(text)
    with pytest.raises(InputError, match=r"seeds: must be a number or a list here, not '5..8'"):
        studies.load(tmp_path / "study.toml")


def test_seeds_of_the_command_line_are_parsed():
    assert [typed(text) for text in ("5", "-1", "5..8", "x", "")] == [5, -1, "5..8", "x", ""]


def test_a_reference_factor_multiplies_the_references_seeds_fixed_or_ranged(write):
    fixed = write(EXPERIMENT.replace("seeds = 2", "seeds = 2\nreference_factor = 4\nfirst_seed = 100"))
    assert counts(fixed) == {
        "sac": list(range(100, 108)),
        **{name: [100, 101] for name in ("v-network", "tau=0.005", "tau=1")},
    }
    ranged = write(RANGE.replace("seeds = ", "reference_factor = 3\nfirst_seed = 7\nseeds = "))
    assert counts(ranged)["sac"] == list(range(7, 22))
    assert counts(ranged)["tau=1"] == list(range(7, 12))
    raised = ranged.with_seeds({(ENV, "tau=1"): 8, (ENV, "sac"): 24})
    assert counts(raised)["tau=1"] == list(range(7, 15))
    assert counts(raised)["sac"] == list(range(7, 31))


@pytest.mark.parametrize(
    ("seeds", "words"),
    [
        ("reference_factor = 2\nseeds = [1, 2]", "reference_factor: must be 1, because seeds is a list"),
        ("first_seed = 5\nseeds = [1, 2]", "first_seed: requires a number or a range of seeds, not a list"),
    ],
)
def test_a_list_of_seeds_refuses_reference_factor_and_first_seed(write, seeds, words):
    with pytest.raises(InputError, match=words):
        write(EXPERIMENT.replace("seeds = 2", seeds))


def test_a_list_of_seeds_on_the_command_line_applies_to_all_variants(write):
    text = EXPERIMENT.replace("seeds = 2", "seeds = 2\nreference_factor = 4\nfirst_seed = 100")
    assert set(map(tuple, counts(write(text, seeds=[3, 7])).values())) == {(3, 7)}


def test_a_claim_refuses_a_reference_factor(write):
    with pytest.raises(InputError, match="reference_factor: must be 1, because a claim compares any two variants"):
        write(RANGE.replace("seeds = ", "reference_factor = 3\nseeds = ").replace("[base]", CLAIM + "[base]"))


def test_a_reference_factor_requires_the_files_reference_and_another_variant(write):
    text = EXPERIMENT.replace("seeds = 2", "seeds = 2\nreference_factor = 4")
    assert counts(write(text, variants=["tau=1"])) == {"tau=1": [0, 1]}
    assert counts(write(text, variants=["sac"], seeds=3)) == {"sac": [0, 1, 2]}
    assert counts(write(text, variants=["v-network", "tau=1"])) == {"v-network": [0, 1], "tau=1": [0, 1]}
    assert counts(write(text, variants=["sac", "tau=1"])) == {"sac": list(range(8)), "tau=1": [0, 1]}
