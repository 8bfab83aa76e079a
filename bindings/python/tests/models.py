# SPDX-License-Identifier: Apache-2.0
"""Tiny models of random weights, of every architecture that attend is checked on: name, class, config, kind."""

from transformers import *

COMMON = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4, vocab_size=200)
DECODER = dict(COMMON, num_key_value_heads=2, max_position_embeddings=512, pad_token_id=0, bos_token_id=1, eos_token_id=None)
GPT = dict(vocab_size=200, n_embd=64, n_layer=3, n_head=4, bos_token_id=1, eos_token_id=None, pad_token_id=0)
VISION = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4, image_size=64, patch_size=8)
T5 = dict(vocab_size=200, d_model=64, d_kv=16, d_ff=128, num_layers=3, num_heads=4, pad_token_id=0, decoder_start_token_id=0, eos_token_id=None)
BART = dict(vocab_size=200, d_model=64, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4,
            encoder_ffn_dim=128, decoder_ffn_dim=128, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1)


def models():
    """encoders, decoders, seq2seq, audio, image and clip say what a model takes."""
    return {
        "bert": (BertModel, BertConfig(**COMMON), "encoder"),
        "roberta": (RobertaModel, RobertaConfig(**COMMON, max_position_embeddings=514), "encoder"),
        "albert": (AlbertModel, AlbertConfig(**COMMON, embedding_size=32), "encoder"),
        "distilbert": (DistilBertModel, DistilBertConfig(vocab_size=200, dim=64, hidden_dim=128, n_layers=3, n_heads=4), "encoder"),
        "electra": (ElectraModel, ElectraConfig(**COMMON, embedding_size=32), "encoder"),
        "modernbert": (ModernBertModel, ModernBertConfig(**COMMON, local_attention=16, pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2), "encoder"),
        "gpt2": (GPT2LMHeadModel, GPT2Config(**GPT), "decoder"),
        "gptj": (GPTJForCausalLM, GPTJConfig(**GPT, rotary_dim=8), "decoder"),
        "gptneox": (GPTNeoXForCausalLM, GPTNeoXConfig(**COMMON, bos_token_id=1, eos_token_id=None, pad_token_id=0), "decoder"),
        "opt": (OPTForCausalLM, OPTConfig(vocab_size=200, hidden_size=64, ffn_dim=128, num_hidden_layers=3, num_attention_heads=4, word_embed_proj_dim=64, pad_token_id=0, bos_token_id=1, eos_token_id=None), "decoder"),
        "llama": (LlamaForCausalLM, LlamaConfig(**DECODER), "decoder"),
        "mistral": (MistralForCausalLM, MistralConfig(**DECODER, sliding_window=16), "decoder"),
        "mixtral": (MixtralForCausalLM, MixtralConfig(**DECODER, num_local_experts=4, num_experts_per_tok=2), "decoder"),
        "gemma2": (Gemma2ForCausalLM, Gemma2Config(**DECODER, head_dim=16, sliding_window=16, attn_logit_softcapping=2.0, query_pre_attn_scalar=16), "decoder"),
        "gemma3": (Gemma3ForCausalLM, Gemma3TextConfig(**DECODER, head_dim=16, sliding_window=16, query_pre_attn_scalar=16), "decoder"),
        "gptoss": (GptOssForCausalLM, GptOssConfig(**DECODER, head_dim=16, sliding_window=16, num_local_experts=4, num_experts_per_tok=2), "decoder"),
        "qwen2": (Qwen2ForCausalLM, Qwen2Config(**DECODER), "decoder"),
        "qwen3": (Qwen3ForCausalLM, Qwen3Config(**DECODER, head_dim=16), "decoder"),
        "phi": (PhiForCausalLM, PhiConfig(**DECODER), "decoder"),
        "phi3": (Phi3ForCausalLM, Phi3Config(**DECODER, sliding_window=16), "decoder"),
        "olmo2": (Olmo2ForCausalLM, Olmo2Config(**DECODER), "decoder"),
        "llama4": (Llama4ForCausalLM, Llama4TextConfig(**DECODER, head_dim=16, intermediate_size_mlp=128, num_local_experts=4, num_experts_per_tok=1, attention_chunk_size=16), "decoder"),
        "deepseekv3": (DeepseekV3ForCausalLM, DeepseekV3Config(**{**DECODER, "num_key_value_heads": 4}, q_lora_rank=32, kv_lora_rank=16, qk_rope_head_dim=8, qk_nope_head_dim=16, v_head_dim=12, n_routed_experts=8, n_group=2, topk_group=1, num_experts_per_tok=2, moe_intermediate_size=64, first_k_dense_replace=1), "decoder"),
        "t5": (T5ForConditionalGeneration, T5Config(**T5), "seq2seq"),
        "umt5": (UMT5ForConditionalGeneration, UMT5Config(**T5), "seq2seq"),
        "bart": (BartForConditionalGeneration, BartConfig(**BART, forced_eos_token_id=None), "seq2seq"),
        "whisper": (WhisperForConditionalGeneration, WhisperConfig(**BART, num_mel_bins=20, max_source_positions=50, suppress_tokens=None, begin_suppress_tokens=None), "audio"),
        "vit": (ViTModel, ViTConfig(**VISION), "image"),
        "dinov2": (Dinov2Model, Dinov2Config(hidden_size=64, num_hidden_layers=3, num_attention_heads=4, image_size=64, patch_size=8), "image"),
        "siglip": (SiglipVisionModel, SiglipVisionConfig(**VISION), "image"),
        "clip": (CLIPModel, CLIPConfig(text_config=dict(COMMON, max_position_embeddings=77, bos_token_id=1, eos_token_id=2, pad_token_id=0), vision_config=VISION, projection_dim=32), "clip"),
        "swin": (SwinModel, SwinConfig(image_size=64, patch_size=4, embed_dim=32, depths=[2, 2], num_heads=[2, 4], window_size=4), "image"),
    }


def refused():
    return {
        "bloom": (BloomForCausalLM, BloomConfig(vocab_size=200, hidden_size=64, n_layer=3, n_head=4)),
        "mpt": (MptForCausalLM, MptConfig(vocab_size=200, d_model=64, n_layers=3, n_heads=4)),
        "falcon": (FalconForCausalLM, FalconConfig(vocab_size=200, hidden_size=64, num_hidden_layers=3, num_attention_heads=4)),
        "debertav2": (DebertaV2Model, DebertaV2Config(**COMMON)),
        "xlnet": (XLNetModel, XLNetConfig(vocab_size=200, d_model=64, n_layer=3, n_head=4, d_inner=128)),
    }
