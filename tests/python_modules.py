# SPDX-License-Identifier: Apache-2.0
"""For tests that need more than Python's standard library."""

import importlib.util
import os
import sys

DEBIAN = "/usr/bin/python3"


def need(*modules):
    """Goes on with Debian's Python where this one lacks a module; skips the test, and says so, where that does too."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if not missing:
        return
    if os.path.realpath(sys.executable) != os.path.realpath(DEBIAN) and os.path.exists(DEBIAN):
        os.execv(DEBIAN, [DEBIAN, *sys.argv])
    print(f"SKIPPED: Python has no {', '.join(missing)} (Debian: {', '.join('python3-' + name for name in missing)})")
    sys.exit(77)
