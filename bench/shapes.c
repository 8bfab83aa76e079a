/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/shapes.h"

#include "dispatch/dispatch.h"
#include "kernels/integers.h"

#define FULL ATTEND_CAUSAL_NONE
#define CAUSAL ATTEND_CAUSAL_BOTTOM_RIGHT
#define PLAIN ATTEND_FORM_PLAIN
#define ADDMASK ATTEND_FORM_ADDITIVE_MASK
#define SIDE_BY_SIDE ATTEND_FORM_SIDE_BY_SIDE
#define PAGES ATTEND_FORM_PAGES
#define SERVING ATTEND_FORM_SERVING
#define V_IN_K ATTEND_FORM_V_IN_K
#define DOT ATTEND_SCORE_DOT

/* What a server computes at once: a few prompts, cut into chunks of q_len, beside many sequences that write a token. */
enum { PROMPTS = 2, PAGE_ROWS = 16 };

/* clang-format off */
const attend_shape attend_shapes[] = {
    /* name                B   Hq Hkv     Lq     Lk    D   Dv mask  step form     score */
    {"tiny",              1,   1,  1,    16,    16,  64,  64, FULL,     0, PLAIN,   DOT},
    {"minilm",           32,  12, 12,   128,   128,  32,  32, FULL,     4, PLAIN,   DOT},
    {"bert-base",         8,  12, 12,   512,   512,  64,  64, FULL,    64, PLAIN,   DOT},
    {"gpt2-prefill",      1,  12, 12,  1024,  1024,  64,  64, CAUSAL,   0, PLAIN,   DOT},
    {"vit-large",         4,  16, 16,   577,   577,  64,  64, FULL,     0, PLAIN,   DOT},
    {"whisper-cross",     1,  20, 20,   448,  1500,  64,  64, FULL,     0, PLAIN,   DOT},
    {"diffusion-self",    2,   8,  8,  4096,  4096,  40,  40, FULL,     0, PLAIN,   DOT},
    {"phi2-prefill",      1,  32, 32,  1024,  1024,  80,  80, CAUSAL,   0, PLAIN,   DOT},
    {"llama-prefill",     1,  32,  8,  2048,  2048, 128, 128, CAUSAL,   0, PLAIN,   DOT},
    {"dense-128",         1,   8,  8,  2048,  2048, 128, 128, FULL,     0, PLAIN,   DOT},
    {"gemma-prefill",     1,   8,  4,  2048,  2048, 256, 256, CAUSAL,   0, PLAIN,   DOT},
    {"long-prefill",      1,   8,  2, 16384, 16384, 128, 128, CAUSAL,   0, PLAIN,   DOT},
    {"speculative",       1,  32,  8,     8,  8192, 128, 128, CAUSAL,   0, PLAIN,   DOT},
    {"llama-decode",      1,  32,  8,     1,  8192, 128, 128, FULL,     0, PLAIN,   DOT},
    {"batch-decode",     16,  32,  8,     1,  2048, 128, 128, FULL,   128, PLAIN,   DOT},
    {"chunked-prefill",   1,  32,  8,   512,  8192, 128, 128, CAUSAL,   0, ADDMASK, DOT},
    {"mixed-serving",    32,  32,  8,   512,  4096, 128, 128, CAUSAL,   0, SERVING, DOT},
    {"mla-decode",        1, 128,  1,     1,  4096, 576, 512, FULL,     0, V_IN_K,  DOT},
    {0},
};
/* clang-format on */

#define SEQUENCE(name, length) {name, 1, 1, 1, length, length, 64, 64, CAUSAL, 0, PLAIN, DOT}
const attend_shape attend_sequences[] = {
    SEQUENCE("sequence-1k", 1024),   SEQUENCE("sequence-2k", 2048),
    SEQUENCE("sequence-4k", 4096),   SEQUENCE("sequence-8k", 8192),
    SEQUENCE("sequence-16k", 16384), SEQUENCE("sequence-32k", 32768),
    SEQUENCE("sequence-64k", 65536), {0},
};

#define ADDITIVE(name, batch, queries, keys, dim, step)                                                                \
  {name, batch, 1, 1, queries, keys, dim, dim, FULL, step, PLAIN, ATTEND_SCORE_ADDITIVE}
