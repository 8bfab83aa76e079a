/* SPDX-License-Identifier: Apache-2.0 */
/** Plans: everything about a run that does not depend on the addresses is worked out here, once. */
#include "dispatch/plan/plan.h"

#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "dispatch/plan/run_state.h"
#include "kernels/size.h"

/* Fields that the first release has. */
#define OPTIONS_FIRST_SIZE (offsetof(attend_options, kernel) + sizeof(const char *))

/* ---------------------------------------------------------------------------------------------------------- threads */

/**
 * Waking a team and waiting for it costs 0.65 us for two threads on Zen 5 while OpenMP's threads wait busily and share
 * a cache, 2 to 4 us where they do not, and more with every thread. Between the two: two threads from 2.8 us on.
 */
static double team_us(double threads) { return 1 + 0.2 * threads; }

/** The number of threads with which a run ends first. */
static int worthwhile_threads(const attend_plan *plan) {
  const double most = fmin((double)plan->threads, (double)plan->items);
  if (plan->choice.team) return (int)fmin((double)plan->choice.team, most);
  const double us = attend_cost_us(&plan->problem, plan->choice.kernel, &plan->choice.tiling);
  const double wanted = sqrt(us / (team_us(1) - team_us(0))), threads = fmin(wanted < 2 ? 2 : wanted, most);
  return us / threads + team_us(threads) < us ? (int)threads : 1;
}

/* ---------------------------------------------------------------------------------------------------------- layout */

static int64_t divide_up(int64_t a, int64_t b) { return a / b + (a % b != 0); }

/** Deals the items out to the groups of cores that share a cache, heads together. */
static void deal(attend_plan *plan) {
  const attend_topology *machine = attend_topology_get();
  plan->groups = plan->worthwhile > 1 ? machine->groups : 1;
  if (plan->groups > 1) {
    attend_cpu_set usable;
    attend_usable_processors(&usable);
    plan->all_cores = attend_place(machine, &usable, plan->threads, plan->cores);
  } else {
    plan->all_cores = plan->cores[0] = 1;
  }
  /* Slices of one chunk read different keys, but their results are merged: better where they were made. */
  const int64_t together = plan->head_chunks * (plan->slices_as_items ? plan->splits : 1);
  attend_deal(plan->items, together, plan->cores, plan->groups, plan->begin);
}

/** Cuts the work up and lays the workspace out. */
static attend_status lay_out(attend_plan *plan) {
  const attend_resolved *r = &plan->problem;
  const attend_tiling *tiling = &plan->choice.tiling;
  const int64_t enough = (int64_t)plan->threads * 4; /* chunks per part for the parts to end together */
  plan->head_chunks = divide_up(r->rows, tiling->slice_rows);
  plan->splits = r->p.kv_len > tiling->split_keys ? divide_up(r->p.kv_len, tiling->split_keys) : 1;
  const int64_t chunks = r->p.batch * r->p.kv_heads * plan->head_chunks;
  plan->slices_as_items = plan->splits > 1 && chunks < enough;
  plan->items = plan->slices_as_items ? chunks * plan->splits : chunks;
  plan->worthwhile = worthwhile_threads(plan);
  deal(plan);

  size_t partial_floats = size_mul((size_t)tiling->slice_rows, (size_t)attend_partial_stride(r->p.v_head_dim));
  size_t chunk_partials = size_mul(size_mul(partial_floats, (size_t)plan->splits), sizeof(float));
  size_t total = 0;
  size_take(&total, 1, sizeof(attend_run_state) + (size_t)plan->groups * sizeof(attend_queue));
  if (plan->slices_as_items) {
    plan->arrivals_at = size_take(&total, (size_t)chunks, sizeof(attend_arrivals));
    plan->partials_at = size_take(&total, (size_t)chunks, chunk_partials);
  }
  size_take(&plan->part_size, 1, plan->choice.kernel->scratch(r, tiling));
  if (plan->splits > 1 && !plan->slices_as_items) plan->partials_at = size_take(&plan->part_size, 1, chunk_partials);
  plan->part_size = size_align(plan->part_size, ATTEND_WORKSPACE_ALIGNMENT);
  plan->parts_at = size_take(&total, (size_t)plan->threads, plan->part_size);
  plan->workspace_size = total;
  if (total > PTRDIFF_MAX)
    return attend_fail(ATTEND_ERROR_OVERFLOW, "kernel %s would need a workspace of more than %td bytes",
                       plan->choice.kernel->name, PTRDIFF_MAX);
  plan->split_stride = (int64_t)partial_floats;
  return ATTEND_OK;
}

/* --------------------------------------------------------------------------------------------------------- creation */

