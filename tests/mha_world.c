/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/mha_world.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch/dispatch.h"
#include "kernels/convert.h"
#include "tests/support.h"

enum { GAP = 5, NOTHING = 0xff }; /* NOTHING: a NaN in every type */

#define DIMS(e, hq, hkv, d, dv)                                                                                        \
  .struct_size = sizeof(attend_mha_problem), .embed_dim = e, .k_dim = e, .v_dim = e, .q_heads = hq, .kv_heads = hkv,   \
  .head_dim = d, .v_head_dim = dv, .out_dim = e, .out_proj = 1
const attend_mha_model attend_mha_models[] = {
    {"llama", {DIMS(24, 4, 2, 12, 12), .causal = ATTEND_CAUSAL_BOTTOM_RIGHT, .rope = ATTEND_ROPE_HALF}, false, false},
    {"llama's own code",
     {DIMS(24, 4, 2, 12, 12), .causal = ATTEND_CAUSAL_BOTTOM_RIGHT, .rope = ATTEND_ROPE_INTERLEAVED,
      .rope_theta = 5e5f},
     false,
     false},
    {"gpt-neox",
     {DIMS(30, 3, 3, 10, 10), .causal = ATTEND_CAUSAL_BOTTOM_RIGHT, .rope = ATTEND_ROPE_HALF, .rotary_dim = 4},
     true,
     false},
    {"gpt-j",
     {DIMS(30, 3, 3, 10, 10), .causal = ATTEND_CAUSAL_BOTTOM_RIGHT, .rope = ATTEND_ROPE_INTERLEAVED, .rotary_dim = 6},
     false,
     false},
    {"mistral",
     {DIMS(24, 4, 2, 12, 12), .causal = ATTEND_CAUSAL_BOTTOM_RIGHT, .rope = ATTEND_ROPE_HALF, .window = 1,
      .window_left = 3, .window_right = -1},
     false,
     false},
    {"gemma 2",
     {DIMS(20, 4, 2, 8, 8), .causal = ATTEND_CAUSAL_BOTTOM_RIGHT, .rope = ATTEND_ROPE_HALF, .window = 1,
      .window_left = 5, .softcap = 1.5f, .scale = 0.4f},
     false,
     false},
    {"gpt-oss",
     {DIMS(24, 4, 1, 8, 8), .causal = ATTEND_CAUSAL_BOTTOM_RIGHT, .rope = ATTEND_ROPE_HALF, .rope_factor = 1.3466f,
      .window = 1, .window_left = 6, .sinks = 1},
     true,
     true},
    {"gpt-2",
     {DIMS(24, 4, 4, 6, 6), .causal = ATTEND_CAUSAL_BOTTOM_RIGHT, .weight_layout = ATTEND_WEIGHT_IN_OUT},
     true,
     false},
    {"sees both ways, values of their own size",
     {DIMS(24, 4, 2, 6, 10), .rope = ATTEND_ROPE_HALF, .window = 1, .window_left = 4, .window_right = 2},
     true,
     false},
    {"a scale of 0", {DIMS(24, 4, 2, 6, 6), .as_given = ATTEND_AS_GIVEN_SCALE}, false, false},
};
const int attend_mha_model_count = (int)COUNT(attend_mha_models);

/* -------------------------------------------------------------------------------------------------------- the world */

/** Memory in a list, so that a world with all its steps is freed at once. */
typedef struct block {
  struct block *next;
  size_t unused; /* what follows is aligned to 16 bytes */
} block;

void *attend_mha_world_allocate(attend_mha_world *w, size_t bytes) {
  block *made = malloc(sizeof *made + bytes);
  cr_assert(made);
  made->next = w->memory;
  w->memory = made;
  return made + 1;
}

void attend_mha_world_destroy(attend_mha_world *w) {
  for (block *b = w->memory, *next; b; b = next) {
    next = b->next;
    free(b);
  }
}

static float *numbers(attend_mha_world *w, int64_t count, float size) {
  static uint32_t state = 1;
  float *to = attend_mha_world_allocate(w, (size_t)count * sizeof *to);
  for (int64_t i = 0; i < count; i++) {
    state = state * 1664525u + 1013904223u;
    to[i] = ((float)(state >> 8) * 0x1p-23f - 1.0f) * size;
  }
  return to;
}

int64_t attend_mha_world_dim(const attend_mha_problem *p) {
  return p->out_proj ? p->out_dim : p->q_heads * p->v_head_dim;
}

