/* SPDX-License-Identifier: Apache-2.0 */
/** Multi-head attention: projections, attention, projection. Makes plans, and runs them on threads. */
#include "layers/mha.h"

#include "kernels/size.h"

/* -------------------------------------------------------------------------------------------------------- creation */

static attend_strides split_heads(attend_sequence_strides s, int64_t dim) {
  return (attend_strides){.batch = s.batch, .head = dim, .row = s.row};
}

static attend_problem core_problem(const attend_mha_plan *plan) {
  const attend_mha_problem *p = &plan->p;
  attend_problem core = plan->said.p;
  core.kv_len = plan->keys;
  core.head_dim = p->head_dim, core.v_head_dim = p->v_head_dim;
  core.q_strides = split_heads(plan->new_q, p->head_dim);
  core.k_strides = p->cache_len ? p->k_cache_strides : split_heads(plan->new_k, p->head_dim);
  core.v_strides = p->cache_len ? p->v_cache_strides : split_heads(plan->new_v, p->v_head_dim);
  core.out_strides = split_heads(plan->attended, p->v_head_dim);
  core.q_dtype = core.out_dtype = ATTEND_F32;
  core.k_dtype = core.v_dtype = p->cache_len ? p->cache_dtype : ATTEND_F32;
  core.as_given = p->as_given | ATTEND_AS_GIVEN_STRIDES;
  core.scale = p->scale, core.softcap = p->softcap, core.dropout = p->dropout;
  core.sinks = p->sinks;
  core.weights = p->weights != ATTEND_LAYER_WEIGHTS_NONE;
  core.batch_invariant = p->batch_invariant;
  return core;
}

/** Takes room for the rows of all sequences. */
static size_t take_rows(attend_mha_plan *plan, int packed, int64_t total, int64_t len, int64_t dim) {
  const size_t rows = packed ? (size_t)total : size_mul((size_t)plan->p.batch, (size_t)len);
  return size_take(&plan->workspace_size, rows, size_mul((size_t)dim, sizeof(float)));
}

static attend_status lay_out(attend_mha_plan *plan) {
  const attend_mha_problem *p = &plan->p;
  const int64_t room = p->kv_len + plan->appended;
  size_t *total = &plan->workspace_size;
  plan->q_at = take_rows(plan, p->q_starts, p->q_total, p->q_len, plan->q.out_dim);
  if (!plan->k_direct) plan->k_at = take_rows(plan, p->kv_starts, p->kv_total, room, plan->k.out_dim);
  if (!plan->v_direct) plan->v_at = take_rows(plan, p->kv_starts, p->kv_total, room, plan->v.out_dim);
  if (p->out_proj) plan->attended_at = take_rows(plan, p->q_starts, p->q_total, p->q_len, plan->out.in_dim);
  if (p->cache_len) plan->lengths_at = size_take(total, (size_t)p->batch, sizeof(int32_t));
  if (p->rope) {
    plan->frequencies_at = size_take(total, (size_t)p->rotary_dim / 2, sizeof(double));
    plan->angles_size = size_align((size_t)p->rotary_dim * sizeof(float), ATTEND_WORKSPACE_ALIGNMENT);
    plan->angles_at = size_take(total, (size_t)plan->threads, plan->angles_size);
  }
  if (p->weights == ATTEND_LAYER_WEIGHTS_AVERAGED) {
    const size_t queries = p->q_starts ? (size_t)p->q_total : size_mul((size_t)p->batch, (size_t)p->q_len);
    plan->weights_at =
        size_take(total, size_mul((size_t)p->q_heads, queries), size_mul((size_t)plan->keys, sizeof(float)));
  }
  plan->core_size = attend_plan_workspace_size(plan->core);
  plan->core_at = size_take(total, 1, plan->core_size);
  if (*total > PTRDIFF_MAX)
    return attend_fail(ATTEND_ERROR_OVERFLOW, "the layer would need a workspace of more than %td bytes", PTRDIFF_MAX);
  return ATTEND_OK;
}

static void list_phases(attend_mha_plan *plan) {
  const attend_mha_problem *p = &plan->p;
  const bool copies = p->cache_len && !(plan->k_direct && plan->v_direct);
  plan->phase[plan->phases++] = ATTEND_MHA_PROJECT;
  if (p->rope || copies || plan->appended) plan->phase[plan->phases++] = ATTEND_MHA_STORE;
  plan->phase[plan->phases++] = ATTEND_MHA_ATTEND;
  if (p->weights == ATTEND_LAYER_WEIGHTS_AVERAGED) plan->phase[plan->phases++] = ATTEND_MHA_AVERAGE;
  if (p->out_proj) plan->phase[plan->phases++] = ATTEND_MHA_OUTPUT;
}

