/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/layer.h"
#include "cli/options.h"
#include "cli/source.h"
#include "cli/text.h"
#include "dispatch/dispatch.h"
#include "kernels/size.h"
#include "layers/linear.h"

typedef attend_layer_request request;
typedef attend_layer_session session;

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

static bool take_additive(const char *text, void *to) {
  (void)text;
  ((request *)to)->additive = true;
  return true;
}

static bool take_explain(const char *text, void *to) {
  (void)text;
  ((request *)to)->explain = true;
  return true;
}

static bool take_causal(const char *text, void *to) {
  (void)text;
  ((request *)to)->mha.causal = ATTEND_CAUSAL_TOP_LEFT;
  return true;
}

static bool take_add_zero_attn(const char *text, void *to) {
  (void)text;
  ((request *)to)->mha.add_zero_attn = 1;
  return true;
}

static bool take_heads(const char *text, void *to) {
  return attend_cli_integer("heads", text, 1, ATTEND_MAX_EXTENT, &((request *)to)->mha.q_heads);
}

static bool take_kv_heads(const char *text, void *to) {
  return attend_cli_integer("kv-heads", text, 1, ATTEND_MAX_EXTENT, &((request *)to)->mha.kv_heads);
}

static bool take_scale(const char *text, void *to) {
  attend_mha_problem *p = &((request *)to)->mha;
  p->as_given |= ATTEND_AS_GIVEN_SCALE;
  return attend_cli_number("scale", text, &p->scale);
}

static bool take_softcap(const char *text, void *to) { return attend_cli_softcap(text, &((request *)to)->mha.softcap); }

static bool take_window(const char *text, void *to) {
  attend_mha_problem *p = &((request *)to)->mha;
  p->window = 1;
  return attend_cli_window(text, &p->window_left, &p->window_right);
}

/* THETA, which a comma ends if DIM follows. */
static bool take_theta(const char *text, size_t length, float *theta) {
  char *number = strndup(text, length);
  if (!number) attend_cli_error("no memory for the value of --rope");
  const bool ok = number && attend_cli_number("rope", number, theta);
  free(number);
  if (ok && *theta <= 0.0f) attend_cli_error("--rope '%s': expected a theta greater than 0", text);
  return ok && *theta > 0.0f;
}

static bool take_rope(const char *text, void *to) {
  request *r = to;
  attend_mha_problem *p = &r->mha;
  const char *const kinds[] = {[ATTEND_ROPE_INTERLEAVED] = "interleaved", [ATTEND_ROPE_HALF] = "half"};
  r->rope_given = true;
  if (strcmp(text, "none") == 0) return true;
  const char *theta = strchr(text, ','), *dim = theta ? strchr(theta + 1, ',') : NULL;
  const size_t length = theta ? (size_t)(theta - text) : strlen(text);
  for (int i = ATTEND_ROPE_NONE; i < (int)(sizeof kinds / sizeof *kinds); i++)
    if (kinds[i] && strlen(kinds[i]) == length && memcmp(kinds[i], text, length) == 0) p->rope = i;
  if (!p->rope) {
    attend_cli_error(
        "--rope '%s': expected none, or interleaved or half, perhaps a comma and theta, and perhaps a comma "
        "and how many elements of a head are turned",
        text);
    return false;
  }
  if (theta && !take_theta(theta + 1, dim ? (size_t)(dim - theta - 1) : strlen(theta + 1), &p->rope_theta))
    return false;
  return !dim || attend_cli_integer("rope", dim + 1, 2, ATTEND_MAX_EXTENT, &p->rotary_dim);
}

static bool take_rope_factor(const char *text, void *to) {
  float *factor = &((request *)to)->mha.rope_factor;
  if (!attend_cli_number("rope-factor", text, factor)) return false;
  if (*factor <= 0.0f) attend_cli_error("--rope-factor '%s': expected a number greater than 0", text);
  return *factor > 0.0f;
}

