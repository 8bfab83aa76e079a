# SPDX-License-Identifier: Apache-2.0
"""A standard shape in a type: its tensors, the same in every process, and how far an output is from the truth."""

import dataclasses

import numpy

ROWS = 24  # compared with sums in double, the first and the last among them


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
    causal: bool
    length_step: int
    dtype: str

    @property
    def group(self):
        return self.q_heads // self.kv_heads

    @property
    def lengths(self):
        """Keys per batch entry, or None if all have all."""
        if not self.length_step:
            return None
        return numpy.arange(self.batch, dtype=numpy.int32) * -self.length_step + self.kv_len

    def attended(self, b, i):
        """Query i of batch entry b attends the first so many keys."""
        length = self.kv_len - b * self.length_step
        return min(length, i + 1 + self.kv_len - self.q_len) if self.causal else length

    def mask(self):
        """What is attended, as booleans that broadcast to (B, Hq, Lq, Lk); None if that is everything."""
        keys = numpy.arange(self.kv_len)
        if self.length_step:
            return keys < self.lengths[:, None, None, None]
        if self.causal:
            return (keys <= numpy.arange(self.q_len)[:, None] + self.kv_len - self.q_len)[None, None]
        return None

    def small(self):
        """The same kind of case, small: run first, so that code and threads are there when memory is measured."""
        q_len = min(self.q_len, 32)
        kv_len = self.kv_len if self.kv_len < 64 else q_len if self.q_len == self.kv_len else 64
        step = 1 if self.length_step else 0
        return dataclasses.replace(self, batch=min(self.batch, 2), q_len=q_len, kv_len=kv_len, length_step=step)

    def flops(self):
        """Useful arithmetic: attended pairs x 2 (D + Dv)."""
        pairs = sum(self.attended(b, i) for b in range(self.batch) for i in range(self.q_len))
        return pairs * self.q_heads * 4 * self.head_dim


def rounded(values, dtype):
    """f32 values in a type; bf16 as the bits of its upper half, rounded to nearest even."""
    if dtype != "bf16":
        return values.astype({"f32": numpy.float32, "f16": numpy.float16}[dtype])
    bits = values.view(numpy.uint32)
    return ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(numpy.uint16)


def widened(values):
    """What rounded() gave, in f32."""
    if values.dtype == numpy.uint16:
        return (values.astype(numpy.uint32) << 16).view(numpy.float32)
    return values.astype(numpy.float32, copy=False)


def tensors(case):
    """q, k and v, contiguous in (B, H, L, D): normal numbers of variance 1, rounded to the type."""
    source = numpy.random.default_rng(list(case.name.encode()))
    shapes = [(case.batch, heads, length, case.head_dim)
              for heads, length in ((case.q_heads, case.q_len), (case.kv_heads, case.kv_len), (case.kv_heads, case.kv_len))]
    return [rounded(source.standard_normal(shape, dtype=numpy.float32), case.dtype) for shape in shapes]


def error(case, q, k, v, out):
    """max |out - truth| / max |v| over some rows, the truth in double; infinite if any element is not finite."""
    if out.shape != q.shape or not numpy.isfinite(out).all():
        return float("inf")
    source = numpy.random.default_rng(1)
    count = case.batch * case.q_heads * case.q_len
    worst = 0.0
    for row in [0, count - 1, *source.integers(0, count, ROWS - 2)]:
        b, rest = divmod(int(row), case.q_heads * case.q_len)
        h, i = divmod(rest, case.q_len)
        n = case.attended(b, i)
        keys, values = (widened(x[b, h // case.group, :n]).astype(numpy.float64) for x in (k, v))
        scores = keys @ widened(q[b, h, i]).astype(numpy.float64) / numpy.sqrt(case.head_dim)
        weights = numpy.exp(scores - scores.max())
        truth = weights @ values / weights.sum()
        worst = max(worst, float(numpy.abs(out[b, h, i] - truth).max()))
    return worst / float(numpy.abs(widened(v)).max())
