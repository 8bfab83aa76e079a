# SPDX-License-Identifier: Apache-2.0
"""attend beside what its users run today: the same inputs, a process each, rounds that take turns.

scripts/peers makes the environment this needs and runs it.
"""

import argparse
import atexit
import concurrent.futures
import dataclasses
import fnmatch
import json
import os
import pathlib
import platform
import select
import signal
import statistics
import subprocess
import sys
import time

MODULES = {"attend": "attend_library", "pytorch-flash": "pytorch", "pytorch-math": "pytorch", "pytorch-flex": "pytorch",
           "onnxruntime-mha": "onnx_runtime", "onnxruntime-gqa": "onnx_runtime", "onnxruntime-attention": "onnx_runtime",
           "openvino": "openvino_runtime", "vllm": "vllm_cpu", "ggml": "ggml_library"}
COMPILING = ("pytorch-flex",)  # seconds for every case
HERE = pathlib.Path(__file__).resolve().parent
TYPES = ["f32", "f16", "bf16", "f32+q8_0", "f32+q4_0"]
QUICK = {"shapes": "bert-base,gpt2-prefill,vit-large,llama-prefill,speculative,llama-decode,batch-decode",
         "dtypes": "f32,bf16", "rounds": 3, "seconds": 0.05,
         "peers": ",".join(name for name in MODULES if name not in ("pytorch-math", "pytorch-flex"))}
FULL = {"shapes": "*", "dtypes": ",".join(TYPES), "rounds": 5, "seconds": 0.1, "peers": ",".join(MODULES)}
PATIENCE = 300  # seconds for one answer: compiling takes its time
ENOUGH = 3      # seconds of rounds after which a peer is known well enough
SLOW = 3        # times as slow as the fastest package but attend: a peer that its first round shows to be so takes no more
PAUSE = 0.02    # seconds between two peers, in which the threads of the first go to sleep


