# SPDX-License-Identifier: Apache-2.0
"""Finds the hot loops of a compiled file, on x86-64 and AArch64.

A hot loop is an innermost loop with at least 8 vector multiply-adds, one in 8 instructions or more: products of
matrices, and exponentials. A product of tiles counts as 8.
"""

import re
import shutil
import struct
import subprocess
from collections import namedtuple

MIN_PRODUCTS = 8
MAX_INSTRUCTIONS_PER_PRODUCT = 8
TILE_PRODUCT = re.compile(r"^tdpbf16ps\b")
PRODUCTS_OF_TILES = 8
FUNCTION = re.compile(r"^([0-9a-f]+) <(.+)>:$")
INSTRUCTION = re.compile(r"^ *([0-9a-f]+):\s+(.*?)\s*$")

Instruction = namedtuple("Instruction", "address text")
Loop = namedtuple("Loop", "function framed machine instructions products")

# What instructions look like: multiply-adds, comments, jumps to a known place (and which of them always jump), the end
# of a path, the stack, and the frame pointer (and what makes it one: it may be any other register).
Machine = namedtuple("Machine", "name objdump product comment jump always end stack sets_frame frame")
X86_64 = Machine(
    name="x86-64",
    objdump=("objdump", "x86_64-linux-gnu-objdump"),
    product=re.compile(r"(vfn?m(add|sub)\d+ps|vdpbf16ps)\b.*%[yz]mm"),
    comment=re.compile(r"\s*#.*"),
    jump=re.compile(r"^(?:notrack |bnd )?(?P<name>j\w+) +(?P<to>[0-9a-f]+) <"),
    always=re.compile(r"jmp"),
    end=re.compile(r"^(?:notrack |bnd |rep[a-z]* )?(ret|ud2|hlt|jmp +\*)"),
    stack=re.compile(r"\(%rsp|^(push|pop|call)"),
    sets_frame=re.compile(r"^(mov +%rsp|lea +.*\(%rsp\)),%rbp$"),
    frame=re.compile(r"\(%rbp"))
AARCH64 = Machine(
    name="AArch64",
    objdump=("aarch64-linux-gnu-objdump", "objdump"),
    product=re.compile(r"^(fml[as]\s.*\.4s|bfmmla|bfdot)\b"),
    comment=re.compile(r"\s*//.*"),
    jump=re.compile(r"^(?P<name>b|b\.\w+|cbn?z|tbn?z)\s+(?:[^<]*,\s*)?(?P<to>[0-9a-f]+) <"),
    always=re.compile(r"b$"),
    end=re.compile(r"^(ret|br|udf|brk)\b"),
    stack=re.compile(r"\bw?sp\b|^blr?\b"),
    sets_frame=re.compile(r"^(mov|add)\s+x29, sp"),
    frame=re.compile(r"\bx29\b"))
MACHINES = {62: X86_64, 183: AARCH64}  # by the number in an ELF header


def count_products(instructions, machine):
    """Multiply-adds among instructions."""
    return (sum(bool(machine.product.search(i.text)) for i in instructions) +
            PRODUCTS_OF_TILES * sum(bool(TILE_PRODUCT.match(i.text)) for i in instructions))


def machine_of(file):
    """What a file is compiled for; None if that is neither of the machines that are known here."""
    with open(file, "rb") as binary:
        header = binary.read(20)
    if header.startswith(b"!<arch>"):
        raise ValueError(f"{file}: an archive, not an object")
    return MACHINES.get(struct.unpack("<H", header[18:20])[0]) if header.startswith(b"\x7fELF") else None


def disassembler(machine):
    """Name of the installed disassembler for a machine, or None."""
    return next(filter(shutil.which, machine.objdump), None)


def functions(file, machine, least):
    """Name and instructions of every function with at least so many products."""
    command = [disassembler(machine), "-d", "--no-show-raw-insn", file]
    listing = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    for part in listing.split("\n\n"):
        lines = part.strip().split("\n")
        head = FUNCTION.match(lines[0])
        if head is None:
            continue
        found = (INSTRUCTION.match(machine.comment.sub("", line)) for line in lines[1:])
        code = [Instruction(int(m[1], 16), m[2]) for m in found if m]
        if count_products(code, machine) >= least:
            yield head[2], code


def basic_blocks(code, machine):
    """Blocks by number, in the order of their addresses, as lists of instructions; and the successors of each."""
    index = {instruction.address: i for i, instruction in enumerate(code)}
    jumps = [machine.jump.match(instruction.text) for instruction in code]
    leaders = {0}
    for i, jump in enumerate(jumps):
        if jump or machine.end.match(code[i].text):
            leaders.add(i + 1)
        if jump and int(jump["to"], 16) in index:
            leaders.add(index[int(jump["to"], 16)])
    starts = sorted(i for i in leaders if i < len(code))
    number = {start: n for n, start in enumerate(starts)}
    blocks, successors = [], []
    for start, end in zip(starts, starts[1:] + [len(code)]):
        jump, last = jumps[end - 1], code[end - 1].text
        next_blocks = set()
        if jump and int(jump["to"], 16) in index:
            next_blocks.add(number[index[int(jump["to"], 16)]])
        if end in number and not machine.end.match(last) and not (jump and machine.always.match(jump["name"])):
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


def hot_loops(file, least=MIN_PRODUCTS):
    """The hot loops of an object, library or program for a known machine, of at least so many products."""
    machine = machine_of(file)
    for name, code in functions(file, machine, least):
        blocks, successors = basic_blocks(code, machine)
        for loop in innermost(set(range(len(blocks))), successors):
            instructions = [instruction for block in sorted(loop) for instruction in blocks[block]]
            products = count_products(instructions, machine)
            if products >= least and len(instructions) <= MAX_INSTRUCTIONS_PER_PRODUCT * products:
                framed = any(machine.sets_frame.match(instruction.text) for instruction in code)
                yield Loop(name, framed, machine, instructions, products)


def on_stack(loop):
    """The instructions of a loop that touch the stack."""
    machine = loop.machine
    return [i for i in loop.instructions
            if machine.stack.search(i.text) or (loop.framed and machine.frame.search(i.text))]
