# SPDX-License-Identifier: Apache-2.0
"""Reads what `attend verify --json` left for each processor.

  isa_matrix.py check FILE ISA,... N  prints a line; fails unless all passed, N cases or more of each kernel of these sets
  isa_matrix.py table FOLDER          prints docs/isa-matrix.md from the files BUILD@PROCESSOR.json and BUILD.info in there
"""

import json
import pathlib
import re
import sys

PROCESSORS = {  # in the order of the columns, with their names there
    "cortex-a53": "cortex-a53",
    "neoverse-n1": "neoverse-n1",
    "max,sve-max-vq=1": "max, SVE 128",
    "max,sve-max-vq=4": "max, SVE 512",
    "max,sve-max-vq=16": "max, SVE 2048",
    "Nehalem": "Nehalem",
    "Haswell": "Haswell",
    "max": "max",
    "native": "native",
}
BUILDS = {"aarch64-gcc": "64-bit Arm", "aarch64-clang": "64-bit Arm", "release": "x86-64"}

HEAD = """# Every kernel on every processor

Written by `scripts/isa-matrix` from the runs of `scripts/test-cross`: `attend verify` on processors that qemu imitates, and
natively on the one at hand. Each kernel of a build does all named cases (each semantic alone and combined, in f32, f16 and
bf16) and a few random ones on one processor at least, where its column has the largest number, and random cases only or
nothing ("not run") on the others.

A cell says how many cases passed, and after a plus sign how many were skipped: those a kernel is not made for, for the
reasons below the table. Errors are |out - reference| / max |v|, the largest on any processor, with that of plain f32
arithmetic in brackets. The last column is the largest error as a share of what its case allows.
"""


def read(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def check(path, isas, least):
    try:
        result = read(path)
    except ValueError:
        sys.exit("verify printed no result")
    for failure in result["failures"]:
        print(f"FAILED {failure}")
    print(f"{result['passed']} passed, {result['failed']} failed, {result['skipped']} skipped")
    for isa in isas:
        kernels = [k for k in result["kernels"] if re.search(rf"__{isa}(_|$)", k["kernel"])]
        idle = [f"{k['passed']} by {k['kernel']}" for k in kernels if k["passed"] < least]
        if idle or not kernels:
            sys.exit(f"expected {least} cases or more: {', '.join(idle) or 'none by any kernel of ' + isa}")
    if result["failed"] or not result["passed"]:
        sys.exit(1)


def cell(kernel):
    if kernel is None:
        return "not run"
    if kernel["failed"]:
        return f"**{kernel['failed']} failed**"
    if not kernel["passed"]:
        return kernel["reasons"][0]["reason"].split(":")[0]
    return f"{kernel['passed']}" + (f" + {kernel['skipped']}" if kernel["skipped"] else "")


def error(kernels, name):
    worst = max((k.get(name, -1.0) for k in kernels), default=-1.0)
    plain = max((k.get(f"plain_{name}", -1.0) for k in kernels), default=-1.0)
    return "" if worst < 0 else f"{worst:.1e} ({plain:.1e})" if plain >= 0 else f"{worst:.1e}"


def row(*cells):
    print("| " + " | ".join(map(str, cells)) + " |")


def print_build(folder, build):
    found = {name: read(folder / f"{build}@{name}.json") for name in PROCESSORS
             if (folder / f"{build}@{name}.json").exists()}
    if not found:
        return
    info = read(folder / f"{build}.info")
    print(f"\n## {BUILDS[build]}, built by {info['compiler'].split(' (')[0]}\n")
    if "native" in found:
        print(f"The native processor was: {info['cpu']}.\n")
    seeds = {result["seed"] for result in found.values()}
    titles = ["kernel", *(PROCESSORS[name] for name in found), "error f32", "error 16-bit", "of allowed"]
    row(*titles)
    row(*("---" for _ in titles))
    reasons = set()
    by_name = [{kernel["kernel"]: kernel for kernel in result["kernels"]} for result in found.values()]
    for name in dict.fromkeys(name for there in by_name for name in there):  # each has run those of some instruction sets
        kernels = [there.get(name) for there in by_name]
        run = [k for k in kernels if k and k["passed"] + k["failed"]]
        reasons.update(reason["reason"] for k in run for reason in k["reasons"])
        share = max((k["share_of_allowed"] for k in run), default=None)
        row(f"`{name}`", *map(cell, kernels), error(run, "error_f32"), error(run, "error_16"),
            "" if share is None else f"{100 * share:.0f}%")
    print(f"\nSeed {', '.join(map(str, sorted(seeds)))}. Skipped: {'; '.join(sorted(reasons)) or 'nothing'}.")


def main():
    if len(sys.argv) == 5 and sys.argv[1] == "check":
        check(sys.argv[2], sys.argv[3].split(","), int(sys.argv[4]))
    elif len(sys.argv) == 3 and sys.argv[1] == "table":
        print(HEAD, end="")
        for build in BUILDS:
            print_build(pathlib.Path(sys.argv[2]), build)
    else:
        sys.exit(__doc__)


main()
