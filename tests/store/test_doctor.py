"""What `sac-bench doctor` says about a folder."""

import time
from pathlib import Path

import pytest

from sac_bench.store import doctor
from sac_bench.store.doctor import Mount, Verdict, examine, judge, mount_of, mounts
from sac_bench.store.kernel_locks import lock_range

MOUNTINFO = r"""
22 1 0:20 / / rw,relatime - ext4 /dev/sda1 rw
30 22 0:30 / /shared rw,relatime shared:1 - nfs4 server:/x rw,vers=4.2,local_lock=none,addr=10.0.0.1
31 22 0:31 / /shared/in\040part rw - lustre mgs:/y rw,localflock
"""


def test_a_local_folder_passes(tmp_path):
    findings = examine(tmp_path / "results")
    assert [one.verdict for one in findings[1:]] == [Verdict.GOOD] * 4, findings
    assert not list((tmp_path / "results").iterdir())


def test_locks_that_do_nothing_are_detected(tmp_path):
    findings = examine(tmp_path, {"flock": lambda *_: True, "byte range": lock_range})
    of = {one.what: one.verdict for one in findings}
    assert (of["lock (flock)"], of["lock (byte range)"]) == (Verdict.WARNING, Verdict.GOOD)


def verdict_on(what, folder):
    (finding,) = (one for one in examine(folder, {"flock": lock_range}) if one.what == what)
    return finding.verdict, finding.text


def in_parts(path, data):
    path.write_bytes(data[:100])
    time.sleep(0.01)
    path.write_bytes(data)


def after_deleting(path, data):
    path.unlink(missing_ok=True)
    time.sleep(0.01)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (in_parts, "was read in part"),
        (after_deleting, "No such file"),
        (lambda path, data: path.exists() or path.write_bytes(data), "does not have its new content"),
    ],
)
def test_a_folder_without_atomic_replacement_is_refused(write, words, tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "write_atomically", write)
    verdict, text = verdict_on("atomic replacement", tmp_path)
    assert (verdict, words in text) == (Verdict.REFUSED, True), text


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("import sys; print(sys.argv[3])", "two processes created 100 of 50 files"),
        ("print(0)", "two processes created 0 of 50 files"),
        ("raise OSError('stale file handle')", "stale file handle"),
        ("import time; time.sleep(60)", "has not created its files"),
    ],
)
def test_a_folder_without_exclusive_creation_is_refused(program, words, tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "_CREATE", program)
    monkeypatch.setattr(doctor, "ANSWER_SECONDS", 0.5 if "sleep" in program else 60.0)
    verdict, text = verdict_on("exclusive creation", tmp_path)
    assert (verdict, words in text) == (Verdict.REFUSED, True), text


def test_a_process_that_does_not_answer_is_reported_after_a_timeout(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "_HOLD", "import time; time.sleep(60)")
    monkeypatch.setattr(doctor, "_one_creates", lambda _: (Verdict.GOOD, ""))
    monkeypatch.setattr(doctor, "ANSWER_SECONDS", 0.1)
    verdict, text = verdict_on("lock (flock)", tmp_path)
    assert (verdict, "has not answered" in text) == (Verdict.REFUSED, True), text


@pytest.mark.parametrize(
    ("folder", "kind"),
    [("/home", "ext4"), ("/shared/a/b", "nfs4"), ("/shared/in part/c", "lustre"), ("/shared", "nfs4")],
)
def test_a_folder_belongs_to_the_nearest_mount(folder, kind):
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
def test_known_properties_of_a_mount_are_reported_with_its_type(kind, options, verdict, word):
    finding = judge(Mount(Path("/shared"), kind, tuple(options.split(","))))
    assert finding.verdict is verdict
    assert kind in finding.text
    assert word in finding.text
