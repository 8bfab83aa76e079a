# SPDX-License-Identifier: Apache-2.0
"""Every option of `attend run` computes what a plain attention in Python computes."""

import itertools
import json
import math
import os
import stat
import subprocess
import tempfile
import unittest

from cli_support import Case, Tensor, attend, bf16_bits, from_bf16, give_away, npy, null_device, product, randoms, reference, rounded, transposed



class Run(Case):
    def compute(self, *options, **files):
        result = self.run_attend(*options, **files)
        self.assertEqual((result.returncode, result.stderr), (0, ""), f"{options} {files}")
        leftovers = [path.name for path in self.directory.iterdir() if path.suffix != ".npy"]
        self.assertEqual(leftovers, [])
        return result.stdout

    def compare(self, got, wanted, tolerance=2e-6):
        self.assertEqual(got.shape, wanted.shape)
        for a, b in zip(got.numbers, wanted.numbers, strict=True):
            self.assertTrue(a == b or abs(a - b) <= tolerance * max(1, abs(b)), f"{a} is not {b}")

    def check(self, *options, tolerance=2e-6, q=None, k=None, v=None, **semantics):
        """out, LSE and weights against the reference."""
        self.compute(*options, "--lse", "lse.npy", "--weights", "weights.npy")
        out, lse, weights = reference(q or self.q, k or self.k, v or self.v, **semantics)
        self.compare(self.output(), out, tolerance)
        self.compare(self.output("lse"), lse, tolerance)
        self.compare(self.output("weights"), weights, tolerance)

    def test_plain(self):
        self.check()
        self.check("--scale", "0.25", scale=0.25)
        self.check("--scale=-2", scale=-2)
        for zero in "0", "-0.0", "0e7":
            self.check(f"--scale={zero}", scale=0)
        self.check("--scale=1e-38", scale=1e-38)
        self.check("--scale=1e-44", scale=1e-44)
        self.check("--softcap", "1.5", softcap=1.5)
        self.check("--softcap", "0")

    def test_causal_and_window(self):
        self.check("--causal", causal=2)
        self.check("--causal=bottom-right", causal=2)
        self.check("--causal=top-left", causal=0)
        for offset in -7, -1, 1, 40:
            self.check(f"--causal={offset}", causal=offset)
        self.check("--causal=+1", causal=1)
        for window in (0, 0), (1, -1), (-1, 1), (2, 1), (-1, -1), (2147483647, 2147483647):
            self.check("--window", f"{window[0]},{window[1]}", window=window)
            self.check("--window", f"{window[0]},{window[1]}", "--causal=top-left", window=window, causal=0)

    def test_lengths(self):
        for descr in "<i4", "<i8", ">i8":
            lengths = Tensor((2,), [0, 3])
            self.write("lengths", lengths, descr)
            self.check("--kv-lengths", "lengths.npy", lengths=lengths)
            self.check("--kv-lengths", "lengths.npy", "--causal", lengths=lengths, causal="end")
            self.check("--kv-lengths", "lengths.npy", "--window=1,0", lengths=lengths, window=(1, 0))
            lengths = Tensor((2, 3), [0, 1, 5, 4, 2, 3])
            self.write("lengths", lengths, descr)
            self.check("--kv-lengths", "lengths.npy", "--causal", lengths=lengths, causal=2)

    def test_mask_and_bias_are_broadcast(self):
        for extents in itertools.product((1, 2), (1, 4), (1, 3), (1, 5)):
            for rank in range(5):
                shape = extents[4 - rank :]
                if any(extent > 1 for extent in extents[: 4 - rank]):
                    continue
                mask = Tensor(shape, [n > -0.5 for n in randoms(*shape, seed="mask").numbers])
                bias = Tensor(shape, [n if n < 1 else -math.inf for n in randoms(*shape, seed="bias").numbers])
                self.write("mask", mask, "|b1")
                self.write("bias", bias)
                self.check("--mask", "mask.npy", mask=mask)
                self.write("mask", mask, ("|u1", "<i4", "<i8", ">i8", "|u1")[rank])
                self.check("--mask", "mask.npy", mask=mask)
                if rank == 0:  # no number is left out of what there is only one of
                    for allowed in False, True:
                        self.write("mask", mask := Tensor((), [allowed]), "|b1")
                        self.check("--mask", "mask.npy", mask=mask)
                self.check("--bias", "bias.npy", bias=rounded(bias, "<f"))

    def test_bias_types(self):
        bias = randoms(3, 5, seed="bias")
        self.write("bias", bias, "<f2")
        self.check("--bias", "bias.npy", bias=rounded(bias, "<e"))
        self.write("bias", bf16_bits(bias), "<u2")
        self.check("--bias", "bias.npy", "--bits", "bf16", bias=from_bf16(bf16_bits(bias)))
        self.write("bias", bf16_bits(bias), "<V2")
        self.check("--bias", "bias.npy", bias=from_bf16(bf16_bits(bias)))

    def test_bias_head_scale(self):
        bias, scale = randoms(2, 1, 3, 5, seed="bias"), Tensor((4,), [1.0, 0.5, -2.0, 0.0])
        bias.numbers[3] = bias.numbers[20] = -math.inf
        self.write("bias", bias)
        for descr in "<f4", "<f2", "<f8":
            self.write("scale", scale, descr)
            self.check("--bias", "bias.npy", "--bias-head-scale", "scale.npy", bias=bias, head_scale=scale)

    def test_dropout(self):
        self.write("k", k := randoms(2, 2, 150, 6, seed="k"))
        self.write("v", v := randoms(2, 2, 150, 7, seed="v"))
        for p, seed in (0.0, None), (0.25, None), (0.5, 1), (0.9, 2**64 - 1), (1.0, 7):
            options = [] if seed is None else [f"--seed={seed}"]
            self.check(f"--dropout={p}", *options, k=k, v=v, dropout=(p, seed or 0))
            dropped = self.output("weights").numbers.count(0) / len(self.output("weights").numbers)
            self.assertAlmostEqual(dropped, p, delta=0.05)

    def test_alibi_and_sinks(self):
        alibi, sinks = Tensor((4,), [0.5, 0.25, 0.125, 0.0]), Tensor((4,), [-1.0, 0.0, 3.0, -math.inf])
        self.write("alibi", alibi)
        self.write("sinks", sinks, "<f2")
        self.check("--alibi", "alibi.npy", alibi=alibi)
        self.write("alibi", alibi, order="True")
        self.check("--alibi", "alibi.npy", alibi=alibi)
        self.check("--alibi", "alibi.npy", "--causal=top-left", alibi=alibi, causal=0)
        self.check("--sinks", "sinks.npy", sinks=sinks)
        self.write("sinks", bf16_bits(sinks), "<u2")
        self.check("--sinks", "sinks.npy", "--bits", "bf16", sinks=sinks)

    def test_everything_together(self):
        lengths, mask = Tensor((2,), [4, 5]), Tensor((3, 5), [True, True, False, True, True] * 3)
        bias, alibi, sinks = randoms(4, 1, 5), Tensor((4,), [0.5, 0.25, 0.125, 0.0625]), randoms(4)
        for name, tensor, descr in (("lengths", lengths, "<i4"), ("mask", mask, "|b1"), ("bias", bias, "<f4"),
                                    ("alibi", alibi, "<f4"), ("sinks", sinks, "<f4")):
            self.write(name, tensor, descr)
        self.check("--causal=1", "--window=2,1", "--kv-lengths", "lengths.npy", "--mask", "mask.npy", "--bias", "bias.npy",
                   "--alibi", "alibi.npy", "--sinks", "sinks.npy", "--softcap=2", "--scale=0.5", causal=1, window=(2, 1),
                   lengths=lengths, mask=mask, bias=bias, alibi=alibi, sinks=sinks, softcap=2, scale=0.5)

    def test_fewer_dimensions(self):
        q, k, v = randoms(4, 3, 6), randoms(2, 5, 6), randoms(2, 5, 7)
        full = [Tensor((1, *t.shape), t.numbers) for t in (q, k, v)]
        for name, tensor in zip("qkv", (q, k, v)):
            self.write(name, tensor)
        self.compute("--lse", "lse.npy", "--weights", "weights.npy")
        out, lse, weights = reference(*full)
        for name, tensor in ("out", out), ("lse", lse), ("weights", weights):
            self.compare(self.output(name), Tensor(tensor.shape[1:], tensor.numbers))

        q, k, v = randoms(3, 6), randoms(5, 6), randoms(5, 7)
        full = [Tensor((1, 1, *t.shape), t.numbers) for t in (q, k, v)]
        for name, tensor in zip("qkv", (q, k, v)):
            self.write(name, tensor)
        self.compute("--lse", "lse.npy", "--weights", "weights.npy")
        out, lse, weights = reference(*full)
        for name, tensor in ("out", out), ("lse", lse), ("weights", weights):
            self.compare(self.output(name), Tensor(tensor.shape[2:], tensor.numbers))

    def test_nothing_to_compute(self):
        for q, k, v in (((0, 4, 3, 6), (0, 2, 5, 6), (0, 2, 5, 7)), ((2, 4, 0, 6), (2, 2, 5, 6), (2, 2, 5, 7)),
                        ((2, 0, 3, 6), (2, 0, 5, 6), (2, 0, 5, 7)), ((2, 4, 3, 6), (2, 2, 0, 6), (2, 2, 0, 7))):
            self.q, self.k, self.v = randoms(*q), randoms(*k), randoms(*v)
            for name in "qkv":
                self.write(name, getattr(self, name))
            if q[1] == 0:
                self.compute()
                self.assertEqual(self.output().shape, (2, 0, 3, 7))
            else:
                self.check()

    def test_files_of_every_version_and_type(self):
        for version in 1, 2, 3:
            for name in "qkv":
                self.write(name, getattr(self, name), version=version)
            self.check()
        halves = {name: rounded(getattr(self, name), "<e") for name in "qkv"}
        for name in "qkv":
            self.write(name, halves[name], "<f2")
        self.check("--dtype", "f32", **halves)
        self.check(tolerance=2e-3, **halves)
        self.assertIn(", f16,", self.compute())
        self.write("v", self.v)
        self.assertIn(", f32,", self.compute())
        self.check(**(halves | {"v": self.v}))
        for descr in ">f4", "<f8", ">f8":
            for name in "qkv":
                self.write(name, getattr(self, name), descr)
            self.assertIn(", f32,", self.compute())
            self.check()
        bits = {name: bf16_bits(getattr(self, name)) for name in "qkv"}
        for name in "qkv":
            self.write(name, bits[name], "<u2")
        exact = {name: from_bf16(bits[name]) for name in "qkv"}
        self.check("--bits", "bf16", "--dtype", "f32", **exact)
        self.check("--bits", "bf16", tolerance=2e-2, **exact)
        self.assertIn(", bf16,", self.compute("--bits", "bf16"))

    def test_files_in_fortran_order(self):
        mask = Tensor((4, 3, 5), [n > -0.5 for n in randoms(4, 3, 5, seed="mask").numbers])
        bias, lengths = randoms(2, 1, 3, 5, seed="bias"), Tensor((2, 3), [5, 1, 4, 2, 3, 5])
        for descr in "<f4", ">f8":
            for name, tensor in ("q", self.q), ("k", self.k), ("v", self.v), ("bias", bias):
                self.write(name, transposed(tensor), descr, order="True")
            self.write("mask", transposed(mask), "|b1", order="True")
            self.write("lengths", transposed(lengths), "<i4", order="True")
            self.check("--mask", "mask.npy", "--bias", "bias.npy", "--kv-lengths", "lengths.npy", mask=mask, bias=bias, lengths=lengths)

    def test_conversion(self):
        halves = {name: rounded(getattr(self, name), "<e") for name in "qkv"}
        self.check("--dtype", "f16", tolerance=2e-3, **halves)
        # What is written is of the type asked for, as float32.
        self.assertEqual(self.output().numbers, rounded(self.output(), "<e").numbers)
        self.check("--dtype", "bf16", tolerance=4e-2)
        self.assertEqual(self.output().numbers, from_bf16(bf16_bits(self.output())).numbers)

    def test_formats(self):
        q, k, v = randoms(1, 2, 3, 64, seed=1), randoms(1, 1, 5, 64, seed=2), randoms(1, 1, 5, 32, seed=3)
        self.write("q", q), self.write("k", k), self.write("v", v)
        self.compute()
        exact = self.output()
        errors = {}
        for name, tolerance in (("f32", 0), ("f16", 2e-3), ("i8", 0.03), ("q8_0", 0.03), ("f8_e4m3", 0.15), ("f8_e5m2", 0.3),
                                ("q5_0", 0.2), ("q5_1", 0.2), ("q4_0", 0.4), ("q4_1", 0.4), ("iq4_nl", 0.4), ("i4", 0.4)):
            self.compute("--k-format", name, "--v-format", name)
            errors[name] = max(abs(a - b) for a, b in zip(self.output().numbers, exact.numbers, strict=True))
            self.assertLessEqual(errors[name], tolerance, name)
        self.assertGreater(errors["q4_0"], errors["q8_0"])
        self.compute("--v-format", "q4_0")
        self.assertNotEqual(self.output().numbers, exact.numbers)
        self.assertIn("keys f32, values q4_0", self.compute("--v-format", "q4_0", "--explain"))
        # Rounded to int8 or not, as the processor can: little moves. Without q8_0 or i8 nothing does.
        self.compute("--k-format", "q8_0", "--int8-products")
        rounded_queries = max(abs(a - b) for a, b in zip(self.output().numbers, exact.numbers, strict=True))
        self.assertLessEqual(rounded_queries, 0.06)
        rounding = ("--kernel", "decode_f32__avx512vnni_q2k512", "--k-format", "q8_0")
        exact_only, allowed = self.run_attend(*rounding), self.run_attend(*rounding, "--int8-products")
        self.assertEqual(exact_only.returncode, 2)
        if allowed.returncode == 0:
            self.assertIn("with int8_products", exact_only.stderr)
        else:
            self.assertEqual(allowed.stderr, exact_only.stderr, "the kernel cannot run here, with the option as without")
        self.compute("--k-format", "q4_0")
        without = self.output().numbers
        self.compute("--k-format", "q4_0", "--int8-products")
        self.assertEqual(self.output().numbers, without)
        self.write("k", randoms(1, 1, 5, 48, seed=2)), self.write("q", randoms(1, 2, 3, 48, seed=1))
        result = self.run_attend("--k-format", "q8_0")
        self.assertEqual(result.returncode, 2)
        self.assertIn("--k k.npy: rows have 48 elements, expected a multiple of 32: q8_0", result.stderr)
        result = self.run_attend("--k-format", "q9")
        self.assertEqual(result.returncode, 2)
        self.assertIn("--k-format 'q9': expected f32, f16, bf16, f8_e4m3", result.stderr)

    def test_kernels_and_threads(self):
        rows = [row for row in json.loads(attend("kernels", "--json").stdout)["kernels"]
                if row["runnable"] and row["operation"] == "forward" and "int8" not in row["can"]]  # which needs keys in q8_0
        wanted = reference(self.q, self.k, self.v, causal=2)[0]
        for row in rows:
            dtype, tolerance = ("f32", 2e-6) if "f32" in row["dtypes"] else (row["dtypes"][0], 4e-2)
            explained = self.compute("--kernel", row["name"], "--causal", "--dtype", dtype)
            self.assertIn(f"kernel {row['name']};", explained)
            self.compare(self.output(), wanted, tolerance)
        bits = set()
        for threads in "1", "2", "7", "1024":
            self.compute("--threads", threads, "--kernel", "auto")
            bits.add(tuple(self.output().numbers))
        self.assertEqual(len(bits), 1)

    def test_binding(self):
        self.check("--bind")
        info = json.loads(attend("info", "--json").stdout)
        if info["topology"]["source"] != "hwloc" or not info["openmp"]:
            self.skipTest("needs hwloc, to be told of two memory nodes, and OpenMP")
        for name in "qkv":
            self.write(name, Tensor((8, 300, 64), [(i * 7919 % 1000 - 500) / 300 for i in range(8 * 300 * 64)]))
        command = ["run", *(word for name in "qkv" for word in (f"--{name}", f"{name}.npy")), "--explain", "--threads", "2"]
        nodes = {"HWLOC_SYNTHETIC": "pack:2 [numa] core:1 pu:1", "HWLOC_THISSYSTEM": "1"}
        for out, options, environment, plan in [("plain.npy", [], {}, "thread"),
                                                ("dealt.npy", [], nodes, "dealt out to 2 groups of cores; 2 of 2 threads"),
                                                ("bound.npy", ["--bind"], nodes, "2 groups of cores, threads bound to them")]:
            result = attend(*command, *options, "--out", out, cwd=self.directory, environment=environment)
            self.assertEqual((result.returncode, result.stderr), (0, ""))
            self.assertIn(plan, result.stdout)
            self.assertEqual(self.directory.joinpath(out).read_bytes(), self.directory.joinpath("plain.npy").read_bytes())

    def test_what_is_printed(self):
        lines = self.compute("--lse", "lse.npy").splitlines()
        self.assertEqual(len(lines), 1)
        self.assertRegex(lines[0], r"^attention: B 2, Hq 4, Hkv 2, Lq 3, Lk 5, D 6, Dv 7, f32, kernel \w+; "
                                   r"wrote out \(2, 4, 3, 7\) out.npy, lse \(2, 4, 3\) lse.npy$")
        lines = self.compute("--explain", "--time", "3").splitlines()
        self.assertEqual(len(lines), 3)
        self.assertRegex(lines[0], r"^plan: \w+__\w+ .*\(.+\)")
        self.assertRegex(lines[1], r"^time of 3 runs: min [\d.]+ ms, median [\d.]+ ms, max [\d.]+ ms; [\d.]+ GFLOP/s")

    def test_outputs_replace_what_is_there(self):
        self.directory.joinpath("real.npy").write_bytes(b"old")
        os.symlink("real.npy", self.directory / "link.npy")
        for name in "out", "lse", "weights":
            self.directory.joinpath(f"{name}.npy").write_bytes(b"old")
        self.check()
        self.compute(out="link.npy")
        self.assertTrue(self.directory.joinpath("link.npy").is_symlink())
        self.compare(self.output("real"), self.output())
        os.symlink("new.npy", self.directory / "dangling.npy")
        self.compute(out="dangling.npy")
        self.assertTrue(self.directory.joinpath("dangling.npy").is_symlink())
        self.compare(self.output("new"), self.output())

    def test_outputs_keep_mode_and_owner(self):
        out = self.directory / "out.npy"
        for mode in 0o600, 0o664, 0o640:
            out.write_bytes(b"old")
            out.chmod(mode)
            give_away(out)
            before = out.stat()
            self.compute()
            after = out.stat()
            self.assertEqual(after.st_mode & 0o7777, mode)
            self.assertEqual((after.st_uid, after.st_gid), (before.st_uid, before.st_gid))
            self.assertGreater(after.st_size, 3)

    def test_temporaries_of_a_process_that_was_killed(self):
        """Their names, which had the number that this process has now, are left alone."""
        def leave():
            for what in "0-0.tmp", "0-0.old", "1-0.tmp", "1-1.tmp":
                self.directory.joinpath(f".attend-{os.getpid()}-{what}").write_bytes(b"left")

        self.directory.joinpath("out.npy").write_bytes(b"old")
        command = ["run", *(word for name in "qkv" for word in (f"--{name}", f"{name}.npy")), "--out", "out.npy", "--lse", "lse.npy"]
        result = attend(*command, cwd=self.directory, preexec_fn=leave)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.compare(self.output(), reference(self.q, self.k, self.v)[0])
        self.assertEqual([path.read_bytes() for path in self.directory.glob(".attend-*")], [b"left"] * 4)

    def test_outputs_that_are_devices(self):
        device = null_device(self.directory)
        before = self.contents()
        result = self.run_attend("--lse", device, "--weights", device, out=device)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertIn(f"wrote out (2, 4, 3, 7) {device}", result.stdout)
        self.assertTrue(stat.S_ISCHR(os.stat(device).st_mode))
        self.assertEqual(self.contents(), before)

    def test_outputs_that_are_streams(self):
        self.compute()
        wanted = self.directory.joinpath("out.npy").read_bytes()
        self.directory.joinpath("out.npy").unlink()
        before = self.contents()
        result = attend("run", "--q", "q.npy", "--k", "k.npy", "--v", "v.npy", "--out", "-", "--explain", cwd=self.directory,
                        text=False)
        self.assertEqual((result.returncode, result.stdout), (0, wanted))
        self.assertRegex(result.stderr.decode(), r"\Aplan: [^\n]+\nattention: [^\n]+\n\Z")
        for out in "/dev/stdout", "/proc/self/fd/1":  # it is a pipe, or a file
            command = ["run", "--q", "q.npy", "--k", "k.npy", "--v", "v.npy", "--out", out]
            result = attend(*command, cwd=self.directory, text=False)
            self.assertEqual((result.returncode, result.stdout), (0, wanted))
            self.assertRegex(result.stderr.decode(), r"\Aattention: [^\n]+\n\Z")
            with tempfile.TemporaryFile() as file:
                result = attend(*command, cwd=self.directory, stdout=file)
                file.seek(0)
                self.assertEqual((result.returncode, file.read()), (0, wanted))
        os.mkfifo(self.directory / "pipe")
        reader = subprocess.Popen(["cat", "pipe"], cwd=self.directory, stdout=subprocess.PIPE)
        result = self.run_attend(out="pipe")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertEqual(reader.communicate()[0], wanted)
        self.assertEqual(self.contents(), before)

    def test_inputs_from_a_pipe(self):
        reader, writer = os.pipe()
        with os.fdopen(writer, "wb") as stream:
            stream.write(npy(self.q))
        with os.fdopen(reader, "rb") as stream:
            result = attend("run", "--q", "/dev/stdin", "--k", "k.npy", "--v", "v.npy", "--out", "out.npy", stdin=stream,
                            cwd=self.directory)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.compare(self.output(), reference(self.q, self.k, self.v)[0])


if __name__ == "__main__":
    unittest.main()
