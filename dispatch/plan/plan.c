/* SPDX-License-Identifier: Apache-2.0 */
/** Plans: everything about a run that does not depend on the addresses is worked out here, once. */
#include "dispatch/plan/plan.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>

#include "dispatch/plan/run_state.h"
#include "dispatch/text.h"
#include "kernels/integers.h"
#include "kernels/size.h"

/* ----------------------------------------------------------------------------------------------------------- layout */

/** Sees which groups of cores there are, and deals the items of every run out to them: whole heads or slices of all. */
static void place(attend_plan *plan) {
  const attend_topology *machine = attend_topology_get();
  plan->groups = (plan->ragged ? plan->threads : plan->cut.useful) > 1 ? machine->groups : 1;
  if (plan->groups > 1) {
    attend_cpu_set usable;
    attend_usable_processors(&usable);
    plan->all_cores = attend_place(machine, &usable, plan->threads, plan->cores);
  } else {
    plan->groups = plan->all_cores = plan->cores[0] = 1;
  }
  /* Slices of one chunk read different keys, but their results are merged: better near where they were made. */
  attend_deal(plan->cut.items, attend_head_items(plan, &plan->share), plan->cores, plan->groups, plan->cut.begin);
}

/** How many rows of partial results a run may have; and whether slices are items. */
static int64_t plan_partials(attend_plan *plan) {
  const attend_resolved *r = &plan->problem;
  const int64_t enough = (int64_t)plan->threads * 4; /* chunks per part for the parts to end together */
  const int64_t splits = plan->share.splits, heads = r->p.batch * r->p.kv_heads;
  if (!plan->ragged) {
    plan->slices_as_items = splits > 1 && (plan->interleaves[ATTEND_MANY] || heads * plan->share.chunks < enough);
    return plan->slices_as_items ? heads * r->rows * splits : 0;
  }
  const int64_t rows = (r->p.q_starts ? r->p.q_total * r->group : r->p.batch * r->rows) * r->p.kv_heads;
  plan->adapts = plan->choice.by != ATTEND_BY_TILING && !r->p.batch_invariant;
  if (plan->adapts) {
    /* Splits of all sequences together are about as many as make work for a machine, however long they are. */
    plan->slices_as_items = (plan->choice.kernel->can & ATTEND_CAN_SPLIT) && attend_most_splits(r) > 1;
    if (!plan->slices_as_items) return 0;
    return rows < ATTEND_MOST_PARTIAL_ROWS ? min_i64(ATTEND_MOST_PARTIAL_ROWS, rows * attend_most_splits(r))
                                           : ATTEND_MOST_PARTIAL_ROWS;
  }
  plan->slices_as_items = splits > 1 && rows <= ATTEND_MOST_PARTIAL_ROWS / splits;
  return plan->slices_as_items ? rows * splits : 0;
}

/** Microseconds for each query row and key it may attend, where sequences are as long as the problem allows. */
static double key_us(const attend_plan *plan, const attend_choice *choice, int64_t queries) {
  attend_resolved r = plan->problem;
  if (!choice->kernel || queries == 0 || r.p.kv_len == 0) return 0;
  r.p.batch = 1, r.p.q_len = queries, r.rows = queries * r.group;
  return attend_cost_us(&r, choice->kernel, &choice->tiling) /
         ((double)r.p.kv_heads * (double)r.rows * (double)r.p.kv_len);
}

/** A run whose keys are split by how many there are may leave all of them to one slice: scratch is to be enough. */
static void unsplit(const attend_plan *plan, attend_choice *choice) {
  if (choice->kernel) choice->tiling.split_keys = round_up(max_i64(plan->problem.p.kv_len, 1), choice->kernel->k_block);
}

static size_t scratch_of(const attend_plan *plan, const attend_choice *choice) {
  return choice->kernel ? choice->kernel->scratch(&plan->problem.p, &choice->tiling) : 0;
}

