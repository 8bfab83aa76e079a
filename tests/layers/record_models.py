# SPDX-License-Identifier: Apache-2.0
"""Records what the code of real models computes with the layers of tests/layer_models.py:
`python3 tests/layers/record_models.py`, in an environment with torch, transformers, timm and diffusers, writes a .npy file
for each model into models/ beside this script. The names of all weights have to be those that the code has, or, for ViT, those
that it writes into files."""

import pathlib
import sys

import numpy
import torch
import transformers
from transformers.models.clip.modeling_clip import CLIPAttention
from transformers.models.distilbert.modeling_distilbert import DistilBertSelfAttention
from transformers.models.gpt2.modeling_gpt2 import GPT2Attention
from transformers.models.gpt_neo.modeling_gpt_neo import GPTNeoSelfAttention
from transformers.models.gpt_neox.modeling_gpt_neox import GPTNeoXAttention, GPTNeoXRotaryEmbedding
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssAttention, GptOssRotaryEmbedding
from transformers.models.gptj.modeling_gptj import GPTJAttention, GPTJModel
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRotaryEmbedding
from transformers.models.mistral.modeling_mistral import MistralAttention, MistralRotaryEmbedding
from transformers.models.opt.modeling_opt import OPTAttention
from transformers.models.phi.modeling_phi import PhiAttention, PhiRotaryEmbedding
from transformers.models.phi3.modeling_phi3 import Phi3Attention, Phi3RotaryEmbedding
from transformers.models.qwen2.modeling_qwen2 import Qwen2Attention, Qwen2RotaryEmbedding
from transformers.models.t5.modeling_t5 import T5Attention
from transformers.models.vit.modeling_vit import ViTAttention
from transformers.models.whisper.modeling_whisper import WhisperAttention

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from layer_models import EMBED, HEADS, LENGTH, MODELS  # noqa: E402

POSITIONS = torch.arange(LENGTH)[None]


def tensor(t):
    return torch.tensor(t.numbers, dtype=torch.float64).to(torch.float32).reshape(t.shape)


