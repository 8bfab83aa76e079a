# SPDX-License-Identifier: Apache-2.0
"""Whole layers of attend beside PyTorch's nn.MultiheadAttention in evaluation mode: the same weights and inputs, f32, a
process each, rounds that take turns. PyTorch is measured with and without its fast path, and the faster one counts.

scripts/peers --layers makes the environment this needs and runs it.
"""

import argparse
import ctypes
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

CASES = {"gpt2-small": {"batch": 1, "length": 1024, "embed": 768, "heads": 12, "causal": True, "padding": 0},
         "bert-base": {"batch": 8, "length": 512, "embed": 768, "heads": 12, "causal": False, "padding": 64}}
WAYS = ("attend", "pytorch, fast path", "pytorch, no fast path")
PAUSE = 0.02  # seconds between two turns, in which the threads of the first go to sleep


# -------------------------------------------------------------------------------------------------------- both sides


def tensors(case):
    """x, the packed projection and its bias, the output projection and its bias, and what is padding."""
    import numpy

    source = numpy.random.default_rng(7)
    embed = case["embed"]
    draw = lambda *shape, scale=1.0: source.standard_normal(shape, dtype=numpy.float32) * numpy.float32(scale)
    lengths = case["length"] - case["padding"] * numpy.arange(case["batch"])
    return {"x": draw(case["batch"], case["length"], embed), "in_weight": draw(3 * embed, embed, scale=embed**-0.5),
            "in_bias": draw(3 * embed, scale=0.1), "out_weight": draw(embed, embed, scale=embed**-0.5),
            "out_bias": draw(embed, scale=0.1), "padding": numpy.arange(case["length"]) >= lengths[:, None]}


class Pytorch:
    def __init__(self, case, data, threads, fast):
        import torch

        torch.set_num_threads(threads)
        torch.backends.mha.set_fastpath_enabled(fast)
        self.torch = torch
        self.x, self.length = torch.from_numpy(data["x"]), case["length"]
        self.module = torch.nn.MultiheadAttention(case["embed"], case["heads"], batch_first=True).eval()
        with torch.no_grad():
            self.module.in_proj_weight.copy_(torch.from_numpy(data["in_weight"]))
            self.module.in_proj_bias.copy_(torch.from_numpy(data["in_bias"]))
            self.module.out_proj.weight.copy_(torch.from_numpy(data["out_weight"]))
            self.module.out_proj.bias.copy_(torch.from_numpy(data["out_bias"]))
        self.options = {"need_weights": False}
        if case["causal"]:
            mask = torch.nn.Transformer.generate_square_subsequent_mask(case["length"])
            self.options |= {"attn_mask": mask, "is_causal": True}
        if case["padding"]:
            self.options["key_padding_mask"] = torch.from_numpy(data["padding"])

    def run(self):
        with self.torch.inference_mode():
            self.out, _ = self.module(self.x, self.x, self.x, **self.options)

    def result(self):
        return self.out.numpy()


