/* SPDX-License-Identifier: Apache-2.0 */
/** Formats of keys and values: against what others made of the same numbers (tests/formats), and what is refused. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch/dispatch.h"
#include "kernels/convert.h"
#include "tests/support.h"
#include "verify/formats.h"

enum { BLOCKS = 64, COUNT_OF_NUMBERS = 32 * BLOCKS, MOST_BYTES = 4 * COUNT_OF_NUMBERS };

#define FOR_EACH_BLOCK_FORMAT(format)                                                                                  \
  for (attend_dtype format = ATTEND_F8_E4M3; format < ATTEND_DTYPE_COUNT; format++)                                    \
    if (attend_formats[format].kind == ATTEND_BLOCKS)

static void read_recorded(const char *name, const char *kind, void *to, size_t size) {
  char path[512];
  snprintf(path, sizeof path, "%s/%s%s", ATTEND_FORMATS_FOLDER, name, kind);
  FILE *f = fopen(path, "rb");
  cr_assert(f, "%s: cannot be opened", path);
  cr_assert_eq(fread(to, 1, size, f), size, "%s: expected %zu bytes", path, size);
  fclose(f);
}

/* Appends all numbers as one row. */
static void append_row(const attend_kernel *kernel, const void *x, attend_dtype from, attend_dtype to, void *cache) {
  attend_append_problem p = ATTEND_APPEND_PROBLEM_INIT;
  p.batch = p.heads = p.rows = p.cache_len = 1, p.dim = COUNT_OF_NUMBERS;
  p.x_dtype = from, p.cache_dtype = to;
  attend_append_tensors t = ATTEND_APPEND_TENSORS_INIT;
  t.x = x, t.cache = cache, t.positions = (const int32_t[]){0};
  cr_assert_eq(attend_append_by(kernel, &p, &t), ATTEND_OK, "%s", attend_error_detail());
}

static void check_blocks(const attend_kernel *kernel) {
  static float numbers[COUNT_OF_NUMBERS];
  read_recorded("numbers", "", numbers, sizeof numbers);
  FOR_EACH_BLOCK_FORMAT(format) {
    static unsigned char expected[MOST_BYTES], got[MOST_BYTES];
    const size_t size = (size_t)attend_verify_row_extent(format, COUNT_OF_NUMBERS);
    read_recorded(attend_dtype_name(format), ".blocks", expected, size);
    memset(got, 0x5a, sizeof got);
    append_row(kernel, numbers, ATTEND_F32, format, got);
    for (size_t i = 0; i < size; i++)
      cr_assert_eq(got[i], expected[i], "%s, %s: byte %zu of block %zu is %d, expected %d", kernel->name,
                   attend_dtype_name(format), i % (size / BLOCKS), i / (size / BLOCKS), got[i], expected[i]);
    for (size_t i = size; i < sizeof got; i++) cr_assert_eq(got[i], 0x5a, "byte %zu after the row was written to", i);
  }
}

Test(formats, blocks_are_those_recorded) {
  attend_env env;
  cr_assert_eq(attend_env_read(&env), ATTEND_OK);
  int checked = 0;
  for (size_t i = 0; attend_kernel_of(ATTEND_OP_APPEND, i); i++) {
    const attend_kernel *kernel = attend_kernel_of(ATTEND_OP_APPEND, i);
    if (!attend_kernel_runnable(kernel, env.isa, NULL, 0)) continue;
    check_blocks(kernel);
    checked++;
  }
  cr_expect_gt(checked, 0);
}

Test(formats, the_reference_reads_blocks_as_recorded) {
  static float decoded[COUNT_OF_NUMBERS];
  static unsigned char blocks[MOST_BYTES];
  FOR_EACH_BLOCK_FORMAT(format) {
    read_recorded(attend_dtype_name(format), ".blocks", blocks,
                  (size_t)attend_verify_row_extent(format, COUNT_OF_NUMBERS));
    read_recorded(attend_dtype_name(format), ".decoded", decoded, sizeof decoded);
    const attend_scaling none = {0};
    const attend_verify_row row = {.tensor = blocks, .dtype = format, .scaling = &none};
    for (int64_t d = 0; d < COUNT_OF_NUMBERS; d++)
      cr_assert_eq((float)attend_verify_row_element(&row, d), decoded[d], "%s: element %d is %.9g, expected %.9g",
                   attend_dtype_name(format), (int)d, attend_verify_row_element(&row, d), (double)decoded[d]);
  }
}

