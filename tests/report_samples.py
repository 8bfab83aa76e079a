# SPDX-License-Identifier: Apache-2.0
"""Files as attend-bench, bench/peers and bench/offload write them, with invented figures that are consistent."""

import random

SHAPES = {"tiny": 4, "bert-base": 90, "llama-prefill": 400, "llama-decode": 2, "batch-decode": 2}  # operations per byte
KERNELS = ["stream_f32__avx512_q12k256", "blocked_f32__avx512_q12k256", "stream_f32__avx2_q6k128"]


def benchmark(name, seconds, label="", **figures):
    return {"name": name, "run_name": name, "run_type": "iteration", "iterations": 9, "real_time": seconds * 1e6, "cpu_time": 1.0,
            "time_unit": "us", "label": label} | figures


def case(source, kernel, shape, dtype, threads, intensity):
    work = 1e6 * intensity
    rate = source.uniform(0.3, 0.9) * 250e9 * threads * min(1, intensity / 20)
    return benchmark(f"{kernel}/{shape}/{dtype}/threads:{threads}", work / rate, KERNELS[0] if kernel == "auto" else "", flops=rate,
                     bytes=rate / intensity, of_peak=rate / 250e9 / threads, peak_flops=250e9 * threads, peak_bytes=60e9,
                     error=source.uniform(1e-8, 1e-7), plain_error=1e-7, workspace=2e5 * threads, workspace_used=1e5)


def bench(seed=0, dtypes=("f32", "bf16"), kernels=KERNELS):
    source = random.Random(seed)
    runs = [case(source, kernel, shape, dtype, threads, intensity) for shape, intensity in SHAPES.items() for dtype in dtypes
            for kernel in ("auto", *kernels) for threads in (1, 2)]
    runs += [benchmark(f"baseline_openblas/{shape}/f32/threads:1", 1e-4, "SkylakeX", flops=1e11, bytes=1e11 / intensity, of_peak=0.4,
                       peak_flops=250e9) for shape, intensity in SHAPES.items()]
    for n in range(7):
        length = 1024 << n
        for kernel, memory in (("auto", 5e5), ("baseline_openblas", 4 * length**2)):
            if n < 5 or kernel == "auto":
                runs.append(benchmark(f"{kernel}/sequence-{1 << n}k/f32/threads:1", length**2 * 5e-10, KERNELS[0], flops=2e11, bytes=1e9,
                                      workspace=memory, workspace_used=memory))
    runs += [benchmark(f"peak/{name}{threads}", 1e-3, **{kind: rate}) for threads in ("", "/threads:2")
             for name, kind, rate in (("f32_fma", "flops", 250e9), ("read_l2", "bytes", 250e9), ("read_memory", "bytes", 45e9))]
    return {"context": {"date": "2026-01-02T03:04:05+00:00", "cpu": "A <processor> & more", "compiler": "gcc 12", "cores": "2",
                        "peak/f32_fma": "250 GFLOP/s", "skipped baseline_openblas/sequence-32k/f32/threads:1": "needs 4096 MiB"},
            "benchmarks": runs}


def peers():
    results = []
    for dtype in ("f32", "bf16"):
        for i, shape in enumerate(SHAPES):
            for peer, ratio in (("attend", 1.0), ("quick", (3.0, 0.5, 2.0, 1.0, 4.0)[i]), ("slow", 9.0)):
                result = {"peer": peer, "shape": shape, "dtype": dtype, "threads": 2, "flops": 1e9}
                if peer == "quick" and dtype == "bf16":
                    result["cannot"] = "has no bf16 | kernel <here>"
                else:
                    seconds = 1e-3 * ratio
                    result |= {"seconds": seconds, "least": 0.98 * seconds, "most": 1.02 * seconds, "rounds": [seconds] * 3, "error": 1e-7,
                               "memory_bytes": 1 << 20, "setting": "(B, H, L, D)"}
                results.append(result)
    return {"attend_peers": 1, "context": {"cpu": "A <processor> & more", "date": "2026-01-03", "versions": {"slow": "1.0"}},
            "results": results}


def formats(seed=0):
    """Quantised keys and values, and the shapes of serving, beside 16 bits."""
    source = random.Random(seed)
    runs = [case(source, "auto", shape, dtype, 1, intensity) for shape, intensity in
            (("llama-decode", 2), ("batch-decode", 2), ("mixed-serving", 30), ("chunked-prefill", 300))
            for dtype in ("f32", "f32+f16", "f32+q8_0", "f32+q4_0")]
    return {"context": {"cpu": "A <processor> & more", "shape/mixed-serving": "batch 32, pages of 16 keys"}, "benchmarks": runs}