class Attend:
    """attend_mha_problem and attend_mha_tensors of attend/layers.h."""

    class Problem(ctypes.Structure):
        _fields_ = [("struct_size", ctypes.c_size_t),
                    *((name, ctypes.c_int64) for name in ("batch", "q_len", "kv_len", "embed_dim", "k_dim", "v_dim", "q_heads",
                                                          "kv_heads", "head_dim", "v_head_dim", "out_dim", "q_total", "kv_total",
                                                          "cache_len", "causal_offset", "window_left", "window_right",
                                                          "rotary_dim")),
                    ("weight_strides", ctypes.c_int64 * 4), ("sequence_strides", ctypes.c_int64 * 8),
                    ("cache_strides", ctypes.c_int64 * 6),
                    *((name, ctypes.c_int) for name in ("weight_layout", "out_proj", "cache_dtype", "as_given")),
                    *((name, ctypes.c_float) for name in ("scale", "softcap", "dropout", "rope_theta", "rope_factor")),
                    *((name, ctypes.c_int) for name in ("rope", "causal", "window", "q_starts", "kv_starts", "kv_lengths",
                                                        "kv_begins", "key_padding_mask", "attn_mask", "attn_mask_per_head",
                                                        "bias_kv", "add_zero_attn", "sinks", "weights", "batch_invariant"))]

    class Tensors(ctypes.Structure):
        _fields_ = [("struct_size", ctypes.c_size_t),
                    *((name, ctypes.c_void_p) for name in (
                        "query", "key", "value", "out", "q_weight", "k_weight", "v_weight", "out_weight", "q_bias", "k_bias",
                        "v_bias", "out_bias", "bias_k", "bias_v", "q_starts", "kv_starts", "kv_lengths", "kv_begins", "k_cache",
                        "v_cache", "past", "rope_positions", "rope_frequencies", "key_padding_mask", "attn_mask", "sinks",
                        "weights")),
                    ("dropout_seed", ctypes.c_uint64), ("dropout_offset", ctypes.c_uint64)]

    class Options(ctypes.Structure):
        _fields_ = [("struct_size", ctypes.c_size_t),
                    *((name, ctypes.c_void_p) for name in ("kernel", "profile", "allocate", "release", "memory_context", "log",
                                                           "log_context", "parallel_for", "parallel_context")),
                    *((name, ctypes.c_int) for name in ("num_threads", "bind_threads", "ignore_environment", "verbose"))]

    TOP_LEFT, IGNORE, ALIGNMENT = 1, 1, 64

    def __init__(self, case, data, threads):
        import numpy

        self.library = ctypes.CDLL(os.environ["ATTEND_LIBRARY"])
        self.library.attend_error_detail.restype = ctypes.c_char_p
        self.library.attend_mha_plan_workspace_size.restype = ctypes.c_size_t
        embed = case["embed"]
        problem = self.Problem(ctypes.sizeof(self.Problem), case["batch"], case["length"], case["length"], embed)
        problem.q_heads, problem.out_proj = case["heads"], 1
        problem.causal = self.TOP_LEFT if case["causal"] else 0
        problem.key_padding_mask = self.IGNORE if case["padding"] else 0
        self.plan = ctypes.c_void_p()
        options = self.Options(struct_size=ctypes.sizeof(self.Options), num_threads=threads)
        self.check(self.library.attend_mha_plan_create(ctypes.byref(problem), ctypes.byref(options), ctypes.byref(self.plan)))
        self.out, self.data = numpy.empty_like(data["x"]), data
        self.tensors = t = self.Tensors(ctypes.sizeof(self.Tensors))
        t.query = t.key = t.value = data["x"].ctypes.data
        t.out = self.out.ctypes.data
        for part, name in enumerate("qkv"):
            setattr(t, f"{name}_weight", data["in_weight"][part * embed :].ctypes.data)
            setattr(t, f"{name}_bias", data["in_bias"][part * embed :].ctypes.data)
        t.out_weight, t.out_bias = data["out_weight"].ctypes.data, data["out_bias"].ctypes.data
        t.key_padding_mask = data["padding"].ctypes.data
        self.size = self.library.attend_mha_plan_workspace_size(self.plan)
        self.memory = numpy.empty(self.size + self.ALIGNMENT, numpy.uint8)
        self.workspace = ctypes.c_void_p(-(-self.memory.ctypes.data // self.ALIGNMENT) * self.ALIGNMENT)

    def check(self, status):
        if status:
            sys.exit(f"attend: {self.library.attend_error_detail().decode()}")

    def run(self):
        self.check(self.library.attend_mha_plan_run(self.plan, ctypes.byref(self.tensors), self.workspace,
                                                    ctypes.c_size_t(self.size)))

    def result(self):
        return self.out


def serve(way, name, threads, out):
    """A process that runs a case for so many seconds whenever a line asks for it, and answers with the median."""
    import numpy

    case = CASES[name]
    data = tensors(case)
    layer = Attend(case, data, threads) if way == "attend" else Pytorch(case, data, threads, way == WAYS[1])
    for _ in range(3):
        layer.run()
    numpy.save(out, layer.result())
    print("ready", flush=True)
    for line in sys.stdin:
        times, end = [], time.perf_counter() + float(line)
        while not times or time.perf_counter() < end:
            begin = time.perf_counter()
            layer.run()
            times.append(time.perf_counter() - begin)
        print(statistics.median(times), flush=True)


# ------------------------------------------------------------------------------------------------------------ driver


def openblas_core():
    """What attend-bench has OpenBLAS use on this processor: it may know less of a new one than attend does."""
    text = subprocess.run([os.environ["ATTEND_BENCH"], "--benchmark_format=json", "--shapes", "tiny", "--dtypes", "f32",
                           "--kernels", "auto", "--threads", "1", "--benchmark_min_time=0.001"], check=True,
                          capture_output=True, text=True).stdout
    return json.loads(text)["context"]["openblas_core"]


def measure(name, threads, rounds, seconds, core, folder):
    """Medians of the rounds by way, and the largest difference of their outputs from attend's."""
    import numpy

    workers, times = {}, {way: [] for way in WAYS}
    for index, way in enumerate(WAYS):
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads),
                                    "OPENBLAS_NUM_THREADS": "1", "OPENBLAS_CORETYPE": core}
        workers[way] = subprocess.Popen(
            [sys.executable, __file__, "--serve", way, name, str(threads), f"{folder}/{index}.npy"], env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    for way, worker in workers.items():
        if worker.stdout.readline() != "ready\n":
            sys.exit(f"peers: {way} cannot run {name}")
    for turn in range(rounds):
        for way in WAYS[turn % len(WAYS) :] + WAYS[: turn % len(WAYS)]:
            time.sleep(PAUSE)
            workers[way].stdin.write(f"{seconds}\n")
            workers[way].stdin.flush()
            times[way].append(float(workers[way].stdout.readline()))
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()
    outputs = [numpy.load(f"{folder}/{index}.npy") for index in range(len(WAYS))]
    difference = max(float(numpy.abs(outputs[0] - other).max()) for other in outputs[1:])
    return {way: statistics.median(found) for way, found in times.items()}, difference


def main():
    if sys.argv[1:2] == ["--serve"]:
        way, name, threads, out = sys.argv[2:]
        return serve(way, name, int(threads), out)
    cores = len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(prog="scripts/peers --layers", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter,
                                     epilog="example:\n  scripts/peers --layers --threads 1 --rounds 9\n")
    parser.add_argument("--threads", metavar="LIST", default=f"1,{cores}", help=f"default: 1,{cores}")
    parser.add_argument("--rounds", type=int, metavar="N", default=5, help="turns that each takes (5)")
    parser.add_argument("--seconds", type=float, metavar="S", default=0.5, help="that a turn lasts at least (0.5)")
    options = parser.parse_args()
    threads = options.threads.split(",")
    if not all(text.isdigit() and 1 <= int(text) <= 1024 for text in threads) or options.rounds < 1 or not options.seconds > 0:
        parser.error("--threads takes numbers from 1 to 1024 between commas, --rounds and --seconds positive numbers")
    core = openblas_core()
    print(f"attend: OpenBLAS for {core}, one thread of it for each of attend's; PyTorch: as it is installed")
    for count in sorted({int(text) for text in threads}):
        for name in CASES:
            with tempfile.TemporaryDirectory() as folder:
                times, difference = measure(name, count, options.rounds, options.seconds, core, folder)
            ours = times.pop("attend")
            best = min(times, key=times.get)
            print(f"{name:12} threads:{count:<3} attend {ours * 1e3:8.2f} ms   "
                  + "   ".join(f"{way} {found * 1e3:8.2f} ms" for way, found in times.items())
                  + f"   {times[best] / ours:5.2f} x   largest difference {difference:.1e}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
