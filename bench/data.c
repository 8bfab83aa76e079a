/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* madvise() */
#include "bench/data.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "dispatch/dispatch.h"
#include "kernels/integers.h"
#include "kernels/size.h"
#include "verify/formats.h"
#include "verify/reference.h"
#include "verify/tensors.h"

enum { HUGE_PAGE = 2 << 20 };

/** What the numbers of each tensor, and the choice of rows, follow from. */
enum { KEY_Q, KEY_K, KEY_V, KEY_WEIGHTS, KEY_PAGES, KEY_ROWS };

void *attend_bench_alloc(size_t size) {
  size = size_align(size_add(size, 1), HUGE_PAGE);
  void *memory = size == SIZE_MAX ? NULL : aligned_alloc(HUGE_PAGE, size);
  if (memory) madvise(memory, size, MADV_HUGEPAGE);
  return memory;
}

/* ------------------------------------------------------------------------------------------------------ the numbers */

/** The sum of four uniform numbers, scaled to variance 1. */
static float normal(uint64_t key, int64_t index) {
  const uint64_t x = hash(key, index);
  const int sum = (int)(x & 0xffff) + (int)(x >> 16 & 0xffff) + (int)(x >> 32 & 0xffff) + (int)(x >> 48);
  return (float)(sum - 2 * 0xffff) / 37837.0f;
}

static void fill(void *tensor, attend_dtype dtype, size_t count, uint64_t key) {
#pragma omp parallel for schedule(static)
  for (size_t i = 0; i < count; i++) attend_verify_store(tensor, dtype, (int64_t)i, normal(key, (int64_t)i));
}

enum { CHUNK = 1 << 16 }; /* numbers that are made before they are converted */

/** Fills rows of keys or values. false: no memory, or dims that are no whole blocks. */
static bool fill_rows(void *tensor, float *scales, attend_dtype dtype, int64_t rows, int64_t dim, uint64_t key) {
  const int64_t together = max_i64(CHUNK / max_i64(dim, 1), 1), chunks = divide_up(rows, together);
  const int64_t row_size = attend_row_size(dtype, dim), row_scales = attend_shape_scales(dtype, dim);
  bool ok = true;
#pragma omp parallel for schedule(static) reduction(&& : ok)
  for (int64_t c = 0; c < chunks; c++) {
    const int64_t first = c * together, count = min_i64(together, rows - first);
    float *numbers = malloc((size_t)(count * dim) * sizeof *numbers);
    for (int64_t i = 0; numbers && i < count * dim; i++) numbers[i] = normal(key, first * dim + i);
    ok = ok && numbers &&
         attend_shape_store(dtype, count, dim, numbers, (char *)tensor + first * row_size,
                            row_scales ? scales + first * row_scales : NULL) == ATTEND_OK;
    free(numbers);
  }
  return ok;
}

/** The largest value that is attended; of pages, all that hold a key. */
static double largest_value(const attend_bench_data *data) {
  const attend_problem *p = &data->problem;
  double most = 0;
#pragma omp parallel for collapse(2) schedule(dynamic) reduction(max : most)
  for (int64_t b = 0; b < p->batch; b++)
    for (int64_t h = 0; h < p->kv_heads; h++)
      for (int64_t j = 0; j < attend_shape_length(data->shape, b); j++) {
        const attend_verify_row row = attend_verify_row_of(p, &data->tensors, true, b, h, j);
        for (int64_t d = 0; d < p->v_head_dim; d++) most = fmax(most, fabs(attend_verify_row_element(&row, d)));
      }
  return most;
}

/** The causal mask of a shape as numbers: 0 where a query attends a key, else -inf. */
static void fill_mask(const attend_shape *s, void *mask) {
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < s->q_len; i++)
    for (int64_t j = 0; j < s->kv_len; j++)
      attend_verify_store(mask, ATTEND_F16, i * s->kv_len + j, j < attend_shape_attended(s, 0, i) ? 0 : -INFINITY);
}

