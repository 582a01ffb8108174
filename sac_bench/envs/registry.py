"""Gymnasium's registry with the suite's own tasks, selected as "gymnasium:ID".

Imported before users' modules: what is registered later is theirs.
"""

import copy

import gymnasium

gymnasium.register("MultiGoal-v0", "sac_bench.envs.multigoal:MultiGoal", max_episode_steps=30)
gymnasium.register("HeavyHalfCheetah-v5", "sac_bench.envs.heavy:half_cheetah", max_episode_steps=1000)

SHIPPED = {name: copy.deepcopy(spec) for name, spec in gymnasium.registry.items()}
