# SPDX-License-Identifier: Apache-2.0
"""attend.attention() on NumPy, against a reference in double; plans; and what is refused."""

import gc
import math
import multiprocessing
import re
import sys
import threading
import weakref

import numpy
import pytest

import attend
from conftest import ALL

ml_dtypes = pytest.importorskip("ml_dtypes")
BF16 = ml_dtypes.bfloat16
random = numpy.random.default_rng(7)


def numbers(*shape, dtype=numpy.float32):
    return random.standard_normal(shape, dtype=numpy.float32).astype(dtype)


def reference(q, k, v, *, scale=None, softcap=None, allowed=None, bias=None, sinks=None):
    """Attention in double: (out, lse, weights); `allowed` says which keys are attended."""
    q, k, v = (x.astype(numpy.float64) for x in (q, k, v))
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat(group, 1), v.repeat(group, 1)
    s = numpy.einsum("bhid,bhjd->bhij", q, k) * (1 / math.sqrt(q.shape[3]) if scale is None else scale)
    if softcap:
        s = softcap * numpy.tanh(s / softcap)
    if bias is not None:
        s = s + bias.astype(numpy.float64)
    if allowed is not None:
        s = numpy.where(allowed, s, -numpy.inf)
    peak = numpy.maximum(s.max(-1, initial=-numpy.inf, keepdims=True), -1e300)
    if sinks is not None:
        peak = numpy.maximum(peak, sinks[None, :, None, None])
    e = numpy.exp(s - peak)
    total = e.sum(-1, keepdims=True)
    if sinks is not None:
        total = total + numpy.exp(sinks[None, :, None, None] - peak)
    weights = numpy.divide(e, total, out=numpy.zeros_like(e), where=total > 0)
    with numpy.errstate(divide="ignore"):
        lse = (numpy.log(total) + peak)[..., 0]
    return weights @ v, numpy.where(total[..., 0] > 0, lse, -numpy.inf), weights


def near(got, expected, tolerance=2e-6):
    numpy.testing.assert_allclose(numpy.asarray(got, numpy.float64), expected, rtol=tolerance, atol=tolerance * 4)


