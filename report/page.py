# SPDX-License-Identifier: Apache-2.0
"""The page: one file, no request to anywhere, readable without its script."""

import html
import itertools
import pathlib

import offload
import plots
import tables
from results import SERVING, dtypes_of, one, shapes_of
from summary import headlines, lines, paragraphs
from tables import plural, standard

HERE = pathlib.Path(__file__).resolve().parent
numbers = itertools.count(1)


def escaped(text):
    return html.escape(str(text), quote=True)


def table(found, sortable=True):
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


def figures(parts):
    return ["<div class=figures>" + "".join(parts) + "</div>"] if any(parts) else []


def first_open(parts, arranged=figures):
    """Of [(name, figures)] the first, and the rest behind their names."""
    parts = [(name, "".join(arranged(drawn))) for name, drawn in parts if any(drawn)]
    rest = [f"<details class=more><summary>{escaped(name)}</summary>{each}</details>" for name, each in parts[1:]]
    return [each for _, each in parts[:1]] + rest


def each_of(files, draw, arranged=figures):
    """What is drawn of each file."""
    return first_open([(each.name, list(draw(each))) for each in files], arranged)


def peers_figures(each):
    for dtype, count in dict.fromkeys((r["dtype"], r["threads"]) for r in each.results):
        data = tables.beside_peers(each, dtype, count)
        title = f"{each.name}: attend beside other packages, {dtype}, {plural(count, 'thread')}"
        yield figure(plots.peers(each, dtype, count, escaped(title)), title + ".", data) or table(data)


def peers_part(peers):
    return each_of(peers, peers_figures) + [
        f"<details><summary>Every measurement of {escaped(each.name)}</summary>{table(tables.peers_detail(each))}</details>" for each in peers]


def engine_figures(each):
    data = tables.engine(each)
    steps = list(dict.fromkeys((r.model, r.what) for r in each.results))
    single = [step for step in steps if len(tables.depths_of(each, *step)) == 1]
    numbers_of = lambda title, wanted: tables.Table(title, data.columns, [row for row in data.rows if tuple(row[:2]) in wanted])
    for model, what in steps:
        if (model, what) not in single:
            title = f"{each.name}: {each.engine} with attend, {model}, {what}"
            yield figure(plots.engine(each, model, what, escaped(title)), title + ".", numbers_of(title, [(model, what)]))
    if single:
        title = f"{each.name}: {each.engine} with attend, one depth of the cache each"
        yield figure(plots.engine_steps(each, single, escaped(title)), title + ".", numbers_of(title, single))


def offload_figures(each):
    yield table(offload.limits(each))
    for kind, dtype in offload.parts(each):
        title, data = escaped(offload.title(each, kind, dtype)), offload.times(each, kind, dtype)
        drawing = plots.offload_shapes(each, dtype, title) if kind == "shape" else plots.offload_lines(each, kind, dtype, title)
        yield figure(drawing, offload.title(each, kind, dtype) + ".", data) or table(data)


def offload_part(offloads):
    return each_of(offloads, offload_figures) + [
        f"<details><summary>Errors and every measurement of {escaped(each.name)}</summary>{table(offload.errors(each))}{table(offload.detail(each))}</details>"
        for each in offloads]


def machines_part(found):
    """Machines side by side, where there are several."""
    parts = []
    for dtype in tables.dtypes_by_machine(found):
        title = f"Machines side by side, {dtype}"
        data = tables.machines(found, dtype)
        parts.append(figure(plots.machines(found, dtype, escaped(title)), title + ", the library's choice on the fewest threads measured.", data)
                     or table(data))
    if len({each.machine for each in found.peers}) > 1:
        for dtype in dict.fromkeys(r["dtype"] for each in found.peers for r in each.results):
            title = f"Machines beside other packages, {dtype}"
            ahead = {name: tables.ahead_of_best(found, name, dtype) for name in dict.fromkeys(each.machine for each in found.peers)}
            rows = [[shape, *(tables.number_cell(ratios.get(shape)) for _, ratios in ahead.values())]
                    for shape in dict.fromkeys(shape for _, ratios in ahead.values() for shape in ratios)]
            parts.append(figure(plots.machines_ahead(ahead, dtype, escaped(title)), title + ", on the most threads measured.",
                                tables.Table(title, ["shape", *(f"{tables.on_threads(name, count)}: times as fast"
                                                       for name, (count, _) in ahead.items())], rows)))
    return figures(parts)


