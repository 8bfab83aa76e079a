# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime on its CPU provider: MultiHeadAttention, GroupQueryAttention and the standard Attention operator."""

import numpy
import onnx
import onnxruntime
from onnx import TensorProto, helper
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented

from case import Cannot, rounded, widened

TYPES = {"f32": TensorProto.FLOAT, "f16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
CONTRIB = "com.microsoft"


def version():
    return onnxruntime.__version__


def packed(x):
    """(B, H, L, D) as (B, L, H * D)."""
    batch, heads, length, dim = x.shape
    return numpy.ascontiguousarray(x.transpose(0, 2, 1, 3)).reshape(batch, length, heads * dim)


class Session:
    """One operator as a graph, its inputs and outputs bound to buffers once."""

    def __init__(self, case, threads, node, inputs, outputs, result):
        """`inputs` and `outputs` map names to arrays; an output that is an input's name is written in place."""
        self.kept, self.finish = (inputs, outputs), result
        declared = {**inputs, **outputs}
        kinds = {name: self.kind(case, x) for name, x in declared.items()}
        infos = {name: helper.make_tensor_value_info(name, kinds[name], x.shape) for name, x in declared.items()}
        opsets = [helper.make_opsetid("", 23), helper.make_opsetid(CONTRIB, 1)]
        graph = helper.make_graph([node], "attention", [infos[n] for n in inputs], [infos[n] for n in outputs])
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        options.add_session_config_entry("session.force_spinning_stop", "1")  # between runs others have the cores
        try:
            self.session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        except NotImplemented as failure:
            raise Cannot(f"has no {case.dtype} kernel on the CPU") from failure
        self.binding = self.session.io_binding()
        for name, x in inputs.items():
            self.binding.bind_input(name, "cpu", 0, kinds[name], x.shape, x.ctypes.data)
        for name, x in outputs.items():
            self.binding.bind_output(name, "cpu", 0, kinds[name], x.shape, x.ctypes.data)

    @staticmethod
    def kind(case, x):
        return {"int32": TensorProto.INT32, "bool": TensorProto.BOOL}.get(str(x.dtype), TYPES[case.dtype])

    def run(self):
        self.session.run_with_iobinding(self.binding)

    def result(self):
        return self.finish()


def unpacked(case, out):
    return widened(out).reshape(case.batch, case.q_len, case.q_heads, case.v_head_dim).transpose(0, 2, 1, 3)


def multi_head(case, q, k, v, threads):
    if case.group > 1:
        raise Cannot("has no grouped heads")
    inputs = {name: packed(x) for name, x in zip("qkv", (q, k, v))}
    names = ["q", "k", "v"]
    if case.lengths is not None:
        inputs["lengths"] = case.lengths
        names += ["", "lengths"]
    node = helper.make_node("MultiHeadAttention", names, ["out"], domain=CONTRIB, num_heads=case.q_heads,
                            unidirectional=int(case.causal))
    out = numpy.empty_like(inputs["q"])
    return Session(case, threads, node, inputs, {"out": out}, lambda: unpacked(case, out))


def group_query(case, q, k, v, threads):
    """With a cache that holds all keys but those of the new tokens, which it appends in place."""
    if not case.causal and case.q_len > 1:
        raise Cannot("is always causal")
    if case.form == "additive-mask":
        raise Cannot("is causal by itself, and takes no mask that says so")
    if case.v_head_dim != case.head_dim:
        raise Cannot("has values of the keys' head dim only")
    lengths = case.lengths if case.lengths is not None else numpy.full(case.batch, case.kv_len, numpy.int32)
    past = lengths - case.q_len
    new = [numpy.stack([x[b, :, n : n + case.q_len] for b, n in enumerate(past)]) for x in (k, v)]
    inputs = {"q": packed(q), "k": packed(new[0]), "v": packed(new[1])}
    outputs = {"out": numpy.empty_like(inputs["q"])}
    names = ["q", "k", "v", "", "", "last", "total"]
    if case.q_len < case.kv_len:
        cache = [x.copy() for x in (k, v)]
        inputs |= {"past_k": cache[0], "past_v": cache[1]}
        outputs |= {"present_k": cache[0], "present_v": cache[1]}
        names[3:5] = "past_k", "past_v"
    else:
        outputs |= {"present_k": numpy.empty_like(k), "present_v": numpy.empty_like(v)}
    inputs |= {"last": lengths - 1, "total": numpy.array([case.kv_len], numpy.int32)}
    node = helper.make_node("GroupQueryAttention", names, list(outputs), domain=CONTRIB, num_heads=case.q_heads,
                            kv_num_heads=case.kv_heads)
    return Session(case, threads, node, inputs, outputs, lambda: unpacked(case, outputs["out"]))


def standard(case, q, k, v, threads, fold=False):
    out_shape = (*q.shape[:-1], case.v_head_dim)
    inputs = {"q": q.reshape(case.batch, case.kv_heads, case.group, case.head_dim) if fold else q, "k": k,
              "v": numpy.ascontiguousarray(v)}
    if case.form == "additive-mask":
        inputs["mask"] = rounded(case.additive_mask().astype(numpy.float32), case.dtype)
    elif case.mask() is not None and not case.square:
        whole = (case.batch if case.length_step else 1, 1, case.q_len, case.kv_len)
        inputs["mask"] = numpy.ascontiguousarray(numpy.broadcast_to(case.mask(), whole))
    node = helper.make_node("Attention", list(inputs), ["out"], is_causal=int(case.square))
    out = numpy.empty((*inputs["q"].shape[:-1], case.v_head_dim), q.dtype)
    return Session(case, threads, node, inputs, {"out": out}, lambda: widened(out).reshape(out_shape))


def refuse(peer, case):
    del peer
    case.refuse_serving()
    case.refuse_formats()


def ways(peer, case, q, k, v, threads):
    if peer == "onnxruntime-mha":
        return {"(B, L, H * D)": lambda: multi_head(case, q, k, v, threads)}
    if peer == "onnxruntime-gqa":
        return {"cache in place" if case.q_len < case.kv_len else "(B, L, H * D)": lambda: group_query(case, q, k, v, threads)}
    found = {"(B, H, L, D)": lambda: standard(case, q, k, v, threads)}
    if case.group > 1 and case.q_len == 1:
        found["a group's heads as query rows"] = lambda: standard(case, q, k, v, threads, True)
    return found
