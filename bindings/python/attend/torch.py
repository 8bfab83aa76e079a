# SPDX-License-Identifier: Apache-2.0
"""attend under PyTorch: an operator with gradients, and the same call as F.scaled_dot_product_attention.

    import attend.torch
    out = attend.torch.sdpa(q, k, v, is_causal=True)     # as F.scaled_dot_product_attention

    with attend.torch.enable() as counts:                # what calls that function gets attend
        model(x)
    print(counts)                                        # and what was left to PyTorch, and why

torch.ops.attend.sdpa is the operator: torch.compile(fullgraph=True) and torch.export take it. Threads follow
torch.get_num_threads().
"""

import collections
import math
import threading

import torch
import torch.nn.functional as F

from . import _attend
from ._attend import _sdpa, _sdpa_at_once as _at_once

if not hasattr(torch.Tensor, "__dlpack_c_exchange_api__"):
    raise ImportError(f"attend.torch needs PyTorch 2.10 or newer, this is {torch.__version__}")

__all__ = ["disable", "enable", "sdpa"]

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_is_compiling = torch.compiler.is_compiling
_library = torch.library.Library("attend", "DEF")
_OPTIONS = "Tensor? attn_mask, float dropout_p, bool is_causal, float? scale, float softcap, int window_left, int window_right, int seed, bool wants_bias"
_library.define("sdpa(Tensor query, Tensor key, Tensor value, Tensor? attn_mask=None, float dropout_p=0.0, bool is_causal=False, *, "
                "float? scale=None, float softcap=0.0, int window_left=-1, int window_right=-1, int seed=0) -> (Tensor, Tensor)")
_library.define(f"sdpa_backward(Tensor grad_out, Tensor? grad_lse, Tensor query, Tensor key, Tensor value, Tensor out, Tensor lse, {_OPTIONS}) "
                "-> (Tensor, Tensor, Tensor, Tensor)")


def _forward(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, *, scale=None, softcap=0.0, window_left=-1,
             window_right=-1, seed=0):
    return _sdpa(query, key, value, attn_mask, dropout_p, is_causal, scale, softcap, window_left, window_right, seed, False)


def _fake(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, **_):
    batch, heads, rows, _dim = query.shape
    out = query.new_empty((batch, rows, heads, value.shape[3])).transpose(1, 2)
    return out, query.new_empty((batch, heads, rows), dtype=torch.float32)


_library.impl("sdpa", _forward, "CPU")
torch.library.register_fake("attend::sdpa", _fake, lib=_library)


# ---------------------------------------------------------------------------------------------------------- gradients

def _flash_backward(grad_out, query, key, value, out, lse, attn_mask, is_causal, scale):
    """PyTorch's own, which takes outputs and logarithms of denominators whoever computed them."""
    if attn_mask is not None:
        if attn_mask.dtype == torch.bool:
            attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill_(~attn_mask, -math.inf)
        attn_mask = attn_mask.reshape((1,) * (4 - attn_mask.dim()) + attn_mask.shape)
        attn_mask = attn_mask.expand(*attn_mask.shape[:2], query.shape[2], key.shape[2])
        lse = lse.masked_fill(lse == -math.inf, 0)  # rows that attend nothing: exp(-inf - 0) is 0
    group = query.shape[1] // key.shape[1]
    if group > 1:  # it knows no groups of heads: their gradients are added up here
        key, value = (x.repeat_interleave(group, 1) for x in (key, value))
    grads = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
        grad_out, query, key, value, out, lse, 0.0, is_causal, attn_mask=attn_mask, scale=scale)
    if group > 1:
        grads = grads[0], *(x.unflatten(1, (-1, group)).sum(2, dtype=torch.float32).to(x.dtype) for x in grads[1:])
    return grads


