# SPDX-License-Identifier: Apache-2.0
"""attend under PyTorch: PyTorch's own grids of scaled_dot_product_attention at its tolerances, gradients, compiled code."""

import collections
import itertools
import multiprocessing
import subprocess
import sys

import numpy
import pytest
from conftest import sample

torch = pytest.importorskip("torch")

import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

import attend
import attend.torch
from attend import _attend

LOW = (torch.bfloat16, torch.float16)
TOLERANCE = {torch.float32: (1e-5, 5e-6), torch.bfloat16: (5e-2, 5e-2), torch.float16: (1e-2, 1e-2)}


def by_math(*arguments, **options):
    with sdpa_kernel([SDPBackend.MATH]):
        return F.scaled_dot_product_attention(*arguments, **options)


def exact(q, k, v, attn_mask=None, **options):
    """By PyTorch's plain path, in float32 at least."""
    if q.dtype in LOW:
        mask = attn_mask.float() if attn_mask is not None and attn_mask.dtype != torch.bool else attn_mask
        return by_math(q.float(), k.float(), v.float(), attn_mask=mask, **options).to(q.dtype)
    return by_math(q, k, v, attn_mask=attn_mask, **options)


def close(got, expected, dtype):
    atol, rtol = TOLERANCE[dtype]
    torch.testing.assert_close(got, expected, atol=atol, rtol=rtol, equal_nan=True)


def check(q, k, v, attn_mask=None, train=False, **options):
    """Outputs, and with `train` gradients, as PyTorch's."""
    dtype = q.dtype
    inputs = [x for x in (q, k, v, attn_mask) if x is not None and x.dtype != torch.bool and x.requires_grad]
    got = attend.torch.sdpa(q, k, v, attn_mask=attn_mask, **options)
    expected = exact(q, k, v, attn_mask=attn_mask, **options)
    assert got.shape == expected.shape and got.dtype == dtype
    if not torch.allclose(got, expected, *TOLERANCE[dtype][::-1], equal_nan=True):  # as near to double as PyTorch, then
        double = exact(*(x.double() for x in (q, k, v)), attn_mask=attn_mask.double() if attn_mask is not None and attn_mask.dtype != torch.bool else attn_mask, **options)
        assert (got - double).abs().max() <= 2 * (expected - double).abs().max()
    if train:
        towards = torch.randn_like(got)
        for a, b in zip(torch.autograd.grad(got, inputs, towards), torch.autograd.grad(expected, inputs, towards)):
            scale = max(1.0, b.abs().max().item())
            torch.testing.assert_close(a / scale, b / scale, atol=10 * TOLERANCE[dtype][0], rtol=10 * TOLERANCE[dtype][1], equal_nan=True)


FUSED = sample(itertools.product(TOLERANCE, [2, 12], [267, 1030], [1, 3], [8, 16], [True, False], [True, False]), 24)


@pytest.mark.parametrize("dtype, batch, length, heads, dim, causal, train", FUSED, ids=str)
def test_fused_against_math(dtype, batch, length, heads, dim, causal, train):
    torch.manual_seed(0)
    x = torch.randn(batch, length, 3 * heads * dim, dtype=dtype, requires_grad=train)
    q, k, v = (t.view(batch, length, heads, dim).transpose(1, 2) for t in x.split(heads * dim, 2))
    got, expected = attend.torch.sdpa(q, k, v, is_causal=causal), exact(q, k, v, is_causal=causal)
    close(got, expected, dtype)
    if train:
        a, b = (torch.autograd.grad(y.sum(), x)[0] for y in (got, expected))
        torch.testing.assert_close(a, b, atol=max(TOLERANCE[dtype][0], 1e-4), rtol=max(TOLERANCE[dtype][1], 1e-4))


