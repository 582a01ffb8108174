"""Bodies of networks against transcriptions of their papers in NumPy, with complex-step gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.utils._pytree import tree_leaves, tree_map

from sac_bench.algorithms.batch_norm import Statistics, Training
from sac_bench.algorithms.bodies import BODIES, Built, evaluate, init_body, projected
from sac_bench.options.pieces import OF_ONE_WIDTH
from sac_bench.options.sac import SACConfig
from sac_bench.training.random import uniform
from tests.algorithms.problem import Problem, vector
from tests.conftest import tiny
from tests.training.members import cohort, train

SIZES, B, EPSILON = (3, 8, 8, 2), 16, 1e-5
NAMES = list(BODIES)


def draw(name, shape):
    return uniform(0, name, shape, torch.float64)


def made(name: str, critics: int | None = None, seed: int = 0):
    """A network with random gains, shifts and statistics, which are 1 and 0 at the start."""
    parameters, statistics = init_body(draw, "x", BODIES[name], SIZES, critics, "torch")
    generator = torch.Generator().manual_seed(seed)

    def perturbed(leaf):
        return leaf + 0.3 * torch.rand(leaf.shape, generator=generator, dtype=leaf.dtype)

    return tree_map(perturbed, parameters), tree_map(perturbed, statistics)


def inputs() -> torch.Tensor:
    return torch.randn(B, SIZES[0], generator=torch.Generator().manual_seed(1), dtype=torch.float64)


# -- transcriptions ---------------------------------------------------------------------------------------------


def relu(x):
    return np.where(x.real > 0, x, 0)


def layer_norm(x, gain, shift):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + EPSILON) * gain + shift


def unit(x):
    return x / (np.sqrt((x**2).sum(-1, keepdims=True)) + 1e-8)


class BatchNorm:
    """Batch normalisations in the order in which a network uses them."""

    def __init__(self, running, by_batch: bool) -> None:
        self.running, self.by_batch = [np.asarray(leaf) for leaf in running], by_batch
        self.passed: list[tuple[np.ndarray, np.ndarray]] = []

    def __call__(self, x, gain, shift):
        mean, variance = self.running.pop(0), self.running.pop(0)
        before = mean, variance
        if self.by_batch:
            mean = x.mean(0)
            variance = ((x - mean) ** 2).mean(0)
        self.passed += zip(before, (mean, variance), strict=True)
        return (x - mean) / np.sqrt(variance + EPSILON) * gain + shift

    def moved(self, momentum: float):
        """The running statistics after the pass."""
        return [(1 - momentum) * old + momentum * new for old, new in self.passed]


def crossq(p, x, bn):
    x = bn(x, *p[0:2])
    for i in (2, 6):
        x = bn(relu(x @ p[i] + p[i + 1]), *p[i + 2 : i + 4])
    return x @ p[10] + p[11]


def xqc(p, x, bn):
    x = bn(x, *p[0:2])
    for i in (2, 5):
        x = relu(bn(x @ p[i], *p[i + 1 : i + 3]))
    return x @ p[8] + p[9]


def flashsac(p, x, bn):
    x = bn(x, *p[0:2]) @ p[2]
    for i in (3, 9):
        hidden = relu(bn(x @ p[i], *p[i + 1 : i + 3]))
        x = x + relu(bn(hidden @ p[i + 3], *p[i + 4 : i + 6]))
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + EPSILON) * p[15]
    return x @ p[16] + p[17]


def simba(p, x, bn):
    x = x @ p[0] + p[1]
    for i in (2, 8):
        x = x + relu(layer_norm(x, *p[i : i + 2]) @ p[i + 2] + p[i + 3]) @ p[i + 4] + p[i + 5]
    return layer_norm(x, *p[14:16]) @ p[16] + p[17]


def bro(p, x, bn):
    x = relu(layer_norm(x @ p[0] + p[1], *p[2:4]))
    for i in (4, 12):
        hidden = relu(layer_norm(x @ p[i] + p[i + 1], *p[i + 2 : i + 4]))
        x = x + layer_norm(hidden @ p[i + 4] + p[i + 5], *p[i + 6 : i + 8])
    return x @ p[20] + p[21]


def simbav2(p, x, bn):
    width = p[0].shape[1]
    x = unit(np.concatenate([x, np.full((len(x), 1), 3.0)], 1))
    x = unit(x @ p[0] * p[1] * (np.sqrt(2 / width) / np.sqrt(2 / width)))
    for i in (2, 6):
        inner, scale = p[i : i + 3], np.sqrt(2 / width) / np.sqrt(4)
        y = unit(relu(x @ inner[0] * inner[1] * (scale / scale)) @ inner[2])
        alpha = p[i + 3] * ((1 / (2 + 1)) / (1 / np.sqrt(width)))
        x = unit(x + alpha * (y - x))
    return x @ p[10] * p[11] @ p[12] + p[13]


PAPERS = {
    "batch-norm-after": crossq,
    "batch-norm-before": xqc,
    "batch-norm-residual": flashsac,
    "pre-norm-residual": simba,
    "post-norm-residual": bro,
    "sphere": simbav2,
}
TRAINING = Training(torch.tensor(0.1, dtype=torch.float64))


@pytest.mark.parametrize("by_batch", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_outputs_and_gradients_equal_the_papers(name, by_batch):
    parameters, statistics = made(name)
    x, mode = inputs(), TRAINING if by_batch else None

    def theirs(p):
        bn = BatchNorm(tree_leaves(statistics), by_batch)
        return PAPERS[name](p, x.numpy(), bn)

    def ours(p):
        return evaluate(Built(BODIES[name], p, statistics, mode), x, "relu", EPSILON)[0]

    leaves = [leaf.numpy() for leaf in tree_leaves(parameters)]
    np.testing.assert_allclose(ours(parameters).numpy(), theirs(leaves), rtol=0, atol=1e-12)

    flat, found = vector(parameters), []
    gradient = vector(torch.func.grad(lambda p: (ours(p) ** 2).sum())(parameters))
    bounds = np.cumsum([leaf.size for leaf in leaves])[:-1]
    for i in range(0, len(flat), 7):  # every seventh parameter
        stepped = flat.numpy().astype(complex)
        stepped[i] += 1e-30j
        parts = [part.reshape(leaf.shape) for part, leaf in zip(np.split(stepped, bounds), leaves, strict=True)]
        found.append((theirs(parts) ** 2).sum().imag / 1e-30)
    np.testing.assert_allclose(gradient[::7].numpy(), found, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_critic_i_is_a_network_by_itself(name):
    """Its outputs and statistics do not depend on the other critics, nor its initial weights on their number."""
    few, many = (init_body(draw, "x", BODIES[name], SIZES, n, "orthogonal")[0] for n in (1, 3))
    for one, other in zip(tree_leaves(few), tree_leaves(many), strict=True):
        assert torch.equal(one, other[:1])
    parameters, statistics = made(name, critics=3)
    x = inputs()
    together, new = evaluate(Built(BODIES[name], parameters, statistics, TRAINING), x, "relu", EPSILON)
    for c in range(3):
        part = Built(
            BODIES[name], *(tree_map(lambda leaf, c=c: leaf[c], t) for t in (parameters, statistics)), TRAINING
        )
        alone, own = evaluate(part, x, "relu", EPSILON)
        torch.testing.assert_close(alone, together[c], rtol=0, atol=1e-12)
        for leaf, other in zip(tree_leaves(own), tree_leaves(new), strict=True):
            torch.testing.assert_close(leaf, other[c], rtol=0, atol=1e-12)


def test_running_statistics_approach_those_of_the_inputs():
    body = BODIES["batch-norm-before"]
    parameters, statistics = init_body(draw, "x", body, SIZES, None, "torch")
    generator = torch.Generator().manual_seed(0)
    for _ in range(400):
        x = 5 + 3 * torch.randn(64, 3, generator=generator, dtype=torch.float64)
        _, statistics = evaluate(Built(body, parameters, statistics, TRAINING), x, "relu", EPSILON)
    first = statistics[0]
    assert isinstance(first, Statistics)
    torch.testing.assert_close(first.mean, torch.full((3,), 5.0).double(), rtol=0, atol=0.3)
    torch.testing.assert_close(first.variance, torch.full((3,), 9.0).double(), rtol=0.2, atol=0)


@pytest.mark.parametrize("project", ["weights", "weights-and-norms"])
@pytest.mark.parametrize("name", NAMES)
def test_projected_networks_have_the_norms_that_they_should(name, project):
    problem = Problem(body=name, project=project, critic_lr=0.1, actor_lr=0.1)
    for number in range(2):
        problem.state, _ = problem.update(number, problem.batch(), problem.noise())
    for part in ("actor", "critic"):
        parameters = problem.state["params"][part]
        weights = [leaf for leaf in tree_leaves(parameters) if leaf.ndim > (1 if part == "actor" else 2)]
        for weight in weights:
            norms = torch.linalg.vector_norm(weight, dim=-2)
            torch.testing.assert_close(norms, torch.ones_like(norms), rtol=0, atol=1e-6)
        assert parameters[-1].bias.abs().max() > 0
    same = projected(problem.state["params"]["critic"], norms=project == "weights-and-norms")
    for once, twice in zip(tree_leaves(problem.state["params"]["critic"]), tree_leaves(same), strict=True):
        torch.testing.assert_close(once, twice, rtol=0, atol=1e-6)
    if project == "weights-and-norms" and name == "batch-norm-before":
        gain, shift = problem.state["params"]["critic"][2]
        torch.testing.assert_close((gain**2 + shift**2).sum(-1), torch.full((2,), 8.0).double(), rtol=0, atol=1e-6)


def test_policy_and_critics_have_bodies_of_their_own():
    both, plain = Problem(body="batch-norm-before"), Problem()
    mixed, other = (Problem(body=a, actor_body=b) for a, b in (("batch-norm-before", "plain"), ("plain", "sphere")))
    for problem, actor, critic in ((mixed, plain, both), (other, Problem(body="sphere"), plain)):
        for name, like in (("actor", actor), ("critic", critic)):
            assert torch.equal(vector(problem.state["params"][name]), vector(like.state["params"][name]))
        problem.state, _ = problem.update(0, problem.batch(), problem.noise())
    assert set(mixed.state["statistics"]) == {"critic"}


def test_a_joint_pass_of_plain_critics_equals_a_separate_one():
    """Without batch norm, (s, a) and (s', a') do not affect each other."""
    joint, separate = (Problem(target_network=False, joint_pass=passes) for passes in (True, False))
    for number in range(3):
        batch, noise = joint.batch(), joint.noise()
        joint.state, first = joint.update(number, batch, noise)
        separate.state, second = separate.update(number, batch, noise)
        for name, value in first.items():
            assert float(value) == pytest.approx(float(second[name]), abs=1e-12)
    torch.testing.assert_close(vector(joint.state["params"]), vector(separate.state["params"]), rtol=0, atol=1e-12)


def test_a_target_of_the_critics_themselves_is_one_that_copies_at_once():
    """Without a target network, targets are those of an average with tau = 1: the critics before the update."""
    none, copied = Problem(target_network=False), Problem(tau=1.0)
    assert "target" not in none.state
    for number in range(3):
        batch, noise = none.batch(), none.noise()
        none.state, first = none.update(number, batch, noise)
        copied.state, second = copied.update(number, batch, noise)
        assert float(first["critic_loss"]) == pytest.approx(float(second["critic_loss"]), abs=1e-12)


MODERN = [
    {"body": "batch-norm-after", "target_network": False, "joint_pass": True, "renorm_after": 5, "actor_delay": 3},
    {"body": "batch-norm-before", "critic_head": "categorical", "critic_pool": "lowest", "joint_pass": True,
     "project": "weights", "normalize_rewards": True, "return_bound": 0.0},
    {"body": "batch-norm-residual", "project": "weights-and-norms", "held_noise": True, "update_order": "policy-first"},
    {"body": "sphere", "critic_head": "quantile", "critic_pool": "truncated", "normalize_rewards": True},
    {"body": "post-norm-residual", "decoupled_decay": True, "critic_weight_decay": 0.1, "reset_steps": [110]},
    {"body": "pre-norm-residual", "actor_body": "plain", "update_order": "together", "anneal_steps": 115, "anneal_to": 0.5},
]  # fmt: skip


@pytest.mark.thorough
@pytest.mark.parametrize("options", MODERN, ids=lambda options: options["body"])
def test_a_member_of_a_cohort_equals_a_cohort_of_its_own(options):
    """Parameters, statistics of batches and of returns, to the bit."""
    config, other = tiny(**options), tiny(**options, critic_lr=0.01, norm_momentum=0.3, v_max=7.0)
    together = train(cohort([config, other, config], [3, 4, 5]), config, 20).state
    for m, (own, seed) in enumerate([(config, 3), (other, 4), (config, 5)]):
        alone = train(cohort([own, own], [seed, seed]), config, 20).state
        for ours, expected in zip(tree_leaves(together), tree_leaves(alone), strict=True):
            assert torch.equal(ours[m], expected[0])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"body": "sphere", "layers": [8, 9]}, "body = sphere requires layers of one size"),
        ({"project": "weights"}, "project requires a body other than plain"),
        ({"body": "sphere", "precision": "bfloat16"}, "precision = bfloat16 requires body = plain"),
        ({"body": "sphere", "layer_norm": "critics"}, "layer_norm and dropout require body = plain"),
        ({"body": "sphere", "mixture": 2}, "set actor_body = plain"),
        ({"reset_steps": [10]}, "reset_steps must be above 10000"),
    ],
)
def test_bodies_that_contradict_other_options_are_refused(options, words):
    with pytest.raises(ValidationError, match=words):
        SACConfig.model_validate(options)


def test_the_bodies_of_one_width_are_those_with_residual_blocks():
    assert {name for name, body in BODIES.items() if body.keeps_width} == set(OF_ONE_WIDTH)