static attend_strides lay_out(const attend_mha_problem *p, int64_t dim, bool by_heads) {
  if (by_heads) return (attend_strides){p->kv_heads * WORLD_CACHE * dim + GAP, WORLD_CACHE * dim, dim};
  return (attend_strides){WORLD_CACHE * p->kv_heads * dim, dim, p->kv_heads * dim};
}

static void *make_cache(attend_mha_world *w, int which, const attend_strides *s) {
  const int64_t elements = WORLD_BATCH * s->batch;
  w->cache_bytes[which] = (size_t)elements * attend_dtype_size(w->p.cache_dtype);
  void *cache = attend_mha_world_allocate(w, w->cache_bytes[which]);
  return memset(cache, NOTHING, w->cache_bytes[which]);
}

attend_mha_world attend_mha_world_create(const attend_mha_model *model, attend_dtype cache, bool by_heads) {
  attend_mha_world w = {.p = model->p, .t = ATTEND_MHA_TENSORS_INIT};
  attend_mha_problem *p = &w.p;
  const int64_t e = p->embed_dim, q = p->q_heads * p->head_dim, k = p->kv_heads * p->head_dim;
  const int64_t v = p->kv_heads * p->v_head_dim, o = p->q_heads * p->v_head_dim;
  p->cache_len = WORLD_CACHE, p->cache_dtype = cache;
  w.tokens = numbers(&w, WORLD_BATCH * WORLD_TOKENS * e, 1);
  w.t.q_weight = numbers(&w, q * e, 0.5f), w.t.k_weight = numbers(&w, k * e, 0.5f);
  w.t.v_weight = numbers(&w, v * e, 0.5f);
  if (p->out_proj) w.t.out_weight = numbers(&w, o * p->out_dim, 0.5f);
  if (model->bias) {
    w.t.q_bias = numbers(&w, q, 1), w.t.k_bias = numbers(&w, k, 1), w.t.v_bias = numbers(&w, v, 1);
    if (p->out_proj) w.t.out_bias = numbers(&w, p->out_dim, 1);
  }
  if (p->sinks) w.t.sinks = numbers(&w, p->q_heads, 2);
  if (model->table) {
    const int64_t pairs = (p->rotary_dim ? p->rotary_dim : p->head_dim) / 2;
    float *table = numbers(&w, pairs, 1);
    for (int64_t n = 0; n < pairs; n++) table[n] = fabsf(table[n]);
    w.t.rope_frequencies = table;
  }
  const attend_strides ks = lay_out(p, p->head_dim, by_heads), vs = lay_out(p, p->v_head_dim, by_heads);
  if (by_heads) p->k_cache_strides = ks, p->v_cache_strides = vs;
  w.t.k_cache = make_cache(&w, 0, &ks), w.t.v_cache = make_cache(&w, 1, &vs);
  return w;
}

/* ------------------------------------------------------------------------------------------------------------ steps */

attend_mha_run_data attend_mha_world_step(attend_mha_world *w, const attend_mha_step *step) {
  attend_mha_run_data run = {.p = w->p, .t = w->t};
  attend_mha_problem *p = &run.p;
  attend_mha_tensors *t = &run.t;
  const int64_t e = p->embed_dim, first = step->first;
  p->batch = step->sequences;
  int32_t *starts = attend_mha_world_allocate(w, (size_t)(p->batch + 1) * sizeof *starts);
  int32_t *past = attend_mha_world_allocate(w, (size_t)p->batch * sizeof *past);
  starts[0] = 0;
  for (int64_t b = 0; b < p->batch; b++) {
    const int32_t news = step->news[first + b];
    past[b] = step->past[first + b];
    starts[b + 1] = starts[b] + news;
    if (news > p->q_len) p->q_len = p->kv_len = news;
    cr_assert(step->packed || news == step->news[first]);
  }
  run.rows = starts[p->batch];
  float *rows = attend_mha_world_allocate(w, (size_t)(run.rows * e) * sizeof *rows);
  for (int64_t b = 0; b < p->batch; b++)
    memcpy(rows + starts[b] * e, w->tokens + ((first + b) * WORLD_TOKENS + step->past[first + b]) * e,
           (size_t)(step->news[first + b] * e) * sizeof *rows);
  t->query = t->key = t->value = rows;
  t->out = attend_mha_world_allocate(w, (size_t)(run.rows * attend_mha_world_dim(p)) * sizeof(float));
  memset(t->out, NOTHING, (size_t)(run.rows * attend_mha_world_dim(p)) * sizeof(float));
  if (step->packed) {
    p->q_starts = p->kv_starts = 1, p->q_total = p->kv_total = run.rows;
    t->q_starts = t->kv_starts = starts;
  }
  if (t->rope_positions) t->rope_positions += first;
  if (t->kv_begins) t->kv_begins += first;
  if (p->cache_len) {
    const attend_strides *k = &p->k_cache_strides, *v = &p->v_cache_strides;
    const int64_t size = WORLD_CACHE * p->kv_heads, element = (int64_t)attend_dtype_size(p->cache_dtype);
    t->past = past;
    t->k_cache = (char *)t->k_cache + first * (k->batch ? k->batch : size * p->head_dim) * element;
    t->v_cache = (char *)t->v_cache + first * (v->batch ? v->batch : size * p->v_head_dim) * element;
  }
  return run;
}