def _backward_of(grad_out, grad_lse, query, key, value, out, lse, attn_mask, dropout_p, is_causal, scale, softcap, window_left, window_right, seed,
                 wants_bias):
    no_bias = query.new_empty(0)
    plain = (attn_mask is None or not wants_bias and attn_mask.dtype in (torch.bool, query.dtype)) and not dropout_p and not softcap and window_left < 0 and window_right < 0
    if (plain and grad_lse is None and query.shape[3] == value.shape[3]
            and query.dtype == key.dtype == value.dtype and min(*query.shape, *key.shape) > 0):
        return *_flash_backward(grad_out, query, key, value, out, lse, attn_mask, is_causal, scale), no_bias
    grads = [torch.zeros_like(x, memory_format=torch.contiguous_format) for x in (query, key, value)]
    bias_grad = torch.zeros_like(attn_mask, dtype=torch.float32, memory_format=torch.contiguous_format) if wants_bias else no_bias
    if query.numel() == 0 or key.shape[2] == 0:
        return *grads, bias_grad.to(attn_mask.dtype) if wants_bias else no_bias
    keep = None
    if dropout_p:  # which weights were dropped follows from the seed: those that come out as 0
        keep = _sdpa(query, key, value, attn_mask, dropout_p, is_causal, scale, softcap, window_left, window_right, seed, True)[2] != 0
    (batch, heads, rows, dim), groups, keys = query.shape, key.shape[1], key.shape[2]
    scale = 1 / math.sqrt(dim) if scale is None else scale
    excluded = None  # by causal masks and windows
    if is_causal or window_left >= 0 or window_right >= 0:
        i = torch.arange(rows)[:, None] + (0 if is_causal else keys - rows)
        j = torch.arange(keys)[None]
        excluded = torch.zeros(rows, keys, dtype=torch.bool)
        if is_causal:
            excluded |= j > i
        if window_left >= 0:
            excluded |= j < i - window_left
        if window_right >= 0:
            excluded |= j > i + window_right
    for b in range(batch):  # so that only one sequence's weights are in memory
        q, k, v, o, go = (x[b].float() for x in (query, key, value, out, grad_out))
        q, o, go = (x.reshape(groups, -1, x.shape[-1]) for x in (q, o, go))  # (groups, heads of a group x rows, dim)
        s = (q @ k.transpose(1, 2)).mul_(scale).view(heads, rows, keys)
        slope = None
        if softcap:
            t = torch.tanh_(s.div_(softcap))
            slope, s = 1 - t * t, t * softcap
        mask = None if attn_mask is None else attn_mask.expand(batch, heads, rows, keys)[b]
        if mask is not None:
            s = s.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else s + mask.float()
        if excluded is not None:
            s = s.masked_fill(excluded, -math.inf)
        sums = lse[b][..., None]
        p = torch.exp(s - sums.masked_fill(sums == -math.inf, 0))  # rows that attend nothing: all exp(-inf)
        gp = (go @ v.transpose(1, 2)).view(heads, rows, keys)
        dropped = p
        if keep is not None:
            factor = keep[b] / (1 - dropout_p) if dropout_p < 1 else torch.zeros_like(p)
            gp, dropped = gp * factor, p * factor
        grads[2][b] = (dropped.reshape(groups, -1, keys).transpose(1, 2) @ go).to(value.dtype)
        mean = (go * o).sum(-1).view(heads, rows, 1)
        if grad_lse is not None:
            mean = mean - grad_lse[b][..., None]
        gs = p * (gp - mean)
        if wants_bias:
            whole = gs[None] if attn_mask.dim() == 4 else gs
            place = bias_grad[b:b + 1] if attn_mask.dim() == 4 and attn_mask.shape[0] > 1 else bias_grad
            place += whole.sum_to_size(place.shape)
        if slope is not None:
            gs = gs * slope
        gs = gs.reshape(groups, -1, keys).mul_(scale)
        grads[0][b] = (gs @ k).view(heads, rows, dim).to(query.dtype)
        grads[1][b] = (gs.transpose(1, 2) @ q).to(key.dtype)
    return *grads, bias_grad.to(attn_mask.dtype) if wants_bias else no_bias


def _fake_backward(grad_out, grad_lse, query, key, value, out, lse, attn_mask, *options):
    return *(torch.empty_like(x) for x in (query, key, value)), torch.empty_like(attn_mask) if options[-1] else query.new_empty(0)


_library.impl("sdpa_backward", _backward_of, "CPU")
torch.library.register_fake("attend::sdpa_backward", _fake_backward, lib=_library)


_is_grad_enabled, _BELOW = torch.is_grad_enabled, torch._C._after_autograd_keyset


def _below(keyset, query, key, value, attn_mask, dropout_p, is_causal, scale, softcap, window_left, window_right, seed):
    with torch._C._AutoDispatchBelowAutograd():
        return torch.ops.attend.sdpa.default.redispatch(keyset, query, key, value, attn_mask, dropout_p, is_causal, scale=scale, softcap=softcap,
                                                        window_left=window_left, window_right=window_right, seed=seed)


