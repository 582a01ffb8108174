"""Secrets that errors and reports must not show."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sac_bench.errors import redacted


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("--storage postgresql://me:secret@host:5432/db", "--storage postgresql://me:***@host:5432/db"),
        ("mysql+pymysql://me:p@ss@host/db --seeds 3", "mysql+pymysql://me:***@host/db --seeds 3"),
        (
            "postgresql://h/db?user=u&password=secret 'mysql://u@h/db?PASSWD=x'",
            "postgresql://h/db?user=u&password=*** 'mysql://u@h/db?PASSWD=***'",
        ),
        ("a redis://:secret@host b", "a redis://:***@host b"),
        ("https://host:5432/x sqlite:///a.db me@host", "https://host:5432/x sqlite:///a.db me@host"),
    ],
)
def test_passwords_in_urls_are_hidden(text, shown):
    assert redacted(text) == shown


@given(st.text(st.characters(exclude_characters="/@: \t\n\r\x0b\x0c", exclude_categories=["Z", "C"]), min_size=8))
def test_no_password_is_shown(password):
    shown = redacted(f"sac-bench tune x.toml --storage postgresql://me:{password}@db/x")
    assert shown == "sac-bench tune x.toml --storage postgresql://me:***@db/x"
    assert redacted(f"'postgresql://me:{password}@db/x'") == "'postgresql://me:***@db/x'"