/* -------------------------------------------------------------------------------------------------------- in double */

enum { MOST_DIM = 64, MOST_ROWS = WORLD_TOKENS };

/** Element `o` of a projected row. */
static double project(const attend_mha_problem *p, const float *weight, const float *bias, int64_t in_dim,
                      int64_t out_dim, const double *row, int64_t o) {
  double sum = bias ? (double)bias[o] : 0;
  for (int64_t i = 0; i < in_dim; i++)
    sum += row[i] * (double)weight[p->weight_layout == ATTEND_WEIGHT_OUT_IN ? o * in_dim + i : i * out_dim + o];
  return sum;
}

static void turn(const attend_mha_problem *p, const float *table, double position, double *head) {
  const int64_t r = p->rotary_dim ? p->rotary_dim : p->head_dim;
  const double theta = p->rope_theta > 0 ? (double)p->rope_theta : 10000;
  const double factor = p->rope_factor > 0 ? (double)p->rope_factor : 1;
  for (int64_t n = 0; n < r / 2; n++) {
    const double angle = position * (table ? (double)table[n] : pow(theta, -2.0 * (double)n / (double)r));
    double *x = head + (p->rope == ATTEND_ROPE_HALF ? n : 2 * n);
    double *y = head + (p->rope == ATTEND_ROPE_HALF ? n + r / 2 : 2 * n + 1);
    const double turned = (*x * cos(angle) - *y * sin(angle)) * factor;
    *y = (*y * cos(angle) + *x * sin(angle)) * factor;
    *x = turned;
  }
}

static double as_cached(attend_dtype dtype, double number) {
  if (dtype == ATTEND_F16) return (double)f16_to_f32(f32_to_f16((float)number));
  if (dtype == ATTEND_BF16) return (double)bf16_to_f32(f32_to_bf16((float)number));
  return number;
}

/** What a sequence's tokens are projected to. */
typedef struct projected {
  double q[MOST_ROWS][MOST_DIM], k[MOST_ROWS][MOST_DIM], v[MOST_ROWS][MOST_DIM];
} projected;

static void project_all(const attend_mha_world *w, int64_t b, int64_t tokens, projected *to) {
  const attend_mha_problem *p = &w->p;
  const attend_mha_tensors *t = &w->t;
  const int64_t e = p->embed_dim, q = p->q_heads * p->head_dim, k = p->kv_heads * p->head_dim;
  const int64_t v = p->kv_heads * p->v_head_dim, shift = t->rope_positions ? t->rope_positions[b] : 0;
  const attend_dtype dtype = p->cache_len ? p->cache_dtype : ATTEND_F32;
  for (int64_t i = 0; i < tokens; i++) {
    double row[MOST_DIM];
    for (int64_t d = 0; d < e; d++) row[d] = (double)w->tokens[(b * WORLD_TOKENS + i) * e + d];
    for (int64_t o = 0; o < q; o++) to->q[i][o] = project(p, t->q_weight, t->q_bias, e, q, row, o);
    for (int64_t o = 0; o < k; o++) to->k[i][o] = project(p, t->k_weight, t->k_bias, e, k, row, o);
    for (int64_t o = 0; o < v; o++) to->v[i][o] = as_cached(dtype, project(p, t->v_weight, t->v_bias, e, v, row, o));
    for (int64_t h = 0; p->rope && h < p->q_heads; h++)
      turn(p, t->rope_frequencies, (double)(i + shift), to->q[i] + h * p->head_dim);
    for (int64_t h = 0; p->rope && h < p->kv_heads; h++)
      turn(p, t->rope_frequencies, (double)(i + shift), to->k[i] + h * p->head_dim);
    for (int64_t o = 0; o < k; o++) to->k[i][o] = as_cached(dtype, to->k[i][o]);
  }
}

