"""Fixtures of these tests."""

from tests.recording import recorded

__all__ = ["recorded"]
