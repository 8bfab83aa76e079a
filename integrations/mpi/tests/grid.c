/* SPDX-License-Identifier: Apache-2.0 */
/**
 * The cases of attend_verify, spread over the ranks in every way, against the reference: mpirun -np N attend_mpi_grid
 * [CASES [FIRST SEED]]. Rank 0 prints what is wrong, and "N passed, N failed" at the end; the exit status is 1 if
 * anything failed.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "dispatch/dispatch.h"
#include "grid.h"
#include "verify/reference.h"

/**
 * The leak sanitizer's, where it is there. What MPI allocates as it starts is its own affair, and after its end its
 * plug-ins have no names any more: so leaks are looked for before, and not once more at the end.
 */
void __lsan_disable(void) __attribute__((weak));
void __lsan_enable(void) __attribute__((weak));
void __lsan_do_leak_check(void) __attribute__((weak));

static int passed, failed, checked;

/** MPI's own waiting spins, and would take the core of the rank that is waited for. */
static void wait_asleep(MPI_Request *request) {
  const struct timespec pause = {0, 50000};
  for (int done = 0; !done;) {
    MPI_Test(request, &done, MPI_STATUS_IGNORE);
    if (!done) nanosleep(&pause, NULL);
  }
}

bool check_all(bool ok, const char *format, ...) {
  int mine = ok ? 0 : 1, any = 0, rank = 0;
  MPI_Request request;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Iallreduce(&mine, &any, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD, &request);
  wait_asleep(&request);
  if (any)
    failed++;
  else
    passed++;
  if (!ok || (any && rank == 0)) {
    char text[4096];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fprintf(stderr, "FAILED on rank %d%s: %s\n", rank, ok ? " or another" : "", text);
  }
  return !any;
}

/* A kernel that computes as exactly as that of the plan, for what is allowed: maybe less exactly. */
static const attend_kernel *yardstick(const attend_problem *p) {
  const bool bf16 = p->q_dtype == ATTEND_BF16 && p->k_dtype == ATTEND_BF16 && p->v_dtype == ATTEND_BF16;
  for (size_t i = 0; attend_kernel_at(i); i++) {
    const attend_kernel *k = attend_kernel_at(i);
    if (k->operation == ATTEND_OP_FORWARD && k->compute == (bf16 ? ATTEND_BF16 : ATTEND_F32) &&
        !(k->can & ATTEND_CAN_INT8))
      return k;
  }
  return attend_kernel_of(ATTEND_OP_FORWARD, 0);
}

static size_t out_bytes(const held *h) {
  const attend_problem *p = &h->problem;
  const int64_t rows = p->q_starts ? p->q_total : p->batch * p->q_len;
  return (size_t)(rows * p->q_heads * p->v_head_dim) * attend_verify_dtype_size(p->out_dtype);
}

static size_t lse_bytes(const held *h) {
  const attend_problem *p = &h->problem;
  return (size_t)(p->q_heads * (p->q_starts ? p->q_total : p->batch * p->q_len)) * sizeof(float);
}

/** A digest of this rank's outputs: the whole buffers of the case, or those of its own rows. */
static uint64_t digest(const held *h, const way *w, const attend_verify_data *data) {
  const unsigned char *out = h->tensors.out, *lse = (const unsigned char *)h->tensors.lse;
  size_t out_size = out_bytes(h);
  if (w->layout != ATTEND_MPI_SEQUENCE)
    out = data->buffer[ATTEND_VERIFY_OUT].data, out_size = data->buffer[ATTEND_VERIFY_OUT].size;
  uint64_t key = 1;
  for (size_t i = 0; i < out_size; i++) key = (key ^ out[i]) * UINT64_C(1099511628211);
  for (size_t i = 0; lse && i < lse_bytes(h); i++) key = (key ^ lse[i]) * UINT64_C(1099511628211);
  return key;
}

