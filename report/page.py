# SPDX-License-Identifier: Apache-2.0
"""The page: one file, no request to anywhere, readable without its script."""

import html
import itertools
import pathlib

import plots
import tables
from results import dtypes_of, one, shapes_of
from summary import paragraphs

HERE = pathlib.Path(__file__).resolve().parent
numbers = itertools.count(1)


def escaped(text):
    return html.escape(str(text), quote=True)


def plural(count, word):
    return f"{count} {word}{'s' * (count != 1)}"


def table(found, sortable=False):
    """A table of tables.py. Numbers keep their value for sorting, whatever they look like."""
    kinds = ["number" if any(isinstance(row[i], tuple) for row in found.rows) else "text" for i in range(len(found.columns))]
    head = "".join(f'<th scope="col" class="{kind}">'
                   + (f'<button type="button">{escaped(column)}</button>' if sortable else escaped(column)) + "</th>"
                   for column, kind in zip(found.columns, kinds))
    body = "".join("<tr>" + "".join(
        f'<td class="{kind}" data-value="{cell[1]!r}">{escaped(cell[0])}</td>' if isinstance(cell, tuple)
        else f'<td class="{kind}">{escaped(cell)}</td>' for cell, kind in zip(row, kinds)) + "</tr>" for row in found.rows)
    name = f"t{next(numbers)}"
    head = f"<thead><tr>{head}</tr></thead>" if any(found.columns) else ""
    note = f"<p class=note>{escaped(found.note)}</p>" if found.note else ""
    return (f'<div class=scroll role=region tabindex=0 aria-labelledby={name}><table{" class=sortable" if sortable else ""}>'
            f"<caption id={name}>{escaped(found.title)}</caption>{head}<tbody>{body}</tbody></table></div>{note}")


def figure(drawing, caption, data):
    """A drawing, what it shows in words, and its numbers."""
    if not drawing:
        return ""
    return (f"<figure>{drawing}<figcaption>{escaped(caption)}</figcaption>"
            f"<details><summary>The numbers</summary>{table(data)}</details></figure>")


def section(name, title, parts, lead=""):
    content = "".join(parts)
    if not content:
        return "", ""
    lead = f"<p>{escaped(lead)}</p>" if lead else ""
    return f'<section id="{name}" aria-labelledby="{name}-h"><h2 id="{name}-h">{title}</h2>{lead}{content}</section>', \
        f'<a href="#{name}">{title}</a>'


def peers_part(peers):
    parts = []
    for each in peers:
        drawn = []
        for dtype, count in dict.fromkeys((r["dtype"], r["threads"]) for r in each.results):
            data = tables.beside_peers(each, dtype, count)
            title = f"{each.name}: times of the peers beside attend's, {dtype}, {plural(count, 'thread')}"
            drawn.append(figure(plots.peers(each, dtype, count, escaped(title)), title + ".", data) or table(data))
        parts += figures(drawn)
        parts.append(f"<details><summary>Every measurement of {escaped(each.name)}</summary>{table(tables.peers_detail(each), True)}</details>")
    return parts


def speed_part(sources):
    parts = []
    for source in sources:
        for dtype in dtypes_of(tables.standard(source.runs)):
            title = f"{source.name}: speed of every kernel by shape, {dtype}"
            if any(run.dtype == dtype and run.flops for run in tables.standard(source.runs)):
                parts.append(figure(plots.speed(source, dtype, escaped(title)), title + ", on the fewest threads measured.",
                                    tables.speed(source, dtype)))
    return figures(parts)


def figures(parts):
    return ["<div class=figures>" + "".join(parts) + "</div>"] if any(parts) else []


def roofline_part(sources):
    parts = []
    for source in sources:
        for dtype in dtypes_of(tables.standard(source.runs)):
            isas = dict.fromkeys(run.isa for run in tables.standard(source.runs)
                                 if run.dtype == dtype and run.isa and run.flops and run.bytes)
            for isa in isas:
                title = f"{source.name}: roofline of {isa}, {dtype}"
                drawing, points = plots.roofline(source, dtype, isa, escaped(title))
                data = tables.Table(title, ["", "shape", "operations / byte", "GFLOP/s", "of peak", "kernel"], [
                    [str(i), run.shape, (f"{run.flops / run.bytes:.1f}", run.flops / run.bytes),
                     tables.number_cell(run.flops, "{:.1f}", 1e-9), tables.number_cell(run.of_peak), run.picked]
                    for i, run in enumerate(points, 1)])
                key = ", ".join(f"{i} {run.shape}" for i, run in enumerate(points, 1))
                parts.append(figure(drawing, f"{title}: the fastest kernel at each shape, below the limits measured. {key}.", data))
    return figures(parts)


