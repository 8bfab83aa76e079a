/* SPDX-License-Identifier: Apache-2.0 */
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "verify/formats.h"
#include "verify/reference.h"

/* ------------------------------------------------------------------------------------------------- what is allowed */

/* The distance of 1 to the next number. */
static double ulp_of_one(attend_dtype dtype) {
  return dtype == ATTEND_F16 ? 0x1p-10 : dtype == ATTEND_BF16 ? 0x1p-7 : 0x1p-23;
}

static double least_normal(attend_dtype dtype) { return dtype == ATTEND_F16 ? 0x1p-14 : 0x1p-126; }

/* The distance between numbers of a type at x. */
static double ulp_at(attend_dtype dtype, double x) {
  return ldexp(ulp_of_one(dtype), ilogb(fmax(fabs(x), least_normal(dtype))));
}

/**
 * The error that is allowed beyond output_rounding(), where plain f32 arithmetic is off by `plain` at worst in the same
 * case. `unit` is what errors are measured by: max |v| for out, 1 for weights and LSE; with dropout, that of out and
 * weights divided by 1 - p.
 *
 *     2 plain + rounding                               any kernel: about as good as plain arithmetic
 *     + 2 ulp of the compute type, if it has 16 bits   weights are rounded before they meet the values
 *
 * `rounding` is 4 ulp of f32, or what a score may well lose in f32 if that is more: a sum of D terms of either sign
 * loses up to about sqrt(D) of its ulp, and a score of 1e4 loses 5e-4 by being written down. Such losses hit plain
 * arithmetic and a kernel by chance, not in the same rows, and a case may have few; and plain sums of 16-bit products
 * are nearly exact until the scale is folded in. With scores of ordinary size and D = 64 it is 8 ulp. A matrix unit
 * takes numbers as 0 that are denormal in f32. Keys and values in a format become bf16 there, and so they do in what is
 * expected.
 */
static double allowed(const attend_kernel *kernel, double plain, double rounding, double unit) {
  if (kernel->compute == ATTEND_F32) return 2 * plain + rounding;
  return 2 * plain + rounding + 2 * ulp_of_one(kernel->compute) * unit + least_normal(ATTEND_F32);
}

/* An output type of 16 bits costs half an ulp where results in f32 are rounded to it, and 2 ulp are allowed elsewhere.
 */
static double output_rounding(const attend_kernel *kernel, attend_dtype output, double value) {
  if (output == ATTEND_F32) return 0;
  return (kernel->compute == ATTEND_F32 ? 0.5 : 2) * ulp_at(output, value);
}

/* What errors of weights are measured by: the greatest that there may be. Dropout divides those it keeps by 1 - p. */
static double weight_unit(const attend_problem *p) { return p->dropout < 1 ? 1 / (1 - (double)p->dropout) : 1; }

/* What errors of out are measured by: denormal numbers have no relative precision. */
static double out_unit(const attend_verify_data *data) {
  return fmax(data->v_max, least_normal(data->problem.out_dtype)) * weight_unit(&data->problem);
}

/* What errors of LSE are measured by for plain f32: the size of the numbers it is the sum of, the maximum of the scores
 * and the logarithm of a sum of up to Lk ones. */
static double lse_unit(const attend_verify_data *data, double lse) {
  return 1 + log1p((double)data->problem.kv_len) + (isfinite(lse) ? fabs(lse) : 0);
}

/* What errors of scores are measured by: their own size, and that of the terms that they are the sum of. */
static double score_unit(const attend_verify_data *data, double score) {
  return 1 + data->score_size + (isfinite(score) ? fabs(score) : 0);
}

/* What is beyond f32 is an infinity there. */
static double in_f32(double x) { return fabs(x) > (double)FLT_MAX ? copysign(INFINITY, x) : x; }

/* The error of a number: infinite where one of the two is finite and the other is not. */
static double error_of(double value, double expected) {
  if (!isfinite(value) || !isfinite(expected)) return isfinite(value) == isfinite(expected) ? 0 : INFINITY;
  return fabs(value - expected);
}

/* ----------------------------------------------------------------------------------------------- what is expected */

