/* SPDX-License-Identifier: Apache-2.0 */
/** Appending to a cache: checks, and which rows go where. Kernels convert them. */
#include <inttypes.h>

#include "dispatch/plan/sequences.h"
#include "kernels/integers.h"

/* Fields that 0.2 has. */
#define PROBLEM_FIRST_SIZE (offsetof(attend_append_problem, scaling) + sizeof(attend_scaling))
#define TENSORS_FIRST_SIZE (offsetof(attend_append_tensors, zero_points) + sizeof(void *))

typedef struct append_run {
  attend_append_problem p;
  attend_append_tensors t;
  const attend_kernel *kernel;
  bool scales_given; /**< they are read, and not written */
} append_run;

/* ---------------------------------------------------------------------------------------------------------- checks */

static attend_status check_ranges(const attend_append_problem *p) {
  const attend_range ranges[] = {
      {"batch", p->batch, 0, ATTEND_MAX_EXTENT},
      {"heads", p->heads, 0, ATTEND_MAX_EXTENT},
      {"rows", p->rows, 0, ATTEND_MAX_EXTENT},
      {"dim", p->dim, 0, ATTEND_MAX_EXTENT},
      {"cache_len", p->cache_len, 0, ATTEND_MAX_EXTENT},
      {"x_total", p->x_total, 0, ATTEND_MAX_EXTENT},
      {"page_rows", p->page_rows, 0, ATTEND_MAX_EXTENT},
      {"pages", p->pages, 0, ATTEND_MAX_EXTENT},
      {"block_table_stride", p->block_table_stride, 0, ATTEND_MAX_EXTENT},
      {"x_dtype", p->x_dtype, ATTEND_DTYPE_DEFAULT, ATTEND_BF16},
      {"cache_dtype", p->cache_dtype, ATTEND_DTYPE_DEFAULT, ATTEND_DTYPE_COUNT - 1},
      {"x_starts", p->x_starts, 0, 1},
      {"num_threads", p->num_threads, 0, ATTEND_MOST_THREADS},
  };
  return attend_check_ranges(ranges, sizeof ranges / sizeof *ranges);
}

static bool is_empty(const attend_append_problem *p) {
  return p->batch == 0 || p->heads == 0 || p->rows == 0 || p->dim == 0;
}

/** Checks a problem and fills in every default. */
static attend_status resolve(const attend_append_problem *problem, append_run *run) {
  attend_append_problem *p = &run->p;
  attend_status s = attend_read_versioned(p, sizeof *p, PROBLEM_FIRST_SIZE, problem, "attend_append_problem");
  if (s != ATTEND_OK || (s = check_ranges(p)) != ATTEND_OK) return s;
  if (p->x_dtype == ATTEND_DTYPE_DEFAULT) p->x_dtype = ATTEND_F32;
  if (p->cache_dtype == ATTEND_DTYPE_DEFAULT) p->cache_dtype = p->x_dtype;
  if (p->x_starts && p->x_total > p->batch * p->rows) /* extents are below 2^31 */
    return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT,
                       "x_total is %" PRId64 ", expected at most batch times rows, which is %" PRId64, p->x_total,
                       p->batch * p->rows);
  if (!p->page_rows)
    p->block_table_stride = 0;
  else if ((s = attend_resolve_table_stride("cache_len", p->cache_len, p->page_rows, &p->block_table_stride)) !=
           ATTEND_OK)
    return s;
  const int64_t x[4] = {p->x_starts ? 1 : p->batch, p->heads, p->x_starts ? p->x_total : p->rows, p->dim};
  const int64_t cache[4] = {p->page_rows ? p->pages : p->batch, p->heads, p->page_rows ? p->page_rows : p->cache_len,
                            attend_row_extent(p->cache_dtype, p->dim)};
  run->scales_given = p->scaling.row == 0; /* before strides that are not stepped along become 0, too */
  s = attend_resolve_scaling("scaling", p->cache_dtype, p->dim, cache, !run->scales_given, &p->scaling);
  if (s != ATTEND_OK) return s;
  s = attend_resolve_strides("x", x, attend_dtype_size(p->x_dtype), false, false, &p->x_strides);
  if (s != ATTEND_OK) return s;
  return attend_resolve_strides("cache", cache, attend_dtype_size(p->cache_dtype), false, true, &p->cache_strides);
}