/** Runs on a plan of so many threads, with outputs cleared before. */
static attend_status run_once(const held *h, const way *w, attend_verify_data *data, int threads, uint64_t *bits) {
  attend_options local = ATTEND_OPTIONS_INIT;
  attend_mpi_options o = ATTEND_MPI_OPTIONS_INIT;
  attend_mpi_plan *plan = NULL;
  local.num_threads = threads;
  o.local = &local, o.layout = w->layout, o.order = w->order, o.transport = w->transport, o.combine = w->combine;
  attend_verify_clear_outputs(data);
  attend_status s = attend_mpi_plan_create(&h->problem, &o, MPI_COMM_WORLD, &plan);
  if (s != ATTEND_OK) return s;
  s = attend_mpi_plan_run(plan, &h->tensors);
  *bits = digest(h, w, data);
  if (s == ATTEND_OK) { /* once more over what is there: nothing may depend on it */
    uint64_t again;
    attend_verify_clear_outputs(data);
    s = attend_mpi_plan_run(plan, &h->tensors);
    again = digest(h, w, data);
    if (again != *bits) *bits = 0;
  }
  attend_mpi_plan_destroy(plan);
  return s;
}

static double worst;

static void check_way(attend_verify_data *data, const attend_verify_expected *expected, const attend_verify_case *c,
                      const way *w, int rank, int ranks, uint64_t key) {
  char fields[2048];
  held h;
  uint64_t bits = 0, others = 0;
  attend_verify_describe(c, fields, sizeof fields);
  if (!check_all(held_make(&h, data, w, rank, ranks, key), "no memory for %s", fields)) exit(1);
  attend_status s = run_once(&h, w, data, 1, &bits);
  if (!check_all(s == ATTEND_OK, "%s: %s\n  %s", w->name, attend_mpi_error_detail(), fields)) {
    held_free(&h);
    return;
  }
  bool same = bits != 0;
  if (hash(key, 5) % 8 == 0) same = same && run_once(&h, w, data, 2, &others) == ATTEND_OK && others == bits;
  if (w->layout == ATTEND_MPI_KEYS) {
    uint64_t least, greatest;
    MPI_Allreduce(&bits, &least, 1, MPI_UINT64_T, MPI_MIN, MPI_COMM_WORLD);
    MPI_Allreduce(&bits, &greatest, 1, MPI_UINT64_T, MPI_MAX, MPI_COMM_WORLD);
    same = same && least == greatest;
  }
  check_all(same, "%s: other bits in another run, on two threads, or on another rank\n  %s", w->name, fields);
  const bool collected = held_collect(&h, w, data, rank, ranks);
  if (rank == 0) {
    attend_verify_result result = {.message = ""};
    const attend_verify_ran ran = {.kernel = yardstick(&data->problem)};
    const bool right = collected && attend_verify_compare(data, expected, &ran, &result);
    if (result.share > worst) worst = result.share;
    check_all(right, "%s: %s\n  %s", w->name, result.message, fields);
  } else {
    check_all(true, "%s\n  %s", w->name, fields);
  }
  held_free(&h);
}

static const way ways[] = {
    {"keys, tree", ATTEND_MPI_KEYS, 0, 0, ATTEND_MPI_TREE},
    {"keys, slices", ATTEND_MPI_KEYS, 0, 0, ATTEND_MPI_SLICES},
    {"sequence in order, ring", ATTEND_MPI_SEQUENCE, ATTEND_MPI_IN_ORDER, ATTEND_MPI_RING, 0},
    {"sequence in zigzag, ring", ATTEND_MPI_SEQUENCE, ATTEND_MPI_ZIGZAG, ATTEND_MPI_RING, 0},
    {"sequence in order, gather", ATTEND_MPI_SEQUENCE, ATTEND_MPI_IN_ORDER, ATTEND_MPI_GATHER, 0},
    {"sequence in zigzag, gather", ATTEND_MPI_SEQUENCE, ATTEND_MPI_ZIGZAG, ATTEND_MPI_GATHER, 0},
    {"heads", ATTEND_MPI_HEADS, 0, 0, 0},
};

/**
 * Whether results over some keys merge as exactly as they were computed. They merge by their LSE, which is beyond f32
 * where scores are, and loses digits where ALiBi counts from far beyond all keys; within one run neither matters.
 */
static bool merges_exactly(const attend_verify_case *c, const attend_verify_data *data) {
  const attend_problem *p = &data->problem;
  if (c->values == ATTEND_VERIFY_HUGE_SCORES) return false;
  for (int64_t b = 0; p->alibi && b < p->batch; b++)
    for (int64_t i = 0; i < attend_reference_queries(p, &data->tensors, b); i++)
      if (attend_reference_nearest(p, &data->tensors, b, i) > 1000) return false;
  return true;
}

