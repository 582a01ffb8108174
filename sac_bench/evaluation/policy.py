"""Loads trained policies for use outside the suite."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError, safe_open

from sac_bench.algorithms import ALGORITHMS
from sac_bench.algorithms.hyperparameters import dtype_of, hyperparameters_of
from sac_bench.algorithms.networks import SMALL_PRODUCT
from sac_bench.algorithms.pytree import with_tensors
from sac_bench.envs.pool import describe
from sac_bench.errors import InputError, nearest
from sac_bench.evaluation.onnx import write_onnx
from sac_bench.spec.run import RunSpec
from sac_bench.store.store import Store

FloatArray = NDArray[np.floating]


class Policy:
    """One run's policy.

    spec: the run that trained it; steps: the number of transitions it was trained on.
    """

    def __init__(self, spec: RunSpec, policy: Any, steps: int) -> None:
        env = describe(spec.env)
        learner = ALGORITHMS[spec.algorithm].learner(spec.config, env.observation_dim, env.action_dim)
        self.spec, self.steps = spec, steps
        self._learner, self._policy, self._env = learner, policy, env
        self._hyper = hyperparameters_of(spec.config)

    def act(
        self, observation: ArrayLike, sample: bool = False, generator: np.random.Generator | None = None
    ) -> NDArray[np.float64]:
        """Return actions [A] for one observation [D], or [K, A] for several [K, D], within the environment's bounds.

        They are mean actions, or sampled ones with `sample`. Dictionary observations must be flattened in the order of
        the environment's space. Raises ValueError if D is not the environment's.
        """
        x = np.asarray(observation, dtype=np.float32)
        if x.shape[-1:] != (self._env.observation_dim,) or x.ndim > 2:
            raise ValueError(f"observation has shape {x.shape}; {self._env.id} has {self._env.observation_dim} numbers")
        batch = np.atleast_2d(x)
        noise = (generator or np.random.default_rng()).standard_normal((len(batch), self.noise_dim))
        sampled, mean = self.sampled_and_mean(batch, noise)
        scaled = self._env.scaled(sampled if sample else mean)
        return scaled[0] if x.ndim == 1 else scaled

    @property
    def noise_dim(self) -> int:
        """Number of standard normal numbers per sampled action."""
        return self._learner.noise_dim

    def sampled_and_mean(self, observation: FloatArray, noise: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return sampled and mean actions [K, A] in [-1, 1] for observations [K, D] and noise [K, noise_dim]."""
        dtype = dtype_of(self.spec.config)
        with torch.no_grad():
            sampled, mean = self._learner.act(
                self._policy, self._hyper, torch.as_tensor(observation).to(dtype), torch.as_tensor(noise).to(dtype)
            )
        return sampled.numpy(), mean.numpy()

    def to_torchscript(self, path: str | Path) -> None:
        """Write the mean action as a TorchScript file, which torch loads without this package, also from C++.

        The module maps observations [K, D] (float32) to actions [K, A] (float64) within the environment's bounds, as
        `act` does, but for last digits.

        Example:
            >>> policy.to_torchscript("policy.pt")
            >>> torch.jit.load("policy.pt")(torch.zeros(1, 17))
        """
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", torch.jit.TracerWarning)  # of what depends on the policy alone
            traced = torch.jit.trace(_MeanAction(self), self._example(), check_trace=False)
        traced.save(str(path))

    def to_onnx(self, path: str | Path) -> None:
        """Write the mean action as an ONNX file, with the same input and output as `to_torchscript`'s module.

        They are named "observation" and "action". Raises InputError if the packages onnx and onnxscript are missing, or
        if the policy cannot be exported.

        Example:
            >>> policy.to_onnx("policy.onnx")
            >>> session = onnxruntime.InferenceSession("policy.onnx")
            >>> session.run(None, {"observation": np.zeros((1, 17), np.float32)})
        """
        write_onnx(_MeanAction(self), self._example(), path)

    def _example(self) -> torch.Tensor:
        """Return observations that are too many for the small products of `networks.product`."""
        return torch.zeros(SMALL_PRODUCT + 1, self._env.observation_dim)

    def mean_action(self, observation: torch.Tensor) -> torch.Tensor:
        """Return mean actions [K, A] in float64, within the environment's bounds, for observations [K, D]."""
        x = observation.to(dtype_of(self.spec.config))
        noise = x.new_zeros((x.shape[0], self.noise_dim))
        _, mean = self._learner.act(self._policy, self._hyper, x, noise)
        low, high = (torch.tensor(b, dtype=torch.float64) for b in (self._env.action_low, self._env.action_high))
        return torch.clamp(low + (mean.double() + 1) / 2 * (high - low), low, high)


class _MeanAction(torch.nn.Module):
    """A policy as a module without parameters, for torch's exporters."""

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self._policy = policy

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        return self._policy.mean_action(observation)


def policy_of_run(run: str, results: str | Path) -> Policy:
    """Return the policy of a run id (see runs.csv) that the run saved last.

    Raises InputError if there is no such run, or if it has no policy or a damaged one.
    """
    store = Store(results)
    known = [run_id for run_id in store.run_ids() if store.run(run_id).policy.exists()]
    if run not in known:
        raise InputError(f"{results}: no policy of run {run!r}{nearest(run, known)}")
    directory = store.run(run)
    if (status := directory.status())["status"] == "damaged":
        raise InputError(str(status["reason"]))
    try:
        with safe_open(directory.policy, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            steps = int(file.metadata()["steps"])
    except (SafetensorError, TypeError, KeyError, ValueError) as error:
        raise InputError(f"{directory.policy}: damaged: {error}") from None
    spec = directory.spec()
    env = describe(spec.env)
    learner = ALGORITHMS[spec.algorithm].learner(spec.config, env.observation_dim, env.action_dim)
    hyper, dtype = hyperparameters_of(spec.config), dtype_of(spec.config)
    # Zeros, not `shape_of_state`: computing with torch's meta device imports its compiler, which takes seconds.
    policy = learner.policy(learner.init(lambda name, shape: torch.zeros(shape, dtype=dtype), hyper))
    return Policy(spec, with_tensors(policy, tensors), steps)
