# SPDX-License-Identifier: Apache-2.0
"""Tables of what was found, the same for the page and for Markdown."""

import dataclasses

from results import BASELINE, DTYPES, SERVING, dtypes_of, one, shapes_of


@dataclasses.dataclass
class Table:
    """Cells are text, or (text, number to sort by)."""

    title: str
    columns: list
    rows: list
    note: str = ""


def time_cell(seconds):
    for unit, size in (("µs", 1e-6), ("ms", 1e-3)):
        if seconds < 999.5 * size:
            return f"{seconds / size:.3g} {unit}", seconds
    return f"{seconds:.3g} s", seconds


def size_cell(size):
    if size is None:
        return "-"
    for unit, shift in (("B", 0), ("KiB", 10), ("MiB", 20)):
        if size < 999.5 * (1 << shift):
            return f"{size / (1 << shift):.3g} {unit}", size
    return f"{size / (1 << 30):.3g} GiB", size


def number_cell(value, form="{:.2f}", factor=1.0):
    return "-" if value is None else (form.format(value * factor), value)


def ratio_cell(above, below):
    return (f"{above / below:.2f}", above / below) if above and below else "-"


def text_of(cell):
    return cell if isinstance(cell, str) else cell[0]


def kernel_name(run):
    return f"auto: {run.picked}" if run.kernel == "auto" else run.kernel


def plural(count, word):
    return f"{count} {word}{'s' * (count != 1)}"


def on_threads(name, count):
    """A machine and its threads, where there are figures of any."""
    return f"{name}, {plural(count, 'thread')}" if count else name


def standard(runs):
    """Without sequences, and without quantised keys and values, which have sections of their own."""
    return [run for run in runs if run.length is None and not run.is_format]


def fewest(runs):
    """Those on the fewest threads."""
    few = min((run.threads for run in runs), default=0)
    return [run for run in runs if run.threads == few]


def fastest_row(runs, like):
    rows = [run for run in runs if (run.shape, run.dtype, run.threads) == (like.shape, like.dtype, like.threads)
            and run.kernel not in ("auto", BASELINE)]
    return min(rows, key=lambda run: run.seconds, default=None)


def seconds(run):
    return run.seconds if run else None


def speed(source, dtype):
    """A line for every shape: what auto does, beside the best row and the baseline."""
    runs = [run for run in standard(source.runs) if run.dtype == dtype]
    counts = sorted({run.threads for run in runs})
    few, many = counts[0], counts[-1]
    rows = []
    any_row = any_baseline = False
    for shape in shapes_of(runs):
        picked = one(runs, kernel="auto", shape=shape, threads=few)
        if not picked:
            continue
        best, baseline = fastest_row(runs, picked), one(runs, kernel=BASELINE, shape=shape, threads=few)
        any_row, any_baseline = any_row or best, any_baseline or baseline
        shared = one(runs, kernel="auto", shape=shape, threads=many)
        rows.append([shape, picked.picked, time_cell(picked.seconds), number_cell(picked.flops, "{:.1f}", 1e-9),
                     number_cell(picked.of_peak), best.kernel if best else "-", ratio_cell(seconds(best), picked.seconds),
                     ratio_cell(seconds(baseline), picked.seconds), ratio_cell(picked.seconds, seconds(shared))])
    columns = ["shape", "auto picks", "time", "GFLOP/s", "of peak", "fastest row", "auto: times as fast as that row",
               "auto: times as fast as OpenBLAS", f"{many} threads: times as fast as {few}"]
    keep = [i for i in range(len(columns))
            if (any_row or i not in (5, 6)) and (any_baseline or i != 7) and (many > few or i != 8)]
    return Table(f"{source.name}: {dtype}, {plural(few, 'thread')}", [columns[i] for i in keep],
                 [[row[i] for i in keep] for row in rows])


def sequences(source):
    """Time and workspace by length: auto beside what stores scores."""
    runs = [run for run in source.runs if run.length]
    rows = []
    for run in sorted(runs, key=lambda run: (run.length, run.kernel != "auto", run.kernel)):
        rows.append([(f"{run.length:,}", run.length), kernel_name(run),
                     time_cell(run.seconds), number_cell(run.flops, "{:.1f}", 1e-9), size_cell(run.workspace),
                     size_cell(run.workspace_used)])
    note = "; ".join(f"{name.split('/')[0]} at {name.split('/')[1]}: {reason}"
                     for name, reason in source.skipped.items() if "/sequence-" in name)
    return Table(f"{source.name}: one causal head of 64, f32, 1 thread", ["keys", "kernel", "time", "GFLOP/s", "workspace", "of it used"],
                 rows, f"Left out: {note}." if note else "")


