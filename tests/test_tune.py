# SPDX-License-Identifier: Apache-2.0
"""attend tune: what it writes, when it writes nothing, and what is left when it is stopped in the middle."""

import json
import os
import pathlib
import random
import re
import resource
import signal
import stat
import subprocess
import tempfile
import time
import unittest

from cli_support import ATTEND, ENVIRONMENT, Tensor, attend, end, give_away, npy, null_device

# Shapes so small that the tuner is soon done, whatever it was built with.
SHAPES = "# small ones\n" + "".join(
    f"{dtype} 1 {heads} {queries}x{keys} 16/{dim} {mask}\n"
    for dtype, heads, queries, keys, dim, mask in [
        ("f32", "1/1", 1, 8, 16, "full"), ("f16", "2/1", 1, 16, 16, "lengths"), ("bf16", "2/2", 4, 4, 16, "causal"),
        ("f32", "4/2", 8, 8, 8, "mask"), ("f16", "1/1", 3, 9, 16, "bias"), ("bf16", "1/1", 1, 1, 16, ""),
        ("f32", "2/1", 2, 30, 32, "window=4"), ("f32", "1/1", 16, 16, 16, "causal"), ("f16", "1/1", 5, 5, 16, "full"),
        ("bf16", "4/1", 1, 12, 16, "full"), ("f32", "1/1", 7, 7, 7, "full"), ("f16", "2/2", 2, 2, 2, "causal"),
        ("bf16", "1/1", 9, 3, 16, "full")])
SHAPES += "".join(f"{types} 1 2/1 {queries}x{keys} 32/32 {mask}\n" for types, queries, keys, mask in [
    ("f32+q8_0", 1, 9, "full"), ("bf16+q4_0", 1, 20, "lengths"), ("bf16+q8_0", 3, 5, "causal"), ("f16+q5_1", 4, 7, "mask"),
    ("f32+iq4_nl", 8, 8, "full"), ("bf16+q4_1", 1, 3, "bias"), ("bf16+q5_0", 2, 30, "window=4"), ("f32+q4_0", 6, 6, "causal"),
    ("f32+i8", 1, 9, "full"), ("bf16+i4", 1, 20, "full"), ("f16+f8_e4m3", 3, 5, "causal"), ("f32+f8_e5m2", 2, 2, "full")])


