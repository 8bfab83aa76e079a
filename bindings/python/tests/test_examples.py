# SPDX-License-Identifier: Apache-2.0
"""The examples run, and the code of docs/python.md."""

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
    assert "sdpa / attend" in run(tmp_path, ROOT / "examples" / "python" / "measure.py", "attention", "--rounds", "1")


def test_document(tmp_path):
    """Every block of Python in docs/python.md, one after the other, as one program."""
    pytest.importorskip("transformers")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(), re.S)
    assert len(blocks) >= 4
    (tmp_path / "document.py").write_text("\n".join(blocks))
    run(tmp_path, "document.py")