/** Gives each sequence its pages out of all, shuffled; entries beyond its keys name no page. */
static void fill_block_table(const attend_shape *s, const attend_problem *p, int32_t *table, int32_t *pages) {
  for (int64_t n = 0; n < p->pages; n++) {
    const int64_t other = below(KEY_PAGES, n, n + 1);
    pages[n] = (int32_t)n;
    pages[n] = pages[other];
    pages[other] = (int32_t)n;
  }
  for (int64_t b = 0, next = 0; b < s->batch; b++)
    for (int64_t n = 0; n < p->block_table_stride; n++)
      table[b * p->block_table_stride + n] = n < attend_shape_pages(s, b) ? pages[next++] : -1;
}

/** Makes the rows of a sequence's last page that hold no key, and their scales, NaN: nothing may come of them. */
static void poison_page_tails(const attend_bench_data *data, char *tensor, float *scales, bool of_values) {
  const attend_shape *s = data->shape;
  const attend_problem *p = &data->problem;
  const attend_dtype dtype = of_values ? p->v_dtype : p->k_dtype;
  const int64_t dim = of_values ? p->v_head_dim : p->head_dim;
  for (int64_t b = 0; b < s->batch; b++)
    for (int64_t h = 0; h < s->kv_heads; h++)
      for (int64_t j = attend_shape_length(s, b); j < attend_shape_pages(s, b) * p->page_rows; j++) {
        const attend_verify_row row = attend_verify_row_of(p, &data->tensors, of_values, b, h, j);
        memset(tensor + (size_t)row.at * attend_dtype_size(dtype), 0xff, (size_t)attend_row_size(dtype, dim));
        for (int64_t i = 0; i < attend_shape_scales(dtype, dim); i++) scales[row.scales_at + i] = NAN;
      }
}

/* ------------------------------------------------------------------------------------------------------ the tensors */

/** Elements of each tensor that a shape has, of k and v rows; 0 where it has none. */
typedef struct elements {
  size_t q, k, v, out, lengths, starts, table, mask, weights;
} elements;

static elements count_elements(const attend_shape *s, const attend_problem *p) {
  const int64_t queries = attend_shape_total_queries(s) * s->q_heads;
  const int64_t keys = (p->page_rows ? p->pages * p->page_rows : s->batch * s->kv_len) * s->kv_heads;
  return (elements){.q = (size_t)(queries * s->head_dim),
                    .k = (size_t)keys,
                    .v = s->form == ATTEND_FORM_V_IN_K ? 0 : (size_t)keys,
                    .out = (size_t)(queries * s->v_head_dim),
                    .lengths = p->kv_lengths ? (size_t)s->batch : 0,
                    .starts = p->q_starts ? (size_t)s->batch + 1 : 0,
                    .table = (size_t)(s->batch * p->block_table_stride),
                    .mask = p->bias_dtype ? (size_t)(s->q_len * s->kv_len) : 0,
                    .weights = p->score == ATTEND_SCORE_ADDITIVE ? (size_t)(s->q_heads * s->head_dim) : 0};
}

/** Fills in what a run is told of sequences: lengths, where their queries begin and their pages. */
static bool fill_sequences(const attend_bench_data *data, int32_t *lengths, int32_t *starts, int32_t *table) {
  const attend_shape *s = data->shape;
  const attend_problem *p = &data->problem;
  for (int64_t b = 0; p->kv_lengths && b < s->batch; b++) lengths[b] = (int32_t)attend_shape_length(s, b);
  if (p->q_starts) starts[0] = 0;
  for (int64_t b = 0; p->q_starts && b < s->batch; b++) starts[b + 1] = starts[b] + (int32_t)attend_shape_queries(s, b);
  if (!p->page_rows) return true;
  int32_t *pages = malloc((size_t)p->pages * sizeof *pages);
  if (pages) fill_block_table(s, p, table, pages);
  free(pages);
  return pages != NULL;
}

