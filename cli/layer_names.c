/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/layer_names.h"

#include <stdio.h>
#include <string.h>

#include "cli/options.h"

/* ------------------------------------------------------------------------------------------------------------ table */

#define LINEAR(part, name) [part] = name ".weight", [part##_BIAS] = name ".bias"
#define SEPARATE(q, k, v) LINEAR(PART_Q, q), LINEAR(PART_K, k), LINEAR(PART_V, v)
#define OUT(name) LINEAR(PART_OUT, name)
#define MASK_BUFFERS "bias masked_bias"
#define ROPE_BUFFER "rotary_emb.inv_freq"

/*
 * Of rows that a layer suits, the first counts whose output projection is there too. Where the same names mean
 * different things (query_key_value of GPT-NeoX, BLOOM and Falcon), `within` tells them apart, and only what is known
 * is here.
 */
static const attend_layer_naming namings[] = {
    {.model = "nn.MultiheadAttention",
     .part = {[PART_QKV] = "in_proj_weight",
              [PART_QKV_BIAS] = "in_proj_bias",
              OUT("out_proj"),
              [PART_BIAS_K] = "bias_k",
              [PART_BIAS_V] = "bias_v"}},
    {.model = "nn.MultiheadAttention",
     .part = {[PART_Q] = "q_proj_weight",
              [PART_K] = "k_proj_weight",
              [PART_V] = "v_proj_weight",
              [PART_QKV_BIAS] = "in_proj_bias",
              OUT("out_proj"),
              [PART_BIAS_K] = "bias_k",
              [PART_BIAS_V] = "bias_v"}},
    {.model = "Llama, Mistral and Qwen",
     .part = {SEPARATE("q_proj", "k_proj", "v_proj"), OUT("o_proj"), [PART_SINKS] = "sinks"},
     .unused = ROPE_BUFFER,
     .rope = ATTEND_ROPE_HALF},
    {.model = "Phi",
     .part = {SEPARATE("q_proj", "k_proj", "v_proj"), OUT("dense")},
     .unused = ROPE_BUFFER,
     .rope = ATTEND_ROPE_HALF},
    {.model = "GPT-J",
     .within = "attn",
     .part = {SEPARATE("q_proj", "k_proj", "v_proj"), OUT("out_proj")},
     .unused = MASK_BUFFERS,
     .rope = ATTEND_ROPE_INTERLEAVED},
    {.model = "GPT-Neo",
     .within = "attn.attention",
     .part = {SEPARATE("q_proj", "k_proj", "v_proj"), OUT("out_proj")},
     .unused = MASK_BUFFERS,
     .scale = 1},
    {.model = "OPT, CLIP and Whisper", .part = {SEPARATE("q_proj", "k_proj", "v_proj"), OUT("out_proj")}},
    {.model = "Mistral's and Llama's own files",
     .within = "attention",
     .part = {SEPARATE("wq", "wk", "wv"), OUT("wo")},
     .rope = ATTEND_ROPE_INTERLEAVED},
    {.model = "T5",
     .within = "SelfAttention",
     .part = {SEPARATE("q", "k", "v"), OUT("o")},
     .unused = "relative_attention_bias.weight",
     .scale = 1,
     .position_bias = true},
    {.model = "T5", .within = "EncDecAttention", .part = {SEPARATE("q", "k", "v"), OUT("o")}, .scale = 1},
    {.model = "DistilBERT", .part = {SEPARATE("q_lin", "k_lin", "v_lin"), OUT("out_lin")}},
    {.model = "ViT",
     .part = {SEPARATE("attention.query", "attention.key", "attention.value"), OUT("output.dense")},
     .optional_out = true},
    {.model = "BERT",
     .part = {SEPARATE("self.query", "self.key", "self.value"), OUT("output.dense")},
     .unused = "output.LayerNorm.*",
     .optional_out = true},
    {.model = "BERT", .part = {SEPARATE("query", "key", "value")}},
    {.model = "GPT-2",
     .part = {LINEAR(PART_QKV, "c_attn"), OUT("c_proj")},
     .unused = MASK_BUFFERS,
     .layout = ATTEND_WEIGHT_IN_OUT},
    {.model = "GPT-NeoX",
     .within = "attention",
     .part = {LINEAR(PART_QKV, "query_key_value"), OUT("dense")},
     .unused = MASK_BUFFERS " " ROPE_BUFFER,
     .rope = ATTEND_ROPE_HALF,
     .per_head = true},
    {.model = "Phi-3",
     .part = {LINEAR(PART_QKV, "qkv_proj"), OUT("o_proj")},
     .unused = ROPE_BUFFER,
     .rope = ATTEND_ROPE_HALF},
    {.model = "timm", .part = {LINEAR(PART_QKV, "qkv"), OUT("proj")}},
    {.model = "diffusers", .part = {SEPARATE("to_q", "to_k", "to_v"), OUT("to_out.0")}},
    {.model = "Dive into Deep Learning",
     .part = {LINEAR(PART_Q, "W_q"), LINEAR(PART_K, "W_k"), [PART_SCORE] = "w_v.weight"},
     .additive = true},
    {.model = "PyTorch's seq2seq tutorial",
     .part = {LINEAR(PART_Q, "Wa"), LINEAR(PART_K, "Ua"), [PART_SCORE] = "Va.weight"},
     .unused = "Va.bias", /* the same in every score */
     .additive = true},
};
enum { NAMINGS = sizeof namings / sizeof *namings };

