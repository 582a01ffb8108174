"""The replay against a plain list of transitions."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sac_bench.envs.pool import Step
from sac_bench.training.replay import Replay, transitions

M, N, D, A = 2, 2, 3, 1


class Stream:
    """Made-up vector steps in which every observation is unlike every other."""

    def __init__(self, seed: int, ends: float) -> None:
        self.random, self.ends, self.count = np.random.default_rng(seed), ends, 0
        self.observation = self._fresh()

    def _fresh(self):
        self.count += 1
        return np.float32(self.count) + np.arange(M * N * D, dtype=np.float32).reshape(M * N, D) / 100

    def next(self):
        action = self.random.uniform(-1, 1, (M * N, A)).astype(np.float32)
        terminated = self.random.random(M * N) < self.ends
        truncated = (self.random.random(M * N) < self.ends) & ~terminated
        before, final = self.observation, self._fresh()
        after = np.where((terminated | truncated)[:, None], self._fresh(), final)
        self.observation = after
        return (
            before,
            action,
            Step(after, final, self.random.normal(size=M * N).astype(np.float32), terminated, truncated),
        )


def filled(rows, capacity, seed=0, ends=0.1):
    stream, replay = Stream(seed, ends), Replay(M, N, D, A, capacity)
    replay.start(stream.observation)
    history = []
    for _ in range(rows):
        before, action, step = stream.next()
        replay.add(action, step)
        history.append((before, action, step))
    return replay, history


def expected(history, k, row, n_step):
    """One environment's n-step transition, written as a loop."""
    rewards, last = [], row
    for last in range(row, min(row + n_step, len(history))):
        step = history[last][2]
        rewards.append(step.reward[k])
        if step.terminated[k] or step.truncated[k]:
            break
    step = history[last][2]
    return (
        history[row][0][k],
        history[row][1][k],
        rewards,
        len(rewards),
        step.terminated[k],
        step.final_observation[k],
    )


@given(
    st.integers(1, 60),
    st.sampled_from([8, 20, 200]),
    st.integers(0, 1000),
    st.sampled_from([0.0, 0.1, 0.5]),
    st.sampled_from([1, 3]),
)
def test_samples_are_the_transitions_that_were_added(rows, capacity, seed, ends, n_step):
    replay, history = filled(rows, capacity, seed, ends)
    kept = min(rows, capacity // N)
    assert replay.filled == kept
    indices = torch.from_numpy(np.stack([np.random.default_rng(m).permutation(kept * N) for m in range(M)]))
    batch = {name: part.numpy() for name, part in transitions(replay.memory(), indices, n_step).items()}
    for m in range(M):
        for b, index in enumerate(indices[m].tolist()):
            k, row = m * N + index % N, len(history) - kept + index // N
            observation, action, rewards, length, terminated, final = expected(history, k, row, n_step)
            np.testing.assert_array_equal(batch["observation"][m, b], observation)
            np.testing.assert_array_equal(batch["action"][m, b], action)
            np.testing.assert_array_equal(batch["reward"][m, b, :length], rewards)
            assert not batch["reward"][m, b, length:].any()
            assert batch["length"][m, b] == length
            assert batch["terminated"][m, b] == terminated
            if not terminated:
                np.testing.assert_array_equal(batch["next_observation"][m, b], final)


@given(st.integers(1, 50), st.sampled_from([8, 24, 200]), st.integers(1, 17))
def test_saved_rows_restore_the_same_samples(rows, capacity, chunk):
    stream, original = Stream(3, 0.2), Replay(M, N, D, A, capacity)
    original.start(stream.observation)
    restored, saved = Replay(M, N, D, A, capacity), []
    for row in range(1, rows + 1):
        _, action, step = stream.next()
        original.add(action, step)
        if row % chunk == 0 or row == rows:
            start = max(row - ((row - 1) % chunk + 1), row - original.rows)
            saved.append((start, original.slice(start, row)))
    for start, part in saved:
        restored.written = start
        restored.extend(part, torch.as_tensor(stream.observation).reshape(M, N, D))
    assert restored.written == original.written
    indices = torch.arange(original.filled * N).repeat(M, 1)
    for n_step in (1, 3):
        one, other = (transitions(replay.memory(), indices, n_step) for replay in (original, restored))
        alive = one["terminated"] == 0
        for name in one:
            where = alive if name == "next_observation" else torch.ones_like(alive)
            assert torch.equal(one[name][where], other[name][where]), name


def test_truncating_every_step_grows_the_side_ring_only_to_what_can_be_sampled():
    replay, _ = filled(500, 40, ends=0.0)
    assert replay.final.shape[1] == 16
    stream, replay = Stream(0, 0.0), Replay(M, N, D, A, 40)
    replay.start(stream.observation)
    for _ in range(500):
        _, action, step = stream.next()
        replay.add(action, step._replace(truncated=np.ones(M * N, dtype=bool)))
    assert 40 <= replay.final.shape[1] <= 128


@given(rows=st.integers(0, 60), capacity=st.sampled_from([10, 40]), seed=st.integers(0, 100))
def test_an_episode_starts_at_the_first_row_and_after_each_end(rows, capacity, seed):
    stream, replay = Stream(seed, 0.3), Replay(M, N, D, A, capacity)
    replay.start(stream.observation)
    started = np.ones(M * N, dtype=bool)
    for _ in range(rows):
        _, action, step = stream.next()
        replay.add(action, step)
        started = step.terminated | step.truncated
    np.testing.assert_array_equal(replay.started().flatten().numpy(), started)


@pytest.mark.parametrize("capacity", [4, 10])
def test_a_full_ring_overwrites_the_oldest_rows(capacity):
    replay, history = filled(30, capacity, ends=0.0)
    batch = transitions(replay.memory(), torch.zeros(M, 1, dtype=torch.int64), 1)
    np.testing.assert_array_equal(batch["observation"][0, 0].numpy(), history[30 - capacity // N][0][0])
