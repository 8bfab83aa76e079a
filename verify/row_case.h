/* SPDX-License-Identifier: Apache-2.0 */
/** What the checks of the operations that work row by row share: their random cases, from seed to verdict. */
#ifndef ATTEND_VERIFY_ROW_CASE_H
#define ATTEND_VERIFY_ROW_CASE_H

#include "verify/internal.h"

enum { ROW_CASE_BUFFERS = 16 };

/** What every case has: where its tensors lie, and what came of the call. */
typedef struct row_case {
  uint64_t key; /**< of all that is random in it */
  const attend_kernel *kernel;
  attend_status status; /**< to be set by the call */
  struct {
    const char *name;
    attend_guarded memory;
    unsigned char *before,
        *image; /**< of outputs: what was there before the call, and after it without what is owned */
  } buffer[ROW_CASE_BUFFERS];
  char text[1024]; /**< every field, for a failure */
} row_case;

row_case row_case_begin(const attend_kernel *kernel, uint64_t seed);

/** A number from 0 to bound - 1 that follows from the case and `which`. */
int64_t row_case_pick(const row_case *c, int64_t which, int64_t bound);

/**
 * Room for the elements from the lowest to the highest stride, between guard pages and filled with NaN; returns the
 * address of element 0. NULL: no memory.
 */
void *row_case_place(row_case *c, int buffer, const char *name, const int64_t extent[4], const int64_t stride[4],
                     size_t size);

/** Random strides of a (batch, heads, rows, dim) tensor: heads side by side, or with gaps after all of them. */
attend_strides row_case_lay_out(const row_case *c, int64_t which, int64_t heads, int64_t rows, int64_t dim);

static inline int64_t row_case_offset(const attend_strides *s, int64_t b, int64_t h, int64_t r) {
  return b * s->batch + h * s->head + r * s->row;
}

/**
 * Makes the call: buffers whose bits are not in `outputs` cannot be written. false, with the reason in the result, if
 * it went astray or returned an error.
 */
bool row_case_call(row_case *c, unsigned outputs, void (*call)(void *context), void *context,
                   attend_verify_result *result);

/** A place in a buffer, as it was before the call. */
const void *row_case_before(const row_case *c, int buffer, const void *place);

/** Bytes of an output that the call was to write. */
void row_case_own(row_case *c, int buffer, const void *place, size_t bytes);

/** Whether everything else in an output, and around it, is as it was; else it is in the result. */
bool row_case_gaps_are_intact(const row_case *c, int buffer, attend_verify_result *result);

/**
 * Takes an error into the result, in units of `unit`: the part of it above `rounding` must be at most `limit` units.
 */
bool row_case_compare(double got, double expected, double rounding, double limit, double unit,
                      attend_verify_result *result);

/** Says in the result which element of out is wrong; false. */
bool row_case_differs(attend_verify_result *result, int64_t b, int64_t h, int64_t r, int64_t d, double got,
                      double expected);

/** Half the distance from a number to its neighbours in a 16-bit type; 0 for f32. */
double row_case_rounding(attend_dtype dtype, double number);

/** Completes the message of a failure, and gives all memory back. */
void row_case_end(row_case *c, bool passed, uint64_t seed, attend_dtype dtype, attend_verify_result *result);

void attend_verify_softmax(const attend_kernel *kernel, uint64_t seed, attend_dtype dtype,
                           attend_verify_result *result);
void attend_verify_append(const attend_kernel *kernel, uint64_t seed, attend_dtype dtype, attend_verify_result *result);
void attend_verify_merge(const attend_kernel *kernel, uint64_t seed, attend_dtype dtype, attend_verify_result *result);

#endif