/* --------------------------------------------------------------------------------------------------------- matching */

/* The tensor by which a layer is recognised. */
static const char *key_of(const attend_layer_naming *n) {
  return n->part[n->additive ? PART_SCORE : n->part[PART_QKV] ? PART_QKV : PART_Q];
}

static bool ends_with(const char *text, size_t length, const char *end) {
  const size_t tail = strlen(end);
  if (length < tail || memcmp(text + length - tail, end, tail) != 0) return false;
  return length == tail || text[length - tail - 1] == '.';
}

/* Whether a tensor is the key of a layer of that naming, and the length of the layer's name with its dot. */
static bool is_key(const attend_layer_naming *n, const char *tensor, size_t *prefix) {
  const size_t length = strlen(tensor);
  const char *key = key_of(n);
  if (!ends_with(tensor, length, key)) return false;
  *prefix = length - strlen(key);
  return *prefix < ATTEND_LAYER_MOST_NAME && (!n->within || (*prefix && ends_with(tensor, *prefix - 1, n->within)));
}

static const attend_layer_naming *first_naming(const char *tensor, size_t *prefix) {
  for (int i = 0; i < NAMINGS; i++)
    if (is_key(&namings[i], tensor, prefix)) return &namings[i];
  return NULL;
}

static bool has_part(const attend_model *m, const char *prefix, const char *part) {
  char tensor[ATTEND_LAYER_MOST_NAME + 64];
  snprintf(tensor, sizeof tensor, "%s%s", prefix, part);
  return attend_model_has(m, tensor);
}

/* Of the namings that a layer may have by its key, the first whose output projection is there; else the first. */
static const attend_layer_naming *choose(const attend_model *m, const char *tensor, const char *prefix) {
  size_t length, own;
  const attend_layer_naming *first = first_naming(tensor, &length);
  for (const attend_layer_naming *n = first; n < namings + NAMINGS; n++)
    if (is_key(n, tensor, &own) && own == length && n->part[PART_OUT] && has_part(m, prefix, n->part[PART_OUT]))
      return n;
  return first;
}

/* Adds a name to a list; from the fourth on they are only counted. */
static void add(char *list, size_t size, size_t count, const char *name, size_t length) {
  const size_t used = strlen(list);
  if (count < 3)
    snprintf(list + used, size - used, "%s'%.*s'", count ? ", " : "", length < 150 ? (int)length : 150, name);
  else if (count == 3)
    snprintf(list + used, size - used, ", ...");
}

/* Each model with the names that its layers are recognised by. */
static void report_none(const attend_model *m, bool additive) {
  char names[2000] = "";
  const char *last = NULL;
  for (const attend_layer_naming *n = namings; n < namings + NAMINGS; n++) {
    if (n->additive != additive) continue;
    const size_t used = strlen(names);
    const bool same = last && strcmp(last, n->model) == 0;
    snprintf(names + used, sizeof names - used, "%s%s%s%s%s%s",
             same   ? " or "
             : last ? "), "
                    : "",
             same ? "" : n->model, same ? "" : " (", n->within ? n->within : "", n->within ? "." : "", key_of(n));
    last = n->model;
  }
  attend_cli_error("--%s %s: expected %s layer named as in %s)", m->option, m->path,
                   additive ? "an additive" : "an attention", names);
}

