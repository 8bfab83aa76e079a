/* SPDX-License-Identifier: Apache-2.0 */
/**
 * The public structs, as programs that were compiled against an older header see them: recorded offsets and sizes,
 * which never change; and what the library makes of structs of other versions. A new field is a new line at the end of
 * its struct. The numbers are those of every 64-bit system with 32-bit int and enumerations (LP64), x86-64 and AArch64
 * alike.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "attend/layers.h"
#include "tests/support.h"

/* -------------------------------------------------------------------------------------------------------- layout */

typedef struct recorded {
  const char *name;
  size_t offset, size;           /* as recorded */
  size_t offset_here, size_here; /* as this compiler has it */
} recorded;

#define FIELD(type, member, at, bytes) {#member, at, bytes, offsetof(type, member), sizeof(((type *)NULL)->member)}

static const recorded attend_strides_fields[] = {
    FIELD(attend_strides, batch, 0, 8),
    FIELD(attend_strides, head, 8, 8),
    FIELD(attend_strides, row, 16, 8),
};

static const recorded attend_strides4_fields[] = {
    FIELD(attend_strides4, batch, 0, 8),
    FIELD(attend_strides4, head, 8, 8),
    FIELD(attend_strides4, query, 16, 8),
    FIELD(attend_strides4, key, 24, 8),
};

static const recorded attend_problem_fields[] = {
    FIELD(attend_problem, struct_size, 0, 8),
    FIELD(attend_problem, batch, 8, 8),
    FIELD(attend_problem, q_heads, 16, 8),
    FIELD(attend_problem, kv_heads, 24, 8),
    FIELD(attend_problem, q_len, 32, 8),
    FIELD(attend_problem, kv_len, 40, 8),
    FIELD(attend_problem, head_dim, 48, 8),
    FIELD(attend_problem, v_head_dim, 56, 8),
    FIELD(attend_problem, q_total, 64, 8),
    FIELD(attend_problem, kv_total, 72, 8),
    FIELD(attend_problem, page_rows, 80, 8),
    FIELD(attend_problem, pages, 88, 8),
    FIELD(attend_problem, block_table_stride, 96, 8),
    FIELD(attend_problem, q_strides, 104, 24),
    FIELD(attend_problem, k_strides, 128, 24),
    FIELD(attend_problem, v_strides, 152, 24),
    FIELD(attend_problem, out_strides, 176, 24),
    FIELD(attend_problem, mask_strides, 200, 32),
    FIELD(attend_problem, bias_strides, 232, 32),
    FIELD(attend_problem, causal_offset, 264, 8),
    FIELD(attend_problem, window_left, 272, 8),
    FIELD(attend_problem, window_right, 280, 8),
    FIELD(attend_problem, q_dtype, 288, 4),
    FIELD(attend_problem, k_dtype, 292, 4),
    FIELD(attend_problem, v_dtype, 296, 4),
    FIELD(attend_problem, out_dtype, 300, 4),
    FIELD(attend_problem, as_given, 304, 4),
    FIELD(attend_problem, scale, 308, 4),
    FIELD(attend_problem, softcap, 312, 4),
    FIELD(attend_problem, dropout, 316, 4),
    FIELD(attend_problem, score, 320, 4),
    FIELD(attend_problem, causal, 324, 4),
    FIELD(attend_problem, window, 328, 4),
    FIELD(attend_problem, kv_lengths, 332, 4),
    FIELD(attend_problem, positions, 336, 4),
    FIELD(attend_problem, q_starts, 340, 4),
    FIELD(attend_problem, kv_starts, 344, 4),
    FIELD(attend_problem, kv_begins, 348, 4),
    FIELD(attend_problem, key_ranges, 352, 4),
    FIELD(attend_problem, mask, 356, 4),
    FIELD(attend_problem, bias_dtype, 360, 4),
    FIELD(attend_problem, bias_head_scale, 364, 4),
    FIELD(attend_problem, alibi, 368, 4),
    FIELD(attend_problem, sinks, 372, 4),
    FIELD(attend_problem, lse, 376, 4),
    FIELD(attend_problem, weights, 380, 4),
    FIELD(attend_problem, scores, 384, 4),
    FIELD(attend_problem, batch_invariant, 388, 4),
    FIELD(attend_problem, k_scaling, 392, 56),
    FIELD(attend_problem, v_scaling, 448, 56),
    FIELD(attend_problem, int8_products, 504, 8),
};

