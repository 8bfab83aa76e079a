/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/heatmap.h"
#include "cli/input.h"
#include "cli/layer_parts.h"
#include "cli/options.h"
#include "cli/output.h"
#include "dispatch/dispatch.h"
#include "kernels/size.h"
#include "layers/linear.h"

static const char help[] =
    "usage: attend layer --query FILE --out FILE --heads N WEIGHTS [OPTION]...\n"
    "\n"
    "Runs multi-head attention, projections included, with the weights of a model or of .npy files, in float32.\n"
    "\n"
    "inputs and outputs, .npy: float32 or float16, (B, L, E) or, without a batch, (L, E)\n"
    "  --query FILE                 what attends\n"
    "  --key FILE                   what is attended to; default: the query\n"
    "  --value FILE                 what is taken from it; default: the key\n"
    "  --sequence-first             inputs and --out are (L, B, E), as nn.MultiheadAttention has them by default\n"
    "  --out FILE                   output, float32\n"
    "  --weights FILE               also write the attention weights: (B, Hq, Lq, Lk), or without B\n"
    "  --average                    the mean of the attention weights over the heads, without Hq, is written and "
    "drawn\n"
    "  --heatmap FILE.svg           also draw the attention weights, those of the first batch entry\n"
    "  --tokens LIST|FILE           labels of the queries, and of the keys if they are the queries: between commas, "
    "or\n"
    "                               a file with one on each line\n"
    "  --key-tokens LIST|FILE       labels of the keys\n"
    "\n"
    "weights of a model\n"
    "  --model FILE.safetensors     named as in nn.MultiheadAttention (in_proj_weight, out_proj.weight), BERT\n"
    "                               (self.query.weight, output.dense.weight; without its LayerNorm) or GPT-2\n"
    "                               (c_attn.weight, c_proj.weight); F32, F16 or BF16\n"
    "  --layer NAME                 what is before those names, such as h.0.attn; needed if there are several layers\n"
    "weights of .npy files\n"
    "  --q-weight FILE --k-weight FILE --v-weight FILE\n"
    "                               projections, or all three in one:\n"
    "  --qkv-weight FILE            their outputs one after the other\n"
    "  --q-bias FILE --k-bias FILE --v-bias FILE --qkv-bias FILE\n"
    "  --out-weight FILE --out-bias FILE\n"
    "                               output projection; default: none\n"
    "  --weight-layout out-in|in-out\n"
    "                               matrices are (outputs, inputs), as in nn.Linear and by default, or (inputs, "
    "outputs)\n"
    "heads\n"
    "  --heads N                    query heads\n"
    "  --kv-heads N                 key/value heads; default: what the weights say, or N\n"
    "\n"
    "attention\n"
    "  --scale X                    default 1 / sqrt(head dim)\n"
    "  --causal                     a query attends no key behind its own position (top-left)\n"
    "  --key-padding-mask FILE      (B, Lk): bool, true = ignore this key; or float, added to the scores\n"
    "  --attn-mask FILE             (Lq, Lk), (B Hq, Lq, Lk) or (B, Hq, Lq, Lk): likewise\n"
    "  --add-zero-attn              append a key and a value of zeros\n"
    "\n"
    "running\n"
    "  --kernel NAME|auto           one of 'attend kernels'; auto, the default, picks the fastest\n"
    "  --threads N                  at most this many threads; the result is the same for every number\n"
    "  --explain                    say which kernel is run, and why\n"
    "  --help                       this text\n"
    "\n"
    "examples\n"
    "  attend layer --query x.npy --out y.npy --heads 12 --model gpt2.safetensors --layer h.0.attn --causal\n"
    "  attend layer --query x.npy --out y.npy --heads 1 --q-weight wq.npy --k-weight wk.npy --v-weight wv.npy \\\n"
    "    --weight-layout in-out --heatmap weights.svg --tokens the,cat,sat\n"
    "  attend layer --query x.npy --key memory.npy --out y.npy --heads 8 --model mha.safetensors --average \\\n"
    "    --weights weights.npy --key-padding-mask padding.npy\n";

/* What the command line asks for. */
typedef struct request {
  const char *query, *key, *value, *out, *weights, *heatmap, *tokens, *key_tokens, *key_padding_mask, *attn_mask;
  attend_layer_files files;
  attend_mha_problem problem;
  attend_options options;
  bool sequence_first, average, explain;
} request;

/* ---------------------------------------------------------------------------------------------------- command line */

static bool take_sequence_first(const char *text, void *to) {
  (void)text;
  ((request *)to)->sequence_first = true;
  return true;
}

