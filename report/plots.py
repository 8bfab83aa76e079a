# SPDX-License-Identifier: Apache-2.0
"""The figures, drawn by matplotlib as SVG that takes its colours and its font from the page around it."""

import io
import itertools
import math
import re

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

import offload as beside_gpu
from results import BASELINE, dtypes_of, one, shapes_of
from tables import ahead_of_peers, beside_16_bits, best_peer, by_machine, cases_of, fewest, on_threads, plural, size_cell, standard

# Stand-ins that become variables of the style sheet, so that one drawing serves light, dark and print.
INK, GRID, FAINT = "#010203", "#010204", "#010205"
SERIES = ["#010211", "#010212", "#010213", "#010214", "#010215", "#010216", "#010217", "#010218"]
VARIABLES = {INK: "var(--ink)", GRID: "var(--grid)", FAINT: "var(--faint)"} | {c: f"var(--s{i})" for i, c in enumerate(SERIES, 1)}
MARKERS = "osD^vPX*<>"  # more than colours, so that the ninth of a figure is not taken for the first
WIDTH = 5.6  # inches of 72 points: what fits a telephone without becoming too small to read
FONT = "DejaVu Sans"

matplotlib.rcParams.update({
    "svg.fonttype": "none", "svg.hashsalt": "attend", "font.family": "sans-serif", "font.sans-serif": [FONT], "font.size": 10,
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": GRID, "xtick.color": INK, "ytick.color": INK,
    "grid.color": GRID, "grid.linewidth": 0.6, "axes.grid": True, "axes.axisbelow": True, "axes.spines.top": False,
    "axes.spines.right": False, "legend.frameon": False, "legend.fontsize": 9, "savefig.transparent": True,
    "text.parse_math": False,  # a dollar in a name is a dollar
})

numbers = itertools.count(1)


def svg(figure, title):
    """The drawing, with names of its own and its title as what a screen reader says."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    plt.close(figure)
    text = out.getvalue()
    text = text[text.index("<svg"):]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    prefix = f"f{next(numbers)}-"
    text = re.sub(r'\bid="', f'id="{prefix}', text)
    text = re.sub(r'(xlink:href="#|href="#|url\(#)', rf"\1{prefix}", text)
    for stand_in, variable in VARIABLES.items():
        text = text.replace(stand_in, variable)
    text = re.sub(r"(font: [^;\"']*?)'" + FONT + r"'[^;\"]*", r"\1var(--font)", text)
    width = re.search(r'width="([\d.]+)pt"', text)[1]
    # A function, because a title may have backslashes.
    text = re.sub(r'<svg[^>]*?viewBox="([^"]*)"[^>]*>', lambda found:
                  f'<svg role="img" aria-label="{title}" viewBox="{found[1]}" style="max-width:{float(width) * 1.25:.0f}px" '
                  'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">', text, count=1)
    return re.sub(r">\s+<(?!/?t)", "><", text)


def logarithmic(axis, low, high):
    """A scale with a mark at 1, 2 and 5 of every decade, or where that is too much, at 1."""
    axis.axes.set(**{axis.axis_name + "scale": "log", axis.axis_name + "lim": (low, high)})
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)))
    ticks = [m * 10.0**e for e in decades for m in ((1, 2, 5) if len(decades) <= 3 else (1,))] + [10.0 ** (decades[-1] + 1)]
    axis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def by_shape(shapes):
    """Axes with a line for every shape, the first on top."""
    figure, axes = plt.subplots(figsize=(WIDTH, 1.25 + 0.27 * len(shapes)), layout="constrained")
    axes.set_yticks(range(len(shapes)), shapes)
    axes.set_ylim(len(shapes) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    return figure, axes


def shown(name):
    """A name as a label: matplotlib leaves those that begin with "_" out of the legend. SVG does not draw a space at the beginning."""
    return " " + name if name.startswith("_") else name


def legend(axes, columns=2):
    if not axes.get_legend_handles_labels()[0]:
        return  # matplotlib would say so on standard error
    axes.legend(bbox_to_anchor=(0, 1.01), loc="lower left", ncols=columns, handletextpad=0.4, columnspacing=1.2, borderaxespad=0)


def speed(source, dtype, title):
    """Every kernel at every shape, the library's choice marked."""
    runs = fewest([run for run in standard(source.runs) if run.dtype == dtype and run.flops])
    shapes = shapes_of(runs)
    place = {shape: i for i, shape in enumerate(shapes)}
    figure, axes = by_shape(shapes)
    kinds = [("other kernels", lambda run: run.kernel not in ("auto", BASELINE), dict(marker="|", color=FAINT, s=60, linewidths=1.6)),
             ("OpenBLAS by hand", lambda run: run.kernel == BASELINE, dict(marker="x", color=SERIES[1], s=34, linewidths=1.6)),
             ("the library's choice", lambda run: run.kernel == "auto", dict(marker="o", color=SERIES[0], s=40))]
    for label, which, style in kinds:
        points = [run for run in runs if which(run)]
        if points:
            axes.scatter([run.flops / 1e9 for run in points], [place[run.shape] for run in points], label=label, **style)
    peak = [run.peak_flops for run in runs if run.kernel == "auto" and run.peak_flops]
    if peak:
        axes.axvline(max(peak) / 1e9, color=INK, linewidth=1, linestyle=(0, (4, 3)), label="arithmetic limit")
    axes.set_xlim(left=0)
    axes.set_xlabel("GFLOP/s, useful operations")
    legend(axes)
    return svg(figure, title)


