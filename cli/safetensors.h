/* SPDX-License-Identifier: Apache-2.0 */
/** Tensors of a .safetensors file: https://huggingface.co/docs/safetensors. Errors name the file, the tensor and why.
 */
#ifndef ATTEND_CLI_SAFETENSORS_H
#define ATTEND_CLI_SAFETENSORS_H

#include <cjson/cJSON.h>

#include "cli/npy.h"

/** An open file. */
typedef struct attend_safetensors {
  const char *option, *path; /**< for errors */
  FILE *file;
  cJSON *header;    /**< an object; its members but "__metadata__" are tensors */
  int64_t data_at;  /**< where the data begins, in bytes */
  int64_t data_end; /**< bytes of data */
} attend_safetensors;

/** Opens a file and reads its header. False after reporting why not; to be closed either way. */
bool attend_safetensors_open(attend_safetensors *s, const char *option, const char *path);
void attend_safetensors_close(attend_safetensors *s);

/** Whether there is a tensor of that name. */
bool attend_safetensors_has(const attend_safetensors *s, const char *name);

/** Reads a tensor of F32, F16 or BF16 as f32. False after reporting why not. */
bool attend_safetensors_read(const attend_safetensors *s, const char *name, attend_npy *array);

#endif