void attend_verify_expected_free(attend_verify_expected *e) {
  if (e->rounded) attend_verify_expected_free(e->rounded);
  if (e->int8) attend_verify_expected_free(e->int8);
  free(e->rounded);
  free(e->int8);
  free(e->out);
  free(e->lse);
  free(e->weights);
  free(e->scores);
  *e = (attend_verify_expected){0};
}

/* The error of plain f32 arithmetic. Where that overflows it allows a kernel nothing. */
static double plain_error(float value, double expected) {
  return isfinite(value) && isfinite(in_f32(expected)) ? fabs((double)value - expected) : 0;
}

static double worst_error(const float *value, const double *expected, size_t count) {
  double worst = 0;
  for (size_t i = 0; i < count; i++) worst = fmax(worst, plain_error(value[i], expected[i]));
  return worst;
}

/* The same as a share of a unit that follows from the number. */
static double worst_share(const attend_verify_data *data, double (*unit)(const attend_verify_data *, double),
                          const float *value, const double *expected, size_t count) {
  double worst = 0;
  for (size_t i = 0; i < count; i++) worst = fmax(worst, plain_error(value[i], expected[i]) / unit(data, expected[i]));
  return worst;
}

/* The largest LSE, as far as ALiBi's distance to the nearest key has no part in it. */
static double largest_lse(const attend_verify_data *data, const attend_verify_expected *e) {
  const attend_problem *p = &data->problem;
  const attend_tensors *t = &data->tensors;
  double largest = 0;
  for (int64_t b = 0; b < p->batch; b++)
    for (int64_t h = 0; h < p->q_heads; h++)
      for (int64_t i = 0; i < attend_reference_queries(p, t, b); i++) {
        double lse = in_f32(e->lse[attend_reference_row(p, t, b, h, i)]);
        if (p->alibi) lse += (double)t->alibi_slopes[h] * (double)attend_reference_nearest(p, t, b, i);
        if (isfinite(lse)) largest = fmax(largest, fabs(lse));
      }
  return largest;
}

/** A number as bf16 kernels read it: by way of f32, and finite if it was. */
static float as_bf16(double number) {
  const float most = 0x1.fep127f, x = (float)number;
  uint16_t bits;
  attend_verify_store(&bits, ATTEND_BF16, 0, isfinite(x) ? fminf(fmaxf(x, -most), most) : x);
  return attend_reference_element(&bits, ATTEND_BF16, 0);
}

/** Keys or values as bf16 numbers in f32, without pages. NULL: no memory. */
static float *round_rows(const attend_verify_data *data, bool of_values, attend_strides *strides) {
  const attend_problem *p = &data->problem;
  const int64_t dim = of_values ? p->v_head_dim : p->head_dim, rows = p->kv_starts ? p->kv_total : p->kv_len;
  *strides = attend_verify_contiguous(p->kv_heads, rows, dim);
  const int64_t batch = p->kv_starts ? 0 : strides->batch;
  float *numbers = calloc((size_t)(strides->batch * (p->kv_starts ? 1 : p->batch)) + 1, sizeof *numbers);
  for (int64_t b = 0; numbers && b < p->batch; b++)
    for (int64_t h = 0; h < p->kv_heads; h++)
      for (int64_t j = 0; j < attend_reference_keys(p, &data->tensors, b); j++) {
        const attend_verify_row row = attend_verify_row_of(p, &data->tensors, of_values, b, h, j);
        const int64_t first = p->kv_starts ? data->tensors.kv_starts[b] : 0;
        float *to = numbers + b * batch + h * strides->head + (first + j) * dim;
        for (int64_t d = 0; d < dim; d++) to[d] = as_bf16(attend_verify_row_element(&row, d));
      }
  return numbers;
}

static bool expect_of(attend_verify_expected *e, const attend_verify_data *data, const attend_problem *p,
                      const attend_tensors *t);

/** What is expected of kernels that round keys and values in formats. */
static bool expect_rounded(attend_verify_expected *e, const attend_verify_data *data) {
  attend_problem p = data->problem;
  attend_tensors t = data->tensors;
  float *k = round_rows(data, false, &p.k_strides), *v = round_rows(data, true, &p.v_strides);
  p.page_rows = 0, p.k_dtype = p.v_dtype = ATTEND_F32;
  t.k = k, t.v = v;
  e->rounded = calloc(1, sizeof *e->rounded);
  const bool ok = k && v && e->rounded && expect_of(e->rounded, data, &p, &t);
  free(k);
  free(v);
  return ok;
}