def phases():
    runs = []
    for dim in (64, 128):
        for name, unit, taken, ideal in (("products_l1", "12 query rows, 256 keys", 3.0, 2.5), ("softmax", "12 query rows, 256 keys", 1.5, 1.0),
                                         ("decode_l2", "4 query rows, 512 keys", 20.0, 5.0)):
            runs.append(benchmark(f"phase/avx512/D{dim}/{name}", 1e-3, unit, ns=taken * dim, median=taken * dim, ideal=ideal * dim,
                                  times_ideal=taken / ideal))
    runs.append(benchmark("phase/amx/D64/turns", 1e-3, "32 query rows, 128 keys", cycles=900.0, median=910.0, ideal=512.0, times_ideal=1.8))
    return {"context": {"cpu": "A <processor> & more"}, "benchmarks": runs}


def engine():
    """Stock is 1 + depth / 1024 times as slow, in q8_0 twice that. One step has one depth, and attention alone computes no tokens."""
    results = [{"model": model, "what": what, "cache": cache, "depth": depth, "stock": [1e-3 * (1 + depth / 1024) * slow] * 3, "attend": [1e-3] * 3}
               | ({} if model == "attention alone" else {"tokens": 1 if what == "token" else 512})
               for model, what in (("heads-64", "token"), ("heads-64", "prompt of 512"), ("attention alone", "1 query"))
               for cache, slow in (("f16", 1), ("q8_0", 2)) for depth in (0, 2048, 8192)]
    results.append({"model": "heads-64", "what": "prompt of 4096", "cache": "f16", "depth": 0, "tokens": 4096, "stock": [2.0, 2.2], "attend": [1.0, 1.0]})
    return {"attend_engine": 1, "context": {"engine": "llama.cpp", "cpu": "A <processor> & more", "threads": 2, "date": "2026-01-04"},
            "results": results}


def offload(gpu=True):
    """attend takes half a millisecond a token on two threads, the GPU 3 whatever there is to move: 6 tokens on both."""
    results = []

    def add(kind, case, tokens, kv_bytes, **ways):
        for way, seconds in ways.items():
            way, threads = way.replace("_", "-"), {"attend_1": 1, "attend_2": 2, "pytorch_cpu": 2}.get(way, 0)
            if gpu or threads:
                result = {"case": case, "kind": kind, "dtype": "bf16", "tokens": tokens, "kv_bytes": kv_bytes, "flops": 1e9, "threads": threads,
                          "way": "attend" if way.startswith("attend") else way}
                result |= {"seconds": seconds, "least": 0.9 * seconds, "most": 1.1 * seconds, "rounds": [seconds] * 3, "setting": "(B, H, L, D)"}
                results.append(result | ({"error": 1e-4} if way != "gpu-copied" else {}))

    add("shape", "tiny", 16, 4096, attend_1=1e-5, attend_2=1e-5, pytorch_cpu=2e-5, gpu_resident=1e-5, gpu_copied=1e-5, gpu_moved=2e-5)
    for mib in (32, 64, 4096):
        add("cache", f"cache-{mib}", 1, mib << 20, attend_1=mib * 4e-5, attend_2=mib * 2e-5, pytorch_cpu=mib * 2e-4, gpu_resident=mib * 1e-6,
            gpu_copied=mib * 4e-5, gpu_moved=mib * 4.2e-5)
    for tokens in (1, 2, 4, 8, 16):
        add("tokens", f"tokens-{tokens}", tokens, 128 << 20, attend_1=tokens * 1e-3, attend_2=tokens * 5e-4, pytorch_cpu=tokens * 5e-3,
            gpu_resident=1e-4, gpu_copied=2e-3, gpu_moved=3e-3)
    refused = {key: results[0][key] for key in ("kind", "dtype", "tokens", "kv_bytes")} | {"case": "mixed-serving", "way": "pytorch-cpu", "threads": 2}
    limits = [{"side": "cpu", "what": "reading memory", "threads": 2, "rate": 5e10, "unit": "B/s"},
              {"side": "gpu", "what": "products of matrices, bf16", "threads": 0, "rate": 7e14, "unit": "FLOP/s"}]
    about = {"gpu": "an invented <GPU>"} if gpu else {"no_gpu": "PyTorch 2.0 finds none"}
    return {"attend_offload": 1, "limits": limits[:2 if gpu else 1], "results": results + [refused | {"cannot": "takes no pages"}],
            "context": {"cpu": "A <processor> & more", "date": "2026-01-05", "versions": {"pytorch": "2.0"},
                        "left_out": [{"case": "cache-8192", "dtype": "bf16", "reason": "needs 17.0 GiB of memory"}]} | about}
