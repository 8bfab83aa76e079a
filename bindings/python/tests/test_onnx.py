# SPDX-License-Identifier: Apache-2.0
"""The cases of ONNX's Attention operator, as the installed onnx package makes them: all of them pass."""

import numpy
import pytest

onnx = pytest.importorskip("onnx")
ml_dtypes = pytest.importorskip("ml_dtypes")

import onnx.backend.test.case.node.attention as cases_of_onnx
from onnx.reference.ops.op_attention import _compute_attention

import attend

FLOATS = (numpy.float32, numpy.float16, ml_dtypes.bfloat16)
SLOTS = ("Q", "K", "V", "attn_mask", "past_key", "past_value", "nonpad_kv_seqlen")


def collect():
    cases = {}
    expect = cases_of_onnx.expect
    cases_of_onnx.expect = lambda node, inputs, outputs, name, **_: cases.setdefault(name, (node, inputs, outputs))
    state = numpy.random.get_state()
    numpy.random.seed(0)
    try:
        for name in dir(cases_of_onnx.Attention):
            if name.startswith("export"):
                getattr(cases_of_onnx.Attention, name)()
    finally:
        cases_of_onnx.expect = expect
        numpy.random.set_state(state)
    return cases


CASES = collect()


def named(node, inputs):
    values = iter(inputs)
    return {slot: next(values) for slot, name in zip(SLOTS, node.input) if name}


def compute(node, inputs):
    """The outputs of a node, by attend: (Y, present_key, present_value, scores), as far as it has them."""
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    given = named(node, inputs)
    q, k, v = given["Q"], given["K"], given["V"]
    rank = q.ndim
    if rank == 3:
        def heads(x, count):
            return x.reshape(*x.shape[:2], count, -1).transpose(0, 2, 1, 3)
        q, k, v = heads(q, attributes["q_num_heads"]), heads(k, attributes["kv_num_heads"]), heads(v, attributes["kv_num_heads"])
    past = 0
    if "past_key" in given:
        past = given["past_key"].shape[2]
        k, v = numpy.concatenate((given["past_key"], k), 2), numpy.concatenate((given["past_value"], v), 2)
    batch, rows, keys = q.shape[0], q.shape[2], k.shape[2]
    options = {"scale": attributes.get("scale"), "softcap": attributes.get("softcap")}
    causal = bool(attributes.get("is_causal", 0))
    window = attributes.get("left_window_size", -1), attributes.get("right_window_size", -1)
    positions = numpy.full(batch, past, numpy.int32)
    if "nonpad_kv_seqlen" in given:
        lengths = given["nonpad_kv_seqlen"].reshape(-1)
        options["kv_lengths"] = lengths
        positions = (lengths - rows).astype(numpy.int32)
    if causal:
        options.update(causal=True, positions=positions)
    if max(window) >= 0:
        options.update(window=window, positions=positions)
    if "attn_mask" in given:
        mask = given["attn_mask"]
        if mask.shape[-1] < keys:  # the rest is not attended
            beyond = numpy.zeros((*mask.shape[:-1], keys - mask.shape[-1]), mask.dtype)
            if mask.dtype != bool:
                beyond = beyond - numpy.asarray(numpy.inf, mask.dtype)
            mask = numpy.concatenate((mask, beyond.astype(mask.dtype)), -1)
        if mask.dtype == bool:
            options["mask"] = mask
        else:
            options["bias"] = mask if mask.dtype in FLOATS else mask.astype(numpy.float32)
    wants = len(node.output) > 3 and node.output[3]
    if wants:
        mode = attributes.get("qk_matmul_output_mode", 0)
        options.update({"weights": True} if mode == 3 else {"scores": ("raw", "softcap", "attended")[mode]})
    # Types that attend does not take are computed in float32: it is nearer to float64 than they are.
    wide = [x if x.dtype in FLOATS else x.astype(numpy.float32) for x in (q, k, v)]
    result = attend.attention(*wide, **options)
    out, scores = result if wants else (result, None)
    if rank == 3:
        out = out.transpose(0, 2, 1, 3).reshape(batch, rows, -1)
    return [{0: out, 1: k, 2: v, 3: scores}[i] for i, name in enumerate(node.output) if name]


def test_all_are_there():
    assert len(CASES) >= 93


@pytest.mark.parametrize("name", sorted(CASES))
def test_case(name):
    node, inputs, outputs = CASES[name]
    got = compute(node, inputs)
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    for i, (a, b) in enumerate(zip(got, outputs)):
        b = numpy.asarray(b)
        assert a.shape == b.shape
        a, b = a.astype(numpy.float64), b.astype(numpy.float64)
        near = numpy.isclose(a, b, rtol=1e-3, atol=1e-6, equal_nan=True)
        if near.all():
            continue
        assert inputs[0].dtype != numpy.float32, f"output {i}: {(~near).sum()} of {near.size} differ"
        exact = _compute_attention(**{slot: x if x.dtype in (bool, numpy.int64, numpy.int32) else x.astype(numpy.float64) for slot, x in named(node, inputs).items()}, **attributes)[0 if i == 0 else 3]
        finite = numpy.isfinite(exact) & numpy.isfinite(b)
        ours, theirs = (numpy.abs(x - exact)[finite].max() for x in (a, b))
        assert ours <= theirs, f"output {i}: {ours} from float64, ONNX's reference {theirs}"
