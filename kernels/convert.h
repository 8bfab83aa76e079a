/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Conversions between f32 and the 16-bit types, one element at a time, in integer arithmetic: exact whatever rounding
 * or flush-to-zero mode the caller's thread is in. Narrowing rounds to nearest, ties to even. A NaN stays a NaN: its
 * sign and the upper bits of its payload are kept, and it becomes quiet when narrowed.
 */
#ifndef ATTEND_KERNELS_CONVERT_H
#define ATTEND_KERNELS_CONVERT_H

#include <stdint.h>
#include <string.h>

#include "attend/formats.h"

static inline uint32_t f32_to_bits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

static inline float f32_from_bits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static inline float bf16_to_f32(uint16_t value) { return f32_from_bits((uint32_t)value << 16); }

static inline uint16_t f32_to_bf16(float value) {
  uint32_t bits = f32_to_bits(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return (uint16_t)(bits >> 16 | 0x40);
  return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static inline float f16_to_f32(uint16_t value) {
  uint32_t sign = (uint32_t)(value & 0x8000) << 16;
  uint32_t exponent = value >> 10 & 31, fraction = value & 0x3ff;
  if (exponent == 31) return f32_from_bits(sign | 0x7f800000 | fraction << 13);
  if (exponent == 0) {
    if (fraction == 0) return f32_from_bits(sign);
    /* A denormal: shift its leading bit up to where f32 leaves it out. */
    int shift = __builtin_clz(fraction) - 21;
    exponent = (uint32_t)(1 - shift);
    fraction = fraction << shift & 0x3ff;
  }
  return f32_from_bits(sign | (exponent + 112) << 23 | fraction << 13);
}

static inline uint16_t f32_to_f16(float value) {
  uint32_t bits = f32_to_bits(value);
  uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return (uint16_t)(sign | 0x7e00 | (magnitude >> 13 & 0x3ff));
  if (magnitude >= 0x477ff000) return (uint16_t)(sign | 0x7c00); /* 65520 and above round to infinity */
  if (magnitude >= 0x38800000) {                                 /* 2^-14 and above: normal in f16 */
    magnitude -= UINT32_C(112) << 23;
    return (uint16_t)(sign | (magnitude + 0xfff + (magnitude >> 13 & 1)) >> 13);
  }
  if (magnitude <= 0x33000000) return (uint16_t)sign; /* 2^-25, half the least denormal, is a tie and goes to 0 */
  uint32_t shift = 126 - (magnitude >> 23), fraction = (magnitude & 0x7fffff) | 0x800000;
  uint32_t half = UINT32_C(1) << (shift - 1);
  return (uint16_t)(sign | (fraction + half - 1 + (fraction >> shift & 1)) >> shift);
}

/** A scale or a zero point of keys or values: f32 or f16. */
static inline float load_scale(const void *p, attend_dtype dtype) {
  return dtype == ATTEND_F32 ? *(const float *)p : f16_to_f32(*(const uint16_t *)p);
}

#endif
