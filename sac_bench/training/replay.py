"""The last transitions of M runs in lock-step. Observations are stored once.

Row t holds the observation [M, N, D] at vector step t, the action, the reward and how the step ended. The next
observation is in row t + 1, except after a truncation: then the true final observation is in a small side ring. A
terminated transition does not bootstrap, so its next observation is never used.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sac_bench.algorithms.protocol import Batch
from sac_bench.envs.pool import Step
from sac_bench.training.random import Moment

Memory = dict[str, Tensor]


class Replay:
    """A ring of `capacity` transitions per run: capacity / N rows of N environments for each of M members.

    A row is contiguous in memory, [observation | action | reward, terminated, final slot], so that a transition is read
    from one place; `observation`, `action` and the others are views of it. On a CPU, pages that were never written take
    no memory.
    """

    def __init__(
        self,
        members: int,
        num_envs: int,
        observation_dim: int,
        action_dim: int,
        capacity: int,
        device: torch.device | str = "cpu",
    ) -> None:
        m, n, self.rows = members, num_envs, capacity // num_envs
        self.device = torch.device(device)
        ring = self.rows + 1  # one row more: the observation to act on next
        self._ring = _of_any_length(torch.empty(m, ring, n, row_width(observation_dim, action_dim), device=device))
        self.observation, self.action, rest = self._ring.split([observation_dim, action_dim, 3], dim=-1)
        self.reward, self.terminated, self.final_slot = rest.unbind(-1)  # final_slot: -1 where not truncated
        self.final = _of_any_length(torch.empty(m, max(16, n), observation_dim, device=device))
        self._final_row = np.full(self.final.shape[:2], -1, dtype=np.int64)  # the (global) row of each slot
        self._next_slot = np.zeros(m, dtype=np.int64)
        self._clock = torch.zeros((), dtype=torch.int64, device=device)
        # The data of one step, in page-locked memory if it must be copied to a GPU.
        self._staging = torch.empty(self._ring[:, 0].shape, pin_memory=self.device.type == "cuda")
        self._staging_array = self._staging.numpy()
        self._memory: Memory = {}
        self.written = 0
        """Rows ever written; row t is at index t % (rows + 1)."""

    @property
    def filled(self) -> int:
        """Number of rows that can be sampled."""
        return min(self.written, self.rows)

    @property
    def newest(self) -> Tensor:
        """The observations [M, N, D] for the next actions, on the device."""
        return self.observation[:, self.written % (self.rows + 1)]

    def started(self) -> Tensor:
        """Return 1 where the newest observation starts an episode, else 0: float32 [M, N] on the device."""
        at = (self.written - 1) % (self.rows + 1)
        if not self.written:
            return torch.ones_like(self.reward[:, at])
        return torch.maximum(self.terminated[:, at], (self.final_slot[:, at] >= 0).to(torch.float32))

    def start(self, observation: np.ndarray) -> None:
        """Set the first observation [M*N, D]."""
        self.newest.copy_(torch.tensor(self._shaped(observation)))

    def add(self, action: np.ndarray, step: Step) -> None:
        """Add a vector step: actions [M*N, A] in [-1, 1] and their results."""
        d, at, staging = self.final.shape[-1], self.written % (self.rows + 1), self._staging_array
        staging[..., :d] = self._shaped(step.observation)
        staging[..., d:-3] = self._shaped(action)
        staging[..., -3] = self._shaped(step.reward)
        staging[..., -2] = self._shaped(step.terminated)
        staging[..., -1] = -1
        if step.truncated.any():
            final = torch.tensor(self._shaped(step.final_observation))
            for m, n in zip(*np.nonzero(self._shaped(step.truncated)), strict=True):
                staging[m, n, -1] = self._keep_final(m, self.written, final[m, n])
        row = self._staging.to(self.device, non_blocking=True)
        self._ring[:, at, :, d:] = row[..., d:]
        self.written += 1
        self.newest.copy_(row[..., :d])

    def last_rewards(self) -> tuple[Tensor, Tensor]:
        """Return the rewards of the newest row, and whether an episode ended there, [M, N] each."""
        row = self._ring[:, (self.written - 1) % (self.rows + 1), :, -3:]
        return row[..., 0], (row[..., 1] > 0) | (row[..., 2] >= 0)

    def clock(self) -> Tensor:
        """Return the number of rows ever written, int64 [] on the device, always as the same tensor."""
        return self._clock.fill_(self.written)

    def memory(self) -> Memory:
        """Return the tensors that `sample` reads, the same dict until the side ring grows."""
        written = self.clock()
        if self._memory.get("final") is not self.final:
            self._memory = {"rows": self._ring, "final": self.final, "written": written}
        return self._memory

    def slice(self, start: int, stop: int) -> dict[str, Tensor]:
        """Return rows [start, stop) as they were added, on the CPU, for `extend`."""
        at = torch.arange(start, stop, device=self.device) % (self.rows + 1)
        slot = self.final_slot[:, at].long()
        m, _, _ = (slot >= 0).nonzero(as_tuple=True)
        final = self.final[m, slot[slot >= 0]]
        parts = {
            "observation": self.observation[:, at],
            "action": self.action[:, at],
            "reward": self.reward[:, at],
            "terminated": self.terminated[:, at] > 0,
            "truncated": slot >= 0,
            "final": final,
        }
        return {name: part.cpu().contiguous() for name, part in parts.items()}

    def extend(self, rows: dict[str, Tensor], newest: Tensor) -> None:
        """Add rows from `slice`, then the observation [M, N, D] that follows them."""
        count = rows["reward"].shape[1]
        kept = min(count, self.rows)
        start = self.written + count - kept
        at = torch.arange(start, start + kept, device=self.device) % (self.rows + 1)
        for name in ("observation", "action", "reward", "terminated"):
            getattr(self, name)[:, at] = rows[name][:, count - kept :].to(self.device, self.reward.dtype)
        self.final_slot[:, at] = -1
        for final, (m, t, n) in zip(rows["final"], rows["truncated"].nonzero().tolist(), strict=True):
            row = self.written + t
            if row >= start:
                self.final_slot[m, row % (self.rows + 1), n] = self._keep_final(m, row, final)
        self.written += count
        self.newest.copy_(newest)

    def _shaped(self, array: np.ndarray) -> np.ndarray:
        """Reshape [M * N, ...] to [M, N, ...]; expand one member's [N, ...] to all."""
        m, _, n = self.final_slot.shape
        return np.broadcast_to(array.reshape(-1, n, *array.shape[1:]), (m, n, *array.shape[1:]))

    def _keep_final(self, member: int, row: int, final: Tensor) -> int:
        """Store a final observation in the next slot; double the ring if that slot can still be sampled."""
        slot = int(self._next_slot[member] % self.final.shape[1])
        owner = self._final_row[member, slot]
        if owner >= 0 and owner > row - self.rows:
            slot = self.final.shape[1]
            self.final = _of_any_length(torch.cat([self.final, torch.empty_like(self.final)], dim=1))
            self._final_row = np.concatenate([self._final_row, np.full_like(self._final_row, -1)], axis=1)
        self._next_slot[member] = slot + 1
        self._final_row[member, slot] = row
        self.final[member, slot] = final
        return slot


