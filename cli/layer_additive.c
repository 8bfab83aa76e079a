/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>

#include "cli/layer.h"
#include "cli/options.h"
#include "cli/source.h"

static bool read(const attend_layer_request *r, attend_layer_session *s) {
  attend_additive_problem *p = &s->additive.problem;
  attend_additive_tensors *t = &s->additive.tensors;
  *p = (attend_additive_problem)ATTEND_ADDITIVE_PROBLEM_INIT;
  p->batch = s->batch, p->q_len = s->q_len, p->kv_len = s->kv_len;
  p->q_dim = s->q_dim, p->k_dim = s->k_dim, p->v_dim = s->v_dim;
  *t = (attend_additive_tensors)ATTEND_ADDITIVE_TENSORS_INIT;
  t->query = s->query_data, t->key = s->key_data, t->value = s->value_data;
  if (!attend_layer_parts_take_additive(&s->parts, p, t)) return false;
  if (r->kv_lengths) {
    const attend_source lengths = {"kv-lengths", r->kv_lengths, false, &s->additive.kv_lengths};
    const int64_t rows[2] = {p->batch, p->q_len};
    if (!attend_source_lengths(&lengths, p->batch, rows, p->kv_len, &p->kv_lengths)) return false;
    t->kv_lengths = s->additive.kv_lengths.data;
  }
  s->out_dim = p->v_dim;
  s->keys = p->kv_len;
  return true;
}

static bool make_plan(const attend_layer_request *r, attend_layer_session *s) {
  s->additive.problem.weights = r->weights || r->heatmap;
  if (!attend_cli_library(attend_additive_plan_create(&s->additive.problem, &r->options, &s->additive.plan)))
    return false;
  s->workspace_size = attend_additive_plan_workspace_size(s->additive.plan);
  return true;
}

static bool run(attend_layer_session *s) {
  s->additive.tensors.out = s->out;
  s->additive.tensors.weights = s->weights;
  return attend_cli_library(
      attend_additive_plan_run(s->additive.plan, &s->additive.tensors, s->workspace, s->workspace_size));
}

static size_t explain(const attend_layer_session *s, char *text, size_t size) {
  return attend_additive_plan_explain(s->additive.plan, text, size);
}

static void print_shape(const attend_layer_session *s, FILE *to) {
  const attend_additive_problem *p = &s->additive.problem;
  fprintf(to,
          "additive, B %" PRId64 ", Lq %" PRId64 ", Lk %" PRId64 ", query dim %" PRId64 ", key dim %" PRId64
          ", value dim %" PRId64 ", hidden %" PRId64,
          p->batch, p->q_len, p->kv_len, p->q_dim, p->k_dim, p->v_dim, p->hidden);
}

static void release(attend_layer_session *s) {
  attend_npy_free(&s->additive.kv_lengths);
  attend_additive_plan_destroy(s->additive.plan);
}

const attend_layer_kind attend_layer_additive = {read, make_plan, run, explain, print_shape, release};
