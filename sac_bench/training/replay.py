"""The last transitions of M runs, in lock-step. Observations are stored once.

Row t holds the observation [M, N, D] acted on at vector step t, the action, the reward and how it ended; the
next observation is row t + 1, except where an episode was truncated: then the true final observation lies in
a small side ring. A terminated transition bootstraps nothing, so its next observation is never used.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sac_bench.algorithms.protocol import Batch
from sac_bench.training.envs import Step


class Replay:
    """A ring of `capacity` transitions per run: capacity / N rows of N environments for each of M members."""

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
        self.observation = torch.empty(m, ring, n, observation_dim, device=device)
        self.action = torch.empty(m, ring, n, action_dim, device=device)
        self.reward = torch.empty(m, ring, n, device=device)
        self.terminated = torch.empty(m, ring, n, device=device)
        self.final_slot = torch.empty(m, ring, n, dtype=torch.int32, device=device)  # -1: not truncated
        self.final = torch.empty(m, max(16, n), observation_dim, device=device)
        self._final_row = np.full(self.final.shape[:2], -1, dtype=np.int64)  # the row (global) a slot belongs to
        self._next_slot = np.zeros(m, dtype=np.int64)
        self.written = 0
        """Rows ever written; row t lies at t % (rows + 1)."""

    @property
    def filled(self) -> int:
        """Rows that can be sampled."""
        return min(self.written, self.rows)

    def start(self, observation: np.ndarray) -> None:
        """The first observation [M*N, D] of all."""
        self.observation[:, self.written % (self.rows + 1)] = self._tensor(observation)

    def add(self, action: np.ndarray, step: Step) -> None:
        """One vector step: actions [M*N, A] in [-1, 1] and what came of them."""
        ring = self.rows + 1
        at = self.written % ring
        self.action[:, at] = self._tensor(action)
        self.reward[:, at] = self._tensor(step.reward)
        self.terminated[:, at] = self._tensor(step.terminated)
        self.final_slot[:, at] = self._final_slots(step)
        self.written += 1
        self.observation[:, self.written % ring] = self._tensor(step.observation)

    def sample(self, indices: Tensor, n_step: int) -> Batch:
        """Transitions [M, B] by index in [0, filled * N), the oldest first, with windows of up to n rewards.

        -> observation [M, B, D], action [M, B, A], reward [M, B, n] (zero after the window's end), length,
        terminated [M, B], next_observation [M, B, D]. A window ends early where its episode ends (by
        truncation too, bootstrapping from the true final observation) and at the newest row.
        """
        m, ring, n = self.final_slot.shape
        member = torch.arange(m, device=self.device)[:, None]
        oldest = self.written - self.filled
        row, env = torch.div(indices, n, rounding_mode="floor") + oldest, indices % n
        flat = (member * ring + row % ring) * n + env
        first = flat
        rewards = [self.reward.view(-1)[flat]]
        length = torch.ones_like(row)
        last, last_row = flat, row
        for _ in range(1, n_step):
            goes_on = (
                (self.terminated.view(-1)[last] == 0)
                & (self.final_slot.view(-1)[last] < 0)
                & (last_row + 1 < self.written)
                & (length == len(rewards))
            )
            last_row = torch.where(goes_on, last_row + 1, last_row)
            last = (member * ring + last_row % ring) * n + env
            length = length + goes_on
            rewards.append(torch.where(goes_on, self.reward.view(-1)[last], 0.0))
        following = (member * ring + (last_row + 1) % ring) * n + env
        slot = self.final_slot.view(-1)[last].long()
        final = self.final.flatten(0, 1)[(member * self.final.shape[1] + slot.clamp(min=0)).flatten()]
        gathered = self.observation.flatten(0, 2)[following.flatten()]
        next_observation = torch.where(slot.flatten()[:, None] < 0, gathered, final)
        return {
            "observation": self.observation.flatten(0, 2)[first.flatten()].unflatten(0, first.shape),
            "action": self.action.flatten(0, 2)[first.flatten()].unflatten(0, first.shape),
            "reward": torch.stack(rewards, dim=-1),
            "length": length.to(self.reward.dtype),
            "terminated": self.terminated.view(-1)[last],
            "next_observation": next_observation.unflatten(0, first.shape),
        }

    def slice(self, start: int, stop: int) -> dict[str, Tensor]:
        """Rows [start, stop) as they were added, on the CPU, for `extend`."""
        at = torch.arange(start, stop, device=self.device) % (self.rows + 1)
        slot = self.final_slot[:, at]
        m, _, _ = (slot >= 0).nonzero(as_tuple=True)
        final = self.final[m, slot[slot >= 0].long()]
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
        """Add rows saved by `slice`, then the observation [M, N, D] that follows them."""
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
        self.observation[:, self.written % (self.rows + 1)] = newest.to(self.device)

    def _shaped(self, array: np.ndarray) -> np.ndarray:
        m, _, n = self.final_slot.shape
        return array.reshape(m, n, *array.shape[1:])

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.as_tensor(self._shaped(array), device=self.device)

    def _final_slots(self, step: Step) -> Tensor:
        slots = np.full(self._shaped(step.truncated).shape, -1, dtype=np.int32)
        if step.truncated.any():
            final = self._tensor(step.final_observation)
            for m, n in zip(*np.nonzero(self._shaped(step.truncated)), strict=True):
                slots[m, n] = self._keep_final(m, self.written, final[m, n])
        return torch.as_tensor(slots, device=self.device)

    def _keep_final(self, member: int, row: int, final: Tensor) -> int:
        """Put a final observation into the next slot; the ring doubles while that slot can still be sampled."""
        slot = int(self._next_slot[member] % self.final.shape[1])
        owner = self._final_row[member, slot]
        if owner >= 0 and owner > row - self.rows:
            slot = self.final.shape[1]
            self.final = torch.cat([self.final, torch.empty_like(self.final)], dim=1)
            self._final_row = np.concatenate([self._final_row, np.full_like(self._final_row, -1)], axis=1)
        self._next_slot[member] = slot + 1
        self._final_row[member, slot] = row
        self.final[member, slot] = final
        return slot
