/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/commands.h"
#include "cli/input.h"
#include "cli/options.h"
#include "cli/output.h"
#include "dispatch/plan/sequences.h"
#include "kernels/convert.h"
#include "kernels/size.h"
#include "verify/reference.h"

static const char help[] =
    "usage: attend run --q FILE --k FILE --v FILE --out FILE [OPTION]...\n"
    "\n"
    "Computes softmax(scale * Q K^T + bias, masked) V on .npy files.\n"
    "\n"
    "q is (B, Hq, Lq, D), k (B, Hkv, Lk, D), v (B, Hkv, Lk, Dv), and Hkv divides Hq. All three may leave out the\n"
    "batch, (H, L, D), or batch and heads, (L, D); outputs have as many dimensions as q. Files are .npy versions 1.0 "
    "to\n"
    "3.0, C order, little-endian: float32, float16, or uint16 with --bits bf16. A key is attended when it passes "
    "every\n"
    "mask that is given; query i stands at key i + offset.\n"
    "\n"
    "tensors\n"
    "  --q FILE --k FILE --v FILE   inputs\n"
    "  --out FILE                   output (B, Hq, Lq, Dv), float32\n"
    "  --lse FILE                   also write the logarithm of the softmax denominator (B, Hq, Lq), float32\n"
    "  --weights FILE               also write the attention weights (B, Hq, Lq, Lk), float32\n"
    "  --dtype f32|f16|bf16         convert q, k and v to this type, and compute an output of it; default: their type\n"
    "                               if all three have the same, else f32\n"
    "  --bits bf16                  uint16 files hold the bits of bfloat16\n"
    "\n"
    "masks\n"
    "  --causal[=top-left|bottom-right|OFFSET]\n"
    "                               query i attends keys j <= i + offset: 0, Lk - Lq (the default) or OFFSET\n"
    "  --window LEFT,RIGHT          only keys from i + offset - LEFT to i + offset + RIGHT; -1 is open. The offset is\n"
    "                               that of --causal, or Lk - Lq without it\n"
    "  --kv-lengths FILE            only the first so many keys: (B) or (B, Lq), int32 or int64\n"
    "  --mask FILE                  only keys where this is true: bool, broadcast to (B, Hq, Lq, Lk) as in NumPy\n"
    "\n"
    "scores\n"
    "  --scale X                    default 1 / sqrt(D)\n"
    "  --softcap X                  X * tanh(score / X) in place of the score; 0 is none\n"
    "  --bias FILE                  added to the scores: broadcast to (B, Hq, Lq, Lk), finite or -inf\n"
    "  --alibi FILE                 ALiBi slopes (Hq)\n"
    "  --sinks FILE                 attention sinks (Hq): each adds exp(sink) to its head's denominators\n"
    "\n"
    "running\n"
    "  --kernel NAME|auto           one of 'attend kernels'; auto, the default, picks the fastest\n"
    "  --threads N                  at most this many threads; the result is the same for every number\n"
    "  --bind                       keep threads on cores that share a cache, or a memory node, while they work\n"
    "  --explain                    say which kernel is run, and why\n"
    "  --time N                     run N times after a warm-up; print the time and the rate of useful arithmetic:\n"
    "                               attended pairs * 2 * (D + Dv) operations\n"
    "  --help                       this text\n"
    "\n"
    "examples\n"
    "  attend run --q q.npy --k k.npy --v v.npy --out out.npy\n"
    "  attend run --q q.npy --k k.npy --v v.npy --out out.npy --causal --window 256,0 --lse lse.npy\n"
    "  attend run --q q.npy --k k.npy --v v.npy --out out.npy --kv-lengths lengths.npy --weights weights.npy\n"
    "  attend run --q q.npy --k k.npy --v v.npy --out out.npy --dtype bf16 --explain --time 20\n";

/* What the command line asks for. Masks and numbers go straight into the problem. */
typedef struct request {
  attend_input_files files;
  const char *out, *lse, *weights;
  attend_problem problem;
  attend_options options;
  bool explain;
  int64_t runs; /* timed ones; 0: no timing */
} request;

/* ---------------------------------------------------------------------------------------------------- command line */

static bool take_dtype(const char *text, void *to) {
  request *r = to;
  return attend_cli_dtype(text, &r->files.dtype);
}

