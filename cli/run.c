/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/run.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/commands.h"
#include "cli/input.h"
#include "cli/options.h"
#include "cli/output.h"
#include "kernels/convert.h"
#include "kernels/size.h"

/* What the command line asks for. Masks and numbers go straight into the problem. */
typedef struct request {
  attend_input_files files;
  const char *out, *lse, *weights;
  attend_problem problem;
  attend_options options;
  uint64_t seed;
  bool seeded, explain;
  int64_t runs; /* timed ones; 0: no timing */
} request;

/* ---------------------------------------------------------------------------------------------------- command line */

static bool take_dtype(const char *text, void *to) {
  request *r = to;
  return attend_cli_dtype(text, &r->files.dtype);
}

static bool take_k_format(const char *text, void *to) {
  return attend_cli_format("k-format", text, &((request *)to)->files.k_format);
}
static bool take_v_format(const char *text, void *to) {
  return attend_cli_format("v-format", text, &((request *)to)->files.v_format);
}

static bool take_bits(const char *text, void *to) { return attend_cli_bits(text, &((request *)to)->files.bf16_bits); }

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
  attend_problem *p = &((request *)to)->problem;
  p->window = 1;
  return attend_cli_window(text, &p->window_left, &p->window_right);
}

static bool take_scale(const char *text, void *to) {
  request *r = to;
  r->problem.as_given |= ATTEND_AS_GIVEN_SCALE;
  return attend_cli_number("scale", text, &r->problem.scale);
}

static bool take_softcap(const char *text, void *to) {
  return attend_cli_softcap(text, &((request *)to)->problem.softcap);
}

static bool take_dropout(const char *text, void *to) {
  float *dropout = &((request *)to)->problem.dropout;
  if (!attend_cli_number("dropout", text, dropout)) return false;
  if (*dropout >= 0.0f && *dropout <= 1.0f) return true;
  attend_cli_error("--dropout '%s': expected a probability from 0 to 1", text);
  return false;
}

