#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""attend-bench: names, counters, context and errors. Only figures that follow from the shapes are checked."""

import json
import os
import re
import subprocess
import sys
import tempfile

from formats_table import formats

BENCH = os.path.join(os.environ["BUILD_DIR"], "attend-bench")
BENCH_SOURCES = os.path.join(os.environ["SOURCE_DIR"], "bench")
SHAPES = ("tiny minilm bert-base gpt2-prefill vit-large whisper-cross diffusion-self phi2-prefill llama-prefill dense-128 "
          "gemma-prefill long-prefill speculative llama-decode batch-decode chunked-prefill mixed-serving mla-decode").split()
NO_BASELINE = {"long-prefill", "mixed-serving"}  # too many scores; keys in pages


def bench(*arguments, status=0, **environment):
    done = subprocess.run([BENCH, *arguments], capture_output=True, text=True, check=False, env={**os.environ, **environment})
    assert done.returncode == status, (arguments, done.returncode, done.stderr)
    return done


def measured(*arguments):
    return json.loads(bench("--benchmark_format=json", "--benchmark_min_time=0.001", *arguments).stdout)


def close(a, b):
    return abs(a - b) <= 1e-9 * abs(b)


def test_names():
    names = bench("--benchmark_list_tests", "--threads", "1,2").stdout.split()
    assert len(names) == len(set(names))
    for limit in ("f32_fma", "exp", "read_l2", "read_l3", "read_memory"):
        assert f"peak/{limit}" in names and f"peak/{limit}/threads:2" in names
    for shape in SHAPES:
        for dtype in ("f32", "f16", "bf16", "f32+f16", "f32+bf16"):
            for threads in (1, 2):
                assert f"auto/{shape}/{dtype}/threads:{threads}" in names
        assert (f"baseline_openblas/{shape}/f32/threads:1" in names) == (shape not in NO_BASELINE)
    kernels = {name.split("/")[0] for name in names} - {"auto", "baseline_openblas", "peak"}
    assert any("__scalar_" in kernel for kernel in kernels)
    quick = bench("--benchmark_list_tests", "--quick").stdout.split()
    assert {name.split("/")[0] for name in quick} == {"auto", "baseline_openblas", "peak"}
    assert all("/f32/" in name or name.startswith("peak/") for name in quick)


def test_list_of_shapes():
    shapes = json.loads(bench("--list-shapes").stdout)
    assert [shape["name"] for shape in shapes] == SHAPES
    plain = {"batch": 16, "q_heads": 32, "kv_heads": 8, "q_len": 1, "kv_len": 2048, "head_dim": 128, "v_head_dim": 128,
             "length_step": 128, "causal": False, "form": "plain"}
    by_name = {shape.pop("name"): shape for shape in shapes}
    assert by_name["batch-decode"] == plain
    assert {name: shape["form"] for name, shape in by_name.items() if shape["form"] != "plain"} == {
        "chunked-prefill": "additive-mask", "mixed-serving": "serving", "mla-decode": "v-in-k"}
    assert (by_name["mla-decode"]["head_dim"], by_name["mla-decode"]["v_head_dim"]) == (576, 512)
    serving = by_name["mixed-serving"]
    assert sorted(serving["queries"]) == [1] * 30 + [512] * 2
    assert (min(serving["keys"]), max(serving["keys"]), len(set(serving["keys"]))) == (512, 4096, 32)
    assert all(queries <= keys for queries, keys in zip(serving["queries"], serving["keys"]))


def test_counters():
    runs = measured("--shapes", "tiny", "--dtypes", "f32,bf16", "--threads", "1")["benchmarks"]
    assert len(runs) > 4
    for run in runs:
        assert "error_occurred" not in run, run
        if not run["name"].startswith("peak/"):
            assert run["flops"] > 0 and run["bytes"] > 0
            kernel = re.search(r"__([a-z0-9]+)_", run["name"] + run.get("label", ""))
            if kernel and not os.path.exists(os.path.join(BENCH_SOURCES, f"peak_{kernel[1]}.c")):
                assert "of_peak" not in run, f"{run['name']}: of which peak?"
                print(f"{run['name']}: no limits of {kernel[1]} are measured")
                continue
            expected = max(run["flops"] / run["peak_flops"], run["bytes"] / run["peak_bytes"])
            assert close(run["of_peak"], expected), run
            assert 0 < run["error"] < (1e-6 if "/f32/" in run["name"] else 1e-2), run
            assert 0 < run["plain_error"] < (1e-6 if "/f32/" in run["name"] else 1e-2), run
            assert 0 <= run["workspace_used"] <= run["workspace"], run