class _Differentiable(torch.autograd.Function):
    @staticmethod
    def forward(ctx, keyset, query, key, value, attn_mask, *options):
        result = _below(keyset, query, key, value, attn_mask, *options)
        ctx.options = options
        ctx.wants_bias = attn_mask is not None and attn_mask.dtype != torch.bool and attn_mask.requires_grad
        ctx.save_for_backward(query, key, value, attn_mask, *result)
        ctx.set_materialize_grads(False)
        return result

    @staticmethod
    def backward(ctx, grad_out, grad_lse):
        query, key, value, attn_mask, out, lse = ctx.saved_tensors
        if grad_out is None:
            if grad_lse is None:
                return (None,) * 12
            grad_out = torch.zeros_like(out)
        q, k, v, bias = torch.ops.attend.sdpa_backward(grad_out, grad_lse, query, key, value, out, lse, attn_mask, *ctx.options, ctx.wants_bias)
        return None, q, k, v, bias if ctx.wants_bias else None, *(None,) * 7


_direct = set()  # dispatch keys of calls of which nothing but the kernel below is left after autograd


def _autograd(keyset, query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, *, scale=None, softcap=0.0, window_left=-1,
              window_right=-1, seed=0):
    """Where every call comes first.

    torch.library.register_autograd() does the same, but takes 5 us more of a call that asks for no gradient. Nor does PyTorch's stable
    ABI help: a kernel in C++ sees neither whether a tensor requires a gradient, nor which dispatch keys are left.
    """
    if _is_grad_enabled() and (query.requires_grad or key.requires_grad or value.requires_grad or attn_mask is not None and attn_mask.requires_grad):
        return _Differentiable.apply(keyset & _BELOW, query, key, value, attn_mask, dropout_p, is_causal, scale, softcap, window_left, window_right, seed)
    if keyset.raw_repr() in _direct:
        return _sdpa(query, key, value, attn_mask, dropout_p, is_causal, scale, softcap, window_left, window_right, seed, False)
    below = keyset & _BELOW
    if below.highestPriorityTypeId() == torch._C.DispatchKey.CPU:
        _direct.add(keyset.raw_repr())
    return _below(below, query, key, value, attn_mask, dropout_p, is_causal, scale, softcap, window_left, window_right, seed)


_library.impl("sdpa", _autograd, "Autograd", with_keyset=True)


# -------------------------------------------------------------------------------------------------------- the function

def _unsupported(query, key, value, attn_mask):
    """Why a call is not attend's, or None."""
    for x in (query, key, value) if attn_mask is None else (query, key, value, attn_mask):
        if x.device.type != "cpu":
            return f"device {x.device.type}"
        if x.is_nested or x.layout != torch.strided:
            return "nested or sparse tensors"
    if query.dtype not in _DTYPES or key.dtype != query.dtype or value.dtype != query.dtype:
        return f"dtype {str(query.dtype if query.dtype not in _DTYPES else key.dtype).removeprefix('torch.')}"
    if min(query.dim(), key.dim(), value.dim()) < 2:
        return "fewer than two dimensions"
    return None


