# SPDX-License-Identifier: Apache-2.0
"""Checks that the documents are true: commands, options, tables, names and paths in them are compared with the program and
the tree. `python3 tests/test_docs.py --update` (with ATTEND set to the program) writes the generated sections and pictures anew; `--measured` lists docs/measured/ for `attend report`.
"""

import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import unittest

from cli_support import Tensor, npy, randoms
from formats_table import HEADER, formats, header_with_blocks
from layer_models import MODELS
from layer_support import built_without_blas, safetensors

ROOT = pathlib.Path(os.environ.get("SOURCE_DIR", pathlib.Path(__file__).resolve().parent.parent))
sys.path.append(str(ROOT / "scripts/lib"))
# pylint: disable=wrong-import-position
import aims
import llama_figures
from measured import MACHINES, machine as machine_of
import model_figures
import picture
# pylint: enable=wrong-import-position
ATTEND = os.environ.get("ATTEND", str(ROOT / "build" / "attend"))
DOCUMENTS = sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("docs/*.md")) + sorted(ROOT.glob("docs/measured/*.md")) + sorted(ROOT.glob("examples/*.md"))
FOLDERS = ("include", "kernels", "dispatch", "layers", "verify", "tune", "cli", "tests", "bench", "examples", "report", "scripts", "bindings", "integrations", "cmake", "docs", ".ci")


def pictures():
    return picture.pictures() | llama_figures.pictures()


def attend(*arguments):
    return subprocess.run([ATTEND, *arguments], check=True, capture_output=True, text=True).stdout


def text(*path):
    return ROOT.joinpath(*path).read_text()


