# SPDX-License-Identifier: Apache-2.0
"""Prints docs/arm-analysis.md: analyse_loops.py COUNTS NAME=BUILD...

What llvm-mca predicts for the hot loops of AArch64 builds, each given by the name of its compiler and its folder.
COUNTS is a file of lines "compiler kernel instructions".
"""

import re
import subprocess
import sys
from collections import namedtuple

from hot_loops import hot_loops

MCA = "llvm-mca-19"
CORES = ["neoverse-n1", "neoverse-v1", "neoverse-v2", "apple-m1", "cortex-a53"]
ITERATIONS = 200
LANES = 4
KERNEL = r"stream_f32__neon_q\d+k\d+"

# Loops that are shown, by their function: the loop with the most multiply-adds, and of those the shortest.
Shown = namedtuple("Shown", "what function")
PRODUCTS = [
    Shown("Q K^T, full register tile", rf"{KERNEL}_scores"),
    Shown("P V, full register tile", rf"{KERNEL}_values"),
]
OTHERS = [
    Shown("exp and sum of a row", r"softmax_step(\..*)?"),
    Shown("decode, q k, f32", r"score_group_one_f32"),
    Shown("decode, q k, f16", r"score_group_one_f16"),
    Shown("decode, q k, bf16", r"score_group_one_bf16"),
]
HEAD = """# How fast the NEON kernels should be

Written by `scripts/analyse-loops`: a prediction, not a measurement. [llvm-mca](https://llvm.org/docs/CommandGuide/llvm-mca.html)
runs the compiled inner loops through LLVM's models of the cores, with every load found in the first-level cache.
"""


def predict(core, assembly):
    """Cycles per iteration of a loop body."""
    command = [MCA, "-mtriple=aarch64", f"-mcpu={core}", f"-iterations={ITERATIONS}",
               "--instruction-info=0", "--resource-pressure=0"]
    run = subprocess.run(command, input=assembly, text=True, capture_output=True)
    found = re.search(r"Total Cycles:\s+(\d+)", run.stdout)
    if run.returncode != 0 or not found:
        sys.exit(f"analyse-loops: {MCA} -mcpu={core} failed:\n{run.stderr}")
    return int(found[1]) / ITERATIONS


def peak(core):
    """Multiply-adds of whole vectors a cycle, none of which waits for another: by vector or by element."""
    count = 24
    return max(count / predict(core, "\n".join(f"fmla v{i}.4s, v30.4s, v31.{form}" for i in range(count)))
               for form in ("4s", "s[0]"))


def assembly(loop):
    """A loop body as the model reads it.

    Where it jumps to does not matter. A store that moves its own address on is taken apart: the model would have the next
    round's address wait for this round's data.
    """
    lines = ["loop:"]
    for instruction in loop.instructions:
        text = re.sub(r"\b[0-9a-f]+ <[^>]*>", "loop", instruction.text)
        moving = re.fullmatch(r"(st\w+\s.*\[(\w+)\]), #(-?\w+)", text)
        lines += [moving[1], f"add {moving[2]}, {moving[2]}, #{moving[3]}"] if moving else [text]
    return "\n".join(lines)


def find(loops, shown):
    fitting = [loop for loop in loops if re.fullmatch(shown.function, loop.function)]
    if not fitting:
        sys.exit(f"analyse-loops: no hot loop in a function {shown.function}")
    most = max(loop.products for loop in fitting)
    largest = (loop for loop in fitting if loop.products == most)
    return min(largest, key=lambda loop: len(loop.instructions))


def row(*cells):
    print("| " + " | ".join(map(str, cells)) + " |")


def header(*cells):
    row(*cells)
    row(*("---" for _ in cells))


def print_products(builds, peaks):
    print("\n## Products\n")
    print("Multiply-adds of 4 lanes a cycle, and in brackets their share of the most the model can start, which stands in the\n"
          "last row. Columns are cores.\n")
    header("loop", "compiler", "multiply-adds", "instructions", *CORES)
    for shown in PRODUCTS:
        for compiler, loops in builds.items():
            loop = find(loops, shown)
            rates = [loop.products / predict(core, assembly(loop)) for core in CORES]
            row(f"{shown.what} (`{loop.function}`)", compiler, loop.products, len(loop.instructions),
                *(f"{rate:.2f} ({rate / peaks[core]:.2f})" for core, rate in zip(CORES, rates)))
    row("peak", "", "", "", *(f"{peaks[core]:.2f}" for core in CORES))
    print("\nTwo models are to be taken with care. LLVM has none of its own for apple-m1: it takes that of an older Apple core, which\n"
          "starts 3 multiply-adds a cycle, where the M1 is known for 4. And the model of the in-order cortex-a53 lets no load finish\n"
          "before the multiply-adds that stand before it, so that every broadcast waits for the last product, which is likely too gloomy.")


def print_others(builds):
    print("\n## Softmax and decode\n")
    print("Cycles a score for the softmax, which comes on top of the products; cycles a multiply-add of 4 lanes for decode, where\n"
          "memory sets the pace.\n")
    header("loop", "compiler", "instructions", *CORES)
    for shown in OTHERS:
        for compiler, loops in builds.items():
            loop = find(loops, shown)
            unit = LANES if shown is OTHERS[0] else loop.products
            row(f"{shown.what} (`{loop.function.split('.')[0]}`)", compiler, len(loop.instructions),
                *(f"{predict(core, assembly(loop)) / unit:.2f}" for core in CORES))


def print_together(builds, peaks):
    print("\nShare of the peak that products and softmax reach together, the softmax doing nothing useful:\n")
    header("head dim", "compiler", *CORES)
    for dim in (64, 128):
        for compiler, loops in builds.items():
            shares = []
            for core in CORES:
                cycles = predict(core, assembly(find(loops, OTHERS[0]))) / LANES
                for shown in PRODUCTS:
                    loop = find(loops, shown)
                    cycles += dim / LANES * predict(core, assembly(loop)) / loop.products
                shares.append(2 * dim / LANES / peaks[core] / cycles)
            row(dim, compiler, *(f"{share:.2f}" for share in shares))


def print_counts(path):
    counts = {}
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            compiler, kernel, count = line.split()
            counts.setdefault(compiler, {})[kernel] = int(count)
    print("\n## Instructions\n")
    print("Executed under qemu for one key/value head of llama-prefill with its four query heads (2048 queries and keys, D = 128,\n"
          "causal, f32), one run, counted one by one by a plugin. Compilers vectorise parts of the scalar kernel by themselves, as\n"
          "NEON belongs to every AArch64 processor: clang more of it than gcc.\n")
    header("compiler", "scalar kernel", "instructions", "NEON kernel", "instructions", "NEON / scalar")
    for compiler, kernels in counts.items():
        scalar, neon = (next(k for k in kernels if f"__{isa}_" in k) for isa in ("scalar", "neon"))
        row(compiler, f"`{scalar}`", f"{kernels[scalar]:,}", f"`{neon}`", f"{kernels[neon]:,}",
            f"{kernels[neon] / kernels[scalar]:.3f}")


def main():
    counts, *names = sys.argv[1:]
    builds = {}
    for name in names:
        compiler, build = name.split("=", 1)
        builds[compiler] = list(hot_loops(f"{build}/libattend.so", least=4))
    print(HEAD, end="")
    peaks = {core: peak(core) for core in CORES}
    print_products(builds, peaks)
    print_others(builds)
    print_together(builds, peaks)
    print_counts(counts)


main()