def _heads(query, key, value, enable_gqa):
    if query.shape[-3] == key.shape[-3] == value.shape[-3]:
        return key, value
    if not enable_gqa:
        heads = max(query.shape[-3], key.shape[-3], value.shape[-3])
        if query.shape[-3] != heads:
            raise RuntimeError(f"query has {query.shape[-3]} heads and key {key.shape[-3]}: expected enable_gqa=True where they differ")
        return tuple(x.expand(*x.shape[:-3], heads, *x.shape[-2:]) for x in (key, value))
    heads = max(key.shape[-3], value.shape[-3])
    return tuple(x if x.shape[-3] == heads else x.repeat_interleave(heads // x.shape[-3], -3) for x in (key, value))


def _general(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa, seed):
    """Any number of dimensions, broadcast as PyTorch does."""
    dims = max(query.dim(), key.dim(), value.dim(), 3)
    whole = query.dim() >= 3
    query, key, value = (x if x.dim() >= 3 else x[None] for x in (query, key, value))
    lead = torch.broadcast_shapes(*(x.shape[:-3] for x in (query, key, value)))
    query, key, value = (x.expand(*lead, *x.shape[-3:]) for x in (query, key, value))
    key, value = _heads(query, key, value, enable_gqa)
    if attn_mask is not None:
        if attn_mask.dtype not in (torch.bool, *_DTYPES):
            attn_mask = attn_mask.to(query.dtype)
        attn_mask = attn_mask.expand(*lead, query.shape[-3], query.shape[-2], key.shape[-2])
    flat = [x.reshape(math.prod(lead), *x.shape[-3:]) if len(lead) != 1 and x is not None else x for x in (query, key, value)]
    if attn_mask is not None and len(lead) != 1:
        attn_mask = attn_mask.reshape(math.prod(lead), *attn_mask.shape[-3:])
    out = torch.ops.attend.sdpa(*flat, attn_mask, dropout_p, is_causal, scale=scale, seed=seed)[0]
    if len(lead) != 1:
        out = out.reshape(*lead, *out.shape[-3:])
    return out if whole or dims > 3 else out[0]


def _autocast(*tensors):
    """float32 in the type that autocast says: PyTorch computes in that, too."""
    dtype = torch.get_autocast_dtype("cpu")
    return (x.to(dtype) if x is not None and x.dtype == torch.float32 else x for x in tensors)


def sdpa(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    """torch.nn.functional.scaled_dot_product_attention, by attend: the same arguments, results and gradients.

    Tensors of the CPU in float32, bfloat16 or float16; TypeError for others. A query that attends no key gives zeros.
    """
    if attn_mask is None and not dropout_p and not _is_compiling():
        out = _at_once(query, key, value, is_causal, scale)
        if out is not None:
            return out
    if torch.is_autocast_enabled("cpu"):
        query, key, value, attn_mask = _autocast(query, key, value, attn_mask)
    why = _unsupported(query, key, value, attn_mask)
    if why:
        raise TypeError(f"attend.torch.sdpa does not take {why}: expected float32, bfloat16 or float16 of the CPU, all three alike")
    if is_causal and attn_mask is not None:
        raise RuntimeError("attn_mask and is_causal: expected one of them only")
    if not 0 <= dropout_p <= 1:
        raise ValueError(f"dropout_p is {dropout_p}, expected 0 to 1")
    seed = 0
    if dropout_p:
        seed = int(torch.randint(0, 2**62, ()).item())  # so that torch.manual_seed() decides
    if query.dim() == key.dim() == value.dim() == 4 and query.shape[0] == key.shape[0] == value.shape[0] and (
            attn_mask is None or attn_mask.dtype == torch.bool or attn_mask.dtype in _DTYPES):
        key, value = _heads(query, key, value, enable_gqa)
        return torch.ops.attend.sdpa(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, seed=seed)[0]
    return _general(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa, seed)


# ------------------------------------------------------------------------------------------------------- in its place

_pytorch = F.scaled_dot_product_attention  # kept while attend's is in its place, and after: somebody may still hold that
_counts = collections.Counter()
_lock = threading.Lock()
_users = 0  # enable() that have not ended


def _replacement(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    if attn_mask is None and not dropout_p and not _is_compiling():
        out = _at_once(query, key, value, is_causal, scale)
        if out is not None:
            _counts["attend"] += 1
            return out
    if torch.is_autocast_enabled("cpu"):
        with torch.autocast("cpu", enabled=False):
            return _replacement(*_autocast(query, key, value, attn_mask), dropout_p, is_causal, scale, enable_gqa)
    why = _unsupported(query, key, value, attn_mask)
    if not torch.compiler.is_compiling():
        _counts[why or "attend"] += 1
    if why:
        return _pytorch(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
    return sdpa(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)


class enable:
    """Puts attend in the place of F.scaled_dot_product_attention; as a context manager, for its block.

    Returns, or gives the block, a Counter: calls by "attend", and those left to PyTorch by the reason, such as
    "dtype float64". Compiled code is not counted. Modules that have imported the function by name keep PyTorch's.
    """

    def __init__(self):
        global _pytorch, _users
        with _lock:
            if _users == 0:
                _pytorch = F.scaled_dot_product_attention
                F.scaled_dot_product_attention = _replacement
                _counts.clear()
            _users += 1
        self.counts = _counts

    def __enter__(self):
        return self.counts

    def __exit__(self, *_):
        _leave(1)


def _leave(users):
    global _users
    with _lock:
        before, _users = _users, max(0, _users - users)
        if before > 0 and _users == 0:
            F.scaled_dot_product_attention = _pytorch


def disable():
    """Puts PyTorch's function back, however often enable() was called."""
    _leave(_users)
