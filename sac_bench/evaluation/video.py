"""A video of a trained policy, in the environment it was trained in."""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.util
import itertools
import math
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import gymnasium
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sac_bench.envs.output import captured
from sac_bench.envs.pool import GYMNASIUM_PREFIX, Pool, first_line
from sac_bench.errors import InputError
from sac_bench.evaluation.policy import Policy
from sac_bench.store.atomic import BESIDE

SUFFIXES = (".mp4", ".gif")
RATE = 50
"""Frames a second at most; also of environments of which is not known how long a step is (dm_control's)."""
OF_ENVPOOL = {
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
"""Steps a second of those that are Gymnasium's too: EnvPool does not tell."""
GIF_RATE = 25
GIF_SIDE = 240
"""Pixels at most: a gif of a thousand frames is large."""
NEEDED = "MuJoCo draws by EGL; Debian: apt install libegl1 libgl1 libgl1-mesa-dri (no GPU and no display needed)"

Frame = NDArray[np.uint8]


class Episode(NamedTuple):
    """An episode that was watched."""

    score: float
    """The undiscounted return."""
    length: int


def check_out(out: Path) -> None:
    """InputError for a file that no video can be written to."""
    if out.suffix not in SUFFIXES:
        raise InputError(f"--out {out}: wants a name that ends in {' or '.join(SUFFIXES)}")
    if out.suffix == ".mp4" and not has_ffmpeg():
        raise InputError(
            f"--out {out}: an mp4 wants the package imageio-ffmpeg; pip install imageio-ffmpeg, or use .gif"
        )


def has_ffmpeg() -> bool:
    return importlib.util.find_spec("imageio_ffmpeg") is not None


def watch(policy: Policy, out: Path, episodes: int = 1, sample: bool = False, seed: int = 0) -> list[Episode]:
    """Write a video of whole episodes, from an environment's seed; InputError where it cannot be drawn."""
    check_out(out)
    find_gl()
    watched: list[Episode] = []
    is_gif, rate = out.suffix == ".gif", steps_a_second(policy.spec.env)
    every = math.ceil(rate / (GIF_RATE if is_gif else RATE))
    frames = _frames(policy, episodes, sample, seed, every, watched)
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = out.with_name(BESIDE + out.name)
    try:
        with captured(f"{policy.spec.env}, watched"):
            (_write_gif if is_gif else _write_mp4)(frames, rate / every, beside)
        beside.replace(out)
    finally:
        beside.unlink(missing_ok=True)
    return watched


def find_gl() -> None:
    """Let MuJoCo's environments draw without a display, before any is made that is drawn."""
    if not any(os.environ.get(name) for name in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY")):
        for name, platform in (("OSMesa", "osmesa"), ("EGL", "egl")):  # Gymnasium's; the last there is
            if ctypes.util.find_library(name):
                os.environ["MUJOCO_GL"] = platform
    # EnvPool's own: MuJoCo looks for the libraries that it is linked with among the process's global ones.
    envpool = importlib.util.find_spec("envpool")
    folder = Path(envpool.origin).parents[1] / "envpool.libs" if envpool and envpool.origin else Path()
    for name in ("libGLdispatch", "libOpenGL", "libEGL"):
        for library in folder.glob(f"{name}-*"):
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)


def _frames(
    policy: Policy, episodes: int, sample: bool, seed: int, every: int, watched: list[Episode]
) -> Iterator[Frame]:
    """A picture before every `every`th step of an episode; adds to `watched` what the episodes were."""
    env_id, generator = policy.spec.env, np.random.default_rng(seed)
    try:
        pool = Pool(env_id, [seed], drawn=True)
    except Exception as error:  # of whatever draws
        raise _undrawn(env_id, error) from None
    observation = pool.reset()
    score, length = 0.0, 0
    while len(watched) < episodes:
        if length % every == 0:
            yield _picture(pool, env_id)
        noise = generator.standard_normal((1, policy.noise_dim))
        step = pool.step(policy.sampled_and_mean(observation, noise)[0 if sample else 1])
        score, length = score + float(step.reward[0]), length + 1
        if step.terminated[0] or step.truncated[0]:
            watched.append(Episode(score, length))
            score, length = 0.0, 0
        observation = step.observation
    pool.close()


def steps_a_second(env_id: str) -> float:
    """Of the environment's own time, as Gymnasium tells it; RATE where it is not known."""
    if not env_id.startswith(GYMNASIUM_PREFIX):
        return OF_ENVPOOL.get(env_id.partition("-v")[0], RATE)
    env = gymnasium.make(env_id.removeprefix(GYMNASIUM_PREFIX))
    env.close()
    return float(env.metadata.get("render_fps") or RATE)


def _picture(pool: Pool, env_id: str) -> Frame:
    try:
        with warnings.catch_warnings(action="ignore"):
            picture = pool.picture()
    except Exception as error:  # of whatever draws
        sys.unraisablehook = lambda _: None  # Gymnasium's viewer, made by halves, fails again when it is freed
        raise _undrawn(env_id, error) from None
    if picture.ndim != 3:
        raise InputError(f"{env_id} cannot be drawn: its render() gives no picture")
    return picture


def _undrawn(env_id: str, error: Exception) -> InputError:
    return InputError(f"{env_id} cannot be drawn: {first_line(error)}; {NEEDED}")


def _write_gif(frames: Iterator[Frame], rate: float, path: Path) -> None:
    images = map(_small, frames)
    first = next(images)
    first.save(path, "GIF", save_all=True, append_images=images, duration=1000 / rate, loop=0)


def _small(frame: Frame) -> Image.Image:
    """In a palette of its own."""
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
