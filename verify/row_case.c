/* SPDX-License-Identifier: Apache-2.0 */
#include "verify/row_case.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch/dispatch.h"

#define FILL 0xff /* a NaN in every element type */

void attend_verify_row_kernel(const attend_kernel *kernel, attend_isa highest, uint64_t seed, attend_dtype dtype,
                              attend_verify_result *result) {
  static void (*const checks[ATTEND_OP_COUNT])(const attend_kernel *, uint64_t, attend_dtype,
                                               attend_verify_result *) = {
      [ATTEND_OP_SOFTMAX] = attend_verify_softmax,
      [ATTEND_OP_APPEND] = attend_verify_append,
      [ATTEND_OP_MERGE] = attend_verify_merge,
  };
  *result = (attend_verify_result){.status = ATTEND_VERIFY_PASSED, .plain_error = -1};
  if (attend_kernel_runnable(kernel, highest, result->message, sizeof result->message))
    checks[kernel->operation](kernel, seed, dtype, result);
  else
    result->status = ATTEND_VERIFY_SKIPPED;
}

row_case row_case_begin(const attend_kernel *kernel, uint64_t seed) {
  return (row_case){.key = mix(seed + 77), .kernel = kernel};
}

int64_t row_case_pick(const row_case *c, int64_t which, int64_t bound) {
  return (int64_t)(hash(c->key, which) % (uint64_t)bound);
}

void *row_case_place(row_case *c, int buffer, const char *name, const int64_t extent[4], const int64_t stride[4],
                     size_t size) {
  int64_t low = 0, high = 0;
  for (int i = 0; i < 4; i++) *(stride[i] < 0 ? &low : &high) += stride[i] * (extent[i] - 1);
  const uint64_t choice = hash(c->key, 100 + buffer);
  const size_t gap = choice % 4 < 2 ? 0 : (size_t)(choice / 8 % 17) * size;
  const size_t bytes = (size_t)(high - low + 1) * size;
  c->buffer[buffer].name = name;
  if (!attend_guarded_place(&c->buffer[buffer].memory, bytes, gap, choice / 4 % 2, FILL)) return NULL;
  return c->buffer[buffer].memory.data - low * (int64_t)size;
}

attend_strides row_case_lay_out(const row_case *c, int64_t which, int64_t heads, int64_t rows, int64_t dim) {
  if (row_case_pick(c, which, 3) == 0) return (attend_strides){rows * heads * dim, dim, heads * dim};
  attend_strides s = {.row = dim + row_case_pick(c, which, 3) * row_case_pick(c, which + 1, 4)};
  s.head = rows * s.row + row_case_pick(c, which + 2, 3);
  s.batch = heads * s.head + row_case_pick(c, which + 3, 3);
  return s;
}

bool row_case_call(row_case *c, unsigned outputs, void (*call)(void *context), void *context,
                   attend_verify_result *result) {
  bool ready = true;
  for (int i = 0; ready && i < ROW_CASE_BUFFERS; i++) {
    attend_guarded *g = &c->buffer[i].memory;
    if (!g->data) continue;
    if (outputs >> i & 1) {
      c->buffer[i].before = malloc(g->size), c->buffer[i].image = malloc(g->size);
      ready = c->buffer[i].before && c->buffer[i].image;
      if (ready) memcpy(c->buffer[i].before, g->data, g->size);
    } else {
      ready = attend_guarded_freeze(g);
    }
  }
  if (!ready) {
    snprintf(result->message, sizeof result->message, "no memory for the tensors of a case");
    return false;
  }
  for (int i = 0; i < ROW_CASE_BUFFERS; i++) attend_guarded_watch(&c->buffer[i].memory, true);
  const attend_verify_signal signal = attend_verify_call(call, context);
  for (int i = 0; i < ROW_CASE_BUFFERS; i++) attend_guarded_watch(&c->buffer[i].memory, false);
  if (signal.number) {
    ptrdiff_t at;
    snprintf(result->message, sizeof result->message, "stopped by signal %d (%s)", signal.number,
             attend_verify_signal_name(signal));
    for (int i = 0; i < ROW_CASE_BUFFERS; i++)
      if (c->buffer[i].memory.data && attend_verify_touched(signal, &c->buffer[i].memory, &at))
        snprintf(result->message, sizeof result->message, "%s: byte %td of a buffer of %zu bytes was touched",
                 c->buffer[i].name, at, c->buffer[i].memory.size);
    return false;
  }
  if (c->status) {
    snprintf(result->message, sizeof result->message, "%s: %s", attend_status_string(c->status), attend_error_detail());
    return false;
  }
  for (int i = 0; i < ROW_CASE_BUFFERS; i++)
    if (c->buffer[i].image) memcpy(c->buffer[i].image, c->buffer[i].memory.data, c->buffer[i].memory.size);
  return true;
}

