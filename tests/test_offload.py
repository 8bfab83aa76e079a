# SPDX-License-Identifier: Apache-2.0
"""bench/offload: the columns of the processor, by attend alone where PyTorch is not there; a GPU is a stub here. No time is checked,
and what the stub says is no figure: it goes to temporary folders only.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import python_modules
from bench_support import expect_refusals, main

python_modules.need("numpy")
import numpy

ROOT = pathlib.Path(os.environ["SOURCE_DIR"]).resolve()
BUILD = pathlib.Path(os.environ["BUILD_DIR"]).resolve()
OFFLOAD = ROOT / "bench" / "offload"
os.environ |= {"ATTEND_LIBRARY": str(BUILD / "libattend.so"), "ATTEND_BENCH": str(BUILD / "attend-bench")}
sys.dont_write_bytecode = True
sys.path.insert(0, str(OFFLOAD))
import offload as driver
import crossing
from case import Cannot, Case

# Every line of gpu.py, on the processor: what the GPU's columns are then called is not measured on a GPU, and says so.
ON_THE_PROCESSOR = f"""
import sys
sys.path.insert(0, {str(OFFLOAD)!r})
import offload
def find():
    from gpu import Gpu
    class Small(Gpu):
        def limits(self, dtype, seconds):
            return super().limits(dtype, seconds, 32, 1 << 12)
    return Small("cpu"), None