static int64_t new_rows(const append_run *run, int64_t b) {
  return run->p.x_starts ? run->t.x_starts[b + 1] - run->t.x_starts[b] : run->p.rows;
}

/** Rows must go where there is room, and into pages that there are. */
static attend_status check_places(const append_run *run) {
  const attend_append_problem *p = &run->p;
  for (int64_t b = 0; b < p->batch; b++) {
    const int64_t rows = new_rows(run, b), first = run->t.positions[b];
    if (first < 0 || first > p->cache_len - rows)
      return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT,
                         "positions[%" PRId64 "] is %" PRId64 ", expected 0 to %" PRId64 ": cache_len is %" PRId64
                         " and the sequence has %" PRId64 " new rows",
                         b, first, p->cache_len - rows, p->cache_len, rows);
    if (!p->page_rows || rows == 0) continue;
    const int32_t *table = run->t.block_table + b * p->block_table_stride;
    for (int64_t n = first / p->page_rows; n <= (first + rows - 1) / p->page_rows; n++)
      if (table[n] < 0 || table[n] >= p->pages)
        return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT,
                           "block_table[%" PRId64 ", %" PRId64 "] is %" PRId32 ", expected 0 to pages - 1, which is "
                           "%" PRId64 ": rows %" PRId64 " to %" PRId64 " are appended",
                           b, n, table[n], p->pages - 1, first, first + rows - 1);
  }
  return ATTEND_OK;
}

static attend_status check_tensors(append_run *run, const attend_append_tensors *tensors) {
  const attend_append_problem *p = &run->p;
  attend_append_tensors *t = &run->t;
  attend_status s = attend_read_versioned(t, sizeof *t, TENSORS_FIRST_SIZE, tensors, "attend_append_tensors");
  if (s != ATTEND_OK || is_empty(p)) return s;
  if (!p->x_starts) t->x_starts = NULL;
  if (!p->page_rows) t->block_table = NULL;
  if (!p->scaling.dtype) t->scales = NULL;
  if (!p->scaling.zero_points) t->zero_points = NULL;
  const bool room = p->cache_len > 0 && (!p->page_rows || p->pages > 0);
  const attend_address addresses[] = {
      {"x", t->x, !p->x_starts || p->x_total > 0, attend_dtype_size(p->x_dtype)},
      {"cache", t->cache, room, attend_dtype_size(p->cache_dtype)},
      {"scales", t->scales, room && p->scaling.dtype, p->scaling.dtype ? attend_dtype_size(p->scaling.dtype) : 1},
      {"zero_points", t->zero_points, room && p->scaling.zero_points,
       p->scaling.dtype ? attend_dtype_size(p->scaling.dtype) : 1},
      {"positions", t->positions, true, sizeof(int32_t)},
      {"x_starts", t->x_starts, p->x_starts, sizeof(int32_t)},
      {"block_table", t->block_table, p->page_rows && p->cache_len > 0, sizeof(int32_t)},
  };
  if ((s = attend_check_addresses(addresses, sizeof addresses / sizeof *addresses)) != ATTEND_OK) return s;
  if (p->x_starts &&
      (s = attend_check_starts("x_starts", t->x_starts, p->batch, "rows", p->rows, "x_total", p->x_total)) != ATTEND_OK)
    return s;
  return check_places(run);
}

/* ------------------------------------------------------------------------------------------------------------ rows */

/** The sequence that a row of all new rows belongs to: the last that does not begin after it. */
static int64_t sequence_of(const append_run *run, int64_t row) {
  if (!run->p.x_starts) return row / run->p.rows;
  int64_t low = 0, high = run->p.batch;
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    if (run->t.x_starts[middle] <= row)
      low = middle;
    else
      high = middle;
  }
  return low;
}