/* All 64 bits, which attend_cli_integer() has no room for. */
static bool take_seed(const char *text, void *to) {
  request *r = to;
  errno = 0;
  r->seed = strtoull(text, NULL, 10);
  r->seeded = *text && strspn(text, "0123456789") == strlen(text) && !errno;
  if (!r->seeded) attend_cli_error("--seed '%s': expected a whole number from 0 to %llu", text, (unsigned long long)-1);
  return r->seeded;
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

static bool take_int8(const char *text, void *to) {
  (void)text;
  ((request *)to)->problem.int8_products = 1;
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

#define INPUT(id) offsetof(request, files.path[id])
static const attend_cli_option options[] = {
    {.help = "tensors"},
    {"q", "FILE", NULL, .text = INPUT(INPUT_Q)},
    {"k", "FILE", NULL, .text = INPUT(INPUT_K)},
    {"v", "FILE", "inputs", .text = INPUT(INPUT_V)},
    {"out", "FILE", "output (B, Hq, Lq, Dv), float32; - is standard output", .text = offsetof(request, out)},
    {"lse", "FILE", "also write the logarithm of the softmax denominator (B, Hq, Lq), float32",
     .text = offsetof(request, lse)},
    {"weights", "FILE", "also write the attention weights (B, Hq, Lq, Lk), float32",
     .text = offsetof(request, weights)},
    {"dtype", "f32|f16|bf16",
     "convert q, k and v to this type, and compute an output of it; default: their type if all three have the same, "
     "else f32",
     .take = take_dtype},
    {"k-format", "NAME", NULL, .take = take_k_format},
    {"v-format", "NAME",
     "keys, or values, in this type instead, converted as they are read: "
#define ATTEND_FORMAT_PLAIN(id, name, ...) name ", "
#define ATTEND_FORMAT_SCALED(id, name, ...) name ", "
#define ATTEND_FORMAT_BLOCK(id, name, ...) name ", "
#include "kernels/formats.def"
     "with f32 scales of rows for f8 and i8, and of 32 elements for i4",
     .take = take_v_format},
    {"int8-products", NULL,
     "with --k-format q8_0 or i8, let a kernel that multiplies bytes round queries to int8; others take them as they "
     "are",
     .take = take_int8},
    {"bits", "bf16", "uint16 files hold the bits of bfloat16", .take = take_bits},
    {.help = "sequences: each of the B has lengths and positions of its own"},
    {"kv-lengths", "FILE", "only the first so many keys: (B), or by query (B, Lq), which moves no offset",
     .text = INPUT(INPUT_KV_LENGTHS)},
    {"q-starts", "FILE",
     "q is (1, Hq, rows of all, D), and rows starts[b] to starts[b + 1] - 1 of it are sequence b: (B + 1), from 0 to "
     "the number of rows. Outputs are as q, and so is what has a number by query, with 1 in the place of B",
     .text = INPUT(INPUT_Q_STARTS)},
    {"kv-starts", "FILE", "likewise k and v: (1, Hkv, rows of all, D)", .text = INPUT(INPUT_KV_STARTS)},
    {"block-table", "FILE",
     "k and v lie in pages: (pages, Hkv, rows of a page, D). Row b of the table, (B, pages of a sequence), says which "
     "pages hold the keys of sequence b, in order; -1 where there is none, and then --kv-lengths says how many keys it "
     "has",
     .text = INPUT(INPUT_BLOCK_TABLE)},
    {"positions", "FILE", "(B): the offset of each sequence, in the place of what --causal says",
     .text = INPUT(INPUT_POSITIONS)},
    {"kv-begins", "FILE", "only keys from this one on: (B), as in batches padded on the left",
     .text = INPUT(INPUT_KV_BEGINS)},
    {"key-ranges", "FILE", "only keys from begin to end - 1, by query: (B, Lq, 2) or (rows of all, 2)",
     .text = INPUT(INPUT_KEY_RANGES)},
    {.help = "masks"},
    {"causal", "[=top-left|bottom-right|OFFSET]",
     "query i attends keys j <= i + offset. The offset is 0, or the sequence's keys less its queries (the default), or "
     "OFFSET",
     .take = take_causal},
    {"window", "LEFT,RIGHT",
     "only keys from i + offset - LEFT to i + offset + RIGHT; -1 is open. The offset is that of --causal; without it, "
     "that of bottom-right",
     .take = take_window},
    {"mask", "FILE",
     "only keys where this is true: bool or whole numbers 0 and 1, broadcast to (B, Hq, Lq, Lk) as in NumPy; with "
     "--q-starts to (B, Hq, rows of all, Lk). Lk: the longest sequence; with --block-table, what a row of it has room "
     "for",
     .text = INPUT(INPUT_MASK)},
    {.help = "scores"},
    {"scale", "X", "default 1 / sqrt(D)", .take = take_scale},
    {"softcap", "X", "X * tanh(score / X) in place of the score; 0 is none", .take = take_softcap},
    {"bias", "FILE", "added to the scores: broadcast like a mask, finite or -inf", .text = INPUT(INPUT_BIAS)},
    {"bias-head-scale", "FILE", "(Hq): the bias is multiplied by this", .text = INPUT(INPUT_BIAS_HEAD_SCALE)},
    {"alibi", "FILE", "ALiBi slopes (Hq)", .text = INPUT(INPUT_ALIBI)},
    {"sinks", "FILE", "attention sinks (Hq): each adds exp(sink) to its head's denominators",
     .text = INPUT(INPUT_SINKS)},
    {"dropout", "P", "set each weight to 0 with this probability, and divide the others by 1 - P",
     .take = take_dropout},
    {"seed", "N", "which weights --dropout drops; default 0", .take = take_seed},
    {.help = "running"},
    {"kernel", "NAME|auto", "one of 'attend kernels'; auto, the default, picks the fastest",
     .text = offsetof(request, options.kernel)},
    {"threads", "N", "at most this many threads; the result is the same for every number", .take = take_threads},
    {"bind", NULL, "keep threads on cores that share a cache, or a memory node, while they work", .take = take_bind},
    {"explain", NULL, "say which kernel is run, and why, and what the sequences hold", .take = take_explain},
    {"time", "N",
     "run N times after a warm-up; print the time and the rate of useful arithmetic: attended pairs * 2 * (D + Dv) "
     "operations",
     .take = take_time},
};
#undef INPUT

static const attend_cli_command command = {
    .usage = "attend run --q FILE --k FILE --v FILE --out FILE [OPTION]...",
    .about = "Computes softmax(scale * Q K^T + bias, masked) V on .npy files.\n\nq is (B, Hq, Lq, D), k (B, Hkv, Lk, "
             "D), v (B, Hkv, Lk, Dv), and Hkv divides Hq. All three may leave out the batch, (H, L, D), or batch and "
             "heads, (L, D); outputs have as many dimensions as q. Files are .npy versions 1.0 to 3.0: float32, "
             "float16, bfloat16 (as ml_dtypes and JAX write it), float64 (rounded to float32), or uint16 with --bits "
             "bf16; numbers of sequences, lengths for instance, are int32 or int64. A key is attended when it passes "
             "every mask that is given; query i stands at key i + offset.",
    .options = options,
    .count = sizeof options / sizeof *options,
    .examples =
        "attend run --q q.npy --k k.npy --v v.npy --out out.npy\n"
        "attend run --q q.npy --k k.npy --v v.npy --out out.npy --causal --window 256,0 --lse lse.npy\n"
        "attend run --q q.npy --k k.npy --v v.npy --out out.npy --kv-lengths lengths.npy --weights weights.npy\n"
        "attend run --q q.npy --k k.npy --v v.npy --out out.npy --dtype bf16 --explain --time 20\n"
        "\n"
        "three sequences of 2, 1 and 4 tokens in a row: q is (1, Hq, 7, D), k (1, Hkv, 7, D), starts.npy [0, 2, 3, 7]\n"
        "attend run --q q.npy --k k.npy --v v.npy --out out.npy --causal --q-starts starts.npy --kv-starts starts.npy\n"
        "\n"
        "a token each of two sequences over a cache of pages: q is (2, Hq, 1, D), k (pages, Hkv, 16, D), lengths.npy\n"
        "[40, 9], table.npy [[4, 0, 2], [1, -1, -1]]\n"
        "attend run --q q.npy --k k.npy --v v.npy --out out.npy --block-table table.npy --kv-lengths lengths.npy\n",
};
/* Options that mean nothing without another, or beside it. */
static bool check_together(const request *r) {
  const char *const *path = r->files.path;
  if (path[INPUT_KV_STARTS] && path[INPUT_BLOCK_TABLE])
    attend_cli_error("--kv-starts and --block-table: expected one of them: keys are in a row, or in pages");
  else if (path[INPUT_BIAS_HEAD_SCALE] && !path[INPUT_BIAS])
    attend_cli_error("--bias-head-scale %s: expected only with --bias", path[INPUT_BIAS_HEAD_SCALE]);
  else if (r->seeded && r->problem.dropout == 0.0f)
    attend_cli_error("--seed '%llu': expected only with a --dropout above 0", (unsigned long long)r->seed);
  else
    return true;
  return false;
}

/* False when there is nothing to run: after --help, or an error. */
static bool parse(int argc, char **argv, request *r, int *status) {
  if (!attend_cli_parse(argc, argv, &command, r, status)) return false;
  const char *missing = r->out ? NULL : "out";
  for (int i = INPUT_V; i >= INPUT_Q; i--)
    if (!r->files.path[i]) missing = attend_input_options[i];
  if (missing) attend_cli_error("run: option '--%s FILE' is missing; 'attend run --help' lists all", missing);
  return !missing && check_together(r);
}

/* -------------------------------------------------------------------------------------------------------- the work */

/* Everything a run holds, so that it is released in one place. */
typedef struct session {
  attend_input input;
  attend_tensors tensors;
  attend_outputs outputs;
  attend_resolved resolved;
  attend_plan *plan;
  size_t workspace_size;
  void *workspace;
  float *out; /* what is written: tensors.out itself if that is f32 */
  size_t out_count;
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
  const int64_t full[4] = {p->q_starts ? 1 : p->batch, p->q_heads, p->q_starts ? p->q_total : p->q_len, last};
  int axes = last < 0 ? 3 : 4;
  size_t count = 1;
  output->rank = s->input.array[INPUT_Q].rank - (4 - axes);
  for (int i = 0; i < axes; i++) count = size_mul(count, (size_t)full[i]);
  memcpy(output->shape, full + axes - output->rank, (size_t)output->rank * sizeof *full);
  return count;
}

/* Makes the plan and allocates what it writes. The outputs are out, then lse and weights as far as asked for. */
static bool prepare(const request *r, session *s) {
  const attend_problem *p = &r->problem;
  if (!attend_cli_library(attend_resolve(p, &s->resolved)) ||
      !attend_cli_library(attend_plan_create(p, &r->options, &s->plan)))
    return false;
  s->workspace_size = attend_plan_workspace_size(s->plan);
  s->workspace = attend_cli_allocate("the workspace", s->workspace_size, 1);
  if (!s->workspace) return false;

  attend_output *file = s->outputs.file;
  size_t count = shape_output(s, file, p, p->v_head_dim);
  s->tensors.out = attend_cli_allocate("--out", count, attend_dtype_size(p->q_dtype));
  s->out_count = count;
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
  const uint16_t *bits = s->tensors.out;
  if (p->q_dtype == ATTEND_F32) return;
  for (size_t i = 0; i < s->out_count; i++)
    s->out[i] = p->q_dtype == ATTEND_F16 ? f16_to_f32(bits[i]) : bf16_to_f32(bits[i]);
}

/* ---------------------------------------------------------------------------------------------------------- timing */

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static bool run(session *s) {
  return attend_cli_library(attend_plan_run(s->plan, &s->tensors, s->workspace, s->workspace_size));
}

/* Runs again and again; the run before was the warm-up. */
static bool time_runs(FILE *text, size_t runs, session *s) {
  double *times = attend_cli_allocate("--time", runs, sizeof *times);
  bool ok = times != NULL;
  for (size_t i = 0; ok && i < runs; i++) {
    double start = seconds();
    ok = run(s);
    times[i] = seconds() - start;
  }
  if (ok) attend_run_print_times(text, &s->resolved, &s->tensors, times, runs);
  attend_free(times);
  return ok;
}

/* -------------------------------------------------------------------------------------------------------- command */

static void name_outputs(const request *r, attend_outputs *outputs) {
  outputs->file[outputs->count++] = (attend_output){.option = "out", .path = r->out};
  if (r->lse) outputs->file[outputs->count++] = (attend_output){.option = "lse", .path = r->lse};
  if (r->weights) outputs->file[outputs->count++] = (attend_output){.option = "weights", .path = r->weights};
}

static bool execute(request *r, session *s) {
  attend_problem *p = &r->problem;
  name_outputs(r, &s->outputs);
  if (!attend_outputs_check(&s->outputs)) return false;
  for (int i = 0; i < INPUTS; i++)
    if (!attend_outputs_spare(&s->outputs, attend_input_options[i], r->files.path[i])) return false;
  if (!attend_input_read(&r->files, &s->input, p, &s->tensors)) return false;
  p->lse = r->lse != NULL;
  p->weights = r->weights != NULL;
  s->tensors.dropout_seed = r->seed;
  if (!prepare(r, s)) return false;
  FILE *text = attend_outputs_text(&s->outputs);
  if (r->explain) attend_run_explain(text, s->plan, &s->resolved, &s->tensors);
  if (!run(s) || (r->runs > 0 && !time_runs(text, (size_t)r->runs, s))) return false;
  widen_output(p, s);
  if (!attend_outputs_stage(&s->outputs)) return false;
  attend_run_print_problem(text, &s->resolved, &s->tensors);
  fprintf(text, ", kernel %s; ", attend_plan_kernel(s->plan));
  attend_outputs_print(&s->outputs);
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
