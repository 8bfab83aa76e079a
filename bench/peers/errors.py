#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Error of 16-bit attention against sums in double, beside PyTorch's for the same inputs.

usage: scripts/errors [--update]

Prints a table: the worst error, as a share of the largest value of its channel, and in brackets the root mean square.
Fails if that of a kernel of attend is larger than that of pytorch-flash, which is what PyTorch picks by itself.
pytorch-math converts everything to f32 first. With --update the table is written into docs/numerics.md.

The inputs are like those of a language model: normal numbers, one channel of queries and keys and one of values 30
times as large as the others, which is what makes 16-bit caches hard, and a first key that draws much of the attention.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy
import torch

from case import rounded, widened
from pytorch import BACKENDS, Way, scaled_dot_product_attention, tensor

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
ATTEND = os.environ.get("ATTEND", str(ROOT / "build" / "attend"))
DOCUMENT, MARKS = ROOT / "docs" / "numerics.md", ("<!-- from scripts/errors -->\n", "<!-- end -->")
HEADS, LENGTH, OUTLIER = 4, 768, 30
SHAPES = [(64, False), (64, True), (128, False), (128, True)]  # head dim, causal
NO_WORSE = 1.02  # two ways of rounding the same numbers are not to count as a difference


def inputs(dim, dtype):
    """q, k and v in a type, (1, heads, length, dim); bf16 as bits."""
    random = numpy.random.default_rng(dim)
    q, k, v = (random.standard_normal((1, HEADS, LENGTH, dim), dtype=numpy.float32) for _ in range(3))
    q[..., 5] *= OUTLIER / 8
    k[..., 5] *= OUTLIER
    v[..., 7] *= OUTLIER
    k[:, :, 0] = 2 * q.mean(axis=2)
    return [rounded(x, dtype) for x in (q, k, v)]


def exact(x):
    return widened(x).astype(float)


def reference(q, k, v, causal):
    scores = exact(q) @ exact(k).swapaxes(-1, -2) / numpy.sqrt(q.shape[-1])
    if causal:
        scores[..., numpy.triu(numpy.ones((LENGTH, LENGTH), bool), 1)] = -numpy.inf
    weights = numpy.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights @ exact(v) / weights.sum(axis=-1, keepdims=True)


def of_attend(folder, kernel, dtype, causal):
    command = [ATTEND, "run", "--kernel", kernel, "--dtype", dtype, "--out", f"{folder}/out.npy", "--threads", "1"]
    command += [word for name in "qkv" for word in (f"--{name}", f"{folder}/{name}.npy")]
    command += ["--bits", "bf16"] if dtype == "bf16" else []
    command += ["--causal"] if causal else []
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"errors: {done.stderr.strip()}")
    return numpy.load(f"{folder}/out.npy")


def of_pytorch(peer, q, k, v, causal):
    q, k, v = (tensor(x) for x in (q, k, v))
    way = Way(lambda: scaled_dot_product_attention(q, k, v, is_causal=causal), BACKENDS[peer])
    way.run()
    return way.result()


def error(got, expected, v):
    """The worst error and the root mean square, as shares of the largest value of their channel."""
    off = (got - expected) / numpy.abs(exact(v)).max(axis=2, keepdims=True)
    return numpy.abs(off).max(), numpy.sqrt((off**2).mean())


def kernels(dtype):
    """The streaming kernels that run here and take a type, one of each instruction set and type of products."""
    listed = json.loads(subprocess.run([ATTEND, "kernels", "--json"], check=True, capture_output=True).stdout)["kernels"]
    found = {}
    for row in listed:
        if row["runnable"] and row.get("body") == "streaming" and dtype in row["dtypes"]:
            found.setdefault((row["isa"], row["name"].split("__")[0]), row["name"])
    return list(found.values())


def table():
    """The lines of the table, and what is wrong with its figures."""
    columns = [f"D {dim}{', causal' if causal else ''}" for dim, causal in SHAPES]
    lines, wrong = ["| | type | " + " | ".join(columns) + " |", "| --- | --- |" + " --- |" * len(columns)], []
    for dtype in ("bf16", "f16"):
        names = [f"`{name}`" for name in kernels(dtype)]
        peers = list(BACKENDS)
        errors = {name: [] for name in names + peers}
        for dim, causal in SHAPES:
            q, k, v = inputs(dim, dtype)
            expected = reference(q, k, v, causal)
            with tempfile.TemporaryDirectory() as folder:
                for name, array in zip("qkv", (q, k, v)):
                    numpy.save(f"{folder}/{name}.npy", array)
                for name in names:
                    errors[name].append(error(of_attend(folder, name.strip("`"), dtype, causal), expected, v))
            for peer in peers:
                errors[peer].append(error(of_pytorch(peer, q, k, v, causal), expected, v))
        for name, found in errors.items():
            lines.append(f"| {name} | {dtype} | " + " | ".join(f"{worst:.1e} ({mean:.1e})" for worst, mean in found) + " |")
        for name in names:
            for column, (_, mean), (_, of_flash) in zip(columns, errors[name], errors["pytorch-flash"]):
                if not mean <= NO_WORSE * of_flash:
                    wrong.append(f"{name}, {dtype}, {column}: the error is larger than PyTorch's")
    return lines, wrong


def main():
    if sys.argv[1:] not in ([], ["--update"]):
        sys.exit("errors: unknown arguments; see --help")
    lines, wrong = table()
    print("\n".join(lines))
    if sys.argv[1:]:
        before, rest = DOCUMENT.read_text().split(MARKS[0])
        head = f"PyTorch {torch.__version__.split('+')[0]}.\n\n"
        DOCUMENT.write_text(before + MARKS[0] + head + "\n".join(lines) + "\n" + MARKS[1] + rest.split(MARKS[1], 1)[1])
    if wrong:
        sys.exit("\n".join(wrong))


main()