def place_names(axes, points, line=None, size=8):
    """Writes a name beside every point, where it covers no other name, no point and not the level line; and draws a line to it where
    that is not near."""
    figure = axes.figure
    figure.draw_without_rendering()  # settles where the axes lie
    figure.set_layout_engine("none")
    box, scale = axes.get_window_extent(), figure.dpi / 72
    height, wide = 1.15 * size * scale, 0.56 * size * scale
    spots = [axes.transData.transform((x, y)) for x, y, _ in points]
    taken = [(x - 4 * scale, y - 4 * scale, x + 4 * scale, y + 4 * scale) for x, y in spots]
    if line:
        level = axes.transData.transform((1, line))[1]
        taken.append((box.x0, level - 2 * scale, box.x1, level + 2 * scale))
    around = sorted(((dx, dy) for dx in range(-120, 121, 8) for dy in range(-96, 97, 4)), key=lambda at: (math.hypot(at[0] * 0.7, at[1]), -at[0]))
    for (x, y), (_, _, name) in sorted(zip(spots, points), key=lambda point: point[0][0]):
        for dx, dy in around:
            width = wide * len(name)
            left, low = x + dx * scale - (0 if dx > 0 else width if dx < 0 else width / 2), y + dy * scale - height / 2
            right, top = left + width, low + height
            inside = left >= box.x0 and right <= box.x1 and low >= box.y0 and top <= box.y1
            if inside and all(right < l or left > r or top < b or low > t for l, b, r, t in taken):
                break
        taken.append((left, low, right, top))
        far = math.hypot(dx, dy) > 14
        axes.annotate(name, (x, y), xytext=(dx, dy), xycoords="figure pixels", textcoords="offset points", fontsize=size, va="center",
                      ha="left" if dx > 0 else "right" if dx < 0 else "center",
                      arrowprops=dict(arrowstyle="-", color=FAINT, linewidth=0.7, shrinkA=0, shrinkB=3) if far else None)