static void report(const attend_plan *plan) {
  const attend_problem *p = &plan->problem.p;
  char text[512];
  attend_plan_explain(plan, text, sizeof text);
  fprintf(stderr,
          "attend: batch %" PRId64 ", heads %" PRId64 "/%" PRId64 ", queries %" PRId64 ", keys %" PRId64
          ", dims %" PRId64 "/%" PRId64 ", %s: %s\n",
          p->batch, p->q_heads, p->kv_heads, p->q_len, p->kv_len, p->head_dim, p->v_head_dim,
          attend_dtype_name(p->q_dtype), text);
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
  if (split && (!(kernel->can & ATTEND_CAN_SPLIT) || r->p.weights))
    return attend_fail(ATTEND_ERROR_UNSUPPORTED, "split_keys is %" PRId64 ", but %s", tiling->split_keys,
                       r->p.weights ? "attention weights are wanted" : "the kernel writes no partial results");
  plan->choice.tiling = *tiling;
  plan->choice.team = INT_MAX;
  if (plan->choice.tiling.slice_rows > r->rows) plan->choice.tiling.slice_rows = r->rows;
  return ATTEND_OK;
}

/** Makes a plan with a tiling of the caller's, or with the library's choice if that is NULL. */
static attend_status create(const attend_problem *problem, const attend_options *options, const attend_tiling *tiling,
                            attend_plan **plan) {
  attend_options o = ATTEND_OPTIONS_INIT;
  attend_plan made = {0};
  attend_env env;
  attend_status status;
  if (!plan) return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT, "plan is NULL, expected where to put the plan");
  if ((status = attend_resolve(problem, &made.problem)) != ATTEND_OK) return status;
  if (options &&
      (status = attend_read_versioned(&o, sizeof o, OPTIONS_FIRST_SIZE, options, "attend_options")) != ATTEND_OK)
    return status;
  if (o.num_threads < 0 || o.num_threads > ATTEND_MOST_THREADS)
    return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT, "num_threads is %d, expected 0 to %d", o.num_threads,
                       ATTEND_MOST_THREADS);
  if (o.bind_threads < 0 || o.bind_threads > 1)
    return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT, "bind_threads is %d, expected 0 or 1", o.bind_threads);
  if ((status = attend_env_read(&env)) != ATTEND_OK) return status;

  made.bind = o.bind_threads;
  made.threads = o.num_threads ? o.num_threads : env.num_threads ? env.num_threads : attend_default_threads();
  if ((status = attend_select(&made.problem, &env, o.kernel, made.threads, &made.choice)) != ATTEND_OK) return status;
  if (tiling && made.choice.kernel && (status = take_tiling(&made, tiling)) != ATTEND_OK) return status;
  if (made.choice.kernel && (status = lay_out(&made)) != ATTEND_OK) return status;

  attend_plan *kept = attend_keep_plan(&made, sizeof made);
  if (!kept) return ATTEND_ERROR_OUT_OF_MEMORY;
  *plan = kept;
  if (env.verbose) report(kept);
  return ATTEND_OK;
}

attend_status attend_plan_create(const attend_problem *problem, const attend_options *options, attend_plan **plan) {
  return create(problem, options, NULL, plan);
}

attend_status attend_plan_create_tiled(const attend_problem *problem, const attend_options *options,
                                       const attend_tiling *tiling, attend_plan **plan) {
  return create(problem, options, tiling, plan);
}

void attend_plan_destroy(attend_plan *plan) { attend_free(plan); }

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

/** A text that is cut off at the end of its buffer but knows how long it would be. */
typedef struct text {
  char *buffer;
  size_t size, length;
} text;

static void append(text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void append(text *t, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  size_t used = t->length < t->size ? t->length : t->size;
  int length = vsnprintf(used < t->size ? t->buffer + used : NULL, t->size - used, format, arguments);
  va_end(arguments);
  if (length > 0) t->length += (size_t)length;
}

static const char *plural(int64_t count) { return count == 1 ? "" : "s"; }

size_t attend_plan_explain(const attend_plan *plan, char *buffer, size_t size) {
  text t = {buffer, buffer ? size : 0, 0};
  if (t.size) *buffer = 0;
  if (!plan) return 0;
  char reason[256];
  attend_choice_reason(&plan->choice, &plan->problem, reason, sizeof reason);
  append(&t, "%s (%s)", attend_plan_kernel(plan), reason);
  if (!plan->choice.kernel) return t.length;
  const attend_tiling *tiling = &plan->choice.tiling;
  const int64_t chunks = plan->slices_as_items ? plan->items / plan->splits : plan->items;
  append(&t, "; %" PRId64 " chunk%s of %" PRId64 " row%s", chunks, plural(chunks), tiling->slice_rows,
         plural(tiling->slice_rows));
  if (plan->splits > 1)
    append(&t, ", keys split in %" PRId64 " by %" PRId64 " and merged", plan->splits, tiling->split_keys);
  if (plan->groups > 1)
    append(&t, ", dealt out to %d groups of cores%s", plan->groups, plan->bind ? ", threads bound to them" : "");
  append(&t, "; %d of %d thread%s, workspace %zu bytes", plan->worthwhile, plan->threads, plural(plan->threads),
         plan->workspace_size);
  return t.length;
}