offload.main(find)
"""


def with_pytorch():
    """A Python that has PyTorch, of those that scripts make; else None."""
    found = [folder / "bin" / "python" for folder in (ROOT / "build/peers-venv", ROOT / "build-python/venv")]
    return next((path for path in found if path.exists()), None)


def offload(folder, *arguments, python=sys.executable, code=None):
    program = ["-c", code] if code else [OFFLOAD / "offload.py"]
    return subprocess.run([python, "-B", *program, *arguments], cwd=folder, text=True, capture_output=True, check=False)


def tokens(way, threads, **seconds):
    return [{"kind": "tokens", "way": way, "threads": threads, "tokens": int(n[1:]), "seconds": time} for n, time in seconds.items()]


class Crossings(unittest.TestCase):
    MOVED = tokens("gpu-moved", 0, n1=3, n2=3, n4=3, n8=3)

    def one(self, results):
        found = [each for each in crossing.crossings(results) if each.moving == "one after the other"]
        self.assertEqual(len(found), 1)
        return found[0]

    def test_lies_between_two_numbers_of_tokens(self):
        found = self.one(self.MOVED + tokens("attend", 4, n1=0.5, n2=1, n4=2, n8=4))
        self.assertEqual((found.threads, found.before, found.after), (4, 4, 8))
        self.assertAlmostEqual(found.between, 6)
        self.assertIn("pays from between 4 and 8 new tokens a step on (about 6), beside attend on 4 threads.", found.sentence)

    def test_may_be_nowhere(self):
        found = self.one(self.MOVED + tokens("attend", 1, n1=0.1, n2=0.2, n4=0.3, n8=0.4))
        self.assertEqual((found.before, found.after, found.between), (8, None, None))
        self.assertIn("does not pay up to 8 new tokens", found.sentence)
        found = self.one(self.MOVED + tokens("attend", 1, n1=4, n2=5, n4=6, n8=7))
        self.assertEqual((found.before, found.after, found.between), (None, 1, None))
        self.assertIn("pays from 1 new token a step on, beside attend on 1 thread.", found.sentence)

    def test_is_the_last_change(self):
        found = self.one(self.MOVED + tokens("attend", 1, n1=0.5, n2=3.5, n4=2, n8=4))
        self.assertEqual((found.before, found.after), (4, 8))

    def test_knows_what_both_have(self):
        self.assertEqual(crossing.crossings(self.MOVED), [])
        self.assertEqual(crossing.crossings(tokens("attend", 1, n1=1)), [])
        self.assertEqual(crossing.crossings(self.MOVED + [{"kind": "tokens", "way": "attend", "threads": 1, "tokens": 1, "cannot": "x"}]), [])
        self.assertEqual(crossing.crossings([result | {"kind": "cache"} for result in self.MOVED + tokens("attend", 1, n1=1)]), [])
        found = self.one(self.MOVED + tokens("attend", 1, n2=1, n4=4, n16=9))
        self.assertEqual((found.before, found.after), (2, 4))

    def test_copying_may_hide_behind_attending(self):
        ours = tokens("attend", 1, n1=1, n2=2, n4=4)
        theirs = tokens("gpu-copied", 0, n1=1.5, n2=1.5, n4=1.5) + tokens("gpu-resident", 0, n1=0.1, n2=1, n4=5)
        found, = crossing.crossings(ours + theirs)  # nothing says what both take one after the other
        self.assertEqual((found.moving, found.before, found.after), ("at best at once", 4, None))


class Cases(unittest.TestCase):
    def test_caches_have_their_size(self):
        for dtype in driver.DTYPES:
            case = driver.cache("cache-32", 32, 1, dtype)
            self.assertEqual(driver.kv_bytes(case), 32 << 20)
            self.assertFalse(case.causal)
            self.assertGreater(driver.needed(case, True), driver.needed(case, False) + (31 << 20))
        case = driver.cache("tokens-8", 32, 8, "bf16")
        self.assertEqual((case.kv_len, case.causal, driver.kv_bytes(case)), (8192, True, 32 << 20))

    def test_only_what_is_attended_is_moved(self):
        padded = Case("a", 2, 4, 2, 1, 9, 8, 8, False, 2, "plain", "f32")
        self.assertEqual(driver.kv_bytes(padded), (9 + 7) * 2 * 16 * 4)
        inside = Case("b", 1, 4, 1, 1, 9, 8, 5, False, 0, "v-in-k", "bf16")
        self.assertEqual(driver.kv_bytes(inside), 9 * 8 * 2)


class Fixed:
    """Something that the stub "does" in a time that it is told."""

    def __init__(self, seconds, result, setting="a stub"):
        self.seconds, self.result, self.setting = seconds, result, setting

    def run(self):
        pass

    def seconds_of(self, seconds):
        return [self.seconds]


class Stub:
    """A GPU as offload.py sees one."""

    def __init__(self, moved):
        self.moved, self.crossed, self.fails = moved, [], ()

    def load(self, case, q, k, v):
        if case.name in self.fails:
            raise Cannot("takes no such case")
        self.q, self.k, self.v, self.out = q, k, v, numpy.zeros((*q.shape[:-1], case.v_head_dim), q.dtype)
        return self

    def fetch_q(self):
        self.crossed.append("q")

    def send_out(self):
        self.crossed.append("out")

    def ways(self):
        result = lambda: numpy.full(self.out.shape, numpy.float32(0.25))
        return {"resident": Fixed(1e-5, result), "copied": Fixed(2e-5, None), "moved": Fixed(self.moved, lambda: numpy.full(self.out.shape, numpy.nan))}


class BesideAStub(unittest.TestCase):
    def run_beside(self, gpu, **more):
        options = argparse.Namespace(**{"dtypes": ["f32"], "caches": [1], "tokens": [1, 2, 4], "tokens_cache": 1, "rounds": 2, "seconds": 1e-4} | more)
        shapes = {"tiny": dict(name="tiny", batch=1, q_heads=1, kv_heads=1, q_len=16, kv_len=16, head_dim=64, v_head_dim=64, causal=False,
                               length_step=0, form="plain")}
        lines = []
        results, left_out = driver.run(options, gpu, shapes, 2, lines.append)
        return results, left_out, lines

    def test_columns_of_both_sides(self):
        gpu = Stub(1)
        results, left_out, lines = self.run_beside(gpu)
        self.assertEqual((left_out, len(lines)), ([], 5))
        at = {(r["case"], r["way"], r["threads"]): r for r in results}
        self.assertEqual(len(at), 5 * 6)
        for case in "tiny", "cache-1", "tokens-1", "tokens-2", "tokens-4":
            for threads in 1, 2:
                self.assertLess(at[case, "attend", threads]["error"], 1e-6)
            self.assertGreater(at[case, "gpu-resident", 0]["error"], 1e-3)  # a quarter is not what comes out
            self.assertNotIn("error", at[case, "gpu-copied", 0])
            self.assertEqual(at[case, "gpu-resident", 0]["rounds"], [1e-5, 1e-5])
            self.assertEqual(at[case, "gpu-moved", 0]["cannot"], "its output is not finite, or of another shape")
        self.assertEqual(gpu.crossed[:4], ["q", "out"] * 2)  # in each call of attend, and nowhere else
        self.assertEqual(len(gpu.crossed) % 2, 0)

    def test_stops_where_the_gpu_takes_a_quarter(self):
        gpu = Stub(1e-9)
        gpu.ways = lambda: {way: Fixed(1e-9, None) for way in driver.GPU_WAYS}
        results, _, _ = self.run_beside(gpu)
        self.assertEqual([r["tokens"] for r in results if r["kind"] == "tokens" and r["way"] == "gpu-moved"], [1])
        self.assertEqual([(found.before, found.after) for found in crossing.crossings(results)], [(None, 1)] * 4)

    def test_a_gpu_that_refuses_leaves_attend_alone(self):
        gpu = Stub(1)
        gpu.fails = ("tiny", "cache-1", "tokens-1")
        results, _, _ = self.run_beside(gpu, tokens=[1])
        for r in results:
            if r["way"].startswith("gpu-"):
                self.assertEqual(r["cannot"], "takes no such case")
            elif r["way"] == "attend":
                self.assertLess(r["error"], 1e-6)
        self.assertEqual(gpu.crossed, [])

    def test_what_does_not_fit_is_left_out(self):
        results, left_out, _ = self.run_beside(None, caches=[1, 1 << 30], tokens=[1])
        self.assertEqual([r["case"] for r in results if r["way"] == "attend" and r["threads"] == 1], ["tiny", "cache-1", "tokens-1"])
        self.assertEqual([each["case"] for each in left_out], [f"cache-{1 << 30}"])
        self.assertRegex(left_out[0]["reason"], r"^needs \d+\.\d GiB of memory$")


class Driver(unittest.TestCase):
    def check(self, folder, done, gpu_ways=()):
        self.assertEqual(done.returncode, 0, done.stderr)
        found = json.loads(pathlib.Path(folder, "offload.json").read_text(encoding="utf-8"))
        self.assertEqual(found["attend_offload"], 1)
        self.assertEqual({r["kind"] for r in found["results"]}, {"shape", "cache", "tokens"})
        measured = [r for r in found["results"] if "seconds" in r]
        for r in measured:
            self.assertLessEqual(r["least"], r["seconds"], r)
            if r["way"] != "gpu-copied":
                self.assertLess(r["error"], 1e-2, r)
        self.assertLessEqual({"attend", *gpu_ways}, {r["way"] for r in measured})
        self.assertIn("reading memory", {limit["what"] for limit in found["limits"]})
        self.assertTrue(all(limit["rate"] > 0 for limit in found["limits"]))
        for key in ("cpu", "compiler", "versions", "date"):
            self.assertTrue(found["context"][key])
        report = subprocess.run([os.environ["ATTEND"], "report", "offload.json", "--format", "markdown"], cwd=folder, capture_output=True, text=True,
                                check=False)
        self.assertEqual((report.returncode, report.stderr), (0, ""))
        self.assertIn("one new token over a cache, bf16", report.stdout)
        return found

    def test_columns_of_the_processor(self):
        with tempfile.TemporaryDirectory() as folder:
            done = offload(folder, "--quick", "--rounds", "1", "--seconds", "0.001", "-o", "offload.json", code="import sys; "
                           f"sys.modules['torch'] = None; sys.path.insert(0, {str(OFFLOAD)!r}); import offload; offload.main()")
            found = self.check(folder, done)
            self.assertEqual(found["context"]["no_gpu"], "PyTorch is not installed")
            self.assertIn("No GPU: PyTorch is not installed.", done.stdout)
            self.assertNotIn("gpu", found["context"])
            for r in found["results"]:
                self.assertFalse(r["way"].startswith("gpu-"))
                if r["way"] == "pytorch-cpu":
                    self.assertEqual(r["cannot"], "PyTorch is not installed")
            self.assertEqual({r["case"] for r in found["results"]}, {"bert-base", "gpt2-prefill", "speculative", "llama-decode", "batch-decode",
                                                                     "cache-32", "cache-128", "tokens-1", "tokens-8", "tokens-32"})

    def test_processor_time(self):
        with tempfile.TemporaryDirectory() as folder:
            done = offload(folder, "--cpu-time", "--shapes", "tiny", "--caches", "1", "--tokens", "1", "--tokens-cache", "1", "--rounds", "1",
                           "--seconds", "0.001", "-o", "offload.json")
            found = self.check(folder, done)
            self.assertEqual((found["context"]["no_gpu"], found["context"]["clock"]), ("--cpu-time is given", "processor time"))
            self.assertEqual({r["threads"] for r in found["results"]}, {1})

    @unittest.skipUnless(with_pytorch(), "SKIPPED: no Python here has PyTorch (scripts/offload installs it)")
    def test_all_that_a_gpu_would_run(self):
        with tempfile.TemporaryDirectory() as folder:
            done = offload(folder, "--shapes", "tiny,minilm,mla-decode,speculative", "--caches", "2", "--tokens", "1,4", "--tokens-cache", "1",
                           "--rounds", "1", "--seconds", "0.001", "-o", "offload.json", python=with_pytorch(), code=ON_THE_PROCESSOR)
            found = self.check(folder, done, ("pytorch-cpu", "gpu-resident", "gpu-copied", "gpu-moved"))
            self.assertEqual(found["context"]["gpu"], "none: the device cpu of a test")
            self.assertEqual([r for r in found["results"] if "cannot" in r], [])
            self.assertIn("PCIe to the GPU", {limit["what"] for limit in found["limits"]})

    def test_errors(self):
        expect_refusals(self, offload, "offload", ["--shapes", "nowhere"], ["--dtypes", "f8"], ["--caches", "0"],
                        ["--tokens", "1,x"], ["--rounds", "0"], ["--tokens-cache", "0"], ["--quick", "--python", "python3"])


if __name__ == "__main__":
    main(BUILD)