static attend_status make(const attend_mha_problem *problem, const attend_options *options, attend_mha_plan *plan) {
  attend_status status = attend_mha_resolve(problem, plan);
  if (status != ATTEND_OK) return status;
  size_take(&plan->workspace_size, 1, sizeof(attend_mha_run));
  attend_problem core = core_problem(plan);
  if ((status = attend_mha_plan_masks(plan, &core)) != ATTEND_OK) return status;
  if ((status = attend_plan_create(&core, options, &plan->core)) != ATTEND_OK) return status;
  attend_options o;
  attend_env env;
  if ((status = attend_options_read(options, &o, &env)) != ATTEND_OK) return status;
  plan->append = attend_kernel_widest(ATTEND_OP_APPEND, env.isa);
  plan->host = *attend_plan_host(plan->core);
  plan->threads = attend_plan_max_parts(plan->core);
  list_phases(plan);
  return lay_out(plan);
}

attend_status attend_mha_plan_create(const attend_mha_problem *problem, const attend_options *options,
                                     attend_mha_plan **plan) {
  attend_mha_plan made = {0};
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

void attend_mha_plan_destroy(attend_mha_plan *plan) {
  if (!plan) return;
  const attend_host host = plan->host;
  attend_plan_destroy(plan->core);
  attend_host_release(&host, plan, sizeof *plan);
}

size_t attend_mha_plan_workspace_size(const attend_mha_plan *plan) { return plan ? plan->workspace_size : 0; }

int attend_mha_plan_phases(const attend_mha_plan *plan) { return plan ? plan->phases : 0; }

int attend_mha_plan_max_parts(const attend_mha_plan *plan) { return plan ? plan->threads : 0; }

size_t attend_mha_plan_explain(const attend_mha_plan *plan, char *buffer, size_t size) {
  return attend_plan_explain(plan ? plan->core : NULL, buffer, size);
}

/* --------------------------------------------------------------------------------------------- the caller's threads */

static attend_status check_workspace(const attend_mha_plan *plan, const void *workspace, size_t size) {
  if (!plan) return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT, "plan is NULL");
  return attend_check_workspace(workspace, size, plan->workspace_size);
}

attend_status attend_mha_plan_begin(const attend_mha_plan *plan, const attend_mha_tensors *tensors, void *workspace,
                                    size_t workspace_size) {
  const attend_status status = check_workspace(plan, workspace, workspace_size);
  return status == ATTEND_OK ? attend_mha_begin(plan, tensors, workspace) : status;
}

attend_status attend_mha_plan_run_part(const attend_mha_plan *plan, const attend_mha_tensors *tensors, void *workspace,
                                       size_t workspace_size, int phase, int part, int parts) {
  const attend_status status = check_workspace(plan, workspace, workspace_size);
  if (status != ATTEND_OK) return status;
  if (!tensors) return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT, "attend_mha_tensors is NULL");
  if (phase < 0 || phase >= plan->phases)
    return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT, "phase is %d, expected 0 to %d", phase, plan->phases - 1);
  if (parts < 1 || parts > plan->threads)
    return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT, "parts is %d, expected 1 to %d", parts, plan->threads);
  if (part < 0 || part >= parts)
    return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT, "part is %d, expected 0 to %d", part, parts - 1);
  attend_mha_run *run = workspace;
  if (run->plan != plan)
    return attend_fail(ATTEND_ERROR_WORKSPACE, "attend_mha_plan_begin() has not prepared this workspace for this plan");
  return attend_mha_run_phase(run, plan->phase[phase], part, parts);
}

/* ------------------------------------------------------------------------------------------- our threads, or a pool */

/** A phase on threads of a pool, or of OpenMP. */
typedef struct shared_phase {
  attend_mha_run *run;
  attend_mha_phase phase;
  int parts;
} shared_phase;

static void run_shared(void *argument, int part) {
  const shared_phase *s = argument;
  attend_mha_run_phase(s->run, s->phase, part, s->parts);
}

static attend_status run_phase(attend_mha_run *run, attend_mha_phase phase) {
  const attend_mha_plan *plan = run->plan;
  shared_phase s = {.run = run, .phase = phase};
  switch (phase) {
  case ATTEND_MHA_PROJECT: plan->run_linear(&plan->host, run->in, ATTEND_LINEAR_CALLS, plan->threads); break;
  case ATTEND_MHA_OUTPUT: plan->run_linear(&plan->host, &run->out, 1, plan->threads); break;
  case ATTEND_MHA_ATTEND: return attend_plan_run(plan->core, &run->core, (char *)run + plan->core_at, plan->core_size);
  default: s.parts = attend_mha_useful(run, phase); attend_on_threads(&plan->host, s.parts, run_shared, &s);
  }
  return ATTEND_OK;
}

attend_status attend_mha_plan_run(const attend_mha_plan *plan, const attend_mha_tensors *tensors, void *workspace,
                                  size_t workspace_size) {
  void *own = NULL;
  if (!plan) return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT, "plan is NULL");
  attend_status status = attend_take_workspace(&plan->host, &workspace, workspace_size, plan->workspace_size, &own);
  if (status == ATTEND_OK) status = attend_mha_begin(plan, tensors, workspace);
  for (int i = 0; status == ATTEND_OK && i < plan->phases; i++) status = run_phase(workspace, plan->phase[i]);
  attend_host_release(&plan->host, own, plan->workspace_size);
  return status;
}
