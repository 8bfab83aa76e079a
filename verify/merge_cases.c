/* SPDX-License-Identifier: Apache-2.0 */
/* Merging results of attention: random cases, each against sums in double. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch/dispatch.h"
#include "verify/reference.h"
#include "verify/row_case.h"

/* Of more parts than these, the others lie where the first ones do. */
enum { MOST_PARTS = 70, PLACES = 6, OUTS = 0, LSES = PLACES, OUT = 2 * PLACES, LSE };

typedef struct merge_case {
  row_case base;
  attend_merge_problem problem; /* strides filled in */
  attend_merge_tensors tensors;
  const void *outs[MOST_PARTS];
  const float *lses[MOST_PARTS];
  int in_place;       /* the part whose output and LSE are the result's; -1: none */
  float size, spread; /* of the numbers in outs and lses */
  int not_finite;     /* one in so many rows of a part; 0: none */
} merge_case;

static int64_t pick(const merge_case *c, int64_t which, int64_t bound) { return row_case_pick(&c->base, which, bound); }

static int64_t places_of(const merge_case *c) { return c->problem.parts < PLACES ? c->problem.parts : PLACES; }

static int64_t lse_at(const merge_case *c, int64_t b, int64_t h, int64_t r) {
  return (b * c->problem.heads + h) * c->problem.lse_stride + r;
}

static float *place_lse(merge_case *c, int buffer, const char *name) {
  const attend_merge_problem *p = &c->problem;
  return row_case_place(&c->base, buffer, name, (int64_t[]){1, 1, p->batch * p->heads, p->rows},
                        (int64_t[]){0, 0, p->lse_stride, 1}, sizeof(float));
}

static void *place_rows(merge_case *c, int buffer, const char *name, attend_dtype dtype, const attend_strides *s) {
  const attend_merge_problem *p = &c->problem;
  return row_case_place(&c->base, buffer, name, (int64_t[]){p->batch, p->heads, p->rows, p->dim},
                        (int64_t[]){s->batch, s->head, s->row, 1}, attend_dtype_size(dtype));
}

/* Rows of a part that attends nothing stay NaN. */
static bool fill_part(merge_case *c, int part) {
  const attend_merge_problem *p = &c->problem;
  void *out = place_rows(c, OUTS + part, "outs", p->part_dtype, &p->part_strides);
  float *lse = place_lse(c, LSES + part, "lses");
  if (!out || !lse) return false;
  c->outs[part] = out, c->lses[part] = lse;
  for (int64_t n = 0; n < p->batch * p->heads * p->rows; n++) {
    const int64_t b = n / p->rows / p->heads, h = n / p->rows % p->heads, r = n % p->rows;
    const uint64_t random = hash(c->base.key + 1 + (uint64_t)part, n);
    float *at = &lse[lse_at(c, b, h, r)];
    *at = c->spread * ((float)(random % 65536) / 32768.0f - 1.0f);
    if (random >> 61 == 0) *at = -INFINITY;
    if (c->not_finite && (random >> 20) % (uint64_t)c->not_finite == 0) *at = random >> 60 & 1 ? NAN : INFINITY;
    if (*at == -INFINITY) continue;
    for (int64_t d = 0; d < p->dim; d++) {
      const uint64_t bits = hash(c->base.key + 100 + (uint64_t)part, n * p->dim + d);
      const bool whole = bits >> 62 == 0; /* the greatest there is, again and again */
      const float value = whole ? c->size : c->size * ((float)(bits % 65536) / 32768.0f - 1.0f);
      attend_verify_store(out, p->part_dtype, row_case_offset(&p->part_strides, b, h, r) + d, value);
    }
  }
  return true;
}

static bool fill_result(merge_case *c) {
  const attend_merge_problem *p = &c->problem;
  void *out = c->in_place < 0 ? place_rows(c, OUT, "out", p->out_dtype, &p->out_strides) : (void *)c->outs[c->in_place];
  float *lse = NULL;
  if (p->lse) lse = c->in_place < 0 ? place_lse(c, LSE, "lse") : (float *)c->lses[c->in_place];
  c->tensors.out = out, c->tensors.lse = lse;
  return out && (lse || !p->lse);
}

