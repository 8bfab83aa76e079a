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

from results import BASELINE, one, shapes_of
from tables import best_peer, cases_of, fastest_row, standard

# Stand-ins that become variables of the style sheet, so that one drawing serves light, dark and print.
INK, GRID, FAINT = "#010203", "#010204", "#010205"
SERIES = ["#010211", "#010212", "#010213", "#010214", "#010215", "#010216"]
VARIABLES = {INK: "var(--ink)", GRID: "var(--grid)", FAINT: "var(--faint)"} | {c: f"var(--s{i})" for i, c in enumerate(SERIES, 1)}
MARKERS = "osD^vP"
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
    text = re.sub(r'<svg[^>]*?viewBox="([^"]*)"[^>]*>',
                  rf'<svg role="img" aria-label="{title}" viewBox="\1" style="max-width:{float(width) * 1.25:.0f}px" '
                  r'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">', text, count=1)
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


def legend(axes, columns=2):
    if not axes.get_legend_handles_labels()[0]:
        return  # matplotlib would say so on standard error
    axes.legend(bbox_to_anchor=(0, 1.01), loc="lower left", ncols=columns, handletextpad=0.4, columnspacing=1.2, borderaxespad=0)


def speed(source, dtype, title):
    """Every kernel at every shape, the library's choice marked."""
    runs = [run for run in standard(source.runs) if run.dtype == dtype and run.flops]
    few = min(run.threads for run in runs)
    runs = [run for run in runs if run.threads == few]
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


def roofline(source, dtype, isa, title):
    """Operations per byte against speed, below what arithmetic and memory allow."""
    runs = [run for run in standard(source.runs) if run.dtype == dtype and run.isa == isa and run.flops and run.bytes]
    few = min(run.threads for run in runs)
    figure, axes = plt.subplots(figsize=(WIDTH, 4.0), layout="constrained")
    points = {}
    for run in runs:
        if run.threads == few and (run.shape not in points or run.seconds < points[run.shape].seconds):
            points[run.shape] = run
    low, high = 0.5, 2 * max(run.flops / run.bytes for run in points.values())
    peak = max((run.peak_flops for run in points.values() if run.peak_flops), default=None)
    reads = [(name, source.limits.get((f"read_{name}", few))) for name in ("l2", "l3", "memory")]
    for (name, rate), style in zip(reads, ("-", (0, (5, 2)), (0, (1, 1.5)))):
        if rate:
            top = min(high, peak / rate) if peak else high
            axes.plot([low, top], [rate * low / 1e9, rate * top / 1e9], color=INK, linewidth=1, linestyle=style,
                      label=f"reading {name.upper() if name != 'memory' else name}")
    if peak:
        axes.plot([low, high], [peak / 1e9] * 2, color=INK, linewidth=1.4)
        axes.annotate(f"{peak / 1e9:.0f} GFLOP/s", (low, peak / 1e9), xytext=(2, 3), textcoords="offset points", fontsize=9)
    # Shapes of like intensity stand near each other: numbers beside the points, names in the table below the figure.
    for i, run in enumerate(points.values(), 1):
        axes.scatter(run.flops / run.bytes, run.flops / 1e9, color=SERIES[0], s=26, zorder=3)
        axes.annotate(str(i), (run.flops / run.bytes, run.flops / 1e9), xytext=(0, -12 if i % 2 else 5), fontsize=8,
                      textcoords="offset points", ha="center")
    speeds = [run.flops / 1e9 for run in points.values()]
    logarithmic(axes.xaxis, low, high)
    logarithmic(axes.yaxis, min(speeds) / 2, max([*speeds, (peak or 0) / 1e9]) * 1.5)
    axes.set_xlabel("operations per byte"), axes.set_ylabel("GFLOP/s")
    legend(axes, 3)
    return svg(figure, title), list(points.values())


