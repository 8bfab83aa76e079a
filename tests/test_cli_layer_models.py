# SPDX-License-Identifier: Apache-2.0
"""`attend layer` with the weights of models: what their own code computes, sharded files, tensors that are not used, and the
masks and types that come with them."""

import itertools
import json
import math
import struct

from cli_support import Tensor, attend, bf16_bits, product, read_f32
from layer_models import EMBED, HEADS, LENGTH, MODELS
from layer_support import RECORDED, LayerCase, main, number, safetensors

SHAPE = (2, LENGTH, EMBED)
BY_NAME = {model.name: model for model in MODELS}
QUERY = ["--query", "query.npy", "--heads", HEADS, "--model", "model.safetensors"]


class Models(LayerCase):
    def recorded(self, model):
        return read_f32(RECORDED / "models" / f"{model.name}.npy").numbers

    def write_model(self, model, beside=None, leave_out=()):
        named = {name: t for name, t in model.tensors().items() if name not in leave_out}
        self.model({f"{model.layer}.{name}": t for name, t in (named | (beside or {})).items()})
        query, key = model.inputs()
        self.write("query", query)
        self.write("key", key)
        if "--attn-mask" in model.options:
            self.write("bias", Tensor((1, HEADS, LENGTH, LENGTH), self.recorded(model)[product(SHAPE) :]))
        if "--rope-frequencies" in model.options:
            frequencies = self.recorded(model)[product(SHAPE) :]
            self.write("frequencies", Tensor((len(frequencies),), frequencies))
        return [*QUERY, *model.options, *(["--key", "key.npy"] if query is not key else [])]

    def check(self, model, *options):
        self.compare(self.compute(*options), SHAPE, self.recorded(model)[: product(SHAPE)], 2e-6)

    def test_every_naming(self):
        for model in MODELS:
            with self.subTest(model.name):
                self.check(model, *self.write_model(model))

    def test_own_files_of_mistral_and_llama(self):
        # transformers reorders the rows of each head when it converts them, so that neighbours come to lie in two halves.
        llama = BY_NAME["llama"]
        options = self.write_model(llama)
        options[options.index("--rope") + 1] = "interleaved,500"
        q, k, v, out = (llama.tensors()[f"{part}.weight"] for part in llama.parts)
        half = llama.dim // 2

        def neighbours(t):
            rows = [head * llama.dim + side * half + n for head in range(t.shape[0] // llama.dim) for n in range(half) for side in range(2)]
            return Tensor(t.shape, [t.at(row, i) for row in rows for i in range(EMBED)])

        own = {"wq": neighbours(q), "wk": neighbours(k), "wv": v, "wo": out}
        self.model({f"layers.0.attention.{name}.weight": t for name, t in own.items()})
        self.check(llama, *options)

    def test_cross_attention_of_t5(self):
        t5 = BY_NAME["t5"]
        options = self.write_model(t5)
        self.write("bias", Tensor((1, 1, LENGTH, LENGTH), [0.0] * LENGTH**2))
        wanted = self.compute(*options).numbers
        tensors = {name: t for name, t in t5.tensors().items() if "bias" not in name}
        self.model({f"decoder.block.3.layer.1.EncDecAttention.{name}": t for name, t in tensors.items()})
        at = options.index("--attn-mask")
        self.compare(self.compute(*options[:at]), SHAPE, wanted, 1e-6)

    def test_a_layer_of_several(self):
        llama = BY_NAME["llama"]
        options = self.write_model(llama)
        layers = {f"model.layers.{i}.self_attn.{name}": t for name, t in llama.tensors().items() for i in range(12)}
        self.model(layers | {"model.layers.1.self_attn.q_proj.weight": number("key", EMBED, EMBED), "lm_head.weight": number("key", 3)})
        self.check(llama, *options, "--layer", "model.layers.10.self_attn")
        self.refuse(*options, "--out", "o.npy", says="has 12 attention layers, 'model.layers.0.self_attn', 'model.layers.1.self_attn', "
                    "'model.layers.10.self_attn', ...: choose one with --layer")
        self.refuse(*options, "--out", "o.npy", "--layer", "model.layers.1", says="no tensors of an attention layer under that name; "
                    "its layers are 'model.layers.0.self_attn', ")

    def test_names_that_mean_something_else(self):
        # BLOOM and Falcon order the rows of the same names in other ways, MPNet has no scale of 1.
        for module, model in ("h.0.self_attention", "gpt_neox"), ("encoder.layer.0.attention.attn", "t5"):
            options = self.write_model(BY_NAME[model])
            self.model({f"{module}.{name}": t for name, t in BY_NAME[model].tensors().items()})
            self.refuse(*options, "--out", "o.npy", says="expected an attention layer named as in nn.MultiheadAttention (in_proj_weight or "
                        "q_proj_weight), Llama, Mistral and Qwen (q_proj.weight), Phi (q_proj.weight), GPT-J (attn.q_proj.weight), ")

    def test_what_weights_do_not_say(self):
        for model in MODELS:
            for option, says in ("--rope", "expected --rope "), ("--attn-mask", "expected it in --attn-mask"):
                if option in model.options and "--rope-frequencies" not in model.options:
                    options = self.write_model(model)
                    at = options.index(option)
                    del options[at : at + 2]
                    self.refuse(*options, "--out", "o.npy", says=says)
        llama = BY_NAME["llama"]
        options = self.write_model(llama)
        options[options.index("--rope") + 1] = "none"
        plain = self.compute(*options)
        self.assertGreater(max(abs(a - b) for a, b in zip(plain.numbers, self.recorded(llama))), 1e-3)

    def test_rope_frequencies(self):
        options = self.write_model(BY_NAME["gpt_oss"])
        for numbers, descr in ([1.0], "<f4"), ([1.0] * 4, "<f4"), ([1.0, math.nan], "<f4"), ([1, 1], "<i8"):
            self.write("frequencies", Tensor((len(numbers),), numbers), descr)
            self.refuse(*options, "--out", "o.npy", says="--rope-frequencies frequencies.npy: ")
        for factor in "0", "-1", "x":
            self.refuse(*options[:-1], factor, "--out", "o.npy", says=f"--rope-factor '{factor}': expected")
        for option in ["--rope-frequencies", "frequencies.npy"], ["--rope-factor", "2"]:
            self.refuse(*self.write_model(BY_NAME["clip"]), *option, "--out", "o.npy", says=f"{option[0]}: expected with --rope")

    def test_scale_of_a_model(self):
        options = self.write_model(BY_NAME["t5"])
        self.check(BY_NAME["t5"], *options, "--scale", "1")
        half = self.compute(*options, "--scale", "0.5")
        self.assertGreater(max(abs(a - b) for a, b in zip(half.numbers, self.recorded(BY_NAME["t5"]))), 1e-4)

    def test_heads_of_packed_projections(self):
        options = self.write_model(BY_NAME["phi3"])
        self.check(BY_NAME["phi3"], *options, "--kv-heads", 2)
        self.refuse(*options, "--kv-heads", 4, "--out", "o.npy", says="32 outputs are no multiple of the 12 heads of")
        options = self.write_model(BY_NAME["gpt_neox"])
        self.check(BY_NAME["gpt_neox"], *options, "--kv-heads", HEADS)
        self.refuse(*options, "--kv-heads", 2, "--out", "o.npy", says="--kv-heads 2: expected 4, as many as --heads")
        options[options.index("--heads") + 1] = 5
        self.refuse(*options, "--out", "o.npy", says="48 outputs are no multiple of the 15 heads of")

    # ------------------------------------------------------------------------------------- what is there and not used

    def test_unused_tensors(self):
        norm = number("bias_k", 4)
        for name, beside in (("llama", {"q_norm.weight": norm, "k_norm.weight": norm}), ("timm", {"q_norm.weight": norm}),
                             ("diffusers", {"norm_q.weight": norm, "add_k_proj.weight": norm}),
                             ("llama", {"q_proj.lora_A.weight": norm, "q_proj.weight_scale": norm}),
                             ("vit", {"attention.relative_position_bias.relative_position_bias_table": norm})):
            options = self.write_model(BY_NAME[name], beside)
            listed = ", ".join(f"'{unused}'" for unused in sorted(beside))
            self.refuse(*options, "--out", "o.npy", says=f"{listed} too, which attend layer cannot compute")
            self.check(BY_NAME[name], *options, "--ignore", ",".join(beside))
            self.check(BY_NAME[name], *options, "--ignore", "none,*")
            if len(beside) > 1:
                self.refuse(*options, "--out", "o.npy", "--ignore", min(beside), says="cannot compute")
                self.refuse(*options, "--out", "o.npy", "--ignore", f"{min(beside)[:-1]},{max(beside)[1:]}", says="cannot compute")
        options = self.write_model(BY_NAME["llama"], {f"x{i}": norm for i in range(9)})
        self.refuse(*options, "--out", "o.npy", says="and 'x0', 'x1', 'x2', ... too")

    def test_tensors_beside_a_layer_without_a_name(self):
        qwen = BY_NAME["qwen2"]
        options = self.write_model(qwen)
        more = number("bias_k", 4)
        others = {"model.layers.0.mlp.weight": more, "a.b.c": more}
        self.model(qwen.tensors() | others)
        self.check(qwen, *options)
        for name in "q_norm.weight", "sink_bias", "q_proj.lora_A.weight":
            self.model(qwen.tensors() | others | {name: more})
            self.refuse(*options, "--out", "o.npy", says=f"layer '' has the names of Llama, Mistral and Qwen, and '{name}' too")

    def test_tensors_that_change_nothing(self):
        for name, unused in ("gpt_neox", "masked_bias"), ("gpt2", "bias"), ("llama", "rotary_emb.inv_freq"):
            options = self.write_model(BY_NAME[name], {unused: number("bias_k", 4)})
            self.check(BY_NAME[name], *options)
            result = attend("layer", *options, "--out", "o.npy", cwd=self.directory)
            self.assertIn(f"; not used: '{unused}'; wrote out", result.stdout)

    def test_parts_that_miss_another(self):
        norm = {"in_proj_weight": number("q_weight", 3 * EMBED, EMBED), "out_proj.weight": number("out_weight", EMBED, EMBED)}
        self.write("query", number("query", *SHAPE))
        for lone, other in ("bias_k", "bias_v"), ("bias_v", "bias_k"):
            self.model(norm | {lone: number(lone, 1, 1, EMBED)})
            self.refuse(*QUERY, "--out", "o.npy", says=f"tensor '{lone}': expected only with {other}")
        vit = BY_NAME["vit"]
        options = self.write_model(vit, leave_out=["output.dense.weight"])
        self.refuse(*options, "--out", "o.npy", says="'vit.encoder.layer.0.attention.output.dense.bias': expected only with an output projection")
        for name in "o_proj.weight", "k_proj.weight":
            options = self.write_model(BY_NAME["llama"], leave_out=[name])
            self.refuse(*options, "--out", "o.npy", says=f"tensor 'model.layers.0.self_attn.{name}': is not there")
        self.write("w", number("q_weight", 3 * EMBED, EMBED))
        self.write("b", number("q_bias", 3 * EMBED))
        files = ["--query", "query.npy", "--heads", HEADS, "--qkv-weight", "w.npy", "--out", "o.npy"]
        self.refuse(*files, "--out-bias", "b.npy", says="--out-bias b.npy: expected only with an output projection")
        self.refuse(*files, "--qkv-bias", "b.npy", "--k-bias", "b.npy", says="--k-bias b.npy: expected only without a bias of all three")
        self.refuse(*files, "--ignore", "x", says="--ignore 'x': expected only with --model")

    def test_sinks_of_a_model(self):
        options = self.write_model(BY_NAME["gpt_oss"])
        self.write("sinks", Tensor((HEADS,), [0.0] * HEADS))
        self.refuse(*options, "--out", "o.npy", "--sinks", "sinks.npy", says="--sinks and --model model.safetensors: tensor")

    # --------------------------------------------------------------------------------------------------------- shards

    def shards(self, model, change=lambda index: None):
        """Every tensor in a file of its own, in a folder of their own."""
        options = self.write_model(model)
        self.directory.joinpath("sharded").mkdir(exist_ok=True)
        index = {"metadata": {"total_size": 1}, "weight_map": {}}
        for i, (name, t) in enumerate(model.tensors().items()):
            file = f"model-{i:05}.safetensors"
            index["weight_map"][f"{model.layer}.{name}"] = file
            self.directory.joinpath("sharded", file).write_bytes(safetensors({f"{model.layer}.{name}": t}, dtype="F32"))
        change(index)
        self.directory.joinpath("sharded/model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
        options[options.index("--model") + 1] = "sharded/model.safetensors.index.json"
        return options

    def test_sharded_models(self):
        for name in "llama", "gpt_neox", "vit":
            self.check(BY_NAME[name], *self.shards(BY_NAME[name]))

    def test_how_an_index_may_be_written(self):
        llama = BY_NAME["llama"]
        options = self.shards(llama)
        path = self.directory / "sharded/model.safetensors.index.json"
        index = json.loads(path.read_text())
        weights = json.dumps(index["weight_map"])
        long = '{"text": "' + "x" * 100_000 + '", "braces": "}{][\\"\\\\"}'
        for text in (json.dumps(index, indent=3), json.dumps(index, separators=(",", ":")), json.dumps(dict(reversed(index.items()))),
                     f' \r\n{{"weight_map"\t:\n{weights}\n}}\n', f'{{"metadata": {long}, "weight_map": {weights}, "more": {long}}}',
                     f'{{"weight_map": {weights.replace("q_proj", "q_pro" + chr(92) + "u006a")}}}'):
            path.write_text(text, encoding="utf-8")
            self.check(llama, *options)

    def test_indexes_that_are_not_what_they_say(self):
        llama = BY_NAME["llama"]
        tensor = f"{llama.layer}.v_proj.weight"
        for value, says in (("model-00000.safetensors", f"sharded/model-00000.safetensors: tensor '{tensor}': is not there"),
                            ("nothing.safetensors", "sharded/nothing.safetensors: cannot open"),
                            ("../model.safetensors", "expected a file beside the index"), ("", "expected a file beside the index"),
                            ("..", "expected a file beside the index"), (5, "expected a file beside the index")):
            options = self.shards(llama, lambda index: index["weight_map"].__setitem__(tensor, value))
            self.refuse(*options, "--out", "o.npy", says=says)
        options = self.shards(llama, lambda index: index["weight_map"].pop(tensor))
        self.refuse(*options, "--out", "o.npy", says=f"index.json: tensor '{tensor}': is not there")
        path = self.directory / "sharded/model.safetensors.index.json"
        for text, says in (("{}", "field 'weight_map'"), ('{"weight_map": []}', "field 'weight_map'"), ("", "expected an index"),
                           ("[1", "expected an index"), ('{"weight_map": {}}\0', "expected an index"), ("[" * 2000, "expected an index"),
                           ('{"weight_map": {}}', "expected an attention layer"), ('{"weight_map": {}} x', "expected an index"),
                           ('{"weight_map": {"a": "b", "a": "c"}}', "tensor 'a' is there twice"),
                           ('{"weight_map": {"a": "b", "a": "b"}}', "tensor 'a' is there twice"),
                           ('{"weight_map": {}, "weight_map": {}}', "field 'weight_map' is there twice"),
                           ('{"weight_map" {}}', "field 'weight_map': expected an object"),
                           ('{"weight_map": {} x}', "field 'weight_map': expected an object"),
                           ('{"weight_map": {"a": "b"]}', "field 'weight_map': expected an object"),
                           ('{"weight_map": {"a": "b",}}', 'field \'weight_map\': expected "tensor": "file" at byte 25'),
                           ('{"weight_map": {"a" "b"}}', 'field \'weight_map\': expected "tensor": "file" at byte 16'),
                           ('{"weight_map": {"a": "b": "c"}}', 'field \'weight_map\': expected "tensor": "file" at byte 16'),
                           ('{"weight_map": {"' + "a" * 70000 + '": "b"}}', 'field \'weight_map\': expected "tensor": "file" at byte 16')):
            path.write_text(text, encoding="utf-8")
            self.refuse(*options, "--out", "o.npy", says=says)
        path.unlink()
        self.refuse(*options, "--out", "o.npy", says="cannot open")

    def test_no_output_replaces_a_shard(self):
        options = self.shards(BY_NAME["llama"])
        for name in "model-00002.safetensors", "model.safetensors.index.json":
            path = self.directory / "sharded" / name
            before = path.read_bytes()
            self.refuse(*options, "--out", f"sharded/{name}", says="expected an output that is no input")
            self.assertEqual(path.read_bytes(), before)

    # ----------------------------------------------------------------------------------------------- types and masks

    def test_bfloat16_files(self):
        clip = BY_NAME["clip"]
        options = self.write_model(clip)
        query = clip.inputs()[0]
        bits = bf16_bits(query)
        self.write("query", Tensor(SHAPE, [struct.unpack("<f", struct.pack("<I", n << 16))[0] for n in bits.numbers]))
        wanted = self.compute(*options)
        for descr, more in ("<V2", []), ("|V2", []), (">V2", []), ("<u2", ["--bits", "bf16"]):
            self.write("query", bits, descr)
            self.compare(self.compute(*options, *more), SHAPE, wanted.numbers, 0)
        self.write("query", bits, "<u2")
        self.refuse(*options, "--out", "o.npy", says="if it holds the bits of bfloat16, add --bits bf16")
        self.refuse(*options, "--out", "o.npy", "--bits", "f16", says="--bits 'f16': expected bf16")

    def mask_options(self):
        return self.write_model(BY_NAME["clip"]), [0, 0, 1, 0, 0, 0, 0, 1]

    def test_padding_masks_of_whole_numbers(self):
        options, ignored = self.mask_options()
        self.write("mask", Tensor((2, LENGTH), [bool(n) for n in ignored]), "|b1")
        wanted = self.compute(*options, "--key-padding-mask", "mask.npy").numbers
        self.assertNotEqual(wanted, self.compute(*options).numbers)
        for descr in "|u1", "<i4", "<i8", ">i8", "|b1":
            for option, numbers in ("--key-padding-mask", ignored), ("--attention-mask", [1 - n for n in ignored]):
                self.write("mask", Tensor((2, LENGTH), numbers), descr)
                self.compare(self.compute(*options, option, "mask.npy"), SHAPE, wanted, 0)
        for value in 2, -1:
            self.write("mask", Tensor((2, LENGTH), [*ignored[:5], value, 0, 0]), "<i8")
            for option in "--key-padding-mask", "--attention-mask":
                self.refuse(*options, "--out", "o.npy", option, "mask.npy", says=f"mask.npy: element 5 is {value}, expected 0 or 1")
        self.write("mask", Tensor((2, LENGTH), [0.0] * 8))
        self.refuse(*options, "--out", "o.npy", "--attention-mask", "mask.npy", says="expected bool, or 0 and 1 of uint8, int32 or int64")

    def test_masks_of_four_dimensions(self):
        options, _ = self.mask_options()
        full = (2, HEADS, LENGTH, LENGTH)
        for shape in itertools.product(*((1, n) for n in full[:3])):
            ones = [i for i, n in enumerate(shape) if n == 1]
            places = list(itertools.product(*map(range, full)))
            small = {index: (sum(index) * 7919 + index[3] * 31) % 3 == 0 and index[3] != 0
                     for index in itertools.product(*map(range, (*shape, LENGTH)))}
            wide = [small[tuple(0 if i in ones else n for i, n in enumerate(index))] for index in places]
            forms = {"|b1": lambda n: bool(n), "<i8": lambda n: int(n), "<f4": lambda n: -math.inf if n else 0.0}
            self.write("full", Tensor(full, wide), "|b1")
            wanted = self.compute(*options, "--attn-mask", "full.npy").numbers
            for descr, form in forms.items():
                self.write("mask", Tensor((*shape, LENGTH), [form(n) for n in small.values()]), descr)
                self.compare(self.compute(*options, "--attn-mask", "mask.npy"), SHAPE, wanted, 1e-6)
                if descr == "<f4":  # what transformers adds in the place of -inf
                    self.write("mask", Tensor((*shape, LENGTH), [-3.4028234663852886e38 if n else 0.0 for n in small.values()]))
                    self.compare(self.compute(*options, "--attention-mask", "mask.npy"), SHAPE, wanted, 1e-6)
                attended = small.values() if descr == "<f4" else [not n for n in small.values()]
                self.write("mask", Tensor((*shape, LENGTH), [form(n) for n in attended]), descr)
                self.compare(self.compute(*options, "--attention-mask", "mask.npy"), SHAPE, wanted, 1e-6)
        for shape in (3, 1, LENGTH, LENGTH), (1, 2, LENGTH, LENGTH), (1, 1, LENGTH, 1), (2, 1, LENGTH, LENGTH, 1):
            self.write("mask", Tensor(shape, [False] * product(shape)), "|b1")
            self.refuse(*options, "--out", "o.npy", "--attn-mask", "mask.npy", says="expected (4, 4) or (8, 4, 4) or (2, 4, 4, 4), of which "
                        "the last may have 1")
        self.refuse(*options, "--out", "o.npy", "--attention-mask", "mask.npy", "--attn-mask", "mask.npy",
                    says="--attention-mask and --attn-mask: expected one of them")


if __name__ == "__main__":
    main()
