/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/layer_parts.h"

#include <inttypes.h>
#include <string.h>

#include "cli/options.h"
#include "cli/source.h"
#include "dispatch/dispatch.h"

const char *const attend_layer_part_options[PARTS] = {
    [PART_Q] = "q-weight",        [PART_K] = "k-weight",         [PART_V] = "v-weight",
    [PART_QKV] = "qkv-weight",    [PART_OUT] = "out-weight",     [PART_Q_BIAS] = "q-bias",
    [PART_K_BIAS] = "k-bias",     [PART_V_BIAS] = "v-bias",      [PART_QKV_BIAS] = "qkv-bias",
    [PART_OUT_BIAS] = "out-bias", [PART_SCORE] = "score-weight",
};

/* --------------------------------------------------------------------------------------------------------- reading */

/* What a layer cannot do without. */
static bool is_needed(const attend_layer_naming *n, int part) {
  const bool weight = part == PART_Q || part == PART_K || part == PART_V || part == PART_QKV || part == PART_SCORE;
  return weight || (part == PART_OUT && !n->optional_out);
}

static bool read_layer(attend_model *m, const attend_layer_files *files, bool additive, attend_layer_parts *w) {
  char tensor[sizeof w->prefix + 64];
  const attend_layer_naming *n = attend_layer_find(m, files->layer, additive, w->prefix);
  if (!n || !attend_layer_check_unused(m, n, w->prefix, files->ignore, w->unused, sizeof w->unused)) return false;
  for (int i = 0; i < PARTS; i++) {
    if (!n->part[i]) continue;
    snprintf(tensor, sizeof tensor, "%s%s", w->prefix, n->part[i]);
    snprintf(w->name[i], sizeof w->name[i], "--model %s: tensor '%s'", files->model, tensor);
    if (!is_needed(n, i) && !attend_model_has(m, tensor)) continue;
    if (!attend_model_read(m, tensor, &w->part[i])) return false;
  }
  w->naming = n;
  w->layout = n->layout;
  return true;
}

static bool read_model(const attend_layer_files *files, bool additive, const attend_outputs *outputs,
                       attend_layer_parts *w) {
  static attend_model m; /* its paths are too much for a stack */
  const bool ok = attend_model_open(&m, "model", files->model, outputs) && read_layer(&m, files, additive, w);
  attend_model_close(&m);
  return ok;
}

static bool read_files(const attend_layer_files *files, attend_layer_parts *w) {
  for (int i = 0; i < PARTS; i++) {
    if (!files->part[i]) continue;
    const attend_source source = {attend_layer_part_options[i], files->part[i], files->bf16_bits, &w->part[i]};
    snprintf(w->name[i], sizeof w->name[i], "--%s %s", source.option, source.path);
    if (!attend_source_numbers(&source) || !attend_source_convert(&source, ATTEND_F32)) return false;
  }
  return true;
}

/* Parts that mean nothing alone, or beside others. */
static bool check_parts(const attend_layer_parts *w) {
  static const struct {
    attend_layer_part part, other;
    bool together;
    const char *what;
  } rules[] = {
      {PART_OUT_BIAS, PART_OUT, true, "an output projection"},
      {PART_BIAS_K, PART_BIAS_V, true, "bias_v"},
      {PART_BIAS_V, PART_BIAS_K, true, "bias_k"},
      {PART_Q_BIAS, PART_QKV_BIAS, false, "a bias of all three"},
      {PART_K_BIAS, PART_QKV_BIAS, false, "a bias of all three"},
      {PART_V_BIAS, PART_QKV_BIAS, false, "a bias of all three"},
  };
  for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
    const bool other = w->part[rules[i].other].data;
    if (!w->part[rules[i].part].data || other == rules[i].together) continue;
    attend_cli_error("%s: expected only %s %s", w->name[rules[i].part], rules[i].together ? "with" : "without",
                     rules[i].what);
    return false;
  }
  return true;
}

bool attend_layer_parts_read(const attend_layer_files *files, bool additive, const attend_outputs *outputs,
                             attend_layer_parts *w) {
  w->layout = files->layout;
  return (files->model ? read_model(files, additive, outputs, w) : read_files(files, w)) && check_parts(w);
}

/* ---------------------------------------------------------------------------------------------------------- fitting */

static bool fail_shape(const attend_layer_parts *w, attend_layer_part part, const char *expected) {
  char shape[256];
  const attend_npy *a = &w->part[part];
  attend_cli_error("%s: shape is %s, expected %s", w->name[part],
                   attend_npy_shape_text(a->rank, a->shape, shape, sizeof shape), expected);
  return false;
}