/* All 8-bit floats, as the standards list some of them. */
Test(formats, eight_bit_floats) {
  static const struct {
    attend_dtype dtype;
    unsigned char bits;
    double value;
  } known[] = {{ATTEND_F8_E4M3, 0x00, 0},        {ATTEND_F8_E4M3, 0x01, 0x1p-9},   {ATTEND_F8_E4M3, 0x07, 0x7p-9},
               {ATTEND_F8_E4M3, 0x08, 0x1p-6},   {ATTEND_F8_E4M3, 0x38, 1},        {ATTEND_F8_E4M3, 0x7e, 448},
               {ATTEND_F8_E4M3, 0xfe, -448},     {ATTEND_F8_E5M2, 0x01, 0x1p-16},  {ATTEND_F8_E5M2, 0x04, 0x1p-14},
               {ATTEND_F8_E5M2, 0x3c, 1},        {ATTEND_F8_E5M2, 0x7b, 57344},    {ATTEND_F8_E5M2, 0xfb, -57344},
               {ATTEND_F8_E5M2, 0x7c, INFINITY}, {ATTEND_F8_E5M2, 0xfc, -INFINITY}};
  const attend_scaling none = {0};
  for (size_t i = 0; i < COUNT(known); i++) {
    const attend_verify_row row = {.tensor = &known[i].bits, .dtype = known[i].dtype, .scaling = &none};
    cr_expect_eq(attend_verify_row_element(&row, 0), known[i].value, "%#x is %g", known[i].bits,
                 attend_verify_row_element(&row, 0));
  }
}

Test(formats, rows_have_the_order_of_the_types) {
#define EXPECT_NAME(id, text, ...) cr_expect_str_eq(attend_formats[ATTEND_##id].name, text);
#define ATTEND_FORMAT_PLAIN EXPECT_NAME
#define ATTEND_FORMAT_SCALED EXPECT_NAME
#define ATTEND_FORMAT_BLOCK EXPECT_NAME
#include "kernels/formats.def"
}

/* What was appended is within half a step of what it was, whatever the format and the shape of its scales. */
Test(formats, scaled_rows_come_back) {
  enum { ROWS = 3, DIM = 96, GROUPS = 6 };
  float x[ROWS * DIM];
  for (int i = 0; i < ROWS * DIM; i++) x[i] = sinf((float)i) * (i % DIM == 7 ? 30.0f : 1.0f) + 0.5f;
  for (attend_dtype format = ATTEND_F8_E4M3; format <= ATTEND_I4; format++)
    for (int variant = 0; variant < 16; variant++) {
      unsigned char cache[ROWS * DIM];
      float scales[ROWS * DIM], zeros[ROWS * DIM];
      const bool integers = format == ATTEND_I8 || format == ATTEND_I4;
      const int64_t group = (const int64_t[]){0, 16, 32, 1}[variant / 4], count = group ? DIM / group : 1;
      if (!integers && variant % 4) continue;
      attend_append_problem p = ATTEND_APPEND_PROBLEM_INIT;
      p.batch = p.heads = 1, p.rows = p.cache_len = ROWS, p.dim = DIM, p.cache_dtype = format;
      p.scaling = (attend_scaling){.group = group,
                                   .row = count,
                                   .step = 1,
                                   .dtype = ATTEND_F32,
                                   .zero_points = variant & 1,
                                   .is_unsigned = variant >> 1 & 1};
      attend_append_tensors t = ATTEND_APPEND_TENSORS_INIT;
      t.x = x, t.cache = cache, t.positions = (const int32_t[]){0}, t.scales = scales, t.zero_points = zeros;
      cr_assert_eq(attend_append(&p, &t), ATTEND_OK, "%s", attend_error_detail());
      for (int r = 0; r < ROWS; r++) {
        const attend_verify_row row = {.tensor = cache,
                                       .scales = scales,
                                       .zeros = p.scaling.zero_points ? zeros : NULL,
                                       .dtype = format,
                                       .scaling = &p.scaling,
                                       .at = r * attend_verify_row_extent(format, DIM),
                                       .scales_at = r * count};
        for (int d = 0; d < DIM; d++) {
          const double got = attend_verify_row_element(&row, d), number = (double)x[r * DIM + d];
          const double scale = (double)scales[r * count + (group ? d / group : 0)];
          const double step = integers ? scale : fmax(fabs(number) / (format == ATTEND_F8_E4M3 ? 8 : 4), scale / 64);
          cr_assert(fabs(got - number) <= 1.001 * step * (p.scaling.zero_points ? 1 : 0.51),
                    "%s, variant %d: element %d of row %d is %g, expected %g within a step of %g",
                    attend_dtype_name(format), variant, d, r, got, number, step);
        }
      }
    }
}

