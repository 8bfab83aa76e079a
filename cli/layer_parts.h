/* SPDX-License-Identifier: Apache-2.0 */
/** The weights of `attend layer`: from .npy files, or from a model's file under the names its framework gives them. */
#ifndef ATTEND_CLI_LAYER_PARTS_H
#define ATTEND_CLI_LAYER_PARTS_H

#include "attend/layers.h"
#include "cli/npy.h"

/**
 * What a layer is made of. Q, K and V, or QKV, which is packed, are what multi-head attention needs at least; Q, K and
 * SCORE what additive attention needs.
 */
typedef enum attend_layer_part {
  PART_Q,
  PART_K,
  PART_V,
  PART_QKV,
  PART_OUT,
  PART_Q_BIAS,
  PART_K_BIAS,
  PART_V_BIAS,
  PART_QKV_BIAS,
  PART_OUT_BIAS,
  PART_BIAS_K,
  PART_BIAS_V,
  PART_SCORE,
  PARTS
} attend_layer_part;

/** The options of the .npy files, by part; NULL for BIAS_K and BIAS_V, which only models have. */
extern const char *const attend_layer_part_options[PARTS];

/** Where the weights are: NULL where an option was not given. */
typedef struct attend_layer_files {
  const char *model, *layer;   /**< a .safetensors file, and what is before the names of the layer's tensors */
  const char *part[PARTS];     /**< .npy files */
  attend_weight_layout layout; /**< of the .npy files */
} attend_layer_files;

/** What was read, as f32, and how errors call it. */
typedef struct attend_layer_parts {
  attend_npy part[PARTS];
  char name[PARTS][4096 + 512]; /**< option, path, and what the part is called in a model */
} attend_layer_parts;

/**
 * Reads the weights, and sets what follows from them: dims and strides of a problem that has embed_dim, k_dim, v_dim,
 * q_heads and perhaps kv_heads already, and the addresses. False after reporting why not; to be freed either way.
 */
bool attend_layer_parts_read_mha(const attend_layer_files *files, attend_layer_parts *parts, attend_mha_problem *p,
                                 attend_mha_tensors *t);

/** Likewise, of a problem that has q_dim and k_dim. A bias of the keys is added to that of the queries. */
bool attend_layer_parts_read_additive(const attend_layer_files *files, attend_layer_parts *parts,
                                      attend_additive_problem *p, attend_additive_tensors *t);

void attend_layer_parts_free(attend_layer_parts *parts);

#endif
