# SPDX-License-Identifier: Apache-2.0
"""ggml's own FLASH_ATTN_EXT on its CPU backend, without attend's plug-in, in the libraries that scripts/llama builds."""

import ctypes
import pathlib

import numpy

from blocks import FORMATS, NUMBERS
from case import Cannot, widened

BUILD = pathlib.Path(__file__).resolve().parents[2] / "build/llama"
FOLDER = next((folder for name in ("openmp", "ggml") if (folder := BUILD / name / "bin") and (folder / "libggml-cpu.so").exists()), None)
TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q8_0": 8, "bf16": 30}  # enum ggml_type
TENSORS = 16  # of one node, views and masks included
ALIGNMENT = 32  # of a buffer's address


class Parameters(ctypes.Structure):
    _fields_ = [("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool)]


def function(library, name, result, *arguments):
    found = getattr(library, name)
    found.restype, found.argtypes = result, arguments
    return found


if FOLDER:
    pointer, size, number, real = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64, ctypes.c_float
    base = ctypes.CDLL(FOLDER / "libggml-base.so", ctypes.RTLD_GLOBAL)
    ggml_init = function(base, "ggml_init", pointer, Parameters)
    ggml_version = function(base, "ggml_version", ctypes.c_char_p)
    tensor_overhead = function(base, "ggml_tensor_overhead", size)
    graph_overhead = function(base, "ggml_graph_overhead", size)
    new_tensor = function(base, "ggml_new_tensor_1d", pointer, pointer, ctypes.c_int, number)
    new_view = function(base, "ggml_view_4d", pointer, pointer, pointer, *[number] * 4, *[size] * 4)
    new_graph = function(base, "ggml_new_graph", pointer, pointer)
    new_attention = function(base, "ggml_flash_attn_ext", pointer, *[pointer] * 5, *[real] * 3)
    expand = function(base, "ggml_build_forward_expand", None, pointer, pointer)
    buffer_from = function(base, "ggml_backend_cpu_buffer_from_ptr", pointer, pointer, size)
    place = function(base, "ggml_backend_tensor_alloc", ctypes.c_int, pointer, pointer, pointer)
    supports = function(base, "ggml_backend_dev_supports_op", ctypes.c_bool, pointer, pointer)
    compute = function(base, "ggml_backend_graph_compute", ctypes.c_int, pointer, pointer)
    module = function(ctypes.CDLL(FOLDER / "libggml.so"), "ggml_backend_load", pointer, ctypes.c_char_p)(
        str(FOLDER / "libggml-cpu.so").encode())
    device = function(base, "ggml_backend_reg_dev_get", pointer, pointer, size)(module, 0)
    start = function(base, "ggml_backend_dev_init", pointer, pointer, ctypes.c_char_p)
    address_of = function(base, "ggml_backend_reg_get_proc_address", pointer, pointer, ctypes.c_char_p)
    set_threads = ctypes.CFUNCTYPE(None, pointer, ctypes.c_int)(address_of(module, b"ggml_backend_set_n_threads"))


def version():
    return ggml_version().decode() if FOLDER else "not built"


class Graph:
    """A node of attention for each of `parts`, (q, k, v, mask or None), all (B, H, L, D) with any strides."""

    def __init__(self, parts, shape, threads):
        """`shape` is that of the output of all parts together, (B, Lq, Hq, Dv)."""
        self.parts, self.out = parts, numpy.empty(shape, numpy.float32)
        memory = tensor_overhead() * TENSORS * len(parts) + graph_overhead()
        self.context = ggml_init(Parameters(memory, None, True))
        self.graph = new_graph(self.context)
        for b, (q, k, v, mask) in enumerate(parts):
            node = new_attention(self.context, *(self.tensor(x) for x in (q, k, v)), self.tensor(mask) if mask is not None else None,
                                 q.shape[-1] ** -0.5, 0, 0)
            if not supports(device, node):
                raise Cannot("does not support it")
            self.put(node, self.out[b:b + 1] if len(parts) > 1 else self.out)
            expand(self.graph, node)
        self.backend = start(device, None)
        set_threads(self.backend, threads)

    @staticmethod
    def put(tensor, array):
        """The tensor lies where the array does, in a buffer of its own."""
        begin = array.ctypes.data // ALIGNMENT * ALIGNMENT
        span = sum((n - 1) * stride for n, stride in zip(array.shape, array.strides)) + array.itemsize
        place(buffer_from(begin, array.ctypes.data - begin + span), tensor, array.ctypes.data)

    def tensor(self, array):
        """A view of memory, so that any strides can be said."""
        name = next((name for name, blocks in FORMATS.items() if blocks == array.dtype), None)
        name = name or {"float32": "f32", "float16": "f16", "uint16": "bf16"}[str(array.dtype)]
        numbers = NUMBERS if name in FORMATS else 1
        span = sum((n - 1) * stride for n, stride in zip(array.shape, array.strides)) + array.itemsize
        whole = new_tensor(self.context, TYPES[name], span // array.itemsize * numbers)
        self.put(whole, array)
        lengths = (array.shape[-1] * numbers, *array.shape[-2::-1])
        return new_view(self.context, whole, *lengths, *array.strides[-2::-1], 0)

    def run(self):
        if status := compute(self.backend, self.graph):
            raise Cannot(f"ended with status {status}")

    def result(self):
        return self.out.transpose(0, 2, 1, 3)


class Folded(Graph):
    """The query heads of a group were the rows of one head."""

    def result(self):
        out = super().result()
        return out.reshape(out.shape[0], -1, 1, out.shape[-1])


def row_major(x):
    """The same with (B, L, H, D) in memory, as llama.cpp keeps it."""
    return numpy.ascontiguousarray(x.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3)


def refuse(peer, case):
    del peer
    if not FOLDER:
        raise Cannot("is not built: ./scripts/llama --sample builds it")
    case.refuse_serving()


def ways(peer, case, q, k, v, threads):
    del peer
    q, shape = widened(q), (case.batch, case.q_len, case.q_heads, case.v_head_dim)  # it takes queries in f32 only
    mask = case.mask()
    if mask is not None:
        numbers = numpy.where(mask, numpy.float16(0), numpy.float16("-inf"))
        mask = numpy.ascontiguousarray(numpy.broadcast_to(numbers, (numbers.shape[0], 1, case.q_len, case.kv_len)))
    found = {}
    for name, order in (("(B, H, L, D)", lambda x: x), ("(B, L, H, D)", row_major)):
        if name == "(B, L, H, D)" and case.form == "v-in-k":
            continue
        rows = [order(x) for x in (q, k, v)]
        found[name] = lambda rows=rows: Graph([(*rows, mask)], shape, threads)
        if case.lengths is not None:
            found[f"{name}, a node per sequence"] = lambda rows=rows: Graph(per_sequence(case, *rows), shape, threads)
    if case.group > 1 and case.q_len == 1:
        fold = q.reshape(case.batch, case.kv_heads, case.group, case.head_dim)
        folded = (case.batch, case.group, case.kv_heads, case.v_head_dim)
        parts = [(fold, k, v, None)] if case.lengths is None else per_sequence(case, fold, k, v)
        found["a group's heads as query rows"] = lambda: Folded(parts, folded, threads)
    return found


def per_sequence(case, q, k, v):
    return [(q[b:b + 1], k[b:b + 1, :, :n], v[b:b + 1, :, :n], None) for b, n in enumerate(case.lengths)]