Test(formats, what_is_not_finite_makes_its_block_nan) {
  float x[64] = {0};
  unsigned char cache[68];
  x[3] = INFINITY, x[40] = 1;
  attend_append_problem p = ATTEND_APPEND_PROBLEM_INIT;
  p.batch = p.heads = p.rows = p.cache_len = 1, p.dim = 64;
  attend_append_tensors t = ATTEND_APPEND_TENSORS_INIT;
  t.x = x, t.cache = cache, t.positions = (const int32_t[]){0};
  FOR_EACH_BLOCK_FORMAT(format) {
    p.cache_dtype = format;
    cr_assert_eq(attend_append(&p, &t), ATTEND_OK, "%s", attend_error_detail());
    const attend_scaling none = {0};
    const attend_verify_row row = {.tensor = cache, .dtype = format, .scaling = &none};
    for (int d = 0; d < 64; d++)
      cr_expect_eq(isnan(attend_verify_row_element(&row, d)) != 0, d < 32, "%s: element %d is %g",
                   attend_dtype_name(format), d, attend_verify_row_element(&row, d));
  }
}

/* Appends one tensor of a scaled format in f32, with f32 or f16 scales; `ok` is what is expected. */
static void append_scaled(attend_append_problem *p, const void *x, void *cache, void *scales, void *zeros,
                          attend_status ok) {
  attend_append_tensors t = ATTEND_APPEND_TENSORS_INIT;
  const int32_t positions[2] = {0}, table[2] = {0, 1};
  t.x = x, t.cache = cache, t.scales = scales, t.zero_points = zeros, t.positions = positions, t.block_table = table;
  cr_expect_eq(attend_append(p, &t), ok, "%s", attend_error_detail());
}

/* A stride over one row is not stepped along, but still says that rows have scales of their own. */
Test(formats, scales_of_a_single_row_are_written) {
  float x[32], scale[2] = {12345.0f, 12345.0f};
  int8_t cache[32];
  for (int i = 0; i < 32; i++) x[i] = 127.0f - (float)(4 * i);
  attend_append_problem p = ATTEND_APPEND_PROBLEM_INIT;
  p.batch = p.heads = p.rows = p.cache_len = 1, p.dim = 32, p.cache_dtype = ATTEND_I8;
  p.scaling = (attend_scaling){.row = 1, .dtype = ATTEND_F32};
  append_scaled(&p, x, cache, scale, NULL, ATTEND_OK);
  cr_expect_eq(scale[0], 1.0f);
  cr_expect_eq(cache[1], 123);
  p.rows = 2, p.dim = 16, p.cache_len = 2, p.page_rows = 1, p.pages = 2;
  p.scaling = (attend_scaling){.batch = 1, .row = 1, .dtype = ATTEND_F32};
  scale[0] = scale[1] = 12345.0f;
  append_scaled(&p, x, cache, scale, NULL, ATTEND_OK);
  cr_expect_eq(scale[0], 1.0f);
  cr_expect_eq(scale[1], 63.0f / 127.0f);
}

Test(formats, scales_that_overlap_are_not_written) {
  float x[64] = {0}, scales[2];
  int8_t cache[64];
  attend_append_problem p = ATTEND_APPEND_PROBLEM_INIT;
  p.batch = 1, p.heads = 2, p.rows = p.cache_len = 2, p.dim = 16, p.cache_dtype = ATTEND_I8;
  p.scaling = (attend_scaling){.row = 1, .dtype = ATTEND_F32};
  append_scaled(&p, x, cache, scales, NULL, ATTEND_ERROR_INVALID_ARGUMENT);
  cr_expect(strstr(attend_error_detail(), "scaling_strides"), "%s", attend_error_detail());
}

