"""Soft Actor-Critic in its published forms, which the config selects.

[1] arXiv 1801.01290: with a V network and a fixed temperature (Algorithm 1).
[2] arXiv 1812.05905: without the V network, with a learned temperature (Algorithm 1). The defaults.

`policies` has its policies. Everything here is written for one learner: a batch of B transitions, C critics, A action
dimensions in [-1, 1], D observation dimensions. `training.cohort` lifts it to M members.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import grad, grad_and_value
from torch.utils._pytree import tree_map

from sac_bench.algorithms import exploration, rewards
from sac_bench.algorithms.adam import adam_init
from sac_bench.algorithms.batch_norm import Training
from sac_bench.algorithms.bodies import BODIES, Built, init_body, projected
from sac_bench.algorithms.critics import (
    Networks,
    bellman_target,
    critic_outputs,
    critics_loss,
    dropout,
    expected_value,
    follow,
    next_outputs,
    penalty,
    q_bound,
    q_values,
    threshold,
)
from sac_bench.algorithms.gradients import gradient_spread
from sac_bench.algorithms.heads import Head, Returns, pooled, pooled_returns
from sac_bench.algorithms.networks import Draw, Network, init_mlp
from sac_bench.algorithms.optimizer import optimizer, step
from sac_bench.algorithms.policies import (
    Actor,
    for_samples,
    init_policy,
    leave_one_out,
    mean_with_score,
    outputs,
    policy,
)
from sac_bench.algorithms.protocol import Batch, Diagnosis, Hyperparameters, Learner, Shapes, State, Update, Value
from sac_bench.algorithms.running_stats import empty_statistics, merged, standardized
from sac_bench.options.metric import (
    ACTOR_LOSS,
    ENTROPY,
    GRADIENT_METRICS,
    GRADIENT_SQUARED_NORM,
    GRADIENT_VARIANCE_LIKELIHOOD_RATIO,
    GRADIENT_VARIANCE_REPARAMETERISED,
    SATURATION,
    names,
)
from sac_bench.options.sac import METRICS, TEMPERATURE_LOSS, VALUE_METRICS, Moved, SACConfig

# -- the mathematics ------------------------------------------------------------------------------------------


def v_values(nets: Networks, value: Network, observation: Tensor) -> Tensor:
    """Return V [B] of observation [B, D]."""
    return nets.forward(value, observation).squeeze(-1)


def soft_value(q: Tensor, log_pi: Tensor, alpha: Tensor) -> Tensor:
    """Return V(s) = Q(s, a) - alpha log pi(a|s) for a ~ pi; all [B] ([2] eq. 3)."""
    return q - alpha * log_pi


def value_loss(
    value: Network, nets: Networks, observation: Tensor, target: Tensor, delta: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return J_V = 1/2 E (V(s) - (Q - alpha log pi))^2 [] ([1] eq. 5), and V [B]; with `delta` [], Huber's loss."""
    v = v_values(nets, value, observation)
    return 0.5 * penalty(v - target, delta).mean(), v


def actor_loss(
    actor: Actor,
    nets: Networks,
    critic: Network,
    observation: Tensor,
    noise: Tensor,
    alpha: Tensor,
    hyper: Hyperparameters,
    masks: Sequence[Tensor] = (),
    value: Tensor | None = None,
) -> tuple[Tensor, tuple[Tensor, Tensor, Any]]:
    """Return J_pi = E [alpha log pi(a|s) - Q(s, a)] [] ([1] eq. 10 and 12, [2] eq. 7 and 9).

    Also return log pi, a, and the policy's new running statistics.

    noise [k B, ...] samples k actions in each of B states. `value` [B] is V(s), or None if there is no V network: minus
    V(s) is the baseline of the score function, as in haarnoja/sac, or else the mean over the state's other actions.
    """
    repeated = for_samples(observation, noise)
    sample = policy(nets, actor, repeated, noise, hyper)
    q = q_values(nets, critic, repeated, sample.action, masks, hyper)
    climbed = torch.where(hyper["actor_objective"] > 0, q[0], pooled(q, hyper["pessimism"]))
    climbed = torch.where(hyper["actor_objective"] > 1, q.mean(0), climbed)
    cost = alpha * sample.log_pi - climbed
    if sample.score is None:
        return cost.mean(), (sample.log_pi, sample.action, sample.statistics)
    baseline = leave_one_out(cost, len(observation)) if value is None else -value
    return mean_with_score(cost, sample.score, baseline), (sample.log_pi, sample.action, sample.statistics)