const attend_shape attend_additive[] = {
    ADDITIVE("translate", 64, 50, 50, 512, 0),
    ADDITIVE("translate-word", 64, 1, 48, 512, 0),
    ADDITIVE("text", 4, 512, 512, 256, 128),
    {0},
};

#define CACHE(name, group, heads, keys, dim, form)                                                                     \
  {name, 1, group * heads, heads, 1, keys, dim, dim, FULL, 0, form, DOT}
const attend_shape attend_caches[] = {
    CACHE("llama-side-by-side", 4, 8, 8192, 128, SIDE_BY_SIDE),
    CACHE("llama-pages", 4, 8, 8192, 128, PAGES),
    CACHE("small-side-by-side", 4, 8, 8192, 64, SIDE_BY_SIDE),
    CACHE("small-pages", 4, 8, 8192, 64, PAGES),
    CACHE("wide-side-by-side", 7, 4, 8192, 128, SIDE_BY_SIDE),
    CACHE("wide-pages", 7, 4, 8192, 128, PAGES),
    {0},
};

const char *attend_shape_form_name(attend_shape_form form) {
  static const char *const names[] = {"plain", "additive-mask", "side-by-side", "pages", "serving", "v-in-k"};
  return names[form];
}

/** Gives a problem pages for the keys of all sequences. */
static void take_pages(const attend_shape *shape, attend_problem *p) {
  p->page_rows = PAGE_ROWS;
  for (int64_t b = 0; b < shape->batch; b++) p->pages += attend_shape_pages(shape, b);
}

attend_problem attend_shape_problem(const attend_shape *shape, attend_dtype q_dtype, attend_dtype kv_dtype) {
  attend_problem p = ATTEND_PROBLEM_INIT;
  p.batch = shape->batch, p.q_heads = shape->q_heads, p.kv_heads = shape->kv_heads;
  p.q_len = shape->q_len, p.kv_len = shape->kv_len;
  p.head_dim = shape->head_dim, p.v_head_dim = shape->v_head_dim;
  p.q_dtype = q_dtype, p.k_dtype = kv_dtype, p.out_dtype = q_dtype;
  p.causal = shape->causal, p.score = shape->score;
  p.kv_lengths = shape->length_step ? ATTEND_LENGTHS_PER_BATCH : ATTEND_LENGTHS_NONE;
  switch (shape->form) {
  case PLAIN: break;
  case ADDMASK:
    p.causal = FULL, p.bias_dtype = ATTEND_F16;
    p.bias_strides = (attend_strides4){0, 0, shape->kv_len, 1};
    break;
  case SERVING:
    p.q_starts = 1, p.q_total = attend_shape_total_queries(shape);
    p.kv_lengths = ATTEND_LENGTHS_PER_BATCH;
    take_pages(shape, &p);
    break;
  case PAGES: take_pages(shape, &p); /* fall through */
  case SIDE_BY_SIDE:
    p.k_strides.head = attend_row_extent(kv_dtype, shape->head_dim);
    p.k_strides.row = shape->kv_heads * p.k_strides.head;
    p.k_strides.batch = (p.page_rows ? p.page_rows : shape->kv_len) * p.k_strides.row;
    p.v_strides = p.k_strides;
    break;
  case V_IN_K:
    p.v_strides.row = attend_row_extent(kv_dtype, shape->head_dim);
    p.v_strides.head = shape->kv_len * p.v_strides.row;
    p.v_strides.batch = shape->kv_heads * p.v_strides.head;
    break;
  }
  const int64_t rows = p.page_rows ? p.page_rows : p.kv_len;
  p.k_scaling = attend_shape_scaling(kv_dtype, p.kv_heads, rows, p.head_dim);
  p.v_scaling = shape->form == V_IN_K ? p.k_scaling : attend_shape_scaling(kv_dtype, p.kv_heads, rows, p.v_head_dim);
  return p;
}

int64_t attend_shape_queries(const attend_shape *shape, int64_t b) {
  return shape->form == SERVING && b >= PROMPTS ? 1 : shape->q_len;
}

