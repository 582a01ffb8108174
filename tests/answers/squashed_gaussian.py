"""Expectations under a one-dimensional squashed Gaussian a = tanh(u), u ~ N(mean, std^2), by quadrature.

Independent of the package: densities are written as the change of variables, integrals are Gauss-Hermite sums or
trapezoids.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(64)
WEIGHTS = WEIGHTS / np.sqrt(2 * np.pi)
"""E f(epsilon), epsilon ~ N(0, 1), is sum WEIGHTS f(NODES)."""


def log_density(a: np.ndarray, mean: float, std: float) -> np.ndarray:
    """log N(atanh a; mean, std) - log(1 - a^2)."""
    u = np.arctanh(a)
    return -((u - mean) ** 2) / (2 * std**2) - np.log(std * np.sqrt(2 * np.pi)) - np.log(1 - a**2)


def actions(mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """The actions at the quadrature's nodes: [...] -> [..., nodes]."""
    return np.tanh(np.asarray(mean)[..., None] + np.asarray(std)[..., None] * NODES)


def entropy(mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """H = log(std sqrt(2 pi e)) + E log(1 - tanh^2 u), with log(1 - tanh^2 u) = log 4 - 2u - 2 log(1 + e^-2u)."""
    u = np.asarray(mean)[..., None] + np.asarray(std)[..., None] * NODES
    squash = np.log(4) - 2 * u - 2 * np.logaddexp(0, -2 * u)
    return np.log(np.asarray(std) * np.sqrt(2 * np.pi * np.e)) + squash @ WEIGHTS


def widest() -> tuple[float, float]:
    """(std, entropy) of the squashed Gaussian of mean 0 that is closest to uniform: what alpha -> infinity tends to."""
    best = minimize(lambda x: -float(entropy(np.array(0.0), np.exp(x[0]))), [0.0], method="Nelder-Mead")
    std = float(np.exp(best.x[0]))
    return std, float(entropy(np.array(0.0), np.array(std)))