def accuracy(source):
    """The largest error at any shape, for each type and kernel that was picked or measured."""
    worst = {}
    for run in source.runs:
        if run.error is not None and run.kernel != "auto":
            key = (run.dtype, run.kernel)
        elif run.error is not None:
            key = (run.dtype, run.picked)
        else:
            continue
        if key not in worst or run.error > worst[key].error:
            worst[key] = run
    rows = [[dtype, kernel, number_cell(run.error, "{:.1e}"), number_cell(run.plain_error, "{:.1e}"), run.shape]
            for (dtype, kernel), run in sorted(worst.items(), key=lambda item: (dtypes_of(source.runs).index(item[0][0]), item[0][1]))]
    return Table(f"{source.name}: largest error", ["dtype", "kernel", "error", "plain f32 there", "at shape"], rows)


def cases_of(peers):
    """{(shape, dtype, threads): {peer: result}} in the order of the file."""
    cases = {}
    for result in peers.results:
        cases.setdefault((result["shape"], result["dtype"], result["threads"]), {})[result["peer"]] = result
    return cases


def best_peer(found):
    """The result of the fastest peer that is not attend, or None."""
    return min((result for peer, result in found.items() if peer != "attend" and "seconds" in result),
               key=lambda result: result["seconds"], default=None)


def rounds_of(result):
    """How many rounds a figure is the median of."""
    rounds = result.get("rounds")
    return len(rounds) if isinstance(rounds, list) else 0


def cannot_note(reasons):
    """{(who, reason): where}: what is alike is said once."""
    alike = {}
    for (name, reason), places in reasons.items():
        alike.setdefault((reason, ", ".join(places)), []).append(name)
    return "; ".join(f"{', '.join(names)}: {reason} ({places})" for (reason, places), names in alike.items())


def beside_peers(peers, dtype, threads):
    """A line for every shape, a column for every peer that can do one; what a peer cannot do is said below."""
    several = any(rounds_of(result) > 1 for result in peers.results)
    cases = {shape: found for (shape, d, t), found in cases_of(peers).items() if (d, t) == (dtype, threads)}
    names = [name for name in dict.fromkeys(result["peer"] for result in peers.results) if any(name in found for found in cases.values())]
    names.sort(key=lambda name: name != "attend")
    able = [name for name in names if any("seconds" in found.get(name, {}) for found in cases.values())]
    rows, reasons, short = [], {}, False
    for shape, found in cases.items():
        row = [shape]
        for name in names:
            result = found.get(name)
            if not result:
                cell = "-"
            elif "cannot" in result:
                reasons.setdefault((name, result["cannot"]), []).append(shape)
                cell = "cannot"
            else:
                cell = time_cell(result["seconds"])
                if several and rounds_of(result) == 1:
                    cell, short = (f"{cell[0]} *", cell[1]), True
            if name in able:
                row.append(cell)
        best, ours = best_peer(found), found.get("attend", {}).get("seconds")
        rows.append(row + [best["peer"] if best else "-", ratio_cell(best and best["seconds"], ours)])
    note = cannot_note(reasons)
    notes = ["* Of one round, which showed that it is not the fastest."] if short else []
    notes += ["-: not measured."] if any("-" in row[1:-2] for row in rows) else []
    notes += [f"Cannot: {note}."] if note else []
    return Table(f"{peers.name}: {dtype}, {plural(threads, 'thread')}", ["shape", *able, "best peer", "attend: times as fast as it"], rows,
                 " ".join(notes))


def peers_detail(peers):
    """Every figure of every peer."""
    rows = []
    for r in peers.results:
        if "cannot" in r:
            rows.append([r["shape"], r["dtype"], str(r["threads"]), r["peer"], *["-"] * 5, "cannot: " + r["cannot"]])
            continue
        spread = f"{text_of(time_cell(r['least']))} to {text_of(time_cell(r['most']))}"
        rows.append([r["shape"], r["dtype"], str(r["threads"]), r["peer"], time_cell(r["seconds"]), str(rounds_of(r) or "-"), spread,
                     size_cell(r.get("memory_bytes")), number_cell(r["error"], "{:.1e}"), str(r.get("setting", ""))])
    return Table(f"{peers.name}: every measurement", ["shape", "dtype", "threads", "peer", "median", "of rounds", "from, to", "memory", "error",
                                                              "setting"], rows)


