/* SPDX-License-Identifier: Apache-2.0 */
#include "verify/formats.h"

#include "kernels/formats.h"
#include "kernels/integers.h"

/* The choices of a case: made by bytes as long as there are any, then by splitmix64, from its seed on. */
typedef struct stream {
  uint64_t state;
  const uint8_t *bytes;
  size_t left;
  int64_t most_work; /* multiplications of the reference */
} stream;

static uint64_t next(stream *s) { return mix(s->state += UINT64_C(0x9e3779b97f4a7c15)); }

static int64_t below(stream *s, int64_t bound) {
  const size_t width = bound > 256 ? 2 : 1;
  if (s->left < width) return (int64_t)(next(s) % (uint64_t)bound);
  const int64_t number = width == 1 ? s->bytes[0] : s->bytes[0] << 8 | s->bytes[1];
  s->bytes += width, s->left -= width;
  return number % bound;
}

static bool chance(stream *s, int percent) { return below(s, 100) < percent; }

static int64_t pick(stream *s, const int16_t *list, int64_t count) { return list[below(s, count)]; }
#define PICK(s, list) pick(s, list, (int64_t)(sizeof(list) / sizeof *(list)))

static const int16_t lengths[] = {1, 2, 3, 15, 16, 17, 31, 33, 63, 65, 127};
static const int16_t long_lengths[] = {129, 191, 200, 257, 320, 511, 700, 1025};
static const int16_t dims[] = {1, 2, 3, 15, 16, 17, 31, 32, 33, 63, 64, 65, 80, 96, 127, 128};
static const int16_t long_dims[] = {129, 160, 192, 256, 257, 576};
static const int16_t page_rows[] = {1, 7, 16, 128, 1, 7, 16, 128, 2, 5, 32, 33, 64, 100, 256};

/*
 * As many multiplications as the reference does in a few milliseconds, and fewer where many cases a second count more;
 * and elements in pages that poison is put in.
 */
enum { WORK = 400000, LITTLE_WORK = 20000, MOST_PAGED = 300000 };

static int64_t work(const attend_problem *p) {
  return p->batch * p->q_heads * p->q_len * p->kv_len * (p->head_dim + p->v_head_dim);
}

/* How the sequences of a batch lie in memory: side by side, packed one after the other, in pages. */
static void choose_memory(stream *s, attend_problem *p) {
  const int64_t keys = below(s, 100);
  if (keys < 38)
    p->page_rows = PICK(s, page_rows);
  else if (keys < 70)
    p->kv_starts = 1;
  p->q_starts = chance(s, p->kv_starts ? 70 : p->page_rows ? 55 : 25);
}

static void choose_shape(stream *s, attend_problem *p) {
  p->batch = 1 + below(s, p->q_starts || p->kv_starts || p->page_rows ? 6 : 3);
  p->kv_heads = 1 + below(s, 3);
  p->q_heads = p->kv_heads * (chance(s, 50) ? 1 : 1 + below(s, 5));
  p->q_len = chance(s, 30) ? 1 + below(s, 4) : PICK(s, lengths);
  p->kv_len = chance(s, 30) ? PICK(s, long_lengths) : chance(s, 25) ? p->q_len : PICK(s, lengths);
  p->head_dim = chance(s, 6) ? PICK(s, long_dims) : PICK(s, dims);
  p->v_head_dim = chance(s, 60) ? p->head_dim : PICK(s, dims);
  if (chance(s, 2)) p->kv_len = 0;
  if (chance(s, 1)) p->head_dim = 0, p->v_head_dim = PICK(s, dims);
  if (chance(s, 1)) p->v_head_dim = 0, p->as_given |= ATTEND_AS_GIVEN_V_HEAD_DIM;
  /* Too much work: fewer batch entries and heads, then smaller dimensions, chosen at random. */
  while (work(p) > WORK) {
    const int64_t what = below(s, 5);
    if (what == 0) p->batch = 1 + below(s, p->batch);
    if (what == 1 && p->kv_heads > 1) p->q_heads = p->q_heads / p->kv_heads * (p->kv_heads - 1), p->kv_heads--;
    if (what == 2) p->q_len = PICK(s, lengths);
    if (what == 3 && p->head_dim && p->v_head_dim)
      p->head_dim = PICK(s, dims), p->v_head_dim = chance(s, 60) ? p->head_dim : PICK(s, dims);
    if (what == 4 && p->kv_len > 127 && chance(s, 30)) p->kv_len = PICK(s, lengths);
  }
  while (work(p) > s->most_work) {
    int64_t *const sizes[] = {&p->q_len, &p->kv_len, &p->head_dim, &p->v_head_dim}, *size = sizes[next(s) % 4];
    *size = (*size + 1) / 2;
  }
}

