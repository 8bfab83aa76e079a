/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch/plan/plan.h"
#include "kernels/integers.h"
#include "verify/internal.h"
#include "verify/reference.h"

struct attend_verify {
  attend_isa highest;
  attend_verify_case c;
  attend_verify_data data;
  attend_verify_expected expected;
  attend_verify_ran ran;                        /**< by the last run */
  unsigned char *before[ATTEND_VERIFY_OUTPUTS]; /**< outputs of an earlier run, to compare bits with */
};

attend_verify *attend_verify_open(attend_isa highest) {
  attend_verify *v = calloc(1, sizeof *v);
  if (v) v->highest = highest;
  return v;
}

static void forget_before(attend_verify *v) {
  for (int i = 0; i < ATTEND_VERIFY_OUTPUTS; i++) {
    free(v->before[i]);
    v->before[i] = NULL;
  }
}

void attend_verify_close(attend_verify *v) {
  if (!v) return;
  forget_before(v);
  attend_verify_expected_free(&v->expected);
  attend_verify_data_free(&v->data);
  free(v);
}

bool attend_verify_prepare(attend_verify *v, const attend_verify_case *c) {
  v->c = *c;
  forget_before(v);
  if (!attend_verify_fill(&v->data, c) || !attend_verify_expect(&v->expected, &v->data)) return false;
  for (int i = 0; i < ATTEND_VERIFY_OUTPUTS; i++) {
    v->before[i] = malloc(v->data.buffer[ATTEND_VERIFY_OUT + i].size + 1);
    if (!v->before[i]) return false;
  }
  return true;
}

