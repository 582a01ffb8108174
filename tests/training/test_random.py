"""Threefry against its published answers, and draws as functions of (seed, purpose, counter) alone."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sac_bench.training.random import Draws, WordsAhead, derived_seeds, threefry2x32, uniform

# Random123 1.14, tests/kat_vectors: threefry2x32, 20 rounds: counter, key, result.
KNOWN = [
    ((0x00000000, 0x00000000), (0x00000000, 0x00000000), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
]


@pytest.mark.parametrize(("counter", "key", "result"), KNOWN)
def test_threefry_agrees_with_published_answers(counter, key, result):
    def pair(words):
        return tuple(torch.tensor(word).to(torch.int32) for word in words)

    assert tuple(int(word) % 2**32 for word in threefry2x32(pair(key), pair(counter))) == result


def draws_of(seeds, shapes, step=3, dtype=torch.float32):
    return Draws(shapes, dtype).at(torch.tensor(seeds), step)


@given(st.lists(st.integers(0, 2**32 - 1), min_size=2, max_size=6), st.integers(0, 2**40))
def test_threefry_draws_do_not_depend_on_neighbours(seeds, step):
    together = draws_of(seeds, {"a": (3, 5), "b": (7,)}, step)
    for m, seed in enumerate(seeds):
        alone = draws_of([seed], {"b": (7,)}, step)
        assert torch.equal(together.normal("b")[m], alone.normal("b")[0])
        assert torch.equal(together.integers("b", 1000)[m], alone.integers("b", 1000)[0])


@given(
    st.integers(1, 3), st.integers(1, 60_000), st.lists(st.integers(0, 2**33), min_size=1, max_size=6), st.booleans()
)
def test_threefry_words_computed_ahead_equal_those_of_each_step(members, size, steps, in_turn):
    steps = [steps[0] + t for t in range(len(steps))] if in_turn else steps
    draws, seeds = Draws({"a": (size,), "b": (3,)}), torch.arange(members)
    ahead = WordsAhead(draws, seeds)
    first = ahead.at(steps[0])
    for step in steps:
        assert ahead.at(step) is first
        assert torch.equal(first, draws.words(seeds, step)[0])


def test_threefry_a_longer_draw_begins_with_the_shorter_one():
    assert torch.equal(draws_of([5], {"a": (9,)}).normal("a")[0, :4], draws_of([5], {"a": (4,)}).normal("a")[0])


def test_threefry_draws_differ_by_seed_purpose_and_step():
    shapes = {"a": (64,), "b": (64,)}
    base = draws_of([1], shapes)
    others = [base.normal("b"), draws_of([2], shapes).normal("a"), draws_of([1], shapes, step=4).normal("a")]
    for other in others:
        assert abs(np.corrcoef(base.normal("a")[0], other[0])[0, 1]) < 0.5


def test_threefry_draws_have_the_stated_distributions():
    moment = draws_of([11], {"x": (100_000,)}, dtype=torch.float64)
    assert stats.kstest(moment.normal("x")[0].numpy(), "norm").pvalue > 1e-3
    assert stats.kstest(moment.uniform("x")[0].numpy(), "uniform").pvalue > 1e-3
    counts = np.bincount(moment.integers("x", 7)[0].numpy(), minlength=7)
    assert stats.chisquare(counts).pvalue > 1e-3
    assert moment.normal("x").isfinite().all()
    assert 0 <= moment.uniform("x").min() <= moment.uniform("x").max() < 1


def test_threefry_float32_normals_are_always_finite():
    assert draws_of(list(range(64)), {"x": (20_000,)}).normal("x").isfinite().all()


def test_neighbouring_runs_share_no_derived_seed():
    seeds = [s for run in range(50) for s in derived_seeds(run, "environments", 0, 8)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= s < 2**31 for s in seeds)


def test_initial_uniforms_do_not_depend_on_their_number():
    assert torch.equal(uniform(3, "init/w", (6,), torch.float32)[:4], uniform(3, "init/w", (4,), torch.float32))