/* Rows of all sequences, which the tensors have room for: rarely as many as the lengths allow. */
static int64_t choose_total(stream *s, int64_t batch, int64_t most) {
  return chance(s, 10) ? batch * most : chance(s, 10) ? most : below(s, batch * most + 1);
}

/* What packed and paged tensors need to know, and what else sequences have of their own. */
static void choose_sequences(stream *s, attend_problem *p) {
  if (p->q_starts) p->q_total = choose_total(s, p->batch, p->q_len);
  if (p->kv_starts) p->kv_total = choose_total(s, p->batch, p->kv_len);
  if (p->q_starts && p->kv_starts && p->q_len == p->kv_len && chance(s, 50)) p->kv_total = p->q_total;
  while (p->page_rows) {
    const int64_t entries = divide_up(p->kv_len, p->page_rows), needed = p->batch * entries;
    p->pages = needed + below(s, 4);
    if (chance(s, 20)) p->pages = needed / 2 + 1; /* sequences share pages */
    p->block_table_stride = chance(s, 50) ? 0 : entries + below(s, 4);
    if (p->pages * p->page_rows * p->kv_heads * (p->head_dim + p->v_head_dim) <= MOST_PAGED || p->page_rows <= 7) break;
    p->page_rows = p->page_rows > 16 ? 16 : 7;
  }
  p->positions = chance(s, 20);
  p->kv_begins = chance(s, 20);
  p->key_ranges = chance(s, 35);
}

static attend_dtype choose_dtype(stream *s) { return (attend_dtype)(ATTEND_F32 + below(s, 3)); }

static void choose_dtypes(stream *s, attend_dtype dtype, attend_problem *p) {
  if (dtype == ATTEND_DTYPE_DEFAULT && chance(s, 25)) {
    p->q_dtype = choose_dtype(s), p->k_dtype = choose_dtype(s), p->out_dtype = choose_dtype(s);
    if (chance(s, 50)) p->v_dtype = choose_dtype(s);
    return;
  }
  if (attend_verify_is_format(dtype)) /* kernels that multiply in bf16 take no others */
    dtype = chance(s, 50) ? ATTEND_BF16 : choose_dtype(s);
  else if (dtype == ATTEND_DTYPE_DEFAULT)
    dtype = chance(s, 50) ? ATTEND_F32 : choose_dtype(s);
  p->q_dtype = p->k_dtype = p->out_dtype = dtype;
}

static void choose_masks(stream *s, attend_verify_case *c) {
  attend_problem *p = &c->problem;
  if (chance(s, 50)) {
    p->causal = (attend_causal)(1 + below(s, 3));
    if (p->causal == ATTEND_CAUSAL_OFFSET)
      p->causal_offset = chance(s, 5) ? (chance(s, 50) ? 1 : -1) * (int64_t)INT32_MAX
                                      : below(s, p->kv_len + p->q_len + 3) - p->q_len - 1;
  }
  if (chance(s, 25)) {
    p->window = 1;
    p->window_left = chance(s, 25) ? -1 : chance(s, 50) ? below(s, 8) : below(s, p->kv_len + 2);
    p->window_right = chance(s, 40) ? -1 : chance(s, 50) ? below(s, 8) : below(s, p->kv_len + 2);
  }
  if (chance(s, 35)) p->kv_lengths = (attend_lengths)(1 + below(s, 2));
  if (chance(s, 25)) {
    p->mask = 1;
    c->mask = (attend_verify_layout4)below(s, chance(s, 40) ? ATTEND_VERIFY_LAYOUT4_COUNT : 1);
    c->mask_over = (unsigned)(below(s, 8) | (chance(s, 10) ? ATTEND_VERIFY_OVER_KEYS : 0));
    c->mask_pattern = (attend_verify_pattern)below(s, ATTEND_VERIFY_PATTERN_COUNT);
  }
}

static void choose_scores(stream *s, attend_verify_case *c) {
  attend_problem *p = &c->problem;
  if (chance(s, 25)) {
    p->bias_dtype = choose_dtype(s);
    c->bias = (attend_verify_layout4)below(s, chance(s, 40) ? ATTEND_VERIFY_LAYOUT4_COUNT : 1);
    c->bias_over = (unsigned)(below(s, 8) | (chance(s, 10) ? ATTEND_VERIFY_OVER_KEYS : 0));
    c->bias_pattern =
        (attend_verify_pattern)(chance(s, 50) ? ATTEND_VERIFY_NOTHING : below(s, ATTEND_VERIFY_PATTERN_COUNT));
  }
  if (p->bias_dtype) p->bias_head_scale = chance(s, 40);
  p->alibi = chance(s, 15);
  p->sinks = chance(s, 20);
  if (chance(s, 10)) p->score = ATTEND_SCORE_ADDITIVE;
  if (chance(s, 10)) p->dropout = chance(s, 10) ? 1.0f : (float)(1 + below(s, 90)) / 100.0f;
  if (chance(s, 15)) p->softcap = chance(s, 50) ? 30.0f : 1.5f;
  if (chance(s, 20)) p->scale = chance(s, 50) ? 1.0f : (float)(below(s, 400) - 200) / 100.0f;
  if (chance(s, 2)) p->scale = 0, p->as_given |= ATTEND_AS_GIVEN_SCALE;
  if (chance(s, 40)) c->values = (attend_verify_values)below(s, ATTEND_VERIFY_HUGE_SCORES);
  if (chance(s, 20) && c->values < ATTEND_VERIFY_DENORMAL)
    c->nonfinite = (attend_verify_nonfinite)(1 + below(s, ATTEND_VERIFY_NONFINITE_COUNT - 1));
}

