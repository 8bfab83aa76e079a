/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/layer.h"
#include "cli/options.h"
#include "cli/source.h"

/* Reads a mask of one of `count` shapes; returns which of them, or -1 after reporting that it is none. */
static int read_mask(const attend_source *source, const int64_t (*shapes)[5], int count, attend_layer_mask *kind) {
  const attend_npy *a = source->array;
  if (!attend_source_read(source)) return -1;
  *kind = a->type == ATTEND_NPY_BOOL ? ATTEND_LAYER_MASK_IGNORE : ATTEND_LAYER_MASK_ADD;
  if (!attend_source_narrow(source)) return -1;
  if (a->type != ATTEND_NPY_BOOL && a->type != ATTEND_NPY_F32 && a->type != ATTEND_NPY_F16) {
    attend_source_fail_type(source, "bool, float32, float16 or float64");
    return -1;
  }
  if (*kind == ATTEND_LAYER_MASK_ADD &&
      (!attend_source_check(source, true) || !attend_source_convert(source, ATTEND_F32)))
    return -1;
  for (int i = 0; i < count; i++)
    if (a->rank == (int)shapes[i][0] && memcmp(a->shape, shapes[i] + 1, (size_t)a->rank * sizeof *a->shape) == 0)
      return i;
  char expected[400] = "", shape[128];
  for (int i = 0; i < count; i++) {
    const size_t used = strlen(expected);
    snprintf(expected + used, sizeof expected - used, "%s%s", i ? " or " : "",
             attend_npy_shape_text((int)shapes[i][0], shapes[i] + 1, shape, sizeof shape));
  }
  attend_source_fail_shape(source, expected);
  return -1;
}

static bool read_masks(const attend_layer_request *r, attend_layer_session *s) {
  attend_mha_problem *p = &s->mha.problem;
  const attend_source padding = {"key-padding-mask", r->key_padding_mask, false, &s->mha.key_padding_mask};
  const attend_source attn = {"attn-mask", r->attn_mask, false, &s->mha.attn_mask};
  if (r->key_padding_mask) {
    const int64_t shapes[][5] = {{2, p->batch, p->kv_len}, {1, p->kv_len}};
    if (read_mask(&padding, shapes, s->query.rank == 2 ? 2 : 1, &p->key_padding_mask) < 0) return false;
    s->mha.tensors.key_padding_mask = s->mha.key_padding_mask.data;
  }
  if (r->attn_mask) {
    int64_t rows;
    if (__builtin_mul_overflow(p->batch, p->q_heads, &rows)) rows = -1;
    const int64_t shapes[][5] = {
        {2, p->q_len, p->kv_len}, {3, rows, p->q_len, p->kv_len}, {4, p->batch, p->q_heads, p->q_len, p->kv_len}};
    const int shape = read_mask(&attn, shapes, 3, &p->attn_mask);
    if (shape < 0) return false;
    p->attn_mask_per_head = shape > 0;
    s->mha.tensors.attn_mask = s->mha.attn_mask.data;
  }
  return true;
}

static bool read_sinks(const attend_layer_request *r, attend_layer_session *s) {
  const attend_source sinks = {"sinks", r->sinks, false, &s->mha.sinks};
  if (!r->sinks) return true;
  if (!attend_source_numbers(&sinks) || !attend_source_check(&sinks, true) ||
      !attend_source_convert(&sinks, ATTEND_F32))
    return false;
  if (s->mha.sinks.rank != 1 || s->mha.sinks.shape[0] != s->mha.problem.q_heads)
    return attend_source_fail_shape(&sinks, "a number for each head");
  s->mha.problem.sinks = 1;
  s->mha.tensors.sinks = s->mha.sinks.data;
  return true;
}

static bool read(const attend_layer_request *r, attend_layer_session *s) {
  attend_mha_problem *p = &s->mha.problem;
  attend_mha_tensors *t = &s->mha.tensors;
  *p = r->mha;
  p->batch = s->batch, p->q_len = s->q_len, p->kv_len = s->kv_len;
  p->embed_dim = s->q_dim, p->k_dim = s->k_dim, p->v_dim = s->v_dim;
  *t = (attend_mha_tensors)ATTEND_MHA_TENSORS_INIT;
  t->query = s->query_data, t->key = s->key_data, t->value = s->value_data;
  if (!attend_layer_parts_read_mha(&r->files, &s->parts, p, t) || !read_masks(r, s) || !read_sinks(r, s)) return false;
  s->out_dim = p->out_proj ? p->out_dim : p->q_heads * p->v_head_dim;
  s->heads = p->q_heads;
  s->keys = p->kv_len + p->bias_kv + p->add_zero_attn;
  s->appended[0] = p->bias_kv ? "bias_k" : NULL;
  s->appended[1] = p->add_zero_attn ? "zero" : NULL;
  return true;
}

static attend_sequence_strides strides(const attend_layer_request *r, const attend_layer_session *s, int64_t dim) {
  if (!r->sequence_first) return (attend_sequence_strides){0, 0};
  return (attend_sequence_strides){dim, s->batch * dim};
}

static bool make_plan(const attend_layer_request *r, attend_layer_session *s) {
  attend_mha_problem *p = &s->mha.problem;
  p->query_strides = strides(r, s, s->q_dim);
  p->key_strides = strides(r, s, s->k_dim);
  p->value_strides = strides(r, s, s->v_dim);
  p->out_strides = strides(r, s, s->out_dim);
  if (r->weights || r->heatmap) p->weights = r->average ? ATTEND_LAYER_WEIGHTS_AVERAGED : ATTEND_LAYER_WEIGHTS_PER_HEAD;
  if (!attend_cli_library(attend_mha_plan_create(p, &r->options, &s->mha.plan))) return false;
  s->workspace_size = attend_mha_plan_workspace_size(s->mha.plan);
  return true;
}

static bool run(attend_layer_session *s) {
  s->mha.tensors.out = s->out;
  s->mha.tensors.weights = s->weights;
  return attend_cli_library(attend_mha_plan_run(s->mha.plan, &s->mha.tensors, s->workspace, s->workspace_size));
}

static size_t explain(const attend_layer_session *s, char *text, size_t size) {
  return attend_mha_plan_explain(s->mha.plan, text, size);
}

static void print_shape(const attend_layer_session *s, FILE *to) {
  const attend_mha_problem *p = &s->mha.problem;
  fprintf(to,
          "B %" PRId64 ", Lq %" PRId64 ", Lk %" PRId64 ", E %" PRId64 ", Hq %" PRId64 ", Hkv %" PRId64 ", D %" PRId64
          ", Dv %" PRId64 ", %s output projection",
          p->batch, p->q_len, p->kv_len, p->embed_dim, p->q_heads, p->kv_heads, p->head_dim, p->v_head_dim,
          p->out_proj ? "with" : "no");
}

static void release(attend_layer_session *s) {
  attend_npy_free(&s->mha.key_padding_mask);
  attend_npy_free(&s->mha.attn_mask);
  attend_npy_free(&s->mha.sinks);
  attend_mha_plan_destroy(s->mha.plan);
}

const attend_layer_kind attend_layer_mha = {read, make_plan, run, explain, print_shape, release};
