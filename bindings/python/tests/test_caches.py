# SPDX-License-Identifier: Apache-2.0
"""attend.append(), attend.merge() and attend.KVCache, on the arrays and the reference of test_attention.py."""

import numpy
import pytest

import attend
from test_attention import BF16, I, J, K, LAYOUTS, Q, V, near, reference


def test_merge():
    parts = [attend.attention(Q, K[:, :, a:b], V[:, :, a:b], lse=True) for a, b in ((0, 3), (3, 4), (4, 11))]
    out, lse = attend.merge([p[0] for p in parts], [p[1] for p in parts])
    near(out, reference(Q, K, V)[0])
    near(lse, reference(Q, K, V)[1])
    mixed = [parts[0][0], LAYOUTS["interleaved"](parts[1][0]), parts[2][0]]
    near(attend.merge(mixed, [p[1] for p in parts])[0], reference(Q, K, V)[0])
    flat = attend.merge([p[0][0, 0] for p in parts], [p[1][0, 0] for p in parts])
    assert flat[0].shape == (7, 8) and flat[1].shape == (7,)
    with pytest.raises(ValueError, match="as many"):
        attend.merge([out], [])
    with pytest.raises(ValueError, match="one shape"):
        attend.merge([out, out[:1]], [lse, lse[:1]])
    with pytest.raises(TypeError, match="float32"):
        attend.merge([out], [lse.astype(float)])


class Fresh:
    """A sequence that makes its entries when it is asked for them, and keeps none."""

    def __init__(self, *arrays):
        self.arrays = arrays

    def __len__(self):
        return len(self.arrays)

    def __getitem__(self, n):
        return self.arrays[n].copy()


def test_merge_of_arrays_that_nobody_keeps():
    parts = [attend.attention(Q, K[:, :, a:b], V[:, :, a:b], lse=True) for a, b in ((0, 5), (5, 11))]
    wanted = attend.merge([p[0] for p in parts], [p[1] for p in parts])
    for _ in range(20):
        got = attend.merge(Fresh(*(p[0] for p in parts)), Fresh(*(p[1] for p in parts)))
        assert (got[0] == wanted[0]).all() and (got[1] == wanted[1]).all()


def test_one_row_for_all():
    """Strides of 0 along dimensions of more than one element: an input of append and merge may have them, no output."""
    row = numpy.arange(16, dtype=numpy.float32)
    cache = numpy.zeros((2, 2, 20, 16), numpy.float32)
    attend.append(cache, numpy.broadcast_to(row, (2, 2, 3, 16)), [0, 4])
    assert (cache[0, :, :3] == row).all() and (cache[1, :, 4:7] == row).all() and cache.sum() == 12 * row.sum()
    lse = numpy.zeros((1, 8, 5), numpy.float32)
    out, _ = attend.merge([numpy.broadcast_to(row, (1, 8, 5, 16))] * 2, [lse, lse])
    assert (out == row).all()
    one = numpy.lib.stride_tricks.as_strided(row, (2, 2, 20, 16), (0, 0, 0, 4), writeable=True)
    with pytest.raises(ValueError, match="repeats one row"):
        attend.append(one, K, [0, 0])
    with pytest.raises(ValueError, match="repeats one row"):
        attend.merge([K], [K[..., 0].copy()], out=one[:, :, :11])


def test_append():
    cache = numpy.zeros((2, 2, 20, 16), numpy.float32)
    attend.append(cache, K[:, :, :3], [0, 17])
    assert (cache[0, :, :3] == K[0, :, :3]).all() and (cache[1, :, 17:] == K[1, :, :3]).all()
    before = cache.copy()
    with pytest.raises(ValueError, match="positions"):
        attend.append(cache, K[:, :, :3], [0, 18])
    with pytest.raises(ValueError, match="32 bits"):
        attend.append(cache, K[:, :, :3], numpy.array([2**32 + 3, 0]))
    with pytest.raises(TypeError, match="whole numbers"):
        attend.append(cache, K[:, :, :3], numpy.array([0.9, 3.2]))
    assert (cache == before).all()
    half = numpy.zeros((2, 2, 20, 16), BF16)
    attend.append(half, K, [0, 1])
    assert (half[0, :, :11] == K[0].astype(BF16)).all()


