# SPDX-License-Identifier: Apache-2.0
"""What the tests of the program share: running it, .npy files, and a plain attention in Python. Standard library only."""

import itertools
import math
import os
import pathlib
import random
import stat
import struct
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(os.environ.get("SOURCE_DIR", pathlib.Path(__file__).resolve().parent.parent))
ATTEND = os.path.abspath(os.environ.get("ATTEND", ROOT / "build" / "attend"))
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("ATTEND_")}


def attend(*arguments, environment=None, **options):
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
    return subprocess.run([ATTEND, *map(str, arguments)], env=ENVIRONMENT | (environment or {}), **options)


def end(process, signal):
    """Ends a process in the middle, and tidies up what clang's OpenMP runtime cannot then: a file it registers itself
    with, by process number. Cut short between making and filling it, the file is empty, and the next process that happens
    to get the number dies of SIGBUS as it reads it."""
    process.send_signal(signal)
    process.wait()
    pathlib.Path(f"/dev/shm/__KMP_REGISTERED_LIB_{process.pid}_{os.getuid()}").unlink(missing_ok=True)


def null_device(directory):
    """A device that swallows all. Not the machine's own for root, who could put a file in its place by mistake. The test is
    skipped where none can be made, as in a user namespace, or opened, as on a file system without devices."""
    if os.geteuid() != 0:
        return "/dev/null"
    path = os.path.join(directory, "null")
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        open(path, "wb").close()
    except OSError as error:
        raise unittest.SkipTest(f"SKIPPED: root has no device of its own here: {error}")
    return path


def give_away(path):
    """Gives a file an owner and a group that nobody has, where they are ours to give: a user namespace may not know them."""
    try:
        os.chown(path, 12345, 54321)
    except OSError:
        pass


# ------------------------------------------------------------------------------------------------------------- tensors

FORMATS = {"<f4": "f", "<f2": "e", "<i4": "i", "<i8": "q", "<u2": "H", "|b1": "?", "<f8": "d", "|u1": "B", "<V2": "H", "|V2": "H", ">V2": ">H", ">f4": ">f", ">f8": ">d", ">i8": ">q"}


def product(shape):
    return math.prod(shape)


class Tensor:
    """Numbers in row-major order."""

    def __init__(self, shape, numbers):
        self.shape, self.numbers = tuple(shape), list(numbers)
        assert len(self.numbers) == product(self.shape)

    def at(self, *index):
        """An element, broadcast as in NumPy."""
        offset = 0
        for extent, i in zip(self.shape, index[len(index) - len(self.shape) :]):
            offset = offset * extent + (i if extent > 1 else 0)
        return self.numbers[offset]


def npy(tensor, descr="<f4", version=1, order="False", shape=None, tail=b""):
    """The bytes of a .npy file."""
    text = f"{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {tensor.shape if shape is None else shape}, }}"
    length = 2 if version == 1 else 4
    text += " " * (-(8 + length + len(text) + 1) % 64) + "\n"
    code = FORMATS.get(descr, "f")
    data = b"".join(struct.pack(code if code[0] == ">" else "<" + code, n) for n in tensor.numbers)
    return b"\x93NUMPY" + bytes([version, 0]) + len(text).to_bytes(length, "little") + text.encode() + data + tail


def transposed(tensor):
    """With the numbers as Fortran has them: the first index runs first."""
    indices = itertools.product(*(range(extent) for extent in reversed(tensor.shape)))
    return Tensor(tensor.shape, [tensor.at(*reversed(index)) for index in indices])


def read_f32(path):
    data = pathlib.Path(path).read_bytes()
    assert data[:8] == b"\x93NUMPY\x01\x00"
    end = 10 + int.from_bytes(data[8:10], "little")
    assert end % 64 == 0
    header = eval(data[10:end].decode(), {"__builtins__": {}})
    assert header["descr"] in ("<f4", ">f4") and header["fortran_order"] is False  # the machine's own order
    return Tensor(header["shape"], [n for (n,) in struct.iter_unpack(header["descr"][0] + "f", data[end:])])


def randoms(*shape, seed=0):
    source = random.Random(f"{shape} {seed}")
    return Tensor(shape, [round(source.gauss(0, 1), 3) for _ in range(product(shape))])


def rounded(tensor, code):
    return Tensor(tensor.shape, [struct.unpack(code, struct.pack(code, n))[0] for n in tensor.numbers])


def bf16_bits(tensor):
    """Upper halves of floats, cut off: any bits will do as input."""
    return Tensor(tensor.shape, [struct.unpack("<I", struct.pack("<f", n))[0] >> 16 for n in tensor.numbers])


