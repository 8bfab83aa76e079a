/* SPDX-License-Identifier: Apache-2.0 */
/* Masked softmax: random cases, each against sums in double, with the same traps as attention's. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch/dispatch.h"
#include "kernels/size.h"
#include "layers/softmax.h"
#include "verify/internal.h"
#include "verify/reference.h"

enum { X, OUT, LENGTHS, MASK, BUFFERS };
static const char *const names[BUFFERS] = {"x", "out", "lengths", "mask"};

/* A case: what is asked for, where it lies, and what else follows from its seed. */
typedef struct softmax_case {
  uint64_t key;
  attend_softmax_problem problem; /* strides filled in */
  attend_softmax_tensors tensors;
  attend_guarded buffer[BUFFERS];
  bool in_place;
  float size;                       /* of the numbers in x */
  int minus_infinities, not_finite; /* one in so many elements of x; 0: none */
  attend_status status;
  const attend_softmax_kernel *kernel;
} softmax_case;

static int64_t pick(const softmax_case *c, int64_t which, int64_t bound) {
  return (int64_t)(hash(c->key, which) % (uint64_t)bound);
}

/* Room for the elements from the lowest to the highest stride; returns the address of element 0. */
static void *place(softmax_case *c, int which, const int64_t extent[4], const int64_t stride[4], size_t size) {
  int64_t low = 0, high = 0;
  for (int i = 0; i < 4; i++) *(stride[i] < 0 ? &low : &high) += stride[i] * (extent[i] - 1);
  const uint64_t choice = hash(c->key, 100 + which);
  const size_t gap = choice % 4 < 2 ? 0 : (size_t)(choice / 8 % 17) * size;
  const size_t bytes = (size_t)(high - low + 1) * size;
  if (!attend_guarded_place(&c->buffer[which], bytes, gap, choice / 4 % 2, 0xff)) return NULL;
  return c->buffer[which].data - low * (int64_t)size;
}

static attend_strides lay_out(const softmax_case *c, int which) {
  const attend_softmax_problem *p = &c->problem;
  if (pick(c, which, 3) == 0)
    return (attend_strides){p->rows * p->heads * p->columns, p->columns, p->heads * p->columns};
  attend_strides s = {.row = p->columns + pick(c, which, 3) * pick(c, which + 1, 4)};
  s.head = p->rows * s.row + pick(c, which + 2, 3);
  s.batch = p->heads * s.head + pick(c, which + 3, 3);
  return s;
}

static int64_t offset(const attend_strides *s, int64_t b, int64_t h, int64_t r) {
  return b * s->batch + h * s->head + r * s->row;
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
    int32_t *lengths = place(c, LENGTHS, (int64_t[]){1, 1, 1, p->batch * per_query}, (int64_t[]){0, 0, 0, 1}, 4);
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
    uint8_t *mask = place(c, MASK, (int64_t[]){p->batch, p->heads, p->rows, p->columns},
                          (int64_t[]){m->batch, m->head, m->query, m->key}, 1);
    if (!mask) return false;
    const int64_t rare = (const int64_t[]){2, 3, 20}[pick(c, 24, 3)];
    const bool mostly = pick(c, 25, 2);
    for (size_t i = 0; i < c->buffer[MASK].size; i++)
      c->buffer[MASK].data[i] = (pick(c, 1000 + (int64_t)i, rare) != 0) == mostly ? (uint8_t)(1 + i % 255) : 0;
    c->tensors.mask = mask;
  }
  return true;
}

/* What is not attended stays NaN. */
static bool fill_x(softmax_case *c) {
  attend_softmax_problem *p = &c->problem;
  const int64_t extent[4] = {p->batch, p->heads, p->rows, p->columns};
  p->x_strides = lay_out(c, 30);
  p->out_strides = c->in_place ? p->x_strides : lay_out(c, 40);
  const attend_strides *xs = &p->x_strides, *os = &p->out_strides;
  const size_t size = attend_dtype_size(p->dtype);
  void *x = place(c, X, extent, (int64_t[]){xs->batch, xs->head, xs->row, 1}, size), *out = x;
  if (!c->in_place) out = place(c, OUT, extent, (int64_t[]){os->batch, os->head, os->row, 1}, size);
  if (!x || !out) return false;
  for (int64_t b = 0, n = 0; b < p->batch; b++)
    for (int64_t h = 0; h < p->heads; h++)
      for (int64_t r = 0; r < p->rows; r++)
        for (int64_t j = 0; j < p->columns; j++, n++) {
          const uint64_t random = hash(c->key + 1, n);
          float value = c->size * ((float)(random % 65536) / 32768.0f - 1.0f);
          if (!allows(c, b, h, r, j)) continue;
          if (c->minus_infinities && random / 65536 % (uint64_t)c->minus_infinities == 0) value = -INFINITY;
          if (c->not_finite && (random >> 40) % (uint64_t)c->not_finite == 0) value = random >> 63 ? NAN : INFINITY;
          attend_verify_store(x, p->dtype, offset(xs, b, h, r) + j, value);
        }
  c->tensors.x = x, c->tensors.out = out;
  return true;
}