/* Takes a matrix that has `in` inputs; its outputs go to *out. */
static bool take_matrix(const attend_layer_parts *w, attend_layer_part part, attend_weight_layout layout, int64_t in,
                        int64_t *out) {
  const attend_npy *a = &w->part[part];
  const bool out_in = layout == ATTEND_WEIGHT_OUT_IN;
  if (a->rank == 2 && a->shape[out_in ? 1 : 0] == in) {
    *out = a->shape[out_in ? 0 : 1];
    if (*out > 0) return true;
  }
  char expected[100];
  snprintf(expected, sizeof expected, out_in ? "(outputs, %" PRId64 ")" : "(%" PRId64 ", outputs)", in);
  return fail_shape(w, part, expected);
}

/* Takes a vector, of any shape whose other extents are 1; NULL if it is not there. */
static bool take_vector(const attend_layer_parts *w, attend_layer_part part, int64_t size, const float **to) {
  const attend_npy *a = &w->part[part];
  *to = a->data;
  if (!a->data) return true;
  for (int i = 0; i < a->rank; i++)
    if (a->count == (size_t)size && a->shape[i] == size) return true;
  char expected[60];
  snprintf(expected, sizeof expected, "(%" PRId64 ",)", size);
  return fail_shape(w, part, expected);
}

static bool fail_heads(const attend_layer_parts *w, attend_layer_part part, int64_t size, const char *what,
                       int64_t heads) {
  attend_cli_error("%s: %" PRId64 " outputs are no multiple of the %" PRId64 " %s", w->name[part], size, heads, what);
  return false;
}

/* A packed projection that has the outputs of each head together: puts those of all queries first, then the keys. */
static bool part_heads(attend_layer_parts *w, attend_layer_part part, int64_t heads) {
  attend_npy *a = &w->part[part];
  const int64_t outputs = a->rank ? a->shape[0] : 0;
  if (!a->data || outputs == 0) return true;
  if (outputs % (3 * heads) != 0) return fail_heads(w, part, outputs, "heads of queries, keys and values", 3 * heads);
  const size_t block = a->count / (size_t)(3 * heads); /* a head's query, key or value */
  float *to = attend_cli_allocate("a projection", a->count, sizeof *to);
  if (!to) return false;
  for (int64_t head = 0; head < heads; head++)
    for (int64_t i = 0; i < 3; i++)
      memcpy(to + (size_t)(i * heads + head) * block, (const float *)a->data + (size_t)(3 * head + i) * block,
             block * sizeof *to);
  attend_free(a->data);
  a->data = to;
  return true;
}

/* How many key/value heads a packed projection has. The inputs of the output projection say how large a head is. */
static int64_t packed_kv_heads(const attend_layer_parts *w, const attend_mha_problem *p, int64_t outputs) {
  const attend_npy *out = &w->part[PART_OUT];
  if (!out->data || out->rank != 2) return p->q_heads;
  const int64_t queries = out->shape[p->weight_layout == ATTEND_WEIGHT_OUT_IN ? 1 : 0], dim = queries / p->q_heads;
  const int64_t heads = dim ? (outputs - queries) / 2 / dim : 0;
  return heads > 0 && outputs == (p->q_heads + 2 * heads) * dim && p->q_heads % heads == 0 ? heads : p->q_heads;
}

/* Queries, keys and values from one matrix: (Hq + 2 Hkv) D outputs. */
static bool take_packed(const attend_layer_parts *w, attend_mha_problem *p, attend_mha_tensors *t) {
  int64_t out;
  if (p->k_dim != p->embed_dim || p->v_dim != p->embed_dim) {
    attend_cli_error("%s: one matrix for queries, keys and values takes keys and values of the queries' size %" PRId64,
                     w->name[PART_QKV], p->embed_dim);
    return false;
  }
  if (!take_matrix(w, PART_QKV, p->weight_layout, p->embed_dim, &out)) return false;
  if (p->kv_heads == 0) p->kv_heads = packed_kv_heads(w, p, out);
  const int64_t heads = p->q_heads + 2 * p->kv_heads;
  if (out % heads != 0) return fail_heads(w, PART_QKV, out, "heads of queries, keys and values together", heads);
  p->head_dim = p->v_head_dim = out / heads;
  const bool out_in = p->weight_layout == ATTEND_WEIGHT_OUT_IN;
  const int64_t stride = out_in ? p->embed_dim : out, step = out_in ? p->embed_dim : 1;
  p->q_weight_stride = p->k_weight_stride = p->v_weight_stride = stride;
  t->q_weight = w->part[PART_QKV].data;
  t->k_weight = t->q_weight + p->q_heads * p->head_dim * step;
  t->v_weight = t->k_weight + p->kv_heads * p->head_dim * step;
  return true;
}

