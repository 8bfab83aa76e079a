/* SPDX-License-Identifier: Apache-2.0 */
/**
 * The vector operations of one instruction set, made callable. Compiled once for every kernels/<isa>/vec.h, with that
 * folder's flags, ATTEND_VEC_H its path and ATTEND_VEC_TABLE the name of the table that is defined here.
 */
#include "tests/vec/operations.h"

#include ATTEND_VEC_H

#include <string.h>

#include "kernels/body/additive.h"
#include "kernels/body/dropout.h"
#include "kernels/body/rows.h"

static void zero(float *to) { vf_store(to, vf_zero()); }
static void set1(float x, float *to) { vf_store(to, vf_set1(x)); }
static void iota(float *to) { vf_store(to, vf_iota()); }

#define LOADS(name, type)                                                                                              \
  static void load##name(const void *p, float *to) { vf_store(to, vf_load##name((const type *)p)); }                   \
  static void load##name##_n(const void *p, int n, float *to) { vf_store(to, vf_load##name##_n((const type *)p, n)); }
#define STORES(name, type)                                                                                             \
  static void store##name##_n(void *p, const float *v, int n) { vf_store##name##_n((type *)p, vf_load(v), n); }
LOADS(, float)
LOADS(_f16, uint16_t)
LOADS(_bf16, uint16_t)
STORES(, float)
STORES(_f16, uint16_t)
STORES(_bf16, uint16_t)
static void store(void *p, const float *v) { vf_store((float *)p, vf_load(v)); }

#define BINARY(name)                                                                                                   \
  static void op_##name(const float *a, const float *b, float *to) { vf_store(to, vf_##name(vf_load(a), vf_load(b))); }
BINARY(add)
BINARY(sub)
BINARY(mul)
BINARY(div)
BINARY(max)
static void op_fma(const float *a, const float *b, const float *c, float *to) {
  vf_store(to, vf_fma(vf_load(a), vf_load(b), vf_load(c)));
}

#define UNARY(name)                                                                                                    \
  static void op_##name(const float *x, float *to) { vf_store(to, vf_##name(vf_load(x))); }
UNARY(abs)
UNARY(pin)
UNARY(exp2)
UNARY(tanh)
UNARY(tanh_term)

static float hsum(const float *v) { return vf_hsum(vf_load(v)); }
static float hmax(const float *v) { return vf_hmax(vf_load(v)); }

static void sum_each(const float *r, float *to) {
  vf v[LANES];
  for (int i = 0; i < LANES; i++) v[i] = vf_load(r + i * LANES);
  vf_store(to, vf_sum_each(v));
}

static void transpose(const float *r, float *to) {
  vf v[LANES];
  for (int i = 0; i < LANES; i++) v[i] = vf_load(r + i * LANES);
  vf_transpose(v);
  for (int i = 0; i < LANES; i++) vf_store(to + i * LANES, v[i]);
}

#define STORE_GROUPS(n)                                                                                                \
  static void store_groups_##n(float *p, int64_t stride, const float *v) { vf_store_groups(p, stride, vf_load(v), n); }
STORE_GROUPS(1)
STORE_GROUPS(2)
STORE_GROUPS(4)
STORE_GROUPS(8)
STORE_GROUPS(16)
#define HAS_GROUPS(n) (n == LANES || (n >= 4 && n < LANES) ? store_groups_##n : NULL)