const attend_layer_naming *attend_layer_find(const attend_model *m, const char *layer, bool additive,
                                             char prefix[ATTEND_LAYER_MOST_NAME]) {
  const char *found = NULL;
  size_t count = 0, fitting = 0;
  char list[600] = "";
  for (size_t i = 0; i < attend_model_count(m); i++) {
    size_t length;
    const char *tensor = attend_model_name(m, i);
    const attend_layer_naming *n = first_naming(tensor, &length);
    if (!n || n->additive != additive) continue;
    const size_t bare = length ? length - 1 : 0;
    add(list, sizeof list, count++, tensor, bare);
    if (layer && (strlen(layer) != bare || strncmp(layer, tensor, bare) != 0)) continue;
    fitting++;
    found = tensor;
    memcpy(prefix, tensor, length);
    prefix[length] = '\0';
  }
  if (fitting == 1) return choose(m, found, prefix);
  if (count == 0)
    report_none(m, additive);
  else if (layer)
    attend_cli_error("--layer '%s': %s has %s of %s layer under that name; its layers are %s", layer, m->path,
                     fitting ? "several" : "no tensors", additive ? "an additive" : "an attention", list);
  else
    attend_cli_error("--%s %s: has %zu %s layers, %s: choose one with --layer", m->option, m->path, count,
                     additive ? "additive" : "attention", list);
  return NULL;
}

/* ----------------------------------------------------------------------------------------------------------- unused */

/* Whether a name is in a list, where one that ends in * stands for all that begin so. */
static bool listed(const char *name, const char *list, char separator) {
  for (const char *end; list && *list; list = *end ? end + 1 : end) {
    for (end = list; *end && *end != separator;) end++;
    const size_t length = (size_t)(end - list);
    const bool star = length && list[length - 1] == '*';
    if (strncmp(name, list, star ? length - 1 : length) == 0 && (star || strlen(name) == length)) return true;
  }
  return false;
}

static bool is_part(const attend_layer_naming *n, const char *name) {
  for (int part = 0; part < PARTS; part++)
    if (n->part[part] && strcmp(n->part[part], name) == 0) return true;
  return false;
}

/*
 * Whether a tensor is one of the layer's. In a file where the layer has no name, and so no place of its own, are
 * perhaps other modules: there it is if it lies as the layer's own tensors do, alone, in a module, or beside a part of
 * it.
 */
static bool is_of_layer(const attend_layer_naming *n, const char *prefix, const char *name) {
  const char *dot = strchr(name, '.');
  if (*prefix || !dot || !strchr(dot + 1, '.')) return true;
  const size_t module = (size_t)(dot + 1 - name);
  for (int part = 0; part < PARTS; part++)
    if (n->part[part] && strncmp(n->part[part], name, module) == 0) return true;
  return false;
}

bool attend_layer_check_unused(const attend_model *m, const attend_layer_naming *naming, const char *prefix,
                               const char *ignore, char *unused, size_t size) {
  const size_t length = strlen(prefix);
  char unknown[600] = "";
  size_t left = 0, strange = 0;
  *unused = '\0';
  for (size_t i = 0; i < attend_model_count(m); i++) {
    const char *tensor = attend_model_name(m, i), *name = tensor + length;
    if (strncmp(tensor, prefix, length) != 0 || is_part(naming, name) || !is_of_layer(naming, prefix, name)) continue;
    if (listed(name, naming->unused, ' ') || listed(name, ignore, ','))
      add(unused, size, left++, name, strlen(name));
    else
      add(unknown, sizeof unknown, strange++, name, strlen(name));
  }
  if (!strange) return true;
  attend_cli_error("--%s %s: layer '%.*s' has the names of %s, and %s too, which attend layer cannot compute: expected "
                   "only what it can, or names in --ignore to leave them out",
                   m->option, m->path, length ? (int)length - 1 : 0, prefix, naming->model, unknown);
  return false;
}