static bool make(merge_case *c, attend_dtype dtype) {
  static const int16_t dims[] = {1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 80, 128, 130};
  c->problem = (attend_merge_problem)ATTEND_MERGE_PROBLEM_INIT;
  c->tensors = (attend_merge_tensors)ATTEND_MERGE_TENSORS_INIT;
  attend_merge_problem *p = &c->problem;
  p->parts = (const int64_t[]){1, 2, 2, 3, 4, 5, 6, MOST_PARTS}[pick(c, 1, 8)];
  p->batch = 1 + pick(c, 2, 3), p->heads = 1 + pick(c, 3, 3), p->rows = 1 + pick(c, 4, 9);
  p->dim = dims[pick(c, 5, sizeof dims / sizeof *dims)];
  p->part_dtype = dtype ? dtype : (attend_dtype)(ATTEND_F32 + pick(c, 6, 3));
  p->out_dtype = dtype ? dtype : (attend_dtype)(ATTEND_F32 + pick(c, 7, 3));
  p->lse = (int)pick(c, 8, 2);
  p->lse_stride = p->rows + pick(c, 9, 2) * pick(c, 10, 4);
  p->part_strides = row_case_lay_out(&c->base, 30, p->heads, p->rows, p->dim);
  p->out_strides = row_case_lay_out(&c->base, 40, p->heads, p->rows, p->dim);
  p->num_threads = 1;
  c->in_place = pick(c, 11, 3) == 0 ? (int)pick(c, 12, places_of(c)) : -1;
  if (p->parts > PLACES) c->in_place = -1; /* its place is that of several parts */
  if (c->in_place >= 0) p->out_dtype = p->part_dtype, p->out_strides = p->part_strides;
  const bool narrow = p->part_dtype == ATTEND_F16 || p->out_dtype == ATTEND_F16;
  c->size = (const float[]){1, 100, 1e4f, narrow ? 6e4f : 3.3e38f}[pick(c, 13, 4)];
  c->spread = (const float[]){0, 1, 10, 100}[pick(c, 14, 4)];
  c->not_finite = (const int[]){0, 0, 20}[pick(c, 15, 3)];
  for (int part = 0; part < places_of(c); part++)
    if (!fill_part(c, part)) return false;
  for (int part = PLACES; part < p->parts; part++)
    c->outs[part] = c->outs[part % PLACES], c->lses[part] = c->lses[part % PLACES];
  c->tensors.outs = c->outs, c->tensors.lses = c->lses;
  return fill_result(c);
}

static void call(void *context) {
  merge_case *c = context;
  c->base.status = attend_merge_by(c->base.kernel, &c->problem, &c->tensors);
}

/* What a part held before the call. */
static double lse_before(const merge_case *c, int64_t part, int64_t at) {
  const int buffer = LSES + (int)(part % PLACES);
  return (double)*(const float *)row_case_before(&c->base, buffer, c->lses[part] + at);
}

static double out_before(const merge_case *c, int64_t part, int64_t at) {
  const void *out = row_case_before(&c->base, OUTS + (int)(part % PLACES), c->outs[part]);
  return (double)attend_reference_element(out, c->problem.part_dtype, at);
}

static double rounded(attend_dtype dtype, double value) {
  float number;
  attend_verify_store(&number, dtype, 0, (float)value);
  return (double)attend_reference_element(&number, dtype, 0);
}

