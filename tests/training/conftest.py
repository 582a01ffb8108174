"""Fixtures of these tests."""

from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from tests.recording import recorded

__all__ = ["recorded"]

# Autograd counts the devices when it is first used in a process: test_accelerator.py needs its own before that.
_setup_privateuseone_for_python_backend("pretended")
