# SPDX-License-Identifier: Apache-2.0
"""Tables and words of what scripts/offload measured: keys and values in host memory, by attend there or by a GPU."""

from crossing import crossings
from tables import Table, cannot_note, number_cell, plural, ratio_cell, rounds_of, size_cell, text_of, time_cell

WAYS = {"attend": "attend", "pytorch-cpu": "PyTorch on the CPU", "gpu-resident": "GPU, resident", "gpu-copied": "copying alone", "gpu-moved": "GPU, moved"}
KINDS = {"cache": "one new token over a cache", "tokens": "new tokens a step", "shape": "standard shapes"}
OTHERS = ("gpu-moved", "gpu-resident", "pytorch-cpu")  # that attend is held against


def name_of(way, threads):
    return f"{WAYS[way]}, {plural(threads, 'thread')}" if threads else WAYS[way]


def parts(each):
    """(kind, dtype) of all that was measured, in the order in which they are told."""
    there = dict.fromkeys((r["kind"], r["dtype"]) for r in each.results)
    return sorted(there, key=lambda part: list(KINDS).index(part[0]))


def cases(each, kind, dtype):
    """{case: {(way, threads): result}} in the order of the file."""
    found = {}
    for r in each.results:
        if (r["kind"], r["dtype"]) == (kind, dtype):
            found.setdefault(r["case"], {})[r["way"], r["threads"]] = r
    return found


def ways(found):
    """(way, threads) that could do a case at least, attend first."""
    able = dict.fromkeys(way for at in found.values() for way, r in at.items() if "seconds" in r)
    return sorted(able, key=lambda way: (list(WAYS).index(way[0]), way[1]))


def fullest(at):
    """attend on the most threads that it was measured on, or None."""
    return max((r for (way, _), r in at.items() if way == "attend" and "seconds" in r), key=lambda r: r["threads"], default=None)


def label(r):
    return {"cache": size_cell(r["kv_bytes"])[0], "tokens": str(r["tokens"]), "shape": r["case"]}[r["kind"]]


def seconds(at, way):
    return next((r["seconds"] for (name, _), r in at.items() if name == way and "seconds" in r), None)


def title(each, kind, dtype):
    return f"{each.name}: {KINDS[kind]}, {dtype}"


def times(each, kind, dtype):
    """A line for every case, a column for every way."""
    found = cases(each, kind, dtype)
    there = ways(found)
    rows, reasons = [], {}
    for at in found.values():
        first, ours = next(iter(at.values())), fullest(at)
        for (way, threads), r in at.items():
            if "cannot" in r:
                reasons.setdefault((name_of(way, threads), r["cannot"]), []).append(label(first))
        cells = [time_cell(at[way]["seconds"]) if "seconds" in at.get(way, {}) else "cannot" if way in at else "-" for way in there]
        needs = number_cell(first["kv_bytes"] / ours["seconds"], "{:.3g} GB/s", 1e-9) if ours else "-"
        rows.append([(label(first), first["kv_bytes"] if kind == "cache" else first["tokens"]) if kind != "shape" else first["case"], *cells, needs,
                     *(ratio_cell(seconds(at, way), ours and ours["seconds"]) for way in OTHERS if any(way == name for name, _ in there))])
    columns = [{"cache": "keys and values", "tokens": "new tokens", "shape": "shape"}[kind], *(name_of(*way) for way in there),
               "attend is as fast as copying at",
               *(f"attend: times as fast as {WAYS[way]}" for way in OTHERS if any(way == name for name, _ in there))]
    notes = [f"Cannot: {cannot_note(reasons)}."] if reasons else []
    if kind == "tokens" and found:
        size = size_cell(next(r["kv_bytes"] for at in found.values() for r in at.values()))[0]
        notes.append(f"Over a cache of {size}.")
        notes += [crossing.sentence for crossing in crossings([r for r in each.results if r["dtype"] == dtype])]
    return Table(title(each, kind, dtype), columns, rows, " ".join(notes))