/**
 * A query as kernels round it to int8 (attend_problem.int8_products). The quotients are of f32, as in a kernel: one
 * that is rounded to a half, or away from it, is another integer.
 */
static void round_query(const void *q, attend_dtype dtype, int64_t first, int64_t dim, float *to) {
  float size = 0;
  bool finite = true;
  for (int64_t d = 0; d < dim; d++) {
    to[d] = attend_reference_element(q, dtype, first + d);
    finite = finite && isfinite(to[d]);
    size = fmaxf(size, fabsf(to[d]));
  }
  const float step = size / 127;
  for (int64_t d = 0; d < dim; d++) to[d] = !finite ? NAN : size < 0x1p-100f ? 0 : step * nearbyintf(to[d] / step);
}

/** What is expected of kernels that round queries to int8. */
static bool expect_int8(attend_verify_expected *e, const attend_verify_data *data) {
  attend_problem p = data->problem;
  attend_tensors t = data->tensors;
  float *q = calloc((size_t)(attend_verify_rows(&p) * p.head_dim) + 1, sizeof *q);
  p.q_dtype = ATTEND_F32;
  p.q_strides = attend_verify_contiguous(p.q_heads, p.q_starts ? p.q_total : p.q_len, p.head_dim);
  for (int64_t b = 0; q && b < p.batch; b++)
    for (int64_t h = 0; h < p.q_heads; h++)
      for (int64_t i = 0; i < attend_reference_queries(&p, &t, b); i++) {
        const int64_t from = attend_reference_query_at(&data->problem, &t, &data->problem.q_strides, b, h, i);
        round_query(t.q, data->problem.q_dtype, from, p.head_dim,
                    q + attend_reference_query_at(&p, &t, &p.q_strides, b, h, i));
      }
  t.q = q;
  e->int8 = calloc(1, sizeof *e->int8);
  const bool ok = q && e->int8 && expect_of(e->int8, data, &p, &t);
  free(q);
  return ok;
}

bool attend_verify_expect(attend_verify_expected *e, const attend_verify_data *data) {
  const attend_problem *p = &data->problem;
  attend_verify_expected_free(e);
  if (!expect_of(e, data, p, &data->tensors)) return false;
  if (p->int8_products && (p->k_dtype == ATTEND_Q8_0 || p->k_dtype == ATTEND_I8) && !expect_int8(e, data)) return false;
  const bool formats = attend_verify_is_format(p->k_dtype) || attend_verify_is_format(p->v_dtype);
  /* Kernels of bf16 products take no other queries. */
  return !formats || p->q_dtype != ATTEND_BF16 || expect_rounded(e, data);
}

static bool expect_of(attend_verify_expected *e, const attend_verify_data *data, const attend_problem *p,
                      const attend_tensors *t) {
  const size_t rows = (size_t)attend_verify_rows(p);
  const size_t outs = rows * (size_t)p->v_head_dim, pairs = rows * (size_t)p->kv_len;
  e->out = calloc(outs + 1, sizeof(double));
  e->lse = calloc(rows + 1, sizeof(double));
  e->weights = calloc(pairs + 1, sizeof(double));
  if (p->scores) e->scores = calloc(pairs + 1, sizeof(double));
  /* Rows of no sequence are 0 in both. */
  float *plain = calloc(outs + rows + 2 * pairs + 1, sizeof(float)), *scores = NULL;
  bool ok = e->out && e->lse && e->weights && plain && (e->scores || !p->scores);
  if (ok && p->scores) scores = plain + outs + rows + pairs;
  ok = ok && attend_reference(p, t, e->out, e->lse, e->weights, e->scores);
  ok = ok && attend_reference_f32(p, t, plain, plain + outs, plain + outs + rows, scores);
  if (ok) {
    e->plain_out = worst_error(plain, e->out, outs) / out_unit(data);
    e->plain_lse = worst_share(data, lse_unit, plain + outs, e->lse, rows);
    e->plain_scores = p->scores ? worst_share(data, score_unit, scores, e->scores, pairs) : 0;
    e->plain_weights = worst_error(plain + outs + rows, e->weights, pairs) / weight_unit(p);
    e->score_error = ulp_at(ATTEND_F32, data->score_size) * sqrt((double)p->head_dim);
    e->score_error = fmax(e->score_error, ulp_at(ATTEND_F32, largest_lse(data, e)));
  }
  free(plain);
  return ok;
}

