# SPDX-License-Identifier: Apache-2.0
"""attend.KVCache: keys and values of sequences that grow, and attention on them."""

import numpy

from . import _attend

_BLOCKS = _attend._block_bytes  # that 32 numbers take, by format
_FORMATS = ("f32", "f16", "bf16", *_BLOCKS)


class KVCache:
    """Keys and values of a batch of sequences, each with a length of its own, to which new ones are appended in place.

    batch       number of sequences
    heads       key/value heads
    head_dim    of keys; v_head_dim of values, the same by default
    capacity    rows of each sequence. Without pages it grows by itself, to twice as many; with pages it does not
    k_format    "f32", "f16", "bf16", or one of the blocks of docs/formats.md, for dims that are multiples of 32: "q8_0",
                "q4_0" and so on; v_format is the same by default
    page_rows   rows of a page: sequences then take pages as they grow, and give them back. `pages` is how many there are
                in all; default: as many as all sequences need to reach `capacity`
    package     "numpy" or "torch": whose arrays hold it. bf16 in NumPy needs the package ml_dtypes

    The arrays are `keys` and `values`: (batch, heads, capacity, dim), or (pages, heads, page_rows, dim), of uint8 and with
    the bytes of a row as the last dimension where the format is of blocks; `lengths` says how many rows each sequence has, and `block_table` which pages. Not for several threads at once.
    """

    def __init__(self, batch, heads, head_dim, *, v_head_dim=None, capacity=256, k_format="f32", v_format=None,
                 page_rows=None, pages=None, package="numpy"):
        v_format = k_format if v_format is None else v_format
        for name, value, low in (("batch", batch, 0), ("heads", heads, 1), ("head_dim", head_dim, 1), ("capacity", capacity, 1)):
            if not isinstance(value, int) or value < low:
                raise ValueError(f"{name} is {value!r}, expected a whole number of at least {low}")
        for name, value in (("k_format", k_format), ("v_format", v_format)):
            if value not in _FORMATS:
                raise ValueError(f"{name} is {value!r}, expected {', '.join(_FORMATS)}")
        for name, value, dim in (("k_format", k_format, head_dim), ("v_format", v_format, head_dim if v_head_dim is None else v_head_dim)):
            if value in _BLOCKS and dim % 32:
                raise ValueError(f"{name} is {value}, which needs a dim that is a multiple of 32, not {dim}")
        if page_rows is None and pages is not None:
            raise ValueError("pages: expected page_rows too")
        if page_rows is not None and page_rows < 1:
            raise ValueError(f"page_rows is {page_rows}, expected at least 1")
        if package not in ("numpy", "torch"):
            raise ValueError(f'package is {package!r}, expected "numpy" or "torch"')
        self.batch, self.heads, self.capacity, self.page_rows = batch, heads, capacity, page_rows
        self.head_dim, self.v_head_dim = head_dim, head_dim if v_head_dim is None else v_head_dim
        self.k_format, self.v_format, self._package = k_format, v_format, package
        self.lengths = numpy.zeros(batch, numpy.int32)
        self.block_table = None
        if page_rows is None:
            shape = (batch, heads, capacity)
        else:
            each = -(-capacity // page_rows)
            pages = batch * each if pages is None else pages
            shape = (pages, heads, page_rows)
            self.block_table = numpy.full((batch, each), -1, numpy.int32)
            self._free = list(range(pages - 1, -1, -1))
        self.keys, self.values = self._arrays(shape)

    def _arrays(self, shape):
        return (self._array(shape, self.head_dim, self.k_format), self._array(shape, self.v_head_dim, self.v_format))

    def _array(self, shape, dim, name):
        shape = (*shape, dim // 32 * _BLOCKS[name] if name in _BLOCKS else dim)
        if self._package == "torch":
            import torch
            return torch.zeros(shape, dtype={"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}.get(name, torch.uint8))
        if name == "bf16":
            import ml_dtypes
            return numpy.zeros(shape, ml_dtypes.bfloat16)
        return numpy.zeros(shape, {"f32": numpy.float32, "f16": numpy.float16}.get(name, numpy.uint8))

    def reserve(self, rows):
        """Makes room for so many rows of each sequence. Only without pages: MemoryError beyond the capacity with them."""
        if rows <= self.capacity:
            return
        if self.page_rows is not None:
            raise MemoryError(f"a sequence of {rows} rows is beyond the capacity of {self.capacity}")
        capacity = max(rows, 2 * self.capacity)
        used = int(self.lengths.max(initial=0))
        grown = self._arrays((self.batch, self.heads, capacity))
        for old, new in zip((self.keys, self.values), grown):
            new[:, :, :used] = old[:, :, :used]
        self.keys, self.values = grown
        self.capacity = capacity

    def _take_pages(self, lengths):
        """Pages for sequences that have come to these lengths. All of them or, with MemoryError, none."""
        wanted = -(-lengths.astype(numpy.int64) // self.page_rows)
        held = (self.block_table >= 0).sum(1)
        missing = int(numpy.maximum(wanted - held, 0).sum())
        if missing > len(self._free):
            raise MemoryError(f"{missing} pages more are needed, of {self.keys.shape[0]} pages {len(self._free)} are free")
        for b in numpy.nonzero(wanted > held)[0]:
            for n in range(held[b], wanted[b]):
                self.block_table[b, n] = self._free.pop()

    def append(self, k, v, *, starts=None, threads=0):
        """Appends rows to all sequences: (batch, heads, rows, dim), or packed by starts, (1, heads, rows of all, dim).

        starts  (batch + 1) sequence b gets rows starts[b] to starts[b + 1], which may be none

        Numbers are rounded to the cache's format. After an error its sequences are as they were.
        """
        if k.shape[:3] != v.shape[:3] or len(k.shape) != 4:
            raise ValueError(f"k has the shape {tuple(k.shape)} and v {tuple(v.shape)}, expected (batch, heads, rows, dim) of both")
        if (k.shape[1], k.shape[3], v.shape[3]) != (self.heads, self.head_dim, self.v_head_dim):
            raise ValueError(f"k has the shape {tuple(k.shape)} and v {tuple(v.shape)}, expected {self.heads} heads of {self.head_dim} and {self.v_head_dim}")
        if starts is None:
            new = k.shape[2]
            if k.shape[0] != self.batch:
                raise ValueError(f"k has a batch of {k.shape[0]}, expected {self.batch}")
            lengths = self.lengths + numpy.int32(new)
        else:
            starts = numpy.ascontiguousarray(starts, numpy.int32)
            if starts.shape != (self.batch + 1,):
                raise ValueError(f"starts has the shape {starts.shape}, expected ({self.batch + 1},)")
            steps = numpy.diff(starts)
            if starts[0] != 0 or (steps < 0).any() or starts[-1] > k.shape[2]:
                raise ValueError(f"starts: expected 0 first, none less than the one before, and at most {k.shape[2]} at the end")
            lengths = self.lengths + steps
        self.reserve(int(lengths.max(initial=0)))
        if self.page_rows is not None:
            self._take_pages(lengths)
        try:
            for cache, x, name in ((self.keys, k, self.k_format), (self.values, v, self.v_format)):
                _attend.append(cache, x, self.lengths, starts=starts, block_table=self.block_table,
                               format=name if name in _BLOCKS else None, threads=threads)
        except BaseException:
            self.crop(self.lengths)  # gives back the pages that were taken
            raise
        self.lengths = lengths

    def attention(self, q, **options):
        """attention() of q, (batch, q heads, rows, dim), or packed by q_starts, over the keys and values of each sequence.

        options are those of attention() but k, v, kv_lengths, kv_starts and block_table. causal=True: the last query
        stands at the last key of its sequence.
        """
        for name in ("kv_lengths", "kv_starts", "block_table", "k_format", "v_format"):
            if name in options:
                raise TypeError(f"{name}: the cache knows that itself")
        for name, value in (("k_format", self.k_format), ("v_format", self.v_format)):
            if value in _BLOCKS:
                options[name] = value
        if self.page_rows is not None:
            options["block_table"] = self.block_table
        return _attend.attention(q, self.keys, self.values, kv_lengths=self.lengths, **options)

    def crop(self, lengths):
        """Forgets rows beyond these lengths: a number for all sequences, or one for each."""
        lengths = numpy.minimum(self.lengths, numpy.asarray(lengths, numpy.int32)).astype(numpy.int32)
        if (lengths < 0).any():
            raise ValueError("lengths: expected none below 0")
        self.lengths = lengths
        if self.page_rows is not None:
            for b in range(self.batch):
                for n in range(-(-int(lengths[b]) // self.page_rows), self.block_table.shape[1]):
                    if self.block_table[b, n] >= 0:
                        self._free.append(int(self.block_table[b, n]))
                        self.block_table[b, n] = -1

    def clear(self):
        """Forgets all rows."""
        self.crop(0)

    def reorder(self, sequences):
        """Sequence b becomes what sequence sequences[b] was, for beam search. With pages, rows are copied too."""
        index = numpy.asarray(sequences, numpy.int64)
        if index.ndim != 1 or (index < 0).any() or (index >= self.batch).any():
            raise ValueError(f"sequences: expected numbers from 0 to {self.batch - 1}")
        if self.page_rows is not None:
            if len(index) != self.batch:
                raise ValueError(f"sequences has {len(index)} entries, expected {self.batch}: with pages their number stays")
            old, held, lengths = self.block_table.copy(), self.lengths.copy(), self.lengths[index]
            wanted = int((-(-lengths.astype(numpy.int64) // self.page_rows)).sum())
            if wanted > self.keys.shape[0]:
                raise MemoryError(f"{wanted} pages are needed, there are {self.keys.shape[0]}")
            pages = [(self.keys[old[b, :-(-int(held[b]) // self.page_rows)]], self.values[old[b, :-(-int(held[b]) // self.page_rows)]]) for b in index]
            self.crop(0)
            self._take_pages(lengths)
            for b, (k, v) in enumerate(pages):
                at = self.block_table[b, :k.shape[0]]
                self.keys[at], self.values[at] = k, v
            self.lengths = lengths
            return
        used = int(self.lengths.max(initial=0))
        if len(index) == self.batch:
            self.keys[:, :, :used], self.values[:, :, :used] = self.keys[index, :, :used], self.values[index, :, :used]
        else:
            self.keys, self.values, self.batch = self.keys[index], self.values[index], len(index)
        self.lengths = self.lengths[index]
