# SPDX-License-Identifier: Apache-2.0
"""Models of transformers with attend in place: the same numbers and tokens as with transformers' own attention."""

import copy

import pytest
from conftest import ALL, sample

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import attend.transformers
from attend import _attend
from models import models, refused

attend.transformers.register()
transformers.logging.set_verbosity_error()
MODELS = models()
DECODERS = [name for name, (_, _, kind) in MODELS.items() if kind == "decoder"]
SAMPLE = ["bert", "modernbert", "gpt2", "llama", "mistral", "gemma2", "gptoss", "llama4", "deepseekv3", "t5", "whisper", "vit", "clip"]
NAMES = list(MODELS) if ALL else SAMPLE
BATCH, LENGTH = 3, 40
made = {}


def pair(name):
    """The model with eager attention and with attend's, of the same weights; weights far from 0, so that attention is not uniform."""
    if name not in made:
        kind, config, takes = MODELS[name]
        torch.manual_seed(0)
        base = kind._from_config(copy.deepcopy(config), attn_implementation="eager").eval()
        with torch.no_grad():
            for parameter in base.parameters():
                if parameter.dim() > 1:
                    parameter.mul_(2 if takes == "image" else 4)
            for key, parameter in base.named_parameters():
                if key.endswith("sinks"):
                    parameter.copy_(torch.randn_like(parameter))
        other = kind._from_config(copy.deepcopy(config), attn_implementation="attend").eval()
        other.load_state_dict(base.state_dict())
        made[name] = base, other
    return made[name]


def inputs(name, padding):
    takes = MODELS[name][2]
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 200, (BATCH, LENGTH), generator=generator)
    mask = torch.ones(BATCH, LENGTH, dtype=torch.long)
    if padding == "right":
        mask[1, 30:], mask[2, 11:] = 0, 0
    if padding == "left":
        mask[1, :10], mask[2, :29] = 0, 0
    if padding == "holes":
        mask[1, 3:9], mask[2, 20:22] = 0, 0
    ids = ids * mask
    decoder_ids = torch.randint(3, 200, (BATCH, 20), generator=generator)
    pixels = torch.randn(BATCH, 3, 64, 64, generator=generator)
    return {
        "encoder": dict(input_ids=ids, attention_mask=mask),
        "decoder": dict(input_ids=ids, attention_mask=mask),
        "seq2seq": dict(input_ids=ids, attention_mask=mask, decoder_input_ids=decoder_ids),
        "audio": dict(input_features=torch.randn(BATCH, 20, 100, generator=generator), decoder_input_ids=decoder_ids),
        "image": dict(pixel_values=pixels),
        "clip": dict(input_ids=ids, attention_mask=mask, pixel_values=pixels),
    }[takes], mask if takes in ("encoder", "decoder") else None


def outputs(model, name, padding, dtype=torch.float32):
    given, mask = inputs(name, padding)
    given = {key: x.to(dtype) if x.is_floating_point() else x for key, x in given.items()}
    with torch.no_grad():
        result = model(**given)
    x = result.logits if hasattr(result, "logits") else result.text_embeds if "clip" in name else result.last_hidden_state
    return x.float() if mask is None else x.float() * mask[..., None]


def paddings(name):
    takes = MODELS[name][2]
    return {"encoder": ["none", "right", "left", "holes"], "decoder": ["none", "right", "left", "holes"], "seq2seq": ["none", "right"], "clip": ["none", "right"]}.get(takes, ["none"])


@pytest.fixture
def calls(monkeypatch):
    count = []
    run = _attend._attention
    monkeypatch.setattr(_attend, "_attention", lambda *a, **k: (count.append(k), run(*a, **k))[1])
    return count


