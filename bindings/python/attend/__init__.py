# SPDX-License-Identifier: Apache-2.0
"""Attention on the CPU: out = softmax(scale * q k^T + bias, masked) v.

    import attend
    out = attend.attention(q, k, v, causal=True)

for arrays of NumPy, PyTorch and whatever else has DLPack. attend.torch puts it under PyTorch, attend.transformers under
the models of transformers; both are imported by name only: `import attend.torch`.
"""

from ._attend import Plan, __version__, append, attention, clear_plans, explain, info, kernels, merge
from ._cache import KVCache
from ._tune import tune

__all__ = ["KVCache", "Plan", "append", "attention", "clear_plans", "explain", "info", "kernels", "merge", "tune", "__version__"]
