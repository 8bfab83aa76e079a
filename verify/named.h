/* SPDX-License-Identifier: Apache-2.0 */
/** The words that named cases are written in, and their tables. */
#ifndef ATTEND_VERIFY_NAMED_H
#define ATTEND_VERIFY_NAMED_H

#include "verify/internal.h"

#define SHAPE(B, HQ, HKV, LQ, LK, DQK, DV)                                                                             \
  .problem.batch = B, .problem.q_heads = HQ, .problem.kv_heads = HKV, .problem.q_len = LQ, .problem.kv_len = LK,       \
  .problem.head_dim = DQK, .problem.v_head_dim = DV
#define TOP_LEFT .problem.causal = ATTEND_CAUSAL_TOP_LEFT
#define BOTTOM_RIGHT .problem.causal = ATTEND_CAUSAL_BOTTOM_RIGHT
#define OFFSET(N) .problem.causal = ATTEND_CAUSAL_OFFSET, .problem.causal_offset = N
#define WINDOW(LEFT, RIGHT) .problem.window = 1, .problem.window_left = LEFT, .problem.window_right = RIGHT
#define PER_BATCH .problem.kv_lengths = ATTEND_LENGTHS_PER_BATCH
#define PER_QUERY .problem.kv_lengths = ATTEND_LENGTHS_PER_QUERY
#define MASK(PATTERN, OVER) .problem.mask = 1, .mask_pattern = ATTEND_VERIFY_##PATTERN, .mask_over = OVER
#define BIAS(DTYPE, PATTERN, OVER)                                                                                     \
  .problem.bias_dtype = ATTEND_##DTYPE, .bias_pattern = ATTEND_VERIFY_##PATTERN, .bias_over = OVER
/* Packed queries, and packed keys and values, with so many rows for all sequences; pages of so many rows. */
#define RAGGED_Q(TOTAL) .problem.q_starts = 1, .problem.q_total = TOTAL
#define RAGGED_KV(TOTAL) .problem.kv_starts = 1, .problem.kv_total = TOTAL
#define PAGED(ROWS, PAGES) .problem.page_rows = ROWS, .problem.pages = PAGES
#define TABLE_STRIDE(N) .problem.block_table_stride = N
#define LENGTHS(...) PER_BATCH, .lengths_given = true, .lengths = {__VA_ARGS__}
#define POSITIONS .problem.positions = 1
#define BEGINS .problem.kv_begins = 1
#define RANGES .problem.key_ranges = 1
#define HEAD_SCALES .problem.bias_head_scale = 1
#define SCORES(WHICH) .problem.scores = ATTEND_SCORES_##WHICH
#define AS_GIVEN(WHAT) .problem.as_given = ATTEND_AS_GIVEN_##WHAT
#define ALIBI .problem.alibi = 1
#define SINKS .problem.sinks = 1
#define ADDITIVE .problem.score = ATTEND_SCORE_ADDITIVE
#define DROPOUT(P) .problem.dropout = P
#define SOFTCAP(X) .problem.softcap = X
#define SCALE(X) .problem.scale = X
#define LSE .problem.lse = 1
#define WEIGHTS .problem.weights = 1
#define INVARIANT .problem.batch_invariant = 1
#define INT8 .problem.int8_products = 1
/** i8 keys of a row each: as many scales a row as there are groups. */
#define KEY_SCALES(TYPE, HEADS, KEYS, GROUP, GROUPS, ...)                                                              \
  .problem.k_scaling = {.group = GROUP,                                                                                \
                        .batch = (HEADS) * (KEYS) * (GROUPS),                                                          \
                        .head = (KEYS) * (GROUPS),                                                                     \
                        .row = GROUPS,                                                                                 \
                        .step = 1,                                                                                     \
                        .dtype = ATTEND_##TYPE,                                                                        \
                        __VA_ARGS__}
#define ZEROS .zero_points = 1
#define UNSIGNED .is_unsigned = 1
#define TYPES(Q, KV, OUT)                                                                                              \
  .problem.q_dtype = ATTEND_##Q, .problem.k_dtype = ATTEND_##KV, .problem.out_dtype = ATTEND_##OUT
#define KV_TYPES(Q, K, V, OUT) TYPES(Q, K, OUT), .problem.v_dtype = ATTEND_##V
#define VALUES(V) .values = ATTEND_VERIFY_##V
#define NONFINITE(N) .nonfinite = ATTEND_VERIFY_##N
#define LAYOUTS(Q, K, V, OUT)                                                                                          \
  .q = ATTEND_VERIFY_##Q, .k = ATTEND_VERIFY_##K, .v = ATTEND_VERIFY_##V, .out = ATTEND_VERIFY_##OUT
#define EVERYTHING                                                                                                     \
  WINDOW(20, 9), PER_QUERY, MASK(SOME, B_ | H_), BIAS(F32, SOME, B_), ALIBI, SINKS, SOFTCAP(8.0f), SCALE(0.7f), LSE

enum {
  B_ = ATTEND_VERIFY_OVER_BATCH,
  H_ = ATTEND_VERIFY_OVER_HEADS,
  Q_ = ATTEND_VERIFY_OVER_QUERIES,
  K_ = ATTEND_VERIFY_OVER_KEYS
};

/** Cases of sequences of their own: named_sequences.c. */
extern const attend_verify_case attend_verify_sequence_cases[];
extern const size_t attend_verify_sequence_count;

#endif
