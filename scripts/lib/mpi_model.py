# SPDX-License-Identifier: Apache-2.0
"""A model of attention over ranks, calibrated by docs/mpi/measured.json: mpi_model.py DOCS writes its plots and table."""

import json
import math
import pathlib
import re
import statistics
import sys

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "attend"
import matplotlib.pyplot as plt  # noqa: E402

# One layer of a model such as Llama 3 8B, with a cache of 16 bits.
Q_HEADS, KV_HEADS, DIM, BYTES = 32, 8, 128, 2
RANKS = [2, 4, 8, 16, 32, 64, 128, 256, 512]
LENGTHS = {"128 Ki": 128 << 10, "1 Mi": 1 << 20, "10 Mi": 10 << 20}

# What one machine cannot show. A rank is a machine of so many cores with so much memory bandwidth at most; networks are
# what such machines have: latency in seconds, bytes a second each way.
CORES, MOST_MEMORY = 64, 200e9
NETWORKS = {"100 Gbit/s, RDMA": (2e-6, 11e9), "25 Gbit/s, TCP": (25e-6, 2.8e9)}


class Machine:
    """What is measured of one core, and how a rank follows from it."""

    def __init__(self, measured):
        prefill, decode = measured["long-prefill"], measured["decode-64ki"]
        ranks = measured["ranks"]
        self.core_flops = prefill["flops_of_a_rank"] / (prefill["ranks_s"] - prefill["wait_s"])
        self.core_bytes = 65536 * 8 * 2 * 128 * 4 / ranks / (decode["ranks_s"] - decode["wait_s"] - decode["agree_s"])
        self.agree = max(decode["agree_s"] - 2 * measured["latency_s"], 0)  # what is not latency: checks
        self.flops = CORES * self.core_flops
        self.memory = min(CORES * self.core_bytes, MOST_MEMORY)


def steps(ranks):
    return math.ceil(math.log2(ranks))


def decode(m, network, length, ranks, layout):
    """Seconds of one token."""
    latency, bandwidth = network
    cache = length * KV_HEADS * 2 * DIM * BYTES
    if layout == "heads":
        return cache / min(ranks, KV_HEADS) / m.memory + m.agree + steps(ranks) * latency
    result = Q_HEADS * (DIM + 1) * 4
    moved = steps(ranks) * (latency + result / bandwidth)
    return cache / ranks / m.memory + m.agree + steps(ranks) * latency + moved


def prefill(m, network, length, ranks, layout):
    """Seconds of a causal prompt whose rows are spread at first; heads by an all-to-all there and back (Ulysses)."""
    latency, bandwidth = network
    flops = length * length / 2 * Q_HEADS * 4 * DIM
    keys = length * KV_HEADS * 2 * DIM * BYTES
    if layout == "ring":
        step = max(flops / ranks / ranks / m.flops, latency + keys / ranks / bandwidth)
        return flops / ranks / ranks / m.flops + (ranks - 1) * step
    if layout == "gather":
        return keys * (ranks - 1) / ranks / bandwidth + ranks * latency + flops / ranks / m.flops
    used = min(ranks, KV_HEADS)
    rows = length / used * (2 * Q_HEADS + 2 * KV_HEADS) * DIM * BYTES
    return rows * (used - 1) / used / bandwidth + 2 * used * latency + flops / used / m.flops


def text_time(seconds):
    for unit, scale in (("h", 3600), ("s", 1), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale or unit == "µs":
            return f"{seconds / scale:.3g} {unit}"


def plot(path, title, machine, model, layouts):
    figure, axes = plt.subplots(1, len(LENGTHS), figsize=(12, 4), sharex=True)
    for axis, (name, length) in zip(axes, LENGTHS.items()):
        for (network, values), dash in zip(NETWORKS.items(), ("-", ":")):
            for layout, colour in layouts.items():
                times = [model(machine, values, length, r, layout) * 1e3 for r in RANKS]
                axis.plot(RANKS, times, dash, color=colour, marker=".", label=f"{layout}, {network}")
        axis.set(xscale="log", yscale="log", xlabel="ranks", title=f"{name} tokens")
        axis.set_xticks(RANKS, [str(r) for r in RANKS])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("ms for one layer")
    axes[-1].legend(fontsize=7)
    figure.suptitle(title)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    text = re.sub(r"[ \t]+$", "", path.read_text(), flags=re.M)
    path.write_text(text)
    plt.close(figure)


def table(machine):
    lines = [
        f"Calibrated: a core computes {machine.core_flops / 1e9:.0f} GFLOP/s of prefill and reads "
        f"{machine.core_bytes / 1e9:.1f} GB/s in decode (f32, both ranks at work), and checks take "
        f"{machine.agree * 1e6:.0f} µs. A rank of {CORES} cores then has {machine.flops / 1e12:.1f} TFLOP/s and "
        f"{machine.memory / 1e9:.0f} GB/s, network 100 Gbit/s:",
        "",
        "| tokens | ranks | decode, keys | decode, heads | prefill, ring | prefill, gather | prefill, heads |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    network = NETWORKS["100 Gbit/s, RDMA"]
    for name, length in LENGTHS.items():
        for ranks in (2, 8, 64, 512):
            cells = [text_time(decode(machine, network, length, ranks, layout)) for layout in ("keys", "heads")]
            cells += [text_time(prefill(machine, network, length, ranks, layout)) for layout in ("ring", "gather", "heads")]
            lines.append(f"| {name} | {ranks} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


SHAPES = {
    "decode-64ki": "one token over 65,536 keys, 32/8 heads, D = 128; keys spread",
    "long-prefill": "long-prefill: 16,384 causal, 8/2 heads, D = 128; sequence in zigzag, ring",
}


def ratios(measured):
    lines = ["| shape | ratio | of rounds | all of them | sent by a rank |", "| --- | --- | --- | --- | --- |"]
    for key, name in SHAPES.items():
        rounds = measured[key]["ratios"]
        lines.append(
            f"| {name} | {statistics.median(rounds):.2f} | {len(rounds)} | " + ", ".join(f"{r:.2f}" for r in rounds)
            + f" | {measured[key]['sent_by_a_rank']:,} bytes |"
        )
    return "\n".join(lines)


def replace(text, what, content):
    begin, end = f"<!-- generated: {what} -->\n", "<!-- end -->"
    before, rest = text.split(begin)
    return before + begin + content + "\n" + end + rest.split(end, 1)[1]


def main():
    docs = pathlib.Path(sys.argv[1])
    measured = json.loads((docs / "mpi" / "measured.json").read_text())
    machine = Machine(measured)
    plot(docs / "mpi" / "decode.svg", "One token over a cache", machine, decode,
         {"keys": "tab:blue", "heads": "tab:orange"})
    plot(docs / "mpi" / "prefill.svg", "A causal prompt", machine, prefill,
         {"ring": "tab:blue", "gather": "tab:green", "heads": "tab:orange"})
    page = docs / "mpi.md"
    text = replace(page.read_text(), "scripts/mpi-model, ratios", ratios(measured))
    page.write_text(replace(text, "scripts/mpi-model, model", table(machine)))


main()