static const recorded attend_tensors_fields[] = {
    FIELD(attend_tensors, struct_size, 0, 8),
    FIELD(attend_tensors, q, 8, 8),
    FIELD(attend_tensors, k, 16, 8),
    FIELD(attend_tensors, v, 24, 8),
    FIELD(attend_tensors, out, 32, 8),
    FIELD(attend_tensors, kv_lengths, 40, 8),
    FIELD(attend_tensors, positions, 48, 8),
    FIELD(attend_tensors, q_starts, 56, 8),
    FIELD(attend_tensors, kv_starts, 64, 8),
    FIELD(attend_tensors, kv_begins, 72, 8),
    FIELD(attend_tensors, key_ranges, 80, 8),
    FIELD(attend_tensors, block_table, 88, 8),
    FIELD(attend_tensors, mask, 96, 8),
    FIELD(attend_tensors, bias, 104, 8),
    FIELD(attend_tensors, bias_head_scale, 112, 8),
    FIELD(attend_tensors, alibi_slopes, 120, 8),
    FIELD(attend_tensors, sinks, 128, 8),
    FIELD(attend_tensors, score_weights, 136, 8),
    FIELD(attend_tensors, lse, 144, 8),
    FIELD(attend_tensors, weights, 152, 8),
    FIELD(attend_tensors, scores, 160, 8),
    FIELD(attend_tensors, dropout_seed, 168, 8),
    FIELD(attend_tensors, dropout_offset, 176, 8),
    FIELD(attend_tensors, k_scales, 184, 8),
    FIELD(attend_tensors, v_scales, 192, 8),
    FIELD(attend_tensors, k_zero_points, 200, 8),
    FIELD(attend_tensors, v_zero_points, 208, 8),
};

static const recorded attend_options_fields[] = {
    FIELD(attend_options, struct_size, 0, 8),
    FIELD(attend_options, kernel, 8, 8),
    FIELD(attend_options, profile, 16, 8),
    FIELD(attend_options, allocate, 24, 8),
    FIELD(attend_options, release, 32, 8),
    FIELD(attend_options, memory_context, 40, 8),
    FIELD(attend_options, log, 48, 8),
    FIELD(attend_options, log_context, 56, 8),
    FIELD(attend_options, parallel_for, 64, 8),
    FIELD(attend_options, parallel_context, 72, 8),
    FIELD(attend_options, num_threads, 80, 4),
    FIELD(attend_options, bind_threads, 84, 4),
    FIELD(attend_options, ignore_environment, 88, 4),
    FIELD(attend_options, verbose, 92, 4),
};

static const recorded attend_append_problem_fields[] = {
    FIELD(attend_append_problem, struct_size, 0, 8), FIELD(attend_append_problem, batch, 8, 8),
    FIELD(attend_append_problem, heads, 16, 8),      FIELD(attend_append_problem, rows, 24, 8),
    FIELD(attend_append_problem, dim, 32, 8),        FIELD(attend_append_problem, cache_len, 40, 8),
    FIELD(attend_append_problem, x_total, 48, 8),    FIELD(attend_append_problem, page_rows, 56, 8),
    FIELD(attend_append_problem, pages, 64, 8),      FIELD(attend_append_problem, block_table_stride, 72, 8),
    FIELD(attend_append_problem, x_strides, 80, 24), FIELD(attend_append_problem, cache_strides, 104, 24),
    FIELD(attend_append_problem, x_dtype, 128, 4),   FIELD(attend_append_problem, cache_dtype, 132, 4),
    FIELD(attend_append_problem, x_starts, 136, 4),  FIELD(attend_append_problem, num_threads, 140, 4),
    FIELD(attend_append_problem, scaling, 144, 56),
};

static const recorded attend_append_tensors_fields[] = {
    FIELD(attend_append_tensors, struct_size, 0, 8), FIELD(attend_append_tensors, x, 8, 8),
    FIELD(attend_append_tensors, cache, 16, 8),      FIELD(attend_append_tensors, positions, 24, 8),
    FIELD(attend_append_tensors, x_starts, 32, 8),   FIELD(attend_append_tensors, block_table, 40, 8),
    FIELD(attend_append_tensors, scales, 48, 8),     FIELD(attend_append_tensors, zero_points, 56, 8),
};

