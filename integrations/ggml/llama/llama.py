# SPDX-License-Identifier: Apache-2.0
"""Checks and measures libggml-attend.so within an unmodified llama.cpp; scripts/llama builds all that it needs."""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import models
import numpy as np

# What is compared: model, type of the cache, sequences, unified cache, holes. Prompts of 300 tokens reach over the window.
LOGITS = [("logits-llama", cache, 1, 1, 0) for cache in ("f32", "f16", "bf16", "q8_0", "q4_0")]
LOGITS += [("logits-llama", "f16", 3, unified, holes) for unified in (0, 1) for holes in (0, 1)]
LOGITS += [(model, cache, 2, 1, 0) for model in ("logits-gemma", "logits-gpt-oss") for cache in ("f16", "q8_0")]
MOST_KL = 1e-4  # to stock, with an f16 or f32 cache
TIE = 0.05  # logits of random weights, which reach to 15, may be that close: either token is the likeliest then
DEPTHS, QUICK_DEPTHS = (0, 2048, 8192, 16384), (0, 8192)


class Failed(Exception):
    pass


class Builds:
    """The programs of llama.cpp, and how they are run with the plug-in and without."""

    def __init__(self, arguments):
        self.folder = Path(arguments.build)
        self.plugin = arguments.plugin
        self.threads = "1" if arguments.cpu_time else str(arguments.threads)
        self.clock = "cpu_ms" if arguments.cpu_time else "ms"

    def run(self, program, *arguments, plugin=False, device=False, build="openmp", check=True):
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("GGML_", "ATTEND_GGML"))}
        if plugin:
            environment["GGML_BACKEND_PATH"] = self.plugin
        if device:
            environment["ATTEND_GGML_DEVICE"] = "1"
        command = [str(self.folder / build / "bin" / program), *map(str, arguments)]
        result = subprocess.run(command, env=environment, capture_output=True, text=True)
        if check and result.returncode != 0:
            raise Failed(f"{' '.join(command)} ended with {result.returncode}: {result.stderr[-2000:]}")
        return result

    def model(self, name):
        return models.file_of(name, self.folder)


def say(text):
    print(text, flush=True)


def progress(text):
    """What is measured just now, on a terminal only."""
    if sys.stderr.isatty():
        print(f"\r{text}\033[K", end="" if text else "\r", file=sys.stderr, flush=True)


# ---------------------------------------------------------------------------------------------------------- the tests


def check_operations(builds, filters, report):
    """ggml's own tests of the operation: as a device, and within the CPU backend."""
    for name, device, backend in (("device", True, "ATTEND"), ("within the CPU backend", False, "CPU")):
        bad = None
        passed = total = 0
        for pattern in filters:
            more = ["-p", pattern] if pattern else []
            result = builds.run("test-backend-ops", "test", "-o", "FLASH_ATTN_EXT", "-b", backend, "-j", 2, *more,
                                plugin=True, device=device, check=False)  # fmt: skip
            counts = re.search(r"(\d+)/(\d+) tests passed", result.stdout)
            unsupported = result.stdout.count("not supported")
            if result.returncode != 0 or not counts or counts[1] != counts[2] or unsupported or counts[2] == "0":
                bad = f"{unsupported} not supported; {result.stdout[-600:]} {result.stderr[-600:]}"
                break
            passed, total = passed + int(counts[1]), total + int(counts[2])
        report(f"FLASH_ATTN_EXT, {name}: {passed} of {total} cases of test-backend-ops", bad is None, bad)


def log_softmax(x):
    x = x - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def divergence(a, b):
    """The largest and the mean KL divergence of b from a, and which share of rows has the same likeliest token, or a tie."""
    la, lb = log_softmax(a), log_softmax(b)
    kl = (np.exp(la) * (la - lb)).sum(axis=1)
    rows = np.arange(len(a))
    same = a.max(axis=1) - a[rows, b.argmax(axis=1)] < TIE
    return kl.max(), kl.mean(), same.mean()