@pytest.mark.parametrize("name", NAMES)
def test_same_numbers(name, calls):
    eager, ours = pair(name)
    for padding in paddings(name):
        expected = outputs(eager, name, padding)
        got = outputs(ours, name, padding)
        worst = ((got - expected).abs().max() / expected.abs().max()).item()
        assert worst < 1e-4, f"{padding}: {worst}"
    assert calls, "attend was not called"


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_as_near(name):
    """Nearer to float32, or about as near, as eager attention in bfloat16."""
    eager, ours = pair(name)
    padding = paddings(name)[-1]
    exact = outputs(eager, name, padding)
    errors = []
    for model in (eager, ours):
        model = copy.deepcopy(model).to(torch.bfloat16)
        errors.append(((outputs(model, name, padding, torch.bfloat16) - exact).abs().mean() / exact.abs().mean()).item())
    assert errors[1] <= 1.25 * errors[0] + 0.01, errors


@pytest.mark.parametrize("name", [name for name in NAMES if MODELS[name][2] in ("decoder", "seq2seq", "audio")])
def test_generate(name):
    eager, ours = pair(name)
    given, _ = inputs(name, "left" if MODELS[name][2] == "decoder" else "none")
    given.pop("decoder_input_ids", None)
    tokens = []
    runs = [(eager, {}), (ours, {})]
    if MODELS[name][2] == "decoder":
        runs.append((ours, dict(past_key_values=attend.transformers.Cache(config=ours.config, capacity=50))))
    for model, more in runs:
        model.generation_config.eos_token_id = None
        model.generation_config.pad_token_id = 0
        with torch.no_grad():
            tokens.append(model.generate(**given, max_new_tokens=32, do_sample=False, **more))
    for other in tokens[1:]:
        assert torch.equal(tokens[0], other)


@pytest.mark.parametrize("name", [name for name in NAMES if MODELS[name][2] == "decoder"])
def test_generate_in_bfloat16(name):
    """Tokens of which float32 thinks about as well as of those that eager attention chooses in bfloat16."""
    eager, ours = pair(name)
    given, mask = inputs(name, "left")
    misses = []
    for model, more in ((eager, {}), (ours, {}), (ours, dict(past_key_values=attend.transformers.Cache(config=ours.config, capacity=50)))):
        model = copy.deepcopy(model).to(torch.bfloat16)
        model.generation_config.eos_token_id, model.generation_config.pad_token_id = None, 0
        with torch.no_grad():
            tokens = model.generate(**given, max_new_tokens=32, min_new_tokens=32, do_sample=False, **more)
            seen = torch.cat((mask, torch.ones(BATCH, 32, dtype=mask.dtype)), 1)
            positions = (seen.cumsum(1) - 1).clamp(min=0)  # as generate() counts them
            logits = eager(input_ids=tokens, attention_mask=seen, **({"position_ids": positions} if name != "llama4" else {})).logits[:, LENGTH - 1:-1]
        chosen = logits.gather(2, tokens[:, LENGTH:, None])[..., 0]
        misses.append(((logits.max(2).values - chosen) / logits.std(2)).mean().item())
    assert max(misses[1:]) <= 1.5 * misses[0] + 0.05, misses


def test_masks_in_full():
    """What flags cannot say is the mask that transformers makes for its sdpa."""
    from transformers.masking_utils import causal_mask_function, or_masks, sdpa_mask
    padding = torch.tensor([[1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1]], dtype=torch.bool)
    plain = dict(batch_size=2, q_length=4, kv_length=6, q_offset=2, kv_offset=0, attention_mask=padding, mask_function=causal_mask_function)
    odd = lambda b, h, i, j: (i + j) % 2 == 1
    assert type(attend.transformers._mask(**plain)) is attend.transformers.FlagMask
    for change in (dict(mask_function=odd), dict(mask_function=or_masks(causal_mask_function, odd)), dict(q_offset=torch.tensor(2)), dict(use_vmap=True)):
        got = attend.transformers._mask(**{**plain, **change})
        assert type(got) is torch.Tensor and torch.equal(got, sdpa_mask(**plain, allow_is_causal_skip=False) if "mask_function" not in change else
                                                         sdpa_mask(**{**plain, **change}, allow_is_causal_skip=False))


