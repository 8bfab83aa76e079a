/* SPDX-License-Identifier: Apache-2.0 */
/** Problems made ready to be timed. */
#define _GNU_SOURCE /* madvise() */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "bench/shapes.h"
#include "dispatch/dispatch.h"
#include "kernels/convert.h"
#include "kernels/size.h"
#include "tune/internal.h"

enum { HUGE_PAGE = 2 << 20 };
/* ---------------------------------------------------------------------------------------------------------- tensors */

/** On huge pages where there are any, so that no time depends on which small pages the system had to give. */
static void *allocate(size_t size) {
  size = size_align(size_add(size, 1), HUGE_PAGE);
  void *memory = size == SIZE_MAX ? NULL : aligned_alloc(HUGE_PAGE, size);
  if (memory) madvise(memory, size, MADV_HUGEPAGE);
  return memory;
}

/** Numbers from -2 to 2, 512 of them over and over: scores of ordinary size, made fast. */
static float number(uint32_t *seed) {
  *seed = *seed * 1664525 + 1013904223;
  return (float)(*seed >> 8) / (float)(1 << 22) - 2.0f;
}

static void fill(void *tensor, attend_dtype dtype, size_t count, uint32_t seed) {
  uint32_t numbers[512];
  for (int i = 0; i < 512; i++) {
    const float x = number(&seed);
    if (dtype == ATTEND_F32)
      memcpy(&numbers[i], &x, sizeof x);
    else
      numbers[i] = dtype == ATTEND_F16 ? f32_to_f16(x) : f32_to_bf16(x);
  }
  for (size_t i = 0; i < count; i++)
    if (dtype == ATTEND_F32)
      ((uint32_t *)tensor)[i] = numbers[(i + i / 509) % 512];
    else
      ((uint16_t *)tensor)[i] = (uint16_t)numbers[(i + i / 509) % 512];
}

/** Copies what `all` begins with, `size` bytes, over and over until `total` bytes are full. */
static void repeat(char *all, size_t size, size_t total) {
  for (size_t at = size; at < total; at += size) memcpy(all + at, all, size < total - at ? size : total - at);
}

/** Keys or values of any type with their scales: some rows of such numbers, over and over. false: no memory. */
static bool fill_rows(char *rows, float *scales, attend_dtype dtype, size_t count, int64_t dim, uint32_t seed) {
  enum { SOME = 61 };
  const size_t some = count < SOME ? count : SOME, row_scales = (size_t)attend_shape_scales(dtype, dim);
  const size_t size = (size_t)attend_row_size(dtype, dim);
  float *numbers = malloc(some * (size_t)dim * sizeof *numbers + 1);
  for (size_t i = 0; numbers && i < some * (size_t)dim; i++) numbers[i] = number(&seed);
  const bool ok = numbers && attend_shape_store(dtype, (int64_t)some, dim, numbers, rows, scales) == ATTEND_OK;
  free(numbers);
  if (!ok || !some) return ok;
  repeat(rows, some * size, count * size);
  if (row_scales) repeat((char *)scales, some * row_scales * sizeof *scales, count * row_scales * sizeof *scales);
  return true;
}

/** Elements that a boolean mask or a bias reaches. */
static size_t reach(const attend_problem *p, const attend_strides4 *s) {
  return (size_t)(1 + (p->batch - 1) * s->batch + (p->q_heads - 1) * s->head + (p->q_len - 1) * s->query +
                  (p->kv_len - 1) * s->key);
}

