# SPDX-License-Identifier: Apache-2.0
"""Records what PyTorch computes for the cases of test_mha.c: `python3 tests/layers/record.py`, in an environment with
torch and numpy, writes cases.def and a .npy file for each case beside this script.

Inputs are made by number(), here and in test_mha.c, so that only results have to be kept: the output, then the weights
if the case has them, one after the other.
"""

import math
import pathlib

import numpy
import torch

HERE = pathlib.Path(__file__).resolve().parent
TENSORS = ("query", "key", "value", "q_weight", "k_weight", "v_weight", "out_weight", "q_bias", "k_bias", "v_bias",
           "out_bias", "bias_k", "bias_v", "key_padding_mask", "attn_mask")


def hashed(name, count):
    """32 pseudo-random bits for each element of a tensor."""
    x = numpy.arange(count, dtype=numpy.uint32) * numpy.uint32(0x9E3779B1)
    x += numpy.uint32((TENSORS.index(name) + 1) * 0x85EBCA6B & 0xFFFFFFFF)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
        x = (x ^ (x >> numpy.uint32(shift))) * numpy.uint32(factor)
    return x


def number(name, *shape):
    """Numbers from -1 to 1, or -0.5 to 0.5 for weights: exact in f32."""
    scale = 2.0 ** -23 if name in ("query", "key", "value") else 2.0 ** -24
    bits = hashed(name, math.prod(shape)) >> 8
    return torch.from_numpy((bits.astype(numpy.float64) * scale - 2.0 ** 23 * scale).astype(numpy.float32)).reshape(shape)


def mask(name, kind, *shape):
    """Bytes: a quarter is ignored; f32: numbers, an eighth of them -inf. The first key is always attended."""
    bits = torch.from_numpy(hashed(name, math.prod(shape)).astype(numpy.int64)).reshape(shape)
    first = torch.arange(shape[-1]) == 0
    if kind == "IGNORE":
        return (bits % 4 == 0) & ~first
    return number(name, *shape).masked_fill((bits % 8 == 0) & ~first, -math.inf)