def baseline_value(nets: Networks, params: dict[str, Any], observation: Tensor) -> Tensor | None:
    """Return V [B] for the score function's baseline; None without a V network, or if the policy has no score."""
    return v_values(nets, params["value"], observation) if nets.by_score and "value" in params else None


def temperature_loss(
    log_alpha: Tensor, log_pi: Tensor, target_entropy: Tensor, hyper: Hyperparameters
) -> tuple[Tensor, Tensor]:
    """Return J(alpha) = -alpha E [log pi + target entropy] [] ([2] eq. 18); with log alpha: softlearning 01cd86e."""
    weight = torch.where(hyper["temperature_objective"] > 0, log_alpha.exp(), log_alpha)
    return -hyper["learn_temperature"] * weight * (log_pi + target_entropy).mean(), log_alpha


# -- the learner ----------------------------------------------------------------------------------------------

MOVES: tuple[tuple[Moved, ...], ...] = ((), ("actor",), ("temperature",), ("actor", "temperature"))
"""What different updates move besides the critics."""
POLICY_METRICS = names((ACTOR_LOSS, TEMPERATURE_LOSS, ENTROPY, SATURATION))
"""Metrics that only updates of the policy or the temperature compute."""


def init(config: SACConfig, nets: Networks, action_dim: int, draw: Draw, hyper: Hyperparameters) -> State:
    """Return one learner's initial state. Critic i does not depend on the number of critics."""
    of_critics, of_policy = config.layer_norm != "none", config.layer_norm == "all"
    params: dict[str, Any] = {}
    statistics: dict[str, Any] = {}
    if "actor" in nets.bodies:
        params["actor"], statistics["actor"] = init_body(
            draw, "actor", nets.bodies["actor"], nets.actor, None, nets.initialisation
        )
    else:
        params["actor"] = init_policy(draw, nets, action_dim, of_policy, config.state_dependent_std)
    if "critic" in nets.bodies:
        params["critic"], statistics["critic"] = init_body(
            draw, "critic", nets.bodies["critic"], nets.critic, nets.critics, nets.initialisation
        )
    else:
        params["critic"] = init_mlp(draw, "critic", nets.critic, nets.critics, of_critics, nets.initialisation)
    params = {name: project(nets, name, parameters) for name, parameters in params.items()}
    params["temperature"] = torch.where(hyper["temperature"] > 0, hyper["temperature"], 1.0).log()
    if config.value_network:
        params["value"] = init_mlp(draw, "value", nets.value, None, of_critics, nets.initialisation)
    state = {
        "params": params,
        "target": tree_map(torch.clone, params["value" if config.value_network else "critic"]),
        "adam": {name: adam_init(p) for name, p in params.items()},
        "target_in": hyper["target_period"].clone(),  # updates until the target's next step
        "updates": torch.zeros((), dtype=torch.int64),
    }
    if max(config.delays.values()) > 1:
        state["of_policy"] = {name: torch.zeros_like(params["temperature"]) for name in POLICY_METRICS}
    if statistics:
        state["statistics"] = statistics
    if not config.target_network:
        del state["target"]
    if config.target_policy:
        state["target_policy"] = tree_map(torch.clone, params["actor"])
    if config.normalize_observations:
        state["normalizer"] = empty_statistics(params["temperature"], nets.actor[0])
    if config.normalize_rewards:
        state["returns"] = rewards.no_returns(params["temperature"], config.num_envs)
    if config.held_noise:
        state["exploration"] = exploration.no_noise(
            params["temperature"], config.num_envs, action_dim + (config.mixture > 1)
        )
    if config.reset_steps and nets.renormalises:
        state["reset_at"] = state["updates"].clone()
    if config.reset_steps:
        state["initial"] = {name: tree_map(torch.clone, state[name]) for name in RESET if name in state}
    return state


RESET = ("params", "target", "adam", "statistics", "target_policy")
"""The parts of a state that a reset returns to their start."""


