/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* madvise() */
#include "bench/data.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "dispatch/dispatch.h"
#include "kernels/convert.h"
#include "kernels/size.h"

enum { HUGE_PAGE = 2 << 20, CHECKED_ROWS = 12 };

void *attend_bench_alloc(size_t size) {
  size = size_align(size_add(size, 1), HUGE_PAGE);
  void *memory = size == SIZE_MAX ? NULL : aligned_alloc(HUGE_PAGE, size);
  if (memory) madvise(memory, size, MADV_HUGEPAGE);
  return memory;
}

static uint64_t hash(uint64_t x) {
  x += UINT64_C(0x9e3779b97f4a7c15);
  x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
  x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
  return x ^ x >> 31;
}

/** The sum of four uniform numbers, scaled to variance 1. */
static float normal(uint64_t x) {
  x = hash(x);
  int sum = (int)(x & 0xffff) + (int)(x >> 16 & 0xffff) + (int)(x >> 32 & 0xffff) + (int)(x >> 48);
  return (float)(sum - 2 * 0xffff) / 37837.0f;
}

static void store(void *tensor, attend_dtype dtype, int64_t i, float value) {
  if (dtype == ATTEND_F32)
    ((float *)tensor)[i] = value;
  else
    ((uint16_t *)tensor)[i] = dtype == ATTEND_F16 ? f32_to_f16(value) : f32_to_bf16(value);
}

static float load(const void *tensor, attend_dtype dtype, int64_t i) {
  if (dtype == ATTEND_F32) return ((const float *)tensor)[i];
  uint16_t bits = ((const uint16_t *)tensor)[i];
  return dtype == ATTEND_F16 ? f16_to_f32(bits) : bf16_to_f32(bits);
}

static void fill(void *tensor, attend_dtype dtype, int64_t count, uint64_t seed) {
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < count; i++) store(tensor, dtype, i, normal(seed + (uint64_t)i));
}

static int64_t q_elements(const attend_shape *s) { return s->batch * s->q_heads * s->q_len * s->head_dim; }
static int64_t kv_elements(const attend_shape *s) { return s->batch * s->kv_heads * s->kv_len * s->head_dim; }

bool attend_bench_data_create(attend_bench_data *data, const attend_shape *shape, attend_dtype q_dtype,
                              attend_dtype kv_dtype) {
  const int64_t q_count = q_elements(shape), kv_count = kv_elements(shape);
  size_t size = 0;
  size_t q = size_take(&size, (size_t)q_count, attend_dtype_size(q_dtype));
  size_t k = size_take(&size, (size_t)kv_count, attend_dtype_size(kv_dtype));
  size_t v = size_take(&size, (size_t)kv_count, attend_dtype_size(kv_dtype));
  size_t out = size_take(&size, (size_t)q_count, attend_dtype_size(q_dtype));
  size_t lengths = size_take(&size, (size_t)shape->batch, sizeof(int32_t));
  size_t weights = size_take(&size, (size_t)(shape->q_heads * shape->head_dim), sizeof(float));
  char *memory = attend_bench_alloc(size);
  if (!memory) return false;

  *data = (attend_bench_data){.shape = shape, .memory = memory, .size = size};
  data->problem = attend_shape_problem(shape, q_dtype, kv_dtype);
  data->tensors = (attend_tensors)ATTEND_TENSORS_INIT;
  fill(memory + q, q_dtype, q_count, 0);
  fill(memory + k, kv_dtype, kv_count, UINT64_C(1) << 40);
  fill(memory + v, kv_dtype, kv_count, UINT64_C(2) << 40);
  fill(memory + weights, ATTEND_F32, shape->q_heads * shape->head_dim, UINT64_C(3) << 40);
  int32_t *length = (int32_t *)(void *)(memory + lengths);
  for (int64_t b = 0; b < shape->batch; b++) length[b] = (int32_t)attend_shape_length(shape, b);
  data->tensors.q = memory + q, data->tensors.k = memory + k, data->tensors.v = memory + v;
  data->tensors.out = memory + out, data->tensors.kv_lengths = length;
  data->tensors.score_weights = (const float *)(const void *)(memory + weights);
  for (int64_t e = 0; e < kv_count; e++)
    data->largest_value = fmax(data->largest_value, fabs((double)load(data->tensors.v, kv_dtype, e)));
  return true;
}

void attend_bench_data_destroy(attend_bench_data *data) {
  free(data->memory);
  *data = (attend_bench_data){0};
}

void attend_bench_data_poison(attend_bench_data *data) {
  size_t size = (size_t)q_elements(data->shape) * attend_dtype_size(data->problem.out_dtype);
  memset(data->tensors.out, 0xff, size);
}

/** The output row of query i of query head h: `row` gets D values; `scores` is room for Lk. */
static void reference_row(const attend_bench_data *data, int64_t b, int64_t h, int64_t i, double *scores, double *row) {
  const attend_shape *s = data->shape;
  const int64_t d = s->head_dim, attended = attend_shape_attended(s, b, i);
  const int64_t query = ((b * s->q_heads + h) * s->q_len + i) * d;
  const int64_t keys = (b * s->kv_heads + h / (s->q_heads / s->kv_heads)) * s->kv_len * d;
  const float *weights = s->score == ATTEND_SCORE_ADDITIVE ? data->tensors.score_weights + h * d : NULL;
  double highest = -INFINITY, sum = 0;
  for (int64_t j = 0; j < attended; j++) {
    double dot = 0;
    for (int64_t c = 0; c < d; c++) {
      const double x = (double)load(data->tensors.q, data->problem.q_dtype, query + c);
      const double y = (double)load(data->tensors.k, data->problem.k_dtype, keys + j * d + c);
      dot += weights ? (double)weights[c] * tanh(x + y) : x * y;
    }
    scores[j] = weights ? dot : dot / sqrt((double)d);
    highest = fmax(highest, scores[j]);
  }
  for (int64_t c = 0; c < d; c++) row[c] = 0;
  for (int64_t j = 0; j < attended; j++) {
    double weight = exp(scores[j] - highest);
    sum += weight;
    for (int64_t c = 0; c < d; c++)
      row[c] += weight * (double)load(data->tensors.v, data->problem.k_dtype, keys + j * d + c);
  }
  for (int64_t c = 0; c < d; c++) row[c] /= sum;
}