const void *row_case_before(const row_case *c, int buffer, const void *place) {
  if (!c->buffer[buffer].before) return place; /* it could not be written */
  return c->buffer[buffer].before + ((const unsigned char *)place - c->buffer[buffer].memory.data);
}

void row_case_own(row_case *c, int buffer, const void *place, size_t bytes) {
  const ptrdiff_t at = (const unsigned char *)place - c->buffer[buffer].memory.data;
  memcpy(c->buffer[buffer].image + at, c->buffer[buffer].before + at, bytes);
}

bool row_case_gaps_are_intact(const row_case *c, int buffer, attend_verify_result *result) {
  const attend_guarded *g = &c->buffer[buffer].memory;
  if (memcmp(c->buffer[buffer].image, c->buffer[buffer].before, g->size) == 0 && attend_guarded_intact(g, FILL))
    return true;
  snprintf(result->message, sizeof result->message, "a gap of %s, or memory around it, was written to",
           c->buffer[buffer].name);
  return false;
}

bool row_case_compare(double got, double expected, double rounding, double limit, double unit,
                      attend_verify_result *result) {
  double error = fabs(got - expected);
  if (got == expected || (isnan(got) && isnan(expected)))
    error = 0;
  else if (!isfinite(got) || !isfinite(expected))
    error = INFINITY;
  if (error == 0) return true;
  if (error / unit > result->error) result->error = error / unit;
  const double over = isfinite(error) ? error - rounding : error;
  const double share = over <= 0 ? 0 : limit > 0 ? over / (limit * unit) : INFINITY;
  if (share > result->share) result->share = share;
  return share <= 1;
}

bool row_case_differs(attend_verify_result *result, int64_t b, int64_t h, int64_t r, int64_t d, double got,
                      double expected) {
  snprintf(result->message, sizeof result->message,
           "out[%" PRId64 ", %" PRId64 ", %" PRId64 ", %" PRId64 "] is %.9g, expected %.9g", b, h, r, d, got, expected);
  return false;
}

double row_case_rounding(attend_dtype dtype, double number) {
  if (dtype == ATTEND_F16) return fmax(0x1p-11 * fabs(number), 0x1p-25);
  return dtype == ATTEND_BF16 ? 0x1p-8 * fabs(number) : 0;
}

void row_case_end(row_case *c, bool passed, uint64_t seed, attend_dtype dtype, attend_verify_result *result) {
  if (!passed) {
    char wrong[1024];
    snprintf(wrong, sizeof wrong, "%.*s", (int)sizeof wrong - 1,
             *result->message ? result->message : "no memory for the tensors of a case");
    result->status = ATTEND_VERIFY_FAILED;
    snprintf(result->message, sizeof result->message,
             "%s: %s\n  case seed %" PRIu64 ": %s\n"
             "  again: attend verify --kernel %s --case random --seed %" PRIu64 " --cases 1%s%s",
             c->kernel->name, wrong, seed, c->text, c->kernel->name, seed, dtype ? " --dtype " : "",
             dtype ? attend_dtype_name(dtype) : "");
  }
  for (int i = 0; i < ROW_CASE_BUFFERS; i++) {
    attend_guarded_free(&c->buffer[i].memory);
    free(c->buffer[i].before);
    free(c->buffer[i].image);
  }
}
