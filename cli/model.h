/* SPDX-License-Identifier: Apache-2.0 */
/**
 * The tensors of a model: one .safetensors file, or several beside an index that says which holds which tensor
 * (model.safetensors.index.json). Errors name the file, the tensor and why.
 */
#ifndef ATTEND_CLI_MODEL_H
#define ATTEND_CLI_MODEL_H

#include <limits.h>

#include "cli/output.h"
#include "cli/safetensors.h"

/** A tensor of an index. */
typedef struct attend_model_entry {
  const char *name, *file;
} attend_model_entry;

/** An open model. */
typedef struct attend_model {
  const char *option, *path;     /**< for errors */
  const attend_outputs *outputs; /**< none of which may be one of its shards */
  bool sharded;
  char *names; /**< those of an index, one after the other: entries point into them */
  size_t names_size;
  attend_model_entry *entry; /**< of an index, in the order of their names */
  size_t entries;
  attend_safetensors file; /**< the only one, or the one that was read last */
  char shard[PATH_MAX];    /**< its path, if it is one of several */
} attend_model;

/** Opens a file or, if its name ends in .json, an index. False after reporting why not; to be closed either way. */
bool attend_model_open(attend_model *m, const char *option, const char *path, const attend_outputs *outputs);
void attend_model_close(attend_model *m);

/** How many tensors there are, and the name of each, in order. */
size_t attend_model_count(const attend_model *m);
const char *attend_model_name(const attend_model *m, size_t i);
bool attend_model_has(const attend_model *m, const char *name);

/** Reads a tensor of F32, F16 or BF16 as f32. False after reporting why not. */
bool attend_model_read(attend_model *m, const char *name, attend_npy *array);

#endif
