# SPDX-License-Identifier: Apache-2.0
"""For tests of the programs that stand on attend-bench: bench/peers and bench/offload."""

import os
import sys
import tempfile
import unittest


def expect_refusals(test, run, name, *refused):
    """Each of these arguments is refused: exit status 2, one line that begins with the program's name, and no file."""
    with tempfile.TemporaryDirectory() as folder:
        for arguments in refused:
            done = run(folder, *arguments)
            test.assertEqual((done.returncode, done.stderr.count("\n")), (2, 1), done.stderr)
            test.assertTrue(done.stderr.startswith(f"{name}: "), done.stderr)
        test.assertEqual(os.listdir(folder), [])


def main(build):
    if os.environ.get("SANITIZE") or not os.path.exists(build / "attend-bench"):
        print("SKIPPED: attend-bench is not built, or a sanitizer would have to be loaded into Python")
        sys.exit(77)
    unittest.main()
