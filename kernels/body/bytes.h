/* SPDX-License-Identifier: Apache-2.0 */
/** The operations on 32 bytes of kernels/vec_contract.h, in portable C, where a vec.h has none. Included after it. */
#ifndef ATTEND_KERNELS_BODY_BYTES_H
#define ATTEND_KERNELS_BODY_BYTES_H

#include <string.h>

#include "kernels/convert.h"

#ifndef ATTEND_BYTES

typedef struct vb {
  int8_t byte[32];
} vb;

ATTEND_INLINE vb vb_load(const void *p) {
  vb x;
  memcpy(x.byte, p, sizeof x.byte);
  return x;
}
ATTEND_INLINE vb vb_nibbles(const void *p) {
  const uint8_t *from = p;
  vb x;
  for (int i = 0; i < 16; i++) x.byte[i] = (int8_t)(from[i] & 15), x.byte[i + 16] = (int8_t)(from[i] >> 4);
  return x;
}
ATTEND_INLINE vb vb_pairs(const void *p) {
  const uint8_t *from = p;
  vb x;
  for (int i = 0; i < 16; i++) x.byte[2 * i] = (int8_t)(from[i] & 15), x.byte[2 * i + 1] = (int8_t)(from[i] >> 4);
  return x;
}
ATTEND_INLINE vb vb_add(vb x, int8_t y) {
  for (int i = 0; i < 32; i++) x.byte[i] = (int8_t)(uint8_t)((uint8_t)x.byte[i] + (uint8_t)y);
  return x;
}
ATTEND_INLINE vb vb_add_16(vb x, uint32_t bits) {
  for (int i = 0; i < 32; i++) x.byte[i] = (int8_t)(x.byte[i] | (bits >> i & 1) << 4);
  return x;
}
ATTEND_INLINE vb vb_lookup(const int8_t table[16], vb x) {
  for (int i = 0; i < 32; i++) x.byte[i] = table[x.byte[i]];
  return x;
}
ATTEND_INLINE vf vb_to_f32(vb x, const int i) {
  float out[LANES];
  for (int l = 0; l < LANES; l++) out[l] = x.byte[i * LANES + l];
  return vf_load(out);
}
ATTEND_INLINE vf vb_e5m2_to_f32(vb x, const int i) {
  float out[LANES];
  for (int l = 0; l < LANES; l++) out[l] = f16_to_f32((uint16_t)((uint8_t)x.byte[i * LANES + l] << 8));
  return vf_load(out);
}
ATTEND_INLINE vf vb_e4m3_to_f32(vb x, const int i) {
  float out[LANES];
  for (int l = 0; l < LANES; l++) {
    const uint8_t bits = (uint8_t)x.byte[i * LANES + l];
    const uint16_t f16 = (uint16_t)((bits & 128) << 8 | (bits & 127) << 7);
    out[l] = (bits & 127) == 127 ? f32_from_bits(0x7fc00000) : 256.0f * f16_to_f32(f16);
  }
  return vf_load(out);
}
ATTEND_INLINE vf vf_set1_f16(const void *p) {
  uint16_t bits;
  memcpy(&bits, p, sizeof bits);
  return vf_set1(f16_to_f32(bits));
}

#endif

#endif
