/* SPDX-License-Identifier: Apache-2.0 */
/** A multi-head attention plan from the inside, for the files that make and run it. */
#ifndef ATTEND_LAYERS_MHA_H
#define ATTEND_LAYERS_MHA_H

#include <stdatomic.h>

#include "dispatch/plan/sequences.h"
#include "layers/linear.h"

/** The mask or the bias of the attention: (B, Hq, Lq, T), or packed (Hq, q_total, T); extents of 1 broadcast. */
typedef struct attend_mha_scores {
  bool used, packed;
  int64_t batch, heads, queries;
  size_t at; /**< bytes from the start of the workspace */
} attend_mha_scores;

/** What a run does, one after the other, as far as the problem needs it. */
typedef enum attend_mha_phase {
  ATTEND_MHA_PROJECT, /**< queries, keys and values */
  ATTEND_MHA_STORE,   /**< RoPE, and what goes into the cache or after the projected keys */
  ATTEND_MHA_ATTEND,
  ATTEND_MHA_AVERAGE, /**< weights over the heads */
  ATTEND_MHA_OUTPUT,  /**< the output projection */
  ATTEND_MHA_PHASES
} attend_mha_phase;

struct attend_mha_plan {
  attend_mha_problem p; /**< no field at its default value any more */
  attend_linear_function *run_linear;
  attend_linear q, k, v, out;
  attend_plan *core;
  attend_host host;
  const attend_kernel *append; /**< puts new keys and values into a cache */
  /** Which of the keys that the masks count are attended, as the caller says it; not all fields are set. */
  attend_resolved said;
  int threads;

  int64_t keys;      /**< T: the key axis of the attention */
  int64_t mask_keys; /**< the key axis of the caller's masks */
  int appended;      /**< keys after those */
  /** Of what is projected in the workspace, and of what the attention gives: in the workspace with out_proj, else out.
   */
  attend_sequence_strides new_q, new_k, new_v, attended;
  bool k_direct, v_direct; /**< projected where they stay, in the cache */
  bool ranges_in_mask;     /**< appended keys stand after all others, but every query attends them */
  bool bias_in_place;      /**< the bias is a mask of the caller's as it stands, else put together in the workspace */
  attend_mha_scores mask, bias;

  attend_mha_phase phase[ATTEND_MHA_PHASES];
  int phases;

  /** Bytes from the start of the workspace, which begins with an attend_mha_run. */
  size_t q_at, k_at, v_at, attended_at, lengths_at, frequencies_at, angles_at, weights_at, core_at;
  size_t angles_size; /**< of each part */
  size_t core_size, workspace_size;
};

/** Work that parts take piece by piece. Alone on its cache line: every part writes it. */
typedef struct attend_mha_queue {
  _Alignas(64) atomic_int_fast64_t next;
} attend_mha_queue;

/** The head of a workspace: a run that was begun. */
typedef struct attend_mha_run {
  const attend_mha_plan *plan;
  attend_mha_tensors t;
  attend_tensors core;
  attend_linear_call in[ATTEND_LINEAR_CALLS], out;
  int32_t q_rows[2], k_rows[2]; /**< 0, and the rows of all packed sequences: for projections of all at once */
  int64_t chunks;               /**< of ATTEND_MHA_STORE, for each sequence */
  attend_mha_queue projected, stored, averaged, finished;
} attend_mha_run;

/** Checks a problem and fills in its defaults and the projections. */
attend_status attend_mha_resolve(const attend_mha_problem *problem, attend_mha_plan *plan);

/** Decides what the attention's masks are made of, takes room for them, and sets those fields of its problem. */
attend_status attend_mha_plan_masks(attend_mha_plan *plan, attend_problem *core);
/** Puts them together in the workspace and sets mask and bias of the attention's tensors, whose lengths are set. */
void attend_mha_make_masks(const attend_mha_plan *plan, const attend_mha_tensors *t, char *workspace,
                           attend_tensors *core);

/** Checks the tensors of a run, and writes a full-size copy in which those that the problem does not have are NULL. */
attend_status attend_mha_check_tensors(const attend_mha_plan *plan, const attend_mha_tensors *tensors,
                                       attend_mha_tensors *full);

/** New keys of a sequence. */
static inline int64_t attend_mha_new_keys(const attend_mha_problem *p, const attend_mha_tensors *t, int64_t b) {
  return p->kv_starts ? t->kv_starts[b + 1] - t->kv_starts[b] : p->kv_len;
}

/** Prepares a workspace, whose size was checked. */
attend_status attend_mha_begin(const attend_mha_plan *plan, const attend_mha_tensors *tensors, void *workspace);
/** Parts that ATTEND_MHA_STORE or ATTEND_MHA_AVERAGE pays for, at least 1. */
int attend_mha_useful(const attend_mha_run *run, attend_mha_phase phase);
/** A part of a phase. */
attend_status attend_mha_run_phase(attend_mha_run *run, attend_mha_phase phase, int part, int parts);

#endif
