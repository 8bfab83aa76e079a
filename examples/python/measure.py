# SPDX-License-Identifier: Apache-2.0
"""Measures attend beside PyTorch's own attention: python measure.py [calls|attention]... [--rounds N] [--threads N]

Candidates take turns; what is printed is the median over the rounds of PyTorch's time divided by attend's of the same round.
Whole models: ./scripts/peers --models.
"""

import argparse
import statistics
import time

import numpy
import torch
import torch.nn.functional as F

import attend
import attend.torch


def ratios(title, candidates, rounds, repeat=1):
    """Runs candidates in turn; the first is attend. Prints the time of that and the ratios of the others."""
    times = {name: [] for name in candidates}
    for call in candidates.values():
        call()
    for r in range(rounds):
        names = list(candidates)
        for name in names[r % len(names):] + names[:r % len(names)]:
            begin = time.perf_counter()
            for _ in range(repeat):
                candidates[name]()
            times[name].append((time.perf_counter() - begin) / repeat)
    first = next(iter(candidates))
    others = ", ".join(f"{name} / {first} {statistics.median(b / a for a, b in zip(times[first], times[name])):.2f}" for name in list(candidates)[1:])
    print(f"{title:34s} {first} {statistics.median(times[first]) * 1e3:9.4f} ms  {others}", flush=True)


def calls(rounds):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    q, k = numpy.random.rand(1, 12, 1, 64).astype("f4"), numpy.random.rand(1, 12, 16, 64).astype("f4")
    tq, tk = torch.from_numpy(q), torch.from_numpy(k)
    ratios("call, Lq 1, Lk 16, 12 heads", {"sdpa of attend.torch": lambda: attend.torch.sdpa(tq, tk, tk), "attention() on NumPy": lambda: attend.attention(q, k, k, threads=1),
                                           "torch.ops.attend.sdpa": lambda: torch.ops.attend.sdpa(tq, tk, tk), "F.sdpa": lambda: F.scaled_dot_product_attention(tq, tk, tk)}, rounds, 1000)
    torch.set_num_threads(threads)


def attention(rounds):
    def tensors(dtype, batch, rows, keys):
        return (torch.randn(batch, 12, rows, 64).to(dtype), *(torch.randn(batch, 12, keys, 64).to(dtype) for _ in range(2)))
    for dtype in (torch.float32, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        q, k, v = tensors(dtype, 1, 1024, 1024)
        ratios(f"prefill 1024, {name}", {"attend": lambda: attend.torch.sdpa(q, k, v, is_causal=True), "sdpa": lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True)}, rounds)
        q1, k1, v1 = tensors(dtype, 1, 1, 2048)
        ratios(f"decode 2048, {name}", {"attend": lambda: attend.torch.sdpa(q1, k1, v1), "sdpa": lambda: F.scaled_dot_product_attention(q1, k1, v1)}, rounds, 20)
    begins = torch.tensor([0, 100, 300, 500], dtype=torch.int32)
    for title, rows, keys in (("left-padded prefill 512, float32", 512, 512), ("left-padded decode 2048, float32", 1, 2048)):
        q, k, v = tensors(torch.float32, 4, rows, keys)
        mask = (torch.arange(keys)[None, :] >= begins[:, None])[:, None, None, :] & torch.ones(rows, keys, dtype=torch.bool).tril(keys - rows)
        ratios(title, {"attend": lambda: attend.attention(q, k, v, causal=True, kv_begins=begins), "sdpa": lambda: F.scaled_dot_product_attention(q, k, v, attn_mask=mask)}, rounds, 20 if rows == 1 else 1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", metavar="calls|attention", help="default: both")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, help="default: PyTorch's")
    arguments = parser.parse_args()
    kinds = {"calls": calls, "attention": attention}
    for what in arguments.what:
        if what not in kinds:
            parser.error(f"{what}: expected calls or attention")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    print(f"{attend.info()['cpu']}, {torch.get_num_threads()} threads, attend {attend.__version__}, PyTorch {torch.__version__}")
    with torch.no_grad():
        for what in arguments.what or kinds:
            kinds[what](arguments.rounds)
