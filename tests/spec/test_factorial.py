"""Factorial designs in files: the variants that they make, and what is refused."""

import pytest

from sac_bench.errors import InputError
from sac_bench.spec.load import load

FILE = """
name = "crossed"
envs = ["InvertedPendulum-v5"]
seeds = 2
steps = 2000
[base]
learning_starts = 500
[factorial]
fraction = "{fraction}"
[factorial.factors.v]
label = "V network"
high = {{ value_network = true }}
[factorial.factors.tau]
low = {{ tau = 0.01 }}
high = {{ tau = 0.1, target_period = 2 }}
[factorial.factors.one-q]
high = {{ critics = 1 }}
"""


@pytest.fixture
def loaded(tmp_path):
    def of(text, **changes):
        path = tmp_path / "crossed.toml"
        path.write_text(text)
        return load(path, **changes)

    return of


def test_every_combination_is_a_variant_with_the_options_of_its_levels(loaded):
    experiment = loaded(FILE.format(fraction="full"))
    assert list(experiment.variants) == ["base", "one-q", "tau", "tau+one-q", "v", "v+one-q", "v+tau", "v+tau+one-q"]
    assert experiment.reference == "base"
    config = experiment.variants["v+tau"].configs["InvertedPendulum-v5"]
    assert (config.value_network, config.tau, config.target_period, config.critics) == (True, 0.1, 2, 2)
    config = experiment.variants["one-q"].configs["InvertedPendulum-v5"]
    assert (config.value_network, config.tau, config.target_period, config.critics) == (False, 0.01, 1, 1)
    assert experiment.factorial.factors == {"v": "V network", "tau": "tau", "one-q": "one-q"}
    assert experiment.factorial.cells["v+tau"] == ("v", "tau")


def test_half_of_the_combinations_has_every_pair_of_levels_equally_often(loaded):
    cells = loaded(FILE.format(fraction="half")).factorial.cells
    assert list(cells) == ["base", "tau+one-q", "v+one-q", "v+tau"]
    for a, b in (("v", "tau"), ("v", "one-q"), ("tau", "one-q")):
        assert sorted((a in high, b in high) for high in cells.values()) == [
            (False, False),
            (False, True),
            (True, False),
            (True, True),
        ]


def test_some_of_the_variants_are_no_design(loaded):
    assert loaded(FILE.format(fraction="full"), variants=["base", "tau"]).factorial is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("critics = 1", "tau = 0.2"), r"\[factorial.factors.one-q\]: tau is also set by tau"),
        (("critics = 1", "critcs = 1"), r"\[factorial.factors.one-q\] critcs: sac has no such option.*critics"),
        (("seeds = 2", 'seeds = "5..12"'), r"seeds: must be fixed with \[factorial\], not a range"),
        (("critics = 1", "critics = 2"), r"base and one-q have the same runs"),
        (("critics = 1", "steps = 3000"), r"base and one-q have the same runs"),
        (("one-q", "base"), r"\[factorial.factors.base\]: 'base' is the variant with all factors at their low level"),
        (("one-q", "'a+b'"), r"\[factorial.factors.a\+b\]: 'a\+b' is not a plain name"),
        (("[factorial]\n", "[variants.sac]\n[factorial]\n"), r"makes the variants itself; remove variants"),
        (("high = { critics = 1 }", "low = { critics = 1 }"), r"\[factorial.factors.one-q\]: high: is required"),
    ],
)
def test_invalid_designs_are_refused_with_the_reason(loaded, change, message):
    text = FILE.format(fraction="full").replace(*change)
    with pytest.raises(InputError, match=message):
        loaded(text)