/** Whether token i attends token j of `tokens`. */
static bool attends(const attend_mha_world *w, int64_t b, int64_t i, int64_t j) {
  const attend_mha_problem *p = &w->p;
  if (p->causal != ATTEND_CAUSAL_NONE && j > i) return false;
  if (p->window && p->window_left >= 0 && j < i - p->window_left) return false;
  if (p->window && p->window_right >= 0 && j > i + p->window_right) return false;
  return !p->kv_begins || j >= w->t.kv_begins[b];
}

/** One head's output for token i. */
static void attend_head(const attend_mha_world *w, const projected *x, int64_t b, int64_t tokens, int64_t i, int64_t h,
                        double *out) {
  const attend_mha_problem *p = &w->p;
  const int64_t d = p->head_dim, dv = p->v_head_dim, kv = h / (p->q_heads / p->kv_heads);
  const double scale = p->scale != 0 || p->as_given ? (double)p->scale : 1 / sqrt((double)d);
  double weight[MOST_ROWS], sum = w->t.sinks ? exp((double)w->t.sinks[h]) : 0;
  for (int64_t j = 0; j < tokens; j++) {
    double score = 0;
    for (int64_t n = 0; n < d; n++) score += x->q[i][h * d + n] * x->k[j][kv * d + n];
    score *= scale;
    if (p->softcap > 0) score = (double)p->softcap * tanh(score / (double)p->softcap);
    weight[j] = attends(w, b, i, j) ? exp(score) : 0;
    sum += weight[j];
  }
  for (int64_t n = 0; n < dv; n++) {
    out[h * dv + n] = 0;
    for (int64_t j = 0; j < tokens; j++)
      if (weight[j] > 0) out[h * dv + n] += weight[j] / sum * x->v[j][kv * dv + n];
  }
}

double attend_mha_world_error(const attend_mha_world *w, const attend_mha_step *step, const attend_mha_run_data *run) {
  const attend_mha_problem *p = &w->p;
  const int64_t o = p->q_heads * p->v_head_dim, dim = attend_mha_world_dim(p);
  static projected x; /* too much for a stack */
  double error = 0, largest = 1;
  const float *got = run->t.out;
  for (int64_t b = step->first; b < step->first + step->sequences; b++) {
    const int64_t tokens = step->past[b] + step->news[b];
    project_all(w, b, tokens, &x);
    for (int64_t i = step->past[b]; i < tokens; i++) {
      double attended[MOST_DIM];
      for (int64_t h = 0; h < p->q_heads; h++) attend_head(w, &x, b, tokens, i, h, attended);
      for (int64_t n = 0; n < dim; n++, got++) {
        const double wanted =
            p->out_proj ? project(p, w->t.out_weight, w->t.out_bias, o, dim, attended, n) : attended[n];
        cr_assert(isfinite(*got), "sequence %d, token %d, element %d is %g", (int)b, (int)i, (int)n, (double)*got);
        error = fmax(error, fabs((double)*got - wanted));
        largest = fmax(largest, fabs(wanted));
      }
    }
  }
  return error / largest;
}

/* ----------------------------------------------------------------------------------------------------- what is left */

/** Marks the bytes of a cache that tokens were put into. */
static void mark(const attend_mha_problem *p, int64_t dim, const attend_strides *strides, const int32_t *filled,
                 unsigned char *cache) {
  const bool by_heads = strides->batch != 0;
  const attend_strides s = lay_out(p, dim, by_heads);
  const int64_t element = (int64_t)attend_dtype_size(p->cache_dtype);
  for (int64_t b = 0; b < WORLD_BATCH; b++)
    for (int64_t h = 0; h < p->kv_heads; h++)
      for (int64_t i = 0; i < filled[b]; i++)
        memset(cache + (b * s.batch + h * s.head + i * s.row) * element, NOTHING, (size_t)(dim * element));
}

bool attend_mha_world_rest_untouched(const attend_mha_world *w, const int32_t *filled) {
  const void *caches[] = {w->t.k_cache, w->t.v_cache};
  for (int which = 0; which < 2; which++) {
    unsigned char *copy = malloc(w->cache_bytes[which]);
    memcpy(copy, caches[which], w->cache_bytes[which]);
    mark(&w->p, which ? w->p.v_head_dim : w->p.head_dim, which ? &w->p.v_cache_strides : &w->p.k_cache_strides, filled,
         copy);
    bool untouched = true;
    for (size_t i = 0; i < w->cache_bytes[which]; i++) untouched = untouched && copy[i] == NOTHING;
    free(copy);
    if (!untouched) return false;
  }
  return true;
}