static bool take_bits(const char *text, void *to) { return attend_cli_bits(text, &((request *)to)->files.bf16_bits); }

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
    {.help = "inputs and outputs, .npy: float32, float16, bfloat16 (as ml_dtypes and JAX write it) or float64, (B, L, "
             "E) or, without a batch, (L, E)"},
    {"query", "FILE", "what attends", .text = offsetof(request, query)},
    {"key", "FILE", "what is attended to; default: the query", .text = offsetof(request, key)},
    {"value", "FILE", "what is taken from it; default: the key", .text = offsetof(request, value)},
    {"out", "FILE", "output, float32", .text = offsetof(request, out)},
    {"weights", "FILE", "also write the attention weights: (B, Hq, Lq, Lk), additive (B, Lq, Lk); or without B",
     .text = offsetof(request, weights)},
    {"heatmap", "FILE.svg", "also draw the attention weights, those of the first batch entry",
     .text = offsetof(request, heatmap)},
    {"tokens", "LIST|FILE",
     "labels of the queries, and of the keys if they are the queries: between commas, or a file with one on each line",
     .text = offsetof(request, tokens)},
    {"key-tokens", "LIST|FILE", "labels of the keys", .text = offsetof(request, key_tokens)},
    {"bits", "bf16", "uint16 files hold the bits of bfloat16", .take = take_bits},
    {.help = "weights of a model"},
    {"model", "FILE",
     "a .safetensors file, or the index of a sharded model (model.safetensors.index.json); F32, F16 or BF16. Named as "
     "in nn.MultiheadAttention, Llama, Mistral, Qwen, Phi, Phi-3, gpt-oss, GPT-2, GPT-J, GPT-Neo, GPT-NeoX, OPT, CLIP, "
     "Whisper, T5, BERT (without its LayerNorm), DistilBERT, ViT, timm or diffusers; additive as in Dive into Deep "
     "Learning (W_q, W_k, w_v) or PyTorch's seq2seq tutorial (Wa, Ua, Va). What only a config.json says is for "
     "options: --heads, --rope, --causal, --window, --scale",
     .text = offsetof(request, files.model)},
    {"layer", "NAME",
     "what is before the names of its tensors, such as h.0.attn or model.layers.0.self_attn; needed if there are "
     "several layers",
     .text = offsetof(request, files.layer)},
    {"ignore", "NAME[,NAME]...",
     "tensors of the layer that are left out, without NAME of --layer; all that begin so if * ends it. Others that "
     "attend layer cannot compute are an error",
     .text = offsetof(request, files.ignore)},
    {.help = "weights of .npy files"},
    {"q-weight", "FILE", NULL, .text = PART(PART_Q)},
    {"k-weight", "FILE", NULL, .text = PART(PART_K)},
    {"v-weight", "FILE", "projections, or all three in one:", .text = PART(PART_V)},
    {"qkv-weight", "FILE", "their outputs one after the other", .text = PART(PART_QKV)},
    {"q-bias", "FILE", NULL, .text = PART(PART_Q_BIAS)},
    {"k-bias", "FILE", NULL, .text = PART(PART_K_BIAS)},
    {"v-bias", "FILE", NULL, .text = PART(PART_V_BIAS)},
    {"qkv-bias", "FILE", "their biases; default: none", .text = PART(PART_QKV_BIAS)},
    {"out-weight", "FILE", NULL, .text = PART(PART_OUT)},
    {"out-bias", "FILE", "output projection; default: none", .text = PART(PART_OUT_BIAS)},
    {"weight-layout", "out-in|in-out",
     "matrices are (outputs, inputs), as in nn.Linear and by default, or (inputs, outputs)",
     .take = take_weight_layout},
    {.help = "additive attention (Bahdanau)"},
    {"additive", NULL,
     "scores are w . tanh(Wq query + Wk key); values are taken as they are. Weights are --q-weight, --k-weight, "
     "perhaps --q-bias and --k-bias, and:",
     .take = take_additive},
    {"score-weight", "FILE", "w: (hidden,), (1, hidden) or (hidden, 1)", .text = PART(PART_SCORE)},
    {"kv-lengths", "FILE", "only the first so many keys: (B) or (B, Lq), int32 or int64",
     .text = offsetof(request, kv_lengths)},
    {.help = "multi-head attention"},
    {"heads", "N", "query heads", .take = take_heads},
    {"kv-heads", "N", "key/value heads; default: what the weights say, or N", .take = take_kv_heads},
    {"scale", "X", "default 1 / sqrt(head dim)", .take = take_scale},
    {"causal", NULL, "a query attends no key after its own position (top-left)", .take = take_causal},
    {"window", "LEFT,RIGHT", "only keys from LEFT before a query's position to RIGHT after it; -1 is open",
     .take = take_window},
    {"softcap", "X", "X * tanh(score / X) in place of the score; 0 is none", .take = take_softcap},
    {"sinks", "FILE", "attention sinks (Hq): each adds exp(sink) to its head's denominators",
     .text = offsetof(request, sinks)},
    {"rope", "none|interleaved|half[,THETA[,DIM]]",
     "rotary position embedding of queries and keys, from position 0: pairs of neighbours, or of the halves of a head, "
     "as transformers has them, in the first DIM elements of a head; default THETA: 10000, DIM: all. A model named as "
     "one that has it needs this option",
     .take = take_rope},
    {"rope-frequencies", "FILE",
     "(DIM / 2): radians a position, in the place of THETA: inv_freq of transformers, whose scaling (Llama 3, YaRN) "
     "changes it",
     .text = offsetof(request, rope_frequencies)},
    {"rope-factor", "X", "multiplies cos and sin: YaRN's attention factor; default 1", .take = take_rope_factor},
    {"key-padding-mask", "FILE", "(B, Lk): bool or 0 and 1, true = ignore this key; or float, added to the scores",
     .text = offsetof(request, key_padding_mask)},
    {"attn-mask", "FILE", "(Lq, Lk), (B Hq, Lq, Lk) or (B, Hq, Lq, Lk), where B, Hq and Lq may be 1: likewise",
     .text = offsetof(request, attn_mask)},
    {"attention-mask", "FILE",
     "as transformers has it: (B, Lk) or (B, 1, Lq, Lk), bool or 0 and 1, true = attend this key; the latter also "
     "float, added to the scores",
     .text = offsetof(request, attention_mask)},
    {"add-zero-attn", NULL, "append a key and a value of zeros", .take = take_add_zero_attn},
    {"sequence-first", NULL, "inputs and --out are (L, B, E), as nn.MultiheadAttention has them by default",
     .take = take_sequence_first},
    {"average", NULL, "the mean of the attention weights over the heads, without Hq, is written and drawn",
     .take = take_average},
    {.help = "running"},
    {"kernel", "NAME|auto", "one of 'attend kernels'; auto, the default, picks the fastest",
     .text = offsetof(request, options.kernel)},
    {"threads", "N", "at most this many threads; the result is the same for every number", .take = take_threads},
    {"explain", NULL, "say which kernel is run, and why", .take = take_explain},
};
static const attend_cli_command command = {
    .usage = "attend layer --query FILE --out FILE --heads N|--additive WEIGHTS [OPTION]...",
    .about = "Runs multi-head or additive attention, projections included, with the weights of a model or of .npy "
             "files, in float32.",
    .options = options,
    .count = sizeof options / sizeof *options,
    .examples =
        "attend layer --query x.npy --out y.npy --heads 12 --model gpt2.safetensors --layer h.0.attn --causal\n"
        "attend layer --query x.npy --out y.npy --heads 32 --model model.safetensors.index.json --layer \\\n"
        "  model.layers.0.self_attn --rope half,500000 --causal\n"
        "attend layer --query x.npy --out y.npy --heads 1 --q-weight wq.npy --k-weight wk.npy --v-weight wv.npy \\\n"
        "  --weight-layout in-out --heatmap weights.svg --tokens the,cat,sat\n"
        "attend layer --query x.npy --key memory.npy --out y.npy --heads 8 --model mha.safetensors --average \\\n"
        "  --weights weights.npy --key-padding-mask padding.npy\n"
        "attend layer --additive --query decoder.npy --key encoder.npy --out context.npy --model seq2seq.safetensors "
        "\\\n"
        "  --layer decoder.attention --kv-lengths lengths.npy --heatmap alignment.svg --key-tokens the,cat,sat\n",
};

