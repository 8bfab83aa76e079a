# SPDX-License-Identifier: Apache-2.0
"""Measures attend beside PyTorch's own attention: python measure.py [calls|attention|models]... [--rounds N] [--threads N] [--json FILE]

Candidates take turns; what is printed is the median over the rounds of PyTorch's time divided by attend's of the same round.
FILE gets the whole models, as `attend report` reads them.
"""

import argparse
import json
import pathlib
import statistics
import time

import numpy
import torch
import torch.nn.functional as F

import attend
import attend.torch


def ratios(title, candidates, rounds, repeat=1):
    """Runs candidates in turn; the first is attend. Prints the time of that and the ratios of the others."""
    times = {name: [] for name in candidates}
    for call in candidates.values():
        call()
    for r in range(rounds):
        names = list(candidates)
        for name in names[r % len(names):] + names[:r % len(names)]:
            begin = time.perf_counter()
            for _ in range(repeat):
                candidates[name]()
            times[name].append((time.perf_counter() - begin) / repeat)
    first = next(iter(candidates))
    others = ", ".join(f"{name} / {first} {statistics.median(b / a for a, b in zip(times[first], times[name])):.2f}" for name in list(candidates)[1:])
    print(f"{title:34s} {first} {statistics.median(times[first]) * 1e3:9.4f} ms  {others}", flush=True)
    return times


def calls(rounds):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    q, k = numpy.random.rand(1, 12, 1, 64).astype("f4"), numpy.random.rand(1, 12, 16, 64).astype("f4")
    tq, tk = torch.from_numpy(q), torch.from_numpy(k)
    ratios("call, Lq 1, Lk 16, 12 heads", {"sdpa of attend.torch": lambda: attend.torch.sdpa(tq, tk, tk), "attention() on NumPy": lambda: attend.attention(q, k, k, threads=1),
                                           "torch.ops.attend.sdpa": lambda: torch.ops.attend.sdpa(tq, tk, tk), "F.sdpa": lambda: F.scaled_dot_product_attention(tq, tk, tk)}, rounds, 1000)
    torch.set_num_threads(threads)


def attention(rounds):
    def tensors(dtype, batch, rows, keys):
        return (torch.randn(batch, 12, rows, 64).to(dtype), *(torch.randn(batch, 12, keys, 64).to(dtype) for _ in range(2)))
    for dtype in (torch.float32, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        q, k, v = tensors(dtype, 1, 1024, 1024)
        ratios(f"prefill 1024, {name}", {"attend": lambda: attend.torch.sdpa(q, k, v, is_causal=True), "sdpa": lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True)}, rounds)
        q1, k1, v1 = tensors(dtype, 1, 1, 2048)
        ratios(f"decode 2048, {name}", {"attend": lambda: attend.torch.sdpa(q1, k1, v1), "sdpa": lambda: F.scaled_dot_product_attention(q1, k1, v1)}, rounds, 20)
    begins = torch.tensor([0, 100, 300, 500], dtype=torch.int32)
    for title, rows, keys in (("left-padded prefill 512, float32", 512, 512), ("left-padded decode 2048, float32", 1, 2048)):
        q, k, v = tensors(torch.float32, 4, rows, keys)
        mask = (torch.arange(keys)[None, :] >= begins[:, None])[:, None, None, :] & torch.ones(rows, keys, dtype=torch.bool).tril(keys - rows)
        ratios(title, {"attend": lambda: attend.attention(q, k, v, causal=True, kv_begins=begins), "sdpa": lambda: F.scaled_dot_product_attention(q, k, v, attn_mask=mask)}, rounds, 20 if rows == 1 else 1)


def models(rounds):
    """Gives the steps of all models, each by PyTorch's attention and by attend's."""
    import copy
    import transformers
    import attend.transformers
    attend.transformers.register()
    transformers.logging.set_verbosity_error()
    configs = {
        "GPT-2 small": transformers.GPT2Config(n_positions=4096),
        "Llama-like": transformers.LlamaConfig(hidden_size=1024, intermediate_size=2816, num_hidden_layers=8, num_attention_heads=16, num_key_value_heads=4, vocab_size=32000, max_position_embeddings=4096),
    }
    found = []

    def keep(model, what, depth, times):
        found.append({"model": model, "what": what, "cache": "f32", "depth": depth, "stock": times["sdpa"], "attend": next(iter(times.values()))})
    for name, config in configs.items():
        made = {}
        for implementation in ("attend", "sdpa"):
            torch.manual_seed(0)
            made[implementation] = transformers.AutoModelForCausalLM.from_config(copy.deepcopy(config), attn_implementation=implementation).eval()
        ids = torch.randint(10, 30000, (2, 1024))
        mask = torch.ones(2, 1024, dtype=torch.long)
        mask[1, :400] = 0
        with torch.no_grad():
            keep(name, "prompt of 1024", 0, ratios(f"{name}, prefill 1024", {i: lambda m=m: m(input_ids=ids[:1], use_cache=False, logits_to_keep=1) for i, m in made.items()}, rounds))
            keep(name, "2 prompts of 1024, padded", 0, ratios(f"{name}, padded prefill 2 x 1024", {i: lambda m=m: m(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=1) for i, m in made.items()}, rounds))
            steps = {}
            for title, (i, kind) in {"attend and its cache": ("attend", attend.transformers.Cache), "attend": ("attend", transformers.DynamicCache), "sdpa": ("sdpa", transformers.DynamicCache)}.items():
                cache = kind(config=made[i].config)
                made[i](input_ids=torch.randint(10, 30000, (1, 2048)), cache=cache, logits_to_keep=1)

                def step(model=made[i], cache=cache):
                    model(input_ids=ids[:1, :1], cache=cache)
                    for layer in cache.layers:
                        layer.crop(-1)  # so that every step is at 2048
                steps[title] = step
            keep(name, "token", 2048, ratios(f"{name}, decode at 2048", steps, rounds, 3))
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", default=["calls", "attention", "models"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, help="default: PyTorch's")
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args()
    if arguments.json and "models" not in arguments.what:
        parser.error("--json: only models are written there")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    print(f"{attend.info()['cpu']}, {torch.get_num_threads()} threads, attend {attend.__version__}, PyTorch {torch.__version__}")
    with torch.no_grad():
        for what in arguments.what:
            found = {"calls": calls, "attention": attention, "models": models}[what](arguments.rounds)
            if arguments.json and what == "models":
                context = {"engine": "transformers", "cpu": attend.info()["cpu"], "threads": torch.get_num_threads(), "attend_version": attend.__version__,
                           "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "versions": {"torch": torch.__version__}}
                pathlib.Path(arguments.json).write_text(json.dumps({"attend_engine": 1, "context": context, "results": found}, indent=1) + "\n", encoding="utf-8")
