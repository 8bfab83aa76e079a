/* SPDX-License-Identifier: Apache-2.0 */
/* Where the sequences of a batch lie in the files of `attend run`, how long they are and where they stand. */
#include <inttypes.h>
#include <stdio.h>

#include "cli/input.h"
#include "cli/options.h"
#include "kernels/integers.h"

int64_t attend_input_extent(const attend_npy *array, int axis) {
  int at = axis - (4 - array->rank);
  return at < 0 ? 1 : array->shape[at];
}

/* ---------------------------------------------------------------------------------------------------------- starts */

static bool fail_start(const attend_source *s, int64_t b, int64_t expected, const char *what) {
  const int32_t *starts = s->array->data;
  attend_cli_error("--%s %s: element %" PRId64 " is %" PRId32 ", expected %" PRId64 "%s", s->option, s->path, b,
                   starts[b], expected, what);
  return false;
}

/*
 * Starts rise from 0 to the number of rows that the tensors of --`of` have: a file of starts that leaves rows out is
 * most likely not the one that belongs to it. Where *batch is -1 they say how many sequences there are. *longest
 * becomes the most rows of one.
 */
static bool read_starts(const attend_source *s, int64_t rows, const char *of, int64_t *batch, int64_t *longest) {
  char what[96];
  const attend_npy *a = s->array;
  if (a->rank != 1 || a->shape[0] == 0 || (*batch >= 0 && a->shape[0] - 1 != *batch)) {
    snprintf(what, sizeof what, "(%" PRId64 ",), one more than there are sequences", *batch + 1);
    return attend_source_fail_shape(s, *batch < 0 ? "(B + 1,), one more than there are sequences" : what);
  }
  *batch = a->shape[0] - 1;
  snprintf(what, sizeof what, ", the rows of --%s", of);
  if (!attend_source_bounds(s, 0, min_i64(rows, INT32_MAX), what)) return false;
  const int32_t *starts = a->data;
  if (starts[0] != 0) return fail_start(s, 0, 0, ", where the first sequence begins");
  *longest = 0;
  for (int64_t b = 0; b < *batch; b++) {
    const int32_t length = starts[b + 1] - starts[b];
    if (length < 0) return fail_start(s, b + 1, starts[b], " or more: starts do not fall");
    if (length > *longest) *longest = length;
  }
  return starts[*batch] == rows || fail_start(s, *batch, rows, what);
}

/* ---------------------------------------------------------------------------------------------------------- shapes */

static bool take_queries(const attend_source *q, const attend_source *starts, attend_problem *p) {
  const attend_npy *a = q->array;
  if (a->rank < 2 || a->rank > 4) return attend_source_fail_shape(q, "(B, Hq, Lq, D), (H, L, D) or (L, D)");
  p->batch = attend_input_extent(a, 0);
  p->q_heads = attend_input_extent(a, 1);
  p->q_len = attend_input_extent(a, 2);
  p->head_dim = attend_input_extent(a, 3);
  if (p->head_dim == 0) return attend_source_fail_shape(q, "a last dimension of at least 1");
  if (!starts->path) return true;
  if (p->batch != 1) return attend_source_fail_shape(q, "(1, Hq, rows of all, D), as there is --q-starts");
  p->q_starts = 1;
  p->q_total = p->q_len;
  p->batch = -1;
  return read_starts(starts, p->q_total, "q", &p->batch, &p->q_len);
}

/* How k or v must look: what is not known yet is -1. */
typedef struct form {
  int rank;
  const char *names[4];
  int64_t batch, heads, rows;
} form;

static form form_of(const attend_source *q, const attend_source *k, const attend_problem *p) {
  if (p->page_rows) return (form){4, {"pages", "Hkv", "rows of a page", "Dv"}, -1, -1, -1};
  form f = {q->array->rank, {"B", "Hkv", "Lk", "Dv"}, p->batch, -1, -1};
  const int rank = k->array->rank;
  /* Packed tensors have no batch: there is none to have in common. */
  if (p->kv_starts) f.batch = 1, f.names[2] = "rows of all";
  if (p->kv_starts || p->q_starts) f.rank = rank >= 2 && rank < 4 && f.batch == 1 ? rank : 4;
  return f;
}