/* Options that only one kind of layer has. */
static bool check_kind(const request *r) {
  const struct {
    const char *name;
    bool given, additive;
  } own[] = {
      {"heads", r->mha.q_heads != 0, false},
      {"kv-heads", r->mha.kv_heads != 0, false},
      {"scale", r->mha.as_given != 0, false},
      {"causal", r->mha.causal != ATTEND_CAUSAL_NONE, false},
      {"window", r->mha.window != 0, false},
      {"softcap", r->mha.softcap != 0.0f, false},
      {"sinks", r->sinks != NULL, false},
      {"rope", r->rope_given, false},
      {"rope-frequencies", r->rope_frequencies != NULL, false},
      {"rope-factor", r->mha.rope_factor != 0.0f, false},
      {"add-zero-attn", r->mha.add_zero_attn != 0, false},
      {"key-padding-mask", r->key_padding_mask != NULL, false},
      {"attn-mask", r->attn_mask != NULL, false},
      {"attention-mask", r->attention_mask != NULL, false},
      {"average", r->average, false},
      {"sequence-first", r->sequence_first, false},
      {"kv-lengths", r->kv_lengths != NULL, true},
  };
  const char *wrong = NULL;
  for (size_t i = 0; i < sizeof own / sizeof *own; i++)
    if (own[i].given && own[i].additive != r->additive) wrong = own[i].name;
  for (int i = 0; i < PARTS; i++) {
    const bool shared = i == PART_Q || i == PART_K || i == PART_Q_BIAS || i == PART_K_BIAS;
    if (r->files.part[i] && !shared && (i == PART_SCORE) != r->additive) wrong = attend_layer_part_options[i];
  }
  if (wrong) attend_cli_error("--%s: expected only %s --additive", wrong, r->additive ? "without" : "with");
  return !wrong;
}