@pytest.mark.parametrize("pages", [None, 4])
@pytest.mark.parametrize("name, dtype", [("f32", numpy.float32), ("f16", numpy.float16), ("bf16", BF16)])
def test_cache(pages, name, dtype):
    cache = attend.KVCache(2, 2, 16, v_head_dim=8, capacity=16 if pages else 4, k_format=name, page_rows=pages)
    for a, b in ((0, 5), (5, 6), (6, 11)):
        cache.append(K[:, :, a:b], V[:, :, a:b])
    assert list(cache.lengths) == [11, 11]
    near(cache.attention(Q, causal=True), reference(Q, K.astype(dtype), V.astype(dtype), allowed=J <= I + 4)[0], 5e-6)
    cache.append(K[:1, :, :2], V[:1, :, :2], starts=[0, 0, 2])  # two rows for the second sequence only
    assert list(cache.lengths) == [11, 13]
    k, v = (numpy.concatenate((x[1:], x[:1, :, :2]), 2).astype(dtype) for x in (K, V))
    near(cache.attention(Q)[1:], reference(Q[1:], k, v)[0], 5e-6)
    cache.crop([11, 11])
    cache.reorder([1, 0])
    near(cache.attention(Q), reference(Q, K[::-1].astype(dtype), V[::-1].astype(dtype))[0], 5e-6)
    cache.clear()
    assert not cache.attention(Q).any()
    with pytest.raises(ValueError, match="heads"):
        cache.append(K[:, :1], V[:, :1])
    with pytest.raises(TypeError, match="kv_lengths"):
        cache.attention(Q, kv_lengths=[1, 1])
    with pytest.raises(ValueError, match="k_format"):
        attend.KVCache(1, 1, 8, k_format="f64")


@pytest.mark.parametrize("pages", [None, 4])
@pytest.mark.parametrize("name, error", [("q8_0", 0.02), ("q5_1", 0.1), ("q5_0", 0.15), ("q4_1", 0.2), ("iq4_nl", 0.2), ("q4_0", 0.25)])
def test_quantised_cache(pages, name, error):
    q, k, v = (numpy.tile(x, 4)[..., :32] for x in (Q, K, V))
    cache = attend.KVCache(2, 2, 32, capacity=16 if pages else 4, k_format=name, v_format="q8_0", page_rows=pages)
    for a, b in ((0, 5), (5, 6), (6, 11)):
        cache.append(k[:, :, a:b], v[:, :, a:b])
    assert cache.keys.dtype == numpy.uint8 and cache.values.shape[3] == 34
    near(cache.attention(q, causal=True), reference(q, k, v, allowed=J <= I + 4)[0], error)
    assert abs(cache.attention(q, causal=True) - reference(q, k, v, allowed=J <= I + 4)[0]).max() > error / 1000
    with pytest.raises(ValueError, match="multiple of 32"):
        attend.KVCache(1, 1, 48, k_format=name)
    with pytest.raises(ValueError, match="hold their scales"):
        attend.append(cache.keys, k, [0, 0], format="i8")
    with pytest.raises(ValueError, match="bytes"):
        attend.append(cache.keys[..., :-1].copy(), k, [0, 0], format=name)


def test_a_failed_append_takes_no_pages():
    cache = attend.KVCache(2, 2, 16, capacity=16, page_rows=4, pages=4)
    with pytest.raises(TypeError):
        cache.append(K[:, :, :8].astype(float), K[:, :, :8].astype(float))
    assert list(cache.lengths) == [0, 0] and (cache.block_table == -1).all()
    cache.append(K[:, :, :8], K[:, :, :8])


def test_pages_run_out():
    cache = attend.KVCache(2, 2, 16, capacity=16, page_rows=4, pages=3)
    cache.append(K[:, :, :4], K[:, :, :4])
    with pytest.raises(MemoryError, match="1 are free"):
        cache.append(K[:, :, :1], K[:, :, :1])
    assert list(cache.lengths) == [4, 4]
    cache.append(K[:1, :, :4], K[:1, :, :4], starts=[0, 4, 4])
    with pytest.raises(MemoryError, match="capacity"):
        cache.append(K[:, :, :11].repeat(2, 2), K[:, :, :11].repeat(2, 2))
    with pytest.raises(MemoryError):
        cache.reorder([0, 0])
    assert list(cache.lengths) == [8, 4]
    cache.crop([0, 4])
    cache.append(K[:1, :, :8], K[:1, :, :8], starts=[0, 0, 8])
    assert list(cache.lengths) == [0, 12]
