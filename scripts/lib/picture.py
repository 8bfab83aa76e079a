# SPDX-License-Identifier: Apache-2.0
"""Draws how many times as fast as other packages attend is, from the newest docs/measured/MACHINE/peers.json: docs/measured/peers-light.svg
and peers-dark.svg, which the README shows. tests/test_docs.py holds them against the figures, and writes them with --update."""

import json
import math
import pathlib
from xml.sax.saxutils import escape

MEASURED = pathlib.Path(__file__).resolve().parents[2] / "docs/measured"
PACKAGES = {"PyTorch": "pytorch", "ONNX Runtime": "onnxruntime", "OpenVINO": "openvino", "ggml": "ggml", "vLLM": "vllm"}
# colours that people who see fewer of them tell apart (Okabe and Ito), and shapes besides
COLOURS = {"light": {"text": "#1f2328", "faint": "#59636e", "grid": "#d1d9e0", "marks": ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#8c6d1f")},
           "dark": {"text": "#f0f6fc", "faint": "#9198a1", "grid": "#3d444d", "marks": ("#f0883e", "#56b4e9", "#3fd0a0", "#e8a0c8", "#d9c24e")}}
WIDTH, LEFT, RIGHT, TOP, ROW = 800, 130, 20, 76, 22


def ratios(results, dtype, threads):
    """{shape: {package: how many times attend's time its fastest way takes}}"""
    times = {}
    for each in results:
        if each["dtype"] == dtype and each["threads"] == threads and "seconds" in each:
            package = next((name for name, peer in PACKAGES.items() if each["peer"].startswith(peer)), each["peer"])
            row = times.setdefault(each["shape"], {})
            row[package] = min(each["seconds"], row.get(package, math.inf))
    beside = {shape: {name: row[name] / row["attend"] for name in PACKAGES if name in row} for shape, row in times.items() if "attend" in row}
    return {shape: row for shape, row in beside.items() if row}


def mark(number, x, y, colour):
    if number == 0:
        return f'<circle cx="{x:.1f}" cy="{y}" r="5" fill="{colour}"/>'
    if number == 1:
        return f'<rect x="{x - 4.5:.1f}" y="{y - 4.5}" width="9" height="9" fill="{colour}"/>'
    corners = {2: "l6 10.5h-12z", 3: "l6 6l-6 6l-6 -6z", 4: "m-6 1.5h12l-6 10.5z"}[number]
    return f'<path d="M{x:.1f} {y - 6}{corners}" fill="{colour}"/>'


def draw(measured, theme):
    dtype, threads = "f32", max(each["threads"] for each in measured["results"])
    rows, colours, context = ratios(measured["results"], dtype, threads), COLOURS[theme], measured["context"]
    packages = {name: number for number, name in enumerate(PACKAGES) if any(name in row for row in rows.values())}
    values = [ratio for row in rows.values() for ratio in row.values()]
    least, most = 2 ** math.floor(math.log2(min(1, *values))), 2 ** math.ceil(math.log2(max(values)))
    bottom = TOP + ROW * len(rows)

    def place(ratio):
        return LEFT + (WIDTH - LEFT - RIGHT) * math.log2(ratio / least) / math.log2(most / least)
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 58}" font-family="system-ui, sans-serif" font-size="13">',
             f'<title>attend beside {escape(", ".join(packages))}</title>',
             f'<text x="{LEFT}" y="20" font-size="15" font-weight="600" fill="{colours["text"]}">attend is so many times as fast as</text>']
    x = LEFT
    for name, number in packages.items():
        lines += [mark(number, x + 6, 42, colours["marks"][number]), f'<text x="{x + 18}" y="46" fill="{colours["text"]}">{name}</text>']
        x += 44 + 8 * len(name)
    tick = least
    while tick <= most:
        at, strong = place(tick), tick == 1
        lines += [f'<path d="M{at:.1f} {TOP - 8}V{bottom}" stroke="{colours["text" if strong else "grid"]}" stroke-width="{1.5 if strong else 1}"/>',
                  f'<text x="{at:.1f}" y="{bottom + 18}" text-anchor="middle" fill="{colours["faint"]}">{tick:g}{"" if tick != 1 else ": equal"}</text>']
        tick *= 2
    for line, (shape, row) in enumerate(rows.items()):
        y = TOP + ROW * line + ROW // 2 - 4
        lines.append(f'<text x="{LEFT - 10}" y="{y + 4}" text-anchor="end" fill="{colours["text"]}">{escape(shape)}</text>')
        lines += [mark(number, place(row[name]), y, colours["marks"][number]) for name, number in packages.items() if name in row]
    lines += [f'<text x="{LEFT}" y="{bottom + 44}" font-size="12" fill="{colours["faint"]}">{dtype}, {threads} threads of {escape(context["cpu"])}'
              f' ({escape(context["isa"])}), {context["date"][:10]}, attend {context["attend_version"]}; each package in the fastest of its ways</text>', "</svg>"]
    return "\n".join(lines) + "\n"


def pictures():
    """{file: what it holds}"""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(MEASURED.glob("*/peers.json"))]
    measured = max(found, key=lambda each: each["context"]["date"])
    return {MEASURED / f"peers-{theme}.svg": draw(measured, theme) for theme in COLOURS}
