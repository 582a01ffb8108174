"""A short soak: real kills and a corruption in CI; the long one is `make soak`."""

import pytest

from tests.soak import soak


@pytest.mark.soak
def test_a_short_soak_loses_nothing(tmp_path):
    counts = soak(tmp_path, kills=3, steps=1600, seeds=1, damage_every=2, pause=0.3, small_disk=False)
    assert counts["kills"] >= 3
    assert counts["corruptions"] >= 1
    assert (counts["lost segments"], counts["differing bytes"], counts["tracebacks"]) == (0, 0, 0)
