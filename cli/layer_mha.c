/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/layer.h"
#include "cli/options.h"
#include "cli/source.h"
#include "dispatch/dispatch.h"
#include "kernels/size.h"

/* Reads a mask: flags, which say what is ignored or, with `attend`, what is attended; or numbers to be added. */
static bool read_mask(const attend_source *source, bool attend, attend_layer_mask *kind) {
  if (!attend_source_read(source)) return false;
  if (attend_source_is_flags(source)) {
    *kind = ATTEND_LAYER_MASK_IGNORE;
    if (!attend_source_flags(source)) return false;
    uint8_t *flag = source->array->data;
    for (size_t i = 0; attend && i < source->array->count; i++) flag[i] = !flag[i];
    return true;
  }
  *kind = ATTEND_LAYER_MASK_ADD;
  return attend_source_as_numbers(source) && attend_source_check(source, true) &&
         attend_source_convert(source, ATTEND_F32);
}

static bool has_shape(const attend_npy *a, const int64_t shape[5]) {
  return a->rank == (int)shape[0] && memcmp(a->shape, shape + 1, (size_t)a->rank * sizeof *a->shape) == 0;
}

static bool fail_shapes(const attend_source *source, const int64_t (*shapes)[5], int count, const char *more) {
  char expected[400] = "", shape[128];
  for (int i = 0; i < count; i++) {
    const size_t used = strlen(expected);
    snprintf(expected + used, sizeof expected - used, "%s%s", i ? " or " : "",
             attend_npy_shape_text((int)shapes[i][0], shapes[i] + 1, shape, sizeof shape));
  }
  strcat(expected, more);
  return attend_source_fail_shape(source, expected);
}

/* Repeats a mask of (B, Hq, Lq, Lk) along dimensions in which it has 1. */
static bool expand(const attend_source *source, const int64_t full[4]) {
  attend_npy *a = source->array;
  if (memcmp(a->shape, full, 4 * sizeof *full) == 0) return true;
  const size_t row = size_mul((size_t)full[3], attend_npy_type_size(a->type));
  const size_t rows = size_mul(size_mul((size_t)full[0], (size_t)full[1]), (size_t)full[2]);
  char *to = attend_cli_allocate("a mask", rows, row);
  if (!to) return false;
  for (size_t i = 0; i < rows; i++) {
    const int64_t at[3] = {(int64_t)i / full[2] / full[1], (int64_t)i / full[2] % full[1], (int64_t)i % full[2]};
    int64_t from = 0;
    for (int axis = 0; axis < 3; axis++) from = from * a->shape[axis] + (a->shape[axis] == 1 ? 0 : at[axis]);
    memcpy(to + i * row, (const char *)a->data + (size_t)from * row, row);
  }
  attend_free(a->data);
  a->data = to;
  a->count = rows * (size_t)full[3];
  memcpy(a->shape, full, 4 * sizeof *full);
  return true;
}

static bool take_padding_mask(const attend_source *source, const attend_layer_session *s, attend_mha_problem *p,
                              attend_mha_tensors *t) {
  const int64_t shapes[][5] = {{2, p->batch, p->kv_len}, {1, p->kv_len}};
  const int count = s->query.rank == 2 ? 2 : 1;
  if (!has_shape(source->array, shapes[0]) && (count == 1 || !has_shape(source->array, shapes[1])))
    return fail_shapes(source, shapes, count, "");
  t->key_padding_mask = source->array->data;
  return true;
}

static bool take_attn_mask(const attend_source *source, attend_mha_problem *p, attend_mha_tensors *t) {
  attend_npy *a = source->array;
  int64_t rows;
  if (__builtin_mul_overflow(p->batch, p->q_heads, &rows)) rows = -1;
  const int64_t shapes[][5] = {
      {2, p->q_len, p->kv_len}, {3, rows, p->q_len, p->kv_len}, {4, p->batch, p->q_heads, p->q_len, p->kv_len}};
  bool fits = a->rank == 4 && a->shape[3] == p->kv_len;
  for (int axis = 0; axis < 3; axis++) fits = fits && (a->shape[axis] == shapes[2][1 + axis] || a->shape[axis] == 1);
  if (!fits && !has_shape(a, shapes[0]) && !has_shape(a, shapes[1]))
    return fail_shapes(source, shapes, 3, ", of which the last may have 1 in the place of all but its last dimension");
  const bool same = a->rank == 2 || (fits && a->shape[0] == 1 && a->shape[1] == 1);
  const int64_t full[4] = {same ? 1 : p->batch, same ? 1 : p->q_heads, p->q_len, p->kv_len};
  if (fits && !expand(source, full)) return false;
  p->attn_mask_per_head = !same;
  t->attn_mask = a->data;
  return true;
}

