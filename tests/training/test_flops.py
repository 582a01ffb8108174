"""The counted arithmetic of learners against closed formulas of dense products, for the sizes of published methods."""

from itertools import pairwise

import pytest
import torch

from sac_bench.algorithms import ALGORITHMS
from sac_bench.algorithms.networks import product
from sac_bench.cli import listing
from sac_bench.envs.pool import describe
from sac_bench.spec.presets import presets
from sac_bench.training import flops
from sac_bench.training.flops import arithmetic, flops_per_transition

D, A = 348, 17  # of Humanoid-v5
BATCH = 256


class Net:
    """Products of a plain network: multiplications of a forward pass, and those of its first layer."""

    def __init__(self, *sizes):
        products = [a * b for a, b in pairwise(sizes)]
        self.all, self.first = sum(products), products[0]

    @property
    def learn(self):
        """A forward pass, gradients of all weights, and of all inputs but the network's."""
        return 3 * self.all - self.first

    @property
    def frozen(self):
        """A forward pass and the gradient of its input."""
        return 2 * self.all


def of(config, env="Humanoid-v5", algorithm="sac"):
    return arithmetic(algorithm, ALGORITHMS[algorithm].config.model_validate(config), env)


def per_update(config):
    """Return the counted products of an update, for each sample of a batch."""
    return of(config).update / (2 * BATCH)


ACTOR, CRITIC = Net(D, 256, 256, 2 * A), Net(D + A, 256, 256, 1)


def test_the_dimensions_are_humanoids():
    assert (describe("Humanoid-v5").observation_dim, describe("Humanoid-v5").action_dim) == (D, A)


def test_sac():
    """The policy for s', two targets, two critics' losses, and the policy's loss through both critics."""
    expected = ACTOR.all + 2 * CRITIC.all + 2 * CRITIC.learn + ACTOR.learn + 2 * CRITIC.frozen
    assert per_update({}) == pytest.approx(expected, rel=1e-9)
    assert of({}).act == 2 * ACTOR.all


def test_acting_and_updates_per_transition_add_up():
    config = ALGORITHMS["sac"].config.model_validate({"utd": 0.5})
    of = arithmetic("sac", config, "Humanoid-v5")
    assert flops_per_transition("sac", config, "Humanoid-v5") == pytest.approx(of.act + of.update / 2)
    assert of.after(30, 10) == 30 * of.act + 10 * of.update


def test_redq():
    """Ten critics, targets from two of them, and a step of the policy, through all, every 20 updates."""
    config = {"utd": 20.0, "critics": 10, "target_critics": 2, "actor_delay": 20}
    expected = ACTOR.all + 2 * CRITIC.all + 10 * CRITIC.learn + (ACTOR.learn + 10 * CRITIC.frozen) / 20
    assert per_update(config) == pytest.approx(expected, rel=1e-9)


def test_tqc():
    critic = Net(D + A, 512, 512, 512, 25)
    config = {"critics": 5, "critic_layers": (512,) * 3, "critic_head": "quantile", "critic_pool": "truncated"}
    expected = ACTOR.all + 5 * critic.all + 5 * critic.learn + ACTOR.learn + 5 * critic.frozen
    assert per_update(config) == pytest.approx(expected, rel=0.02)


CROSSQ = {
    "body": "batch-norm-after",
    "joint_pass": True,
    "target_network": False,
    "critic_layers": (2048, 2048),
    "actor_delay": 3,
}


def test_crossq():
    """No target: the critics' own pass has twice the batch; the first norm's gradient passes the first products."""
    critic = Net(D + A, 2048, 2048, 1)
    policy = (3 * ACTOR.all + 2 * critic.frozen) / 3
    expected = ACTOR.all + 2 * 2 * 3 * critic.all + policy
    assert per_update(CROSSQ) == pytest.approx(expected, rel=0.02)


def test_xqc():
    """A target network in a joint pass, too."""
    actor, critic = Net(D, *[256] * 4, 2 * A), Net(D + A, *[512] * 4, 101)
    config = {
        "body": "batch-norm-before",
        "joint_pass": True,
        "critic_head": "categorical",
        "critic_pool": "lowest",
        "actor_layers": (256,) * 4,
        "critic_layers": (512,) * 4,
        "actor_delay": 3,
        "project": "weights",
    }
    policy = (3 * actor.all + 2 * critic.frozen) / 3
    expected = actor.all + 2 * 2 * critic.all + 2 * 2 * 3 * critic.all + policy
    assert per_update(config) == pytest.approx(expected, rel=0.02)


def hidden(width, blocks, *inner):
    """Return the sizes of residual blocks, each of which has these layers inside."""
    return [width, *([*inner, width] * blocks)]


def of_plain(actor, critic, critics, drawn, delay):
    """Products of an update, for each sample: two passes for the targets, and losses of the critics and the policy."""
    policy = actor.learn + critics * critic.frozen
    return actor.all + drawn * critic.all + critics * critic.learn + policy / delay


def of_joint(actor, critic, delay, target):
    """The same with two batch-normalised critics, whose passes have twice the batch; norms begin every network."""
    policy = 3 * actor.all + 2 * critic.frozen
    return actor.all + 2 * 2 * (3 + target) * critic.all + policy / delay