def test_sequence():
    names = bench("--benchmark_list_tests", "--sequence").stdout.split()
    assert {name.split("/")[1] for name in names} == {f"sequence-{2**n}k" for n in range(7)}
    assert all("/f32/threads:1" in name for name in names)
    found = measured("--sequence", "--shapes", "sequence-[14]k")
    runs = {run["name"].split("/f32")[0]: run for run in found["benchmarks"]}
    assert "keys 4096, head dim 64, causal" in found["context"]["shape/sequence-4k"]
    for kernel, run in runs.items():
        if kernel.startswith("baseline_openblas/"):
            length = 1024 * int(kernel[-2])
            assert run["workspace"] == run["workspace_used"] == 4 * length * length, run
    assert any(kernel.startswith("blocked_") for kernel in runs) and "auto/sequence-4k" in runs
    # Scores are never stored: four times the length would be sixteen times the memory.
    assert runs["auto/sequence-4k"]["workspace_used"] < 4 * runs["auto/sequence-1k"]["workspace_used"]


def test_additive():
    names = bench("--benchmark_list_tests", "--additive").stdout.split()
    assert {name.split("/")[1] for name in names if not name.startswith("peak/")} == {"translate", "translate-word", "text"}
    assert not any(name.startswith("baseline_") for name in names)
    found = measured("--additive", "--shapes", "translate-word", "--dtypes", "f32,bf16", "--threads", "1")
    assert "sgemm" in found["context"]["skipped baseline_openblas/translate-word/f32/threads:1"]
    assert any("additive" in text for name, text in found["context"].items() if name.startswith("skipped decode_"))
    runs = [run for run in found["benchmarks"] if not run["name"].startswith("peak/")]
    assert len(runs) >= 8 and any(run["name"].startswith("auto/translate-word/bf16") for run in runs)
    for run in runs:
        assert "error_occurred" not in run, run
        assert 0 <= run["error"] < 0.01, run


def test_useful_work():
    """FLOP per byte, which no clock changes, from the definition of each shape."""
    keys = sum(range(4, 129, 4))
    pairs = 32 * sum(range(8185, 8193))
    serving = next(shape for shape in json.loads(bench("--list-shapes").stdout) if shape["name"] == "mixed-serving")
    served_pairs = sum(keys - queries + i + 1 for queries, keys in zip(serving["queries"], serving["keys"]) for i in range(queries))
    served_rows = 32 * sum(serving["queries"]) + 8 * sum(serving["keys"])
    expected = {
        "mixed-serving": 32 * served_pairs * 2 * 256 / (4 * 128 * 2 * served_rows),
        "mla-decode": 128 * 4096 * 2 * (576 + 512) / (4 * (128 * (576 + 512) + 4096 * 576)),  # values are among the keys
        "tiny": 16 * 16 * 2 * 128 / (4 * 4 * 16 * 64),
        "minilm": 12 * 128 * keys * 2 * 64 / (4 * 32 * 2 * 12 * (32 * 128 + keys)),
        "speculative": pairs * 2 * 256 / (4 * 128 * 2 * (32 * 8 + 8 * 8192)),
    }
    for run in measured("--shapes", ",".join(expected), "--dtypes", "f32", "--kernels", "auto")["benchmarks"]:
        assert close(run["flops"] / run["bytes"], expected[run["name"].split("/")[1]]), run


def test_forms():
    """Shapes of other forms than plain tensors are right with every kernel that takes them, or said to be left out."""
    found = measured("--shapes", "mixed-serving,mla-decode", "--dtypes", "f32,bf16", "--threads", "2", "--kernels",
                     "auto,baseline_openblas,decode_*,stream_*")
    runs = {run["name"]: run for run in found["benchmarks"]}
    assert len(runs) >= 8 and {f"auto/{shape}/{dtype}/threads:2" for shape in ("mixed-serving", "mla-decode") for dtype in ("f32", "bf16")} <= set(runs)
    for run in runs.values():
        assert "error_occurred" not in run, run
        assert 0 < run["error"] < (1e-6 if "/f32/" in run["name"] else 1e-2), run
    assert "one piece" in found["context"]["skipped baseline_openblas/mixed-serving/f32/threads:2"]
    assert "pages of 16 keys" in found["context"]["shape/mixed-serving"]
    assert "head dim 576/512" in found["context"]["shape/mla-decode"]