def roofline(source, dtype, isa, title):
    """Operations per byte against speed, below what arithmetic and memory allow."""
    runs = fewest([run for run in standard(source.runs) if run.dtype == dtype and run.isa == isa and run.flops and run.bytes])
    figure, axes = plt.subplots(figsize=(WIDTH, 4.6), layout="constrained")
    points = {}
    for run in runs:
        if run.shape not in points or run.seconds < points[run.shape].seconds:
            points[run.shape] = run
    low = min(0.5, *(run.flops / run.bytes / 2 for run in runs))
    high = 12 * max(run.flops / run.bytes for run in runs)
    peak = max((run.peak_flops for run in points.values() if run.peak_flops), default=None)
    reads = [(name, source.limits.get((f"read_{name}", runs[0].threads))) for name in ("l2", "l3", "memory")]
    for (name, rate), style in zip(reads, ("-", (0, (5, 2)), (0, (1, 1.5)))):
        if rate:
            top = min(high, peak / rate) if peak else high
            axes.plot([low, top], [rate * low / 1e9, rate * top / 1e9], color=INK, linewidth=1, linestyle=style,
                      label=f"reading {name.upper() if name != 'memory' else name}")
    if peak:
        axes.plot([low, high], [peak / 1e9] * 2, color=INK, linewidth=1.4)
        axes.annotate(f"{peak / 1e9:.0f} GFLOP/s", (low, peak / 1e9), xytext=(2, 3), textcoords="offset points", fontsize=9)
    places = [(run.flops / run.bytes, run.flops / 1e9, run.shape) for run in points.values()]
    axes.scatter([x for x, _, _ in places], [y for _, y, _ in places], color=SERIES[0], s=26, zorder=3)
    speeds = [y for _, y, _ in places]
    logarithmic(axes.xaxis, low, high)
    logarithmic(axes.yaxis, min(speeds) / 3, max([*speeds, (peak or 0) / 1e9]) * 1.5)
    axes.set_xlabel("operations per byte"), axes.set_ylabel("GFLOP/s")
    legend(axes, 3)
    place_names(axes, places, peak and peak / 1e9)
    return svg(figure, title), list(points.values())


def times_as_fast(rows, series, label, title, equal="equal"):
    """Ratios of speed, more to the right: {name: [(ratio, number of the row)]}. None if there are none. A name without points keeps
    its colour from figure to figure."""
    ratios = [ratio for points in series.values() for ratio, _ in points]
    if not ratios:
        return None
    figure, axes = by_shape(rows)
    axes.axvline(1, color=INK, linewidth=1.4, label=shown(equal))
    for (name, points), color, marker in zip(series.items(), itertools.cycle(SERIES), itertools.cycle(MARKERS)):
        if points:
            axes.scatter(*zip(*points), color=color, marker=marker, s=34, label=shown(name))
    logarithmic(axes.xaxis, min(1, *ratios) / 1.2, max(1, *ratios) * 1.2)
    axes.set_xlabel(label)
    legend(axes)
    return svg(figure, title)


def fractions_of_peak(rows, series, title):
    """Fractions of what the machine can do: {name: [(fraction, number of the row)]}."""
    if not any(series.values()):
        return None
    figure, axes = by_shape(rows)
    axes.axvline(1, color=INK, linewidth=1, linestyle=(0, (4, 3)), label="limit")
    for (name, points), color, marker in zip(series.items(), itertools.cycle(SERIES), itertools.cycle(MARKERS)):
        if points:
            axes.scatter(*zip(*points), color=color, marker=marker, s=34, label=shown(name))
    axes.set_xlim(left=0)
    axes.set_xlabel("of what the machine can do")
    legend(axes)
    return svg(figure, title)


def threads(source, dtype, title):
    """How many times as fast more threads are than the fewest."""
    runs = [run for run in standard(source.runs) if run.kernel == "auto" and run.dtype == dtype]
    counts = sorted({run.threads for run in runs})
    shapes = shapes_of([run for run in runs if run.threads > counts[0]])
    figure, axes = by_shape(shapes)
    for count, color, marker in zip(counts[1:], itertools.cycle(SERIES), itertools.cycle(MARKERS)):
        pairs = [(one(runs, shape=shape, threads=counts[0]), one(runs, shape=shape, threads=count)) for shape in shapes]
        places = [i for i, (few, many) in enumerate(pairs) if few and many]
        axes.axvline(count / counts[0], color=color, linewidth=1, linestyle=(0, (4, 3)))
        axes.scatter([pairs[i][0].seconds / pairs[i][1].seconds for i in places], places, color=color, marker=marker, s=34,
                     label=f"{count} threads (dashed: {count / counts[0]:g})")
    axes.set_xlim(left=0)
    axes.set_xlabel(f"times as fast as {plural(counts[0], 'thread')}")
    legend(axes)
    return svg(figure, title)