/* Allowed is what f32 loses at each addition, and half an ulp of an output of 16 bits. */
static bool check_row(merge_case *c, int64_t b, int64_t h, int64_t r, attend_verify_result *result) {
  const attend_merge_problem *p = &c->problem;
  const int64_t from = row_case_offset(&p->part_strides, b, h, r), to = row_case_offset(&p->out_strides, b, h, r);
  const int64_t at = lse_at(c, b, h, r);
  const double limit = 0x1p-24 * ((double)p->parts + 8);
  double top = -INFINITY, sum = 0, weights[MOST_PARTS] = {0};
  for (int64_t i = 0; i < p->parts; i++) top = fmax(top, lse_before(c, i, at));
  for (int64_t i = 0; i < p->parts; i++) {
    const double lse = lse_before(c, i, at);
    if (lse != -INFINITY) sum += weights[i] = lse == top ? 1 : exp(lse - top);
  }
  for (int64_t d = 0; d < p->dim; d++) {
    double expected = 0, most = 0;
    for (int64_t i = 0; i < p->parts; i++) {
      if (lse_before(c, i, at) == -INFINITY) continue;
      const double value = out_before(c, i, from + d);
      expected += weights[i] / sum * value, most = fmax(most, fabs(value));
    }
    const double got = (double)attend_reference_element(c->tensors.out, p->out_dtype, to + d);
    if (row_case_compare(got, rounded(p->out_dtype, expected), 2 * row_case_rounding(p->out_dtype, expected), limit,
                         most > 0 ? most : 1, result))
      continue;
    return row_case_differs(result, b, h, r, d, got, expected);
  }
  const size_t size = attend_dtype_size(p->out_dtype);
  row_case_own(&c->base, c->in_place < 0 ? OUT : OUTS + c->in_place, (const char *)c->tensors.out + to * (int64_t)size,
               (size_t)p->dim * size);
  if (!p->lse) return true;
  row_case_own(&c->base, c->in_place < 0 ? LSE : LSES + c->in_place, c->tensors.lse + at, sizeof(float));
  const double lse = sum == 0 ? -INFINITY : top + log(sum), got = (double)c->tensors.lse[at];
  attend_verify_result unused = {0}; /* errors that are printed are those of out */
  if (row_case_compare(got, lse, 0, 0x1p-21, 1 + fabs(lse), &unused)) return true;
  snprintf(result->message, sizeof result->message, "lse[%" PRId64 ", %" PRId64 ", %" PRId64 "] is %.9g, expected %.9g",
           b, h, r, got, lse);
  return false;
}

static void describe(merge_case *c) {
  const attend_merge_problem *p = &c->problem;
  snprintf(c->base.text, sizeof c->base.text,
           "parts=%" PRId64 " B=%" PRId64 " H=%" PRId64 " rows=%" PRId64 " dim=%" PRId64 " types=%s,%s parts={%" PRId64
           ",%" PRId64 ",%" PRId64 "} out={%" PRId64 ",%" PRId64 ",%" PRId64 "} lse=%d lse_stride=%" PRId64
           " in_place=%d size=%g spread=%g not_finite=%d",
           p->parts, p->batch, p->heads, p->rows, p->dim, attend_dtype_name(p->part_dtype),
           attend_dtype_name(p->out_dtype), p->part_strides.batch, p->part_strides.head, p->part_strides.row,
           p->out_strides.batch, p->out_strides.head, p->out_strides.row, p->lse, p->lse_stride, c->in_place,
           (double)c->size, (double)c->spread, c->not_finite);
}

void attend_verify_merge(const attend_kernel *kernel, uint64_t seed, attend_dtype dtype, attend_verify_result *result) {
  merge_case c = {.base = row_case_begin(kernel, seed)};
  bool ok = make(&c, dtype);
  const attend_merge_problem *p = &c.problem;
  const int out = c.in_place < 0 ? OUT : OUTS + c.in_place, lse = c.in_place < 0 ? LSE : LSES + c.in_place;
  result->out_dtype = p->out_dtype;
  describe(&c);
  ok = ok && row_case_call(&c.base, 1u << out | (p->lse ? 1u << lse : 0), call, &c, result);
  for (int64_t n = 0; ok && n < p->batch * p->heads * p->rows; n++)
    ok = check_row(&c, n / p->rows / p->heads, n / p->rows % p->heads, n % p->rows, result);
  ok = ok && row_case_gaps_are_intact(&c.base, out, result);
  ok = ok && (!p->lse || row_case_gaps_are_intact(&c.base, lse, result));
  row_case_end(&c.base, ok, seed, dtype, result);
}
