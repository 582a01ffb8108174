"""Tests what results require of a folder: its filesystem, locks and exclusive creation.

One machine cannot test what another one sees. So the type and options of the mount are checked, too.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path

from sac_bench.errors import InputError
from sac_bench.store.atomic import write_atomically
from sac_bench.store.kernel_locks import KernelLock, flock, lock_range

KERNEL: Mapping[str, KernelLock] = {"flock": flock, "byte range": lock_range}
RACED_FILES = 50
"""Files that two processes try to create at once."""
REPLACEMENTS = 20
ANSWER_SECONDS = 60.0
"""Time that another process has to answer."""


class Verdict(Enum):
    """What a test found, the worst last."""

    GOOD = "ok"
    WARNING = "warning"
    REFUSED = "refused"


@dataclass(frozen=True)
class Finding:
    """What was tested, what came of it, and what it means."""

    what: str
    verdict: Verdict
    text: str


@dataclass(frozen=True)
class Mount:
    """A mounted file system: where, its type, and the options of the mount and of the file system."""

    point: Path
    type: str
    options: tuple[str, ...]


_LOCAL = {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "f2fs", "bcachefs", "jfs", "apfs", "hfs"}
_OBJECTS = re.compile(r"fuse\.(s3fs|goofys|mountpoint-s3|rclone|gcsfuse|blobfuse2?|ossfs|geesefs)|s3fs")
"""Mounts of object stores: no atomic rename, no exclusive creation."""
_ON_TWO_NODES = "flock may succeed on two nodes at once"
_KNOWN: Mapping[str, str] = {
    "gpfs": f"{_ON_TWO_NODES}, depending on the cluster's settings",
    "cifs": "locks are only known to this machine with nobrl or some servers",
    "smb3": "locks are only known to this machine with nobrl or some servers",
    "fuse.sshfs": "locks are only known to this machine",
    "9p": "locks are only known to this machine unless the host passes them on",
    "virtiofs": "locks are only known to this machine unless the host passes them on",
    "beegfs": "locks are only known to this machine unless tuneUseGlobalFileLocks is set",
    "glusterfs": "locks need features/locks on every brick",
    "fuse.glusterfs": "locks need features/locks on every brick",
    "vfat": "there are no hard links, so a crash may leave a commit without content",
    "exfat": "there are no hard links, so a crash may leave a commit without content",
}


def mounts(mountinfo: str) -> list[Mount]:
    """Return the mounts in the text of /proc/self/mountinfo, in its order."""
    mounted = []
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        fields, of_system = left.split(), right.split()
        if len(fields) >= 6 and len(of_system) >= 2:
            point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[4])
            options = [*fields[5].split(","), *(of_system[2].split(",") if len(of_system) > 2 else ())]
            mounted.append(Mount(Path(point), of_system[0], tuple(options)))
    return mounted


def mount_of(folder: Path, among: list[Mount]) -> Mount | None:
    """Return the mount that a folder lies on: the last one at the longest point above it."""
    above = [mount for mount in among if folder == mount.point or mount.point in folder.parents]
    return max(above, key=lambda mount: (len(mount.point.parts), among.index(mount)), default=None)


def judge(mount: Mount | None) -> Finding:
    """Return what is known about a mount's type and options."""
    if mount is None:
        return Finding("mount", Verdict.WARNING, "this system does not tell what the folder lies on")
    name = f"{mount.type} at {mount.point}"
    options = dict(option.partition("=")[::2] for option in mount.options)
    if _OBJECTS.fullmatch(mount.type):
        reason = "an object store has no atomic rename and no exclusive creation; copy results there after training"
        return Finding("mount", Verdict.REFUSED, f"{name}: {reason}")
    if mount.type in ("nfs", "nfs4"):
        local = options.get("local_lock", "none")
        if local != "none" or "nolock" in options:
            which = f"local_lock={local}" if local != "none" else "nolock"
            why = f"with {which}, {_ON_TWO_NODES}; leases decide there; mount with local_lock=none"
            return Finding("mount", Verdict.WARNING, f"{name}: {why}")
        return Finding("mount", Verdict.GOOD, f"{name}: locks are the server's")
    if mount.type == "lustre":
        if "flock" in options:
            return Finding("mount", Verdict.GOOD, f"{name}: locks are the server's (flock)")
        return Finding("mount", Verdict.WARNING, f"{name}: without the option flock, {_ON_TWO_NODES} or fail")
    if mount.type in _KNOWN:
        return Finding("mount", Verdict.WARNING, f"{name}: {_KNOWN[mount.type]}; leases decide between machines")
    if mount.type in _LOCAL:
        return Finding("mount", Verdict.GOOD, f"{name}: local to this machine")
    if mount.type in ("ceph", "fuse.ceph-fuse", "ocfs2", "gfs2", "wekafs"):
        return Finding("mount", Verdict.GOOD, f"{name}: shared, with locks between machines")
    unknown = "nothing is known about locks between machines; leases decide there"
    return Finding("mount", Verdict.WARNING, f"{name}: {unknown}")


