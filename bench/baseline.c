/* SPDX-License-Identifier: Apache-2.0 */
#define _POSIX_C_SOURCE 200809L /* strcasecmp() */
#include "bench/baseline.h"

#include <cblas.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "kernels/size.h"

const char *attend_baseline_why_not(const attend_shape *shape) {
  if (shape->score != ATTEND_SCORE_DOT) return "sgemm makes dot products only";
  const bool apart = attend_shape_page_rows(shape) > 0 || shape->form == ATTEND_FORM_SIDE_BY_SIDE;
  return apart ? "sgemm needs the keys of a sequence in one piece" : NULL;
}

size_t attend_baseline_scores(const attend_shape *shape) {
  return size_mul(size_mul((size_t)shape->q_len, (size_t)shape->kv_len), sizeof(float));
}

/* A single query is a matrix times a vector, for which a BLAS has a faster routine. */
static void scores_of(const attend_shape *s, const float *q, const float *k, int keys, float scale, float *scores) {
  const int queries = (int)s->q_len, dim = (int)s->head_dim;
  if (queries == 1)
    cblas_sgemv(CblasRowMajor, CblasNoTrans, keys, dim, scale, k, dim, q, 1, 0.0f, scores, 1);
  else
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, queries, keys, dim, scale, q, dim, k, dim, 0.0f, scores, keys);
}

/* `v_row` numbers lie from value to value. */
static void output_of(const attend_shape *s, const float *scores, const float *v, int v_row, int keys, float *out) {
  const int queries = (int)s->q_len, dim = (int)s->v_head_dim;
  if (queries == 1)
    cblas_sgemv(CblasRowMajor, CblasTrans, keys, dim, 1.0f, v, v_row, scores, 1, 0.0f, out, 1);
  else
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, queries, dim, keys, 1.0f, scores, keys, v, v_row, 0.0f, out,
                dim);
}

/* A mask that is given as numbers is causal, and taken as such: to read and add it would make this slower. */
void attend_baseline_run(const attend_bench_data *data, const attend_peak *peak, int threads, float *scores) {
  const attend_shape *s = data->shape;
  const attend_strides *ks = &data->problem.k_strides, *vs = &data->problem.v_strides;
  const float *q = data->tensors.q, *k = data->tensors.k, *v = data->tensors.v;
  const float scale = 1.0f / __builtin_sqrtf((float)s->head_dim);
  float *out = data->tensors.out;
#pragma omp parallel for num_threads(threads) schedule(dynamic)
  for (int64_t n = 0; n < s->batch * s->q_heads; n++) {
    const int64_t b = n / s->q_heads, kv = n % s->q_heads / (s->q_heads / s->kv_heads);
    const int64_t keys = attend_shape_length(s, b);
    float *mine = scores + omp_get_thread_num() * s->q_len * s->kv_len;
    scores_of(s, q + n * s->q_len * s->head_dim, k + b * ks->batch + kv * ks->head, (int)keys, scale, mine);
    for (int64_t i = 0; i < s->q_len; i++) {
      int64_t attended = attend_shape_attended(s, b, i);
      peak->softmax(mine + i * keys, attended);
      memset(mine + i * keys + attended, 0, (size_t)(keys - attended) * sizeof *mine);
    }
    output_of(s, mine, v + b * vs->batch + kv * vs->head, (int)vs->row, (int)keys, out + n * s->q_len * s->v_head_dim);
  }
}

const char *attend_baseline_core(void) { return openblas_get_corename(); }

const char *attend_baseline_better_core(attend_isa widest) {
  static const char *const avx2[] = {"Haswell", "Zen", NULL};
  static const char *const avx512[] = {"SkylakeX", "Cooperlake", "SapphireRapids", NULL};
  const char *const *good = NULL;
  if (widest == ATTEND_ISA_AVX2) good = avx2;
  if (widest == ATTEND_ISA_AVX512 || widest == ATTEND_ISA_AVX512BF16 || widest == ATTEND_ISA_AMX) good = avx512;
  if (!good) return NULL;
  for (const char *const *core = good; *core; core++)
    if (strcasecmp(*core, openblas_get_corename()) == 0) return NULL;
  const char *asked = getenv("OPENBLAS_CORETYPE");
  return asked && strcmp(asked, good[0]) == 0 ? NULL : good[0]; /* asked for already, and OpenBLAS does not have it */
}
