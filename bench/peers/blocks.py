# SPDX-License-Identifier: Apache-2.0
"""ggml's blocks of 32 quantised numbers, q8_0 and q4_0, as arrays of their bytes."""

import numpy

NUMBERS = 32  # of a block
FORMATS = {"q8_0": numpy.dtype([("scale", "<f2"), ("whole", "i1", NUMBERS)]),
           "q4_0": numpy.dtype([("scale", "<f2"), ("pairs", "u1", NUMBERS // 2)])}


def quantised(values, name):
    """f32 values (..., D) as blocks (..., D / 32): the number farthest from 0 is the last of the integers' range."""
    values = values.reshape(*values.shape[:-1], -1, NUMBERS)
    farthest = numpy.take_along_axis(values, numpy.abs(values).argmax(axis=-1, keepdims=True), axis=-1)
    blocks = numpy.empty(values.shape[:-1], FORMATS[name])
    blocks["scale"] = (numpy.abs(farthest) / 127 if name == "q8_0" else farthest / -8)[..., 0]
    scale = blocks["scale"].astype(numpy.float32)[..., None]
    integers = numpy.rint(numpy.divide(values, scale, out=numpy.zeros_like(values), where=scale != 0))
    if name == "q8_0":
        blocks["whole"] = numpy.clip(integers, -127, 127)
    else:
        halves = numpy.clip(integers + 8, 0, 15).astype(numpy.uint8)
        blocks["pairs"] = halves[..., :NUMBERS // 2] | halves[..., NUMBERS // 2:] << 4
    return blocks


def dequantised(blocks):
    """The numbers that they stand for, in f32."""
    if "whole" in blocks.dtype.names:
        integers = blocks["whole"].astype(numpy.float32)
    else:
        integers = numpy.concatenate([blocks["pairs"] & 15, blocks["pairs"] >> 4], axis=-1).astype(numpy.float32) - 8
    numbers = integers * blocks["scale"].astype(numpy.float32)[..., None]
    return numbers.reshape(*blocks.shape[:-1], -1)