Q, K, V = numbers(2, 4, 7, 16), numbers(2, 2, 11, 16), numbers(2, 2, 11, 8)
I, J = numpy.arange(7)[:, None], numpy.arange(11)[None]
MASK = random.random((2, 1, 7, 11)) > 0.3
LENGTHS, BEGINS = numpy.array([11, 5]), numpy.array([2, 0])
RANGES = numpy.sort(random.integers(0, 12, (2, 7, 2)), -1)
SLOPES, SINKS = numpy.array([0.5, 0.25, 0.125, 0.0625]), numpy.array([0.1, -1.0, 2.0, 0.0], numpy.float32)
BIAS = numbers(4, 7, 11)
B_ = numpy.s_[:, None, None, None]
OPTIONS = {
    "plain": ({}, {}),
    "scale": (dict(scale=0.3), dict(scale=0.3)),
    "scale 0": (dict(scale=0), dict(scale=0.0)),
    "softcap": (dict(softcap=2), dict(softcap=2)),
    "causal": (dict(causal=True), dict(allowed=J <= I + 4)),
    "bottom-right": (dict(causal="bottom-right"), dict(allowed=J <= I + 4)),
    "top-left": (dict(causal="top-left"), dict(allowed=J <= I)),
    "offset": (dict(causal=-2), dict(allowed=J <= I - 2)),
    "window": (dict(window=(2, 1)), dict(allowed=(J >= I + 4 - 2) & (J <= I + 4 + 1))),
    "window, open": (dict(window=(2, None), causal=True), dict(allowed=(J >= I + 2) & (J <= I + 4))),
    "positions": (dict(causal=True, positions=[1, 3]), dict(allowed=J[None, None] <= I + numpy.array([1, 3])[B_])),
    "mask": (dict(mask=MASK), dict(allowed=MASK)),
    "mask, broadcast": (dict(mask=MASK[0, 0, 0]), dict(allowed=MASK[0, 0, 0])),
    "mask, transposed": (dict(mask=MASK[0, 0].T.copy().T), dict(allowed=MASK[0, 0])),
    "mask of bytes": (dict(mask=MASK.astype(numpy.uint8)), dict(allowed=MASK)),
    "bias": (dict(bias=BIAS), dict(bias=BIAS)),
    "bias, f16": (dict(bias=BIAS.astype(numpy.float16)), dict(bias=BIAS.astype(numpy.float16))),
    "bias, strided": (dict(bias=numpy.repeat(BIAS, 2, -1)[..., ::2]), dict(bias=BIAS)),
    "bias, per head": (dict(bias=BIAS, bias_head_scale=SLOPES), dict(bias=BIAS * SLOPES[:, None, None])),
    "alibi": (dict(alibi=SLOPES), dict(bias=-SLOPES[:, None, None] * abs(I + 4 - J))),
    "sinks": (dict(sinks=SINKS), dict(sinks=SINKS.astype(float))),
    "sinks, f16": (dict(sinks=SINKS.astype(numpy.float16)), dict(sinks=SINKS.astype(numpy.float16).astype(float))),
    "lengths": (dict(kv_lengths=LENGTHS), dict(allowed=J[None, None] < LENGTHS[B_])),
    "lengths, list": (dict(kv_lengths=[11, 5]), dict(allowed=J[None, None] < LENGTHS[B_])),
    "lengths per query": (dict(kv_lengths=RANGES[..., 1]), dict(allowed=J[None, None] < RANGES[:, None, :, 1:])),
    "begins": (dict(kv_begins=BEGINS), dict(allowed=J[None, None] >= BEGINS[B_])),
    "ranges": (dict(key_ranges=RANGES), dict(allowed=(J[None, None] >= RANGES[:, None, :, :1]) & (J[None, None] < RANGES[:, None, :, 1:]))),
    "all": (dict(causal=True, kv_begins=BEGINS, mask=MASK, bias=BIAS, softcap=3.0, sinks=SINKS, scale=0.2),
            dict(allowed=(J <= I + 4) & (J[None, None] >= BEGINS[B_]) & MASK, bias=BIAS, softcap=3.0, sinks=SINKS.astype(float), scale=0.2)),
}


def test_parameters():
    """What attention() can be told, which Plan and explain() take too."""
    expected = """q k v scale softcap causal window positions mask bias bias_head_scale alibi sinks kv_lengths kv_begins q_starts kv_starts
                  key_ranges block_table k_format v_format k_scales v_scales k_zero_points v_zero_points dropout seed offset lse weights scores
                  out batch_invariant int8_products threads kernel""".split()
    for function in (attend.attention, attend.explain, attend.Plan.run):
        signature = function.__doc__.split("(", 1)[1].split(") ->", 1)[0]
        assert [name for name in re.findall(r"(\w+): object", signature) if name != "self"] == expected
        assert " v: object, *, scale:" in signature  # all others by name only


@pytest.mark.parametrize("name", OPTIONS)
def test_options(name):
    given, meant = OPTIONS[name]
    out, lse, weights = attend.attention(Q, K, V, lse=True, weights=True, **given)
    for got, expected in zip((out, lse, weights), reference(Q, K, V, **meant)):
        assert got.shape == expected.shape and got.dtype == numpy.float32
        near(got, expected, 4e-6)
    near(attend.attention(Q, K, V, **given), reference(Q, K, V, **meant)[0], 4e-6)


@pytest.mark.parametrize("dtype", [numpy.float32, numpy.float16, BF16])
def test_dtypes(dtype):
    q, k, v = (x.astype(dtype) for x in (Q, K, V))
    out = attend.attention(q, k, v, causal=True)
    assert out.dtype == dtype
    tolerance = {2: 2e-2, 4: 4e-6}[out.itemsize]
    near(out, reference(q, k, v, allowed=J <= I + 4)[0], tolerance)
    wide = numpy.empty(Q.shape[:3] + (8,), numpy.float32)
    assert attend.attention(q, K, v, out=wide) is wide  # each array of its own type
    near(wide, reference(q, K, v)[0], tolerance)


