# SPDX-License-Identifier: Apache-2.0
"""Attention over keys and values in host memory: by attend where they lie, or by a GPU that they are moved to.

For the standard shapes, for one new token over caches of 32 MiB to 4 GiB, and for more and more new tokens over one cache: attend on
one and on all cores, PyTorch's attention on all cores, and, where PyTorch finds a GPU, its attention there with everything resident,
with q, k and v moved first, and the moving alone. Beside a GPU attend fetches q from it and sends out to it in each call. Rounds take
turns; where there is no GPU the columns of the processor are measured alone.

scripts/offload makes the environment this needs and runs it.
"""

import argparse
import functools
import gc
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[1:1] = [str(ROOT / "bench" / "peers"), str(ROOT / "report")]
import peers  # pylint: disable=wrong-import-position
from crossing import crossings  # pylint: disable=wrong-import-position

DTYPES = ("f32", "f16", "bf16")
MIB = 1 << 20
HEADS, KV_HEADS, DIM = 32, 8, 128  # of caches: a layer of Llama 3 8B
QUICK = {"shapes": "bert-base,gpt2-prefill,speculative,llama-decode,batch-decode", "caches": "32,128", "tokens": "1,8,32", "tokens_cache": 32,
         "rounds": 3, "seconds": 0.05}
FULL = {"shapes": "*", "caches": "32,64,128,256,512,1024,2048,4096", "tokens": "1,2,4,8,16,32,64,128,256", "tokens_cache": 128,
        "rounds": 5, "seconds": 0.1}
ENOUGH = 2        # seconds of rounds after which a way is known well enough: of three rounds at least, or of one or two of four times as long
LONG = 1          # seconds of attend after which no more tokens a step are tried, nor where the GPU takes a quarter
CHECKED = 4 << 20  # keys that are attended once more in double, for a case
PAUSE = peers.PAUSE
GPU_WAYS = ("resident", "copied", "moved")


def fail(text):
    print(f"offload: {text}", file=sys.stderr)
    sys.exit(2)


# ---------------------------------------------------------------------------------------------------------------- cases


def cache(name, mib, tokens, dtype):
    """So many new tokens of one sequence over a cache of so many MiB."""
    from case import Case

    keys = mib * MIB // (KV_HEADS * 2 * DIM * (4 if dtype == "f32" else 2))
    return Case(name, 1, HEADS, KV_HEADS, tokens, keys, DIM, DIM, tokens > 1, 0, "plain", dtype)


def cases(options, shapes):
    """(kind, case) of all that is to be measured, in this order."""
    from case import Case

    for dtype in options.dtypes:
        for name in shapes:
            yield "shape", Case(**shapes[name], dtype=dtype)
        for mib in options.caches:
            yield "cache", cache(f"cache-{mib}", mib, 1, dtype)
        for tokens in options.tokens:
            yield "tokens", cache(f"tokens-{tokens}", options.tokens_cache, tokens, dtype)


def kv_bytes(case):
    """Of the keys and values that are attended: what has to be read at least, or moved."""
    size = {"f32": 4, "f16": 2, "bf16": 2}[case.dtype]
    dims = case.head_dim + (0 if case.form == "v-in-k" else case.v_head_dim)
    keys = sum(case.attended(b, case.queries_of(b) - 1) for b in range(case.batch))
    return keys * case.kv_heads * dims * size


def needed(case, gpu):
    """Of host memory: the tensors, once more pinned, and what the check widens."""
    once = case.batch * case.kv_len * case.kv_heads * (case.head_dim + case.v_head_dim) * (4 if case.dtype == "f32" else 2)
    return once * (2 if gpu else 1) + case.kv_len * (case.head_dim + case.v_head_dim) * 12 + (1 << 29)


# ----------------------------------------------------------------------------------------------------------------- ways


class Attend:
    """attend in host memory. Beside a GPU it fetches q from it before and sends out to it after."""

    def __init__(self, case, q, k, v, threads, loaded):
        import attend_library

        self.plan = attend_library.Plan(case, q, k, v, threads, loaded.out if loaded else None)
        self.loaded, self.setting, self.result = loaded, self.plan.setting, self.plan.result

    def run(self):
        if self.loaded:
            self.loaded.fetch_q()
        self.plan.run()
        if self.loaded:
            self.loaded.send_out()


