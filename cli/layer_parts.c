/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/layer_parts.h"

#include <inttypes.h>
#include <string.h>

#include "cli/options.h"
#include "cli/safetensors.h"
#include "cli/source.h"

const char *const attend_layer_part_options[PARTS] = {
    [PART_Q] = "q-weight",        [PART_K] = "k-weight",         [PART_V] = "v-weight",
    [PART_QKV] = "qkv-weight",    [PART_OUT] = "out-weight",     [PART_Q_BIAS] = "q-bias",
    [PART_K_BIAS] = "k-bias",     [PART_V_BIAS] = "v-bias",      [PART_QKV_BIAS] = "qkv-bias",
    [PART_OUT_BIAS] = "out-bias", [PART_SCORE] = "score-weight",
};

/* --------------------------------------------------------------------------------------------------------- reading */

/* What a framework calls the parts, after the layer's own name. A layer is recognised by the tensor of `key`. */
typedef struct naming {
  const char *model;
  attend_layer_part key;
  attend_weight_layout layout;
  bool out_is_optional, additive;
  const char *part[PARTS];
} naming;

static const naming namings[] = {
    {"nn.MultiheadAttention",
     PART_QKV,
     ATTEND_WEIGHT_OUT_IN,
     false,
     false,
     {[PART_QKV] = "in_proj_weight",
      [PART_QKV_BIAS] = "in_proj_bias",
      [PART_OUT] = "out_proj.weight",
      [PART_OUT_BIAS] = "out_proj.bias",
      [PART_BIAS_K] = "bias_k",
      [PART_BIAS_V] = "bias_v"}},
    {"nn.MultiheadAttention",
     PART_Q,
     ATTEND_WEIGHT_OUT_IN,
     false,
     false,
     {[PART_Q] = "q_proj_weight",
      [PART_K] = "k_proj_weight",
      [PART_V] = "v_proj_weight",
      [PART_QKV_BIAS] = "in_proj_bias",
      [PART_OUT] = "out_proj.weight",
      [PART_OUT_BIAS] = "out_proj.bias",
      [PART_BIAS_K] = "bias_k",
      [PART_BIAS_V] = "bias_v"}},
    {"BERT",
     PART_Q,
     ATTEND_WEIGHT_OUT_IN,
     true,
     false,
     {[PART_Q] = "self.query.weight",
      [PART_Q_BIAS] = "self.query.bias",
      [PART_K] = "self.key.weight",
      [PART_K_BIAS] = "self.key.bias",
      [PART_V] = "self.value.weight",
      [PART_V_BIAS] = "self.value.bias",
      [PART_OUT] = "output.dense.weight",
      [PART_OUT_BIAS] = "output.dense.bias"}},
    {"BERT",
     PART_Q,
     ATTEND_WEIGHT_OUT_IN,
     true,
     false,
     {[PART_Q] = "query.weight",
      [PART_Q_BIAS] = "query.bias",
      [PART_K] = "key.weight",
      [PART_K_BIAS] = "key.bias",
      [PART_V] = "value.weight",
      [PART_V_BIAS] = "value.bias"}},
    {"GPT-2",
     PART_QKV,
     ATTEND_WEIGHT_IN_OUT,
     false,
     false,
     {[PART_QKV] = "c_attn.weight",
      [PART_QKV_BIAS] = "c_attn.bias",
      [PART_OUT] = "c_proj.weight",
      [PART_OUT_BIAS] = "c_proj.bias"}},
    {"Dive into Deep Learning's AdditiveAttention",
     PART_SCORE,
     ATTEND_WEIGHT_OUT_IN,
     false,
     true,
     {[PART_Q] = "W_q.weight",
      [PART_Q_BIAS] = "W_q.bias",
      [PART_K] = "W_k.weight",
      [PART_K_BIAS] = "W_k.bias",
      [PART_SCORE] = "w_v.weight"}},
    {"BahdanauAttention of PyTorch's tutorial",
     PART_SCORE,
     ATTEND_WEIGHT_OUT_IN,
     false,
     true,
     {[PART_Q] = "Wa.weight",
      [PART_Q_BIAS] = "Wa.bias",
      [PART_K] = "Ua.weight",
      [PART_K_BIAS] = "Ua.bias",
      [PART_SCORE] = "Va.weight"}},
};
enum { NAMINGS = sizeof namings / sizeof *namings, MOST_NAME = 400 };

/* The naming by which a tensor is the key of a layer of that kind, and the length of the layer's name with its dot. */
static const naming *match(const char *tensor, bool additive, size_t *prefix) {
  const size_t length = strlen(tensor);
  for (int i = 0; i < NAMINGS; i++) {
    const char *key = namings[i].part[namings[i].key];
    const size_t end = strlen(key);
    if (namings[i].additive != additive || length < end || strcmp(tensor + length - end, key) != 0) continue;
    *prefix = length - end;
    if (*prefix == 0 || tensor[*prefix - 1] == '.') return &namings[i];
  }
  return NULL;
}

