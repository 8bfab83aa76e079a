# SPDX-License-Identifier: Apache-2.0
"""Models in .safetensors files: what the format allows is read, what it does not allow is refused and named, and memory
is no more than a file, or an index of files, is worth."""

import json
import os
import pathlib
import resource
import struct
import subprocess
import sys
import tempfile
import unittest

from cli_support import attend, npy, randoms, read_f32
from layer_support import built_without_blas

QKV, OUT = randoms(12, 4), randoms(4, 4)
TENSORS = {"in_proj_weight": {"dtype": "F32", "shape": [12, 4], "data_offsets": [0, 192]},
           "out_proj.weight": {"dtype": "F32", "shape": [4, 4], "data_offsets": [192, 256]}}
DATA = struct.pack("<64f", *QKV.numbers, *OUT.numbers)


class Safetensors(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = pathlib.Path(directory.name)
        self.model = self.directory / "m.safetensors"
        self.directory.joinpath("x.npy").write_bytes(npy(randoms(3, 4)))
        self.write()
        self.wanted = self.run_layer()

    def write(self, header=None, data=DATA):
        header = TENSORS if header is None else header
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        self.model.write_bytes(struct.pack("<Q", len(text)) + text + data)

    def layer(self, **options):
        return attend("layer", "--query", "x.npy", "--heads", "2", "--model", self.model.name, "--ignore", "*", "--out", "out.npy",
                      cwd=self.directory, **options)

    def run_layer(self, **options):
        result = self.layer(**options)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        return read_f32(self.directory / "out.npy").numbers

    def refuse(self, says, **options):
        self.directory.joinpath("out.npy").unlink(missing_ok=True)
        result = self.layer(**options)
        self.assertEqual((result.returncode, result.stdout, result.stderr), (2, "", f"attend: --model m.safetensors: {says}\n"))
        self.assertFalse(self.directory.joinpath("out.npy").exists())

    def with_offsets(self, *offsets):
        return {name: tensor | {"data_offsets": list(pair)} for (name, tensor), pair in zip(TENSORS.items(), offsets)}

    def test_what_the_format_allows(self):
        text = json.dumps(TENSORS).encode()
        inside = text[1:-1]
        empty = b'"none": {"dtype": "F32", "shape": [0, 7], "data_offsets": [%d, %d]}'
        metadata = b'"__metadata__": {"format": "pt", "braces": "}{][\\"\\\\", "comma": ",", "\\u00e9": "\xc3\xa9"}'
        for header in (text + b" " * 1000, b"{" + metadata + b"," + inside + b"}", b"{" + inside + b", " + metadata + b" }",
                       json.dumps(TENSORS, indent=3).encode(), b"{\r\n\t" + inside + b"\n}",
                       json.dumps(dict(reversed(TENSORS.items()))).encode(),
                       b"{" + b", ".join([empty % (0, 0), inside, (empty % (192, 192)).replace(b"none", b"a"),
                                          (empty % (256, 256)).replace(b"none", b"b")]) + b"}",
                       text.replace(b"out_proj", b"o\\u0075t_proj"), b'{"__metadata__":{},' + inside + b"}"):
            self.write(header)
            self.assertEqual(self.run_layer(), self.wanted, header)
        for size in range(40):  # a header of every length, as the parser sees it
            self.write(b"{" + inside + b" " * size + b"}")
            self.assertEqual(self.run_layer(), self.wanted)
        # what is not read may have any type, of a later format too
        for dtype, shape, size in ("I64", [3], 24), ("F8_E4M3", [2, 2], 4), ("F4", [6], 3):
            self.write(TENSORS | {"more": {"dtype": dtype, "shape": shape, "data_offsets": [256, 256 + size]}}, DATA + bytes(size))
            self.assertEqual(self.run_layer(), self.wanted)
        self.write(b"{ }", b"")
        self.assertIn("expected an attention layer", self.layer().stderr)

    def test_every_byte_of_the_data_belongs_to_one_tensor(self):
        for header, data, says in (
            (self.with_offsets((0, 192), (128, 192)), DATA[:192],
             "tensor 'out_proj.weight': field 'data_offsets' begins at 128, expected 192, where 'in_proj_weight' ends"),
            (self.with_offsets((0, 192), (208, 272)), DATA + bytes(16),
             "tensor 'out_proj.weight': field 'data_offsets' begins at 208, expected 192, where 'in_proj_weight' ends"),
            (self.with_offsets((4, 196), (196, 260)), DATA + bytes(4),
             "tensor 'in_proj_weight': field 'data_offsets' begins at 4, expected 0, where the data begins"),
            (self.with_offsets((64, 256), (0, 64)), DATA + b"tail",
             "the file has 260 bytes of data, expected 256, where its last tensor ends"),
            ({}, b"x", "the file has 1 bytes of data, expected 0, where its last tensor ends"),
            (TENSORS, DATA[:-1], "tensor 'out_proj.weight': field 'data_offsets' ends at 256, but the file has 255 bytes of data"),
            (TENSORS | {"more": {"dtype": "I16", "shape": [3], "data_offsets": [256, 260]}}, DATA + bytes(4),
             "tensor 'more': field 'data_offsets' spans 4 bytes, but its shape needs 6 in I16"),
        ):
            self.write(header, data)
            self.refuse(says)

    def test_headers_that_are_none(self):
        text = json.dumps(TENSORS).encode()
        inside = text[1:-1]
        for header in (b"", b"[]", b" " + text, b"\xef\xbb\xbf" + text, b"{" + inside, b"{" + inside + b",}", b"{," + inside + b"}",
                       text + b"\n", text + b"}", text + text, text + b"\0", bytes(1000), b"{" + bytes(1000), b"[" * 20000,
                       b"{" * 20000, b'{"a', b'{"a\\', b'{"a":[}]}', b'{"a":{]}', b"{]}", b'{"a":"}', text.replace(b":", b" ", 1),
                       text.replace(b", ", b" ", 1), b"{" + inside + b",,}", b'{"__metadata__":{', b'{"__metadata__":{]}}}'):
            self.write(header)
            result = self.layer()
            self.assertEqual((result.returncode, result.stdout), (2, ""), header[:60])
            self.assertRegex(result.stderr, r"\Aattend: --model m.safetensors: header: expected [^\n]* at byte \d+[^\n]*\n\Z", header[:60])
        self.write(b"{" + inside + b"," + inside + b"}")
        self.assertIn("field 'data_offsets' begins at 0, expected 192", self.layer().stderr)
        nothing = b'"none": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}'
        self.write(b"{" + b",".join([nothing, inside, nothing]) + b"}")
        self.refuse("tensor 'none': is there twice")

    def bounded(self):
        """With 500 MiB of memory, a part of which is the BLAS's, unless a sanitizer needs more for itself."""
        if os.environ.get("SANITIZE"):
            return {}
        return {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_DATA, (500 << 20, 500 << 20))}

    def test_what_costs_more_than_the_file_is_worth(self):
        """As values of JSON, each of these would take 1.6 GB."""
        zeros = b"0," * 20_000_000 + b"0"
        self.write(b"[" + zeros + b"]")
        self.refuse("header: expected a JSON object, which ends at byte 9 in something else", **self.bounded())
        self.write(b'{"a": [' + zeros + b"]}")
        self.refuse(f"header: the entry at byte 9 has {len(zeros) + 7} bytes, expected at most 65536", **self.bounded())
        with open(self.model, "wb") as file:  # sparse: a terabyte, it says
            file.write(struct.pack("<Q", 1 << 40) + b'{"')
            file.truncate(9 + (1 << 40))
        self.refuse("header: expected a JSON object, which ends at byte 11 in something else", **self.bounded())

    def test_headers_of_more_than_100_megabytes(self):
        count, at, name = 100_000, len(DATA), "of.a.model.with.many.layers." * 35
        more = ",".join(f'"{name}{i}": {{"dtype": "U8", "shape": [1, 1], "data_offsets": [{at + i}, {at + i + 1}]}}' for i in range(count))
        text = json.dumps(TENSORS).encode()[:-1] + b', "__metadata__": {"long": "' + b"x" * 100_000 + b'"}, ' + more.encode() + b"}"
        self.assertGreater(len(text), 100_000_000)
        self.write(text, DATA + bytes(count))
        self.assertEqual(self.run_layer(**self.bounded()), self.wanted)

    def test_a_large_index(self):
        """As values of JSON it would take 1.6 GB."""
        index = self.directory / "m.json"
        shortest = ",".join(f'"{i:x}":"m"' for i in range(2_000_000))
        index.write_text('{"weight_map": {' + shortest + "".join(f', "{name}": "{self.model.name}"' for name in TENSORS) + "}}")
        self.model = index
        self.assertEqual(self.run_layer(**self.bounded()), self.wanted)


if __name__ == "__main__":
    if built_without_blas():
        print("SKIPPED: built without a BLAS, which attend layer needs")
        sys.exit(77)
    unittest.main()
