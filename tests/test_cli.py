# SPDX-License-Identifier: Apache-2.0
"""The program from outside: every bad input gets one line on stderr, status 2 and no file; info, kernels and the worked
examples. What `attend run` computes is tested in test_cli_run.py."""

import itertools
import json
import math
import os
import pathlib
import resource
import signal
import subprocess
import sys
import tempfile
import unittest

from cli_support import ATTEND, ENVIRONMENT, ROOT, Case, Tensor, attend, end, npy, product, randoms



class BadInput(Case):
    def refuse(self, expected, *options, result=None, **files):
        """One line that says `expected`, status 2, and the directory as it was."""
        before = self.contents()
        result = result() if result else self.run_attend(*options, **files)
        self.assertEqual(result.returncode, 2, f"{options} {files}: {result.stderr}")
        self.assertRegex(result.stderr, r"\Aattend: [^\n]+\n\Z", f"{options} {files}")
        self.assertIn(expected, result.stderr)
        self.assertEqual(result.stdout or "", "")
        self.assertEqual(self.contents(), before)

    def test_commands(self):
        for arguments, expected in [
            ([], "no command"),
            (["walk"], "unknown command 'walk'"),
            (["--walk"], "unknown command '--walk'"),
            ([""], "unknown command ''"),
            (["two\nlines"], "unknown command 'two?lines'"),
            (["info", "--walk"], "unknown option '--walk'"),
            (["info", "now"], "unexpected argument 'now'"),
            (["info", "--json=yes"], "takes no value"),
            (["kernels", "--json", "--json"], "given twice"),
            (["kernels", "-j"], "unknown option '-j'"),
        ]:
            self.refuse(expected, result=lambda: attend(*arguments, cwd=self.directory))

    def test_environment(self):
        for command in ["info"], ["kernels"], ["run", "--q", "q.npy", "--k", "k.npy", "--v", "v.npy", "--out", "out.npy"]:
            for name, value in [("ATTEND_ISA", "mmx"), ("ATTEND_KERNEL", "none"), ("ATTEND_NUM_THREADS", "0"),
                                ("ATTEND_NUM_THREADS", "two"), ("ATTEND_VERBOSE", "yes"), ("ATTEND_PROFILE", "here")]:
                if (command[0], name) == ("kernels", "ATTEND_PROFILE"):
                    continue  # lists the kernels, and chooses none
                self.refuse(name, result=lambda: attend(*command, environment={name: value}, cwd=self.directory))

    def test_missing_and_unknown_options(self):
        for name in "q", "k", "v", "out":
            self.refuse(f"'--{name} FILE' is missing", **{name: None})
            self.refuse("needs a value", f"--{name}", **{name: None})
            self.refuse(f"'--{name}' is given twice", f"--{name}", "q.npy")
        self.refuse("unknown option '--querys'", "--querys", "q.npy")
        self.refuse("unknown option '-xyz'", "-xyz")
        self.refuse("unexpected argument 'more.npy'", "more.npy")
        self.refuse("unexpected argument 'top-left'", "--causal", "top-left")
        self.refuse("takes no value", "--explain=yes")
        for option in ("lse", "weights", "dtype", "bits", "window", "kv-lengths", "positions", "q-starts", "kv-starts",
                       "kv-begins", "key-ranges", "block-table", "mask", "scale", "softcap", "bias", "bias-head-scale",
                       "alibi", "sinks", "dropout", "seed", "kernel", "threads", "time"):
            self.refuse(f"option '--{option}' needs a value", f"--{option}")

    def test_numbers(self):
        whole = ["", " 1", "1 ", "x", "1x", "1.5", "1e3", "nan", "99999999999999999999", "--"]
        for text in whole + ["-2", "3000000000"]:
            self.refuse("--window", f"--window={text},0")
            self.refuse("--window", f"--window=0,{text}")
        for text in ["", "3", "1;2", "1,2,3", ",", "1,", ",1", "1" * 100 + ",1"]:
            self.refuse("--window", f"--window={text}")
        for text in whole + ["top", "bottom_right", "TOP-LEFT", "-2147483648", "2147483648"]:
            self.refuse("--causal", f"--causal={text}")
        for option in "threads", "time":
            for text in whole + ["0", "-1", "1000001"]:
                self.refuse(f"--{option}", f"--{option}={text}")
        self.refuse("--threads", "--threads=1025")
        for option in "scale", "softcap", "dropout":
            for text in ["", "abc", "nan", "-nan", "inf", "-inf", "+infinity", "1e39", "-1e39", "1e-60", " 1", "1 ", "1,5", "1x"]:
                self.refuse(f"--{option}", f"--{option}={text}")
        self.refuse("expected a number that float32 can hold: 0, or 1.4e-45 to 3.4e38", "--scale=1e-60")
        self.refuse("at least 0", "--softcap=-1")
        for text in "-0.1", "1.0001", "2":
            self.refuse("expected a probability from 0 to 1", f"--dropout={text}")
        for text in whole + ["-1", "+1", "18446744073709551616"]:
            self.refuse(f"--seed '{text}': expected a whole number from 0 to 18446744073709551615", "--dropout=0.5", f"--seed={text}")
        self.refuse("--seed '1': expected only with a --dropout above 0", "--seed=1")
        self.refuse("--seed '1': expected only with a --dropout above 0", "--seed=1", "--dropout=0")
        self.refuse("--bias-head-scale q.npy: expected only with --bias", "--bias-head-scale", "q.npy")
        self.refuse("--kv-starts and --block-table: expected one of them", "--kv-starts", "q.npy", "--block-table", "q.npy")

    def test_words(self):
        self.refuse("expected f32, f16 or bf16", "--dtype=f64")
        self.refuse("expected f32, f16 or bf16", "--dtype=default")
        self.refuse("expected f32, f16 or bf16", "--dtype=")
        self.refuse("--bits 'f16': expected bf16", "--bits=f16")
        self.refuse("no_such_kernel", "--kernel=no_such_kernel")
        self.refuse("unknown kernel", "--kernel=")

    def test_files(self):
        whole = npy(self.q)
        bad = {
            "nothing": (None, "cannot open: No such file"),
            "directory": (None, "cannot read: Is a directory"),
            "empty": (b"", "not an .npy file"),
            "text": (b"1 2 3\n", "not an .npy file"),
            "version": (whole[:6] + b"\x09" + whole[7:], "version is 9.0"),
            "cut": (whole[:-1], "truncated: the data needs 576 bytes, the file has 575"),
            "headless": (whole[:60], "truncated: the header"),
            "length": (whole[:8] + b"\xff\xff" + whole[10:], "truncated: the header needs 65535"),
            "trailing": (whole + b"\0", "unexpected bytes after the "),
            "twice": (whole + whole, "unexpected bytes after the "),
            "object": (npy(self.q, "|O"), "object arrays"),
            "text_array": (npy(self.q, "<U1"), "'descr' is '<U1'"),
            "negative": (npy(self.q, shape="(2, 4, -3, 6)"), "negative dimension"),
            "rank33": (npy(self.q, shape="(" + "1, " * 33 + ")"), "at most 32 dimensions"),
            "huge": (npy(self.q, shape="(2, 4, 3, 9223372036854775808)"), "beyond 2^63 - 1"),
            "overflow": (npy(self.q, shape="(4294967296, 4294967296, 3, 6)"), "larger than memory"),
            "zero_overflow": (npy(self.q, shape="(4294967296, 4294967296, 0, 6)"), "larger than memory"),
            "enormous": (npy(self.q, shape="(2, 4, 3, 1000000000000)"), "truncated: the data needs"),
            "line\nbreak": (b"", "line?break.npy: not an .npy file"),
        }
        self.directory.joinpath("directory.npy").mkdir()
        for name, (data, expected) in bad.items():
            if data is not None:
                self.directory.joinpath(f"{name}.npy").write_bytes(data)
            for option in "q", "k", "v":
                self.refuse(expected, **{option: f"{name}.npy"})
            for option in ("kv-lengths", "positions", "q-starts", "kv-starts", "kv-begins", "key-ranges", "block-table",
                           "mask", "bias", "alibi", "sinks"):
                self.refuse(f"--{option} ", f"--{option}", f"{name}.npy")
                self.refuse(expected, f"--{option}", f"{name}.npy")

    def test_every_truncation(self):
        whole = npy(self.q)
        for size in range(len(whole)):
            self.directory.joinpath("cut.npy").write_bytes(whole[:size])
            self.refuse("--q cut.npy: ", q="cut.npy")

    def test_types(self):
        for descr, name in ("<i4", "int32"), ("<i8", "int64"), ("|b1", "bool"):
            for option, shape in self.SHAPES.items():
                self.write("bad", Tensor(shape, [1] * product(shape)), descr)
                self.refuse(f"field 'descr' is {name}, expected float32", **{option: "bad.npy"})
            self.write("bad", Tensor((4,), [1] * 4), descr)
            for option in "bias", "alibi", "sinks":
                self.refuse(f"field 'descr' is {name}, expected float32", f"--{option}", "bad.npy")
            self.write("bias", Tensor((5,), [1] * 5))
            self.refuse(f"--bias-head-scale bad.npy: field 'descr' is {name}", "--bias", "bias.npy", "--bias-head-scale", "bad.npy")
        self.write("bad", Tensor(self.q.shape, [16256] * product(self.q.shape)), "<u2")
        self.refuse("uint16, expected float32, float16, bfloat16 or float64; if it holds the bits of bfloat16, add --bits bf16", q="bad.npy")
        self.write("bad", Tensor((5,), [1] * 5), "<u2")
        self.refuse("--bits bf16", "--bias", "bad.npy")
        for descr, name in ("<f4", "float32"), ("<f8", "float64"), ("<u2", "uint16"), ("|b1", "bool"):
            self.write("bad", Tensor((2,), [1] * 2), descr)
            for option in "kv-lengths", "positions", "q-starts", "kv-starts", "kv-begins", "key-ranges", "block-table":
                self.refuse(f"--{option} bad.npy: field 'descr' is {name}, expected int32 or int64", "--bits=bf16", f"--{option}", "bad.npy")
        for descr, name in ("<f4", "float32"), ("<V2", "bfloat16"), ("<u2", "uint16"):
            self.write("bad", Tensor((5,), [1] * 5), descr)
            self.refuse(f"is {name}, expected bool", "--mask", "bad.npy")
        for value, descr in itertools.product((2, -1), ("<i4", "<i8")):
            self.write("bad", Tensor((5,), [0, 1, 1, value, 0]), descr)
            self.refuse(f"--mask bad.npy: element 3 is {value}, expected 0 or 1", "--mask", "bad.npy")

    def test_shapes(self):
        for option, shape, expected in [
            ("q", (), "is (), expected (B, Hq, Lq, D)"),
            ("q", (6,), "is (6,), expected (B, Hq, Lq, D)"),
            ("q", (1, 2, 4, 3, 6), "is (1, 2, 4, 3, 6), expected (B, Hq, Lq, D)"),
            ("q", (2, 4, 3, 0), "expected a last dimension of at least 1"),
            ("q", (4, 3, 6), "--k k.npy: field 'shape' is (2, 2, 5, 6), expected (Hkv, Lk, 6)"),
            ("q", (3, 6), "--k k.npy: field 'shape' is (2, 2, 5, 6), expected (Lk, 6)"),
            ("q", (2, 3, 3, 6), "--k k.npy: field 'shape' is (2, 2, 5, 6), expected a number of heads that divides that of --q"),
            ("q", (1, 4, 3, 6), "--k k.npy: field 'shape' is (2, 2, 5, 6), expected (1, Hkv, Lk, 6)"),
            ("k", (2, 2, 5, 7), "expected (2, Hkv, Lk, 6)"),
            ("k", (1, 2, 5, 6), "expected (2, Hkv, Lk, 6)"),
            ("k", (2, 5, 6), "expected (2, Hkv, Lk, 6)"),
            ("k", (2, 0, 5, 6), "expected a number of heads that divides"),
            ("k", (2, 3, 5, 6), "expected a number of heads that divides"),
            ("k", (2, 8, 5, 6), "expected a number of heads that divides"),
            ("k", (2, 1, 5, 6), "--v v.npy: field 'shape' is (2, 2, 5, 7), expected (2, 1, 5, Dv)"),
            ("k", (2, 2, 4, 6), "--v v.npy: field 'shape' is (2, 2, 5, 7), expected (2, 2, 4, Dv)"),
            ("v", (2, 2, 4, 7), "expected (2, 2, 5, Dv)"),
            ("v", (2, 1, 5, 7), "expected (2, 2, 5, Dv)"),
            ("v", (1, 2, 5, 7), "expected (2, 2, 5, Dv)"),
            ("v", (5, 7), "expected (2, 2, 5, Dv)"),
            ("v", (2, 2, 5, 0), "expected a last dimension of at least 1"),
        ]:
            self.write("bad", randoms(*shape))
            self.refuse(expected, **{option: "bad.npy"})
        for option, descr, shape, expected in [
            *[("kv-lengths", "<i8", shape, f"is {shape}, expected (2,), a length for each sequence, or (2, 3), for each query")
              for shape in ((), (3,), (2, 2), (1, 3), (1, 2, 3))],
            ("mask", "|b1", (4,), "expected one that broadcasts to (2, 4, 3, 5)"),
            ("mask", "|b1", (2, 5), "expected one that broadcasts to (2, 4, 3, 5)"),
            ("mask", "|b1", (2, 2, 3, 5), "expected one that broadcasts to (2, 4, 3, 5)"),
            ("mask", "|b1", (1, 2, 4, 3, 5), "expected one that broadcasts to (2, 4, 3, 5)"),
            ("mask", "|b1", (0,), "expected one that broadcasts to (2, 4, 3, 5)"),
            ("bias", "<f4", (2, 4, 3, 4), "expected one that broadcasts to (2, 4, 3, 5)"),
            ("bias", "<f4", (1, 1, 1, 1, 1), "expected one that broadcasts to (2, 4, 3, 5)"),
            ("alibi", "<f4", (2,), "expected (4,)"),
            ("alibi", "<f4", (), "expected (4,)"),
            ("alibi", "<f4", (1, 4), "expected (4,)"),
            ("sinks", "<f4", (5,), "expected (4,)"),
        ]:
            self.write("bad", Tensor(shape, [1] * product(shape)), descr)
            self.refuse(expected, f"--{option}", "bad.npy")

    def test_extents_beyond_the_library(self):
        # No element at all, so that the file can be written; the extents are what is too large.
        self.write("q", Tensor((0, 1, 3000000000, 2), []))
        self.write("k", Tensor((0, 1, 1, 2), []))
        self.write("v", Tensor((0, 1, 1, 2), []))
        self.refuse("q_len is 3000000000")

    def test_values(self):
        for numbers, descr in ([2, 6], "<i4"), ([-1, 2], "<i8"), ([2, 2**40], "<i8"), ([2, 2**32 + 1], "<i8"):
            self.write("bad", Tensor((2,), numbers), descr)
            self.refuse("expected 0 to 5, the number of keys", "--kv-lengths", "bad.npy")
        self.write("bad", Tensor((2, 3), [0, 1, 2, 3, 4, 6]), "<i4")
        self.refuse("element 5 is 6", "--kv-lengths", "bad.npy")
        for number in math.nan, math.inf:
            self.write("bad", Tensor((5,), [0, 0, 0, number, 0]))
            self.refuse(f"element 3 is {number}, expected a finite number or -inf", "--bias", "bad.npy")
            self.write("bad", Tensor((4,), [0, 0, number, 0]))
            self.refuse(f"element 2 is {number}, expected a finite number", "--alibi", "bad.npy")
            self.refuse(f"element 2 is {number}, expected a finite number or -inf", "--sinks", "bad.npy")
            self.write("bias", Tensor((5,), [1] * 5))
            self.refuse(f"--bias-head-scale bad.npy: element 2 is {number}", "--bias", "bias.npy", "--bias-head-scale", "bad.npy")
        self.write("bad", Tensor((4,), [-math.inf] * 4))
        self.refuse("element 0 is -inf, expected a finite number\n", "--alibi", "bad.npy")
        for option in "q", "k", "v":
            shape = self.SHAPES[option]
            self.write("bad", Tensor(shape, [0] * (product(shape) - 1) + [-1e300]), "<f8")
            self.refuse(f"element {product(shape) - 1} is -1e+300, expected a number in the range of float32", **{option: "bad.npy"})

    def test_kernel_that_cannot(self):
        rows = json.loads(attend("kernels", "--json").stdout)["kernels"]
        cannot = [row["name"] for row in rows if row["runnable"] and "f32" in row["dtypes"] and "weights" not in row.get("can", ["weights"])]
        self.assertTrue(cannot)
        self.refuse("weights", "--kernel", cannot[0], "--weights", "weights.npy")
        for row in rows:
            if row["operation"] != "forward":
                self.refuse(row["name"], "--kernel", row["name"])

    def test_outputs(self):
        self.directory.joinpath("there").mkdir()
        self.directory.joinpath("out.npy").write_bytes(b"precious")
        os.symlink("nowhere/x.npy", self.directory / "dangling.npy")
        os.symlink("loop.npy", self.directory / "loop.npy")
        os.symlink("other.npy", self.directory / "new.npy")
        for name, expected in [("nowhere/x.npy", "No such file"), ("there", "expected a regular file, a pipe or"),
                               ("there/", "expected a regular file"), ("dangling.npy", "No such file"),
                               ("loop.npy", "Too many levels of symbolic links"), ("new/", "expected the name of a file"),
                               ("", "expected the name of a file"), ("q.npy/x.npy", "Not a directory"),
                               ("x" * 256, "File name too long"), ("x/" * 3000 + "x", "File name too long"),
                               ("/proc/self/x.npy", "")]:
            self.refuse(f"--out {name}: " if expected else "--out", out=name)
            self.refuse(expected, out=name)
            self.refuse(expected, "--lse", name)
            self.refuse(expected, "--weights", name)
        self.refuse("--out and --lse name the same file", "--lse", "out.npy")
        self.refuse("--out and --weights name the same file", "--weights", "there/../out.npy")
        self.refuse("--lse and --weights name the same file", "--lse", "new.npy", "--weights", "./new.npy")
        os.symlink("out.npy", self.directory / "link.npy")
        self.refuse("name the same file", "--lse", "link.npy")
        self.refuse("--out and --lse name the same file", "--lse", "-", out="-")
        before = self.contents()
        for option, out in ("--lse", "new.npy"), ("--weights", "out.npy"):
            result = self.run_attend(option, "/dev/full", out=out)
            self.assertEqual((result.returncode, result.stdout, result.stderr),
                             (2, "", f"attend: {option} /dev/full: No space left on device\n"))
            self.assertEqual(self.contents(), before)
        os.link(self.directory / "q.npy", self.directory / "hard.npy")
        for name in "q.npy", "./there/../q.npy", "hard.npy":
            self.refuse(f"--q and --out name the same file, {name}: expected an output that is no input", out=name)
        self.write("lengths", Tensor((2,), [1, 2]), "<i4")
        self.refuse("--kv-lengths and --lse name the same file", "--kv-lengths", "lengths.npy", "--lse", "lengths.npy")
        if os.geteuid() != 0:
            self.directory.joinpath("there").chmod(0o500)
            self.refuse("cannot write to its directory", out="there/out.npy")
            self.directory.joinpath("out.npy").chmod(0o400)
            self.refuse("Permission denied")

    @unittest.skipIf(os.environ.get("SANITIZE") == "thread", "ThreadSanitizer writes a larger file when it starts")
    def test_a_full_disk(self):
        """Files may grow to 2000 bytes: out can be written, weights cannot."""
        self.write("k", randoms(2, 2, 50, 6))
        self.write("v", randoms(2, 2, 50, 7))
        self.directory.joinpath("weights.npy").write_bytes(b"precious")

        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

        command = [ATTEND, "run", "--q", "q.npy", "--k", "k.npy", "--v", "v.npy", "--out", "out.npy", "--weights", "weights.npy"]
        self.refuse("--weights weights.npy: File too large",
                    result=lambda: subprocess.run(command, cwd=self.directory, preexec_fn=limit, capture_output=True, text=True))

    def test_a_rename_that_fails(self):
        """weights.npy turns into a directory after the program has looked: what was already renamed is brought back."""
        self.directory.joinpath("out.npy").write_bytes(b"precious")
        before = self.contents()
        os.mkfifo(self.directory / "pipe")
        command = [ATTEND, "run", "--q", "pipe", "--k", "k.npy", "--v", "v.npy", "--out", "out.npy", "--lse", "lse.npy",
                   "--weights", "weights.npy"]
        process = subprocess.Popen(command, cwd=self.directory, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        with open(self.directory / "pipe", "wb") as pipe:  # opens when the program does: outputs were looked at
            self.directory.joinpath("weights.npy").mkdir()
            pipe.write(npy(self.q))
        self.assertEqual(process.communicate()[1], "attend: --weights weights.npy: Is a directory\n")
        self.assertEqual(process.returncode, 2)
        self.assertEqual(self.contents(), before)

    def test_standard_output_that_is_full(self):
        with open("/dev/full", "w") as full:
            for arguments in ["--help"], ["info"], ["kernels", "--json"], \
                    ["run", "--q", "q.npy", "--k", "k.npy", "--v", "v.npy", "--out", "out.npy"]:
                self.refuse("cannot write to standard output",
                            result=lambda: attend(*arguments, cwd=self.directory, stdout=full))

    def test_a_signal_leaves_all_or_nothing(self):
        """Whatever it interrupts: reading, computing, or writing 32 MiB of weights."""
        for name in "qkv":
            self.write(name, Tensor((8, 1024, 4), [0] * 32768))
        before = self.contents()
        command = [ATTEND, "run", "--q", "q.npy", "--k", "k.npy", "--v", "v.npy", "--out", "out.npy", "--weights", "weights.npy"]
        for milliseconds in 1, 5, 10, 20, 30, 40, 50, 60, 80, 100, 120, 150, 200:
            process = subprocess.Popen(command, cwd=self.directory, stdout=subprocess.DEVNULL)
            try:
                process.wait(milliseconds / 1000)
            except subprocess.TimeoutExpired:
                end(process, signal.SIGTERM)
            status, new = process.wait(), set(self.contents()) - set(before)
            self.assertIn(status, (0, -signal.SIGTERM))
            self.assertIn(new, [{"out.npy", "weights.npy"}] + [set()] * (status != 0))
            for name in new:
                self.directory.joinpath(name).unlink()


class OtherCommands(unittest.TestCase):
    def succeed(self, *arguments, **options):
        result = attend(*arguments, **options)
        self.assertEqual((result.returncode, result.stderr), (0, ""), arguments)
        return result.stdout

    def test_help_and_version(self):
        overview = self.succeed("--help")
        commands = [line.split()[0] for line in overview.split("says more)\n")[1].split("\n\n")[0].splitlines()]
        self.assertEqual(commands, ["info", "kernels", "layer", "run", "report", "tune", "verify"])
        for command in commands:
            text = self.succeed(command, "--help")
            self.assertTrue(text.startswith(f"usage: attend {command}"))
            self.assertIn("\nexamples\n", text)
            self.assertLessEqual(max(map(len, text.splitlines())), 120)
        self.assertRegex(self.succeed("--version"), r"\Aattend \d+\.\d+\.\d+\n\Z")

    def test_info(self):
        info = json.loads(self.succeed("info", "--json"))
        self.assertTrue(info["cpu"])
        self.assertGreaterEqual(info["threads"], 1)
        self.assertEqual(info["profile"], "none: built-in rules (there is none)")
        self.assertIn("scalar", info["built_isas"])
        self.assertTrue(all(info["features"]["unusable"].values()))
        text = self.succeed("info")
        for word in [info["cpu"], info["version"], info["compiler"], info["profile"], *info["environment"],
                     *info["features"]["usable"], *info["features"]["unusable"].values()]:
            self.assertIn(word, text)
        environment = {"ATTEND_NUM_THREADS": "3", "ATTEND_ISA": "scalar", "ATTEND_PROFILE": ""}
        info = json.loads(self.succeed("info", "--json", environment=environment))
        self.assertEqual((info["threads"], info["highest_isa"]), (3, "scalar"))
        self.assertEqual(info["environment"]["ATTEND_NUM_THREADS"], "3")
        self.assertIsNone(info["environment"]["ATTEND_PROFILE"])
        self.assertRegex(self.succeed("info", environment=environment), r"threads +3 \(ATTEND_NUM_THREADS\)")
        environment["OMP_NUM_THREADS"] = "2,1"
        self.assertRegex(self.succeed("info", environment=environment), r"threads +3 \(ATTEND_NUM_THREADS\)")
        environment["ATTEND_NUM_THREADS"] = ""
        self.assertRegex(self.succeed("info", environment=environment), r"threads +2 \(OMP_NUM_THREADS\)")

    def test_no_escape_sequence_reaches_the_terminal(self):
        """Those of ESC and those of C1, raw and in UTF-8, from a profile, a path or the environment."""
        bad = b"\x1b]0;pwn\x07\x1b[31m \xc2\x9b31m \x9b31m \x7f \xff"
        clean = "?]0;pwn??[31m ??31m ?31m ? ?"
        signature = json.loads(self.succeed("info", "--json"))["signature"]
        with tempfile.TemporaryDirectory() as directory:
            folder = pathlib.Path(directory, "attend")
            folder.mkdir()
            text, number = b"attend-profile " + bad + b"\n", 0xCBF29CE484222325
            for byte in text:
                number = (number ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
            folder.joinpath(signature.replace("/", "_") + ".profile").write_bytes(text + f"end {number:016x}\n".encode())
            for arguments in ["info"], ["info", "--json"]:
                text = self.succeed(*arguments, environment={"XDG_CACHE_HOME": directory})
                self.assertIn(f"it was made for attend-profile {clean}, this is", text)
            words = ["attend", "run", "--q", bad, "--k", "k", "--v", "v", "--out", "o"]
            result = subprocess.run([ATTEND.encode(), *words[1:]], capture_output=True, env=ENVIRONMENT, cwd=directory)
            self.assertEqual(result.stderr.decode(), f"attend: --q {clean}: cannot open: No such file or directory\n")
            result = subprocess.run([ATTEND, "info"], capture_output=True, env=ENVIRONMENT | {"ATTEND_VERBOSE": bad})
            self.assertIn(clean, result.stderr.decode())
            self.assertEqual(attend("run", "--q", "naïve 日本", *words[4:], cwd=directory).stderr,
                             "attend: --q naïve 日本: cannot open: No such file or directory\n")

    def test_info_of_the_topology(self):
        here = json.loads(self.succeed("info", "--json"))["topology"]
        self.assertIn(here["source"], ("hwloc", "Linux"))
        self.assertEqual(sum(group["cores"] for group in here["groups"]), here["cores"])
        self.assertEqual(len({group["node"] for group in here["groups"]}), here["numa_nodes"])
        self.assertIn(f"topology (from {here['source']})\n", self.succeed("info"))
        if here["source"] != "hwloc":
            self.skipTest("this build has no hwloc to describe other machines to it")
        node, twice = {"cores": 4, "cache_level": 3, "cache_bytes": 8 << 20}, " +2 groups of 4 cores, each sharing 8 MiB of L3\n"
        for variable, description, text, expected in [
            ("HWLOC_SYNTHETIC", "pack:2 [numa] l3:2(size=8388608) core:4 pu:2", rf"NUMA nodes +2\n +node 0{twice} +node 1{twice}\n",
             {"logical": 32, "cores": 16, "efficiency_cores": 0, "numa_nodes": 2,
              "groups": [{"node": 0} | node] * 2 + [{"node": 1} | node] * 2}),
            ("HWLOC_SYNTHETIC", "[numa] pack:1 core:1 pu:1", r"NUMA nodes +1\n +node 0 +1 core\n\n",
             {"cores": 1, "groups": [{"node": 0, "cores": 1, "cache_level": 0, "cache_bytes": 0}]}),
            ("HWLOC_XMLFILE", ROOT / "tests/topologies/hybrid.xml",
             r"cores +6 \(2 performance, 4 efficiency\), .*\n.*\n +node 0 +6 cores, sharing 10 MiB of L3\n",
             {"logical": 8, "cores": 6, "efficiency_cores": 4, "numa_nodes": 1}),
            ("HWLOC_XMLFILE", ROOT / "tests/topologies/big-little.xml",
             r"node 0 +4 cores, sharing 512 KiB of L2\n +2 cores, sharing 1 MiB of L2\n", {"cores": 6, "efficiency_cores": 4}),
        ]:
            environment = {variable: str(description), "HWLOC_THISSYSTEM": "1"}
            topology = json.loads(self.succeed("info", "--json", environment=environment))["topology"]
            self.assertEqual(topology | expected, topology, description)
            self.assertRegex(self.succeed("info", environment=environment), text)

    def test_kernels(self):
        rows = json.loads(self.succeed("kernels", "--json"))["kernels"]
        lines = self.succeed("kernels").splitlines()
        self.assertEqual(len(lines), 1 + len(rows))
        for row, line in zip(rows, lines[1:]):
            words = line.split(maxsplit=6)
            runnable = "yes" if row["runnable"] else f"no: {row['reason']}"
            can = ",".join(row.get("can", [])) or "-"
            plain = [name for name in row["dtypes"] if name in ("f32", "f16", "bf16")]
            dtypes = ",".join(plain + ["formats"] * (len(row["dtypes"]) > len(plain)))
            self.assertEqual(words, [row["name"], row["operation"], row["body"], row["isa"], dtypes, can, runnable])
        self.assertEqual({row["operation"] for row in rows}, {"forward", "softmax", "append", "merge"})
        for row in rows:
            self.assertEqual("can" in row and "q_rows" in row, row["operation"] == "forward", row["name"])
        self.assertEqual({row["isa"] for row in rows}, set(json.loads(self.succeed("info", "--json"))["built_isas"]))
        for row in json.loads(self.succeed("kernels", "--json", environment={"ATTEND_ISA": "scalar"}))["kernels"]:
            self.assertEqual(row["runnable"], row["isa"] == "scalar")
            self.assertEqual("reason" in row, not row["runnable"])

    def test_examples(self):
        result = subprocess.run([sys.executable, ROOT / "examples" / "check", ATTEND], capture_output=True, text=True, env=ENVIRONMENT)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertEqual(result.stdout.count("  pass\n"), 8)


if __name__ == "__main__":
    unittest.main()
