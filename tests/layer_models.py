# SPDX-License-Identifier: Apache-2.0
"""Attention layers of models that people have: what their files call the weights, and what attend layer is told about them.
tests/layers/record_models.py records what the models' own code computes with the same numbers."""

import itertools
import math

from cli_support import Tensor
from layer_support import number, side_by_side, stacked, transposed

EMBED, HEADS, LENGTH = 16, 4, 4


class Model:
    """`parts` are q, k, v and out, or qkv and out. `biases` says which of q, k, v, o have one. `packing` of qkv: "rows",
    "heads" (each head's query, key and value together), or "columns" (GPT-2's transposed matrices)."""

    def __init__(self, name, layer, parts, *options, kv_heads=HEADS, dim=4, biases="", packing="rows", k_dim=EMBED, more=None):
        self.name, self.layer, self.parts, self.options = name, layer, parts.split(), list(options)
        self.kv_heads, self.dim, self.biases, self.packing, self.k_dim, self.more = kv_heads, dim, biases, packing, k_dim, more or {}

    def projections(self):
        """Weight and bias of q, k, v and out."""
        sizes = {"q": (HEADS * self.dim, EMBED), "k": (self.kv_heads * self.dim, self.k_dim),
                 "v": (self.kv_heads * self.dim, self.k_dim), "out": (EMBED, HEADS * self.dim)}
        return {part: (number(f"{part}_weight", *size), number(f"{part}_bias", size[0]) if part[0] in self.biases else None)
                for part, size in sizes.items()}

    def pack(self, tensors):
        if self.packing == "columns":
            return side_by_side(*map(transposed, tensors)) if len(tensors[0].shape) == 2 else stacked(*tensors)
        if self.packing == "rows":
            return stacked(*tensors)
        width = tensors[0].shape[1] if len(tensors[0].shape) == 2 else 1
        size = self.dim * width
        numbers = [n for head, t in itertools.product(range(HEADS), tensors) for n in t.numbers[head * size : (head + 1) * size]]
        return Tensor((3 * HEADS * self.dim, *tensors[0].shape[1:]), numbers)

    def tensors(self):
        """By their names after the layer's."""
        parts = self.projections()
        if len(self.parts) == 2:
            weights, biases = zip(*(parts.pop(part) for part in "qkv"))
            out = parts["out"]
            if self.packing == "columns":
                out = transposed(out[0]), out[1]
            parts = {"qkv": (self.pack(weights), self.pack(biases) if all(biases) else None), "out": out}
        named = {}
        for name, (weight, bias) in zip(self.parts, parts.values(), strict=True):
            named[f"{name}.weight"] = weight
            if bias:
                named[f"{name}.bias"] = bias
        return named | {name: number(*how) for name, how in self.more.items()}

    def inputs(self):
        """The query, and the key where it is another."""
        query = number("query", 2, LENGTH, EMBED)
        return query, query if self.k_dim == EMBED else number("key", 2, 5, self.k_dim)


QKVO = "q_proj k_proj v_proj o_proj"
OPT = "q_proj k_proj v_proj out_proj"

MODELS = [
    Model("llama", "model.layers.0.self_attn", QKVO, "--rope", "half,500", kv_heads=2),
    Model("mistral", "model.layers.0.self_attn", QKVO, "--rope", "half", kv_heads=2, dim=6),
    Model("qwen2", "model.layers.0.self_attn", QKVO, "--rope", "half", kv_heads=2, biases="qkv"),
    Model("llama3", "model.layers.0.self_attn", QKVO, "--rope", "half", "--rope-frequencies", "frequencies.npy", kv_heads=2),
    Model("gpt_oss", "model.layers.0.self_attn", QKVO, "--rope", "half", "--rope-frequencies", "frequencies.npy",
          "--rope-factor", f"{0.1 * math.log(32) + 1}", kv_heads=2, biases="qkvo", more={"sinks": ("bias_k", HEADS)}),
    Model("phi", "model.layers.0.self_attn", "q_proj k_proj v_proj dense", "--rope", "half,10000,2", biases="qkvo"),
    Model("phi3", "model.layers.0.self_attn", "qkv_proj o_proj", "--rope", "half", kv_heads=2),
    Model("gptj", "transformer.h.0.attn", OPT, "--rope", "interleaved,10000,2"),
    Model("gpt_neo", "transformer.h.0.attn.attention", OPT, "--causal", biases="o"),
    Model("gpt_neox", "gpt_neox.layers.0.attention", "query_key_value dense", "--rope", "half,10000,2", biases="qkvo", packing="heads"),
    Model("gpt2", "h.0.attn", "c_attn c_proj", biases="qkvo", packing="columns"),
    Model("opt", "model.decoder.layers.0.self_attn", OPT, biases="qkvo"),
    Model("clip", "text_model.encoder.layers.0.self_attn", OPT, biases="qkvo"),
    Model("whisper", "model.encoder.layers.0.self_attn", OPT, biases="qvo"),
    Model("t5", "encoder.block.0.layer.0.SelfAttention", "q k v o", "--attn-mask", "bias.npy",
          more={"relative_attention_bias.weight": ("bias_v", 32, HEADS)}),
    Model("distilbert", "distilbert.transformer.layer.0.attention", "q_lin k_lin v_lin out_lin", biases="qkvo"),
    Model("vit", "vit.encoder.layer.0.attention", "attention.query attention.key attention.value output.dense", biases="qkvo"),
    Model("timm", "blocks.0.attn", "qkv proj", biases="qkvo"),
    Model("diffusers", "down_blocks.0.attentions.0.transformer_blocks.0.attn2", "to_q to_k to_v to_out.0", biases="o", k_dim=12),
]