static bool take_bits(const char *text, void *to) {
  request *r = to;
  r->files.bf16_bits = strcmp(text, "bf16") == 0;
  if (!r->files.bf16_bits) attend_cli_error("--bits '%s': expected bf16", text);
  return r->files.bf16_bits;
}

static bool take_causal(const char *text, void *to) {
  request *r = to;
  attend_problem *p = &r->problem;
  p->causal = ATTEND_CAUSAL_BOTTOM_RIGHT;
  if (!text || strcmp(text, "bottom-right") == 0) return true;
  p->causal = ATTEND_CAUSAL_TOP_LEFT;
  if (strcmp(text, "top-left") == 0) return true;
  p->causal = ATTEND_CAUSAL_OFFSET;
  if (*text && strspn(text, "+-0123456789") == strlen(text))
    return attend_cli_integer("causal", text, -ATTEND_MAX_EXTENT, ATTEND_MAX_EXTENT, &p->causal_offset);
  attend_cli_error("--causal '%s': expected top-left, bottom-right or a whole number", text);
  return false;
}

static bool take_window(const char *text, void *to) {
  request *r = to;
  attend_problem *p = &r->problem;
  char left[32];
  const char *comma = strchr(text, ',');
  if (!comma || (size_t)(comma - text) >= sizeof left) {
    attend_cli_error("--window '%s': expected two whole numbers LEFT,RIGHT", text);
    return false;
  }
  memcpy(left, text, (size_t)(comma - text));
  left[comma - text] = '\0';
  p->window = 1;
  return attend_cli_integer("window", left, -1, ATTEND_MAX_EXTENT, &p->window_left) &&
         attend_cli_integer("window", comma + 1, -1, ATTEND_MAX_EXTENT, &p->window_right);
}

static bool take_scale(const char *text, void *to) {
  request *r = to;
  return attend_cli_scale(text, &r->problem.scale);
}

static bool take_softcap(const char *text, void *to) {
  request *r = to;
  float *softcap = &r->problem.softcap;
  if (!attend_cli_number("softcap", text, softcap)) return false;
  if (*softcap < 0.0f) attend_cli_error("--softcap '%s': expected a number of at least 0", text);
  return *softcap >= 0.0f;
}

static bool take_threads(const char *text, void *to) {
  request *r = to;
  return attend_cli_threads(text, &r->options.num_threads);
}

static bool take_bind(const char *text, void *to) {
  request *r = to;
  (void)text;
  r->options.bind_threads = 1;
  return true;
}

static bool take_explain(const char *text, void *to) {
  request *r = to;
  (void)text;
  r->explain = true;
  return true;
}

static bool take_time(const char *text, void *to) {
  request *r = to;
  return attend_cli_integer("time", text, 1, 1000000, &r->runs);
}

static const attend_cli_option options[] = {
    {"q", required_argument, offsetof(request, files.q), NULL},
    {"k", required_argument, offsetof(request, files.k), NULL},
    {"v", required_argument, offsetof(request, files.v), NULL},
    {"out", required_argument, offsetof(request, out), NULL},
    {"lse", required_argument, offsetof(request, lse), NULL},
    {"weights", required_argument, offsetof(request, weights), NULL},
    {"dtype", required_argument, 0, take_dtype},
    {"bits", required_argument, 0, take_bits},
    {"causal", optional_argument, 0, take_causal},
    {"window", required_argument, 0, take_window},
    {"kv-lengths", required_argument, offsetof(request, files.kv_lengths), NULL},
    {"mask", required_argument, offsetof(request, files.mask), NULL},
    {"scale", required_argument, 0, take_scale},
    {"softcap", required_argument, 0, take_softcap},
    {"bias", required_argument, offsetof(request, files.bias), NULL},
    {"alibi", required_argument, offsetof(request, files.alibi), NULL},
    {"sinks", required_argument, offsetof(request, files.sinks), NULL},
    {"kernel", required_argument, offsetof(request, options.kernel), NULL},
    {"threads", required_argument, 0, take_threads},
    {"bind", no_argument, 0, take_bind},
    {"explain", no_argument, 0, take_explain},
    {"time", required_argument, 0, take_time},
};

