# SPDX-License-Identifier: Apache-2.0
"""attend itself, through its shared library: the part of include/attend/attend.h that the standard shapes need."""

import ctypes
import os

import numpy

from case import Cannot, widened

F32, F16, BF16 = 1, 2, 3
BOTTOM_RIGHT = 2
LENGTHS_PER_BATCH = 1
ALIGNMENT = 64
DTYPES = {"f32": F32, "f16": F16, "bf16": BF16}


class Strides(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in ("batch", "head", "row")]


class Strides4(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in ("batch", "head", "query", "key")]


class Problem(ctypes.Structure):
    """attend_problem of version 0.1.0: struct_size tells later libraries where it ends."""

    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        *((name, ctypes.c_int64) for name in ("batch", "q_heads", "kv_heads", "q_len", "kv_len", "head_dim", "v_head_dim")),
        *((name, ctypes.c_int) for name in ("q_dtype", "kv_dtype", "out_dtype")),
        *((name, Strides) for name in ("q_strides", "k_strides", "v_strides", "out_strides")),
        *((name, ctypes.c_float) for name in ("scale", "softcap")),
        ("causal", ctypes.c_int),
        ("causal_offset", ctypes.c_int64),
        ("window", ctypes.c_int),
        ("window_left", ctypes.c_int64),
        ("window_right", ctypes.c_int64),
        *((name, ctypes.c_int) for name in ("kv_lengths", "mask", "bias_dtype", "alibi", "sinks")),
        *((name, Strides4) for name in ("mask_strides", "bias_strides")),
        *((name, ctypes.c_int) for name in ("lse", "weights", "batch_invariant", "reserved")),
    ]


class Tensors(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t),
                *((name, ctypes.c_void_p) for name in ("q", "k", "v", "out", "kv_lengths", "mask", "bias", "alibi_slopes",
                                                       "sinks", "lse", "weights"))]


class Options(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("num_threads", ctypes.c_int), ("kernel", ctypes.c_char_p)]


library = ctypes.CDLL(os.environ["ATTEND_LIBRARY"])
library.attend_version.restype = ctypes.c_char_p
library.attend_error_detail.restype = ctypes.c_char_p
library.attend_plan_kernel.restype = ctypes.c_char_p
library.attend_plan_kernel.argtypes = [ctypes.c_void_p]
library.attend_plan_workspace_size.restype = ctypes.c_size_t
library.attend_plan_workspace_size.argtypes = [ctypes.c_void_p]
library.attend_plan_create.argtypes = [ctypes.POINTER(Problem), ctypes.POINTER(Options), ctypes.POINTER(ctypes.c_void_p)]
library.attend_plan_run.argtypes = [ctypes.c_void_p, ctypes.POINTER(Tensors), ctypes.c_void_p, ctypes.c_size_t]


def checked(status):
    if status:
        raise Cannot(library.attend_error_detail().decode())


class Plan:
    """A plan with its tensors and workspace; what the allocations are for is the caller's in C."""

    def __init__(self, case, q, k, v, threads):
        self.problem = Problem(ctypes.sizeof(Problem), case.batch, case.q_heads, case.kv_heads, case.q_len, case.kv_len,
                               case.head_dim)
        self.problem.q_dtype = DTYPES[case.dtype]
        self.problem.causal = BOTTOM_RIGHT if case.causal else 0
        self.problem.kv_lengths = LENGTHS_PER_BATCH if case.length_step else 0
        self.handle = ctypes.c_void_p()
        options = Options(ctypes.sizeof(Options), threads, None)
        checked(library.attend_plan_create(self.problem, options, self.handle))
        self.setting = library.attend_plan_kernel(self.handle).decode()
        self.out = numpy.empty_like(q)
        self.inputs = (q, k, v, case.lengths)
        self.tensors = Tensors(ctypes.sizeof(Tensors), q.ctypes.data, k.ctypes.data, v.ctypes.data, self.out.ctypes.data,
                               None if case.lengths is None else self.inputs[3].ctypes.data)
        self.size = library.attend_plan_workspace_size(self.handle)
        self.memory = numpy.empty(self.size + ALIGNMENT, numpy.uint8)
        self.workspace = -(-self.memory.ctypes.data // ALIGNMENT) * ALIGNMENT

    def run(self):
        checked(library.attend_plan_run(self.handle, self.tensors, self.workspace, self.size))

    def result(self):
        return widened(self.out)


def version():
    return library.attend_version().decode()


def ways(peer, case, q, k, v, threads):
    del peer
    return {"(B, H, L, D)": lambda: Plan(case, q, k, v, threads)}