ATTEND_INLINE bool selection(vm m, uint8_t *to) {
  float t[LANES];
  vf_store(t, vf_select(m, vf_set1(1.0f), vf_zero()));
  for (int i = 0; i < LANES; i++) to[i] = (uint8_t)t[i];
  return vm_any(m);
}
static bool range(int64_t lo, int64_t hi, uint8_t *to) { return selection(vm_range(lo, hi), to); }
static bool bytes_n(const uint8_t *p, int n, uint8_t *to) { return selection(vm_bytes_n(p, n), to); }
static bool gt(const float *a, const float *b, uint8_t *to) { return selection(vm_gt(vf_load(a), vf_load(b)), to); }
static bool both(const uint8_t *a, const uint8_t *b, uint8_t *to) {
  return selection(vm_and(vm_bytes_n(a, LANES), vm_bytes_n(b, LANES)), to);
}
static void op_select(const uint8_t *m, const float *a, const float *b, float *to) {
  vf_store(to, vf_select(vm_bytes_n(m, LANES), vf_load(a), vf_load(b)));
}

static vu u_load(const uint32_t *p) {
  vu v;
  memcpy(&v, p, sizeof v);
  return v;
}
static void u_store(uint32_t *to, vu v) { memcpy(to, &v, sizeof v); }
static void u_set1(uint32_t x, uint32_t *to) { u_store(to, vu_set1(x)); }
static void u_iota(uint32_t *to) { u_store(to, vu_iota()); }
static void u_add(const uint32_t *a, const uint32_t *b, uint32_t *to) { u_store(to, vu_add(u_load(a), u_load(b))); }
static void u_xor(const uint32_t *a, const uint32_t *b, uint32_t *to) { u_store(to, vu_xor(u_load(a), u_load(b))); }
static void u_mul_wide(const uint32_t *a, const uint32_t *b, uint32_t *high, uint32_t *low) {
  vu h, l;
  vu_mul_wide(u_load(a), u_load(b), &h, &l);
  u_store(high, h);
  u_store(low, l);
}
static bool u_ge(const uint32_t *a, const uint32_t *b, uint8_t *to) {
  return selection(vu_ge(u_load(a), u_load(b)), to);
}
static void philox_words(uint32_t *c, uint32_t key0, uint32_t key1) {
  vu v[4];
  for (int w = 0; w < 4; w++) v[w] = u_load(c + w * LANES);
  philox(v, key0, key1);
  for (int w = 0; w < 4; w++) u_store(c + w * LANES, v[w]);
}

static void prefetch(const void *p) { vf_prefetch(p); }

#ifdef ATTEND_PAIRS
#include "kernels/body/pack_pairs.h"

static void pair_set1(uint32_t x, uint32_t *to) { vp_store(to, vp_set1(x)); }
static void pair_load(const uint16_t *p, uint32_t *to) { vp_store(to, vp_load(p)); }
static void pair_load_n(const uint16_t *p, int n, uint32_t *to) { vp_store(to, vp_load_n(p, n)); }
static void pair_zip(const float *a, const float *b, uint32_t *to) { vp_store(to, vp_zip(vf_load(a), vf_load(b))); }
static vp pair(const uint32_t *p) { return vp_load((const uint16_t *)p); }
static void pair_and(const uint32_t *a, const uint32_t *b, uint32_t *to) { vp_store(to, vp_and(pair(a), pair(b))); }
static void pair_transpose(const uint32_t *r, uint32_t *to) {
  vp v[LANES];
  for (int i = 0; i < LANES; i++) v[i] = pair(r + i * LANES);
  vp_transpose(v);
  for (int i = 0; i < LANES; i++) vp_store(to + i * LANES, v[i]);
}

#ifdef ATTEND_PAIR_DOT
static void pair_dot(const uint32_t *a, const uint32_t *b, const float *c, float *to) {
  vf_store(to, vp_dot(pair(a), pair(b), vf_load(c)));
}
static void pair_mix(const uint32_t *a, const uint32_t *b, bool upper, uint32_t *to) {
  vp_store(to, upper ? vp_mix(pair(a), pair(b), LANES) : vp_mix(pair(a), pair(b), 0));
}
static void pair_pin(const uint32_t *a, uint32_t *to) { vp_store(to, vp_pin(pair(a))); }
static void pair_round(const float *a, const float *b, uint32_t *to) { vp_store(to, vp_round(vf_load(a), vf_load(b))); }
static void pair_exp2(const float *x, float *to) { vf_store(to, vf_exp2_bf16(vf_load(x))); }
#define PAIR_DOT .exp2_bf16 = pair_exp2, .dot = pair_dot, .round = pair_round, .mix = pair_mix, .pin = pair_pin,
#else
#define PAIR_DOT
#endif

