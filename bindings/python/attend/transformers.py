# SPDX-License-Identifier: Apache-2.0
"""attend under the models of transformers.

    import attend.transformers
    attend.transformers.register()
    model = AutoModelForCausalLM.from_pretrained(name, attn_implementation="attend")
    model.generate(**inputs, cache=attend.transformers.Cache(config=model.config))

Models are not changed. Causal masks, windows, chunks and padding reach the library as flags, lengths and ranges of keys;
masks of other kinds as masks. The cache is optional: it appends in place, where transformers' own copies all keys and
values at each step.
"""

import functools
import inspect
import sys

import numpy
import torch
import transformers
from torch.utils._pytree import tree_map_only
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer
from transformers.masking_utils import causal_mask_function, prepare_padding_mask, sdpa_mask

from . import _attend
from .torch import sdpa as _sdpa  # and so its operator

__all__ = ["Cache", "register"]

if "q_length" not in inspect.signature(sdpa_mask).parameters:
    raise ImportError(f"attend.transformers needs transformers 5.0 or newer, not {transformers.__version__}: masks are made in another way there")


# ----------------------------------------------------------------------------------------------------------- masks

class FlagMask(torch.Tensor):
    """A mask that is kept as the options of attention(). Whatever else is done with it is done with the mask in full."""

    @staticmethod
    def __new__(cls, options, materialize):
        mask = torch.empty(0, dtype=torch.bool).as_subclass(cls)
        mask.options, mask.materialize, mask.whole = options, materialize, None
        return mask

    def full(self):
        if self.whole is None:
            self.whole = self.materialize()
        return self.whole

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        args, kwargs = tree_map_only(FlagMask, FlagMask.full, (args, kwargs or {}))
        return function(*args, **kwargs)


def _kind(function):
    """(name, free variables) of one of transformers' own mask functions, or None."""
    if getattr(function, "__module__", None) != "transformers.masking_utils":
        return None
    cells = function.__closure__ or ()
    return function.__qualname__, dict(zip(function.__code__.co_freevars, (cell.cell_contents for cell in cells)))


def _parts(function):
    """The mask functions that all must hold, taken apart; None where one is not known."""
    kind = _kind(function)
    if kind is None:
        return None
    if kind[0] != "and_masks.<locals>.and_mask":
        return [kind]
    parts = [_parts(part) for part in kind[1]["mask_functions"]]
    return None if None in parts else [kind for part in parts for kind in part]


def _padding_options(padding):
    """What says the same as a (B, keys) mask of keys: nothing, first keys and lengths, or itself."""
    if bool(padding.all()):
        return {}
    padding = padding.numpy()
    begins = padding.argmax(1)
    counts = padding.sum(1)
    j = numpy.arange(padding.shape[1])
    if ((j >= begins[:, None]) & (j < (begins + counts)[:, None]) == padding).all():
        options = {"kv_lengths": (begins + counts).astype(numpy.int32)}
        if begins.any():
            options["kv_begins"] = begins.astype(numpy.int32)
        return options
    return {"mask": torch.from_numpy(padding)[:, None, None, :]}


def _mask(batch_size, q_length, kv_length, q_offset=0, kv_offset=0, mask_function=causal_mask_function, attention_mask=None,
          **options):
    def full():
        return sdpa_mask(batch_size=batch_size, q_length=q_length, kv_length=kv_length, q_offset=q_offset, kv_offset=kv_offset,
                         mask_function=mask_function, attention_mask=attention_mask,
                         **{**options, "allow_is_causal_skip": False, "allow_is_bidirectional_skip": False})

    parts = _parts(mask_function)
    if (parts is None or options.get("use_vmap") or any(isinstance(x, torch.Tensor) for x in (q_offset, kv_offset, q_length, kv_length))
            or torch.compiler.is_compiling() or type(attention_mask) not in (torch.Tensor, type(None))):
        return full()
    flags = {}
    first = q_offset - kv_offset  # where the first query stands among the keys
    for name, free in parts:
        if name == "causal_mask_function":
            flags["causal"] = int(first)
        elif name == "sliding_window_overlay.<locals>.inner_mask":
            flags["window"] = (free["sliding_window"] - 1, None)
        elif name == "sliding_window_bidirectional_overlay.<locals>.inner_mask":
            flags["window"] = (free["sliding_window"],) * 2
        elif name == "chunked_overlay.<locals>.inner_mask":
            i = numpy.arange(q_length)[None, :] + q_offset
            left = free["left_padding"].numpy().astype(numpy.int64).reshape(-1, 1)
            begin = (i - left) // free["chunk_size"] * free["chunk_size"] + left - kv_offset
            ranges = numpy.stack((begin, begin + free["chunk_size"]), -1)
            flags["key_ranges"] = numpy.broadcast_to(ranges, (batch_size, q_length, 2)).astype(numpy.int32)
        elif name != "bidirectional_mask_function":
            return full()
    if "window" in flags and "causal" not in flags:
        flags["positions"] = numpy.full(batch_size, first, numpy.int32)
    padding = prepare_padding_mask(attention_mask, kv_length, kv_offset)
    if padding is not None:
        flags.update(_padding_options(padding[:, kv_offset:kv_offset + kv_length].bool()))
    return FlagMask(flags, full)


