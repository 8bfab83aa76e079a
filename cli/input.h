/* SPDX-License-Identifier: Apache-2.0 */
/** The tensors of `attend run`: from .npy files to a problem and its addresses. */
#ifndef ATTEND_CLI_INPUT_H
#define ATTEND_CLI_INPUT_H

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

/** Reads a file of any type, or of f32, f16 or bf16. False after reporting why not. */
bool attend_source_read(const attend_source *s);
bool attend_source_numbers(const attend_source *s);
/** Converts the numbers of a file. False after reporting that there is no memory. */
bool attend_source_convert(const attend_source *s, attend_dtype dtype);
/** Whether all numbers are finite, or -inf if they may exclude; else reports the first that is not. */
bool attend_source_check(const attend_source *s, bool may_exclude);

/**
 * Reads key lengths, (B) or (B, Lq) of int32 or int64, each from 0 to Lk, as int32, and says which of both they are.
 * False after reporting why not.
 */
bool attend_source_lengths(const attend_source *s, int64_t batch, int64_t q_len, int64_t kv_len, attend_lengths *kind);

/** Paths of the files, NULL where the option was not given, and how to take them. */
typedef struct attend_input_files {
  const char *q, *k, *v, *kv_lengths, *mask, *bias, *alibi, *sinks;
  bool bf16_bits;     /**< uint16 is the bits of bf16 */
  attend_dtype dtype; /**< what q, k and v are converted to; default: their type if they share one, else f32 */
} attend_input_files;

/** What was read. */
typedef struct attend_input {
  attend_npy q, k, v, kv_lengths, mask, bias, alibi, sinks;
} attend_input;

/**
 * Reads all files, checks that they fit together, and sets everything of the problem and the tensors that follows from
 * them. On failure the file at fault has been reported. The input is to be freed either way.
 */
bool attend_input_read(const attend_input_files *files, attend_input *input, attend_problem *problem,
                       attend_tensors *tensors);

void attend_input_free(attend_input *input);

#endif