def config(kind, **changes):
    sizes = {"hidden_size": EMBED, "num_attention_heads": HEADS, "num_hidden_layers": 1, "intermediate_size": EMBED, "vocab_size": 32,
             "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
    made = kind(**sizes | changes)
    made._attn_implementation = "eager"
    return made


def rotary(attention, embedding, kind, **changes):
    """A layer whose queries and keys are turned by tables that its model makes."""
    c = config(kind, **changes)

    turned = embedding(c)

    def run(layer, x, _):
        out = layer(x, position_embeddings=turned(x, POSITIONS), attention_mask=None)[0]
        if c.rope_parameters["rope_type"] == "default":
            return out
        return torch.cat([out.flatten(), turned.inv_freq])

    return attention(c, layer_idx=0), run


def grouped(attention, embedding, kind, **changes):
    return rotary(attention, embedding, kind, **{"num_key_value_heads": 2, "head_dim": 4} | changes)


def rope(theta=10000.0, **more):
    return {"rope_type": "default", "rope_theta": theta} | more


def plain(layer, x, _):
    out = layer(x)
    return out[0] if isinstance(out, tuple) else out


def gptj():
    c = config(transformers.GPTJConfig, n_embd=EMBED, n_head=HEADS, n_layer=1, rotary_dim=2)
    layer = GPTJAttention(c, 0)
    model = GPTJModel(c)

    def run(_, x, __):
        got = []
        hook = model.h[0].attn.register_forward_pre_hook(lambda m, args, kwargs: got.append(kwargs), with_kwargs=True)
        model(inputs_embeds=x, position_ids=POSITIONS.expand(2, -1))
        hook.remove()
        return layer(x, position_embeddings=got[0]["position_embeddings"])[0]

    return layer, run


def t5():
    c = config(transformers.T5Config, d_model=EMBED, d_kv=4, num_heads=HEADS, d_ff=EMBED)
    layer = T5Attention(c, has_relative_attention_bias=True, layer_idx=0)

    def run(_, x, __):
        bias = layer.compute_bias(LENGTH, LENGTH)
        return torch.cat([layer(x, position_bias=bias)[0].flatten(), bias.flatten()])

    return layer, run


def timm_attention():
    from timm.layers import Attention

    return Attention(EMBED, num_heads=HEADS, qkv_bias=True), plain


def diffusers_attention():
    from diffusers.models.attention_processor import Attention

    return Attention(EMBED, heads=HEADS, dim_head=4, cross_attention_dim=12), lambda layer, x, y: layer(x, encoder_hidden_states=y)


LAYERS = {
    "llama": lambda: grouped(LlamaAttention, LlamaRotaryEmbedding, transformers.LlamaConfig, rope_parameters=rope(500.0)),
    "mistral": lambda: grouped(MistralAttention, MistralRotaryEmbedding, transformers.MistralConfig, head_dim=6, rope_parameters=rope()),
    "qwen2": lambda: rotary(Qwen2Attention, Qwen2RotaryEmbedding, transformers.Qwen2Config, num_key_value_heads=2, rope_parameters=rope()),
    "llama3": lambda: grouped(LlamaAttention, LlamaRotaryEmbedding, transformers.LlamaConfig, rope_parameters=rope(
        500.0, rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=128)),
    "gpt_oss": lambda: grouped(GptOssAttention, GptOssRotaryEmbedding, transformers.GptOssConfig, rope_parameters=rope(
        150000.0, rope_type="yarn", factor=32.0, beta_fast=32.0, beta_slow=1.0, truncate=False,
        original_max_position_embeddings=4096)),
    "phi": lambda: rotary(PhiAttention, PhiRotaryEmbedding, transformers.PhiConfig,
                          rope_parameters=rope(partial_rotary_factor=0.5), partial_rotary_factor=0.5),
    "phi3": lambda: rotary(Phi3Attention, Phi3RotaryEmbedding, transformers.Phi3Config, num_key_value_heads=2,
                           rope_parameters=rope(partial_rotary_factor=1.0)),
    "gptj": gptj,
    "gpt_neo": lambda: (GPTNeoSelfAttention(config(transformers.GPTNeoConfig, num_layers=1, num_heads=HEADS,
                                                   attention_types=[[["global"], 1]]), "global", 0), plain),
    "gpt_neox": lambda: rotary(GPTNeoXAttention, GPTNeoXRotaryEmbedding, transformers.GPTNeoXConfig,
                               rope_parameters=rope(partial_rotary_factor=0.5)),
    "gpt2": lambda: (GPT2Attention(config(transformers.GPT2Config, n_embd=EMBED, n_head=HEADS, n_layer=1), layer_idx=0), plain),
    "opt": lambda: (OPTAttention(config(transformers.OPTConfig, ffn_dim=EMBED, word_embed_proj_dim=EMBED), layer_idx=0), plain),
    "clip": lambda: (CLIPAttention(config(transformers.CLIPTextConfig)), plain),
    "whisper": lambda: (WhisperAttention(EMBED, HEADS, layer_idx=0, config=config(transformers.WhisperConfig, d_model=EMBED)), plain),
    "t5": t5,
    "distilbert": lambda: (DistilBertSelfAttention(config(transformers.DistilBertConfig, dim=EMBED, n_heads=HEADS)), plain),
    "vit": lambda: (ViTAttention(config(transformers.ViTConfig)), plain),
    "timm": timm_attention,
    "diffusers": diffusers_attention,
}

if __name__ == "__main__":
    for model in MODELS:
        layer, run = LAYERS[model.name]()
        weights = {name: tensor(t) for name, t in model.tensors().items()}
        if model.name == "vit":  # the code has other names than the files that it writes
            own = dict(zip(model.parts, ("q_proj", "k_proj", "v_proj", "o_proj"), strict=True))
            weights = {f"{own[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}": t for name, t in weights.items()}
        layer.load_state_dict(weights)
        query, key = map(tensor, model.inputs())
        with torch.inference_mode():
            out = run(layer.eval(), query, key)
        assert torch.isfinite(out).all(), model.name
        numpy.save(HERE / "models" / f"{model.name}.npy", out.numpy().astype(numpy.float32).ravel())
        print(model.name, out.numel())
