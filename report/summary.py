# SPDX-License-Identifier: Apache-2.0
"""The figures in plain words: three headline figures, at most five lines, and the rest in paragraphs."""

import dataclasses
import statistics

import offload
from results import BASELINE, one
from tables import best_peer, cases_of, fastest_row, fewest, plural, size_cell, standard

NEAR, FAR = 0.75, 0.5  # of the limit of the machine
WORTH_SAYING = 1.05    # ratios of times below this may be chance
NARROW = 1.5           # a lead over a peer that is worth naming its cases below this
HEADLINES, LINES = 3, 5


@dataclasses.dataclass
class Headline:
    figure: str
    text: str


@dataclasses.dataclass
class Beside:
    """A case that attend and a peer can both do."""

    name: str
    shape: str
    peer: str
    ratio: float  # attend is so many times as fast
    standing: str  # "ahead", "level" or "behind"

    @property
    def text(self):
        return f"{self.name} ({self.ratio:.2f} times as fast as {self.peer})"


def listed(names, most=8):
    """"a, b and c"; of many the first and how many more."""
    names = list(names)
    if len(names) > most:
        return ", ".join(names[:most]) + f" and {len(names) - most} more"
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else "".join(names)


def case_name(shape, dtype, threads):
    return f"{shape} in {dtype} on {plural(threads, 'thread')}"


def ratio_text(ratio):
    return f"{ratio:.2f}" if ratio < 9.95 else f"{ratio:.1f}"


def beside_best(peers):
    """Cases beside the best peer, the worst for attend first; how many only attend can do; and what only a peer could."""
    cases, alone, lost = [], 0, []
    for case, found in cases_of(peers).items():
        ours, best = found.get("attend"), best_peer(found)
        if not ours or "seconds" not in ours:
            if best:
                lost.append(f"{case_name(*case)} ({ours['cannot'] if ours else 'not measured'})")
        elif not best:
            alone += 1
        else:
            # Where the rounds of the two overlap nobody is ahead.
            standing = "ahead" if ours["most"] < best["least"] else "behind" if ours["least"] > best["most"] else "level"
            cases.append(Beside(case_name(*case), case[0], best["peer"], best["seconds"] / ours["seconds"], standing))
    return sorted(cases, key=lambda case: case.ratio), alone, lost


def about_peers(peers):
    """Where attend is ahead of the best peer, and first of all where it is not."""
    cases, alone, lost = beside_best(peers)
    ahead, level, behind = ([case for case in cases if case.standing == standing] for standing in ("ahead", "level", "behind"))
    sentences = []
    if behind:
        sentences.append(f"attend is behind the best peer at {len(behind)} of {len(cases)} cases: {listed(case.text for case in behind)}.")
    if level:
        sentences.append(f"attend is level with the best peer at {len(level)} of {len(cases)} cases, where their rounds overlap: "
                         f"{listed(case.text for case in level)}.")
    if lost:
        sentences.append(f"A peer can do what attend could not: {listed(lost)}.")
    if ahead:
        span = f"{ahead[0].ratio:.2f}" if len(ahead) == 1 else f"{ahead[0].ratio:.2f} to {ahead[-1].ratio:.2f}"
        where = "all" if len(ahead) == len(cases) else f"{len(ahead)} of"
        sentences.append(f"attend is ahead of the best peer at {where} {len(cases)} cases, {span} times as fast.")
        narrow = [case.text for case in ahead if case.ratio < NARROW]
        if narrow:
            sentences.append(f"By less than {NARROW:g} times at {len(narrow)}: {listed(narrow, 12)}.")
    if alone:
        sentences.append(f"At {alone} cases no peer can do what attend does.")
    return " ".join(sentences) or "No case was measured with attend and a peer."


def limited(source):
    """What auto does on the fewest threads, the nearest to the limit first."""
    return sorted(fewest([run for run in standard(source.runs) if run.kernel == "auto" and run.of_peak is not None]),
                  key=lambda run: -run.of_peak)


def shape_name(run, runs):
    return f"{run.shape} {run.dtype}" if len({each.dtype for each in runs}) > 1 else run.shape


def about_limits(source):
    """What is near the limit of the machine, what has room and what is far, on the fewest threads."""
    runs = limited(source)
    if not runs:
        return ""
    kinds = {"near": [], "room": [], "far": []}
    for run in runs:
        kind = "near" if run.of_peak >= NEAR else "room" if run.of_peak >= FAR else "far"
        kinds[kind].append(f"{shape_name(run, runs)} ({run.of_peak:.2f})")
    text = {"near": f"Near the limit of the machine (at least {NEAR:g} of it): {{}}.",
            "room": f"With room left ({FAR:g} to {NEAR:g}): {{}}.", "far": f"Not fast yet (below {FAR:g}): {{}}."}
    sentences = [text[kind].format(listed(names)) for kind, names in kinds.items() if names]
    return f"{source.name}, on {plural(runs[0].threads, 'thread')}. " + " ".join(sentences)


