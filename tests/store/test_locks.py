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


def test_a_lock_is_released_however_its_process_ends(tmp_path):
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


def test_a_waiter_gets_the_lock_after_its_release(tmp_path):
    path = tmp_path / "lock"
    process, _ = holder(path)
    process.stdin.close()  # it ends by itself
    with locks.locked(path):
        assert locks.is_taken(path)
    with locks.settled(path):
        pass
    process.wait()


def test_only_one_of_two_machines_has_the_lock_if_flock_does_nothing(tmp_path):
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


def test_a_renewed_lease_is_never_taken_over(tmp_path):
    path, ours, clock = tmp_path / "lock", machine("a"), Clock()
    theirs = machine("b", clock)
    ours.take(path)
    for _ in range(10):
        assert theirs.take(path) is None
        ours.beat()
        clock.now += 0.9 * LEASE_SECONDS
    assert theirs.take(path) is None


def test_an_expired_lease_is_taken_over_once(tmp_path):
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
    held.close()  # releases only its own lease
    assert others.take(path) is None
    assert taken.lease.renew()


def test_a_lost_lease_is_not_renewed_even_after_all_later_ones_are_gone(tmp_path):
    clock = Clock()
    ours, theirs = machine("a"), machine("b", clock)
    held = ours.take(tmp_path / "lock")
    theirs.take(tmp_path / "lock")
    clock.now += 2 * LEASE_SECONDS
    theirs.take(tmp_path / "lock").close()
    assert not held.lease.renew()


def test_a_machine_that_creates_a_number_late_detects_later_ones(tmp_path):
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


def test_an_owner_paused_in_a_renewal_cannot_regain_a_lease_released_meanwhile(tmp_path, monkeypatch):
    """It was paused in a renewal, after reading the newest number. All later leases were released meanwhile."""
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


def test_a_lease_released_during_its_renewal_is_free(tmp_path, monkeypatch):
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


def test_a_released_lease_is_not_renewed_by_a_beat_already_under_way(tmp_path, monkeypatch):
    """Otherwise the folder of a removed lock would reappear."""
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


def test_an_exception_right_after_taking_a_lease_releases_it(tmp_path, monkeypatch):
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


def test_a_lease_without_renewal_expires_although_its_process_lives(tmp_path):
    """The disk was full at its release, or, without /proc, another process has its id."""
    path, clock, process = tmp_path / "lock", Clock(), Process.here()
    locks.Locks(lambda: process, kernel=(nothing, nothing), beats=False).take(path)
    ours = locks.Locks(lambda: process, clock, clock.pause, (nothing, nothing), beats=False)
    assert ours.take(path) is None
    clock.now += LEASE_SECONDS
    assert ours.take(path)


def test_a_new_process_recognises_an_old_lease_of_another_machine(tmp_path):
    path = tmp_path / "lock"
    machine("a").take(path)
    (lease,) = leases.leases_of(path).iterdir()
    for age, taken in ((1.9, True), (2.1, False)):
        written = time.time() - age * LEASE_SECONDS
        os.utime(lease, (written, written))
        assert machine("b").is_taken(path) is taken
    assert [file.name for file in leases.leases_of(path).iterdir()] == [lease.name]


def test_a_forked_process_does_not_renew_its_parents_leases(tmp_path):
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


def test_a_live_process_keeps_its_lease_if_flock_does_nothing(tmp_path):
    path = tmp_path / "lock"
    process, _ = holder(path)
    elsewhere = locks.Locks(kernel=(nothing, nothing), beats=False)
    assert elsewhere.is_taken(path)
    assert elsewhere.take(path) is None
    process.kill()
    process.wait()


def test_a_waiter_takes_the_lock_after_the_lease_of_a_lost_machine_expires(tmp_path):
    clock = Clock()
    machine("a").take(tmp_path / "lock")
    with machine("b", clock).locked(tmp_path / "lock"):
        assert LEASE_SECONDS <= clock.now <= 1.1 * LEASE_SECONDS


def test_a_lock_on_a_byte_range_is_a_second_kernel_lock(tmp_path):
    """It works where flock does not, such as on a mount with local_lock=flock."""
    path = tmp_path / "lock"
    ours = machine("a", kernel=(nothing, lock_range))
    theirs = machine("a", kernel=(nothing, lock_range))
    held = ours.take(path)
    held.lease.release()
    assert theirs.is_taken(path)
    assert theirs.take(path) is None
    held.close()
    assert theirs.take(path)


def test_an_unreadable_lease_is_waited_for(tmp_path):
    path, clock = tmp_path / "lock", Clock()
    leases.leases_of(path).mkdir()
    (leases.leases_of(path) / "4").write_bytes(b"{")
    ours = machine("a", clock)
    assert ours.take(path) is None
    clock.now += LEASE_SECONDS
    assert ours.take(path)


def test_a_thread_renews_held_leases(tmp_path):
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


def test_on_a_full_disk_a_waiter_gets_the_kernel_lock_without_a_lease(tmp_path, monkeypatch):
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


def test_a_lease_created_despite_a_refusal_by_the_server_is_released(tmp_path, monkeypatch):
    path, create = tmp_path / "lock", leases.create
    monkeypatch.setattr(leases, "create", lambda *arguments, **more: create(*arguments, **more) and False)
    assert locks.HERE.take(path) is None
    monkeypatch.setattr(leases, "create", create)
    assert locks.HERE.take(path)
