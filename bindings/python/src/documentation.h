// SPDX-License-Identifier: Apache-2.0
// What help() says. Shapes are B batch, Hq query heads, Hkv key/value heads, Lq queries, Lk keys, D and Dv head dims.
#pragma once

constexpr const char *ATTENTION_DOC = R"(out = softmax(scale * q k^T + bias, masked) v, on the processor.

Arrays are NumPy's, PyTorch's, or of any package with DLPack. They are read where they lie, whatever the strides of
batch, heads and rows; where the last dimension is not contiguous, a copy is made. (B, L, H, D) is a view away:
x.transpose(0, 2, 1, 3) in NumPy, x.transpose(1, 2) in PyTorch. float32, float16 and bfloat16, each array of its own.

q, k, v        (B, Hq, Lq, D), (B, Hkv, Lk, D), (B, Hkv, Lk, Dv); Hq is a multiple of Hkv. Fewer dimensions are those
               on the right: (L, D) is one head.
scale          of q k^T; default 1 / sqrt(D)
softcap        c: scores become c tanh(score / c)
causal         True or "bottom-right": the last query stands at the last key of its sequence; "top-left": the first
               query at the first key; a whole number: at that key
window         (left, right): keys from left before a query's position to right after it; None is open
positions      (B) positions of the first queries, in place of what causal says
mask           bool, broadcasts to (B, Hq, Lq, Lk): True where a key is attended
bias           float, broadcasts to (B, Hq, Lq, Lk): added to scores; -inf where a key is not attended
bias_head_scale (Hq) a factor of the bias for each head
alibi          (Hq) slopes (Press et al. 2021, https://arxiv.org/abs/2108.12409)
sinks          (Hq) each adds exp(sink) to the denominators of its head
kv_lengths     (B) keys of each sequence, or (B, Lq) of each query
kv_begins      (B) the first key that is attended: batches padded on the left
q_starts       (B + 1) q is (1, Hq, rows of all, D), and sequence b has rows q_starts[b] to q_starts[b + 1]
kv_starts      (B + 1) likewise of k and v
key_ranges     (B, Lq, 2) begin and end of the keys that a query attends
block_table    (B, n) k and v are (pages, Hkv, rows of a page, D): the pages of each sequence; needs kv_lengths
k_format, v_format  what k and v hold, where their dtype does not say it: arrays of bytes (uint8) in rows of whole
               blocks, such as "q8_0", "q4_0", "iq4_nl" and the others of docs/formats.md; or with scales "f8_e4m3",
               "f8_e5m2", "i8", "u8", "i4" and "u4", the last two with two elements a byte
k_scales, v_scales  float32 or float16, broadcast to (B, Hkv, Lk, groups): a scale for each group of a row's elements
k_zero_points, v_zero_points  of i8, u8, i4 and u4: elements are scale * (x - zero point); lie as the scales do
dropout, seed, offset  probability with which weights are dropped, and what says which ones
lse            True: also return the logarithm of the denominators, float32 (B, Hq, Lq)
weights        True: also return the attention weights, float32 (B, Hq, Lq, Lk)
scores         "raw", "softcap" or "attended": also return scores, float32 (B, Hq, Lq, Lk): before softcap, after it,
               or as the softmax takes them
out            an array to write the output to, NumPy's or PyTorch's; its dtype may be another
batch_invariant  True: a sequence has the same bits whatever is computed beside it
int8_products  True: with keys in q8_0 or i8 queries may be rounded to int8, where that is faster
threads        the most threads; default: torch.get_num_threads() for tensors of PyTorch, else ATTEND_NUM_THREADS,
               OMP_NUM_THREADS or the number of cores
kernel         name of a kernel, as kernels() lists them

Returns out, (B, Hq, Lq, Dv) of q's dtype: a tensor of PyTorch where q is one, else an array of NumPy. With lse, weights
or scores a tuple, in this order. A query that attends no key gives zeros, and an LSE of -inf.

Raises TypeError for what is of a wrong type, ValueError for what is of a wrong shape or value, or cannot be computed,
MemoryError where there is no memory. Computes no gradients: attend.torch.sdpa does.)";

constexpr const char *EXPLAIN_DOC =
    R"(Says on one line which kernel attention() would run with these arguments and why, and how the work is cut up.)";

constexpr const char *PLAN_DOC =
    R"(The plan of a call: what attention() makes, or finds among those it has kept, in each call.

Plan(q, k, v, ...) takes the arguments of attention() and computes nothing. run() takes arguments of the same shapes,
strides, dtypes and options, with other numbers in them, and returns what attention() returns.)";

constexpr const char *RUN_DOC =
    R"(Runs the plan: see attention(). ValueError if the arguments are not those that the plan was made for.)";

constexpr const char *APPEND_DOC =
    R"(Writes new keys, or new values, into a cache: row i of sequence b becomes row positions[b] + i.

cache        (B, H, capacity, D), or with block_table (pages, H, rows of a page, D); written in place
x            (B, H, rows, D), or with starts (1, H, rows of all, D); rounded to the cache's dtype
positions    (B) where each sequence's first new row goes
starts       (B + 1) sequence b has rows starts[b] to starts[b + 1] of x
block_table  (B, n) the pages of each sequence
format       "q8_0" and the other blocks of ggml: the cache's rows are then bytes, 34 for 32 numbers in q8_0. Default: the
             cache's dtype

ValueError, and nothing written, for rows beyond the cache's end and for table entries that name no page.)";

constexpr const char *MERGE_DOC =
    R"(Merges results of attention, each over keys of its own, into the result over all of them.

outs  a list of outputs (B, H, L, D)
lses  a list of their LSE, float32 (B, H, L), as attention(..., lse=True) returns them
out   an array to write to

Returns (out, lse). The parts are added up in their order. Give sinks to one part only, else each counts.)";