def test_masks_are_flags(calls):
    """Causal masks, windows, chunks and padding do not reach the library as masks."""
    expected = {("llama", "none"): {"causal"}, ("llama", "left"): {"causal", "kv_lengths", "kv_begins"}, ("llama", "right"): {"causal", "kv_lengths"},
                ("llama", "holes"): {"causal", "mask"}, ("mistral", "left"): {"causal", "window", "kv_lengths", "kv_begins"}, ("bert", "right"): {"kv_lengths"},
                ("llama4", "none"): {"causal", "key_ranges"}, ("modernbert", "right"): {"window", "positions", "kv_lengths"}}
    for (name, padding), options in expected.items():
        calls.clear()
        outputs(pair(name)[1], name, padding)
        seen = [{key for key in ("causal", "window", "positions", "kv_lengths", "kv_begins", "key_ranges", "mask", "bias") if key in call} for call in calls]
        assert options in seen, (name, padding, seen)
        assert padding == "holes" or not any(call & {"mask", "bias"} for call in seen)


@pytest.mark.parametrize("name", sample(["gpt2", "llama", "mistral", "gemma3", "llama4"], 3))
def test_chunks_of_a_prompt(name):
    """A prompt that is given in two pieces, over a cache, gives the same as in one."""
    eager, ours = pair(name)
    given, mask = inputs(name, "left")
    for make in (lambda: transformers.DynamicCache(config=ours.config), lambda: attend.transformers.Cache(config=ours.config, capacity=8)):
        cache = make()
        with torch.no_grad():
            whole = eager(**given).logits
            first = ours(input_ids=given["input_ids"][:, :25], attention_mask=mask[:, :25], past_key_values=cache, position_ids=torch.arange(25)[None]).logits
            rest = ours(input_ids=given["input_ids"][:, 25:], attention_mask=mask, past_key_values=cache, position_ids=torch.arange(25, LENGTH)[None]).logits
            whole = eager(**given, position_ids=torch.arange(LENGTH)[None]).logits
        difference = ((torch.cat((first, rest), 1) - whole) * mask[..., None]).abs().max() / whole.abs().max()
        assert difference < 1e-4


def test_attention_weights():
    eager, ours = pair("bert")
    given, mask = inputs("bert", "right")
    with torch.no_grad():
        expected = eager(**given, output_attentions=True).attentions
        got = ours(**given, output_attentions=True).attentions
    assert len(got) == len(expected)
    for a, b in zip(got, expected):
        assert a.shape == b.shape
        assert ((a - b) * mask[:, None, :, None]).abs().max() < 1e-5


def test_beam_search():
    eager, ours = pair("llama")
    given, _ = inputs("llama", "left")
    with torch.no_grad():
        kw = dict(max_new_tokens=8, do_sample=False, num_beams=3)
        expected = eager.generate(**given, **kw)
        assert torch.equal(expected, ours.generate(**given, **kw, past_key_values=attend.transformers.Cache(config=ours.config, capacity=4)))


def test_training():
    """Gradients of a padded batch, and of a model with position biases."""
    for name in ("llama", "t5"):
        eager, ours = (copy.deepcopy(model) for model in pair(name))
        given, mask = inputs(name, "right")
        labels = given.get("decoder_input_ids", given["input_ids"]).clone()
        for model in (eager, ours):
            model(**given, labels=labels).loss.backward()
        for (key, a), b in zip(eager.named_parameters(), ours.parameters()):
            if a.grad is not None:
                assert (a.grad - b.grad).abs().max() <= 2e-3 * a.grad.abs().max() + 1e-6, key


def test_compile():
    _, ours = pair("llama")
    given, _ = inputs("llama", "left")
    compiled = torch.compile(ours, backend="aot_eager")
    with torch.no_grad():
        expected, got = ours(**given).logits, compiled(**given).logits
    assert ((got - expected) * given["attention_mask"][..., None]).abs().max() < 1e-3


@pytest.mark.parametrize("name", list(refused()))
def test_refused(name):
    kind, config = refused()[name]
    with pytest.raises(ValueError, match='attn_implementation="attend"'):
        kind._from_config(copy.deepcopy(config), attn_implementation="attend")
    model = kind(config)
    with pytest.raises(ValueError, match="attend"):
        model.set_attn_implementation("attend")


def test_double_is_refused():
    _, ours = pair("bert")
    with pytest.raises(ValueError, match="float64"):
        outputs(copy.deepcopy(ours).double(), "bert", "none", torch.float64)