def from_bf16(tensor):
    return Tensor(tensor.shape, [struct.unpack("<f", struct.pack("<I", n << 16))[0] for n in tensor.numbers])


def philox(counter, seed):
    """Philox 4x32-10 of Salmon et al. 2011, as its paper defines it."""
    c, key = list(counter), [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        first, second = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [second >> 32 ^ c[1] ^ key[0], second & 0xFFFFFFFF, first >> 32 ^ c[3] ^ key[1], first & 0xFFFFFFFF]
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


def dropped(p, seed, head, i, j):
    """Whether attend drops the weight of query i and key j; heads count through the batch."""
    p = struct.unpack("<f", struct.pack("<f", p))[0]
    return p == 1 or philox((j // 64 * 16 + j % 16, i, head, 0), seed)[j // 16 % 4] < int(p * 2**32)


def reference(q, k, v, *, scale=None, softcap=0, bias=None, head_scale=None, alibi=None, sinks=None, causal=None,
              window=None, lengths=None, positions=None, begins=None, ranges=None, mask=None, dropout=(0, 0), first=0):
    """Attention of (B, H, L, D) tensors, one query after the other: out, lse and weights. `causal` is an offset, or "end"
    for that which lets the last query of each sequence stand at its last key. The batch begins with sequence `first`."""
    B, Hq, Lq, D = q.shape
    _, Hkv, Lk, Dv = v.shape
    scale = 1 / math.sqrt(D) if scale is None else scale
    out, lse, weights = [], [], []
    for b, h, i in itertools.product(range(B), range(Hq), range(Lq)):
        g = h // (Hq // Hkv)
        own = lengths.at(b) if lengths and len(lengths.shape) == 1 else Lk
        length = lengths.at(b, i) if lengths and len(lengths.shape) == 2 else own
        position = i + (positions.at(b) if positions else own - Lq if causal in (None, "end") else causal)
        scores = {}
        for j in range(Lk):
            if causal is not None and j > position or j >= length or mask and not mask.at(b, h, i, j):
                continue
            if begins and j < begins.at(b) or ranges and not ranges.at(b, i, 0) <= j < ranges.at(b, i, 1):
                continue
            if window and (window[0] >= 0 and j < position - window[0] or window[1] >= 0 and j > position + window[1]):
                continue
            score = scale * sum(q.at(b, h, i, d) * k.at(b, g, j, d) for d in range(D))
            if softcap:
                score = softcap * math.tanh(score / softcap)
            added = bias.at(b, h, i, j) if bias else 0
            if added != -math.inf and head_scale:
                added *= head_scale.at(h)
            score += added
            score -= alibi.at(h) * abs(position - j) if alibi else 0
            if score != -math.inf:
                scores[j] = score
        terms = list(scores.values()) + ([sinks.at(h)] if sinks else [])
        top = max(terms, default=-math.inf)
        total = sum(math.exp(term - top) for term in terms)
        row = [math.exp(scores[j] - top) / total if j in scores else 0.0 for j in range(Lk)]
        if p := dropout[0]:
            head = (first + b) * Hq + h
            row = [0.0 if dropped(p, dropout[1], head, i, j) else n / (1 - p) for j, n in enumerate(row)]
        out += [sum(row[j] * v.at(b, g, j, d) for j in scores) for d in range(Dv)]
        lse.append(top + math.log(total) if terms else -math.inf)
        weights += row
    return Tensor((B, Hq, Lq, Dv), out), Tensor((B, Hq, Lq), lse), Tensor((B, Hq, Lq, Lk), weights)


class Case(unittest.TestCase):
    """A directory with q (2, 4, 3, 6), k (2, 2, 5, 6) and v (2, 2, 5, 7) in it."""

    SHAPES = {"q": (2, 4, 3, 6), "k": (2, 2, 5, 6), "v": (2, 2, 5, 7)}

    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = pathlib.Path(directory.name)
        for name, shape in self.SHAPES.items():
            setattr(self, name, randoms(*shape, seed=name))
            self.write(name, getattr(self, name))

    def write(self, name, tensor, descr="<f4", **options):
        self.directory.joinpath(f"{name}.npy").write_bytes(npy(tensor, descr, **options))

    def run_attend(self, *options, **files):
        """attend run with the usual inputs, or others, or (None) without; out goes to out.npy."""
        files = {"q": "q.npy", "k": "k.npy", "v": "v.npy", "out": "out.npy"} | files
        named = [word for name, file in files.items() if file is not None for word in (f"--{name}", file)]
        return attend("run", *named, *options, cwd=self.directory)

    def output(self, name="out"):
        return read_f32(self.directory / f"{name}.npy")

    def contents(self):
        return {path.name: path.read_bytes() for path in self.directory.iterdir() if path.is_file()}
