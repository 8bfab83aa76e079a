/* SPDX-License-Identifier: Apache-2.0 */
/** What a run keeps in its workspace while it is under way. */
#ifndef ATTEND_DISPATCH_RUN_STATE_H
#define ATTEND_DISPATCH_RUN_STATE_H

#include <stdatomic.h>

#include "dispatch/plan/plan.h"

/** Slices of a chunk that are done. */
typedef atomic_int_fast32_t attend_arrivals;

/** Items that are handed out, alone on its cache line: every part writes it. */
typedef struct attend_queue {
  _Alignas(64) atomic_int_fast64_t next; /**< item to hand out */
} attend_queue;

/** The head of a workspace. */
typedef struct attend_run_state {
  _Alignas(64) const attend_plan *plan; /**< whose run was begun */
  attend_tensors tensors;
  const attend_cut *cut; /**< the plan's, or this one: */
  attend_cut own;
  const attend_share *shares;
  attend_queue queues[]; /**< one for each of plan->groups */
} attend_run_state;

#endif