static bool take_separate(const attend_layer_parts *w, attend_mha_problem *p, attend_mha_tensors *t) {
  int64_t q, k, v;
  if (!take_matrix(w, PART_Q, p->weight_layout, p->embed_dim, &q) ||
      !take_matrix(w, PART_K, p->weight_layout, p->k_dim, &k) ||
      !take_matrix(w, PART_V, p->weight_layout, p->v_dim, &v))
    return false;
  if (q % p->q_heads != 0) return fail_heads(w, PART_Q, q, "heads", p->q_heads);
  p->head_dim = q / p->q_heads;
  if (p->kv_heads == 0) p->kv_heads = k / p->head_dim;
  if (p->kv_heads == 0 || k != p->kv_heads * p->head_dim || p->q_heads % p->kv_heads != 0) {
    attend_cli_error("%s: %" PRId64 " outputs are not those of a number of heads that divides %" PRId64 ", of %" PRId64
                     " each",
                     w->name[PART_K], k, p->q_heads, p->head_dim);
    return false;
  }
  if (v % p->kv_heads != 0) return fail_heads(w, PART_V, v, "key/value heads", p->kv_heads);
  p->v_head_dim = v / p->kv_heads;
  t->q_weight = w->part[PART_Q].data, t->k_weight = w->part[PART_K].data, t->v_weight = w->part[PART_V].data;
  return true;
}

static bool take_biases(const attend_layer_parts *w, attend_mha_problem *p, attend_mha_tensors *t) {
  const int64_t q = p->q_heads * p->head_dim, k = p->kv_heads * p->head_dim, v = p->kv_heads * p->v_head_dim;
  const float *packed;
  if (!take_vector(w, PART_QKV_BIAS, q + k + v, &packed)) return false;
  if (packed) {
    t->q_bias = packed, t->k_bias = packed + q, t->v_bias = packed + q + k;
  } else if (!take_vector(w, PART_Q_BIAS, q, &t->q_bias) || !take_vector(w, PART_K_BIAS, k, &t->k_bias) ||
             !take_vector(w, PART_V_BIAS, v, &t->v_bias)) {
    return false;
  }
  p->bias_kv = w->part[PART_BIAS_K].data != NULL;
  return !p->bias_kv || (take_vector(w, PART_BIAS_K, k, &t->bias_k) && take_vector(w, PART_BIAS_V, v, &t->bias_v));
}

bool attend_layer_parts_take_mha(attend_layer_parts *w, attend_mha_problem *p, attend_mha_tensors *t) {
  p->weight_layout = w->layout;
  if (w->naming && w->naming->per_head) {
    if (p->kv_heads != 0 && p->kv_heads != p->q_heads) {
      attend_cli_error("--kv-heads %" PRId64 ": expected %" PRId64 ", as many as --heads: each head of %s has its own",
                       p->kv_heads, p->q_heads, w->naming->model);
      return false;
    }
    if (!part_heads(w, PART_QKV, p->q_heads) || !part_heads(w, PART_QKV_BIAS, p->q_heads)) return false;
  }
  if (w->part[PART_QKV].data ? !take_packed(w, p, t) : !take_separate(w, p, t)) return false;
  if (!take_biases(w, p, t) || !take_vector(w, PART_SINKS, p->q_heads, &t->sinks)) return false;
  p->sinks = t->sinks != NULL;
  p->out_proj = w->part[PART_OUT].data != NULL;
  t->out_weight = w->part[PART_OUT].data;
  return !p->out_proj || (take_matrix(w, PART_OUT, p->weight_layout, p->q_heads * p->v_head_dim, &p->out_dim) &&
                          take_vector(w, PART_OUT_BIAS, p->out_dim, &t->out_bias));
}

bool attend_layer_parts_take_additive(attend_layer_parts *w, attend_additive_problem *p, attend_additive_tensors *t) {
  int64_t keys;
  const float *k_bias;
  p->weight_layout = w->layout;
  if (!take_matrix(w, PART_Q, p->weight_layout, p->q_dim, &p->hidden) ||
      !take_matrix(w, PART_K, p->weight_layout, p->k_dim, &keys))
    return false;
  if (keys != p->hidden) {
    attend_cli_error("%s: %" PRId64 " outputs, expected %" PRId64 ", as many as the projection of the queries has",
                     w->name[PART_K], keys, p->hidden);
    return false;
  }
  if (!take_vector(w, PART_SCORE, p->hidden, &t->score_weight) || !take_vector(w, PART_Q_BIAS, p->hidden, &t->q_bias) ||
      !take_vector(w, PART_K_BIAS, p->hidden, &k_bias))
    return false;
  t->q_weight = w->part[PART_Q].data, t->k_weight = w->part[PART_K].data;
  /* Both are added to the same sum; the library takes one. */
  float *q_bias = w->part[PART_Q_BIAS].data;
  for (int64_t i = 0; q_bias && k_bias && i < p->hidden; i++) q_bias[i] += k_bias[i];
  if (!q_bias) t->q_bias = k_bias;
  return true;
}

void attend_layer_parts_free(attend_layer_parts *w) {
  for (int i = 0; i < PARTS; i++) attend_npy_free(&w->part[i]);
}