static bool take_average(const char *text, void *to) {
  (void)text;
  ((request *)to)->average = true;
  return true;
}

static bool take_explain(const char *text, void *to) {
  (void)text;
  ((request *)to)->explain = true;
  return true;
}

static bool take_causal(const char *text, void *to) {
  (void)text;
  ((request *)to)->problem.causal = ATTEND_CAUSAL_TOP_LEFT;
  return true;
}

static bool take_add_zero_attn(const char *text, void *to) {
  (void)text;
  ((request *)to)->problem.add_zero_attn = 1;
  return true;
}

static bool take_heads(const char *text, void *to) {
  return attend_cli_integer("heads", text, 1, ATTEND_MAX_EXTENT, &((request *)to)->problem.q_heads);
}

static bool take_kv_heads(const char *text, void *to) {
  return attend_cli_integer("kv-heads", text, 1, ATTEND_MAX_EXTENT, &((request *)to)->problem.kv_heads);
}

static bool take_scale(const char *text, void *to) { return attend_cli_scale(text, &((request *)to)->problem.scale); }

static bool take_threads(const char *text, void *to) {
  return attend_cli_threads(text, &((request *)to)->options.num_threads);
}

static bool take_weight_layout(const char *text, void *to) {
  request *r = to;
  const bool in_out = strcmp(text, "in-out") == 0;
  r->files.layout = in_out ? ATTEND_WEIGHT_IN_OUT : ATTEND_WEIGHT_OUT_IN;
  if (in_out || strcmp(text, "out-in") == 0) return true;
  attend_cli_error("--weight-layout '%s': expected out-in or in-out", text);
  return false;
}

#define PART(which) offsetof(request, files.part[which])
static const attend_cli_option options[] = {
    {"query", required_argument, offsetof(request, query), NULL},
    {"key", required_argument, offsetof(request, key), NULL},
    {"value", required_argument, offsetof(request, value), NULL},
    {"sequence-first", no_argument, 0, take_sequence_first},
    {"out", required_argument, offsetof(request, out), NULL},
    {"weights", required_argument, offsetof(request, weights), NULL},
    {"average", no_argument, 0, take_average},
    {"heatmap", required_argument, offsetof(request, heatmap), NULL},
    {"tokens", required_argument, offsetof(request, tokens), NULL},
    {"key-tokens", required_argument, offsetof(request, key_tokens), NULL},
    {"model", required_argument, offsetof(request, files.model), NULL},
    {"layer", required_argument, offsetof(request, files.layer), NULL},
    {"q-weight", required_argument, PART(PART_Q), NULL},
    {"k-weight", required_argument, PART(PART_K), NULL},
    {"v-weight", required_argument, PART(PART_V), NULL},
    {"qkv-weight", required_argument, PART(PART_QKV), NULL},
    {"out-weight", required_argument, PART(PART_OUT), NULL},
    {"q-bias", required_argument, PART(PART_Q_BIAS), NULL},
    {"k-bias", required_argument, PART(PART_K_BIAS), NULL},
    {"v-bias", required_argument, PART(PART_V_BIAS), NULL},
    {"qkv-bias", required_argument, PART(PART_QKV_BIAS), NULL},
    {"out-bias", required_argument, PART(PART_OUT_BIAS), NULL},
    {"weight-layout", required_argument, 0, take_weight_layout},
    {"heads", required_argument, 0, take_heads},
    {"kv-heads", required_argument, 0, take_kv_heads},
    {"scale", required_argument, 0, take_scale},
    {"causal", no_argument, 0, take_causal},
    {"key-padding-mask", required_argument, offsetof(request, key_padding_mask), NULL},
    {"attn-mask", required_argument, offsetof(request, attn_mask), NULL},
    {"add-zero-attn", no_argument, 0, take_add_zero_attn},
    {"kernel", required_argument, offsetof(request, options.kernel), NULL},
    {"threads", required_argument, 0, take_threads},
    {"explain", no_argument, 0, take_explain},
};

/* Weights come from a model or from files, and those from one matrix or from three. */
static bool check_weights(const attend_layer_files *f) {
  for (int i = 0; i < PARTS; i++)
    if (f->model && f->part[i]) {
      attend_cli_error("--model and --%s: expected one of them", attend_layer_part_options[i]);
      return false;
    }
  if (f->model) return true;
  if (f->layer) {
    attend_cli_error("--layer '%s': expected only with --model", f->layer);
    return false;
  }
  const bool packed = f->part[PART_QKV] != NULL;
  for (int i = PART_Q; i <= PART_V; i++)
    if ((f->part[i] != NULL) == packed) {
      attend_cli_error(
          "layer: weights: expected --model, --qkv-weight, or all of --q-weight, --k-weight and --v-weight");
      return false;
    }
  return true;
}

