# SPDX-License-Identifier: Apache-2.0
"""Long lists of cases run whole with ATTEND_TEST_ALL=1, and a sample of them without."""

import os

import pytest

ALL = os.environ.get("ATTEND_TEST_ALL", "") not in ("", "0")


def sample(cases, count):
    """All cases, or about `count` of them, spread evenly."""
    cases = list(cases)
    return cases if ALL or len(cases) <= count else cases[::-(-len(cases) // count)]


@pytest.fixture
def everything():
    """For tests that are for ATTEND_TEST_ALL=1 only."""
    if not ALL:
        pytest.skip("runs with ATTEND_TEST_ALL=1")
