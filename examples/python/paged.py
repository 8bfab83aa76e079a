# SPDX-License-Identifier: Apache-2.0
"""A paged cache: sequences take pages as they grow, and give them back when they end."""

import numpy

import attend

random = numpy.random.default_rng(0)
batch, q_heads, kv_heads, dim = 3, 8, 2, 64
cache = attend.KVCache(batch, kv_heads, dim, capacity=64, k_format="f16", page_rows=16, pages=8)

# Prompts of 20, 5 and 33 tokens, packed one after the other, in one call.
starts = [0, 20, 25, 58]
k, v = (random.standard_normal((1, kv_heads, 58, dim), dtype=numpy.float32) for _ in range(2))
cache.append(k, v, starts=starts)
q = random.standard_normal((1, q_heads, 58, dim), dtype=numpy.float32)
out = cache.attention(q, q_starts=starts, causal=True)
print("after the prompts:", *cache.lengths, "rows; pages", cache.block_table.tolist())

# A token at a time.
for step in range(3):
    k, v = (random.standard_normal((batch, kv_heads, 1, dim), dtype=numpy.float32) for _ in range(2))
    cache.append(k, v)
    q = random.standard_normal((batch, q_heads, 1, dim), dtype=numpy.float32)
    out = cache.attention(q, causal=True)
assert out.shape == (batch, q_heads, 1, dim) and list(cache.lengths) == [23, 8, 36]

# The last sequence ends: its pages are free for others.
cache.crop([23, 8, 0])
print("after three steps and an end:", *cache.lengths, "rows; pages", cache.block_table.tolist())
