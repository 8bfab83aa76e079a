/* SPDX-License-Identifier: Apache-2.0 */
/** What the parts of libattend_mpi share. Of attend itself they link the public functions alone. */
#ifndef ATTEND_MPI_INTERNAL_H
#define ATTEND_MPI_INTERNAL_H

#include <stdbool.h>

#include "attend/mpi.h"
#include "kernels/formats.h"
#include "kernels/integers.h"
#include "kernels/key_range.h"

/* ------------------------------------------------------------------------------------------------------- status.c */

/** Keeps the detail of an error for attend_mpi_error_detail(), and returns its status. */
attend_status attend_mpi_fail(attend_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));
/** The same of an error of attend's own, whose detail is attend_error_detail(). */
attend_status attend_mpi_fail_as(attend_status status);
/** What an MPI function returned. */
attend_status attend_mpi_check(int code, const char *function);

/**
 * Makes the error of `first`, the lowest rank that has one, that of all ranks. Every rank knows `first`, which is
 * `ranks` where there is none; `status` is the caller's own.
 */
attend_status attend_mpi_spread(MPI_Comm comm, int rank, int ranks, int first, attend_status status);
/** The same where ranks do not know yet which of them have an error. */
attend_status attend_mpi_agree(MPI_Comm comm, int rank, int ranks, attend_status status);

/* ----------------------------------------------------------------------------------------------------------- plans */

/** Numbers that a rank tells the others at each run, before the queries and keys of each sequence. */
enum { SAID_STATUS, SAID_POSITIONS, SAID_BEGINS, SAID_STARTS, SAID_SINKS, SAID_SLOPES, SAID_COUNT };

/** A run of rows of a sequence: where it stands in the whole, and at which row it lies on its rank. */
typedef struct attend_mpi_block {
  int64_t begin, count, local;
} attend_mpi_block;

/** Keys and values of a rank, as they move: row after row, the heads of a row side by side. */
typedef struct attend_mpi_rows {
  char *k, *v;
} attend_mpi_rows;

struct attend_mpi_plan {
  attend_problem p; /**< of this rank, with defaults of heads, dims, types and strides filled in */
  attend_options local;
  attend_mpi_options o; /**< without AUTO */
  MPI_Comm comm;
  int rank, ranks;
  int64_t blocks; /**< runs of a sequence on all ranks */

  attend_plan *whole; /**< one rank or heads: what runs. Else it checks tensors, with nothing that counts whole
                           sequences */
  attend_plan *part;  /**< queries that lie here, over keys of one rank */
  void *workspace;
  size_t workspace_size;
  void *memory; /**< everything below */
  size_t memory_size;

  int32_t *said, *heard;                /**< of this rank, and of all */
  int32_t *q_begin, *k_begin;           /**< (B, blocks + 1): where runs begin in their sequence */
  int32_t *positions, *begins, *ranges; /**< for `part` */
  int32_t *no_queries;                  /**< q_starts of sequences that have none */

  /* keys */
  float *result, *other;                      /**< outputs and LSE of all rows, merged so far; of another rank */
  float *no_sinks;                            /**< (Hq), -inf */
  const void **outs;                          /**< (ranks), for merging */
  const float **lses;                         /**< likewise */
  char *mask, *bias;                          /**< columns of this rank's keys */
  attend_strides4 mask_strides, bias_strides; /**< of these */

  /* sequence */
  int64_t chunk;                   /**< queries that are worked on at a time */
  int64_t k_row, v_row;            /**< bytes of a row of all heads */
  int64_t q_rows, k_rows;          /**< that there is room for on this rank */
  int64_t most_k_rows, all_k_rows; /**< likewise, on one rank, and on all */
  int64_t most_kv_len, all_kv_len; /**< the same of one sequence */
  char *own, *coming[2];           /**< packed keys and values */
  char *gathered, *ordered;
  float *sum, *sum_lse, *part_out, *part_lse;
  int *counts, *displacements;
  int32_t *needs, *gives; /**< which rank's keys this rank needs, and who needs those of this rank */
  MPI_Request *requests;
  int most_requests;

  attend_status late;                 /**< an error of this rank alone, in the midst of a run */
  attend_mpi_report report, expected; /**< of the last run; of one with sequences as long as there is room for */
};

/* -------------------------------------------------------------------------------------------------------- shares.c */

