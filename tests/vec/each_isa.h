/* SPDX-License-Identifier: Apache-2.0 */
/** What the tests of vector operations share: a test for every instruction set, and floats as bits. */
#ifndef ATTEND_TESTS_VEC_EACH_ISA_H
#define ATTEND_TESTS_VEC_EACH_ISA_H

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "dispatch/dispatch.h"
#include "kernels/convert.h"
#include "tests/support.h"
#include "tests/vec/operations.h"

/* tests/CMakeLists.txt gives the list of instruction sets, as VEC(scalar) VEC(avx2) ... */
#define VEC(isa) extern const attend_vec attend_vec_##isa;
ATTEND_VEC_TABLES
#undef VEC
#define VEC(isa) &attend_vec_##isa,
static const attend_vec *const tables[] = {ATTEND_VEC_TABLES};
#undef VEC

enum { MOST = 16 }; /* lanes */

/* A test of every instruction set by itself, skipped where the processor lacks it. */
#define EACH_ISA(name)                                                                                                 \
  static void name(const attend_vec *v);                                                                               \
  ParameterizedTestParameters(vec, name) { return all_tables(); }                                                      \
  ParameterizedTest(const size_t *index, vec, name) { name(usable(tables[*index])); }                                  \
  static void name(const attend_vec *v)

static inline struct criterion_test_params all_tables(void) {
  static size_t indices[COUNT(tables)];
  for (size_t i = 0; i < COUNT(tables); i++) indices[i] = i;
  return cr_make_param_array(size_t, indices, COUNT(tables));
}

static inline const attend_vec *usable(const attend_vec *v) {
  const uint64_t missing = v->cpu & ~attend_cpu_get()->usable;
  if (missing) {
    const char *feature = attend_cpu_feature_name((attend_cpu_feature)__builtin_ctzll(missing));
    cr_skip_test("%s: no usable %s", attend_isa_name(v->isa), feature);
  }
  cr_assert_leq(v->lanes, MOST);
  return v;
}

/* Ends the test at the first thing wrong: there may be millions. */
#define MUST(condition, v, ...)                                                                                        \
  do {                                                                                                                 \
    if (!(condition)) {                                                                                                \
      char text[200];                                                                                                  \
      snprintf(text, sizeof text, __VA_ARGS__);                                                                        \
      cr_assert_fail("%s: %s", attend_isa_name((v)->isa), text);                                                       \
    }                                                                                                                  \
  } while (0)

/* The same bits, or NaN both. */
static inline bool same(float a, float b) { return isnan(a) ? isnan(b) : f32_to_bits(a) == f32_to_bits(b); }

#endif
