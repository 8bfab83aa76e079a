#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Reads the compiled hot loops (scripts/lib/hot_loops.py says what they are) and fails when one touches the stack.

The sums of a loop must live in registers: a compiler that keeps one on the stack costs a third of the speed and changes
no result, so no other test would see it.
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "scripts" / "lib"))
from hot_loops import AARCH64, X86_64, disassembler, hot_loops, machine_of, on_stack

SHOWN = 3  # instructions of a loop

# Of each machine its instruction sets, and how they show in a loop.
SETS = {
    X86_64: {"avx2": "%ymm", "avxvnni": "vpdpbusd", "avx512": "%zmm", "avx512vnni": "vpdpbusd", "avx512bf16": "vdpbf16ps", "amx": "%tmm"},
    AARCH64: {"neon": ".4s", "neonbf16": "bfmmla"},
}
# To write a loop in C: header, flags, vector type and its lanes, load, store, multiply-add, and how many sums fit the
# registers and how many do not.
SELF_TESTS = {
    X86_64: ("immintrin.h", ["-mavx2", "-mfma"], "__m256", 8, "_mm256_loadu_ps({})", "_mm256_storeu_ps({}, {})",
             "_mm256_fmadd_ps(x, x, {})", 10, 20),
    AARCH64: ("arm_neon.h", [], "float32x4_t", 4, "vld1q_f32({})", "vst1q_f32({}, {})", "vfmaq_f32({}, x, x)", 20, 40),
}


def skip(reason):
    print(f"SKIPPED: {reason}")
    sys.exit(77)


def fail(text):
    print(f"FAILED: {text}")
    sys.exit(1)


def self_test(machine, compiler):
    """A loop with more sums than there are registers must be flagged, one with fewer must not."""
    header, flags, vector, lanes, load, store, add, fits, spills = SELF_TESTS[machine]
    for sums in (fits, spills):
        source = f"#include <{header}>\nvoid f(const float *p, long n, float *out);\n"
        source += "void f(const float *p, long n, float *out) {\n"
        source += "".join(f"  {vector} a{i} = {load.format(f'out + {lanes * i}')};\n" for i in range(sums))
        source += f"  for (long i = 0; i < n; i++) {{\n    {vector} x = {load.format(f'p + {lanes} * i')};\n"
        source += "".join(f"    a{i} = {add.format(f'a{i}')};\n" for i in range(sums))
        source += "  }\n" + "".join(f"  {store.format(f'out + {lanes * i}', f'a{i}')};\n" for i in range(sums)) + "}\n"
        with tempfile.TemporaryDirectory() as folder:
            object_file = os.path.join(folder, "loop.o")
            subprocess.run([*compiler, "-O2", *flags, "-xc", "-", "-c", "-o", object_file],
                           input=source, text=True, check=True)
            loops = list(hot_loops(object_file))
        if not loops:
            fail(f"self-test: no hot loop found in a loop with {sums} sums")
        if any(on_stack(loop) for loop in loops) != (sums == spills):
            fail(f"self-test: a loop with {sums} sums is {'not ' if sums == spills else ''}flagged")


def cache(build):
    with open(os.path.join(build, "CMakeCache.txt"), encoding="utf-8") as lines:
        return dict(re.findall(r"^(\w+):\w+=(.*)$", lines.read(), re.MULTILINE))


def main():
    build, compiler = os.environ["BUILD_DIR"], os.environ.get("CC", "cc").split()
    settings = cache(build)
    library = os.path.join(build, "libattend.so")
    machine = machine_of(library)
    if machine is None:
        skip(f"{library} is for a machine whose loops are not known here")
    if not disassembler(machine):
        skip(f"there is no objdump for {machine.name} (Debian: binutils)")
    if os.environ.get("SANITIZE"):
        skip("sanitizers put everything on the stack")
    if settings.get("CMAKE_BUILD_TYPE") not in ("Release", "RelWithDebInfo"):
        skip(f"the build type is {settings.get('CMAKE_BUILD_TYPE')}, not an optimised one")
    wanted = {isa: register for isa, register in SETS[machine].items()
              if settings.get(f"ATTEND_COMPILES_{isa}") or machine is AARCH64}
    if not wanted:
        skip(f"no kernels for {' or '.join(SETS[machine])} are built")
    self_test(machine, compiler)

    loops = list(hot_loops(library))
    bench = os.path.join(build, "attend-bench")
    if os.path.exists(bench):  # what it calls the limit of the machine must be one
        loops += [loop for loop in hot_loops(bench) if loop.function.startswith("peak_")]
    bad = 0
    for loop in loops:
        found = on_stack(loop)
        bad += bool(found)
        if found:
            print(f"{loop.function}: loop at {loop.instructions[0].address:x}, {loop.products} products in "
                  f"{len(loop.instructions)} instructions, {len(found)} on the stack:")
            for instruction in found[:SHOWN]:
                print(f"  {instruction.address:x}: {instruction.text}")
    for isa, register in wanted.items():
        count = sum(any(register in i.text for i in loop.instructions) for loop in loops)
        print(f"{count} hot loops of {isa} ({register})")
        if count == 0:
            fail("there must be some: nothing was checked")
    if bad:
        fail(f"{bad} of {len(loops)} hot loops touch the stack")


main()