static bool read_masks(const attend_layer_request *r, attend_layer_session *s) {
  attend_mha_problem *p = &s->mha.problem;
  attend_mha_tensors *t = &s->mha.tensors;
  const bool bits = r->files.bf16_bits;
  const attend_source padding = {"key-padding-mask", r->key_padding_mask, bits, &s->mha.key_padding_mask};
  const attend_source attn = {"attn-mask", r->attn_mask, bits, &s->mha.attn_mask};
  const attend_source attention = {"attention-mask", r->attention_mask, bits, &s->mha.attn_mask};
  if (r->key_padding_mask &&
      !(read_mask(&padding, false, &p->key_padding_mask) && take_padding_mask(&padding, s, p, t)))
    return false;
  if (r->attn_mask && !(read_mask(&attn, false, &p->attn_mask) && take_attn_mask(&attn, p, t))) return false;
  if (!r->attention_mask) return true;
  attend_layer_mask kind;
  if (!read_mask(&attention, true, &kind)) return false;
  const bool by_query = s->mha.attn_mask.rank == 4;
  *(by_query ? &p->attn_mask : &p->key_padding_mask) = kind;
  if (by_query) return take_attn_mask(&attention, p, t);
  /* transformers takes 1.0 here for "attend", where its masks of four dimensions are added. */
  if (kind == ATTEND_LAYER_MASK_ADD)
    return attend_source_fail_type(&attention, "bool, or 0 and 1 of uint8, int32 or int64, or (B, 1, Lq, Lk)");
  return take_padding_mask(&attention, s, p, t);
}

static bool read_sinks(const attend_layer_request *r, attend_layer_session *s) {
  const attend_source sinks = {"sinks", r->sinks, r->files.bf16_bits, &s->mha.sinks};
  if (!r->sinks) return true;
  if (s->parts.part[PART_SINKS].data) {
    attend_cli_error("--sinks and %s: expected one of them", s->parts.name[PART_SINKS]);
    return false;
  }
  if (!attend_source_numbers(&sinks) || !attend_source_check(&sinks, true) ||
      !attend_source_convert(&sinks, ATTEND_F32))
    return false;
  if (s->mha.sinks.rank != 1 || s->mha.sinks.shape[0] != s->mha.problem.q_heads)
    return attend_source_fail_shape(&sinks, "a number for each head");
  s->mha.problem.sinks = 1;
  s->mha.tensors.sinks = s->mha.sinks.data;
  return true;
}

static bool read_frequencies(const attend_layer_request *r, attend_layer_session *s) {
  const attend_mha_problem *p = &s->mha.problem;
  const attend_source source = {"rope-frequencies", r->rope_frequencies, r->files.bf16_bits, &s->mha.rope_frequencies};
  if (!r->rope_frequencies) return true;
  if (!attend_source_numbers(&source) ||
      !attend_source_fits_vector(&source, (p->rotary_dim ? p->rotary_dim : p->head_dim) / 2) ||
      !attend_source_check(&source, false) || !attend_source_convert(&source, ATTEND_F32))
    return false;
  s->mha.tensors.rope_frequencies = s->mha.rope_frequencies.data;
  return true;
}

/* What a model does that its weights do not say has to be said by options. */
static bool check_naming(const attend_layer_request *r, const attend_layer_parts *w) {
  const attend_layer_naming *n = w->naming;
  if (!n) return true;
  const int length = *w->prefix ? (int)strlen(w->prefix) - 1 : 0;
  if (n->rope && !r->rope_given) {
    const char *pairs = n->rope == ATTEND_ROPE_HALF ? "half" : "interleaved";
    attend_cli_error(
        "--model %s: layer '%.*s' is named as in %s, where queries and keys are turned by position: expected "
        "--rope %s,THETA (perhaps ,DIM), as the model's configuration says, or --rope none",
        r->files.model, length, w->prefix, n->model, pairs);
    return false;
  }
  if (n->position_bias && !r->attn_mask) {
    attend_cli_error("--model %s: layer '%.*s' is named as in %s, where the first block has a bias by position for all "
                     "blocks: expected it in --attn-mask, (1, Hq, Lq, Lk)",
                     r->files.model, length, w->prefix, n->model);
    return false;
  }
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
  const attend_layer_naming *naming = s->parts.naming;
  if (naming && naming->scale != 0.0f && !(p->as_given & ATTEND_AS_GIVEN_SCALE)) p->scale = naming->scale;
  if (!check_naming(r, &s->parts) || !attend_layer_parts_take_mha(&s->parts, p, t)) return false;
  if (!read_masks(r, s) || !read_sinks(r, s) || !read_frequencies(r, s)) return false;
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
  attend_npy_free(&s->mha.rope_frequencies);
  attend_mha_plan_destroy(s->mha.plan);
}

const attend_layer_kind attend_layer_mha = {read, make_plan, run, explain, print_shape, release};
