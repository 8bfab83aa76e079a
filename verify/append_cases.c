/* SPDX-License-Identifier: Apache-2.0 */
/* Appending to a cache: random cases, each number against kernels/convert.h, and in formats against verify/formats.c.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch/dispatch.h"
#include "kernels/integers.h"
#include "verify/append_formats.h"
#include "verify/reference.h"
#include "verify/row_case.h"

enum { X, CACHE, POSITIONS, STARTS, TABLE, SCALES, ZEROS };
enum { MOST_DIM = 128 };

typedef struct append_case {
  row_case base;
  attend_append_problem problem; /* strides filled in */
  attend_append_tensors tensors;
} append_case;

static int64_t pick(const append_case *c, int64_t which, int64_t bound) {
  return row_case_pick(&c->base, which, bound);
}

static int32_t *place_integers(append_case *c, int buffer, const char *name, int64_t count) {
  return row_case_place(&c->base, buffer, name, (int64_t[]){1, 1, 1, count}, (int64_t[]){0, 0, 0, 1}, sizeof(int32_t));
}

static int64_t first_row(const append_case *c, int64_t b) {
  return c->problem.x_starts ? c->tensors.x_starts[b] : b * c->problem.rows;
}

static int64_t new_rows(const append_case *c, int64_t b) {
  return c->problem.x_starts ? c->tensors.x_starts[b + 1] - c->tensors.x_starts[b] : c->problem.rows;
}

/* Where a row of x lies, in elements. */
static int64_t x_at(const append_case *c, int64_t b, int64_t h, int64_t i) {
  const attend_strides *s = &c->problem.x_strides;
  return c->problem.x_starts ? h * s->head + (first_row(c, b) + i) * s->row : row_case_offset(s, b, h, i);
}

/* Where a new row goes, by the strides of the cache or of its scales. */
static int64_t place_of(const append_case *c, const attend_strides *s, int64_t b, int64_t h, int64_t i) {
  const attend_append_problem *p = &c->problem;
  const int64_t row = c->tensors.positions[b] + i;
  if (!p->page_rows) return row_case_offset(s, b, h, row);
  const int64_t page = c->tensors.block_table[b * p->block_table_stride + row / p->page_rows];
  return row_case_offset(s, page, h, row % p->page_rows);
}

static attend_strides strides_of(const attend_scaling *s) { return (attend_strides){s->batch, s->head, s->row}; }

/* Whether scales are read, and not written. */
static bool scales_are_given(const append_case *c) { return c->problem.scaling.row == 0; }

/* A row of the cache; with `i` < 0 the scales that all rows of a head have. */
static attend_verify_row row_of(const append_case *c, int64_t b, int64_t h, int64_t i) {
  const attend_append_problem *p = &c->problem;
  const attend_strides scales = strides_of(&p->scaling);
  return (attend_verify_row){.tensor = c->tensors.cache,
                             .scales = p->scaling.dtype ? c->tensors.scales : NULL,
                             .zeros = p->scaling.zero_points ? c->tensors.zero_points : NULL,
                             .dtype = p->cache_dtype,
                             .scaling = &p->scaling,
                             .at = i < 0 ? 0 : place_of(c, &p->cache_strides, b, h, i),
                             .scales_at = i < 0 ? b * scales.batch + h * scales.head : place_of(c, &scales, b, h, i)};
}

static int64_t cache_extent(const attend_append_problem *p) {
  return attend_verify_is_format(p->cache_dtype) ? attend_verify_row_extent(p->cache_dtype, p->dim) : p->dim;
}

/* Room for scales and zero points, and their numbers where they are given. */
static bool place_scales(append_case *c, int64_t batch, int64_t rows) {
  attend_append_problem *p = &c->problem;
  int64_t extent[4] = {batch, p->heads, rows, p->dim};
  p->scaling = attend_verify_random_scaling(p->cache_dtype, extent, hash(c->base.key, 70));
  const attend_scaling *s = &p->scaling;
  extent[3] = attend_verify_scales(s, p->dim);
  const int64_t stride[4] = {s->batch, s->head, s->row, s->step};
  if (!s->dtype) return true;
  c->tensors.scales = row_case_place(&c->base, SCALES, "scales", extent, stride, attend_dtype_size(s->dtype));
  if (s->zero_points)
    c->tensors.zero_points =
        row_case_place(&c->base, ZEROS, "zero_points", extent, stride, attend_dtype_size(s->dtype));
  if (!c->tensors.scales || (s->zero_points && !c->tensors.zero_points)) return false;
  for (int64_t h = 0; scales_are_given(c) && h < p->heads; h++) {
    const attend_verify_row row = row_of(c, 0, h, -1);
    attend_verify_choose_scales(&row, p->dim, 1.0f, c->base.key);
  }
  return true;
}