def speed_figures(source):
    for dtype in dtypes_of(standard(source.runs)):
        title = f"{source.name}: speed of every kernel by shape, {dtype}"
        if any(run.dtype == dtype and run.flops for run in standard(source.runs)):
            yield figure(plots.speed(source, dtype, escaped(title)), title + ", on the fewest threads measured.", tables.speed(source, dtype))


def roofline_figures(source):
    for dtype in dtypes_of(standard(source.runs)):
        for isa in dict.fromkeys(run.isa for run in standard(source.runs) if run.dtype == dtype and run.isa and run.flops and run.bytes):
            title = f"{source.name}: roofline of {isa}, {dtype}"
            drawing, points = plots.roofline(source, dtype, isa, escaped(title))
            data = tables.Table(title, ["shape", "operations / byte", "GFLOP/s", "of peak", "kernel"], [
                [run.shape, (f"{run.flops / run.bytes:.1f}", run.flops / run.bytes),
                 tables.number_cell(run.flops, "{:.1f}", 1e-9), tables.number_cell(run.of_peak), run.picked] for run in points])
            yield figure(drawing, f"{title}: the fastest kernel at each shape, below the limits measured.", data)


def phases_figures(source):
    data = tables.phases(source)
    for isa, unit, scale in dict.fromkeys((phase.isa, phase.unit, phase.scale) for phase in source.phases):
        title = f"{source.name}: phases of {isa}, {unit}"
        found = [phase for phase in source.phases if (phase.isa, phase.unit, phase.scale) == (isa, unit, scale)]
        yield figure(plots.phases(found, escaped(title)), title + ": times of the limit beside the bars.", tables.Table(
            title, data.columns, [row for row, phase in zip(data.rows, source.phases) if phase in found]))


def threads_figures(source):
    for dtype in dtypes_of(standard(source.runs)):
        runs = [run for run in standard(source.runs) if run.kernel == "auto" and run.dtype == dtype]
        counts = sorted({run.threads for run in runs})
        if len(counts) < 2:
            continue
        title = f"{source.name}: more threads, {dtype}"
        rows = [[shape, *(tables.time_cell(run.seconds) if (run := one(runs, shape=shape, threads=n)) else "-" for n in counts)]
                for shape in shapes_of(runs)]
        yield figure(plots.threads(source, dtype, escaped(title)), title + ": times as fast as the fewest threads.",
                     tables.Table(title, ["shape", *(plural(n, "thread") for n in counts)], rows))


def sequence_figures(source):
    data = tables.sequences(source)
    if not data.rows:
        return
    title = f"{source.name}: time by length"
    yield figure(plots.sequence(source, lambda run: run.seconds * 1e3, "milliseconds", escaped(title)), title + ".", data)
    title = f"{source.name}: workspace used by length"
    yield figure(plots.sequence(source, lambda run: (run.workspace_used or 0) / (1 << 20), "MiB", escaped(title)),
                 title + ", as seen after a run. Flat is what streaming is for.", data)


def formats_figures(source):
    data = tables.formats(source)
    if data.rows:
        title = f"{source.name}: quantised keys and values, by shape"
        yield figure(plots.formats(source, escaped(title)), title + ", on the fewest threads measured.", data) or table(data)


def accuracy_figures(source):
    for dtype in dtypes_of(standard(source.runs)):
        title = f"{source.name}: error by shape, {dtype}"
        if any(run.dtype == dtype and run.kernel == "auto" and run.error for run in standard(source.runs)):
            yield figure(plots.accuracy(source, dtype, escaped(title)), title + ", against sums in double.", tables.accuracy(source))


def serving_part(sources, peers):
    return each_of(sources, lambda source: [table(data)] if (data := tables.serving(source, peers)).rows else [], list)


def compared_part(sources):
    if len(sources) < 2 or not standard(sources[0].runs):
        return []
    title, data = f"The library's choice beside {sources[0].name}", tables.compared(sources)
    return figures([figure(plots.compared(sources, escaped(title)), title + ".", data) or table(data)] if data.rows else [])


def left_out(sources, offloads):
    rows = [[source.name, name, reason] for source in sources for name, reason in (source.skipped | source.failed).items()]
    rows += [[each.name, str(case.get("case")), str(case.get("reason"))] for each in offloads for case in each.context.get("left_out") or []
             if isinstance(case, dict)]
    return [table(tables.Table("Not measured", ["run", "benchmark", "reason"], rows))] if rows else []


