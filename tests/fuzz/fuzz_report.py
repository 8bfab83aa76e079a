#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The JSON that `attend report` reads: it becomes Markdown and CSV, or is refused with a reason. Run by scripts/fuzz."""

import os
import pathlib
import sys

import atheris

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "report"))
with atheris.instrument_imports(include=["results", "tables", "summary", "text_formats", "json"]):
    from results import BadInput, Found, read
    from text_formats import comma_separated, markdown

file = os.memfd_create("fuzz")
PATH = f"/proc/self/fd/{file}"


def test_one_input(data):
    os.ftruncate(file, 0)
    os.pwrite(file, data, 0)
    try:
        found = Found.of([read(PATH)])
    except BadInput as reason:
        assert PATH in str(reason)
        return
    assert markdown(found) and comma_separated(found)


atheris.Setup(sys.argv, test_one_input)
atheris.Fuzz()
