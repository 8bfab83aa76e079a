/* SPDX-License-Identifier: Apache-2.0 */
/** The checks of libattend_mpi, each of them on all ranks of MPI_COMM_WORLD together. */
#ifndef ATTEND_MPI_TESTS_GRID_H
#define ATTEND_MPI_TESTS_GRID_H

#include <stdbool.h>

#include "attend/mpi.h"
#include "verify/internal.h"

/** What one rank holds of a case. */
typedef struct held {
  attend_problem problem;
  attend_tensors tensors;
  int64_t *q_count, *k_count; /**< (ranks, B) of all ranks */
  void *memory[16];           /**< whatever is to be freed */
  int memories;
} held;

/** A way to share a case. */
typedef struct way {
  const char *name;
  attend_mpi_layout layout;
  attend_mpi_order order;
  attend_mpi_transport transport;
  attend_mpi_combine combine;
} way;

/** Makes what this rank holds; `key` decides how rows are spread and where keys lie. false: no memory. */
bool held_make(held *h, const attend_verify_data *data, const way *w, int rank, int ranks, uint64_t key);
void held_free(held *h);

/** The rows of a sequence that a rank holds, in their order, as rows of the whole. Returns how many. */
int64_t held_rows(const held *h, const way *w, const int64_t *counts, int64_t batch, int64_t b, int rank, int ranks,
                  int32_t *rows);

/** Puts the results of all ranks into the outputs of `data` on rank 0. */
bool held_collect(const held *h, const way *w, attend_verify_data *data, int rank, int ranks);

/** Prints on rank 0 and counts: whether something is true on all ranks. */
bool check_all(bool ok, const char *format, ...) __attribute__((format(printf, 2, 3)));

/** Errors on one rank. */
void test_faults(int rank, int ranks);
void test_fields(int rank, int ranks);

#endif