static void say(attend_verify_result *result, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(attend_verify_result *result, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(result->message, sizeof result->message, format, arguments);
  va_end(arguments);
}

static void describe_signal(const attend_verify *v, attend_verify_signal signal, attend_verify_result *result) {
  for (int i = 0; i < ATTEND_VERIFY_BUFFER_COUNT; i++) {
    ptrdiff_t at;
    if (attend_verify_touched(signal, &v->data.buffer[i], &at)) {
      const size_t size = v->data.buffer[i].size;
      say(result,
          at >= 0 && (size_t)at < size ? "%s is an input and was written to, at byte %td of its %zu"
                                       : "%s: byte %td of a buffer of %zu bytes was touched",
          attend_verify_buffer_names[i], at, size);
      return;
    }
  }
  say(result, "stopped by signal %d (%s)", signal.number, attend_verify_signal_name(signal));
}

/* ----------------------------------------------------------------------------------------------------------- runs */

/* One way to run the case. */
typedef struct way {
  const char *what;
  int threads;                 /* of the plan */
  bool parts;                  /* as many parts, run by this thread in odd order, instead of attend_plan_run() */
  const attend_tiling *tiling; /* NULL: the library's choice */
  unsigned char garbage;       /* what the workspace is filled with */
} way;

static attend_status create_plan(const attend_verify *v, const attend_kernel *kernel, const way *w,
                                 attend_plan **plan) {
  attend_options options = ATTEND_OPTIONS_INIT;
  if (kernel) options.kernel = kernel->name;
  options.num_threads = w->threads;
  return w->tiling ? attend_plan_create_tiled(&v->c.problem, &options, w->tiling, plan)
                   : attend_plan_create(&v->c.problem, &options, plan);
}

/* Runs the last part first, then the rest in order. */
static attend_status run_parts(const attend_plan *plan, const attend_tensors *t, void *workspace, size_t size) {
  const int parts = attend_plan_max_parts(plan);
  attend_status status = attend_plan_begin(plan, t, workspace, size);
  for (int i = 0; i < parts && !status; i++)
    status = attend_plan_run_part(plan, t, workspace, size, (i + parts - 1) % parts, parts);
  return status;
}

/* The workspace begins at a multiple of its alignment and ends as close to the guard page as that allows. */
static void *place_workspace(attend_verify *v, size_t size, unsigned char garbage) {
  attend_guarded *buffer = &v->data.buffer[ATTEND_VERIFY_WORKSPACE];
  const size_t gap =
      size % ATTEND_WORKSPACE_ALIGNMENT ? ATTEND_WORKSPACE_ALIGNMENT - size % ATTEND_WORKSPACE_ALIGNMENT : 0;
  if (!attend_guarded_place(buffer, size, gap, false, ATTEND_VERIFY_FILL)) return NULL;
  memset(buffer->data, garbage, size);
  attend_guarded_watch(buffer, true);
  return buffer->data;
}

/* Whether the library's advice on threads can be followed. It must need no more than lengths and starts. */
static bool advises_well(const attend_verify *v, const attend_plan *plan, attend_verify_result *result) {
  const attend_problem *p = &v->data.problem;
  attend_tensors t = ATTEND_TENSORS_INIT;
  if (p->kv_lengths == ATTEND_LENGTHS_PER_BATCH) t.kv_lengths = v->data.tensors.kv_lengths;
  t.q_starts = v->data.tensors.q_starts;
  t.kv_starts = v->data.tensors.kv_starts;
  t.kv_begins = v->data.tensors.kv_begins;
  const int parts = attend_plan_useful_parts(plan, &t), most = attend_plan_max_parts(plan);
  int64_t rows = 0;
  for (int64_t b = 0; b < p->batch; b++) rows += p->q_heads * attend_reference_queries(p, &v->data.tensors, b);
  if (parts >= (rows > 0) && parts <= (rows > 0 ? most : 0)) return true;
  say(result, "attend_plan_useful_parts() is %d, with %" PRId64 " rows to compute and at most %d parts", parts, rows,
      most);
  return false;
}

/* One such run: what it is given, and its result. */
typedef struct running {
  attend_verify *v;
  const attend_kernel *kernel;
  const way *w;
  attend_verify_result *result;
  attend_plan *plan;
  attend_status status;
} running;

static void make_and_run(void *context) {
  running *r = context;
  r->status = create_plan(r->v, r->kernel, r->w, &r->plan);
  if (r->status) return;
  r->v->ran = (attend_verify_ran){.kernel = r->plan->choice.kernel};
  if (r->plan->few_queries) r->v->ran.few = r->plan->few.kernel, r->v->ran.few_queries = r->plan->few_queries;
  if (!advises_well(r->v, r->plan, r->result)) return;
  const size_t size = attend_plan_workspace_size(r->plan);
  void *workspace = place_workspace(r->v, size, r->w->garbage);
  if (!workspace)
    r->status = ATTEND_ERROR_OUT_OF_MEMORY;
  else if (r->w->parts)
    r->status = run_parts(r->plan, &r->v->data.tensors, workspace, size);
  else
    r->status = attend_plan_run(r->plan, &r->v->data.tensors, workspace, size);
}

/* Runs the case one way, and leaves the outputs where they are. */
static bool run_way(attend_verify *v, const attend_kernel *kernel, const way *w, attend_verify_result *result) {
  running r = {v, kernel, w, result, NULL, ATTEND_OK};
  attend_verify_clear_outputs(&v->data);
  for (int i = 0; i < ATTEND_VERIFY_WORKSPACE; i++) attend_guarded_watch(&v->data.buffer[i], true);
  const attend_verify_signal signal = attend_verify_call(make_and_run, &r);
  for (int i = 0; i < ATTEND_VERIFY_BUFFER_COUNT; i++) attend_guarded_watch(&v->data.buffer[i], false);
  if (signal.number) describe_signal(v, signal, result);
  attend_plan_destroy(r.plan);
  if (r.status) say(result, "%s: %s", attend_status_string(r.status), attend_error_detail());
  return !r.status && !result->message[0];
}

static void keep_outputs(attend_verify *v) {
  for (int i = 0; i < ATTEND_VERIFY_OUTPUTS; i++)
    if (v->data.buffer[ATTEND_VERIFY_OUT + i].size)
      memcpy(v->before[i], v->data.buffer[ATTEND_VERIFY_OUT + i].data, v->data.buffer[ATTEND_VERIFY_OUT + i].size);
}

/* The element at a place of a buffer, every NaN being one number. */
static uint32_t bits_at(const unsigned char *buffer, size_t index, attend_dtype dtype) {
  uint32_t bits = 0;
  memcpy(&bits, buffer + index * attend_verify_dtype_size(dtype), attend_verify_dtype_size(dtype));
  const uint32_t infinity = dtype == ATTEND_F32 ? 0x7f800000 : dtype == ATTEND_F16 ? 0x7c00 : 0x7f80;
  const uint32_t magnitude = bits & (dtype == ATTEND_F32 ? 0x7fffffff : 0x7fff);
  return magnitude > infinity ? infinity + 1 : bits;
}

static bool same_bits(const attend_verify *v, attend_verify_result *result) {
  for (int i = 0; i < ATTEND_VERIFY_OUTPUTS; i++) {
    const attend_guarded *g = &v->data.buffer[ATTEND_VERIFY_OUT + i];
    const attend_dtype dtype = i == 0 ? v->data.problem.out_dtype : ATTEND_F32;
    for (size_t e = 0; e < g->size / attend_verify_dtype_size(dtype); e++)
      if (bits_at(g->data, e, dtype) != bits_at(v->before[i], e, dtype)) {
        say(result, "other bits in %s than before, at element %zu of the buffer: %08" PRIx32 ", before %08" PRIx32,
            attend_verify_buffer_names[ATTEND_VERIFY_OUT + i], e, bits_at(g->data, e, dtype),
            bits_at(v->before[i], e, dtype));
        return false;
      }
  }
  return true;
}

/* Runs the case two ways that must give the same bits, and compares with the reference. */
static bool run_pair(attend_verify *v, const attend_kernel *kernel, const way ways[2], attend_verify_result *result) {
  for (int i = 0; i < 2; i++) {
    const bool ok = run_way(v, kernel, &ways[i], result) &&
                    (i == 0 ? attend_verify_compare(&v->data, &v->expected, &v->ran, result) : same_bits(v, result));
    if (!ok) {
      char wrong[512];
      snprintf(wrong, sizeof wrong, "%.*s", (int)sizeof wrong - 1, result->message);
      say(result, "%s (%s)", wrong, ways[i].what);
      return false;
    }
    if (i == 0) keep_outputs(v);
  }
  return true;
}

/* The ways: what the library chooses, and tilings small and large, with keys in one piece and split. */
static bool run_all(attend_verify *v, const attend_kernel *kernel, const attend_resolved *r,
                    attend_verify_result *result) {
  const way chosen[2] = {{"3 parts in odd order", 3, true, NULL, 0xff}, {"1 thread", 1, false, NULL, 0x3f}};
  if (!run_pair(v, kernel, chosen, result) || !kernel) return !result->message[0];

  const int64_t some = 1 + (int64_t)(hash(v->c.seed, 1) % 3), all = round_up(r->rows > 0 ? r->rows : 1, kernel->q_rows);
  const int64_t keys = round_up(r->p.kv_len > 0 ? r->p.kv_len : 1, kernel->k_block);
  const attend_tiling one_slice = {all, all, keys, true, true, ATTEND_MOST_HEADS};
  const attend_tiling slices = {some * kernel->q_rows, kernel->q_rows, keys, false, false, 1};
  const way whole[2] = {{"few rows in a slice", 2, true, &slices, 0xff},
                        {"one slice for all heads, or each", 1, true, &one_slice, 0}};
  if (!run_pair(v, kernel, whole, result)) return false;

  const int64_t split = (1 + (int64_t)(hash(v->c.seed, 2) % 2)) * kernel->k_block;
  if (!(kernel->can & ATTEND_CAN_SPLIT) || r->p.weights || r->p.scores || split >= r->p.kv_len) return true;
  const attend_tiling split_one = {all, all, split, true, false, ATTEND_MOST_HEADS};
  const attend_tiling split_slices = {some * kernel->q_rows, kernel->q_rows, split, false, true, 1};
  const way splits[2] = {{"keys split, few rows in a slice", 4, true, &split_slices, 0x3f},
                         {"keys split, one slice for all heads, or each", 1, true, &split_one, 0xff}};
  return run_pair(v, kernel, splits, result);
}

/* ----------------------------------------------------------------------------------------------------- one kernel */

static void fail(const attend_verify *v, const attend_kernel *kernel, attend_verify_result *result) {
  const char *name = kernel ? kernel->name : "auto";
  char wrong[1024], fields[2048];
  snprintf(wrong, sizeof wrong, "%.*s", (int)sizeof wrong - 1, result->message);
  attend_verify_describe(&v->c, fields, sizeof fields);
  result->status = ATTEND_VERIFY_FAILED;
  say(result, "%s: %s\n  case %s\n  again: attend verify --kernel '%s' --case %s --seed %" PRIu64 " --cases 1%s%s",
      name, wrong, fields, name, v->c.name, v->c.seed, v->c.dtype ? " --dtype " : "",
      v->c.dtype ? attend_dtype_name(v->c.dtype) : "");
}

/* Whether the kernel, or for NULL any, runs here and can do the problem; else says why not. */
static bool is_able(const attend_verify *v, const attend_kernel *kernel, const attend_resolved *r,
                    attend_verify_result *result) {
  const size_t size = sizeof result->message;
  if (kernel)
    return attend_kernel_runnable(kernel, v->highest, result->message, size) &&
           attend_kernel_can(kernel, r, result->message, size);
  for (size_t i = 0; i < attend_kernel_count(); i++)
    if (is_able(v, attend_kernel_at(i), r, result)) return true;
  say(result, "no kernel that runs here can do it");
  return false;
}

void attend_verify_run(attend_verify *v, const attend_kernel *kernel, attend_verify_result *result) {
  *result = (attend_verify_result){.status = ATTEND_VERIFY_PASSED};
  attend_resolved resolved;
  const attend_status status = attend_resolve(&v->c.problem, &resolved);
  if (status) {
    say(result, "%s: %s", attend_status_string(status), attend_error_detail());
    fail(v, kernel, result);
    return;
  }
  result->out_dtype = resolved.p.out_dtype;
  if (!is_able(v, kernel, &resolved, result)) {
    result->status = ATTEND_VERIFY_SKIPPED;
    return;
  }
  result->message[0] = '\0';
  if (!run_all(v, kernel, &resolved, result)) fail(v, kernel, result);
}
