"""Files that are replaced atomically and verified by SHA-256."""

import errno
import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sac_bench.envs.pool import envpool_ids
from sac_bench.errors import InputError
from sac_bench.store.atomic import check, create, file_name, fingerprint, read_json, write_atomically, write_json


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "x" / "file"
    write_atomically(path, b"one")
    write_atomically(path, b"two")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"three")
    assert path.read_bytes() == b"two"
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_a_fingerprint_detects_every_change(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"step,return\n0,1\n")
    was = fingerprint(path)
    check(path, was)
    for data, words in ((b"step,return\n0,", "cut to 14 of 16 bytes"), (b"step,return\n0,2\n", "not those")):
        path.write_bytes(data)
        with pytest.raises(InputError, match=f"{path}: damaged: .*{words}"):
            check(path, was)
    path.write_bytes(b"step,return\n0,1\n200,2\n")
    check(path, was, grown=True)
    with pytest.raises(InputError, match="not those"):
        check(path, was)
    path.write_bytes(b"step,return\n0,2\n200,2\n")
    with pytest.raises(InputError, match="not those"):
        check(path, was, grown=True)
    path.unlink()
    with pytest.raises(InputError, match="missing"):
        check(path, was)


@pytest.mark.parametrize("text", ["", "{", "[1]", '"x"', "\x00", "[" * 100_000])
def test_a_file_that_is_not_a_json_object_is_damaged(text, tmp_path):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InputError, match=r"x\.json: damaged"):
        read_json(tmp_path / "x.json")


def test_json_is_read_back_unchanged(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"a": [1, 0.1, None], "b": {"2": float("1e300")}})
    assert read_json(path) == {"a": [1, 0.1, None], "b": {"2": 1e300}}
    path.write_text(path.read_text().replace("0.1", "0.3"))
    with pytest.raises(InputError, match=r"x\.json: damaged: its contents are not"):
        read_json(path)
    path.write_text('{"a": 1}')  # by hand
    assert read_json(path) == {"a": 1}


NAMES = (
    "lab/Reach-v0",
    "lab_Reach-v0",
    "lab:Reach-v0",
    "lab.Reach-v0",
    "gymnasium:lab/Reach-v0",
    "gymnasium:lab_Reach-v0",
    "gymnasium_lab_Reach-v0",
    "gymnasium:gymnasium_lab_Reach-v0",
    "lab/reach-v0",
    "LAB/Reach-v0",
    "Gymnasium_lab_Reach-v0",
    "..",
    ".",
    "",
    ".hidden",
    "~",
    "a b",
    "é",
    "e\u0301",
    "x" * 300,
    "x" * 301,
    "a\nb",
    "a\\b",
    "a~b",
    "a\0b",
)


def test_every_text_has_its_own_file_name(tmp_path):
    names = [file_name(text) for text in NAMES]
    assert len({name.casefold() for name in names}) == len(NAMES)
    for name in names:
        assert len(f"diagnostics-{name}-variants.svg") < 200
        (tmp_path / name).write_text("")
    assert len(list(tmp_path.iterdir())) == len(NAMES)


@given(st.lists(st.text("aA/_:.~-é", max_size=6), unique=True, max_size=8))
def test_any_different_names_have_different_file_names(texts):
    assert len({file_name(text, texts).casefold() for text in texts}) == len(texts)


def test_names_without_special_characters_are_unchanged():
    plain = {env for env in envpool_ids() if "/" not in env}
    assert {file_name(env) for env in plain} == plain
    assert file_name("gymnasium:MultiGoal-v0") == "gymnasium_MultiGoal-v0"
    assert file_name("reward_scale") == "reward_scale"
    assert file_name("Reach-v0", ["Reach-v0", "Hopper-v5"]) == "Reach-v0" != file_name("Reach-v0", ["reach-v0"])


def test_nonfinite_numbers_are_written_as_null(tmp_path):
    write_json(tmp_path / "x.json", {"a": float("nan"), "b": [float("inf"), (1.5, -float("inf"))], "c": {"d": 0.5}})
    text = (tmp_path / "x.json").read_text()
    assert not {"NaN", "Infinity"} & set(re.findall(r"\w+", text))
    assert read_json(tmp_path / "x.json") == {"a": None, "b": [None, [1.5, None]], "c": {"d": 0.5}}


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP])
def test_a_file_is_created_once_even_without_hard_links(code, tmp_path, monkeypatch):
    def link(*_):
        raise OSError(code, "no hard links here")

    monkeypatch.setattr(os, "link", link)
    assert create(tmp_path / "a", b"first")
    assert not create(tmp_path / "a", b"second")
    assert (tmp_path / "a").read_bytes() == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_check_that_raises_keeps_the_old_file(tmp_path):
    write_atomically(tmp_path / "a", b"old")
    with pytest.raises(ZeroDivisionError):
        write_atomically(tmp_path / "a", b"new", lambda: 1 / 0)
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
