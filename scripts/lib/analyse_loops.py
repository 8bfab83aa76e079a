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
ITERATIONS = 200
LANES = 4

# A kind of kernels: its folder, the type its products compute in, the cores it is predicted for, what a product looks
# like (two forms where one may be faster), multiply-adds of a product, and scores of one round of its softmax.
Kind = namedtuple("Kind", "isa dtype cores forms adds scores")
F32 = Kind("neon", "f32", ["neoverse-n1", "neoverse-v1", "neoverse-v2", "apple-m1", "cortex-a53"],
           ["fmla v{}.4s, v30.4s, v31.4s", "fmla v{}.4s, v30.4s, v31.s[0]"], 4, 4)
BF16 = Kind("neonbf16", "bf16", ["neoverse-n2", "neoverse-v1", "neoverse-v2"],
            ["bfmmla v{}.4s, v30.8h, v31.8h"], 16, 8)

# Loops that are shown, by their function: the loop of that kind with the most products, and of those the shortest.
Shown = namedtuple("Shown", "what function")
SOFTMAX = Shown("exp and sum of a row", r"softmax_step(\..*)?")
DECODE = [
    Shown("decode, q k, f32", r"score_group_one_f32_whole"),
    Shown("decode, q k, f16", r"score_group_one_f16_whole"),
    Shown("decode, q k, bf16", r"score_group_one_bf16_whole"),
]

# Instructions that multiply and add into f32: what they are, the form, their multiply-adds, and the same in 128 bits.
CANDIDATES = [
    ("f32, `FMLA`", "fmla v{}.4s, v30.4s, v31.4s", 4),
    ("f16, `FMLAL` (FHM)", "fmlal v{}.4s, v30.4h, v31.4h", 4),
    ("bf16, `BFDOT`", "bfdot v{}.4s, v30.8h, v31.8h", 8),
    ("bf16, `BFMMLA`", "bfmmla v{}.4s, v30.8h, v31.8h", 16),
]
SVE_CANDIDATES = [
    ("SVE f32, `FMLA`", "fmla z{}.s, p0/m, z30.s, z31.s", 4),
    ("SVE bf16, `BFMMLA`", "bfmmla z{}.s, z30.h, z31.h", 16),
]
SVE_BITS = {"neoverse-v1": 256, "neoverse-v2": 128, "neoverse-n2": 128, "a64fx": 512}
HEAD = """# How fast the NEON kernels should be

Written by `scripts/analyse-loops`: a prediction, not a measurement. [llvm-mca](https://llvm.org/docs/CommandGuide/llvm-mca.html)
runs the compiled inner loops through LLVM's models of the cores, with every load found in the first-level cache.
"""


def predict(core, assembly):
    """Cycles per iteration of a loop body; None if the core does not have an instruction."""
    command = [MCA, "-mtriple=aarch64", f"-mcpu={core}", f"-iterations={ITERATIONS}",
               "--instruction-info=0", "--resource-pressure=0"]
    run = subprocess.run(command, input=assembly, text=True, capture_output=True)
    found = re.search(r"Total Cycles:\s+(\d+)", run.stdout)
    if "instruction requires" in run.stderr:
        return None
    if run.returncode != 0 or not found:
        sys.exit(f"analyse-loops: {MCA} -mcpu={core} failed:\n{run.stderr}")
    return int(found[1]) / ITERATIONS


def rate(core, form):
    """Instructions of a form a cycle, none of which waits for another; None if the core does not have it."""
    count = 24
    cycles = predict(core, "\n".join(form.format(i) for i in range(count)))
    return cycles and count / cycles


def peak(core, kind):
    """Products a cycle."""
    return max(rate(core, form) for form in kind.forms)


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


def kind_of(loop):
    return BF16 if any(re.match(r"bf(mmla|dot|cvt)", i.text) for i in loop.instructions) else F32


def find(loops, shown, kind=F32):
    fitting = [loop for loop in loops if re.fullmatch(shown.function, loop.function) and kind_of(loop) is kind]
    if not fitting:
        sys.exit(f"analyse-loops: no hot loop of {kind.isa} in a function {shown.function}")
    most = max(loop.products for loop in fitting)
    largest = (loop for loop in fitting if loop.products == most)
    return min(largest, key=lambda loop: len(loop.instructions))


def products(kind):
    kernel = rf"stream_{kind.dtype}__{kind.isa}_q\d+k\d+"
    return [Shown("Q K^T, full register tile", f"{kernel}_scores"), Shown("P V, full register tile", f"{kernel}_values")]


def row(*cells):
    print("| " + " | ".join(map(str, cells)) + " |")


def header(*cells):
    row(*cells)
    row(*("---" for _ in cells))


def print_products(builds, kind):
    header("loop", "compiler", "products", "instructions", *kind.cores)
    for shown in products(kind):
        for compiler, loops in builds.items():
            loop = find(loops, shown, kind)
            rates = {core: loop.products / predict(core, assembly(loop)) for core in kind.cores}
            row(f"{shown.what} (`{loop.function}`)", compiler, loop.products, len(loop.instructions),
                *(f"{rates[core]:.2f} ({rates[core] / peak(core, kind):.2f})" for core in kind.cores))
    row("peak", "", "", "", *(f"{peak(core, kind):.2f}" for core in kind.cores))


