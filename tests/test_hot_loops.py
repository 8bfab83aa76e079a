#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Reads the compiled hot loops and fails when one touches the stack.

A hot loop is an innermost loop with at least 8 vector multiply-adds, one in 8 instructions or more: products of
matrices, and exponentials. Its sums must live in registers: a compiler that keeps one on the stack costs a third of the
speed and changes no result, so no other test would see it.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import namedtuple

MIN_PRODUCTS = 8
MAX_INSTRUCTIONS_PER_PRODUCT = 8
SHOWN = 3  # instructions of a loop
PRODUCT = re.compile(r"(vfn?m(add|sub)\d+ps|vdpbf16ps)\b.*%[yz]mm")
STACK = re.compile(r"\(%rsp|^(push|pop|call)")
FRAME = re.compile(r"\(%rbp")
SETS_FRAME = re.compile(r"^(mov +%rsp|lea +.*\(%rsp\)),%rbp$")
FUNCTION = re.compile(r"^([0-9a-f]+) <(.+)>:$")
INSTRUCTION = re.compile(r"^ *([0-9a-f]+):\s+(.*?)\s*(#.*)?$")
JUMP = re.compile(r"^(?:notrack |bnd )?(j\w+) +([0-9a-f]+) <")
END = re.compile(r"^(?:notrack |bnd |rep[a-z]* )?(ret|ud2|hlt|jmp +\*)")

Instruction = namedtuple("Instruction", "address text")
Loop = namedtuple("Loop", "function instructions products")


def functions(file):
    """Name and instructions of every function with enough products."""
    listing = subprocess.run(["objdump", "-d", "--no-show-raw-insn", file], check=True, capture_output=True, text=True)
    if "file format elf64-x86-64" not in listing.stdout:
        skip(f"{file} is no x86-64 code")
    for part in listing.stdout.split("\n\n"):
        lines = part.strip().split("\n")
        head = FUNCTION.match(lines[0])
        if head and sum(bool(PRODUCT.search(line)) for line in lines) >= MIN_PRODUCTS:
            found = (INSTRUCTION.match(line) for line in lines[1:])
            yield head[2], [Instruction(int(m[1], 16), m[2]) for m in found if m]


def basic_blocks(code):
    """Blocks by number, in the order of their addresses, as lists of instructions; and the successors of each."""
    index = {instruction.address: i for i, instruction in enumerate(code)}
    jumps = [JUMP.match(instruction.text) for instruction in code]
    leaders = {0}
    for i, jump in enumerate(jumps):
        if jump or END.match(code[i].text):
            leaders.add(i + 1)
        if jump and int(jump[2], 16) in index:
            leaders.add(index[int(jump[2], 16)])
    starts = sorted(i for i in leaders if i < len(code))
    number = {start: n for n, start in enumerate(starts)}
    blocks, successors = [], []
    for start, end in zip(starts, starts[1:] + [len(code)]):
        jump, last = jumps[end - 1], code[end - 1].text
        next_blocks = set()
        if jump and int(jump[2], 16) in index:
            next_blocks.add(number[index[int(jump[2], 16)]])
        if end in number and not END.match(last) and not (jump and jump[1].startswith("jmp")):
            next_blocks.add(number[end])
        blocks.append(code[start:end])
        successors.append(next_blocks)
    return blocks, successors


def depth_first(roots, edges, nodes):
    """Post-order of what can be reached from each root in turn, without what an earlier root has reached."""
    seen, trees = set(), []
    for root in roots:
        if root in seen:
            continue
        order, stack = [], [(root, iter(edges[root]))]
        seen.add(root)
        while stack:
            node, rest = stack[-1]
            following = next((n for n in rest if n in nodes and n not in seen), None)
            if following is None:
                order.append(node)
                stack.pop()
            else:
                seen.add(following)
                stack.append((following, iter(edges[following])))
        trees.append(order)
    return trees


def innermost(nodes, successors):
    """The loops among `nodes` that have no loop inside, as sets of blocks: cycles that vanish with their first block."""
    predecessors = {node: set() for node in nodes}
    for node in nodes:
        for following in successors[node] & nodes:
            predecessors[following].add(node)
    finished = [node for tree in depth_first(sorted(nodes), successors, nodes) for node in tree]
    for component in map(set, depth_first(reversed(finished), predecessors, nodes)):
        if len(component) == 1 and not component & successors[min(component)]:
            continue
        inside = list(innermost(component - {min(component)}, successors))
        yield from inside or [component]


