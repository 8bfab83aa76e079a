# SPDX-License-Identifier: Apache-2.0
"""`attend layer`: numbers known from elsewhere, weights under every naming, pictures, and files that are not what they say."""

import itertools
import json
import math
import pathlib
import struct
import sys
import tempfile
import unittest
import xml.etree.ElementTree

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


class Layer(unittest.TestCase):
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

    # ------------------------------------------------------------------------------------------- numbers of tutorials

    def test_three_tokens(self):
        self.write("x", Tensor((3, 4), [1, 0, 1, 0, 0, 2, 0, 2, 1, 1, 1, 1]))
        self.write("wk", Tensor((4, 3), [0, 0, 1, 1, 1, 0, 0, 1, 0, 1, 1, 0]))
        self.write("wq", Tensor((4, 3), [1, 0, 1, 1, 0, 0, 0, 0, 1, 0, 1, 1]))
        self.write("wv", Tensor((4, 3), [0, 2, 0, 0, 3, 0, 1, 0, 3, 1, 1, 0]))
        options = ["--query", "x.npy", "--heads", "1", "--q-weight", "wq.npy", "--k-weight", "wk.npy", "--v-weight", "wv.npy",
                   "--weight-layout", "in-out", "--scale", "1"]
        wanted = [1.9366, 6.6831, 1.5951, 2.0000, 7.9640, 0.0540, 1.9997, 7.7599, 0.3584]
        self.compare(self.compute(*options), (3, 3), wanted, 6e-5)

    def test_valid_lengths_of_two_and_six(self):
        # Keys that are all alike: the mean of the values that are not padding.
        self.write("q", Tensor((2, 1, 2), [0.3, -1.2, 0.7, 0.1]))
        self.write("k", Tensor((2, 10, 2), [1.0] * 40))
        self.write("v", Tensor((2, 10, 4), [float(n) for n in range(40)] * 2))
        self.write("padding", Tensor((2, 10), [j >= length for length in (2, 6) for j in range(10)]), "|b1")
        self.write("eye2", Tensor((2, 2), [1, 0, 0, 1]))
        self.write("eye4", Tensor((4, 4), [float(i == j) for i in range(4) for j in range(4)]))
        out = self.compute("--query", "q.npy", "--key", "k.npy", "--value", "v.npy", "--heads", "1", "--q-weight", "eye2.npy",
                           "--k-weight", "eye2.npy", "--v-weight", "eye4.npy", "--key-padding-mask", "padding.npy")
        self.compare(out, (2, 1, 4), [2, 3, 4, 5, 10, 11, 12, 13], 4e-6)

    # -------------------------------------------------------------------------------------------------------- namings

    def weights(self, embed, k_dim=None, v_dim=None):
        inputs = {"q": embed, "k": k_dim or embed, "v": v_dim or embed, "out": embed}
        w = {f"{name}_weight": number(f"{name}_weight", embed, size) for name, size in inputs.items()}
        return w | {f"{name}_bias": number(f"{name}_bias", embed) for name in inputs}

    def model(self, tensors, **options):
        self.directory.joinpath("model.safetensors").write_bytes(safetensors(tensors, **options))

    def check_recorded(self, case, out_shape, *options, tolerance=2e-6, weights_shape=None):
        recorded = read_f32(RECORDED / f"{case}.npy").numbers
        more = ["--weights", "weights.npy"] if weights_shape else []
        out = self.compute("--query", "query.npy", "--model", "model.safetensors", *more, *options)
        self.compare(out, out_shape, recorded[: product(out_shape)], tolerance)
        if weights_shape:
            self.compare(read_f32(self.directory / "weights.npy"), weights_shape, recorded[product(out_shape) :], tolerance)

    def test_multihead_attention(self):
        self.write("query", number("query", 2, 5, 24))
        w = self.weights(24)
        tensors = {"in_proj_weight": stacked(w["q_weight"], w["k_weight"], w["v_weight"]),
                   "in_proj_bias": stacked(w["q_bias"], w["k_bias"], w["v_bias"]),
                   "out_proj.weight": w["out_weight"], "out_proj.bias": w["out_bias"]}
        self.model(tensors)
        self.check_recorded("self", (2, 5, 24), "--heads", "4")
        self.check_recorded("weights_averaged", (2, 5, 24), "--heads", "4", "--average", weights_shape=(2, 5, 5))
        self.check_recorded("causal_weights", (2, 5, 24), "--heads", "4", "--average", "--causal", weights_shape=(2, 5, 5))
        self.check_recorded("zero_attn", (2, 5, 24), "--heads", "4", "--add-zero-attn", weights_shape=(2, 4, 5, 6))
        self.model(tensors | {"bias_k": Tensor((1, 1, 24), number("bias_k", 24).numbers),
                              "bias_v": Tensor((1, 1, 24), number("bias_v", 24).numbers)})
        self.check_recorded("bias_kv", (2, 5, 24), "--heads", "4", weights_shape=(2, 4, 5, 6))

    def test_masks_and_sequence_first(self):
        w = self.weights(24)
        for name, t in w.items():
            self.write(name, t)
        query = number("query", 2, 5, 24)
        self.write("query", Tensor((5, 2, 24), [query.at(b, i, d) for i in range(5) for b in range(2) for d in range(24)]))
        for kind, descr in ("bool", "|b1"), ("float", "<f4"):
            shape = (8, 5, 5)
            bits = [(hashed("attn_mask", i), i % 5 == 0) for i in range(product(shape))]
            numbers = number("attn_mask", *shape).numbers
            mask = [h % 4 == 0 and not first if kind == "bool" else -math.inf if h % 8 == 0 and not first else n
                    for (h, first), n in zip(bits, numbers)]
            self.write("mask", Tensor(shape, mask), descr)
            files = [word for name in w for word in (f"--{name.replace('_', '-')}", f"{name}.npy")]
            out = self.compute("--query", "query.npy", "--sequence-first", "--heads", "4", "--attn-mask", "mask.npy", *files)
            wanted = read_f32(RECORDED / f"attn_{kind}_per_head.npy").numbers[:240]
            self.compare(Tensor((2, 5, 24), [out.at(i, b, d) for b in range(2) for i in range(5) for d in range(24)]),
                         (2, 5, 24), wanted, 2e-6)

    def test_multihead_attention_of_other_sizes(self):
        self.write("query", number("query", 2, 5, 24))
        self.write("key", number("key", 2, 7, 10))
        self.write("value", number("value", 2, 7, 13))
        w = self.weights(24, 10, 13)
        self.model({f"decoder.cross.{name}_proj_weight": w[f"{name}_weight"] for name in "qkv"} |
                   {"decoder.cross.in_proj_bias": stacked(w["q_bias"], w["k_bias"], w["v_bias"]),
                    "decoder.cross.out_proj.weight": w["out_weight"], "decoder.cross.out_proj.bias": w["out_bias"]})
        self.check_recorded("k_dim_v_dim", (2, 5, 24), "--heads", "4", "--key", "key.npy", "--value", "value.npy")

    def gpt2(self, prefix):
        w = self.weights(32)
        attn = side_by_side(*(transposed(w[f"{name}_weight"]) for name in "qkv"))
        return {f"{prefix}c_attn.weight": attn, f"{prefix}c_attn.bias": stacked(w["q_bias"], w["k_bias"], w["v_bias"]),
                f"{prefix}c_proj.weight": transposed(w["out_weight"]), f"{prefix}c_proj.bias": w["out_bias"]}

    def test_gpt2(self):
        self.write("query", Tensor((9, 32), number("query", 9, 32).numbers))
        other = {f"h.1.attn.{name}": t for name, t in {**self.gpt2("")}.items()}
        other["h.1.attn.c_attn.bias"] = number("key", 96)
        self.model(self.gpt2("h.0.attn.") | other)
        self.check_recorded("gpt2", (9, 32), "--heads", "4", "--causal", "--layer", "h.0.attn", weights_shape=(4, 9, 9))
        self.refuse("--query", "query.npy", "--out", "o.npy", "--heads", "4", "--model", "model.safetensors",
                    says="has 2 attention layers, 'h.0.attn', 'h.1.attn': choose one with --layer")
        self.refuse("--query", "query.npy", "--out", "o.npy", "--heads", "4", "--model", "model.safetensors", "--layer", "h.7",
                    says="has no tensors of an attention layer under that name")

    def test_bert(self):
        w = self.weights(32)
        self.write("query", number("query", 2, 9, 32))
        padding = [hashed("key_padding_mask", i) % 4 == 0 and i % 9 != 0 for i in range(18)]
        self.write("padding", Tensor((2, 9), padding), "|b1")
        names = {"q": "self.query", "k": "self.key", "v": "self.value", "out": "output.dense"}
        tensors = {f"bert.encoder.layer.0.attention.{long}.{part}": w[f"{short}_{part}"]
                   for short, long in names.items() for part in ("weight", "bias")}
        self.model(tensors)
        self.check_recorded("bert", (2, 9, 32), "--heads", "4", "--key-padding-mask", "padding.npy", weights_shape=(2, 4, 9, 9))

    def test_element_types(self):
        self.write("query", Tensor((9, 32), number("query", 9, 32).numbers))
        for dtype, tolerance in ("F16", 3e-3), ("BF16", 6e-2):
            self.model(self.gpt2(""), dtype=dtype)
            self.check_recorded("gpt2", (9, 32), "--heads", "4", "--causal", tolerance=tolerance)

    # ------------------------------------------------------------------------------------------------------- pictures

    def gpt2_inputs(self):
        self.write("query", Tensor((9, 32), number("query", 9, 32).numbers))
        self.model(self.gpt2(""))
        return ["--query", "query.npy", "--heads", "4", "--model", "model.safetensors"]

    def test_heatmap(self):
        inputs = self.gpt2_inputs()
        labels = ["a<b", "&amp;", "naïve", '"q"', "\x01bad", "x" * 30, "tok", "日本", ""]
        self.directory.joinpath("tokens.txt").write_text("\n".join(labels[:-1]) + "\n\n", encoding="utf-8")
        for options, panels in (["--tokens", "tokens.txt"], 4), (["--tokens", "tokens.txt", "--average"], 1), ([], 4):
            self.compute(*inputs, "--heatmap", "map.svg", "--weights", "weights.npy", *options)
            weights = read_f32(self.directory / "weights.npy")
            root = xml.etree.ElementTree.parse(self.directory / "map.svg").getroot()
            space = "{http://www.w3.org/2000/svg}"
            self.assertEqual(root.find(f"{space}title").text, "Attention weights")
            cells = [rect.find(f"{space}title").text for rect in root.iter(f"{space}rect") if len(rect)]
            self.assertEqual(len(cells), panels * 81)
            shown = [float(cell.rsplit(": ", 1)[1]) for cell in cells]
            for drawn, weight in zip(shown, weights.numbers, strict=True):
                self.assertAlmostEqual(drawn, weight, delta=1e-4)
            texts = [element.text for element in root.iter(f"{space}text")]
            expected = [label.replace("\x01", "?") or None for label in labels] if options else [str(i) for i in range(9)]
            for label in expected:
                self.assertGreaterEqual(texts.count(label), 2 * panels, label)
        self.compute(*inputs, "--heatmap", "map.svg", "--tokens", ",".join("abcdefghi"))
        self.assertIn(">c → d: ", self.directory.joinpath("map.svg").read_text(encoding="utf-8"))
        self.directory.joinpath("latin.txt").write_bytes(b"\xe9t\xe9\n" * 9)
        self.compute(*inputs, "--heatmap", "map.svg", "--tokens", "latin.txt", "--add-zero-attn")
        self.assertIn(">?t? → zero: ", self.directory.joinpath("map.svg").read_text(encoding="utf-8"))

    def test_heatmap_is_refused(self):
        inputs = self.gpt2_inputs() + ["--out", "o.npy"]
        self.refuse(*inputs, "--heatmap", "m.svg", "--tokens", "a,b,c", says="--tokens: 3 labels, expected 9, one for each query")
        self.refuse(*inputs, "--tokens", "a", says="--tokens: expected with --heatmap only")
        self.refuse(*inputs, "--average", says="--average: expected with")
        self.write("query", number("query", 300, 32))
        self.refuse(*inputs, "--heatmap", "m.svg", says="360000 weights to draw, expected 1 to 100000")

    # ---------------------------------------------------------------------------------------------------------- errors

    def test_usage(self):
        inputs = self.gpt2_inputs() + ["--out", "o.npy"]
        query = ["--query", "query.npy", "--out", "o.npy", "--heads", "4"]
        for missing in "--query", "--heads", "--out":
            at = inputs.index(missing)
            self.refuse(*inputs[:at], *inputs[at + 2 :], says=f"option '{missing}")
        self.refuse(*query, says="expected --model, --qkv-weight, or all of")
        self.refuse(*query, "--q-weight", "query.npy", "--k-weight", "query.npy", says="expected --model, --qkv-weight, or all of")
        self.refuse(*inputs, "--q-bias", "query.npy", says="--model and --q-bias: expected one of them")
        self.refuse(*query, "--qkv-weight", "query.npy", "--layer", "x", says="expected only with --model")
        self.refuse(*query, "--qkv-weight", "query.npy", "--weight-layout", "rows", says="expected out-in or in-out")
        self.refuse(*query[:-1], "0", "--model", "model.safetensors", says="--heads '0': expected a whole number")
        self.refuse(*query[:-1], "5", "--model", "model.safetensors", says="are no multiple of the 15 heads")
        self.refuse(*query[:-1], "4", "--kv-heads", "3", "--model", "model.safetensors", says="are no multiple of the 10 heads")
        self.refuse(*inputs, "--kernel", "none", says="is the name of no kernel")
        self.refuse(*inputs, "--weights", "o.npy", says="name the same file")

    def test_shapes(self):
        inputs = self.gpt2_inputs() + ["--out", "o.npy"]
        for shape in (2, 7, 32), (6,), (2, 3, 4, 5):
            self.write("other", number("key", *shape))
            self.refuse(*inputs, "--key", "other.npy", says="expected as many dimensions as --query")
            self.refuse(*inputs, "--attn-mask", "other.npy", says="expected (9, 9) or (4, 9, 9) or (1, 4, 9, 9)")
            self.refuse(*inputs, "--key-padding-mask", "other.npy", says="expected (1, 9) or (9,)")
        self.write("other", number("key", 9, 31))
        self.refuse(*inputs, "--key", "other.npy", says="takes keys and values of the queries' size 32")
        self.refuse("--query", "other.npy", *inputs[2:], says="tensor 'c_attn.weight': shape is (32, 96), expected (31, outputs)")
        self.write("mask", Tensor((9, 9), [math.nan] * 81))
        self.refuse(*inputs, "--attn-mask", "mask.npy", says="element 0 is nan, expected a finite number or -inf")
        self.write("mask", Tensor((9,), [1] * 9), "<i4")
        self.refuse(*inputs, "--key-padding-mask", "mask.npy", says="expected bool, float32 or float16")

    def test_models_that_are_not_what_they_say(self):
        inputs = self.gpt2_inputs() + ["--out", "o.npy"]
        model = self.directory / "model.safetensors"
        whole = model.read_bytes()
        text = 8 + int.from_bytes(whole[:8], "little")
        for length in [*range(9), text // 2, text - 1, text, text + 5, len(whole) - 1]:
            model.write_bytes(whole[:length])
            self.refuse(*inputs, says="model.safetensors: ")
        for spoiled in (b"\xff" * 8 + whole[8:], struct.pack("<Q", 100000001) + whole[8:], whole[:8] + b"[" + whole[9:],
                        struct.pack("<Q", 2) + b"[]" + whole[text:], struct.pack("<Q", 4) + b"{}xx" + whole[text:],
                        struct.pack("<Q", 2) + b"{}", b"\0" * 8, struct.pack("<Q", 20000) + b"[" * 20000):
            model.write_bytes(spoiled)
            self.refuse(*inputs, says="model.safetensors: ")

        def set_field(field, value):
            return lambda header: header["c_attn.weight"].__setitem__(field, value)

        size = 32 * 96 * 4
        for field, values in {"dtype": ("F64", "I32", 3, None, "f32"),
                              "shape": ("x", [32, -96], [32, 96.5], [32, "96"], [32, 95], [1] * 40 + [32, 96], [2**40, 2**40],
                                        [2**62, 4], [1e300], None, [], {}),
                              "data_offsets": ("x", [0], [0, size, size], [4, 3], [-4, size - 4], [0, size + 4], [0.5, size],
                                               [0, 10**18], [10**18, 10**18 + size], None)}.items():
            for value in values:
                self.model(self.gpt2(""), change=set_field(field, value))
                self.refuse(*inputs, says="tensor 'c_attn.weight': field '" + ("" if field == "shape" else field))
        for change in (lambda header: header.__setitem__("c_attn.weight", 5), lambda header: header.pop("c_proj.weight"),
                       lambda header: header.pop("c_attn.weight")):
            self.model(self.gpt2(""), change=change)
            self.refuse(*inputs, says="model.safetensors: ")
        twice = json.dumps({"c_attn.weight": {}})[:-1].encode() + b', "c_attn.weight": {}}'
        model.write_bytes(struct.pack("<Q", len(twice)) + twice)
        self.refuse(*inputs, says="")
        self.refuse(*inputs[:4], "--model", ".", "--out", "o.npy", says="expected a regular file")
        self.refuse(*inputs[:4], "--model", "nothing", "--out", "o.npy", says="cannot open")

    def test_help(self):
        result = attend("layer", "--help")
        self.assertEqual(result.returncode, 0)
        self.assertIn("examples\n  attend layer", result.stdout)
        self.assertTrue(all(len(line) <= 120 for line in result.stdout.splitlines()))


def built_without_blas():
    with tempfile.TemporaryDirectory() as directory:
        pathlib.Path(directory, "x.npy").write_bytes(npy(Tensor((1, 1), [1])))
        result = attend("layer", "--query", "x.npy", "--out", "o.npy", "--heads", "1", *itertools.chain.from_iterable(
            (f"--{name}-weight", "x.npy") for name in "qkv"), cwd=directory)
        if result.returncode == 0:
            return False
        assert "built without a BLAS" in result.stderr and len(list(pathlib.Path(directory).iterdir())) == 1, result.stderr
        return True


if __name__ == "__main__":
    if built_without_blas():
        print("built without a BLAS: attend layer says so, and nothing more is tested")
        sys.exit(77)
    unittest.main()
