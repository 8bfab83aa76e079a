/* SPDX-License-Identifier: Apache-2.0 */
/** The tensors of `attend run`: from .npy files to a problem and its addresses. */
#ifndef ATTEND_CLI_INPUT_H
#define ATTEND_CLI_INPUT_H

#include "attend/attend.h"
#include "cli/npy.h"

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