static bool parse(int argc, char **argv, request *r, int *status) {
  if (!attend_cli_parse(argc, argv, options, sizeof options / sizeof *options, help, r, status)) return false;
  const char *missing = !r->query ? "query FILE" : !r->out ? "out FILE" : !r->problem.q_heads ? "heads N" : NULL;
  if (missing) attend_cli_error("layer: option '--%s' is missing; 'attend layer --help' lists all", missing);
  if (missing || !check_weights(&r->files)) return false;
  const char *alone = r->tokens ? "tokens" : r->key_tokens ? "key-tokens" : NULL;
  if (alone && !r->heatmap) attend_cli_error("--%s: expected with --heatmap only", alone);
  if (r->average && !r->heatmap && !r->weights)
    attend_cli_error("--average: expected with --weights or --heatmap only");
  return (!alone && !r->average) || r->heatmap || (r->weights && !alone);
}

/* ---------------------------------------------------------------------------------------------------------- inputs */

/* Everything a run holds, so that it is released in one place. */
typedef struct session {
  attend_npy query, key, value, key_padding_mask, attn_mask;
  attend_layer_parts parts;
  attend_labels query_labels, key_labels;
  attend_mha_tensors tensors;
  attend_outputs outputs;
  attend_mha_plan *plan;
  void *workspace;
  char *svg;
} session;

static void release(session *s) {
  attend_npy *arrays[] = {&s->query, &s->key, &s->value, &s->key_padding_mask, &s->attn_mask};
  for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) attend_npy_free(arrays[i]);
  attend_layer_parts_free(&s->parts);
  attend_labels_free(&s->query_labels);
  attend_labels_free(&s->key_labels);
  attend_free(s->tensors.out);
  attend_free(s->tensors.weights);
  attend_mha_plan_destroy(s->plan);
  attend_free(s->workspace);
  free(s->svg);
}

/* Reads a sequence: its length and the size of its rows. Where B is known already, it must be that. */
static bool read_sequence(const request *r, const attend_source *source, int rank, int64_t batch, int64_t *len,
                          int64_t *dim) {
  const attend_npy *a = source->array;
  if (!attend_source_numbers(source) || !attend_source_convert(source, ATTEND_F32)) return false;
  const int64_t found = a->rank == 3 ? a->shape[r->sequence_first ? 1 : 0] : 1;
  if ((a->rank != 2 && a->rank != 3) || (rank && a->rank != rank) || (rank && found != batch))
    return attend_source_fail_shape(source,
                                    rank ? "as many dimensions as --query, and the same batch" : "(B, L, E) or (L, E)");
  *len = a->rank == 3 && !r->sequence_first ? a->shape[1] : a->shape[0];
  *dim = a->shape[a->rank - 1];
  return *dim > 0 || attend_source_fail_shape(source, "a last dimension of at least 1");
}

static attend_sequence_strides strides(const request *r, int64_t dim) {
  if (!r->sequence_first) return (attend_sequence_strides){0, 0};
  return (attend_sequence_strides){dim, r->problem.batch * dim};
}

static bool read_inputs(request *r, session *s) {
  attend_mha_problem *p = &r->problem;
  attend_source query = {"query", r->query, false, &s->query}, key = {"key", r->key, false, &s->key},
                value = {"value", r->value, false, &s->value};
  if (!read_sequence(r, &query, 0, 0, &p->q_len, &p->embed_dim)) return false;
  const int rank = s->query.rank;
  p->batch = rank == 3 ? s->query.shape[r->sequence_first ? 1 : 0] : 1;
  int64_t value_len = p->kv_len = p->q_len;
  p->k_dim = p->embed_dim;
  if (r->key && !read_sequence(r, &key, rank, p->batch, &p->kv_len, &p->k_dim)) return false;
  value_len = p->kv_len;
  p->v_dim = p->k_dim;
  if (r->value && !read_sequence(r, &value, rank, p->batch, &value_len, &p->v_dim)) return false;
  if (value_len != p->kv_len) return attend_source_fail_shape(&value, "as many rows as the key has");
  s->tensors.query = s->query.data;
  s->tensors.key = r->key ? s->key.data : s->query.data;
  s->tensors.value = r->value ? s->value.data : s->tensors.key;
  return true;
}

