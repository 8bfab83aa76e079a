# SPDX-License-Identifier: Apache-2.0
"""The side of the GPU, by PyTorch: attention resident there, the way over PCIe, and what limits either.

Calls are queued; finish() waits until they are done. On another device of PyTorch than "cuda" everything runs as well and measures
nothing: the tests take "cpu", to have run each line.
"""

import time

import numpy
import torch
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention

import pytorch
from case import Cannot
from worker import fastest

MOST_CALLS = 1000  # that are queued at once
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


class Queued:
    """Something that a call queues on the GPU."""

    def __init__(self, gpu, call, result=None, setting=""):
        self.gpu, self.run, self.result, self.setting = gpu, call, result, setting

    def seconds_of(self, seconds):
        """Of a call among as many in a row as take so long: a list, as worker.seconds_of() gives one."""
        begin = time.perf_counter()
        self.run()
        self.gpu.finish()
        once = time.perf_counter() - begin
        calls = min(int(seconds / once), MOST_CALLS)
        if calls < 2:
            return [once]
        begin = time.perf_counter()
        for _ in range(calls):
            self.run()
        self.gpu.finish()
        return [(time.perf_counter() - begin) / calls]


class Gpu:
    def __init__(self, device="cuda"):
        self.device = torch.device(device)
        self.is_cuda = self.device.type == "cuda"

    def load(self, case, q, k, v):
        if self.is_cuda:
            torch.cuda.empty_cache()  # what PyTorch keeps of the case before would not count as free
        return Loaded(self, case, q, k, v)

    def finish(self):
        if self.is_cuda:
            torch.cuda.synchronize(self.device)

    def about(self):
        """What its figures depend on."""
        if not self.is_cuda:
            return {"gpu": f"none: the device {self.device} of a test", "gpu_bytes": 0}
        found = torch.cuda.get_device_properties(self.device)
        return {"gpu": found.name, "gpu_bytes": found.total_memory, "cuda": str(torch.version.cuda)}

    def free_bytes(self):
        return torch.cuda.mem_get_info(self.device)[0] if self.is_cuda else 1 << 60

    def pinned(self, array):
        """The same numbers in memory that the GPU copies from, and to, by itself."""
        held = torch.from_numpy(array.reshape(-1).view(numpy.uint8))
        held = held.pin_memory() if self.is_cuda else held.clone()
        return held.numpy().view(array.dtype).reshape(array.shape)

    def limits(self, dtype, seconds, size=8192, most=1 << 30):
        """(what, per second, its unit): products of matrices of `size` rows, reading and copying `most` bytes at once."""
        a, b = (torch.randn(size, size, device=self.device, dtype=DTYPES[dtype]) for _ in range(2))
        yield f"products of matrices, {dtype}", 2 * size**3 / self.once(lambda: torch.mm(a, b), seconds), "FLOP/s"
        there = torch.randn(most // 4, device=self.device)
        yield "reading the GPU's memory", most / self.once(there.sum, seconds), "B/s"
        here = torch.randn(most // 4)
        here = here.pin_memory() if self.is_cuda else here
        yield "PCIe to the GPU", most / self.once(lambda: there.copy_(here, non_blocking=True), seconds), "B/s"
        yield "PCIe from the GPU", most / self.once(lambda: here.copy_(there, non_blocking=True), seconds), "B/s"

    def once(self, call, seconds, rounds=5):
        """The median of a few turns."""
        way = Queued(self, call)
        return sorted(way.seconds_of(seconds)[-1] for _ in range(rounds))[rounds // 2]


class Loaded:
    """q, k and v of a case, pinned in the host's memory and once more on the GPU."""

    def __init__(self, gpu, case, q, k, v):
        case.refuse_serving()
        case.refuse_formats()
        if gpu.free_bytes() < 2 * (q.nbytes + k.nbytes + v.nbytes) + (1 << 30):
            raise Cannot("needs more memory than the GPU has")
        self.gpu, self.case = gpu, case
        self.q, self.k = gpu.pinned(q), gpu.pinned(k)
        inside = case.form == "v-in-k"
        self.v = self.k[..., :case.v_head_dim] if inside else gpu.pinned(v)
        self.out = gpu.pinned(numpy.zeros((*q.shape[:-1], case.v_head_dim), q.dtype))
        self.here = [pytorch.tensor(x) for x in (self.q, self.k, self.v, self.out)]
        self.there = [x.to(gpu.device, copy=True) for x in self.here]
        if inside:
            self.there[2] = self.there[1][..., :case.v_head_dim]

    def fetch_q(self):
        """As an engine does whose model runs on the GPU."""
        self.here[0].copy_(self.there[0], non_blocking=True)
        self.gpu.finish()

    def send_out(self):
        self.there[3].copy_(self.here[3], non_blocking=True)
        self.gpu.finish()

    def copies(self):
        """Ways to move q, k and v: whole, or of keys and values only what is attended. {name: [(to, from)]}"""
        pairs = list(zip(self.there, self.here))[:2 if self.case.form == "v-in-k" else 3]
        found = {"whole": pairs}
        if self.case.lengths is not None:
            found["keys of each sequence and head"] = pairs[:1] + [
                (to[b, h, :n], of[b, h, :n]) for to, of in pairs[1:] for b, n in enumerate(self.case.lengths) for h in range(self.case.kv_heads)]
        return found

    def attention(self):
        """Ways to call PyTorch's attention on what lies on the GPU."""
        q, k, v, _ = self.there
        found = pytorch.sdpa_ways(self.case, q, k, v, copies=False)
        if self.case.causal and not self.case.square and self.case.form == "plain":
            aligned = causal_lower_right(self.case.q_len, self.case.kv_len)
            found["causal, aligned to the last key"] = lambda: scaled_dot_product_attention(
                q, k, v, attn_mask=aligned, enable_gqa=self.case.group > 1)
        return found

    def ways(self):
        """{"resident", "copied" and "moved": a Queued}. Copied is the way alone, moved is both, one after the other."""
        calls = {name: pytorch.Way(call) for name, call in self.attention().items()}
        setting = fastest({name: lambda way=way: Queued(self.gpu, way.run) for name, way in calls.items()}, Queued.seconds_of)
        attend = calls[setting]
        moves = {name: lambda pairs=pairs: [to.copy_(of, non_blocking=True) for to, of in pairs] for name, pairs in self.copies().items()}
        moving = fastest({name: lambda move=move: Queued(self.gpu, move) for name, move in moves.items()}, Queued.seconds_of)

        def moved():
            moves[moving]()
            attend.run()

        def moved_result():
            for tensor in self.there[:2 if self.case.form == "v-in-k" else 3]:
                tensor.zero_()  # so that what was there before cannot be taken for what was moved
            moved()
            return attend.result()

        def resident_result():
            attend.run()
            return attend.result()

        return {"resident": Queued(self.gpu, attend.run, resident_result, setting), "copied": Queued(self.gpu, moves[moving], None, moving),
                "moved": Queued(self.gpu, moved, moved_result, f"{moving}; {setting}")}
