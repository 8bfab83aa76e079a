# SPDX-License-Identifier: Apache-2.0
"""Writes small models of random weights with the heads of real ones: attention does not care what weights say."""

import sys
from pathlib import Path

import gguf
import numpy as np

# name: architecture, layers, embedding, query heads, key heads, head dim, feed-forward, type of weights
MODELS = {
    "heads-64": ("llama", 4, 2048, 32, 8, 64, 2048, "q8_0"),  # Llama 3.2 1B, with a small feed-forward part
    "heads-128": ("llama", 4, 2048, 32, 8, 128, 2048, "q8_0"),  # the heads of Llama 3 8B, Mistral 7B, Qwen 3 8B
    "layers-1b": ("llama", 4, 2048, 32, 8, 64, 8192, "f16"),  # four whole layers of Llama 3.2 1B
    "logits-llama": ("llama", 2, 512, 8, 2, 64, 512, "f32"),
    "logits-gemma": ("gemma2", 4, 512, 8, 4, 128, 512, "f32"),  # a window in every other layer, and softcap
    "logits-gpt-oss": ("gpt-oss", 4, 512, 16, 2, 64, 512, "f32"),  # sinks, and a window in every other layer
}
VOCABULARY = 2048
WINDOW = 128


def write(name, path):
    arch, layers, width, heads, kv_heads, dim, hidden, dtype = MODELS[name]
    rng = np.random.default_rng(1)
    w = gguf.GGUFWriter(path, arch)
    w.add_context_length(32768)
    w.add_embedding_length(width)
    w.add_block_count(layers)
    w.add_feed_forward_length(hidden)
    w.add_head_count(heads)
    w.add_head_count_kv(kv_heads)
    w.add_key_length(dim)
    w.add_value_length(dim)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_dimension_count(dim)
    w.add_rope_freq_base(500000.0)
    w.add_vocab_size(VOCABULARY)
    w.add_tokenizer_model("no_vocab")
    if arch == "gemma2":
        w.add_attn_logit_softcapping(50.0)
        w.add_final_logit_softcapping(30.0)
    if arch != "llama":
        w.add_sliding_window(WINDOW)

    def put(tensor, *shape, scale=1.0, one=False):
        values = np.ones(shape, np.float32) if one else rng.standard_normal(shape, dtype=np.float32) * np.float32(scale)
        if one or len(shape) == 1 or dtype == "f32":
            w.add_tensor(tensor, values)
        elif dtype == "f16":
            w.add_tensor(tensor, values.astype(np.float16))
        else:
            q8_0 = gguf.GGMLQuantizationType.Q8_0
            w.add_tensor(tensor, gguf.quants.quantize(values, q8_0), raw_dtype=q8_0)

    s = width**-0.5
    put("token_embd.weight", VOCABULARY, width, scale=s if arch == "gemma2" else 1.0)  # Gemma multiplies by its root
    for i in range(layers):
        block = f"blk.{i}."
        norms = {"llama": ["attn_norm", "ffn_norm"], "gpt-oss": ["attn_norm", "post_attention_norm"],
                 "gemma2": ["attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"]}
        for norm in norms[arch]:
            put(f"{block}{norm}.weight", width, one=True)
        put(block + "attn_q.weight", heads * dim, width, scale=2 * s)
        put(block + "attn_k.weight", kv_heads * dim, width, scale=2 * s)
        put(block + "attn_v.weight", kv_heads * dim, width, scale=s)
        put(block + "attn_output.weight", width, heads * dim, scale=2 * s)
        if arch == "gpt-oss":
            experts = 2
            put(block + "attn_output.bias", width, scale=0.1)
            put(block + "attn_sinks.weight", heads)
            put(block + "ffn_gate_inp.weight", experts, width, scale=s)
            put(block + "ffn_gate_inp.bias", experts, scale=0.1)
            for part, rows, columns in (("gate", hidden, width), ("up", hidden, width), ("down", width, hidden)):
                put(f"{block}ffn_{part}_exps.weight", experts, rows, columns, scale=columns**-0.5)
                w.add_tensor(f"{block}ffn_{part}_exps.bias", np.zeros((experts, rows), np.float32))
        else:
            put(block + "ffn_gate.weight", hidden, width, scale=s)
            put(block + "ffn_up.weight", hidden, width, scale=s)
            put(block + "ffn_down.weight", width, hidden, scale=hidden**-0.5)
    if arch == "gpt-oss":
        w.add_expert_count(2)
        w.add_expert_used_count(2)
        w.add_expert_feed_forward_length(hidden)
    put("output_norm.weight", width, one=True)
    if arch != "gemma2":
        put("output.weight", VOCABULARY, width, scale=4 * s)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def file_of(name, folder):
    """The model's file there, written if it is not there yet."""
    path = Path(folder) / f"{name}.gguf"
    if not path.exists():
        write(name, path.with_suffix(".part"))
        path.with_suffix(".part").rename(path)
    return path


if __name__ == "__main__":  # models.py FOLDER NAME...
    for each in sys.argv[2:]:
        file_of(each, sys.argv[1])
