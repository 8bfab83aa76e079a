/* SPDX-License-Identifier: Apache-2.0 */
/** Additive attention: two projections, and attention with additive scores. */
#include <inttypes.h>

#include "dispatch/dispatch.h"
#include "kernels/size.h"
#include "layers/linear.h"

/* Fields that 0.2 has. */
#define PROBLEM_FIRST_SIZE (offsetof(attend_additive_problem, batch_invariant) + sizeof(int))
#define TENSORS_FIRST_SIZE (offsetof(attend_additive_tensors, dropout_offset) + sizeof(uint64_t))

struct attend_additive_plan {
  attend_additive_problem p; /**< no field at its default value any more */
  attend_linear_function *run_linear;
  attend_linear q, k;
  attend_plan *core;
  attend_host host;
  int threads;
  size_t q_at, k_at, core_at; /**< bytes from the start of the workspace */
  size_t core_size, workspace_size;
};

/* -------------------------------------------------------------------------------------------------------- creation */

static attend_status check_ranges(const attend_additive_problem *p) {
  const int64_t most = ATTEND_MAX_EXTENT;
  const attend_range ranges[] = {
      {"batch", p->batch, 0, most},   {"q_len", p->q_len, 0, most},
      {"kv_len", p->kv_len, 0, most}, {"q_dim", p->q_dim, 1, most},
      {"k_dim", p->k_dim, 1, most},   {"v_dim", p->v_dim, 1, most},
      {"hidden", p->hidden, 1, most}, {"weight_layout", p->weight_layout, ATTEND_WEIGHT_OUT_IN, ATTEND_WEIGHT_IN_OUT},
  };
  return attend_check_ranges(ranges, sizeof ranges / sizeof *ranges);
}

/** The attention after the projections; it checks the fields that it shares with the layer. */
static attend_problem core_problem(const attend_additive_problem *p) {
  attend_problem core = ATTEND_PROBLEM_INIT;
  core.batch = p->batch, core.q_len = p->q_len, core.kv_len = p->kv_len, core.q_heads = 1;
  core.head_dim = p->hidden, core.v_head_dim = p->v_dim;
  core.score = ATTEND_SCORE_ADDITIVE;
  core.kv_lengths = p->kv_lengths, core.mask = p->mask, core.weights = p->weights, core.dropout = p->dropout;
  core.batch_invariant = p->batch_invariant;
  core.mask_strides = (attend_strides4){p->q_len * p->kv_len, 0, p->kv_len, 1};
  return core;
}

/** A projection of a contiguous sequence to `hidden`, and room for what comes of it; its length on which they depend.
 */
static attend_status project(attend_additive_plan *plan, const char *name, int64_t len, int64_t dim,
                             attend_linear *linear, size_t *at) {
  const attend_additive_problem *p = &plan->p;
  const size_t rows = size_mul((size_t)p->batch, (size_t)len);
  if (size_mul(size_mul(rows, (size_t)dim), sizeof(float)) > PTRDIFF_MAX ||
      size_mul(size_mul((size_t)dim, (size_t)p->hidden), sizeof(float)) > PTRDIFF_MAX)
    return attend_fail(ATTEND_ERROR_OVERFLOW,
                       "%s of %" PRId64 " x %" PRId64 " x %" PRId64
                       " elements, or its weight, needs more than %td bytes",
                       name, p->batch, len, dim, PTRDIFF_MAX);
  *linear = (attend_linear){.matrices = p->batch,
                            .rows = len,
                            .in_dim = dim,
                            .out_dim = p->hidden,
                            .in_matrix = len * dim,
                            .in_row = dim,
                            .out_matrix = len * p->hidden,
                            .out_row = p->hidden,
                            .weight_row = p->weight_layout == ATTEND_WEIGHT_OUT_IN ? dim : p->hidden,
                            .layout = p->weight_layout};
  if (rows <= INT32_MAX) linear->rows = (int64_t)rows, linear->matrices = 1; /* one long matrix */
  *at = size_take(&plan->workspace_size, rows, size_mul((size_t)p->hidden, sizeof(float)));
  return ATTEND_OK;
}