/* A number that may be appended: half of them small, the others any bits there are; of moderate size in formats. */
static void store_number(const append_case *c, void *x, int64_t at, uint64_t random) {
  const attend_append_problem *p = &c->problem;
  const float small = (float)(random % 65536) / 32768.0f - 1.0f;
  if (attend_verify_is_format(p->cache_dtype))
    attend_verify_store(x, p->x_dtype, at, random >> 58 == 0 ? 16 * small : random >> 61 == 1 ? 0 : small);
  else if (random >> 63)
    attend_verify_store(x, p->x_dtype, at, small);
  else if (p->x_dtype == ATTEND_F32)
    ((uint32_t *)x)[at] = (uint32_t)random;
  else
    ((uint16_t *)x)[at] = (uint16_t)random;
}

/* Lengths, positions and pages. What is not read of the table is -1. */
static bool fill_places(append_case *c) {
  attend_append_problem *p = &c->problem;
  if (p->x_starts) {
    int32_t *starts = place_integers(c, STARTS, "x_starts", p->batch + 1);
    if (!starts) return false;
    starts[0] = 0;
    for (int64_t b = 0; b < p->batch; b++) starts[b + 1] = starts[b] + (int32_t)pick(c, 200 + b, p->rows + 1);
    p->x_total = min_i64(starts[p->batch] + pick(c, 20, 3), p->batch * p->rows);
    c->tensors.x_starts = starts;
  }
  int32_t *positions = place_integers(c, POSITIONS, "positions", p->batch);
  if (!positions) return false;
  c->tensors.positions = positions;
  for (int64_t b = 0; b < p->batch; b++) positions[b] = (int32_t)pick(c, 300 + b, p->cache_len - new_rows(c, b) + 1);
  if (!p->page_rows) return true;
  const int64_t entries = divide_up(p->cache_len, p->page_rows);
  p->block_table_stride = entries + pick(c, 21, 3);
  p->pages = p->batch * entries + pick(c, 22, 3);
  int32_t *table = place_integers(c, TABLE, "block_table", p->batch * p->block_table_stride);
  if (!table) return false;
  c->tensors.block_table = table;
  for (int64_t b = 0, used = 0; b < p->batch; b++)
    for (int64_t n = 0; n < entries; n++, used++) {
      const int64_t first = positions[b], last = first + new_rows(c, b) - 1;
      if (new_rows(c, b) == 0 || n < first / p->page_rows || n > last / p->page_rows) continue;
      /* a step that shares no factor with the number of pages, so that each is used once */
      int64_t step = 7;
      while (p->pages % step == 0) step += 4;
      table[b * p->block_table_stride + n] = (int32_t)(used * step % p->pages);
    }
  return true;
}

/* Numbers of every kind. Rows of no sequence stay NaN. */
static bool fill_tensors(append_case *c) {
  attend_append_problem *p = &c->problem;
  const int64_t x_batch = p->x_starts ? 1 : p->batch, x_rows = p->x_starts ? p->x_total : p->rows;
  const int64_t cache_batch = p->page_rows ? p->pages : p->batch, rows = p->page_rows ? p->page_rows : p->cache_len;
  p->x_strides = row_case_lay_out(&c->base, 30, p->heads, x_rows, p->dim);
  if (pick(c, 40, 4) == 0) p->x_strides.row = -p->x_strides.row;
  p->cache_strides = row_case_lay_out(&c->base, 50, p->heads, rows, cache_extent(p));
  const attend_strides *xs = &p->x_strides, *cs = &p->cache_strides;
  const int64_t x_extent[4] = {x_batch, p->heads, max_i64(x_rows, 1), p->dim};
  void *x = row_case_place(&c->base, X, "x", x_extent, (int64_t[]){xs->batch, xs->head, xs->row, 1},
                           attend_dtype_size(p->x_dtype));
  void *cache = row_case_place(&c->base, CACHE, "cache", (int64_t[]){cache_batch, p->heads, rows, cache_extent(p)},
                               (int64_t[]){cs->batch, cs->head, cs->row, 1}, attend_dtype_size(p->cache_dtype));
  if (!x || !cache) return false;
  c->tensors.x = x, c->tensors.cache = cache;
  if (!place_scales(c, cache_batch, rows)) return false;
  for (int64_t b = 0, n = 0; b < p->batch; b++)
    for (int64_t h = 0; h < p->heads; h++)
      for (int64_t i = 0; i < new_rows(c, b); i++)
        for (int64_t d = 0; d < p->dim; d++, n++) store_number(c, x, x_at(c, b, h, i) + d, hash(c->base.key + 1, n));
  return true;
}