def test_formats():
    """Every format: what is read is what the format holds, scales included. Forms of shapes know formats, too."""
    row = {f.name: 64 // f.elements * f.bytes + 4 * (f.kind == "SCALED") * (1 + (f.name == "i4")) for f in formats()}
    del row["f16"]
    assert row["q5_1"] == 2 * 24 and row["i4"] == 32 + 2 * 4
    listed = bench("--benchmark_list_tests", "--shapes", "batch-decode", "--kernels", "auto", "--threads", "1", "--dtypes",
                   "bf16*,f32+q*,f32+q8_0,bf16+i8").stdout.split()
    assert listed[:2] == ["auto/batch-decode/bf16+f32/threads:1", "auto/batch-decode/bf16+f16/threads:1"]
    assert len(listed) == len(set(listed)) == len(row) + 1 + sum(name.startswith("q") for name in row), (listed, row)
    found = measured("--shapes", "tiny", "--dtypes", "f32*,bf16*", "--kernels", "decode_*,stream_*,auto,baseline_*", "--threads", "1")
    runs = {run["name"]: run for run in found["benchmarks"]}
    assert sum(name.startswith("baseline") for name in runs) == 1
    for query, size in (("f32", 4), ("bf16", 2)):
        for kv, bytes_of_row in row.items():
            run = runs[f"auto/tiny/{query if kv == query else f'{query}+{kv}'}/threads:1"]
            assert close(run["flops"] / run["bytes"], 16 * 16 * 2 * 128 / (2 * size * 16 * 64 + 2 * 16 * bytes_of_row)), run
    forms = [measured("--shapes", shape, "--dtypes", dtypes, "--kernels", "auto", "--threads", "2")["benchmarks"]
             for shape, dtypes in (("batch-decode", "bf16+i8,f32+q4_0"), ("mla-decode", "f32+i4"), ("mixed-serving", "bf16+f8_e4m3"))]
    assert [len(form) for form in forms] == [2, 1, 1]
    for run in [*runs.values(), *sum(forms, [])]:
        assert "error_occurred" not in run, run
        assert 0 < run["error"] < (1e-6 if "/f32" in run["name"] else 2e-2), run
    table = bench("--shapes", "tiny", "--dtypes", "f32+q8_0", "--kernels", "auto", "--benchmark_min_time=0.001", "--table").stdout
    assert "| tiny  | f32+q8_0 | " in table, table
    skipped = json.loads(bench("--benchmark_format=json", "--shapes", "diffusion-self", "--dtypes", "f32+q8_0", "--kernels", "auto,peak",
                               "--threads", "1", "--benchmark_filter=auto|f32_fma").stdout)["context"]
    assert "multiple of 32" in skipped["skipped auto/diffusion-self/f32+q8_0/threads:1"], skipped


def test_context():
    context = measured("--shapes", "tiny,long-prefill", "--dtypes", "f32", "--threads", "1", "--kernels",
                       "baseline_openblas")["context"]
    for key in ("cpu", "cpu_features", "isa", "compiler", "attend_version", "cores", "threads", "openblas_core",
                "peak/f32_fma", "peak/read_memory"):
        assert key in context, key
    assert "1024 MiB" in context["skipped baseline_openblas/long-prefill/f32/threads:1"]


def test_bound_threads():
    """It starts itself anew for OpenBLAS, and OpenMP has bound its first thread to one core by then."""
    listed = [bench("--benchmark_list_tests", "--kernels", "auto", "--shapes", "tiny", OMP_PROC_BIND=bind).stdout.split()
              for bind in ("false", "true")]
    assert listed[0] == listed[1], listed


def test_phases():
    env = dict(os.environ, ATTEND_ISA="scalar")
    assert subprocess.run([BENCH, "--phases"], capture_output=True, env=env, check=False).returncode == 2
    listed = subprocess.run([BENCH, "--phases", "--benchmark_list_tests"], capture_output=True, text=True, check=False)
    if listed.returncode == 2 and "no kernel that runs here" in listed.stderr:
        print("test_phases: nothing to time, no kernel with phases runs here")
        return
    assert "--benchmark_filter" in bench("--phases", "--shapes", "tiny", status=2).stderr
    assert "--benchmark_filter" in bench("--phases", "--markdown", "phases.md", status=2).stderr
    names = listed.stdout.split()
    assert listed.returncode == 0 and len(names) == len(set(names)), names
    for isa in {name.split("/")[1] for name in names}:
        of_isa = [name.split("/")[2:] for name in names if name.split("/")[1] == isa]
        dims, phases = ({"D64", "D128", "D256"}, 7) if isa == "amx" else ({"D32", "D64", "D128"}, 11)
        assert {dim for dim, _ in of_isa} == dims and len(of_isa) == 3 * phases, of_isa
        for phase in ("products_l1", "products_l2", "softmax"):
            assert sum(phase == name for _, name in of_isa) == 3, of_isa
    runs = measured("--phases", "--benchmark_filter=D64", "--benchmark_min_time=0.001")["benchmarks"]
    assert [run["name"] for run in runs] == [name for name in names if "/D64/" in name]
    for run in runs:
        time = run["cycles" if "/amx/" in run["name"] else "ns"]
        assert 0 < time <= run["median"] and close(run["times_ideal"], time / run["ideal"]), run
        assert " keys" in run["label"]
        if "whole" in run["name"] or "decode" in run["name"]:  # a kernel that did not run takes no time
            assert run["times_ideal"] > 0.5, run


def test_table():
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "table.md")
        done = bench("--shapes", "tiny", "--kernels", "auto", "--dtypes", "f32", "--benchmark_min_time=0.001", "--table",
                     "--benchmark_repetitions=3", "--markdown", file)
        with open(file, encoding="utf-8") as lines:
            text = lines.read()
        assert os.listdir(folder) == ["table.md"]
    table = text[text.index("| shape"):]
    assert done.stdout.endswith(table) and table.count("\n") == 3 and "| tiny " in table
    done = bench("--shapes", "tiny,minilm", "--dtypes", "f32,bf16", "--kernels", "auto", "--benchmark_min_time=0.001", "--table",
                 "--benchmark_filter=tiny/bf16")
    rows = done.stdout[done.stdout.index("| shape"):].splitlines()[2:]
    assert len(rows) == 1 and rows[0].startswith("| tiny  | bf16"), rows  # no line for what was not run
    assert "Machine:" in text and "Compiler:" in text and "--shapes tiny" in text