def threads(source, dtype, title):
    """How many times as fast more threads are than the fewest."""
    runs = [run for run in standard(source.runs) if run.kernel == "auto" and run.dtype == dtype]
    counts = sorted({run.threads for run in runs})
    shapes = shapes_of(runs)
    figure, axes = by_shape(shapes)
    for count, color, marker in zip(counts[1:], itertools.cycle(SERIES), itertools.cycle(MARKERS)):
        pairs = [(one(runs, shape=shape, threads=counts[0]), one(runs, shape=shape, threads=count)) for shape in shapes]
        places = [i for i, (few, many) in enumerate(pairs) if few and many]
        axes.axvline(count / counts[0], color=color, linewidth=1, linestyle=(0, (4, 3)))
        axes.scatter([pairs[i][0].seconds / pairs[i][1].seconds for i in places], places, color=color, marker=marker, s=34,
                     label=f"{count} threads (dashed: {count / counts[0]:g})")
    axes.set_xlim(left=0)
    axes.set_xlabel(f"times as fast as {counts[0]} thread{'s' * (counts[0] > 1)}")
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
                  linewidth=1.4, label=name)
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
    runs = [run for run in standard(source.runs) if run.kernel == "auto" and run.dtype == dtype and run.error]
    few = min(run.threads for run in runs)
    runs = [run for run in runs if run.threads == few]
    figure, axes = by_shape([run.shape for run in runs])
    places = range(len(runs))
    axes.scatter([run.plain_error or math.nan for run in runs], places, marker="x", color=SERIES[1], s=34, linewidths=1.6, label="plain f32 arithmetic")
    axes.scatter([run.error for run in runs], places, marker="o", color=SERIES[0], s=34, label="the library's choice")
    errors = [run.error for run in runs] + [run.plain_error for run in runs if run.plain_error]
    logarithmic(axes.xaxis, min(errors) / 1.5, max(errors) * 1.5)
    axes.set_xlabel("largest error / largest value")
    legend(axes)
    return svg(figure, title)


def peers(each, dtype, count, title):
    """The time of every peer beside attend's."""
    cases = {shape: found for (shape, d, t), found in cases_of(each).items()
             if (d, t) == (dtype, count) and "seconds" in found.get("attend", {}) and best_peer(found)}
    if not cases:
        return None
    figure, axes = by_shape(list(cases))
    names = dict.fromkeys(r["peer"] for r in each.results if r["peer"] != "attend")  # the same colour in every figure
    axes.axvline(1, color=INK, linewidth=1.4, label="attend")
    ratios = [1.0]
    for name, color, marker in zip(names, itertools.cycle(SERIES), itertools.cycle(MARKERS + "X")):
        points = [(found[name]["seconds"] / found["attend"]["seconds"], i) for i, found in enumerate(cases.values())
                  if "seconds" in found.get(name, {})]
        if points:
            axes.scatter(*zip(*points), color=color, marker=marker, s=32, label=name)
            ratios += [ratio for ratio, _ in points]
    logarithmic(axes.xaxis, min(ratios) / 1.2, max(ratios) * 1.2)
    axes.set_xlabel("times attend's time (logarithmic; right of 1: slower than attend)")
    legend(axes)
    return svg(figure, title)


def compared(sources, title):
    """The speed of auto in other files beside the first."""
    first = [run for run in standard(sources[0].runs) if run.kernel == "auto"]
    few = min((run.threads for run in first), default=0)
    dtype = first[0].dtype if first else None
    first = [run for run in first if (run.threads, run.dtype) == (few, dtype)]
    pairs = {source.name: [(run.seconds / other.seconds, i) for i, run in enumerate(first)
                           if (other := one(source.runs, kernel="auto", shape=run.shape, dtype=dtype, threads=few))]
             for source in sources[1:]}
    if not any(pairs.values()):
        return None
    figure, axes = by_shape([run.shape for run in first])
    axes.axvline(1, color=INK, linewidth=1.4, label=sources[0].name)
    for (name, points), color, marker in zip(pairs.items(), itertools.cycle(SERIES), itertools.cycle(MARKERS)):
        if points:
            axes.scatter(*zip(*points), color=color, marker=marker, s=32, label=name)
    axes.set_xlabel(f"times as fast as {sources[0].name} ({dtype}, {few} thread{'s' * (few > 1)})")
    legend(axes)
    return svg(figure, title)