def check_logits(builds, report):
    def logits(model, cache, sequences, unified, holes, plugin):
        out = builds.folder / "logits.bin"
        builds.run("probe", "logits", builds.model(model), out, cache, cache, builds.threads, 300, 12, sequences, unified,
                   holes, plugin=plugin)  # fmt: skip
        return np.fromfile(out, np.float32).reshape(-1, models.VOCABULARY).astype(np.float64)

    for model, cache, sequences, unified, holes in LOGITS:
        case = (sequences, unified, holes)
        stock, ours = (logits(model, cache, *case, plugin) for plugin in (False, True))
        exact = stock if cache == "f32" else logits(model, "f32", *case, False)
        most, mean, same = divergence(stock, ours)
        far_stock, far_ours = divergence(exact, stock)[1], divergence(exact, ours)[1]
        name = (f"{model[7:]}, {cache} cache, {sequences} sequence{'s' if sequences > 1 else ''}"
                f"{', unified' if unified and sequences > 1 else ''}{', holes' if holes else ''}")  # fmt: skip
        text = (f"{name}: KL to stock {mean:.1e} (most {most:.1e}), same token {100 * same:.0f} %; KL to an f32 cache "
                f"{far_ours:.1e}, of stock {far_stock:.1e}")  # fmt: skip
        if cache in ("f32", "f16"):
            report(text, bool(mean <= MOST_KL and same == 1), f"at most {MOST_KL} and the same tokens were expected")
        else:
            report(text, bool(far_ours <= 1.1 * far_stock + 1e-9), "it should be no farther from an f32 cache than stock")


# --------------------------------------------------------------------------------------------------------- the figures


def measure(builds, model, caches, depths, build, rounds, tokens, prompt):
    """Milliseconds by (cache, test, depth, plugin), a median of each run; with and without take turns."""
    found = {}
    for i in range(rounds):
        for cache in caches:
            for plugin in (False, True):
                progress(f"{model}, {cache} cache, {'attend' if plugin else 'stock'}, round {i + 1} of {rounds}")
                lines = builds.run("probe", "times", builds.model(model), cache, cache, builds.threads, tokens, 1, prompt,
                                   *depths, plugin=plugin, build=build).stdout  # fmt: skip
                for line in map(json.loads, lines.splitlines()):
                    key = cache, line["test"], line["depth"], plugin
                    found.setdefault(key, []).append(statistics.median(line[builds.clock]))
    progress("")
    return found


def step(test, prompt):
    return f"prompt of {prompt}" if test == "prompt" else "token"


def results(found, model, prompt):
    """What `attend report` reads: seconds of every round, with and without."""
    return [{"model": model, "what": step(test, prompt), "cache": cache, "depth": depth, "tokens": prompt if test == "prompt" else 1,
             "stock": [ms / 1000 for ms in found[cache, test, depth, False]], "attend": [ms / 1000 for ms in found[cache, test, depth, True]]}
            for cache, test, depth in dict.fromkeys(key[:3] for key in found)]  # fmt: skip