static void choose_layouts(stream *s, attend_verify_case *c) {
  attend_problem *p = &c->problem;
  const bool alike = p->q_len == p->kv_len && !p->page_rows && p->q_starts == p->kv_starts && p->q_total == p->kv_total;
  const bool one_type = p->q_dtype == p->k_dtype && (!p->v_dtype || p->v_dtype == p->q_dtype);
  if (chance(s, 30) && alike && one_type && p->head_dim == p->v_head_dim) {
    c->packed = true;
  } else if (chance(s, 50)) {
    c->q = (attend_verify_layout)below(s, ATTEND_VERIFY_LAYOUT_COUNT);
    c->k = (attend_verify_layout)below(s, ATTEND_VERIFY_LAYOUT_COUNT);
    c->v = (attend_verify_layout)below(s, ATTEND_VERIFY_LAYOUT_COUNT);
    /* Hundreds of equal terms are all rounded to the same side: plain f32 arithmetic is no yardstick then. */
    if ((c->v == ATTEND_VERIFY_ONE_ROW || c->v == ATTEND_VERIFY_EXPANDED) && p->kv_len > 33)
      c->v = ATTEND_VERIFY_ONE_HEAD;
  }
  if (chance(s, 40)) c->out = (attend_verify_layout)below(s, ATTEND_VERIFY_REVERSED);
}

static attend_dtype choose_format(stream *s) {
  return (attend_dtype)(ATTEND_BF16 + 1 + below(s, ATTEND_DTYPE_COUNT - ATTEND_BF16 - 1));
}

/* Formats of keys and values: the one that was asked for, or in a third of the cases any. The last choices of all, so
 * that cases without formats stay what they are. */
static void choose_formats(stream *s, attend_verify_case *c) {
  const attend_problem *p = &c->problem;
  const bool asked = attend_verify_is_format(c->dtype);
  if (!asked && (c->dtype || !chance(s, 33))) return;
  attend_dtype k = asked ? c->dtype : choose_format(s), v = k;
  const attend_dtype plain = p->k_dtype, other = asked ? c->dtype : choose_format(s);
  if (chance(s, 25)) v = other;
  if (chance(s, 15)) k = plain;
  if (k != plain && chance(s, 15)) v = p->v_dtype ? p->v_dtype : plain;
  if (k == ATTEND_Q8_0 || k == ATTEND_I8) c->problem.int8_products = chance(s, 70);
  /* Bytes are multiplied by whole blocks: other head dims would leave few cases of it. */
  if (c->problem.int8_products && chance(s, 90)) c->problem.head_dim = round_up(c->problem.head_dim, 32);
  attend_verify_take_formats(c, k, v, next(s));
}

static void choose_all(stream *s, attend_verify_case *c) {
  attend_problem *p = &c->problem;
  choose_memory(s, p);
  choose_shape(s, p);
  choose_sequences(s, p);
  choose_dtypes(s, c->dtype, p);
  choose_masks(s, c);
  choose_scores(s, c);
  choose_layouts(s, c);
  p->lse = chance(s, 60);
  if (p->as_given & ATTEND_AS_GIVEN_V_HEAD_DIM) p->lse = 1;
  p->weights = chance(s, 10);
  if (chance(s, 3)) p->scores = (attend_scores_output)(1 + below(s, 3));
  p->batch_invariant = chance(s, 15);
  choose_formats(s, c);
  attend_verify_lay_out(c);
}

void attend_verify_random_case(uint64_t seed, attend_dtype dtype, attend_verify_case *c) {
  stream s = {.state = mix(seed), .most_work = WORK};
  *c = (attend_verify_case){.name = "random", .seed = seed, .dtype = dtype, .problem = ATTEND_PROBLEM_INIT};
  choose_all(&s, c);
}

void attend_verify_case_from(const uint8_t *bytes, size_t size, uint64_t seed, attend_verify_case *c) {
  stream s = {mix(seed), bytes, size, LITTLE_WORK};
  *c = (attend_verify_case){.name = "from-bytes", .seed = seed, .problem = ATTEND_PROBLEM_INIT};
  choose_all(&s, c);
}
