# SPDX-License-Identifier: Apache-2.0
"""Writes an .npy file of standard normal f32 values: random_npy.py FILE DIMENSION...

The same file name (without its folder) and shape give the same values.
"""

import array
import math
import os
import random
import sys


def main():
    path, shape = sys.argv[1], tuple(map(int, sys.argv[2:]))
    source = random.Random(os.path.basename(path))
    values = array.array("f", (source.gauss(0, 1) for _ in range(math.prod(shape))))
    if sys.byteorder == "big":
        values.byteswap()
    header = repr({"descr": "<f4", "fortran_order": False, "shape": shape}).encode()
    header += b" " * (-(10 + len(header) + 1) % 64) + b"\n"
    with open(path, "wb") as file:
        file.write(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
        values.tofile(file)


main()