/* Scales at either end of the range: finite numbers come back finite, and near where they were. */
Test(formats, scales_at_the_ends_of_the_range) {
  static const float sizes[] = {1e-44f, 1e-38f, 1e-37f, 1e-5f, 0.0016f, 0.05f, 1e4f, 2e38f};
  for (attend_dtype format = ATTEND_F8_E4M3; format <= ATTEND_I4; format++)
    for (int variant = 0; variant < 8; variant++)
      for (size_t n = 0; n < sizeof sizes / sizeof *sizes; n++) {
        const bool half = variant & 1, zeros = variant & 2, integers = format >= ATTEND_I8;
        if ((!integers && variant > 1) || (half && (sizes[n] > 1e4f || (integers && sizes[n] < 0.05f)))) continue;
        float x[16] = {0};
        x[0] = sizes[n], x[1] = -sizes[n], x[2] = sizes[n] / 3;
        unsigned char cache[16];
        float scale = 7.0f, zero = 7.0f;
        attend_append_problem p = ATTEND_APPEND_PROBLEM_INIT;
        p.batch = p.heads = p.rows = p.cache_len = 1, p.dim = 16, p.cache_dtype = format;
        p.scaling = (attend_scaling){
            .row = 1, .dtype = half ? ATTEND_F16 : ATTEND_F32, .zero_points = zeros, .is_unsigned = variant >> 2};
        append_scaled(&p, x, cache, &scale, &zero, ATTEND_OK);
        const attend_verify_row row = {
            .tensor = cache, .scales = &scale, .zeros = zeros ? &zero : NULL, .dtype = format, .scaling = &p.scaling};
        for (int d = 0; d < 16; d++) {
          const double got = attend_verify_row_element(&row, d);
          const double room = 1e-36 + (double)sizes[n] * (format == ATTEND_I4   ? 0.15
                                                          : format == ATTEND_I8 ? 0.01
                                                                                : 0.13);
          cr_expect(fabs(got - (double)x[d]) <= room, "%s, variant %d: element %d is %g, expected %g",
                    attend_dtype_name(format), variant, d, got, (double)x[d]);
        }
      }
}

static void expect_refused(const attend_problem *p, const char *detail) {
  attend_plan *plan = NULL;
  cr_expect_eq(attend_plan_create(p, NULL, &plan), ATTEND_ERROR_INVALID_ARGUMENT, "expected '%s'", detail);
  cr_expect(strstr(attend_error_detail(), detail), "expected '%s' in '%s'", detail, attend_error_detail());
  attend_plan_destroy(plan);
}

Test(formats, what_cannot_be_is_refused) {
  attend_problem p = ATTEND_PROBLEM_INIT;
  p.batch = p.q_heads = p.q_len = 1, p.kv_len = 8, p.head_dim = 48, p.k_dtype = ATTEND_Q8_0;
  expect_refused(&p, "head_dim is 48, expected a multiple of 32");
  p.k_dtype = ATTEND_F32, p.v_dtype = ATTEND_Q4_0;
  expect_refused(&p, "v_head_dim is 48, expected a multiple of 32");
  p.v_dtype = ATTEND_F32, p.q_dtype = ATTEND_Q8_0;
  expect_refused(&p, "q_dtype is 8");
  p.q_dtype = ATTEND_F32, p.out_dtype = ATTEND_I8;
  expect_refused(&p, "out_dtype is 6");
  p.out_dtype = ATTEND_F32, p.k_dtype = ATTEND_I8;
  p.k_scaling = (attend_scaling){.group = 20, .dtype = ATTEND_F32};
  expect_refused(&p, "k_scaling.group is 20");
  p.k_scaling = (attend_scaling){.group = 64, .dtype = ATTEND_F32};
  expect_refused(&p, "k_scaling.group is 64");
  p.k_scaling = (attend_scaling){.dtype = ATTEND_BF16};
  expect_refused(&p, "k_scaling.dtype is 3");
  p.k_scaling = (attend_scaling){.zero_points = 1};
  expect_refused(&p, "k_scaling.zero_points is 1");
  p.k_dtype = ATTEND_F8_E4M3, p.k_scaling = (attend_scaling){.dtype = ATTEND_F32, .is_unsigned = 1};
  expect_refused(&p, "k_scaling.is_unsigned is 1");
  p.k_dtype = ATTEND_I4, p.k_scaling = (attend_scaling){0}, p.head_dim = 47, p.v_head_dim = 48;
  expect_refused(&p, "head_dim is 47, expected a multiple of 2");
}

