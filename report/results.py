# SPDX-License-Identifier: Apache-2.0
"""What attend-bench, scripts/peers, scripts/offload and scripts/llama wrote, read with suspicion: a field that is not as expected is named."""

import dataclasses
import json
import math
import os
import re
import statistics
import unicodedata

DTYPES = ["f32", "f16", "bf16", "f32+f16", "f32+bf16"]
BASELINE = "baseline_openblas"
NAME = re.compile(r"([^/]+)/([^/]+)/([^/]+)/threads:([1-9]\d{0,8})")
LIMIT = re.compile(r"peak/(\w+)(?:/threads:(\d{1,9}))?")
PHASE = re.compile(r"phase/(\w+)/(D[1-9]\d{0,4})/(\w+)")
SEQUENCE = re.compile(r"sequence-([1-9]\d{0,8})k")
FIGURES = ("flops", "bytes", "of_peak", "peak_flops", "peak_bytes", "error", "plain_error", "workspace", "workspace_used")
PHASE_FIGURES = ("cycles", "ns", "median", "ideal")
OFFLOAD_KINDS = ("cache", "tokens", "shape")
OFFLOAD_WAYS = ("attend", "pytorch-cpu", "gpu-resident", "gpu-copied", "gpu-moved")
SERVING = ("mixed-serving", "chunked-prefill", "batch-decode", "speculative", "mla-decode")

# Kinds of fields beside those of Python. Figures and ratios of what is in these bounds can be drawn.
TIME, SECONDS = object(), object()
MOST, LEAST_SECONDS, MOST_SECONDS = 1e30, 1e-12, 1e9


class BadInput(Exception):
    """What is wrong with the input, in a line that names the file and the field."""


def clean(text):
    """Text that a terminal or a page may get: control characters, C1 included, and what is no character become question
    marks, as everywhere in attend."""
    return "".join("?" if unicodedata.category(c) in ("Cc", "Cs") or ord(c) & 0xFFFE == 0xFFFE else c for c in text)


def cleaned(value):
    """The same for every text in a value of JSON."""
    if isinstance(value, dict):
        return {clean(key): cleaned(each) for key, each in value.items()}
    if isinstance(value, list):
        return [cleaned(each) for each in value]
    return clean(value) if isinstance(value, str) else value


@dataclasses.dataclass
class Run:
    """The medians of a benchmark. A figure that was not measured is None."""

    source: str
    kernel: str  # the name of a row, "auto" or the baseline
    shape: str
    dtype: str
    threads: int
    seconds: float
    picked: str  # what auto picked, else the kernel
    flops: float = None
    bytes: float = None
    of_peak: float = None
    peak_flops: float = None
    peak_bytes: float = None
    error: float = None
    plain_error: float = None
    workspace: float = None
    workspace_used: float = None

    @property
    def isa(self):
        found = re.search(r"__([a-z0-9]+)_", self.picked)
        return found[1] if found else None

    @property
    def is_format(self):
        """Whether keys or values are quantised: "f32+q8_0" is, "f32+f16" is not."""
        return self.dtype not in DTYPES

    @property
    def length(self):
        """Keys, if this is one of the sequences; else None."""
        found = SEQUENCE.fullmatch(self.shape)
        return 1024 * int(found[1]) if found else None


@dataclasses.dataclass
class Phase:
    """A part of a kernel's work, alone, and what it would take if nothing but its own limit held it up: both in `scale`."""

    isa: str
    dim: str
    name: str
    unit: str
    scale: str  # ns or cycles, of a unit
    taken: float
    ideal: float


class Measured:
    """What files of every kind have. NAME of NAME=FILE may be MACHINE/NAME; else a file is of the processor that it names."""

    @property
    def machine(self):
        machine, slash, _ = self.name.partition("/")
        return machine if slash else str(self.context.get("cpu") or "a machine without a name")


@dataclasses.dataclass
class Source(Measured):
    """A file of attend-bench."""

    name: str
    context: dict
    runs: list
    phases: list
    limits: dict  # (name, threads): per second
    skipped: dict  # benchmark: reason
    failed: dict

    def find(self, **like):
        return [run for run in self.runs if all(getattr(run, field) == value for field, value in like.items())]


