# SPDX-License-Identifier: Apache-2.0
"""A standard shape in a type: its tensors, the same in every process, and the error of an output."""

import dataclasses

import numpy

from blocks import FORMATS, NUMBERS, dequantised, quantised

ROWS = 24  # compared with sums in double, the first and the last among them
DRAWN = NUMBERS * 131071  # random numbers of a tensor, which then repeat: drawing and rounding a whole cache took longer than timing it


class Cannot(Exception):
    """Why a peer cannot do a case."""


@dataclasses.dataclass(frozen=True)
class Case:
    """The fields of attend-bench --list-shapes, and a type."""

    name: str
    batch: int
    q_heads: int
    kv_heads: int
    q_len: int
    kv_len: int
    head_dim: int
    v_head_dim: int
    causal: bool
    length_step: int
    form: str  # plain, additive-mask, serving or v-in-k
    dtype: str  # of everything; or as f32+q8_0 that of queries and outputs, and the format of keys and values
    queries: list = None  # serving: of each sequence
    keys: list = None
    page_rows: int = 0

    @property
    def q_dtype(self):
        return self.dtype.partition("+")[0]

    @property
    def kv_dtype(self):
        return self.dtype.rpartition("+")[2]

    @property
    def group(self):
        return self.q_heads // self.kv_heads

    @property
    def square(self):
        """Causal, with as many queries as keys, and said by a flag: what every package knows."""
        return self.causal and self.q_len == self.kv_len and self.form == "plain"

    @property
    def lengths(self):
        """Keys per sequence, or None if all have all."""
        if self.keys:
            return numpy.array(self.keys, numpy.int32)
        if not self.length_step:
            return None
        return numpy.arange(self.batch, dtype=numpy.int32) * -self.length_step + self.kv_len

    @property
    def q_starts(self):
        """Where the queries of each sequence begin among all, and their number; for served sequences."""
        return numpy.cumsum([0, *self.queries], dtype=numpy.int32)

    @property
    def block_table(self):
        """The pages of each sequence, in no order; -1 where it has none."""
        counts = [-(-keys // self.page_rows) for keys in self.keys]
        pages = numpy.random.default_rng(2).permutation(sum(counts)).astype(numpy.int32)
        table = numpy.full((self.batch, -(-self.kv_len // self.page_rows)), -1, numpy.int32)
        for row, count, end in zip(table, counts, numpy.cumsum(counts)):
            row[:count] = pages[end - count:end]
        return table

    def attended(self, b, i):
        """Query i of sequence b attends the first so many keys."""
        length = self.keys[b] if self.keys else self.kv_len - b * self.length_step
        return length - self.queries_of(b) + i + 1 if self.causal else length

    def queries_of(self, b):
        return self.queries[b] if self.queries else self.q_len

    def mask(self):
        """What is attended, as booleans that broadcast to (B, Hq, Lq, Lk); None if that is everything."""
        keys = numpy.arange(self.kv_len)
        if self.length_step:
            return keys < self.lengths[:, None, None, None]
        if self.causal:
            return (keys <= numpy.arange(self.q_len)[:, None] + self.kv_len - self.q_len)[None, None]
        return None

    def additive_mask(self):
        """The mask as f16 numbers, 0 and -inf, (1, 1, Lq, Lk); None where a case does not give it so."""
        return numpy.where(self.mask(), numpy.float16(0), numpy.float16("-inf")) if self.form == "additive-mask" else None

    def refuse_serving(self):
        """For packages that take whole tensors only."""
        if self.form == "serving":
            raise Cannot("takes no pages, and no sequences of their own lengths in one tensor")

    def refuse_formats(self):
        """For packages whose keys and values are of the type of queries."""
        if self.kv_dtype != self.q_dtype:
            raise Cannot(f"takes no keys and values in {self.kv_dtype}")

    def small(self):
        """The same kind of case, small: run first, so that code and threads are there when memory is measured."""
        if self.form == "serving":
            return dataclasses.replace(self, batch=2, q_len=8, kv_len=64, queries=[8, 1], keys=[40, 64])
        q_len = min(self.q_len, 32)
        kv_len = self.kv_len if self.kv_len < 64 else q_len if self.q_len == self.kv_len else 64
        step = 1 if self.length_step else 0
        return dataclasses.replace(self, batch=min(self.batch, 2), q_len=q_len, kv_len=kv_len, length_step=step)

    def flops(self):
        """Useful arithmetic: attended pairs x 2 (D + Dv)."""
        pairs = sum(self.attended(b, i) for b in range(self.batch) for i in range(self.queries_of(b)))
        return pairs * self.q_heads * 2 * (self.head_dim + self.v_head_dim)


def refuse_parts_of_blocks(dim, dtype):
    if dtype in FORMATS and dim % NUMBERS:
        raise Cannot(f"a head dim of {dim} is no multiple of {NUMBERS}, the numbers of a block of {dtype}")


def rounded(values, dtype):
    """f32 values in a type or format; bf16 as the bits of its upper half, rounded to nearest even."""
    if dtype in FORMATS:
        refuse_parts_of_blocks(values.shape[-1], dtype)
        return quantised(values, dtype)
    if dtype != "bf16":
        return values.astype({"f32": numpy.float32, "f16": numpy.float16}[dtype])
    bits = values.view(numpy.uint32)
    return ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(numpy.uint16)


def widened(values):
    """What rounded() gave, in f32."""
    if values.dtype in FORMATS.values():
        return dequantised(values)
    if values.dtype == numpy.uint16:
        return (values.astype(numpy.uint32) << 16).view(numpy.float32)
    return values.astype(numpy.float32, copy=False)


def drawn(source, shape, dtype):
    """Normal numbers of variance 1, rounded. Where they repeat, the rows of tensors that are that long begin elsewhere among them."""
    refuse_parts_of_blocks(shape[-1], dtype)
    size = int(numpy.prod(shape))
    numbers = rounded(source.standard_normal(min(size, DRAWN), dtype=numpy.float32), dtype)
    unit = NUMBERS if dtype in FORMATS else 1
    return numpy.resize(numbers, size // unit).reshape(*shape[:-1], shape[-1] // unit)


def tensors(case):
    """q, k and v: normal numbers of variance 1, rounded to the type or format. Contiguous in (B, H, L, D); of served sequences q is
    (1, Hq, queries of all, D), k and v (pages, Hkv, rows of a page, D). With v-in-k v is a view of k.
    """
    source = numpy.random.default_rng(list(case.name.encode()))
    q_rows, kv_rows = (case.batch, case.q_heads, case.q_len), (case.batch, case.kv_heads, case.kv_len)
    if case.form == "serving":
        q_rows = (1, case.q_heads, sum(case.queries))
        kv_rows = (int((case.block_table >= 0).sum()), case.kv_heads, case.page_rows)
    shapes = [(*q_rows, case.head_dim), (*kv_rows, case.head_dim), (*kv_rows, case.v_head_dim)]
    if case.form == "v-in-k":
        shapes.pop()
    dtypes = (case.q_dtype, case.kv_dtype, case.kv_dtype)
    made = [drawn(source, shape, dtype) for shape, dtype in zip(shapes, dtypes)]
    if len(made) == 3:
        return made
    return [*made, made[1][..., :case.v_head_dim // (NUMBERS if case.kv_dtype in FORMATS else 1)]]


def rows_of(case, x, b, head, count):
    """The first keys, or values, of a head of a sequence."""
    if case.form != "serving":
        return x[b, head, :count]
    return x[case.block_table[b, :-(-count // case.page_rows)], head].reshape(-1, x.shape[-1])[:count]


def truths(case, q, k, v, rows=ROWS):
    """Some rows of the output, in double: [(their place in it, the row)]."""
    source = numpy.random.default_rng(1)
    places = [(0, 0, 0), (case.batch - 1, case.q_heads - 1, case.queries_of(case.batch - 1) - 1)]
    for _ in range(rows - 2):
        b, h = (int(source.integers(most)) for most in (case.batch, case.q_heads))
        places.append((b, h, int(source.integers(case.queries_of(b)))))
    found = []
    for b, h, i in places:
        place = (0, h, case.q_starts[b] + i) if case.form == "serving" else (b, h, i)
        keys, values = (widened(rows_of(case, x, b, h // case.group, case.attended(b, i))).astype(numpy.float64) for x in (k, v))
        scores = keys @ widened(q[place]).astype(numpy.float64) / numpy.sqrt(case.head_dim)
        weights = numpy.exp(scores - scores.max())
        found.append((place, weights @ values / weights.sum()))
    return found


def largest(v):
    """max |v|, a head at a time: caches of gigabytes are not widened whole."""
    return max(float(numpy.abs(widened(rows)).max()) for rows in v.reshape(-1, *v.shape[-2:]))


def error_beside(found, most, shape, out):
    """max |out - truth| / max |v|, of what truths() and largest() gave; infinite if any element is not finite."""
    if out.shape != shape or not numpy.isfinite(out).all():
        return float("inf")
    return max(float(numpy.abs(out[place] - truth).max()) for place, truth in found) / most


def error(case, q, k, v, out):
    """max |out - truth| / max |v| over some rows, the truth in double; infinite if any element is not finite."""
    return error_beside(truths(case, q, k, v), largest(v), (*q.shape[:-1], case.v_head_dim), out)
