# SPDX-License-Identifier: Apache-2.0
"""Makes the page set of scripts/docs: build.py FOLDER. Lays the documents out in FOLDER/pages as they lie in the tree, with a
page for each public header, has MkDocs make FOLDER/site of them, and follows every link in what comes out."""

import html.parser
import os
import pathlib
import re
import shutil
import subprocess
import sys
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parents[2]
NAVIGATION = [
    ("attend", "README.md"),
    ("Use it", ["docs/using.md", "docs/llama.md", "docs/python.md", "docs/engines.md", "docs/offload.md", "docs/mpi.md", "docs/attention.md", "docs/formats.md", "docs/program.md", "docs/tuning.md", "examples/README.md"]),
    ("Reference", ["include/attend/attend.h", "include/attend/formats.h", "include/attend/append.h", "include/attend/layers.h"]),
    ("How it works", ["docs/kernels.md", "docs/numerics.md", "docs/topology.md", "docs/arm-analysis.md"]),
    ("What was measured", ["docs/performance.md", "docs/measured/kernels.md", "docs/measured/peers.md", "docs/isa-matrix.md"]),
    ("The project", ["NEWS.md", "docs/support.md", "SECURITY.md", "CONTRIBUTING.md", "docs/porting.md", "docs/naming.md"]),
]
SETTINGS = """\
site_name: attend
docs_dir: pages
site_dir: site
use_directory_urls: false
theme:
  name: material
  font: false
  features: [navigation.sections, navigation.expand, navigation.top, toc.follow, content.code.copy]
  palette:
    - {media: "(prefers-color-scheme: light)", scheme: default, primary: blue grey, toggle: {icon: material/weather-night, name: dark}}
    - {media: "(prefers-color-scheme: dark)", scheme: slate, primary: blue grey, toggle: {icon: material/weather-sunny, name: light}}
plugins: [search]
markdown_extensions: [tables, admonition, pymdownx.highlight, pymdownx.superfences, {toc: {permalink: true}}]
validation: {nav: {omitted_files: warn, not_found: warn}, links: {not_found: warn, anchors: warn, absolute_links: warn}}
nav:
"""


# ------------------------------------------------------------------------------------------------- headers as documents


def chunks(text):
    """Parts with blank lines between them, of which none is in a comment or in braces."""
    part, depth, comment = [], 0, False
    for line in text.splitlines():
        if not line.strip() and not comment and depth == 0:
            if part:
                yield part
            part = []
            continue
        part.append(line)
        code = re.sub(r"/\*.*?\*/", "", line)
        comment = ("/*" in code and "*/" not in code) or (comment and "*/" not in line)
        if not comment:
            depth = max(0, depth + code.replace('extern "C" {', "").count("{") - code.count("}"))  # the latter's end is alone
    if part:
        yield part


def words(comment):
    """A comment as Markdown: headings in capitals, code indented, nothing else that Markdown would take for its own."""
    lines = [re.sub(r"^(/\*\*| \*/| \*) ?", "", line).removesuffix("*/").rstrip() for line in comment]
    lines = [line for line in lines if not line.startswith("@file")]
    out = []
    for line in lines:
        if re.fullmatch(r"[A-Z][A-Z ]+", line):
            line = f"**{line.capitalize()}**"
        elif not line.startswith("    "):
            marker = re.match(r"(- )?", line)[0]
            line = marker + re.sub(r"([*_<|])(?=(?:[^`]*`[^`]*`)*[^`]*$)", r"\\\1", line[len(marker):])
            if marker and out and out[-1] and not out[-1].startswith(("- ", "  ")):
                out.append("")
        out.append(line)
    return "\n".join(out).strip()


def names(code):
    """What a declaration declares."""
    text = "\n".join(code)
    return (re.findall(r"}\s*(attend_\w+);", text) or re.findall(r"^typedef struct \w+ (\w+);", text, re.M) or
            re.findall(r"^ATTEND_API[^;(]*?\b(attend_\w+)\(", text, re.M) or re.findall(r"^#define (\w+)", text, re.M) or
            (re.findall(r"^  (ATTEND_\w+) = ", text, re.M) if text.startswith("enum {") else []))