def reset(state: State) -> State:
    """Return a state with the initial networks, optimizers and temperature (arXiv 2405.16158)."""
    if "reset_at" in state:
        state = state | {"reset_at": state["updates"].clone()}
    return state | {name: tree_map(torch.clone, part) for name, part in state["initial"].items()}


def after_reset(update: Update, state: State, *arguments: Any) -> tuple[State, dict[str, Tensor]]:
    """Make an update of a state that was reset."""
    return update(reset(state), *arguments)


RUNNING = ("normalizer", "statistics")
"""The parts of a state with which networks evaluate besides their parameters."""


def network(nets: Networks, statistics: State, name: str, parameters: Any, training: Training | None = None) -> Any:
    """Return parameters `name` as a network that can be evaluated: with body and statistics if it is not plain."""
    body = nets.bodies.get(name)
    return parameters if body is None else Built(body, parameters, statistics[name], training)


def project(nets: Networks, name: str, parameters: Any) -> Any:
    """Return parameters `name`, those of a policy or critics projected as the config says."""
    if nets.project == "none" or name not in nets.bodies:
        return parameters
    return projected(parameters, norms=nets.project == "weights-and-norms")


def acting(state: State) -> dict[str, Any]:
    """Return the part of a state that acting needs: a run's policy."""
    return {"actor": state["params"]["actor"]} | {name: state[name] for name in RUNNING if name in state}


def weights(state: State) -> State:
    """Return what a run passes on: parameters, and statistics of observations and of batches."""
    return {name: state[name] for name in ("params", *RUNNING) if name in state}


def with_temperature(weights: State, alpha: Tensor) -> State:
    """Return the weights with another alpha [], for a learner that learns it."""
    return weights | {"params": weights["params"] | {"temperature": alpha.log()}}


def start(state: State, weights: State, hyper: Hyperparameters) -> State:
    """Return a new state with another learner's weights, including its alpha unless that is fixed."""
    own, params = state["params"]["temperature"], weights["params"]
    learned = hyper["learn_temperature"] > 0
    params = params | {"temperature": torch.where(learned, params["temperature"], own)}
    targets = {name: tree_map(torch.clone, part) for name, part in followed(params).items() if name in state}
    return state | weights | targets | {"params": params}


def followed(params: State) -> State:
    """Return the networks that each target follows."""
    return {"target": params["value" if "value" in params else "critic"], "target_policy": params["actor"]}