def recipes(d, a):
    """Return {recipe: (batch, updates per step, policy, products of an update for each sample)}."""
    plain, critic = Net(d, 256, 256, 2 * a), Net(d + a, 256, 256, 1)
    small = Net(d, *hidden(128, 1, 512), 2 * a)
    bro, xqc = Net(d, *hidden(256, 1, 256), 2 * a), Net(d, *[256] * 4, 2 * a)
    simbav2, flashsac = Net(d + 1, *hidden(128, 1, 512), 128, 2 * a), Net(d, *hidden(128, 2, 512), 2 * a)
    return {
        "redq": (256, 20, plain, of_plain(plain, critic, 10, 2, 20)),
        "droq": (256, 20, plain, of_plain(plain, critic, 2, 2, 20)),
        "tqc": (256, 1, plain, of_plain(plain, Net(d + a, 512, 512, 512, 25), 5, 5, 1)),
        "crossq": (256, 1, plain, of_joint(plain, Net(d + a, 2048, 2048, 1), 3, target=0)),
        "simba": (256, 2, small, of_plain(small, Net(d + a, *hidden(512, 2, 2048), 1), 2, 2, 1)),
        "bro": (128, 10, bro, of_plain(bro, Net(d + a, *hidden(512, 2, 512), 100), 2, 2, 1)),
        "xqc": (256, 2, xqc, of_joint(xqc, Net(d + a, *[512] * 4, 101), 3, target=1)),
        "simbav2": (
            256,
            1,
            simbav2,
            of_plain(simbav2, Net(d + a + 1, *hidden(512, 2, 2048), 512, 101), 2, 2, 1),
        ),
        "flashsac": (512, 1, flashsac, of_joint(flashsac, Net(d + a, *hidden(256, 2, 1024), 101), 2, target=1)),
    }


@pytest.mark.thorough
@pytest.mark.parametrize("env", ["HalfCheetah-v5", "Humanoid-v5"])
def test_every_recipes_stated_arithmetic_is_that_of_its_products(env):
    """What sac-bench list recipes shows, torch's count relative to SAC's, within 2%."""
    described = describe(env)
    d, a = described.observation_dim, described.action_dim
    actor, critic = Net(d, 256, 256, 2 * a), Net(d + a, 256, 256, 1)
    expected = {"sac": (BATCH, 1, actor, of_plain(actor, critic, 2, 2, 1))} | recipes(d, a)
    products = {name: 2 * (of.all + updates * size * each) for name, (size, updates, of, each) in expected.items()}
    stated = {row["name"]: row["FLOPs relative to SAC"][env] for row in listing.recipes()}
    assert set(stated) == {name for name, preset in presets().items() if preset.kind == "recipe"}
    assert stated == {name: pytest.approx(products[name] / products["sac"], rel=0.02) for name in stated}


def test_ppo_counts_the_preparation_of_a_rollout_once():
    actor, critic = Net(D, 64, 64, A), Net(D, 64, 64, 1)
    config = ALGORITHMS["ppo"].config()
    samples = config.updates_per_rollout * config.batch_size / config.rollout
    expected = samples * (actor.learn + critic.learn) + actor.all + 2 * critic.all + actor.all
    assert flops_per_transition("ppo", config, "Humanoid-v5") == pytest.approx(2 * expected, rel=0.02)


def test_trpo_counts_every_stage_of_the_policys_step():
    """Each product with the Fisher matrix has a forward pass, its gradient and that gradient's; V has its epochs."""

    def flops(**options):
        config = ALGORITHMS["trpo"].config.model_validate({"rollout": 256, "batch_size": 64, "epochs": 3} | options)
        return flops_per_transition("trpo", config, "Humanoid-v5")

    actor, critic = Net(D, 64, 64, A), Net(D, 64, 64, 1)
    once = flops(cg_steps=21) - flops(cg_steps=20)
    assert once == pytest.approx((flops(cg_steps=40) - flops(cg_steps=20)) / 20)
    assert 2 * 3 * actor.all < once < 2 * 9 * actor.all
    tried = flops(line_search_steps=11) - flops(line_search_steps=10)
    assert tried == pytest.approx(2 * actor.all, rel=0.02)
    assert flops(epochs=4) - flops() == pytest.approx(2 * critic.learn, rel=0.02)


@pytest.mark.parametrize("algorithm", [name for name, one in ALGORITHMS.items() if one.is_shipped])
@pytest.mark.parametrize("options", [{}, {"num_envs": 4}, {"layers": (4,), "batch_size": 4}], ids=str)
def test_every_algorithm_is_counted_at_every_size(algorithm, options):
    own = ALGORITHMS[algorithm].config.model_fields
    counted = of({name: value for name, value in options.items() if name in own}, "Hopper-v5", algorithm)
    assert min(counted) > 0


def test_products_without_memory_are_products():
    """The counter sees what is otherwise computed element by element."""
    x, weight = torch.empty(2, 3, device="meta"), torch.empty(3, 1, device="meta")
    with flops.FlopCounterMode(display=False) as counter:
        assert product(x, weight).shape == (2, 1)
    assert counter.get_total_flops() == 2 * 2 * 3


def test_runs_of_one_structure_are_counted_once(monkeypatch):
    of({"tau": 0.1})
    monkeypatch.setattr(flops, "counted", None)
    assert of({"tau": 0.2}).update > 0