def choices(source):
    """Where another row, and where the baseline, was faster than what auto picked, the worst first; and in how many cases there
    was another row."""
    slower, beaten, compared = [], [], 0
    for run in standard(source.runs):
        if run.kernel != "auto":
            continue
        best = fastest_row(source.runs, run)
        baseline = one(source.runs, kernel=BASELINE, shape=run.shape, dtype=run.dtype, threads=run.threads)
        compared += best is not None
        name = case_name(run.shape, run.dtype, run.threads)
        if best and run.seconds > WORTH_SAYING * best.seconds:
            slower.append((best.seconds / run.seconds, f"{name} ({best.seconds / run.seconds:.2f} times as fast as {best.kernel})"))
        if baseline and run.seconds > baseline.seconds:
            beaten.append((baseline.seconds / run.seconds, f"{name} ({baseline.seconds / run.seconds:.2f} times as fast)"))
    return [text for _, text in sorted(slower)], [text for _, text in sorted(beaten)], compared


def about_choice(source):
    slower, beaten, compared = choices(source)
    sentences = []
    if slower:
        sentences.append(f"{source.name}: the library's choice was not the fastest row at {listed(slower, 4)}.")
    elif compared:
        sentences.append(f"{source.name}: the library's choice was within 5 % of the fastest row everywhere.")
    if beaten:
        sentences.append(f"{source.name}: the library's choice was slower than by hand on OpenBLAS at {listed(beaten, 4)}.")
    return " ".join(sentences)


def memory(source):
    """The sequences of auto by length, and what stores scores and used most."""
    runs = sorted((run for run in source.runs if run.length and run.kernel == "auto" and run.workspace_used is not None),
                  key=lambda run: run.length)
    stored = [run for run in source.runs if run.length and run.kernel != "auto" and run.workspace_used]
    return runs, max(stored, key=lambda run: run.workspace_used, default=None)


def about_memory(source):
    """Whether the workspace of auto stays flat while the length grows."""
    runs, largest = memory(source)
    if len(runs) < 2:
        return ""
    most = max(runs, key=lambda run: run.workspace_used)
    text = (f"{source.name}: from {runs[0].length:,} to {runs[-1].length:,} keys the library's choice used at most "
            f"{most.workspace_used / (1 << 20):.2f} MiB of workspace, at {most.length:,}")
    if largest:
        text += f"; {largest.kernel}, which stores scores, {largest.workspace_used / (1 << 20):.0f} MiB at {largest.length:,}"
    return text + "."


def about_failures(source):
    if not source.failed:
        return ""
    return f"{source.name}: {len(source.failed)} benchmarks failed: " + listed(
        f"{name} ({reason})" for name, reason in source.failed.items()) + "."


def about_engine(each):
    slower = [f"{r.model}, {r.what}, {r.cache} after {r.depth:,} ({r.ratio:.2f})" for r in each.results if r.ratio < 1 / WORTH_SAYING]
    ratios = [r.ratio for r in each.results]
    text = f"{each.name}: {each.engine} with attend is {min(ratios):.2f} to {max(ratios):.2f} times as fast as by itself."
    return text + (f" It is slower at {listed(slower)}." if slower else "")


def paragraphs(found):
    """Most important first."""
    parts = [about_peers(each) for each in found.peers] + [about_engine(each) for each in found.engines]
    parts += [offload.about(each) for each in found.offloads]
    for tell in (about_failures, about_limits, about_choice, about_memory):
        parts += [tell(source) for source in found.sources]
    return [text for text in parts if text]


# ------------------------------------------------------------------------------------------------------- the short of it


def headline_of_peers(each):
    cases, _, _ = beside_best(each)
    if cases:
        yield Headline(ratio_text(statistics.median(case.ratio for case in cases)) + "×",
                       f"as fast as the fastest other package: the median of {plural(len(cases), 'case')} ({each.name})")


def headline_of_engine(each):
    """A step deep in the cache, in the type that most caches have."""
    rows = [r for r in each.results if r.what.startswith("token")] or each.results
    row = max(rows, key=lambda r: (r.cache == "f16", r.depth))
    yield Headline(ratio_text(row.ratio) + "×", f"as fast as {each.engine} by itself: {row.what}, {row.depth:,} tokens before it in "
                                               f"{row.cache} ({row.model})")


