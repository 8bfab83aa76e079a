# SPDX-License-Identifier: Apache-2.0
"""The figures in plain words."""

from results import BASELINE, one
from tables import best_peer, cases_of, fastest_row, standard

NEAR, FAR = 0.75, 0.5  # of the limit of the machine
WORTH_SAYING = 1.05    # ratios of times below this may be chance
NARROW = 1.5           # a lead over a peer that is worth naming its cases below this


def listed(names, most=8):
    """"a, b and c"; of many the first and how many more."""
    names = list(names)
    if len(names) > most:
        return ", ".join(names[:most]) + f" and {len(names) - most} more"
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else "".join(names)


def case_name(shape, dtype, threads):
    return f"{shape} in {dtype} on {threads} thread{'s' * (threads > 1)}"


def about_peers(peers):
    """Where attend is ahead of the best peer, and first of all where it is not."""
    ahead, level, behind, alone, lost = [], [], [], 0, []
    for case, found in cases_of(peers).items():
        ours, best = found.get("attend"), best_peer(found)
        if not ours or "seconds" not in ours:
            if best:
                lost.append(f"{case_name(*case)} ({ours['cannot'] if ours else 'not measured'})")
        elif not best:
            alone += 1
        else:
            ratio = best["seconds"] / ours["seconds"]
            text = f"{case_name(*case)} ({best['peer']}, {ratio:.2f} times attend's time)"
            # Where the rounds of the two overlap nobody is ahead.
            if ours["most"] < best["least"]:
                ahead.append((ratio, text))
            elif ours["least"] > best["most"]:
                behind.append((ratio, text))
            else:
                level.append((ratio, text))
    count = len(ahead) + len(level) + len(behind)
    sentences = []
    if behind:
        sentences.append(f"attend is behind the best peer at {len(behind)} of {count} cases: {listed(t for _, t in sorted(behind))}.")
    if level:
        sentences.append(f"attend is level with the best peer at {len(level)} of {count} cases, where their rounds overlap: {listed(t for _, t in sorted(level))}.")
    if lost:
        sentences.append(f"A peer can do what attend could not: {listed(lost)}.")
    if ahead:
        ratios = [ratio for ratio, _ in ahead]
        span = f"{min(ratios):.2f}" if len(ahead) == 1 else f"{min(ratios):.2f} to {max(ratios):.2f}"
        where = "all" if len(ahead) == count else f"{len(ahead)} of"
        sentences.append(f"attend is ahead of the best peer at {where} {count} cases, {span} times as fast.")
        narrow = [text for ratio, text in sorted(ahead) if ratio < NARROW]
        if narrow:
            sentences.append(f"By less than {NARROW:g} times at {len(narrow)}: {listed(narrow, 12)}.")
    if alone:
        sentences.append(f"At {alone} cases no peer can do what attend does.")
    return " ".join(sentences) or "No case was measured with attend and a peer."


def about_limits(source):
    """What is near the limit of the machine, what has room and what is far, on the fewest threads."""
    runs = [run for run in standard(source.runs) if run.kernel == "auto" and run.of_peak is not None]
    if not runs:
        return ""
    few = min(run.threads for run in runs)
    runs = [run for run in runs if run.threads == few]
    several = len({run.dtype for run in runs}) > 1
    kinds = {"near": [], "room": [], "far": []}
    for run in sorted(runs, key=lambda run: -run.of_peak):
        kind = "near" if run.of_peak >= NEAR else "room" if run.of_peak >= FAR else "far"
        kinds[kind].append(f"{run.shape}{' ' + run.dtype if several else ''} ({run.of_peak:.2f})")
    text = {"near": f"Near the limit of the machine (at least {NEAR:g} of it): {{}}.",
            "room": f"With room left ({FAR:g} to {NEAR:g}): {{}}.", "far": f"Not fast yet (below {FAR:g}): {{}}."}
    sentences = [text[kind].format(listed(names)) for kind, names in kinds.items() if names]
    return f"{source.name}, on {few} thread{'s' * (few > 1)}. " + " ".join(sentences)


def about_choice(source):
    """Where another row, or the baseline, was faster than what auto picked."""
    slower, beaten, compared = [], [], False
    for run in standard(source.runs):
        if run.kernel != "auto":
            continue
        best = fastest_row(source.runs, run)
        baseline = one(source.runs, kernel=BASELINE, shape=run.shape, dtype=run.dtype, threads=run.threads)
        compared = compared or best
        name = case_name(run.shape, run.dtype, run.threads)
        if best and run.seconds > WORTH_SAYING * best.seconds:
            slower.append(f"{name} ({best.kernel} takes {best.seconds / run.seconds:.2f} of its time)")
        if baseline and run.seconds > baseline.seconds:
            beaten.append(f"{name} (the choice takes {run.seconds / baseline.seconds:.2f} times as long)")
    sentences = []
    if slower:
        sentences.append(f"{source.name}: the library's choice was not the fastest row at {listed(slower, 4)}.")
    elif compared:
        sentences.append(f"{source.name}: the library's choice was within 5 % of the fastest row everywhere.")
    if beaten:
        sentences.append(f"The hand-written baseline on OpenBLAS was faster at {listed(beaten, 4)}.")
    return " ".join(sentences)


def about_memory(source):
    """Whether the workspace of auto stays flat while the length grows."""
    runs = sorted((run for run in source.runs if run.length and run.kernel == "auto" and run.workspace_used is not None),
                  key=lambda run: run.length)
    if len(runs) < 2:
        return ""
    most = max(runs, key=lambda run: run.workspace_used)
    text = (f"{source.name}: from {runs[0].length:,} to {runs[-1].length:,} keys the library's choice used at most "
            f"{most.workspace_used / (1 << 20):.2f} MiB of workspace, at {most.length:,}")
    stored = [run for run in source.runs if run.length and run.kernel != "auto" and run.workspace_used]
    if stored:
        largest = max(stored, key=lambda run: run.workspace_used)
        text += f"; {largest.kernel}, which stores scores, {largest.workspace_used / (1 << 20):.0f} MiB at {largest.length:,}"
    return text + "."


def about_failures(source):
    if not source.failed:
        return ""
    return f"{source.name}: {len(source.failed)} benchmarks failed: " + listed(
        f"{name} ({reason})" for name, reason in source.failed.items()) + "."


def paragraphs(sources, peers):
    """Most important first."""
    found = [about_peers(each) for each in peers]
    for tell in (about_failures, about_limits, about_choice, about_memory):
        found += [tell(source) for source in sources]
    return [text for text in found if text]