# ------------------------------------------------------------------------------------------------------- attention

def _sum_of(mask, position_bias):
    """One additive bias of a mask and a bias."""
    if mask is None:
        return position_bias
    if mask.dtype == torch.bool:
        return position_bias.masked_fill(~mask, -torch.inf)
    return position_bias + mask


def _trained(module, query, key, value, attention_mask, dropout, scaling, causal, position_bias, softcap, s_aux, weights):
    """With gradients, or within torch.compile: by the operator."""
    if s_aux is not None or weights:
        raise ValueError(f"attend computes no gradients {'of attention sinks' if s_aux is not None else 'with attention weights as an output'}, "
                         "nor compiles that: expected torch.no_grad(), or another attn_implementation")
    if type(attention_mask) is FlagMask:
        attention_mask = attention_mask.full()
        causal = False
    if position_bias is not None:
        attention_mask = _sum_of(attention_mask, position_bias)
        if causal:
            rows, keys = query.shape[2], key.shape[2]
            attention_mask = attention_mask.masked_fill(torch.ones(rows, keys, dtype=torch.bool).triu(1), -torch.inf)
            causal = False
    seed = int(torch.randint(0, 2**62, ()).item()) if dropout else 0
    if attention_mask is not None and attention_mask.dtype not in (torch.bool, torch.float32, torch.float16, torch.bfloat16):
        attention_mask = attention_mask.float()
    out = torch.ops.attend.sdpa(query, key, value, attention_mask, dropout, bool(causal), scale=scaling, softcap=softcap or 0.0, seed=seed)[0]
    return out.transpose(1, 2).contiguous(), None


def _attention(module, query, key, value, attention_mask, dropout=0.0, scaling=None, is_causal=None, position_bias=None, softcap=None,
               s_aux=None, output_attentions=False, **_):
    for name, x in (("query", query), ("key", key), ("value", value)):
        if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.float16, torch.bfloat16):
            raise ValueError(f'attn_implementation="attend": the {name} is of {x.dtype} on {x.device}, expected float32, bfloat16 or float16 of the CPU')
    weights = bool(output_attentions) or bool(getattr(getattr(module, "config", None), "output_attentions", False))
    is_causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    causal = bool(is_causal) and query.shape[2] > 1 and attention_mask is None  # as the sdpa implementation reads it
    if torch.compiler.is_compiling() or (torch.is_grad_enabled() and (
            query.requires_grad or key.requires_grad or value.requires_grad or (position_bias is not None and position_bias.requires_grad))):
        return _trained(module, query, key, value, attention_mask, dropout, scaling, causal, position_bias, softcap, s_aux, weights)
    options = {"causal": "top-left"} if causal else {}
    if type(attention_mask) is FlagMask:
        options = attention_mask.options
        if position_bias is not None:
            options = {**options, "bias": position_bias}
    elif attention_mask is not None or position_bias is not None:
        if position_bias is not None:
            attention_mask = _sum_of(attention_mask, position_bias)
        if attention_mask.dtype not in (torch.bool, torch.float32, torch.float16, torch.bfloat16):
            attention_mask = attention_mask.float()
        options["mask" if attention_mask.dtype == torch.bool else "bias"] = attention_mask
    if dropout:
        options = {**options, "dropout": dropout, "seed": int(torch.randint(0, 2**62, ()).item())}
    result = _attend._attention(query, key, value, scale=scaling, softcap=softcap, sinks=s_aux, weights=weights, **options)
    if weights:
        return result[0].transpose(1, 2), result[1].to(query.dtype)
    return result.transpose(1, 2), None


# -------------------------------------------------------------------------------------------------------- registering

