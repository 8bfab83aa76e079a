/* SPDX-License-Identifier: Apache-2.0 */
/** A multi-head attention plan from the inside, for the files that make and run it. */
#ifndef ATTEND_LAYERS_MHA_H
#define ATTEND_LAYERS_MHA_H

#include "dispatch/dispatch.h"
#include "layers/linear.h"

/** The mask or the bias of the attention: (B, Hq, Lq, T), extents of 1 broadcast. */
typedef struct attend_mha_scores {
  bool used;
  int64_t batch, heads, queries;
  size_t at; /**< bytes from the start of the workspace */
} attend_mha_scores;

struct attend_mha_plan {
  attend_mha_problem p; /**< no field at its default value any more */
  attend_linear_function *run_linear;
  attend_linear q, k, v, out;
  attend_plan *core;
  attend_host host;
  int threads;

  int64_t keys;      /**< T: the key axis of the attention */
  int64_t mask_keys; /**< the key axis of the caller's masks */
  int appended;      /**< keys behind those */
  /** Of what is projected in the workspace, and of what the attention gives: in the workspace with out_proj, else out.
   */
  attend_sequence_strides new_q, new_k, new_v, attended;
  bool causal_in_mask; /**< appended keys stand behind all others, but every query attends them */
  bool bias_in_place;  /**< the bias is a mask of the caller's as it stands, else put together in the workspace */
  attend_mha_scores mask, bias;

  /** Bytes from the start of the workspace. */
  size_t q_at, k_at, v_at, attended_at, lengths_at, weights_at, core_at;
  size_t core_size, workspace_size;
};

/** Checks a problem and fills in its defaults and the projections. */
attend_status attend_mha_resolve(const attend_mha_problem *problem, attend_mha_plan *plan);

/** Decides what the attention's masks are made of, takes room for them, and sets those fields of its problem. */
attend_status attend_mha_plan_masks(attend_mha_plan *plan, attend_problem *core);
/** Puts them together in the workspace and sets mask, bias and kv_lengths of the attention's tensors. */
void attend_mha_make_masks(const attend_mha_plan *plan, const attend_mha_tensors *t, char *workspace,
                           attend_tensors *core);

#endif
