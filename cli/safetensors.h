/* SPDX-License-Identifier: Apache-2.0 */
/** Tensors of a .safetensors file: https://huggingface.co/docs/safetensors. Errors name the file, the tensor and why.
 */
#ifndef ATTEND_CLI_SAFETENSORS_H
#define ATTEND_CLI_SAFETENSORS_H

#include "cli/npy.h"

/** A tensor, as far as it is kept in memory. Bytes count from where the header's text or the data begins. */
typedef struct attend_safetensors_tensor {
  char *name;
  int64_t entry_at;
  size_t entry_size;  /**< of its entry in the header, '"name": {...}' */
  int64_t begin, end; /**< of its data */
} attend_safetensors_tensor;

/** An open file. */
typedef struct attend_safetensors {
  const char *option, *path; /**< for errors */
  FILE *file;
  attend_safetensors_tensor *tensor; /**< in the order of their names */
  size_t count;
  int64_t data_at; /**< where the data begins, in bytes */
  int64_t data_size;
} attend_safetensors;

/**
 * Opens a file, reads its header, entry by entry, and checks that tensors fill the data without overlaps or holes.
 * False after reporting why not; to be closed either way.
 */
bool attend_safetensors_open(attend_safetensors *s, const char *option, const char *path);
void attend_safetensors_close(attend_safetensors *s);

/** Whether there is a tensor of that name. */
bool attend_safetensors_has(const attend_safetensors *s, const char *name);

/** Reads a tensor of F32, F16 or BF16 as f32. False after reporting why not. */
bool attend_safetensors_read(const attend_safetensors *s, const char *name, attend_npy *array);

#endif
