# SPDX-License-Identifier: Apache-2.0
"""Every kernel that runs here passes hundreds of random cases in each format of keys and values. `attend verify` counts.

scripts/test-cross counts for the kernels of 64-bit Arm.
"""

import json
import os
import re
import subprocess
import sys

from formats_table import formats

LEAST = 300
# So many that kernels which take a part of them, those of bf16 and those that round queries, get as many as that.
CASES = {"q8_0": 1000, "i8": 1000}
OTHERS = 850

# Why a kernel may have nothing to do: the processor, or that it is made for some formats only.
ELSEWHERE = re.compile(r"needs [a-z0-9_]+: |multiplies int8: ")


def check(name):
    """Returns what is wrong, and how many kernels did their cases."""
    command = [os.environ["ATTEND"], "verify", "--dtype", name, "--case", "random", "--cases", str(CASES.get(name, OTHERS)),
               "--seed", "1", "--json"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode not in (0, 1):
        return [f"{name}: {run.stderr}"], 0
    result = json.loads(run.stdout)
    wrong, counted = [f"{name}: {failure}" for failure in result["failures"]], 0
    for kernel in result["kernels"]:
        if re.match("softmax|merge", kernel["kernel"]):  # they have no keys
            continue
        reasons = [reason["reason"] for reason in kernel["reasons"]]
        rounds = any(reason.startswith("multiplies int8") for reason in reasons)
        if kernel["passed"] == 0 and any(ELSEWHERE.match(reason) for reason in reasons) and not (rounds and name in CASES):
            continue
        counted += 1
        if kernel["passed"] < LEAST:
            wrong.append(f"{name}: {kernel['kernel']} passed {kernel['passed']} cases, expected {LEAST}")
    return wrong, counted


def main():
    if os.environ.get("SANITIZE"):
        print("SKIPPED: the builds without sanitizers do the same cases, in a tenth of the time")
        sys.exit(77)
    names = [row.name for row in formats() if row.kind != "PLAIN"]
    wrong = [f"kernels/formats.def has no {name}" for name in CASES if name not in names]
    for name in names:
        found, counted = check(name)
        wrong += found or ([] if counted >= 5 else [f"{name}: {counted} kernels did anything"])
    print("\n".join(wrong) or f"{LEAST} cases or more of {', '.join(names)}")
    sys.exit(bool(wrong))


main()
