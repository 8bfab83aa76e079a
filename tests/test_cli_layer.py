# SPDX-License-Identifier: Apache-2.0
"""`attend layer`: numbers known from elsewhere, weights under every naming, pictures, and files that are not what they say."""

import itertools
import json
import math
import struct
import xml.etree.ElementTree

from cli_support import Tensor, attend, product, read_f32
from layer_support import RECORDED, LayerCase, hashed, main, number, safetensors, side_by_side, stacked, transposed


class Layer(LayerCase):
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

    # ------------------------------------------------------------------------------------ what language models have

    def test_window_softcap_sinks_and_rope(self):
        dim, length, softcap, sinks, theta = 4, 6, 1.5, [0.5, -1.0], 100.0
        x = number("query", length, 2 * dim)
        self.write("x", x)
        self.write("eye", Tensor((2 * dim, 2 * dim), [float(i == j) for i in range(2 * dim) for j in range(2 * dim)]))
        self.write("sinks", Tensor((2,), sinks))
        files = ["--query", "x.npy", "--heads", "2", "--q-weight", "eye.npy", "--k-weight", "eye.npy", "--v-weight", "eye.npy",
                 "--causal", "--window", "2,-1", "--softcap", str(softcap), "--sinks", "sinks.npy"]
        for how, pairs in ("interleaved", ((0, 1), (2, 3))), ("half", ((0, 2), (1, 3))):
            def turned(i, head):
                row = [x.at(i, head * dim + d) for d in range(dim)]
                for n, (a, b) in enumerate(pairs):
                    angle = i * theta ** (-2 * n / dim)
                    row[a], row[b] = (row[a] * math.cos(angle) - row[b] * math.sin(angle),
                                      row[a] * math.sin(angle) + row[b] * math.cos(angle))
                return row

            wanted = []
            for i, head in itertools.product(range(length), range(2)):
                keys = range(max(0, i - 2), i + 1)
                scores = [sum(a * b for a, b in zip(turned(i, head), turned(j, head))) / math.sqrt(dim) for j in keys]
                weights = [math.exp(softcap * math.tanh(score / softcap)) for score in scores]
                total = sum(weights) + math.exp(sinks[head])
                wanted += [sum(w * x.at(j, head * dim + d) for w, j in zip(weights, keys)) / total for d in range(dim)]
            self.compare(self.compute(*files, "--rope", f"{how},{theta}"), (length, 2 * dim), wanted, 2e-6)
        default = self.compute(*files, "--rope", "half")
        self.compare(self.compute(*files, "--rope", "half,10000"), (length, 2 * dim), default.numbers, 0)
        for same in f"half,1.{'0' * 40}e4", f"half,{'0' * 40}10000,{dim}", f"half,1e4,{'0' * 40}{dim}":
            self.compare(self.compute(*files, "--rope", same), (length, 2 * dim), default.numbers, 0)
        files += ["--out", "o.npy"]
        self.refuse(*files[:-1], "/dev/full", says="--out /dev/full: No space left on device")
        for value in ("", "both", "halfway", "half,", "half,x", "half,0", "half,-1", ",1", "none,1", "half,1,", "half,1,x", "half,1,0",
                      "half,,2", "half,1,2,", "half,1,2,3", "half" + " " * 40, f"half,{'1' * 40}"):
            self.refuse(*files, "--rope", value, says="--rope")
        at = files.index("--window") + 1
        for value in "2", "2,", ",0", "-2,0", "a,b":
            self.refuse(*files[:at], value, *files[at + 1 :], says="--window")
        self.write("sinks", Tensor((3,), [0.0] * 3))
        self.refuse(*files, says="--sinks sinks.npy: field 'shape' is (3,), expected a number for each head")
        self.write("sinks", Tensor((2,), [0.0, math.nan]))
        self.refuse(*files, says="--sinks sinks.npy")

    # ------------------------------------------------------------------------------------------------------- additive

    def additive_inputs(self):
        """Files of a batch of 2 with sizes that are all different, and a function that computes the layer."""
        self.tensors = {"query": number("query", 2, 3, 5), "key": number("key", 2, 6, 4), "value": number("value", 2, 6, 7),
                        "wq": number("q_weight", 8, 5), "wk": number("k_weight", 8, 4), "bq": number("q_bias", 8),
                        "bk": number("k_bias", 8), "w": Tensor((1, 8), [4 * n for n in number("v_weight", 8).numbers])}
        for name, t in self.tensors.items():
            self.write(name, t)
        return ["--additive", "--query", "query.npy", "--key", "key.npy", "--value", "value.npy"]

    def additive_reference(self, length=lambda b, i: 6, biases=("bq", "bk")):
        t = self.tensors
        out, weights = [], []
        for b, i in itertools.product(range(2), range(3)):
            scores = []
            for j in range(length(b, i)):
                terms = [sum(t["wq"].at(h, d) * t["query"].at(b, i, d) for d in range(5)) +
                         sum(t["wk"].at(h, d) * t["key"].at(b, j, d) for d in range(4)) +
                         sum(t[bias].at(h) for bias in biases) for h in range(8)]
                scores.append(math.exp(sum(t["w"].at(0, h) * math.tanh(term) for h, term in enumerate(terms))))
            row = [score / sum(scores) for score in scores] + [0.0] * (6 - len(scores))
            weights += row
            out += [sum(row[j] * t["value"].at(b, j, d) for j in range(6)) for d in range(7)]
        return out, weights

    def check_additive(self, *options, tolerance=2e-6, **reference):
        out = self.compute(*options, "--weights", "weights.npy")
        wanted, weights = self.additive_reference(**reference)
        self.compare(out, (2, 3, 7), wanted, tolerance)
        self.compare(read_f32(self.directory / "weights.npy"), (2, 3, 6), weights, tolerance)

    def test_additive_with_valid_lengths_of_two_and_six(self):
        # Dive into Deep Learning: keys that are all alike give the mean of the valid values, whatever the weights.
        self.write("q", number("query", 2, 1, 20))
        self.write("k", Tensor((2, 10, 2), [1.0] * 40))
        self.write("v", Tensor((2, 10, 4), [float(n) for n in range(40)] * 2))
        self.model({"W_k.weight": number("k_weight", 8, 2), "W_q.weight": number("q_weight", 8, 20),
                    "w_v.weight": number("v_weight", 1, 8)})
        for descr, shape in itertools.product(("<i4", "<i8"), ((2,), (2, 1))):
            self.write("lengths", Tensor(shape, [2, 6]), descr)
            out = self.compute("--additive", "--query", "q.npy", "--key", "k.npy", "--value", "v.npy", "--model",
                               "model.safetensors", "--kv-lengths", "lengths.npy", "--weights", "weights.npy")
            self.compare(out, (2, 1, 4), [2, 3, 4, 5, 10, 11, 12, 13], 4e-6)
            self.compare(read_f32(self.directory / "weights.npy"), (2, 1, 10),
                         [0.5] * 2 + [0.0] * 8 + [1 / 6] * 6 + [0.0] * 4, 1e-6)

    def test_additive_from_files(self):
        inputs = self.additive_inputs()
        files = ["--q-weight", "wq.npy", "--k-weight", "wk.npy", "--score-weight", "w.npy"]
        self.check_additive(*inputs, *files, biases=())
        self.check_additive(*inputs, *files, "--q-bias", "bq.npy", biases=("bq",))
        self.check_additive(*inputs, *files, "--k-bias", "bk.npy", biases=("bk",))
        self.check_additive(*inputs, *files, "--q-bias", "bq.npy", "--k-bias", "bk.npy", "--threads", "1")
        for shape in (8,), (8, 1):
            self.write("w", Tensor(shape, self.tensors["w"].numbers))
            self.check_additive(*inputs, *files, biases=())
        lengths = [2, 0, 6, 1, 5, 3]
        self.write("lengths", Tensor((2, 3), lengths), "<i8")
        self.check_additive(*inputs, *files, "--kv-lengths", "lengths.npy", biases=(), length=lambda b, i: lengths[3 * b + i])
        self.write("wq", transposed(self.tensors["wq"]))
        self.write("wk", transposed(self.tensors["wk"]))
        self.write("lengths", Tensor((2,), [4, 0]), "<i4")
        self.check_additive(*inputs, *files, "--weight-layout", "in-out", "--kv-lengths", "lengths.npy", biases=(),
                            length=lambda b, i: (4, 0)[b])

    def test_additive_models(self):
        inputs = self.additive_inputs() + ["--model", "model.safetensors"]
        t = self.tensors
        deep = {"W_q.weight": t["wq"], "W_k.weight": t["wk"], "w_v.weight": t["w"]}
        seq2seq = {"Wa.weight": t["wq"], "Wa.bias": t["bq"], "Ua.weight": t["wk"], "Ua.bias": t["bk"], "Va.weight": t["w"],
                   "Va.bias": Tensor((1,), [3.0])}
        for dtype, tolerance in ("F32", 2e-6), ("F16", 1e-3), ("BF16", 1e-2):
            self.model(deep, dtype=dtype)
            self.check_additive(*inputs, biases=(), tolerance=tolerance)
            self.model(seq2seq, dtype=dtype)
            self.check_additive(*inputs, tolerance=tolerance)
        # Beside multi-head attention that calls its projections alike, and another additive layer.
        self.model({f"decoder.attention.{name}": part for name, part in deep.items()} |
                   {f"decoder.other.{name}": part for name, part in seq2seq.items()} |
                   {f"encoder.attention.W_{name}.weight": t["wq"] for name in "qkvo"} | self.gpt2("gpt2."))
        self.check_additive(*inputs, "--layer", "decoder.attention", biases=())
        self.check_additive(*inputs, "--layer", "decoder.other")
        inputs += ["--out", "o.npy"]
        self.refuse(*inputs, says="has 2 additive layers, 'decoder.attention', 'decoder.other': choose one with --layer")
        self.refuse(*inputs, "--layer", "encoder.attention", says="has no tensors of an additive layer under that name")
        self.model(deep | self.gpt2("gpt2."))
        self.check_additive(*inputs[:-2], biases=())
        self.write("query", Tensor((9, 32), number("query", 9, 32).numbers))
        self.check_recorded("gpt2", (9, 32), "--heads", "4", "--causal")
        self.additive_inputs()
        self.model({"W_q.weight": t["wq"], "W_k.weight": t["wk"]})
        self.refuse(*inputs, says="expected an additive layer named as in Dive into Deep Learning (w_v.weight)")

    def test_additive_without_a_batch_draws(self):
        self.write("query", number("query", 3, 4))
        self.write("memory", number("key", 5, 4))
        self.model({"Wa.weight": number("q_weight", 6, 4), "Ua.weight": number("k_weight", 6, 4), "Va.weight": number("v_weight", 1, 6)})
        inputs = ["--additive", "--query", "query.npy", "--model", "model.safetensors", "--heatmap", "map.svg", "--weights", "weights.npy"]
        self.write("lengths", Tensor((1,), [2]), "<i8")
        for options, keys in (["--key", "memory.npy", "--tokens", "x,y,z", "--key-tokens", "a,b,c,d,e"], list("abcde")), \
                             (["--tokens", "x,y,z", "--kv-lengths", "lengths.npy"], list("xyz")):
            out = self.compute(*inputs, *options)
            self.assertEqual(out.shape, (3, 4))
            weights = read_f32(self.directory / "weights.npy")
            self.assertEqual(weights.shape, (3, len(keys)))
            text = self.directory.joinpath("map.svg").read_text(encoding="utf-8")
            space = "{http://www.w3.org/2000/svg}"
            titles = [rect.find(f"{space}title").text for rect in xml.etree.ElementTree.fromstring(text).iter(f"{space}rect") if len(rect)]
            self.assertEqual([title.split(": ")[0] for title in titles], [f"{query} → {key}" for query in "xyz" for key in keys])
            for title, weight in zip(titles, weights.numbers, strict=True):
                self.assertAlmostEqual(float(title.split(": ")[1]), weight, delta=1e-4)
            self.assertIn(">attention weights<", text)
        self.refuse(*inputs, "--out", "o.npy", "--tokens", "x", says="--tokens: 1 labels, expected 3, one for each query")

    def test_additive_is_refused(self):
        inputs = self.additive_inputs() + ["--out", "o.npy"]
        files = ["--q-weight", "wq.npy", "--k-weight", "wk.npy", "--score-weight", "w.npy"]
        for name, *value in (("heads", "1"), ("kv-heads", "1"), ("scale", "2"), ("causal",), ("add-zero-attn",), ("average",),
                             ("window", "1,0"), ("softcap", "2"), ("sinks", "w.npy"), ("rope", "half"),
                             ("sequence-first",), ("key-padding-mask", "w.npy"), ("attn-mask", "w.npy"), ("v-weight", "w.npy"),
                             ("qkv-weight", "w.npy"), ("out-weight", "w.npy"), ("v-bias", "w.npy"), ("qkv-bias", "w.npy"),
                             ("out-bias", "w.npy")):
            self.refuse(*inputs, *files, f"--{name}", *value, says=f"--{name}: expected only without --additive")
        for name in "kv-lengths", "score-weight":
            self.refuse(*inputs[1:], "--heads", "1", f"--{name}", "w.npy", says=f"--{name}: expected only with --additive")
        for i in range(0, 6, 2):
            self.refuse(*inputs, *files[:i], *files[i + 2 :], says="expected --model, or all of --q-weight, --k-weight and --score-weight")
        self.refuse(*inputs, *files, "--model", "m.safetensors", says="--model and --q-weight: expected one of them")
        self.refuse(*inputs, "--q-weight", "wk.npy", *files[2:], says="--q-weight wk.npy: shape is (8, 4), expected (outputs, 5)")
        self.write("other", number("key", 7, 4))
        self.refuse(*inputs, *files[:2], "--k-weight", "other.npy", *files[4:], says="--k-weight other.npy: 7 outputs, expected 8")
        for shape in (7,), (2, 4), (), (8, 0):
            self.write("other", number("key", *shape))
            self.refuse(*inputs, *files[:4], "--score-weight", "other.npy", says="--score-weight other.npy: shape is ")
        self.refuse(*inputs, *files, "--q-bias", "wq.npy", says="--q-bias wq.npy: shape is (8, 5), expected (8,)")
        self.refuse(*inputs, *files, "--k-bias", "wk.npy", says="--k-bias wk.npy: shape is (8, 4), expected (8,)")
        self.refuse(*inputs, *files, "--kernel", "none", says="is the name of no kernel")
        for descr, shape, numbers, says in (("<i8", (2,), [0, 7], "element 1 is 7, expected 0 to 6, the number of keys"),
                                            ("<i4", (2, 3), [0, 1, -1, 0, 0, 0], "element 2 is -1, expected 0 to 6"),
                                            ("<i8", (2,), [2**33, 0], "expected 0 to 6"), ("<i8", (3,), [1] * 3, "expected (2,)"),
                                            ("<i8", (3, 2), [1] * 6, "or (2, 3), for each query"), ("<f4", (2,), [1, 1], "expected int32 or int64")):
            self.write("lengths", Tensor(shape, numbers), descr)
            self.refuse(*inputs, *files, "--kv-lengths", "lengths.npy", says=says)

    def test_additive_files_that_are_not_what_they_say(self):
        inputs = self.additive_inputs() + ["--out", "o.npy", "--weights", "weights.npy", "--heatmap", "map.svg"]
        files = ["--q-weight", "wq.npy", "--k-weight", "wk.npy", "--score-weight", "w.npy", "--kv-lengths", "lengths.npy"]
        self.write("lengths", Tensor((2,), [2, 6]), "<i8")
        for name in "query", "key", "value", "wq", "wk", "w", "lengths":
            path = self.directory / f"{name}.npy"
            whole = path.read_bytes()
            for spoiled in whole[:5], whole[:40], whole[:-1], whole + b"x", b"", whole.replace(b"'shape': (", b"'shape': (9999999999, "):
                path.write_bytes(spoiled)
                self.refuse(*inputs, *files, says=f"{name}.npy: ")
            path.write_bytes(whole)
        model, t = self.directory / "model.safetensors", self.tensors
        names = {"W_q.weight": t["wq"], "W_k.weight": t["wk"], "w_v.weight": t["w"]}
        inputs += ["--model", "model.safetensors"]
        whole = safetensors(names)
        text = 8 + int.from_bytes(whole[:8], "little")
        for length in 0, 7, 8, text - 1, text, len(whole) - 1:
            model.write_bytes(whole[:length])
            self.refuse(*inputs, says="model.safetensors: ")
        for name in names:
            for field, value in ("dtype", "I8"), ("shape", [2**62, 4]), ("data_offsets", [0, 10**18]):
                self.model(names, change=lambda header: header[name].__setitem__(field, value))
                self.refuse(*inputs, says=f"tensor '{name}': field '")
            self.model(names, change=lambda header: header.pop(name))
            self.refuse(*inputs, says="model.safetensors: ")
        self.model(names | {"W_k.weight": t["wq"]})
        self.refuse(*inputs, says="--model model.safetensors: tensor 'W_k.weight': shape is (8, 5), expected (outputs, 4)")

    # ------------------------------------------------------------------------------------------------------- pictures

    def gpt2_inputs(self):
        self.write("query", Tensor((9, 32), number("query", 9, 32).numbers))
        self.model(self.gpt2(""))
        return ["--query", "query.npy", "--heads", "4", "--model", "model.safetensors"]

    def test_heatmap(self):
        inputs = self.gpt2_inputs()
        labels = ["a<b", "&amp;", "naïve", '"q"', "\x01bad", "x" * 30, "]]>", "日本", ""]
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
        for text, says in (("x\n" * 100001, "expected at most 100000 labels"), ("a\n" + "x" * 1001, "label 2 has 1001 bytes, expected at most 1000")):
            self.directory.joinpath("tokens.txt").write_text(text)
            self.refuse(*inputs, "--heatmap", "m.svg", "--tokens", "tokens.txt", says=f"--tokens tokens.txt: {says}")
        self.refuse(*inputs, "--heatmap", "m.svg", "--tokens", "y" * 1001, says="--tokens: label 1 has 1001 bytes, expected at most 1000")
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
        for option in "query", "key", "value", "model", "key-padding-mask", "attn-mask", "sinks", "tokens", "key-tokens":
            more = [] if f"--{option}" in inputs else [f"--{option}", "query.npy"]
            name = "model.safetensors" if option == "model" else "query.npy"
            more += ["--heatmap", name]
            given = ["--query", "other.npy", *inputs[2:]] if option != "query" else inputs
            self.refuse(*given, *more, says=f"--{option} and --heatmap name the same file, {name}: expected an output that is no input")

    def test_shapes(self):
        inputs = self.gpt2_inputs() + ["--out", "o.npy"]
        for shape in (2, 7, 32), (6,), (2, 3, 4, 5):
            self.write("other", number("key", *shape))
            self.refuse(*inputs, "--key", "other.npy", says="expected as many dimensions as --query")
            self.refuse(*inputs, "--attn-mask", "other.npy", says="expected (9, 9) or (4, 9, 9) or (1, 4, 9, 9)")
            self.refuse(*inputs, "--key-padding-mask", "other.npy", says="expected (1, 9) or (9,)")
        self.write("other", number("key", 9, 31))
        self.refuse(*inputs, "--key", "other.npy", says="takes keys and values of the queries' size 32")
        self.refuse("--query", "other.npy", *inputs[2:], says="--model model.safetensors: tensor 'c_attn.weight': shape is (32, 96), expected (31, outputs)")
        self.write("mask", Tensor((9, 9), [math.nan] * 81))
        self.refuse(*inputs, "--attn-mask", "mask.npy", says="element 0 is nan, expected a finite number or -inf")
        self.write("mask", Tensor((9,), [1] * 9), "<u2")
        self.refuse(*inputs, "--key-padding-mask", "mask.npy", says="if it holds the bits of bfloat16, add --bits bf16")

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
        for field, values in {"dtype": ("U32", "I32", 3, None, "f32"),
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


if __name__ == "__main__":
    main()
