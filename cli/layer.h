/* SPDX-License-Identifier: Apache-2.0 */
/** `attend layer`: what it is asked for, what a run holds, and what is different from one kind of layer to the other.
 */
#ifndef ATTEND_CLI_LAYER_H
#define ATTEND_CLI_LAYER_H

#include "cli/heatmap.h"
#include "cli/layer_parts.h"
#include "cli/output.h"

/** What the command line asks for. */
typedef struct attend_layer_request {
  const char *query, *key, *value, *out, *weights, *heatmap, *tokens, *key_tokens;
  const char *key_padding_mask, *attn_mask, *attention_mask, *sinks, *rope_frequencies, *kv_lengths;
  attend_layer_files files;
  attend_mha_problem mha; /**< with the fields that options set */
  attend_options options;
  bool additive, sequence_first, average, explain;
  bool rope_given; /**< --rope, perhaps of none */
} attend_layer_request;

/** Everything a run holds, so that it is released in one place. */
typedef struct attend_layer_session {
  attend_npy query, key, value; /**< key and value without data stand for the query and the key */
  const float *query_data, *key_data, *value_data;
  int64_t batch, q_len, kv_len, q_dim, k_dim, v_dim;

  /* Set by the kind, when it has read what is its own. */
  int64_t out_dim;
  int64_t heads;           /**< of the attention weights; 0 = they have no such dimension */
  int64_t keys;            /**< likewise: kv_len and what is appended */
  const char *appended[2]; /**< how appended keys are called; NULL = there is none */
  size_t workspace_size;

  attend_layer_parts parts;
  attend_labels query_labels, key_labels;
  attend_outputs outputs;
  float *out, *weights;
  void *workspace;
  char *svg;

  struct {
    attend_npy key_padding_mask, attn_mask, sinks, rope_frequencies;
    attend_mha_problem problem;
    attend_mha_tensors tensors;
    attend_mha_plan *plan;
  } mha;
  struct {
    attend_npy kv_lengths;
    attend_additive_problem problem;
    attend_additive_tensors tensors;
    attend_additive_plan *plan;
  } additive;
} attend_layer_session;

/** A kind of layer. Its functions are called in this order; those that can fail report why. */
typedef struct attend_layer_kind {
  /** Takes the weights, which are read, and reads masks and lengths, which have to fit the sequences. */
  bool (*read)(const attend_layer_request *r, attend_layer_session *s);
  bool (*make_plan)(const attend_layer_request *r, attend_layer_session *s);
  bool (*run)(attend_layer_session *s);
  size_t (*explain)(const attend_layer_session *s, char *text, size_t size);
  void (*print_shape)(const attend_layer_session *s, FILE *to);
  void (*release)(attend_layer_session *s);
} attend_layer_kind;

extern const attend_layer_kind attend_layer_mha, attend_layer_additive;

#endif