def examine(folder: Path, kernel: Mapping[str, KernelLock] = KERNEL) -> list[Finding]:
    """Test a folder, which is created if it does not exist, and return what was found.

    kernel: the locks that this process uses, by name. Raises InputError if the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".tmp-doctor-", dir=folder) as name:
            tried = Path(name)
            locks = [_tested(f"lock ({what})", partial(_excludes, tried, what, lock)) for what, lock in kernel.items()]
            created = _tested("exclusive creation", partial(_one_creates, tried))
            replaced = _tested("atomic replacement", partial(_replaces, tried))
            return [judge(_mount(folder.resolve())), *locks, created, replaced]
    except OSError as error:
        raise InputError(f"--results {folder}: cannot be written to: {error.strerror}") from None


def _mount(folder: Path) -> Mount | None:
    try:
        return mount_of(folder, mounts(Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")))
    except OSError:
        return None


def _tested(what: str, test: Callable[[], tuple[Verdict, str]]) -> Finding:
    try:
        return Finding(what, *test())
    except (OSError, InputError) as error:
        return Finding(what, Verdict.REFUSED, str(error))


_HOLD = """
import fcntl, sys
from sac_bench.store.doctor import KERNEL
file = open(sys.argv[1], "a")
print(KERNEL[sys.argv[2]](file, fcntl.LOCK_EX | fcntl.LOCK_NB), flush=True)
sys.stdin.read()
"""


def _excludes(folder: Path, what: str, lock: KernelLock) -> tuple[Verdict, str]:
    """Return whether a lock that another process holds is refused here, and ends when that process is killed."""
    path = folder / what
    command = [sys.executable, "-c", _HOLD, str(path), what]
    held = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8")
    try:
        assert held.stdout
        if not select.select([held.stdout], [], [], ANSWER_SECONDS)[0]:
            return Verdict.REFUSED, f"another process that takes it has not answered for {ANSWER_SECONDS:.0f} s"
        if held.stdout.readline().strip() != "True":
            return Verdict.REFUSED, "another process could not take a free lock"
        with open(path, "a", encoding="utf-8") as file:
            if lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB):
                return Verdict.WARNING, "two processes of this machine hold it at once; leases and process ids decide"
            held.kill()
            held.wait()
            if not lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB):
                return Verdict.REFUSED, "it stays after its process was killed"
        return Verdict.GOOD, "one of two processes has it, and it ends with that process"
    finally:
        held.kill()
        held.communicate()


_CREATE = """
import sys
from pathlib import Path
from sac_bench.store.atomic import create
print(sum(create(Path(sys.argv[1]) / f"created-{i}", sys.argv[2].encode(), False) for i in range(int(sys.argv[3]))))
"""


def _one_creates(folder: Path) -> tuple[Verdict, str]:
    """Return whether exactly one of two processes creates each file."""

    def race(name: str) -> int:
        command = [sys.executable, "-c", _CREATE, str(folder), name, str(RACED_FILES)]
        try:
            ran = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=ANSWER_SECONDS)
        except subprocess.TimeoutExpired:
            raise OSError(f"another process has not created its files in {ANSWER_SECONDS:.0f} s") from None
        if ran.returncode:
            raise OSError((ran.stderr.strip().splitlines() or ["no answer"])[-1])
        return int(ran.stdout)

    with ThreadPoolExecutor(2) as pool:
        created = sum(pool.map(race, ("one", "two")))
    contents = {path.read_bytes() for path in folder.glob("created-*")}
    if created != RACED_FILES or not contents <= {b"one", b"two"}:
        return Verdict.REFUSED, f"two processes created {created} of {RACED_FILES} files: commits would be lost"
    if not _links(folder):
        return Verdict.WARNING, "one of two succeeds; without hard links a crash may leave an empty commit"
    return Verdict.GOOD, f"of two processes, one created each of {RACED_FILES} files"


def _links(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        (folder / "linked").write_bytes(b"")
        os.link(folder / "linked", folder / "link")
        return True
    return False


def _replaces(folder: Path) -> tuple[Verdict, str]:
    """Return whether a file that is replaced again and again is always there, and whole, for a thread that reads it."""
    path, contents, done = folder / "replaced", (b"a" * 10_000, b"b" * 20_000), threading.Event()
    write_atomically(path, contents[0])

    def is_whole() -> bool:
        while path.read_bytes() in contents:
            if done.is_set():
                return True
        return False

    with ThreadPoolExecutor(1) as pool:
        whole = pool.submit(is_whole)
        try:
            for i in range(REPLACEMENTS):
                write_atomically(path, contents[i % 2])
        finally:
            done.set()
        if not whole.result():
            return Verdict.REFUSED, "a file that is replaced was read in part: plans and statuses would be damaged"
    if path.read_bytes() != contents[(REPLACEMENTS - 1) % 2]:
        return Verdict.REFUSED, "a replaced file does not have its new content"
    return Verdict.GOOD, "a file that is replaced is always whole"