static bool make(softmax_case *c, uint64_t seed, attend_dtype dtype) {
  static const int16_t columns[] = {1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 64, 65, 100, 129, 257, 600};
  *c = (softmax_case){.key = mix(seed + 77)};
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
  c->status = attend_masked_softmax_by(c->kernel, &c->problem, &c->tensors);
}

/*
 * The softmax of a row in double, from x as it was before the call. 4 ulp of 1 are allowed, and half an ulp of an
 * output of 16 bits.
 */
static bool check_row(const softmax_case *c, const unsigned char *before, const int64_t at[3],
                      attend_verify_result *result) {
  const attend_softmax_problem *p = &c->problem;
  const unsigned char *x = before + ((const unsigned char *)c->tensors.x - c->buffer[X].data);
  const int64_t x_row = offset(&p->x_strides, at[0], at[1], at[2]);
  const int64_t out_row = offset(&p->out_strides, at[0], at[1], at[2]);
  double max = -INFINITY, sum = 0;
  for (int pass = 0; pass < 2; pass++)
    for (int64_t j = 0; j < p->columns; j++) {
      const double value = (double)attend_reference_element(x, p->dtype, x_row + j);
      if (!allows(c, at[0], at[1], at[2], j) || value == -INFINITY) continue;
      if (pass == 0 && value > max) max = value;
      if (pass == 1) sum += exp(value - max);
    }
  for (int64_t j = 0; j < p->columns; j++) {
    const double value = (double)attend_reference_element(x, p->dtype, x_row + j);
    const double got = (double)attend_reference_element(c->tensors.out, p->dtype, out_row + j);
    const bool attended = allows(c, at[0], at[1], at[2], j) && value != -INFINITY;
    const double expected = attended ? exp(value - max) / sum : 0;
    const double ulp = p->dtype == ATTEND_F16 ? 0x1p-10 : p->dtype == ATTEND_BF16 ? 0x1p-7 : 0;
    const double least = p->dtype == ATTEND_F16 ? 0x1p-25 : 0;
    const double rounding = attended ? fmax(ulp / 2 * expected, least) : 0, limit = attended ? 0x1p-21 : 0;
    const double error =
        isnan(got) || isnan(expected) ? (isnan(got) && isnan(expected) ? 0 : INFINITY) : fabs(got - expected);
    if (error > result->error) result->error = error;
    if (attended) result->share = fmax(result->share, (error - rounding) / limit);
    if (error - rounding <= limit) continue;
    snprintf(result->message, sizeof result->message,
             "out[%" PRId64 ", %" PRId64 ", %" PRId64 ", %" PRId64
             "] is %.9g, expected %.9g: the error of %.3g is over "
             "%.3g",
             at[0], at[1], at[2], j, got, expected, error, limit);
    return false;
  }
  return true;
}

/* Whether the gaps of out, and all that is around it, are as they were. */
static bool check_gaps(const softmax_case *c, const unsigned char *before, attend_verify_result *result) {
  const attend_softmax_problem *p = &c->problem;
  const attend_guarded *g = &c->buffer[c->in_place ? X : OUT];
  const size_t size = attend_dtype_size(p->dtype), row = (size_t)p->columns * size;
  unsigned char *now = malloc(g->size);
  bool ok = now != NULL;
  if (ok) memcpy(now, g->data, g->size);
  for (int64_t n = 0; ok && n < p->batch * p->heads * p->rows; n++) {
    const int64_t b = n / p->rows / p->heads, h = n / p->rows % p->heads, r = n % p->rows;
    const size_t at =
        (size_t)((unsigned char *)c->tensors.out - g->data) + (size_t)offset(&p->out_strides, b, h, r) * size;
    memcpy(now + at, before + at, row);
  }
  ok = ok && memcmp(now, before, g->size) == 0 && attend_guarded_intact(g, 0xff);
  free(now);
  if (!ok) snprintf(result->message, sizeof result->message, "a gap of out, or memory around it, was written to");
  return ok;
}