SHAPES = [(2, m) for m in itertools.product([267, 1], [514, 1])] + [(4, m) for m in itertools.product([2, 1], [3, 1], [267, 1], [514, 1])]
MASKS = sample(itertools.product(TOLERANCE, [m for _, m in SHAPES], [False, True], [False, True]), 30)


@pytest.mark.parametrize("dtype, shape, boolean, train", MASKS, ids=str)
def test_masks_against_math(dtype, shape, boolean, train):
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, n, 3, 8, dtype=dtype, requires_grad=train).transpose(1, 2) for n in (267, 514, 514))
    mask = torch.randint(0, 2, shape, dtype=torch.bool) if boolean else torch.randn(shape, dtype=dtype, requires_grad=train)
    if boolean and shape[-1] == 1:
        mask[..., 0] = True  # rows of no key are another test's
    check(q, k, v, mask, train)


HEADS = sample(itertools.product(TOLERANCE, [(8, 8), (8, 4), (8, 2), (8, 1), (32, 8), (3, 1), (9, 3)], [True, False], [(64, 64), (1, 257), (130, 33), (33, 130)], [16, 64, 80], [False, True]), 40)


@pytest.mark.parametrize("dtype, heads, causal, lengths, dim, train", HEADS, ids=str)
def test_grouped_heads(dtype, heads, causal, lengths, dim, train):
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, h, n, dim, dtype=dtype, requires_grad=train) for h, n in zip((heads[0], heads[1], heads[1]), (lengths[0], lengths[1], lengths[1])))
    check(q, k, v, train=train, is_causal=causal, enable_gqa=True)


def test_operators_own_samples():
    """PyTorch's samples of the operator, forward and backward."""
    from torch.testing._internal.common_methods_invocations import op_db
    operator = next(op for op in op_db if op.name == "nn.functional.scaled_dot_product_attention")
    count = collections.Counter()
    for dtype in TOLERANCE:
        for train in (False, True):
            for s in operator.sample_inputs("cpu", dtype, requires_grad=train):
                options = dict(s.kwargs)
                tensors = (s.input, *s.args)
                if options.get("dropout_p"):
                    out = attend.torch.sdpa(*tensors, **options)
                    assert out.shape == F.scaled_dot_product_attention(*tensors, **options).shape and torch.isfinite(out).all()
                    count["dropout"] += 1
                    continue
                check(*tensors, train=train, **options)
                count["compared"] += 1
    assert count["compared"] >= 50 and count["dropout"] >= 10, count


def test_rows_of_no_key():
    q, k, v = (torch.randn(1, 2, n, 8, requires_grad=True) for n in (5, 9, 9))
    mask = torch.rand(5, 9) > 0.5
    mask[2] = False
    out = attend.torch.sdpa(q, k, v, attn_mask=mask)
    assert not out[:, :, 2].any()
    grads = torch.autograd.grad(out.sum(), (q, k, v))
    assert all(torch.isfinite(g).all() for g in grads) and not grads[0][:, :, 2].any()
    bias = torch.zeros(5, 9).masked_fill(~mask, -torch.inf)
    torch.testing.assert_close(attend.torch.sdpa(q, k, v, attn_mask=bias), out)


def test_ranks_and_broadcasting():
    for shapes in (((5, 16), (9, 16)), ((3, 5, 16), (3, 9, 16)), ((2, 3, 4, 5, 16), (2, 3, 4, 9, 16)), ((2, 1, 5, 16), (1, 4, 9, 16)), ((4, 5, 16), (2, 4, 9, 16))):
        q, k = torch.randn(shapes[0]), torch.randn(shapes[1])
        if q.dim() == k.dim() and q.shape[-3:-2] == k.shape[-3:-2]:
            torch.testing.assert_close(attend.torch.sdpa(q, k, k), by_math(q, k, k), atol=1e-5, rtol=1e-5)
        if q.dim() == 5:
            mask = torch.rand(2, 3, 4, 5, 9) > 0.3
            torch.testing.assert_close(attend.torch.sdpa(q, k, k, mask), by_math(q, k, k, mask), atol=1e-5, rtol=1e-5)


