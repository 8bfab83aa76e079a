# SPDX-License-Identifier: Apache-2.0
"""A batch of sequences of several lengths: padded on the right, padded on the left, and packed without padding."""

import numpy

import attend

random = numpy.random.default_rng(0)
lengths = numpy.array([5, 2, 9])
batch, heads, most, dim = len(lengths), 4, lengths.max(), 32
x = random.standard_normal((batch, heads, most, dim), dtype=numpy.float32)

# Padded on the right: kv_lengths says how many keys each sequence has.
right = attend.attention(x, x, x, kv_lengths=lengths)

# Padded on the left: kv_begins says which key is the first.
left = numpy.zeros_like(x)
for b, n in enumerate(lengths):
    left[b, :, most - n:] = x[b, :, :n]
left = attend.attention(left, left, left, kv_begins=most - lengths)

# Packed: rows of all sequences one after the other, and where each begins.
starts = numpy.concatenate(([0], lengths.cumsum()))
packed = numpy.concatenate([x[b, :, :n] for b, n in enumerate(lengths)], axis=1)[None]
packed = attend.attention(packed, packed, packed, q_starts=starts, kv_starts=starts)

for b, n in enumerate(lengths):
    alone = attend.attention(x[b, :, :n], x[b, :, :n], x[b, :, :n])
    for name, got in (("right", right[b, :, :n]), ("left", left[b, :, most - n:]), ("packed", packed[0, :, starts[b]:starts[b + 1]])):
        assert numpy.allclose(got, alone, atol=1e-5), name
    print(f"sequence {b}, {n} rows: padded right, padded left and packed give the same")