def hot_loops(file):
    for name, code in functions(file):
        blocks, successors = basic_blocks(code)
        for loop in innermost(set(range(len(blocks))), successors):
            instructions = [instruction for block in sorted(loop) for instruction in blocks[block]]
            products = sum(bool(PRODUCT.search(instruction.text)) for instruction in instructions)
            if products >= MIN_PRODUCTS and len(instructions) <= MAX_INSTRUCTIONS_PER_PRODUCT * products:
                framed = any(SETS_FRAME.match(instruction.text) for instruction in code)
                yield Loop((name, framed), instructions, products)


def offences(loop):
    framed = loop.function[1]
    return [i for i in loop.instructions if STACK.search(i.text) or (framed and FRAME.search(i.text))]


def skip(reason):
    print(f"SKIPPED: {reason}")
    sys.exit(77)


def fail(text):
    print(f"FAILED: {text}")
    sys.exit(1)


def self_test(compiler):
    """A loop with more sums than AVX2 has registers must be flagged, one with fewer must not."""
    for sums, spills in ((10, False), (20, True)):
        source = "#include <immintrin.h>\nvoid f(const float *p, long n, float *out);\n"
        source += "void f(const float *p, long n, float *out) {\n"
        source += "".join(f"  __m256 a{i} = _mm256_loadu_ps(out + {8 * i});\n" for i in range(sums))
        source += "  for (long i = 0; i < n; i++) {\n    __m256 x = _mm256_loadu_ps(p + 8 * i);\n"
        source += "".join(f"    a{i} = _mm256_fmadd_ps(a{i}, x, x);\n" for i in range(sums))
        source += "  }\n" + "".join(f"  _mm256_storeu_ps(out + {8 * i}, a{i});\n" for i in range(sums)) + "}\n"
        with tempfile.TemporaryDirectory() as folder:
            object_file = os.path.join(folder, "loop.o")
            subprocess.run([compiler, "-O2", "-mavx2", "-mfma", "-xc", "-", "-c", "-o", object_file],
                           input=source, text=True, check=True)
            loops = list(hot_loops(object_file))
        if not loops:
            fail(f"self-test: no hot loop found in a loop with {sums} sums")
        if any(offences(loop) for loop in loops) != spills:
            fail(f"self-test: a loop with {sums} sums is {'not ' if spills else ''}flagged")


def cache(build):
    with open(os.path.join(build, "CMakeCache.txt"), encoding="utf-8") as lines:
        return dict(re.findall(r"^(\w+):\w+=(.*)$", lines.read(), re.MULTILINE))


def main():
    build, compiler = os.environ["BUILD_DIR"], os.environ.get("CC", "cc")
    settings = cache(build)
    if not shutil.which("objdump"):
        skip("there is no objdump (Debian: binutils)")
    if os.environ.get("SANITIZE"):
        skip("sanitizers put everything on the stack")
    if settings.get("CMAKE_BUILD_TYPE") not in ("Release", "RelWithDebInfo"):
        skip(f"the build type is {settings.get('CMAKE_BUILD_TYPE')}, not an optimised one")
    wanted = [register for isa, register in (("avx2", "%ymm"), ("avx512", "%zmm"))
              if settings.get(f"ATTEND_COMPILES_{isa}")]
    if not wanted:
        skip("no kernels for AVX2 or AVX-512 are built")
    self_test(compiler)

    loops = list(hot_loops(os.path.join(build, "libattend.so")))
    bench = os.path.join(build, "attend-bench")
    if os.path.exists(bench):  # what it calls the limit of the machine must be one
        loops += [loop for loop in hot_loops(bench) if loop.function[0].startswith("peak_")]
    bad = 0
    for loop in loops:
        found = offences(loop)
        bad += bool(found)
        if found:
            print(f"{loop.function[0]}: loop at {loop.instructions[0].address:x}, {loop.products} products in "
                  f"{len(loop.instructions)} instructions, {len(found)} on the stack:")
            for instruction in found[:SHOWN]:
                print(f"  {instruction.address:x}: {instruction.text}")
    for register in wanted:
        count = sum(any(register in i.text for i in loop.instructions) for loop in loops)
        print(f"{count} hot loops on {register} registers")
        if count == 0:
            fail("there must be some: nothing was checked")
    if bad:
        fail(f"{bad} of {len(loops)} hot loops touch the stack")


main()
