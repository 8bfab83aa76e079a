/* SPDX-License-Identifier: Apache-2.0 */
/** Shapes to tune for and to check on: the standard ones, a sequence that fills space, random ones, and files. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/shapes.h"
#include "dispatch/dispatch.h"
#include "kernels/integers.h"
#include "tune/internal.h"

/** Multiply-adds of a shape of the grid, and of a random one, at most: 1.5 and 12 ms of one AVX-512 core. */
static const double grid_most = 1.5e8, random_most = 1.2e9;

typedef enum mask_kind { FULL, CAUSAL, WINDOW, LENGTHS, MASK, BIAS, MASK_KINDS } mask_kind;

/** Rounds head dims up to whole blocks of the format of keys and values. */
static void fill_blocks(attend_problem *p) {
  const int64_t block = attend_formats[p->k_dtype].elements;
  p->head_dim = round_up(p->head_dim, block), p->v_head_dim = round_up(p->v_head_dim, block);
}

/**
 * Gives mask, bias and scales the strides that go with the lengths: a mask per batch entry, one bias for all, and
 * scales as the benchmarks have them.
 */
static void lay_out(attend_problem *p) {
  const int64_t heads = p->kv_heads ? p->kv_heads : p->q_heads;
  const int64_t v_head_dim = p->v_head_dim ? p->v_head_dim : p->head_dim;
  p->k_scaling = attend_shape_scaling(p->k_dtype, heads, p->kv_len, p->head_dim);
  p->v_scaling = attend_shape_scaling(p->k_dtype, heads, p->kv_len, v_head_dim);
  if (p->mask) p->mask_strides = (attend_strides4){p->q_len * p->kv_len, 0, p->kv_len, 1};
  if (p->bias_dtype) p->bias_strides = (attend_strides4){0, 0, p->kv_len, 1};
}

/** Queries stand at the last keys; where there are more of them than keys, at the first. */
static void set_mask(attend_problem *p, mask_kind kind, int64_t window) {
  if (kind == CAUSAL || kind == WINDOW)
    p->causal = p->q_len > p->kv_len ? ATTEND_CAUSAL_TOP_LEFT : ATTEND_CAUSAL_BOTTOM_RIGHT;
  if (kind == WINDOW) p->window = 1, p->window_left = window, p->window_right = -1;
  if (kind == LENGTHS) p->kv_lengths = ATTEND_LENGTHS_PER_BATCH;
  if (kind == MASK) p->mask = 1;
  if (kind == BIAS) p->bias_dtype = ATTEND_F32;
}

static double products(const attend_problem *p) {
  const int64_t dv = p->v_head_dim ? p->v_head_dim : p->head_dim;
  return (double)p->batch * (double)p->q_heads * (double)p->q_len * (double)p->kv_len * (double)(p->head_dim + dv);
}

/** Takes batch entries, key heads, query heads and at last lengths away until the shape is small enough. */
static void bound(attend_problem *p, double most) {
  int64_t group = p->kv_heads ? p->q_heads / p->kv_heads : 1, heads = p->kv_heads ? p->kv_heads : p->q_heads;
  while (products(p) > most) {
    if (p->batch > 1)
      p->batch /= 2;
    else if (heads > 1)
      heads /= 2;
    else if (group > 1)
      group /= 2;
    else
      p->q_len = (p->q_len + 1) / 2, p->kv_len = (p->kv_len + 1) / 2;
    p->kv_heads = heads, p->q_heads = heads * group;
  }
}

/* ---------------------------------------------------------------------------------------------------- random shapes */

enum { ODD = 7 }; /* numbers more that an odd shape takes */

/** Where a random shape takes its numbers from: each from 0 to 1. */
typedef struct source {
  double u[9];
} source;

/** Three quarters have one type; the rest take every type of queries and every format. */
static void set_types(attend_problem *p, double u) {
  enum { TYPES = ATTEND_BF16 - ATTEND_F32 + 1, FORMATS = ATTEND_DTYPE_COUNT - 1 - TYPES };
  const int plain = (int)(u * 4), pair = (int)((u * 4 - TYPES) * TYPES * FORMATS);
  p->q_dtype = (attend_dtype)(ATTEND_F32 + (plain < TYPES ? plain : pair % TYPES));
  p->k_dtype = plain < TYPES ? p->q_dtype : (attend_dtype)(ATTEND_BF16 + 1 + pair / TYPES);
}

