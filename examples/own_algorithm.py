"""A custom algorithm: deterministic policy gradient without target networks (Silver et al. 2014, eq. 16 to 18).

sac-bench run my.toml --import own_algorithm --set ...      with algorithm = "dpg" in my.toml
"""

from functools import partial
from typing import ClassVar

import torch
from torch.func import grad_and_value

from sac_bench.algorithms import Algorithm, register
from sac_bench.algorithms.adam import adam, adam_init
from sac_bench.algorithms.config import Layers, PerMember, ReplayConfig, option
from sac_bench.algorithms.critics import Networks, bellman_target, critic_loss, q_values
from sac_bench.algorithms.networks import init_mlp
from sac_bench.algorithms.protocol import Learner


class DPGConfig(ReplayConfig):
    """Fields of type `PerMember` may differ inside a cohort; all others are structure."""

    algorithm: ClassVar[str] = "dpg"

    layers: Layers = option((64, 64), "units of each hidden layer, actor and critic", "this example")
    gamma: PerMember[float] = option(0.99, "discount", "this example", ge=0, le=1)
    actor_lr: PerMember[float] = option(3e-4, "learning rate for the policy", "this example", gt=0, le=1)
    critic_lr: PerMember[float] = option(1e-3, "learning rate for the Q network", "this example", gt=0, le=1)
    exploration_noise: PerMember[float] = option(0.1, "sigma of the noise on actions", "this example", ge=0, le=2)
    reward_scale: PerMember[float] = option(1.0, "factor on every reward", "this example", gt=0)


# One learner, B transitions: the cohort lifts each of these functions to its members.


def policy(nets, actor, observation):
    """mu(s): observation [B, D] -> action [B, A]."""
    return torch.tanh(nets.forward(actor, observation))


def actor_loss(actor, nets, critic, observation):
    """-E Q(s, mu(s)), whose gradient is eq. 18."""
    return -q_values(nets, critic, observation, policy(nets, actor, observation)).mean(), ()


def init(nets, draw, hyper):
    params = {"actor": init_mlp(draw, "actor", nets.actor), "critic": init_mlp(draw, "critic", nets.critic, 1)}
    adam_state = {name: adam_init(network) for name, network in params.items()}
    return {"params": params, "adam": adam_state, "updates": torch.zeros((), dtype=torch.int64)}


def act(nets, acting, hyper, observation, noise):
    """Sampled and mean actions [N, A]."""
    mean = policy(nets, acting["actor"], observation)
    return (mean + hyper["exploration_noise"] * noise).clamp(-1, 1), mean


def update(nets, state, hyper, batch, noise):
    params, adam_state, metrics = dict(state["params"]), dict(state["adam"]), {}

    def descend(name, loss, *arguments):
        gradient, (metrics[f"{name}_loss"], _) = grad_and_value(loss, has_aux=True)(params[name], *arguments)
        params[name], adam_state[name] = adam(params[name], gradient, adam_state[name], hyper[f"{name}_lr"])

    next_action = policy(nets, params["actor"], batch["next_observation"])
    next_q = q_values(nets, params["critic"], batch["next_observation"], next_action)[0]
    descend("critic", critic_loss, nets, batch, bellman_target(batch, next_q, hyper))
    descend("actor", actor_loss, nets, params["critic"], batch["observation"])
    return {"params": params, "adam": adam_state, "updates": state["updates"] + 1}, metrics


def learner(config, observation_dim, action_dim):
    d, a = observation_dim, action_dim
    nets = Networks((d, *config.layers, a), (d + a, *config.layers, 1), (), critics=1, activation="relu")
    return Learner(
        data="replay",
        init=partial(init, nets),
        policy=lambda state: {"actor": state["params"]["actor"]},
        act=partial(act, nets),
        update=partial(update, nets),
        action_dim=a,
        update_noise={},
        batch_size=config.batch_size,
        metrics=("critic_loss", "actor_loss"),
    )


register(Algorithm("dpg", DPGConfig, learner, version=1))