class Worker:
    """A peer's process. One that ended or hung is started anew for the next case."""

    def __init__(self, peer, threads, clock):
        self.peer, self.threads, self.clock = peer, threads, clock
        self.start()

    def start(self):
        threads = str(self.threads)
        environment = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "OPENVINO_LOG_LEVEL": "0",
                                    "TORCHINDUCTOR_COMPILE_THREADS": "1"}
        self.process = subprocess.Popen([sys.executable, HERE / "worker.py", MODULES[self.peer], self.peer, threads, self.clock],
                                        env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, start_new_session=True)
        self.version = self.answer()["version"]

    def answer(self):
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        line = self.process.stdout.readline() if ready else b""
        if not line:
            self.close()
            return {"cannot": "its process ended" if ready else f"no answer in {PATIENCE} seconds", "version": "?"}
        return json.loads(line)

    def ask(self, **order):
        try:
            self.process.stdin.write(json.dumps(order).encode() + b"\n")
            self.process.stdin.flush()
        except OSError:
            return {"cannot": "its process ended"}
        return self.answer() if order["do"] != "end" else {}

    def close(self):
        """Ends the process and, being of its session, what it has forked."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def too_slow(peer, times, most):
    """Whether a peer took `most` times as long as the fastest of the others beside attend, which itself is never too slow."""
    return peer != "attend" and peer in times and times[peer] > most * min(time for name, time in times.items() if name != "attend")


def known_well(peer, running):
    """Whether more rounds of a peer would say nothing more. Of long calls one is enough, but for attend and the fastest of the others."""
    long = sum(running[peer]) > ENOUGH
    firsts = {name: times[0] for name, times in running.items() if times}
    return too_slow(peer, firsts, 1 if long else SLOW) or (long and len(running[peer]) >= 2)


def left_out(peer, threads, case, results):
    """Whether a peer was so slow on more threads that it is SLOW on these, too, even if the fastest became faster by every thread
    and this one by none. What takes seconds to compile is left out where the same says that it cannot be the fastest.
    """
    for more in {key[0] for key in results if key[0] > threads}:
        there = {name: result["seconds"] for name in MODULES if "seconds" in (result := results.get((more, *case, name), {}))}
        if too_slow(peer, there, more / threads * (1 if peer in COMPILING else SLOW)):
            return True
    return False


def load(workers, case):
    """Loads a case into every peer, in the fastest way to call it, and says what was found on the way. What compiles does so while
    the others load; choosing is timed, and done alone.
    """
    about = dataclasses.asdict(case)
    found = {peer: worker.ask(do="load", case=about, setting=None) for peer, worker in workers.items()}
    able = [peer for peer in found if "cannot" not in found[peer]]

    def ask(peers):
        for peer in peers:
            found[peer] = workers[peer].ask(do="load", case=about, setting=found[peer]["setting"])

    with concurrent.futures.ThreadPoolExecutor() as pool:
        list(pool.map(ask, ([peer for peer in able if peer in COMPILING], [peer for peer in able if peer not in COMPILING])))
    return found


def measure(workers, case, rounds, seconds):
    """What each peer did with a case."""
    for worker in workers.values():
        if worker.process.poll() is not None:
            worker.start()
    found = load(workers, case)
    running = {peer: [] for peer in found if "cannot" not in found[peer]}
    for turn in range(rounds):
        order = list(running)
        for peer in order[turn % len(order):] + order[:turn % len(order)] if order else []:
            if "cannot" in found[peer] or known_well(peer, running):
                continue
            time.sleep(PAUSE)
            done = workers[peer].ask(do="time", seconds=seconds)
            if "cannot" in done:
                found[peer] = done
            else:
                running[peer].append(statistics.median(done["seconds"]))
    for peer, times in running.items():
        if "cannot" not in found[peer]:
            workers[peer].ask(do="end")
            found[peer] |= {"seconds": statistics.median(times), "least": min(times), "most": max(times), "rounds": times}
    return found


def machine(bench):
    """What attend-bench says of the machine and of itself, without private names and paths."""
    context = json.loads(subprocess.run(
        [bench, "--benchmark_format=json", "--shapes", "tiny", "--dtypes", "f32", "--kernels", "auto", "--threads", "1",
         "--benchmark_min_time=0.001"], check=True, capture_output=True, text=True).stdout)["context"]
    return {key: value for key, value in context.items() if not key.startswith(("skipped", "peak/", "executable", "host_name"))}


def progress(done, total, text):
    if sys.stderr.isatty():
        width = 30
        bar = "#" * (width * done // max(total, 1))
        sys.stderr.write(f"\r\033[K[{bar:<{width}}] {done}/{total}  {text}")
        sys.stderr.flush()
    if done == total:
        clear_progress()


def clear_progress():
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K")
        sys.stderr.flush()


def fail(text):
    print(f"peers: {text}", file=sys.stderr)
    sys.exit(2)


def wanted(names, globs, what, refuse=fail):
    for glob in globs.split(","):
        if not fnmatch.filter(names, glob):
            refuse(f"--{what}: nothing matches '{glob}'; there are {', '.join(names)}")
    return [name for name in names if any(fnmatch.fnmatch(name, glob) for glob in globs.split(","))]


def earlier(path, about, shapes):
    """What a run that was interrupted found, and the packages' versions; fails if it was another machine's or run's."""
    try:
        found = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
        context, results, versions = found["context"], found["results"], dict(found["context"]["versions"])
        same = {key: context.get(key) for key in ("attend_version", "compiler", "cpu", "cores", "isa", "python", "rounds", "seconds",
                                                     "enough_seconds", "slow_times", "clock")}
        known = all(result["shape"] in shapes and result["dtype"] in TYPES and result["peer"] in MODULES and result["threads"] > 0
                    for result in results)
        date = context["date"]
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as reason:
        fail(f"--continue: {path} is no result of an earlier run ({reason})")
    for key, value in same.items():
        if value != about.get(key):
            fail(f"--continue: {path} has {key} {value}, here it is {about.get(key)}; leave --continue out to begin anew")
    if not known or context.get("shapes") != shapes:
        fail(f"--continue: {path} has other shapes, types or peers than there are; leave --continue out to begin anew")
    about["date"] = f"{date}, continued {about['date']}"
    return {(result["threads"], result["shape"], result["dtype"], result["peer"]): result for result in results}, versions


def arguments(cores):
    parser = argparse.ArgumentParser(
        prog="scripts/peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples:\n  scripts/peers --quick\n  scripts/peers --update\n  scripts/peers --shapes '*-decode' --dtypes f32 --threads 1\n"
               "  scripts/peers --layers --help\n\n"
               "Ctrl-C ends it early, with the cases that are done; --continue does the others another time.\n")
    parser.add_argument("--quick", action="store_true", help="some shapes, f32 and bf16, all cores, without PyTorch's math kernel and FlexAttention")
    parser.add_argument("--shapes", metavar="GLOBS", help="standard shapes, separated by commas")
    parser.add_argument("--dtypes", metavar="LIST", help=f"of {', '.join(TYPES)}; f32+q8_0: queries in f32, keys and values in q8_0")
    parser.add_argument("--threads", metavar="LIST", help="default: 1 and all cores; with --quick all cores")
    parser.add_argument("--peers", metavar="GLOBS", help=f"of {', '.join(MODULES)}")
    parser.add_argument("--rounds", type=int, metavar="N", help="turns that the peers take at each case")
    parser.add_argument("--seconds", type=float, metavar="S", help="that a turn lasts at least")
    parser.add_argument("--cpu-time", action="store_true", help="one thread, by its processor time: where others use the machine, too")
    parser.add_argument("--continue", action="store_true", dest="continued", help="keep the cases that FILE has, made with the same build, and measure the others")
    parser.add_argument("-o", "--output", metavar="FILE", default=HERE.parents[1] / "build" / "peers.json",
                        help="where the results go (build/peers.json); the page made of them goes beside it, as .html")
    parser.add_argument("--update", action="store_true", help="also make them the current state in docs/measured/")
    options = parser.parse_args()
    defaults = QUICK if options.quick else FULL
    for name, value in defaults.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    if options.rounds < 1 or not options.seconds > 0:
        fail("--rounds and --seconds must be positive")
    everywhere = str(cores) if options.quick else f"1,{cores}"
    texts = (options.threads or ("1" if options.cpu_time else everywhere)).split(",")
    if not all(text.isdigit() and 1 <= int(text) <= 1024 for text in texts):
        fail(f"--threads {options.threads}: expected numbers from 1 to 1024, separated by commas")
    options.threads = sorted({int(text) for text in texts}, reverse=True)
    if options.cpu_time and options.threads != [1]:
        fail("--cpu-time: the processor time of several threads is no time of a call; expected --threads 1")
    return options