def sequence(source, value, label, title):
    """A figure of the sequences by length, both logarithmic; None if nothing was measured."""
    runs = [run for run in source.runs if run.length and value(run)]
    if not runs:
        return None
    figure, axes = plt.subplots(figsize=(WIDTH, 3.6), layout="constrained")
    kernels = sorted({run.kernel for run in runs}, key=lambda name: (name != "auto", name))
    for kernel, color, marker in zip(kernels, itertools.cycle(SERIES), itertools.cycle(MARKERS)):
        points = sorted((run for run in runs if run.kernel == kernel), key=lambda run: run.length)
        name = {"auto": "the library's choice", BASELINE: "OpenBLAS by hand"}.get(kernel, kernel)
        axes.plot([run.length for run in points], [value(run) for run in points], color=color, marker=marker, markersize=5,
                  linewidth=1.4, label=shown(name))
    lengths, values = sorted({run.length for run in runs}), [value(run) for run in runs]
    logarithmic(axes.xaxis, lengths[0] / 1.2, lengths[-1] * 1.2)
    axes.xaxis.set_major_locator(FixedLocator(lengths))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda length, _: f"{length / 1024:g}k"))
    logarithmic(axes.yaxis, min(values) / 1.5, max(values) * 1.5)
    axes.set_xlabel("keys"), axes.set_ylabel(label)
    legend(axes, 1)
    return svg(figure, title)


def accuracy(source, dtype, title):
    """The error of the library's choice beside that of plain f32."""
    runs = fewest([run for run in standard(source.runs) if run.kernel == "auto" and run.dtype == dtype and run.error])
    figure, axes = by_shape([run.shape for run in runs])
    places = range(len(runs))
    axes.scatter([run.plain_error or math.nan for run in runs], places, marker="x", color=SERIES[1], s=34, linewidths=1.6, label="plain f32 arithmetic")
    axes.scatter([run.error for run in runs], places, marker="o", color=SERIES[0], s=34, label="the library's choice")
    errors = [run.error for run in runs] + [run.plain_error for run in runs if run.plain_error]
    logarithmic(axes.xaxis, min(errors) / 1.5, max(errors) * 1.5)
    axes.set_xlabel("largest error / largest value")
    legend(axes)
    return svg(figure, title)


def best_of_peers(each, title):
    """The fastest peer of every shape beside attend, on the most threads, a mark for each type."""
    count = max((r["threads"] for r in each.results), default=0)
    ratios = {}
    for (shape, dtype, threads), ratio in ahead_of_peers(each):
        if threads == count:
            ratios.setdefault(shape, {})[dtype] = ratio
    dtypes = dict.fromkeys(dtype for found in ratios.values() for dtype in found)
    series = {dtype: [(found[dtype], i) for i, found in enumerate(ratios.values()) if dtype in found] for dtype in dtypes}
    return times_as_fast(list(ratios), series, f"times as fast as the fastest other package, {plural(count, 'thread')}", title)


def best_of_limits(source, title):
    """What auto reaches of the limit at every shape, on the fewest threads, a mark for each type."""
    runs = fewest([run for run in standard(source.runs) if run.kernel == "auto" and run.of_peak is not None])
    shapes = shapes_of(runs)
    series = {dtype: [(run.of_peak, shapes.index(run.shape)) for run in runs if run.dtype == dtype] for dtype in dtypes_of(runs)}
    return fractions_of_peak(shapes, series, title)


def peers(each, dtype, count, title):
    """How many times as fast as every peer attend is."""
    cases = {shape: found for (shape, d, t), found in cases_of(each).items()
             if (d, t) == (dtype, count) and "seconds" in found.get("attend", {}) and best_peer(found)}
    names = dict.fromkeys(r["peer"] for r in each.results if r["peer"] != "attend")
    series = {name: [(found[name]["seconds"] / found["attend"]["seconds"], i) for i, found in enumerate(cases.values())
                     if "seconds" in found.get(name, {})] for name in names}
    return times_as_fast(list(cases), series, "attend: times as fast as each of them", title)


