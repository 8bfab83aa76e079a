/* SPDX-License-Identifier: Apache-2.0 */
/**
 * The vector operations of one instruction set as functions on memory, so that tests built for any processor can call
 * them. A vector is `lanes` floats, a selection `lanes` bytes, in memory that need not be aligned.
 */
#ifndef ATTEND_TESTS_VEC_OPERATIONS_H
#define ATTEND_TESTS_VEC_OPERATIONS_H

#include "kernels/kernel.h"

/** Group sizes of vf_store_groups: 1, 2, 4, 8, 16. */
#define ATTEND_VEC_GROUPS 5

/** One function per operation of kernels/vec_contract.h, under its name there, and what the bodies make of
 *  them: tanh and Philox. */
typedef struct attend_vec {
  attend_isa isa;
  uint64_t cpu; /**< features the functions need */
  int lanes;

  void (*zero)(float *to);
  void (*set1)(float x, float *to);
  void (*iota)(float *to);

  /* By attend_dtype. There is no whole store of the 16-bit types. */
  void (*load[4])(const void *p, float *to);
  void (*load_n[4])(const void *p, int n, float *to);
  void (*store)(void *p, const float *v);
  void (*store_n[4])(void *p, const float *v, int n);

  void (*add)(const float *a, const float *b, float *to);
  void (*sub)(const float *a, const float *b, float *to);
  void (*mul)(const float *a, const float *b, float *to);
  void (*div)(const float *a, const float *b, float *to);
  void (*max)(const float *a, const float *b, float *to);
  void (*fma)(const float *a, const float *b, const float *c, float *to);
  void (*abs)(const float *x, float *to);
  void (*pin)(const float *x, float *to);
  void (*exp2)(const float *x, float *to);
  void (*tanh)(const float *x, float *to);
  void (*tanh_term)(const float *x, float *to);

  float (*hsum)(const float *v);
  float (*hmax)(const float *v);
  void (*sum_each)(const float *r, float *to);                                       /**< r: lanes vectors */
  void (*transpose)(const float *r, float *to);                                      /**< both: lanes vectors */
  void (*store_groups[ATTEND_VEC_GROUPS])(float *p, int64_t stride, const float *v); /**< NULL: not a size it has */

  /* What makes a selection writes it as bytes of 0 and 1, and returns what vm_any says of it. */
  bool (*range)(int64_t lo, int64_t hi, uint8_t *to);
  bool (*bytes_n)(const uint8_t *p, int n, uint8_t *to);
  bool (*gt)(const float *a, const float *b, uint8_t *to);
  bool (*both)(const uint8_t *a, const uint8_t *b, uint8_t *to); /**< vm_and */
  void (*select)(const uint8_t *m, const float *a, const float *b, float *to);

  /* A vector of integers is `lanes` uint32_t. */
  void (*u_set1)(uint32_t x, uint32_t *to);
  void (*u_iota)(uint32_t *to);
  void (*u_add)(const uint32_t *a, const uint32_t *b, uint32_t *to);
  void (*u_xor)(const uint32_t *a, const uint32_t *b, uint32_t *to);
  void (*u_mul_wide)(const uint32_t *a, const uint32_t *b, uint32_t *high, uint32_t *low);
  bool (*u_ge)(const uint32_t *a, const uint32_t *b, uint8_t *to);
  void (*philox)(uint32_t *c, uint32_t key0, uint32_t key1); /**< c: 4 vectors, in place */

  void (*prefetch)(const void *p);

  const struct attend_vec_pairs *pairs; /**< NULL: it has no pairs */

  /* NULL: it has no products of bytes. */
  void (*byte_dot)(const int8_t *a, const int8_t *b, const int8_t *y, float *to); /**< a, b: 32; NULL b: 0s. y: all */
  void (*add_integers)(const int32_t *a, const int32_t *b, float *to);
  void (*halves_f32)(const void *a, const void *b, float *to);
  void (*halves_f16)(const void *a, const void *b, float *to);
  void (*store_rounded)(int8_t *p, const float *v);
} attend_vec;

/** Operations on pairs, and the packing of kernels/body/pack_pairs.h. A vector is `lanes` uint32_t. */
typedef struct attend_vec_pairs {
  void (*set1)(uint32_t x, uint32_t *to);
  void (*load)(const uint16_t *p, uint32_t *to);
  void (*load_n)(const uint16_t *p, int n, uint32_t *to);
  void (*transpose)(const uint32_t *r, uint32_t *to); /**< both: lanes vectors */
  void (*zip)(const float *a, const float *b, uint32_t *to);
  void (*both)(const uint32_t *a, const uint32_t *b, uint32_t *to); /**< vp_and */

  /* NULL: it has no products of pairs. */
  void (*dot)(const uint32_t *a, const uint32_t *b, const float *c, float *to);
  void (*round)(const float *a, const float *b, uint32_t *to);
  void (*exp2_bf16)(const float *x, float *to);
  void (*mix)(const uint32_t *a, const uint32_t *b, bool upper, uint32_t *to);
  void (*pin)(const uint32_t *a, uint32_t *to);

  void (*pack_keys)(const void *const *rows, int64_t begin, int64_t count, int64_t dim, int64_t depth, int panel,
                    uint32_t *out);
  bool (*pack_values)(const void *const *rows, int64_t begin, int64_t count, int64_t dim, int64_t depth, int panel,
                      int64_t block_depth, uint32_t *out);
} attend_vec_pairs;

#endif
