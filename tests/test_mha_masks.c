/* SPDX-License-Identifier: Apache-2.0 */
/** Multi-head attention: ranges beside appended keys, masks of packed sequences, dropout, and the layout of its
 * structs. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/mha_support.h"
#include "tests/mha_world.h"
#include "tests/support.h"

static void run_layer(const attend_mha_problem *p, const attend_mha_tensors *t) {
  const attend_mha_run_data run = {.p = *p, .t = *t};
  attend_mha_test_run(&run.p, &run.t, 2);
}

/* -------------------------------------------------------------------------------------------------------- appended */

/** Causal, windows, lengths and first keys say the same beside appended keys as a mask that is written out. */
Test(mha_masks, ranges_spare_appended_keys) {
  if (!attend_mha_test_blas()) return;
  enum { B = 2, L = 6, KEYS = 8 };
  const int32_t lengths[B] = {8, 5}, begins[B] = {1, 0};
  for (int which = 1; which < 16; which++) {
    attend_mha_problem p = ATTEND_MHA_PROBLEM_INIT;
    p.batch = B, p.q_len = L, p.kv_len = KEYS, p.embed_dim = p.k_dim = p.v_dim = 12;
    p.q_heads = p.kv_heads = 2, p.head_dim = p.v_head_dim = 6, p.out_proj = 1;
    p.bias_kv = 1, p.add_zero_attn = 1, p.weights = ATTEND_LAYER_WEIGHTS_PER_HEAD;
    attend_mha_test said = attend_mha_test_create(&p, false, true, BATCH_FIRST);
    p.attn_mask = ATTEND_LAYER_MASK_IGNORE, p.attn_mask_per_head = 1;
    attend_mha_test written = attend_mha_test_create(&p, false, true, BATCH_FIRST);

    const bool causal = which & 1, window = which & 2, by_length = which & 4, by_begin = which & 8;
    if (causal) said.p.causal = ATTEND_CAUSAL_BOTTOM_RIGHT;
    if (window) said.p.window = 1, said.p.window_left = 2, said.p.window_right = causal ? -1 : 1;
    if (by_length) said.p.kv_lengths = 1, said.t.kv_lengths = lengths;
    if (by_begin) said.p.kv_begins = 1, said.t.kv_begins = begins;
    uint8_t *ignore = written.memory[ATTN_MASK];
    for (int b = 0; b < B; b++)
      for (int row = 0; row < 2 * L; row++)
        for (int j = 0; j < KEYS; j++) {
          const int keys = by_length ? lengths[b] : KEYS, position = row % L + keys - L;
          bool attended = j < keys && j >= (by_begin ? begins[b] : 0);
          if (causal) attended = attended && j <= position;
          if (window) attended = attended && j >= position - 2 && (causal || j <= position + 1);
          ignore[(b * 2 * L + row) * KEYS + j] = !attended;
        }
    run_layer(&said.p, &said.t);
    run_layer(&written.p, &written.t);
    cr_expect_eq(memcmp(said.t.out, written.t.out, said.bytes[MHA_OUT]), 0, "%d", which);
    cr_expect_eq(memcmp(said.t.weights, written.t.weights, said.bytes[MHA_WEIGHTS]), 0, "weights, %d", which);
    attend_mha_test_destroy(&said);
    attend_mha_test_destroy(&written);
  }
}

/* ---------------------------------------------------------------------------------------------------------- packed */

static void *make_mask(attend_mha_world *w, attend_layer_mask kind, int64_t rows, uint32_t state) {
  const int64_t count = rows * WORLD_CACHE;
  uint8_t *bytes = attend_mha_world_allocate(w, (size_t)count);
  float *floats = attend_mha_world_allocate(w, (size_t)count * sizeof *floats);
  for (int64_t i = 0; i < count; i++) {
    state = state * 1664525u + 1013904223u;
    bytes[i] = state >> 30 == 0 && i % WORLD_CACHE != 0;
    floats[i] = bytes[i] ? -INFINITY : (float)(state >> 8) * 0x1p-24f;
  }
  if (kind == ATTEND_LAYER_MASK_IGNORE) return bytes;
  return floats;
}

/** The rows of one sequence of an array of (heads, all rows, dim) elements of `element` bytes. */
static void *cut_rows(attend_mha_world *w, const void *from, int64_t heads, int64_t all, int64_t first, int64_t rows,
                      size_t row) {
  char *to = attend_mha_world_allocate(w, (size_t)(heads * rows) * row);
  for (int64_t h = 0; h < heads; h++)
    memcpy(to + (size_t)(h * rows) * row, (const char *)from + (size_t)(h * all + first) * row, (size_t)rows * row);
  return to;
}

