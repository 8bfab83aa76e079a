/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Spreads attention over ranks, checks the result against one rank, and says what each did:
 *
 *     mpirun -np 4 spread_attention LAYOUT Q.npy K.npy V.npy [--causal] [--times N]
 *
 * LAYOUT is keys, sequence or heads. The files hold float32, (B, Hq, Lq, D) and (B, Hkv, Lk, D). Every rank reads from
 * them only what it holds: a cache larger than any memory is no obstacle, but for the check on rank 0, which --no-check
 * leaves out.
 */
#include <attend/mpi.h>
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void stop(const char *why, const char *detail) {
  fprintf(stderr, "spread_attention: %s: %s\n", why, detail);
  MPI_Abort(MPI_COMM_WORLD, 2);
  exit(2);
}

/* -------------------------------------------------------------------------------------------------------------- files
 */

typedef struct npy {
  const char *path;
  FILE *file;
  long data; /* where the numbers begin */
  int64_t shape[4];
} npy;

static npy npy_open(const char *path) {
  npy n = {.path = path, .file = fopen(path, "rb")};
  unsigned char start[10];
  char header[4096];
  if (!n.file) stop(path, "cannot be opened");
  if (fread(start, 1, 10, n.file) != 10 || memcmp(start, "\x93NUMPY\x01", 7) != 0)
    stop(path, "is no .npy file, version 1");
  const size_t length = start[8] + 256u * start[9];
  if (length >= sizeof header || fread(header, 1, length, n.file) != length) stop(path, "has no header");
  header[length] = 0;
  const char *shape = strstr(header, "'shape': (");
  if (!strstr(header, "'<f4'") || !strstr(header, "'fortran_order': False") || !shape ||
      sscanf(shape, "'shape': (%" SCNd64 ", %" SCNd64 ", %" SCNd64 ", %" SCNd64 ")", &n.shape[0], &n.shape[1],
             &n.shape[2], &n.shape[3]) != 4)
    stop(path, "expected float32 of four dimensions in C order");
  n.data = 10 + (long)length;
  return n;
}

/** Heads h0 to h1, and of each the rows in `count` runs, into (B, heads, rows, D). */
static float *npy_read(const npy *n, int64_t h0, int64_t h1, int count, const int64_t (*runs)[2]) {
  int64_t rows = 0;
  const int64_t dim = n->shape[3];
  for (int i = 0; i < count; i++) rows += runs[i][1] - runs[i][0];
  float *all = malloc((size_t)(n->shape[0] * (h1 - h0) * rows * dim + 1) * sizeof(float)), *to = all;
  if (!all) stop(n->path, "no memory for its rows");
  for (int64_t b = 0; b < n->shape[0]; b++)
    for (int64_t h = h0; h < h1; h++)
      for (int i = 0; i < count; i++) {
        const int64_t at = ((b * n->shape[1] + h) * n->shape[2] + runs[i][0]) * dim;
        const size_t numbers = (size_t)((runs[i][1] - runs[i][0]) * dim);
        if (fseek(n->file, n->data + (long)(at * 4), SEEK_SET) || fread(to, 4, numbers, n->file) != numbers)
          stop(n->path, "is shorter than its header says");
        to += numbers;
      }
  return all;
}

/* ------------------------------------------------------------------------------------------------------------- shares
 */

/** The runs of `rows` rows that a rank holds: two in zigzag, of 2 R that are as long as one another or one longer. */
static int runs_of(bool zigzag, int64_t rows, int rank, int ranks, int64_t runs[2][2]) {
  if (!zigzag) {
    runs[0][0] = rows * rank / ranks, runs[0][1] = rows * (rank + 1) / ranks;
    return 1;
  }
  /* What a rank holds is cut in two halves, the first the greater: so shares are even but for the last rank's. */
  const int64_t half = rows / (2 * ranks), rest = rows - 2 * ranks * half;
  const int64_t first = half + (rest + 1) / 2, last = half + rest / 2; /* runs of the last rank, in the middle */
  runs[0][0] = rank * half, runs[0][1] = runs[0][0] + (rank == ranks - 1 ? first : half);
  runs[1][0] = (ranks - 1) * half + first + last + (ranks - 2 - rank) * half;
  if (rank == ranks - 1) runs[1][0] = runs[0][1];
  runs[1][1] = runs[1][0] + (rank == ranks - 1 ? last : half);
  return 2;
}

static int64_t length_of(int count, const int64_t runs[2][2]) {
  return runs[0][1] - runs[0][0] + (count > 1 ? runs[1][1] - runs[1][0] : 0);
}