def limits(each):
    rows = [[limit["what"], str(limit["threads"] or "-"), number_cell(limit["rate"], "{:,.1f} G" + limit["unit"], 1e-9)] for limit in each.limits]
    shared = "Limits are by the clock on the wall, and too low where others used the machine." if each.context.get("clock") else ""
    return Table(f"{each.name}: what limits both sides", ["limit", "threads", "measured"], rows, " ".join(filter(None, (shared, without_gpu(each)))))


def without_gpu(each):
    reason = each.context.get("no_gpu")
    return f"No GPU ({reason}): only the columns of the processor were measured." if reason else ""


def errors(each):
    """The largest error of each way."""
    worst = {}
    for r in each.results:
        key = (r["dtype"], r["way"])
        if r.get("error") is not None and (key not in worst or r["error"] > worst[key]["error"]):
            worst[key] = r
    rows = [[dtype, WAYS[way], number_cell(r["error"], "{:.1e}"), r["case"]] for (dtype, way), r in worst.items()]
    return Table(f"{each.name}: largest error against sums in double", ["dtype", "way", "error", "at"], rows)


def detail(each):
    """Every figure of every way."""
    rows = []
    for r in each.results:
        row = [r["case"], r["dtype"], name_of(r["way"], r["threads"])]
        if "cannot" in r:
            rows.append(row + ["-"] * 4 + ["cannot: " + r["cannot"]])
        else:
            rows.append(row + [time_cell(r["seconds"]), str(rounds_of(r) or "-"), f"{text_of(time_cell(r['least']))} to {text_of(time_cell(r['most']))}",
                               number_cell(r.get("error"), "{:.1e}"), str(r.get("setting", ""))])
    return Table(f"{each.name}: every measurement", ["case", "dtype", "way", "median", "of rounds", "from, to", "error", "setting"], rows)


def tables(each):
    return [limits(each), *(times(each, *part) for part in parts(each)), errors(each)]


# ---------------------------------------------------------------------------------------------------------------- words


def largest_cache(each):
    """What was found at the largest cache that attend was measured at, or None."""
    found = [at for kind, dtype in parts(each) if kind == "cache" for at in cases(each, kind, dtype).values() if fullest(at)]
    return max(found, key=lambda at: fullest(at)["kv_bytes"], default=None)


def decode(each):
    """Sentences on the largest cache."""
    at = largest_cache(each)
    if at:
        ours, moved = fullest(at), seconds(at, "gpu-moved")
        took = text_of(time_cell(ours["seconds"]))
        yield (f"One new token over {label(ours)} of keys and values in host memory takes attend {took} on {plural(ours['threads'], 'thread')}, as "
               f"long as copying them at {ours['kv_bytes'] / ours['seconds'] / 1e9:.1f} GB/s would.")
        if moved:
            yield f"Copied to the GPU and attended there it takes {text_of(time_cell(moved))}, {moved / ours['seconds']:.2f} times as long."


def about(each):
    sentences = list(decode(each))
    dtypes = dict.fromkeys(r["dtype"] for r in each.results)
    for dtype in dtypes:
        told = f"In {dtype}: " if len(dtypes) > 1 else ""
        sentences += [told + crossing.sentence for crossing in crossings([r for r in each.results if r["dtype"] == dtype])]
    sentences.append(without_gpu(each))
    return f"{each.name}: " + " ".join(filter(None, sentences))


def short(each):
    """The same in a line: attend on the most threads, and a cache that is copied first."""
    first = crossings([r for r in each.results if r["dtype"] == each.results[0]["dtype"]])
    first = [crossing for crossing in first if crossing.moving == first[0].moving]
    sentences = [*decode(each), *(max(first, key=lambda crossing: crossing.threads).sentence for _ in first[:1]), without_gpu(each)]
    return f"{each.name}: " + " ".join(filter(None, sentences))


def headline(each):
    """(figure, text) of the largest cache, or None."""
    at = largest_cache(each)
    if not at:
        return None
    ours, moved = fullest(at), seconds(at, "gpu-moved")
    if moved:
        return f"{moved / ours['seconds']:.2f}×", f"as fast as moving {label(ours)} of keys and values to the GPU for one new token ({each.name})"
    return (f"{ours['kv_bytes'] / ours['seconds'] / 1e9:.1f} GB/s",
            f"are what copying {label(ours)} of keys and values to a GPU would need to be as fast as attend where they lie ({each.name})")
