/* SPDX-License-Identifier: Apache-2.0 */
/** Errors on one rank: the same status and the same words on all, nothing written, and the plan is good as before. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "grid.h"

enum { Q = 4, K = 40, HEADS = 2, DIM = 16 };

/** A small problem of this rank, with everything that can go wrong. */
typedef struct world {
  attend_problem p;
  attend_tensors t;
  attend_options local;
  attend_mpi_options o;
  float q[HEADS * Q * DIM], k[HEADS * K * DIM], v[HEADS * K * DIM], out[HEADS * Q * DIM];
  int32_t lengths[1], positions[1], begins[1];
} world;

static void make(world *w, attend_mpi_layout layout) {
  memset(w, 0, sizeof *w);
  w->p = (attend_problem)ATTEND_PROBLEM_INIT, w->t = (attend_tensors)ATTEND_TENSORS_INIT;
  w->local = (attend_options)ATTEND_OPTIONS_INIT, w->o = (attend_mpi_options)ATTEND_MPI_OPTIONS_INIT;
  w->p.batch = 1, w->p.q_heads = HEADS, w->p.q_len = Q, w->p.kv_len = K, w->p.head_dim = DIM;
  w->p.kv_lengths = ATTEND_LENGTHS_PER_BATCH, w->p.positions = 1, w->p.kv_begins = 1;
  w->lengths[0] = K;
  for (int i = 0; i < HEADS * K * DIM; i++) w->k[i] = w->v[i] = (float)(i % 7);
  for (int i = 0; i < HEADS * Q * DIM; i++) w->q[i] = (float)(i % 5), w->out[i] = 42;
  w->t.q = w->q, w->t.k = w->k, w->t.v = w->v, w->t.out = w->out;
  w->t.kv_lengths = w->lengths, w->t.positions = w->positions, w->t.kv_begins = w->begins;
  w->local.num_threads = 1, w->o.local = &w->local, w->o.layout = layout;
}

/** Whether all ranks have this status and the same words, and the words have `part`. */
static bool agreed(attend_status status, attend_status expected, const char *part, const char *what) {
  char first[512] = "", own[512];
  int rank, ranks;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  snprintf(own, sizeof own, "%s", attend_mpi_error_detail());
  memcpy(first, own, sizeof first);
  MPI_Bcast(first, sizeof first, MPI_CHAR, 0, MPI_COMM_WORLD);
  const bool ok = status == expected && strstr(own, part) && strcmp(first, own) == 0;
  return check_all(ok, "%s: status %d, '%s'; expected %d, and '%s' on all ranks", what, (int)status, own, (int)expected,
                   part);
}

static attend_mpi_plan *create(const world *w, const char *what) {
  attend_mpi_plan *plan = NULL;
  const attend_status s = attend_mpi_plan_create(&w->p, &w->o, MPI_COMM_WORLD, &plan);
  check_all(s == ATTEND_OK, "%s: %s", what, attend_mpi_error_detail());
  return plan;
}

/* --------------------------------------------------------------------------------------------------------------- runs
 */

typedef enum fault { NO_TENSORS, NO_KEYS, BAD_LENGTH, BAD_BEGIN, FAULT_COUNT } fault;

static const struct {
  const char *name, *words;
} faults[FAULT_COUNT] = {[NO_TENSORS] = {"NULL for the tensors", "attend_tensors is NULL"},
                         [NO_KEYS] = {"NULL for k", "k is NULL"},
                         [BAD_LENGTH] = {"a length over capacity", "kv_lengths[0] is 41"},
                         [BAD_BEGIN] = {"a negative first key", "kv_begins[0] is -1"}};

static void run_with(attend_mpi_layout layout, fault f, int victim, int rank) {
  world w;
  make(&w, layout);
  attend_mpi_plan *plan = create(&w, faults[f].name);
  if (!plan) return;
  if (rank == victim && f == NO_KEYS) w.t.k = NULL;
  if (rank == victim && f == BAD_LENGTH) w.lengths[0] = K + 1;
  if (rank == victim && f == BAD_BEGIN) w.begins[0] = -1;
  attend_status s = attend_mpi_plan_run(plan, rank == victim && f == NO_TENSORS ? NULL : &w.t);
  char words[128];
  snprintf(words, sizeof words, "rank %d: %s", victim, faults[f].words);
  agreed(s, ATTEND_ERROR_INVALID_ARGUMENT, words, faults[f].name);
  bool written = false;
  for (int i = 0; i < HEADS * Q * DIM; i++) written = written || w.out[i] != 42;
  check_all(!written, "%s: outputs were written to", faults[f].name);
  w.t.k = w.k, w.lengths[0] = K, w.begins[0] = 0;
  s = attend_mpi_plan_run(plan, &w.t);
  check_all(s == ATTEND_OK && w.out[0] != 42, "%s: the next run fails: %s", faults[f].name, attend_mpi_error_detail());
  attend_mpi_plan_destroy(plan);
}

