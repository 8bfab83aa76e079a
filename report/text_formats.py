# SPDX-License-Identifier: Apache-2.0
"""The report as Markdown, and all measurements as CSV."""

import csv
import dataclasses
import io
import re

import offload
import tables
from results import Run, dtypes_of
from summary import headlines, lines, paragraphs


def escaped(text):
    """Names show as they are, whatever Markdown makes of their characters. Within a word it makes nothing of "_"."""
    return re.sub(r"[\\|<*`~]|\](?=\()|(?<!\w)_+|_+(?!\w)", lambda found: "".join("\\" + c for c in found[0]), text)


def row(cells):
    return "| " + " | ".join(escaped(tables.text_of(cell)) for cell in cells) + " |"


def markdown_table(table):
    lines = [f"### {escaped(table.title)}", "", row(table.columns), row(["---"] * len(table.columns)), *map(row, table.rows)]
    return "\n".join(lines) + "\n" + (f"\n{escaped(table.note)}\n" if table.note else "")


def about(source):
    rows = tables.machine(source).rows
    return f"### {escaped(source.name)}: machine\n\n" + "\n".join(f"- {escaped(title)}: {escaped(value)}" for title, value in rows) + "\n"


def in_short(found):
    parts = [f"- **{each.figure}** {escaped(each.text)}" for each in headlines(found)] + [f"- {escaped(line)}" for line in lines(found)]
    return "\n".join(parts) + "\n"


def markdown(found):
    """The words of the page, then its tables."""
    sources = found.sources
    parts = [in_short(found), "### In detail\n\n" + "\n\n".join(map(escaped, paragraphs(found))) + "\n"]
    for each in found.peers:
        parts.append(about(each))
        for dtype, threads in dict.fromkeys((r["dtype"], r["threads"]) for r in each.results):
            parts.append(markdown_table(tables.beside_peers(each, dtype, threads)))
    for each in found.engines:
        parts += [about(each), markdown_table(tables.engine(each))]
    for each in found.offloads:
        parts += [about(each), *map(markdown_table, offload.tables(each))]
    parts += [markdown_table(tables.machines(found, dtype)) for dtype in tables.dtypes_by_machine(found)]
    for source in sources:
        parts.append(about(source))
        parts += [markdown_table(tables.speed(source, dtype)) for dtype in dtypes_of(tables.standard(source.runs))]
        several = [tables.sequences(source), tables.accuracy(source), tables.formats(source),
                   tables.serving(source, found.peers), tables.phases(source)]
        parts += [markdown_table(table) for table in several if table.rows]
    if len(sources) > 1:
        table = tables.compared(sources)
        parts += [markdown_table(table)] if table.rows else []
    return "\n".join(parts)


def comma_separated(found):
    """A row for every measurement, peers, engines and what scripts/offload measured as kernels of their own; empty where there is no figure."""
    out = io.StringIO()
    names = [field.name for field in dataclasses.fields(Run)]
    writer = csv.DictWriter(out, names, lineterminator="\n", restval="", extrasaction="ignore")
    writer.writeheader()
    for source in found.sources:
        for run in source.runs:
            writer.writerow({key: "" if value is None else value for key, value in dataclasses.asdict(run).items()})
    for each in found.peers:
        for r in each.results:
            if "seconds" in r:
                writer.writerow({"source": each.name, "kernel": r["peer"], "picked": r.get("setting", ""), "shape": r["shape"],
                                 "dtype": r["dtype"], "threads": r["threads"], "seconds": r["seconds"], "error": r["error"],
                                 "flops": r["flops"] / r["seconds"] if r.get("flops") and r["seconds"] else "",
                                 "workspace_used": "" if r.get("memory_bytes") is None else r["memory_bytes"]})
    for each in found.engines:
        for r in each.results:
            for kernel, time in ((each.engine, r.stock), ("attend", r.attend)):
                writer.writerow({"source": each.name, "kernel": kernel, "picked": r.what, "shape": f"{r.model} after {r.depth}",
                                 "dtype": r.cache, "threads": each.context.get("threads", ""), "seconds": time})
    for each in found.offloads:
        for r in each.results:
            if "seconds" in r:
                writer.writerow({"source": each.name, "kernel": r["way"], "picked": r.get("setting", ""), "shape": r["case"], "dtype": r["dtype"],
                                 "threads": r["threads"] or "", "seconds": r["seconds"], "error": r.get("error", ""),
                                 "flops": r["flops"] / r["seconds"] if r.get("flops") else "", "bytes": r["kv_bytes"] / r["seconds"]})
    return out.getvalue()
