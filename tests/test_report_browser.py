# SPDX-License-Identifier: Apache-2.0
"""The page of `attend report` in Chromium: no error, no request, sorts, fits a telephone, light, dark, printed, read aloud.

Leaves screenshots in the build directory, report-*.png, for somebody to look at.
"""

import base64
import json
import os
import pathlib
import shutil
import sys
import tempfile
import unittest

import python_modules

python_modules.need("selenium", "matplotlib")
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

import report_samples
from cli_support import attend

SCREENSHOTS = pathlib.Path(os.environ["BUILD_DIR"])
PHONE, DESKTOP = 390, 1280


def luminance(color):
    channels = [float(c) / 255 for c in color[color.index("(") + 1 : color.index(")")].split(",")[:3]]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(a, b):
    dark, light = sorted((luminance(a), luminance(b)))
    return (light + 0.05) / (dark + 0.05)


class Page(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        folder = pathlib.Path(directory.name)
        for name, data in (("before", report_samples.bench()), ("after", report_samples.bench(seed=1)), ("peers", report_samples.peers()),
                           ("formats", report_samples.formats()), ("phases", report_samples.phases()), ("engine", report_samples.engine()), ("offload", report_samples.offload())):
            folder.joinpath(f"{name}.json").write_text(json.dumps(data), encoding="utf-8")
        done = attend("report", "before=before.json", "before=formats.json", "before=phases.json", "zen3/after=after.json", "peers.json",
                      "zen3/peers=peers.json", "engine.json", "offload.json", "-o", "report.html", cwd=folder)
        assert done.returncode == 0, done.stderr
        options = webdriver.ChromeOptions()
        for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
                         f"--user-data-dir={folder / 'chromium'}"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        cls.browser = webdriver.Chrome(service=Service(shutil.which("chromedriver")), options=options)
        cls.addClassCleanup(cls.browser.quit)
        cls.address = folder.joinpath("report.html").as_uri()

    def setUp(self):
        self.width(DESKTOP)
        self.media("light", "screen")
        self.browser.get("about:blank")
        for kind in ("browser", "performance"):
            self.browser.get_log(kind)  # what the browser's own first page did
        self.browser.get(self.address)

    def tearDown(self):
        # Whatever a test did, there was no error, and nothing but the page itself was requested.
        self.assertEqual([entry["message"] for entry in self.browser.get_log("browser")], [])
        asked = [message["params"]["request"]["url"] for message in
                 (json.loads(entry["message"])["message"] for entry in self.browser.get_log("performance"))
                 if message["method"] == "Network.requestWillBeSent"]
        self.assertIn(self.address, asked)
        self.assertEqual({url for url in asked if not url.startswith("data:")}, {self.address})

    def width(self, pixels):
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                                     {"width": pixels, "height": 900, "deviceScaleFactor": 1, "mobile": pixels == PHONE})

    def media(self, scheme, kind):
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia",
                                     {"media": kind, "features": [{"name": "prefers-color-scheme", "value": scheme}]})

    def screenshot(self, name):
        shot = self.browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
        SCREENSHOTS.joinpath(f"report-{name}.png").write_bytes(base64.b64decode(shot["data"]))

    def style(self, selector, name):
        return self.browser.execute_script(
            "return getComputedStyle(document.querySelector(arguments[0])).getPropertyValue(arguments[1])", selector, name)

    def column(self, index):
        return self.browser.execute_script(
            "return [...document.querySelectorAll('#all tbody tr')].map(row => { const cell = row.cells[arguments[0]];"
            " return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value); })", index)

    def test_table_sorts(self):
        heads = self.browser.find_elements(By.CSS_SELECTOR, "#all th")
        titles = [head.text.split("\u00a0")[0] for head in heads]
        for title in ("time", "kernel", "threads"):
            index = titles.index(title)
            before = self.column(index)
            key = (lambda x: x.lower()) if title == "kernel" else None
            self.assertNotEqual(before, sorted(before, key=key))
            button = heads[index].find_element(By.TAG_NAME, "button")
            button.click()
            self.assertEqual(heads[index].get_attribute("aria-sort"), "ascending")
            found = self.column(index)
            self.assertEqual(sorted(map(str, found)), sorted(map(str, before)))
            self.assertTrue(found == sorted(found) if key is None else found[0] <= found[-1], found)
            button.send_keys(Keys.ENTER)
            self.assertEqual(heads[index].get_attribute("aria-sort"), "descending")
            self.assertEqual([x for x in self.column(index)][0], found[-1])
            self.assertEqual(len(self.browser.find_elements(By.CSS_SELECTOR, "#all th[aria-sort]")), 1)
        # A figure that was not measured comes last, whichever way the column is sorted.
        error = heads[titles.index("error")].find_element(By.TAG_NAME, "button")
        for _ in range(2):
            error.click()
            self.assertEqual(self.column(titles.index("error"))[-1], "-")

    def test_filter(self):
        rows = self.browser.find_elements(By.CSS_SELECTOR, "#all tbody tr")
        self.browser.find_element(By.CSS_SELECTOR, "#all .filter input").send_keys("llama-decode avx2 bf16")
        shown = lambda: [row for row in rows if row.is_displayed()]
        self.assertEqual(len(shown()), 4)  # two runs, two numbers of threads
        count = self.browser.find_element(By.CSS_SELECTOR, "#all .shown")
        self.assertEqual(count.text, f"4 of {len(rows)} rows")
        choices = {label.text.split("\n")[0].split(" ")[0]: Select(label.find_element(By.TAG_NAME, "select"))
                   for label in self.browser.find_elements(By.CSS_SELECTOR, "#all .filter label") if label.find_elements(By.TAG_NAME, "select")}
        self.assertEqual(list(choices), ["run", "kernel", "shape", "dtype", "threads"])
        choices["run"].select_by_visible_text("zen3/after")
        self.assertEqual({row.text.split()[0] for row in shown()}, {"zen3/after"})
        choices["threads"].select_by_visible_text("2")
        self.assertEqual(count.text, f"1 of {len(rows)} rows")
        choices["dtype"].select_by_visible_text("f32")
        self.assertEqual(shown(), [])

    def test_light_and_dark(self):
        papers = []
        for scheme in ("light", "dark"):
            self.media(scheme, "screen")
            paper, ink = self.style("body", "background-color"), self.style("body", "color")
            papers.append(luminance(paper))
            self.assertGreater(contrast(paper, ink), 7)
            self.assertGreater(contrast(paper, self.style("figcaption", "color")), 4.5)
            colors = self.browser.execute_script(
                "return [...new Set([...document.querySelectorAll('svg text')].map(t => getComputedStyle(t).fill))]")
            self.assertEqual(colors, [ink])
            marks = self.browser.execute_script(
                "return [...new Set([...document.querySelectorAll('svg use')].map(t => getComputedStyle(t).fill))]")
            self.assertTrue(all(contrast(paper, mark) > 3 for mark in marks if mark.startswith("rgb(")), marks)
            self.screenshot(scheme)
        self.assertGreater(papers[0], 0.8)
        self.assertLess(papers[1], 0.1)

    def test_fits_a_telephone(self):
        self.width(PHONE)
        self.unfold()
        self.assertLessEqual(self.browser.execute_script("return document.documentElement.scrollWidth"), PHONE)
        sizes = self.browser.execute_script("return [...document.querySelectorAll('svg text')].map(t => t.getBoundingClientRect().height)")
        self.assertGreaterEqual(min(sizes), 8)
        self.screenshot("phone")

    def test_prints(self):
        self.media("dark", "print")
        self.assertEqual(self.style("nav", "display"), "none")
        self.assertGreater(luminance(self.style("body", "background-color")), 0.99)
        self.screenshot("print")
        pdf = base64.b64decode(self.browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": False})["data"])
        self.assertTrue(pdf.startswith(b"%PDF"))

    def unfold(self):
        self.browser.execute_script("document.querySelectorAll('details.more').forEach(each => { each.open = true; })")

    def test_is_short_at_first(self):
        """The figures, the picture and what is not folded of the words fit two screens of a desktop."""
        bottom = self.browser.execute_script("return document.getElementById('summary').getBoundingClientRect().bottom")
        self.assertLess(bottom, 2 * 900)
        self.assertTrue(self.browser.find_element(By.CSS_SELECTOR, "#summary figure").is_displayed())
        self.assertFalse(self.browser.find_element(By.CSS_SELECTOR, "#summary details p").is_displayed())

    def test_is_unfolded_on_paper(self):
        closed = lambda: len(self.browser.find_elements(By.CSS_SELECTOR, "details.more:not([open])"))
        self.assertGreater(closed(), 5)
        before = closed()
        self.browser.execute_script("dispatchEvent(new Event('beforeprint'))")
        self.assertEqual(closed(), 0)
        self.browser.execute_script("dispatchEvent(new Event('afterprint'))")
        self.assertEqual(closed(), before)

    def test_is_read_aloud(self):
        self.unfold()
        nodes = self.browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        named = lambda role: [n.get("name", {}).get("value", "") for n in nodes if n.get("role", {}).get("value") == role]
        drawings = self.browser.find_elements(By.CSS_SELECTOR, "svg")
        images = named("image") + named("img")
        self.assertEqual(len(images), len(drawings))
        self.assertTrue(all(len(name) > 10 for name in images), images)
        # each has its numbers, but for the picture, which repeats those of others
        self.assertEqual(len(self.browser.find_elements(By.CSS_SELECTOR, "figure > svg ~ details table")), len(drawings) - 1)
        self.assertGreater(len(named("columnheader")), 10)
        self.assertEqual(len(named("main")), 1)
        self.assertTrue(all(named("region")), named("region"))


if __name__ == "__main__":
    for program in ("chromium", "chromedriver"):
        if not shutil.which(program):
            print(f"SKIPPED: {program} is not installed (Debian: chromium, chromium-driver)")
            sys.exit(77)
    unittest.main()
