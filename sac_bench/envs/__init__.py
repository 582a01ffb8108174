"""The suite's own tasks, registered with Gymnasium and selected as "gymnasium:ID"."""

import gymnasium

gymnasium.register("MultiGoal-v0", "sac_bench.envs.multigoal:MultiGoal", max_episode_steps=30)
gymnasium.register("HeavyHalfCheetah-v5", "sac_bench.envs.heavy:half_cheetah", max_episode_steps=1000)
