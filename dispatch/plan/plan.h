/* SPDX-License-Identifier: Apache-2.0 */
/** A plan from the inside, for plan.c, which makes it, cut.c, which cuts its work up, and parallel.c, which runs it. */
#ifndef ATTEND_DISPATCH_PLAN_H
#define ATTEND_DISPATCH_PLAN_H

#include "dispatch/plan/sequences.h"

/** Which of a plan's kernels a sequence is for. */
enum { ATTEND_MANY, ATTEND_FEW, ATTEND_WAYS };

/**
 * Heads that are cut alike: those of one sequence, or all of a batch whose sequences have the same lengths. Their items
 * follow one another, head by head, and so do their partial results: head by head, chunk by chunk, split by split.
 */
typedef struct attend_share {
  int64_t first_item;
  int64_t partials_at; /**< rows of partial results before theirs */
  int64_t first_chunk; /**< arrival counters before theirs */
  int32_t sequence;    /**< the first */
  int32_t way;         /**< ATTEND_MANY or ATTEND_FEW queries */
  int32_t chunks;      /**< of a head */
  int32_t splits;      /**< slices of a chunk; 1 = keys are not split */
} attend_share;

/** The work of a run, cut up. */
typedef struct attend_cut {
  int64_t items, split_chunks;
  int64_t split_keys[ATTEND_WAYS];       /**< keys of a slice */
  int heads[ATTEND_WAYS];                /**< key/value heads of an item: more than 1 where they lie side by side */
  int64_t turns[ATTEND_WAYS];            /**< kv_heads / heads */
  int64_t begin[ATTEND_MOST_GROUPS + 1]; /**< first item of each group */
  int shares;
  int useful; /**< threads that the work pays for */
} attend_cut;

/**
 * The work of a plan is cut into chunks: tiling.slice_rows query rows of a key/value head of a sequence, or of all its
 * heads (tiling.heads), as long as that leaves items enough for all threads. A chunk is one slice for the kernel, or,
 * when keys are split, one slice for each range of so many keys and a merge. Where sequences may differ
 * (attend_is_ragged()) that is done in each run, by what they hold (cut.c).
 *
 * Parts take items from queues. An item is a chunk; or, where keys are split and there are too few chunks for all
 * parts, a single slice, and the part that finishes the last slice of a chunk merges it. Both compute the same, to the
 * bit.
 *
 * There is one queue for each group of cores that share a cache. It has neighbouring items, whole heads if there are
 * enough, so that keys and values are read into few caches, and from the same memory node run after run. A part begins
 * with the queue of the group that it runs on, and goes on with those of others when that is empty, its node's first.
 *
 * Workspace: attend_run_state with its queues, then the shares of a ragged run and what is known of masks that heads
 * share, then with slices as items an arrival counter per chunk and the partial results, then per part the kernels'
 * scratch and, with split chunks as items, room for the partial results of one.
 */
struct attend_plan {
  attend_resolved problem;
  attend_choice choice; /**< for all sequences, or those of more than few_queries; no kernel: nothing to compute */
  attend_choice few;    /**< for the others */
  int64_t few_queries;  /**< 0 = `choice` is for all */
  attend_host host;     /**< whose memory and threads it uses */
  int threads;          /**< the most parts of a run */
  bool bind;            /**< OpenMP's threads are kept on their group's cores during a run */

  bool ragged;                   /**< the work is cut up in each run */
  bool adapts;                   /**< then by how many keys there are; else slices have split_keys of the cut below */
  bool slices_as_items;          /**< else chunks */
  bool interleaves[ATTEND_WAYS]; /**< then heads take turns, slice by slice */
  attend_cut cut;                /**< of every run; of a ragged plan, of one whose sequences are as long as may be */
  attend_share share;            /**< its only one */
  double key_us[ATTEND_WAYS];    /**< what a run takes on one thread for each row of a chunk and key, roughly */

  int groups;                    /**< queues; 1 if the machine has only one, or one thread is enough */
  int cores[ATTEND_MOST_GROUPS]; /**< of each group, to be used */
  int all_cores;                 /**< their sum */

  int64_t partial_rows;            /**< there is room for, with slices as items */
  int64_t mask_rows;               /**< attend_mask_rows() */
  size_t shares_at, masks_at;      /**< bytes from the start of the workspace */
  size_t arrivals_at, partials_at; /**< likewise; with chunks as items, partials_at is from the start of a part's own */
  size_t parts_at, part_size;
  size_t workspace_size;
};

/** The choice of a share. */
static inline const attend_choice *attend_choice_of(const attend_plan *plan, const attend_share *share) {
  return share->way == ATTEND_FEW ? &plan->few : &plan->choice;
}

/** Items of one head of a share, or of all that are computed together. */
static inline int64_t attend_head_items(const attend_plan *plan, const attend_share *share) {
  return plan->slices_as_items ? (int64_t)share->chunks * share->splits : share->chunks;
}

/** Items of one sequence of a share. Those of its heads follow one another, or take turns where these lie side by side.
 */
static inline int64_t attend_sequence_items(const attend_plan *plan, const attend_cut *cut, const attend_share *share) {
  return cut->turns[share->way] * attend_head_items(plan, share);
}

/** Cuts up a run whose sequences all are as long as the problem allows, of which plan->share says how. */
void attend_cut_capacity(attend_plan *plan);

/** Cuts up a run of a ragged plan: `shares` has room for one for each sequence. */
void attend_cut_run(const attend_plan *plan, const attend_tensors *tensors, attend_cut *cut, attend_share *shares);

/** How many threads such a run pays for. */
int attend_cut_useful(const attend_plan *plan, const attend_tensors *tensors);

#endif