@dataclasses.dataclass
class Peers(Measured):
    """A file of scripts/peers: its results are dicts as written, with what is needed checked."""

    name: str
    context: dict
    results: list


@dataclasses.dataclass
class InEngine:
    """A step of an engine, with its own attention and with attend's."""

    model: str
    what: str  # "token", "prompt of 512"
    cache: str
    depth: int  # tokens in the cache before
    stock: float  # seconds, medians of rounds
    attend: float
    ratios: list  # times as fast, of each round
    tokens: int  # that it computes; 0 where that is no word for it

    @property
    def ratio(self):
        return statistics.median(self.ratios)

    @property
    def rates(self):
        """Tokens a second, by itself and with attend."""
        return self.tokens / self.stock, self.tokens / self.attend


@dataclasses.dataclass
class Engine(Measured):
    """A file of scripts/llama."""

    name: str
    context: dict
    results: list

    @property
    def engine(self):
        return str(self.context.get("engine") or "the engine")


@dataclasses.dataclass
class Offload(Measured):
    """A file of scripts/offload: limits and results are dicts as written, with what is needed checked."""

    name: str
    context: dict
    limits: list
    results: list


@dataclasses.dataclass
class Found:
    """All that a report is made of."""

    sources: list
    peers: list
    engines: list
    offloads: list

    @staticmethod
    def of(files):
        kinds = ([each for each in files if isinstance(each, kind)] for kind in (Source, Peers, Engine, Offload))
        sources, peers, engines, offloads = kinds
        return Found(merged(sources), peers, engines, offloads)


def is_finite(number):
    try:
        return math.isfinite(number)
    except OverflowError:  # a whole number beyond all floats
        return False


def field(where, table, key, kind):
    """A field that must be there and be of a kind: numbers are finite and not negative, times are more than 0, seconds are those of
    a measurement."""
    if key not in table:
        raise BadInput(f"{where}: field '{key}' is missing")
    value = table[key]
    number = kind in (float, TIME, SECONDS)
    right = isinstance(value, (int, float) if number else kind) and (kind is bool or not isinstance(value, bool))
    least, most = (LEAST_SECONDS, MOST_SECONDS) if kind is SECONDS else (0, MOST)
    if not right or (number and not (is_finite(value) and least <= value <= most and (value > 0 or kind is float))):
        names = {SECONDS: f"a number above 0, from {LEAST_SECONDS:g} to {MOST_SECONDS:g} seconds", TIME: "a number above 0, at most 1e30",
                 float: "a number of at least 0, at most 1e30", str: "text", list: "a list", dict: "an object", int: "a whole number"}
        raise BadInput(f"{where}: field '{key}' is {json.dumps(value)[:60]}, expected {names[kind]}")
    return value


def unit_seconds(where, item):
    unit = field(where, item, "time_unit", str)
    if unit not in ("ns", "us", "ms", "s"):
        raise BadInput(f"{where}: field 'time_unit' is '{unit}', expected ns, us, ms or s")
    return {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}[unit]


def read_benchmarks(path, items):
    """{name: samples of every figure}, {name: error}. Google Benchmark's own medians, where it has them, count alone."""
    samples, failed = {}, {}
    for i, item in enumerate(items):
        where = f"{path}: benchmarks[{i}]"
        if not isinstance(item, dict):
            raise BadInput(f"{where} is no object")
        name = field(where, item, "run_name" if "run_name" in item else "name", str)
        if item.get("error_occurred"):
            failed[name] = str(item.get("error_message", "failed"))
            continue
        median = item.get("run_type") == "aggregate" and item.get("aggregate_name") == "median"
        if item.get("run_type", "iteration") != "iteration" and not median:
            continue
        known = samples.setdefault(name, {"seconds": [], "label": ""} | {key: [] for key in FIGURES + PHASE_FIGURES})
        if median:
            known.update({key: [] for key in ("seconds", *FIGURES, *PHASE_FIGURES)})
        seconds = field(where, item, "real_time", TIME) * unit_seconds(where, item)
        known["seconds"].append(field(where, {"real_time": seconds}, "real_time", SECONDS))
        known["label"] = field(where, item, "label", str) if "label" in item else ""
        for key in FIGURES + PHASE_FIGURES:
            if key in item:
                known[key].append(field(where, item, key, float))
    return samples, failed