LAYOUTS = {
    "interleaved": lambda x: numpy.ascontiguousarray(x.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3),
    "reversed rows": lambda x: x[:, :, ::-1].copy()[:, :, ::-1],
    "every other": lambda x: numpy.repeat(x, 2, 2)[:, :, ::2],
    "last dimension strided": lambda x: numpy.repeat(x, 2, 3)[..., ::2],
    "Fortran": numpy.asfortranarray,
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "read-only": lambda x: (lambda y: (y.setflags(write=False), y)[1])(x.copy()),
    "odd address": lambda x: numpy.frombuffer(b"x" + x.tobytes(), numpy.uint8)[1:].view(x.dtype).reshape(x.shape),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(name):
    q, k, v = (LAYOUTS[name](x) for x in (Q, K, V))
    near(attend.attention(q, k, v), reference(Q, K, V)[0])


def test_expanded():
    k = numpy.broadcast_to(K[:1, :1, :1], K.shape)
    near(attend.attention(Q, k, V), reference(Q, k, V)[0])


def test_nothing_is_copied():
    """k and v of 64 GB, of which there is one row: a copy would not fit."""
    k = numpy.broadcast_to(K[:1, :1, :1], (1, 1, 1 << 20, 16))
    k = numpy.broadcast_to(k, (1024, 1, 1 << 20, 16))
    out = attend.attention(Q[:1, :1, :1].repeat(1024, 0), k, k, kv_lengths=numpy.full(1024, 3))
    assert out.shape == (1024, 1, 1, 16)
    near(out, numpy.broadcast_to(K[0, 0, 0], out.shape))


def test_fewer_dimensions():
    expected = reference(Q[:1, :1], K[:1, :1], V[:1, :1])[0]
    out, lse, weights = attend.attention(Q[0, 0], K[0, 0], V[0, 0], lse=True, weights=True)
    assert (out.shape, lse.shape, weights.shape) == ((7, 8), (7,), (7, 11))
    near(out, expected[0, 0])
    near(attend.attention(Q[0], K[0], V[0]), reference(Q[:1], K[:1], V[:1])[0][0])


@pytest.mark.parametrize("q, k, v", [((0, 4, 5, 8), (0, 4, 9, 8), (0, 4, 9, 8)), ((2, 4, 0, 8), (2, 4, 9, 8), (2, 4, 9, 8)), ((2, 4, 5, 8), (2, 4, 0, 8), (2, 4, 0, 8)),
                                     ((2, 4, 5, 0), (2, 4, 9, 0), (2, 4, 9, 8)), ((2, 4, 5, 8), (2, 4, 9, 8), (2, 4, 9, 0)), ((2, 0, 5, 8), (2, 0, 9, 8), (2, 0, 9, 8))])
def test_nothing_there(q, k, v):
    q, k, v = numbers(*q), numbers(*k), numbers(*v)
    out = attend.attention(q, k, v, scale=1.0)
    assert out.shape == q.shape[:3] + v.shape[3:]
    if q.shape[1] and k.shape[2]:
        near(out, reference(q, k, v, scale=1.0)[0])
    assert not k.shape[2] == 0 or not out.any()


def packed(lengths, heads, dim):
    starts = numpy.concatenate(([0], numpy.cumsum(lengths)))
    return numbers(1, heads, starts[-1], dim), starts


def test_packed():
    q, q_starts = packed([3, 0, 7, 1], 4, 16)
    k, kv_starts = packed([3, 2, 20, 9], 2, 16)
    out, lse = attend.attention(q, k, k, q_starts=q_starts, kv_starts=kv_starts, causal=True, lse=True)
    assert out.shape == q.shape and lse.shape == q.shape[:3]
    for b in range(4):
        rows, keys = slice(*q_starts[b:b + 2]), slice(*kv_starts[b:b + 2])
        n, m = rows.stop - rows.start, keys.stop - keys.start
        near(out[:, :, rows], reference(q[:, :, rows], k[:, :, keys], k[:, :, keys], allowed=numpy.arange(m)[None] <= numpy.arange(n)[:, None] + m - n)[0])


def test_pages():
    lengths = numpy.array([13, 0, 32, 1])
    pages = numbers(20, 2, 8, 16)
    table = numpy.full((4, 4), -1)
    table[0, :2], table[2], table[3, :1] = (7, 3), (11, 2, 19, 0), (5,)
    q = numbers(4, 4, 2, 16)
    out = attend.attention(q, pages, pages, block_table=table, kv_lengths=lengths, causal=True)
    for b, n in enumerate(lengths):
        k = pages[table[b, :-(-n // 8)]].transpose(1, 0, 2, 3).reshape(1, 2, -1, 16)[:, :, :n]
        near(out[b:b + 1], reference(q[b:b + 1], k, k, allowed=numpy.arange(n)[None] <= numpy.arange(2)[:, None] + n - 2)[0])


def test_scores():
    raw = numpy.einsum("bhid,bhjd->bhij", Q, K.repeat(2, 1)) / 4
    near(attend.attention(Q, K, V, scores="raw", softcap=2.0)[1], raw, 1e-5)
    near(attend.attention(Q, K, V, scores="softcap", softcap=2.0)[1], 2 * numpy.tanh(raw / 2), 1e-5)
    near(attend.attention(Q, K, V, scores="attended", causal=True)[1], numpy.where(J <= I + 4, raw, -numpy.inf), 1e-5)


def test_dropout():
    ones = numpy.ones((1, 1, 64, 4), numpy.float32)
    q = numbers(1, 1, 512, 16)
    k = numbers(1, 1, 64, 16)
    a, b, c = (attend.attention(q, k, ones, dropout=0.3, seed=s) for s in (1, 1, 2))
    assert (a == b).all() and (a != c).any()
    assert (attend.attention(q, k, ones, dropout=0.3, seed=1, offset=1) != a).any()
    assert abs(a.mean() - 1) < 0.05
    assert not attend.attention(q, k, ones, dropout=1.0).any()


def test_threads_give_the_same_bits():
    q, k = numbers(2, 4, 100, 32), numbers(2, 4, 300, 32)
    one = attend.attention(q, k, k, threads=1)
    assert (one == attend.attention(q, k, k, threads=2)).all()


def test_kernel_by_name():
    for kernel in attend.kernels():
        if kernel["operation"] == "forward" and kernel["runnable"] and "f32" in kernel["dtypes"] and kernel["isa"] in ("scalar", "avx2"):
            assert attend.Plan(Q, K, V, kernel=kernel["name"]).kernel == kernel["name"]
            near(attend.attention(Q, K, V, kernel=kernel["name"]), reference(Q, K, V)[0], 1e-5)


WRONG = [
    (TypeError, "float64", lambda: attend.attention(Q.astype(float), K, V)),
    (TypeError, "int32", lambda: attend.attention(Q, K.astype(numpy.int32), V)),
    (TypeError, "str", lambda: attend.attention("q", K, V)),
    (TypeError, "mask has dtype float32", lambda: attend.attention(Q, K, V, mask=BIAS)),
    (TypeError, "bias has dtype bool", lambda: attend.attention(Q, K, V, bias=MASK)),
    (TypeError, "window", lambda: attend.attention(Q, K, V, window=3)),
    (TypeError, "scale is of type str", lambda: attend.attention(Q, K, V, scale="1")),
    (TypeError, "kv_lengths has dtype float64", lambda: attend.attention(Q, K, V, kv_lengths=[1.5, 2.0])),
    (TypeError, "incompatible", lambda: attend.attention(Q, K, V, masks=MASK)),
    (TypeError, "k_format", lambda: attend.attention(Q, K, V, k_format=3)),
    (ValueError, "k_format", lambda: attend.attention(Q, K, V, k_format="q9_0")),
    (ValueError, "k_format is bf16, but k has dtype float32", lambda: attend.attention(Q, K, V, k_format="bf16")),
    (TypeError, "expected bytes of the format q8_0", lambda: attend.attention(Q, K, V, k_format="q8_0")),
    (TypeError, "expected k_format", lambda: attend.attention(Q, K.astype(numpy.uint8), V)),
    (ValueError, "whole blocks of 34 bytes", lambda: attend.attention(Q, K.astype(numpy.uint8), V, k_format="q8_0")),
    (ValueError, "go with f8", lambda: attend.attention(Q, K, V, k_scales=1.0)),
    (ValueError, "expected k_scales too", lambda: attend.attention(Q, K.astype(numpy.int8), V, k_zero_points=numpy.float32(1))),
    (ValueError, "groups", lambda: attend.attention(Q, K.astype(numpy.int8), V, k_scales=numpy.ones(3, numpy.float32))),
    (ValueError, "causal", lambda: attend.attention(Q, K, V, causal="left")),
    (ValueError, "scores", lambda: attend.attention(Q, K, V, scores="all")),
    (ValueError, "does not broadcast", lambda: attend.attention(Q, K, V, mask=MASK[..., :5])),
    (ValueError, "head dim", lambda: attend.attention(Q, K[..., :8], V)),
    (ValueError, "same but for", lambda: attend.attention(Q, K, V[:, :, :5])),
    (ValueError, "batch", lambda: attend.attention(Q, K[:1], V[:1])),
    (ValueError, "dimensions", lambda: attend.attention(Q[None], K, V)),
    (ValueError, "batch, heads", lambda: attend.attention(Q[0, 0, 0], K, V)),
    (ValueError, "kv_heads", lambda: attend.attention(Q[:, :3], K, V)),
    (ValueError, "kv_lengths", lambda: attend.attention(Q, K, V, kv_lengths=[12, 1])),
    (ValueError, "kv_lengths has the shape", lambda: attend.attention(Q, K, V, kv_lengths=[1, 1, 1])),
    (ValueError, "32 bits", lambda: attend.attention(Q, K, V, kv_begins=[1 << 40, 1])),
    (ValueError, "sinks has the shape", lambda: attend.attention(Q, K, V, sinks=SINKS[:3])),
    (ValueError, "out has the shape", lambda: attend.attention(Q, K, V, out=Q)),
    (ValueError, "out overlaps q", lambda: attend.attention(Q, K, K, out=Q)),
    (ValueError, "read-only", lambda: attend.attention(Q, K, V, out=LAYOUTS["read-only"](numbers(2, 4, 7, 8)))),
    (ValueError, "threads", lambda: attend.attention(Q, K, V, threads=0)),
    (ValueError, "no kernel", lambda: attend.attention(Q, K, V, kernel="fast")),
    (ValueError, "scale", lambda: attend.attention(Q, K, V, scale=math.nan)),
    (ValueError, "dropout", lambda: attend.attention(Q, K, V, dropout=2)),
    (ValueError, "q_starts", lambda: attend.attention(Q[:1], K[:1], V[:1], q_starts=[0, 5, 3])),
    (ValueError, "block_table", lambda: attend.attention(Q, K, V, block_table=[[0], [1]])),
]


@pytest.mark.parametrize("error, text, call", WRONG, ids=[str(i) for i in range(len(WRONG))])
def test_wrong(error, text, call):
    with pytest.raises(error, match=text):
        call()


def test_environment(monkeypatch):
    attend.clear_plans()
    monkeypatch.setenv("ATTEND_ISA", "abacus")
    with pytest.raises(ValueError, match="ATTEND_ISA"):
        attend.attention(Q, K, V)
    monkeypatch.delenv("ATTEND_ISA")
    near(attend.attention(Q, K, V), reference(Q, K, V)[0])


def test_plan():
    plan = attend.Plan(Q, K, V, causal=True, lse=True, threads=2)
    assert plan.kernel in plan.explain() and plan.threads == 2 and plan.workspace_size >= 0
    assert plan.kernel in attend.explain(Q, K, V, causal=True, lse=True, threads=2)
    out, lse = plan.run(Q, K, V, causal=True, lse=True, threads=2)
    near(out, reference(Q, K, V, allowed=J <= I + 4)[0])
    with pytest.raises(ValueError, match="kv_len is 10, in the plan 11"):
        plan.run(Q, K[:, :, :10], V[:, :, :10], causal=True, lse=True, threads=2)
    with pytest.raises(ValueError, match="causal"):
        plan.run(Q, K, V, lse=True, threads=2)


def test_many_shapes_do_not_pile_up():
    """More plans than are kept, twice: those that went are made again."""
    for _ in range(2):
        for n in range(1, 400):
            attend.attention(Q[:, :, :1], K[:, :, :1 + n % 11], V[:, :, :1 + n % 11], scale=n / 100)


def test_arrays_are_let_go():
    class Array(numpy.ndarray):
        pass
    q = Q.copy().view(Array)
    gone = weakref.ref(q)
    attend.attention(q, K[..., ::-1], V, mask=MASK, kv_lengths=LENGTHS)
    count = sys.getrefcount(K)
    for _ in range(100):
        attend.attention(Q, K, V, bias=BIAS, lse=True)
        with pytest.raises(ValueError):
            attend.attention(Q, K, V, bias=BIAS, kernel="none")
    assert sys.getrefcount(K) == count
    del q
    gc.collect()
    assert gone() is None


def test_other_packages():
    class Exported:  # has DLPack and nothing else, as JAX arrays seen from outside
        def __init__(self, array):
            self.array = array

        def __dlpack__(self, **options):
            return self.array.__dlpack__()

        def __dlpack_device__(self):
            return self.array.__dlpack_device__()

    out = attend.attention(*(Exported(x.copy()) for x in (Q, K, V)))
    assert type(out) is numpy.ndarray
    near(out, reference(Q, K, V)[0])


def test_jax():
    """Arrays of JAX, under which nobody may write: read where they lie, from either side of a call."""
    jax = pytest.importorskip("jax", reason="JAX is not installed: nothing reads its arrays here")
    q, k, v = (jax.device_put(x, jax.devices("cpu")[0]) for x in (Q, K, V))
    out, lse = attend.attention(q, k, v, mask=jax.numpy.asarray(MASK), kv_lengths=jax.numpy.asarray(LENGTHS), lse=True)
    expected = attend.attention(Q, K, V, mask=MASK, kv_lengths=LENGTHS, lse=True)
    assert type(out) is numpy.ndarray and (out == expected[0]).all() and (lse == expected[1]).all()
    low = [x.astype(jax.numpy.bfloat16) for x in (q, k, v)]
    assert (attend.attention(*low) == attend.attention(*(numpy.asarray(x) for x in low))).all()
    with pytest.raises(ValueError, match="out is read-only"):
        attend.attention(q, k, v, out=q)
    assert (numpy.asarray(q) == Q).all()
    assert jax.numpy.array_equal(jax.numpy.asarray(out), out)


def test_concurrent_threads():
    expected = {n: attend.attention(Q[:, :, :n], K, V) for n in range(1, 8)}
    wrong = []

    def work(seed):
        for i in range(200):
            n = 1 + (seed * 31 + i) % 7
            if (attend.attention(Q[:, :, :n], K, V) != expected[n]).any():
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def in_worker(seed):
    q = numpy.random.default_rng(seed).standard_normal((1, 4, 64, 32), dtype=numpy.float32)
    return attend.attention(q, q, q, causal=True, threads=2)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_pools(method):
    expected = [in_worker(seed) for seed in range(8)]  # the parent's threads are there when it forks
    with multiprocessing.get_context(method).Pool(2) as pool:
        for got, wanted in zip(pool.map(in_worker, range(8), chunksize=2), expected):
            assert (got == wanted).all()


def blocks(x):
    """ggml's q8_0 of rows: bytes, and the numbers that they mean."""
    rows = x.reshape(*x.shape[:-1], -1, 32)
    scale = (abs(rows).max(-1, keepdims=True) / 127).astype(numpy.float16)
    whole = numpy.rint(rows / scale.astype(numpy.float32)).clip(-127, 127).astype(numpy.int8)
    data = numpy.concatenate((scale.view(numpy.uint8).reshape(*scale.shape[:-1], 2), whole.view(numpy.uint8)), -1)
    return data.reshape(*x.shape[:-1], -1), (whole * scale.astype(numpy.float32)).reshape(x.shape)


def test_blocks_of_ggml():
    q, k, v = numbers(2, 4, 7, 64), numbers(2, 2, 40, 64), numbers(2, 2, 40, 32)
    (kb, kx), (vb, vx) = blocks(k), blocks(v)
    assert kb.shape == (2, 2, 40, 68)
    near(attend.attention(q, kb, vb, k_format="q8_0", v_format="q8_0", causal=True), reference(q, kx, vx, allowed=numpy.arange(40) <= numpy.arange(7)[:, None] + 33)[0], 1e-5)
    near(attend.attention(q, kb, v, k_format="q8_0"), reference(q, kx, v)[0], 1e-5)
    rows = kb.transpose(0, 2, 1, 3).copy().transpose(0, 2, 1, 3)
    near(attend.attention(q, rows, v, k_format="q8_0"), reference(q, kx, v)[0], 1e-5)


@pytest.mark.parametrize("groups", [None, 1, 4, "head"])
@pytest.mark.parametrize("name, dtype, low, high", [("i8", numpy.int8, -128, 128), ("u8", numpy.uint8, 0, 256), ("u4", numpy.uint8, 0, 16), ("i4", numpy.uint8, -8, 8)])
def test_scaled_integers(name, dtype, low, high, groups):
    q, v = numbers(2, 4, 7, 64), numbers(2, 2, 40, 64)
    whole = random.integers(low, high, (2, 2, 40, 64))
    data = whole.astype(dtype)
    if name.endswith("4"):
        data = ((whole[..., ::2] & 15) | (whole[..., 1::2] & 15) << 4).astype(numpy.uint8)
    shape = {None: (), 1: (2, 2, 40, 1), 4: (2, 2, 40, 4), "head": (2, 1, 1)}[groups]
    scales = (random.random(shape) * 0.02 + 0.01).astype(numpy.float32)
    zeros = (random.random(shape) * 4).astype(numpy.float32)
    wide = scales if groups in (None, "head") else scales.repeat(64 // groups, -1)
    wide_zeros = zeros if groups in (None, "head") else zeros.repeat(64 // groups, -1)
    given = dict(k_format=name, k_scales=scales)
    implied = {"u8": 128, "u4": 8}.get(name, 0)
    near(attend.attention(q, data, v, **given), reference(q, (whole - implied) * wide, v)[0], 1e-5)
    near(attend.attention(q, data, v, **given, k_zero_points=zeros), reference(q, (whole - wide_zeros) * wide, v)[0], 1e-5)


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2"])
def test_floats_of_8_bits(name):
    k = numbers(2, 2, 40, 64).astype(getattr(ml_dtypes, name))
    q, v = numbers(2, 4, 7, 64), numbers(2, 2, 40, 64)
    scale = numpy.float32(0.5)
    near(attend.attention(q, k, v, k_scales=scale), reference(q, k.astype(numpy.float32) * scale, v)[0], 1e-5)
    near(attend.attention(q, k, v), reference(q, k.astype(numpy.float32), v)[0], 1e-5)


# ------------------------------------------------------------------------------------------------------------ the machine

def test_info():
    info = attend.info()
    assert info["version"] == attend.__version__ and info["cpu"] and info["threads"] >= 1 and info["highest_isa"]
    kernels = attend.kernels()
    assert {"forward", "softmax", "append", "merge"} <= {k["operation"] for k in kernels}
    assert any(k["runnable"] for k in kernels)
    assert all("q8_0" in k["dtypes"] for k in kernels if k["operation"] == "forward")
    assert any("weights" in k["can"] for k in kernels)


def test_tune(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="seconds"):
        attend.tune(0)
    with pytest.raises(RuntimeError, match="too few shapes"):
        attend.tune(1, threads=1, profile=tmp_path / "profile")
    assert not list(tmp_path.iterdir())
    if not ALL:
        return
    path, report = attend.tune(40, threads=1, profile=tmp_path / "folder" / "profile")
    assert "kernels" in report
    monkeypatch.setenv("ATTEND_PROFILE", path)
    monkeypatch.setenv("ATTEND_NUM_THREADS", "1")
    info = attend.info()
    assert info["profile"] == path or info["no_profile_because"], info
    monkeypatch.setenv("ATTEND_KERNEL", attend.Plan(Q, K, V).kernel)
    with pytest.raises(ValueError, match="ATTEND_KERNEL"):
        attend.tune(1)
