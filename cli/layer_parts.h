/* SPDX-License-Identifier: Apache-2.0 */
/** The weights of `attend layer`: from .npy files, or from a model under the names its framework gives them. */
#ifndef ATTEND_CLI_LAYER_PARTS_H
#define ATTEND_CLI_LAYER_PARTS_H

#include "cli/layer_names.h"

/** The options of the .npy files, by part; NULL for what only models have, or is no option of weights. */
extern const char *const attend_layer_part_options[PARTS];

/** Where the weights are: NULL where an option was not given. */
typedef struct attend_layer_files {
  const char *model, *layer;   /**< a model, and what is before the names of the layer's tensors */
  const char *ignore;          /**< names of the layer's tensors that are left out, between commas */
  const char *part[PARTS];     /**< .npy files */
  bool bf16_bits;              /**< their uint16 is the bits of bf16 */
  attend_weight_layout layout; /**< of the .npy files */
} attend_layer_files;

/** What was read, as f32, and how errors call it. */
typedef struct attend_layer_parts {
  attend_npy part[PARTS];
  attend_weight_layout layout;
  char name[PARTS][4096 + 512];        /**< option, path, and what the part is called in a model */
  const attend_layer_naming *naming;   /**< that of a model, else NULL */
  char prefix[ATTEND_LAYER_MOST_NAME]; /**< and what is before it */
  char unused[600];                    /**< names of the layer's tensors that are left out */
} attend_layer_parts;

/**
 * Reads the weights. None of the outputs may be a shard of their model. False after reporting why not; to be freed
 * either way.
 */
bool attend_layer_parts_read(const attend_layer_files *files, bool additive, const attend_outputs *outputs,
                             attend_layer_parts *parts);

/**
 * Sets what follows from the weights: dims and strides of a problem that has embed_dim, k_dim, v_dim, q_heads,
 * weight_layout and perhaps kv_heads already, and the addresses. False after reporting why they do not fit.
 */
bool attend_layer_parts_take_mha(attend_layer_parts *parts, attend_mha_problem *p, attend_mha_tensors *t);

/** Likewise, of a problem that has q_dim and k_dim. A bias of the keys is added to that of the queries. */
bool attend_layer_parts_take_additive(attend_layer_parts *parts, attend_additive_problem *p,
                                      attend_additive_tensors *t);

void attend_layer_parts_free(attend_layer_parts *parts);

#endif
