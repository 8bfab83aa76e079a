# SPDX-License-Identifier: Apache-2.0
"""The table of aims of docs/performance.md, from docs/measured/MACHINE/ of what `scripts/bench --update` measured. tests/test_docs.py
holds it against them, and writes it with --update."""

import json
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
# What share of the larger limit is aimed at on one thread, in f32, by shape: on Zen 3 and 4, on Zen 5, on Xeons.
AIMS = ({shape: (0.85, 0.88, 0.75) for shape in ("dense-128", "long-prefill", "llama-prefill", "gemma-prefill")} |
        {shape: (0.78, 0.80, 0.70) for shape in ("whisper-cross", "bert-base", "vit-large", "gpt2-prefill", "phi2-prefill")} |
        {"diffusion-self": (0.75, 0.76, 0.65), "minilm": (0.60, 0.60, 0.50)} |
        {shape: (0.80, 0.85, 0.95) for shape in ("llama-decode", "batch-decode")})
AIM_OF = {"zen3": 0, "zen4": 0, "zen5": 1, "xeon4": 2, "xeon5": 2}
# Heading, file and type of elements. The first four are of the widest instruction set.
COLUMNS = (("gcc: f32", "gcc.quick", "f32"), ("gcc: f16", "gcc.16-bit", "f16"), ("gcc: bf16", "gcc.16-bit", "bf16"), ("clang: f32", "clang", "f32"),
           ("AVX2, gcc: f32", "gcc-avx2", "f32"), ("AVX2, clang: f32", "clang-avx2", "f32"))


def shares(file):
    """What share of the larger limit the library's choice reached on one thread, by shape and type: medians, if repeated."""
    found = {}
    for each in json.loads(file.read_text(encoding="utf-8"))["benchmarks"] if file.exists() else ():
        kernel, *case = each["run_name"].split("/")
        if kernel == "auto" and case[2:] == ["threads:1"] and each.get("aggregate_name", "median") == "median" and "of_peak" in each:
            found[tuple(case[:2])] = each["of_peak"]
    return found


def table():
    """Of the processors that were measured and have aims."""
    parts = []
    for machine in sorted(path.name for path in ROOT.glob("docs/measured/*") if path.name in AIM_OF):
        columns = [(shares(ROOT / "docs" / "measured" / machine / f"{file}.json"), dtype) for _, file, dtype in COLUMNS]
        if not any(reached for reached, _ in columns):
            continue
        lines = [f"| {machine}: shape | aim, f32 | " + " | ".join(heading for heading, _, _ in COLUMNS) + " |",
                 "| --- " + "| ---: " * (1 + len(COLUMNS)) + "|"]
        for shape, aims in AIMS.items():
            cells = (reached.get((shape, dtype)) for reached, dtype in columns)
            lines.append(f"| {shape} | {aims[AIM_OF[machine]]:.2f} | " + " | ".join("-" if x is None else f"{x:.2f}" for x in cells) + " |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)
