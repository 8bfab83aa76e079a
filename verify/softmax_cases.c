/* SPDX-License-Identifier: Apache-2.0 */
/* Masked softmax: random cases, each against sums in double, with the same traps as attention's. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "layers/softmax.h"
#include "verify/reference.h"
#include "verify/row_case.h"

enum { X, OUT, LENGTHS, MASK };

/* A case: what is asked for, where it lies, and what else follows from its seed. */
typedef struct softmax_case {
  row_case base;
  attend_softmax_problem problem; /* strides filled in */
  attend_softmax_tensors tensors;
  bool in_place;
  float size;                       /* of the numbers in x */
  int minus_infinities, not_finite; /* one in so many elements of x; 0: none */
} softmax_case;

static int64_t pick(const softmax_case *c, int64_t which, int64_t bound) {
  return row_case_pick(&c->base, which, bound);
}

/* Whether lengths and mask let a row attend a column. */
static bool allows(const softmax_case *c, int64_t b, int64_t h, int64_t r, int64_t j) {
  const attend_softmax_problem *p = &c->problem;
  const attend_strides4 *m = &p->mask_strides;
  if (p->lengths == ATTEND_LENGTHS_PER_BATCH && j >= c->tensors.lengths[b]) return false;
  if (p->lengths == ATTEND_LENGTHS_PER_QUERY && j >= c->tensors.lengths[b * p->rows + r]) return false;
  return !p->mask || c->tensors.mask[b * m->batch + h * m->head + r * m->query + j * m->key];
}

static bool fill_masks(softmax_case *c) {
  attend_softmax_problem *p = &c->problem;
  const int64_t per_query = p->lengths == ATTEND_LENGTHS_PER_QUERY ? p->rows : 1;
  if (p->lengths) {
    int32_t *lengths = row_case_place(&c->base, LENGTHS, "lengths", (int64_t[]){1, 1, 1, p->batch * per_query},
                                      (int64_t[]){0, 0, 0, 1}, 4);
    if (!lengths) return false;
    for (int64_t i = 0; i < p->batch * per_query; i++)
      lengths[i] = (int32_t)(pick(c, 200 + i, 4) == 0 ? p->columns : pick(c, 300 + i, p->columns + 1));
    c->tensors.lengths = lengths;
  }
  if (p->mask) {
    const int64_t key = (const int64_t[]){1, 1, 1, 2, -1, 0}[pick(c, 20, 6)], row = 2 * p->columns;
    p->mask_strides = (attend_strides4){pick(c, 21, 2) * p->heads * p->rows * row, pick(c, 22, 2) * p->rows * row,
                                        pick(c, 23, 2) * row, key};
    const attend_strides4 *m = &p->mask_strides;
    uint8_t *mask = row_case_place(&c->base, MASK, "mask", (int64_t[]){p->batch, p->heads, p->rows, p->columns},
                                   (int64_t[]){m->batch, m->head, m->query, m->key}, 1);
    if (!mask) return false;
    const int64_t rare = (const int64_t[]){2, 3, 20}[pick(c, 24, 3)];
    const bool mostly = pick(c, 25, 2);
    const attend_guarded *all = &c->base.buffer[MASK].memory;
    for (size_t i = 0; i < all->size; i++)
      all->data[i] = (pick(c, 1000 + (int64_t)i, rare) != 0) == mostly ? (uint8_t)(1 + i % 255) : 0;
    c->tensors.mask = mask;
  }
  return true;
}

/* What is not attended stays NaN. */
static bool fill_x(softmax_case *c) {
  attend_softmax_problem *p = &c->problem;
  const int64_t extent[4] = {p->batch, p->heads, p->rows, p->columns};
  p->x_strides = row_case_lay_out(&c->base, 30, p->heads, p->rows, p->columns);
  p->out_strides = c->in_place ? p->x_strides : row_case_lay_out(&c->base, 40, p->heads, p->rows, p->columns);
  const attend_strides *xs = &p->x_strides, *os = &p->out_strides;
  const size_t size = attend_dtype_size(p->dtype);
  void *x = row_case_place(&c->base, X, "x", extent, (int64_t[]){xs->batch, xs->head, xs->row, 1}, size), *out = x;
  if (!c->in_place)
    out = row_case_place(&c->base, OUT, "out", extent, (int64_t[]){os->batch, os->head, os->row, 1}, size);
  if (!x || !out) return false;
  for (int64_t b = 0, n = 0; b < p->batch; b++)
    for (int64_t h = 0; h < p->heads; h++)
      for (int64_t r = 0; r < p->rows; r++)
        for (int64_t j = 0; j < p->columns; j++, n++) {
          const uint64_t random = hash(c->base.key + 1, n);
          float value = c->size * ((float)(random % 65536) / 32768.0f - 1.0f);
          if (!allows(c, b, h, r, j)) continue;
          if (c->minus_infinities && random / 65536 % (uint64_t)c->minus_infinities == 0) value = -INFINITY;
          if (c->not_finite && (random >> 40) % (uint64_t)c->not_finite == 0) value = random >> 63 ? NAN : INFINITY;
          attend_verify_store(x, p->dtype, row_case_offset(xs, b, h, r) + j, value);
        }
  c->tensors.x = x, c->tensors.out = out;
  return true;
}

