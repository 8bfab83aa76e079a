/* SPDX-License-Identifier: Apache-2.0 */
/** Multi-head attention problems with their tensors, in any layout, filled as tests/layers/record.py fills them. */
#ifndef ATTEND_TESTS_MHA_SUPPORT_H
#define ATTEND_TESTS_MHA_SUPPORT_H

#include <stdbool.h>

#include "attend/layers.h"

/** The tensors that are filled, in record.py's order, and those that are written. */
typedef enum attend_mha_name {
  QUERY,
  KEY,
  VALUE,
  Q_WEIGHT,
  K_WEIGHT,
  V_WEIGHT,
  OUT_WEIGHT,
  Q_BIAS,
  K_BIAS,
  V_BIAS,
  OUT_BIAS,
  BIAS_K,
  BIAS_V,
  KEY_PADDING_MASK,
  ATTN_MASK,
  MHA_OUT,
  MHA_WEIGHTS,
  K_CACHE,
  V_CACHE,
  PAST,
  MHA_TENSORS
} attend_mha_name;

/** How sequences lie in memory. */
typedef enum attend_mha_order { BATCH_FIRST, SEQUENCE_FIRST, WITH_GAPS, MHA_ORDERS } attend_mha_order;

/** Every tensor of a problem, each in memory of its own that ends where the tensor ends. */
typedef struct attend_mha_test {
  attend_mha_problem p; /**< with strides */
  attend_mha_tensors t;
  void *memory[MHA_TENSORS];
  size_t bytes[MHA_TENSORS];
} attend_mha_test;

/**
 * Lays a problem's sequences out and makes its tensors. All sizes of the problem must be given: k_dim, v_dim, kv_heads,
 * head_dim and v_head_dim.
 */
attend_mha_test attend_mha_test_create(const attend_mha_problem *problem, bool self_attention, bool bias,
                                       attend_mha_order order);
void attend_mha_test_destroy(attend_mha_test *test);

/** Fills what is written with a pattern, and asks whether it is still there. Gaps between rows always keep it. */
void attend_mha_test_reset(attend_mha_test *test);
bool attend_mha_test_untouched(const attend_mha_test *test);
bool attend_mha_test_gaps_untouched(const attend_mha_test *test);

/**
 * Runs a layer, or fails the test, with a workspace of exactly the size it needs, every float of which is a NaN at
 * first: the run must allocate nothing.
 */
void attend_mha_test_run(const attend_mha_problem *p, const attend_mha_tensors *t, int threads);

/** The key axis of the weights. */
int64_t attend_mha_test_keys(const attend_mha_problem *p);

/** A row of the output. */
const float *attend_mha_test_row(const attend_mha_test *test, int64_t b, int64_t i);

/** Whether the library has a BLAS; says so if not. */
bool attend_mha_test_blas(void);

#endif
