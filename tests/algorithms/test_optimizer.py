"""Options of optimizers, losses, initial weights and sizes, against torch's own in float64, for every replay algorithm."""

import math
from itertools import pairwise

import pytest
import torch
from pydantic import ValidationError
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR
from torch.utils._pytree import tree_leaves, tree_map

from sac_bench.algorithms import ALGORITHMS
from sac_bench.algorithms.adam import adam_init
from sac_bench.algorithms.critics import penalty
from sac_bench.algorithms.networks import init_mlp
from sac_bench.algorithms.optimizer import Optimizer, optimizer, share_left, step
from sac_bench.errors import InputError
from sac_bench.execution.cost import cohort_bytes, state_bytes
from sac_bench.options.config import PerMember, ReplayConfig, Switched, option
from sac_bench.options.sac import SACConfig
from sac_bench.spec.run import RunSpec
from sac_bench.spec.toml import validate
from sac_bench.training.random import uniform
from tests.algorithms.problem import B, Problem, vector
from tests.conftest import tiny
from tests.training.members import cohort, train

REPLAY = ("sac", "td3", "ddpg", "sql")
ENDS = 30
SCHEDULES = {
    "constant": lambda adam, rate, final: LinearLR(adam, 1.0, 1.0, ENDS),
    "linear": lambda adam, rate, final: LinearLR(adam, 1.0, final, ENDS),
    "cosine": lambda adam, rate, final: CosineAnnealingLR(adam, ENDS, rate * final),
}


def draw(name, shape):
    return uniform(0, name, shape, torch.float64)


def scalars(**values):
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}


# -- optimizers -----------------------------------------------------------------------------------------------


class Torch:
    """torch's optimizer of one network, given as a vector."""

    def __init__(self, params, rate, of, hyper, decay):
        self.parameter, self.limit = torch.nn.Parameter(params.clone()), hyper["max_grad_norm"] if of.clips else 0.0
        epsilon = float(hyper["adam_epsilon"])
        kind = torch.optim.AdamW if of.decoupled else torch.optim.Adam
        self.adam = kind([self.parameter], rate, of.betas, epsilon, weight_decay=float(decay))
        self.schedule = SCHEDULES[of.schedule](self.adam, rate, float(hyper["anneal_to"]))

    def step(self, gradient):
        self.parameter.grad = gradient.clone()
        if self.limit:
            torch.nn.utils.clip_grad_norm_([self.parameter], float(self.limit))
        self.adam.step()
        self.schedule.step()


MEMBERS = [
    scalars(lr=3e-3, weight_decay=0.0, max_grad_norm=1e6, adam_epsilon=1e-8, anneal_steps=ENDS, anneal_to=0.0),
    scalars(lr=1e-1, weight_decay=0.1, max_grad_norm=0.3, adam_epsilon=1e-3, anneal_steps=ENDS, anneal_to=0.5),
    scalars(lr=1e-4, weight_decay=1.0, max_grad_norm=5.0, adam_epsilon=1e-1, anneal_steps=ENDS, anneal_to=0.1),
]


