# SPDX-License-Identifier: Apache-2.0
"""The rows of kernels/formats.def."""

import os
import pathlib
import re
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