static const recorded attend_merge_problem_fields[] = {
    FIELD(attend_merge_problem, struct_size, 0, 8),    FIELD(attend_merge_problem, parts, 8, 8),
    FIELD(attend_merge_problem, batch, 16, 8),         FIELD(attend_merge_problem, heads, 24, 8),
    FIELD(attend_merge_problem, rows, 32, 8),          FIELD(attend_merge_problem, dim, 40, 8),
    FIELD(attend_merge_problem, part_strides, 48, 24), FIELD(attend_merge_problem, out_strides, 72, 24),
    FIELD(attend_merge_problem, lse_stride, 96, 8),    FIELD(attend_merge_problem, part_dtype, 104, 4),
    FIELD(attend_merge_problem, out_dtype, 108, 4),    FIELD(attend_merge_problem, lse, 112, 4),
    FIELD(attend_merge_problem, num_threads, 116, 4),
};

static const recorded attend_merge_tensors_fields[] = {
    FIELD(attend_merge_tensors, struct_size, 0, 8), FIELD(attend_merge_tensors, outs, 8, 8),
    FIELD(attend_merge_tensors, lses, 16, 8),       FIELD(attend_merge_tensors, out, 24, 8),
    FIELD(attend_merge_tensors, lse, 32, 8),
};

static const recorded attend_additive_problem_fields[] = {
    FIELD(attend_additive_problem, struct_size, 0, 8),    FIELD(attend_additive_problem, batch, 8, 8),
    FIELD(attend_additive_problem, q_len, 16, 8),         FIELD(attend_additive_problem, kv_len, 24, 8),
    FIELD(attend_additive_problem, q_dim, 32, 8),         FIELD(attend_additive_problem, k_dim, 40, 8),
    FIELD(attend_additive_problem, v_dim, 48, 8),         FIELD(attend_additive_problem, hidden, 56, 8),
    FIELD(attend_additive_problem, weight_layout, 64, 4), FIELD(attend_additive_problem, kv_lengths, 68, 4),
    FIELD(attend_additive_problem, mask, 72, 4),          FIELD(attend_additive_problem, weights, 76, 4),
    FIELD(attend_additive_problem, dropout, 80, 4),       FIELD(attend_additive_problem, batch_invariant, 84, 4),
};

static const recorded attend_additive_tensors_fields[] = {
    FIELD(attend_additive_tensors, struct_size, 0, 8),   FIELD(attend_additive_tensors, query, 8, 8),
    FIELD(attend_additive_tensors, key, 16, 8),          FIELD(attend_additive_tensors, value, 24, 8),
    FIELD(attend_additive_tensors, out, 32, 8),          FIELD(attend_additive_tensors, q_weight, 40, 8),
    FIELD(attend_additive_tensors, k_weight, 48, 8),     FIELD(attend_additive_tensors, q_bias, 56, 8),
    FIELD(attend_additive_tensors, score_weight, 64, 8), FIELD(attend_additive_tensors, kv_lengths, 72, 8),
    FIELD(attend_additive_tensors, mask, 80, 8),         FIELD(attend_additive_tensors, weights, 88, 8),
    FIELD(attend_additive_tensors, dropout_seed, 96, 8), FIELD(attend_additive_tensors, dropout_offset, 104, 8),
};

static const recorded attend_softmax_problem_fields[] = {
    FIELD(attend_softmax_problem, struct_size, 0, 8),   FIELD(attend_softmax_problem, batch, 8, 8),
    FIELD(attend_softmax_problem, heads, 16, 8),        FIELD(attend_softmax_problem, rows, 24, 8),
    FIELD(attend_softmax_problem, columns, 32, 8),      FIELD(attend_softmax_problem, dtype, 40, 4),
    FIELD(attend_softmax_problem, lengths, 44, 4),      FIELD(attend_softmax_problem, mask, 48, 4),
    FIELD(attend_softmax_problem, num_threads, 52, 4),  FIELD(attend_softmax_problem, x_strides, 56, 24),
    FIELD(attend_softmax_problem, out_strides, 80, 24), FIELD(attend_softmax_problem, mask_strides, 104, 32),
};

static const recorded attend_softmax_tensors_fields[] = {
    FIELD(attend_softmax_tensors, struct_size, 0, 8), FIELD(attend_softmax_tensors, x, 8, 8),
    FIELD(attend_softmax_tensors, out, 16, 8),        FIELD(attend_softmax_tensors, lengths, 24, 8),
    FIELD(attend_softmax_tensors, mask, 32, 8),
};

