# SPDX-License-Identifier: Apache-2.0
"""Whole models of transformers, of random weights, with attend's attention, PyTorch's (sdpa) and the plain one (eager).

One model and one process: candidates take turns, and change nothing but attn_implementation, and for decode the cache.
Times are medians of the rounds, ratios medians of the ratios within a round.

  prefill          a prompt of 1024 tokens
  padded-prefill   two of them in a batch, of which one has 400 tokens of padding on the left
  decode           one token over 2048 keys and values: attend with transformers' cache, and with its own, which appends in place
  padded-decode    two of them in a batch, of which one has 400 tokens of padding on the left

scripts/peers --models makes the environment this needs and runs it.
"""

import argparse
import json
import os
import statistics
import sys
import time

ROWS = ("prefill", "padded-prefill", "decode", "padded-decode")
DTYPES = {"f32": "float32", "bf16": "bfloat16"}
OURS = ("attend", "attend, its cache")
# What is made of each: a class of transformers' configs, its numbers, the tokens of a prompt, and the keys that decode is at.
SHAPES = {
    "gpt2-small": ("GPT2Config", {"n_positions": 4096}, 1024, 2048),
    "llama-like": ("LlamaConfig", {"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 8, "num_attention_heads": 16,
                                   "num_key_value_heads": 4, "vocab_size": 32000, "max_position_embeddings": 4096}, 1024, 2048),
    "tiny": ("LlamaConfig", {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
                             "num_key_value_heads": 2, "vocab_size": 200, "max_position_embeddings": 128}, 24, 48),
}
PADDING = 400  # tokens of a padded row, and two fifths of it at most
PAUSE = 0.02  # seconds between two turns, in which threads go to sleep


def model_of(shape, dtype):
    import torch
    import transformers

    kind, numbers, length, keys = SHAPES[shape]
    torch.manual_seed(0)
    config = getattr(transformers, kind)(**numbers)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=getattr(torch, DTYPES[dtype]))
    return model.eval(), length, keys


