/* SPDX-License-Identifier: Apache-2.0 */
/** Sequences of a batch: their lengths, positions and memory. The one place that knows batches, starts and pages. */
#ifndef ATTEND_DISPATCH_SEQUENCES_H
#define ATTEND_DISPATCH_SEQUENCES_H

#include "dispatch/dispatch.h"

/** What a sequence of a run has. */
typedef struct attend_sequence {
  int64_t queries, keys;
  int64_t first_key;        /**< keys before it are not attended */
  int64_t q_start, k_start; /**< its first rows in packed tensors; 0 where they are not packed */
} attend_sequence;

attend_sequence attend_sequence_of(const attend_resolved *problem, const attend_tensors *tensors, int64_t b);

/** Scales and zero points that begin at element `at` of tensors in which they lie so; `paged`: `batch` is from page to
 * page. */
attend_row_scales attend_scales_from(const attend_scaling *s, const void *base, const void *zeros, int64_t at,
                                     bool paged);

/** Which keys its queries attend. */
key_limits attend_limits_of(const attend_resolved *problem, const attend_tensors *tensors, int64_t b,
                            const attend_sequence *sequence);

/**
 * Rows of the table of what masks do, attend_mask_blocks() bytes each, which the heads of a run share; 0 where there
 * are no masks or heads have their own.
 */
int64_t attend_mask_rows(const attend_problem *p);
int64_t attend_mask_blocks(const attend_problem *p);

/** How many of them a run uses. */
int64_t attend_mask_rows_used(const attend_problem *p, const attend_tensors *tensors);

/** Shows one of its key/value heads. `masks_seen` is that table, or NULL. */
void attend_view_of(const attend_resolved *problem, const attend_tensors *tensors, int64_t b, int64_t kv_head,
                    unsigned char *masks_seen, attend_view *view);

/** Whether sequences may differ in what there is to compute, so that work is to be cut up anew in each run. */
static inline bool attend_is_ragged(const attend_problem *p) {
  return p->kv_lengths == ATTEND_LENGTHS_PER_BATCH || p->q_starts || p->kv_starts || p->kv_begins;
}

/** The limits of a sequence as long as the problem allows: for costs, before any tensor is known. */
key_limits attend_capacity_limits(const attend_resolved *problem);

/** The stride of a block table for so many rows in pages: 0 becomes the least; ATTEND_ERROR_INVALID_ARGUMENT if less.
 */
attend_status attend_resolve_table_stride(const char *rows_field, int64_t rows, int64_t page_rows, int64_t *stride);

/** ATTEND_ERROR_INVALID_ARGUMENT where starts do not rise from 0 in steps of at most `most` to at most `total`. */
attend_status attend_check_starts(const char *name, const int32_t *starts, int64_t batch, const char *most_field,
                                  int64_t most, const char *total_field, int64_t total);

/** Checks what of a run says how long sequences are and where they lie: nothing then reads beyond a tensor. */
attend_status attend_check_sequences(const attend_resolved *problem, const attend_tensors *tensors);

#endif