/* tests/test_mha_masks.c records attend_mha_problem and attend_mha_tensors. */

typedef struct layout {
  const char *name;
  const recorded *fields;
  size_t count, size, size_here;
} layout;

#define STRUCT(type, bytes) {#type, type##_fields, COUNT(type##_fields), bytes, sizeof(type)}

static const layout layouts[] = {
    STRUCT(attend_strides, 24),          STRUCT(attend_strides4, 32),          STRUCT(attend_problem, 512),
    STRUCT(attend_tensors, 216),         STRUCT(attend_options, 96),           STRUCT(attend_append_problem, 200),
    STRUCT(attend_append_tensors, 64),   STRUCT(attend_merge_problem, 120),    STRUCT(attend_merge_tensors, 40),
    STRUCT(attend_additive_problem, 88), STRUCT(attend_additive_tensors, 112), STRUCT(attend_softmax_problem, 136),
    STRUCT(attend_softmax_tensors, 40),
};

Test(layout, is_what_was_released) {
  cr_assert_eq(sizeof(void *), 8, "sizes are recorded for 64 bits");
  cr_assert_eq(sizeof(int), 4, "sizes are recorded for ints of 32 bits");
  for (size_t i = 0; i < COUNT(layouts); i++) {
    const layout *l = &layouts[i];
    cr_expect_eq(l->size_here, l->size, "%s has %zu bytes, not %zu", l->name, l->size_here, l->size);
    for (const recorded *f = l->fields; f < l->fields + l->count; f++) {
      cr_expect_eq(f->offset_here, f->offset, "%s.%s is at %zu, not %zu", l->name, f->name, f->offset_here, f->offset);
      cr_expect_eq(f->size_here, f->size, "%s.%s has %zu bytes, not %zu", l->name, f->name, f->size_here, f->size);
    }
  }
}

/* Bytes between fields would be whatever a caller left there, and could never become a field. */
Test(layout, has_no_holes) {
  for (size_t i = 0; i < COUNT(layouts); i++) {
    const layout *l = &layouts[i];
    size_t end = 0;
    for (const recorded *f = l->fields; f < l->fields + l->count; f++) {
      cr_expect_eq(f->offset_here, end, "%s: a hole before %s, or a field that is not recorded", l->name, f->name);
      end = f->offset_here + f->size_here;
    }
    cr_expect_eq(l->size_here, end, "%s: a hole at the end, or a field that is not recorded", l->name);
  }
}

/* ------------------------------------------------------------------------------------------------------- structs */

Test(structs, null_pointers_are_refused) {
  attend_problem problem = attend_test_problem(1, 1, 1, 2, 3, 4);
  attend_test_tensors tensors = attend_test_tensors_create(&problem);
  attend_test_refuses(NULL, NULL, ATTEND_ERROR_INVALID_ARGUMENT, "attend_problem", NULL, "no problem");
  EXPECT_ERROR(attend_plan_create(&problem, NULL, NULL), ATTEND_ERROR_INVALID_ARGUMENT, "plan", "no plan");
  EXPECT_ERROR(attend_forward(NULL, &tensors.t), ATTEND_ERROR_INVALID_ARGUMENT, "attend_problem",
               "forward without problem");
  EXPECT_ERROR(attend_forward(&problem, NULL), ATTEND_ERROR_INVALID_ARGUMENT, "attend_tensors",
               "forward without tensors");
  cr_expect(attend_test_untouched(&tensors));
  attend_test_tensors_destroy(&tensors);
  attend_test_expect_no_leak();
}

Test(structs, without_their_size_are_refused) {
  attend_problem problem = attend_test_problem(1, 1, 1, 2, 3, 4);
  const size_t problem_sizes[] = {0, 1, sizeof(size_t), offsetof(attend_problem, scale), sizeof problem - 1, SIZE_MAX};
  for (size_t i = 0; i < COUNT(problem_sizes); i++) {
    attend_problem wrong = problem;
    wrong.struct_size = problem_sizes[i];
    char what[60];
    snprintf(what, sizeof what, "problem.struct_size = %zu", wrong.struct_size);
    attend_test_refuses_both(&problem, &wrong, ATTEND_ERROR_INVALID_ARGUMENT, "struct_size", NULL, what);
  }
  attend_options options = ATTEND_OPTIONS_INIT;
  const size_t options_sizes[] = {0, 1, sizeof(size_t), sizeof options - 1, SIZE_MAX};
  for (size_t i = 0; i < COUNT(options_sizes); i++) {
    options.struct_size = options_sizes[i];
    char what[60];
    snprintf(what, sizeof what, "options.struct_size = %zu", options.struct_size);
    attend_test_refuses(&problem, &options, ATTEND_ERROR_INVALID_ARGUMENT, "struct_size", NULL, what);
  }
}

