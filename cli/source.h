/* SPDX-License-Identifier: Apache-2.0 */
/** An .npy file that an option names: read, converted and checked, with errors that name option, file and field. */
#ifndef ATTEND_CLI_SOURCE_H
#define ATTEND_CLI_SOURCE_H

#include "attend/attend.h"
#include "cli/npy.h"

/** An option, its file and what was read from it: what an error has to name. */
typedef struct attend_source {
  const char *option, *path;
  bool bf16_bits; /**< uint16 is the bits of bf16 */
  attend_npy *array;
} attend_source;

/** Reports that a file has another shape or another type than was expected. False. */
bool attend_source_fail_shape(const attend_source *s, const char *expected);
bool attend_source_fail_type(const attend_source *s, const char *expected);

/** Reads a file of any type. False after reporting why not. */
bool attend_source_read(const attend_source *s);
/** Reads a file of numbers: f32, f16, bf16 or f64, which becomes f32. False after reporting why not. */
bool attend_source_numbers(const attend_source *s);
/** The second half of that: checks and converts what attend_source_read() has read. */
bool attend_source_as_numbers(const attend_source *s);
/** Converts the numbers of a file. False after reporting that there is no memory. */
bool attend_source_convert(const attend_source *s, attend_dtype dtype);
/** Whether all numbers are finite, or -inf if they may exclude; else reports the first that is not. */
bool attend_source_check(const attend_source *s, bool may_exclude);
/** The type of the numbers. */
attend_dtype attend_source_dtype(const attend_source *s);

/**
 * Whether a file has the last `rank` of four dimensions. One that is given as -1 may be anything, and is called by its
 * name in errors.
 */
bool attend_source_fits(const attend_source *s, int rank, const int64_t want[4], const char *const names[4]);
/** Likewise a vector of `count` elements. */
bool attend_source_fits_vector(const attend_source *s, int64_t count);

/** Whether a file that was read holds flags: bool or whole numbers. */
bool attend_source_is_flags(const attend_source *s);
/** Turns those into bytes as bool has them. False after reporting a number that is neither 0 nor 1. */
bool attend_source_flags(const attend_source *s);

/** Reads a file of int32 or int64. False after reporting why not. */
bool attend_source_integers(const attend_source *s);
/**
 * Turns what was read so into int32. Each must be from `low` to `high`, both within int32, which errors explain by
 * `what`: ", the number of keys", or "". False after reporting why not.
 */
bool attend_source_bounds(const attend_source *s, int64_t low, int64_t high, const char *what);

/**
 * Reads key lengths, (B) or, for each query, (`rows`[0], `rows`[1]), of int32 or int64, each from 0 to Lk, as int32,
 * and says which of both they are. False after reporting why not.
 */
bool attend_source_lengths(const attend_source *s, int64_t batch, const int64_t rows[2], int64_t kv_len,
                           attend_lengths *kind);

#endif
