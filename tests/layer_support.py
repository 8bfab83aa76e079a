# SPDX-License-Identifier: Apache-2.0
"""What the tests of `attend layer` share: numbers that recordings are made of, models' files, and running it."""

import itertools
import json
import pathlib
import struct
import sys
import tempfile
import unittest

from cli_support import ROOT, Tensor, attend, bf16_bits, npy, product, read_f32

RECORDED = ROOT / "tests/layers"
TENSORS = ("query", "key", "value", "q_weight", "k_weight", "v_weight", "out_weight", "q_bias", "k_bias", "v_bias",
           "out_bias", "bias_k", "bias_v", "key_padding_mask", "attn_mask")


def hashed(name, index):
    """As in tests/layers/record.py."""
    x = (index * 0x9E3779B1 + (TENSORS.index(name) + 1) * 0x85EBCA6B) & 0xFFFFFFFF
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
        x = (x ^ (x >> shift)) * factor & 0xFFFFFFFF
    return x


def number(name, *shape):
    scale = 2.0**-23 if name in ("query", "key", "value") else 2.0**-24
    return Tensor(shape, [((hashed(name, i) >> 8) - 2.0**23) * scale for i in range(product(shape))])


def transposed(t):
    rows, columns = t.shape
    return Tensor((columns, rows), [t.at(i, j) for j in range(columns) for i in range(rows)])


def side_by_side(*matrices):
    rows = matrices[0].shape[0]
    return Tensor((rows, sum(m.shape[1] for m in matrices)), [m.at(i, j) for i in range(rows) for m in matrices for j in range(m.shape[1])])


def stacked(*tensors):
    return Tensor((sum(t.shape[0] for t in tensors), *tensors[0].shape[1:]), [n for t in tensors for n in t.numbers])


def safetensors(tensors, dtype="F32", change=lambda header: None, padding=3):
    """The bytes of a file; `change` may spoil its header."""
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, t in tensors.items():
        codes = {"F32": "f", "F16": "e"}
        numbers = bf16_bits(t).numbers if dtype == "BF16" else t.numbers
        block = struct.pack(f"<{len(numbers)}{codes.get(dtype, 'H')}", *numbers)
        header[name] = {"dtype": dtype, "shape": list(t.shape), "data_offsets": [len(data), len(data) + len(block)]}
        data += block
    change(header)
    text = json.dumps(header).encode() + b" " * padding
    return struct.pack("<Q", len(text)) + text + data


class LayerCase(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = pathlib.Path(directory.name)

    def write(self, name, tensor, descr="<f4"):
        self.directory.joinpath(f"{name}.npy").write_bytes(npy(tensor, descr))

    def compute(self, *options, out="out.npy"):
        result = attend("layer", "--out", out, *options, cwd=self.directory)
        self.assertEqual((result.returncode, result.stderr), (0, ""), options)
        return read_f32(self.directory / out)

    def compare(self, got, shape, wanted, tolerance):
        self.assertEqual(got.shape, shape)
        for a, b in zip(got.numbers, wanted, strict=True):
            self.assertLessEqual(abs(a - b), tolerance, f"{a} is not {b}")

    def refuse(self, *options, says):
        before = sorted(self.directory.iterdir())
        result = attend("layer", *options, cwd=self.directory)
        self.assertEqual((result.returncode, result.stdout), (2, ""), options)
        self.assertRegex(result.stderr, r"\Aattend: [^\n]*\n\Z")
        self.assertIn(says, result.stderr)
        self.assertEqual(sorted(self.directory.iterdir()), before)

    def model(self, tensors, **options):
        self.directory.joinpath("model.safetensors").write_bytes(safetensors(tensors, **options))


def built_without_blas():
    kinds = (["--heads", "1"], "qkv"), (["--additive"], ("q", "k", "score"))
    results = []
    with tempfile.TemporaryDirectory() as directory:
        pathlib.Path(directory, "x.npy").write_bytes(npy(Tensor((1, 1), [1])))
        for kind, weights in kinds:
            files = itertools.chain.from_iterable((f"--{name}-weight", "x.npy") for name in weights)
            results.append(attend("layer", "--query", "x.npy", "--out", "o.npy", *kind, *files, cwd=directory))
        if all(result.returncode == 0 for result in results):
            return False
        for result in results:
            assert "built without a BLAS" in result.stderr, result.stderr
            assert "libopenblas-dev), and configure with -D ATTEND_BLAS=ON" in result.stderr, result.stderr
        assert len(list(pathlib.Path(directory).iterdir())) == 1
        return True


def main():
    if built_without_blas():
        print("SKIPPED: built without a BLAS: attend layer says so, and nothing more is tested")
        sys.exit(77)
    unittest.main()
