# SPDX-License-Identifier: Apache-2.0
"""A model of transformers switched over to attend: the same tokens, timed. Its weights are random: nothing is downloaded.

With a model of your own: AutoModelForCausalLM.from_pretrained(NAME, attn_implementation="attend").
"""

import time

import torch
import transformers

import attend.transformers

attend.transformers.register()

config = transformers.LlamaConfig(hidden_size=256, intermediate_size=512, num_hidden_layers=4, num_attention_heads=8, num_key_value_heads=2,
                                  vocab_size=1000, max_position_embeddings=2048, pad_token_id=0, bos_token_id=1, eos_token_id=None)
torch.manual_seed(0)
model = transformers.AutoModelForCausalLM.from_config(config).eval()
prompts = torch.randint(3, 1000, (2, 256))
mask = torch.ones_like(prompts)
mask[1, :100] = 0  # the second prompt is shorter, and padded on the left


def generate(**options):
    begin = time.perf_counter()
    with torch.no_grad():
        tokens = model.generate(input_ids=prompts * mask, attention_mask=mask, max_new_tokens=32, do_sample=False, **options)
    return tokens, time.perf_counter() - begin


generate()  # the first run of anything is slower
tokens, before = generate()
model.set_attn_implementation("attend")
generate()
same, after = generate()
cached, with_cache = generate(cache=attend.transformers.Cache(config=config))
assert torch.equal(tokens, same) and torch.equal(tokens, cached)
print(f"32 tokens: {before:.3f} s by PyTorch's attention, {after:.3f} s by attend's, {with_cache:.3f} s with its cache; the same tokens")