/* Finds the layer that was asked for, or the only one. `prefix` gets its name with the dot. */
static const naming *find_layer(const attend_safetensors *s, const char *layer, bool additive, char prefix[MOST_NAME]) {
  const naming *found = NULL;
  int count = 0;
  const char *kind = additive ? "an additive" : "an attention";
  char list[600] = "";
  for (size_t i = 0; i < s->count; i++) {
    size_t length;
    const char *tensor = s->tensor[i].name;
    const naming *n = match(tensor, additive, &length);
    if (!n || length >= MOST_NAME) continue;
    const size_t bare = length ? length - 1 : 0;
    if (layer && (strlen(layer) != bare || strncmp(layer, tensor, bare) != 0)) continue;
    count++;
    const size_t used = strlen(list);
    if (count <= 3) snprintf(list + used, sizeof list - used, "%s'%.*s'", count > 1 ? ", " : "", (int)bare, tensor);
    memcpy(prefix, tensor, length);
    prefix[length] = '\0';
    found = n;
  }
  if (count == 1) return found;
  if (count == 0 && layer)
    attend_cli_error("--layer '%s': %s has no tensors of %s layer under that name", layer, s->path, kind);
  else if (count == 0)
    attend_cli_error("--%s %s: expected %s layer named as in %s", s->option, s->path, kind,
                     additive ? "Dive into Deep Learning (w_v.weight) or PyTorch's seq2seq tutorial (Va.weight)"
                              : "nn.MultiheadAttention (in_proj_weight), BERT (self.query.weight) or GPT-2 "
                                "(c_attn.weight)");
  else
    attend_cli_error("--%s %s: has %d %s layers, %s%s: choose one with --layer", s->option, s->path, count,
                     additive ? "additive" : "attention", list, count > 3 ? ", ..." : "");
  return NULL;
}

static bool read_model(const attend_layer_files *files, bool additive, attend_layer_parts *w,
                       attend_weight_layout *layout) {
  attend_safetensors s;
  char prefix[MOST_NAME], tensor[MOST_NAME + 64];
  bool ok = attend_safetensors_open(&s, "model", files->model);
  const naming *n = ok ? find_layer(&s, files->layer, additive, prefix) : NULL;
  ok = n != NULL;
  for (int i = 0; ok && i < PARTS; i++) {
    if (!n->part[i]) continue;
    snprintf(tensor, sizeof tensor, "%s%s", prefix, n->part[i]);
    snprintf(w->name[i], sizeof w->name[i], "--model %s: tensor '%s'", files->model, tensor);
    const bool needed = i <= PART_QKV || (i == PART_OUT && !n->out_is_optional);
    if (needed || attend_safetensors_has(&s, tensor)) ok = attend_safetensors_read(&s, tensor, &w->part[i]);
  }
  if (ok) *layout = n->layout;
  attend_safetensors_close(&s);
  return ok;
}

static bool read_files(const attend_layer_files *files, attend_layer_parts *w) {
  for (int i = 0; i < PARTS; i++) {
    if (!files->part[i]) continue;
    const attend_source source = {attend_layer_part_options[i], files->part[i], false, &w->part[i]};
    snprintf(w->name[i], sizeof w->name[i], "--%s %s", source.option, source.path);
    if (!attend_source_numbers(&source) || !attend_source_convert(&source, ATTEND_F32)) return false;
  }
  return true;
}

/* Reads what there is, as it is there. */
static bool read_parts(const attend_layer_files *files, bool additive, attend_layer_parts *w,
                       attend_weight_layout *layout) {
  *w = (attend_layer_parts){0};
  *layout = files->layout;
  return files->model ? read_model(files, additive, w, layout) : read_files(files, w);
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

/* Queries, keys and values from one matrix: (Hq + 2 Hkv) D outputs. */
static bool take_packed(const attend_layer_parts *w, attend_mha_problem *p, attend_mha_tensors *t) {
  int64_t out;
  if (p->k_dim != p->embed_dim || p->v_dim != p->embed_dim) {
    attend_cli_error("%s: one matrix for queries, keys and values takes keys and values of the queries' size %" PRId64,
                     w->name[PART_QKV], p->embed_dim);
    return false;
  }
  if (!take_matrix(w, PART_QKV, p->weight_layout, p->embed_dim, &out)) return false;
  if (p->kv_heads == 0) p->kv_heads = p->q_heads;
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
  p->bias_kv = w->part[PART_BIAS_K].data && w->part[PART_BIAS_V].data;
  return !p->bias_kv || (take_vector(w, PART_BIAS_K, k, &t->bias_k) && take_vector(w, PART_BIAS_V, v, &t->bias_v));
}

bool attend_layer_parts_read_mha(const attend_layer_files *files, attend_layer_parts *w, attend_mha_problem *p,
                                 attend_mha_tensors *t) {
  if (!read_parts(files, false, w, &p->weight_layout)) return false;
  if (w->part[PART_QKV].data ? !take_packed(w, p, t) : !take_separate(w, p, t)) return false;
  if (!take_biases(w, p, t)) return false;
  p->out_proj = w->part[PART_OUT].data != NULL;
  t->out_weight = w->part[PART_OUT].data;
  return !p->out_proj || (take_matrix(w, PART_OUT, p->weight_layout, p->q_heads * p->v_head_dim, &p->out_dim) &&
                          take_vector(w, PART_OUT_BIAS, p->out_dim, &t->out_bias));
}

bool attend_layer_parts_read_additive(const attend_layer_files *files, attend_layer_parts *w,
                                      attend_additive_problem *p, attend_additive_tensors *t) {
  int64_t keys;
  const float *k_bias;
  if (!read_parts(files, true, w, &p->weight_layout)) return false;
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