def test_strides():
    q = torch.randn(2, 4, 5, 16)
    for k in (torch.randn(1, 1, 1, 16).expand(2, 4, 9, 16), torch.randn(2, 4, 16, 9).transpose(-1, -2), torch.randn(2, 4, 18, 16)[:, :, ::2], torch.randn(2, 1, 9, 16).expand(2, 4, 9, 16)):
        for mask in (None, torch.randn(9, 5).t(), torch.rand(2, 4, 5, 18)[..., ::2] > 0.5):
            torch.testing.assert_close(attend.torch.sdpa(q, k, k, mask), by_math(q, k, k, mask), atol=1e-5, rtol=1e-5)


def test_dropout():
    q, k, v = (torch.randn(1, 2, 64, 16, requires_grad=True) for _ in range(3))
    torch.manual_seed(5)
    a = attend.torch.sdpa(q, k, v, dropout_p=0.4)
    torch.manual_seed(5)
    assert torch.equal(a, attend.torch.sdpa(q, k, v, dropout_p=0.4))
    # The weights that were dropped are the same backward: by gradients of a function of the values, which is linear.
    weights = _attend._attention(q.detach(), k.detach(), v.detach(), dropout=0.4, seed=11, weights=True)[1]
    out = torch.ops.attend.sdpa(q, k, v, None, 0.4, False, seed=11)[0]
    towards = torch.randn_like(out)
    torch.testing.assert_close(torch.autograd.grad(out, v, towards, retain_graph=True)[0], weights.transpose(-1, -2) @ towards, atol=1e-5, rtol=1e-5)
    kept = (weights != 0) / 0.6
    plain = ((q @ k.transpose(-1, -2) / 4).softmax(-1) * kept) @ v
    for x, y in zip(torch.autograd.grad(out, (q, k), towards), torch.autograd.grad(plain, (q, k), towards)):
        torch.testing.assert_close(x, y, atol=1e-5, rtol=1e-4)


def test_softcap_window_and_lse():
    q, k, v = (torch.randn(2, 4, 12, 16, requires_grad=True) for _ in range(3))
    out, lse = torch.ops.attend.sdpa(q, k, v, None, 0.0, True, scale=0.4, softcap=1.5, window_left=3)
    i, j = torch.arange(12)[:, None], torch.arange(12)[None]
    s = (1.5 * torch.tanh(q @ k.transpose(-1, -2) * 0.4 / 1.5)).masked_fill((j > i) | (j < i - 3), -torch.inf)
    torch.testing.assert_close(lse, s.logsumexp(-1), atol=1e-5, rtol=1e-5)
    a, b = torch.randn_like(out), torch.randn_like(lse)
    got = torch.autograd.grad((out, lse), (q, k, v), (a, b))
    for x, y in zip(got, torch.autograd.grad((s.softmax(-1) @ v, s.logsumexp(-1)), (q, k, v), (a, b))):
        torch.testing.assert_close(x, y, atol=1e-5, rtol=1e-4)


def test_registration():
    """PyTorch's own checks of an operator."""
    def tensors(*heads, **options):
        return tuple(torch.randn(2, h, n, 8, **options) for h, n in zip(heads, (5, 7, 7)))
    for arguments, options in (((*tensors(4, 4, 4, requires_grad=True),), {}), ((*tensors(4, 2, 2), torch.rand(5, 7) > 0.3), {}),
                               ((*tensors(4, 4, 4, requires_grad=True), torch.randn(5, 7, requires_grad=True)), dict(scale=0.3, softcap=2.0))):
        torch.library.opcheck(torch.ops.attend.sdpa.default, arguments, options)


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.project = torch.nn.Linear(64, 192)

    def forward(self, x, function=attend.torch.sdpa):
        q, k, v = (t.view(*x.shape[:2], 4, 16).transpose(1, 2) for t in self.project(x).chunk(3, -1))
        return function(q, k, v, is_causal=True).transpose(1, 2).flatten(2)