/* ------------------------------------------------------------------------------------------------------ comparison */

/* Raises the worst share of what is allowed, and says what is wrong if this is the first thing that is. */
static void judge(attend_verify_result *result, bool *ok, double error, double limit, const char *tensor,
                  const int64_t at[4], int rank, double value, double expected) {
  const double share = error / limit;
  if (share > result->share) result->share = share;
  if (share <= 1 || !*ok) return;
  *ok = false;
  char place[128];
  int length = 0;
  for (int i = 0; i < rank; i++)
    length += snprintf(place + length, sizeof place - (size_t)length, "%s%" PRId64, i ? ", " : "", at[i]);
  snprintf(result->message, sizeof result->message, "%s[%s] is %.9g, expected %.9g: the error of %.3g is over %.3g",
           tensor, place, value, expected, error, limit);
}

static bool compare_out(const attend_verify_data *data, const attend_verify_expected *e, const attend_kernel *kernel,
                        const int64_t at[4], int64_t row, attend_verify_result *result) {
  const attend_problem *p = &data->problem;
  const int64_t first = attend_reference_query_at(p, &data->tensors, &p->out_strides, at[0], at[1], at[2]);
  const double unit = out_unit(data), rounding = fmax(4 * ulp_of_one(ATTEND_F32), e->score_error) * unit;
  bool ok = true;
  for (int64_t d = 0; d < p->v_head_dim; d++) {
    const double expected = e->out[row * p->v_head_dim + d];
    const double value = (double)attend_reference_element(data->tensors.out, p->out_dtype, first + d);
    const double error = error_of(value, expected);
    if (error / unit > result->error) result->error = error / unit;
    judge(result, &ok, error - output_rounding(kernel, p->out_dtype, expected),
          allowed(kernel, e->plain_out * unit, rounding, unit), "out", (int64_t[]){at[0], at[1], at[2], d}, 4, value,
          expected);
  }
  return ok;
}

static bool compare_lse(const attend_verify_data *data, const attend_verify_expected *e, const attend_kernel *kernel,
                        const int64_t at[4], int64_t row, attend_verify_result *result) {
  const double value = (double)data->tensors.lse[row], expected = in_f32(e->lse[row]);
  double error = error_of(value, expected);
  if ((value == -INFINITY) != (expected == -INFINITY)) error = INFINITY;
  const double unit = lse_unit(data, expected), rounding = fmax(4 * ulp_of_one(ATTEND_F32) * unit, e->score_error);
  bool ok = true;
  judge(result, &ok, error, allowed(kernel, e->plain_lse * unit, rounding, 1), "lse", at, 3, value, expected);
  return ok;
}

static bool compare_weights(const attend_verify_data *data, const attend_verify_expected *e,
                            const attend_kernel *kernel, const int64_t at[4], int64_t row,
                            attend_verify_result *result) {
  const attend_problem *p = &data->problem;
  const double unit = weight_unit(p), rounding = fmax(4 * ulp_of_one(ATTEND_F32), e->score_error) * unit;
  bool ok = true;
  for (int64_t j = 0; j < p->kv_len; j++) {
    const int64_t index = row * p->kv_len + j;
    const double value = (double)data->tensors.weights[index], expected = e->weights[index];
    const double error = !data->attended[index] && value != 0 ? INFINITY : error_of(value, expected);
    judge(result, &ok, error, allowed(kernel, e->plain_weights * unit, rounding, unit), "weights",
          (int64_t[]){at[0], at[1], at[2], j}, 4, value, expected);
  }
  return ok;
}

