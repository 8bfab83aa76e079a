/* SPDX-License-Identifier: Apache-2.0 */
/**
 * OpenBLAS's threads and OpenMP's wait busily for more work, and a layer would go back and forth between them: 2.5 ms
 * of sgemm took 7.8 ms when every other call was an OpenMP region, on the two cores of a Zen 5. So OpenMP's threads
 * call a single-threaded BLAS wherever the process lets them. How a projection is cut then does not depend on their
 * number.
 */
#include "layers/linear.h"

#include "kernels/integers.h"

#ifdef ATTEND_HAS_BLAS

#include <cblas.h>
#include <string.h>

enum {
  /* Of 1024 x 2304 x 768 on one core: 247 GFLOP/s as a whole, 226 cut so, 205 in blocks of half as many rows. */
  BLOCK_ROWS = 256,
  BLOCK_COLUMNS = 384,
  /* OpenBLAS ends the process when too many threads call it at once; Debian's takes 128 at least. */
  MOST_THREADS = 64
};

static int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }

/** Calls, cut into blocks, one after the other. */
typedef struct work {
  const attend_linear_call *calls;
  int count;
  int64_t block_rows, block_columns;
} work;

static int64_t row_blocks(const work *w, const attend_linear *l) { return divide_up(l->rows, w->block_rows); }

static int64_t call_blocks(const work *w, const attend_linear *l) {
  return l->matrices * row_blocks(w, l) * divide_up(l->out_dim, w->block_columns);
}

static void run_block(void *argument, int64_t block) {
  const work *w = argument;
  const attend_linear_call *call = w->calls;
  while (block >= call_blocks(w, call->linear)) block -= call_blocks(w, call++->linear);
  const attend_linear *l = call->linear;
  const int64_t down = row_blocks(w, l), row = block % down * w->block_rows;
  const int64_t matrix = block / down % l->matrices, column = block / down / l->matrices * w->block_columns;
  const int64_t rows = min(l->rows - row, w->block_rows), columns = min(l->out_dim - column, w->block_columns);
  const bool out_in = l->layout == ATTEND_WEIGHT_OUT_IN;
  const float *in = call->in + matrix * l->in_matrix + row * l->in_row;
  const float *weight = call->weight + column * (out_in ? l->weight_row : 1);
  float *out = call->out + matrix * l->out_matrix + row * l->out_row + column;
  for (int64_t i = 0; call->bias && i < rows; i++)
    memcpy(out + i * l->out_row, call->bias + column, (size_t)columns * sizeof *out);
  cblas_sgemm(CblasRowMajor, CblasNoTrans, out_in ? CblasTrans : CblasNoTrans, (int)rows, (int)columns, (int)l->in_dim,
              1.0f, in, (int)l->in_row, weight, (int)l->weight_row, call->bias ? 1.0f : 0.0f, out, (int)l->out_row);
}

/** Threads worth waking: each is to have some tens of microseconds of work. */
static int choose_threads(const work *w, int64_t blocks, int threads) {
  const double flops_per_thread = 3e6;
  double flops = 0;
  for (int i = 0; i < w->count; i++) {
    const attend_linear *l = w->calls[i].linear;
    flops += 2.0 * (double)l->matrices * (double)l->rows * (double)l->in_dim * (double)l->out_dim;
  }
  double worthwhile = 1 + flops / flops_per_thread;
  if (worthwhile < threads) threads = (int)worthwhile;
  if (blocks < threads) threads = (int)blocks;
  return threads > MOST_THREADS ? MOST_THREADS : threads;
}

static void run(const attend_host *host, const attend_linear_call *calls, int count, int threads) {
  const bool shared = openblas_get_num_threads() == 1;
  work w = {.calls = calls,
            .count = count,
            .block_rows = shared ? BLOCK_ROWS : INT32_MAX,
            .block_columns = shared ? BLOCK_COLUMNS : INT32_MAX};
  int64_t blocks = 0;
  for (int i = 0; i < count; i++) blocks += call_blocks(&w, calls[i].linear);
  attend_share_out(host, shared ? choose_threads(&w, blocks, threads) : 1, blocks, run_block, &w);
}

attend_linear_function *attend_linear_blas(void) { return run; }

void attend_linear_one_blas_thread(void) { openblas_set_num_threads(1); }

#else

attend_linear_function *attend_linear_blas(void) { return NULL; }

void attend_linear_one_blas_thread(void) {}

#endif

attend_status attend_linear_require(attend_linear_function **function) {
  *function = attend_linear_blas();
  if (*function) return ATTEND_OK;
  return attend_fail(ATTEND_ERROR_UNSUPPORTED,
                     "this library was built without a BLAS, expected one for projections: build it with ATTEND_BLAS");
}