/* False when there is nothing to run: after --help, or an error. */
static bool parse(int argc, char **argv, request *r, int *status) {
  if (!attend_cli_parse(argc, argv, options, sizeof options / sizeof *options, help, r, status)) return false;
  const char *missing = !r->files.q ? "q" : !r->files.k ? "k" : !r->files.v ? "v" : !r->out ? "out" : NULL;
  if (missing) attend_cli_error("run: option '--%s FILE' is missing; 'attend run --help' lists all", missing);
  return !missing;
}

/* -------------------------------------------------------------------------------------------------------- the work */

/* Everything a run holds, so that it is released in one place. */
typedef struct session {
  attend_input input;
  attend_tensors tensors;
  attend_outputs outputs;
  attend_plan *plan;
  size_t workspace_size;
  void *workspace;
  float *out; /* what is written: tensors.out itself if that is f32 */
} session;

static void release(session *s) {
  if (s->out != s->tensors.out) attend_free(s->out);
  attend_free(s->tensors.out);
  attend_free(s->tensors.lse);
  attend_free(s->tensors.weights);
  attend_free(s->workspace);
  attend_plan_destroy(s->plan);
  attend_input_free(&s->input);
}

/* Elements of an output with the last dimensions given, -1 for none; the leading ones are those of q. */
static size_t shape_output(const session *s, attend_output *output, const attend_problem *p, int64_t last) {
  const int64_t full[4] = {p->batch, p->q_heads, p->q_len, last};
  int axes = last < 0 ? 3 : 4;
  size_t count = 1;
  output->rank = s->input.q.rank - (4 - axes);
  for (int i = 0; i < axes; i++) count = size_mul(count, (size_t)full[i]);
  memcpy(output->shape, full + axes - output->rank, (size_t)output->rank * sizeof *full);
  return count;
}

/* Makes the plan and allocates what it writes. The outputs are out, then lse and weights as far as asked for. */
static bool prepare(const request *r, session *s) {
  const attend_problem *p = &r->problem;
  if (!attend_cli_library(attend_plan_create(p, &r->options, &s->plan))) return false;
  s->workspace_size = attend_plan_workspace_size(s->plan);
  s->workspace = attend_cli_allocate("the workspace", s->workspace_size, 1);
  if (!s->workspace) return false;

  attend_output *file = s->outputs.file;
  size_t count = shape_output(s, file, p, p->v_head_dim);
  s->tensors.out = attend_cli_allocate("--out", count, attend_dtype_size(p->q_dtype));
  s->out = p->q_dtype == ATTEND_F32 ? s->tensors.out : attend_cli_allocate("--out", count, sizeof *s->out);
  if (!s->tensors.out || !s->out) return false;
  file++->data = s->out;
  if (r->lse) {
    s->tensors.lse = attend_cli_allocate("--lse", shape_output(s, file, p, -1), sizeof *s->tensors.lse);
    if (!s->tensors.lse) return false;
    file++->data = s->tensors.lse;
  }
  if (r->weights) {
    s->tensors.weights =
        attend_cli_allocate("--weights", shape_output(s, file, p, p->kv_len), sizeof *s->tensors.weights);
    if (!s->tensors.weights) return false;
    file++->data = s->tensors.weights;
  }
  return true;
}

static void widen_output(const attend_problem *p, session *s) {
  size_t count = (size_t)(p->batch * p->q_heads * p->q_len * p->v_head_dim);
  const uint16_t *bits = s->tensors.out;
  if (p->q_dtype == ATTEND_F32) return;
  for (size_t i = 0; i < count; i++) s->out[i] = p->q_dtype == ATTEND_F16 ? f16_to_f32(bits[i]) : bf16_to_f32(bits[i]);
}

/* ---------------------------------------------------------------------------------------------------------- timing */

/*
 * (query, key) pairs that are attended. Causal, window and lengths leave a range of keys; in it, what the boolean mask
 * and a bias of -inf leave is counted one by one, for one head if it is the same for all.
 */