def table(found, prompt):
    """Lines of a table of Markdown: tokens a second without and with, and how many times as fast, with the least and most."""
    lines = ["| cache | what | depth | stock, tokens/s | attend, tokens/s | times as fast (rounds) |",
             "| --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for cache, test, depth in dict.fromkeys(key[:3] for key in found):
        stock, ours = found[cache, test, depth, False], found[cache, test, depth, True]
        count = prompt if test == "prompt" else 1
        ratios = [s / o for s, o in zip(stock, ours)]
        what = f"prompt of {count}" if test == "prompt" else "tokens one by one"
        lines.append(f"| {cache} | {what} | {depth} | {1000 * count / statistics.median(stock):.1f} "
                     f"| {1000 * count / statistics.median(ours):.1f} "
                     f"| **{statistics.median(ratios):.2f}** ({min(ratios):.2f}–{max(ratios):.2f}) |")  # fmt: skip
    return lines


def measure_nodes(builds, rounds):
    """Lines of a table of single nodes of attention, by processor time; and the same as `attend report` reads it."""
    found = {}
    for _ in range(rounds):
        for line in builds.run("nodes", builds.plugin).stdout.splitlines():
            row = json.loads(line)
            key = row["type"], row["dim"], row["queries"], row["keys"]
            found.setdefault(key, []).append((row["stock"], row["attend"]))
    lines = ["| cache | head dim | queries | keys | stock, ms | attend, ms | times as fast (rounds) |",
             "| --- | --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for key, times in found.items():
        stock, ours = (statistics.median(column) for column in zip(*times))
        ratios = [s / o for s, o in times]
        lines.append(f"| {' | '.join(map(str, key))} | {stock:.3f} | {ours:.3f} "
                     f"| **{statistics.median(ratios):.2f}** ({min(ratios):.2f}–{max(ratios):.2f}) |")  # fmt: skip
    nodes = [{"model": f"attention alone, head dim {dim}", "what": "1 query" if queries == 1 else f"{queries} queries", "cache": cache,
              "depth": keys, "stock": [s / 1000 for s, _ in times], "attend": [o / 1000 for _, o in times]}
             for (cache, dim, queries, keys), times in found.items()]  # fmt: skip
    return lines, nodes


def llama_bench(builds, depth):
    """llama-bench itself, once with and once without: what a user sees."""
    say(f"llama-bench -fa 1 -p 512 -n 16 -d {depth}, without and with the plug-in:")
    for plugin in (False, True):
        result = builds.run("llama-bench", "-m", builds.model("heads-64"), "-fa", 1, "-t", builds.threads, "-p", 512, "-n", 16,
                            "-r", 2, "-d", depth, plugin=plugin)  # fmt: skip
        rows = [line for line in result.stdout.splitlines() if line.startswith("|")]
        say("\n".join(rows if not plugin else rows[2:]))


def processor():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def main():
    parser = argparse.ArgumentParser(prog="scripts/llama", description="llama.cpp, unmodified, with attend and without: ggml's tests, logits, speed.")
    parser.add_argument("--quick", action="store_true", help="under five minutes on two cores: a sample of ggml's tests, one round, depths 0 and 8192")
    parser.add_argument("--only", choices=("tests", "logits", "nodes", "times"), help="one part alone")
    parser.add_argument("--no-openmp", action="store_true", help="measure a llama.cpp built without OpenMP, too")
    parser.add_argument("--rounds", type=int, help="rounds of measuring (5; 1 with --quick)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads (all)")
    parser.add_argument("--cpu-time", action="store_true", help="one thread, by its processor time: where others use the machine, too")
    parser.add_argument("--json", metavar="FILE", help="write what was measured as `attend report` reads it")
    parser.add_argument("--build", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--plugin", required=True, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.json:  # before all the work
        path = Path(arguments.json).resolve()
        if arguments.only in ("tests", "logits"):
            parser.error(f"--json: --only {arguments.only} measures nothing")
        if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
            parser.error(f"--json: {arguments.json} cannot be written")
    builds = Builds(arguments)
    rounds = arguments.rounds or (1 if arguments.quick else 5)
    counts = {True: 0, False: 0}
    kept = []

    def report(text, good, why):
        counts[good] += 1
        say(f"{'ok    ' if good else 'FAILED'} {text}" + ("" if good else f": {why}"))

    def wanted(part):
        return arguments.only in (None, part)

    try:
        if wanted("tests"):
            quick = ["hsk=64,hsv=64,nh=4.*kv=(113|512),nb=(1|32),", "hsk=128,hsv=128.*kv=512,nb=(1|75),.*prec=f32", "hsk=576.*kv=512,nb=3,"]
            check_operations(builds, quick if arguments.quick else [None], report)
        if wanted("logits"):
            check_logits(builds, report)
        if wanted("nodes"):
            say(f"\n{processor()}: one node of attention, 32 query heads and 8 key heads, on one thread, by processor time\n")
            lines, nodes = measure_nodes(builds, rounds)
            say("\n".join(lines))
            kept += nodes
        if wanted("times"):
            cases = [("openmp", "heads-64", ("f16", "bf16", "q8_0", "q4_0"), QUICK_DEPTHS if arguments.quick else DEPTHS)]
            if not arguments.quick:
                cases += [("openmp", "heads-128", ("f16", "q8_0"), (0, 8192)), ("openmp", "layers-1b", ("f16", "q8_0"), (0, 8192))]
            if arguments.no_openmp:
                cases.append(("serial", "heads-64", ("f16", "q8_0"), (0, 8192)))
            say(f"\n{processor()}, {builds.threads} threads; medians of {rounds} rounds, with and without in turns"
                + ("; by processor time" if arguments.cpu_time else ""))
            for build, model, caches, depths in cases:
                found = measure(builds, model, caches, depths, build, rounds, 24, 512)
                say(f"\n{model}, llama.cpp {'with' if build == 'openmp' else 'without'} OpenMP\n")
                say("\n".join(table(found, 512)))
                kept += results(found, model if build == "openmp" else f"{model}, without OpenMP", 512)
            found = measure(builds, "heads-64", ("f16",), (0,), "openmp", rounds, 0, 4096)
            say("\n" + "\n".join(table(found, 4096)) + "\n")
            kept += results(found, "heads-64", 4096)
            llama_bench(builds, 0 if arguments.quick else 4096)
    except Failed as failure:
        report(str(failure), False, "")
    if arguments.json and kept:
        context = {"engine": "llama.cpp", "cpu": processor(), "threads": int(builds.threads), "rounds": rounds,
                   "date": datetime.now(timezone.utc).isoformat(timespec="seconds"), "system": platform.platform(),
                   "clock": "processor time" if arguments.cpu_time else "wall clock; of attention alone processor time, 1 thread"}  # fmt: skip
        Path(arguments.json).write_text(json.dumps({"attend_engine": 1, "context": context, "results": kept}, indent=1) + "\n", encoding="utf-8")
    if arguments.only not in ("nodes", "times"):
        say(f"{counts[True]} passed, {counts[False]} failed, 0 skipped")
    return 1 if counts[False] else 0


if __name__ == "__main__":
    sys.exit(main())
