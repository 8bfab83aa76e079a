# SPDX-License-Identifier: Apache-2.0
"""PyTorch: scaled_dot_product_attention by its flash and by its math kernels or as it picks them, and FlexAttention compiled."""

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention

from case import Cannot, rounded

BACKENDS = {"pytorch-flash": SDPBackend.FLASH_ATTENTION, "pytorch-math": SDPBackend.MATH}


def version():
    return torch.__version__


def tensor(array):
    """Without a copy; what numpy cannot name comes as 16-bit patterns."""
    made = torch.from_numpy(array)
    return made.view(torch.bfloat16) if array.dtype == "uint16" else made


class Way:
    """A way to call it: `call` gives the output, a view of which is (B, Hq, Lq, Dv)."""

    def __init__(self, call, backend=None):
        self.call, self.backend, self.out = call, backend, None

    def run(self):
        with torch.inference_mode():
            if self.backend is None:
                self.out = self.call()
            else:
                with sdpa_kernel(self.backend):
                    self.out = self.call()

    def result(self):
        return self.out.float().cpu().numpy()


def row_major(x):
    """The same tensor with (B, L, H, D) in memory, as projections leave it."""
    return x.transpose(1, 2).contiguous().transpose(1, 2)


def additive_mask(case):
    """The mask of numbers that a case gives, in the type that it must have here; None if it gives none."""
    mask = case.additive_mask()
    return None if mask is None else tensor(rounded(mask.astype("float32"), case.dtype))


def sdpa_ways(case, q, k, v, copies=True):
    """Ways to call it on the device of q, k and v; without `copies` only those that take them as they lie."""
    grouped = {"enable_gqa": True} if case.group > 1 else {}
    mask = None if case.mask() is None else torch.from_numpy(case.mask()).to(q.device)
    found, out_shape = {}, (*q.shape[:-1], case.v_head_dim)
    if case.form == "additive-mask":
        numbers = additive_mask(case).to(q.device)
        found["additive mask"] = lambda: scaled_dot_product_attention(q, k, v, attn_mask=numbers, **grouped)
    elif mask is None or case.square:
        causal = {"is_causal": True} if case.causal else {}
        found["(B, H, L, D)"] = lambda: scaled_dot_product_attention(q, k, v, **causal, **grouped)
        if copies:
            rows = [row_major(x) for x in (q, k, v)]
            found["(B, L, H, D)"] = lambda: scaled_dot_product_attention(*rows, **causal, **grouped)
    else:
        whole = mask.expand(case.batch, 1, case.q_len, case.kv_len)
        additive = torch.zeros(mask.shape, dtype=q.dtype, device=q.device).masked_fill(~mask, float("-inf")).expand(whole.shape)
        found["boolean mask"] = lambda: scaled_dot_product_attention(q, k, v, attn_mask=whole, **grouped)
        found["additive mask"] = lambda: scaled_dot_product_attention(q, k, v, attn_mask=additive, **grouped)
    if case.group > 1 and case.q_len == 1 and mask is None:
        folded = q.view(case.batch, case.kv_heads, case.group, case.head_dim)
        found["a group's heads as query rows"] = lambda: scaled_dot_product_attention(folded, k, v).view(out_shape)
    if case.lengths is not None:
        fold = case.group > 1 and case.q_len == 1
        rows = q.view(case.batch, case.kv_heads, case.group, case.head_dim) if fold else q
        more = {} if fold else grouped
        parts = [(rows[b : b + 1], k[b : b + 1, :, :n], v[b : b + 1, :, :n]) for b, n in enumerate(case.lengths)]
        found["a call per sequence"] = lambda: torch.cat(
            [scaled_dot_product_attention(*part, **more) for part in parts]).view(out_shape)
    return found


def flex_way(case, q, k, v):
    offset = case.kv_len - case.q_len
    compiled = torch.compile(flex_attention, dynamic=False)
    if case.form == "additive-mask":
        numbers = additive_mask(case)[0, 0]
        masked = lambda score, b, h, i, j: score + numbers[i, j]
        return lambda: compiled(q, k, v, score_mod=masked, enable_gqa=case.group > 1)
    if case.lengths is not None:
        lengths = torch.from_numpy(case.lengths)
        attended = lambda b, h, i, j: j < lengths[b]
        block_mask = create_block_mask(attended, case.batch, None, case.q_len, case.kv_len, device="cpu")
    elif case.causal:
        attended = lambda b, h, i, j: j <= i + offset
        block_mask = create_block_mask(attended, None, None, case.q_len, case.kv_len, device="cpu")
    else:
        block_mask = None
    return lambda: compiled(q, k, v, block_mask=block_mask, enable_gqa=case.group > 1)


def refuse(peer, case):
    case.refuse_serving()
    case.refuse_formats()
    if peer == "pytorch-flash" and case.v_head_dim != case.head_dim:
        raise Cannot("has values of the keys' head dim only")


def ways(peer, case, q, k, v, threads, copies=True):
    """A peer that BACKENDS does not name is PyTorch as it picks its kernel by itself."""
    torch.set_num_threads(threads)
    q, k, v = (tensor(x) for x in (q, k, v))
    if peer == "pytorch-flex":
        return {"compiled": lambda: Way(flex_way(case, q, k, v))}
    return {name: lambda call=call: Way(call, BACKENDS.get(peer)) for name, call in sdpa_ways(case, q, k, v, copies).items()}