/** The same in plain f32: what one would write down without a thought for speed, and rounded as the output is. */
static void plain_row(const attend_bench_data *data, int64_t b, int64_t h, int64_t i, float *scores, float *row) {
  const attend_shape *s = data->shape;
  const int64_t d = s->head_dim, attended = attend_shape_attended(s, b, i);
  const int64_t query = ((b * s->q_heads + h) * s->q_len + i) * d;
  const int64_t keys = (b * s->kv_heads + h / (s->q_heads / s->kv_heads)) * s->kv_len * d;
  const float *weights = s->score == ATTEND_SCORE_ADDITIVE ? data->tensors.score_weights + h * d : NULL;
  const float scale = weights ? 1 : 1 / sqrtf((float)d);
  float highest = -INFINITY, sum = 0;
  for (int64_t j = 0; j < attended; j++) {
    float dot = 0;
    for (int64_t c = 0; c < d; c++) {
      const float x = load(data->tensors.q, data->problem.q_dtype, query + c);
      const float y = load(data->tensors.k, data->problem.k_dtype, keys + j * d + c);
      dot += weights ? weights[c] * tanhf(x + y) : x * y;
    }
    scores[j] = dot * scale;
    highest = fmaxf(highest, scores[j]);
  }
  for (int64_t c = 0; c < d; c++) row[c] = 0;
  for (int64_t j = 0; j < attended; j++) {
    float weight = expf(scores[j] - highest);
    sum += weight;
    for (int64_t c = 0; c < d; c++) row[c] += weight * load(data->tensors.v, data->problem.k_dtype, keys + j * d + c);
  }
  for (int64_t c = 0; c < d; c++) store(row, data->problem.out_dtype, c, row[c] / sum);
}

/** Error allowed, of the largest element of a row: some roundings of the coarsest type on the way to the output. */
static double tolerance(attend_dtype dtype) {
  return dtype == ATTEND_BF16 ? 0x1p-6 : dtype == ATTEND_F16 ? 0x1p-9 : 0x1p-15;
}

/** `room` holds 2 (D + Lk) numbers. The errors of the accuracy are not divided by max |v| here. */
static bool check_row(const attend_bench_data *data, double allowed, int64_t row, double *room,
                      attend_bench_accuracy *accuracy, char *why, size_t why_size) {
  const attend_shape *s = data->shape;
  const int64_t i = row % s->q_len, h = row / s->q_len % s->q_heads, b = row / s->q_len / s->q_heads;
  double *expected = room, largest = 0;
  float *plain = (float *)(room + s->head_dim + s->kv_len);
  reference_row(data, b, h, i, room + s->head_dim, expected);
  plain_row(data, b, h, i, plain + s->head_dim, plain);
  for (int64_t c = 0; c < s->head_dim; c++) largest = fmax(largest, fabs(expected[c]));
  for (int64_t c = 0; c < s->head_dim; c++) {
    double got = (double)load(data->tensors.out, data->problem.out_dtype, row * s->head_dim + c);
    double plainly = (double)load(plain, data->problem.out_dtype, c);
    accuracy->error = fmax(accuracy->error, fabs(got - expected[c]));
    accuracy->plain_error = fmax(accuracy->plain_error, fabs(plainly - expected[c]));
    if (!(fabs(got - expected[c]) <= allowed * largest)) {
      snprintf(why, why_size, "wrong result: batch %lld, head %lld, query %lld, element %lld is %.9g instead of %.9g",
               (long long)b, (long long)h, (long long)i, (long long)c, got, expected[c]);
      return false;
    }
  }
  return true;
}

bool attend_bench_data_check(const attend_bench_data *data, attend_dtype compute, attend_bench_accuracy *accuracy,
                             char *why, size_t why_size) {
  const attend_shape *s = data->shape;
  const attend_problem *p = &data->problem;
  const int64_t rows = s->batch * s->q_heads * s->q_len;
  *accuracy = (attend_bench_accuracy){0};
  for (int64_t e = 0; e < rows * s->head_dim; e++) {
    if (!isfinite(load(data->tensors.out, p->out_dtype, e))) {
      snprintf(why, why_size, "wrong result: output element %lld is not written or not finite", (long long)e);
      return false;
    }
  }
  double *room = malloc(2 * (size_t)(s->head_dim + s->kv_len) * sizeof *room);
  if (!room) {
    snprintf(why, why_size, "no memory to check the result");
    return false;
  }
  const double allowed = fmax(tolerance(compute), tolerance(p->out_dtype));
  bool ok = true;
  for (int64_t n = 0; ok && n < CHECKED_ROWS; n++) {
    int64_t row = n == 0 ? 0 : n == 1 ? rows - 1 : (int64_t)(hash((uint64_t)n) % (uint64_t)rows);
    ok = check_row(data, allowed, row, room, accuracy, why, why_size);
  }
  free(room);
  accuracy->error /= data->largest_value, accuracy->plain_error /= data->largest_value;
  return ok;
}