static const attend_vec_pairs pairs = {.set1 = pair_set1,
                                       .load = pair_load,
                                       .load_n = pair_load_n,
                                       .transpose = pair_transpose,
                                       .zip = pair_zip,
                                       .both = pair_and,
                                       PAIR_DOT.pack_keys = pack_key_pairs,
                                       .pack_values = pack_value_pairs};
#define PAIRS &pairs
#else
#define PAIRS NULL
#endif

#ifdef ATTEND_BYTE_DOT
static void byte_dot(const int8_t *a, const int8_t *b, const int8_t *y, float *to) {
  int8_t copy[4 * LANES];
  uint8_t flip[4 * LANES];
  memset(flip, 0x80, sizeof flip);
  vi_store(copy, vi_load(y));
  vf_store(to, vi_to_f32(vi_dot(vi_xor(vi_halves(a, b), vi_load(flip)), vi_load(copy), vi_begin(vi_load(y)))));
}
static void add_integers(const int32_t *a, const int32_t *b, float *to) {
  vf_store(to, vi_to_f32(vi_add(vi_load(a), vi_load(b))));
}
static void halves_f32(const void *a, const void *b, float *to) { vf_store(to, vf_halves_f32(a, b)); }
static void halves_f16(const void *a, const void *b, float *to) { vf_store(to, vf_halves_f16(a, b)); }
static void store_rounded(int8_t *p, const float *v) { vi_store_rounded(p, vf_load(v)); }
#define BYTE_DOT                                                                                                       \
  .byte_dot = byte_dot, .add_integers = add_integers, .halves_f16 = halves_f16, .halves_f32 = halves_f32,              \
  .store_rounded = store_rounded,
#else
#define BYTE_DOT
#endif

extern const attend_vec ATTEND_VEC_TABLE;
const attend_vec ATTEND_VEC_TABLE = {
    .isa = ATTEND_ISA_ID,
    .cpu = ATTEND_ISA_CPU,
    .lanes = LANES,
    .zero = zero,
    .set1 = set1,
    .iota = iota,
    .load = {[ATTEND_F32] = load, [ATTEND_F16] = load_f16, [ATTEND_BF16] = load_bf16},
    .load_n = {[ATTEND_F32] = load_n, [ATTEND_F16] = load_f16_n, [ATTEND_BF16] = load_bf16_n},
    .store = store,
    .store_n = {[ATTEND_F32] = store_n, [ATTEND_F16] = store_f16_n, [ATTEND_BF16] = store_bf16_n},
    .add = op_add,
    .sub = op_sub,
    .mul = op_mul,
    .div = op_div,
    .max = op_max,
    .fma = op_fma,
    .abs = op_abs,
    .pin = op_pin,
    .exp2 = op_exp2,
    .tanh = op_tanh,
    .tanh_term = op_tanh_term,
    .hsum = hsum,
    .hmax = hmax,
    .sum_each = sum_each,
    .transpose = transpose,
    .store_groups = {HAS_GROUPS(1), HAS_GROUPS(2), HAS_GROUPS(4), HAS_GROUPS(8), HAS_GROUPS(16)},
    .range = range,
    .bytes_n = bytes_n,
    .gt = gt,
    .both = both,
    .select = op_select,
    .u_set1 = u_set1,
    .u_iota = u_iota,
    .u_add = u_add,
    .u_xor = u_xor,
    .u_mul_wide = u_mul_wide,
    .u_ge = u_ge,
    .philox = philox_words,
    .prefetch = prefetch,
    .pairs = PAIRS,
    BYTE_DOT};