/** What must be the same on all ranks is compared. */
static void run_with_other_numbers(attend_mpi_layout layout, int rank, int ranks) {
  world w;
  make(&w, layout);
  attend_mpi_plan *plan = create(&w, "other numbers");
  if (!plan) return;
  w.positions[0] = rank == ranks - 1 ? 7 : 3;
  const attend_status s = attend_mpi_plan_run(plan, &w.t);
  if (ranks > 1 && layout != ATTEND_MPI_HEADS)
    agreed(s, ATTEND_ERROR_INVALID_ARGUMENT, "positions of rank", "other positions on one rank");
  else
    check_all(s == ATTEND_OK, "positions: %s", attend_mpi_error_detail());
  attend_mpi_plan_destroy(plan);
}

/** A rank without queries has keys that the others attend: they are looked at, too. */
static void run_without_queries(int rank, int ranks) {
  world w;
  make(&w, ATTEND_MPI_SEQUENCE);
  if (rank == ranks - 1) w.p.q_len = 0;
  attend_mpi_plan *plan = create(&w, "no queries on one rank");
  if (!plan) return;
  if (rank == ranks - 1) w.t.q = w.t.out = NULL, w.t.v = NULL;
  attend_status s = attend_mpi_plan_run(plan, &w.t);
  if (ranks > 1) agreed(s, ATTEND_ERROR_INVALID_ARGUMENT, "v is NULL", "no values on a rank without queries");
  w.t.v = w.v;
  s = attend_mpi_plan_run(plan, &w.t);
  check_all(s == ATTEND_OK && (rank == ranks - 1 || w.out[0] != 42), "no queries on one rank: %s",
            attend_mpi_error_detail());
  attend_mpi_plan_destroy(plan);
}

void test_faults(int rank, int ranks) {
  const double start = MPI_Wtime();
  for (attend_mpi_layout layout = ATTEND_MPI_KEYS; layout <= ATTEND_MPI_HEADS; layout++) {
    for (fault f = 0; f < FAULT_COUNT; f++)
      for (int victim = 0; victim < ranks; victim += ranks > 1 ? ranks - 1 : 1) run_with(layout, f, victim, rank);
    run_with_other_numbers(layout, rank, ranks);
  }
  run_without_queries(rank, ranks);
  if (rank == 0) printf("faults in runs took %.3f s\n", MPI_Wtime() - start);
}

/* ----------------------------------------------------------------------------------------------------------- creation
 */

static void *no_memory(void *context, size_t size) {
  (void)context, (void)size;
  return NULL;
}

static void nothing_to_release(void *context, void *memory, size_t size) { (void)context, (void)memory, (void)size; }

static void create_with(world *w, attend_status expected, const char *words, const char *what) {
  attend_mpi_plan *plan = NULL;
  const attend_status s = attend_mpi_plan_create(&w->p, &w->o, MPI_COMM_WORLD, &plan);
  agreed(s, expected, words, what);
  check_all(!plan, "%s: a plan was made", what);
}

static void create_alike(void) {
  world w;
  make(&w, ATTEND_MPI_KEYS);
  w.p.dropout = 0.5f;
  create_with(&w, ATTEND_ERROR_UNSUPPORTED, "dropout", "dropout");
  make(&w, ATTEND_MPI_SEQUENCE);
  w.p.weights = 1;
  create_with(&w, ATTEND_ERROR_UNSUPPORTED, "weights", "weights");
  make(&w, (attend_mpi_layout)0);
  create_with(&w, ATTEND_ERROR_INVALID_ARGUMENT, "layout is 0, expected 1 to 3", "no layout");
  make(&w, ATTEND_MPI_SEQUENCE);
  w.o.order = (attend_mpi_order)2;
  create_with(&w, ATTEND_ERROR_INVALID_ARGUMENT, "order is 2", "an unknown order");
  make(&w, ATTEND_MPI_KEYS);
  w.o.struct_size = 8;
  create_with(&w, ATTEND_ERROR_INVALID_ARGUMENT, "struct_size is 8", "a struct of another version");
  attend_mpi_plan *plan = NULL;
  make(&w, ATTEND_MPI_KEYS);
  const attend_status s = attend_mpi_plan_create(&w.p, &w.o, MPI_COMM_NULL, &plan);
  agreed(s, ATTEND_ERROR_INVALID_ARGUMENT, "MPI_COMM_NULL", "no communicator");
}