/* Weights come from a model or from files, and those of queries, keys and values from one matrix or from three. */
static bool check_weights(const request *r) {
  const attend_layer_files *f = &r->files;
  for (int i = 0; i < PARTS; i++)
    if (f->model && f->part[i]) {
      attend_cli_error("--model and --%s: expected one of them", attend_layer_part_options[i]);
      return false;
    }
  if (f->model) return true;
  if (f->layer || f->ignore) {
    attend_cli_error("--%s '%s': expected only with --model", f->layer ? "layer" : "ignore",
                     f->layer ? f->layer : f->ignore);
    return false;
  }
  const bool three = f->part[PART_Q] && f->part[PART_K] && f->part[r->additive ? PART_SCORE : PART_V];
  const bool any = f->part[PART_Q] || f->part[PART_K] || f->part[PART_V];
  if (f->part[PART_QKV] ? !any : three) return true;
  attend_cli_error("layer: weights: expected --model, %s",
                   r->additive ? "or all of --q-weight, --k-weight and --score-weight"
                               : "--qkv-weight, or all of --q-weight, --k-weight and --v-weight");
  return false;
}

static bool parse(int argc, char **argv, request *r, int *status) {
  if (!attend_cli_parse(argc, argv, &command, r, status)) return false;
  const bool heads = r->additive || r->mha.q_heads;
  const char *missing = !r->query ? "--query FILE' is"
                        : !r->out ? "--out FILE' is"
                        : !heads  ? "--heads N', or '--additive', is"
                                  : NULL;
  if (missing) attend_cli_error("layer: option '%s missing; 'attend layer --help' lists all", missing);
  if (missing || !check_kind(r) || !check_weights(r)) return false;
  if (r->attention_mask && (r->attn_mask || r->key_padding_mask)) {
    attend_cli_error("--attention-mask and --%s: expected one of them",
                     r->attn_mask ? "attn-mask" : "key-padding-mask");
    return false;
  }
  const char *turning = r->rope_frequencies ? "rope-frequencies" : r->mha.rope_factor != 0.0f ? "rope-factor" : NULL;
  if (turning && !r->mha.rope) {
    attend_cli_error("--%s: expected with --rope interleaved or half only", turning);
    return false;
  }
  const char *alone = r->tokens ? "tokens" : r->key_tokens ? "key-tokens" : NULL;
  if (alone && !r->heatmap) attend_cli_error("--%s: expected with --heatmap only", alone);
  if (r->average && !r->heatmap && !r->weights)
    attend_cli_error("--average: expected with --weights or --heatmap only");
  return (!alone && !r->average) || r->heatmap || (r->weights && !alone);
}

/* ---------------------------------------------------------------------------------------------------------- inputs */

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

