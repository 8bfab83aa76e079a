# SPDX-License-Identifier: Apache-2.0
"""bench/peers with attend alone: the other packages are what scripts/peers installs. No time is checked."""

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

ROOT = pathlib.Path(os.environ["SOURCE_DIR"])
BUILD = pathlib.Path(os.environ["BUILD_DIR"])
PEERS = ROOT / "bench" / "peers"
sys.dont_write_bytecode = True
sys.path.insert(0, str(PEERS))
import case
import peers as driver

ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "ATTEND"} | {"ATTEND_LIBRARY": str(BUILD / "libattend.so"), "ATTEND_BENCH": str(BUILD / "attend-bench")}


def peers(folder, *arguments):
    return subprocess.run([sys.executable, "-B", PEERS / "peers.py", *arguments], cwd=folder, env=ENVIRONMENT, text=True,
                          capture_output=True, check=False)


def plain(c, q, k, v, key):
    """Attention as it is written down, in double, of the keys that key() names."""
    q, k, v = (case.widened(x).astype(numpy.float64) for x in (q, k, v))
    out = numpy.zeros((*q.shape[:-1], c.v_head_dim))
    for b in range(c.batch):
        for h, i in numpy.ndindex(c.q_heads, c.queries_of(b)):
            at = (0, h, sum(c.queries[:b]) + i) if c.queries else (b, h, i)
            keys = [j for j in range(c.kv_len) if key(b, i, j)]
            if c.page_rows:
                where = [(c.block_table[b, j // c.page_rows], h // c.group, j % c.page_rows) for j in keys]
            else:
                where = [(b, h // c.group, j) for j in keys]
            scores = numpy.exp([k[at_key] @ q[at] / numpy.sqrt(c.head_dim) for at_key in where])
            out[at] = scores @ [v[at_key] for at_key in where] / scores.sum()
    return out


class Truth(unittest.TestCase):
    CASES = [case.Case("a", 2, 4, 2, 3, 9, 8, 8, True, 0, "plain", "f32"),
             case.Case("b", 3, 2, 2, 4, 7, 5, 5, False, 2, "plain", "bf16"),
             case.Case("c", 1, 3, 1, 5, 5, 4, 6, False, 0, "plain", "f16"),
             case.Case("d", 1, 2, 1, 3, 9, 8, 8, True, 0, "additive-mask", "f32"),
             case.Case("e", 3, 4, 2, 3, 9, 8, 8, True, 0, "serving", "f32", [3, 1, 1], [3, 9, 5], 4),
             case.Case("f", 1, 4, 1, 1, 9, 8, 5, False, 0, "v-in-k", "bf16"),
             case.Case("g", 2, 4, 2, 3, 9, 64, 32, True, 0, "plain", "f32+q8_0"),
             case.Case("h", 1, 4, 1, 1, 9, 64, 32, False, 0, "v-in-k", "f32+q4_0")]

    def test_masks_and_errors(self):
        for c in self.CASES:
            q, k, v = case.tensors(c)
            self.assertEqual(c.form == "v-in-k", numpy.shares_memory(k, v))
            right = plain(c, q, k, v, lambda b, i, j: j < c.attended(b, i))
            self.assertLess(case.error(c, q, k, v, right), 1e-12)
            wrong = plain(c, q, k, v, lambda b, i, j: j < max(c.attended(b, i) - 1, 1))
            self.assertGreater(case.error(c, q, k, v, wrong), 1e-3)
            self.assertEqual(case.error(c, q, k, v, numpy.full(right.shape, numpy.nan)), float("inf"))
            mask = None if c.form == "serving" else c.mask()
            if mask is not None:
                whole = numpy.broadcast_to(mask, (c.batch, c.q_heads, c.q_len, c.kv_len))
                for b, i, j in numpy.ndindex(c.batch, c.q_len, c.kv_len):
                    self.assertEqual(whole[b, 0, i, j], j < c.attended(b, i))
            self.assertEqual(c.additive_mask() is not None, c.form == "additive-mask")
            if c.form == "additive-mask":
                numpy.testing.assert_array_equal(numpy.exp(c.additive_mask()), mask)

    def test_pages_belong_to_one_sequence(self):
        c = self.CASES[4]
        numpy.testing.assert_array_equal(c.q_starts, [0, 3, 4, 5])
        numpy.testing.assert_array_equal((c.block_table >= 0).sum(axis=1), [1, 3, 2])
        self.assertEqual(sorted(c.block_table[c.block_table >= 0]), list(range(6)))
        self.assertRaises(case.Cannot, c.refuse_serving)

    def test_rounding(self):
        self.assertEqual(list(case.rounded(numpy.float32([1, 1 + 2**-8, 1 + 3 * 2**-8, -2]), "bf16")),
                         [0x3F80, 0x3F80, 0x3F82, 0xC000])

    def test_blocks(self):
        values = numpy.float32([[*range(-16, 16), *[0] * 32]])
        for name, scale, byte in ("q8_0", 16 / 127, 34), ("q4_0", 2, 18):
            blocks = case.rounded(values, name)
            self.assertEqual((blocks.shape, blocks.nbytes), ((1, 2), 2 * byte))
            self.assertAlmostEqual(float(blocks["scale"][0, 0]), scale, 3)
            numpy.testing.assert_allclose(case.widened(blocks), values, atol=0.51 * scale if name == "q8_0" else scale)
        # ggml's bytes: elements 0 to 15 are the lower halves, and what is farthest from 0 is -8
        self.assertEqual(case.rounded(values, "q4_0").tobytes()[:4], bytes([0, 0x40, 0x80, 0x80]))
        self.assertRaisesRegex(case.Cannot, "40 is no multiple of 32", case.rounded, numpy.zeros((1, 40), numpy.float32), "q8_0")
        with self.assertRaisesRegex(case.Cannot, "in q8_0"):
            self.CASES[6].refuse_formats()
        self.CASES[5].refuse_formats()


class Tensors(unittest.TestCase):
    def test_long_ones_repeat_elsewhere_in_a_row(self):
        for dtype in "f32", "bf16", "f32+q8_0":
            c = case.Case("long", 1, 1, 1, 1, 70_000, 128, 128, False, 0, "plain", dtype)
            _, k, v = case.tensors(c)
            k, v = case.widened(k)[0, 0], case.widened(v)[0, 0]
            self.assertEqual(k.shape, (70_000, 128))
            self.assertEqual(len(numpy.unique(k[:, :4], axis=0)), 70_000)
            self.assertFalse((k[:, :4] == v[:, :4]).all(axis=1).any())
            self.assertAlmostEqual(float(k.std()), 1, 2)
            numpy.testing.assert_array_equal(k[:-1].ravel()[case.DRAWN:], k.ravel()[:69_999 * 128 - case.DRAWN])


class Rounds(unittest.TestCase):
    def known(self, **running):
        return [peer for peer in running if driver.known_well(peer, running)]

    def test_slow_peers_take_one(self):
        self.assertEqual(self.known(attend=[], quick=[], slow=[]), [])
        self.assertEqual(self.known(attend=[0.9], quick=[0.1], near=[0.29], slow=[0.31]), ["slow"])  # attend always takes all
        self.assertEqual(self.known(attend=[0.1], only=[0.9]), [])  # attend is the faster, but nothing else is
        self.assertEqual(self.known(attend=[0.9] * 3), [])
        self.assertEqual(self.known(attend=[0.9] * 4), ["attend"])

    def test_long_calls_take_one_or_two(self):
        self.assertEqual(self.known(attend=[4], quick=[5], near=[6], nearer=[2]), ["quick", "near"])
        self.assertEqual(self.known(attend=[4, 4], quick=[5, 5], near=[6]), ["attend", "quick", "near"])

    def test_fewer_threads_leave_out_who_was_slow_on_more(self):
        def left_out(threads, **seconds):
            results = {(8, "tiny", "f32", name): {"seconds": time} for name, time in seconds.items()}
            results[8, "tiny", "f32", "ggml"] = {"cannot": "is not built"}
            return [name for name in driver.MODULES if driver.left_out(name, threads, ("tiny", "f32"), results)]

        times = {"attend": 99, "openvino": 1, "pytorch-math": 12.5, "pytorch-flash": 11.5, "pytorch-flex": 4.5, "vllm": 3.5}
        self.assertEqual(left_out(2, **times), ["pytorch-math", "pytorch-flex"])  # 12 and, as it is compiled, 4 times
        self.assertEqual(left_out(1, **times), [])
        self.assertEqual(left_out(8, **times), [])
        self.assertEqual(driver.left_out("vllm", 1, ("tiny", "f32"), {}), False)


class Driver(unittest.TestCase):
    def test_attend_is_measured_and_right(self):
        with tempfile.TemporaryDirectory() as folder:
            done = peers(folder, "--peers", "attend", "--shapes", "tiny,minilm,speculative,llama-decode", "--threads", "1",
                         "--rounds", "2", "--seconds", "0.001", "-o", "peers.json")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(os.listdir(folder), ["peers.json"])
            found = json.loads(pathlib.Path(folder, "peers.json").read_text(encoding="utf-8"))
        self.assertEqual(found["attend_peers"], 1)
        self.assertEqual(len(found["results"]), 20)
        for result in found["results"]:
            self.assertLess(result["error"], {"f16": 1e-3, "bf16": 1e-2}.get(result["dtype"], 1e-6), result)
            self.assertEqual(len(result["rounds"]), 2)
            self.assertLessEqual(result["least"], result["seconds"])
            self.assertGreaterEqual(result["memory_bytes"], 0)
        for key in ("cpu", "compiler", "versions", "shapes", "date"):
            self.assertTrue(found["context"][key])
        self.assertIn("llama-decode", done.stdout)

    def test_forms_are_right(self):
        with tempfile.TemporaryDirectory() as folder:
            done = peers(folder, "--peers", "attend", "--shapes", "chunked-prefill,mixed-serving,mla-decode", "--threads", "2",
                         "--dtypes", "f32,f32+q8_0", "--rounds", "1", "--seconds", "0.001", "-o", "peers.json")
            self.assertEqual(done.returncode, 0, done.stderr)
            found = json.loads(pathlib.Path(folder, "peers.json").read_text(encoding="utf-8"))["results"]
        self.assertEqual(len(found), 6)
        for result in found:
            self.assertLess(result.get("error", 1), 1e-6, result)

    def test_ggml_is_right_or_says_how_to_build_it(self):
        with tempfile.TemporaryDirectory() as folder:
            done = peers(folder, "--peers", "ggml", "--shapes", "tiny,mixed-serving", "--cpu-time", "--rounds", "1", "--seconds",
                         "0.001", "-o", "peers.json")
            self.assertEqual(done.returncode, 0, done.stderr)
            found = json.loads(pathlib.Path(folder, "peers.json").read_text(encoding="utf-8"))
        self.assertEqual((found["context"]["clock"], found["results"][0]["threads"]), ("processor time", 1))
        built = found["context"]["versions"]["ggml"] != "not built"
        self.assertEqual(len(found["results"]), 10)
        for result in found["results"]:
            if not built:
                self.assertIn("./scripts/llama", result["cannot"])
            elif result["shape"] == "mixed-serving":
                self.assertIn("takes no pages", result["cannot"])
            else:  # it adds up in f16 beside f16, and rounds queries to 8 bits beside blocks
                self.assertLess(result["error"], {"f32": 1e-6, "bf16": 1e-6}.get(result["dtype"], 1e-2), result)

    def test_continues(self):
        with tempfile.TemporaryDirectory() as folder:
            def run(*arguments):
                done = peers(folder, "--peers", "attend", "--threads", "1", "--rounds", "1", "--seconds", "0.001", "-o", "peers.json",
                             *arguments)
                found = json.loads(pathlib.Path(folder, "peers.json").read_text(encoding="utf-8"))
                return done, found, [(result["shape"], result["dtype"]) for result in found["results"]]

            _, first, cases = run("--shapes", "tiny", "--dtypes", "f32")
            self.assertEqual(cases, [("tiny", "f32")])
            done, second, cases = run("--shapes", "tiny,minilm", "--dtypes", "f32,bf16", "--continue")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(cases, [("tiny", "f32"), ("tiny", "bf16"), ("minilm", "f32"), ("minilm", "bf16")])  # as of one run
            self.assertEqual(second["results"][0], first["results"][0])  # kept, not measured again
            done, third, _ = run("--rounds", "2", "--continue")
            self.assertEqual((done.returncode, third), (2, second))
            self.assertIn("has rounds 1, here it is 2", done.stderr)
            (pathlib.Path(folder) / "peers.json").write_text(json.dumps(second | {"context": second["context"] | {"slow_times": 9}}), encoding="utf-8")
            done, _, _ = run("--continue")
            self.assertEqual(done.returncode, 2)
            self.assertIn("has slow_times 9, here it is 3", done.stderr)
            second["context"]["versions"]["attend"] = "0.0.1"
            pathlib.Path(folder, "peers.json").write_text(json.dumps(second), encoding="utf-8")
            done, third, _ = run("--shapes", "vit-large", "--dtypes", "f32", "--continue")
            self.assertEqual((done.returncode, third), (2, second))
            self.assertIn("was made with attend 0.0.1", done.stderr)
            for text in "", "{", "[]", '{"context": 1}':
                pathlib.Path(folder, "peers.json").write_text(text, encoding="utf-8")
                done = peers(folder, "--peers", "attend", "--continue", "-o", "peers.json")
                self.assertEqual((done.returncode, done.stderr.count("\n")), (2, 1), done.stderr)

    def test_errors(self):
        expect_refusals(self, peers, "peers", ["--shapes", "nowhere"], ["--dtypes", "f8"], ["--peers", "none"],
                        ["--threads", "0"], ["--rounds", "0"], ["--cpu-time", "--threads", "2"])


if __name__ == "__main__":
    main(BUILD)