static void compare_packed(attend_layer_mask padding, attend_layer_mask attn, int per_head,
                           attend_layer_weights weights) {
  attend_mha_world w = attend_mha_world_create(&attend_mha_models[0], ATTEND_F32, false);
  const attend_mha_step step = {.news = {5, 1, 8}, .packed = true, .sequences = 3};
  w.p.batch_invariant = 1;
  w.p.key_padding_mask = padding, w.p.attn_mask = attn, w.p.attn_mask_per_head = per_head, w.p.weights = weights;
  attend_mha_run_data all = attend_mha_world_step(&w, &step);
  const int64_t heads = per_head ? w.p.q_heads : 1, dim = attend_mha_world_dim(&w.p);
  const int64_t weight_heads = weights == ATTEND_LAYER_WEIGHTS_PER_HEAD ? w.p.q_heads : 1;
  const size_t element = attn == ATTEND_LAYER_MASK_ADD ? sizeof(float) : 1;
  const size_t padding_element = padding == ATTEND_LAYER_MASK_ADD ? sizeof(float) : 1;
  const char *paddings = make_mask(&w, padding, WORLD_BATCH, 7);
  all.t.key_padding_mask = paddings;
  all.t.attn_mask = make_mask(&w, attn, heads * all.rows, 8);
  all.t.weights = attend_mha_world_allocate(&w, (size_t)(weight_heads * all.rows * WORLD_CACHE) * sizeof(float));
  attend_mha_test_run(&all.p, &all.t, 3);
  for (int b = 0; b < WORLD_BATCH; b++) {
    attend_mha_step own = step;
    own.first = b, own.sequences = 1, own.packed = false;
    attend_mha_run_data one = attend_mha_world_step(&w, &own);
    const int64_t first = all.t.q_starts[b];
    one.t.key_padding_mask = paddings + (size_t)b * WORLD_CACHE * padding_element;
    one.t.attn_mask = cut_rows(&w, all.t.attn_mask, heads, all.rows, first, one.rows, WORLD_CACHE * element);
    one.t.weights = attend_mha_world_allocate(&w, (size_t)(weight_heads * one.rows * WORLD_CACHE) * sizeof(float));
    attend_mha_test_run(&one.p, &one.t, 1);
    cr_expect_eq(memcmp(one.t.out, all.t.out + first * dim, (size_t)(one.rows * dim) * sizeof(float)), 0,
                 "padding %d, mask %d, per head %d, sequence %d", padding, attn, per_head, b);
    const size_t row = WORLD_CACHE * sizeof(float);
    const float *part = cut_rows(&w, all.t.weights, weight_heads, all.rows, first, one.rows, row);
    cr_expect_eq(memcmp(one.t.weights, part, (size_t)(weight_heads * one.rows) * row), 0,
                 "weights, padding %d, mask %d, per head %d, sequence %d", padding, attn, per_head, b);
  }
  attend_mha_world_destroy(&w);
}

Test(mha_masks, are_packed_as_queries_are) {
  if (!attend_mha_test_blas()) return;
  for (int padding = 0; padding <= ATTEND_LAYER_MASK_ADD; padding++)
    for (int attn = 0; attn <= ATTEND_LAYER_MASK_ADD; attn++)
      for (int per_head = 0; per_head < 2; per_head++)
        for (int weights = 1; weights <= ATTEND_LAYER_WEIGHTS_AVERAGED; weights++)
          compare_packed(padding, attn, per_head, weights);
}

/* --------------------------------------------------------------------------------------------------------- dropout */

Test(mha_masks, dropout_sets_some_weights_to_0_and_divides_the_others) {
  if (!attend_mha_test_blas()) return;
  attend_mha_world w = attend_mha_world_create(&attend_mha_models[0], ATTEND_F32, false);
  const attend_mha_step step = {.news = {20, 20, 20}, .sequences = 3};
  w.p.weights = ATTEND_LAYER_WEIGHTS_PER_HEAD;
  attend_mha_run_data run = attend_mha_world_step(&w, &step);
  const int64_t count = run.rows * w.p.q_heads * WORLD_CACHE;
  float *weights[3];
  for (int i = 0; i < 3; i++) {
    weights[i] = run.t.weights = attend_mha_world_allocate(&w, (size_t)count * sizeof(float));
    run.p.dropout = i ? 0.25f : 0;
    run.t.dropout_seed = (uint64_t)i;
    attend_mha_test_run(&run.p, &run.t, 2);
  }
  int64_t attended = 0, dropped = 0, differ = 0;
  for (int64_t i = 0; i < count; i++) {
    if (!(weights[0][i] > 0)) continue;
    attended++;
    dropped += weights[1][i] == 0;
    differ += (weights[1][i] == 0) != (weights[2][i] == 0);
    if (weights[1][i] != 0) cr_assert_float_eq(weights[1][i], weights[0][i] / 0.75f, 1e-6f);
  }
  cr_expect(dropped > attended / 5 && dropped < attended / 3, "%d of %d", (int)dropped, (int)attended);
  cr_expect_gt(differ, attended / 5, "another seed drops others");
  attend_mha_world_destroy(&w);
}