/** What a run of a plan needs to know. */
typedef struct attend_mpi_run {
  attend_mpi_plan *plan;
  attend_tensors t; /**< of all fields; those that the problem does not have are NULL */
} attend_mpi_run;

/** Checks the tensors and agrees with the other ranks: on a status, and on where each stands in each sequence. */
attend_status attend_mpi_share(attend_mpi_plan *plan, const attend_tensors *tensors, attend_mpi_run *run);
/** The same for a plan that needs no other rank's numbers: one rank, or heads. */
attend_status attend_mpi_share_alone(attend_mpi_plan *plan, const attend_tensors *tensors, attend_mpi_run *run);
/** The same as if sequences had all that there is room for. Tensors of a run are NULL then. */
attend_status attend_mpi_share_capacities(attend_mpi_plan *plan);

/** Queries and keys of a sequence on a rank, after attend_mpi_share(). */
int64_t attend_mpi_queries(const attend_mpi_plan *plan, int rank, int64_t b);
int64_t attend_mpi_keys(const attend_mpi_plan *plan, int rank, int64_t b);
/** The first row of a sequence among the rows of this rank's queries, packed or not. */
int64_t attend_mpi_first_query(const attend_mpi_run *run, int64_t b);

/** How many runs of a sequence a rank holds, and one of them. */
int attend_mpi_held(const attend_mpi_plan *plan);
attend_mpi_block attend_mpi_query_block(const attend_mpi_plan *plan, int rank, int64_t b, int n);
attend_mpi_block attend_mpi_key_block(const attend_mpi_plan *plan, int rank, int64_t b, int n);

/** Which keys of the whole sequence the queries of a run of it attend. They count from the first of them. */
key_limits attend_mpi_limits(const attend_mpi_run *run, int64_t b, const attend_mpi_block *queries);
/** Keys of which the first `queries` attend none outside: maybe more than they attend. Needs a look at each query only
 * where these have ranges or lengths of their own. */
key_range attend_mpi_reach(const key_limits *limits, int64_t queries);
/** Pairs of a query and a key from `begin` to below `end` that attends it, masks and biases aside. */
double attend_mpi_pairs(const key_limits *limits, int64_t queries, int64_t begin, int64_t end);

/** Work of this rank in a run, as attend_mpi_report says. */
double attend_mpi_flops(const attend_mpi_run *run);

/** The numbers of attend_tensors that make `limits` true for keys that count from `first`. */
int32_t attend_mpi_position_from(const key_limits *limits, int64_t first);
int32_t attend_mpi_begin_from(const key_limits *limits, int64_t first);
void attend_mpi_ranges_from(const key_limits *limits, int64_t queries, int64_t first, int32_t *ranges);

/* --------------------------------------------------------------------------------------- keys.c, combine.c, sequence.c
 */

attend_status attend_mpi_run_keys(attend_mpi_run *run);
/** Merges the results of all ranks, of so many rows, into plan->result of each. */
attend_status attend_mpi_combine_rows(attend_mpi_plan *plan, int64_t rows);
attend_status attend_mpi_run_sequence(attend_mpi_run *run);
/** Whether queries of a rank attend keys of another: whether these have to move. */
bool attend_mpi_needs(const attend_mpi_run *run, int rank, int from);

/** Fills in plan->expected. Collective. */
attend_status attend_mpi_expect(attend_mpi_plan *plan);

/**
 * Whether a plan does what attend_plan_run() does: heads, or one rank. But lengths per query may here be beyond the
 * keys that there is room for, on one rank as on several.
 */
static inline bool attend_mpi_is_alone(const attend_mpi_plan *plan) {
  if (plan->o.layout == ATTEND_MPI_HEADS) return true;
  return plan->ranks == 1 && plan->p.kv_lengths != ATTEND_LENGTHS_PER_QUERY;
}

/** Rows that results have room for. */
int64_t attend_mpi_result_rows(const attend_problem *p);

/** Bytes of packed keys before the values, and of both. */
static inline size_t attend_mpi_values_at(const attend_mpi_plan *plan, int64_t rows) {
  return ((size_t)rows * (size_t)plan->k_row + 63) / 64 * 64;
}
static inline size_t attend_mpi_packed_size(const attend_mpi_plan *plan, int64_t rows) {
  return attend_mpi_values_at(plan, rows) + (size_t)rows * (size_t)plan->v_row;
}

/** MPI counts in int: what is larger moves in pieces. */
#define ATTEND_MPI_PIECE ((size_t)64 << 20)

#endif