static attend_status make(const attend_additive_problem *problem, const attend_options *options,
                          attend_additive_plan *plan) {
  attend_additive_problem *p = &plan->p;
  attend_status s = attend_read_versioned(p, sizeof *p, PROBLEM_FIRST_SIZE, problem, "attend_additive_problem");
  if (s != ATTEND_OK || (s = check_ranges(p)) != ATTEND_OK ||
      (s = project(plan, "query", p->q_len, p->q_dim, &plan->q, &plan->q_at)) != ATTEND_OK ||
      (s = project(plan, "key", p->kv_len, p->k_dim, &plan->k, &plan->k_at)) != ATTEND_OK)
    return s;
  const attend_problem core = core_problem(p);
  if ((s = attend_plan_create(&core, options, &plan->core)) != ATTEND_OK) return s;
  plan->host = *attend_plan_host(plan->core);
  plan->threads = attend_plan_max_parts(plan->core);
  plan->core_size = attend_plan_workspace_size(plan->core);
  plan->core_at = size_take(&plan->workspace_size, 1, plan->core_size);
  if (plan->workspace_size > PTRDIFF_MAX)
    return attend_fail(ATTEND_ERROR_OVERFLOW, "the layer would need a workspace of more than %td bytes", PTRDIFF_MAX);
  return ATTEND_OK;
}

attend_status attend_additive_plan_create(const attend_additive_problem *problem, const attend_options *options,
                                          attend_additive_plan **plan) {
  attend_additive_plan made = {0};
  void *kept;
  if (!plan) return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT, "plan is NULL, expected where to put the plan");
  attend_status status = attend_linear_require(&made.run_linear);
  if (status == ATTEND_OK) status = make(problem, options, &made);
  if (status == ATTEND_OK) status = attend_keep_plan(&made.host, &made, sizeof made, &kept);
  if (status == ATTEND_OK)
    *plan = kept;
  else
    attend_plan_destroy(made.core);
  return status;
}

void attend_additive_plan_destroy(attend_additive_plan *plan) {
  if (!plan) return;
  const attend_host host = plan->host;
  attend_plan_destroy(plan->core);
  attend_host_release(&host, plan, sizeof *plan);
}

size_t attend_additive_plan_workspace_size(const attend_additive_plan *plan) { return plan ? plan->workspace_size : 0; }

size_t attend_additive_plan_explain(const attend_additive_plan *plan, char *buffer, size_t size) {
  return attend_plan_explain(plan ? plan->core : NULL, buffer, size);
}

/* ------------------------------------------------------------------------------------------------------------- run */

static attend_status check_tensors(const attend_additive_plan *plan, const attend_additive_tensors *tensors,
                                   attend_additive_tensors *t) {
  const attend_additive_problem *p = &plan->p;
  const attend_status s = attend_read_versioned(t, sizeof *t, TENSORS_FIRST_SIZE, tensors, "attend_additive_tensors");
  if (s != ATTEND_OK) return s;
  const bool queries = p->batch > 0 && p->q_len > 0, keys = queries && p->kv_len > 0;
  const attend_address addresses[] = {
      {"query", t->query, queries, sizeof(float)},    {"key", t->key, keys, sizeof(float)},
      {"value", t->value, keys, sizeof(float)},       {"q_weight", t->q_weight, queries, sizeof(float)},
      {"k_weight", t->k_weight, keys, sizeof(float)}, {"score_weight", t->score_weight, queries, sizeof(float)},
      {"q_bias", t->q_bias, false, sizeof(float)},
  };
  return attend_check_addresses(addresses, sizeof addresses / sizeof *addresses);
}

attend_status attend_additive_plan_run(const attend_additive_plan *plan, const attend_additive_tensors *tensors,
                                       void *workspace, size_t workspace_size) {
  attend_additive_tensors t;
  attend_tensors core = ATTEND_TENSORS_INIT;
  void *own = NULL;
  if (!plan) return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT, "plan is NULL");
  attend_status status = check_tensors(plan, tensors, &t);
  if (status != ATTEND_OK || plan->p.batch == 0 || plan->p.q_len == 0) return status;
  status = attend_take_workspace(&plan->host, &workspace, workspace_size, plan->workspace_size, &own);
  if (status == ATTEND_OK) {
    char *memory = workspace;
    float *q = (float *)(void *)(memory + plan->q_at), *k = (float *)(void *)(memory + plan->k_at);
    core.q = q, core.k = k, core.v = t.value, core.out = t.out, core.weights = t.weights;
    core.kv_lengths = t.kv_lengths, core.mask = t.mask, core.score_weights = t.score_weight;
    core.dropout_seed = t.dropout_seed, core.dropout_offset = t.dropout_offset;
    const attend_linear_call calls[ATTEND_LINEAR_CALLS] = {{&plan->q, t.query, t.q_weight, t.q_bias, q, NULL, NULL},
                                                           {&plan->k, t.key, t.k_weight, NULL, k, NULL, NULL}};
    plan->run_linear(&plan->host, calls, 2, plan->threads);
    status = attend_plan_run(plan->core, &core, memory + plan->core_at, plan->core_size);
  }
  attend_host_release(&plan->host, own, plan->workspace_size);
  return status;
}