/* Version 0.1 laid structs out otherwise. Who was compiled against it is told so. */
Test(structs, of_0_1_are_refused_by_name) {
  attend_problem problem = attend_test_problem(1, 1, 1, 2, 3, 4), old_problem = problem;
  old_problem.struct_size = 336;
  attend_test_refuses_both(&problem, &old_problem, ATTEND_ERROR_UNSUPPORTED, "attend_problem", "0.1",
                           "a problem of 0.1");
  attend_options options = ATTEND_OPTIONS_INIT;
  options.struct_size = 24;
  attend_test_refuses(&problem, &options, ATTEND_ERROR_UNSUPPORTED, "attend_options", "0.1", "options of 0.1");
  attend_test_tensors tensors = attend_test_tensors_create(&problem);
  tensors.t.struct_size = 120;
  attend_test_forget_detail();
  attend_test_expect_error(attend_forward(&problem, &tensors.t), ATTEND_ERROR_UNSUPPORTED, "attend_tensors", "0.1",
                           "tensors of 0.1");
  cr_expect(attend_test_untouched(&tensors));
  attend_test_tensors_destroy(&tensors);
}

/* A struct that grew, read from a caller who was compiled against its first header: the rest is not theirs. */
Test(structs, may_be_those_of_an_older_header) {
  struct {
    size_t struct_size;
    int64_t first, added;
  } from = {.first = 5, .added = 6}, to = {.first = 7, .added = 8};
  const size_t first = offsetof(__typeof__(from), added);
  from.struct_size = first;
  cr_expect_eq(attend_read_versioned(&to, sizeof to, first, &from, "growing"), ATTEND_OK, "%s", attend_error_detail());
  cr_expect_eq(to.struct_size, sizeof to);
  cr_expect_eq(to.first, 5);
  cr_expect_eq(to.added, 0, "what comes after their struct was read");
  from.struct_size = sizeof from;
  cr_expect_eq(attend_read_versioned(&to, sizeof to, first, &from, "growing"), ATTEND_OK, "%s", attend_error_detail());
  cr_expect_eq(to.added, 6);
  from.struct_size = first - 1;
  EXPECT_ERROR(attend_read_versioned(&to, sizeof to, first, &from, "growing"), ATTEND_ERROR_INVALID_ARGUMENT,
               "struct_size", "less than the first header had");
}

/* Structs as a caller has them who was compiled against a later version of the header. */
Test(structs, may_be_longer_if_the_rest_is_zero) {
  struct {
    attend_problem known;
    unsigned char unknown[24];
  } problem = {.known = attend_test_problem(1, 1, 1, 2, 3, 4)};
  struct {
    attend_options known;
    unsigned char unknown[24];
  } options = {.known = ATTEND_OPTIONS_INIT};
  problem.known.struct_size = offsetof(__typeof__(problem), unknown) + sizeof problem.unknown;
  options.known.struct_size = offsetof(__typeof__(options), unknown) + sizeof options.unknown;
  attend_test_accepts(&problem.known, &options.known, "unknown fields that are zero");
  for (size_t i = 0; i < sizeof problem.unknown; i++) {
    char what[60];
    snprintf(what, sizeof what, "byte %zu after the known fields set", i);
    problem.unknown[i] = 1;
    attend_test_refuses(&problem.known, NULL, ATTEND_ERROR_UNSUPPORTED, "attend_problem", NULL, what);
    problem.unknown[i] = 0;
    options.unknown[i] = 0x80;
    attend_test_refuses(&problem.known, &options.known, ATTEND_ERROR_UNSUPPORTED, "attend_options", NULL, what);
    options.unknown[i] = 0;
  }
  /* and only the rest that struct_size speaks of is looked at */
  problem.known.struct_size = sizeof(attend_problem) + 8, options.known.struct_size = sizeof(attend_options) + 8;
  problem.unknown[8] = options.unknown[8] = 1;
  attend_test_accepts(&problem.known, &options.known, "fields beyond struct_size");
}