def page_of(header):
    body, constants = [], False
    for number, part in enumerate(chunks(header.read_text(encoding="utf-8"))):
        ruler = re.fullmatch(r"/\* -+ (.*) \*/", part[0])
        if ruler:
            body.append(f"## {ruler[1].capitalize()}")
            constants = True
            part = part[1:]
        part = [line for line in part if not line.startswith("/* SPDX")]
        end = next(i for i, line in enumerate(part) if "*/" in line) + 1 if part and part[0].startswith("/**") else 0
        comment, code = part[:end], part[end:]
        declared = names(code) if number else []
        if declared and not comment and body[-1].endswith("```"):  # what goes with the declaration above: its _INIT
            body[-1] = body[-1].removesuffix("```") + "\n" + "\n".join(code) + "\n```"
            continue
        if declared and not constants:
            body.append("## Constants")
            constants = True
        if declared:
            body.append("### " + ", ".join(f"`{name}`" for name in declared))
        if comment:
            body.append(words(comment))
        if declared:
            body.append("```c\n" + "\n".join(code) + "\n```")
    return f"# {header.name}\n\n" + "\n\n".join(body) + "\n"


# ---------------------------------------------------------------------------------------------------------------- pages


def stage(pages):
    """The documents, and every file that they link to, at their places; a header's link leads to its page."""
    documents = [path for _, entry in NAVIGATION for path in ([entry] if isinstance(entry, str) else entry)]
    for name in documents:
        source, target = ROOT / name, pages / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".h":
            target.with_suffix(".md").write_text(page_of(source), encoding="utf-8")
            continue
        text = source.read_text(encoding="utf-8")
        for link in re.findall(r"\]\(([^)#\s]+)", text) + re.findall(r'(?:src|srcset)="([^"]+)"', text):
            if "://" in link or link.endswith(".md") or link.startswith("#"):
                continue
            linked = (source.parent / link).resolve()
            if linked.suffix != ".h" and linked.is_file():
                copy = pages / linked.relative_to(ROOT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(linked, copy)
        target.write_text(re.sub(r"(\]\([^)#\s]*include/attend/\w+)\.h", r"\1.md", text), encoding="utf-8")


def navigation():
    lines = []
    for title, entry in NAVIGATION:
        if isinstance(entry, str):
            lines.append(f"  - {title}: {entry}")
        else:
            lines += [f"  - {title}:"] + [f"    - {re.sub(r'[.]h$', '.md', name)}" for name in entry]
    return "\n".join(lines) + "\n"


# ---------------------------------------------------------------------------------------------------------------- links


class Links(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.links, self.ids = [], set()

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.ids.update(attributes[key] for key in ("id", "name") if attributes.get(key))
        self.links += [attributes[key] for key in ("href", "src", "srcset") if attributes.get(key)]


def dead_links(site):
    """Links within the site that lead nowhere, and those out of it: pages that open offline load nothing."""
    pages = {}
    for path in site.rglob("*.html"):
        pages[path] = Links()
        pages[path].feed(path.read_text(encoding="utf-8"))
    for path, page in pages.items():
        if path.name == "404.html" or "measured" in path.parts and path.name == "report.html":
            continue
        for link in page.links:
            url = urllib.parse.urlsplit(link)
            if url.scheme or url.netloc:
                continue
            target = (path.parent / urllib.parse.unquote(url.path)).resolve() if url.path else path
            fragment = urllib.parse.unquote(url.fragment)
            if not target.exists():
                yield f"{path.relative_to(site)}: {link}: there is no such file"
            elif fragment and target in pages and fragment not in pages[target].ids and not fragment.startswith("__"):
                yield f"{path.relative_to(site)}: {link}: there is no such place"


def main(folder):
    folder = pathlib.Path(folder).resolve()
    shutil.rmtree(folder / "pages", ignore_errors=True)
    stage(folder / "pages")
    (folder / "mkdocs.yml").write_text(SETTINGS + navigation(), encoding="utf-8")
    built = subprocess.run([sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-f", folder / "mkdocs.yml"],
                           env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, check=False)
    if built.returncode:
        sys.exit("scripts/docs: MkDocs did not make the pages: the lines above say why")
    dead = sorted(set(dead_links(folder / "site")))
    if dead:
        sys.exit("\n".join(dead) + f"\nscripts/docs: {len(dead)} dead links")
    print(f"{folder}/site/index.html: {sum(1 for _ in (folder / 'site').rglob('*.html'))} pages, no dead link")


if __name__ == "__main__":
    main(sys.argv[1])