class Tune(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = pathlib.Path(directory.name)
        self.shapes = self.directory / "small.shapes"
        self.shapes.write_text(SHAPES)
        self.profile = self.directory / "test.profile"
        self.environment = {"XDG_CACHE_HOME": str(self.directory / "cache")}

    def tune(self, *options, environment=None, **more):
        return attend("tune", "--budget", "1", "--shapes", self.shapes, *options,
                      environment=self.environment | (environment or {}), **more)

    def start(self, *options):
        return subprocess.Popen([ATTEND, "tune", "--budget", "1", "--shapes", self.shapes, *map(str, options)],
                                env=ENVIRONMENT | self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def in_use(self, environment=None):
        run = attend("info", "--json", environment=self.environment | (environment or {}))
        self.assertEqual(run.returncode, 0, run.stderr)
        return json.loads(run.stdout)["profile"]

    def usable(self):
        return self.in_use({"ATTEND_PROFILE": str(self.profile)}) == str(self.profile)

    def left_over(self):
        return [path for path in self.directory.rglob("*.tmp")]

    def refuse(self, expected, *options, **more):
        before = self.profile.read_bytes() if self.profile.exists() else None
        run = self.tune(*options, **more)
        self.assertEqual(run.returncode, 2, run.stderr)
        self.assertRegex(run.stderr.splitlines()[-1], r"\Aattend: ")
        self.assertIn(expected, run.stderr)
        self.assertEqual(before, self.profile.read_bytes() if self.profile.exists() else None)
        self.assertEqual(self.left_over(), [])

    def test_writes_a_profile_that_is_used(self):
        run = self.tune()
        self.assertEqual(run.returncode, 0, run.stderr)
        path = run.stdout.split(": ")[0]
        self.assertTrue(path.startswith(self.environment["XDG_CACHE_HOME"]))
        self.assertEqual(self.in_use(), path)
        self.assertIn("left", run.stderr)  # plain lines of progress, no bar
        self.assertNotIn("\r", run.stderr)
        self.assertEqual(self.in_use({"ATTEND_PROFILE": "off"}), "none: built-in rules (ATTEND_PROFILE is off)")
        # tuned again, it is replaced; another place is left alone
        first = pathlib.Path(path).read_bytes()
        self.assertEqual(self.tune("--profile", self.profile).returncode, 0)
        self.assertTrue(self.usable())
        self.assertEqual(first, pathlib.Path(path).read_bytes())
        pathlib.Path(path).write_bytes(first[:-1])
        self.assertIn("is rejected: it is damaged", self.in_use())

    def test_goes_where_the_environment_says(self):
        run = self.tune(environment={"ATTEND_PROFILE": str(self.profile)})
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertTrue(self.usable())

    def test_explains_by_it(self):
        self.assertEqual(self.tune("--profile", self.profile).returncode, 0)
        root = pathlib.Path(__file__).resolve().parent.parent / "examples" / "six-tokens"
        x, out = root / "x.npy", self.directory / "out.npy"
        run = attend("run", "--q", x, "--k", x, "--v", x, "--out", out, "--explain",
                     environment={"ATTEND_PROFILE": str(self.profile), "ATTEND_VERBOSE": "1"})
        self.assertEqual(run.returncode, 0, run.stderr)
        for text in run.stdout, run.stderr:
            self.assertRegex(text, r"profile: .* us expected.*nearest entry: f")

    def test_formats_have_entries_of_their_own(self):
        self.assertEqual(self.tune("--profile", self.profile).returncode, 0)
        points = [line.split()[1] for line in self.profile.read_text().splitlines() if line.startswith("point ")]
        for types in ("f32/f32", "bf16/q4_0", "f32/iq4_nl"):
            self.assertIn(types, points)
        scaled = [types for types in points if re.search("/(i[48]$|f8)", types)]
        self.assertTrue(not scaled or len(scaled) >= 8, scaled)  # of a kind with fewer nothing is said
        x, out = self.directory / "x.npy", self.directory / "out.npy"
        x.write_bytes(npy(Tensor((1, 2, 5, 32), [i % 7 for i in range(320)])))
        for key, said in ("q8_0", r"profile: .*nearest entry: \S+/(q|iq)"), ("f16", "profile: .*nearest entry: f"):
            run = attend("run", "--q", x, "--k", x, "--v", x, "--out", out, "--k-format", key, "--v-format", key, "--explain",
                         environment={"ATTEND_PROFILE": str(self.profile)})
            self.assertEqual(run.returncode, 0, run.stderr)
            self.assertRegex(run.stdout, said)
        run = attend("run", "--q", x, "--k", x, "--v", x, "--out", out, "--k-format", "q8_0", "--v-format", "f32", "--explain",
                     environment={"ATTEND_PROFILE": str(self.profile)})
        self.assertRegex(run.stdout, "heuristic")

    def test_check_prints_the_distribution(self):
        self.assertEqual(self.tune("--profile", self.profile).returncode, 0)
        run = attend("tune", "--check", "--count", "2", "--budget", "1", "--profile", self.profile)
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertIn(f"profile: {self.profile}", run.stdout)
        number = r" +[\d.]+ %" * 5
        self.assertRegex(run.stdout, rf"2 shapes, \d+ threads.*\n.*median.*\nwith profile {number}\nrules alone {number}\n"
                         .replace(".*\\n.*median", "[^\\n]*\\n[^\\n]*median"))

    def test_checks_odd_shapes(self):
        run = attend("tune", "--check", "--odd", "--count", "4", "--budget", "1", "--seed", "4")
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertIn(", heads within rows ", run.stdout)
        dims = [int(dim) for pair in re.findall(r"x\d+ (\d+)/(\d+)", run.stdout) for dim in pair]
        self.assertTrue(any(dim % 8 for dim in dims), dims)

    def test_bad_usage(self):
        self.refuse("expected one of --quick, --thorough and --budget", "--quick")
        self.refuse("--count, --odd and --seed go with --check", "--count", "3")
        self.refuse("--check takes no --shapes", "--check")
        for name, value in ("ATTEND_KERNEL", "stream_f32__scalar_q4k32"), ("ATTEND_ISA", "scalar"):
            self.refuse(f"{name} is set to {value}; expected it unset", environment={name: value})
        run = attend("tune", "--budget", "0")
        self.assertEqual((run.returncode, "whole number from 1" in run.stderr), (2, True))

    def test_bad_shapes(self):
        for text, expected in [("", "expected a shape in it"), ("f32 1\n", "line 1: expected five or six words"),
                               ("#\nf64 1 1/1 1x1 1/1\n", "line 2: expected f32, f16 or bf16"),
                               ("q8_0 1 1/1 1x1 32/32\n", "f32+q8_0, as the first word"), ("f32+ 1 1/1 1x1 1/1\n", "the first word"),
                               ("f32+q9 1 1/1 1x1 32/32\n", "the first word"), ("bf16+q8_0 1 1/1 1x1 33/32\n", "multiple of 32"),
                               ("f32 x 1/1 1x1 1/1\n", "the batch size"), ("f32 1 2 1x1 1/1\n", "query heads / key heads"),
                               ("f32 1 1/1 1/1 1/1\n", "queries x keys"), ("f32 1 1/1 1x1 1\n", "head dims"),
                               ("f32 1 1/1 1x1 1/1 window=\n", "window=N"), ("f32 1 3/2 1x1 1/1\n", "line 1: expected"),
                               ("f32 1 1/1 1x0 1/1\n", "something to compute"), ("f" * 600, "lines of less than"),
                               ("f32 99999999999 1/1 1x1 1/1\n", "line 1: expected"),
                               ("f32+i8 1 1/9999999999 1x9999999999 64/64\n", "line 1: expected kv_heads is 9999999999")]:
            self.shapes.write_text(text)
            self.refuse(expected, "--profile", self.profile)
        self.shapes.unlink()
        self.refuse("No such file", "--profile", self.profile)

    def test_a_place_that_cannot_be_written(self):
        self.assertEqual(self.tune("--profile", self.profile).returncode, 0)
        self.refuse("No such file", "--profile", self.directory / "missing" / "a.profile")
        self.refuse("cannot make its directory: Not a directory; --profile names another place",
                    environment={"XDG_CACHE_HOME": str(self.profile)})
        self.refuse("no cache directory", environment={"XDG_CACHE_HOME": "relative", "HOME": ""})

    @unittest.skipIf(os.environ.get("SANITIZE") == "thread", "ThreadSanitizer writes a larger file when it starts")
    def test_a_full_disk(self):
        self.assertEqual(self.tune("--profile", self.profile).returncode, 0)
        # As far as a process can make one: no file may grow beyond the bytes that clang's OpenMP runtime needs
        # for its own (see end())
        limit = lambda: (signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
                         resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024)))
        self.refuse(f"--profile {self.profile}: File too large", "--profile", self.profile, preexec_fn=limit)

    @unittest.skipIf(os.geteuid() == 0, "root writes anywhere")
    def test_a_read_only_home(self):
        home = self.directory / "home"
        home.mkdir(mode=0o500)
        self.refuse("cannot make its directory: Permission denied", environment={"XDG_CACHE_HOME": str(home)})

    def test_replaces_a_file_as_every_output_does(self):
        """Mode and owner stay, a link is followed."""
        self.profile.write_text("old")
        self.profile.chmod(0o640)
        give_away(self.profile)
        before = self.profile.stat()
        link, dangling, new = (self.directory / name for name in ("link.profile", "dangling.profile", "new.profile"))
        link.symlink_to(self.profile.name)
        dangling.symlink_to(new.name)
        run = self.tune("--profile", link)
        self.assertEqual((run.returncode, run.stdout.split(": ")[0]), (0, str(link)), run.stderr)
        after = self.profile.stat()
        self.assertTrue(link.is_symlink() and self.usable())
        self.assertEqual((after.st_mode, after.st_uid, after.st_gid), (before.st_mode, before.st_uid, before.st_gid))
        self.assertEqual(self.tune("--profile", dangling).returncode, 0)
        self.assertTrue(dangling.is_symlink() and new.read_text().startswith("attend-profile"))

    def test_goes_to_a_stream(self):
        run = self.tune("--profile", "-")
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertIn(" choices; differences above ", run.stderr)
        self.profile.write_text(run.stdout)
        self.assertTrue(self.usable())
        os.mkfifo(self.directory / "pipe")
        reader = subprocess.Popen(["cat", "pipe"], cwd=self.directory, stdout=subprocess.PIPE, text=True)
        self.assertEqual(self.tune("--profile", self.directory / "pipe").returncode, 0)
        self.profile.write_text(reader.communicate()[0])
        self.assertTrue(self.usable())

    def test_goes_to_a_device(self):
        device = null_device(self.directory)
        self.assertEqual(self.tune("--profile", device).returncode, 0)
        self.assertTrue(stat.S_ISCHR(os.stat(device).st_mode))

    def test_no_escape_sequence_of_a_name_reaches_the_terminal(self):
        profile = self.directory / "\x1b[31m\x9b31m naïve 日本.profile"
        clean = f"{self.directory}/?[31m??31m naïve 日本.profile"
        run = self.tune("--profile", profile)
        self.assertEqual((run.returncode, run.stdout.split(": ")[0]), (0, clean), run.stderr)
        environment = {"ATTEND_PROFILE": str(profile)}
        for arguments, times in (["info"], 2), (["info", "--json"], 2), (["tune", "--check", "--count", "1", "--budget", "1"], 1):
            run = attend(*arguments, environment=environment)
            self.assertEqual((run.returncode, run.stdout.count(clean)), (0, times), run.stderr)
            self.assertNotRegex(run.stdout + run.stderr, r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
        self.profile.with_name(profile.name).write_bytes(b"spoiled")
        run = attend("info", environment=environment)
        self.assertEqual((run.returncode, run.stderr.count(clean)), (2, 1), run.stderr)
        self.assertNotRegex(run.stderr, r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

    def test_spares_its_input(self):
        self.refuse("--shapes and --profile name the same file", "--profile", self.shapes)
        self.assertEqual(self.shapes.read_text(), SHAPES)

    def test_two_at_once(self):
        both = [self.start("--profile", self.profile) for _ in range(2)]
        self.assertEqual([process.wait() for process in both], [0, 0])
        self.assertTrue(self.usable())
        self.assertEqual(self.left_over(), [])

    def test_interrupted_keeps_what_is_finished(self):
        process = subprocess.Popen([ATTEND, "tune", "--budget", "600", "--shapes", self.shapes, "--profile", self.profile],
                                   env=ENVIRONMENT | self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        time.sleep(15)  # well beyond the shapes of the file
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate()
        self.assertEqual(process.returncode, 0, errors)
        self.assertRegex(out, r": \d+ shapes, ")
        self.assertTrue(self.usable())

    def test_killed_at_any_moment_leaves_the_old_or_the_new(self):
        begin = time.monotonic()
        self.assertEqual(self.tune("--profile", self.profile).returncode, 0)
        whole = time.monotonic() - begin
        moments = random.Random(6)
        changed = 0
        for trial in range(20):
            before = self.profile.read_bytes()
            process = self.start("--profile", self.profile)
            # half of them when it is about to write
            time.sleep(whole * (moments.uniform(0.8, 1.1) if trial % 2 else moments.uniform(0, 1)))
            end(process, signal.SIGKILL)
            self.assertTrue(self.usable(), f"trial {trial}")
            changed += self.profile.read_bytes() != before
        print(f"{changed} of 20 had written the new one")


if __name__ == "__main__":
    unittest.main()
