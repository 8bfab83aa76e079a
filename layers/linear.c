/* SPDX-License-Identifier: Apache-2.0 */
/**
 * OpenBLAS's threads and OpenMP's both wait busily for more work, and a layer would alternate between them: 2.5 ms of
 * sgemm took 7.8 ms when every other call was an OpenMP region, on the two cores of a Zen 5. So OpenMP's threads call a
 * single-threaded BLAS wherever the process lets them. How a projection is cut then does not depend on their number.
 */
#include "layers/linear.h"

#include "kernels/integers.h"

#ifdef ATTEND_HAS_BLAS

#include <cblas.h>
#include <string.h>

enum {
  /* Of 1024 x 2304 x 768 on one core: 247 GFLOP/s as a whole, 226 cut so, 205 in blocks of half as many rows. */
  BLOCK_ROWS = 256,
  BLOCK_COLUMNS = 384
};

/** Calls, cut into blocks, one after the other. */
typedef struct work {
  const attend_linear_call *calls;
  int count;
  int64_t block_rows, block_columns;
} work;

/** As threads that share calls of a BLAS of one thread cut them: not by how many threads there are. */
static work cut(const attend_linear_call *calls, int count) {
  return (work){.calls = calls, .count = count, .block_rows = BLOCK_ROWS, .block_columns = BLOCK_COLUMNS};
}

static int64_t row_blocks(const work *w, const attend_linear *l) { return divide_up(l->rows, w->block_rows); }

static int64_t call_blocks(const work *w, const attend_linear *l) {
  return l->matrices * row_blocks(w, l) * divide_up(l->out_dim, w->block_columns);
}

static int64_t all_blocks(const work *w) {
  int64_t blocks = 0;
  for (int i = 0; i < w->count; i++) blocks += call_blocks(w, w->calls[i].linear);
  return blocks;
}

/** Rows of a matrix: linear->rows, or as many as there are of that sequence. */
static int64_t rows_of(const attend_linear_call *call, int64_t matrix) {
  return call->starts ? call->starts[matrix + 1] - call->starts[matrix] : call->linear->rows;
}

static void run_block(void *argument, int64_t block) {
  const work *w = argument;
  const attend_linear_call *call = w->calls;
  while (block >= call_blocks(w, call->linear)) block -= call_blocks(w, call++->linear);
  const attend_linear *l = call->linear;
  const int64_t down = row_blocks(w, l), row = block % down * w->block_rows;
  const int64_t matrix = block / down % l->matrices, column = block / down / l->matrices * w->block_columns;
  const int64_t rows = min_i64(rows_of(call, matrix) - row, w->block_rows);
  const int64_t columns = min_i64(l->out_dim - column, w->block_columns);
  if (rows <= 0) return; /* a sequence shorter than the longest may be */
  const int64_t in_row = row + (call->starts ? call->starts[matrix] : 0);
  const int64_t out_row = call->out_first ? row + call->out_first[matrix] : in_row;
  const bool out_in = l->layout == ATTEND_WEIGHT_OUT_IN;
  const float *in = call->in + matrix * l->in_matrix + in_row * l->in_row;
  const float *weight = call->weight + column * (out_in ? l->weight_row : 1);
  float *out = call->out + matrix * l->out_matrix + out_row * l->out_row + column;
  for (int64_t i = 0; call->bias && i < rows; i++)
    memcpy(out + i * l->out_row, call->bias + column, (size_t)columns * sizeof *out);
  cblas_sgemm(CblasRowMajor, CblasNoTrans, out_in ? CblasTrans : CblasNoTrans, (int)rows, (int)columns, (int)l->in_dim,
              1.0f, in, (int)l->in_row, weight, (int)l->weight_row, call->bias ? 1.0f : 0.0f, out, (int)l->out_row);
}

/** How many threads are worth waking. */
static int useful_threads(const attend_linear_call *calls, int count, int threads) {
  const double flops_per_thread = 3e6; /* some tens of microseconds */
  const work w = cut(calls, count);
  const int64_t blocks = all_blocks(&w);
  double flops = 0;
  for (int i = 0; i < count; i++) {
    const attend_linear *l = calls[i].linear;
    const int64_t rows = calls[i].starts ? calls[i].starts[l->matrices] - calls[i].starts[0] : l->matrices * l->rows;
    flops += 2.0 * (double)rows * (double)l->in_dim * (double)l->out_dim;
  }
  const double worthwhile = 1 + flops / flops_per_thread;
  if (worthwhile < threads) threads = (int)worthwhile;
  if (blocks < threads) threads = (int)blocks;
  return threads > ATTEND_LINEAR_MOST_THREADS ? ATTEND_LINEAR_MOST_THREADS : threads;
}

int64_t attend_linear_blocks(const attend_linear_call *calls, int count) {
  const work w = cut(calls, count);
  return all_blocks(&w);
}

void attend_linear_run_block(const attend_linear_call *calls, int count, int64_t block) {
  work w = cut(calls, count);
  run_block(&w, block);
}

static void run(const attend_host *host, const attend_linear_call *calls, int count, int threads) {
  const bool shared = openblas_get_num_threads() == 1;
  work w = cut(calls, count);
  if (!shared) w.block_rows = w.block_columns = INT32_MAX; /* the BLAS's own threads share what is whole */
  attend_share_out(host, shared ? useful_threads(calls, count, threads) : 1, all_blocks(&w), run_block, &w);
}

attend_linear_function *attend_linear_blas(void) { return run; }

void attend_linear_one_blas_thread(void) { openblas_set_num_threads(1); }

#else

attend_linear_function *attend_linear_blas(void) { return NULL; }

int64_t attend_linear_blocks(const attend_linear_call *calls, int count) {
  (void)calls, (void)count;
  return 0;
}

void attend_linear_run_block(const attend_linear_call *calls, int count, int64_t block) {
  (void)calls, (void)count, (void)block;
}

void attend_linear_one_blas_thread(void) {}

#endif

attend_status attend_linear_require(attend_linear_function **function) {
  *function = attend_linear_blas();
  if (*function) return ATTEND_OK;
  return attend_fail(ATTEND_ERROR_UNSUPPORTED,
                     "this library was built without a BLAS, expected one for projections: install OpenBLAS (Debian's "
                     "libopenblas-dev), and configure with -D ATTEND_BLAS=ON");
}
