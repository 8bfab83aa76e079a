# SPDX-License-Identifier: Apache-2.0
"""The examples run, and the code of docs/python.md."""

import json
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]


def run(folder, *command):
    done = subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["heatmap", "padded", "paged", "switch_over"])
def test_example(name, tmp_path):
    if name == "switch_over":
        pytest.importorskip("transformers")
    arguments = []
    if name == "heatmap":
        pytest.importorskip("matplotlib")
        arguments = ["map.png"]
    assert run(tmp_path, ROOT / "examples" / "python" / f"{name}.py", *arguments)
    if name == "heatmap":
        assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")


def test_measuring(tmp_path):
    pytest.importorskip("torch")
    measured = run(tmp_path, ROOT / "examples" / "python" / "measure.py", "--rounds", "1")
    assert "F.sdpa / sdpa of attend.torch" in measured and measured.count("sdpa / attend") == 6


def test_models_beside_peers(tmp_path):
    """bench/peers/models.py on a tiny model: each candidate is run, and gives the logits of eager attention. No time is checked."""
    pytest.importorskip("transformers")
    models = ROOT / "bench" / "peers" / "models.py"
    table = run(tmp_path, models, "--shapes", "tiny", "--threads", "1", "--rounds", "2", "--seconds", "0.001", "-o", "models.json")
    found = json.loads((tmp_path / "models.json").read_text())
    assert found["attend_engine"] == 1 and found["context"]["versions"]["transformers"]
    rows = ["prefill", "padded-prefill", "decode", "padded-decode"]
    assert [(result["dtype"], result["row"]) for result in found["results"]] == [(dtype, row) for dtype in ("f32", "bf16") for row in rows]
    for result in found["results"]:
        ours = ["attend", "attend, its cache"] if "decode" in result["row"] else ["attend"]
        assert sorted(result["seconds"]) == sorted([*ours, "sdpa", "eager"]) and all(len(times) == 2 for times in result["rounds"].values())
        assert sorted(result["ratios"]) == sorted(f"{other} / {name}" for name in ours for other in ("sdpa", "eager"))
        assert max(result["difference"].values()) < {"f32": 1e-5, "bf16": 5e-2}[result["dtype"]], result
        assert result["row"] in table
    for wrong in (["--shapes", "huge"], ["--rows", "all"], ["--dtypes", "f64"], ["--threads", "0"], ["--rounds", "0"]):
        done = subprocess.run([sys.executable, models, *wrong], capture_output=True, text=True)
        assert done.returncode == 2 and "error: " in done.stderr
    assert "padded-decode" in run(tmp_path, models, "--help")


def test_document(tmp_path):
    """Every block of Python in docs/python.md, one after the other, as one program."""
    pytest.importorskip("transformers")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(), re.S)
    assert len(blocks) >= 4
    (tmp_path / "document.py").write_text("\n".join(blocks))
    run(tmp_path, "document.py")
