# SPDX-License-Identifier: Apache-2.0
"""The attention weights of a small sentence, drawn as a heat map: python heatmap.py [FILE.png]"""

import sys

import numpy

import attend

words = ["the", "cat", "sat", "on", "the", "mat"]
random = numpy.random.default_rng(0)
embedding = {word: random.standard_normal(16, dtype=numpy.float32) for word in words}
x = numpy.stack([embedding[word] for word in words])  # (words, dim): one head

out, weights = attend.attention(x, x, x, causal=True, weights=True)

print("word by word: what it attends most")
for word, row in zip(words, weights):
    best = int(row.argmax())
    print(f"  {word:4s} {'  '.join(f'{w:.2f}' for w in row)}   {words[best]}")
assert numpy.allclose(weights.sum(1), 1, atol=1e-5) and not numpy.triu(weights, 1).any()

if len(sys.argv) > 1:
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plot
    figure, axes = plot.subplots(figsize=(4, 4))
    axes.imshow(weights, cmap="viridis", vmin=0, vmax=1)
    axes.set_xticks(range(len(words)), words)
    axes.set_yticks(range(len(words)), words)
    axes.set_xlabel("key")
    axes.set_ylabel("query")
    figure.tight_layout()
    figure.savefig(sys.argv[1])
    print(f"drawn in {sys.argv[1]}")