static int64_t between(double u, double low, double high) { return (int64_t)(low * pow(high / low, u) + 0.5); }

static attend_problem shape_from(const source *s, double most) {
  static const int64_t dims[] = {32, 40, 64, 80, 96, 128, 192, 256};
  attend_problem p = ATTEND_PROBLEM_INIT;
  set_types(&p, s->u[0]);
  p.head_dim = dims[(int)(s->u[1] * 8)];
  /* One in five is a decode step; the other lengths are spread over their orders of magnitude. */
  p.q_len = s->u[2] < 0.2 ? 1 : between((s->u[2] - 0.2) / 0.8, 1, 4096);
  p.kv_len = between(s->u[3], 1, 4096);
  p.kv_heads = (int64_t)1 << (int)(s->u[4] * 4);
  p.q_heads = p.kv_heads << (int)(s->u[5] * 4);
  p.batch = (int64_t)1 << (int)(s->u[6] * 3);
  fill_blocks(&p);
  bound(&p, most);
  const mask_kind kind = (mask_kind)(s->u[7] * MASK_KINDS);
  set_mask(&p, kind, between(s->u[8], 16, p.kv_len > 32 ? (double)p.kv_len : 32));
  lay_out(&p);
  return p;
}

/** The strides of rows of all heads side by side. */
static attend_strides side_by_side(int64_t rows, int64_t heads, int64_t dim) {
  return (attend_strides){.batch = rows * heads * dim, .head = dim, .row = heads * dim};
}

/** Makes a shape one that no model has: head dims of every residue, every size of a group, heads within rows or not. */
static void make_odd(attend_problem *p, const double u[ODD]) {
  enum { MOST_DIM = 300, MOST_GROUP = 16, MOST_QUERIES = 600, MOST_KEYS = 8192 };
  p->head_dim = 1 + (int64_t)(u[0] * MOST_DIM);
  p->v_head_dim = u[1] < 0.5 ? p->head_dim : 1 + (int64_t)(u[2] * MOST_DIM);
  fill_blocks(p);
  p->q_heads = p->kv_heads * (1 + (int64_t)(u[3] * MOST_GROUP));
  p->q_len = between(u[4], 1, MOST_QUERIES), p->kv_len = between(u[5], 1, MOST_KEYS);
  bound(p, random_most / 3);
  if (p->causal) p->causal = p->q_len > p->kv_len ? ATTEND_CAUSAL_TOP_LEFT : ATTEND_CAUSAL_BOTTOM_RIGHT;
  lay_out(p);
  if (u[6] < 0.5) return;
  p->q_strides = side_by_side(p->q_len, p->q_heads, p->head_dim);
  p->k_strides = side_by_side(p->kv_len, p->kv_heads, attend_row_extent(p->k_dtype, p->head_dim));
  p->v_strides = side_by_side(p->kv_len, p->kv_heads, attend_row_extent(p->k_dtype, p->v_head_dim));
  p->out_strides = side_by_side(p->q_len, p->q_heads, p->v_head_dim);
}

attend_problem attend_tune_random(uint64_t seed, size_t index, bool odd) {
  double u[9 + ODD];
  source s;
  uint64_t x = (seed + 1) * UINT64_C(0x9e3779b97f4a7c15) + index * UINT64_C(0xd1342543de82ef95);
  for (int i = 0; i < 9 + ODD; i++) { /* splitmix64 */
    uint64_t z = x += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    u[i] = (double)((z ^ z >> 31) >> 11) * 0x1p-53;
  }
  memcpy(s.u, u, sizeof s.u);
  attend_problem p = shape_from(&s, random_most);
  if (odd) make_odd(&p, u + 9);
  return p;
}

/* --------------------------------------------------------------------------------------------------------- the grid */

/**
 * The index-th standard shape that is measured, or NULL and their number. Sequences of their own lengths are left out:
 * a profile has one length of queries and one of keys for a shape, and the tuner makes batches of equal sequences.
 */