bool attend_tune_subject_open(attend_tune_subject *subject, const attend_problem *problem) {
  *subject = (attend_tune_subject){.tensors = ATTEND_TENSORS_INIT};
  if (attend_resolve(problem, &subject->resolved) != ATTEND_OK) return false;
  const attend_problem *p = &subject->resolved.p;
  const size_t queries = (size_t)(p->batch * p->q_heads * p->q_len),
               keys = (size_t)(p->batch * p->kv_heads * p->kv_len);
  const size_t lengths_count = p->kv_lengths == ATTEND_LENGTHS_PER_QUERY ? (size_t)(p->batch * p->q_len)
                               : p->kv_lengths                           ? (size_t)p->batch
                                                                         : 0;
  const size_t mask_count = p->mask ? reach(p, &p->mask_strides) : 0;
  const size_t bias_count = p->bias_dtype ? reach(p, &p->bias_strides) : 0;
  size_t total = 0;
  const size_t q = size_take(&total, queries * (size_t)p->head_dim, attend_dtype_size(p->q_dtype));
  const size_t k = size_take(&total, keys, (size_t)attend_row_size(p->k_dtype, p->head_dim));
  const size_t v = size_take(&total, keys, (size_t)attend_row_size(p->v_dtype, p->v_head_dim));
  const size_t k_scales = size_take(&total, keys * (size_t)attend_shape_scales(p->k_dtype, p->head_dim), sizeof(float));
  const size_t v_scales =
      size_take(&total, keys * (size_t)attend_shape_scales(p->v_dtype, p->v_head_dim), sizeof(float));
  const size_t out = size_take(&total, queries * (size_t)p->v_head_dim, attend_dtype_size(p->out_dtype));
  const size_t lengths = size_take(&total, lengths_count, sizeof(int32_t));
  const size_t mask = size_take(&total, mask_count, 1);
  const size_t bias = size_take(&total, bias_count, attend_dtype_size(p->bias_dtype));
  const size_t heads = size_take(&total, (size_t)p->q_heads, sizeof(float));
  const size_t lse = size_take(&total, p->lse ? queries : 0, sizeof(float));
  char *memory = allocate(total);
  float *const k_scale = memory ? (float *)(void *)(memory + k_scales) : NULL;
  float *const v_scale = memory ? (float *)(void *)(memory + v_scales) : NULL;
  if (!memory || !fill_rows(memory + k, k_scale, p->k_dtype, keys, p->head_dim, 2) ||
      !fill_rows(memory + v, v_scale, p->v_dtype, keys, p->v_head_dim, 3)) {
    free(memory);
    attend_fail(ATTEND_ERROR_OUT_OF_MEMORY, "no memory for tensors of %zu bytes", total);
    return false;
  }
  subject->memory = memory;
  fill(memory + q, p->q_dtype, queries * (size_t)p->head_dim, 1);
  fill(memory + bias, p->bias_dtype, bias_count, 4);
  for (size_t i = 0; i < lengths_count; i++) ((int32_t *)(void *)(memory + lengths))[i] = (int32_t)p->kv_len;
  for (size_t i = 0; i < mask_count; i++) memory[mask + i] = i % 3 != 0;
  for (int64_t h = 0; h < p->q_heads; h++) ((float *)(void *)(memory + heads))[h] = 1.0f / (float)(1 + h);
  attend_tensors *t = &subject->tensors;
  t->q = memory + q, t->k = memory + k, t->v = memory + v, t->out = memory + out;
  t->k_scales = k_scale, t->v_scales = v_scale;
  t->kv_lengths = (int32_t *)(void *)(memory + lengths), t->mask = (uint8_t *)memory + mask, t->bias = memory + bias;
  t->alibi_slopes = t->sinks = (float *)(void *)(memory + heads), t->lse = (float *)(void *)(memory + lse);
  return true;
}

void attend_tune_subject_close(attend_tune_subject *subject) {
  free(subject->memory);
  subject->memory = NULL;
}

/* ------------------------------------------------------------------------------------------------------------- runs */

bool attend_tune_workspace_fit(attend_tune_workspace *workspace, const attend_plan *plan) {
  const size_t size = attend_plan_workspace_size(plan);
  if (size <= workspace->size) return true;
  attend_tune_workspace_free(workspace);
  workspace->memory = allocate(size);
  if (!workspace->memory) {
    attend_fail(ATTEND_ERROR_OUT_OF_MEMORY, "no memory for a workspace of %zu bytes", size);
    return false;
  }
  memset(workspace->memory, 0, size); /* no page is new when time counts */
  workspace->size = size;
  return true;
}

void attend_tune_workspace_free(attend_tune_workspace *workspace) {
  free(workspace->memory);
  *workspace = (attend_tune_workspace){0};
}

double attend_tune_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

double attend_tune_time(const attend_plan *plan, const attend_tune_subject *subject,
                        const attend_tune_workspace *workspace, double least) {
  const double begin = attend_tune_now();
  double elapsed = 0;
  int64_t count = 0;
  for (int64_t more = 1; elapsed < least || count == 0; more = count) { /* asks for the time ever more rarely */
    for (int64_t i = 0; i < more; i++) attend_plan_run(plan, &subject->tensors, workspace->memory, workspace->size);
    count += more;
    elapsed = attend_tune_now() - begin;
  }
  return elapsed / (double)count;
}