/** The cache of the first head of a sequence. */
static attend_rows cache_of(const append_run *run, int64_t b) {
  const attend_append_problem *p = &run->p;
  const int64_t size = (int64_t)attend_dtype_size(p->cache_dtype);
  attend_rows rows = {.at = run->t.cache, .stride = p->cache_strides.row * size, .dtype = p->cache_dtype};
  rows.scales = attend_scales_from(&p->scaling, run->t.scales, run->t.zero_points,
                                   p->page_rows ? 0 : b * p->scaling.batch, p->page_rows > 0);
  if (p->page_rows) {
    rows.page_rows = (int32_t)p->page_rows;
    rows.page_stride = p->cache_strides.batch * size;
    rows.pages = run->t.block_table + b * p->block_table_stride;
  } else {
    rows.at += b * p->cache_strides.batch * size;
  }
  return rows;
}

/** Where heads lie side by side on both sides, or rows do, they are one long row. */
static void join_rows(attend_row_copy *c) {
  const attend_dtype from = c->from_dtype, to = c->to_dtype;
  if (attend_formats[to].kind == ATTEND_SCALED) return;
  if (c->from_head == attend_row_size(from, c->dim) && c->to_head == attend_row_size(to, c->dim))
    c->dim *= c->heads, c->heads = 1;
  if (c->from_row == attend_row_size(from, c->dim) && c->to_row == attend_row_size(to, c->dim))
    c->dim *= c->rows, c->rows = 1;
}

/** Rows begin to end of all new rows, counted from sequence to sequence. */
static void append_rows(const void *argument, int64_t begin, int64_t end) {
  const append_run *run = argument;
  const attend_append_problem *p = &run->p;
  const int64_t size = (int64_t)attend_dtype_size(p->x_dtype), cache_size = (int64_t)attend_dtype_size(p->cache_dtype);
  const int64_t scale = p->scaling.dtype ? (int64_t)attend_dtype_size(p->scaling.dtype) : 0;
  while (begin < end) {
    const int64_t b = sequence_of(run, begin), first = p->x_starts ? run->t.x_starts[b] : b * p->rows;
    const attend_rows cache = cache_of(run, b);
    int64_t row = run->t.positions[b] + (begin - first);
    const int64_t last = row + min_i64(end, first + new_rows(run, b)) - begin;
    const int64_t batch = p->x_starts ? 0 : b * p->x_strides.batch, in_batch = p->x_starts ? begin : begin - first;
    const char *from = (const char *)run->t.x + (batch + in_batch * p->x_strides.row) * size;
    begin += last - row;
    while (row < last) {
      const int64_t count = min_i64(attend_rows_together(&cache, row), last - row);
      attend_row_copy copy = {.from = from,
                              .to = (char *)attend_row(&cache, row),
                              .from_head = p->x_strides.head * size,
                              .from_row = p->x_strides.row * size,
                              .to_head = p->cache_strides.head * cache_size,
                              .to_row = cache.stride,
                              .from_dtype = p->x_dtype,
                              .to_dtype = p->cache_dtype,
                              .heads = p->heads,
                              .rows = count,
                              .dim = p->dim,
                              .scales = cache.scales,
                              .scales_head = p->scaling.head * scale,
                              .scales_given = run->scales_given};
      if (copy.scales.at) {
        const int64_t at = attend_row_scales_at(&cache, row);
        copy.scales.at += at;
        if (copy.scales.zeros) copy.scales.zeros += at;
      }
      join_rows(&copy);
      run->kernel->append(&copy);
      from += count * copy.from_row;
      row += count;
    }
  }
}

attend_status attend_append_by(const attend_kernel *kernel, const attend_append_problem *problem,
                               const attend_append_tensors *tensors) {
  append_run run = {.kernel = kernel};
  attend_env env;
  attend_status s = resolve(problem, &run);
  if (s != ATTEND_OK || (s = check_tensors(&run, tensors)) != ATTEND_OK || (s = attend_env_read(&env)) != ATTEND_OK)
    return s;
  if (is_empty(&run.p)) return ATTEND_OK;
  if (!kernel) run.kernel = attend_kernel_widest(ATTEND_OP_APPEND, env.isa);
  const int64_t rows = run.p.x_starts ? run.t.x_starts[run.p.batch] : run.p.batch * run.p.rows;
  attend_share_rows(rows, (double)rows * (double)run.p.heads * (double)run.p.dim, run.p.num_threads, &env, append_rows,
                    &run);
  return ATTEND_OK;
}

attend_status attend_append(const attend_append_problem *problem, const attend_append_tensors *tensors) {
  return attend_append_by(NULL, problem, tensors);
}
