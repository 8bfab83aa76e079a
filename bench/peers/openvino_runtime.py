# SPDX-License-Identifier: Apache-2.0
"""OpenVINO: ScaledDotProductAttention on its CPU plugin."""

import numpy
import openvino
from openvino import opset13

from case import widened

TYPES = {"f32": openvino.Type.f32, "f16": openvino.Type.f16, "bf16": openvino.Type.bf16}


def version():
    return openvino.__version__


def repeated(node, case, length, dim):
    """Keys or values of each group for all its query heads, in the form that the plugin fuses."""
    wide = opset13.unsqueeze(node, numpy.int64(2))
    wide = opset13.broadcast(wide, numpy.array([case.batch, case.kv_heads, case.group, length, dim], numpy.int64))
    return opset13.reshape(wide, numpy.array([case.batch, case.q_heads, length, dim], numpy.int64), False)


class Request:
    def __init__(self, case, q, k, v, threads, heads):
        """`heads` says how a group's query heads come to their keys: "", "fold", "graph" or "before"."""
        kind = TYPES[case.dtype]
        if heads == "before":
            k, v = (numpy.repeat(x, case.group, axis=1) for x in (k, v))
        v = numpy.ascontiguousarray(v)
        arrays = [q.reshape(case.batch, case.kv_heads, case.group, case.head_dim) if heads == "fold" else q, k, v]
        mask = case.mask()
        inputs = [opset13.parameter(x.shape, kind) for x in arrays]
        nodes = list(inputs)
        if heads == "graph":
            nodes[1:] = (repeated(node, case, case.kv_len, x.shape[-1]) for node, x in zip(inputs[1:], arrays[1:]))
        if mask is not None and not case.square:  # given as numbers or not, it takes numbers
            whole = numpy.where(mask, numpy.float32(0), numpy.float32("-inf"))
            inputs.append(opset13.parameter(whole.shape, openvino.Type.f32))
            node = inputs[-1] if case.dtype == "f32" else opset13.convert(inputs[-1], kind.get_type_name())
            arrays.append(whole)
            output = opset13.scaled_dot_product_attention(*nodes, node, causal=False)
        else:
            output = opset13.scaled_dot_product_attention(*nodes, causal=case.square)
        model = openvino.Model([output], inputs, "attention")
        precision = "bf16" if case.dtype == "bf16" else "f32"  # f16 is computed in f32 where the processor has no f16
        settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1,
                    "INFERENCE_PRECISION_HINT": precision}
        self.request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
        self.out = numpy.empty((*arrays[0].shape[:-1], case.v_head_dim), q.dtype)
        self.shape = (*q.shape[:-1], case.v_head_dim)
        self.kept = [self.view(x, kind if x.dtype == q.dtype and i < 3 else openvino.Type.f32) for i, x in enumerate(arrays)]
        for index, made in enumerate(self.kept):
            self.request.set_input_tensor(index, made)
        self.target = self.view(self.out, kind)
        self.request.set_output_tensor(0, self.target)

    @staticmethod
    def view(array, kind):
        if array.dtype == numpy.uint16:
            return openvino.Tensor(array, array.shape, kind)
        return openvino.Tensor(array, shared_memory=True)

    def run(self):
        self.request.infer()

    def result(self):
        return widened(self.out).reshape(self.shape)


def refuse(peer, case):
    del peer
    case.refuse_serving()
    case.refuse_formats()


def ways(peer, case, q, k, v, threads):
    del peer
    if case.group == 1:
        return {"(B, H, L, D)": lambda: Request(case, q, k, v, threads, "")}
    found = {"heads repeated in the graph": lambda: Request(case, q, k, v, threads, "graph"),
             "heads repeated beforehand": lambda: Request(case, q, k, v, threads, "before")}
    if case.q_len == 1:
        found["a group's heads as query rows"] = lambda: Request(case, q, k, v, threads, "fold")
    return found