/* ---------------------------------------------------------------------------------------------------------- layout */

/** A field where 0.2 has it. Fields are only ever added at the end, so none of these numbers may change. */
typedef struct field {
  const char *name;
  size_t offset, size, recorded;
} field;

#define FIELD(type, name, recorded) {#name, offsetof(type, name), sizeof(((type *)NULL)->name), recorded}
#define P(name, recorded) FIELD(attend_mha_problem, name, recorded)
#define T(name, recorded) FIELD(attend_mha_tensors, name, recorded)
static const field problem_fields[] = {
    P(struct_size, 0),
    P(batch, 8),
    P(q_len, 16),
    P(kv_len, 24),
    P(embed_dim, 32),
    P(k_dim, 40),
    P(v_dim, 48),
    P(q_heads, 56),
    P(kv_heads, 64),
    P(head_dim, 72),
    P(v_head_dim, 80),
    P(out_dim, 88),
    P(q_total, 96),
    P(kv_total, 104),
    P(cache_len, 112),
    P(causal_offset, 120),
    P(window_left, 128),
    P(window_right, 136),
    P(rotary_dim, 144),
    P(q_weight_stride, 152),
    P(k_weight_stride, 160),
    P(v_weight_stride, 168),
    P(out_weight_stride, 176),
    P(query_strides, 184),
    P(key_strides, 200),
    P(value_strides, 216),
    P(out_strides, 232),
    P(k_cache_strides, 248),
    P(v_cache_strides, 272),
    P(weight_layout, 296),
    P(out_proj, 300),
    P(cache_dtype, 304),
    P(as_given, 308),
    P(scale, 312),
    P(softcap, 316),
    P(dropout, 320),
    P(rope_theta, 324),
    P(rope_factor, 328),
    P(rope, 332),
    P(causal, 336),
    P(window, 340),
    P(q_starts, 344),
    P(kv_starts, 348),
    P(kv_lengths, 352),
    P(kv_begins, 356),
    P(key_padding_mask, 360),
    P(attn_mask, 364),
    P(attn_mask_per_head, 368),
    P(bias_kv, 372),
    P(add_zero_attn, 376),
    P(sinks, 380),
    P(weights, 384),
    P(batch_invariant, 388),
};
static const field tensor_fields[] = {
    T(struct_size, 0),
    T(query, 8),
    T(key, 16),
    T(value, 24),
    T(out, 32),
    T(q_weight, 40),
    T(k_weight, 48),
    T(v_weight, 56),
    T(out_weight, 64),
    T(q_bias, 72),
    T(k_bias, 80),
    T(v_bias, 88),
    T(out_bias, 96),
    T(bias_k, 104),
    T(bias_v, 112),
    T(q_starts, 120),
    T(kv_starts, 128),
    T(kv_lengths, 136),
    T(kv_begins, 144),
    T(k_cache, 152),
    T(v_cache, 160),
    T(past, 168),
    T(rope_positions, 176),
    T(rope_frequencies, 184),
    T(key_padding_mask, 192),
    T(attn_mask, 200),
    T(sinks, 208),
    T(weights, 216),
    T(dropout_seed, 224),
    T(dropout_offset, 232),
};

static void check_fields(const field *fields, size_t count, size_t size) {
  for (size_t i = 0; i < count; i++) {
    const size_t next = i + 1 < count ? fields[i + 1].offset : size;
    cr_expect_eq(fields[i].offset, fields[i].recorded, "%s is at %zu", fields[i].name, fields[i].offset);
    cr_expect_eq(fields[i].offset + fields[i].size, next, "there is something after %s", fields[i].name);
  }
}

/** As recorded on x86-64; AArch64 lays them out alike. */
Test(mha_masks, structs_lie_as_released) {
  check_fields(problem_fields, COUNT(problem_fields), sizeof(attend_mha_problem));
  check_fields(tensor_fields, COUNT(tensor_fields), sizeof(attend_mha_tensors));
}
