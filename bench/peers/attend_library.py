# SPDX-License-Identifier: Apache-2.0
"""attend itself, through its shared library: the part of include/attend/attend.h that the standard shapes need."""

import ctypes
import os

import numpy

from blocks import FORMATS
from case import Cannot, widened

F16 = 2
BOTTOM_RIGHT = 2
LENGTHS_PER_BATCH = 1
ALIGNMENT = 64
DTYPES = {"f32": 1, "f16": F16, "bf16": 3, "q8_0": 8, "q4_0": 9}


class Strides(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in ("batch", "head", "row")]


class Strides4(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in ("batch", "head", "query", "key")]


class Scaling(ctypes.Structure):
    _fields_ = [("group", ctypes.c_int64), *((name, ctypes.c_int64) for name in ("batch", "head", "row", "step")),
                *((name, ctypes.c_int) for name in ("dtype", "zero_points", "is_unsigned"))]


def fields(ctype, names):
    return [(name, ctype) for name in names.split()]


class Problem(ctypes.Structure):
    """attend_problem of version 0.2.0: struct_size tells later libraries where it ends. Enumerations are ints."""

    _fields_ = [
        *fields(ctypes.c_size_t, "struct_size"),
        *fields(ctypes.c_int64, "batch q_heads kv_heads q_len kv_len head_dim v_head_dim"),
        *fields(ctypes.c_int64, "q_total kv_total page_rows pages block_table_stride"),
        *fields(Strides, "q_strides k_strides v_strides out_strides"),
        *fields(Strides4, "mask_strides bias_strides"),
        *fields(ctypes.c_int64, "causal_offset window_left window_right"),
        *fields(ctypes.c_int, "q_dtype k_dtype v_dtype out_dtype"),
        *fields(ctypes.c_uint, "as_given"),
        *fields(ctypes.c_float, "scale softcap dropout"),
        *fields(ctypes.c_int, "score causal window kv_lengths positions q_starts kv_starts kv_begins key_ranges"),
        *fields(ctypes.c_int, "mask bias_dtype bias_head_scale alibi sinks lse weights scores batch_invariant"),
        *fields(Scaling, "k_scaling v_scaling"),
        *fields(ctypes.c_int64, "int8_products"),
    ]


class Tensors(ctypes.Structure):
    _fields_ = [
        *fields(ctypes.c_size_t, "struct_size"),
        *fields(ctypes.c_void_p, "q k v out"),
        *fields(ctypes.c_void_p, "kv_lengths positions q_starts kv_starts kv_begins key_ranges block_table"),
        *fields(ctypes.c_void_p, "mask bias bias_head_scale alibi_slopes sinks score_weights lse weights scores"),
        *fields(ctypes.c_uint64, "dropout_seed dropout_offset"),
        *fields(ctypes.c_void_p, "k_scales v_scales k_zero_points v_zero_points"),
    ]


class Options(ctypes.Structure):
    _fields_ = [
        *fields(ctypes.c_size_t, "struct_size"),
        *fields(ctypes.c_char_p, "kernel profile"),
        *fields(ctypes.c_void_p, "allocate release memory_context log log_context parallel_for parallel_context"),
        *fields(ctypes.c_int, "num_threads bind_threads ignore_environment verbose"),
    ]


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


def address(array):
    return None if array is None else array.ctypes.data


class Plan:
    """A plan with its tensors and workspace; what the allocations are for is the caller's in C. `out` may be memory of its own kind."""

    def __init__(self, case, q, k, v, threads, out=None):
        serving, mask = case.form == "serving", case.additive_mask()
        p = Problem(ctypes.sizeof(Problem), case.batch, case.q_heads, case.kv_heads, case.q_len, case.kv_len, case.head_dim,
                    case.v_head_dim)
        p.q_dtype, p.k_dtype, p.v_dtype = DTYPES[case.q_dtype], DTYPES[case.kv_dtype], DTYPES[case.kv_dtype]
        p.causal = BOTTOM_RIGHT if case.causal and mask is None else 0
        p.kv_lengths = LENGTHS_PER_BATCH if case.lengths is not None else 0
        if serving:
            p.q_starts, p.q_total, p.page_rows, p.pages = 1, sum(case.queries), case.page_rows, k.shape[0]
        if mask is not None:
            p.bias_dtype, p.bias_strides = F16, Strides4(0, 0, case.kv_len, 1)
        if case.form == "v-in-k":
            unit = 1 if case.kv_dtype in FORMATS else v.itemsize  # strides of formats count bytes
            p.v_strides = Strides(*(stride // unit for stride in v.strides[:3]))
        self.problem, self.handle = p, ctypes.c_void_p()
        options = Options(ctypes.sizeof(Options), num_threads=threads)
        checked(library.attend_plan_create(self.problem, options, self.handle))
        self.setting = library.attend_plan_kernel(self.handle).decode()
        self.out = numpy.empty((*q.shape[:-1], case.v_head_dim), q.dtype) if out is None else out
        self.inputs = {"q": q, "k": k, "v": v, "kv_lengths": case.lengths, "bias": mask,
                       "q_starts": case.q_starts if serving else None, "block_table": case.block_table if serving else None}
        self.tensors = Tensors(ctypes.sizeof(Tensors), out=self.out.ctypes.data,
                               **{name: address(array) for name, array in self.inputs.items()})
        self.size = library.attend_plan_workspace_size(self.handle)
        self.memory = numpy.empty(self.size + ALIGNMENT, numpy.uint8)
        self.workspace = -(-self.memory.ctypes.data // ALIGNMENT) * ALIGNMENT

    def run(self):
        checked(library.attend_plan_run(self.handle, self.tensors, self.workspace, self.size))

    def result(self):
        return widened(self.out)


def version():
    return library.attend_version().decode()


def refuse(peer, case):
    """It says by itself what it cannot do."""
    del peer, case


def ways(peer, case, q, k, v, threads):
    del peer
    return {"(B, H, L, D)": lambda: Plan(case, q, k, v, threads)}