bool attend_bench_data_create(attend_bench_data *data, const attend_shape *shape, attend_dtype q_dtype,
                              attend_dtype kv_dtype) {
  const attend_problem problem = attend_shape_problem(shape, q_dtype, kv_dtype);
  attend_resolved resolved;
  if (attend_resolve(&problem, &resolved) != ATTEND_OK) return false;
  const attend_problem *p = &resolved.p;
  const elements n = count_elements(shape, p);
  const size_t k_scale_bytes = (size_t)attend_shape_scales(kv_dtype, p->head_dim) * sizeof(float),
               v_scale_bytes = (size_t)attend_shape_scales(kv_dtype, p->v_head_dim) * sizeof(float);
  size_t size = 0;
  const size_t q = size_take(&size, n.q, attend_dtype_size(q_dtype));
  const size_t k = size_take(&size, n.k, (size_t)attend_row_size(kv_dtype, p->head_dim));
  const size_t k_scales = size_take(&size, n.k, k_scale_bytes);
  const size_t v = n.v ? size_take(&size, n.v, (size_t)attend_row_size(kv_dtype, p->v_head_dim)) : k;
  const size_t v_scales = n.v ? size_take(&size, n.v, v_scale_bytes) : k_scales;
  const size_t out = size_take(&size, n.out, attend_dtype_size(q_dtype));
  const size_t lengths = size_take(&size, n.lengths, sizeof(int32_t));
  const size_t starts = size_take(&size, n.starts, sizeof(int32_t));
  const size_t table = size_take(&size, n.table, sizeof(int32_t));
  const size_t mask = size_take(&size, n.mask, sizeof(uint16_t));
  const size_t weights = size_take(&size, n.weights, sizeof(float));
  char *memory = attend_bench_alloc(size);
  if (!memory) return false;

  *data = (attend_bench_data){.shape = shape, .problem = *p, .tensors = ATTEND_TENSORS_INIT, .memory = memory};
  data->size = size, data->out_elements = (int64_t)n.out;
  attend_tensors *t = &data->tensors;
  t->q = memory + q, t->k = memory + k, t->v = memory + v, t->out = memory + out;
  float *const k_scale = (float *)(void *)(memory + k_scales), *const v_scale = (float *)(void *)(memory + v_scales);
  t->k_scales = k_scale, t->v_scales = v_scale;
  t->kv_lengths = (int32_t *)(void *)(memory + lengths), t->q_starts = (int32_t *)(void *)(memory + starts);
  t->block_table = (int32_t *)(void *)(memory + table), t->bias = memory + mask;
  t->score_weights = (float *)(void *)(memory + weights);
  if (!fill_sequences(data, (int32_t *)(void *)(memory + lengths), (int32_t *)(void *)(memory + starts),
                      (int32_t *)(void *)(memory + table)) ||
      !fill_rows(memory + k, k_scale, kv_dtype, (int64_t)n.k, p->head_dim, KEY_K) ||
      !fill_rows(memory + v, v_scale, kv_dtype, (int64_t)n.v, p->v_head_dim, KEY_V)) {
    attend_bench_data_destroy(data);
    return false;
  }
  fill(memory + q, q_dtype, n.q, KEY_Q);
  fill(memory + weights, ATTEND_F32, n.weights, KEY_WEIGHTS);
  if (n.mask) fill_mask(shape, memory + mask);
  data->largest_value = largest_value(data);
  poison_page_tails(data, memory + k, k_scale, false);
  poison_page_tails(data, memory + v, v_scale, true);
  return true;
}

void attend_bench_data_destroy(attend_bench_data *data) {
  free(data->expected);
  free(data->memory);
  *data = (attend_bench_data){0};
}

void attend_bench_data_poison(attend_bench_data *data) {
  memset(data->tensors.out, 0xff, (size_t)data->out_elements * attend_dtype_size(data->problem.out_dtype));
}

/* -------------------------------------------------------------------------------------------------------- the check */

/** Error allowed, of the largest element of a row: some roundings of the coarsest type on the way to the output. */
static double tolerance(attend_dtype dtype) {
  return dtype == ATTEND_BF16 ? 0x1p-6 : dtype == ATTEND_F16 ? 0x1p-9 : 0x1p-15;
}

/** A query of a head of a sequence. */
typedef struct place {
  int64_t b, h, i;
} place;

/** The n-th row that is compared: the first, the last, and others at random, of short sequences as of long ones. */
static place checked_row(const attend_shape *s, int64_t n) {
  if (n == 0) return (place){0, 0, 0};
  if (n == 1) return (place){s->batch - 1, s->q_heads - 1, attend_shape_queries(s, s->batch - 1) - 1};
  const int64_t b = below(KEY_ROWS, 3 * n, s->batch);
  return (place){b, below(KEY_ROWS, 3 * n + 1, s->q_heads), below(KEY_ROWS, 3 * n + 2, attend_shape_queries(s, b))};
}