static bool take_pages(const attend_source *table, const attend_npy *k, attend_problem *p) {
  char expected[160];
  const attend_npy *a = table->array;
  p->page_rows = attend_input_extent(k, 2);
  p->pages = attend_input_extent(k, 0);
  p->block_table_stride = a->rank == 2 ? a->shape[1] : 0;
  snprintf(expected, sizeof expected, "(%" PRId64 ", pages): a row for each sequence", p->batch);
  if (a->rank != 2 || a->shape[0] != p->batch) return attend_source_fail_shape(table, expected);
  if (__builtin_mul_overflow(p->page_rows, a->shape[1], &p->kv_len) || p->kv_len > ATTEND_MAX_EXTENT) {
    snprintf(expected, sizeof expected, "at most %d keys of a sequence: pages of %" PRId64 " rows", ATTEND_MAX_EXTENT,
             p->page_rows);
    return attend_source_fail_shape(table, expected);
  }
  return attend_source_bounds(table, INT32_MIN, INT32_MAX, "");
}

static bool take_keys(const attend_source *q, const attend_source *k, const attend_source *v,
                      const attend_source *starts, const attend_source *table, attend_problem *p) {
  p->kv_starts = starts->path != NULL;
  p->page_rows = table->path != NULL; /* until the shape says how many */
  form f = form_of(q, k, p);
  if (!attend_source_fits(k, f.rank, (const int64_t[]){f.batch, f.heads, f.rows, p->head_dim}, f.names)) return false;
  f.batch = attend_input_extent(k->array, 0);
  f.heads = p->kv_heads = attend_input_extent(k->array, 1);
  f.rows = p->kv_len = attend_input_extent(k->array, 2);
  if (p->kv_heads == 0 ? p->q_heads != 0 : p->q_heads % p->kv_heads != 0)
    return attend_source_fail_shape(k, "a number of heads that divides that of --q");
  if (p->page_rows && f.rows == 0) return attend_source_fail_shape(k, "pages of at least one row");
  if (!attend_source_fits(v, f.rank, (const int64_t[]){f.batch, f.heads, f.rows, -1}, f.names)) return false;
  p->v_head_dim = attend_input_extent(v->array, 3);
  if (p->v_head_dim == 0) return attend_source_fail_shape(v, "a last dimension of at least 1");
  if (p->kv_starts) {
    p->kv_total = f.rows;
    return read_starts(starts, p->kv_total, "k", &p->batch, &p->kv_len);
  }
  return !p->page_rows || take_pages(table, k->array, p);
}

bool attend_input_shapes(const attend_input_files *files, attend_input *input, attend_problem *p) {
  attend_source source[INPUTS];
  for (int i = 0; i < INPUTS; i++) source[i] = attend_input_source(files, input, (attend_input_id)i);
  const attend_input_id whole[] = {INPUT_Q_STARTS, INPUT_KV_STARTS, INPUT_BLOCK_TABLE};
  for (size_t i = 0; i < sizeof whole / sizeof *whole; i++)
    if (files->path[whole[i]] && !attend_source_integers(&source[whole[i]])) return false;
  return take_queries(&source[INPUT_Q], &source[INPUT_Q_STARTS], p) &&
         take_keys(&source[INPUT_Q], &source[INPUT_K], &source[INPUT_V], &source[INPUT_KV_STARTS],
                   &source[INPUT_BLOCK_TABLE], p);
}

/* -------------------------------------------------------------------------------------------- lengths and positions */

/* The shape that numbers for each query have. */
static void query_rows(const attend_problem *p, int64_t rows[2]) {
  rows[0] = p->q_starts ? 1 : p->batch;
  rows[1] = p->q_starts ? p->q_total : p->q_len;
}

