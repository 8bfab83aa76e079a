# SPDX-License-Identifier: Apache-2.0
"""The table of whole models of docs/python.md, from docs/measured/MACHINE/models.json: what `scripts/peers --models -o FILE` wrote.
tests/test_docs.py holds it against them, and writes it with --update."""

import json
import pathlib

from llama_figures import rounds_text

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = {"gpt2-small": "GPT-2 small", "llama-like": "Llama-like"}
ROWS = {"prefill": "prompt of 1024", "padded-prefill": "two prompts, one padded", "decode": "token at 2048",
        "padded-decode": "two tokens, one padded"}
OWN_CACHE = "attend, its cache"


def table():
    """Of every machine that was measured. Ratios are medians of those within a round."""
    parts = []
    for path in sorted(ROOT.glob("docs/measured/*/models.json")):
        measured = json.loads(path.read_text(encoding="utf-8"))
        context, results = measured["context"], measured["results"]
        versions = ", ".join(f"{name} {version}" for name, version in context["versions"].items())
        lines = [f"On {context['cpu']} ({path.parent.name}), {context['date'][:10]}{rounds_text(results)} in turn ({versions}):", "",
                 "| model, type | case | threads | attend, ms | attend and its cache, ms | sdpa, ms | sdpa / the faster of attend's |",
                 "| --- | --- | --- | --- | --- | --- | --- |"]
        for each in results:
            seconds = each["seconds"]
            own = f"{1e3 * seconds[OWN_CACHE]:.1f}" if OWN_CACHE in seconds else ""
            ratio = max(value for name, value in each["ratios"].items() if name.startswith("sdpa / attend"))
            lines.append(f"| {MODELS[each['model']]}, {each['dtype']} | {ROWS[each['row']]} | {each['threads']} | {1e3 * seconds['attend']:.1f} | {own} "
                         f"| {1e3 * seconds['sdpa']:.1f} | **{ratio:.2f}** |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)