/** Rounds as the output is. */
static double rounded(float value, attend_dtype dtype) {
  union {
    float f32;
    uint16_t half;
  } element;
  attend_verify_store(&element, dtype, 0, value);
  return (double)attend_reference_element(&element, dtype, 0);
}

/** Computes the n-th row that is compared. */
static bool expect_row(const attend_bench_data *data, int64_t n, double *expected, double *plain) {
  const attend_problem *p = &data->problem;
  const place at = checked_row(data->shape, n);
  float *row = malloc((size_t)p->v_head_dim * sizeof *row);
  const bool ok = row && attend_reference_query(p, &data->tensors, at.b, at.h, at.i, expected, NULL, NULL, NULL) &&
                  attend_reference_query_f32(p, &data->tensors, at.b, at.h, at.i, row, NULL, NULL, NULL);
  for (int64_t c = 0; ok && c < p->v_head_dim; c++) plain[c] = rounded(row[c], p->out_dtype);
  free(row);
  return ok;
}

/** Computes the rows that are compared, once for all kernels. false: no memory. */
static bool expect(attend_bench_data *data) {
  const int64_t dim = data->problem.v_head_dim, count = ATTEND_BENCH_CHECKED_ROWS * dim;
  if (data->expected) return true;
  double *expected = malloc(2 * (size_t)count * sizeof *expected);
  if (!expected) return false;
  bool ok = true;
#pragma omp parallel for schedule(dynamic) reduction(&& : ok)
  for (int64_t n = 0; n < ATTEND_BENCH_CHECKED_ROWS; n++)
    ok = expect_row(data, n, expected + n * dim, expected + count + n * dim) && ok;
  if (!ok) {
    free(expected);
    return false;
  }
  data->expected = expected, data->plain = expected + count;
  return true;
}

/** The errors of the accuracy are not divided by max |v| here. */
static bool check_row(const attend_bench_data *data, double allowed, int64_t n, attend_bench_accuracy *accuracy,
                      char *why, size_t why_size) {
  const attend_problem *p = &data->problem;
  const place at = checked_row(data->shape, n);
  const int64_t first = attend_reference_query_at(p, &data->tensors, &p->out_strides, at.b, at.h, at.i);
  const double *expected = data->expected + n * p->v_head_dim, *plain = data->plain + n * p->v_head_dim;
  double most = 0;
  for (int64_t c = 0; c < p->v_head_dim; c++) most = fmax(most, fabs(expected[c]));
  for (int64_t c = 0; c < p->v_head_dim; c++) {
    const double got = (double)attend_reference_element(data->tensors.out, p->out_dtype, first + c);
    accuracy->error = fmax(accuracy->error, fabs(got - expected[c]));
    accuracy->plain_error = fmax(accuracy->plain_error, fabs(plain[c] - expected[c]));
    if (!(fabs(got - expected[c]) <= allowed * most)) {
      snprintf(why, why_size, "wrong result: batch %lld, head %lld, query %lld, element %lld is %.9g instead of %.9g",
               (long long)at.b, (long long)at.h, (long long)at.i, (long long)c, got, expected[c]);
      return false;
    }
  }
  return true;
}

bool attend_bench_data_check(attend_bench_data *data, attend_dtype compute, attend_bench_accuracy *accuracy, char *why,
                             size_t why_size) {
  const attend_problem *p = &data->problem;
  *accuracy = (attend_bench_accuracy){0};
  for (int64_t e = 0; e < data->out_elements; e++) {
    if (!isfinite(attend_reference_element(data->tensors.out, p->out_dtype, e))) {
      snprintf(why, why_size, "wrong result: output element %lld is not written or not finite", (long long)e);
      return false;
    }
  }
  if (!expect(data)) {
    snprintf(why, why_size, "no memory to check the result");
    return false;
  }
  const double allowed = fmax(tolerance(compute), tolerance(p->out_dtype));
  bool ok = true;
  for (int64_t n = 0; ok && n < ATTEND_BENCH_CHECKED_ROWS; n++)
    ok = check_row(data, allowed, n, accuracy, why, why_size);
  accuracy->error /= data->largest_value, accuracy->plain_error /= data->largest_value;
  return ok;
}