static const attend_shape *standard_shape(size_t index, size_t *count) {
  *count = 0;
  for (const attend_shape *shape = attend_shapes; shape->name; shape++)
    if (shape->form != ATTEND_FORM_SERVING && (*count)++ == index) return shape;
  return NULL;
}

attend_problem attend_tune_grid(size_t index) {
  static const attend_dtype types[] = {ATTEND_F32, ATTEND_BF16};
  size_t standard;
  const attend_shape *shape = standard_shape(index / 2, &standard);
  if (shape) {
    attend_problem p = attend_shape_problem(shape, types[index % 2], types[index % 2]);
    bound(&p, grid_most);
    lay_out(&p);
    p.v_strides = (attend_strides){0}; /* values lie in memory of their own: the tuner makes every tensor by itself */
    return p;
  }
  /*
   * An additive recurrence on powers of the root of x^10 = x + 1, which spreads any number of first points evenly over
   * nine dimensions (Roberts 2018,
   * https://extremelearning.com.au/unreasonable-effectiveness-of-quasirandom-sequences/).
   */
  double root = 1;
  for (int i = 0; i < 40; i++) root = pow(1 + root, 1.0 / 10);
  source s;
  double power = 1;
  for (int i = 0; i < 9; i++) {
    power /= root;
    s.u[i] = fmod(0.5 + power * (double)(index - 2 * standard + 1), 1.0);
  }
  attend_problem p = shape_from(&s, grid_most);
  /* Head dims of keys and values that differ, now and then. */
  if (index % 8 == 3) p.v_head_dim = p.head_dim > 64 ? p.head_dim / 2 : 2 * p.head_dim;
  fill_blocks(&p);
  lay_out(&p);
  return p;
}

/* ------------------------------------------------------------------------------------------------------------ files */

void attend_tune_describe(const attend_problem *p, char *text, size_t size) {
  const bool mixed = p->k_dtype && p->k_dtype != p->q_dtype;
  const int length =
      snprintf(text, size, "%s%s%s %" PRId64 " %" PRId64 "/%" PRId64 " %" PRId64 "x%" PRId64 " %" PRId64 "/%" PRId64,
               attend_dtype_name(p->q_dtype), mixed ? "+" : "", mixed ? attend_dtype_name(p->k_dtype) : "", p->batch,
               p->q_heads, p->kv_heads ? p->kv_heads : p->q_heads, p->q_len, p->kv_len, p->head_dim,
               p->v_head_dim ? p->v_head_dim : p->head_dim);
  if (length < 0 || (size_t)length >= size) return;
  char *at = text + length;
  size -= (size_t)length;
  if (p->window)
    snprintf(at, size, " window=%" PRId64, p->window_left);
  else
    snprintf(at, size, "%s",
             p->causal       ? " causal"
             : p->kv_lengths ? " lengths"
             : p->mask       ? " mask"
             : p->bias_dtype ? " bias"
                             : "");
}

/** "f32", of q, k, v and out, or "f32+q8_0" of q and out, and of k and v. */
static bool read_types(const char *word, attend_problem *p) {
  for (p->q_dtype = ATTEND_F32; p->q_dtype <= ATTEND_BF16; ++p->q_dtype) {
    const char *name = attend_dtype_name(p->q_dtype), *rest = word + strlen(name);
    if (strncmp(word, name, strlen(name)) != 0) continue;
    p->k_dtype = p->q_dtype;
    if (!*rest) return true;
    for (p->k_dtype = ATTEND_F32; *rest == '+' && (int)p->k_dtype < ATTEND_DTYPE_COUNT; ++p->k_dtype)
      if (strcmp(rest + 1, attend_dtype_name(p->k_dtype)) == 0) return true;
    return false;
  }
  return false;
}

/** Numbers with a character between them. */
static bool read_numbers(const char *word, char between_them, int64_t *first, int64_t *second) {
  char separator = 0, rest = 0;
  return strspn(word, "0123456789/x") == strlen(word) &&
         sscanf(word, "%10" SCNd64 "%c%10" SCNd64 "%c", first, &separator, second, &rest) == 3 &&
         separator == between_them;
}