def test_compile_and_export():
    block, x = Block(), torch.randn(2, 33, 64)
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), block(x))
    compiled(x).sum().backward()
    got = block.project.weight.grad.clone()
    block.zero_grad()
    block(x, F.scaled_dot_product_attention).sum().backward()
    torch.testing.assert_close(got, block.project.weight.grad, atol=1e-4, rtol=1e-4)
    with torch.no_grad():
        exported = torch.export.export(block, (x,))
        assert "attend.sdpa" in str(exported.graph)
        torch.testing.assert_close(exported.module()(x), block(x))


def test_inductor(everything):
    block, x = Block(), torch.randn(2, 33, 64)
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(block, fullgraph=True)(x), block(x), atol=1e-5, rtol=1e-5)


def test_vmap():
    q, k, v = (torch.randn(3, 1, 2, 5, 8) for _ in range(3))
    torch.testing.assert_close(torch.func.vmap(attend.torch.sdpa)(q, k, v), F.scaled_dot_product_attention(q, k, v))


def test_a_replacement_that_is_kept():
    """Overlapping uses: the first to end takes attend away from nobody, and what was imported meanwhile goes on working."""
    first, second = attend.torch.enable(), attend.torch.enable()
    kept = F.scaled_dot_product_attention
    first.__exit__()
    assert F.scaled_dot_product_attention is kept
    second.__exit__()
    assert F.scaled_dot_product_attention is not kept
    x = torch.randn(1, 2, 3, 8, dtype=torch.float64)
    torch.testing.assert_close(kept(x, x, x), F.scaled_dot_product_attention(x, x, x))


def test_enable():
    before = F.scaled_dot_product_attention
    x = torch.randn(1, 2, 5, 8)
    layer = torch.nn.MultiheadAttention(16, 2, batch_first=True)
    y = torch.randn(2, 5, 16, requires_grad=True)
    expected = layer(y, y, y, need_weights=False)[0]
    with attend.torch.enable() as counts:
        F.scaled_dot_product_attention(x, x, x)
        F.scaled_dot_product_attention(x.double(), x.double(), x.double())
        torch.testing.assert_close(layer(y, y, y, need_weights=False)[0], expected)
        with attend.torch.enable():
            pass
        assert F.scaled_dot_product_attention is not before
        nested = torch.nested.nested_tensor([torch.randn(2, 5, 8), torch.randn(2, 3, 8)]).transpose(1, 2).contiguous().transpose(1, 2)
        try:
            F.scaled_dot_product_attention(nested, nested, nested)
        except RuntimeError:
            pass  # PyTorch's own word on it
    assert counts == {"attend": 2, "dtype float64": 1, "nested or sparse tensors": 1}
    assert F.scaled_dot_product_attention is before
    attend.torch.enable()
    assert F.scaled_dot_product_attention is not before
    attend.torch.disable()
    assert F.scaled_dot_product_attention is before


def test_autocast():
    q, k, v = (torch.randn(1, 2, 5, 8) for _ in range(3))
    with torch.autocast("cpu", torch.bfloat16):
        expected = F.scaled_dot_product_attention(q, k, v)
        got = attend.torch.sdpa(q, k, v)
        with attend.torch.enable() as counts:
            replaced = F.scaled_dot_product_attention(q, k, v.bfloat16())
    assert counts == {"attend": 1} and got.dtype == replaced.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(got, expected, atol=2e-2, rtol=2e-2)
    torch.testing.assert_close(replaced, expected, atol=2e-2, rtol=2e-2)