int64_t attend_shape_total_queries(const attend_shape *shape) {
  int64_t total = 0;
  for (int64_t b = 0; b < shape->batch; b++) total += attend_shape_queries(shape, b);
  return total;
}

/* Served sequences have from q_len to kv_len keys, evenly spread and in no order: 37 has no factor of the batch. */
int64_t attend_shape_length(const attend_shape *shape, int64_t b) {
  if (shape->form == SERVING)
    return shape->q_len + b * 37 % shape->batch * (shape->kv_len - shape->q_len) / (shape->batch - 1);
  return shape->kv_len - b * shape->length_step;
}

int64_t attend_shape_page_rows(const attend_shape *shape) {
  return shape->form == SERVING || shape->form == PAGES ? PAGE_ROWS : 0;
}

int64_t attend_shape_pages(const attend_shape *shape, int64_t b) {
  return attend_shape_page_rows(shape) ? divide_up(attend_shape_length(shape, b), PAGE_ROWS) : 0;
}

int64_t attend_shape_attended(const attend_shape *shape, int64_t b, int64_t i) {
  const int64_t length = attend_shape_length(shape, b);
  return shape->causal == CAUSAL ? length - attend_shape_queries(shape, b) + i + 1 : length;
}

double attend_shape_flops(const attend_shape *shape) {
  int64_t pairs = 0;
  for (int64_t b = 0; b < shape->batch; b++)
    for (int64_t i = 0; i < attend_shape_queries(shape, b); i++) pairs += attend_shape_attended(shape, b, i);
  return (double)(pairs * shape->q_heads) * 2 * (double)(shape->head_dim + shape->v_head_dim);
}

/** Bytes of a row of keys or values and its scales. */
static int64_t row_bytes(attend_dtype dtype, int64_t dim) {
  return attend_row_size(dtype, dim) + attend_shape_scales(dtype, dim) * (int64_t)sizeof(float);
}

double attend_shape_bytes(const attend_shape *shape, attend_dtype q_dtype, attend_dtype kv_dtype) {
  int64_t keys = 0;
  for (int64_t b = 0; b < shape->batch; b++)
    keys += attend_shape_attended(shape, b, attend_shape_queries(shape, b) - 1);
  const int64_t queries = attend_shape_total_queries(shape) * shape->q_heads;
  const int64_t of_key =
      row_bytes(kv_dtype, shape->head_dim) + (shape->form == V_IN_K ? 0 : row_bytes(kv_dtype, shape->v_head_dim));
  return (double)(queries * (shape->head_dim + shape->v_head_dim)) * (double)attend_dtype_size(q_dtype) +
         (double)(keys * shape->kv_heads * of_key);
}

/* ----------------------------------------------------------------------------------------------------------- rows */

enum { I4_GROUP = 32 }; /* what is usual: 4 bits a scale a row would be of little use */

int64_t attend_shape_scales(attend_dtype dtype, int64_t dim) {
  if (attend_formats[dtype].kind != ATTEND_SCALED) return 0;
  return dtype == ATTEND_I4 && dim % I4_GROUP == 0 ? dim / I4_GROUP : 1;
}

attend_scaling attend_shape_scaling(attend_dtype dtype, int64_t heads, int64_t rows, int64_t dim) {
  const int64_t scales = attend_shape_scales(dtype, dim);
  if (!scales) return (attend_scaling){0};
  return (attend_scaling){.group = scales > 1 ? I4_GROUP : 0,
                          .batch = scales * rows * heads,
                          .head = scales * rows,
                          .row = scales,
                          .step = 1,
                          .dtype = ATTEND_F32};
}

attend_status attend_shape_store(attend_dtype dtype, int64_t rows, int64_t dim, const float *numbers, void *to,
                                 float *scales) {
  static const int32_t start = 0;
  attend_append_problem p = ATTEND_APPEND_PROBLEM_INIT;
  attend_append_tensors t = ATTEND_APPEND_TENSORS_INIT;
  p.batch = p.heads = p.num_threads = 1;
  p.rows = p.cache_len = rows, p.dim = dim;
  p.cache_dtype = dtype, p.scaling = attend_shape_scaling(dtype, 1, rows, dim);
  t.x = numbers, t.cache = to, t.positions = &start, t.scales = scales;
  return attend_append(&p, &t);
}