/** Cuts the work up and lays the workspace out. */
static attend_status lay_out(attend_plan *plan) {
  const attend_resolved *r = &plan->problem;
  const attend_tiling *tiling = &plan->choice.tiling;
  if (divide_up(r->rows, tiling->slice_rows) > INT32_MAX)
    return attend_fail(ATTEND_ERROR_OVERFLOW,
                       "q_len %" PRId64 " of %" PRId64 " heads is more than %d times the %" PRId64
                       " rows that kernel %s takes at once",
                       r->p.q_len, r->group, INT32_MAX, tiling->slice_rows, plan->choice.kernel->name);
  plan->ragged = attend_is_ragged(&r->p);
  plan->share.chunks = (int32_t)divide_up(r->rows, tiling->slice_rows);
  plan->share.splits = r->p.kv_len > tiling->split_keys ? (int32_t)divide_up(r->p.kv_len, tiling->split_keys) : 1;
  plan->interleaves[ATTEND_MANY] = attend_interleaves(r, plan->choice.kernel);
  plan->interleaves[ATTEND_FEW] = plan->few_queries && attend_interleaves(r, plan->few.kernel);
  plan->partial_rows = plan_partials(plan);
  attend_cut_capacity(plan);
  if (plan->adapts) unsplit(plan, &plan->choice), unsplit(plan, &plan->few);
  if (plan->ragged) {
    plan->key_us[ATTEND_MANY] = key_us(plan, &plan->choice, r->p.q_len);
    plan->key_us[ATTEND_FEW] = key_us(plan, &plan->few, plan->few_queries);
  }
  place(plan);

  const size_t partial_row = size_mul((size_t)attend_partial_stride(r->p.v_head_dim), sizeof(float));
  const size_t rows = size_mul((size_t)tiling->slice_rows, (size_t)max_i64(1, tiling->heads));
  size_t total = 0, scratch = scratch_of(plan, &plan->choice), few = scratch_of(plan, &plan->few);
  size_take(&total, 1, sizeof(attend_run_state) + (size_t)plan->groups * sizeof(attend_queue));
  if (plan->ragged) plan->shares_at = size_take(&total, (size_t)r->p.batch, sizeof(attend_share));
  plan->mask_rows = attend_mask_rows(&r->p);
  if (plan->mask_rows) plan->masks_at = size_take(&total, (size_t)plan->mask_rows, (size_t)attend_mask_blocks(&r->p));
  if (plan->slices_as_items) {
    /* Of a ragged run each split chunk has a row at least, in two splits or more. */
    const int64_t chunks = plan->ragged ? plan->partial_rows / 2 + 1 : plan->cut.split_chunks;
    plan->arrivals_at = size_take(&total, (size_t)chunks, sizeof(attend_arrivals));
    plan->partials_at = size_take(&total, (size_t)plan->partial_rows, partial_row);
  }
  size_take(&plan->part_size, 1, scratch > few ? scratch : few);
  if (plan->share.splits > 1 && !plan->slices_as_items)
    plan->partials_at = size_take(&plan->part_size, size_mul(rows, (size_t)plan->share.splits), partial_row);
  plan->part_size = size_align(plan->part_size, ATTEND_WORKSPACE_ALIGNMENT);
  plan->parts_at = size_take(&total, (size_t)plan->threads, plan->part_size);
  plan->workspace_size = total;
  if (total > PTRDIFF_MAX)
    return attend_fail(ATTEND_ERROR_OVERFLOW, "kernel %s would need a workspace of more than %td bytes",
                       plan->choice.kernel->name, PTRDIFF_MAX);
  return ATTEND_OK;
}

/* --------------------------------------------------------------------------------------------------------- creation */

/** Says what was chosen, to whoever wants to know. */
static void report(const attend_plan *plan, const attend_options *o, bool verbose) {
  if (!o->log && !verbose) return;
  const attend_problem *p = &plan->problem.p;
  char text[512], line[768];
  attend_plan_explain(plan, text, sizeof text);
  snprintf(line, sizeof line,
           "batch %" PRId64 ", heads %" PRId64 "/%" PRId64 ", queries %" PRId64 ", keys %" PRId64 ", dims %" PRId64
           "/%" PRId64 ", %s: %s",
           p->batch, p->q_heads, p->kv_heads, p->q_len, p->kv_len, p->head_dim, p->v_head_dim,
           attend_dtype_name(p->q_dtype), text);
  if (o->log)
    o->log(o->log_context, line);
  else
    fprintf(stderr, "attend: %s\n", line);
}

/** Takes a tiling that the caller chose. */
static attend_status take_tiling(attend_plan *plan, const attend_tiling *tiling) {
  const attend_resolved *r = &plan->problem;
  const attend_kernel *kernel = plan->choice.kernel;
  const int64_t tile = kernel->q_rows, block = kernel->k_block;
  const bool split = tiling->split_keys < r->p.kv_len;
  if (tiling->slice_rows < 1 || (tiling->slice_rows < r->rows && tiling->slice_rows % tile != 0))
    return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT, "slice_rows is %" PRId64 ", expected a multiple of %" PRId64,
                       tiling->slice_rows, tile);
  if (tiling->strip_rows < 1 || tiling->strip_rows % tile != 0)
    return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT, "strip_rows is %" PRId64 ", expected a multiple of %" PRId64,
                       tiling->strip_rows, tile);
  if (tiling->split_keys < 1 || (split && tiling->split_keys % block != 0))
    return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT, "split_keys is %" PRId64 ", expected a multiple of %" PRId64,
                       tiling->split_keys, block);
  if (split && (!(kernel->can & ATTEND_CAN_SPLIT) || r->p.weights || r->p.scores))
    return attend_fail(ATTEND_ERROR_UNSUPPORTED, "split_keys is %" PRId64 ", but %s", tiling->split_keys,
                       r->p.weights  ? "attention weights are wanted"
                       : r->p.scores ? "scores are wanted"
                                     : "the kernel writes no partial results");
  plan->choice.tiling = *tiling;
  plan->choice.by = ATTEND_BY_TILING;
  plan->choice.team = INT_MAX;
  plan->choice.tiling.heads = attend_heads_of_slice(r, kernel, tiling->heads);
  if (plan->choice.tiling.slice_rows > r->rows) plan->choice.tiling.slice_rows = r->rows;
  return ATTEND_OK;
}