static bool make(softmax_case *c, attend_dtype dtype) {
  static const int16_t columns[] = {1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 64, 65, 100, 129, 257, 600};
  c->problem = (attend_softmax_problem)ATTEND_SOFTMAX_PROBLEM_INIT;
  c->tensors = (attend_softmax_tensors)ATTEND_SOFTMAX_TENSORS_INIT;
  attend_softmax_problem *p = &c->problem;
  p->batch = 1 + pick(c, 1, 3), p->heads = 1 + pick(c, 2, 3), p->rows = 1 + pick(c, 3, 9);
  p->columns = columns[pick(c, 4, sizeof columns / sizeof *columns)];
  p->dtype = dtype ? dtype : (attend_dtype)(ATTEND_F32 + pick(c, 5, 3));
  p->lengths = (attend_lengths)pick(c, 6, 3);
  p->mask = (int)pick(c, 7, 2);
  p->num_threads = 1;
  c->in_place = pick(c, 8, 3) == 0;
  c->size = (const float[]){0, 1, 10, 1e4f}[pick(c, 9, 4)];
  c->minus_infinities = (const int[]){0, 0, 3, 20}[pick(c, 10, 4)];
  c->not_finite = (const int[]){0, 0, 0, 200}[pick(c, 11, 4)];
  return fill_masks(c) && fill_x(c);
}

static void call(void *context) {
  softmax_case *c = context;
  c->base.status = attend_masked_softmax_by(c->base.kernel, &c->problem, &c->tensors);
}

/* The softmax of a row in double. 4 ulp of 1 are allowed, and half an ulp of an output of 16 bits. */
static bool check_row(softmax_case *c, int64_t b, int64_t h, int64_t r, attend_verify_result *result) {
  const attend_softmax_problem *p = &c->problem;
  const void *x = row_case_before(&c->base, X, c->tensors.x);
  const int64_t x_row = row_case_offset(&p->x_strides, b, h, r), out_row = row_case_offset(&p->out_strides, b, h, r);
  double max = -INFINITY, sum = 0;
  for (int pass = 0; pass < 2; pass++)
    for (int64_t j = 0; j < p->columns; j++) {
      const double value = (double)attend_reference_element(x, p->dtype, x_row + j);
      if (!allows(c, b, h, r, j) || value == -INFINITY) continue;
      if (pass == 0 && value > max) max = value;
      if (pass == 1) sum += exp(value - max);
    }
  for (int64_t j = 0; j < p->columns; j++) {
    const double value = (double)attend_reference_element(x, p->dtype, x_row + j);
    const double got = (double)attend_reference_element(c->tensors.out, p->dtype, out_row + j);
    const bool attended = allows(c, b, h, r, j) && value != -INFINITY;
    const double expected = attended ? exp(value - max) / sum : 0;
    if (row_case_compare(got, expected, attended ? row_case_rounding(p->dtype, expected) : 0, attended ? 0x1p-21 : 0, 1,
                         result))
      continue;
    return row_case_differs(result, b, h, r, j, got, expected);
  }
  const size_t size = attend_dtype_size(p->dtype);
  row_case_own(&c->base, c->in_place ? X : OUT, (const char *)c->tensors.out + out_row * (int64_t)size,
               (size_t)p->columns * size);
  return true;
}

static void describe(softmax_case *c) {
  const attend_softmax_problem *p = &c->problem;
  snprintf(c->base.text, sizeof c->base.text,
           "B=%" PRId64 " H=%" PRId64 " R=%" PRId64 " C=%" PRId64 " type=%s lengths=%d mask=%d{%" PRId64 ",%" PRId64
           ",%" PRId64 ",%" PRId64 "} x={%" PRId64 ",%" PRId64 ",%" PRId64 "} out={%" PRId64 ",%" PRId64 ",%" PRId64
           "} in_place=%d size=%g",
           p->batch, p->heads, p->rows, p->columns, attend_dtype_name(p->dtype), p->lengths, p->mask,
           p->mask_strides.batch, p->mask_strides.head, p->mask_strides.query, p->mask_strides.key, p->x_strides.batch,
           p->x_strides.head, p->x_strides.row, p->out_strides.batch, p->out_strides.head, p->out_strides.row,
           c->in_place, (double)c->size);
}

void attend_verify_softmax(const attend_kernel *kernel, uint64_t seed, attend_dtype dtype,
                           attend_verify_result *result) {
  softmax_case c = {.base = row_case_begin(kernel, seed)};
  bool ok = make(&c, dtype);
  const attend_softmax_problem *p = &c.problem;
  const int out = c.in_place ? X : OUT;
  result->out_dtype = p->dtype;
  describe(&c);
  ok = ok && row_case_call(&c.base, 1u << out, call, &c, result);
  for (int64_t n = 0; ok && n < p->batch * p->heads * p->rows; n++)
    ok = check_row(&c, n / p->rows / p->heads, n / p->rows % p->heads, n % p->rows, result);
  ok = ok && row_case_gaps_are_intact(&c.base, out, result);
  row_case_end(&c.base, ok, seed, dtype, result);
}