def machine(source):
    """What the figures depend on."""
    context = source.context
    rows = [[title, str(context[key])] for title, key in
            (("processor", "cpu"), ("features", "cpu_features"), ("instruction set used", "isa"), ("cores", "cores"),
             ("compiler", "compiler"), ("attend", "attend_version"), ("OpenBLAS kernels for", "openblas_core"),
             ("GPU", "gpu"), ("CUDA", "cuda"), ("no GPU", "no_gpu"),
             ("threads", "threads"), ("clock", "clock"), ("date", "date"), ("system", "system")) if context.get(key)]
    rows += [[key[len("peak/"):].replace("_", " "), str(value)] for key, value in context.items() if key.startswith("peak/")]
    versions = context.get("versions")
    if isinstance(versions, dict):
        rows += [[peer, str(version)] for peer, version in versions.items() if peer != "attend"]
    return Table(f"{source.name}: machine", ["", ""], rows)


def everything(sources):
    rows = [[run.source, kernel_name(run), run.shape, run.dtype, (str(run.threads), run.threads),
             time_cell(run.seconds), number_cell(run.flops, "{:.1f}", 1e-9), number_cell(run.bytes, "{:.1f}", 1e-9),
             number_cell(run.of_peak), number_cell(run.error, "{:.1e}"), size_cell(run.workspace_used)]
            for source in sources for run in source.runs]
    return Table("Every measurement", ["run", "kernel", "shape", "dtype", "threads", "time", "GFLOP/s", "GB/s", "of peak",
                                       "error", "workspace used"], rows)


def compared(sources):
    """The speed of auto in every file beside the first."""
    first = standard(sources[0].runs)
    rows = []
    for run in first:
        if run.kernel != "auto":
            continue
        others = [one(source.runs, kernel="auto", shape=run.shape, dtype=run.dtype, threads=run.threads) for source in sources[1:]]
        if any(others):
            rows.append([run.shape, run.dtype, str(run.threads), time_cell(run.seconds),
                         *(ratio_cell(run.seconds, seconds(other)) for other in others)])
    return Table(f"Speed beside {sources[0].name}", ["shape", "dtype", "threads", sources[0].name + ", time",
                                                     *(f"{source.name}: times as fast" for source in sources[1:])], rows)


def beside_16_bits(run, runs):
    """The run that a format is held against: the same with keys and values in f16, else those of the queries' own type."""
    like = {"kernel": run.kernel, "shape": run.shape, "threads": run.threads}
    query = run.dtype.split("+")[0]
    return one(runs, dtype=f"{query}+f16", **like) or one(runs, dtype=query, **like)


def formats(source):
    """What auto does with quantised keys and values, beside 16 bits."""
    rows = []
    for run in source.runs:
        if run.kernel == "auto" and run.is_format and run.length is None:
            other = beside_16_bits(run, source.runs)
            rows.append([run.shape, run.dtype, (str(run.threads), run.threads), run.picked, time_cell(run.seconds),
                         number_cell(run.flops, "{:.1f}", 1e-9), number_cell(run.bytes, "{:.1f}", 1e-9), number_cell(run.error, "{:.1e}"),
                         other.dtype if other else "-", ratio_cell(seconds(other), run.seconds)])
    return Table(f"{source.name}: quantised keys and values", ["shape", "dtype", "threads", "kernel", "time", "GFLOP/s", "GB/s", "error",
                                                               "beside", "times as fast as that"], rows)


def serving(source, peers):
    """What a server computes: many sequences, long caches, few new tokens."""
    rows = []
    for run in sorted((run for run in source.runs if run.kernel == "auto" and run.shape in SERVING),
                      key=lambda run: (SERVING.index(run.shape), run.is_format)):
        cases = [cases_of(each).get((run.shape, run.dtype, run.threads), {}) for each in peers if each.machine == source.machine]
        found = next((found for found in cases if best_peer(found) and "seconds" in found.get("attend", {})), None)
        best = best_peer(found) if found else None
        rows.append([run.shape, run.dtype, (str(run.threads), run.threads), run.picked, time_cell(run.seconds),
                     number_cell(run.flops, "{:.1f}", 1e-9), number_cell(run.bytes, "{:.1f}", 1e-9), number_cell(run.of_peak),
                     best["peer"] if best else "-", ratio_cell(best["seconds"], found["attend"]["seconds"]) if best else "-"])
    said = dict.fromkeys(f"{row[0]}: {source.context[f'shape/{row[0]}']}" for row in rows if f"shape/{row[0]}" in source.context)
    return Table(f"{source.name}: shapes of serving", ["shape", "dtype", "threads", "kernel", "time", "GFLOP/s", "GB/s", "of peak",
                                                       "best peer", "times as fast as it"], rows, "; ".join(said))


