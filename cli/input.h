/* SPDX-License-Identifier: Apache-2.0 */
/** The tensors of `attend run`: from .npy files to a problem and its addresses. */
#ifndef ATTEND_CLI_INPUT_H
#define ATTEND_CLI_INPUT_H

#include "cli/source.h"

/** The inputs, each an option of its own. */
typedef enum attend_input_id {
  INPUT_Q,
  INPUT_K,
  INPUT_V,
  INPUT_KV_LENGTHS,
  INPUT_POSITIONS,
  INPUT_Q_STARTS,
  INPUT_KV_STARTS,
  INPUT_KV_BEGINS,
  INPUT_KEY_RANGES,
  INPUT_BLOCK_TABLE,
  INPUT_MASK,
  INPUT_BIAS,
  INPUT_BIAS_HEAD_SCALE,
  INPUT_ALIBI,
  INPUT_SINKS,
  INPUTS
} attend_input_id;

extern const char *const attend_input_options[INPUTS];

/** Paths of the files, NULL where the option was not given, and how to take them. */
typedef struct attend_input_files {
  const char *path[INPUTS];
  bool bf16_bits;     /**< uint16 is the bits of bf16 */
  attend_dtype dtype; /**< what q, k and v are converted to; default: their type if they share one, else f32 */
  attend_dtype k_format, v_format; /**< what k and v are converted to instead, quantised if need be */
} attend_input_files;

/** What was read: arrays without data stand for options that were not given. */
typedef struct attend_input {
  attend_npy array[INPUTS];
  void *k_scales, *v_scales; /**< of attend_alloc(), where k or v was quantised */
} attend_input;

/** An input as errors have to name it. */
attend_source attend_input_source(const attend_input_files *files, attend_input *input, attend_input_id id);

/**
 * Reads all files, checks that they fit together, and sets everything of the problem and the tensors that follows from
 * them. On failure the file at fault has been reported. The input is to be freed either way.
 */
bool attend_input_read(const attend_input_files *files, attend_input *input, attend_problem *problem,
                       attend_tensors *tensors);

void attend_input_free(attend_input *input);

/* ----------------------------------------------------------------------------------------------- input_formats.c */

/** Converts k and v, which have been read, to the formats that were asked for. False after reporting why not. */
bool attend_input_quantise(const attend_input_files *files, attend_input *input, attend_problem *problem,
                           attend_tensors *tensors);

/* --------------------------------------------------------------------------------------------- input_sequences.c */

/**
 * The sizes of a problem, from the shapes of q, k and v, which have been read, and from what says where sequences lie
 * in them, which is read here. False after reporting why they do not fit.
 */
bool attend_input_shapes(const attend_input_files *files, attend_input *input, attend_problem *problem);

/** Reads what else the sequences have: lengths, positions, first keys, key ranges. After the shapes. */
bool attend_input_sequences(const attend_input_files *files, attend_input *input, attend_problem *problem);

/** Dimension `axis` of (B, H, L, D), whatever leading ones an array leaves out. */
int64_t attend_input_extent(const attend_npy *array, int axis);

#endif
