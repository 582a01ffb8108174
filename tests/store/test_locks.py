"""Locks between real processes."""

import errno
import os
import subprocess
import sys
import time

import pytest

from sac_bench.store import leases, locks
from sac_bench.store.kernel_locks import lock_range
from sac_bench.store.locks import LEASE_SECONDS
from sac_bench.store.process import Process
from tests.store.hosts import Clock, machine, nothing

HOLD = (
    "import sys; from pathlib import Path; from sac_bench.store import locks; f = locks.take(Path(sys.argv[1])); "
    "print(f is not None, flush=True); sys.stdin.read()"
)


def holder(path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    return process, process.stdout.readline().strip() == "True"


def test_a_lock_ends_with_its_process_however_that_ends(tmp_path):
    path = tmp_path / "a" / "lock"
    assert not locks.is_taken(path)
    process, has_it = holder(path)
    assert has_it
    assert locks.is_taken(path)
    assert locks.take(path) is None
    assert holder(path)[1] is False
    process.kill()
    process.wait()
    assert not locks.is_taken(path)
    with locks.take(path):
        assert locks.is_taken(path)
    assert not locks.is_taken(path)


def test_a_child_that_inherits_a_lock_holds_it(tmp_path):
    path = tmp_path / "lock"
    with locks.take(path) as file:
        child = subprocess.Popen(
            [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, pass_fds=file.filenos()
        )
    assert locks.is_taken(path)
    child.kill()
    child.wait()
    assert not locks.is_taken(path)


def test_who_waits_gets_it(tmp_path):
    path = tmp_path / "lock"
    process, _ = holder(path)
    process.stdin.close()  # it ends by itself
    with locks.locked(path):
        assert locks.is_taken(path)
    with locks.settled(path):
        pass
    process.wait()


def test_of_two_machines_one_has_the_lock_where_flock_does_nothing(tmp_path):
    path = tmp_path / "lock"
    ours, theirs = machine("a"), machine("b")
    held = ours.take(path)
    assert held
    assert theirs.is_taken(path)
    assert theirs.take(path) is None
    held.close()
    assert not theirs.is_taken(path)
    with theirs.take(path):
        assert ours.take(path) is None


def test_a_lease_that_is_renewed_is_not_taken_however_long_it_lasts(tmp_path):
    path, ours, clock = tmp_path / "lock", machine("a"), Clock()
    theirs = machine("b", clock)
    ours.take(path)
    for _ in range(10):
        assert theirs.take(path) is None
        ours.beat()
        clock.now += 0.9 * LEASE_SECONDS
    assert theirs.take(path) is None


def test_a_lease_that_is_not_renewed_for_its_length_is_taken_over_once(tmp_path):
    path, clocks = tmp_path / "lock", [Clock(), Clock()]
    ours, theirs, others = machine("a"), machine("b", clocks[0]), machine("c", clocks[1])
    clocks[0].now, clocks[1].now = 1e6, -1e6  # clocks of different machines are never compared
    held = ours.take(path)
    for locking, clock in zip((theirs, others), clocks, strict=True):
        assert locking.take(path) is None
        clock.now += 0.99 * LEASE_SECONDS
        assert locking.take(path) is None
        clock.now += 0.02 * LEASE_SECONDS
    taken = theirs.take(path)
    assert taken
    assert others.take(path) is None
    assert not held.lease.renew()
    held.close()  # gives nothing back that is not its own
    assert others.take(path) is None
    assert taken.lease.renew()


def test_a_lease_is_not_renewed_after_all_later_ones_are_gone(tmp_path):
    clock = Clock()
    ours, theirs = machine("a"), machine("b", clock)
    held = ours.take(tmp_path / "lock")
    theirs.take(tmp_path / "lock")
    clock.now += 2 * LEASE_SECONDS
    theirs.take(tmp_path / "lock").close()
    assert not held.lease.renew()


def test_who_creates_a_number_late_finds_that_there_are_later_ones(tmp_path):
    """It was paused between reading that a lease had ended and taking it."""
    path = tmp_path / "lock"
    held = machine("a").take(path)
    while held.lease.folder.joinpath("9").exists() is False:
        assert held.lease.renew()
    late = machine("b")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(late, "_is_live", lambda *_: False)
        patch.setattr(leases, "newest", lambda _: (3, b""))
        assert late.take(path) is None
    assert held.lease.renew()


def test_a_lease_that_was_given_back_cannot_be_won_again_by_an_owner_that_was_paused(tmp_path, monkeypatch):
    """It was paused in a renewal, after it had read the newest number; all later ones were given back meanwhile."""
    path, clock = tmp_path / "lock", Clock()
    held = machine("a").take(path)
    usual = leases.newest

    def paused(folder):
        newest = usual(folder)
        monkeypatch.setattr(leases, "newest", usual)
        theirs = machine("b", clock)
        assert theirs.take(path) is None
        clock.now += LEASE_SECONDS
        theirs.take(path).close()
        return newest

    monkeypatch.setattr(leases, "newest", paused)
    assert not held.lease.renew()
    assert not machine("c").is_taken(path)


def test_a_lease_that_is_given_back_while_it_is_renewed_is_free(tmp_path, monkeypatch):
    path, ours = tmp_path / "lock", machine("a")
    held = ours.take(path)
    usual = leases.newest

    def given_back_after(folder):
        newest = usual(folder)
        monkeypatch.setattr(leases, "newest", usual)
        held.lease.release()
        return newest

    monkeypatch.setattr(leases, "newest", given_back_after)
    assert not held.lease.renew()
    assert machine("b").take(path)


def test_what_is_given_back_is_not_renewed_by_a_beat_that_has_begun(tmp_path, monkeypatch):
    """Otherwise the folder of a lock that is removed would come back."""
    path, ours = tmp_path / "lock", machine("a")
    first, second = ours.take(path), ours.take(tmp_path / "other")
    renewed = []

    def renew(lease):
        assert ours._mutex.locked()  # so that it cannot be given back now
        renewed.append(lease)
        ours._leases.remove(second.lease)  # as the main thread does before the next renewal
        return True

    monkeypatch.setattr(leases.Lease, "renew", renew)
    ours.beat()
    assert renewed == [first.lease]


def test_an_exception_right_after_a_lease_was_taken_gives_it_back(tmp_path, monkeypatch):
    path, ours = tmp_path / "lock", machine("a")
    usual = leases.create

    def interrupted(*arguments, **more):
        usual(*arguments, **more)
        monkeypatch.setattr(leases, "create", usual)
        raise KeyboardInterrupt

    for take in (ours.take, lambda path: ours.locked(path).__enter__()):
        monkeypatch.setattr(leases, "create", interrupted)
        with pytest.raises(KeyboardInterrupt):
            take(path)
        assert not machine("b").is_taken(path)
        assert ours._leases == []


def test_a_lease_that_nobody_renews_ends_although_its_process_lives(tmp_path):
    """The disk was full when it was given back, or, without /proc, another process has its id."""
    path, clock, process = tmp_path / "lock", Clock(), Process.here()
    locks.Locks(lambda: process, kernel=(nothing, nothing), beats=False).take(path)
    ours = locks.Locks(lambda: process, clock, clock.pause, (nothing, nothing), beats=False)
    assert ours.take(path) is None
    clock.now += LEASE_SECONDS
    assert ours.take(path)


def test_a_new_process_sees_that_a_lease_of_another_machine_is_old(tmp_path):
    path = tmp_path / "lock"
    machine("a").take(path)
    (lease,) = leases.leases_of(path).iterdir()
    for age, taken in ((1.9, True), (2.1, False)):
        written = time.time() - age * LEASE_SECONDS
        os.utime(lease, (written, written))
        assert machine("b").is_taken(path) is taken
    assert [file.name for file in leases.leases_of(path).iterdir()] == [lease.name]


def test_a_forked_process_renews_none_of_its_parents_leases(tmp_path):
    ours = machine("a")
    ours.take(tmp_path / "lock")
    ours._mutex.acquire()  # its thread was renewing when the process was forked
    ours.forget()
    ours.beat()
    assert ours.take(tmp_path / "own")


def test_a_lease_ends_with_its_process_on_the_same_machine(tmp_path):
    path = tmp_path / "lock"
    process, _ = holder(path)
    process.kill()
    process.wait()
    assert list(leases.leases_of(path).iterdir())  # nobody has given it back
    assert not locks.is_taken(path)
    assert locks.Locks(kernel=(nothing, nothing), beats=False).take(path)


def test_a_live_process_keeps_its_lease_where_flock_does_nothing(tmp_path):
    path = tmp_path / "lock"
    process, _ = holder(path)
    elsewhere = locks.Locks(kernel=(nothing, nothing), beats=False)
    assert elsewhere.is_taken(path)
    assert elsewhere.take(path) is None
    process.kill()
    process.wait()


def test_who_waits_for_a_machine_that_is_gone_gets_the_lock_after_the_leases_length(tmp_path):
    clock = Clock()
    machine("a").take(tmp_path / "lock")
    with machine("b", clock).locked(tmp_path / "lock"):
        assert LEASE_SECONDS <= clock.now <= 1.1 * LEASE_SECONDS


def test_a_lock_on_a_byte_range_is_a_second_kernel_lock(tmp_path):
    """It holds where flock does not, as on a mount with local_lock=flock."""
    path = tmp_path / "lock"
    ours = machine("a", kernel=(nothing, lock_range))
    theirs = machine("a", kernel=(nothing, lock_range))
    held = ours.take(path)
    held.lease.release()
    assert theirs.is_taken(path)
    assert theirs.take(path) is None
    held.close()
    assert theirs.take(path)


def test_a_lease_that_cannot_be_read_is_waited_for(tmp_path):
    path, clock = tmp_path / "lock", Clock()
    leases.leases_of(path).mkdir()
    (leases.leases_of(path) / "4").write_bytes(b"{")
    ours = machine("a", clock)
    assert ours.take(path) is None
    clock.now += LEASE_SECONDS
    assert ours.take(path)


def test_a_thread_renews_what_is_held(tmp_path):
    own = locks.Locks(length=0.04)
    with own.take(tmp_path / "lock"):
        while max(leases.numbers(leases.leases_of(tmp_path / "lock"))) < 3:
            pass
    assert not own.is_taken(tmp_path / "lock")


def test_a_lease_is_held_until_another_machine_takes_it(tmp_path):
    path, clock = tmp_path / "lock", Clock()
    held = machine("a", clock).take(path)
    assert held.lease.is_held()
    clock.now += LEASE_SECONDS / 2
    assert held.lease.is_held()  # renewed
    other = machine("b", clock)
    assert not other.take(path)
    clock.now += LEASE_SECONDS
    assert other.take(path)
    assert not held.lease.is_held()


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_on_a_full_disk_a_lock_that_is_waited_for_is_the_kernels(tmp_path, monkeypatch):
    """sac-bench gc frees space there."""
    monkeypatch.setattr(leases, "create", full)
    with locks.locked(tmp_path / "lock") as lease:
        assert lease is None
        assert holder(tmp_path / "lock")[1] is False


def test_on_a_full_disk_the_lease_of_another_machine_is_waited_for(tmp_path, monkeypatch):
    path, clock = tmp_path / "lock", Clock()
    assert machine("a").take(path)
    monkeypatch.setattr(leases, "create", full)
    with machine("b", clock).locked(path) as lease:
        assert lease is None
    assert clock.now >= LEASE_SECONDS


def test_a_lease_that_was_taken_although_the_server_says_no_is_given_back(tmp_path, monkeypatch):
    path, create = tmp_path / "lock", leases.create
    monkeypatch.setattr(leases, "create", lambda *arguments, **more: create(*arguments, **more) and False)
    assert locks.HERE.take(path) is None
    monkeypatch.setattr(leases, "create", create)
    assert locks.HERE.take(path)