/** Makes a plan with a tiling of the caller's, or with the library's choice if that is NULL. */
static attend_status create(const attend_problem *problem, const attend_options *options, const attend_tiling *tiling,
                            attend_plan **plan) {
  attend_options o;
  attend_plan made = {0};
  attend_env env;
  attend_status status;
  void *kept;
  if (!plan) return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT, "plan is NULL, expected where to put the plan");
  if ((status = attend_resolve(problem, &made.problem)) != ATTEND_OK ||
      (status = attend_options_read(options, &o, &env)) != ATTEND_OK)
    return status;

  made.host = attend_host_of(&o);
  made.bind = o.bind_threads && !o.parallel_for;
  made.threads = o.num_threads ? o.num_threads : env.num_threads ? env.num_threads : attend_default_threads();
  if ((status = attend_select(&made.problem, &env, o.kernel, made.threads, &made.choice)) != ATTEND_OK) return status;
  made.few_queries = attend_select_few(&made.problem, &env, &made.choice, made.threads, &made.few);
  if (tiling && made.choice.kernel && (status = take_tiling(&made, tiling)) != ATTEND_OK) return status;
  if ((made.choice.kernel && (status = lay_out(&made)) != ATTEND_OK) ||
      (status = attend_keep_plan(&made.host, &made, sizeof made, &kept)) != ATTEND_OK)
    return status;
  report(kept, &o, env.verbose);
  *plan = kept;
  return ATTEND_OK;
}

attend_status attend_plan_create(const attend_problem *problem, const attend_options *options, attend_plan **plan) {
  return create(problem, options, NULL, plan);
}

attend_status attend_plan_create_tiled(const attend_problem *problem, const attend_options *options,
                                       const attend_tiling *tiling, attend_plan **plan) {
  return create(problem, options, tiling, plan);
}

void attend_plan_destroy(attend_plan *plan) {
  if (!plan) return;
  const attend_host host = plan->host;
  attend_host_release(&host, plan, sizeof *plan);
}

const attend_host *attend_plan_host(const attend_plan *plan) { return &plan->host; }

attend_status attend_forward(const attend_problem *problem, const attend_tensors *tensors) {
  attend_plan *plan;
  attend_status status = attend_plan_create(problem, NULL, &plan);
  if (status != ATTEND_OK) return status;
  status = attend_plan_run(plan, tensors, NULL, 0);
  attend_plan_destroy(plan);
  return status;
}

/* -------------------------------------------------------------------------------------------------------- questions */

size_t attend_plan_workspace_size(const attend_plan *plan) { return plan ? plan->workspace_size : 0; }

int attend_plan_max_parts(const attend_plan *plan) { return plan ? plan->threads : 0; }

const char *attend_plan_kernel(const attend_plan *plan) {
  return plan && plan->choice.kernel ? plan->choice.kernel->name : "none";
}

static const char *plural(int64_t count) { return count == 1 ? "" : "s"; }

size_t attend_plan_explain(const attend_plan *plan, char *buffer, size_t size) {
  attend_text t = {buffer, buffer ? size : 0, 0};
  if (t.size) *buffer = 0;
  if (!plan) return 0;
  char reason[256];
  attend_choice_reason(&plan->choice, &plan->problem, reason, sizeof reason);
  attend_text_add(&t, "%s (%s)", attend_plan_kernel(plan), reason);
  if (!plan->choice.kernel) return t.length;
  const attend_tiling *tiling = &plan->choice.tiling;
  const int splits = plan->share.splits;
  if (plan->few_queries)
    attend_text_add(&t, "; %s for sequences of up to %" PRId64 " quer%s", plan->few.kernel->name, plan->few_queries,
                    plan->few_queries == 1 ? "y" : "ies");
  const int64_t chunks = plan->problem.p.batch * plan->problem.p.kv_heads * plan->share.chunks;
  attend_text_add(&t, "; %s%" PRId64 " chunk%s of %" PRId64 " row%s", plan->ragged ? "at most " : "", chunks,
                  plural(chunks), tiling->slice_rows, plural(tiling->slice_rows));
  if (tiling->heads > 1) attend_text_add(&t, ", up to %d heads side by side at a time", tiling->heads);
  if (plan->adapts)
    attend_text_add(&t, ", cut up by the lengths of each run");
  else if (splits > 1)
    attend_text_add(&t, ", keys split in %d by %" PRId64 " and merged", splits, tiling->split_keys);
  if (plan->groups > 1)
    attend_text_add(&t, ", dealt out to %d groups of cores%s", plan->groups,
                    plan->bind ? ", threads bound to them" : "");
  attend_text_add(&t, "; %d of %d thread%s, workspace %zu bytes", plan->cut.useful, plan->threads,
                  plural(plan->threads), plan->workspace_size);
  return t.length;
}