class Case:
    """A row of cases.def. What is not given is nn.MultiheadAttention's default."""

    def __init__(self, name, *, batch=2, q_len=5, kv_len=None, embed=24, heads=4, bias=True, k_dim=None, v_dim=None,
                 bias_kv=False, zero=False, padding=None, attn=None, per_head=False, causal=False, weights=None,
                 kv_heads=None, head_dim=None, v_head_dim=None, out_proj=True, source="nn"):
        self.__dict__.update({key: value for key, value in locals().items() if key != "self"})
        self.self_attention = kv_len is None and k_dim is None and v_dim is None
        self.kv_len = kv_len or q_len
        self.k_dim, self.v_dim = k_dim or embed, v_dim or embed
        self.kv_heads, self.head_dim = kv_heads or heads, head_dim or embed // heads
        self.v_head_dim = v_head_dim or self.head_dim

    def row(self):
        fields = {
            "batch": self.batch, "q_len": self.q_len, "kv_len": self.kv_len, "embed_dim": self.embed,
            "k_dim": self.k_dim, "v_dim": self.v_dim, "q_heads": self.heads, "kv_heads": self.kv_heads,
            "head_dim": self.head_dim, "v_head_dim": self.v_head_dim, "out_proj": int(self.out_proj),
            "causal": self.causal and "ATTEND_CAUSAL_TOP_LEFT",
            "key_padding_mask": self.padding and f"ATTEND_LAYER_MASK_{self.padding}",
            "attn_mask": self.attn and f"ATTEND_LAYER_MASK_{self.attn}", "attn_mask_per_head": int(self.per_head),
            "bias_kv": int(self.bias_kv), "add_zero_attn": int(self.zero),
            "weights": self.weights and f"ATTEND_LAYER_WEIGHTS_{self.weights}",
        }
        settings = ", ".join(f".{field} = {value}" for field, value in fields.items() if value)
        return f'CASE("{self.name}", {str(self.self_attention).lower()}, {str(self.bias).lower()}, {settings})'

    def tensors(self):
        q_size, k_size = self.heads * self.head_dim, self.kv_heads * self.head_dim
        v_size, o_size = self.kv_heads * self.v_head_dim, self.heads * self.v_head_dim
        t = {"query": number("query", self.batch, self.q_len, self.embed)}
        t["key"] = t["query"] if self.self_attention else number("key", self.batch, self.kv_len, self.k_dim)
        t["value"] = t["query"] if self.self_attention else number("value", self.batch, self.kv_len, self.v_dim)
        for name, rows, columns in (("q", q_size, self.embed), ("k", k_size, self.k_dim), ("v", v_size, self.v_dim),
                                    ("out", self.embed, o_size)):
            t[f"{name}_weight"] = number(f"{name}_weight", rows, columns)
            t[f"{name}_bias"] = number(f"{name}_bias", rows) if self.bias else None
        t["bias_k"], t["bias_v"] = number("bias_k", k_size), number("bias_v", v_size)
        t["padding"] = self.padding and mask("key_padding_mask", self.padding, self.batch, self.kv_len)
        shape = (self.batch * self.heads, self.q_len, self.kv_len) if self.per_head else (self.q_len, self.kv_len)
        t["attn"] = self.attn and mask("attn_mask", self.attn, *shape)
        return t

    def module(self, t):
        """nn.MultiheadAttention with the case's weights."""
        m = torch.nn.MultiheadAttention(self.embed, self.heads, bias=self.bias, add_bias_kv=self.bias_kv,
                                        add_zero_attn=self.zero, kdim=self.k_dim, vdim=self.v_dim, batch_first=True).eval()
        with torch.no_grad():
            if m.in_proj_weight is not None:
                m.in_proj_weight.copy_(torch.cat([t["q_weight"], t["k_weight"], t["v_weight"]]))
            else:
                for name in "qkv":
                    getattr(m, f"{name}_proj_weight").copy_(t[f"{name}_weight"])
            m.out_proj.weight.copy_(t["out_weight"])
            if self.bias:
                m.in_proj_bias.copy_(torch.cat([t["q_bias"], t["k_bias"], t["v_bias"]]))
                m.out_proj.bias.copy_(t["out_bias"])
            if self.bias_kv:
                m.bias_k.copy_(t["bias_k"].reshape(1, 1, -1))
                m.bias_v.copy_(t["bias_v"].reshape(1, 1, -1))
        return m

    def run_module(self, t):
        attn, causal = t["attn"], {}
        if self.causal:
            attn, causal = torch.ones(self.q_len, self.kv_len, dtype=torch.bool).triu(1), {"is_causal": True}
        m = self.module(t)
        inputs = [t["query"], t["key"], t["value"]]
        if self.batch == 1:
            inputs = [x[0] for x in inputs]  # unbatched, as the module takes it too
            padding = None if t["padding"] is None else t["padding"][0]
        else:
            padding = t["padding"]
        out, weights = m(*inputs, key_padding_mask=padding, attn_mask=attn, need_weights=bool(self.weights),
                         average_attn_weights=self.weights == "AVERAGED", **causal)
        return out, weights

    def run_written_out(self, t):
        """Layers of other models: what their code does, in PyTorch's own functions."""
        def heads(x, weight, bias, count, dim):
            y = torch.nn.functional.linear(x, weight, bias)
            return y.reshape(*y.shape[:2], count, dim).transpose(1, 2)

        q = heads(t["query"], t["q_weight"], t["q_bias"], self.heads, self.head_dim)
        k = heads(t["key"], t["k_weight"], t["k_bias"], self.kv_heads, self.head_dim)
        v = heads(t["value"], t["v_weight"], t["v_bias"], self.kv_heads, self.v_head_dim)
        k, v = (x.repeat_interleave(self.heads // self.kv_heads, dim=1) for x in (k, v))
        scores = q @ k.transpose(-1, -2) / math.sqrt(self.head_dim)
        if self.causal:
            scores = scores.masked_fill(torch.ones(self.q_len, self.kv_len, dtype=torch.bool).triu(1), -math.inf)
        if self.padding:  # BERT adds the most negative float instead of masking
            scores = scores + t["padding"][:, None, None] * torch.finfo(torch.float32).min
        weights = scores.softmax(-1)
        out = (weights @ v).transpose(1, 2).reshape(self.batch, self.q_len, -1)
        if self.out_proj:
            out = torch.nn.functional.linear(out, t["out_weight"], t["out_bias"])
        return out, weights if self.weights == "PER_HEAD" else None

    def record(self):
        t = self.tensors()
        with torch.inference_mode():
            out, weights = self.run_module(t) if self.source == "nn" else self.run_written_out(t)
        arrays = [out] if weights is None else [out, weights]
        assert all(torch.isfinite(a).all() for a in arrays), self.name
        numpy.save(HERE / f"{self.name}.npy", numpy.concatenate([a.numpy().astype(numpy.float32).ravel() for a in arrays]))


CASES = [
    Case("self"),
    Case("unbatched", batch=1),
    Case("one_query", q_len=1, kv_len=7),
    Case("no_bias", bias=False),
    Case("one_head", heads=1),
    Case("cross", kv_len=7),
    Case("k_dim_v_dim", kv_len=7, k_dim=10, v_dim=13),
    Case("weights_averaged", weights="AVERAGED"),
    Case("weights_per_head", weights="PER_HEAD"),
    Case("weights_unbatched", batch=1, weights="PER_HEAD"),
    Case("causal", causal=True),
    Case("causal_weights", causal=True, weights="AVERAGED"),
    Case("causal_padding", causal=True, padding="IGNORE"),
    Case("causal_cross", causal=True, q_len=4, kv_len=7),
    Case("padding_bool", padding="IGNORE", weights="PER_HEAD"),
    Case("padding_float", padding="ADD", weights="PER_HEAD"),
    Case("padding_unbatched", batch=1, padding="IGNORE"),
    Case("attn_bool", attn="IGNORE", weights="PER_HEAD"),
    Case("attn_float", attn="ADD", weights="PER_HEAD"),
    Case("attn_bool_per_head", attn="IGNORE", per_head=True, weights="PER_HEAD"),
    Case("attn_float_per_head", attn="ADD", per_head=True, weights="AVERAGED"),
    Case("attn_unbatched_per_head", batch=1, attn="ADD", per_head=True),
    Case("bool_and_bool", padding="IGNORE", attn="IGNORE", weights="PER_HEAD"),
    Case("bool_and_float", padding="IGNORE", attn="ADD", weights="PER_HEAD"),
    Case("float_and_bool", padding="ADD", attn="IGNORE", per_head=True, weights="PER_HEAD"),
    Case("float_and_float", padding="ADD", attn="ADD", weights="PER_HEAD"),
    Case("float_and_float_per_head", padding="ADD", attn="ADD", per_head=True, kv_len=7),
    Case("bool_and_bool_per_head", padding="IGNORE", attn="IGNORE", per_head=True, kv_len=7),
    Case("zero_attn", zero=True, weights="PER_HEAD"),
    Case("bias_kv", bias_kv=True, weights="PER_HEAD"),
    Case("bias_kv_zero_attn", bias_kv=True, zero=True, weights="AVERAGED"),
    Case("appended_causal", bias_kv=True, zero=True, causal=True, weights="PER_HEAD"),
    Case("appended_padding_bool", bias_kv=True, zero=True, padding="IGNORE", kv_len=7, weights="PER_HEAD"),
    Case("appended_float_and_float", bias_kv=True, zero=True, padding="ADD", attn="ADD", per_head=True, weights="PER_HEAD"),
    Case("appended_attn_bool", zero=True, attn="IGNORE", padding="IGNORE", per_head=True),
    Case("everything", kv_len=7, k_dim=10, v_dim=13, bias_kv=True, zero=True, padding="IGNORE", attn="IGNORE",
         per_head=True, weights="AVERAGED"),
    Case("gpt2", batch=1, q_len=9, embed=32, heads=4, causal=True, weights="PER_HEAD", source="written out"),
    Case("bert", q_len=9, embed=32, heads=4, padding="IGNORE", weights="PER_HEAD", source="written out"),
    Case("bert_without_output", q_len=6, padding="IGNORE", out_proj=False, source="written out"),
    Case("grouped_query", heads=6, kv_heads=2, causal=True, bias=False, source="written out"),
    Case("head_dims_of_their_own", kv_len=7, heads=3, head_dim=10, v_head_dim=6, source="written out", weights="PER_HEAD"),
    Case("longer", batch=3, q_len=70, embed=48, heads=3, padding="IGNORE"),
]

if __name__ == "__main__":
    for old in HERE.glob("*.npy"):
        old.unlink()
    for case in CASES:
        case.record()
    rows = "\n".join(case.row() for case in CASES)
    HERE.joinpath("cases.def").write_text(
        f"/* SPDX-License-Identifier: Apache-2.0 */\n/* Written by record.py with torch {torch.__version__}. */\n{rows}\n")
