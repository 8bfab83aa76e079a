/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/shapes.h"

#include <string.h>

#include "dispatch/dispatch.h"

#define FULL ATTEND_CAUSAL_NONE
#define CAUSAL ATTEND_CAUSAL_BOTTOM_RIGHT
#define DOT ATTEND_SCORE_DOT

/* clang-format off */
const attend_shape attend_shapes[] = {
    /* name              B  Hq Hkv     Lq     Lk    D  mask    length step, score */
    {"tiny",             1,  1,  1,    16,    16,  64, FULL,     0, DOT},
    {"minilm",          32, 12, 12,   128,   128,  32, FULL,     4, DOT},
    {"bert-base",        8, 12, 12,   512,   512,  64, FULL,    64, DOT},
    {"gpt2-prefill",     1, 12, 12,  1024,  1024,  64, CAUSAL,   0, DOT},
    {"vit-large",        4, 16, 16,   577,   577,  64, FULL,     0, DOT},
    {"whisper-cross",    1, 20, 20,   448,  1500,  64, FULL,     0, DOT},
    {"diffusion-self",   2,  8,  8,  4096,  4096,  40, FULL,     0, DOT},
    {"phi2-prefill",     1, 32, 32,  1024,  1024,  80, CAUSAL,   0, DOT},
    {"llama-prefill",    1, 32,  8,  2048,  2048, 128, CAUSAL,   0, DOT},
    {"dense-128",        1,  8,  8,  2048,  2048, 128, FULL,     0, DOT},
    {"gemma-prefill",    1,  8,  4,  2048,  2048, 256, CAUSAL,   0, DOT},
    {"long-prefill",     1,  8,  2, 16384, 16384, 128, CAUSAL,   0, DOT},
    {"speculative",      1, 32,  8,     8,  8192, 128, CAUSAL,   0, DOT},
    {"llama-decode",     1, 32,  8,     1,  8192, 128, FULL,     0, DOT},
    {"batch-decode",    16, 32,  8,     1,  2048, 128, FULL,   128, DOT},
    {0},
};
/* clang-format on */

#define SEQUENCE(name, length) {name, 1, 1, 1, length, length, 64, CAUSAL, 0, DOT}
const attend_shape attend_sequences[] = {
    SEQUENCE("sequence-1k", 1024),   SEQUENCE("sequence-2k", 2048),
    SEQUENCE("sequence-4k", 4096),   SEQUENCE("sequence-8k", 8192),
    SEQUENCE("sequence-16k", 16384), SEQUENCE("sequence-32k", 32768),
    SEQUENCE("sequence-64k", 65536), {0},
};

#define ADDITIVE(name, batch, queries, keys, dim, step)                                                                \
  {name, batch, 1, 1, queries, keys, dim, FULL, step, ATTEND_SCORE_ADDITIVE}
const attend_shape attend_additive[] = {
    ADDITIVE("translate", 64, 50, 50, 512, 0),
    ADDITIVE("translate-word", 64, 1, 48, 512, 0),
    ADDITIVE("text", 4, 512, 512, 256, 128),
    {0},
};

const attend_shape *attend_shape_find(const char *name) {
  for (const attend_shape *shape = attend_shapes; shape->name; shape++)
    if (strcmp(shape->name, name) == 0) return shape;
  return NULL;
}

attend_problem attend_shape_problem(const attend_shape *shape, attend_dtype q_dtype, attend_dtype kv_dtype) {
  attend_problem p = ATTEND_PROBLEM_INIT;
  p.batch = shape->batch, p.q_heads = shape->q_heads, p.kv_heads = shape->kv_heads;
  p.q_len = shape->q_len, p.kv_len = shape->kv_len, p.head_dim = shape->head_dim;
  p.q_dtype = q_dtype, p.k_dtype = kv_dtype, p.out_dtype = q_dtype;
  p.causal = shape->causal, p.score = shape->score;
  p.kv_lengths = shape->length_step ? ATTEND_LENGTHS_PER_BATCH : ATTEND_LENGTHS_NONE;
  return p;
}

int64_t attend_shape_length(const attend_shape *shape, int64_t b) { return shape->kv_len - b * shape->length_step; }

int64_t attend_shape_attended(const attend_shape *shape, int64_t b, int64_t i) {
  int64_t length = attend_shape_length(shape, b);
  if (shape->causal == CAUSAL) {
    int64_t visible = i + 1 + shape->kv_len - shape->q_len;
    return visible < length ? visible : length;
  }
  return length;
}

double attend_shape_flops(const attend_shape *shape) {
  int64_t pairs = 0;
  for (int64_t b = 0; b < shape->batch; b++)
    for (int64_t i = 0; i < shape->q_len; i++) pairs += attend_shape_attended(shape, b, i);
  return (double)(pairs * shape->q_heads) * 2 * (double)(2 * shape->head_dim);
}

double attend_shape_bytes(const attend_shape *shape, attend_dtype q_dtype, attend_dtype kv_dtype) {
  int64_t keys = 0;
  for (int64_t b = 0; b < shape->batch; b++) keys += attend_shape_attended(shape, b, shape->q_len - 1);
  double q_rows = (double)(shape->batch * shape->q_heads * shape->q_len);
  double rows = 2 * q_rows * (double)attend_dtype_size(q_dtype) +
                2 * (double)(keys * shape->kv_heads) * (double)attend_dtype_size(kv_dtype);
  return rows * (double)shape->head_dim;
}