static bool run(softmax_case *c, attend_verify_result *result) {
  const attend_guarded *x = &c->buffer[X], *out = &c->buffer[c->in_place ? X : OUT];
  unsigned char *before = malloc(x->size), *out_before = malloc(out->size);
  bool ok = before && out_before;
  if (ok) {
    memcpy(before, x->data, x->size);
    memcpy(out_before, out->data, out->size);
    for (int i = 0; ok && i < BUFFERS; i++)
      if (&c->buffer[i] != out) ok = attend_guarded_freeze(&c->buffer[i]);
  }
  if (!ok) snprintf(result->message, sizeof result->message, "no memory for the tensors of a case");
  const attend_verify_signal signal = ok ? attend_verify_call(call, c) : (attend_verify_signal){0};
  if (signal.number) {
    ptrdiff_t at;
    snprintf(result->message, sizeof result->message, "stopped by signal %d (%s)", signal.number,
             strsignal(signal.number));
    for (int i = 0; i < BUFFERS; i++)
      if (attend_verify_touched(signal, &c->buffer[i], &at))
        snprintf(result->message, sizeof result->message, "%s: byte %td of a buffer of %zu bytes was touched", names[i],
                 at, c->buffer[i].size);
    ok = false;
  }
  if (ok && c->status) {
    snprintf(result->message, sizeof result->message, "%s: %s", attend_status_string(c->status), attend_error_detail());
    ok = false;
  }
  const attend_softmax_problem *p = &c->problem;
  for (int64_t n = 0; ok && n < p->batch * p->heads * p->rows; n++)
    ok = check_row(c, before, (int64_t[]){n / p->rows / p->heads, n / p->rows % p->heads, n % p->rows}, result);
  ok = ok && check_gaps(c, out_before, result);
  free(before);
  free(out_before);
  return ok;
}

static void fail(const softmax_case *c, uint64_t seed, attend_dtype dtype, attend_verify_result *result) {
  const attend_softmax_problem *p = &c->problem;
  char wrong[1024];
  snprintf(wrong, sizeof wrong, "%.*s", (int)sizeof wrong - 1, result->message);
  result->status = ATTEND_VERIFY_FAILED;
  snprintf(result->message, sizeof result->message,
           "%s: %s\n  case seed %" PRIu64 ": B=%" PRId64 " H=%" PRId64 " R=%" PRId64 " C=%" PRId64
           " type=%s lengths=%d mask=%d{%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 "} x={%" PRId64 ",%" PRId64
           ",%" PRId64 "} out={%" PRId64 ",%" PRId64 ",%" PRId64 "} in_place=%d size=%g\n"
           "  again: attend verify --kernel %s --case random --seed %" PRIu64 " --cases 1%s%s",
           c->kernel->name, wrong, seed, p->batch, p->heads, p->rows, p->columns, attend_dtype_name(p->dtype),
           p->lengths, p->mask, p->mask_strides.batch, p->mask_strides.head, p->mask_strides.query, p->mask_strides.key,
           p->x_strides.batch, p->x_strides.head, p->x_strides.row, p->out_strides.batch, p->out_strides.head,
           p->out_strides.row, c->in_place, (double)c->size, c->kernel->name, seed, dtype ? " --dtype " : "",
           dtype ? attend_dtype_name(dtype) : "");
}

void attend_verify_softmax(const attend_softmax_kernel *kernel, attend_isa highest, uint64_t seed, attend_dtype dtype,
                           attend_verify_result *result) {
  softmax_case c;
  *result = (attend_verify_result){.status = ATTEND_VERIFY_PASSED, .plain_error = -1};
  if (!attend_isa_runnable(kernel->isa, kernel->cpu, highest, result->message, sizeof result->message)) {
    result->status = ATTEND_VERIFY_SKIPPED;
    return;
  }
  bool ok = make(&c, seed, dtype);
  c.kernel = kernel;
  result->out_dtype = c.problem.dtype;
  if (!ok) snprintf(result->message, sizeof result->message, "no memory for the tensors of a case");
  ok = ok && run(&c, result);
  if (!ok) fail(&c, seed, dtype, result);
  for (int i = 0; i < BUFFERS; i++) attend_guarded_free(&c.buffer[i]);
}
