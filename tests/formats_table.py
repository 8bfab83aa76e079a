# SPDX-License-Identifier: Apache-2.0
"""The rows of kernels/formats.def. `python3 tests/formats_table.py --update` writes the blocks among them to include/attend/formats.h."""

import os
import pathlib
import re
import sys
import typing

ROOT = pathlib.Path(os.environ.get("SOURCE_DIR", pathlib.Path(__file__).resolve().parent.parent))


class Format(typing.NamedTuple):
    name: str
    kind: str  # PLAIN, SCALED or BLOCK
    elements: int
    bytes: int
    layout: list  # of a block: bits, lower, upper, minimum, and the numbers that integers stand for


def formats():
    rows = re.findall(r'^ATTEND_FORMAT_([A-Z]+)\(\w+, "(\w+)", ([^)]*)\)', ROOT.joinpath("kernels/formats.def").read_text(), re.M)
    assert len(rows) >= 13, rows
    for kind, name, numbers in rows:
        elements, size, *layout = map(int, numbers.split(","))
        yield Format(name, kind, elements, size, layout)


HEADER = ROOT / "include/attend/formats.h"
BLOCKS = re.compile(r"(  /\* ggml's blocks of 32 elements[^\n]*\n).*?(\} attend_dtype;)", re.S)


def fields(block):
    """What lies in a block, in words."""
    bits, _, upper, minimum, *numbers = block.layout
    integers = f"{block.elements} indices into a table of {len(numbers)} integers" if numbers[1:] else \
        f"{block.elements} {bits}-bit integers" if not upper else f"the upper bits, the lower 4 bits of {block.elements} integers"
    less = f" less {-numbers[0]}" if not numbers[1:] and numbers[0] else ""
    return f"{block.bytes} bytes: an f16 scale{', an f16 minimum' if minimum else ''}, {integers}{less}"


def header_with_blocks(header):
    """The header with a value for each block, in the order of the rows, as clang-format lays it out."""
    rows = [(value, row) for value, row in enumerate(formats(), 1) if row.kind == "BLOCK"]
    last = rows[-1][0]
    values = [(f"ATTEND_{row.name.upper()} = {value}{',' if value < last else ''}", fields(row)) for value, row in rows]
    width = max(len(value) for value, _ in values)
    return BLOCKS.sub(lambda m: m.group(1) + "".join(f"  {v:{width}} /**< {text} */\n" for v, text in values) + m.group(2), header)


if __name__ == "__main__" and sys.argv[1:] == ["--update"]:
    HEADER.write_text(header_with_blocks(HEADER.read_text()))