static bool read_mask(const char *word, attend_problem *p) {
  static const char *const names[] = {"full", "causal", "window", "lengths", "mask", "bias"};
  int64_t window = 0;
  char rest;
  for (int kind = FULL; kind < MASK_KINDS; kind++)
    if (kind != WINDOW && strcmp(word, names[kind]) == 0) {
      set_mask(p, (mask_kind)kind, 0);
      return true;
    }
  if (sscanf(word, "window=%10" SCNd64 "%c", &window, &rest) != 1 || window < 0) return false;
  set_mask(p, WINDOW, window);
  return true;
}

/** What was expected instead of a line, or NULL. */
static const char *read_line(char *line, attend_problem *p) {
  char *words[8], *state = NULL, *word = strtok_r(line, " \t\r\n", &state);
  int count = 0;
  for (; word && count < 8; word = strtok_r(NULL, " \t\r\n", &state)) words[count++] = word;
  if (count < 5 || count > 6) return "five or six words: TYPE BATCH HQ/HKV LQxLK D/DV [MASK]";
  int64_t none;
  char batch[24];
  snprintf(batch, sizeof batch, "%.20s/0", words[1]);
  if (!read_types(words[0], p))
    return "f32, f16 or bf16, or with a format of keys and values f32+q8_0, as the first word";
  if (!read_numbers(batch, '/', &p->batch, &none)) return "the batch size as the second word";
  if (!read_numbers(words[2], '/', &p->q_heads, &p->kv_heads))
    return "query heads / key heads, 32/8, as the third word";
  if (!read_numbers(words[3], 'x', &p->q_len, &p->kv_len)) return "queries x keys, 1x4096, as the fourth word";
  if (!read_numbers(words[4], '/', &p->head_dim, &p->v_head_dim))
    return "head dims of keys / values, 128/128, as the fifth word";
  if (count == 6 && !read_mask(words[5], p)) return "full, causal, window=N, lengths, mask or bias as the sixth word";
  attend_resolved resolved;
  attend_problem plain = *p; /* what fits without scales and masks, whose strides are products, does with them */
  plain.k_dtype = plain.v_dtype = ATTEND_F32, plain.mask = 0, plain.bias_dtype = ATTEND_DTYPE_DEFAULT;
  if (attend_resolve(&plain, &resolved) != ATTEND_OK) return attend_error_detail();
  lay_out(p);
  if (attend_resolve(p, &resolved) != ATTEND_OK) return attend_error_detail();
  return attend_is_empty(&resolved) || p->kv_len == 0 ? "a shape with something to compute" : NULL;
}

bool attend_tune_shapes_read(const char *path, attend_tune_shapes *shapes, char *why, size_t why_size) {
  FILE *file = fopen(path, "r");
  char line[512];
  *shapes = (attend_tune_shapes){0};
  if (!file) {
    snprintf(why, why_size, "%s", strerror(errno));
    return false;
  }
  const char *expected = NULL;
  int number = 0;
  while (!expected && fgets(line, sizeof line, file)) {
    number++;
    if (!strchr(line, '\n') && !feof(file)) expected = "lines of less than 500 characters";
    line[strcspn(line, "#\n")] = 0;
    if (expected || line[strspn(line, " \t\r")] == 0) continue;
    attend_problem p = ATTEND_PROBLEM_INIT;
    expected = read_line(line, &p);
    attend_problem *grown = expected ? NULL : realloc(shapes->problem, (shapes->count + 1) * sizeof p);
    if (!expected && !grown) expected = "memory for one more shape";
    if (!grown) continue;
    shapes->problem = grown;
    grown[shapes->count++] = p;
  }
  if (expected)
    snprintf(why, why_size, "line %d: expected %s", number, expected);
  else if (ferror(file))
    snprintf(why, why_size, "%s", strerror(errno));
  else if (shapes->count == 0)
    snprintf(why, why_size, "expected a shape in it, as f32 1 32/8 2048x2048 128/128 causal");
  const bool ok = !expected && !ferror(file) && shapes->count > 0;
  fclose(file);
  if (!ok) attend_tune_shapes_free(shapes);
  return ok;
}

void attend_tune_shapes_free(attend_tune_shapes *shapes) {
  free(shapes->problem);
  *shapes = (attend_tune_shapes){0};
}