/** A case in two or three ways: one with keys spread, one with sequences, and some by heads. */
static void check_case(attend_verify_case *c, int rank, int ranks) {
  static attend_verify_data data;
  attend_verify_expected expected = {0};
  const uint64_t key = attend_verify_key(c);
  c->problem.weights = 0, c->problem.scores = ATTEND_SCORES_NONE, c->problem.dropout = 0, c->problem.lse = 1;
  bool ok = attend_verify_fill(&data, c);
  if (ok && rank == 0) ok = attend_verify_expect(&expected, &data);
  if (!check_all(ok, "no memory")) exit(1);
  if (ranks == 1 || merges_exactly(c, &data)) {
    check_way(&data, &expected, c, &ways[hash(key, 1) % 2], rank, ranks, key);
    check_way(&data, &expected, c, &ways[2 + hash(key, 2) % 4], rank, ranks, key);
    checked++;
  }
  if (hash(key, 3) % 8 == 0) check_way(&data, &expected, c, &ways[6], rank, ranks, key);
  attend_verify_expected_free(&expected);
  attend_verify_data_free(&data);
  memset(&data, 0, sizeof data);
}

/** More queries on a rank than are worked on at a time, and windows that end within a chunk. */
static void check_chunks(int rank, int ranks) {
  static attend_verify_data data;
  attend_verify_expected expected = {0};
  attend_verify_case c = {.name = "chunks", .seed = 1, .problem = ATTEND_PROBLEM_INIT};
  attend_problem *p = &c.problem;
  p->batch = 1, p->q_heads = 2, p->kv_heads = 1, p->q_len = 2301, p->kv_len = 2500, p->head_dim = p->v_head_dim = 4;
  p->causal = ATTEND_CAUSAL_BOTTOM_RIGHT, p->window = 1, p->window_left = 1500, p->window_right = -1;
  p->sinks = 1, p->lse = 1;
  attend_verify_lay_out(&c);
  bool ok = attend_verify_fill(&data, &c);
  if (ok && rank == 0) ok = attend_verify_expect(&expected, &data);
  if (!check_all(ok, "no memory")) exit(1);
  for (int i = 2; i < 6; i++)
    for (uint64_t key = 0; key < 2; key++) check_way(&data, &expected, &c, &ways[i], rank, ranks, key);
  attend_verify_expected_free(&expected);
  attend_verify_data_free(&data);
}

/** Quantised keys and values are not handed from rank to rank, and the tests spread no bytes of blocks. */
static bool is_quantised(const attend_verify_case *c) {
  return c->problem.k_dtype > ATTEND_BF16 || c->problem.v_dtype > ATTEND_BF16;
}

int main(int argc, char **argv) {
  attend_mpi_plan *plan = NULL;
  attend_problem p = ATTEND_PROBLEM_INIT;
  const attend_status early = attend_mpi_plan_create(&p, NULL, MPI_COMM_WORLD, &plan);
  int provided, rank, ranks;
  if (__lsan_disable) __lsan_disable();
  MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
  if (__lsan_enable) __lsan_enable();
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  check_all(early == ATTEND_ERROR_INVALID_ARGUMENT, "a plan before MPI_Init() is not refused");
  const int64_t cases = argc > 1 ? atoll(argv[1]) : 60;
  const uint64_t first = argc > 2 ? (uint64_t)atoll(argv[2]) : 1;
  attend_verify_case c;
  int64_t count = 0;
  test_faults(rank, ranks);
  test_fields(rank, ranks);
  if (argc <= 2 && ranks < 4) check_chunks(rank, ranks);
  for (size_t i = 0; argc <= 2 && i < attend_verify_named_count(); i++) {
    if ((i + (size_t)ranks) % 2) continue; /* the others with an odd, or an even, number of ranks: it takes as long */
    attend_verify_named_case(i, 1, ATTEND_DTYPE_DEFAULT, &c);
    if (is_quantised(&c)) continue;
    check_case(&c, rank, ranks);
    count++;
  }
  uint64_t seed = first;
  for (int64_t i = 0; i < cases; i++, count++) {
    do attend_verify_random_case(seed++, ATTEND_DTYPE_DEFAULT, &c);
    while (is_quantised(&c));
    check_case(&c, rank, ranks);
  }
  if (rank == 0)
    printf("%d rank%s, %" PRId64
           " cases, %d of them with keys spread, worst share of what is allowed %.2f: %d passed, %d failed\n",
           ranks, ranks == 1 ? "" : "s", count, checked, worst, passed, failed);
  if (__lsan_do_leak_check) __lsan_do_leak_check();
  MPI_Finalize();
  return failed > 0;
}