def _of_any_length(buffer: Tensor) -> Tensor:
    """Mark axis 1 as dynamic: one compiled program for every capacity and side ring."""
    torch._dynamo.mark_dynamic(buffer, 1)
    return buffer


def rows_of(rows: dict[str, Tensor], members: Sequence[int]) -> dict[str, Tensor]:
    """Select members (ascending) of a segment's rows {name: [M, T, N, ...]}; "final" has a row for each `truncated`."""
    keep = torch.tensor(members)
    of, _, _ = rows["truncated"].nonzero(as_tuple=True)
    chosen = {name: part[keep].contiguous() for name, part in rows.items() if name != "final"}
    return chosen | {"final": rows["final"][torch.isin(of, keep)].contiguous()}


def row_width(observation_dim: int, action_dim: int) -> int:
    """Return how many float32 numbers a transition takes."""
    return observation_dim + action_dim + 3


def sample(moment: Moment, memory: Memory, n_step: int) -> Batch:
    """Return a batch of each member's transitions, drawn uniformly with replacement."""
    ring, n = memory["rows"].shape[1:3]
    filled = memory["written"].clamp(max=ring - 1)
    return transitions(memory, moment.integers("replay", filled * n), n_step)


def transitions(memory: Memory, indices: Tensor, n_step: int) -> Batch:
    """Return transitions by index [M, B] in [0, filled * N), the oldest first, with windows of up to n rewards.

    observation [M, B, D], action [M, B, A], reward [M, B, n] (zero after the window's end), length, terminated,
    truncated [M, B], next_observation [M, B, D]. A window ends early at the end of its episode (if truncated, it
    bootstraps from the true final observation) and at the newest row.
    """
    written, rows, finals = memory["written"], memory["rows"].flatten(0, 2), memory["final"].flatten(0, 1)
    (m, ring, n, _), slots, d = memory["rows"].shape, memory["final"].shape[1], finals.shape[-1]
    member = torch.arange(m, device=indices.device)[:, None]
    env, row = indices % n, torch.div(indices, n, rounding_mode="floor") + written - written.clamp(max=ring - 1)

    def place(row: Tensor) -> Tensor:
        return (member * ring + row % ring) * n + env

    first = last = rows[place(row)]
    rewards, length = [first[..., -3]], torch.ones_like(row)
    for j in range(1, n_step):
        continues = (length == j) & (last[..., -2] == 0) & (last[..., -1] < 0) & (row + 1 < written)
        row = torch.where(continues, row + 1, row)
        last = rows[place(row)]
        length = length + continues
        rewards.append(torch.where(continues, last[..., -3], 0.0))
    slot = last[..., -1].long()
    final = finals[member * slots + slot.clamp(min=0)]
    return {
        "observation": first[..., :d],
        "action": first[..., d:-3],
        "reward": torch.stack(rewards, dim=-1),
        "length": length.to(rows.dtype),
        "terminated": last[..., -2],
        "truncated": (last[..., -1] >= 0).to(rows.dtype),
        "next_observation": torch.where((slot < 0)[..., None], rows[place(row + 1)][..., :d], final),
    }