Test(formats, scales_that_are_missing_are_refused) {
  attend_problem p = ATTEND_PROBLEM_INIT;
  p.batch = p.q_heads = p.q_len = 1, p.kv_len = 1, p.head_dim = 16, p.k_dtype = ATTEND_I8;
  p.k_scaling = (attend_scaling){.dtype = ATTEND_F32, .zero_points = 1};
  p.v_dtype = ATTEND_F32;
  float numbers[16] = {0}, out[16], scale = 1;
  attend_tensors t = ATTEND_TENSORS_INIT;
  t.q = t.k = t.v = numbers, t.out = out;
  cr_expect_eq(attend_forward(&p, &t), ATTEND_ERROR_INVALID_ARGUMENT);
  cr_expect(strstr(attend_error_detail(), "k_scales is NULL"), "%s", attend_error_detail());
  t.k_scales = &scale;
  cr_expect_eq(attend_forward(&p, &t), ATTEND_ERROR_INVALID_ARGUMENT);
  cr_expect(strstr(attend_error_detail(), "k_zero_points is NULL"), "%s", attend_error_detail());
  t.k_zero_points = &scale;
  cr_expect_eq(attend_forward(&p, &t), ATTEND_OK, "%s", attend_error_detail());
}

/* Runs a problem whose keys and values are the same bytes with the same scales, which are f32, or halves. */
static void run_scaled(const attend_kernel *kernel, attend_problem *p, const attend_scaling *scaling, const float *q,
                       const void *rows, const float *scales, const float *zeros, float *out) {
  enum { MOST = 8 * 97 * 4 };
  static uint16_t halves[2][MOST];
  const bool half = scaling->dtype == ATTEND_F16;
  for (int i = 0; half && i < MOST; i++) halves[0][i] = f32_to_f16(scales[i]), halves[1][i] = f32_to_f16(zeros[i]);
  attend_tensors t = ATTEND_TENSORS_INIT;
  p->k_scaling = p->v_scaling = *scaling;
  t.q = q, t.k = t.v = rows, t.out = out;
  t.k_scales = t.v_scales = half ? (const void *)halves[0] : scales;
  t.k_zero_points = t.v_zero_points = half ? (const void *)halves[1] : zeros;
  attend_plan *plan = attend_test_plan(p, kernel->name, 1);
  size_t size;
  void *workspace = attend_test_workspace(plan, &size);
  cr_assert_eq(attend_plan_run(plan, &t, workspace, size), ATTEND_OK, "%s", attend_error_detail());
  free(workspace);
  attend_plan_destroy(plan);
}

/*
 * Groups of 16 are read to a buffer everywhere, others become numbers in registers where there are enough of those:
 * scales that are said in both ways give the same bits. Lengths and heads leave tails of all kinds.
 */
Test(formats, ways_to_say_the_same_scales_give_the_same_bits) {
  enum { KEYS = 97, DIM = 128, MOST_HEADS = 7, GROUPS = DIM / 16 };
  static uint8_t rows[KEYS * DIM];
  static float q[MOST_HEADS * DIM], out[2][MOST_HEADS * DIM], scales[2][8 * KEYS * GROUPS], zeros[2][8 * KEYS * GROUPS];
  int compared = 0;
  for (int i = 0; i < MOST_HEADS * DIM; i++) q[i] = sinf((float)i);
  for (int i = 0; i < KEYS * DIM; i++) rows[i] = (uint8_t)((unsigned)i * 2654435761u >> 13 & 0x77);
  for (int variant = 0; variant < 48; variant++) {
    const attend_dtype format = (attend_dtype)(ATTEND_F8_E4M3 + variant % 4);
    const bool integers = format == ATTEND_I8 || format == ATTEND_I4, moved = integers && variant / 4 % 2;
    const int64_t group = (const int64_t[]){0, 32, 64}[variant / 16], groups = group ? DIM / group : 1;
    for (int row = 0; row < KEYS; row++)
      for (int g = 0; g < GROUPS; g++) { /* the first kind in groups of `group`, the second in groups of 16 */
        const int64_t from = row * groups + g / (GROUPS / groups);
        const float scale = 0.01f + 0.001f * (float)((row * 7 + g / (GROUPS / groups)) % 11), zero = 3.3f - 40 * scale;
        scales[0][from] = scales[1][row * GROUPS + g] = scale, zeros[0][from] = zeros[1][row * GROUPS + g] = zero;
      }
    attend_scaling s = {.group = group,
                        .row = groups,
                        .step = 1,
                        .dtype = variant / 8 % 2 ? ATTEND_F16 : ATTEND_F32,
                        .zero_points = moved,
                        .is_unsigned = integers && variant % 3 == 0};
    attend_scaling sixteens = s;
    sixteens.group = 16, sixteens.row = GROUPS;
    for (size_t i = 0; i < attend_kernel_count(); i++) {
      const attend_kernel *kernel = attend_kernel_at(i);
      if (strncmp(kernel->name, "decode_f32", 10) != 0 || kernel->can & ATTEND_CAN_INT8) continue;
      if (!attend_test_runnable(kernel)) continue;
      for (int heads = 1; heads <= MOST_HEADS; heads += 2)
        for (int keys = 1; keys <= KEYS; keys += 24) {
          attend_problem p = attend_test_problem(1, heads, 1, 1, keys, DIM);
          p.k_dtype = p.v_dtype = format;
          run_scaled(kernel, &p, &s, q, rows, scales[0], zeros[0], out[0]);
          run_scaled(kernel, &p, &sixteens, q, rows, scales[1], zeros[1], out[1]);
          cr_assert(!memcmp(out[0], out[1], sizeof(float) * DIM * (size_t)heads), "%s, variant %d: %d heads, %d keys",
                    kernel->name, variant, heads, keys);
          compared++;
        }
    }
  }
  cr_expect(compared > 0, "no kernel of decode ran");
}