def sources():
    """Every file of the tree, generated and ignored ones left out."""
    files = [path for path in ROOT.iterdir() if path.is_file() and path.name != ".git"]  # a file in a worktree
    for folder in FOLDERS:
        files += [path for path in ROOT.joinpath(folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return sorted(files)


def shell_lines(document):
    """The commands of the ```sh blocks of a document, comments removed, as lists of words."""
    for block in re.findall(r"```sh\n(.*?)```", document.read_text(), re.S):
        for line in block.replace("\\\n", " ").splitlines():
            for command in line.split("&&"):
                words = shlex.split(command, comments=True)
                if words:
                    yield words


def section(help_text, title):
    """The rows of an indented table below a title in a help text: (first column, rest)."""
    match = re.search(rf"^{title}[^\n]*\n((?:  [^\n]*\n)+)", help_text, re.M | re.I)
    if not match:
        raise AssertionError(f"no section '{title}' in the help text:\n{help_text}")
    rows = []
    for line in match.group(1).splitlines():
        cells = re.split(r"  +", line.strip())
        if line.startswith("   ") and rows:  # goes on with the row above
            rows[-1][-1] += " " + " ".join(cells)
        else:
            rows.append(cells)
    return rows


# ------------------------------------------------------------------------------------------------- generated sections


def generate_example():
    return "```c\n" + text("tests/consumer/forward.c").split("\n", 1)[1] + "```\n"


def generate_engine(begin):
    """A part of examples/engine/engine.c: from a numbered comment to the next part."""
    part = re.search(rf"^(/\* {begin}\. .*?)\n\n(?=/\*|static void close_engine)", text("examples/engine/engine.c"), re.S | re.M)[1]
    return f"```c\n{part}\n```\n"


def generate_environment():
    rows = ["| variable | values | meaning |", "| --- | --- | --- |"]
    for name, meaning in section(attend("--help"), "environment"):
        meaning, values = re.fullmatch(r"(.*) \(([^()]*)\)", meaning).groups()
        rows.append(f"| `{name}` | {values} | {meaning} |")
    return "\n".join(rows) + "\n"


def generate_blocks():
    rows = ["| format | bytes | bytes of a block, in order | element |", "| --- | --- | --- | --- |"]
    tables = ""
    for block in formats():
        if block.kind != "BLOCK":
            continue
        bits, lower, upper, minimum, *numbers = block.layout
        fields = {0: "f16 d", lower: "32 signed bytes" if bits == 8 else "16 bytes of lower halves"}
        if minimum:
            fields[minimum] = "f16 m"
        for bit in range(4, bits if upper else 0):
            fields[upper + 4 * (bit - 4)] = f"4 bytes of bits {bit}"
        element = "d · " + ("table[x]" if numbers[1:] else f"(x - {-numbers[0]})" if numbers[0] else "x") + (" + m" if minimum else "")
        rows.append(f"| {block.name} | {block.bytes} | {'; '.join(fields[at] for at in sorted(fields))} | {element} |")
        if numbers[1:]:
            tables += f"\nThe table of {block.name} is {', '.join(map(str, numbers))}.\n"
    return "\n".join(rows) + "\n" + tables


KINDS = {"peers": "peers", "llama": "peers", "models": "peers", "offload": "offload"}


def measured(*kinds):
    """Results in docs/measured/MACHINE/ as arguments of `attend report`: files NAME.*.json are one run of kind "bench", but for what
    KINDS names. The machine of the newest results comes first: headlines are of that."""
    found, newest = [], {}
    for path in ROOT.glob("docs/measured/*/*.json"):
        machine, name = path.parent.name, path.name.split(".")[0]
        date = str(json.loads(path.read_text(encoding="utf-8"))["context"].get("date", ""))[:10]
        newest[machine] = max(date, newest.get(machine, ""))
        if KINDS.get(name, "bench") in kinds:
            found.append((machine, name not in ("gcc", "peers"), name, path))
    found.sort()
    found.sort(key=lambda each: newest[each[0]], reverse=True)
    return [f"{machine}/{name}={path}" for machine, _, name, path in found]


def generate_measured(kind):
    return "\n" + attend("report", *measured(kind), "--format", "markdown") + "\n"


GENERATORS = {"example": generate_example, "engine_plan": lambda: generate_engine(1), "engine_append": lambda: generate_engine(2),
              "engine_step": lambda: generate_engine(3), "environment": generate_environment, "blocks": generate_blocks,
              "bench": lambda: generate_measured("bench"), "peers": lambda: generate_measured("peers"),
              "offload": lambda: generate_measured("offload"),
              "aims": aims.table,
              "llama_nodes": lambda: llama_figures.nodes_table(llama_figures.newest()),
              "llama_models": lambda: llama_figures.models_table(llama_figures.newest()),
              "python_models": model_figures.table}
GENERATED = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.S)


def regenerate(document):
    return GENERATED.sub(lambda m: m.group(1) + GENERATORS[m.group(2)]() + m.group(3), document)


# --------------------------------------------------------------------------------------------------------------- tests


class Documents(unittest.TestCase):
    def test_generated_sections_are_up_to_date(self):
        names = set()
        for document in DOCUMENTS:
            old = document.read_text()
            names.update(match[1] for match in GENERATED.findall(old))
            self.assertTrue(old == regenerate(old), f"{document.name}: run python3 tests/test_docs.py --update")
        self.assertEqual(names, set(GENERATORS))

    def test_header_has_the_blocks_of_the_table(self):
        self.assertTrue(HEADER.read_text() == header_with_blocks(HEADER.read_text()), "run python3 tests/formats_table.py --update")
        self.assertNotEqual(HEADER.read_text().replace("ATTEND_Q5_0 = 11", ""), header_with_blocks(HEADER.read_text().replace("ATTEND_Q5_0 = 11", "")))

    def test_pictures_are_those_of_the_figures(self):
        for path, drawn in pictures().items():
            self.assertEqual(path.read_text(), drawn, f"{path.name}: run python3 tests/test_docs.py --update")
            self.assertIn(path.name, text("docs/llama.md" if path.parent.name == "llama" else "README.md"))
        ahead, cases = re.search(r"ahead of the best of the other packages in (\d+) of (\d+) cases", " ".join(text("README.md").split())).groups()
        self.assertIn(f"attend is ahead of the best peer at {ahead} of {cases} cases", text("docs/measured/peers.md"))

    def test_picture_leaves_out_what_nobody_else_can_do(self):
        def result(shape, peer, seconds=None):
            return {"shape": shape, "peer": peer, "dtype": "f32", "threads": 2} | ({"seconds": seconds} if seconds else {"cannot": "takes no pages"})
        names = ("pytorch-flash", "pytorch-math", "pytorch-flex", "onnxruntime-mha", "onnxruntime-gqa", "onnxruntime-attention", "openvino", "vllm", "ggml")
        results = [result("tiny", name, 4) for name in names] + [result("mixed-serving", name, 2 if name == "vllm" else None) for name in names]
        results += [result("alone", name) for name in names] + [result(shape, "attend", 1) for shape in ("tiny", "mixed-serving", "alone")]
        drawn = picture.draw({"results": results, "context": {"cpu": "a", "isa": "b", "date": "2026-01-01", "attend_version": "0.2.0"}}, "light")
        for word in "PyTorch", "ONNX Runtime", "OpenVINO", "ggml", "vLLM", "tiny", "mixed-serving":
            self.assertIn(f">{word}</text>", drawn)
        self.assertNotIn("alone", drawn)
        self.assertEqual(drawn.count("#8c6d1f"), 3)  # vLLM's colour: in the legend and at both shapes

    def test_folders_of_machines_are_named_by_their_processors(self):
        self.assertEqual(re.findall(r'^ATTEND_PROCESSOR\("([^"]+)"', text("kernels/cpu.def"), re.M), list(MACHINES))
        for signature, features, folder in (("AuthenticAMD-26-2-1", ["avx512f"], "zen5"), ("AuthenticAMD-25-17-1", ["avx512f"], "zen4"),
                                            ("AuthenticAMD-25-1-1", ["avx2"], "zen3"), ("GenuineIntel-6-143-8", [], "xeon4"),
                                            ("GenuineIntel-6-85-7", [], "genuineintel-6-85-7"), (None, [], "neoverse-n1-r3p1")):
            self.assertEqual(machine_of({"signature": signature, "cpu": "Neoverse-N1 (r3p1)", "features": {"usable": features}}), folder)
        self.assertFalse(list(ROOT.glob("docs/measured/*.json")))

    def test_readme_is_short(self):
        self.assertLess(text("README.md").count("\n"), 150)

    def test_commands_are_those_of_the_program(self):
        program = {row[0] for row in section(attend("--help"), "commands")}
        documented = set(re.findall(r"^\| `attend (\w+)` \|", text("docs/program.md"), re.M))
        self.assertEqual(documented, program)
        self.assertGreaterEqual(len(program), 4)

    def test_documented_options_exist(self):
        seen = 0
        for document in DOCUMENTS:
            for command, rest in re.findall(r"attend (run|layer|info|kernels|verify|report)\b([^`\n]*)", document.read_text()):
                for option in re.findall(r"--[a-z][a-z0-9-]*", rest):
                    self.assertRegex(attend(command, "--help"), rf"(?m)(^|\W){option}\b", f"{document.name}")
                    seen += 1
        self.assertGreaterEqual(seen, 5)

    def test_semantics_of_run_are_documented(self):
        # What `attend run` can be told about masks and scores has its row in the table.
        table = text("docs/attention.md").split("\n## ")[0].lower()
        words = {"causal": "causal", "window": "window", "kv-lengths": "key lengths", "mask": "boolean mask",
                 "scale": "scale", "softcap": "softcap", "bias": "bias", "alibi": "alibi", "sinks": "sinks",
                 "lse": "lse", "weights": "weights", "dtype": "element types"}
        for option, word in words.items():
            self.assertIn("--" + option, attend("run", "--help"))
            self.assertIn(word, table)

    def test_run_examples_work(self):
        with tempfile.TemporaryDirectory() as folder:
            for name in "qkv":
                subprocess.run([sys.executable, ROOT / "scripts/lib/random_npy.py", f"{folder}/{name}.npy", "1", "2", "5", "8"],
                               check=True)
            ran = 0
            for words in [*shell_lines(ROOT / "README.md"), *shell_lines(ROOT / "docs/program.md")]:
                if words[:2] == ["build/attend", "run"]:
                    subprocess.run([ATTEND, *words[1:]], check=True, cwd=folder, capture_output=True)
                    ran += 1
            self.assertGreaterEqual(ran, 1)
            self.assertTrue(pathlib.Path(folder, "out.npy").exists())

    def test_layer_examples_work(self):
        lines = [words for document in ("README.md", "docs/program.md") for words in shell_lines(ROOT / document)
                 if words[:2] == ["build/attend", "layer"]]
        self.assertGreaterEqual(len(lines), 4)
        if built_without_blas():
            self.skipTest("built without a BLAS, which attend layer needs")
        heads, dim = 12, 2
        sizes = {"W_q": (5, dim), "W_k": (5, dim), "w_v": (1, 5)}
        square = {f"model.layers.0.self_attn.{part}_proj.weight": randoms(heads * dim, heads * dim, seed=part) for part in "qkvo"}
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            for file, shape in ("x", (3, heads * dim)), ("decoder", (3, dim)), ("encoder", (4, dim)):
                folder.joinpath(f"{file}.npy").write_bytes(npy(randoms(*shape)))
            folder.joinpath("lengths.npy").write_bytes(npy(Tensor((1,), [2]), "<i4"))
            gpt2 = {"c_attn.weight": randoms(heads * dim, 3 * heads * dim), "c_proj.weight": randoms(heads * dim, heads * dim)}
            for file, tensors in (("gpt2", {f"h.0.attn.{part}": t for part, t in gpt2.items()}), ("model", square),
                                  ("seq2seq", {f"{part}.weight": randoms(*size) for part, size in sizes.items()})):
                folder.joinpath(f"{file}.safetensors").write_bytes(safetensors(tensors))
            index = {"weight_map": dict.fromkeys(square, "model.safetensors")}
            folder.joinpath("model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
            for words in lines:
                subprocess.run([ATTEND, *words[1:]], check=True, cwd=folder, capture_output=True)
            for output in "y.npy", "context.npy", "weights.svg":
                self.assertTrue(folder.joinpath(output).exists())

    def test_names_of_weights_are_those_of_models(self):
        """Each in a row of its model: one or, if it has several layers, one of those."""
        rows = {}
        for row in re.findall(r"^\| (.*?) \| (`.*?) \|$", text("docs/program.md").split("knows weights by these names")[1], re.M):
            for name in re.split("[,;] ", row[0]):
                rows.setdefault(re.sub("[^a-z0-9]", "", name.split(" with ")[0].lower()), []).append(re.findall("`([^`]+)`", row[1]))
        for model in MODELS:
            name = model.name.replace("_", "")
            own = rows.get(name) or rows.get(name.rstrip("0123456789"))
            self.assertTrue(own, f"no row of {model.name}")
            self.assertTrue(any(all(any(f".{documented}".endswith(f".{part}") for documented in row) for part in model.parts)
                                for row in own), f"{model.name}: {model.parts}, documented as {own}")

    def test_scripts_exist_and_explain_themselves(self):
        documented = set()
        for document in DOCUMENTS:
            documented.update(re.findall(r"\bscripts/([a-z]+(?:-[a-z]+)*)\b(?!/)", document.read_text()))
        there = {path.name for path in (ROOT / "scripts").iterdir() if path.is_file()}
        self.assertEqual(documented - there - {"lib"}, set())
        self.assertLessEqual({"demo", "test", "check", "sanitize", "format"}, there)
        for name in there:
            script = ROOT / "scripts" / name
            self.assertTrue(os.access(script, os.X_OK), f"scripts/{name} cannot be executed")
            run = subprocess.run([script, "--help"], capture_output=True, text=True)
            self.assertEqual(run.returncode, 0, run.stderr)
            self.assertIn(f"usage: scripts/{name}", run.stdout)
        self.assertIn("/scripts/test", text(".ci/run"))
        self.assertTrue(os.access(ROOT / ".ci/run", os.X_OK))

    def test_cmake_of_the_documents_is_tested(self):
        """A line that uses attend stands so in a project that test_consumer.sh builds, whatever the target is called."""
        tested = text("tests/consumer/CMakeLists.txt") + text("tests/consumer/fetch/CMakeLists.txt")
        lines = [line.split("#")[0].strip() for block in re.findall(r"```cmake\n(.*?)```", text("docs/using.md"), re.S) for line in block.splitlines()]
        self.assertGreaterEqual(len(lines), 5)
        for line in lines:
            if not line.startswith("target_link_libraries("):
                self.assertIn(line.rstrip(")"), tested)

    def test_presets_and_options_exist(self):
        presets = {preset["name"] for preset in json.loads(text("CMakePresets.json"))["configurePresets"] if not preset.get("hidden")}
        cmake = text("CMakeLists.txt")
        for document in DOCUMENTS:
            contents = document.read_text()
            self.assertLessEqual(set(re.findall(r"--preset ([\w-]+)", contents)), presets, document.name)
            for option in re.findall(r"-D(ATTEND_\w+)", contents):
                self.assertRegex(cmake, rf"(option|set)\({option} ", document.name)
        documented = re.search(r"builds are presets:(.*?)`cmake --build", text("CONTRIBUTING.md"), re.S).group(1)
        self.assertEqual(set(re.findall(r"`(?:cmake --preset )?([\w-]+)`", documented)), presets)

    def test_functions_and_variables_exist(self):
        header = "".join(text(f"include/attend/{part}.h") for part in ("attend", "append", "formats", "layers"))
        internal = "".join(path.read_text() for path in sources() if path.suffix == ".h" and path.parts[-2] in ("dispatch", "kernels"))
        variables = {row[0] for row in section(attend("--help"), "environment")}
        for document in DOCUMENTS:
            contents = document.read_text()
            for function in re.findall(r"\b(attend_\w+)\(\)", contents):
                self.assertIn(function + "(", header + internal, document.name)
            for variable in re.findall(r"`(ATTEND_(?:ISA|KERNEL|PROFILE|NUM_THREADS|VERBOSE)\w*)", contents):
                self.assertIn(variable, variables, document.name)

    def test_kernel_names_follow_the_grammar(self):
        table = text("docs/naming.md")
        self.assertIn("`body_dtype__isa_qROWSkBLOCK`", table)
        others = dict(re.findall(r"^\| (\w+) \| `(\w+)__isa` \|", table, re.M))
        bodies = re.findall(r"`(\w+)`", re.search(r"^\| body \| ([^:]*)", table, re.M).group(1))
        folders = [path.name for path in (ROOT / "kernels").iterdir() if path.is_dir() and path.name != "body"]
        grammar = re.compile(rf"({'|'.join(bodies)})_(f32|f16|bf16)__({'|'.join(folders)})_q([1-9]\d*)k([1-9]\d*)")
        listed = json.loads(attend("kernels", "--json"))
        self.assertEqual(set(others), {kernel["operation"] for kernel in listed["kernels"]} - {"forward"})
        for kernel in listed["kernels"]:
            if kernel["operation"] != "forward":
                self.assertEqual(kernel["name"], f"{others[kernel['operation']]}__{kernel['isa']}")
        names = [kernel["name"] for kernel in listed["kernels"] if kernel["operation"] == "forward"]
        for name in names:
            self.assertRegex(name, rf"^{grammar.pattern}$")
        self.assertEqual({name.split("_")[0] for name in names}, set(bodies))
        self.assertEqual(len(names), len(set(names)))
        isas = {grammar.fullmatch(name).group(3) for name in names}
        for document in DOCUMENTS:
            for match in grammar.finditer(document.read_text()):
                if match.group(3) in isas:  # another architecture's cannot be looked up here
                    self.assertIn(match.group(0), names, document.name)

    def test_paths_exist(self):
        for document in DOCUMENTS:
            contents = document.read_text()
            for link in re.findall(r"\]\(([^)#]+)\)", contents):
                if "://" not in link:
                    self.assertTrue((document.parent / link).exists(), f"{document.name} links to {link}")
            for path in re.findall(rf"`(?:\./)?((?:{'|'.join(map(re.escape, FOLDERS))})/[^`\s:]*)`", contents):
                pattern = re.sub(r"<\w+>|(?<![A-Za-z])X(?![A-Za-z])", "*", path).rstrip("/")
                self.assertTrue(list(ROOT.glob(pattern)), f"{document.name} names {path}")

    def test_nothing_names_a_machine(self):
        roots = ["work", "root", "home", "tmp", "Users"]
        forbidden = re.compile(r"(?<![\w.$}{*-])/(?:" + "|".join(roots) + r")/[\w.-]+")
        for path in sources():
            contents = path.read_bytes().decode(errors="replace")
            self.assertIsNone(forbidden.search(contents), f"{path.relative_to(ROOT)}: {forbidden.search(contents)}")

    def test_conventions(self):
        readers = []
        for path in sources():
            name = str(path.relative_to(ROOT))
            if path.suffix not in (".c", ".h", ".cpp", ".inc", ".def"):
                continue
            contents = path.read_text()
            if path.name != "rows.def":
                self.assertIn("SPDX-License-Identifier: Apache-2.0", contents.split("\n", 1)[0], name)
            self.assertLessEqual(contents.count("\n"), 600, f"{name} is too long")
            if re.search(r"\bgetenv\(", contents) and name.startswith(("dispatch/", "kernels/", "layers/", "verify/")):
                readers.append(name)
        self.assertEqual(readers, ["dispatch/env.c"], "the library reads the environment in one place")


if __name__ == "__main__":
    if sys.argv[1:] == ["--update"]:
        for path in DOCUMENTS:
            path.write_text(regenerate(path.read_text()))
        for path, drawn in pictures().items():
            path.write_text(drawn)
    elif sys.argv[1:] == ["--measured"]:
        print("\n".join(measured("peers", "offload") + measured("bench")))
    else:
        unittest.main()
