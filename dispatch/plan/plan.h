/* SPDX-License-Identifier: Apache-2.0 */
/** A plan from the inside, for plan.c, which makes it, and parallel.c, which runs it. */
#ifndef ATTEND_DISPATCH_PLAN_H
#define ATTEND_DISPATCH_PLAN_H

#include "dispatch/dispatch.h"

/**
 * The work of a plan is cut into chunks: tiling.slice_rows query rows of a key/value head of a batch entry. A chunk is
 * one slice for the kernel, or, when keys are split, one slice for each range of tiling.split_keys keys and a merge.
 *
 * Parts pull items from queues. An item is a chunk; or, where there are too few chunks to go round, a single slice, and
 * whoever finishes the last slice of a chunk merges it. Both compute the same, to the bit.
 *
 * There is one queue for each group of cores that share a cache, and in it are neighbouring items, whole heads if there
 * are enough: so keys and values are read into few caches, and from the same memory node run after run. A part begins
 * with the queue of the group that it runs on, and goes on with those of others when that is empty, its node's first.
 *
 * Workspace: attend_run_state with its queues, then with slices as items an arrival counter and the partial results per
 * chunk, then per part the kernel's scratch and, with split chunks as items, room for the partial results of one.
 */
struct attend_plan {
  attend_resolved problem;
  attend_choice choice; /**< choice.kernel is NULL if there is nothing to compute */
  int threads;          /**< the most parts of a run */
  int worthwhile;       /**< of those, how many OpenMP threads the work pays for */
  bool bind;            /**< OpenMP's threads are kept on their group's cores during a run */

  int64_t head_chunks;  /**< chunks of one key/value head */
  int64_t splits;       /**< slices of a chunk, 1 = keys are not split */
  bool slices_as_items; /**< else chunks */
  int64_t items;

  int groups;                            /**< queues; 1 if the machine has only one, or one thread is enough */
  int cores[ATTEND_MOST_GROUPS];         /**< of each group, to be used */
  int all_cores;                         /**< their sum */
  int64_t begin[ATTEND_MOST_GROUPS + 1]; /**< first item of each group */

  int64_t split_stride; /**< floats from one slice's partial results to the next slice's */
  size_t arrivals_at;   /**< bytes from the start of the workspace */
  size_t partials_at;   /**< likewise, or from the start of a part's own memory with chunks as items */
  size_t parts_at, part_size;
  size_t workspace_size;
};

#endif