def compared(sources, title):
    """The speed of auto in other files beside the first."""
    first = fewest([run for run in standard(sources[0].runs) if run.kernel == "auto"])
    first = [run for run in first if run.dtype == dtypes_of(first)[0]]
    series = {source.name: [(run.seconds / other.seconds, i) for i, run in enumerate(first)
                            if (other := one(source.runs, kernel="auto", shape=run.shape, dtype=run.dtype, threads=run.threads))]
              for source in sources[1:]}
    label = f"times as fast as {sources[0].name} ({first[0].dtype}, {plural(first[0].threads, 'thread')})" if first else ""
    return times_as_fast([run.shape for run in first], series, label, title, sources[0].name)


def formats(source, title):
    """Quantised keys and values beside 16 bits, on the fewest threads."""
    runs = fewest([run for run in source.runs if run.kernel == "auto" and run.is_format and run.length is None])
    shapes, others = shapes_of(runs), set()
    series = {dtype: [] for dtype in dtypes_of(runs)}
    for run in runs:
        other = beside_16_bits(run, source.runs)
        if other:
            others.add(other.dtype)
            series[run.dtype].append((other.seconds / run.seconds, shapes.index(run.shape)))
    return times_as_fast(shapes, series, f"times as fast as {' or '.join(sorted(others))}", title)


def machines(found, dtype, title):
    """What auto reaches of the limit of each machine, on the fewest threads of it."""
    runs = {name: fewest([run for run in standard(source.runs) if run.kernel == "auto" and run.dtype == dtype and run.of_peak is not None])
            for name, source in by_machine(found).items()}
    shapes = list(dict.fromkeys(run.shape for each in runs.values() for run in each))
    return fractions_of_peak(shapes, {name: [(run.of_peak, shapes.index(run.shape)) for run in each] for name, each in runs.items()}, title)


def machines_ahead(ahead, dtype, title):
    """The fastest other package beside attend, on the most threads of each machine: {machine: ahead_of_best() of it}."""
    shapes = list(dict.fromkeys(shape for _, ratios in ahead.values() for shape in ratios))
    series = {on_threads(name, count): [(ratio, shapes.index(shape)) for shape, ratio in ratios.items()] for name, (count, ratios) in ahead.items()}
    return times_as_fast(shapes, series, f"times as fast as the fastest other package ({dtype})", title)


def engine(each, model, what, title):
    """How many times as fast an engine's step is with attend, by what is in the cache; above that, tokens a second."""
    rows = [r for r in each.results if (r.model, r.what) == (model, what)]
    depths = sorted({r.depth for r in rows})
    rated = all(r.tokens for r in rows)
    figure, panels = plt.subplots(1 + rated, figsize=(WIDTH, 5.4 if rated else 3.4), layout="constrained", sharex=True, squeeze=False)
    axes, rates = panels[-1, 0], panels[0, 0]
    axes.axhline(1, color=INK, linewidth=1.4, label=shown(f"{each.engine} by itself"))
    caches = dict.fromkeys(r.cache for r in each.results)
    for cache, color, marker in zip(caches, itertools.cycle(SERIES), itertools.cycle(MARKERS)):
        points = sorted((depths.index(r.depth), r.ratio, *r.rates) for r in rows if r.cache == cache)
        if points:
            places, ratios, stock, attend = zip(*points)
            axes.plot(places, ratios, color=color, marker=marker, markersize=5, linewidth=1.4, label=shown(f"{cache} cache"))
            if rated:
                rates.plot(places, attend, color=color, marker=marker, markersize=5, linewidth=1.4)
                rates.plot(places, stock, color=color, marker=marker, markersize=4, linewidth=1.2, linestyle=(0, (4, 3)))
    if rated:
        rates.plot([], [], color=FAINT, linewidth=1.4, label="with attend")
        rates.plot([], [], color=FAINT, linewidth=1.2, linestyle=(0, (4, 3)), label=shown(f"{each.engine} by itself"))
        rates.set_ylim(bottom=0)
        rates.set_ylabel("tokens a second")
        legend(rates, 3)
    axes.set_xticks(range(len(depths)), [f"{depth:,}" for depth in depths])
    axes.set_xlim(-0.4, len(depths) - 0.6)
    ratios = [r.ratio for r in rows]
    logarithmic(axes.yaxis, min(1, *ratios) / 1.2, max(1, *ratios) * 1.2)
    axes.set_xlabel("tokens in the cache before"), axes.set_ylabel("times as fast")
    legend(axes, 3)
    return svg(figure, title)