static bool read_inputs(const request *r, session *s) {
  const bool bits = r->files.bf16_bits;
  attend_source query = {"query", r->query, bits, &s->query}, key = {"key", r->key, bits, &s->key},
                value = {"value", r->value, bits, &s->value};
  if (!read_sequence(r, &query, 0, 0, &s->q_len, &s->q_dim)) return false;
  const int rank = s->query.rank;
  s->batch = rank == 3 ? s->query.shape[r->sequence_first ? 1 : 0] : 1;
  s->kv_len = s->q_len, s->k_dim = s->q_dim;
  if (r->key && !read_sequence(r, &key, rank, s->batch, &s->kv_len, &s->k_dim)) return false;
  int64_t value_len = s->kv_len;
  s->v_dim = s->k_dim;
  if (r->value && !read_sequence(r, &value, rank, s->batch, &value_len, &s->v_dim)) return false;
  if (value_len != s->kv_len) return attend_source_fail_shape(&value, "as many rows as the key has");
  s->query_data = s->query.data;
  s->key_data = r->key ? s->key.data : s->query_data;
  s->value_data = r->value ? s->value.data : s->key_data;
  return true;
}

static bool fit_labels(const char *option, const attend_labels *labels, int64_t count, const char *what) {
  if (labels->count == 0 || labels->count == count) return true;
  attend_cli_error("--%s: %" PRId64 " labels, expected %" PRId64 ", one for each %s", option, labels->count, count,
                   what);
  return false;
}

/* Keys that are appended have no token. */
static bool read_labels(const request *r, session *s) {
  const char *key_tokens = r->key_tokens ? r->key_tokens : r->key ? NULL : r->tokens;
  const char *option = r->key_tokens ? "key-tokens" : "tokens";
  if (r->tokens && !attend_labels_read(&s->query_labels, "tokens", r->tokens)) return false;
  if (!fit_labels("tokens", &s->query_labels, s->q_len, "query")) return false;
  if (!key_tokens) return true;
  if (!attend_labels_read(&s->key_labels, option, key_tokens)) return false;
  if (!fit_labels(option, &s->key_labels, s->kv_len, "key")) return false;
  return attend_labels_append(&s->key_labels, s->appended[0]) && attend_labels_append(&s->key_labels, s->appended[1]);
}

/* ------------------------------------------------------------------------------------------------------------- work */

/* Panels of a picture, and as many weights for each query and key. */
static int64_t panels(const request *r, const session *s) { return r->average || s->heads == 0 ? 1 : s->heads; }

/* Allocates what the plan writes. */
static bool allocate(const request *r, session *s) {
  attend_output *out = &s->outputs.file[0];
  out->rank = s->query.rank;
  memcpy(out->shape, s->query.shape, (size_t)out->rank * sizeof *out->shape);
  out->shape[out->rank - 1] = s->out_dim;
  const size_t rows = size_mul((size_t)s->batch, (size_t)s->q_len);
  s->out = attend_cli_allocate("--out", size_mul(rows, (size_t)s->out_dim), sizeof(float));
  out->data = s->out;
  if (r->weights || r->heatmap) {
    const int64_t full[4] = {s->batch, panels(r, s), s->q_len, s->keys};
    s->weights =
        attend_cli_allocate("the weights", size_mul(size_mul(rows, (size_t)full[1]), (size_t)s->keys), sizeof(float));
    if (!s->weights) return false;
    if (r->weights) {
      attend_output *file = &s->outputs.file[1];
      file->data = s->weights;
      for (int i = 0; i < 4; i++)
        if ((i > 0 || s->query.rank == 3) && (i != 1 || (s->heads && !r->average))) file->shape[file->rank++] = full[i];
    }
  }
  s->workspace = attend_cli_allocate("the workspace", s->workspace_size, 1);
  return s->out && s->workspace;
}

static bool draw(const request *r, session *s) {
  const attend_heatmap map = {.weights = s->weights,
                              .panels = panels(r, s),
                              .queries = s->q_len,
                              .keys = s->keys,
                              .averaged = r->average,
                              .heads = s->heads,
                              .query_labels = &s->query_labels,
                              .key_labels = &s->key_labels};
  s->svg = attend_heatmap_draw(&map);
  s->outputs.file[s->outputs.count - 1].text = s->svg;
  return s->svg != NULL;
}