def print_all_products(builds):
    print("\n## Products\n")
    print("Multiply-adds of 4 lanes a cycle, and in brackets their share of the most the model can start, which stands in the\n"
          "last row. Columns are cores.\n")
    print_products(builds, F32)
    print("\nTwo models are to be taken with care. LLVM has none of its own for apple-m1: it takes that of an older Apple core, which\n"
          "starts 3 multiply-adds a cycle by element and 2 by vector, where the M1 is known for 4; and the model of the in-order\n"
          "cortex-a53 lets no load finish before the multiply-adds that stand before it, so that every broadcast waits for the last\n"
          "product, which is likely too gloomy.\n")
    print("The kernels for bf16, in products of 2 x 4 by 4 x 2 elements a cycle, four times the work of a multiply-add:\n")
    print_products(builds, BF16)


def print_others(builds):
    print("\n## Softmax and decode\n")
    print("Cycles a score for the softmax, which comes on top of the products; cycles a multiply-add of 4 lanes for decode, where\n"
          "memory sets the pace.\n")
    header("loop", "compiler", "instructions", *F32.cores)
    for shown in [SOFTMAX, *DECODE]:
        for compiler, loops in builds.items():
            loop = find(loops, shown)
            unit = F32.scores if shown is SOFTMAX else loop.products
            row(f"{shown.what} (`{loop.function.split('.')[0]}`)", compiler, len(loop.instructions),
                *(f"{predict(core, assembly(loop)) / unit:.2f}" for core in F32.cores))
    print()
    header("loop", "compiler", "instructions", *BF16.cores)
    for compiler, loops in builds.items():
        loop = find(loops, SOFTMAX, BF16)
        row(f"{SOFTMAX.what}, weights rounded to bf16", compiler, len(loop.instructions),
            *(f"{predict(core, assembly(loop)) / BF16.scores:.2f}" for core in BF16.cores))
    print("\nShare of the peak that products and softmax reach together, the softmax doing nothing useful:\n")
    print_together(builds, F32)
    print("\nand for bf16, where the products take a quarter of the time and the softmax takes as long as before:\n")
    print_together(builds, BF16)


def print_together(builds, kind):
    header("head dim", "compiler", *kind.cores)
    for dim in (64, 128):
        for compiler, loops in builds.items():
            shares = []
            for core in kind.cores:
                cycles = predict(core, assembly(find(loops, SOFTMAX, kind))) / kind.scores
                for shown in products(kind):
                    loop = find(loops, shown, kind)
                    cycles += dim / kind.adds * predict(core, assembly(loop)) / loop.products
                shares.append(2 * dim / kind.adds / peak(core, kind) / cycles)
            row(dim, compiler, *(f"{share:.2f}" for share in shares))


def print_candidates():
    cores = ["neoverse-n1", *SVE_BITS]
    print("\n## What pays, and what does not\n")
    print("Multiply-adds into f32 that a core can start each cycle. SVE counts with the length its registers have in that core.\n")
    header("", *cores)
    for what, form, adds in CANDIDATES:
        rates = [rate(core, form) for core in cores]
        row(what, *(f"{adds * r:.0f}" if r else "" for r in rates))
    for what, form, adds in SVE_CANDIDATES:
        rates = [rate(core, form) if core in SVE_BITS else None for core in cores]
        row(what, *(f"{adds * r * SVE_BITS[core] / 128:.0f}" if r else "" for core, r in zip(cores, rates)))
    row("SVE register, bits", *(SVE_BITS.get(core, "") for core in cores))
    print("""
- `BFMMLA` does four times the work of `FMLA`, so there are kernels for it. `BFDOT` belongs to the same feature and does half:
  it only adds up the rounded weights of a row.
- `FMLAL`, which multiplies f16 and adds in f32, does no more than `FMLA`: f16 is converted while it is packed, once for all
  query rows, and nothing would be gained. Arithmetic wholly in f16 is twice as fast, but its sums have 11 bits: it does not
  keep what [numerics.md](numerics.md) promises.
- SVE does not do more than NEON on any Neoverse: where its registers are longer, fewer of them start. It would pay on an
  a64fx, which no engine is known to serve models on. And the bodies hold their sums in arrays of vectors, whose sizes are
  constants; a vector of unknown length cannot be an element of an array or have a size: gcc 12 says "array elements cannot
  have SVE type", clang 19 "array has sizeless element type". Each tile size would have to be written out by hand. A folder
  for one length (`-msve-vector-bits=512`) would fit the contract, and is what an a64fx would be given.""")


def print_counts(path):
    counts = {}
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            compiler, kernel, count = line.split()
            counts.setdefault(compiler, {})[kernel] = int(count)
    print("\n## Instructions\n")
    print("Executed under qemu for one key/value head of llama-prefill with its four query heads (2048 queries and keys, D = 128,\n"
          "causal), one run, counted one by one by a plugin; in f32, and in bf16 for the kernel that computes in it. Compilers\n"
          "vectorise parts of the scalar kernel by themselves, as NEON belongs to every AArch64 processor: clang more of it than gcc.\n")
    header("compiler", "kernel", "instructions", "of the scalar kernel's")
    for compiler, kernels in counts.items():
        scalar = next(count for kernel, count in kernels.items() if "__scalar_" in kernel)
        for kernel, count in kernels.items():
            row(compiler, f"`{kernel}`", f"{count:,}", f"{count / scalar:.3f}")


def main():
    counts, *names = sys.argv[1:]
    builds = {}
    for name in names:
        compiler, build = name.split("=", 1)
        builds[compiler] = list(hot_loops(f"{build}/libattend.so", least=4))
    print(HEAD, end="")
    print_all_products(builds)
    print_others(builds)
    print_candidates()
    print_counts(counts)


main()