static double attended_pairs(const attend_resolved *resolved, const attend_tensors *t) {
  const attend_problem *p = &resolved->p;
  bool one_by_one = p->mask || p->bias_dtype != ATTEND_DTYPE_DEFAULT;
  bool by_head = (p->mask && p->mask_strides.head) || (p->bias_dtype != ATTEND_DTYPE_DEFAULT && p->bias_strides.head);
  int64_t heads = by_head ? p->q_heads : 1;
  double pairs = 0;
  for (int64_t b = 0; b < p->batch; b++) {
    const attend_sequence sequence = attend_sequence_of(resolved, t, b);
    const key_limits limits = attend_limits_of(resolved, t, b, &sequence);
    for (int64_t h = 0; h < heads; h++)
      for (int64_t i = 0; i < sequence.queries; i++) {
        const key_range keys = range_of(&limits, i, 0, p->kv_len);
        if (!one_by_one) pairs += (double)(keys.end - keys.begin);
        for (int64_t j = keys.begin; one_by_one && j < keys.end; j++)
          pairs += attend_reference_attends(p, t, b, h, i, j);
      }
  }
  return by_head ? pairs : pairs * (double)p->q_heads;
}

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static bool run(session *s) {
  return attend_cli_library(attend_plan_run(s->plan, &s->tensors, s->workspace, s->workspace_size));
}

/* Runs again and again; the run before was the warm-up. */
static bool time_runs(const attend_problem *p, size_t runs, session *s) {
  attend_resolved resolved;
  double *times = attend_cli_allocate("--time", runs, sizeof *times);
  bool ok = times && attend_cli_library(attend_resolve(p, &resolved));
  for (size_t i = 0; ok && i < runs; i++) {
    double start = seconds();
    ok = run(s);
    times[i] = seconds() - start;
  }
  if (ok) {
    qsort(times, runs, sizeof *times, compare);
    double median = (times[(runs - 1) / 2] + times[runs / 2]) / 2;
    double operations =
        attended_pairs(&resolved, &s->tensors) * 2 * (double)(resolved.p.head_dim + resolved.p.v_head_dim);
    printf("time of %zu runs: min %.3f ms, median %.3f ms, max %.3f ms; %.2f GFLOP/s at the median\n", runs,
           1e3 * times[0], 1e3 * median, 1e3 * times[runs - 1], median > 0 ? 1e-9 * operations / median : 0.0);
  }
  attend_free(times);
  return ok;
}

/* -------------------------------------------------------------------------------------------------------- command */

static void print_explanation(const attend_plan *plan) {
  char text[4096];
  attend_plan_explain(plan, text, sizeof text);
  printf("plan: %s\n", text);
}

static void print_summary(const attend_problem *p, const session *s) {
  printf("attention: B %" PRId64 ", Hq %" PRId64 ", Hkv %" PRId64 ", Lq %" PRId64 ", Lk %" PRId64 ", D %" PRId64
         ", Dv %" PRId64 ", %s, kernel %s; ",
         p->batch, p->q_heads, p->kv_heads, p->q_len, p->kv_len, p->head_dim, p->v_head_dim,
         attend_dtype_name(p->q_dtype), attend_plan_kernel(s->plan));
  attend_outputs_print(&s->outputs);
}

static void name_outputs(const request *r, attend_outputs *outputs) {
  outputs->file[outputs->count++] = (attend_output){.option = "out", .path = r->out};
  if (r->lse) outputs->file[outputs->count++] = (attend_output){.option = "lse", .path = r->lse};
  if (r->weights) outputs->file[outputs->count++] = (attend_output){.option = "weights", .path = r->weights};
}

static bool execute(request *r, session *s) {
  attend_problem *p = &r->problem;
  name_outputs(r, &s->outputs);
  if (!attend_outputs_check(&s->outputs) || !attend_input_read(&r->files, &s->input, p, &s->tensors)) return false;
  p->lse = r->lse != NULL;
  p->weights = r->weights != NULL;
  if (!prepare(r, s)) return false;
  if (r->explain) print_explanation(s->plan);
  if (!run(s) || (r->runs > 0 && !time_runs(p, (size_t)r->runs, s))) return false;
  widen_output(p, s);
  if (!attend_outputs_stage(&s->outputs)) return false;
  print_summary(p, s);
  return attend_outputs_finish(&s->outputs);
}

int cmd_run(int argc, char **argv) {
  static session s; /* its paths are too much for a stack */
  request r = {.problem = ATTEND_PROBLEM_INIT, .options = ATTEND_OPTIONS_INIT};
  s.tensors = (attend_tensors)ATTEND_TENSORS_INIT;
  int status;
  if (!parse(argc, argv, &r, &status)) return status;
  bool ok = execute(&r, &s);
  release(&s);
  return ok ? ATTEND_EXIT_DONE : ATTEND_EXIT_BAD_INPUT;
}