def pytorch_on_cpu(case, q, k, v, threads):
    """PyTorch's attention in the fastest of the ways to call it; none that copies a cache."""
    try:
        import pytorch
    except ImportError:
        return refusal("PyTorch is not installed")
    from worker import fastest

    pytorch.refuse("pytorch", case)
    ways = pytorch.ways("pytorch", case, q, k, v, threads, copies=k.nbytes < 256 * MIB)
    name = next(iter(ways)) if len(ways) == 1 else fastest(ways)
    way = ways[name]()
    way.setting = name
    return way


def refusal(text):
    from case import Cannot

    raise Cannot(text)


def ways(case, q, k, v, gpu, cores):
    """{(way, threads): what makes it}. Threads are 0 on the GPU."""
    loaded, reason = None, None
    if gpu:
        try:
            loaded = gpu.load(case, q, k, v)
            q, k, v = loaded.q, loaded.k, loaded.v
        except Exception as failure:  # whatever a package raises
            reason = said(failure)
    made = {("attend", threads): lambda threads=threads: Attend(case, q, k, v, threads, loaded) for threads in sorted({1, cores})}
    made["pytorch-cpu", cores] = lambda: pytorch_on_cpu(case, q, k, v, cores)
    found = {}

    def on_gpu(way):
        if reason:
            refusal(reason)
        if not found:
            found.update(loaded.ways())
        return found[way]

    if gpu:
        made |= {(f"gpu-{way}", 0): lambda way=way: on_gpu(way) for way in GPU_WAYS}
    return made


def said(failure):
    """A reason in a line."""
    from case import Cannot

    text = " ".join(str(failure).split())[:200]
    return text if isinstance(failure, Cannot) else f"{type(failure).__name__}: {text}"


def seconds_of(way, seconds):
    from worker import seconds_of as one_by_one

    return way.seconds_of(seconds) if hasattr(way, "seconds_of") else one_by_one(way, seconds)


