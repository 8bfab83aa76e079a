# SPDX-License-Identifier: Apache-2.0
"""A peer in a process of its own, told by peers.py what to do: lines of JSON on standard input, answers on output.

usage: worker.py MODULE PEER THREADS CLOCK

Every case runs in a fork, so that memory is measured from the same state each time and a crash costs one case.
"""

import gc
import importlib
import json
import os
import resource
import sys
import time
import warnings

from case import Cannot, Case, error, tensors

COMPILED = {"pytorch-flex": "torch._inductor.compile_fx"}  # their compilers, whose memory would count as theirs
CHOICE_SECONDS = 0.1          # for each way to call a peer, when there are several
clock = time.perf_counter     # or the one that main() is told


def status_kib(field):
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))


def available_bytes():
    with open("/proc/meminfo", encoding="ascii") as lines:
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))


def read_line():
    """One line and not a byte more: what follows may be for the forked process."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            sys.exit(0)
        line += byte
    return json.loads(line)


def answer(pipe, **what):
    os.write(pipe, json.dumps(what).encode() + b"\n")


def seconds_of(way, seconds, most=500):
    """Times of calls that follow one another, at least one."""
    times = []
    end = clock() + seconds
    while not times or (clock() < end and len(times) < most):
        begin = clock()
        way.run()
        times.append(clock() - begin)
    return times


def load(peer, module, case, threads, setting):
    """The way to call it named `setting`, having run once, and what was found on the way."""
    if peer not in COMPILED:
        small = case.small()
        warm = module.ways(peer, small, *tensors(small), threads)
        warm.get(setting, next(iter(warm.values())))().run()
    q, k, v = tensors(case)
    make = module.ways(peer, case, q, k, v, threads)[setting]
    gc.collect()
    with open("/proc/self/clear_refs", "w", encoding="ascii") as peak:
        peak.write("5")
    before = status_kib("VmRSS")
    way = make()
    way.run()
    memory = None if peer in COMPILED else max(status_kib("VmHWM") - before, 0) << 10
    found = error(case, q, k, v, way.result())
    return way, {"memory_bytes": memory, "error": found, "setting": getattr(way, "setting", setting)}


def fastest(ways, times_of=seconds_of):
    """The name of the fastest of several. One way that fails is no reason to give up the others."""
    best, reason = {}, None
    for name, make in ways.items():
        try:
            way = make()
            first = times_of(way, 0)
            best[name] = min(times_of(way, CHOICE_SECONDS) if first[0] < 10 * CHOICE_SECONDS else first)
        except Exception as failure:  # whatever a package raises
            reason = failure
    if not best:
        raise reason
    return min(best, key=best.get)


def choose(peer, module, case, threads):
    """The fastest way to call the peer."""
    module.refuse(peer, case)
    ways = module.ways(peer, case, *tensors(case), threads)
    return next(iter(ways)) if len(ways) == 1 else fastest(ways)


def in_fork(pipe, work):
    """Runs work in a fork; what becomes of it is said by the parent if the fork cannot. With half of the memory that is
    left: a peer that stores the scores of 16k keys shall fail, not the machine.
    """
    child = os.fork()
    if child == 0:
        try:
            limit = available_bytes() // 2
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
            work()
        except Cannot as reason:
            answer(pipe, cannot=str(reason))
        except MemoryError:
            answer(pipe, cannot=f"needs more than {limit >> 30} GiB")
        except Exception as failure:  # whatever a package raises
            answer(pipe, cannot=f"{type(failure).__name__}: {' '.join(str(failure).split())[:200]}")
        finally:
            os._exit(0)  # nothing of the parent's is to be closed or flushed twice
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        answer(pipe, cannot=f"crashed with signal {os.WTERMSIG(status)}")


def serve(peer, module, case, threads, setting, pipe):
    way, found = load(peer, module, case, threads, setting)
    answer(pipe, **found)
    while (order := read_line())["do"] == "time":
        answer(pipe, seconds=seconds_of(way, order["seconds"]))


def main():
    global clock  # pylint: disable=global-statement
    peer, threads = sys.argv[2], int(sys.argv[3])
    clock = getattr(time, sys.argv[4])
    pipe = os.dup(1)
    os.dup2(2, 1)  # what packages print is no answer
    warnings.simplefilter("ignore")
    module = importlib.import_module(sys.argv[1])
    if peer in COMPILED:
        importlib.import_module(COMPILED[peer])  # here, and not in every fork
    answer(pipe, version=module.version())
    while True:
        order = read_line()
        if order["do"] != "load":
            continue  # the end of a case that crashed
        case = Case(**order["case"])
        if order["setting"] is None:
            in_fork(pipe, lambda: answer(pipe, setting=choose(peer, module, case, threads)))
        else:
            in_fork(pipe, lambda: serve(peer, module, case, threads, order["setting"], pipe))


if __name__ == "__main__":
    main()
