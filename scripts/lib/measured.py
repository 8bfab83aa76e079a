# SPDX-License-Identifier: Apache-2.0
"""Keeps results as the current state of the project: measured.py [MACHINE/]NAME=FILE...

Each FILE goes to docs/measured/MACHINE/NAME.json, without what nobody needs or should see; then what lies in docs/measured/ itself,
report.html, kernels.md, peers.md and the pictures, and the tables of other pages of docs/ are made anew of all machines. MACHINE is this one, if none is named: what
kernels/cpu.def calls its processor. ATTEND names the program.
"""

import json
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "measured"
# Folders of processors, by what the signature of `attend info` begins with: those that kernels/cpu.def has rows of.
MACHINES = {"AuthenticAMD-26-": "zen5", "AuthenticAMD-25-": "zen4", "GenuineIntel-6-143-": "xeon4", "GenuineIntel-6-207-": "xeon5"}
# Of the machine: private names and paths, and what attend-bench says better. Of a benchmark: bookkeeping.
CONTEXT = {"executable", "host_name", "load_avg", "caches", "mhz_per_cpu", "num_cpus", "cpu_scaling_enabled", "library_build_type",
           "json_schema_version"}
BENCHMARK = {"name", "family_index", "per_family_instance_index", "repetitions", "repetition_index", "threads", "iterations", "cpu_time"}


def machine(info):
    """The folder of a processor, of what `attend info --json` says; one without a row there goes by its own name."""
    signature = str(info.get("signature") or "")
    name = next((name for begin, name in MACHINES.items() if signature.startswith(begin)), None)
    if name == "zen4" and "avx512f" not in info["features"]["usable"]:
        return "zen3"  # which is of the same family
    return name or re.sub(r"[^a-z0-9]+", "-", (signature or info["cpu"]).lower()).strip("-")


def rounded(value):
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, list):
        return [rounded(each) for each in value]
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    return value


def kept(data):
    data["context"] = {key: value for key, value in data["context"].items() if key not in CONTEXT}
    for key in {"benchmarks", "results"} & data.keys():
        data[key] = [{k: rounded(v) for k, v in item.items() if key == "results" or k not in BENCHMARK} for item in data[key]]
    return data


def text(data):
    """A line for every measurement, so that a change can be read."""
    lists = {"benchmarks", "results"} & data.keys()
    parts = [f" {json.dumps(key)}: {json.dumps(value, indent=1, ensure_ascii=False)}" for key, value in data.items() if key not in lists]
    parts += [f" {json.dumps(key)}: [\n" + ",\n".join("  " + json.dumps(item, ensure_ascii=False) for item in data[key]) + "\n ]"
              for key in sorted(lists)]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main():
    here = machine(json.loads(subprocess.run([os.environ["ATTEND"], "info", "--json"], check=True, capture_output=True, text=True).stdout))
    for argument in sys.argv[1:]:
        name, _, path = argument.partition("=")
        name = name if "/" in name else f"{here}/{name}"
        data = kept(json.loads(pathlib.Path(path).read_text(encoding="utf-8")))
        (FOLDER / f"{name}.json").parent.mkdir(parents=True, exist_ok=True)
        (FOLDER / f"{name}.json").write_text(text(data), encoding="utf-8")
    environment = os.environ | {"SOURCE_DIR": str(ROOT)}
    inputs = subprocess.run([sys.executable, "-B", ROOT / "tests" / "test_docs.py", "--measured"], env=environment, check=True,
                            capture_output=True, text=True).stdout.splitlines()
    subprocess.run([os.environ["ATTEND"], "report", *inputs, "-o", FOLDER / "report.html"], check=True)
    subprocess.run([sys.executable, "-B", ROOT / "tests" / "test_docs.py", "--update"], env=environment, check=True)


if __name__ == "__main__":
    main()