def engine(each):
    rated = any(r.tokens for r in each.results)
    rows = []
    for r in each.results:
        rates = [(f"{rate:.1f}", rate) for rate in r.rates] if r.tokens else ["-", "-"]
        rows.append([r.model, r.what, r.cache, (f"{r.depth:,}", r.depth), time_cell(r.stock), time_cell(r.attend), *(rates if rated else []),
                     (f"{r.ratio:.2f}", r.ratio), f"{min(r.ratios):.2f} to {max(r.ratios):.2f}"])
    return Table(f"{each.name}: {each.engine} by itself and with attend", [
        "model", "what", "cache", "tokens before", "by itself", "with attend", *(["tokens/s by itself", "with attend"] if rated else []),
        "times as fast", "of rounds"], rows)


def depths_of(each, model, what):
    """The tokens in the cache at which a step was measured."""
    return sorted({r.depth for r in each.results if (r.model, r.what) == (model, what)})


def phases(source):
    rows = [[phase.isa, phase.dim, phase.name, phase.unit, (f"{phase.taken:.4g} {phase.scale}", phase.taken),
             (f"{phase.ideal:.4g} {phase.scale}", phase.ideal), ratio_cell(phase.taken, phase.ideal)] for phase in source.phases]
    return Table(f"{source.name}: phases", ["isa", "head dim", "phase", "a unit", "takes", "its limit", "times its limit"], rows)


def by_machine(found):
    """{machine: its first run of whole kernels}, where there are several machines; else nothing."""
    machines = {}
    for source in found.sources:
        if standard(source.runs):
            machines.setdefault(source.machine, source)
    return machines if len(machines) > 1 else {}


def dtypes_by_machine(found):
    """Those that more than one machine has."""
    there = [{run.dtype for run in standard(source.runs) if run.kernel == "auto"} for source in by_machine(found).values()]
    return [dtype for dtype in DTYPES if sum(dtype in each for each in there) > 1]


def machines(found, dtype):
    """A line for every shape, columns for every machine: auto on the fewest threads, and beside the best peer on the most."""
    there = by_machine(found)
    runs = {name: fewest([run for run in standard(source.runs) if run.kernel == "auto" and run.dtype == dtype])
            for name, source in there.items()}
    runs = {name: each for name, each in runs.items() if each}
    ahead = {name: ahead_of_best(found, name, dtype) for name in runs}
    columns, rows = ["shape"], []
    for name, each in runs.items():
        columns += [f"{on_threads(name, each[0].threads)}: GFLOP/s", "of peak"]
        count, ratios = ahead[name]
        columns += [f"times as fast as the best peer, {plural(count, 'thread')}"] if ratios else []
    for shape in dict.fromkeys(shape for each in runs.values() for shape in shapes_of(each)):
        row = [shape]
        for name, each in runs.items():
            run = one(each, shape=shape)
            row += [number_cell(run.flops, "{:.1f}", 1e-9), number_cell(run.of_peak)] if run else ["-", "-"]
            _, ratios = ahead[name]
            row += [number_cell(ratios.get(shape))] if ratios else []
        rows.append(row)
    return Table(f"Machines side by side, {dtype}", columns, rows)


def ahead_of_peers(peers):
    """[((shape, dtype, threads), how many times as fast as the best peer)] of the cases that both can do."""
    beside = [(case, best_peer(found), found.get("attend", {}).get("seconds")) for case, found in cases_of(peers).items()]
    return [(case, best["seconds"] / ours) for case, best, ours in beside if best and ours]


def ahead_of_best(found, machine, dtype):
    """The most threads of a machine on which both were measured, and {shape: how many times as fast as the best peer} on these."""
    ratios = {}
    for each in found.peers:
        for (shape, d, count), ratio in ahead_of_peers(each) if each.machine == machine else ():
            if d == dtype:
                ratios.setdefault(count, {})[shape] = ratio
    return max(ratios.items(), default=(0, {}), key=lambda item: item[0])
