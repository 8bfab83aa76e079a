# SPDX-License-Identifier: Apache-2.0
"""Tables and pictures of docs/llama.md, from the newest docs/measured/MACHINE/llama.json. tests/test_docs.py holds them against it,
and writes them with --update."""

import json
import pathlib
import re
import statistics
from xml.sax.saxutils import escape

from picture import COLOURS, mark

ROOT = pathlib.Path(__file__).resolve().parents[2]
ALONE = re.compile(r"attention alone, head dim (\d+)")
PICTURED = "heads-64"
WIDTH, HEIGHT, LEFT, TOP, PANEL, GAP = 800, 360, 56, 92, 326, 76


def newest():
    """What was measured last; its processor is called as its folder is, too, because clouds hide names."""
    found = []
    for path in sorted(ROOT.glob("docs/measured/*/llama.json")):
        measured = json.loads(path.read_text(encoding="utf-8"))
        measured["context"]["cpu"] += f" ({path.parent.name})"
        found.append(measured)
    return max(found, key=lambda each: each["context"]["date"])


def rates(result):
    return [result["tokens"] / statistics.median(result[side]) for side in ("stock", "attend")]


def ratio_text(result):
    ratios = [stock / attend for stock, attend in zip(result["stock"], result["attend"])]
    return f"**{statistics.median(ratios):.2f}**" + (f" ({min(ratios):.2f}–{max(ratios):.2f})" if len(ratios) > 1 else "")


def rounds_text(results):
    counts = {len(each["stock"]) for each in results}
    least, most = min(counts), max(counts)
    return ", medians of rounds" if most == 1 else f", medians of {least} rounds" if least == most else f", medians of {least} to {most} rounds"


def nodes_table(measured):
    results = [each for each in measured["results"] if ALONE.fullmatch(each["model"])]
    lines = [f"On one thread of {measured['context']['cpu']}, {measured['context']['date'][:10]}{rounds_text(results)}:", "",
             "| cache | head dim | queries | keys | stock, ms | attend, ms | times as fast (rounds) |", "| --- | --- | --- | --- | --- | --- | --- |"]
    for each in results:
        stock, attend = (1e3 * statistics.median(each[side]) for side in ("stock", "attend"))
        lines.append(f"| {each['cache']} | {ALONE.fullmatch(each['model'])[1]} | {each['what'].split()[0]} | {each['depth']} "
                     f"| {stock:.3f} | {attend:.3f} | {ratio_text(each)} |")
    return "\n".join(lines) + "\n"


def models_table(measured):
    results = [each for each in measured["results"] if not ALONE.fullmatch(each["model"])]
    context = measured["context"]
    lines = [f"On {context['threads']} thread{'s' if context['threads'] > 1 else ''} of {context['cpu']}, {context['date'][:10]}, with and without in "
             f"turns{rounds_text(results)}:", "",
             "| model | cache | what | depth | stock, tokens/s | attend, tokens/s | times as fast (rounds) |", "| --- | --- | --- | --- | --- | --- | --- |"]
    for each in results:
        stock, attend = rates(each)
        what = "tokens one by one" if each["what"] == "token" else each["what"]
        lines.append(f"| {each['model']} | {each['cache']} | {what} | {each['depth']} | {stock:.1f} | {attend:.1f} | {ratio_text(each)} |")
    return "\n".join(lines) + "\n"


def panel(results, title, left, colours, caches):
    """Tokens a second over depth: attend filled and with a line, stock hollow and dashed."""
    depths = sorted({each["depth"] for each in results})
    deepest, bottom = max(depths[-1], 1), HEIGHT - 66
    top_rate = max(rate for each in results for rate in rates(each))
    step = next(s * 10 ** e for e in range(6) for s in (1, 2, 5) if top_rate / (s * 10 ** e) <= 5)
    ticks = range(0, int(-(-top_rate // step) * step) + 1, step)

    def place(depth, rate):
        return left + PANEL * depth / deepest, bottom - (bottom - TOP) * rate / ticks[-1]
    lines = [f'<text x="{left}" y="{TOP - 18}" font-weight="600" fill="{colours["text"]}">{escape(title)}</text>']
    for tick in ticks:
        y = place(0, tick)[1]
        lines += [f'<path d="M{left} {y:.1f}h{PANEL}" stroke="{colours["grid"]}"/>',
                  f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end" fill="{colours["faint"]}">{tick}</text>']
    for depth in depths:
        lines.append(f'<text x="{place(depth, 0)[0]:.1f}" y="{bottom + 18}" text-anchor="middle" fill="{colours["faint"]}">{depth}</text>')
    for side, dashes in ((0, ' stroke-dasharray="5 4"'), (1, "")):
        for cache, number in caches.items():
            points = sorted((each["depth"], rates(each)[side]) for each in results if each["cache"] == cache)
            colour = colours["marks"][number]
            path = "L".join("{:.1f} {:.1f}".format(*place(*point)) for point in points)
            lines.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.6"{dashes}/>')
            lines += [mark(number, *(round(at, 1) for at in place(*point)), colour) if side else
                      '<circle cx="{:.1f}" cy="{:.1f}" r="3.5" fill="none" stroke="{}" stroke-width="1.6"/>'.format(*place(*point), colour) for point in points]
    return lines


def draw(measured, theme):
    colours, context = COLOURS[theme], measured["context"]
    rows = [each for each in measured["results"] if each["model"] == PICTURED]
    caches = {name: number for number, name in enumerate(dict.fromkeys(each["cache"] for each in rows))}
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="system-ui, sans-serif" font-size="13">',
             "<title>Tokens a second of llama.cpp over the tokens in the cache, with attend and without</title>",
             f'<text x="{LEFT}" y="20" font-size="15" font-weight="600" fill="{colours["text"]}">Tokens a second over the tokens in the cache</text>']
    x = LEFT
    for name, number in caches.items():
        lines += [mark(number, x + 6, 42, colours["marks"][number]), f'<text x="{x + 18}" y="46" fill="{colours["text"]}">{escape(name)}, attend</text>']
        x += 82 + 8 * len(name)
    lines += [f'<path d="M{x} 42h26" stroke="{colours["faint"]}" stroke-width="1.6" stroke-dasharray="5 4"/>',
              f'<circle cx="{x + 13}" cy="42" r="3.5" fill="none" stroke="{colours["faint"]}" stroke-width="1.6"/>',
              f'<text x="{x + 34}" y="46" fill="{colours["text"]}">stock</text>']
    for i, (what, title) in enumerate((("token", "tokens one by one"), ("prompt of 512", "prompt of 512"))):
        lines += panel([each for each in rows if each["what"] == what], title, LEFT + i * (PANEL + GAP), colours, caches)
    lines += [f'<text x="{LEFT}" y="{HEIGHT - 14}" font-size="12" fill="{colours["faint"]}">{escape(PICTURED)}, {context["threads"]} threads of '
              f'{escape(context["cpu"])}, {context["date"][:10]}</text>', "</svg>"]
    return "\n".join(lines) + "\n"


def pictures():
    """{file: what it holds}"""
    measured = newest()
    return {ROOT / f"docs/llama/tokens-{theme}.svg": draw(measured, theme) for theme in COLOURS}