/* Of rows without elements no scale is read or put anywhere. */
Test(formats, scaled_rows_without_elements) {
  enum { KEYS = 40, HEADS = 4, DIM = 32 };
  static float numbers[KEYS * DIM], out[HEADS * DIM];
  static uint16_t scales[1];
  for (int i = 0; i < KEYS * DIM; i++) numbers[i] = 1.0f;
  for (int variant = 0; variant < 4; variant++)
    for (size_t i = 0; i < attend_kernel_count(); i++) {
      const attend_kernel *kernel = attend_kernel_at(i);
      attend_problem p = attend_test_problem(1, HEADS, 1, 1, KEYS, DIM);
      const bool of_values = variant % 2;
      const attend_scaling s = {.dtype = ATTEND_F16, .is_unsigned = 1};
      if (of_values)
        p.v_head_dim = 0, p.as_given = ATTEND_AS_GIVEN_V_HEAD_DIM, p.v_dtype = ATTEND_I8, p.v_scaling = s;
      else
        p.head_dim = 0, p.v_head_dim = DIM, p.k_dtype = ATTEND_I8, p.v_dtype = ATTEND_F32, p.k_scaling = s;
      if (variant / 2) (of_values ? &p.v_scaling : &p.k_scaling)->dtype = ATTEND_DTYPE_DEFAULT; /* no scales */
      if (!attend_test_can(kernel, &p)) continue;
      attend_tensors t = ATTEND_TENSORS_INIT;
      t.q = t.k = t.v = numbers, t.out = out, t.k_scales = t.v_scales = scales;
      attend_plan *plan = attend_test_plan(&p, kernel->name, 1);
      size_t size;
      void *workspace = attend_test_workspace(plan, &size);
      cr_assert_eq(attend_plan_run(plan, &t, workspace, size), ATTEND_OK, "%s", attend_error_detail());
      for (int d = 0; d < HEADS * DIM && !of_values; d++)
        cr_assert_float_eq(out[d], 1.0f, 1e-6f, "%s: %g", kernel->name, (double)out[d]);
      free(workspace);
      attend_plan_destroy(plan);
    }
}

/* A few cases of each format, beside those that others draw: all bodies, whatever the processor has. */
Test(formats, random_cases) {
  attend_env env;
  cr_assert_eq(attend_env_read(&env), ATTEND_OK);
  attend_verify *v = attend_verify_open(env.isa);
  for (attend_dtype format = ATTEND_F8_E4M3; format < ATTEND_DTYPE_COUNT; format++)
    for (uint64_t seed = 0; seed < 8; seed++) {
      attend_verify_case c;
      attend_verify_random_case(seed, format, &c);
      cr_assert(attend_verify_prepare(v, &c));
      for (size_t i = 0; i < attend_kernel_count(); i++) {
        static attend_verify_result result;
        attend_verify_run(v, attend_kernel_at(i), &result);
        cr_expect_neq(result.status, ATTEND_VERIFY_FAILED, "%s", result.message);
      }
    }
  attend_verify_close(v);
}