static void check(attend_status status, const char *what) {
  if (status != ATTEND_OK) stop(what, *attend_mpi_error_detail() ? attend_mpi_error_detail() : attend_error_detail());
}

/** Compares what every rank has with what one rank computes; returns the greatest difference, on rank 0. */
static double compare(const attend_problem *whole, const npy files[3], const attend_problem *own, const float *out,
                      attend_mpi_layout layout, int rank, int ranks) {
  const int64_t rows = own->q_len, dim = files[2].shape[3], heads = own->q_heads;
  if (rank > 0) {
    MPI_Send(out, (int)(own->batch * heads * rows * dim), MPI_FLOAT, 0, 0, MPI_COMM_WORLD);
    return 0;
  }
  const int64_t all_q[1][2] = {{0, whole->q_len}}, all_k[1][2] = {{0, whole->kv_len}};
  float *q = npy_read(&files[0], 0, whole->q_heads, 1, all_q), *k = npy_read(&files[1], 0, whole->kv_heads, 1, all_k);
  float *v = npy_read(&files[2], 0, whole->kv_heads, 1, all_k);
  const size_t size = (size_t)(whole->batch * whole->q_heads * whole->q_len * dim + 1) * sizeof(float);
  float *expected = malloc(size), *its = malloc(size);
  if (!expected || !its) stop("check", "no memory: try --no-check");
  attend_tensors t = ATTEND_TENSORS_INIT;
  t.q = q, t.k = k, t.v = v, t.out = expected;
  check(attend_forward(whole, &t), "one rank");
  double worst = 0;
  for (int r = 0; r < ranks; r++) {
    int64_t runs[2][2] = {{0, whole->q_len}, {0, 0}};
    int count = 1;
    if (layout == ATTEND_MPI_SEQUENCE) count = runs_of(true, whole->q_len, r, ranks, runs);
    const int64_t first =
        layout == ATTEND_MPI_HEADS ? whole->kv_heads * r / ranks * (whole->q_heads / whole->kv_heads) : 0;
    const int64_t end = layout == ATTEND_MPI_HEADS
                            ? whole->kv_heads * (r + 1) / ranks * (whole->q_heads / whole->kv_heads)
                            : whole->q_heads;
    const float *from = out;
    if (r) MPI_Recv(its, (int)(size / 4), MPI_FLOAT, r, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE), from = its;
    for (int64_t b = 0; b < whole->batch; b++)
      for (int64_t h = first; h < end; h++)
        for (int i = 0; i < count; i++)
          for (int64_t n = runs[i][0] * dim; n < runs[i][1] * dim; n++, from++) {
            const double difference =
                fabs((double)*from - (double)expected[(b * whole->q_heads + h) * whole->q_len * dim + n]);
            if (!(difference <= worst)) worst = difference;
          }
  }
  free(q), free(k), free(v), free(expected), free(its);
  return worst;
}

/* ------------------------------------------------------------------------------------------------------------ report
 */

static void print_report(const attend_mpi_plan *plan, double seconds, int rank, int ranks) {
  char text[1024];
  attend_mpi_report r = ATTEND_MPI_REPORT_INIT;
  check(attend_mpi_plan_report(plan, &r), "report");
  double own[6] = {seconds,        r.compute_seconds,  r.agree_seconds + r.exchange_seconds,
                   (double)r.sent, (double)r.received, r.flops};
  double *all = malloc((size_t)ranks * sizeof own), most = 0, sum = 0;
  if (!all) stop("report", "no memory");
  MPI_Gather(own, 6, MPI_DOUBLE, all, 6, MPI_DOUBLE, 0, MPI_COMM_WORLD);
  if (rank == 0) {
    attend_mpi_plan_explain(plan, text, sizeof text);
    printf("%s\nrank       ms  compute     wait         sent     received        FLOP\n", text);
    for (int i = 0; i < ranks; i++) {
      const double *o = all + 6 * i;
      printf("%4d %8.3f %8.3f %8.3f %12.0f %12.0f %11.4g\n", i, 1e3 * o[0], 1e3 * o[1], 1e3 * o[2], o[3], o[4], o[5]);
      most = o[5] > most ? o[5] : most, sum += o[5];
    }
    if (most > 0)
      printf("balance: the average rank has %.1f %% of the work of the greatest\n", 100 * sum / ranks / most);
  }
  free(all);
}

