"""What `sac-bench doctor` says about a folder."""

from pathlib import Path

import pytest

from sac_bench.store.doctor import Mount, Verdict, examine, judge, mount_of, mounts
from sac_bench.store.locks import lock_range

MOUNTINFO = r"""
22 1 0:20 / / rw,relatime - ext4 /dev/sda1 rw
30 22 0:30 / /shared rw,relatime shared:1 - nfs4 server:/x rw,vers=4.2,local_lock=none,addr=10.0.0.1
31 22 0:31 / /shared/in\040part rw - lustre mgs:/y rw,localflock
"""


def test_a_local_folder_passes(tmp_path):
    findings = examine(tmp_path / "results")
    assert [one.verdict for one in findings[1:]] == [Verdict.GOOD] * 4, findings
    assert not list((tmp_path / "results").iterdir())


def test_locks_that_do_nothing_are_found(tmp_path):
    findings = examine(tmp_path, {"flock": lambda *_: True, "byte range": lock_range})
    of = {one.what: one.verdict for one in findings}
    assert (of["lock (flock)"], of["lock (byte range)"]) == (Verdict.WARNING, Verdict.GOOD)


@pytest.mark.parametrize(
    ("folder", "kind"),
    [("/home", "ext4"), ("/shared/a/b", "nfs4"), ("/shared/in part/c", "lustre"), ("/shared", "nfs4")],
)
def test_a_folder_lies_on_the_nearest_mount(folder, kind):
    mount = mount_of(Path(folder), mounts(MOUNTINFO))
    assert mount
    assert mount.type == kind


@pytest.mark.parametrize(
    ("kind", "options", "verdict", "word"),
    [
        ("ext4", "rw", Verdict.GOOD, "local"),
        ("nfs4", "rw,local_lock=none", Verdict.GOOD, "server"),
        ("nfs", "rw,nolock", Verdict.WARNING, "nolock"),
        ("nfs", "rw,local_lock=all", Verdict.WARNING, "local_lock=all"),
        ("nfs4", "rw,local_lock=flock", Verdict.WARNING, "local_lock=flock"),
        ("lustre", "rw,flock", Verdict.GOOD, "flock"),
        ("lustre", "rw,localflock", Verdict.WARNING, "two nodes"),
        ("gpfs", "rw", Verdict.WARNING, "two nodes"),
        ("fuse.s3fs", "rw", Verdict.REFUSED, "object store"),
        ("fuse.rclone", "rw", Verdict.REFUSED, "object store"),
        ("fuse.unheard-of", "rw", Verdict.WARNING, "nothing is known"),
    ],
)
def test_what_is_known_of_a_mount_is_told_by_name(kind, options, verdict, word):
    finding = judge(Mount(Path("/shared"), kind, tuple(options.split(","))))
    assert finding.verdict is verdict
    assert kind in finding.text
    assert word in finding.text
