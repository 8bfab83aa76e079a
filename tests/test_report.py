# SPDX-License-Identifier: Apache-2.0
"""attend report: what it says about known figures, its three formats, and what it refuses. test_report_browser.py
looks at the page in a browser.
"""

import csv
import importlib.util
import io
import json
import os
import pathlib
import re
import shutil
import stat
import subprocess
import tempfile
import unicodedata
import unittest
from html.parser import HTMLParser

import report_samples
from cli_support import ATTEND, attend, give_away, null_device

DEBIAN = "/usr/bin/python3"
MATPLOTLIB = importlib.util.find_spec("matplotlib") is not None or (
    os.path.exists(DEBIAN) and subprocess.run([DEBIAN, "-c", "import matplotlib"], capture_output=True, check=False).returncode == 0)


class Balanced(HTMLParser):
    """Every element that is opened is closed."""

    VOID = {"meta", "link", "input"}

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, (tag, self.open[-3:])
        self.open.pop()


class Report(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.folder = pathlib.Path(directory.name)
        self.write("bench", report_samples.bench())
        self.write("peers", report_samples.peers())

    def write(self, name, data):
        self.folder.joinpath(f"{name}.json").write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")

    def report(self, *arguments, **options):
        return attend("report", *arguments, cwd=self.folder, **options)

    def succeed(self, *arguments):
        done = self.report(*arguments)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout

    def refuse(self, what, *arguments, **options):
        before = sorted(os.listdir(self.folder))
        done = self.report(*arguments, **options)
        self.assertEqual((done.returncode, done.stdout or "", done.stderr.count("\n")), (2, "", 1), done.stderr)
        self.assertTrue(done.stderr.startswith("attend: "), done.stderr)
        self.assertIn(what, done.stderr)
        self.assertEqual(sorted(os.listdir(self.folder)), before)

    def test_markdown(self):
        text = self.succeed("bench.json", "peers.json", "--format", "markdown")
        first = text.split("### In detail\n\n")[1].split("\n\n")[0]
        self.assertTrue(first.startswith("attend is behind the best peer at 1 of 10 cases: bert-base in f32 on 2 threads (0.50 times as fast as quick)"),
                        first)
        self.assertIn("attend is level with the best peer at 1 of 10 cases, where their rounds overlap: llama-decode in f32 on 2 threads", first)
        self.assertIn("attend is ahead of the best peer at 8 of 10 cases, 2.00 to 9.00 times as fast.", first)
        self.assertIn("| llama-prefill | 1 ms | 2 ms | 9 ms | quick | 2.00 |", text)
        self.assertIn("has no bf16 \\| kernel \\<here>", text)
        self.assertIn("| shape | attend | slow | best peer |", text)  # of bf16, of which quick can do nothing
        self.assertIn("Left out: baseline_openblas at sequence-32k: needs 4096 MiB.", text)
        self.assertRegex(text, r"used at most 0\.48 MiB of workspace")
        for line in text.splitlines():
            if line.startswith("|"):
                self.assertTrue(line.endswith("|"), line)
        for block in re.findall(r"(?:^\|.*\n)+", text, re.M):
            self.assertEqual(len({line.replace("\\|", "").count("|") for line in block.splitlines()}), 1, block)

    def test_figures_of_one_round_are_marked(self):
        peers = report_samples.peers()
        slow = [result for result in peers["results"] if (result["peer"], result["dtype"]) == ("slow", "f32")]
        for result in slow:
            result["rounds"] = result["rounds"][:1]
        peers["results"].remove(slow[0])
        self.write("peers", peers)
        text = self.succeed("peers.json", "--format", "markdown")
        self.assertIn("| tiny | 1 ms | 3 ms | - | quick | 3.00 |", text)
        self.assertIn("| llama-prefill | 1 ms | 2 ms | 9 ms \\* | quick | 2.00 |", text)
        self.assertIn("\n\\* Of one round, which showed that it is not the fastest. -: not measured.\n", text)
        self.assertEqual(text.count("Of one round"), 1)  # in f32 only
        for result in peers["results"]:
            if "rounds" in result:
                result["rounds"] = result["rounds"][:1]
        self.write("peers", peers)
        self.assertNotIn("\\*", self.succeed("peers.json", "--format", "markdown"))  # nothing had more

    def test_every_peer_has_a_mark_of_its_own(self):
        peers = report_samples.peers()
        peers["results"] += [result | {"peer": f"peer {i}"} for i in range(12) for result in peers["results"] if result["peer"] == "slow"]
        self.write("peers", peers)
        page = self.succeed("peers.json")
        drawing = next(each for each in re.findall(r"<svg.*?</svg>", page, re.S) if "peer 11</text>" in each)
        begin = drawing.rindex('"', 0, drawing.index('legend_'))
        marks = re.findall(r'<use xlink:href="#[^"]*-(m\w+)"[^>]*style="fill: var\((--s\d)\)', drawing[begin:])
        self.assertEqual((len(marks), len(set(marks))), (14, 14))

    def test_markdown_shows_names_as_they_are(self):
        """Those of files, processors, shapes and kernels, which Markdown would take for marks of its own."""
        name = "A|B <i> *x* `y` [z](v) \\| __w__"
        shown = r"A\|B \<i> \*x\* \`y\` [z\](v) \\\| \_\_w\_\_"
        bench, peers, engine = report_samples.bench(), report_samples.peers(), report_samples.engine()
        for data in bench, peers, engine:
            data["context"]["cpu"] = name
        for result in peers["results"]:
            result["peer"] = result["peer"].replace("quick", name)
        engine["context"]["engine"] = name
        self.write("bench", json.dumps(bench).replace("tiny", json.dumps(name)[1:-1]))
        self.write("peers", peers)
        self.write("engine", engine)
        text = self.succeed(f"{name}=bench.json", "zen3/gcc=bench.json", f"{name}=peers.json", "engine.json", "--format", "markdown")
        self.assertNotIn(name, text)
        for line in (f"### {shown}: f32, 1 thread", f"- processor: {shown}", f"### {shown}: machine", f"### engine: {shown} by itself and with attend"):
            self.assertIn(f"\n{line}\n", text)
        self.assertIn(f"| shape | attend | {shown} | slow | best peer |", text)
        self.assertIn(f"| shape | {shown}, 1 thread: GFLOP/s | of peak |", text)
        self.assertIn(f"\n| {shown} | stream_f32__avx512_q12k256 |", text)
        self.assertIn(f"times as fast as {shown})", text.split("### In detail")[1].split("###")[0])
        for block in re.findall(r"(?:^\|.*\n)+", text, re.M):
            self.assertEqual(len({re.sub(r"\\.", "", line).count("|") for line in block.splitlines()}), 1, block)

    def test_one_wins_where_all_are_slower(self):
        self.write("alone", {**report_samples.peers(), "results": [r for r in report_samples.peers()["results"] if r["peer"] != "quick"]})
        self.assertIn("\nattend is ahead of the best peer at all 10 cases, 9.00 to 9.00 times as fast.\n",
                      self.succeed("alone.json", "--format", "markdown"))

    def test_narrow_leads_are_named(self):
        peers = report_samples.peers()
        for result in peers["results"]:
            if result["peer"] == "quick" and "seconds" in result and result["shape"] == "llama-prefill":
                result.update(seconds=1.2e-3, least=1.19e-3, most=1.21e-3)
        self.write("narrow", peers)
        self.assertRegex(self.succeed("narrow.json", "--format", "markdown"),
                         r"By less than 1\.5 times at \d+: llama-prefill in f32 on \d threads? \(1\.20 times as fast as quick\)")

    def test_in_short(self):
        """At most three figures and five lines, and first of them what is behind."""
        for name, data in (("phases", report_samples.phases()), ("engine", report_samples.engine()), ("formats", report_samples.formats()),
                           ("other", report_samples.bench(seed=1))):
            self.write(name, data)
        first = self.succeed("bench.json", "other.json", "peers.json", "engine.json", "zen3/peers=peers.json", "--format", "markdown").split("\n\n")[0]
        figures = re.findall(r"^- \*\*(.*)\*\* (.*)$", first, re.M)
        # 10 cases: half of the time, as long, 2, 3 and 4 times, and 9 times five times over
        self.assertEqual(figures[0], ("6.50×", "as fast as the fastest other package: the median of 10 cases (peers)"))
        self.assertEqual(figures[1], ("9.00×", "as fast as llama.cpp by itself: token, 8,192 tokens before it in f16 (heads-64)"))
        self.assertEqual(len(figures), 3)
        lines = first.splitlines()[3:]
        self.assertEqual(lines[0], "- peers: behind the fastest other package at 1 of 10 cases: bert-base in f32 on 2 threads (0.50).")
        self.assertEqual(len(lines), 5)
        self.assertLess(max(map(len, first.splitlines())), 200)
        self.assertEqual(self.succeed("phases.json", "--format", "markdown").split("### In detail")[0].strip(), "")
        both = self.succeed("before=bench.json", "after=other.json", "--format", "markdown")
        self.assertRegex(both, r"(?m)^- \*\*[\d.]+×\*\* as fast as before: the median of 20 cases \(after\)$")

    def test_formats_and_serving(self):
        self.write("formats", report_samples.formats())
        text = self.succeed("formats.json", "--format", "markdown")
        rows = {tuple(row[:2]): row for row in csv.reader(text.split("### formats: quantised keys and values\n")[1].split("###")[0].splitlines(), delimiter="|")
                for row in [[cell.strip() for cell in row[1:-1]]] if len(row) > 5}
        time = {f"{r['shape']} {r['dtype']}": float(r["seconds"]) for r in csv.DictReader(io.StringIO(self.succeed("formats.json", "--format", "csv")))}
        self.assertEqual(len(rows), 2 + 8)  # the head, and two formats of four shapes; f32 and f16 are no formats
        for shape in "llama-decode", "mixed-serving":
            self.assertEqual(rows[shape, "f32+q8_0"][-2:], ["f32+f16", f"{time[f'{shape} f32+f16'] / time[f'{shape} f32+q8_0']:.2f}"])
        self.assertIn("mixed-serving: batch 32, pages of 16 keys", text)
        self.assertNotRegex(text.split("shapes of serving")[1].split("###")[0], "llama-decode")
        self.assertNotIn("### formats: f32+q8_0", text)

    def test_phases(self):
        self.write("phases", report_samples.phases())
        text = self.succeed("bench=bench.json", "bench=phases.json", "--format", "markdown")
        self.assertIn("| avx512 | D128 | decode_l2 | 4 query rows, 512 keys | 2560 ns | 640 ns | 4.00 |", text)
        self.assertIn("| amx | D64 | turns | 32 query rows, 128 keys | 900 cycles | 512 cycles | 1.76 |", text)
        self.assertEqual(self.succeed("phases=phases.json", "phases=phases.json", "--format", "markdown"),
                         self.succeed("phases=phases.json", "--format", "markdown"))

    def test_engines(self):
        self.write("engine", report_samples.engine())
        text = self.succeed("engine.json", "--format", "markdown")
        self.assertIn("| heads-64 | token | q8_0 | 8,192 | 18 ms | 1 ms | 55.6 | 1000.0 | 18.00 | 18.00 to 18.00 |", text)
        self.assertIn("| heads-64 | prompt of 4096 | f16 | 0 | 2.1 s | 1 s | 1950.5 | 4096.0 | 2.10 | 2.00 to 2.20 |", text)
        self.assertIn("| attention alone | 1 query | f16 | 0 | 1 ms | 1 ms | - | - | 1.00 | 1.00 to 1.00 |", text)
        plain = report_samples.engine()
        plain["results"] = [{key: value for key, value in each.items() if key != "tokens"} for each in plain["results"]]
        self.write("engine", plain)  # as it was written before steps said their tokens
        self.assertIn("| heads-64 | token | q8_0 | 8,192 | 18 ms | 1 ms | 18.00 | 18.00 to 18.00 |", self.succeed("engine.json", "--format", "markdown"))
        self.write("engine", report_samples.engine())
        rows = list(csv.DictReader(io.StringIO(self.succeed("engine.json", "--format", "csv"))))
        self.assertEqual({row["kernel"] for row in rows}, {"llama.cpp", "attend"})

    def test_beside_a_gpu(self):
        self.write("offload", report_samples.offload())
        text = self.succeed("offload.json", "--format", "markdown")
        self.assertIn("- **2.10×** as fast as moving 4 GiB of keys and values to the GPU for one new token (offload)", text)
        self.assertIn("takes attend 81.9 ms on 2 threads, as long as copying them at 52.4 GB/s would. Copied to the GPU and attended there it takes "
                      "172 ms, 2.10 times as long.", text)
        for threads, first in ("2 threads", "4 and 8 new tokens a step on (about 6)"), ("1 thread", "2 and 4 new tokens a step on (about 3)"):
            self.assertIn(f"Copied and attended one after the other, moving the cache pays from between {first}, beside attend on {threads}.", text)
        # the longer of copying, 2 ms, and attending: as fast as 4 tokens on two threads, which is no loss
        self.assertIn("at best at once, moving the cache pays from between 4 and 8 new tokens a step on (about 4), beside attend on 2 threads.", text)
        self.assertIn("| 32 MiB | 1.28 ms | 640 µs | 6.4 ms | 32 µs | 1.28 ms | 1.34 ms | 52.4 GB/s | 2.10 | 0.05 | 10.00 |", text)
        self.assertIn("| products of matrices, bf16 | - | 700,000.0 GFLOP/s |", text)
        self.assertIn("| bf16 | GPU, moved | 1.0e-04 | tiny |", text)
        self.assertIn("Cannot: PyTorch on the CPU, 2 threads: takes no pages (mixed-serving).", text)
        rows = list(csv.DictReader(io.StringIO(self.succeed("offload.json", "--format", "csv"))))
        self.assertEqual(len(rows), 9 * 6)
        self.assertEqual([(row["kernel"], row["threads"]) for row in rows[:6]], [("attend", "1"), ("attend", "2"), ("pytorch-cpu", "2"),
                                                                                  ("gpu-resident", ""), ("gpu-copied", ""), ("gpu-moved", "")])

    def test_without_a_gpu(self):
        data = report_samples.offload(gpu=False)
        self.write("offload", data)
        self.assertNotIn("the clock on the wall", self.succeed("offload.json", "--format", "markdown"))
        self.write("offload", data | {"context": data["context"] | {"clock": "processor time"}})
        text = self.succeed("offload.json", "--format", "markdown")
        self.assertIn("- **52.4 GB/s** are what copying 4 GiB of keys and values to a GPU would need", text)
        self.assertIn("No GPU (PyTorch 2.0 finds none): only the columns of the processor were measured.", text)
        self.assertIn("Limits are by the clock on the wall, and too low where others used the machine. No GPU", text)
        self.assertNotIn("moving the cache", text)
        self.assertIn("| keys and values | attend, 1 thread | attend, 2 threads | PyTorch on the CPU, 2 threads | attend is as fast as copying at |", text)

    def test_machines_stand_side_by_side(self):
        """A file of another machine is columns more: named before the slash, or by its processor."""
        other = report_samples.bench(seed=1)
        self.write("other", other)
        self.assertNotIn("Machines side by side", self.succeed("bench.json", "other.json", "--format", "markdown"))
        text = self.succeed("bench.json", "zen3/gcc=other.json", "peers.json", "zen3/peers=peers.json", "--format", "markdown")
        self.assertIn("| shape | A \\<processor> & more, 1 thread: GFLOP/s | of peak | times as fast as the best peer, 2 threads "
                      "| zen3, 1 thread: GFLOP/s | of peak | times as fast as the best peer, 2 threads |", text)
        self.assertRegex(text, r"\n\| bert-base \| [\d.]+ \| [\d.]+ \| 0\.50 \| [\d.]+ \| [\d.]+ \| 0\.50 \|\n")
        # A column is of one number of threads: a shape that was measured on fewer alone has no figure in it.
        peers = report_samples.peers()
        for result in peers["results"]:
            result["threads"] = 1 if result["shape"] == "bert-base" else 8
        self.write("mixed", peers)
        text = self.succeed("bench.json", "zen3/gcc=other.json", "zen3/peers=mixed.json", "--format", "markdown")
        self.assertIn("| zen3, 1 thread: GFLOP/s | of peak | times as fast as the best peer, 8 threads |\n", text)
        self.assertRegex(text, r"\n\| bert-base(?: \| [\d.]+){4} \| - \|\n\| llama-prefill(?: \| [\d.]+){4} \| 2\.00 \|\n")
        other["context"]["cpu"] = "Another"
        self.write("other", other)
        text = self.succeed("bench.json", "other.json", "--format", "markdown")
        self.assertIn("| shape | A \\<processor> & more, 1 thread: GFLOP/s | of peak | Another, 1 thread: GFLOP/s | of peak |", text)

    def test_what_two_files_have_is_the_first_ones(self):
        self.write("other", report_samples.bench(seed=1))
        one, both = (self.succeed(*files, "--format", "csv") for files in (["x=bench.json"], ["x=bench.json", "x=other.json"]))
        self.assertEqual(one, both)

    def test_medians(self):
        name = "auto/tiny/f32/threads:1"
        runs = [report_samples.benchmark(name, seconds, flops=1e9) for seconds in (1.0, 5.0, 3.0)]
        self.write("repeated", {"context": {}, "benchmarks": runs})
        read = lambda: list(csv.DictReader(io.StringIO(self.succeed("repeated.json", "--format", "csv"))))
        self.assertEqual([float(row["seconds"]) for row in read()], [3.0])
        median = report_samples.benchmark(name + "_median", 4.0, flops=1e9) | {"run_name": name, "run_type": "aggregate",
                                                                             "aggregate_name": "median"}
        mean = median | {"aggregate_name": "mean", "real_time": 7e6}
        self.write("repeated", {"context": {}, "benchmarks": [*runs, mean, median]})
        self.assertEqual([float(row["seconds"]) for row in read()], [4.0])

    def test_csv(self):
        rows = list(csv.DictReader(io.StringIO(self.succeed("fast=bench.json", "peers.json", "--format", "csv"))))
        written = [b for b in report_samples.bench()["benchmarks"] if not b["name"].startswith("peak/")]
        self.assertEqual(len(rows), len(written) + 25)
        self.assertEqual({row["source"] for row in rows}, {"fast", "peers"})
        for row, run in zip(rows, written):
            self.assertEqual("/".join([row["kernel"], row["shape"], row["dtype"], "threads:" + row["threads"]]), run["name"])
            self.assertAlmostEqual(float(row["seconds"]) * 1e6, run["real_time"])

    def test_several_runs(self):
        self.write("other", report_samples.bench(seed=1))
        text = self.succeed("before=bench.json", "after=other.json", "--format", "markdown")
        self.assertIn("Speed beside before", text)
        self.assertIn("| shape | dtype | threads | before, time | after: times as fast |", text)

    @unittest.skipUnless(MATPLOTLIB, "SKIPPED: no Python here has matplotlib (Debian: python3-matplotlib)")
    def test_page(self):
        for name, data in (("other", report_samples.bench(seed=1)), ("formats", report_samples.formats()), ("phases", report_samples.phases()),
                           ("engine", report_samples.engine()), ("offload", report_samples.offload())):
            self.write(name, data)
        inputs = ["bench.json", "bench=formats.json", "bench=phases.json", "zen3/gcc=other.json", "peers.json", "zen3/peers=peers.json", "engine.json", "offload.json"]
        before = sorted(os.listdir(self.folder))
        self.assertEqual(self.succeed(*inputs, "-o", "report.html"), "")
        self.assertEqual(sorted(os.listdir(self.folder)), sorted([*before, "report.html"]))
        text = self.folder.joinpath("report.html").read_text(encoding="utf-8")
        self.assertLess(len(text.encode()), 2 << 20)
        self.assertIn("A &lt;processor&gt; &amp; more", text)
        page = Balanced()
        page.feed(text)
        self.assertEqual(page.open, [])
        names = [attributes["id"] for _, attributes in page.seen if "id" in attributes]
        self.assertEqual(len(names), len(set(names)))
        drawings = [attributes for tag, attributes in page.seen if tag == "svg"]
        self.assertGreater(len(drawings), 15)
        self.assertTrue(all(d["role"] == "img" and d["aria-label"] for d in drawings))
        for _, attributes in page.seen:
            for reference in (attributes.get("href", ""), attributes.get("xlink:href", ""), attributes.get("src", "")):
                if reference.startswith("#"):
                    self.assertIn(reference[1:], names)
                else:
                    self.assertIn(reference, ("", "data:,"))
        for section in ("peers", "engines", "offload", "machines", "speed", "serving", "formats", "roofline", "phases", "threads", "length", "accuracy", "all"):
            self.assertIn(section, names)
        self.assertEqual(text.count("<p class=headline>"), 3)
        self.assertLessEqual(text.split("<div class=short>")[1].split("</ul>")[0].count("<li>"), 5)
        # Whatever is compared is said in one direction, and a roofline names its points.
        labels = re.findall(r"<text[^>]*>([^<]*times[^<]*)</text>", text)
        self.assertGreater(len(labels), 5)
        for label in labels:
            self.assertIn("times as fast", label)
        self.assertIn(">zen3, 2 threads: times as fast</button>", text)
        roofline = text.split('id="roofline"')[1].split("</svg>")[0]
        self.assertEqual({name for name in report_samples.SHAPES if f">{name}<" in roofline}, set(report_samples.SHAPES))
        self.assertNotIn("#0102", text)  # every stand-in of a colour has become a variable

    @unittest.skipUnless(MATPLOTLIB, "SKIPPED: no Python here has matplotlib (Debian: python3-matplotlib)")
    def test_page_of_little(self):
        self.write("little", {"context": {}, "benchmarks": [report_samples.benchmark("auto/tiny/f32/threads:1", 1e-6)]})
        self.assertIn("auto", self.succeed("little.json"))
        self.assertIn("$\\frac{$", self.succeed("$\\frac{$=little.json"))  # no formula
        self.write("formulas", json.dumps(report_samples.bench()).replace("tiny", "$\\\\frac{$"))
        self.assertIn(">$\\frac{$<", self.succeed("formulas.json"))
        self.assertIn("slow", self.succeed("peers.json"))
        self.write("long", {"context": {}, "benchmarks": [report_samples.benchmark("auto/sequence-1k/f32/threads:1", 1e-6)]})
        self.assertIn("1,024", self.succeed("long.json"))
        twice = Balanced()
        twice.feed(self.succeed("peers.json", "again=peers.json"))
        self.assertEqual(twice.open, [])
        self.assertEqual(len([tag for tag, _ in twice.seen if tag == "svg"]), 5)  # two files, two types each, and the picture
        for name, data in (("phases", report_samples.phases()), ("engine", report_samples.engine()), ("offload", report_samples.offload()),
                           ("alone", report_samples.offload(gpu=False))):
            self.write(name, data)
            self.assertIn("<svg", self.succeed(f"{name}.json"))

    @unittest.skipUnless(MATPLOTLIB, "SKIPPED: no Python here has matplotlib (Debian: python3-matplotlib)")
    def test_page_shows_names_as_they_are(self):
        r"""With backslashes, which are marks of regular expressions, and with "_" at the beginning, which matplotlib hides in legends."""
        legends = lambda text: {re.sub(r"\s+", " ", label).strip() for label in re.findall(r"<text[^>]*>([^<]*)</text>", text)}
        engine = report_samples.engine()
        engine["context"]["engine"] = "_engine"
        self.write("engine", json.dumps(engine).replace("heads-64", r"heads\\q\\164\\g<0>").replace("q8_0", "_q8"))
        text = self.succeed("engine.json")
        self.assertIn(r'aria-label="engine: _engine with attend, heads\q\164\g&lt;0&gt;, token"', text)
        self.assertLessEqual({"_engine by itself", "_q8 cache"}, legends(text))
        self.write("bench", json.dumps(report_samples.bench()).replace("baseline_openblas", "_kernel"))
        self.write("other", report_samples.bench(seed=1))
        self.write("peers", json.dumps(report_samples.peers()).replace("quick", "_quick").replace("bf16", r"_bf\\16"))
        text = self.succeed("_before=bench.json", "_after=other.json", "_zen3/gcc=other.json", "peers.json", "_zen3/peers=peers.json")
        self.assertLessEqual({"_before", "_after", "_kernel", "_quick", r"_bf\16", "_zen3", "_zen3, 2 threads"}, legends(text))

    def test_bad_input(self):
        good = report_samples.bench()
        run = good["benchmarks"][0]
        engine = report_samples.engine()
        step = engine["results"][0]
        offload = report_samples.offload()
        way = offload["results"][0]
        for data, what in (
            ("", "not JSON"), ("[1]", "expected the JSON object"), ("[" * 100000, "not JSON"), (json.dumps(good)[:-9], "not JSON"),
            ({}, "'context' is missing"), ({"context": {}}, "'benchmarks' is missing"), ({"context": {}, "benchmarks": 3}, "expected a list"),
            ({"context": {}, "benchmarks": []}, "no benchmark"), ({"context": {}, "benchmarks": [7]}, "benchmarks[0] is no object"),
            ({"context": {}, "benchmarks": [run | {"real_time": "x"}]}, "benchmarks[0]: field 'real_time' is \"x\", expected a number"),
            ({"context": {}, "benchmarks": [run | {"flops": -1}]}, "field 'flops' is -1"),
            ({"context": {}, "benchmarks": [run | {"real_time": 0}]}, "'real_time' is 0, expected a number above 0"),
            ({"attend_peers": 1, "context": {}, "results": [report_samples.peers()["results"][0] | {"memory_bytes": "x"}]}, "'memory_bytes' is"),
            ({"context": {}, "benchmarks": [run | {"time_unit": "h"}]}, "expected ns, us, ms or s"),
            ({"context": {}, "benchmarks": [run | {"run_name": "BM_other"}]}, "'BM_other': expected a name such as"),
            ('{"context": {}, "benchmarks": [{"run_name": "auto/tiny/f32/threads:1", "real_time": NaN, "time_unit": "s"}]}', "'real_time' is NaN"),
            ({"attend_peers": 2}, "expected version 1"), ({"attend_peers": 1, "context": {}, "results": []}, "no results"),
            ({"attend_peers": 1, "context": {}, "results": [{"peer": "x"}]}, "results[0]: field 'shape' is missing"),
            ({"attend_peers": 1, "context": {}, "results": [report_samples.peers()["results"][0] | {"cannot": "x"}]},
             "results[0]: has the fields 'cannot' and 'seconds', expected one of them"),
            (engine | {"attend_engine": "1"}, "field 'attend_engine' is \"1\", expected version 1"), (engine | {"results": []}, "no results"),
            (engine | {"results": [step | {"stock": []}]}, "results[0]: field 'stock' is [], expected a number for every round"),
            (engine | {"results": [step | {"stock": [1, 0, 1]}]}, "results[0]: stock: field '1' is 0, expected a number above 0"),
            (engine | {"results": [step | {"tokens": -1}]}, "results[0]: field 'tokens' is -1, expected a number of tokens"),
            (engine | {"results": [step | {"attend": [1]}]}, "'stock' and 'attend' have 3 and 1 rounds"),
            (engine | {"results": [step | {"stock": [1e-300] * 3}]}, "'0' is 1e-300, expected a number above 0, from 1e-12 to 1e+09 seconds"),
            (offload | {"attend_offload": 2}, "expected version 1"), (offload | {"results": []}, "no results"), (offload | {"limits": 1}, "'limits' is 1"),
            (offload | {"results": [way | {"way": "by hand"}]}, "'way' is \"by hand\", expected one of attend, pytorch-cpu"),
            (offload | {"results": [way | {"kind": ""}]}, "'kind' is \"\""), (offload | {"results": [way | {"kv_bytes": 0}]}, "'kv_bytes' is 0"),
            (offload | {"results": [way | {"tokens": 0}]}, "'tokens' is 0, expected a number of tokens"),
            (offload | {"results": [way | {"seconds": 0}]}, "'seconds' is 0"), (offload | {"results": [way | {"error": None}]}, "'error' is null"),
            (offload | {"limits": [{"what": "x", "threads": 1, "rate": 1, "unit": "m"}]}, "limits[0]: field 'unit' is \"m\""),
            ({"context": {}, "benchmarks": [run | {"real_time": 1e300}]}, "'real_time' is 1e+300, expected a number above 0, at most 1e30"),
            ({"context": {}, "benchmarks": [run | {"flops": 1e31}]}, "'flops' is 1e+31, expected a number of at least 0, at most 1e30"),
            ({"context": {}, "benchmarks": [report_samples.benchmark("phase/amx/D64/turns", 1e-3, cycles=0.0, ideal=9.0)]}, "'cycles' is 0.0"),
            (engine | {"results": [step | {"depth": -1}]}, "field 'depth' is -1, expected a number of tokens"),
            ({"context": {}, "benchmarks": [report_samples.benchmark("phase/amx/D64/turns", 1e-3, cycles=9.0)]}, "field 'ideal' is missing"),
            ({"context": {}, "benchmarks": [run | {"flops": 10**400}]}, "'flops' is 1000"),
            ({"context": {}, "benchmarks": [run | {"real_time": 1e-320}]}, "'real_time' is 0.0, expected a number above 0"),
            ({"context": {}, "benchmarks": [run | {"label": [1]}]}, "'label' is [1], expected text"),
            ({"context": {}, "benchmarks": [run | {"run_name": "auto/tiny/f32/threads:" + "9" * 5000}]}, "expected a name such as"),
        ):
            with self.subTest(what):
                self.write("bad", data)
                self.refuse(what, "bad.json", "--format", "markdown", "-o", "out.md")
                self.refuse("bad.json", "bench.json", "bad.json", "--format", "markdown", "-o", "out.md")

    def test_what_is_no_character(self):
        self.write("half", {**report_samples.bench(), "context": {"cpu": "half of a pair: \ud800"}})
        self.assertIn("half of a pair: ?", self.succeed("half.json", "--format", "markdown"))
        os.rename(self.folder / "half.json", os.fsencode(self.folder) + b"/\xff.json")
        self.assertIn("?,auto,", self.succeed("\udcff.json", "--format", "csv"))

    def test_bad_usage(self):
        self.refuse("No such file", "nowhere.json", "--format", "csv")
        self.refuse("required", "--format", "csv")
        self.refuse("invalid choice", "bench.json", "--format", "pdf")
        self.refuse("--bogus", "bench.json", "--bogus")
        self.refuse("No such file or directory", "bench.json", "--format", "csv", "-o", "nowhere/out.csv")
        self.refuse("expected a regular file, a pipe or a character device", "bench.json", "--format", "csv", "-o", ".")
        self.refuse("expected the name of a file", "bench.json", "--format", "csv", "-o", "")
        os.symlink("bench.json", self.folder / "link.json")
        for name in "bench.json", "./bench.json", "link.json":
            self.refuse(f"bench.json and --output name the same file, {name}: expected an output that is no input",
                        "peers.json", "fast=bench.json", "--format", "csv", "-o", name)
        self.refuse("?", "\n\x1b.json", "--format", "csv")
        if os.path.exists("/dev/full"):
            with open("/dev/full", "w", encoding="utf-8") as full:
                self.refuse("cannot write to standard output", "bench.json", "--format", "csv", stdout=full)

    def test_replaces_a_file_as_every_output_does(self):
        """Mode and owner stay, a link is followed; a pipe is written to as it is."""
        wanted = self.succeed("bench.json", "--format", "csv")
        out, link, dangling = (self.folder / name for name in ("out.csv", "link.csv", "dangling.csv"))
        link.symlink_to("out.csv")
        dangling.symlink_to("new.csv")
        for mode in 0o600, 0o664:
            out.write_text("old")
            out.chmod(mode)
            give_away(out)
            before = out.stat()
            self.assertEqual(self.succeed("bench.json", "--format", "csv", "-o", "link.csv"), "")
            after = out.stat()
            self.assertEqual((after.st_mode, after.st_uid, after.st_gid), (before.st_mode, before.st_uid, before.st_gid))
            self.assertTrue(link.is_symlink())
            self.assertEqual(out.read_text(encoding="utf-8"), wanted)
        self.succeed("bench.json", "--format", "csv", "-o", "dangling.csv")
        self.assertTrue(dangling.is_symlink())
        self.assertEqual((self.folder / "new.csv").read_text(encoding="utf-8"), wanted)
        self.assertEqual(self.succeed("bench.json", "--format", "csv", "-o", "-"), wanted)
        os.mkfifo(self.folder / "pipe")
        reader = subprocess.Popen(["cat", "pipe"], cwd=self.folder, stdout=subprocess.PIPE, text=True)
        self.succeed("bench.json", "--format", "csv", "-o", "pipe")
        self.assertEqual(reader.communicate()[0], wanted)

    def test_writes_to_a_device(self):
        device = null_device(self.folder)
        self.succeed("bench.json", "--format", "csv", "-o", device)
        self.assertTrue(stat.S_ISCHR(os.stat(device).st_mode))

    def test_no_escape_sequence_reaches_the_terminal(self):
        """Those of ESC and those of C1, from text in a file, from its name or from the name that it is given."""
        bad = "\x1b]0;pwn\x07\x1b[31m \x9b31m \x7f \ud800 \ufffe naïve 日本"
        clean = "?]0;pwn??[31m ?31m ? ? ? naïve 日本"
        bench, peers = report_samples.bench(), report_samples.peers()
        bench["benchmarks"][0]["label"] = bench["context"]["cpu"] = peers["results"][0]["setting"] = bad
        bench["context"]["skipped " + bad] = bad
        self.write("bad", bench)
        self.write("others", peers)
        for style in ["markdown", "csv"] + ["html"] * MATPLOTLIB:
            text = self.succeed("bad.json", b"\x1b\x9b$na=bad.json".decode(errors="surrogateescape"), "others.json", "--format", style)
            self.assertEqual([c for c in text if unicodedata.category(c) in ("Cc", "Cs") and c != "\n"], [], style)
            self.assertIn(clean, text)
            self.assertIn("??$na", text)
        text = json.dumps({"context": {}, "benchmarks": [{"name": bad, "real_time": 1, "time_unit": "s"}]})
        self.write("bad", text)
        self.refuse(f"'{clean}': expected a name such as", "bad.json", "--format", "csv")
        self.refuse("naïve?日本.json: No such file", "naïve\x9b日本.json", "--format", "csv")

    def test_what_is_missing_is_named(self):
        self.refuse("cannot start python3", "bench.json", environment={"PATH": str(self.folder)})
        with tempfile.TemporaryDirectory() as elsewhere:
            lost = shutil.copy(ATTEND, elsewhere)
            done = subprocess.run([lost, "report", "bench.json"], capture_output=True, text=True, check=False, cwd=self.folder)
        self.assertEqual((done.returncode, done.stdout, done.stderr.count("\n")), (2, "", 1))
        self.assertIn("its Python program is neither in", done.stderr)


if __name__ == "__main__":
    unittest.main()