def test_caches():
    names = bench("--benchmark_list_tests", "--caches").stdout.split()
    shapes = {name.split("/")[1] for name in names if not name.startswith("peak/")}
    assert shapes == {f"{size}-{form}" for size in ("llama", "small", "wide") for form in ("side-by-side", "pages")}
    found = measured("--caches", "--shapes", "small-*", "--kernels", "auto", "--dtypes", "f32,bf16+q8_0", "--threads", "1")
    runs = [run for run in found["benchmarks"] if not run["name"].startswith("peak/")]
    assert len(runs) == 4 and all("error_occurred" not in run and 0 <= run["error"] < 0.01 for run in runs), runs
    assert "in pages of 16 keys" in found["context"]["shape/small-pages"]


def test_errors():
    for arguments in (["--bogus"], ["--shapes", "nowhere"], ["--kernels", "none"], ["--dtypes", "f8"], ["--dtypes", "f32+q9_0"], ["--dtypes", "q8_0"], ["--threads", "0"],
                      ["--threads", "x"], ["--shapes"], ["--sequence", "--shapes", "tiny"], ["--sequence", "--additive"],
                      ["--additive", "--caches"],
                      ["--markdown", "/nonexistent/table.md", "--shapes", "tiny"]):
        done = bench(*arguments, status=2)
        assert done.stdout == "" and done.stderr.startswith("attend-bench: ") and done.stderr.count("\n") == 1, done


def main():
    if os.environ.get("SANITIZE") or not os.path.exists(BENCH):
        print("SKIPPED: attend-bench is not built")
        sys.exit(77)
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            test()
            print(f"{name}: passed")


main()
