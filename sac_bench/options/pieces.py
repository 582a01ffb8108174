"""The options of the pieces that SAC's successors add: bodies of networks, heads of critics, passes for targets.

CrossQ: arXiv 1902.05605; XQC: 2509.25174; SimBa: 2410.09754; BRO: 2405.16158; SimbaV2: 2502.15280; TQC: 2005.04269.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sac_bench.options.config import PerMember, QLearningConfig, Switched, option

BodyName = Literal[
    "plain",
    "pre-norm-residual",
    "post-norm-residual",
    "batch-norm-after",
    "batch-norm-before",
    "batch-norm-residual",
    "sphere",
]
OF_ONE_WIDTH = ("pre-norm-residual", "post-norm-residual", "batch-norm-residual", "sphere")
"""Bodies whose hidden layers must have the same number of units."""
DEFAULT_ATOMS = {"scalar": 1, "quantile": 25, "categorical": 101}


class PiecesConfig(QLearningConfig):
    """Pieces of SAC's successors. Without any of them, SAC is that of its papers."""

    body: BodyName = option(
        "plain",
        "hidden layers: plain, residual blocks with layer norm before (SimBa) or after (BRO), batch norm after "
        "(CrossQ) or before (XQC) the activation, batch-norm residual blocks (FlashSAC), or interpolation on a "
        "sphere (SimbaV2)",
        "1812.05905: plain (1902.05605, 2509.25174, 2410.09754, 2405.16158, 2502.15280)",
    )
    actor_body: BodyName | None = option(
        None, "hidden layers of the policy; unset: as `body`", "every paper: as `body`"
    )
    norm_momentum: PerMember[float] = option(
        0.01,
        "weight of a batch in the running statistics of batch norm",
        "adityab/CrossQ a318a26, policies.py: 0.99 of the old",
        gt=0,
        le=1,
    )
    norm_epsilon: float = option(
        1e-5,
        "added to the variance in the norms of every body but plain",
        "torch.nn.LayerNorm (1902.05605: 1e-3)",
        gt=0,
        le=1,
    )
    renorm_after: Switched[int] = option(
        0,
        "updates of a network after which batch norm becomes batch renormalisation; 0: never",
        "1812.05905: none (1902.05605: 100000)",
        ge=0,
        le=10**12,
    )
    project: Literal["none", "weights", "weights-and-norms"] = option(
        "none",
        "after each step, scale the weights of every output of a linear layer to norm 1, and also gains and shifts of "
        "norms to sqrt(units)",
        "1812.05905: none (2502.15280: weights; FlashSAC: weights-and-norms)",
    )
    critic_head: Literal["scalar", "quantile", "categorical"] = option(
        "scalar",
        "critics' outputs: the expected return, its quantiles, or its probabilities on fixed atoms",
        "1812.05905: scalar (2005.04269: quantile; 2502.15280: categorical)",
    )
    atoms: int | None = option(
        None, "outputs of a critic; unset: 25 quantiles or 101 atoms", "2005.04269; 2502.15280", ge=2, le=1001
    )
    v_min: PerMember[float] = option(-5.0, "lowest atom of a categorical head", "SimbaV2 86899c2", ge=-1e9, le=1e9)
    v_max: PerMember[float] = option(5.0, "highest atom of a categorical head", "SimbaV2 86899c2", ge=-1e9, le=1e9)
    kappa: PerMember[float] = option(
        1.0, "error above which the quantile loss is linear", "tqc_pytorch 65114eb, functions.py", gt=0, le=1e6
    )
    critic_pool: Literal["pointwise", "lowest", "truncated"] = option(
        "pointwise",
        "targets from: every output's pool by `pessimism`, the critic of the lowest expectation, or all critics' "
        "outputs without the largest",
        "1812.05905, section 6 (2502.15280: lowest; 2005.04269: truncated)",
    )
    dropped_atoms: PerMember[int] = option(
        2, "with critic_pool = truncated: outputs left out per critic", "tqc_pytorch 65114eb, README.md", ge=0, le=1000
    )
    target_network: bool = option(
        True,
        "targets from averaged networks; false: from the critics themselves",
        "1812.05905, section 4.2 (1902.05605: false)",
    )
    joint_pass: bool = option(
        False,
        "pass (s, a) and (s', a') through a critic together, so that batch norm sees both",
        "1812.05905: none (1902.05605: true)",
    )

    normalize_rewards: bool = option(
        False,
        "divide rewards by the spread of discounted returns so far: their standard deviation or, if larger, the "
        "largest |return| / return_bound",
        "1812.05905: none (2502.15280: true)",
    )
    return_bound: PerMember[float] = option(
        5.0, "see normalize_rewards; 0: the standard deviation alone", "2502.15280 (2509.25174: 0)", ge=0, le=1e6
    )
    held_noise: bool = option(
        False,
        "in training, hold an action's noise for n steps, n up to 16 with probability proportional to n^-2",
        "1812.05905: fresh noise (FlashSAC: true)",
    )
    reset_steps: Annotated[tuple[int, ...], Field(strict=False)] = option(
        (), "steps at which networks, optimizers and temperature return to their start", "1812.05905: none (2405.16158)"
    )
    update_order: Literal["critics-first", "policy-first", "together"] = option(
        "critics-first",
        "whether the policy moves after the critics, before them, or by the critics before their step",
        "1812.05905, Algorithm 1 (2502.15280: policy-first; 2101.05982: together)",
    )

    @property
    def reset_updates(self) -> frozenset[int]:
        """The numbers of the updates before which a learner is reset, counted from 1."""
        return frozenset(self.updates_due(step) + 1 for step in self.reset_steps)

    @property
    def outputs_per_critic(self) -> int:
        """Outputs of each critic."""
        return self.atoms or DEFAULT_ATOMS[self.critic_head]

    @property
    def bodies(self) -> dict[str, BodyName]:
        """The bodies of the policy and the critics."""
        return {"actor": self.actor_body or self.body, "critic": self.body}

    @property
    def is_plain(self) -> bool:
        """Whether none of these pieces is used."""
        plain = (self.critic_head, self.critic_pool, self.target_network, self.joint_pass)
        return plain == ("scalar", "pointwise", True, False) and set(self.bodies.values()) == {"plain"}

    @model_validator(mode="after")
    def _consistent_pieces(self) -> PiecesConfig:
        if self.atoms is not None and self.critic_head == "scalar":
            raise ValueError("atoms requires critic_head = quantile or categorical")
        if any(step <= self.updates_start for step in self.reset_steps):
            raise ValueError(f"reset_steps must be above {self.updates_start}, where updates start")
        if self.huber_delta and self.critic_head != "scalar":
            raise ValueError(f"huber_delta requires critic_head = scalar; {self.critic_head} has a loss of its own")
        if self.v_min >= self.v_max:
            raise ValueError(f"v_min = {self.v_min:g} must be below v_max = {self.v_max:g}")
        if self.critic_head == "categorical" and self.critic_pool != "lowest":
            raise ValueError("critic_head = categorical requires critic_pool = lowest")
        if self.critic_pool == "truncated" and self.dropped_atoms >= self.outputs_per_critic:
            raise ValueError(f"dropped_atoms = {self.dropped_atoms} must be below atoms = {self.outputs_per_critic}")
        for name, sizes in (("actor", self.actor_sizes), ("critic", self.critic_sizes)):
            body = self.bodies[name]
            if body in OF_ONE_WIDTH and len(set(sizes)) > 1:
                raise ValueError(f"body = {body} requires layers of one size, not {list(sizes)}")
        if self.project != "none" and "plain" in self.bodies.values():
            raise ValueError("project requires a body other than plain, for the policy too")
        if self.precision == "bfloat16" and set(self.bodies.values()) != {"plain"}:
            raise ValueError("precision = bfloat16 requires body = plain")
        return self
