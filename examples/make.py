#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the .npy files of the worked examples. They are committed; this needs NumPy, examples/check does not.

The expected values are computed here in double precision, and compared with the figures known from the literature.
"""

from pathlib import Path

import numpy as np

HERE = Path(__file__).parent


def attention(q, k, v, scale, attended=None):
    """Plain attention on the last two dimensions; `attended` says which keys each query sees."""
    scores = scale * (q @ np.swapaxes(k, -1, -2))
    if attended is not None:
        scores = np.where(attended, scores, -np.inf)
    greatest = scores.max(axis=-1, keepdims=True)
    exponentials = np.exp(scores - greatest)
    total = exponentials.sum(axis=-1, keepdims=True)
    weights = exponentials / total
    return {"out": weights @ v, "weights": weights, "lse": (greatest + np.log(total))[..., 0]}


def save(example, inputs, expected):
    directory = HERE / example
    directory.mkdir(exist_ok=True)
    for name, array in inputs.items():
        np.save(directory / f"{name}.npy", array)
    for name, array in expected.items():
        np.save(directory / f"expected-{name}.npy", np.ascontiguousarray(array, dtype=np.float32))


def f32(values):
    return np.ascontiguousarray(values, dtype=np.float32)


def three_tokens():
    q = f32([[1, 0, 2], [2, 2, 2], [2, 1, 3]])
    k = f32([[0, 1, 1], [4, 4, 0], [2, 3, 1]])
    v = f32([[1, 2, 3], [2, 8, 0], [2, 6, 3]])
    expected = attention(*(x.astype(np.float64) for x in (q, k, v)), 1.0)
    known = [
        [6.3379e-02, 4.6831e-01, 4.6831e-01],
        [6.0337e-06, 9.8201e-01, 1.7986e-02],
        [2.9539e-04, 8.8054e-01, 1.1917e-01],
    ]
    np.testing.assert_allclose(expected["weights"], known, rtol=5e-5)
    save("three-tokens", {"q": q, "k": k, "v": v}, expected)


def padded_inputs(queries):
    """All keys are the same, so that a query gets the mean of the values it attends, whatever the query is."""
    q = f32(np.random.default_rng(0).standard_normal((2, 1, queries, 2)))
    k = np.ones((2, 1, 10, 2), np.float32)
    v = f32(np.broadcast_to(np.arange(40).reshape(1, 1, 10, 4), (2, 1, 10, 4)))
    return {"q": q, "k": k, "v": v}


def padded_batch():
    expected = f32([[2, 3, 4, 5], [10, 11, 12, 13]]).reshape(2, 1, 1, 4)
    save("padded-batch", padded_inputs(1) | {"lengths": np.array([2, 6], np.int64)}, {"out": expected})


def query_lengths():
    expected = f32([[[0, 1, 2, 3], [4, 5, 6, 7]], [[2, 3, 4, 5], [6, 7, 8, 9]]]).reshape(2, 1, 2, 4)
    save("query-lengths", padded_inputs(2) | {"lengths": np.array([[1, 3], [2, 4]], np.int32)}, {"out": expected})


def packed_batch():
    """Sequences of 2 and 3 tokens in a row, causal: each query gets the mean of its sequence's values up to its own."""
    q = f32(np.random.default_rng(1).standard_normal((1, 1, 5, 2)))
    k = np.ones((1, 1, 5, 2), np.float32)
    v = f32(np.arange(20).reshape(1, 1, 5, 4))
    first, second = (np.cumsum(rows, axis=0) / np.arange(1, len(rows) + 1)[:, None] for rows in (v[0, 0, :2], v[0, 0, 2:]))
    expected = np.concatenate([first, second])[None, None]
    save("packed-batch", {"q": q, "k": k, "v": v, "starts": np.array([0, 2, 5], np.int32)}, {"out": expected})


def paged_cache():
    """The keys and values of the padded batch in pages of 4 rows: what is beyond a sequence's length is NaN here."""
    padded, lengths = padded_inputs(1), np.array([2, 6], np.int64)
    table = np.array([[1, -1], [2, 0]], np.int32)
    pages = {name: np.full((3, 1, 4, padded[name].shape[-1]), np.nan, np.float32) for name in "kv"}
    for b, length in enumerate(lengths):
        for j in range(length):
            for name in "kv":
                pages[name][table[b, j // 4], 0, j % 4] = padded[name][b, 0, j]
    expected = f32([[2, 3, 4, 5], [10, 11, 12, 13]]).reshape(2, 1, 1, 4)
    save("paged-cache", pages | {"q": padded["q"], "table": table, "lengths": lengths}, {"out": expected})


def six_tokens():
    x = f32(
        [
            [0.43, 0.15, 0.89],
            [0.55, 0.87, 0.66],
            [0.57, 0.85, 0.64],
            [0.22, 0.58, 0.33],
            [0.77, 0.25, 0.10],
            [0.05, 0.80, 0.55],
        ]
    )
    exact = x.astype(np.float64)
    plain = attention(exact, exact, exact, 1.0)
    np.testing.assert_allclose(plain["weights"][1], [0.1385, 0.2379, 0.2333, 0.1240, 0.1082, 0.1581], atol=5e-5)
    np.testing.assert_allclose(plain["out"][1], [0.4419, 0.6515, 0.5683], atol=5e-5)
    save("six-tokens", {"x": x}, plain)
    save("six-tokens-causal", {"x": x}, attention(exact, exact, exact, 1.0, np.tri(6, dtype=bool)))
    order = [3, 0, 5, 2, 4, 1]
    save("permuted-keys", {"q": x, "k": x[order], "v": x[order]}, {"out": plain["out"], "lse": plain["lse"]})


if __name__ == "__main__":
    three_tokens()
    padded_batch()
    query_lengths()
    packed_batch()
    paged_cache()
    six_tokens()