static bool make(append_case *c, attend_dtype dtype) {
  static const int16_t dims[] = {1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 32, 33, 64, 65, 96, MOST_DIM};
  c->problem = (attend_append_problem)ATTEND_APPEND_PROBLEM_INIT;
  c->tensors = (attend_append_tensors)ATTEND_APPEND_TENSORS_INIT;
  attend_append_problem *p = &c->problem;
  p->batch = 1 + pick(c, 1, 4), p->heads = 1 + pick(c, 2, 3), p->rows = 1 + pick(c, 3, 9);
  p->dim = dims[pick(c, 4, sizeof dims / sizeof *dims)];
  p->cache_len = p->rows + pick(c, 5, 30);
  p->page_rows = (const int64_t[]){0, 0, 1, 4, 7, 16}[pick(c, 6, 6)];
  const bool asked = attend_verify_is_format(dtype);
  p->x_dtype = dtype && !asked ? dtype : (attend_dtype)(ATTEND_F32 + pick(c, 7, 3));
  p->cache_dtype = dtype ? dtype : (attend_dtype)(ATTEND_F32 + pick(c, 8, 3));
  if (!dtype && pick(c, 10, 3) == 0)
    p->cache_dtype = (attend_dtype)(ATTEND_F8_E4M3 + pick(c, 11, ATTEND_DTYPE_COUNT - ATTEND_F8_E4M3));
  if (attend_verify_is_format(p->cache_dtype)) p->dim = round_up(p->dim, attend_verify_block_elements(p->cache_dtype));
  p->x_starts = (int)pick(c, 9, 2);
  p->num_threads = 1;
  return fill_places(c) && fill_tensors(c);
}

static void call(void *context) {
  append_case *c = context;
  c->base.status = attend_append_by(c->base.kernel, &c->problem, &c->tensors);
}

/* The bits of an element, and whether it is a NaN. */
static uint32_t bits_of(const void *tensor, attend_dtype dtype, int64_t at, bool *nan) {
  const uint32_t bits = dtype == ATTEND_F32 ? ((const uint32_t *)tensor)[at] : ((const uint16_t *)tensor)[at];
  const uint32_t infinity = dtype == ATTEND_F32 ? 0x7f800000 : dtype == ATTEND_F16 ? 0x7c00 : 0x7f80;
  *nan = (bits & (dtype == ATTEND_F32 ? 0x7fffffff : 0x7fff)) > infinity;
  return bits;
}

static uint32_t converted(uint32_t bits, attend_dtype from, attend_dtype to) {
  const float value = from == ATTEND_F32   ? f32_from_bits(bits)
                      : from == ATTEND_F16 ? f16_to_f32((uint16_t)bits)
                                           : bf16_to_f32((uint16_t)bits);
  return to == ATTEND_F32 ? f32_to_bits(value) : to == ATTEND_F16 ? f32_to_f16(value) : f32_to_bf16(value);
}

/* A row in a format, and its scales. */
static bool check_format(append_case *c, int64_t b, int64_t h, int64_t i, attend_verify_result *result) {
  const attend_append_problem *p = &c->problem;
  const attend_verify_row row = row_of(c, b, h, i);
  float x[MOST_DIM];
  int64_t wrong;
  for (int64_t d = 0; d < p->dim; d++) x[d] = attend_reference_element(c->tensors.x, p->x_dtype, x_at(c, b, h, i) + d);
  if (!attend_verify_append_is_right(&row, p->dim, x, scales_are_given(c), &wrong)) {
    snprintf(result->message, sizeof result->message,
             "element %" PRId64 " of new row %" PRId64 " of sequence %" PRId64 ", head %" PRId64
             ", is %.9g, expected nearer to %.9g",
             wrong, i, b, h, attend_verify_row_element(&row, wrong), (double)x[wrong]);
    return false;
  }
  row_case_own(&c->base, CACHE, (const char *)c->tensors.cache + row.at, (size_t)cache_extent(p));
  const size_t size = attend_dtype_size(p->scaling.dtype);
  for (int64_t g = 0; !scales_are_given(c) && g < attend_verify_scales(&p->scaling, p->dim); g++) {
    const size_t at = (size_t)(row.scales_at + g * p->scaling.step) * size;
    row_case_own(&c->base, SCALES, (const char *)row.scales + at, size);
    if (row.zeros) row_case_own(&c->base, ZEROS, (const char *)row.zeros + at, size);
  }
  return true;
}