/* A score is -inf where, and only where, the reference says so: a key that does not exist, or is not attended. */
static bool compare_scores(const attend_verify_data *data, const attend_verify_expected *e, const attend_kernel *kernel,
                           const int64_t at[4], int64_t row, attend_verify_result *result) {
  const attend_problem *p = &data->problem;
  bool ok = true;
  for (int64_t j = 0; j < p->kv_len; j++) {
    const double value = (double)data->tensors.scores[row * p->kv_len + j];
    const double expected = in_f32(e->scores[row * p->kv_len + j]);
    const double unit = score_unit(data, expected);
    const double rounding = fmax(4 * ulp_of_one(ATTEND_F32) * unit, e->score_error);
    const double error = (value == -INFINITY) != (expected == -INFINITY) ? INFINITY : error_of(value, expected);
    judge(result, &ok, error, allowed(kernel, e->plain_scores * unit, rounding, unit), "scores",
          (int64_t[]){at[0], at[1], at[2], j}, 4, value, expected);
  }
  return ok;
}

/* Whether the rows of an output of so many floats a row that belong to no sequence are as they were. */
static bool check_rows(const attend_verify_data *data, int which, int64_t floats, attend_verify_result *result) {
  const attend_guarded *buffer = &data->buffer[which];
  const size_t size = (size_t)floats * sizeof(float);
  for (size_t i = 0; i < buffer->size; i++)
    if (!data->row_owned[i / size] && buffer->data[i] != ATTEND_VERIFY_FILL) {
      snprintf(result->message, sizeof result->message, "row %zu of %s belongs to no sequence and was written to",
               i / size, attend_verify_buffer_names[which]);
      return false;
    }
  return true;
}

/* Whether nothing but the outputs was written. */
static bool check_gaps(const attend_verify_data *data, attend_verify_result *result) {
  const size_t size = attend_verify_dtype_size(data->problem.out_dtype);
  const attend_guarded *out = &data->buffer[ATTEND_VERIFY_OUT];
  for (size_t i = 0; i < out->size; i++)
    if (!data->out_owned[i / size] && out->data[i] != ATTEND_VERIFY_FILL) {
      snprintf(result->message, sizeof result->message, "a gap of out was written to, at byte %zu of the buffer", i);
      return false;
    }
  if (!check_rows(data, ATTEND_VERIFY_LSE, 1, result) ||
      !check_rows(data, ATTEND_VERIFY_WEIGHTS, data->problem.kv_len, result) ||
      !check_rows(data, ATTEND_VERIFY_SCORES, data->problem.kv_len, result))
    return false;
  for (int i = ATTEND_VERIFY_OUT; i < ATTEND_VERIFY_BUFFER_COUNT; i++)
    if (!attend_guarded_intact(&data->buffer[i], ATTEND_VERIFY_FILL)) {
      snprintf(result->message, sizeof result->message, "memory around %s was written to",
               attend_verify_buffer_names[i]);
      return false;
    }
  return true;
}

bool attend_verify_compare(const attend_verify_data *data, const attend_verify_expected *all,
                           const attend_verify_ran *ran, attend_verify_result *result) {
  const attend_problem *p = &data->problem;
  if (!check_gaps(data, result)) return false;
  result->plain_error = all->plain_out;
  int64_t at[4] = {0};
  for (at[0] = 0; at[0] < p->batch; at[0]++)
    for (at[1] = 0; at[1] < p->q_heads; at[1]++)
      for (at[2] = 0; at[2] < attend_reference_queries(p, &data->tensors, at[0]); at[2]++) {
        const int64_t row = attend_reference_row(p, &data->tensors, at[0], at[1], at[2]);
        const bool few = ran->few && attend_reference_queries(p, &data->tensors, at[0]) <= ran->few_queries;
        const attend_kernel *kernel = few ? ran->few : ran->kernel;
        const attend_verify_expected *e = all->int8 && kernel->can & ATTEND_CAN_INT8       ? all->int8
                                          : all->rounded && kernel->compute == ATTEND_BF16 ? all->rounded
                                                                                           : all;
        if (!compare_out(data, e, kernel, at, row, result)) return false;
        if (p->lse && !compare_lse(data, e, kernel, at, row, result)) return false;
        if (p->weights && !compare_weights(data, e, kernel, at, row, result)) return false;
        if (p->scores && !compare_scores(data, e, kernel, at, row, result)) return false;
      }
  return true;
}