/* Reads a mask of one of `count` shapes; returns which of them, or -1 after reporting that it is none. */
static int read_mask(const attend_source *source, const int64_t (*shapes)[5], int count, attend_layer_mask *kind) {
  const attend_npy *a = source->array;
  if (!attend_source_read(source)) return -1;
  *kind = a->type == ATTEND_NPY_BOOL ? ATTEND_LAYER_MASK_IGNORE : ATTEND_LAYER_MASK_ADD;
  if (a->type != ATTEND_NPY_BOOL && a->type != ATTEND_NPY_F32 && a->type != ATTEND_NPY_F16) {
    attend_source_fail_type(source, "bool, float32 or float16");
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

static bool read_masks(request *r, session *s) {
  attend_mha_problem *p = &r->problem;
  const attend_source padding = {"key-padding-mask", r->key_padding_mask, false, &s->key_padding_mask};
  const attend_source attn = {"attn-mask", r->attn_mask, false, &s->attn_mask};
  if (r->key_padding_mask) {
    const int64_t shapes[][5] = {{2, p->batch, p->kv_len}, {1, p->kv_len}};
    if (read_mask(&padding, shapes, s->query.rank == 2 ? 2 : 1, &p->key_padding_mask) < 0) return false;
    s->tensors.key_padding_mask = s->key_padding_mask.data;
  }
  if (r->attn_mask) {
    int64_t rows;
    if (__builtin_mul_overflow(p->batch, p->q_heads, &rows)) rows = -1;
    const int64_t shapes[][5] = {
        {2, p->q_len, p->kv_len}, {3, rows, p->q_len, p->kv_len}, {4, p->batch, p->q_heads, p->q_len, p->kv_len}};
    const int shape = read_mask(&attn, shapes, 3, &p->attn_mask);
    if (shape < 0) return false;
    p->attn_mask_per_head = shape > 0;
    s->tensors.attn_mask = s->attn_mask.data;
  }
  return true;
}

static bool fit_labels(const char *option, const attend_labels *labels, int64_t count, const char *what) {
  if (labels->count == 0 || labels->count == count) return true;
  attend_cli_error("--%s: %" PRId64 " labels, expected %" PRId64 ", one for each %s", option, labels->count, count,
                   what);
  return false;
}

/* Keys that are appended have no token. */
static bool read_labels(const request *r, session *s, int64_t keys) {
  const attend_mha_problem *p = &r->problem;
  const char *key_tokens = r->key_tokens ? r->key_tokens : r->key ? NULL : r->tokens;
  const char *option = r->key_tokens ? "key-tokens" : "tokens";
  if (r->tokens && !attend_labels_read(&s->query_labels, "tokens", r->tokens)) return false;
  if (!fit_labels("tokens", &s->query_labels, p->q_len, "query")) return false;
  if (!key_tokens) return true;
  if (!attend_labels_read(&s->key_labels, option, key_tokens)) return false;
  if (!fit_labels(option, &s->key_labels, p->kv_len, "key")) return false;
  return attend_labels_append(&s->key_labels, p->bias_kv ? "bias_k" : NULL) &&
         attend_labels_append(&s->key_labels, s->key_labels.count < keys ? "zero" : NULL);
}

/* ------------------------------------------------------------------------------------------------------------- work */

/* Makes the plan and allocates what it writes. */
static bool prepare(request *r, session *s, int64_t keys) {
  attend_mha_problem *p = &r->problem;
  const int64_t out_dim = p->out_proj ? p->out_dim : p->q_heads * p->v_head_dim;
  p->query_strides = strides(r, p->embed_dim);
  p->key_strides = strides(r, p->k_dim);
  p->value_strides = strides(r, p->v_dim);
  p->out_strides = strides(r, out_dim);
  if (r->weights || r->heatmap) p->weights = r->average ? ATTEND_LAYER_WEIGHTS_AVERAGED : ATTEND_LAYER_WEIGHTS_PER_HEAD;
  if (!attend_cli_library(attend_mha_plan_create(p, &r->options, &s->plan))) return false;

  attend_output *out = &s->outputs.file[0];
  out->rank = s->query.rank;
  memcpy(out->shape, s->query.shape, (size_t)out->rank * sizeof *out->shape);
  out->shape[out->rank - 1] = out_dim;
  size_t rows = size_mul((size_t)p->batch, (size_t)p->q_len);
  s->tensors.out = attend_cli_allocate("--out", size_mul(rows, (size_t)out_dim), sizeof(float));
  out->data = s->tensors.out;
  if (p->weights) {
    const int64_t heads = r->average ? 1 : p->q_heads, full[4] = {p->batch, heads, p->q_len, keys};
    s->tensors.weights =
        attend_cli_allocate("the weights", size_mul(size_mul(rows, (size_t)heads), (size_t)keys), sizeof(float));
    if (r->weights) {
      attend_output *file = &s->outputs.file[1];
      file->data = s->tensors.weights;
      for (int i = 0; i < 4; i++)
        if ((i > 0 || s->query.rank == 3) && (i != 1 || !r->average)) file->shape[file->rank++] = full[i];
    }
  }
  const size_t size = attend_mha_plan_workspace_size(s->plan);
  s->workspace = attend_cli_allocate("the workspace", size, 1);
  return s->tensors.out && (!p->weights || s->tensors.weights) && s->workspace;
}

static bool draw(const request *r, session *s, int64_t keys) {
  const attend_mha_problem *p = &r->problem;
  const attend_heatmap map = {.weights = s->tensors.weights,
                              .panels = r->average ? 1 : p->q_heads,
                              .queries = p->q_len,
                              .keys = keys,
                              .averaged = r->average,
                              .heads = p->q_heads,
                              .query_labels = &s->query_labels,
                              .key_labels = &s->key_labels};
  s->svg = attend_heatmap_draw(&map);
  s->outputs.file[s->outputs.count - 1].text = s->svg;
  return s->svg != NULL;
}

/* Told before the work: whether there is something to draw, and not too much. */
static bool check_heatmap(const request *r, int64_t keys) {
  const attend_mha_problem *p = &r->problem;
  const double cells = (double)(r->average ? 1 : p->q_heads) * (double)p->q_len * (double)keys;
  if (!r->heatmap || (cells >= 1 && cells <= ATTEND_HEATMAP_MOST_CELLS && p->batch > 0)) return true;
  attend_cli_error("--heatmap %s: %.0f weights to draw, expected 1 to %d%s", r->heatmap, p->batch ? cells : 0.0,
                   ATTEND_HEATMAP_MOST_CELLS, r->average ? "" : "; --average draws one panel for all heads");
  return false;
}

static void name_outputs(const request *r, attend_outputs *outputs) {
  outputs->file[outputs->count++] = (attend_output){.option = "out", .path = r->out};
  if (r->weights) outputs->file[outputs->count++] = (attend_output){.option = "weights", .path = r->weights};
  if (r->heatmap) outputs->file[outputs->count++] = (attend_output){.option = "heatmap", .path = r->heatmap};
}

static void print_summary(const request *r, const session *s) {
  const attend_mha_problem *p = &r->problem;
  char text[4096];
  attend_mha_plan_explain(s->plan, text, sizeof text);
  if (r->explain) printf("plan: %s\n", text);
  printf("layer: B %" PRId64 ", Lq %" PRId64 ", Lk %" PRId64 ", E %" PRId64 ", Hq %" PRId64 ", Hkv %" PRId64
         ", D %" PRId64 ", Dv %" PRId64 ", %s output projection; ",
         p->batch, p->q_len, p->kv_len, p->embed_dim, p->q_heads, p->kv_heads, p->head_dim, p->v_head_dim,
         p->out_proj ? "with" : "no");
  attend_outputs_print(&s->outputs);
}

static bool execute(request *r, session *s) {
  name_outputs(r, &s->outputs);
  if (!attend_outputs_check(&s->outputs) || !read_inputs(r, s)) return false;
  if (!attend_layer_parts_read(&r->files, &s->parts, &r->problem, &s->tensors)) return false;
  const int64_t keys = r->problem.kv_len + r->problem.bias_kv + r->problem.add_zero_attn;
  if (!read_masks(r, s) || !check_heatmap(r, keys) || !read_labels(r, s, keys) || !prepare(r, s, keys)) return false;
  attend_linear_one_blas_thread(); /* the process is ours */
  const size_t size = attend_mha_plan_workspace_size(s->plan);
  if (!attend_cli_library(attend_mha_plan_run(s->plan, &s->tensors, s->workspace, size))) return false;
  if (r->heatmap && !draw(r, s, keys)) return false;
  if (!attend_outputs_stage(&s->outputs)) return false;
  print_summary(r, s);
  return attend_outputs_finish(&s->outputs);
}

int cmd_layer(int argc, char **argv) {
  static session s; /* its paths are too much for a stack */
  request r = {.problem = ATTEND_MHA_PROBLEM_INIT, .options = ATTEND_OPTIONS_INIT};
  s.tensors = (attend_mha_tensors)ATTEND_MHA_TENSORS_INIT;
  int status;
  if (!parse(argc, argv, &r, &status)) return status;
  bool ok = execute(&r, &s);
  release(&s);
  return ok ? ATTEND_EXIT_DONE : ATTEND_EXIT_BAD_INPUT;
}
