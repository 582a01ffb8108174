"""Videos of policies: they show what the policy does, and a missing renderer is reported in one line."""

import os
import subprocess
import sys

import envpool
import gymnasium
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.torch import save

from sac_bench.algorithms.pytree import named_tensors
from sac_bench.envs.pool import Pool, describe
from sac_bench.errors import InputError
from sac_bench.evaluation.policy import policy_of_run
from sac_bench.evaluation.video import ENVPOOL_RATES, check_out, find_gl, steps_per_second, watch
from sac_bench.results.policies import find_run
from sac_bench.spec.run import RunSpec
from sac_bench.store.atomic import write_json
from sac_bench.store.run import RunDirectory
from tests.conftest import sac_bench_environment, tiny
from tests.made_up import results_of, write_results
from tests.training.members import cohort

RUN = "0" * 16


def policy_of(env_id, folder):
    """Save a policy with its initial weights as a run does, and load it."""
    config, env = tiny(), describe(env_id)
    made = cohort([config], [0], dims=(env.observation_dim, env.action_dim))
    run = RunDirectory(folder / "runs" / RUN)
    write_json(run.path / "spec.json", RunSpec("sac", config, env_id, 0).as_dict())
    saved = named_tensors(made.learner.policy(made.state))
    run.policy.write_bytes(save({name: leaf[0].contiguous() for name, leaf in saved.items()}, {"steps": "400"}))
    run.end("finished", steps=400)
    return policy_of_run(RUN, folder)


@pytest.mark.thorough
@pytest.mark.parametrize("sample", [False, True])
def test_a_gif_shows_the_episode_of_the_policy(tmp_path, sample):
    policy = policy_of("Pendulum-v1", tmp_path)
    watched = watch(policy, tmp_path / "new" / "a.gif", episodes=2, sample=sample, seed=3)
    env, generator = envpool.make_gymnasium("Pendulum-v1", num_envs=1, seed=[3]), np.random.default_rng(3)
    observation, _ = env.reset()
    score, expected = 0.0, []
    while len(expected) < 2:
        action = policy.act(observation, sample, generator)
        observation, reward, _, truncated, _ = env.step(action.astype(np.float32))
        score += float(reward[0])
        if truncated[0]:
            expected.append(score)
            observation, _ = env.reset(options={"reset_mask": np.array([True])})
            score = 0.0
    assert [episode.length for episode in watched] == [200, 200]
    np.testing.assert_allclose([episode.score for episode in watched], expected, rtol=1e-5)
    with Image.open(tmp_path / "new" / "a.gif") as gif:
        assert gif.n_frames == 200  # every second of 400: 30 per second exceed a gif's rate
        assert gif.size == (240, 240)
        first = np.asarray(gif.convert("RGB"))
        gif.seek(20)
        assert (first != np.asarray(gif.convert("RGB"))).any()
    assert os.listdir(tmp_path / "new") == ["a.gif"]


def test_mujoco_is_drawn_if_egl_is_available(tmp_path):
    find_gl()
    pool = Pool("Hopper-v5", [0], drawn=True)
    pool.reset()
    try:
        pool.picture()
    except RuntimeError as error:
        pytest.skip(str(error))
    watched = watch(policy_of("Hopper-v5", tmp_path), tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames == -(-watched[0].length // 5)  # 125 steps and 25 frames per second
        assert len(np.unique(np.asarray(gif.convert("RGB")).reshape(-1, 3), axis=0)) > 50


@pytest.mark.thorough
def test_an_mp4_contains_every_frame(tmp_path):
    ffmpeg = pytest.importorskip("imageio_ffmpeg")
    policy = policy_of("Pendulum-v1", tmp_path)
    assert watch(policy, tmp_path / "a.mp4") == watch(policy, tmp_path / "a.gif")
    frames, seconds = ffmpeg.count_frames_and_secs(str(tmp_path / "a.mp4"))
    assert (frames, round(seconds, 1)) == (200, 6.7)
    assert next(ffmpeg.read_frames(str(tmp_path / "a.mp4")))["size"] == (500, 500)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("env_id", "without"),
    [
        ("Hopper-v5", {"__EGL_VENDOR_LIBRARY_DIRS": "/nowhere"}),
        pytest.param("gymnasium:Hopper-v5", {"MUJOCO_GL": "glfw"}, marks=pytest.mark.soak),
    ],
)
def test_without_a_renderer_one_line_says_what_to_install(tmp_path, env_id, without):
    policy_of(env_id, tmp_path)
    environment = {
        k: v for k, v in sac_bench_environment().items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")
    } | without
    refused = subprocess.run(
        [sys.executable, "-m", "sac_bench.cli.main", "watch", RUN, "--results", ".", "--out", "a.gif"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert refused.returncode == 2
    assert len(refused.stderr.strip().splitlines()) == 1, refused.stderr
    assert f"{env_id} cannot be rendered" in refused.stderr
    assert "apt install libegl1" in refused.stderr
    assert not list(tmp_path.glob("*a.gif"))


def test_runs_are_found_by_name(tmp_path):
    rows = [("sac", "A-v1", 0), ("sac", "A-v1", 10), ("sac", "A-v1", 1), ("sac-2", "gymnasium:b/C-v1", 0)]
    runs = pd.DataFrame(rows, columns=["variant", "env", "seed"]).assign(run_id=["a", "b", "c", "d"])
    about = {"reference": "sac-2", "variants": {"sac": {}, "sac-2": {}}}
    write_results(tmp_path / "x", results_of(about, runs.to_dict("records")))
    for name, run in (
        ("x", "d"),  # of the reference
        ("x/", "d"),
        ("x/sac", "a"),
        ("x/sac/A-v1/1", "c"),
        ("x/sac-2/", "d"),
        ("x/sac-2/gymnasium:b/C-v1/0", "d"),
        ("0f", "0f"),
    ):
        assert find_run(name, tmp_path) == run
    with pytest.raises(InputError, match="x/scc: x has no such run; did you mean 'sac'"):
        find_run("x/scc", tmp_path)
    with pytest.raises(InputError, match="did you mean 'x'"):
        find_run("X/sac", tmp_path)
    with pytest.raises(InputError, match="did you mean 'x'"):
        find_run("X", tmp_path)


def test_only_video_file_names_are_accepted(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"a\.avi: must end in \.mp4 or \.gif"):
        check_out(tmp_path / "a.avi")
    monkeypatch.setattr("sac_bench.evaluation.video.has_ffmpeg", lambda: False)
    with pytest.raises(InputError, match="pip install imageio-ffmpeg, or use"):
        check_out(tmp_path / "a.mp4")


@pytest.mark.parametrize("name", ENVPOOL_RATES)
def test_videos_play_at_gymnasiums_speed(name):
    newest = [
        i
        for i in gymnasium.registry
        if i.startswith(f"{name.removesuffix('Continuous')}-v") or i.startswith(f"{name}-v")
    ]
    assert steps_per_second(f"{name}-v9") == steps_per_second(f"gymnasium:{newest[-1]}") == ENVPOOL_RATES[name]