def picture(found):
    """The one that says most: beside other packages, inside an engine, beside the limits of the machine."""
    for each in found.peers[:1]:
        title = f"{each.name}: attend beside the fastest other package"
        if drawing := plots.best_of_peers(each, escaped(title)):
            return drawing, title + "; right of the line attend is ahead."
    for each in found.engines[:1]:
        r = each.results[0]
        title = f"{each.name}: {each.engine} with attend, {r.model}, {r.what}"
        return plots.engine(each, r.model, r.what, escaped(title)), title + "; above the line attend is ahead."
    for each in [] if found.sources else found.offloads[:1]:
        kind, dtype = offload.parts(each)[0]
        title = offload.title(each, kind, dtype)
        if drawing := plots.offload_shapes(each, dtype, escaped(title)) if kind == "shape" else plots.offload_lines(each, kind, dtype, escaped(title)):
            return drawing, title + "."
    for source in found.sources[:1]:
        title = f"{source.name}: what the library's choice reaches of the limit of the machine"
        if drawing := plots.best_of_limits(source, escaped(title)):
            return drawing, title + "."
    return "", ""


def in_short(found):
    """Three figures, a picture, at most five lines, and the rest behind them."""
    top = "".join(f"<p class=headline><strong>{escaped(each.figure)}</strong> {escaped(each.text)}</p>" for each in headlines(found))
    drawing, caption = picture(found)
    drawing = f"<figure>{drawing}<figcaption>{escaped(caption)}</figcaption></figure>" if drawing else ""
    points = "".join(f"<li>{escaped(line)}</li>" for line in lines(found))
    points = f"<ul>{points}</ul>" if points else ""
    rest = "".join(f"<p>{escaped(text)}</p>" for text in paragraphs(found))
    rest = f"<details class=more><summary>In more words</summary>{rest}</details>" if rest else ""
    return f"<div class=headlines>{top}</div><div class=short>{drawing}<div>{points}{rest}</div></div>"


def page(found):
    sources, peers, engines = found.sources, found.peers, found.engines
    everyone = [*sources, *peers, *engines, *found.offloads]
    dates = sorted({str(each.context["date"])[:10] for each in everyone if each.context.get("date")})
    cpus = dict.fromkeys(str(each.context["cpu"]) for each in everyone if each.context.get("cpu"))
    everything = tables.everything(sources)
    sections = [
        section("peers", "Beside other packages", peers_part(peers),
                "Same inputs, a process each, rounds that take turns, each package called in the fastest of the ways that were tried."),
        section("engines", "Inside engines", each_of(engines, engine_figures),
                "The same steps by the engine's own attention and by attend's, in rounds that take turns."),
        section("offload", "Beside a GPU", offload_part(found.offloads),
                "Keys and values in host memory: attended there by attend, or moved to a GPU. Beside a GPU attend's times include fetching q "
                "from it and sending out back; to the GPU go q, keys and values."),
        section("machines", "Machines side by side", machines_part(found)),
        section("compared", "Run against run", compared_part(sources)),
        section("speed", "Speed by shape", each_of(sources, speed_figures)),
        section("serving", "Serving", serving_part(sources, peers),
                f"What a server computes: {', '.join(SERVING)}. Many sequences, long caches, few new tokens."),
        section("formats", "Quantised keys and values", each_of(sources, formats_figures),
                "The same shapes with keys and values in formats of 4 to 8 bits, beside 16 bits."),
        section("roofline", "Rooflines", each_of(sources, roofline_figures),
                "A point on a line could not be faster on this machine: the slanted lines are reading, the level one is arithmetic."),
        section("phases", "Phases of kernels", each_of(sources, phases_figures),
                "Parts of a kernel's work, each alone, beside what they would take if nothing but their own limit held them up."),
        section("threads", "Threads", each_of(sources, threads_figures)),
        section("length", "Time and memory by length", each_of(sources, sequence_figures)),
        section("accuracy", "Accuracy", each_of(sources, accuracy_figures)),
        section("all", "Every measurement", [table(everything)] if everything.rows else []),
        section("left-out", "Left out", left_out(sources, found.offloads)),
        section("machine", "Machine", ["<div class=figures>" + "".join(table(tables.machine(each), False) for each in everyone) + "</div>"]),
    ]
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
<section id="summary" aria-labelledby="summary-h"><h2 id="summary-h">In short</h2>{in_short(found)}</section>
{"".join(text for text, _ in sections)}
</main>
<footer><p>Made by <code>attend report</code>. “Of peak” is the larger of two fractions, of the arithmetic limit and of plain reading, both probed
beside each benchmark. Operations are useful ones: attended pairs × 2 (D + Dv).</p></footer>
<script>{(HERE / "page.js").read_text(encoding="utf-8")}</script>
</body>
</html>
"""
