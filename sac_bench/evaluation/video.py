"""Writes videos of a trained policy in its environment."""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.util
import itertools
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import gymnasium
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sac_bench.envs.known import GYMNASIUM_PREFIX
from sac_bench.envs.output import captured
from sac_bench.envs.pool import Pool, first_line
from sac_bench.errors import InputError
from sac_bench.evaluation.policy import Policy
from sac_bench.store.atomic import TEMPORARY_PREFIX

SUFFIXES = (".mp4", ".gif")
MAX_RATE = 50
"""Maximum of frames per second, also used if the duration of a step is unknown (dm_control)."""
ENVPOOL_RATES = {
    "Ant": 20,
    "HalfCheetah": 20,
    "Hopper": 125,
    "Humanoid": 67,
    "HumanoidStandup": 67,
    "InvertedDoublePendulum": 20,
    "InvertedPendulum": 25,
    "Pusher": 20,
    "Reacher": 50,
    "Swimmer": 25,
    "Walker2d": 125,
    "Pendulum": 30,
    "MountainCarContinuous": 30,
    "BipedalWalker": 50,
    "LunarLanderContinuous": 50,
}
"""Steps per second, from Gymnasium's versions of the environments: EnvPool does not report it."""
GIF_RATE = 25
GIF_SIDE = 240
"""Maximum width and height in pixels: a gif of a thousand frames is large."""
REQUIREMENT = "MuJoCo renders with EGL; Debian: apt install libegl1 libgl1 libgl1-mesa-dri (no GPU or display required)"

Frame = NDArray[np.uint8]


class Episode(NamedTuple):
    """One recorded episode."""

    score: float
    """Undiscounted return."""
    length: int


def check_out(out: Path) -> None:
    """Raise InputError if no video can be written to the file."""
    if out.suffix not in SUFFIXES:
        raise InputError(f"--out {out}: must end in {' or '.join(SUFFIXES)}")
    if out.suffix == ".mp4" and not has_ffmpeg():
        raise InputError(
            f"--out {out}: .mp4 requires the package imageio-ffmpeg; pip install imageio-ffmpeg, or use .gif"
        )


def has_ffmpeg() -> bool:
    """Return whether imageio-ffmpeg is installed."""
    return importlib.util.find_spec("imageio_ffmpeg") is not None


def watch(
    policy: Policy,
    out: Path,
    episodes: int = 1,
    sample: bool = False,
    seed: int = 0,
    played: Callable[[list[Episode], int], None] = lambda ended, steps: None,
) -> list[Episode]:
    """Write a video of complete episodes, and return them; InputError if the environment cannot be rendered.

    seed: of the environment and of sampled actions. played: is called after every step with the episodes that have
    ended and the number of steps of the current one.
    """
    check_out(out)
    find_gl()
    recorded: list[Episode] = []
    is_gif, rate = out.suffix == ".gif", steps_per_second(policy.spec.env)
    every = math.ceil(rate / (GIF_RATE if is_gif else MAX_RATE))
    frames = _frames(policy, episodes, sample, seed, every, recorded, played)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(TEMPORARY_PREFIX + out.name)
    try:
        with captured(f"{policy.spec.env}, watched"):
            (_write_gif if is_gif else _write_mp4)(frames, rate / every, temporary)
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)
    return recorded


def find_gl() -> None:
    """Set up rendering of MuJoCo without a display. Call it before an environment to be rendered is created."""
    if not any(os.environ.get(name) for name in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY")):
        for name, platform in (("OSMesa", "osmesa"), ("EGL", "egl")):  # for Gymnasium; EGL is preferred
            if ctypes.util.find_library(name):
                os.environ["MUJOCO_GL"] = platform
    # For EnvPool: its MuJoCo looks up its bundled libraries among the process's global ones.
    envpool = importlib.util.find_spec("envpool")
    folder = Path(envpool.origin).parents[1] / "envpool.libs" if envpool and envpool.origin else Path()
    for name in ("libGLdispatch", "libOpenGL", "libEGL"):
        for library in folder.glob(f"{name}-*"):
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)


def _frames(
    policy: Policy,
    episodes: int,
    sample: bool,
    seed: int,
    every: int,
    recorded: list[Episode],
    played: Callable[[list[Episode], int], None],
) -> Iterator[Frame]:
    """Yield a picture before every `every`th step of an episode, and append the episodes to `recorded`."""
    env_id, generator = policy.spec.env, np.random.default_rng(seed)
    try:
        pool = Pool(env_id, [seed], drawn=True)
    except Exception as error:  # of any renderer
        raise _render_error(env_id, error) from None
    observation = pool.reset()
    score, length = 0.0, 0
    while len(recorded) < episodes:
        if length % every == 0:
            yield _picture(pool, env_id)
        noise = generator.standard_normal((1, policy.noise_dim))
        step = pool.step(policy.sampled_and_mean(observation, noise)[0 if sample else 1])
        score, length = score + float(step.reward[0]), length + 1
        if step.terminated[0] or step.truncated[0]:
            recorded.append(Episode(score, length))
            score, length = 0.0, 0
        played(recorded, length)
        observation = step.observation
    pool.close()


def steps_per_second(env_id: str) -> float:
    """Return the environment's steps per second of simulated time, from Gymnasium; MAX_RATE if unknown."""
    if not env_id.startswith(GYMNASIUM_PREFIX):
        return ENVPOOL_RATES.get(env_id.partition("-v")[0], MAX_RATE)
    env = gymnasium.make(env_id.removeprefix(GYMNASIUM_PREFIX))
    env.close()
    return float(env.metadata.get("render_fps") or MAX_RATE)


def _picture(pool: Pool, env_id: str) -> Frame:
    try:
        with warnings.catch_warnings(action="ignore"):
            picture = pool.picture()
    except Exception as error:  # of any renderer
        sys.unraisablehook = lambda _: None  # Gymnasium's incomplete viewer fails again when it is freed
        raise _render_error(env_id, error) from None
    if picture.ndim != 3:
        raise InputError(f"{env_id} cannot be rendered: its render() returns no picture")
    return picture


def _render_error(env_id: str, error: Exception) -> InputError:
    return InputError(f"{env_id} cannot be rendered: {first_line(error)}; {REQUIREMENT}")


def _write_gif(frames: Iterator[Frame], rate: float, path: Path) -> None:
    """Write a GIF by Pillow, frame by frame: a long episode at full size would not fit into memory."""
    images = map(_small, frames)
    first = next(images)
    first.save(path, "GIF", save_all=True, append_images=images, duration=1000 / rate, loop=0)


def _small(frame: Frame) -> Image.Image:
    """Return a frame reduced to GIF_SIDE, with its own palette."""
    image = Image.fromarray(frame)
    image.thumbnail((GIF_SIDE, GIF_SIDE))
    return image.quantize()


def _write_mp4(frames: Iterator[Frame], rate: float, path: Path) -> None:
    import imageio_ffmpeg

    first = next(frames)
    size = (first.shape[1], first.shape[0])
    writer = imageio_ffmpeg.write_frames(str(path), size, fps=rate, macro_block_size=2)
    writer.send(None)
    for frame in itertools.chain([first], frames):
        writer.send(np.ascontiguousarray(frame))
    writer.close()