def read_bench(path, name, data):
    context = field(path, data, "context", dict)
    samples, failed = read_benchmarks(path, field(path, data, "benchmarks", list))
    runs, phases, limits = [], [], {}
    for title, known in samples.items():
        figures = {key: statistics.median(known[key]) if known[key] else None for key in FIGURES}
        limit, match, phase = LIMIT.fullmatch(title), NAME.fullmatch(title), PHASE.fullmatch(title)
        if limit:
            rate = figures["flops"] or figures["bytes"]
            if rate:
                limits[limit[1], int(limit[2] or 1)] = rate
        elif phase:
            scale = "cycles" if known["cycles"] else "ns"
            for key in (scale, "ideal"):
                if not known[key]:
                    raise BadInput(f"{path}: benchmark '{title}': field '{key}' is missing")
            field(f"{path}: benchmark '{title}'", {scale: statistics.median(known[scale])}, scale, TIME)
            phases.append(Phase(*phase.groups(), known["label"], scale, statistics.median(known[scale]), statistics.median(known["ideal"])))
        elif match:
            kernel, shape, dtype, threads = match.groups()
            picked = known["label"] if kernel == "auto" and known["label"] else kernel
            runs.append(Run(name, kernel, shape, dtype, int(threads), statistics.median(known["seconds"]), picked, **figures))
        else:
            raise BadInput(f"{path}: benchmark '{title}': expected a name such as KERNEL/SHAPE/DTYPE/threads:N")
    if not runs and not phases:
        raise BadInput(f"{path}: no benchmark of a kernel in it gave a result")
    skipped = {key[len("skipped "):]: str(value) for key, value in context.items() if key.startswith("skipped ")}
    return Source(name, context, runs, phases, limits, skipped, failed)


def objects(path, data, key):
    """(where, object) of a list of objects."""
    for i, each in enumerate(field(path, data, key, list)):
        where = f"{path}: {key}[{i}]"
        if not isinstance(each, dict):
            raise BadInput(f"{where} is no object")
        yield where, each


def read_peers(path, name, data):
    context = field(path, data, "context", dict)
    results = field(path, data, "results", list)
    for where, result in objects(path, data, "results"):
        for key, kind in (("peer", str), ("shape", str), ("dtype", str), ("threads", int)):
            field(where, result, key, kind)
        if "cannot" in result:
            field(where, result, "cannot", str)
            if "seconds" in result:
                raise BadInput(f"{where}: has the fields 'cannot' and 'seconds', expected one of them")
            continue
        for key in ("seconds", "least", "most"):
            field(where, result, key, SECONDS)
        for key in ("error", "flops", "memory_bytes"):
            if key == "error" or result.get(key) is not None:
                field(where, result, key, float)
    if not results:
        raise BadInput(f"{path}: no results in it")
    return Peers(name, context, results)


def rounds_of(where, table, key):
    rounds = field(where, table, key, list)
    if not rounds:
        raise BadInput(f"{where}: field '{key}' is [], expected a number for every round")
    return [field(f"{where}: {key}", {str(i): each}, str(i), SECONDS) for i, each in enumerate(rounds)]


def read_engine(path, name, data):
    context = field(path, data, "context", dict)
    results = []
    for where, result in objects(path, data, "results"):
        texts = [field(where, result, key, str) for key in ("model", "what", "cache")]
        depth = field(where, result, "depth", int)
        if not 0 <= depth < 1 << 40:
            raise BadInput(f"{where}: field 'depth' is {str(depth)[:20]}, expected a number of tokens")
        stock, attend = (rounds_of(where, result, key) for key in ("stock", "attend"))
        if len(stock) != len(attend):
            raise BadInput(f"{where}: fields 'stock' and 'attend' have {len(stock)} and {len(attend)} rounds, expected as many")
        tokens = field(where, result, "tokens", int) if "tokens" in result else 0
        if not 0 <= tokens < 1 << 40:
            raise BadInput(f"{where}: field 'tokens' is {str(tokens)[:20]}, expected a number of tokens")
        ratios = [s / a for s, a in zip(stock, attend)]
        results.append(InEngine(*texts, depth, statistics.median(stock), statistics.median(attend), ratios, tokens))
    if not results:
        raise BadInput(f"{path}: no results in it")
    return Engine(name, context, results)


