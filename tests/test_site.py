# SPDX-License-Identifier: Apache-2.0
"""Checks the page set of scripts/docs: the reference has all that the headers declare, no link is dead, and one that is dead is
found. The pages themselves are made where scripts/docs has installed MkDocs."""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(os.environ.get("SOURCE_DIR", pathlib.Path(__file__).resolve().parent.parent)).resolve()
sys.path.append(str(ROOT / "docs/site"))
import build  # pylint: disable=wrong-import-position

VENV = ROOT / "build-docs/venv"


class Site(unittest.TestCase):
    def test_reference_has_all_declarations(self):
        for name, least in (("attend", 25), ("layers", 20)):
            header = ROOT / f"include/attend/{name}.h"
            text = header.read_text()
            declared = set(re.findall(r"ATTEND_API [^;(]*?\b(attend_\w+)\(", text)) | set(re.findall(r"} (attend_\w+);", text))
            page = build.page_of(header)
            headed = set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^### .*", page, re.M))))
            self.assertGreaterEqual(len(declared), least)
            self.assertEqual(declared - headed, set())
            # a declaration is on the page once, with all its comments
            for line in re.findall(r"^  .*/\*\*<.*", text, re.M):
                self.assertEqual(page.count(line), text.count(line))

    def test_every_document_has_a_place(self):
        listed = {path for _, entry in build.NAVIGATION for path in ([entry] if isinstance(entry, str) else entry)}
        there = {str(path.relative_to(ROOT)) for pattern in ("*.md", "docs/*.md", "docs/measured/*.md", "examples/*.md", "include/attend/*.h")
                 for path in ROOT.glob(pattern)}
        self.assertEqual(listed, there)

    def test_dead_links_are_found(self):
        with tempfile.TemporaryDirectory() as name:
            site = pathlib.Path(name).resolve()
            site.joinpath("other.html").write_text('<h1 id="there">x</h1>')
            site.joinpath("index.html").write_text('<a href="other.html#there"></a><a href="https://example.org/x"></a>'
                                                   '<a href="other.html#gone"></a><img src="none.svg"><a href="#nowhere"></a>')
            dead = sorted(build.dead_links(site))
            self.assertEqual([line.split(": ")[1] for line in dead], ["#nowhere", "none.svg", "other.html#gone"])

    def test_pages_are_made(self):
        if not VENV.joinpath("installed.txt").exists():
            self.skipTest("SKIPPED: MkDocs is not installed: scripts/docs does that")
        with tempfile.TemporaryDirectory() as folder:
            run = subprocess.run([VENV / "bin/python", "-B", ROOT / "docs/site/build.py", folder], capture_output=True, text=True)
            self.assertEqual((run.returncode, run.stderr), (0, ""), run.stdout)
            site = pathlib.Path(folder, "site")
            self.assertRegex(run.stdout, r"\d\d pages, no dead link")
            for page in site.rglob("*.html"):
                if page.name != "report.html":  # which is whole by itself
                    loaded = re.findall(r'<(?:script|img|iframe)[^>]* src="(https?:[^"]*)"|<link rel="stylesheet" href="(https?:[^"]*)"', page.read_text())
                    self.assertEqual(loaded, [], f"{page.name} does not open offline")


if __name__ == "__main__":
    unittest.main()
