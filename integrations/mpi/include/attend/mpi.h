/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file mpi.h
 * attend over several processes: contexts that no one memory holds.
 *
 * A communicator's ranks share one attention problem. Each holds a part of it, and they compute together what one
 * machine would. How they share is the layout:
 *
 * ATTEND_MPI_KEYS: the keys and values of every sequence are spread, in one run of keys a rank, in the order of the
 * ranks. Queries are the same on all ranks, and so is the output. For decoding: each rank attends over its keys alone,
 * and the results are merged by their LSE, in a tree (Shyam et al. 2024, https://arxiv.org/abs/2408.04093). What moves
 * grows with the queries, not with the context.
 *
 * ATTEND_MPI_SEQUENCE: queries, keys and values are all spread. For prompts: each rank computes the output of its own
 * queries. Blocks of keys and values pass between ranks while the last ones are worked on, as in ring attention (Liu et
 * al. 2023, https://arxiv.org/abs/2310.01889). A block goes straight to the rank that needs it next, and not at all to
 * a rank whose queries do not attend it. With a causal mask, runs in order would leave the last rank with twice the
 * work of the average: ATTEND_MPI_ZIGZAG gives each rank a run of the first half and one of the second, so that all
 * have the same (as in Brandon et al. 2023, https://arxiv.org/abs/2311.09431, but in runs instead of single rows).
 *
 * ATTEND_MPI_HEADS: each rank has heads of its own, of whole sequences. Nothing moves but the agreement on a status.
 *
 *     attend_mpi_options o = ATTEND_MPI_OPTIONS_INIT;
 *     o.layout = ATTEND_MPI_KEYS;
 *     attend_mpi_plan *plan;
 *     attend_status s = attend_mpi_plan_create(&problem, &o, MPI_COMM_WORLD, &plan);
 *     if (s != ATTEND_OK) fprintf(stderr, "%s: %s\n", attend_status_string(s), attend_mpi_error_detail());
 *     for (;;) s = attend_mpi_plan_run(plan, &tensors);
 *     attend_mpi_plan_destroy(plan);
 *
 * WHAT A RANK SAYS. Its problem and tensors are those of attend/attend.h, and describe what this rank holds: how many
 * heads, queries and keys lie here, and how. Numbers that name a key count the keys of the whole sequence, from its
 * first one on whichever rank: columns of masks and biases (which must have all columns, whatever lies here),
 * key_ranges, kv_begins, lengths per query, positions and causal_offset. So does a bottom-right mask: it counts the
 * keys and queries of all ranks. Rows of masks and biases, key ranges and lengths per query are those of the queries
 * that lie here. Lengths per query may be beyond the keys that there are.
 *
 * With ATTEND_MPI_KEYS and ATTEND_MPI_SEQUENCE a rank may hold any number of keys (and queries) of a sequence, none
 * included: it says so by kv_lengths (per sequence), kv_starts or kv_len, and by q_starts or q_len. Ranks tell each
 * other at each run, and from that follows where each stands in the sequence: rank 0 has the first rows, rank 1 those
 * that follow. With ATTEND_MPI_ZIGZAG and R ranks a sequence is 2 R runs: of the rows that rank r holds, the first half
 * (the greater, if their number is odd) is run r, and the others are run 2 R - 1 - r. A sequence may have up to
 * ATTEND_MAX_EXTENT keys on all ranks together.
 *
 * ERRORS. Creating and running a plan are collective: all ranks of the communicator call them in the same order. Before
 * anything moves they agree on a status. If one rank fails, all of them return its status and its error detail, and
 * outputs are as they were. A rank that cannot take part, because it could not load its cache for instance, calls
 * attend_mpi_plan_run() with NULL for the tensors: so that all ranks learn of it, and none waits for ever. What MPI
 * itself reports, ATTEND_MPI_ERROR_COMMUNICATION, is returned on the ranks that see it alone; so is an error that shows
 * only after they have agreed, of which none is known. The library sets MPI_ERRORS_RETURN on its own duplicate of the
 * communicator, and on no other.
 *
 * BITS. The same ranks with the same numbers of rows give the same bits in every run, whatever arrives first and for
 * any number of threads. Another number of ranks merges in another order, and gives other bits, within rounding. One
 * rank gives the bits of attend_plan_run(), but for lengths per query. With ATTEND_MPI_KEYS all ranks have the same
 * bits.
 *
 * THREADS. MPI is called by the calling thread alone: MPI_THREAD_FUNNELED is enough. A plan holds memory of its own for
 * what moves, so that only one run of a plan may be under way; several plans may run on several threads with
 * MPI_THREAD_MULTIPLE. Where neither options nor environment say a number of threads, ranks on one machine that may use
 * the same cores share them: each takes its part of the number that one process would take.
 */
#ifndef ATTEND_MPI_H
#define ATTEND_MPI_H

#include <mpi.h>

#include "attend/attend.h"

#ifdef __cplusplus
extern "C" {
#endif

/** What MPI could not do; attend_mpi_error_detail() has MPI's own words. attend_status_string() does not know it. */
#define ATTEND_MPI_ERROR_COMMUNICATION ((attend_status) - 100)

/** What is spread over the ranks: see above. */
typedef enum attend_mpi_layout {
  ATTEND_MPI_KEYS = 1,     /**< keys and values; queries and output are the same on all */
  ATTEND_MPI_SEQUENCE = 2, /**< queries, keys and values: each rank has the output of its queries */
  ATTEND_MPI_HEADS = 3     /**< heads: each rank has whole sequences */
} attend_mpi_layout;

/** Which rows of a sequence a rank holds, with ATTEND_MPI_SEQUENCE. */
typedef enum attend_mpi_order {
  ATTEND_MPI_IN_ORDER = 0, /**< a run of rows, in the order of the ranks */
  ATTEND_MPI_ZIGZAG = 1    /**< two: of 2 R runs those of r and 2 R - 1 - r. Balances causal masks */
} attend_mpi_order;

/** How keys and values come to the queries, with ATTEND_MPI_SEQUENCE. */
typedef enum attend_mpi_transport {
  ATTEND_MPI_TRANSPORT_AUTO = 0, /**< gather if all keys and values are at most 1 MiB, else ring */
  ATTEND_MPI_RING = 1,           /**< block by block, while the last one is worked on */
  ATTEND_MPI_GATHER = 2          /**< all at once to all ranks, before work begins: needs memory for all of them */
} attend_mpi_transport;

/** How results over the keys of each rank are merged, with ATTEND_MPI_KEYS. */
typedef enum attend_mpi_combine {
  ATTEND_MPI_COMBINE_AUTO = 0, /**< slices for results of more than 256 KiB on more than two ranks, else tree */
  ATTEND_MPI_TREE = 1,         /**< by pairs: log2(R) steps, each with all rows */
  ATTEND_MPI_SLICES = 2        /**< each rank merges a slice of the rows from all ranks, and all gather the slices */
} attend_mpi_combine;

/** How a problem is shared. The same on all ranks, but for `local`. */
typedef struct attend_mpi_options {
  size_t struct_size;             /**< sizeof(attend_mpi_options), set by ATTEND_MPI_OPTIONS_INIT */
  const attend_options *local;    /**< of what this rank computes: kernel, threads, memory. NULL = defaults */
  attend_mpi_layout layout;       /**< has no default */
  attend_mpi_order order;         /**< default: in order */
  attend_mpi_transport transport; /**< default: by size */
  attend_mpi_combine combine;     /**< default: by size */
} attend_mpi_options;

#define ATTEND_MPI_OPTIONS_INIT ATTEND_INIT_(attend_mpi_options)

/** What one rank did in the last run of a plan. */
typedef struct attend_mpi_report {
  size_t struct_size;      /**< sizeof(attend_mpi_report), set by ATTEND_MPI_REPORT_INIT */
  double agree_seconds;    /**< checking, and agreeing with the other ranks that all is well */
  double compute_seconds;  /**< attention and merging, and packing what is sent */
  double exchange_seconds; /**< waiting for other ranks; what moves during work is not in it */
  double flops;            /**< 2 (D + Dv) for each attended pair of a query and a key, by everything but masks and
                                biases */
  uint64_t sent, received; /**< bytes of keys, values and results */
} attend_mpi_report;

#define ATTEND_MPI_REPORT_INIT ATTEND_INIT_(attend_mpi_report)

/** A shared problem, and this rank's part of it. Opaque. */
typedef struct attend_mpi_plan attend_mpi_plan;

/**
 * Makes a plan. Collective over `comm`, which is duplicated and may be freed afterwards; MPI must have been
 * initialised. The problem says what lies on this rank, as above; its sizes are capacities. Ranks must agree on
 * everything in it but its capacities of queries (with ATTEND_MPI_SEQUENCE) and keys, strides, pages, and whether keys
 * lie in starts, lengths or pages; with ATTEND_MPI_HEADS on nothing. All memory is allocated here. On success *plan is
 * to be destroyed with attend_mpi_plan_destroy(); on an error it is not touched.
 *
 * With ATTEND_MPI_KEYS and ATTEND_MPI_SEQUENCE, dropout and the outputs weights and scores are
 * ATTEND_ERROR_UNSUPPORTED. ATTEND_MPI_SEQUENCE moves keys and values of f32, f16 and bf16 only.
 */
ATTEND_API attend_status attend_mpi_plan_create(const attend_problem *problem, const attend_mpi_options *options,
                                                MPI_Comm comm, attend_mpi_plan **plan);

/** Frees a plan. NULL is allowed. Collective, and before MPI_Finalize(), as it frees the communicator. */
ATTEND_API void attend_mpi_plan_destroy(attend_mpi_plan *plan);

/**
 * Runs a plan. Collective. Without allocation (of this library; MPI may), on the threads of the plan. Tensors are those
 * of this rank. positions, kv_begins, sinks, alibi_slopes and, with ATTEND_MPI_KEYS, q_starts must be the same on all
 * ranks: they are compared. NULL for `tensors` is an error on all ranks.
 */
ATTEND_API attend_status attend_mpi_plan_run(attend_mpi_plan *plan, const attend_tensors *tensors);

/**
 * Says on one line, for the plan's capacities, how the problem is shared, what this rank computes and what it sends, in
 * FLOP and bytes, and which kernel it runs. Not collective. Writes and returns as attend_plan_explain() does.
 */
ATTEND_API size_t attend_mpi_plan_explain(const attend_mpi_plan *plan, char *buffer, size_t size);

/** What this rank did in the last run; zeros before the first. Not collective. */
ATTEND_API attend_status attend_mpi_plan_report(const attend_mpi_plan *plan, attend_mpi_report *report);

/**
 * Why the last call on this thread that returned an error failed, and on which rank. Never NULL; empty before any
 * error. Valid until the next call into this library on the same thread.
 */
ATTEND_API const char *attend_mpi_error_detail(void);

#ifdef __cplusplus
}
#endif

#endif