def measure(case, gpu, cores, rounds, seconds):
    """{(way, threads): what was found}."""
    from case import error_beside, largest, tensors, truths

    q, k, v = tensors(case)
    rows = min(max(CHECKED // case.kv_len, 2), 24)
    truth, most, shape = truths(case, q, k, v, rows), largest(v), (*q.shape[:-1], case.v_head_dim)
    makers = ways(case, q, k, v, gpu, cores)
    del q, k, v
    found, running = {}, {}
    for name, make in makers.items():
        try:
            way = make()
            way.run()
            found[name] = {"setting": way.setting}
            if way.result:
                found[name]["error"] = error_beside(truth, most, shape, way.result())
                if found[name]["error"] == float("inf"):
                    refusal("its output is not finite, or of another shape")
            running[name] = (way, [])
        except Exception as failure:  # whatever a package raises
            found[name] = {"cannot": said(failure)}
    names = list(running)
    for turn in range(rounds):
        for name in names[turn % len(names):] + names[:turn % len(names)] if names else []:
            way, times = running[name]
            if "cannot" not in found[name] and sum(times) < (ENOUGH if len(times) > 2 else 4 * ENOUGH):
                time.sleep(PAUSE)  # the threads of the one before go to sleep
                try:
                    times.append(statistics.median(seconds_of(way, seconds)))
                except Exception as failure:  # whatever a package raises
                    found[name] = {"cannot": said(failure)}
    for name, (_, times) in running.items():
        if "cannot" not in found[name]:
            found[name] |= {"seconds": statistics.median(times), "least": min(times), "most": max(times), "rounds": times}
    return found


# --------------------------------------------------------------------------------------------------------------- limits


def rounded(value):
    return float(f"{value:.5g}")


def cpu_limits(bench, cores):
    """What attend-bench probes of the processor."""
    names = {"f32_fma": ("multiply and add, f32", "flops", "FLOP/s"), "bf16_matrix": ("products in bf16", "flops", "FLOP/s"),
             "read_memory": ("reading memory", "bytes", "B/s")}
    found = json.loads(subprocess.run([bench, "--kernels", "peak", "--threads", ",".join(map(str, sorted({1, cores}))),
                                       "--benchmark_format=json", "--benchmark_min_time=0.1"], check=True, capture_output=True, text=True).stdout)
    for each in found["benchmarks"]:
        name, _, threads = each["name"].removeprefix("peak/").partition("/threads:")
        if name in names:
            what, key, unit = names[name]
            yield {"side": "cpu", "what": f"{what} ({each['label']})" if unit == "FLOP/s" else what, "threads": int(threads or 1),
                   "rate": rounded(each[key]), "unit": unit}


def gpu_limits(gpu, dtypes, seconds):
    for i, dtype in enumerate(dtypes):
        for what, rate, unit in gpu.limits(dtype, seconds):
            if i == 0 or "products" in what:
                yield {"side": "link" if "PCIe" in what else "gpu", "what": what, "threads": 0, "rate": rounded(rate), "unit": unit}


# --------------------------------------------------------------------------------------------------------------- driver


def find_gpu():
    """The GPU, or None and why."""
    try:
        import torch
    except ImportError:
        return None, "PyTorch is not installed"
    if not torch.cuda.is_available():
        return None, f"PyTorch {torch.__version__} finds none"
    from gpu import Gpu

    return Gpu(), None


def numbers(text, name, most):
    parts = text.split(",")
    if not all(part.isdigit() and 1 <= int(part) <= most for part in parts):
        fail(f"--{name} {text}: expected numbers from 1 to {most}, separated by commas")
    return sorted({int(part) for part in parts})


def arguments():
    parser = argparse.ArgumentParser(
        prog="scripts/offload", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples:\n  scripts/offload --quick\n  scripts/offload -o offload.json\n"
               "  scripts/offload --python python3 -o offload.json   # with the PyTorch that is there, say one with CUDA\n"
               "  scripts/offload --shapes '*-decode' --caches 256,1024 --tokens 1,4,16,64\n\n"
               "Ctrl-C ends it early, with the cases that are done.\n")
    parser.add_argument("--quick", action="store_true", help="some shapes, caches of 32 and 128 MiB: about a minute; the whole takes some five")
    parser.add_argument("--python", metavar="PROGRAM", help="as the first option: a Python that has NumPy and PyTorch, instead of installing them")
    parser.add_argument("--shapes", metavar="GLOBS", help="standard shapes, separated by commas")
    parser.add_argument("--dtypes", metavar="LIST", default="bf16", help=f"of {', '.join(DTYPES)} (bf16)")
    parser.add_argument("--caches", metavar="MIB", help=f"sizes that one new token attends ({FULL['caches']})")
    parser.add_argument("--tokens", metavar="LIST", help=f"new tokens a step ({FULL['tokens']})")
    parser.add_argument("--tokens-cache", type=int, metavar="MIB", help=f"size of the cache that these attend ({FULL['tokens_cache']})")
    parser.add_argument("--rounds", type=int, metavar="N", help="turns that all take at each case")
    parser.add_argument("--seconds", type=float, metavar="S", help="that a turn lasts at least")
    parser.add_argument("--cpu-time", action="store_true", help="no GPU and one thread, by its processor time: where others use the machine, too")
    parser.add_argument("-o", "--output", metavar="FILE", default=ROOT / "build" / "offload.json",
                        help="where the results go (build/offload.json); the page made of them goes beside it, as .html")
    parser.add_argument("--update", action="store_true", help="also make them the current state in docs/measured/ and docs/offload.md")
    options = parser.parse_args()
    for name, value in (QUICK if options.quick else FULL).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    if options.python:
        fail("--python must be the first option")
    options.caches, options.tokens = numbers(options.caches, "caches", 1 << 20), numbers(options.tokens, "tokens", 4096)
    if options.rounds < 1 or not options.seconds > 0 or options.tokens_cache < 1:
        fail("--rounds, --seconds and --tokens-cache must be positive")
    options.dtypes = peers.wanted(DTYPES, options.dtypes, "dtypes", fail)
    return options


def time_text(seconds):
    return f"{seconds * 1e3:9.3f} ms"


def line(kind, case, found):
    """A line on the terminal for a case."""
    where = {"shape": case.name, "cache": f"{case.name.partition('-')[2]} MiB, a token", "tokens": f"{case.q_len} tokens"}[kind]
    text = f"{where:18} {case.dtype:5}"
    for (way, threads), result in found.items():
        name = way.removeprefix("gpu-") if not threads else f"{way} {threads}"
        text += f"  {name} {time_text(result['seconds']) if 'seconds' in result else '        -   '}"
    return text


def run(options, gpu, shapes, cores, say=functools.partial(print, flush=True)):
    """Results, and what was left out."""
    from worker import available_bytes

    results, left_out, done = [], [], set()
    todo = list(cases(options, shapes))
    try:
        for i, (kind, case) in enumerate(todo):
            peers.progress(i, len(todo), f"{case.name} {case.dtype}")
            if (kind, case.dtype) in done:
                continue
            if needed(case, gpu) > available_bytes():
                left_out.append({"case": case.name, "dtype": case.dtype, "reason": f"needs {needed(case, gpu) / (1 << 30):.1f} GiB of memory"})
                continue
            found = measure(case, gpu, cores, options.rounds, options.seconds)
            gc.collect()
            results += [{"case": case.name, "kind": kind, "dtype": case.dtype, "tokens": case.q_len, "kv_bytes": kv_bytes(case),
                         "flops": case.flops(), "way": way, "threads": threads} | result for (way, threads), result in found.items()]
            peers.clear_progress()
            say(line(kind, case, found))
            ours = found["attend", cores].get("seconds", 0)
            theirs = found.get(("gpu-moved", 0), {}).get("seconds", 0)
            if kind == "tokens" and (ours > LONG or 0 < 4 * theirs < ours):
                done.add((kind, case.dtype))
        peers.progress(len(todo), len(todo), "")
    except KeyboardInterrupt:
        if not results:
            fail("interrupted before the first case was done")
        print("\noffload: interrupted: the cases that are done are kept", file=sys.stderr)
    return results, left_out


def main(find=find_gpu):
    options = arguments()
    bench, cores = os.environ["ATTEND_BENCH"], 1 if options.cpu_time else len(os.sched_getaffinity(0))
    there = {shape["name"]: shape for shape in json.loads(subprocess.run(
        [bench, "--list-shapes"], check=True, capture_output=True, text=True).stdout)}
    shapes = {name: there[name] for name in peers.wanted(list(there), options.shapes, "shapes", fail)}
    gpu, reason = (None, "--cpu-time is given") if options.cpu_time else find()
    versions = {"attend": version_of("attend_library"), "pytorch": version_of("pytorch")}
    about = peers.machine(bench) | {"date": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "system": platform.platform(), "threads": str(cores),
                                    "rounds": options.rounds, "seconds": options.seconds, "enough_seconds": ENOUGH,
                                    "tokens_cache_bytes": options.tokens_cache * MIB,
                                    "versions": {name: version for name, version in versions.items() if version}}
    about = {key: value for key, value in about.items() if not key.startswith("shape/")}
    if options.cpu_time:
        import worker

        worker.clock, about["clock"] = time.process_time, "processor time"
    about |= gpu.about() if gpu else {"no_gpu": reason}
    print(f"GPU: {about['gpu']}" if gpu else f"No GPU: {reason}. The columns of the processor are measured alone.")
    limits = list(cpu_limits(bench, cores)) + (list(gpu_limits(gpu, options.dtypes, options.seconds)) if gpu else [])
    for limit in limits:
        threads = f"threads:{limit['threads']}" if limit["threads"] else ""
        print(f"{limit['what']:40} {threads:12} {limit['rate'] * 1e-9:10.1f} G{limit['unit']}")
    results, left_out = run(options, gpu, shapes, cores)
    data = {"attend_offload": 1, "context": about | {"left_out": left_out}, "limits": limits, "results": results}
    partial = pathlib.Path(f"{options.output}.partial")
    partial.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    partial.replace(options.output)
    for each in left_out:
        print(f"left out: {each['case']} {each['dtype']}: {each['reason']}")
    for each in crossings(results):
        print(each.sentence)
    if "ATTEND" in os.environ:
        page = pathlib.Path(options.output).with_suffix(".html")
        subprocess.run([os.environ["ATTEND"], "report", f"offload={options.output}", "-o", page], check=True)
        print(f"{options.output}, {page}")
    if options.update:
        subprocess.run([sys.executable, "-B", ROOT / "scripts/lib/measured.py", f"offload={options.output}"], check=True)


def version_of(module):
    """What a module of bench/peers says its package's is; None where there is none."""
    try:
        return __import__(module).version()
    except ImportError:
        return None


if __name__ == "__main__":
    main()