def test_tracing():
    """What looks at operators sees attend's."""
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.utils._python_dispatch import TorchDispatchMode
    x = torch.randn(1, 2, 5, 8)
    assert "attend.sdpa" in str(make_fx(lambda a: attend.torch.sdpa(a, a, a))(x).graph)
    seen = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            seen.append(str(function))
            return function(*args, **(kwargs or {}))

    with Watch():
        attend.torch.sdpa(x, x, x)
    assert "attend.sdpa.default" in seen


def test_operator_leaves_to_the_dispatcher():
    """The operator computes at once where nothing but its kernel is left to call; what is not so must not be taken for it."""
    from torch._subclasses import FakeTensor, FakeTensorMode
    op, x = torch.ops.attend.sdpa, torch.randn(1, 2, 5, 8)
    expected = op(x, x, x)[0]
    with torch.inference_mode():
        assert torch.equal(op(x, x, x)[0], expected)
    assert torch.equal(op(torch._neg_view(x), x, x)[0], op(-x, x, x)[0])
    assert torch.equal(op(torch._efficientzerotensor(x.shape), x, x)[0], op(torch.zeros_like(x), x, x)[0])
    assert torch.equal(torch.func.vmap(lambda y: op(y, y, y)[0])(x[None])[0], expected)
    with FakeTensorMode() as mode:
        fake = mode.from_tensor(x)
        assert all(isinstance(y, FakeTensor) for y in op(fake, fake, fake))
    y = x.clone().requires_grad_()
    assert op(y, x, x)[0].requires_grad and op(x, x, x, y[0, 0, :, :5])[0].requires_grad
    with torch.no_grad():
        assert not op(y, x, x)[0].requires_grad and torch.equal(op(y, x, x)[0], expected)