def one_of(where, table, key, known):
    if field(where, table, key, str) not in known:
        raise BadInput(f"{where}: field '{key}' is {json.dumps(table[key])[:60]}, expected one of {', '.join(known)}")


def read_offload(path, name, data):
    context = field(path, data, "context", dict)
    for where, limit in objects(path, data, "limits"):
        field(where, limit, "what", str), field(where, limit, "threads", int), field(where, limit, "rate", TIME)
        one_of(where, limit, "unit", ("FLOP/s", "B/s"))
    for where, result in objects(path, data, "results"):
        one_of(where, result, "kind", OFFLOAD_KINDS), one_of(where, result, "way", OFFLOAD_WAYS)
        field(where, result, "case", str), field(where, result, "dtype", str), field(where, result, "kv_bytes", TIME)
        for key, least in (("tokens", 1), ("threads", 0)):
            if not least <= field(where, result, key, int) < 1 << 40:
                raise BadInput(f"{where}: field '{key}' is {str(result[key])[:20]}, expected a number of {key}")
        if "cannot" in result:
            field(where, result, "cannot", str)
            continue
        for key in ("seconds", "least", "most"):
            field(where, result, key, SECONDS)
        for key in ("error", "flops"):
            if key in result:
                field(where, result, key, float)
    if not data["results"]:
        raise BadInput(f"{path}: no results in it")
    return Offload(name, context, data["limits"], data["results"])


def name_and_path(argument):
    """Of FILE, or of NAME=FILE."""
    name, equals, path = argument.partition("=")
    if not equals or os.path.exists(argument):
        return os.path.splitext(os.path.basename(argument))[0], argument
    return name, path


def read(argument):
    """A file, or NAME=FILE. Gives a Source, Peers, an Engine or an Offload."""
    name, path = name_and_path(argument)
    name = clean(name)
    try:
        with open(path, encoding="utf-8") as file:
            data = cleaned(json.load(file))
    except OSError as failure:
        raise BadInput(f"{path}: {failure.strerror}") from failure
    except (ValueError, RecursionError) as failure:
        raise BadInput(f"{path}: not JSON as attend-bench writes it: {failure}") from failure
    if not isinstance(data, dict):
        raise BadInput(f"{path}: expected the JSON object that attend-bench, scripts/peers, scripts/offload or scripts/llama writes")
    for kind, reader in (("attend_peers", read_peers), ("attend_engine", read_engine), ("attend_offload", read_offload)):
        if kind in data:
            if data[kind] != 1:
                raise BadInput(f"{path}: field '{kind}' is {json.dumps(data[kind])[:20]}, expected version 1")
            return reader(path, name, data)
    return read_bench(path, name, data)


def unknown(first, more, key):
    """Those of `more` whose like is not in `first`."""
    known = set(map(key, first))
    return [each for each in more if key(each) not in known]


def merged(sources):
    """Sources of one name are one: the standard shapes and the sequences are measured in two runs. What both have is the first's."""
    found = {}
    for source in sources:
        first = found.setdefault(source.name, source)
        if first is not source:
            first.context = source.context | first.context
            first.runs += unknown(first.runs, source.runs, lambda run: (run.kernel, run.shape, run.dtype, run.threads))
            first.phases += unknown(first.phases, source.phases, lambda phase: (phase.isa, phase.dim, phase.name, phase.unit))
            first.limits = source.limits | first.limits
            first.skipped |= source.skipped
            first.failed |= source.failed
    return list(found.values())


def shapes_of(runs):
    """In the order in which they were measured."""
    return list(dict.fromkeys(run.shape for run in runs))


def dtypes_of(runs):
    there = {run.dtype for run in runs}
    return [dtype for dtype in DTYPES if dtype in there] + sorted(there - set(DTYPES))


def one(runs, **like):
    """The run that is like that, or None."""
    return next((run for run in runs if all(getattr(run, key) == value for key, value in like.items())), None)