def engine_steps(each, steps, title):
    """The same of steps that were measured at one depth each."""
    rows = [f"{model}, {what}" for model, what in steps]
    series = {f"{cache} cache": [(r.ratio, steps.index((r.model, r.what))) for r in each.results if r.cache == cache and (r.model, r.what) in steps]
              for cache in dict.fromkeys(r.cache for r in each.results)}
    return times_as_fast(rows, series, "times as fast", title, f"{each.engine} by itself")


def phases(found, title):
    """What each phase takes, and how much of that is its own limit. All have one unit and scale."""
    rows = [f"{phase.name} {phase.dim}" for phase in found]
    figure, axes = by_shape(rows)
    axes.grid(axis="y", visible=False)
    places = range(len(found))
    axes.barh(places, [phase.taken for phase in found], height=0.62, color=SERIES[0], label="takes")
    axes.barh(places, [phase.ideal for phase in found], height=0.3, color=SERIES[1], label="its own limit")
    for i, phase in zip(places, found):
        if phase.ideal:
            axes.annotate(f"{phase.taken / phase.ideal:.1f}×", (max(phase.taken, phase.ideal), i), xytext=(4, 0), va="center", fontsize=8.5,
                          textcoords="offset points")
    axes.set_xlim(0, 1.12 * max(max(phase.taken, phase.ideal) for phase in found))
    axes.set_xlabel(f"{found[0].scale}, {found[0].unit}")
    legend(axes)
    return svg(figure, title)


def offload_lines(each, kind, dtype, title):
    """The time of every way, by the size of the cache or by new tokens, both logarithmic; where moving a cache begins to pay is marked."""
    found = beside_gpu.cases(each, kind, dtype)
    where = {case: next(iter(at.values()))["kv_bytes" if kind == "cache" else "tokens"] for case, at in found.items()}
    figure, axes = plt.subplots(figsize=(WIDTH, 3.8), layout="constrained")
    for way, color, marker in zip(beside_gpu.ways(found), itertools.cycle(SERIES), itertools.cycle(MARKERS)):
        points = sorted((where[case], at[way]["seconds"] * 1e3) for case, at in found.items() if "seconds" in at.get(way, {}))
        axes.plot(*zip(*points), color=color, marker=marker, markersize=5, linewidth=1.4, label=shown(beside_gpu.name_of(*way)))
    values = [r["seconds"] * 1e3 for at in found.values() for r in at.values() if "seconds" in r]
    if not values:
        plt.close(figure)
        return None
    if kind == "tokens":
        for crossing in beside_gpu.crossings([r for r in each.results if r["dtype"] == dtype]):
            if crossing.between:
                axes.axvline(crossing.between, color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
    places = sorted(set(where.values()))
    logarithmic(axes.xaxis, places[0] / 1.3, places[-1] * 1.3)
    axes.xaxis.set_major_locator(FixedLocator(places))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: size_cell(x)[0].replace(" ", "\n") if kind == "cache" else f"{x:g}"))
    logarithmic(axes.yaxis, min(values) / 1.5, max(values) * 1.5)
    axes.set_xlabel("keys and values" if kind == "cache" else "new tokens a step"), axes.set_ylabel("milliseconds")
    legend(axes, 1)
    return svg(figure, title)


def offload_shapes(each, dtype, title):
    """attend on the most threads beside the others, at the standard shapes."""
    found = {case: at for case, at in beside_gpu.cases(each, "shape", dtype).items()
             if beside_gpu.fullest(at) and any(beside_gpu.seconds(at, way) for way in beside_gpu.OTHERS)}
    series = {beside_gpu.WAYS[way]: [(other / beside_gpu.fullest(at)["seconds"], i) for i, at in enumerate(found.values())
                                     if (other := beside_gpu.seconds(at, way))] for way in beside_gpu.OTHERS}
    series = {name: points for name, points in series.items() if points}
    return times_as_fast(list(found), series, "attend: times as fast as each of them", title)