def threads_part(sources):
    parts = []
    for source in sources:
        for dtype in dtypes_of(tables.standard(source.runs)):
            runs = [run for run in tables.standard(source.runs) if run.kernel == "auto" and run.dtype == dtype]
            counts = sorted({run.threads for run in runs})
            if len(counts) < 2:
                continue
            title = f"{source.name}: more threads, {dtype}"
            rows = [[shape, *(tables.time_cell(run.seconds) if (run := one(runs, shape=shape, threads=n)) else "-" for n in counts)]
                    for shape in shapes_of(runs)]
            parts.append(figure(plots.threads(source, dtype, escaped(title)), title + ": times as fast as the fewest threads.",
                                tables.Table(title, ["shape", *(plural(n, "thread") for n in counts)], rows)))
    return figures(parts)


def sequence_part(sources):
    parts = []
    for source in sources:
        data = tables.sequences(source)
        if not data.rows:
            continue
        title = f"{source.name}: time by length"
        parts.append(figure(plots.sequence(source, lambda run: run.seconds * 1e3, "milliseconds", escaped(title)), title + ".", data))
        title = f"{source.name}: workspace used by length"
        parts.append(figure(plots.sequence(source, lambda run: (run.workspace_used or 0) / (1 << 20), "MiB", escaped(title)),
                            title + ", as seen after a run. Flat is what streaming is for.", data))
    return figures(parts)


def accuracy_part(sources):
    parts = []
    for source in sources:
        for dtype in dtypes_of(tables.standard(source.runs)):
            title = f"{source.name}: error by shape, {dtype}"
            if any(run.dtype == dtype and run.kernel == "auto" and run.error for run in tables.standard(source.runs)):
                parts.append(figure(plots.accuracy(source, dtype, escaped(title)), title + ", against sums in double.", tables.accuracy(source)))
    return figures(parts)


def compared_part(sources):
    if len(sources) < 2:
        return []
    title = f"The library's choice beside {sources[0].name}"
    return figures([figure(plots.compared(sources, escaped(title)), title + ".", tables.compared(sources))])


def left_out(sources):
    rows = [[source.name, name, reason] for source in sources for name, reason in (source.skipped | source.failed).items()]
    return [table(tables.Table("Not measured", ["run", "benchmark", "reason"], rows))] if rows else []


def page(sources, peers):
    dates = sorted({str(each.context["date"])[:10] for each in [*peers, *sources] if each.context.get("date")})
    cpus = dict.fromkeys(str(each.context["cpu"]) for each in [*sources, *peers] if each.context.get("cpu"))
    everything = tables.everything(sources)
    search = '<p><label>Show rows with <input id=filter type=search autocomplete=off></label> <span id=shown role=status></span></p>'
    sections = [
        section("peers", "Beside other packages", peers_part(peers),
                "Same inputs, a process each, rounds that take turns, each package called in the fastest of the ways that were tried."),
        section("compared", "Run against run", compared_part(sources)),
        section("speed", "Speed by shape", speed_part(sources)),
        section("roofline", "Rooflines", roofline_part(sources),
                "A point on a line could not be faster on this machine: the slanted lines are reading, the level one is arithmetic."),
        section("threads", "Threads", threads_part(sources)),
        section("length", "Time and memory by length", sequence_part(sources)),
        section("accuracy", "Accuracy", accuracy_part(sources)),
        section("all", "Every measurement", [search, table(everything, True)] if everything.rows else []),
        section("left-out", "Left out", left_out(sources)),
        section("machine", "Machine", ["<div class=figures>" + "".join(table(tables.machine(each)) for each in [*sources, *peers]) + "</div>"]),
    ]
    summary = "".join(f"<p>{escaped(text)}</p>" for text in paragraphs(sources, peers))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:">
<title>attend: benchmark report</title>
<link rel="icon" href="data:,">
<style>{(HERE / "page.css").read_text(encoding="utf-8")}</style>
</head>
<body>
<header><h1>attend: benchmark report</h1><p>{escaped(", ".join(cpus))}{" · " if cpus and dates else ""}{escaped(" to ".join(dict.fromkeys([dates[0], dates[-1]])) if dates else "")}</p></header>
<nav aria-label="Sections">{"".join(link for _, link in sections)}</nav>
<main>
<section id="summary" aria-labelledby="summary-h"><h2 id="summary-h">In short</h2>{summary}</section>
{"".join(text for text, _ in sections)}
</main>
<footer><p>Made by <code>attend report</code>. “Of peak” is the larger of two fractions, of the arithmetic limit and of plain reading, both probed
beside each benchmark. Operations are useful ones: attended pairs × 2 (D + Dv).</p></footer>
<script>{(HERE / "page.js").read_text(encoding="utf-8")}</script>
</body>
</html>
"""
