# SPDX-License-Identifier: Apache-2.0
"""Keeps results as the current state of the project: measured.py [MACHINE/]NAME=FILE...

Each FILE goes to docs/measured/NAME.json, or docs/measured/MACHINE/NAME.json, without what nobody needs or should see, then report.html, kernels.md and peers.md
beside it are made anew from all that is there. ATTEND names the program.
"""

import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "measured"
# Of the machine: private names and paths, and what attend-bench says better. Of a benchmark: bookkeeping.
CONTEXT = {"executable", "host_name", "load_avg", "caches", "mhz_per_cpu", "num_cpus", "cpu_scaling_enabled", "library_build_type",
           "json_schema_version"}
BENCHMARK = {"name", "family_index", "per_family_instance_index", "repetitions", "repetition_index", "threads", "iterations", "cpu_time"}


def rounded(value):
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, list):
        return [rounded(each) for each in value]
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
    for argument in sys.argv[1:]:
        name, _, path = argument.partition("=")
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