def report(results):
    """A line on the terminal for every case: attend, and the best of the others."""
    cases = {}
    for result in results:
        cases.setdefault((result["shape"], result["dtype"], result["threads"]), {})[result["peer"]] = result
    for (shape, dtype, threads), found in cases.items():
        times = {peer: result["seconds"] for peer, result in found.items() if "seconds" in result}
        ours = times.pop("attend", None)
        best = min(times, key=times.get, default=None)
        text = f"{shape:15} {dtype:5} threads:{threads:<3}"
        text += f" attend {ours * 1e3:9.3f} ms" if ours else f" attend {found.get('attend', {}).get('cannot', 'not run')}"
        text += f"   {best} {times[best] * 1e3:9.3f} ms" if best else "   no peer can do it" if len(found) > 1 else ""
        print(text + (f"   {times[best] / ours:5.2f} x" if ours and best else ""))


def main():
    from case import Case  # needs numpy, which --help does not

    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    options = arguments(len(os.sched_getaffinity(0)))
    bench = os.environ["ATTEND_BENCH"]
    shapes = {shape["name"]: shape for shape in json.loads(subprocess.run(
        [bench, "--list-shapes"], check=True, capture_output=True, text=True).stdout)}
    names = wanted(list(shapes), options.shapes, "shapes")
    dtypes = wanted(TYPES, options.dtypes, "dtypes")
    peers = wanted(list(MODULES), options.peers, "peers")
    about = machine(bench) | {"date": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "system": platform.platform(),
                              "python": platform.python_version(), "rounds": options.rounds, "seconds": options.seconds,
                              "enough_seconds": ENOUGH, "slow_times": SLOW}
    if options.cpu_time:
        about["clock"] = "processor time"
    results, versions = earlier(options.output, about, shapes) if options.continued else ({}, {})
    cases = [(threads, name, dtype) for threads in options.threads for name in names for dtype in dtypes
             if any((threads, name, dtype, peer) not in results and not left_out(peer, threads, (name, dtype), results) for peer in peers)]
    workers, done = {}, 0
    atexit.register(lambda: [worker.close() for worker in workers.values()])
    try:
        for done, (threads, name, dtype) in enumerate(cases):
            progress(done, len(cases), f"{name} {dtype}, {threads} threads")
            if not workers or next(iter(workers.values())).threads != threads:
                for worker in workers.values():
                    worker.close()
                clock = "process_time" if options.cpu_time else "perf_counter"
                workers.update((peer, Worker(peer, threads, clock)) for peer in peers)
                for peer, worker in workers.items():
                    if versions.setdefault(peer, worker.version) != worker.version:
                        fail(f"--continue: {options.output} was made with {peer} {versions[peer]}, this is {worker.version}; "
                             "leave --continue out to begin anew")
            case = Case(**shapes[name], dtype=dtype)
            asked = {peer: worker for peer, worker in workers.items() if not left_out(peer, threads, (name, dtype), results)}
            for peer, result in measure(asked, case, options.rounds, options.seconds).items():
                results[threads, name, dtype, peer] = {"peer": peer, "shape": name, "dtype": dtype, "threads": threads,
                                                       "flops": case.flops(), **result}
        progress(len(cases), len(cases), "")
    except KeyboardInterrupt:
        if not results:
            fail("interrupted before the first case was done")
        print(f"\npeers: interrupted: {done} of {len(cases)} cases are done, and kept; --continue does the others", file=sys.stderr)
    results = sorted(results.values(), key=lambda result: (-result["threads"], list(shapes).index(result["shape"]),
                                                           TYPES.index(result["dtype"])))
    text = json.dumps({"attend_peers": 1, "context": about | {"versions": versions, "shapes": shapes}, "results": results},
                      indent=1)
    partial = pathlib.Path(f"{options.output}.partial")
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(options.output)
    report(results)
    if "ATTEND" in os.environ:
        page = pathlib.Path(options.output).with_suffix(".html")
        subprocess.run([os.environ["ATTEND"], "report", f"peers={options.output}", "-o", page], check=True)
        print(f"{options.output}, {page}")
    if options.update:
        subprocess.run([sys.executable, "-B", HERE.parents[1] / "scripts/lib/measured.py", f"peers={options.output}"], check=True)


if __name__ == "__main__":
    main()