def padded(batch, length):
    """Which tokens of a batch are there: all of them, but for the first ones of the last row where the batch is of two."""
    import torch

    mask = torch.ones(batch, length, dtype=torch.long)
    if batch > 1:
        mask[-1, : min(PADDING, 2 * length // 5)] = 0
    return mask


def prefill(model, batch, length):
    """Candidates by name, each a function that gives logits."""
    import torch

    given = {"input_ids": torch.randint(10, model.config.vocab_size, (batch, length))}
    if batch > 1:
        given["attention_mask"] = padded(batch, length)

    def candidate(name):
        return lambda: model(**given, use_cache=False, logits_to_keep=1).logits

    return {name: candidate(name) for name in ("attend", "sdpa", "eager")}


def decode(model, batch, keys):
    """As prefill(), with a cache for each candidate of the same random keys and values, which is cut back after a step."""
    import inspect
    import torch
    import transformers
    import attend.transformers

    config = model.config
    heads = getattr(config, "num_key_value_heads", config.num_attention_heads)
    shape = batch, heads, keys, config.hidden_size // config.num_attention_heads
    rows = [tuple(torch.randn(shape).to(model.dtype) for _ in "kv") for _ in range(config.num_hidden_layers)]
    given = {"input_ids": torch.randint(10, config.vocab_size, (batch, 1))}
    if batch > 1:
        given["attention_mask"] = padded(batch, keys + 1)
    word = "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"  # before transformers 5.20

    def candidate(kind):
        cache = kind(config=config)
        for layer, (k, v) in enumerate(rows):
            cache.update(k, v, layer)

        def step():
            logits = model(**given, **{word: cache}).logits
            for layer in cache.layers:
                layer.crop(-1)
            return logits
        return step

    return {name: candidate(attend.transformers.Cache if name == OURS[1] else transformers.DynamicCache) for name in (*OURS, "sdpa", "eager")}


def measure(model, candidates, rounds, seconds):
    """Times of the rounds by candidate, and the largest difference of their logits from eager's, by its largest logit."""
    times, logits = {name: [] for name in candidates}, {}
    for turn in range(-1, rounds):  # the first one is not timed
        names = list(candidates)
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            model.set_attn_implementation("attend" if name in OURS else name)
            time.sleep(PAUSE)
            if turn < 0:
                logits[name] = candidates[name]().float()
                continue
            found, end = [], time.perf_counter() + seconds
            while not found or time.perf_counter() < end:
                begin = time.perf_counter()
                candidates[name]()
                found.append(time.perf_counter() - begin)
            times[name].append(statistics.median(found))
    largest = logits["eager"].abs().max()
    return times, {name: float((found - logits["eager"]).abs().max() / largest) for name, found in logits.items()}


WORDS = {"prefill": "prompt of {}", "padded-prefill": "2 prompts of {}, one padded", "decode": "token", "padded-decode": "2 tokens, one padded"}


def result_of(case, times, differences):
    """What is written down of a case: as `attend report` reads it (sdpa beside attend, with its cache where there is one), and all of it."""
    ours = [name for name in OURS if name in times]
    ratio = lambda a, b: statistics.median(x / y for x, y in zip(times[a], times[b]))
    _, _, length, keys = SHAPES[case["model"]]
    what = WORDS[case["row"]].format(length) + f", {case['threads']} thread{'s' if case['threads'] > 1 else ''}"
    decode, batch = case["row"].endswith("decode"), 2 if case["row"].startswith("padded") else 1
    read = {"what": what, "cache": case["dtype"], "depth": keys if decode else 0, "tokens": batch * (1 if decode else length),
            "stock": times["sdpa"], "attend": times[ours[-1]]}
    return {**case, **read, "seconds": {name: statistics.median(found) for name, found in times.items()}, "rounds": times,
            "difference": differences, "ratios": {f"{other} / {name}": ratio(other, name) for name in ours for other in times if other not in OURS}}


def line_of(result):
    times = "  ".join(f"{name} {found * 1e3:.2f} ms" for name, found in result["seconds"].items())
    ratios = "  ".join(f"{name} {found:.2f}" for name, found in result["ratios"].items())
    difference = max(found for name, found in result["difference"].items() if name in OURS)
    return (f"{result['model']:10} {result['row']:14} {result['dtype']:4} threads:{result['threads']:<3} {times}   {ratios}   "
            f"difference {difference:.0e}")


def chosen(parser, text, name, known):
    names = text.split(",")
    for found in names:
        if found not in known:
            parser.error(f"{name} {found}: expected {', '.join(known)}, with commas between them")
    return names


def main():
    cores = len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(prog="scripts/peers --models", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter,
                                     epilog="example:\n  scripts/peers --models --shapes llama-like --dtypes bf16 --rows decode --rounds 9\n")
    parser.add_argument("--shapes", metavar="LIST", default="gpt2-small,llama-like", help="gpt2-small, llama-like: 1024 wide, "
                        "16 heads, 4 of keys, 8 layers; tiny (default: the first two)")
    parser.add_argument("--dtypes", metavar="LIST", default="f32,bf16", help="default: f32,bf16")
    parser.add_argument("--rows", metavar="LIST", default=",".join(ROWS), help="of those above (default: all)")
    parser.add_argument("--threads", metavar="LIST", default=f"1,{cores}", help=f"default: 1,{cores}")
    parser.add_argument("--rounds", type=int, metavar="N", default=5, help="turns that each takes (5)")
    parser.add_argument("--seconds", type=float, metavar="S", default=0.2, help="that a turn lasts at least (0.2)")
    parser.add_argument("-o", metavar="FILE", dest="file", help="writes the results there too, as `attend report` reads them")
    options = parser.parse_args()
    shapes = chosen(parser, options.shapes, "--shapes", SHAPES)
    dtypes = chosen(parser, options.dtypes, "--dtypes", DTYPES)
    rows = chosen(parser, options.rows, "--rows", ROWS)
    threads = options.threads.split(",")
    if not all(text.isdigit() and 1 <= int(text) <= 1024 for text in threads) or options.rounds < 1 or not options.seconds > 0:
        parser.error("--threads takes numbers from 1 to 1024 between commas, --rounds and --seconds positive numbers")

    import torch
    import transformers
    import attend.transformers

    attend.transformers.register()
    transformers.logging.set_verbosity_error()
    context = {"engine": "transformers", "cpu": attend.info()["cpu"], "isa": attend.info()["highest_isa"], "date": time.strftime("%Y-%m-%d"),
               "versions": {"attend": attend.__version__, "torch": torch.__version__, "transformers": transformers.__version__}}
    print(f"{context['cpu']}, {context['isa']}; " + ", ".join(f"{name} {version}" for name, version in context["versions"].items()), flush=True)
    results = []
    with torch.inference_mode():
        for shape in shapes:
            for dtype in dtypes:
                model, length, keys = model_of(shape, dtype)
                for row in rows:
                    batch = 2 if row.startswith("padded") else 1
                    candidates = decode(model, batch, keys) if row.endswith("decode") else prefill(model, batch, length)
                    for count in sorted({int(text) for text in threads}):
                        torch.set_num_threads(count)
                        case = {"model": shape, "row": row, "dtype": dtype, "threads": count}
                        results.append(result_of(case, *measure(model, candidates, options.rounds, options.seconds)))
                        print(line_of(results[-1]), flush=True)
    if options.file:
        with open(options.file, "w", encoding="utf-8") as file:
            json.dump({"attend_engine": 1, "context": context, "results": results}, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
