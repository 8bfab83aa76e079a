/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Ranks with a thread each beside as many threads of one process, in turn, and what the model of scripts/mpi-model is
 * calibrated by: mpirun -np N attend_mpi_bench [ROUNDS]. Rank 0 prints JSON: medians, and for ratios all of them.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "attend/mpi.h"

enum { MOST_ROUNDS = 99, DIM = 128, DECODES = 10, MESSAGES = 200, MIB = 1 << 20 };

static int rank, ranks;

static void stop(const char *what, const char *why) {
  fprintf(stderr, "attend_mpi_bench: %s: %s\n", what, why);
  MPI_Abort(MPI_COMM_WORLD, 1);
}

/** Waits without taking a core from the rank that is measured. */
static void rest(void) {
  const struct timespec pause = {0, 2000000};
  MPI_Request request;
  MPI_Ibarrier(MPI_COMM_WORLD, &request);
  for (int done = 0; !done;) {
    MPI_Test(&request, &done, MPI_STATUS_IGNORE);
    if (!done) nanosleep(&pause, NULL);
  }
}

static float *numbers(int64_t count, uint32_t seed) {
  float *all = malloc((size_t)count * sizeof *all);
  if (!all) stop("numbers", "no memory");
  for (int64_t i = 0; i < count; i++) {
    seed = seed * 1664525u + 1013904223u;
    all[i] = (float)(seed >> 8) / 8388608.0f - 1;
  }
  return all;
}

static int by_size(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double median(const double *values, int count) {
  double sorted[MOST_ROUNDS];
  for (int i = 0; i < count; i++) sorted[i] = values[i];
  qsort(sorted, (size_t)count, sizeof *sorted, by_size);
  return sorted[count / 2];
}

/** A shape on threads of rank 0, and on ranks. Keys are spread if there is one query, else sequences in zigzag. */
static void measure(const char *name, attend_problem p, int64_t queries, int64_t keys, int repeats, int rounds) {
  const bool decode = queries == 1;
  attend_problem whole = p, part = p;
  attend_options threads = ATTEND_OPTIONS_INIT, one = ATTEND_OPTIONS_INIT;
  attend_mpi_options o = ATTEND_MPI_OPTIONS_INIT;
  attend_plan *plan = NULL;
  attend_mpi_plan *shared = NULL;
  attend_tensors w = ATTEND_TENSORS_INIT, t = ATTEND_TENSORS_INIT;
  whole.q_len = queries, whole.kv_len = keys;
  part.q_len = decode ? 1 : queries / ranks, part.kv_len = keys / ranks;
  threads.num_threads = ranks, one.num_threads = 1;
  o.local = &one, o.layout = decode ? ATTEND_MPI_KEYS : ATTEND_MPI_SEQUENCE, o.order = decode ? 0 : ATTEND_MPI_ZIGZAG;
  if (attend_mpi_plan_create(&part, &o, MPI_COMM_WORLD, &shared)) stop(name, attend_mpi_error_detail());
  t.q = numbers(p.q_heads * part.q_len * DIM, 1), t.out = numbers(p.q_heads * part.q_len * DIM, 2);
  t.k = numbers(p.kv_heads * part.kv_len * DIM, 3 + (uint32_t)rank);
  t.v = numbers(p.kv_heads * part.kv_len * DIM, 999 + (uint32_t)rank);
  if (rank == 0) {
    if (attend_plan_create(&whole, &threads, &plan)) stop(name, attend_error_detail());
    w.q = numbers(p.q_heads * queries * DIM, 4), w.out = numbers(p.q_heads * queries * DIM, 5);
    w.k = numbers(p.kv_heads * keys * DIM, 6), w.v = numbers(p.kv_heads * keys * DIM, 7);
  }
  double by_threads[MOST_ROUNDS], by_ranks[MOST_ROUNDS], ratio[MOST_ROUNDS], agree[MOST_ROUNDS], wait[MOST_ROUNDS];
  attend_mpi_report r = ATTEND_MPI_REPORT_INIT;
  for (int i = -1; i < rounds; i++) { /* the first round is not counted */
    const int n = i < 0 ? 0 : i;
    rest();
    double start = MPI_Wtime();
    for (int k = 0; rank == 0 && k < repeats; k++)
      if (attend_plan_run(plan, &w, NULL, 0)) stop(name, attend_error_detail());
    by_threads[n] = (MPI_Wtime() - start) / repeats;
    rest();
    MPI_Barrier(MPI_COMM_WORLD);
    start = MPI_Wtime();
    for (int k = 0; k < repeats; k++)
      if (attend_mpi_plan_run(shared, &t)) stop(name, attend_mpi_error_detail());
    MPI_Barrier(MPI_COMM_WORLD);
    by_ranks[n] = (MPI_Wtime() - start) / repeats;
    ratio[n] = by_ranks[n] / by_threads[n];
    attend_mpi_plan_report(shared, &r);
    agree[n] = r.agree_seconds, wait[n] = r.exchange_seconds;
  }
  if (rank == 0) {
    printf("  \"%s\": {\"threads_s\": %.6f, \"ranks_s\": %.6f, \"ratio\": %.4f, \"agree_s\": %.6f, \"wait_s\": %.6f,\n",
           name, median(by_threads, rounds), median(by_ranks, rounds), median(ratio, rounds), median(agree, rounds),
           median(wait, rounds));
    printf("    \"flops_of_a_rank\": %.0f, \"sent_by_a_rank\": %llu, \"ratios\": [", r.flops,
           (unsigned long long)r.sent);
    for (int i = 0; i < rounds; i++) printf("%s%.4f", i ? ", " : "", ratio[i]);
    printf("]},\n");
  }
  const void *const all[] = {t.q, t.k, t.v, t.out, w.q, w.k, w.v, w.out};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) free((void *)all[i]);
  attend_plan_destroy(plan);
  attend_mpi_plan_destroy(shared);
}