int main(int argc, char **argv) {
  int provided, rank, ranks, times = 1;
  bool checked = true;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  attend_mpi_options options = ATTEND_MPI_OPTIONS_INIT;
  attend_problem whole = ATTEND_PROBLEM_INIT;
  if (argc < 5)
    stop("usage", "spread_attention keys|sequence|heads Q.npy K.npy V.npy [--causal] [--times N] [--no-check]");
  if (strcmp(argv[1], "keys") == 0) options.layout = ATTEND_MPI_KEYS;
  if (strcmp(argv[1], "sequence") == 0) options.layout = ATTEND_MPI_SEQUENCE, options.order = ATTEND_MPI_ZIGZAG;
  if (strcmp(argv[1], "heads") == 0) options.layout = ATTEND_MPI_HEADS;
  if (!options.layout) stop(argv[1], "expected keys, sequence or heads");
  for (int i = 5; i < argc; i++) {
    if (strcmp(argv[i], "--causal") == 0)
      whole.causal = ATTEND_CAUSAL_BOTTOM_RIGHT;
    else if (strcmp(argv[i], "--no-check") == 0)
      checked = false;
    else if (strcmp(argv[i], "--times") == 0 && i + 1 < argc)
      times = atoi(argv[++i]);
    else
      stop(argv[i], "unknown option");
  }
  const npy files[3] = {npy_open(argv[2]), npy_open(argv[3]), npy_open(argv[4])};
  const int64_t *q = files[0].shape, *k = files[1].shape, *v = files[2].shape;
  if (q[0] != k[0] || q[3] != k[3] || k[0] != v[0] || k[1] != v[1] || k[2] != v[2] || k[1] == 0 || q[1] % k[1])
    stop("shapes", "expected q (B, Hq, Lq, D), k (B, Hkv, Lk, D) and v (B, Hkv, Lk, Dv), Hq a multiple of Hkv");
  whole.batch = q[0], whole.q_heads = q[1], whole.kv_heads = k[1], whole.q_len = q[2], whole.kv_len = k[2];
  whole.head_dim = q[3], whole.v_head_dim = v[3];

  /* What this rank holds. */
  attend_problem own = whole;
  int64_t q_runs[2][2] = {{0, q[2]}, {0, 0}}, k_runs[2][2] = {{0, k[2]}, {0, 0}}, h0 = 0, h1 = k[1];
  int q_count = 1, k_count = 1;
  if (options.layout == ATTEND_MPI_HEADS) h0 = k[1] * rank / ranks, h1 = k[1] * (rank + 1) / ranks;
  if (options.layout == ATTEND_MPI_KEYS) k_count = runs_of(false, k[2], rank, ranks, k_runs);
  if (options.layout == ATTEND_MPI_SEQUENCE)
    q_count = runs_of(true, q[2], rank, ranks, q_runs), k_count = runs_of(true, k[2], rank, ranks, k_runs);
  const int64_t group = q[1] / k[1];
  own.q_len = length_of(q_count, q_runs), own.kv_len = length_of(k_count, k_runs);
  own.kv_heads = h1 - h0, own.q_heads = own.kv_heads * group;
  float *const own_q = npy_read(&files[0], h0 * group, h1 * group, q_count, q_runs);
  float *const own_k = npy_read(&files[1], h0, h1, k_count, k_runs), *const own_v =
                                                                         npy_read(&files[2], h0, h1, k_count, k_runs);
  float *const out = malloc((size_t)(own.batch * own.q_heads * own.q_len * own.v_head_dim + 1) * sizeof(float));
  if (!out) stop("out", "no memory");

  attend_mpi_plan *plan;
  attend_tensors t = ATTEND_TENSORS_INIT;
  t.q = own_q, t.k = own_k, t.v = own_v, t.out = out;
  check(attend_mpi_plan_create(&own, &options, MPI_COMM_WORLD, &plan), "plan");
  double seconds = 0;
  for (int i = 0; i < times; i++) {
    MPI_Barrier(MPI_COMM_WORLD);
    const double start = MPI_Wtime();
    check(attend_mpi_plan_run(plan, &t), "run");
    const double taken = MPI_Wtime() - start;
    if (i == 0 || taken < seconds) seconds = taken;
  }
  print_report(plan, seconds, rank, ranks);
  attend_mpi_plan_destroy(plan);
  double worst = checked ? compare(&whole, files, &own, out, options.layout, rank, ranks) : 0;
  MPI_Bcast(&worst, 1, MPI_DOUBLE, 0, MPI_COMM_WORLD);
  if (rank == 0 && checked) printf("greatest difference to one rank: %.3g\n", worst);
  free(own_q), free(own_k), free(own_v), free(out);
  for (int i = 0; i < 3; i++) fclose(files[i].file);
  MPI_Finalize();
  return worst <= 1e-5 ? 0 : 1;
}
