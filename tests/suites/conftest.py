# SPDX-License-Identifier: Apache-2.0
"""What the tests of several suites share: the fake, loaded."""

import pytest
from builders import planned

from bench.engines import fake
from bench.engines.contract import LoadRequest
from bench.records.cell import Weights


@pytest.fixture
def engine():
    """The fake at 16 bits."""
    scheme = fake.BACKEND.scheme("fake-fp16")
    return fake.FakeEngine(
        LoadRequest(model=planned("memory").model, weights=Weights.RANDOM, scheme=scheme, device="cpu")
    )