def act(
    nets: Networks,
    noise_dim: int,
    acting: dict[str, Any],
    hyper: Hyperparameters,
    observation: Tensor,
    noise: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return sampled and mean actions [N, A] of observation [N, D]: noise [N, noise_dim, or more columns]."""
    if "normalizer" in acting:
        observation = standardized(observation, acting["normalizer"])
    actor = network(nets, acting.get("statistics", {}), "actor", acting["actor"])
    sample = policy(nets, actor, observation, noise[..., :noise_dim], hyper)
    return sample.action, sample.mean


def drawn_critics(nets: Networks, target: Any, noise: dict[str, Tensor]) -> Any:
    """Return the target critics of an update: all, or a random subset (REDQ: arXiv 2101.05982, Algorithm 1)."""
    if not nets.target_critics:
        return target
    subset = noise["target_critics"].argsort()[: nets.target_critics]
    return tree_map(lambda leaf: leaf[subset], target)


def updates_made(nets: Networks, state: State) -> dict[str, Tensor]:
    """Return how many updates of the critics and of the policy were made, since the last reset if that is known."""
    made = {"critic": state["updates"], "actor": state["updates"] // nets.actor_delay}
    if "reset_at" not in state:
        return made
    return {
        "critic": made["critic"] - state["reset_at"],
        "actor": made["actor"] - state["reset_at"] // nets.actor_delay,
    }


def training_mode(nets: Networks, hyper: Hyperparameters, updates: Tensor) -> Training:
    """Return how batches are normalised in the update of a network after `updates` [] others."""
    renormalised = updates > hyper["renorm_after"] if nets.renormalises else None
    return Training(hyper["norm_momentum"], renormalised)


def temperature(params: dict[str, Any], hyper: Hyperparameters) -> Tensor:
    """Return alpha []."""
    return torch.where(hyper["learn_temperature"] > 0, params["temperature"].exp(), hyper["temperature"])


def update(
    nets: Networks,
    moves: Collection[Moved],
    state: State,
    hyper: Hyperparameters,
    batch: Batch,
    noise: dict[str, Tensor],
) -> tuple[State, dict[str, Tensor]]:
    """Update (V), Q, the policy and the temperature as `moves` says, then targets; return state and metrics [].

    Metrics of the policy that this update does not compute are those of the last that did, 0 before the first.
    """
    params, adam_state, metrics = dict(state["params"]), dict(state["adam"]), {}
    new = state | {"updates": state["updates"] + 1}
    if "normalizer" in state:
        seen = {name: standardized(batch[name], state["normalizer"]) for name in ("observation", "next_observation")}
        batch = batch | seen
    if "returns" in state:
        batch = batch | {"reward": batch["reward"] / rewards.spread(state["returns"], hyper)}
    observation, next_observation = batch["observation"], batch["next_observation"]
    spread = {name: hyper["stochastic_updates"] * noise[name] for name in ("policy", "next_policy") if name in noise}
    alpha = temperature(params, hyper)
    statistics = dict(state.get("statistics", {}))
    training = {name: training_mode(nets, hyper, made) for name, made in updates_made(nets, state).items()}

    def masks(name: str) -> list[Tensor]:
        return dropout(noise, name, hyper["dropout_rate"])

    def descend(name: str, loss: Callable[..., Any], *arguments: Any) -> Any:
        def of(parameters: Any) -> Any:
            return loss(network(nets, statistics, name, parameters, training.get(name)), *arguments)

        gradient, (metrics[f"{name}_loss"], extras) = grad_and_value(of, has_aux=True)(params[name])
        params[name], adam_state[name] = step(
            nets.optimizer, name, params[name], gradient, adam_state[name], state["updates"], hyper
        )
        params[name] = project(nets, name, params[name])
        return extras

    def move_critics() -> None:
        backup_alpha = temperature(params, hyper) * hyper["entropy_in_backup"]
        if "value" in params:
            sample = policy(nets, params["actor"], observation, spread["policy"], hyper)
            q = q_values(nets, params["critic"], observation, sample.action, masks("target"))
            v_target = soft_value(pooled(q, hyper["pessimism"]), sample.log_pi, backup_alpha)
            metrics["v"] = descend("value", value_loss, nets, observation, v_target, threshold(nets, hyper)).mean()
            next_action = None
            v = v_values(nets, state["target"], next_observation)
            target: Returns | Callable[[Tensor], Returns] = Returns(bellman_target(batch, v, hyper))
        else:
            actor = network(nets, statistics, "actor", state.get("target_policy", params["actor"]))
            next_action, next_log_pi, *_ = policy(nets, actor, next_observation, spread["next_policy"], hyper)

            def target_of(outputs: Tensor) -> Returns:
                pool = pooled_returns(nets.head, outputs, hyper)
                value = soft_value(pool.values, next_log_pi, backup_alpha)
                return pool._replace(values=bellman_target(batch, value, hyper))

            target = target_of  # for the outputs of the critics' own pass, unless other networks or passes have them
            if nets.target_network or not nets.joint_pass:
                critics = state.get("target", params["critic"]), {"critic": statistics.get("critic", ())}
                followers, running = drawn_critics(nets, critics, noise)
                critic = network(nets, running, "critic", followers, training["critic"])
                target = target_of(next_outputs(nets, critic, batch, next_action, masks("target")))

        arguments = (nets, batch, next_action, target, masks("critic"), hyper)
        q, metrics["q_target"], statistics["critic"] = descend("critic", critics_loss, *arguments)
        metrics["q"] = q.mean()

    def move_policy(critic: Network | Built) -> None:
        if "actor" in moves:
            v = baseline_value(nets, state["params"], observation)  # before its step, which had the same actions
            log_pi, action, statistics["actor"] = descend(
                "actor", actor_loss, nets, critic, observation, spread["policy"], alpha, hyper, masks("actor"), v
            )
        else:
            actor, repeated = (
                network(nets, statistics, "actor", params["actor"]),
                for_samples(observation, spread["policy"]),
            )
            action, log_pi, *_ = policy(nets, actor, repeated, spread["policy"], hyper)
        if "temperature" in moves:
            target_entropy = -hyper["target_entropy_scale"] * action.shape[-1] + hyper["target_entropy"]
            descend("temperature", temperature_loss, log_pi, target_entropy, hyper)
        metrics.update(entropy=-log_pi.mean(), saturation=(action.abs() > 0.99).to(alpha.dtype).mean())

    before = network(nets, statistics, "critic", params["critic"])
    if moves and nets.update_order == "policy-first":
        move_policy(before)
    move_critics()
    if moves and nets.update_order != "policy-first":
        after = network(nets, statistics, "critic", params["critic"])
        move_policy(before if nets.update_order == "together" else after)
    if "of_policy" in state:
        metrics = state["of_policy"] | metrics
        new["of_policy"] = {name: metrics[name] for name in POLICY_METRICS}

    if nets.bodies:
        new["statistics"] = {name: statistics[name] for name in nets.bodies}
    online = {name: part for name, part in followed(params).items() if name in state}
    targets, target_in = follow({name: state[name] for name in online}, online, state["target_in"], hyper)
    metrics["temperature"] = alpha
    return new | targets | {"params": params, "adam": adam_state, "target_in": target_in}, metrics


def value(
    nets: Networks, noise_dim: int, state: State, hyper: Hyperparameters, observation: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Return Q [N], pooled as in targets, and -alpha log pi [N] of sampled actions; noise as in `act`.

    The latter is 0 if the targets leave out the entropy. Both are NaN if losses use mean actions.
    """
    if "normalizer" in state:
        observation = standardized(observation, state["normalizer"])
    params, statistics = state["params"], state.get("statistics", {})
    sample = policy(
        nets, network(nets, statistics, "actor", params["actor"]), observation, noise[..., :noise_dim], hyper
    )
    critic = network(nets, statistics, "critic", params["critic"])
    outputs = critic_outputs(nets, critic, observation, sample.action)
    sampled = torch.where(hyper["stochastic_updates"] > 0, 1.0, torch.nan)
    if "returns" in state:
        sampled = sampled * rewards.spread(state["returns"], hyper)
    bonus = -temperature(params, hyper) * hyper["entropy_in_backup"] * sample.log_pi
    return sampled * expected_value(nets, outputs, hyper), sampled * bonus


def bound(action_dim: int, hyper: Hyperparameters, metrics: dict[str, Tensor], reward: Tensor) -> Tensor:
    """Return the largest |Q| [] that rewards up to `reward` [] and the recorded temperature allow.

    An entropy is at most A log 2, that of uniform actions. It has no lower bound: where its recorded mean is further
    from 0, that counts.
    """
    entropy = metrics["entropy"].abs().clamp(min=action_dim * math.log(2))
    return q_bound(hyper, reward, metrics["temperature"] * hyper["entropy_in_backup"] * entropy)


def diagnose(
    nets: Networks, state: State, hyper: Hyperparameters, batch: Batch, noise: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Return the variance of the policy's gradient on a batch over sampled actions, by both estimators of `policies`.

    noise["gradient"] is [K, B, A] ([2] section 4.2), and noise["others"], if there is no V network, that of the other
    actions per state which the score function's baseline requires. NaN if losses use mean actions. Dropout is off.
    """
    observation = batch["observation"]
    if "normalizer" in state:
        observation = standardized(observation, state["normalizer"])
    params, alpha, results = state["params"], temperature(state["params"], hyper), {}
    statistics = state.get("statistics", {})
    critic = network(nets, statistics, "critic", params["critic"])
    sampled = torch.where(hyper["stochastic_updates"] > 0, 1.0, torch.nan)
    for metric, by_score in ((GRADIENT_VARIANCE_LIKELIHOOD_RATIO, True), (GRADIENT_VARIANCE_REPARAMETERISED, False)):
        own = replace(nets, score_function=by_score)
        sampled_by = torch.cat(list(noise.values()), dim=1) if own.by_score else noise["gradient"]
        v = baseline_value(own, params, observation)

        def loss(actor: Any, z: Tensor, own: Networks = own, v: Tensor | None = v) -> tuple[Tensor, Any]:
            evaluated = network(own, statistics, "actor", actor)
            return actor_loss(evaluated, own, critic, observation, z, alpha, hyper, (), v)

        def gradient(z: Tensor, loss: Callable[..., Any] = loss) -> Any:
            return grad(loss, has_aux=True)(params["actor"], z)[0]

        together = max(1, ROWS_AT_ONCE // sampled_by.shape[1])
        variance, squared_norm = gradient_spread(gradient, sampled_by, together)
        results[metric.name] = sampled * variance
    return results | {GRADIENT_SQUARED_NORM.name: sampled * squared_norm}


MEASURED_GRADIENTS = 32  # gradients whose variance is measured
ROWS_AT_ONCE = 8192  # inputs that are passed through the networks at once for them
MAX_MEASURED_ROWS = 32 * ROWS_AT_ONCE  # inputs in total: larger batches have fewer gradients


def learner(config: SACConfig, observation_dim: int, action_dim: int) -> Learner:
    """Return SAC's learner for these dimensions."""
    d, a, b = observation_dim, action_dim, config.batch_size
    heads = outputs(a, config.mixture, config.state_dependent_std)
    nets = Networks(
        (d, *config.actor_sizes, heads),
        (d + a, *config.critic_sizes, config.outputs_per_critic),
        (d, *config.critic_sizes, 1),
        config.critics,
        config.activation,
        config.precision,
        config.mixture,
        config.gradient_estimator == "score-function",
        config.log_std_form == "tanh",
        config.target_critics,
        initialisation=config.initialisation,
        huber=config.huber_delta > 0,
        optimizer=optimizer(config),
        head=Head(config.critic_head, config.outputs_per_critic, config.critic_pool),
        bodies={name: BODIES[body] for name, body in config.bodies.items() if body != "plain"},
        norm_epsilon=config.norm_epsilon,
        renormalises=config.renorm_after > 0,
        project=config.project,
        joint_pass=config.joint_pass,
        target_network=config.target_network,
        actor_delay=config.actor_delay,
        update_order=config.update_order,
    )
    extra_noise = int(config.mixture > 1)
    act_with = partial(act, replace(nets, precision="float32"), a + extra_noise)
    programs = {(moves, False): partial(update, nets, moves) for moves in MOVES}
    programs |= {(moves, True): partial(after_reset, partial(update, nets, moves)) for moves in MOVES}
    resets = config.reset_updates

    def program(number: int) -> Update:
        moves = tuple(what for what, delay in config.delays.items() if number % delay == 0)
        return programs[moves, number in resets]

    draws = min(MEASURED_GRADIENTS, max(2, MAX_MEASURED_ROWS // b))
    diagnosis_noise: Shapes = {"gradient": (draws, b, a + extra_noise)}
    if not config.value_network:
        diagnosis_noise["others"] = (draws, (config.score_samples - 1) * b, a + extra_noise)
    update_noise: Shapes = {"policy": (b * config.actions_per_state, a + extra_noise)}
    if not config.value_network:
        update_noise["next_policy"] = (b, a + extra_noise)
    update_uniforms: Shapes = {"target_critics": (config.critics,)} if config.target_critics else {}
    if config.dropout:
        passes = {
            "target": (config.target_critics or config.critics, b),
            "critic": (config.critics, b),
            "actor": (config.critics, b * config.actions_per_state),
        }
        update_uniforms |= {
            f"dropout/{name}/{i}": (*shape, units)
            for name, shape in passes.items()
            for i, units in enumerate(config.critic_sizes)
        }
    return Learner(
        data="replay",
        init=partial(init, config, nets, a),
        policy=acting,
        act=act_with,
        update=programs[MOVES[-1], False],
        schedule=program,
        action_dim=a,
        update_noise=update_noise,
        update_uniforms=update_uniforms,
        extra_noise=extra_noise + config.held_noise,
        batch_size=b,
        metrics=names(METRICS + (VALUE_METRICS if config.value_network else ())),
        q_bound=None if config.normalize_rewards else partial(bound, a),
        value=Value(partial(value, replace(nets, precision="float32"), a + extra_noise), "sample", config.n_step),
        diagnosis=Diagnosis(partial(diagnose, nets), diagnosis_noise, names(GRADIENT_METRICS)),
        explore=partial(exploration.explore, act_with) if config.held_noise else None,
        observe=merged if config.normalize_observations else None,
        collect=rewards.collect if config.normalize_rewards else None,
        weights=weights,
        start=start,
        with_temperature=with_temperature,
    )