static bool read_lengths(const attend_source *s, const attend_input *input, attend_problem *p) {
  int64_t rows[2];
  query_rows(p, rows);
  if (!attend_source_lengths(s, p->batch, rows, p->kv_len, &p->kv_lengths)) return false;
  const int32_t *lengths = s->array->data, *starts = input->array[INPUT_KV_STARTS].data;
  for (int64_t b = 0; p->kv_starts && p->kv_lengths == ATTEND_LENGTHS_PER_BATCH && b < p->batch; b++)
    if (lengths[b] > starts[b + 1] - starts[b]) {
      attend_cli_error("--%s %s: element %" PRId64 " is %" PRId32 ", expected 0 to %" PRId32
                       ", the rows that --kv-starts gives sequence %" PRId64,
                       s->option, s->path, b, lengths[b], starts[b + 1] - starts[b], b);
      return false;
    }
  return true;
}

static bool read_per_sequence(const attend_source *s, int64_t batch, int64_t low) {
  return attend_source_integers(s) && attend_source_fits_vector(s, batch) &&
         attend_source_bounds(s, low, INT32_MAX, "");
}

static bool read_ranges(const attend_source *s, const attend_problem *p) {
  const attend_npy *a = s->array;
  int64_t rows[2];
  query_rows(p, rows);
  const int64_t all = rows[0] * rows[1]; /* q has as many rows in each head, so this is no more than its elements */
  if (!attend_source_integers(s)) return false;
  const bool flat = a->rank == 2 && a->shape[0] == all && a->shape[1] == 2;
  if (!flat && (a->rank != 3 || a->shape[0] != rows[0] || a->shape[1] != rows[1] || a->shape[2] != 2)) {
    char expected[128];
    snprintf(expected, sizeof expected, "(%" PRId64 ", %" PRId64 ", 2) or (%" PRId64 ", 2): begin and end by query",
             rows[0], rows[1], all);
    return attend_source_fail_shape(s, expected);
  }
  return attend_source_bounds(s, INT32_MIN, INT32_MAX, "");
}

/* Every page that holds keys of a sequence must be there. */
static bool check_table(const attend_source *s, const attend_input *input, const attend_problem *p) {
  const bool own = p->kv_lengths == ATTEND_LENGTHS_PER_BATCH;
  const int32_t *table = s->array->data, *lengths = input->array[INPUT_KV_LENGTHS].data;
  for (int64_t b = 0; b < p->batch; b++) {
    const int64_t keys = own ? lengths[b] : p->kv_len;
    for (int64_t n = 0; n * p->page_rows < keys; n++) {
      const int32_t page = table[b * p->block_table_stride + n];
      if (page >= 0 && page < p->pages) continue;
      attend_cli_error("--%s %s: element (%" PRId64 ", %" PRId64 ") is %" PRId32 ", expected 0 to %" PRId64
                       ", the pages of --k: sequence %" PRId64 " has %" PRId64 " keys%s",
                       s->option, s->path, b, n, page, p->pages - 1, b, keys,
                       own ? "" : "; --kv-lengths (B) says how many it has of its own");
      return false;
    }
  }
  return true;
}

bool attend_input_sequences(const attend_input_files *files, attend_input *input, attend_problem *p) {
  attend_source source[INPUTS];
  for (int i = 0; i < INPUTS; i++) source[i] = attend_input_source(files, input, (attend_input_id)i);
  p->positions = files->path[INPUT_POSITIONS] != NULL;
  p->kv_begins = files->path[INPUT_KV_BEGINS] != NULL;
  p->key_ranges = files->path[INPUT_KEY_RANGES] != NULL;
  if (files->path[INPUT_KV_LENGTHS] && !read_lengths(&source[INPUT_KV_LENGTHS], input, p)) return false;
  if (p->positions && !read_per_sequence(&source[INPUT_POSITIONS], p->batch, INT32_MIN)) return false;
  if (p->kv_begins && !read_per_sequence(&source[INPUT_KV_BEGINS], p->batch, 0)) return false;
  if (p->key_ranges && !read_ranges(&source[INPUT_KEY_RANGES], p)) return false;
  return !p->page_rows || check_table(&source[INPUT_BLOCK_TABLE], input, p);
}