def headline_of_limit(source):
    runs = limited(source)
    runs = [run for run in runs if run.dtype == "f32"] or runs
    if runs:
        yield Headline(f"{statistics.median(run.of_peak for run in runs):.2f}",
                       f"of what the machine can do: the median of {plural(len(runs), 'shape')} on {plural(runs[0].threads, 'thread')} ({source.name})")


def headline_of_baseline(source):
    ratios = [other.seconds / run.seconds for run in standard(source.runs) if run.kernel == "auto" and
              (other := one(source.runs, kernel=BASELINE, shape=run.shape, dtype=run.dtype, threads=run.threads))]
    if ratios:
        yield Headline(ratio_text(statistics.median(ratios)) + "×",
                       f"as fast as by hand on OpenBLAS: the median of {plural(len(ratios), 'case')} ({source.name})")


def headline_of_runs(sources):
    first = sources[0]
    for source in sources[1:]:
        ratios = [run.seconds / other.seconds for run in standard(first.runs) if run.kernel == "auto" and
                  (other := one(source.runs, kernel="auto", shape=run.shape, dtype=run.dtype, threads=run.threads))]
        if ratios:
            yield Headline(ratio_text(statistics.median(ratios)) + "×",
                           f"as fast as {first.name}: the median of {plural(len(ratios), 'case')} ({source.name})")


def headline_of_memory(source):
    runs, largest = memory(source)
    if len(runs) > 1:
        size = size_cell(max(run.workspace_used for run in runs))[0]
        text = f"of workspace at most, from {runs[0].length:,} to {runs[-1].length:,} keys"
        yield Headline(size, text + (f"; storing scores takes {size_cell(largest.workspace_used)[0]} at {largest.length:,}" if largest else ""))


def headline_of_offload(each):
    line = offload.headline(each)
    if line:
        yield Headline(*line)


def headlines(found):
    """At most three, of those that there are figures for."""
    first = found.sources[:1]
    kinds = [(headline_of_peers, found.peers[:1]), (headline_of_engine, found.engines[:1]), (headline_of_limit, first),
             (headline_of_baseline, first), (headline_of_runs, [found.sources] if found.sources else []), (headline_of_memory, first),
             (headline_of_offload, found.offloads[:1])]
    return [line for make, what in kinds for each in what for line in make(each)][:HEADLINES]


def short_peers(peers, of):
    """What is behind, and where the lead is least. Where there are several such files, `of` begins with the name."""
    cases, _, lost = beside_best(peers)
    behind, level = ([case for case in cases if case.standing == standing] for standing in ("behind", "level"))
    ahead = [case for case in cases if case.standing == "ahead"]
    name = lambda case: f"{case.name} ({case.ratio:.2f})"
    if behind:
        yield f"{of}behind the fastest other package at {len(behind)} of {len(cases)} cases: {listed(map(name, behind), 3)}."
    if lost:
        yield f"What another package can do and attend could not: {listed(lost, 2)}."
    if ahead:
        least = {}
        for case in ahead:
            least.setdefault(case.shape, f"{case.shape} ({case.ratio:.2f})")
        rest = f", level at {len(level)}" if level else ""
        yield f"{of}ahead of the fastest other package at {len(ahead)} of {len(cases)} cases{rest}; by least at {listed(list(least.values())[:3])}."


def short_limits(source):
    runs = limited(source)
    far = [f"{shape_name(run, runs)} ({run.of_peak:.2f})" for run in reversed(runs) if run.of_peak < FAR]
    if runs:
        near = sum(run.of_peak >= NEAR for run in runs)
        yield (f"{source.name}: near the limit of the machine, at {NEAR:g} of it or more, at {near} of {plural(len(runs), 'case')}; "
               + (f"below {FAR:g} at {listed(far, 3)}." if far else f"below {FAR:g} at none."))


def short_choice(source):
    slower, beaten, compared = choices(source)
    if slower:
        yield f"{source.name}: the library's choice is not the fastest kernel at {len(slower)} of {plural(compared, 'case')}: {listed(slower, 1)}."
    if beaten:
        yield f"{source.name}: slower than by hand on OpenBLAS at {listed(beaten, 2)}."


def lines(found):
    """At most five: failures first, then what is slower than something else, then the rest."""
    parts = [line for source in found.sources for line in ([about_failures(source)] if source.failed else [])]
    several = len(found.peers) > 1
    parts += [line for each in found.peers for line in short_peers(each, f"{each.name}: " if several else "attend is ")]
    parts += [about_engine(each) for each in found.engines]
    parts += [offload.short(each) for each in found.offloads]
    parts += [line for tell in (short_limits, short_choice) for source in found.sources[:1] for line in tell(source)]
    parts += [line for source in found.sources[1:] for line in short_choice(source)]
    parts += [about_memory(source) for source in found.sources]
    return [line for line in parts if line][:LINES]