def test_function_leaves_to_the_operator():
    """The function computes at once where only the numbers of plain tensors matter; the rest must not be taken for it."""
    from torch._subclasses import FakeTensorMode
    function, x = attend.torch.sdpa, torch.randn(1, 2, 5, 8)
    expected, zeros = function(x, x, x), torch._efficientzerotensor(x.shape)
    assert torch.equal(function(zeros, x, x), function(torch.zeros_like(x), x, x))
    assert torch.equal(function(x, zeros, x), function(x, torch.zeros_like(x), x)) and not function(x, x, zeros).any()
    assert torch.equal(function(torch._efficientzerotensor((3, 2, 5, 8))[2:], x, x), function(torch.zeros_like(x), x, x))
    causal = function(x, x, x, is_causal=True)
    assert not torch.equal(causal, expected) and all(torch.equal(function(x, x, x, is_causal=yes), causal) for yes in (numpy.True_, 1))
    with attend.torch.enable() as counts:
        assert not F.scaled_dot_product_attention(x, x, zeros).any()
        assert torch.equal(F.scaled_dot_product_attention(x, x, x), expected)
    assert counts == {"attend": 2}
    assert torch.equal(function(torch._neg_view(x), x, x), function(-x, x, x))
    assert torch.equal(torch.func.vmap(lambda y: function(y, y, y))(x[None])[0], expected)
    y = torch.nn.Parameter(x)
    assert function(y, x, x).requires_grad and function(x, x, y).requires_grad
    with torch.no_grad():
        assert not function(y, x, x).requires_grad and torch.equal(function(y, x, x), expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert function(x, x, x).dtype == torch.bfloat16
    with FakeTensorMode() as mode:
        assert type(function(*(mode.from_tensor(x),) * 3)) is not torch.Tensor


def test_outputs_without_an_element():
    """Beside a dimension of 0 others may be as large as they like: nothing overflows."""
    most = 2**31 - 1
    q, k, v = (torch.empty(0, 1, 1, 8).expand(0, most, n, 8) for n in (most, 9, 9))
    for out in (attend.attention(q, k, v), attend.torch.sdpa(q, k, v), torch.ops.attend.sdpa(q, k, v)[0]):
        assert out.shape == (0, most, most, 8)
    x = torch.randn(1, 2, 5, 8)
    with pytest.raises(MemoryError):  # copies of what repeats one element more often than there are addresses
        attend.attention(x, x, x, kv_lengths=torch.zeros(1, dtype=torch.int64).expand(2**61))


def test_negative_views():
    x = torch.randn(1, 2, 5, 8)
    torch.testing.assert_close(attend.attention(torch._neg_view(x), x, x), attend.attention(-x, x, x))


def test_refused():
    x = torch.randn(1, 2, 5, 8)
    with pytest.raises(TypeError, match="float64"):
        attend.torch.sdpa(x.double(), x.double(), x.double())
    with pytest.raises(TypeError, match="meta"):
        attend.torch.sdpa(x.to("meta"), x.to("meta"), x.to("meta"))
    with pytest.raises(RuntimeError, match="one of them"):
        attend.torch.sdpa(x, x, x, attn_mask=torch.ones(5, 5, dtype=torch.bool), is_causal=True)
    with pytest.raises(RuntimeError, match="enable_gqa"):
        attend.torch.sdpa(x, x[:, :1].repeat(1, 3, 1, 1), x[:, :1].repeat(1, 3, 1, 1))
    for strange in (x.to("meta"), x.to_sparse(), torch.randn(1, 2, 5, 8).to_mkldnn()):
        with pytest.raises(TypeError, match="q cannot be read"):
            attend.attention(strange, x, x)
    with pytest.raises(ValueError, match="out overlaps k"):
        attend.attention(x.clone(), x, x.clone(), out=x)
    with pytest.raises(ValueError, match="gradient"):
        attend.attention(x.requires_grad_(), x, x)
    with torch.no_grad():
        attend.attention(x, x, x)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_attention_on_tensors(dtype):
    q, k, v = (torch.randn(2, h, n, 16).to(dtype) for h, n in ((4, 5), (2, 9), (2, 9)))
    out, lse = attend.attention(q, k, v, causal=True, kv_lengths=torch.tensor([9, 7]), lse=True)
    assert isinstance(out, torch.Tensor) and out.dtype == dtype and lse.dtype == torch.float32
    i, j = torch.arange(5)[None, :, None], torch.arange(9)[None, None]
    lengths = torch.tensor([9, 7])[:, None, None]
    close(out, exact(q, k, v, attn_mask=((j <= i + lengths - 5) & (j < lengths))[:, None], enable_gqa=True), dtype)


def test_threads_follow_pytorch():
    threads = torch.get_num_threads()
    q = torch.randn(1, 8, 512, 64)
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            assert attend.Plan(q, q, q).threads == n
            assert f"of {n} thread" in attend.explain(q, q, q)
    finally:
        torch.set_num_threads(threads)


def test_cache_of_tensors():
    cache = attend.KVCache(2, 2, 16, capacity=2, k_format="bf16", package="torch")
    k = torch.randn(2, 2, 9, 16)
    for row in range(9):
        cache.append(k[:, :, row:row + 1], k[:, :, row:row + 1])
    q = torch.randn(2, 4, 3, 16)
    rounded = k.bfloat16().float()
    close(cache.attention(q), exact(q, rounded, rounded, enable_gqa=True), torch.float32)


def in_worker(seed):
    q = torch.randn(1, 4, 64, 32, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return attend.torch.sdpa(q, q, q, is_causal=True).numpy()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_pools(method):
    expected = [in_worker(seed) for seed in range(4)]
    with multiprocessing.get_context(method).Pool(2) as pool:
        for got, wanted in zip(pool.map(in_worker, range(4)), expected):
            assert (got == wanted).all()


@pytest.mark.parametrize("order", ["import attend, torch", "import torch, attend"])
def test_one_openmp(order):
    """PyTorch and attend have one OpenMP runtime, and so one pool of threads, whichever comes first."""
    code = order + "; print(len({line.split()[-1] for line in open('/proc/self/maps') if 'libgomp' in line}))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "1\n"