/** The time of a message between ranks 0 and 1, both ways at once. */
static double message(void *sent, void *received, int size, int times) {
  MPI_Barrier(MPI_COMM_WORLD);
  const double start = MPI_Wtime();
  for (int i = 0; i < times && rank < 2; i++)
    MPI_Sendrecv(sent, size, MPI_BYTE, 1 - rank, 0, received, size, MPI_BYTE, 1 - rank, 0, MPI_COMM_WORLD,
                 MPI_STATUS_IGNORE);
  return (MPI_Wtime() - start) / times;
}

int main(int argc, char **argv) {
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  int rounds = argc > 1 ? atoi(argv[1]) : 5;
  if (ranks < 2 || rounds < 1 || rounds > MOST_ROUNDS) stop("usage", "mpirun -np 2 attend_mpi_bench [1 to 99 rounds]");
  attend_problem p = ATTEND_PROBLEM_INIT;
  if (rank == 0) printf("{\n  \"ranks\": %d,\n", ranks);
  p.batch = 1, p.q_heads = 32, p.kv_heads = 8, p.head_dim = DIM;
  measure("decode-64ki", p, 1, 65536, DECODES, 2 * rounds);
  p.q_heads = 8, p.kv_heads = 2, p.causal = ATTEND_CAUSAL_BOTTOM_RIGHT;
  measure("long-prefill", p, 16384, 16384, 1, rounds);
  char *sent = calloc(2, 16 * MIB);
  if (!sent) stop("messages", "no memory");
  const double small = message(sent, sent + 16 * MIB, 8, MESSAGES),
               large = message(sent, sent + 16 * MIB, 16 * MIB, 10);
  if (rank == 0) printf("  \"latency_s\": %.9f,\n  \"bytes_per_s\": %.0f\n}\n", small, 16 * MIB / large);
  free(sent);
  MPI_Finalize();
  return 0;
}