/* Told before the work: whether there is something to draw, and not too much. */
static bool check_heatmap(const request *r, const session *s) {
  const double cells = (double)panels(r, s) * (double)s->q_len * (double)s->keys;
  if (!r->heatmap || (cells >= 1 && cells <= ATTEND_HEATMAP_MOST_CELLS && s->batch > 0)) return true;
  attend_cli_error("--heatmap %s: %.0f weights to draw, expected 1 to %d%s", r->heatmap, s->batch ? cells : 0.0,
                   ATTEND_HEATMAP_MOST_CELLS, panels(r, s) == 1 ? "" : "; --average draws one panel for all heads");
  return false;
}

static void name_outputs(const request *r, attend_outputs *outputs) {
  outputs->file[outputs->count++] = (attend_output){.option = "out", .path = r->out};
  if (r->weights) outputs->file[outputs->count++] = (attend_output){.option = "weights", .path = r->weights};
  if (r->heatmap) outputs->file[outputs->count++] = (attend_output){.option = "heatmap", .path = r->heatmap};
}

/* No output may name an input; the shards of a model are checked as they are opened. */
static bool spare_inputs(const request *r, const attend_outputs *outputs) {
  const struct {
    const char *option, *path;
  } inputs[] = {{"query", r->query},
                {"key", r->key},
                {"value", r->value},
                {"model", r->files.model},
                {"key-padding-mask", r->key_padding_mask},
                {"attn-mask", r->attn_mask},
                {"attention-mask", r->attention_mask},
                {"sinks", r->sinks},
                {"rope-frequencies", r->rope_frequencies},
                {"kv-lengths", r->kv_lengths},
                {"tokens", r->tokens},
                {"key-tokens", r->key_tokens}};
  for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++)
    if (!attend_outputs_spare(outputs, inputs[i].option, inputs[i].path)) return false;
  for (int i = 0; i < PARTS; i++)
    if (!attend_outputs_spare(outputs, attend_layer_part_options[i], r->files.part[i])) return false;
  return true;
}

static void print_summary(const request *r, const session *s, const attend_layer_kind *kind) {
  FILE *to = attend_outputs_text(&s->outputs);
  char text[4096];
  kind->explain(s, text, sizeof text);
  if (r->explain) fprintf(to, "plan: %s\n", attend_cli_clean(text));
  fputs("layer: ", to);
  kind->print_shape(s, to);
  if (s->parts.naming) fprintf(to, "; named as in %s", s->parts.naming->model);
  if (*s->parts.unused) fprintf(to, "; not used: %s", attend_cli_clean(strcpy(text, s->parts.unused)));
  fputs("; ", to);
  attend_outputs_print(&s->outputs);
}

static bool execute(const request *r, session *s, const attend_layer_kind *kind) {
  name_outputs(r, &s->outputs);
  if (!attend_outputs_check(&s->outputs) || !spare_inputs(r, &s->outputs)) return false;
  if (!read_inputs(r, s) || !attend_layer_parts_read(&r->files, r->additive, &s->outputs, &s->parts)) return false;
  if (!kind->read(r, s)) return false;
  if (!check_heatmap(r, s) || !read_labels(r, s) || !kind->make_plan(r, s) || !allocate(r, s)) return false;
  attend_linear_one_blas_thread(); /* the process is ours */
  if (!kind->run(s) || (r->heatmap && !draw(r, s))) return false;
  if (!attend_outputs_stage(&s->outputs)) return false;
  print_summary(r, s, kind);
  return attend_outputs_finish(&s->outputs);
}

static void release(session *s, const attend_layer_kind *kind) {
  attend_npy *arrays[] = {&s->query, &s->key, &s->value};
  for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) attend_npy_free(arrays[i]);
  attend_layer_parts_free(&s->parts);
  attend_labels_free(&s->query_labels);
  attend_labels_free(&s->key_labels);
  attend_free(s->out);
  attend_free(s->weights);
  attend_free(s->workspace);
  free(s->svg);
  kind->release(s);
}

int cmd_layer(int argc, char **argv) {
  static session s; /* its paths are too much for a stack */
  request r = {.mha = ATTEND_MHA_PROBLEM_INIT, .options = ATTEND_OPTIONS_INIT};
  int status;
  if (!parse(argc, argv, &r, &status)) return status;
  const attend_layer_kind *kind = r.additive ? &attend_layer_additive : &attend_layer_mha;
  const bool ok = execute(&r, &s, kind);
  release(&s, kind);
  return ok ? ATTEND_EXIT_DONE : ATTEND_EXIT_BAD_INPUT;
}
