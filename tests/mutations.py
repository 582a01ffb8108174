"""Plant plausible bugs one at a time and report which test catches each: `make mutations` (about half an hour).

Each bug replaces text in one file of a copy of the project. A bug that no test catches, or whose text is not in the
file, is an error. docs/correctness.md lists the output.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
UPDATE = "tests/algorithms tests/training/test_cohort.py"
DATA = "tests/training/test_replay.py tests/training/test_trainer.py tests/envs/test_contract.py"
ANSWERS = "tests/answers"
ACTING = "tests/training/test_acting.py"


class Bug(NamedTuple):
    what: str
    file: str
    old: str
    new: str
    tests: str


OPTIMIZER = "algorithms/optimizer.py"
BODIES, BATCH_NORM, HEADS, OF_PIECES = (
    "algorithms/bodies.py",
    "algorithms/batch_norm.py",
    "algorithms/heads.py",
    "tests/algorithms/test_bodies.py tests/algorithms/test_heads.py tests/algorithms/test_parity_contrib.py",
)
OF_BODIES, OF_HEADS = "tests/algorithms/test_bodies.py", "tests/algorithms/test_heads.py"
REWARDS, EXPLORATION, PIECES = "algorithms/rewards.py", "algorithms/exploration.py", "tests/algorithms/test_pieces.py"
RECIPES = "tests/algorithms/test_parity_successors.py"
OF_OPTIMIZER, OF_CONTRIB = "tests/algorithms/test_optimizer.py", "tests/algorithms/test_parity_contrib.py"
SAC, NETWORKS, RANDOM = "algorithms/sac.py", "algorithms/networks.py", "training/random.py"
CRITICS, TD3, POLICIES = "algorithms/critics.py", "algorithms/td3.py", "algorithms/policies.py"
RUNNING = "algorithms/running_stats.py"
PPO, SQL, ROLLOUT = "algorithms/ppo.py", "algorithms/sql.py", "training/rollout.py"
ON_POLICY = "algorithms/on_policy.py"
OF_PPO = "tests/algorithms/test_ppo.py tests/algorithms/test_parity_ppo.py tests/training/test_rollout.py"
A2C, OF_A2C = "algorithms/a2c.py", "tests/algorithms/test_a2c.py tests/algorithms/test_parity_a2c.py"
TRPO, OF_TRPO = "algorithms/trpo.py", "tests/algorithms/test_trpo.py tests/algorithms/test_parity_trpo.py"
OF_SQL = "tests/algorithms/test_sql.py"
PRECISION = "tests/algorithms/test_precision.py"
REPLAY, TRAINER, ENVS = "training/replay.py", "training/trainer.py", "envs/pool.py"
COHORT, ADAM, EVALUATE = "training/cohort.py", "algorithms/adam.py", "training/evaluate.py"
CHECKPOINT, WORKER, RECORDER, PLAN, ENGINE = (
    f"execution/{name}.py" for name in ("checkpoint", "worker", "recorder", "plan", "engine")
)
STORE, GARBAGE, FIGURES = "store/store.py", "execution/gc.py", "report/figures/curves.py"
COLLECT, LOAD = "results/collect.py", "results/load.py"
SAVED = "tests/execution/test_checkpoint.py tests/execution/test_worker.py"
STORED = "tests/store/test_store.py tests/results/test_results.py tests/execution/test_plan.py"
FAULTS = "tests/execution/test_faults.py"
LOCKS, LEASES, HELD = "store/locks.py", "store/leases.py", "tests/store/test_locks.py"
OWNERS, LIMITS = "tests/execution/test_two_owners.py", "tests/execution/test_limits.py"
CLAIMS, VERDICTS, STATISTICS = (f"analysis/{name}.py" for name in ("claims", "verdicts", "statistics"))
SEQUENTIAL, PERMUTATION = "analysis/sequential.py", "analysis/permutation.py"
SEQUENTIAL_TESTS = "tests/analysis/test_sequential.py"
BUDGET, BOUGHT = "execution/budget.py", "tests/execution/test_budget.py"
CLAIMED = "tests/analysis/test_claims.py tests/spec/test_claim.py"
STARTS = "tests/training/test_initial_weights.py tests/spec/test_warm_start.py"
SCORE, PRUNING, SEARCH, HELD_OUT, TRIALS, TUNE = (
    f"tuning/{name}.py" for name in ("score", "pruning", "search", "held_out", "trials", "tune")
)
EXAMINATIONS, HEAVY, MULTIGOAL = "evaluation/robustness.py", "envs/heavy.py", "envs/multigoal.py"
EXAMINED = "tests/evaluation/test_robustness.py"
EXPLOSION, EXPLODED = "training/explosion.py", "tests/training/test_explosion.py"
LOOKS = "tests/workflow/test_looks.py"
OF_TUNING = "tests/tuning/test_score.py tests/tuning/test_search.py tests/tuning/test_storage.py"

BUGS = [
    Bug(
        "a difference that was not shown is reported as absent",
        "report/answers.py",
        '"**no difference found**"',
        '"**no difference**"',
        "tests/report/test_answers.py",
    ),
    Bug(
        "an interval that excludes 0 is reported as including it",
        "report/answers.py",
        """row["difference_ci_low"] > 0 or row""",
        """False and row""",
        "tests/report/test_answers.py",
    ),
    Bug(
        "more runs are suggested although none has any spread",
        VERDICTS,
        "if is_constant and seeds_needed is None:",
        "if False:",
        "tests/analysis/test_waves.py",
    ),
    Bug(
        "no cohort is divided, so workers idle",
        "execution/schedule.py",
        "while best > (1 + MIN_GAIN) * bound and",
        "while False and",
        "tests/execution/test_schedule.py",
    ),
    Bug(
        "times of another machine count",
        "execution/calibration.py",
        'Machine(speed.get("device", ""), speed.get("compiled", False)) == machine',
        "machine",
        "tests/execution/test_calibration.py",
    ),
    Bug(
        "compiling counts as training in measured rates",
        "execution/calibration.py",
        "if not self._marks and updates >= self._first:",
        "if not self._marks:",
        "tests/execution/test_calibration.py",
    ),
    Bug(
        "a time left is shown before a rate is known",
        "execution/progress.py",
        "if own is None and calibrated.basis is Basis.MODEL:",
        "if False:",
        "tests/execution/test_calibration.py",
    ),
    Bug(
        "runs that failed count as finished in the progress",
        "execution/work.py",
        'return "failed" if run_id in self.failed else self.phase',
        "return self.phase",
        "tests/execution/test_progress.py",
    ),
    Bug(
        "unfinished training gets verdicts",
        "analysis/differences.py",
        "return TRAINING_NOT_OVER if results.manifest.reached else",
        'return "" if results.manifest.reached else',
        "tests/analysis/test_unfinished.py",
    ),
    Bug(
        "two backends of a task count as two tasks",
        "analysis/differences.py",
        "tasks = list(of.manifest.tasks.values()) if len(envs) > 1 else [envs]",
        "tasks = [(env,) for env in envs]",
        "tests/analysis/test_two_backends.py",
    ),
    Bug(
        "an undecided verdict survives a change of backend",
        "analysis/backends.py",
        "if a in undecided or b in undecided:",
        "if a in undecided and b in undecided and a != b:",
        "tests/analysis/test_two_backends.py",
    ),
    Bug(
        "the change of an effect ignores the looks",
        "analysis/backends.py",
        "level = 1 - ALPHA * design.share(a.verdict.look) * design.share(b.verdict.look)",
        "level = 1 - ALPHA",
        "tests/analysis/test_two_backends.py",
    ),
    Bug(
        "settings of a task apply to one backend only",
        "spec/backends.py",
        'return (task_of(env), f"{backend_of(env)}:{task_of(env)}") if self.names else (env,)',
        'return (f"{backend_of(env)}:{task_of(env)}",) if self.names else (env,)',
        "tests/spec/test_backends_key.py",
    ),
    Bug(
        "unfinished runs are compared with longer ones",
        "analysis/scores.py",
        "least = min(counting, default=math.inf)",
        "least = max(counting, default=math.inf)",
        "tests/analysis/test_unfinished.py",
    ),
    Bug(
        "a look that does not fit into the budget is trained",
        "execution/budget.py",
        "ordered or cost(ordered) <= left:",
        "ordered or True:",
        "tests/execution/test_budget.py",
    ),
    Bug(
        "runs of another kind of device are used without a request",
        PLAN,
        "elsewhere = check_devices(requested, store, device, retrain, status_of)",
        "elsewhere = trained_elsewhere(requested, store, device, status_of)",
        "tests/execution/test_plan.py",
    ),
    Bug(
        "a grid extends beyond the last value with a score",
        "analysis/choice.py",
        "[one.options for one in known]",
        "[one.options for one in scored]",
        "tests/analysis/test_choice.py",
    ),
    Bug(
        "an edge of a grid is chosen although an inner candidate is as good",
        "analysis/choice.py",
        "<= within",
        "<= 0.0",
        "tests/analysis/test_choice.py",
    ),
    Bug(
        "one failed seed widens the tolerance of a choice",
        "analysis/choice.py",
        "statistics.median(squared)",
        "statistics.mean(squared)",
        "tests/analysis/test_choice.py",
    ),
    Bug(
        "all variants choose by their scores",
        "analysis/choice.py",
        '"sample" if by == "sampled" else None',
        "None",
        "tests/analysis/test_choice.py",
    ),
    Bug(
        "a run that changed its device counts as its last kind only",
        "results/devices.py",
        'for kind in joined.split("; then ")',
        'for kind in joined.split("; then ")[-1:]',
        "tests/report/test_devices.py",
    ),
    Bug(
        "the largest reward is forgotten when a run resumes",
        TRAINER,
        'self.explosions.restore(tensors.get("explosions"))',
        "pass",
        EXPLODED,
    ),
    Bug(
        "the bound of Q follows the rewards down",
        EXPLOSION,
        "self.bound = np.fmax(self.bound, bound)",
        "self.bound = bound",
        EXPLODED,
    ),
    Bug(
        "a run explodes by a Q of one sign only",
        EXPLOSION,
        "metrics[Q.name].abs().numpy()",
        "metrics[Q.name].numpy()",
        EXPLODED,
    ),
    Bug(
        "the bound of Q leaves out the entropy",
        CRITICS,
        "reward + gamma * entropy) /",
        "reward) /",
        EXPLODED,
    ),
    Bug(
        "all states of episodes that terminate count in the bias of Q",
        "training/q_bias.py",
        "(t < lengths) & (t < limit - rest) & (terminated",
        "(t < lengths) & (terminated",
        "tests/training/test_q_bias.py",
    ),
    Bug("sign of the entropy in the soft value", SAC, "return q - alpha * log_pi", "return q + alpha * log_pi", UPDATE),
    Bug(
        "the same, tested by the learned result", SAC, "return q - alpha * log_pi", "return q + alpha * log_pi", ANSWERS
    ),
    Bug(
        "sign of the entropy in the actor's loss",
        SAC,
        "alpha * sample.log_pi - climbed",
        "-alpha * sample.log_pi - climbed",
        UPDATE,
    ),
    Bug("sign of the target entropy", SAC, '-hyper["target_entropy_scale"]', 'hyper["target_entropy_scale"]', UPDATE),
    Bug("no tanh term in the log-density", NETWORKS, "(log_normal - log_squash)", "log_normal", UPDATE),
    Bug("the same, tested by the learned result", NETWORKS, "(log_normal - log_squash)", "log_normal", ANSWERS),
    Bug("terminal states bootstrap", CRITICS, 'final = batch["terminated"] +', "final =", UPDATE),
    Bug(
        "truncation treated as terminal",
        REPLAY,
        "self._shaped(step.terminated)",
        "self._shaped(step.terminated | step.truncated)",
        DATA,
    ),
    Bug(
        "the same, tested by the learned result",
        REPLAY,
        "self._shaped(step.terminated)",
        "self._shaped(step.terminated | step.truncated)",
        ANSWERS,
    ),
    Bug(
        "truncation bootstraps from the observation after the reset",
        REPLAY,
        "torch.where((slot < 0)[..., None], rows[place(row + 1)][..., :d], final)",
        "rows[place(row + 1)][..., :d]",
        DATA,
    ),
    Bug(
        "next observation is the current observation",
        REPLAY,
        "rows[place(row + 1)]",
        "rows[place(row)]",
        DATA,
    ),
    Bug(
        "n-step windows run across the end of an episode",
        REPLAY,
        "(last[..., -2] == 0) & ",
        "",
        DATA,
    ),
    Bug("n-step bootstrap discounted once", CRITICS, "+ gamma * (1 -", '+ hyper["gamma"] * (1 -', UPDATE),
    Bug(
        "reward scale also applied to the bootstrap",
        CRITICS,
        "+ gamma * (1 -",
        '+ hyper["reward_scale"] * gamma * (1 -',
        UPDATE,
    ),
    Bug(
        "target computed by the online critics",
        SAC,
        'state.get("target", params["critic"])',
        'params["critic"]',
        UPDATE,
    ),
    Bug(
        "target updated before it is used",
        SAC,
        "    before = network(",
        '    if "target" in state and "value" not in params:\n        state = state | {"target": follow(state["target"], params["critic"], 0 * state["target_in"], hyper)[0]}\n    before = network(',
        UPDATE,
    ),
    Bug("tau and 1 - tau swapped", CRITICS, "(1 - tau) * old + tau * new", "tau * old + (1 - tau) * new", UPDATE),
    Bug("quantiles at the edges of their cells", HEADS, "[:, None] + 0.5) / n", "[:, None] + 1.0) / n", OF_PIECES),
    Bug("the smallest quantiles are left out", HEADS, "(rank < kept)", "(rank >= len(values) - kept)", OF_PIECES),
    Bug("quantiles are left out per ensemble", HEADS, "dropped * len(outputs)", "dropped", OF_PIECES),
    Bug("the highest critic in place of the lowest", HEADS, ".argmin(0)", ".argmax(0)", OF_PIECES),
    Bug("categorical targets are not clipped to the atoms", HEADS, ".clamp(atoms[0], atoms[-1])", "", OF_PIECES),
    Bug("batch statistics of all critics", BATCH_NORM, "x.mean(-2)", "x.mean(-2).mean(0, keepdim=True)", OF_PIECES),
    Bug(
        "running statistics move by 1 - momentum",
        BATCH_NORM,
        "training.momentum * (mean",
        "(1 - training.momentum) * (mean",
        OF_PIECES,
    ),
    Bug("renormalisation without its shift", BATCH_NORM, "d * norm.gain + norm.shift", "norm.shift", OF_PIECES),
    Bug(
        "batch norm adds epsilon to the deviation",
        BATCH_NORM,
        "torch.rsqrt(variance + epsilon)",
        "1 / (variance.sqrt() + epsilon)",
        OF_BODIES,
    ),
    Bug(
        "updates use running statistics",
        SAC,
        "parameters, training.get(name)), *arguments)",
        "parameters), *arguments)",
        OF_CONTRIB,
    ),
    Bug(
        "critics in the policy's loss use the batch's statistics",
        SAC,
        'after = network(nets, statistics, "critic", params["critic"])',
        'after = network(nets, statistics, "critic", params["critic"], training["critic"])',
        RECIPES,
    ),
    Bug(
        "batches are renormalised from the start",
        SAC,
        'updates > hyper["renorm_after"]',
        'updates > -hyper["renorm_after"]',
        OF_CONTRIB,
    ),
    Bug(
        "batches are renormalised at once after a reset",
        SAC,
        'made["critic"] - state["reset_at"]',
        'made["critic"]',
        PIECES,
    ),
    Bug("residual blocks lose their input", BODIES, "return x + y, new", "return y, new", OF_BODIES),
    Bug(
        "a residual block's norm comes after it",
        BODIES,
        "inner=(LAYER_NORM, WIDE, ACTIVATION, LINEAR)",
        "inner=(WIDE, ACTIVATION, LINEAR, LAYER_NORM)",
        OF_BODIES,
    ),
    Bug(
        "batch norm after the activation instead of before",
        BODIES,
        "block=(FREE, BATCH_NORM, ACTIVATION)",
        "block=(FREE, ACTIVATION, BATCH_NORM)",
        OF_BODIES,
    ),
    Bug("no norm of the input", BODIES, "first=(BATCH_NORM,), block=(LINEAR", "block=(LINEAR", OF_BODIES),
    Bug("features leave the sphere", BODIES, "FREE, UNIT)), UNIT)", "FREE, UNIT)),)", OF_BODIES),
    Bug("interpolation by the wrong share", BODIES, "/ (blocks + 1)", "/ blocks", OF_BODIES),
    Bug("a constant of 1 instead of 3 is appended", BODIES, "C_SHIFT = 3.0", "C_SHIFT = 1.0", OF_BODIES),
    Bug("scalers start at the wrong size", BODIES, "op.initial / op.scale * part", "op.initial * part", OF_BODIES),
    Bug("the root of the mean square without its root", BODIES, "torch.rsqrt((x**2)", "1 / ((x**2)", OF_BODIES),
    Bug(
        "the policy has the critics' body",
        "options/pieces.py",
        '"actor": self.actor_body or self.body',
        '"actor": self.body',
        OF_BODIES,
    ),
    Bug(
        "gain and shift are projected each by itself",
        BODIES,
        "*to_norm(tuple(part), -1, math.sqrt(part.gain.shape[-1]))",
        "*(to_norm((p,), -1, math.sqrt(part.gain.shape[-1]))[0] for p in part)",
        OF_BODIES,
    ),
    Bug(
        "the policy is not projected",
        SAC,
        'if nets.project == "none" or name not in nets.bodies:',
        'if nets.project == "none" or name != "critic":',
        OF_BODIES,
    ),
    Bug("atoms from 0 to v_max", HEADS, "low + place * (high - low)", "place * high", OF_HEADS),
    Bug("kappa is 1 in the linear part", HEADS, "size - 0.5 * kappa", "size - 0.5", OF_HEADS),
    Bug("quantile errors with the opposite sign", HEADS, "(error.detach() < 0)", "(error.detach() > 0)", OF_HEADS),
    Bug(
        "half of the default atoms",
        "options/pieces.py",
        '"quantile": 25, "categorical": 101',
        '"quantile": 12, "categorical": 51',
        "tests/training/test_flops.py",
    ),
    Bug(
        "targets from the critics although they have a target network",
        SAC,
        'critics = state.get("target", params["critic"])',
        'critics = params["critic"]',
        RECIPES,
    ),
    Bug(
        "separate passes in place of joint ones for targets",
        CRITICS,
        "if not nets.joint_pass:\n        return critic_outputs(nets, critics, batch",
        "if True:\n        return critic_outputs(nets, critics, batch",
        RECIPES,
    ),
    Bug(
        "rewards are multiplied by the spread of returns",
        SAC,
        'batch["reward"] / rewards.spread',
        'batch["reward"] * rewards.spread',
        PIECES,
    ),
    Bug("returns go on in the next episode", REWARDS, "running * (1 - done)", "running", PIECES),
    Bug(
        "the largest return does not count",
        REWARDS,
        'torch.maximum(deviation(returns["statistics"]), largest)',
        'deviation(returns["statistics"])',
        PIECES,
    ),
    Bug(
        "return_bound multiplies the largest return",
        REWARDS,
        'returns["largest"] / torch.where',
        'returns["largest"] * torch.where',
        PIECES,
    ),
    Bug("noise is held one step too long", EXPLORATION, 'held["left"] <= 0', 'held["left"] < 0', PIECES),
    Bug("noise is held with probability n^-1", EXPLORATION, "** -2", "** -1", PIECES),
    Bug(
        "a reset keeps the optimizers",
        SAC,
        'RESET = ("params", "target", "adam",',
        'RESET = ("params", "target",',
        PIECES,
    ),
    Bug(
        "resets one update late",
        "options/pieces.py",
        "self.updates_due(step) + 1",
        "self.updates_due(step) + 2",
        PIECES,
    ),
    Bug(
        "the policy moves last although it should be first",
        SAC,
        'if moves and nets.update_order == "policy-first":',
        "if False:",
        PIECES,
    ),
    Bug(
        "updates together are updates in order",
        SAC,
        'before if nets.update_order == "together" else after',
        "after",
        PIECES,
    ),
    Bug("decoupled decay ignores the learning rate", OPTIMIZER, "p - rate * decay * p", "p - decay * p", OF_OPTIMIZER),
    Bug(
        "rates fall to 0 instead of their final share",
        OPTIMIZER,
        "return final + (1 - final) * left",
        "return left",
        OF_OPTIMIZER,
    ),
    Bug("a cosine without its square", OPTIMIZER, "left) ** 2", "left)", OF_OPTIMIZER),
    Bug("beta1 in place of beta2", ADAM, "beta2 * v + (1 - beta2)", "beta1 * v + (1 - beta1)", OF_OPTIMIZER),
    Bug("Adam's epsilon is always the default", OPTIMIZER, 'hyper["adam_epsilon"]', "1e-8", OF_OPTIMIZER),
    Bug(
        "targets of all critics' outputs instead of the pool",
        HEADS,
        'if head.pool == "truncated":',
        "if False:",
        OF_CONTRIB,
    ),
    Bug("rows instead of columns have norm 1", BODIES, "(part.weight,), -2, 1.0", "(part.weight,), -1, 1.0", OF_PIECES),
    Bug(
        "the next states' half of a joint pass is trained",
        CRITICS,
        "target(own.detach())",
        "target(outputs.detach())",
        OF_PIECES,
    ),
    Bug(
        "min in place of mean",
        HEADS,
        "(1 - pessimism) * q.mean(0) + pessimism * q.amin",
        "(1 - pessimism) * q.amin(0) + pessimism * q.amin",
        UPDATE,
    ),
    Bug(
        "actor uses the critics from before the update",
        SAC,
        'move_policy(before if nets.update_order == "together" else after)',
        "move_policy(before)",
        UPDATE,
    ),
    Bug(
        "V learns without the entropy",
        SAC,
        'soft_value(pooled(q, hyper["pessimism"]), sample.log_pi, backup_alpha)\n            metrics',
        'pooled(q, hyper["pessimism"])\n            metrics',
        UPDATE,
    ),
    Bug(
        "alpha not detached: the actor's loss moves it too",
        SAC,
        "(log_pi + target_entropy).mean(), log_alpha",
        "(log_pi + target_entropy).mean() + log_alpha.exp() * log_pi.mean(), log_alpha",
        UPDATE,
    ),
    Bug(
        "temperature loss on alpha instead of log alpha",
        SAC,
        'hyper["temperature_objective"] > 0',
        'hyper["temperature_objective"] > -1',
        UPDATE,
    ),
    Bug("a fixed temperature is learned", SAC, '-hyper["learn_temperature"] * weight', "-weight", UPDATE),
    Bug(
        "all members start from one temperature",
        SAC,
        '    params["temperature"] = torch.where(hyper["temperature"] > 0, hyper["temperature"], 1.0).log()\n',
        '    params["temperature"] = torch.tensor(config.temperature or 1.0, dtype=hyper["temperature"].dtype).log()\n',
        UPDATE,
    ),
    Bug(
        "deviation not clipped",
        POLICIES,
        "torch.clamp(log_std, low, high)",
        "log_std",
        UPDATE,
    ),
    Bug(
        "noise shared by the policy and the target",
        SAC,
        'next_observation, spread["next_policy"]',
        'next_observation, spread["policy"]',
        UPDATE,
    ),
    Bug(
        "noise shared by all members",
        COHORT,
        "WordsAhead(self._update_draws, self.seeds)",
        "WordsAhead(self._update_draws, self.seeds * 0)",
        UPDATE,
    ),
    Bug(
        "noise the same at every update",
        COHORT,
        "self._update_words.of(at, len(numbers))",
        "self._update_words.of(0, 1) * len(numbers)",
        UPDATE,
    ),
    Bug("fan-in from the wrong axis", NETWORKS, "math.sqrt(fan_in)", "math.sqrt(fan_out)", UPDATE),
    Bug(
        "Adam without bias correction",
        ADAM,
        "learning_rate / (1 - beta1_power)",
        "learning_rate",
        "tests/algorithms/test_adam.py",
    ),
    Bug(
        "one norm for all critics",
        OPTIMIZER,
        'torch.func.vmap(clipped, (0, None)) if name == "critic" else clipped',
        "clipped",
        UPDATE,
    ),
    Bug(
        "the V network gets the policy's L2 penalty",
        OPTIMIZER,
        '"value": "critic_weight_decay"',
        '"value": "actor_weight_decay"',
        UPDATE,
    ),
    Bug("rates fall from the first update on", OPTIMIZER, "of.starts + updates", "updates", UPDATE),
    Bug("Huber's slope halved", CRITICS, "delta * (2 * size - delta)", "delta * (size - delta)", UPDATE),
    Bug(
        "Glorot's bound uses only the fan-in",
        NETWORKS,
        "weight = math.sqrt(6 / (fan_in + fan_out))",
        "weight = math.sqrt(3 / fan_in)",
        UPDATE,
    ),
    Bug("policy with the critics' layers", SAC, "(d, *config.actor_sizes,", "(d, *config.critic_sizes,", UPDATE),
    Bug(
        "one round of Threefry too few",
        RANDOM,
        "for group in range(5)",
        "for group in range(4)",
        "tests/training/test_random.py",
    ),
    Bug(
        "one minibatch for all members",
        REPLAY,
        "    def place(row: Tensor)",
        "    row, env = row[:1].expand_as(row), env[:1].expand_as(env)\n\n    def place(row: Tensor)",
        DATA,
    ),
    Bug(
        "utd divided by the number of environments",
        TRAINER,
        "updates_due(self.steps)",
        "updates_due(self.config.updates_start + (self.steps - self.config.updates_start) // self.config.num_envs)",
        DATA,
    ),
    Bug(
        "updates before the replay holds a batch",
        "options/config.py",
        "return max(self.learning_starts, _rounded_up(least, self.num_envs) - self.num_envs)",
        "return self.learning_starts",
        UPDATE,
    ),
    Bug(
        "one minibatch for all updates of a step",
        COHORT,
        "self._update_words.of(at, len(numbers))",
        "self._update_words.of(at, 1) * len(numbers)",
        DATA,
    ),
    Bug(
        "neighbouring seeds share environments",
        TRAINER,
        "derived_seeds(seed, ",
        "(lambda s, _, i, c: list(range(s, s + c)))(seed, ",
        DATA,
    ),
    Bug(
        "actions not scaled to the environment's bounds",
        "envs/known.py",
        "low + (action.astype(np.float64) + 1) / 2 * (high - low)",
        "action.astype(np.float64)",
        DATA,
    ),
    Bug(
        "training acts on zero observations",
        TRAINER,
        "observation = self.replay.newest.clone(",
        "observation = (self.replay.newest * 0).clone(",
        ACTING,
    ),
    Bug(
        "random actions forever",
        TRAINER,
        "self.replay.clock() >= self",
        "self.replay.clock() > self.replay.clock() + self",
        ACTING,
    ),
    Bug(
        "exploration by the mean action",
        COHORT,
        "action, _ = self._act_all",
        "_, action = self._act_all",
        ACTING,
    ),
    Bug(
        "exploration noise shared by all members",
        COHORT,
        "WordsAhead(self._explore_draws, self.seeds)",
        "WordsAhead(self._explore_draws, self.seeds * 0)",
        ACTING,
    ),
    Bug("uniform exploration noise", COHORT, 'moment.normal("explore")', 'moment.uniform("explore")', ACTING),
    Bug("evaluation acts on its first observation", EVALUATE, "        observation = step.observation\n", "", ACTING),
    Bug(
        "evaluation: mean and sampled actions swapped",
        EVALUATE,
        "sampled, mean = cohort.act",
        "mean, sampled = cohort.act",
        ACTING,
    ),
    Bug(
        "evaluation noise the same at every step",
        EVALUATE,
        "words.at(int(lengths.max()))",
        "words.at(0)",
        ACTING,
    ),
    Bug(
        "float64 runs use float32",
        TRAINER,
        "dtype_of(self.config), device, compiled)\n        self.replay",
        "torch.float32, device, compiled)\n        self.replay",
        ACTING,
    ),
    Bug(
        "episode returns lost when resuming",
        TRAINER,
        'self._returns = tensors["returns"].numpy()',
        "self._returns = np.zeros_like(self._returns)",
        DATA,
    ),
    Bug("episode returns continue in a new pool", TRAINER, "            self._returns[:] = 0.0\n", "", DATA),
    Bug(
        "cohort width decides which library computes small products",
        "algorithms/networks.py",
        "rows * x.shape[-1] * columns <= SMALL_PRODUCT or rows == 1 or columns == 1",
        "False",
        "tests/training/test_widths.py",
    ),
    Bug(
        "position in a cohort decides which function computes log(1 - tanh^2)",
        "algorithms/networks.py",
        "2 * (math.log(2) - u.abs() - torch.log1p(torch.exp(-2 * u.abs())))",
        "2 * (math.log(2) - u - F.softplus(-2 * u))",
        "tests/training/test_widths.py",
    ),
    Bug("metrics summed, not averaged", COHORT, "self._sums.cpu() / counts[:, None]", "self._sums.cpu() / 1", UPDATE),
    Bug("saturation inverted", SAC, "(action.abs() > 0.99)", "(action.abs() < 0.99)", UPDATE),
    Bug("all environments reset when one ends", ENVS, '"reset_mask": done}', '"reset_mask": np.ones_like(done)}', DATA),
    Bug(
        "evaluation counts past the end of the episode",
        "envs/pool.py",
        "places = np.flatnonzero(running).astype(np.int32)",
        "places = np.arange(len(running), dtype=np.int32)",
        DATA,
    ),
    Bug(
        "last layers' products in bfloat16",
        NETWORKS,
        'precision == "bfloat16" and i < len(network) - 1',
        'precision == "bfloat16"',
        PRECISION,
    ),
    Bug("acting in bfloat16", SAC, 'act, replace(nets, precision="float32")', "act, nets", PRECISION),
    Bug(
        "sums of metrics not reset after each segment",
        COHORT,
        "self._sums.zero_()",
        "pass",
        "tests/training/test_cohort.py",
    ),
    Bug(
        "replay memory filled at creation",
        REPLAY,
        "_of_any_length(torch.empty(m, ring",
        "_of_any_length(torch.ones(m, ring",
        "tests/execution/test_machine.py",
    ),
    Bug("metrics after a member diverged are counted", COHORT, "healthy &= values.isfinite().all(1)", "pass", UPDATE),
    Bug("means of metrics that are already cleared", COHORT, '.to("cpu", copy=True)', ".cpu()", UPDATE),
    Bug("divergence reported at the start of the segment", TRAINER, "+ int(finite_updates[m]) + 1", "+ 1", DATA),
    Bug("damaged checkpoint is used", CHECKPOINT, "check(self.path / name, fingerprint)", "pass", SAVED),
    Bug(
        "damaged tables are continued",
        CHECKPOINT,
        'run.check_tables(checkpoint["tables"][run.id], _added(checkpoint, run))',
        "pass",
        SAVED,
    ),
    Bug("previous checkpoint is not kept", CHECKPOINT, "KEPT_CHECKPOINTS = 2", "KEPT_CHECKPOINTS = 1", SAVED),
    Bug("rows beyond the checkpoint are kept", CHECKPOINT, "self.cut_back(runs)", "pass", SAVED),
    Bug(
        "rows that are still sampled are dropped", CHECKPOINT, "if _stop(name) > needed}", "if _stop(name) > at}", SAVED
    ),
    Bug(
        "a replay that another command needs is dropped",
        CHECKPOINT,
        'plan["keep_replay"] or steps < plan["furthest"]',
        "False",
        SAVED,
    ),
    Bug(
        "a segment elsewhere is saved before the last one was copied",
        WORKER,
        "self._receipts is not None",
        "False",
        "tests/execution/test_copies.py",
    ),
    Bug("a run is written by two cohorts", WORKER, "stopped or run not in self._own_runs", "stopped", SAVED),
    Bug("conditions of a run's earlier training are forgotten", RECORDER, "[*stages, {", "[{", SAVED),
    Bug(
        "tables of finished runs are not checked", "store/run.py", 'if status["status"] in ENDED:', "if False:", STORED
    ),
    Bug(
        "rows that are not saved yet count",
        COLLECT,
        'rows.table["step"].to_numpy() <= saved[rows.of]',
        'rows.table["step"].to_numpy() >= 0 * saved[rows.of]',
        STORED,
    ),
    Bug(
        "altered tables of an experiment are read", LOAD, 'check(folder / f"{table}.csv", fingerprint)', "pass", STORED
    ),
    Bug("ids may point outside the folder", STORE, "_ID.fullmatch(identifier)", "True", STORED),
    Bug(
        "cohorts planned by a live process are planned again",
        PLAN,
        "if cohort and directory and is_in_use(store, cohort) and (directory.saved() or untouched):",
        "if False:",
        STORED,
    ),
    Bug(
        "a worker does not hold its cohort's lock",
        "execution/launch.py",
        "inherited=job.lock.filenos()",
        "inherited=()",
        LIMITS,
    ),
    Bug(
        "a lease is taken before its length is over",
        LOCKS,
        "return self.clock() - since < length",
        "return False",
        HELD,
    ),
    Bug("a lease is never given back", LEASES, "self._next(RELEASED) is False", "False", HELD),
    Bug(
        "a dead lease of another machine looks alive",
        LOCKS,
        "leases.age(folder / str(number)) > 2 * length",
        "False",
        HELD,
    ),
    Bug("a withdrawn checkpoint is continued from", CHECKPOINT, "not self._last[0].exists()", "False", OWNERS),
    Bug(
        "the former owner of a lease continues",
        CHECKPOINT,
        "if not self._is_owner():\n            raise",
        "if False:\n            raise",
        OWNERS,
    ),
    Bug(
        "the former owner of a lease keeps its commit",
        CHECKPOINT,
        "if not self._is_owner():  # who",
        "if False:  # who",
        OWNERS,
    ),
    Bug("files of a successor are deleted", CHECKPOINT, "if _step(path) <= latest:", "if True:", OWNERS),
    Bug("a paused command resets runs", "store/store.py", "not self._planning.is_held()", "False", OWNERS),
    Bug("nobody renews leases", LOCKS, "self._heart.start()", "pass", HELD),
    Bug("a full disk cannot be freed", LOCKS, "error.errno not in FULL_DISK_ERRORS", "True", HELD),
    Bug(
        "a checkpoint replaces a rival's",
        CHECKPOINT,
        "if not create_json(path, commit):",
        "if write_json(path, commit):",
        OWNERS,
    ),
    Bug("a segment may start that cannot end in time", WORKER, "<= self._limit.left", ">= 0", LIMITS),
    Bug("workers share one GPU", ENGINE, "key=[work.gpu for work in self._active].count", "key=len", LIMITS),
    Bug(
        "merging overwrites runs",
        "store/merge.py",
        'own["status"] in ("new", "planned", "failed") and not own["steps"]',
        "True",
        "tests/store/test_merge.py",
    ),
    Bug(
        "a run that changes while it is copied is merged",
        "store/merge.py",
        "if _has_ended(copy, merged):",
        "if True:",
        "tests/store/test_merge.py",
    ),
    Bug(
        "a job that saved nothing is queued again",
        "cli/slurm.py",
        'if [ -n "$saved" ]; then',
        "if true; then",
        "tests/cli/test_scaling.py",
    ),
    Bug(
        "a share changes with what is requested",
        "spec/shard.py",
        "int(root, 16) % self.count",
        "sorted(roots).index(root) % self.count",
        "tests/spec/test_shard.py",
    ),
    Bug("ended run is joined and trained again", PLAN, "(directory.saved() or untouched)", "True", STORED),
    Bug("a trained run is started again", WORKER, '(*ENDED, "damaged") or status["steps"]:', '("no",):', SAVED),
    Bug("a run that was not ended is never ended", PLAN, "and not _must_be_ended(store, status)", "", STORED),
    Bug(
        "a curve ends where its run diverged",
        "analysis/scores.py",
        "= random",
        "= np.nan",
        "tests/report/test_tables.py",
    ),
    Bug(
        "gc frees what is being trained",
        GARBAGE,
        "if planning.is_in_use(store, cohort_id):",
        "if False:",
        "tests/execution/test_gc.py",
    ),
    Bug("truncated episodes never bootstrap", CRITICS, '(1 - hyper["bootstrap_truncated"]) *', "", UPDATE),
    Bug(
        "losses use samples where they should be deterministic",
        SAC,
        'hyper["stochastic_updates"] * noise[name]',
        "noise[name]",
        UPDATE,
    ),
    Bug("target noise is not clipped", TD3, ".clamp(-bound, bound)", "", UPDATE),
    Bug(
        "smoothed actions leave the bounds", TD3, "clamp(-bound, bound)).clamp(-1, 1)", "clamp(-bound, bound))", UPDATE
    ),
    Bug("policy loss uses all critics", TD3, "leaf[:1]", "leaf", UPDATE),
    Bug(
        "the policy is used in place of the target policy",
        TD3,
        'policy(nets, target["actor"]',
        'policy(nets, params["actor"]',
        UPDATE,
    ),
    Bug("targets move at every update", TD3, "        target = polyak", "    target = polyak", UPDATE),
    Bug(
        "noise is not reset at the start of an episode",
        TD3,
        "torch.where(started[:, None] > 0, 0.0, before)",
        "before",
        UPDATE,
    ),
    Bug("noise ignores its correlation", TD3, 'hyper["noise_correlation"] * before', "0 * before", UPDATE),
    Bug(
        "weight decay on the policy",
        OPTIMIZER,
        '"actor": "actor_weight_decay"',
        '"actor": "critic_weight_decay"',
        UPDATE,
    ),
    Bug("every update moves TD3's policy", TD3, "number % config.policy_delay else", "number % 1 else", DATA),
    Bug("the delay is counted from zero", COHORT, "update_of(number + 1)", "update_of(number + 2)", DATA),
    Bug(
        "starts of episodes are not marked",
        REPLAY,
        "return torch.maximum(self.terminated",
        "return 0 * torch.maximum(self.terminated",
        "tests/training/test_replay.py",
    ),
    Bug(
        "PPO has the batches of the other algorithms",
        "options/on_policy.py",
        "class OnPolicyConfig(RolloutConfig, ActorCriticConfig)",
        "class OnPolicyConfig(ActorCriticConfig, RolloutConfig)",
        "tests/algorithms/test_config.py",
    ),
    Bug("sign of the surrogate", PPO, "policy_loss = -torch.minimum(", "policy_loss = torch.minimum(", OF_PPO),
    Bug("the ratio is not clipped", PPO, "torch.clamp(ratio, 1 - clip, 1 + clip)", "ratio", OF_PPO),
    Bug(
        "advantages run across the end of an episode",
        ON_POLICY,
        '["gae_lambda"] * (1 - done)',
        '["gae_lambda"]',
        OF_PPO,
    ),
    Bug("terminated episodes bootstrap", ON_POLICY, "* (1 - final) * next_value", "* next_value", OF_PPO),
    Bug("returns are advantages", ON_POLICY, '"return": advantage + value', '"return": advantage', OF_PPO),
    Bug("entropy is avoided", PPO, '- hyper["entropy_coefficient"]', '+ hyper["entropy_coefficient"]', OF_PPO),
    Bug("a member that stopped never continues", PPO, 'torch.zeros_like(state["stopped"])', 'state["stopped"]', OF_PPO),
    Bug("running return continues after its episode", ON_POLICY, "returns[-1] * (1 - done[-1])", "returns[-1]", OF_PPO),
    Bug("A2C avoids entropy", A2C, '- hyper["entropy_coefficient"]', '+ hyper["entropy_coefficient"]', OF_A2C),
    Bug("A2C's returns are advantages", A2C, 'value - batch["return"]', 'value - batch["advantage"]', OF_A2C),
    Bug(
        "epsilon inside RMSprop's root",
        "algorithms/rmsprop.py",
        "torch.sqrt(s) + epsilon",
        "torch.sqrt(s + epsilon)",
        OF_A2C,
    ),
    Bug("the Fisher matrix is not damped", TRPO, "along(pull_back(v)[0], damping, v)", "pull_back(v)[0]", OF_TRPO),
    Bug("steps longer than delta are accepted", TRPO, '(kl <= hyper["max_kl"]) & ', "", OF_TRPO),
    Bug("a step that does not improve is accepted", TRPO, " & (reached > old)", "", OF_TRPO),
    Bug("the line search takes the shortest step", TRPO, "every, 0.0).amax()", "every, 1.0).amin()", OF_TRPO),
    Bug("a step that is refused is taken", TRPO, "torch.where(accepted, n, o)", "n", OF_TRPO),
    Bug("conjugate gradient never ends early", TRPO, "active & (squared >= TOLERANCE)", "active", OF_TRPO),
    Bug("the divergence is averaged over dimensions", TRPO, "- difference).sum(-1)", "- difference).mean(-1)", OF_TRPO),
    Bug("every minibatch is the first one", ROLLOUT, "(moment.step % batches)", "(0 * moment.step)", OF_PPO),
    Bug("particles attract each other", SQL, "+ gradient).mean(1)", "- gradient).mean(1)", OF_SQL),
    Bug("the density of uniform actions is 1", SQL, "+ action_dim * math.log(2)", "", OF_SQL),
    Bug(
        "soft values of the online critic",
        SQL,
        'q_particles(nets, state["target"]',
        'q_particles(nets, params["critic"]',
        OF_SQL,
    ),
    Bug("no correction for tanh", SQL, "slope * dq - 2 * action,", "slope * dq,", OF_SQL),
    Bug(
        "score function's actions are not detached",
        POLICIES,
        "Sample(action.detach(), log_pi",
        "Sample(action, log_pi",
        UPDATE,
    ),
    Bug(
        "a sample is part of its own baseline",
        POLICIES,
        "(by_state.sum(0) - by_state) / max(1, len(by_state) - 1)",
        "by_state.mean(0).expand_as(by_state)",
        UPDATE,
    ),
    Bug(
        "the score function's baseline is the mean over all states",
        POLICIES,
        "cost.unflatten(0, (-1, states))",
        "cost.unflatten(0, (-1, 1))",
        UPDATE,
    ),
    Bug("sign of V in the score function's baseline", SAC, "else -value", "else value", UPDATE),
    Bug(
        "a mixture's density is its chosen component's",
        POLICIES,
        "log_density(u) - log_slope",
        "gaussian_log_prob(select(choice, mean), select(choice, log_std), u) - log_slope",
        UPDATE,
    ),
    Bug(
        "a mixture's choice has no gradient",
        POLICIES,
        "(choice * log_weight).sum(-1))",
        "(choice * log_weight).sum(-1).detach())",
        UPDATE,
    ),
    Bug("mixture component chosen by 1 - uniform", POLICIES, "<= uniform", "<= 1 - uniform", UPDATE),
    Bug("a tanh that spans twice the bounds", POLICIES, "0.5 * (high - low)", "(high - low)", UPDATE),
    Bug(
        "every update moves the policy",
        SAC,
        "if number % delay == 0",
        "if True",
        UPDATE,
    ),
    Bug(
        "the temperature waits for the policy although it should not",
        "options/sac.py",
        "self.temperature_delay or self.actor_delay",
        "self.actor_delay",
        UPDATE,
    ),
    Bug(
        "policy acts in the target instead of its average",
        SAC,
        'state.get("target_policy", params["actor"])',
        'params["actor"]',
        UPDATE,
    ),
    Bug(
        "the first target critics are used instead of random ones",
        SAC,
        'noise["target_critics"].argsort()',
        'torch.arange(len(noise["target_critics"]))',
        UPDATE,
    ),
    Bug("kept units are not scaled", CRITICS, ".to(uniform.dtype) / (1 - rate)", ".to(uniform.dtype)", UPDATE),
    Bug("policy's pass reuses the critics' dropout masks", SAC, 'masks("actor")', 'masks("critic")', UPDATE),
    Bug(
        "words drawn ahead are read one step late",
        RANDOM,
        "self._block[first - self._first :]",
        "self._block[max(0, first - self._first - 1) :]",
        "tests/training/test_random.py",
    ),
    Bug(
        "layer normalisation after the activation",
        NETWORKS,
        "x = F.layer_norm(x,",
        "x = F.layer_norm(x.relu(),",
        UPDATE,
    ),
    Bug(
        "next observations are not normalised",
        SAC,
        'for name in ("observation", "next_observation")}',
        'for name in ("observation",)}',
        UPDATE,
    ),
    Bug("merged variance ignores the distance between means", RUNNING, ".mean(0) + between", ".mean(0)", UPDATE),
    Bug(
        "observations are not counted",
        TRAINER,
        "        self.cohort.observe(observation)\n",
        "",
        DATA,
    ),
    Bug("acting on observations that are not normalised", SAC, 'if "normalizer" in acting:', "if False:", UPDATE),
    Bug("bandwidth ignores the number of particles", SQL, "/ math.log(x.shape[1])", "", OF_SQL),
    Bug(
        "diverged runs keep their own score", SCORE, "worst[env] if run.diverged else run.value", "run.value", OF_TUNING
    ),
    Bug("the worst trials continue", PRUNING, "sum(other > value", "sum(other < value", OF_TUNING),
    Bug("all brackets prune at every rung", SEARCH, "if rung < own_bracket:", "if False:", OF_TUNING),
    Bug("the worst trial wins", HELD_OUT, "-(t.value or 0.0)", "(t.value or 0.0)", OF_TUNING),
    Bug(
        "the winner is checked on the search's seeds",
        TUNE,
        "held_out_name(study), study.held_out_seeds)",
        "held_out_name(study))",
        OF_TUNING,
    ),
    Bug(
        "a study of SQL is scored by mean actions",
        "tuning/training.py",
        "ALGORITHMS[spec.algorithm].scored_by)",
        '"mean")',
        OF_TUNING,
    ),
    Bug(
        "share reported for a difference that may be 0",
        "tuning/held_out.py",
        "won.searched_difference.low > 0 and",
        "won.searched_difference.value > 0 and",
        OF_TUNING,
    ),
    Bug(
        "every variant is scored at its own last step",
        "analysis/scores.py",
        "max(set.intersection(*steps)",
        "max(set.union(*steps)",
        "tests/analysis/test_scores.py",
    ),
    Bug(
        "dead tuner's trials are not taken over",
        TRIALS,
        'return not self.store.is_alive(owner["planner"])',
        "return False",
        OF_TUNING,
    ),
    Bug(
        "live tuner's trials are taken over",
        TRIALS,
        'return not self.store.is_alive(owner["planner"])',
        "return True",
        OF_TUNING,
    ),
    Bug(
        "surplus trials are counted",
        TRIALS,
        "if sum(other.number < trial.number",
        "if 0 * sum(other.number < trial.number",
        OF_TUNING,
    ),
    Bug("a half-written line stays in the journal", "tuning/storage.py", "file.truncate(complete)", "pass", OF_TUNING),
    Bug(
        "a narrower cohort of other members",
        REPLAY,
        "chosen = {name: part[keep]",
        "chosen = {name: part[: len(keep)]",
        "tests/execution/test_split.py",
    ),
    Bug(
        "disturbed policy sees undisturbed observations",
        EXAMINATIONS,
        "seen.astype(np.float32)",
        "observation",
        EXAMINED,
    ),
    Bug(
        "observation noise has the same size for all numbers",
        EXAMINATIONS,
        "noise * on_observation",
        "np.mean(noise) * on_observation",
        EXAMINED,
    ),
    Bug(
        "losses are shares of the return, not of the gain",
        EXAMINATIONS,
        "/ (undisturbed - random)",
        "/ undisturbed",
        EXAMINED,
    ),
    Bug(
        "goals are counted from random starts",
        EXAMINATIONS,
        "world=FROM_ORIGIN, sampled=True",
        "sampled=True",
        EXAMINED,
    ),
    Bug(
        "a wide Gaussian has modes",
        MULTIGOAL,
        "np.median(lengths) / 2).mean() <= 0.05",
        "np.median(lengths) / 2).mean() <= 1",
        "tests/envs/test_multigoal.py",
    ),
    Bug(
        "action noise in the environment's units",
        EXAMINATIONS,
        "conditions.action_noise * on_action",
        "conditions.action_noise / np.array(describe(spec.env).action_high) * on_action",
        EXAMINED,
    ),
    Bug(
        "algorithm without a mean action measured by mean actions",
        EXAMINATIONS,
        'conditions.sampled or ALGORITHMS[spec.algorithm].scored_by == "sample"',
        "conditions.sampled",
        EXAMINED,
    ),
    Bug(
        "robustness measure of an earlier policy is kept",
        EXAMINATIONS,
        '(known[name]["policy"], known[name]["version"]) == (policy, one.version)',
        'known[name]["version"] == one.version',
        EXAMINED,
    ),
    Bug(
        "unreached goals are counted",
        EXAMINATIONS,
        "played.last, played.terminated",
        "played.last, played.terminated | True",
        EXAMINED,
    ),
    Bug(
        "heavier bodies keep their inertias", HEAVY, "model.body_inertia *= factor", "pass", "tests/envs/test_heavy.py"
    ),
    Bug(
        "the action's cost is of its norm",
        MULTIGOAL,
        "(u * u + v * v)",
        "(u * u + v * v) ** 0.5",
        "tests/envs/test_multigoal.py",
    ),
    Bug(
        "a learned temperature does not start at the parent's",
        SAC,
        'torch.where(learned, params["temperature"], own)',
        "own",
        STARTS,
    ),
    Bug(
        "a fixed temperature of the parent is ignored",
        "spec/variant.py",
        "return None if before.learned else before.value",
        "return None",
        STARTS,
    ),
    Bug(
        "targets are not copied at a warm start",
        TD3,
        'return state | weights | {"target": tree_map(torch.clone, weights["params"])}',
        "return state | weights",
        STARTS,
    ),
    Bug(
        "all seeds start from the first seed's run",
        WORKER,
        "read(self.store, spec.start)",
        "read(self.store, self._specs[0].start)",
        STARTS,
    ),
    Bug("warm start is not part of a run's id", "spec/run.py", "if self.start else {}", "if False else {}", STARTS),
    Bug(
        "a claim's margin is in units of return",
        CLAIMS,
        "claim.margin * gain if claim.margin",
        "claim.margin if claim.margin",
        CLAIMED,
    ),
    Bug(
        "`no worse` is tested without the margin",
        CLAIMS,
        "(above(-margin, AS_CLAIMED),)",
        "(above(0.0, AS_CLAIMED),)",
        CLAIMED,
    ),
    Bug(
        "two measures of one run are not paired",
        CLAIMS,
        "dtype=float))) if pairs else permuted(a, b)",
        "dtype=float))) if False else permuted(a, b)",
        CLAIMED,
    ),
    Bug(
        "any nonzero difference counts against a claim",
        CLAIMS,
        "(above(margin, AGAINST_CLAIM, sides=2), below(-margin, AGAINST_CLAIM, sides=2))",
        "(above(0.0, AGAINST_CLAIM, sides=2), below(0.0, AGAINST_CLAIM, sides=2))",
        CLAIMED,
    ),
    Bug("growth in units of return", CLAIMS, "tuple(v / one.gain**2 for", "tuple(v for", CLAIMED),
    Bug(
        "a corrected interval that is not corrected",
        SEQUENTIAL,
        "2 * self.levels[family] / hypothesis.sides",
        "alpha",
        "tests/analysis/test_verdicts.py",
    ),
    Bug("verdicts without Holm's correction", SEQUENTIAL, "[holm(of_family)", "[np.array(of_family)", SEQUENTIAL_TESTS),
    Bug(
        "a look has all of the error",
        SEQUENTIAL,
        "one.p_value(trial.evidence) / share)",
        "one.p_value(trial.evidence))",
        SEQUENTIAL_TESTS,
    ),
    Bug(
        "only the last look counts",
        SEQUENTIAL,
        "for of_look in self.tested) if i",
        "for of_look in self.tested[-1:]) if i",
        SEQUENTIAL_TESTS,
    ),
    Bug(
        "a late decision reports the last look",
        SEQUENTIAL,
        "self.path, self.tested = self.path[: at + 1], self.tested[: at + 1]",
        "pass",
        SEQUENTIAL_TESTS,
    ),
    Bug(
        "comparisons do not count before they are tested",
        SEQUENTIAL,
        "if look is None else 1.0)",
        "if look is None else float('nan'))",
        SEQUENTIAL_TESTS,
    ),
    Bug(
        "permutations ignore the spread",
        PERMUTATION,
        "difference / np.sqrt(square)",
        "difference / (square >= 0)",
        "tests/analysis/test_permutation.py",
    ),
    Bug(
        "the observed labelling does not count as a draw",
        PERMUTATION,
        "(at_least + 1) / (len(statistics) + 1)",
        "at_least / len(statistics)",
        "tests/analysis/test_permutation.py",
    ),
    Bug(
        "claim's margin applies to differences of returns",
        "spec/measures.py",
        'return self.unit == "return"',
        "return self.in_returns",
        CLAIMED,
    ),
    Bug(
        "spread is measured from the mean",
        "analysis/measures.py",
        "(of - of.median()).abs()",
        "(of - of.mean()).abs()",
        CLAIMED,
    ),
    Bug(
        "spread is in units of return",
        "analysis/measures.py",
        "(of - of.median()).abs() / of.mean()",
        "(of - of.median()).abs()",
        CLAIMED,
    ),
    Bug(
        "a variant that learns nothing has a relative spread",
        "analysis/measures.py",
        "_nothing() if why_no_values(results, side, env) else RELATIVE",
        "RELATIVE",
        CLAIMED,
    ),
    Bug(
        "a warm start silently ignores a temperature of all variants",
        "spec/warm_start.py",
        'variant.places.get(env, {}).get("temperature")',
        'variant.places.get(env, {}).get("")',
        "tests/spec/test_warm_start.py",
    ),
    Bug(
        "results of different kinds of devices are compared",
        "report/sides.py",
        "not mix_devices and devices(a, b)",
        "False",
        "tests/report/test_devices.py",
    ),
    Bug(
        "claims do not count exploded runs",
        "analysis/claims.py",
        "exploded = [count_exploded(scores(results), env, [side.variant]) for side in sides]",
        "exploded = [0, 0]",
        "tests/report/test_exploded.py",
    ),
    Bug(
        "a policy that stands still gains on a random one",
        "analysis/measures.py",
        "max(_without_learning(results, variant, env))",
        "_without_learning(results, variant, env)[0]",
        CLAIMED,
    ),
    Bug(
        "a fall is from the first evaluation",
        STATISTICS,
        "np.maximum.accumulate(values) - values",
        "values[0] - values",
        CLAIMED,
    ),
    Bug(
        "no weak seed in ten shows that there are none",
        STATISTICS,
        "variances=tuple(float(p * (1 - p)) for p in added)",
        "variances=difference.variances",
        CLAIMED,
    ),
    Bug(
        "only returns have margins",
        CLAIMS,
        "    if kind.margin or not kind.in_returns:\n        return kind.margin\n",
        "    if not kind.in_returns:\n        return None\n",
        CLAIMED,
    ),
    Bug(
        "common part overrides the file",
        "spec/includes.py",
        "table = _over(table, part)",
        "table = _over(part, table)",
        CLAIMED,
    ),
    Bug(
        "a failed run is retried at the next look",
        "execution/train.py",
        "tried += [spec.id for cohort in current.cohorts for spec in cohort.runs]",
        "pass",
        LOOKS,
    ),
    Bug("a command that begins again hides later looks", COLLECT, "experiment.seed_range and", "False and", LOOKS),
    Bug(
        "a user's experiment does not come before the package's of the same name",
        "spec/names.py",
        "return [LOCAL_FOLDER, *([] if LOCAL_FOLDER.resolve() == SHIPPED_FOLDER else [SHIPPED_FOLDER])]",
        "return [SHIPPED_FOLDER, LOCAL_FOLDER]",
        "tests/cli/test_names.py",
    ),
    Bug(
        "only the first error of a file is reported",
        "errors.py",
        "self.errors.append(error)",
        "raise",
        "tests/spec/test_lines.py",
    ),
    Bug(
        "the reference has no more seeds than its variants",
        "spec/experiment.py",
        "factor = {self.reference: self.reference_factor}",
        "factor = {self.reference: 1}",
        "tests/spec/test_seeds.py",
    ),
    Bug("a look that does not fit into the budget is trained", BUDGET, "cost(ordered) <= left:", "True:", BOUGHT),
    Bug(
        "comparisons of a budget are taken in any order of looks",
        BUDGET,
        "sorted(needs, key=lambda need: need.look)",
        "list(needs)",
        BOUGHT,
    ),
    Bug("used transitions are not charged to the budget", BUDGET, "self.transitions += sum", "sum", BOUGHT),
    Bug(
        "a first look that is too long is trained to its end",
        BUDGET,
        "FIRST_LOOK_TOLERANCE if self.unit",
        "1e9 if self.unit",
        BOUGHT,
    ),
]


def caught_by(bug: Bug) -> str | None:
    """Return the first test that fails with the bug planted, or None."""
    with tempfile.TemporaryDirectory() as folder:
        for part in ("sac_bench", "tests", "experiments", "docs", "results/record"):
            shutil.copytree(ROOT / part, Path(folder, part), ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        file = Path(folder, "sac_bench", bug.file)
        text = file.read_text(encoding="utf-8")
        if bug.old not in text:
            raise SystemExit(f"{bug.what}: {bug.file} does not contain {bug.old!r}")
        file.write_text(text.replace(bug.old, bug.new), encoding="utf-8")
        ran = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-x",
                "-p",
                "no:cacheprovider",
                "--timeout=120",
                "-m",
                "not soak",
                "-k",
                "not compiled",
                *bug.tests.split(),
            ],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": folder},
            capture_output=True,
            text=True,
        )
    if ran.returncode == 0:
        return None
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", ran.stdout, re.MULTILINE)
    timed_out = re.search(r"(tests/\S+?\.py)\S* .*Timeout", ran.stdout)
    return (
        failed[1]
        if failed
        else f"{timed_out[1] if timed_out else bug.tests} (no failed test found: {ran.stdout[-300:]!r})"
    )


def main() -> None:
    selected = [bug for bug in BUGS if len(sys.argv) == 1 or re.search(sys.argv[1], bug.what)]
    missed = 0
    for bug in selected:
        test = caught_by(bug)
        missed += test is None
        print(f"| {bug.what} | `{bug.file}` | {f'`{test}`' if test else '**not caught**'} |", flush=True)
    sys.exit(f"{missed} bugs were not caught" if missed else 0)


if __name__ == "__main__":
    main()