def _refusal(model_class):
    """Why a class of models cannot be switched over, or None: its attention does not ask transformers' interface."""
    source = sys.modules.get(model_class.__module__)
    names = vars(source) if source else {}
    if "ALL_ATTENTION_FUNCTIONS" in names:
        return None
    own = [name for name, x in names.items() if isinstance(x, type) and issubclass(x, torch.nn.Module) and "Attention" in name
           and x.__module__ == model_class.__module__]
    if not own:  # made of other models, which are asked themselves
        return None
    return f"{model_class.__name__} computes attention itself ({own[0]}), not through transformers' attention interface"


def register():
    """Makes attn_implementation="attend" work, for models made or switched over from now on. May be called again.

    Models that do not go through transformers' attention interface are refused with a ValueError when they are made.
    """
    AttentionInterface.register("attend", _attention)
    AttentionMaskInterface.register("attend", _mask)
    for name in ("_check_and_adjust_attn_implementation", "set_attn_implementation"):  # making, and switching over
        check = getattr(PreTrainedModel, name)
        if not getattr(check, "of_attend", False):
            setattr(PreTrainedModel, name, _refusing(check))


def _refusing(check):
    @functools.wraps(check)
    def checked(self, attn_implementation, *arguments, **options):
        if attn_implementation == "attend" and (why := _refusal(type(self))):
            raise ValueError(f'attn_implementation="attend": {why}. Expected another attn_implementation')
        return check(self, attn_implementation, *arguments, **options)
    checked.of_attend = True
    return checked


# ------------------------------------------------------------------------------------------------------------ cache

class _Layer(DynamicLayer):
    """A layer of the cache: rows are appended in place to memory with room for more."""

    def __init__(self, capacity=256, **options):
        super().__init__(**options)
        self.capacity, self.length, self.room = capacity, 0, None

    def lazy_initialization(self, key_states, value_states):
        self.device, self.dtype = key_states.device, key_states.dtype
        self.is_initialized = True

    def _views(self):
        self.keys, self.values = (x[:, :, :self.length] for x in self.room)

    def update(self, key_states, value_states, *arguments, **options):
        if torch.is_grad_enabled() and (key_states.requires_grad or value_states.requires_grad):
            raise RuntimeError("attend.transformers.Cache keeps no gradients: expected torch.no_grad()")
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        length = self.length + key_states.shape[2]
        if self.room is None or length > self.room[0].shape[2]:
            capacity = max(self.capacity, 2 * length if self.room is not None else length + self.capacity)
            room = tuple(x.new_empty((*x.shape[:2], capacity, x.shape[3])) for x in (key_states, value_states))
            if self.length:
                for new, old in zip(room, (self.keys, self.values)):
                    new[:, :, :self.length] = old
            self.room = room
        for room, new in zip(self.room, (key_states, value_states)):
            room[:, :, self.length:length] = new
        self.length = length
        self._views()
        return self.keys, self.values

    def get_seq_length(self):
        return self.length

    def reset(self):
        self.keys = self.values = self.room = None
        self.is_initialized, self.length = False, 0

    def crop(self, tokens_to_remove):
        if tokens_to_remove > 0:
            raise ValueError(f"crop: {tokens_to_remove}, expected a negative number of tokens to remove")
        if self.is_initialized and tokens_to_remove:
            self.length = max(self.length + tokens_to_remove, 0)
            self._views()

    def _select(self, change):
        if self.length:
            self.room = tuple(change(x) for x in self.room)
            self._views()

    def reorder_cache(self, beam_idx):
        self._select(lambda x: x.index_select(0, beam_idx.to(x.device)))

    def batch_repeat_interleave(self, repeats):
        self._select(lambda x: x.repeat_interleave(repeats, dim=0))

    def batch_select_indices(self, indices):
        self._select(lambda x: x[indices, ...])


class Cache(DynamicCache):
    """A cache for cache= (past_key_values= before transformers 5.20) of models and of generate(), which appends in place.

    config    of the model: layers with a window then keep no more than that, as DynamicCache's do
    capacity  rows that each layer has room for at first. It doubles where more are needed
    """

    def __init__(self, config=None, capacity=256):
        super().__init__(config=config)
        self.layers = [_Layer(capacity) if type(layer) is DynamicLayer else layer for layer in self.layers]
        if self.layer_class_to_replicate is not None:
            self.layer_class_to_replicate = type("_SizedLayer", (_Layer,), {"__init__": lambda self, **options: _Layer.__init__(self, capacity, **options)})
