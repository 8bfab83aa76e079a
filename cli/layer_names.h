/* SPDX-License-Identifier: Apache-2.0 */
/** What frameworks call the weights of an attention layer, and finding a layer in a model by that. */
#ifndef ATTEND_CLI_LAYER_NAMES_H
#define ATTEND_CLI_LAYER_NAMES_H

#include "attend/layers.h"
#include "cli/model.h"

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
  PART_SINKS,
  PART_SCORE,
  PARTS
} attend_layer_part;

/** A naming, and what its models do that their weights do not say. */
typedef struct attend_layer_naming {
  const char *model;
  const char *within;      /**< what the layer's own name ends with; NULL = anything */
  const char *part[PARTS]; /**< the names of tensors after the layer's; NULL = there is none */
  const char *unused;      /**< names, between spaces, of what is there too and changes nothing here */
  attend_weight_layout layout;
  attend_rope rope;   /**< not NONE: queries and keys are turned by position, and so */
  float scale;        /**< in the place of 1 / sqrt(D), if not 0 */
  bool per_head;      /**< QKV has the outputs of each head's query, key and value together */
  bool position_bias; /**< a bias by position is added to the scores */
  bool optional_out;  /**< the output projection may be missing */
  bool additive;
} attend_layer_naming;

enum { ATTEND_LAYER_MOST_NAME = 400 };

/**
 * Finds the layer that was asked for, or with NULL the only one. `prefix` gets its name, with a dot if it has one. NULL
 * after reporting that there is none, or more than one.
 */
const attend_layer_naming *attend_layer_find(const attend_model *m, const char *layer, bool additive,
                                             char prefix[ATTEND_LAYER_MOST_NAME]);

/**
 * Whether each tensor of a layer is a part of it, or known to change nothing, or is in `ignore`: names between commas,
 * each perhaps with a * at its end. `unused` gets the names of those that are no part. False after reporting others.
 */
bool attend_layer_check_unused(const attend_model *m, const attend_layer_naming *naming, const char *prefix,
                               const char *ignore, char *unused, size_t size);

#endif