/** One rank says something else than the others. */
static void create_unlike(int rank, int ranks) {
  const int last = ranks - 1;
  world w;
  char words[64];
  make(&w, ATTEND_MPI_KEYS);
  if (rank == last) w.p.head_dim = -1;
  snprintf(words, sizeof words, "rank %d: head_dim is -1", last);
  create_with(&w, ATTEND_ERROR_INVALID_ARGUMENT, words, "a problem that is none");
  make(&w, ATTEND_MPI_SEQUENCE);
  if (rank == last) w.local.allocate = no_memory, w.local.release = nothing_to_release;
  create_with(&w, ATTEND_ERROR_OUT_OF_MEMORY, "rank", "no memory");
  if (ranks == 1) return;
  make(&w, ATTEND_MPI_SEQUENCE);
  if (rank == last) w.p.softcap = 5;
  create_with(&w, ATTEND_ERROR_INVALID_ARGUMENT, "softcap of rank", "another softcap");
  make(&w, ATTEND_MPI_KEYS);
  if (rank == last) w.p.q_len = Q - 1;
  create_with(&w, ATTEND_ERROR_INVALID_ARGUMENT, "q_len of rank", "other queries");
  make(&w, ATTEND_MPI_KEYS);
  if (rank == last) w.o.layout = ATTEND_MPI_HEADS;
  create_with(&w, ATTEND_ERROR_INVALID_ARGUMENT, "layout of rank", "another layout");
}

/** What a plan says of itself. */
static void say(int ranks) {
  world w;
  char text[1024], part[32];
  make(&w, ATTEND_MPI_SEQUENCE);
  w.o.order = ATTEND_MPI_ZIGZAG, w.o.transport = ATTEND_MPI_RING;
  attend_mpi_plan *plan = create(&w, "explain");
  if (!plan) return;
  attend_mpi_report report = ATTEND_MPI_REPORT_INIT;
  const size_t length = attend_mpi_plan_explain(plan, text, sizeof text);
  snprintf(part, sizeof part, "sequence over %d rank", ranks);
  check_all(length == strlen(text) && strstr(text, part) && attend_mpi_plan_explain(plan, NULL, 0) == length,
            "explain says '%s'", text);
  check_all(attend_mpi_plan_run(plan, &w.t) == ATTEND_OK && attend_mpi_plan_report(plan, &report) == ATTEND_OK,
            "a report: %s", attend_mpi_error_detail());
  /* No mask, so that every query attends the keys of all ranks. */
  const double flops = (double)(HEADS * Q) * K * ranks * 4 * DIM;
  const uint64_t block = 2 * sizeof(float) * K * HEADS * DIM;
  check_all(report.flops == flops, "flops are %.0f, expected %.0f", report.flops, flops);
  check_all(report.sent == block * (uint64_t)(ranks - 1) && report.received == report.sent, "bytes sent are wrong");
  attend_mpi_plan_destroy(plan);
  attend_mpi_plan_destroy(NULL);
  /* A window of 8 keys: only the keys of the rank before are needed. */
  make(&w, ATTEND_MPI_SEQUENCE);
  w.p.positions = 0, w.p.q_len = K / 10, w.p.causal = ATTEND_CAUSAL_TOP_LEFT, w.p.kv_len = Q, w.lengths[0] = Q;
  w.p.window = 1, w.p.window_left = 2, w.p.window_right = 0, w.o.transport = ATTEND_MPI_RING;
  plan = create(&w, "a window");
  if (!plan) return;
  report = (attend_mpi_report)ATTEND_MPI_REPORT_INIT;
  int rank;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  check_all(attend_mpi_plan_run(plan, &w.t) == ATTEND_OK && attend_mpi_plan_report(plan, &report) == ATTEND_OK,
            "a window: %s", attend_mpi_error_detail());
  const uint64_t moved = 2 * sizeof(float) * Q * HEADS * DIM;
  check_all(report.received == (rank > 0 ? moved : 0) && report.sent == (rank < ranks - 1 ? moved : 0),
            "a window moves %lu bytes here, and %lu there", (unsigned long)report.received, (unsigned long)report.sent);
  attend_mpi_plan_destroy(plan);
}

void test_fields(int rank, int ranks) {
  create_alike();
  create_unlike(rank, ranks);
  say(ranks);
}