@pytest.mark.parametrize("name", ["actor", "critic", "value", "temperature"])
@pytest.mark.parametrize(
    "of",
    [
        Optimizer(),
        Optimizer((0.5, 0.9), clips=True),
        Optimizer((0.0, 0.99), clips=True, schedule="linear"),
        Optimizer(schedule="cosine"),
        Optimizer(schedule="linear", decoupled=True, clips=True),
    ],
)
def test_steps_of_every_member_equal_torchs(name, of):
    torch.manual_seed(0)
    critics, kind = (3, "critic") if name == "critic" else (None, "actor" if name == "actor" else "critic")
    params = torch.tensor(1.5).double() if name == "temperature" else init_mlp(draw, "x", (3, 4, 2), critics)
    hypers = [{k: v for k, v in h.items() if k not in ("lr", "weight_decay")} for h in MEMBERS]
    for hyper, member in zip(hypers, MEMBERS, strict=True):
        hyper |= {f"{name}_lr": member["lr"], f"{kind}_weight_decay": member["weight_decay"]}

    def stacked(trees):
        return tree_map(lambda *leaves: torch.stack(leaves), *trees)

    everyone, hyper = stacked([params] * 3), stacked(hypers)
    state = torch.func.vmap(adam_init)(everyone)

    def parts(tree):
        return [tree_map(lambda x, c=c: x[c], tree) for c in range(critics)] if critics else [tree]

    plain = name == "temperature"  # no network: neither clipped nor decayed
    peers = [
        [
            Torch(
                vector(part),
                float(h["lr"]),
                Optimizer(of.betas, schedule=of.schedule) if plain else of,
                h,
                0.0 if plain else h["weight_decay"],
            )
            for part in parts(params)
        ]
        for h in MEMBERS
    ]
    for number in range(ENDS):
        gradient = tree_map(torch.randn_like, everyone)
        updates = torch.full((3,), number)
        made = torch.func.vmap(lambda *arguments: step(of, name, *arguments))
        everyone, state = made(everyone, gradient, state, updates, hyper)
        for m, of_member in enumerate(peers):
            for peer, part in zip(of_member, parts(tree_map(lambda x, m=m: x[m], gradient)), strict=True):
                peer.step(vector(part))
    for m, of_member in enumerate(peers):
        for peer, part in zip(of_member, parts(tree_map(lambda x, m=m: x[m], everyone)), strict=True):
            torch.testing.assert_close(vector(part), peer.parameter.detach(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_learning_rates_fall_with_the_steps_of_the_run(schedule):
    config = tiny(learning_starts=100, utd=0.5, anneal_steps=300, lr_schedule=schedule)
    of, over = optimizer(config), torch.tensor(300.0)
    shares = {steps: float(share_left(of, torch.tensor(config.updates_due(steps)), over)) for steps in (100, 200, 300)}
    expected = {
        "linear": (2 / 3, 1 / 3),
        "cosine": ((1 + math.cos(math.pi / 3)) / 2, (1 + math.cos(2 * math.pi / 3)) / 2),
    }
    assert (shares[100], shares[200]) == pytest.approx(expected[schedule], abs=1e-6)
    assert shares[300] == 0
    last = config.updates_due(300) - 1  # the run's last update still moves something, one after it would not
    assert 0 < float(share_left(of, torch.tensor(last), over)) < 0.01
    assert float(share_left(of, torch.tensor(10**9), over)) == 0


@pytest.mark.parametrize("algorithm", REPLAY)
def test_every_option_of_optimizers_affects_every_network(algorithm):
    changed = {
        "adam_beta1": 0.5,
        "adam_beta2": 0.5,
        "adam_epsilon": 0.1,
        "critic_weight_decay": 0.5,
        "max_grad_norm": 1e-3,
        "anneal_steps": 3,
        "huber_delta": 0.01,
    }
    shared = {
        "learning_starts": 0,
        "min_replay": 1,
        "policy_delay" if algorithm in ("td3", "ddpg") else "actor_delay": 1,
    }
    shared = {key: value for key, value in shared.items() if key in ALGORITHMS[algorithm].config.model_fields}

    def after(updates, **options):
        problem = Problem(algorithm, **shared, **options)
        for number in range(updates):
            problem.state, _ = problem.update(number, problem.batch(), problem.noise())
        return {name: vector(problem.state["params"][name]) for name in ("actor", "critic")}

    def moved(updates, **options):
        pairs = zip(after(updates).items(), after(updates, **options).values(), strict=True)
        return {name for (name, before), now in pairs if not torch.equal(before, now)}

    for name, value in changed.items():
        assert moved(2, **{name: value}) == {"actor", "critic"}, name
    assert moved(1, actor_weight_decay=0.5) == {"actor"}


def test_the_options_of_critics_affect_the_v_network():
    losses = {}
    for decay, delta in ((0.0, 0.0), (0.5, 0.0), (0.0, 0.01)):
        problem = Problem(value_network=True, critic_weight_decay=decay, huber_delta=delta)
        problem.state, metrics = problem.update(0, problem.batch(), problem.noise())
        losses[decay, delta] = vector(problem.state["params"]["value"]), float(metrics["value_loss"])
    assert not torch.equal(losses[0.5, 0.0][0], losses[0.0, 0.0][0])
    assert losses[0.5, 0.0][1] == losses[0.0, 0.0][1]
    assert losses[0.0, 0.01][1] < losses[0.0, 0.0][1] / 5


@pytest.mark.parametrize("algorithm", REPLAY)
def test_options_without_effect_change_no_byte_and_no_other_member(algorithm):
    """A limit that is never reached, and a loss that is never linear, give the bytes of a run without either."""
    own = {"kernel_particles": 4, "value_particles": 4} if algorithm == "sql" else {}
    never = tiny(algorithm, max_grad_norm=1e6, huber_delta=1e6, **own)
    other = tiny(algorithm, max_grad_norm=1e-3, huber_delta=1e-2, actor_weight_decay=0.1, adam_epsilon=1e-2, **own)
    together = train(cohort([never, other, never], [3, 3, 3]), never, 20).state
    plain = train(cohort([tiny(algorithm, **own)] * 3, [3, 3, 3]), never, 20).state
    for ours, expected in zip(tree_leaves(together), tree_leaves(plain), strict=True):
        assert torch.equal(ours[0], expected[0])
        assert torch.equal(ours[2], expected[2])
    moved = [torch.equal(leaf[1], leaf[0]) for leaf in tree_leaves(together["params"]["critic"])]
    assert not any(moved)


# -- Huber's loss ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delta", [0.1, 1.0, 7.0])
def test_the_huber_loss_and_its_gradient_equal_torchs(delta):
    error = torch.linspace(-9, 9, 1001, dtype=torch.float64).requires_grad_()
    ours = 0.5 * penalty(error, torch.tensor(delta, dtype=torch.float64))
    theirs = torch.nn.functional.huber_loss(error, torch.zeros_like(error), reduction="none", delta=delta)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    slopes = [torch.autograd.grad(loss.sum(), error, retain_graph=True)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*slopes, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("algorithm", "factor"), [("sac", 1.0), ("td3", 2.0), ("sql", 1.0)])
def test_losses_of_critics_are_huber_losses_of_the_scaled_return(algorithm, factor):
    problem = Problem(algorithm, huber_delta=0.7, reward_scale=5.0, gamma=0.0, critics=2)
    batch = problem.batch()
    x = torch.cat([batch["observation"], batch["action"]], -1)
    q = problem.nets.forward(problem.state["params"]["critic"], x).squeeze(-1)
    _, metrics = problem.update(0, batch, problem.noise())
    target = 5 * batch["reward"].squeeze(-1).expand(2, B)
    assert (target - q).abs().max() > 0.7 > (target - q).abs().min()
    expected = torch.nn.functional.huber_loss(q, target, reduction="none", delta=0.7).mean(-1).sum()
    assert float(metrics["critic_loss"]) == pytest.approx(factor * float(expected), abs=1e-12)


# -- initial weights ------------------------------------------------------------------------------------------

SIZES = (30, 50, 40, 20)


@pytest.mark.parametrize("critics", [None, 1, 3])
def test_glorot_weights_fill_their_bounds_and_biases_are_zero(critics):
    for layer, (fan_in, fan_out) in zip(
        init_mlp(draw, "x", SIZES, critics, initialisation="glorot"), pairwise(SIZES), strict=True
    ):
        bound = math.sqrt(6 / (fan_in + fan_out))
        for weight in layer.weight.reshape(-1, fan_in, fan_out):
            assert 0.98 * bound < weight.max() <= bound
            assert -bound <= weight.min() < -0.98 * bound
            # The deviation that torch.nn.init.xavier_uniform_ has.
            peer = torch.nn.init.xavier_uniform_(torch.empty(fan_out, fan_in).double(), generator=torch.Generator())
            assert float(weight.std()) == pytest.approx(float(peer.std()), rel=0.1)
        assert not layer.bias.any()


@pytest.mark.parametrize("critics", [None, 1, 3])
def test_orthogonal_weights_have_their_gain_and_biases_are_zero(critics):
    layers = init_mlp(draw, "x", SIZES, critics, initialisation="orthogonal", last_gain=0.5)
    for layer, gain in zip(layers, (math.sqrt(2), math.sqrt(2), 0.5), strict=True):
        for weight in layer.weight.reshape(-1, *layer.weight.shape[-2:]):
            small = weight if weight.shape[0] <= weight.shape[1] else weight.T
            torch.testing.assert_close(small @ small.T, gain**2 * torch.eye(len(small)).double(), rtol=0, atol=1e-12)
        assert not layer.bias.any()
        assert layer.bias.shape == (*layer.weight.shape[:-2], layer.weight.shape[-1])


@pytest.mark.parametrize("initialisation", ["torch", "orthogonal", "glorot"])
def test_critic_i_does_not_depend_on_the_number_of_critics(initialisation):
    few, many = (init_mlp(draw, "x", SIZES, n, initialisation=initialisation) for n in (1, 4))
    for one, other in zip(few, many, strict=True):
        assert torch.equal(one.weight, other.weight[:1])
        assert torch.equal(one.bias, other.bias[:1])
        assert len({float(weight[0, 0]) for weight in other.weight}) == 4


@pytest.mark.parametrize("algorithm", REPLAY)
@pytest.mark.parametrize("initialisation", ["orthogonal", "glorot"])
def test_every_network_uses_the_initialisation(algorithm, initialisation):
    more = {"value_network": True} if algorithm == "sac" else {}
    params = Problem(algorithm, initialisation=initialisation, layers=[40], **more).state["params"]
    for name in {"actor", "critic", *more} & params.keys() | ({"value"} if more else set()):
        for i, layer in enumerate(params[name]):
            assert not layer.bias.any()
            for weight in layer.weight.reshape(-1, *layer.weight.shape[-2:]):
                if initialisation == "orthogonal":
                    small = weight if weight.shape[0] <= weight.shape[1] else weight.T
                    gain = math.sqrt(2) if i == 0 else 1.0
                    eye = torch.eye(len(small)).double()
                    torch.testing.assert_close(small @ small.T, gain**2 * eye, rtol=0, atol=1e-12)
                else:
                    bound = math.sqrt(6 / sum(weight.shape))
                    assert 0.8 * bound < weight.abs().max() <= bound


def test_networks_with_layer_normalisation_use_the_initialisation():
    network = init_mlp(draw, "x", SIZES, 2, True, "glorot")
    plain = init_mlp(draw, "x", SIZES, 2, False, "glorot")
    assert [len(layer) for layer in network] == [4, 4, 2]
    for layer, other in zip(network, plain, strict=True):
        assert torch.equal(layer.weight, other.weight)
        assert layer.weight.abs().max() > 1 / math.sqrt(layer.weight.shape[-2])  # not torch's bound


# -- sizes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", [*REPLAY, "ppo", "a2c", "trpo"])
def test_policy_and_critics_may_have_different_sizes(algorithm):
    config = ALGORITHMS[algorithm].config

    def units(network):
        return [layer.bias.shape[-1] for layer in network[:-1]]

    def sizes(**options):
        more = {"value_network": True} if algorithm == "sac" else {}
        params = Problem(algorithm, layers=[9, 8], **options, **more).state["params"]
        actor = params["actor"] if algorithm in REPLAY else params["actor"]["mean"]
        if more:
            assert units(params["value"]) == units(params["critic"])
        return units(actor), units(params["critic"])

    assert sizes() == ([9, 8], [9, 8])
    assert sizes(actor_layers=[5]) == ([5], [9, 8])
    assert sizes(critic_layers=[7, 6, 5]) == ([9, 8], [7, 6, 5])
    assert sizes(actor_layers=[5], critic_layers=[7, 6, 5]) == ([5], [7, 6, 5])
    equal, given = config(layers=(9, 8)), config(layers=(9, 8), actor_layers=(9, 8), critic_layers=(9, 8))
    assert equal.hidden_units == given.hidden_units == 17 * config().networks


@pytest.mark.parametrize("algorithm", REPLAY)
def test_networks_of_different_sizes_learn(algorithm):
    problem = Problem(algorithm, actor_layers=[5], critic_layers=[7, 6])
    before = {name: vector(network) for name, network in problem.state["params"].items()}
    for number in range(2):
        problem.state, _ = problem.update(number, problem.batch(), problem.noise())
    assert all(not torch.equal(vector(problem.state["params"][name]), old) for name, old in before.items())


def test_dropout_masks_have_the_critics_sizes():
    problem = Problem(dropout=True, actor_layers=[5], critic_layers=[7, 6])
    assert {shape[-1] for shape in problem.learner.update_uniforms.values()} == {7, 6}
    problem.update(0, problem.batch(), problem.noise())
    masks = sum(math.prod(shape) for shape in problem.learner.update_uniforms.values())
    assert problem.config.scratch_bytes == masks * (16 + 2 * 8)


def test_size_estimates_depend_on_the_sizes_of_policy_and_critics():
    def estimate(**options):
        spec = RunSpec("sac", SACConfig(batch_size=256, **options), "HalfCheetah-v5", 0)
        return cohort_bytes(2, spec, 1000, "cpu"), state_bytes("sac", spec.config, spec.env)[0]

    same, actor, critic = estimate(), estimate(actor_layers=(1024, 1024)), estimate(critic_layers=(1024, 1024))
    assert actor > same
    assert critic > actor
    assert SACConfig(critics=4, actor_layers=(10,), critic_layers=(100, 1)).hidden_units == 10 + 4 * 101 + 101


# -- configs --------------------------------------------------------------------------------------------------


def test_an_option_that_is_off_at_0_is_structure():
    class Config(ReplayConfig):
        switched: Switched[float] = option(0.0, "a switch", "a test")
        number: PerMember[float] = option(0.0, "a number", "a test")

    assert Config.switched_fields() == ["switched"]
    assert Config.per_member_fields()[-2:] == ["switched", "number"]
    assert Config(switched=1.0).hyperparameters()["switched"] == 1.0
    assert Config(number=1.0).structure() == Config().structure()
    assert Config(switched=1.0).structure() == Config(switched=2.0).structure() != Config().structure()
    assert SACConfig.switched_fields() == ["huber_delta", "max_grad_norm", "anneal_steps", "renorm_after"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lr_schedule": "cosine"}, "lr_schedule = cosine requires anneal_steps > 0"),
        ({"anneal_steps": 10_000}, "anneal_steps = 10000 must be 0, or above 10000, where updates start"),
        ({"actor_layers": []}, "actor_layers: must be 1 to 64 layers, each of 1 to 65536 units"),
        ({"critic_layers": [0]}, "critic_layers: must be 1 to 64 layers"),
        ({"adam_beta1": 1.0}, "adam_beta1: input should be less than 1, not 1.0"),
        ({"adam_epsilon": 0.0}, "adam_epsilon: input should be greater than or equal to 0.000"),
        ({"huber_delta": -1.0}, "huber_delta: input should be greater than or equal to 0"),
        ({"initialisation": "xavier"}, "initialisation: input should be 'torch', 'orthogonal' or 'glorot'"),
    ],
)
def test_options_that_contradict_each_other_are_refused_with_a_message(options, words):
    with pytest.raises(ValidationError):
        SACConfig.model_validate(options)
    with pytest.raises(InputError) as refused:
        validate(SACConfig, options, "f.toml")
    assert words in str(refused.value)