/* Every bit, except the payload of a NaN. */
static bool check_row(append_case *c, int64_t b, int64_t h, int64_t i, attend_verify_result *result) {
  const attend_append_problem *p = &c->problem;
  if (attend_verify_is_format(p->cache_dtype)) return check_format(c, b, h, i, result);
  const size_t size = attend_dtype_size(p->cache_dtype);
  const int64_t from = x_at(c, b, h, i), to = place_of(c, &p->cache_strides, b, h, i);
  for (int64_t d = 0; d < p->dim; d++) {
    bool nan, got_nan;
    const uint32_t x = bits_of(c->tensors.x, p->x_dtype, from + d, &nan);
    const uint32_t got = bits_of(c->tensors.cache, p->cache_dtype, to + d, &got_nan);
    const uint32_t expected = p->x_dtype == p->cache_dtype ? x : converted(x, p->x_dtype, p->cache_dtype);
    if (got == expected || (nan && got_nan && p->x_dtype != p->cache_dtype)) continue;
    snprintf(result->message, sizeof result->message,
             "element %" PRId64 " of new row %" PRId64 " of sequence %" PRId64 ", head %" PRId64 ", is %#" PRIx32
             ", expected %#" PRIx32 " from %#" PRIx32,
             d, i, b, h, got, expected, x);
    return false;
  }
  row_case_own(&c->base, CACHE, (const char *)c->tensors.cache + to * (int64_t)size, (size_t)p->dim * size);
  return true;
}

static void describe(append_case *c) {
  const attend_append_problem *p = &c->problem;
  snprintf(c->base.text, sizeof c->base.text,
           "B=%" PRId64 " H=%" PRId64 " rows=%" PRId64 " dim=%" PRId64 " cache_len=%" PRId64 " x_total=%" PRId64
           " page_rows=%" PRId64 " pages=%" PRId64 " block_table_stride=%" PRId64 " types=%s,%s x_starts=%d x={%" PRId64
           ",%" PRId64 ",%" PRId64 "} cache={%" PRId64 ",%" PRId64 ",%" PRId64 "} scaling={%s %" PRId64 " {%" PRId64
           ",%" PRId64 ",%" PRId64 ",%" PRId64 "} zero_points=%d unsigned=%d}",
           p->batch, p->heads, p->rows, p->dim, p->cache_len, p->x_total, p->page_rows, p->pages, p->block_table_stride,
           attend_dtype_name(p->x_dtype), attend_dtype_name(p->cache_dtype), p->x_starts, p->x_strides.batch,
           p->x_strides.head, p->x_strides.row, p->cache_strides.batch, p->cache_strides.head, p->cache_strides.row,
           attend_dtype_name(p->scaling.dtype), p->scaling.group, p->scaling.batch, p->scaling.head, p->scaling.row,
           p->scaling.step, p->scaling.zero_points, p->scaling.is_unsigned);
}

void attend_verify_append(const attend_kernel *kernel, uint64_t seed, attend_dtype dtype,
                          attend_verify_result *result) {
  append_case c = {.base = row_case_begin(kernel, seed)};
  bool ok = make(&c, dtype);
  result->out_dtype = c.problem.cache_dtype;
  describe(&c);
  const unsigned scales = !scales_are_given(&c) ? 1u << SCALES | 1u << ZEROS : 0;
  ok = ok && row_case_call(&c.base, 1u << CACHE | scales, call, &c, result);
  for (int64_t b = 0; ok && b < c.problem.batch; b++)
    for (int64_t h = 0; ok && h < c.problem.heads; h++)
      for (int64_t i = 0; ok && i < new_rows(&c, b); i++) ok = check_row(&c, b, h, i, result);
  for (int i = CACHE; ok && i <= ZEROS; i++)
    ok = !c.base.buffer[i].image || row_case_gaps_are_intact(&c.base, i, result);
  row_case_end(&c.base, ok, seed, dtype, result);
}
