/* SPDX-License-Identifier: Apache-2.0 */
/** Spreads a case of attend_verify over ranks, and puts results together again, by rules of its own. */
#include <stdlib.h>
#include <string.h>

#include "grid.h"
#include "verify/reference.h"

static void *keep(held *h, size_t count, size_t size) {
  void *memory = malloc(count * size + 64);
  if (memory) memset(memory, 0xff, count * size + 64); /* NaN, or a page that does not exist */
  h->memory[h->memories++] = memory;
  return memory;
}

void held_free(held *h) {
  for (int i = 0; i < h->memories; i++) free(h->memory[i]);
  free(h->q_count);
  free(h->k_count);
  *h = (held){.memories = 0};
}

static int64_t below(uint64_t key, int64_t index, int64_t bound) {
  return bound > 0 ? (int64_t)(hash(key, index) % (uint64_t)bound) : 0;
}

/** Shares of `total` rows: even ones, all on one rank, or any. Zigzag needs halves that the rank's count decides. */
static void spread(int64_t total, int ranks, uint64_t key, int64_t *counts, int64_t step) {
  const int64_t kind = below(key, 0, 4);
  int64_t left = total;
  for (int r = 0; r < ranks; r++) {
    int64_t share = kind == 0   ? (r == below(key, 1, ranks) ? total : 0)
                    : kind == 1 ? below(key, 2 + r, left + 1)
                                : total * (r + 1) / ranks - total * r / ranks;
    if (share > left || (kind == 1 && r == ranks - 1)) share = left;
    counts[r * step] = share;
    left -= share;
  }
}

int64_t held_rows(const held *h, const way *w, const int64_t *counts, int64_t batch, int64_t b, int rank, int ranks,
                  int32_t *rows) {
  (void)h;
  int32_t row = 0;
  int64_t found = 0;
  const int64_t *count = counts + b;
  for (int turn = 0; turn < (w->order == ATTEND_MPI_ZIGZAG ? 2 : 1); turn++)
    for (int i = 0; i < ranks; i++) {
      const int r = turn == 0 ? i : ranks - 1 - i;
      const int64_t all = count[r * batch], first = (all + 1) / 2;
      const int64_t part = w->order != ATTEND_MPI_ZIGZAG ? all : turn == 0 ? first : all - first;
      for (int64_t n = 0; n < part; n++, row++)
        if (r == rank) rows[found++] = row;
    }
  return found;
}

/* Copies bytes of an element. */
static void put(void *to, int64_t to_index, const void *from, int64_t from_index, size_t size) {
  memcpy((char *)to + to_index * (int64_t)size, (const char *)from + from_index * (int64_t)size, size);
}

static int64_t index4(const attend_problem *p, const attend_tensors *t, const attend_strides4 *s, int64_t b, int64_t h,
                      int64_t i, int64_t j) {
  return b * s->batch + h * s->head + (p->q_starts ? t->q_starts[b] + i : i) * s->query + j * s->key;
}

/* ------------------------------------------------------------------------------------------------------------- keys */

enum { KEYS_PADDED, KEYS_PACKED, KEYS_PAGED };

/** This rank's keys and values: in one piece with room to spare, packed, or in pages. */
static bool hold_keys(held *h, const attend_verify_data *data, const way *w, int rank, int ranks, uint64_t key) {
  const attend_problem *g = &data->problem;
  const attend_tensors *gt = &data->tensors;
  attend_problem *p = &h->problem;
  int64_t most = 0, total = 0, kind = below(key, 100, 3);
  if (g->kv_lengths == ATTEND_LENGTHS_PER_QUERY) kind = KEYS_PACKED;
  for (int64_t b = 0; b < g->batch; b++) {
    const int64_t n = h->k_count[rank * g->batch + b];
    most = n > most ? n : most, total += n;
  }
  const int64_t room = most + below(key, 101, 3), page = 1 + below(key, 102, 17), entries = (room + page - 1) / page;
  p->kv_starts = kind == KEYS_PACKED, p->kv_len = room, p->kv_total = 0;
  p->page_rows = p->pages = p->block_table_stride = 0;
  if (g->kv_lengths != ATTEND_LENGTHS_PER_QUERY)
    p->kv_lengths = kind == KEYS_PACKED ? ATTEND_LENGTHS_NONE : ATTEND_LENGTHS_PER_BATCH;
  if (kind == KEYS_PACKED)
    p->kv_total = total + below(key, 103, 2) < g->batch * room ? total + below(key, 103, 2) : total;
  if (kind == KEYS_PAGED) p->page_rows = page, p->pages = entries * g->batch + 1;
  const int64_t rows = kind == KEYS_PACKED ? p->kv_total : kind == KEYS_PAGED ? page : room;
  const int64_t lots = kind == KEYS_PACKED ? 1 : kind == KEYS_PAGED ? p->pages : g->batch;
  p->k_strides = attend_verify_contiguous(g->kv_heads, rows, g->head_dim);
  p->v_strides = attend_verify_contiguous(g->kv_heads, rows, g->v_head_dim);
  const size_t k_size = attend_verify_dtype_size(g->k_dtype), v_size = attend_verify_dtype_size(g->v_dtype);
  char *k = keep(h, (size_t)(lots * g->kv_heads * rows * g->head_dim), k_size);
  char *v = keep(h, (size_t)(lots * g->kv_heads * rows * g->v_head_dim), v_size);
  int32_t *lengths = keep(h, (size_t)g->batch + 1, sizeof *lengths), *table = keep(h, (size_t)(g->batch * entries), 4);
  int32_t *numbers = keep(h, (size_t)g->kv_len + 1, sizeof *numbers);
  if (!k || !v || !lengths || !table || !numbers) return false;
  int32_t start = 0;
  for (int64_t b = 0; b < g->batch; b++) {
    const int64_t n = held_rows(h, w, h->k_count, g->batch, b, rank, ranks, numbers);
    for (int64_t e = 0; e < (n + page - 1) / page; e++)
      table[b * entries + e] = (int32_t)(p->pages - 1 - b * entries - e);
    for (int64_t j = 0; j < n; j++)
      for (int64_t kh = 0; kh < g->kv_heads; kh++) {
        const int64_t row = kind == KEYS_PACKED ? start + j : kind == KEYS_PAGED ? j % page : j;
        const int64_t lot = kind == KEYS_PACKED ? 0 : kind == KEYS_PAGED ? table[b * entries + j / page] : b;
        const int64_t from_k = attend_reference_key_at(g, gt, &g->k_strides, b, kh, numbers[j]);
        const int64_t from_v = attend_reference_key_at(g, gt, &g->v_strides, b, kh, numbers[j]);
        const int64_t to_k = lot * p->k_strides.batch + kh * p->k_strides.head + row * p->k_strides.row;
        const int64_t to_v = lot * p->v_strides.batch + kh * p->v_strides.head + row * p->v_strides.row;
        for (int64_t d = 0; d < g->head_dim; d++) put(k, to_k + d, gt->k, from_k + d, k_size);
        for (int64_t d = 0; d < g->v_head_dim; d++) put(v, to_v + d, gt->v, from_v + d, v_size);
      }
    lengths[b] = kind == KEYS_PACKED ? start : (int32_t)n;
    start += (int32_t)n;
  }
  lengths[g->batch] = start;
  h->tensors.k = k, h->tensors.v = v, h->tensors.block_table = kind == KEYS_PAGED ? table : NULL;
  if (kind == KEYS_PACKED)
    h->tensors.kv_starts = lengths;
  else
    h->tensors.kv_lengths = lengths;
  return true;
}

/* ---------------------------------------------------------------------------------------------------------- queries */

/** This rank's queries, packed, and what there is for each of them. */
static bool hold_queries(held *h, const attend_verify_data *data, const way *w, int rank, int ranks, uint64_t key) {
  const attend_problem *g = &data->problem;
  const attend_tensors *gt = &data->tensors;
  attend_problem *p = &h->problem;
  int64_t total = 0, most = 0;
  for (int64_t b = 0; b < g->batch; b++) {
    const int64_t n = h->q_count[rank * g->batch + b];
    most = n > most ? n : most, total += n;
  }
  p->q_starts = 1, p->q_len = most + below(key, 200, 2);
  p->q_total = total + below(key, 201, 3) < p->q_len * g->batch ? total + below(key, 201, 3) : total;
  const size_t q_size = attend_verify_dtype_size(g->q_dtype), rows = (size_t)p->q_total;
  const size_t bias_size = g->bias_dtype ? attend_verify_dtype_size(g->bias_dtype) : 0;
  p->q_strides = attend_verify_contiguous(g->q_heads, p->q_total, g->head_dim);
  p->out_strides = attend_verify_contiguous(g->q_heads, p->q_total, g->v_head_dim);
  p->mask_strides = p->bias_strides = (attend_strides4){0, p->q_total * g->kv_len, g->kv_len, 1};
  const size_t pairs = (size_t)g->q_heads * rows * (size_t)g->kv_len;
  char *q = keep(h, (size_t)g->q_heads * rows * (size_t)g->head_dim, q_size);
  int32_t *starts = keep(h, (size_t)g->batch + 1, 4), *lengths = keep(h, rows, 4), *ranges = keep(h, rows, 8);
  int32_t *numbers = keep(h, (size_t)g->q_len + 1, sizeof *numbers);
  uint8_t *mask = keep(h, g->mask ? pairs : 0, 1);
  char *bias = keep(h, g->bias_dtype ? pairs : 0, bias_size);
  h->tensors.out = keep(h, (size_t)g->q_heads * rows * (size_t)g->v_head_dim, attend_verify_dtype_size(g->out_dtype));
  h->tensors.lse = keep(h, (size_t)g->q_heads * rows, sizeof(float));
  if (!q || !starts || !lengths || !ranges || !numbers || !mask || !bias || !h->tensors.out || !h->tensors.lse)
    return false;
  int32_t row = 0;
  for (int64_t b = 0; b < g->batch; b++) {
    const int64_t n = held_rows(h, w, h->q_count, g->batch, b, rank, ranks, numbers);
    starts[b] = row;
    for (int64_t i = 0; i < n; i++, row++) {
      const int64_t number = g->q_starts ? gt->q_starts[b] + numbers[i] : b * g->q_len + numbers[i];
      if (g->kv_lengths == ATTEND_LENGTHS_PER_QUERY) lengths[row] = gt->kv_lengths[number];
      if (g->key_ranges) memcpy(ranges + 2 * row, gt->key_ranges + 2 * number, 8);
      for (int64_t hq = 0; hq < g->q_heads; hq++) {
        const int64_t from = attend_reference_query_at(g, gt, &g->q_strides, b, hq, numbers[i]);
        for (int64_t d = 0; d < g->head_dim; d++)
          put(q, (hq * p->q_total + row) * g->head_dim + d, gt->q, from + d, q_size);
        for (int64_t j = 0; j < attend_reference_keys(g, gt, b); j++) {
          const int64_t to = (hq * p->q_total + row) * g->kv_len + j;
          if (g->mask) mask[to] = gt->mask[index4(g, gt, &g->mask_strides, b, hq, numbers[i], j)];
          if (g->bias_dtype) put(bias, to, gt->bias, index4(g, gt, &g->bias_strides, b, hq, numbers[i], j), bias_size);
        }
      }
    }
  }
  starts[g->batch] = row;
  h->tensors.q = q, h->tensors.q_starts = starts, h->tensors.mask = mask, h->tensors.bias = bias;
  h->tensors.key_ranges = ranges;
  if (g->kv_lengths == ATTEND_LENGTHS_PER_QUERY) h->tensors.kv_lengths = lengths;
  p->as_given &= ~(unsigned)ATTEND_AS_GIVEN_STRIDES;
  return true;
}

/* ------------------------------------------------------------------------------------------------------------ heads */

static int64_t head_begin(const attend_problem *g, int rank, int ranks) { return g->kv_heads * rank / ranks; }

/** A share of the heads, which all lie where the case has them. */
static bool hold_heads(held *h, const attend_verify_data *data, int rank, int ranks) {
  const attend_problem *g = &data->problem;
  attend_problem *p = &h->problem;
  attend_tensors *t = &h->tensors;
  const int64_t group = g->kv_heads ? g->q_heads / g->kv_heads : 0;
  const int64_t kv = head_begin(g, rank, ranks), first = kv * group;
  p->kv_heads = head_begin(g, rank + 1, ranks) - kv, p->q_heads = p->kv_heads * group;
  const char *q = t->q, *k = t->k, *v = t->v, *bias = t->bias;
  if (q) t->q = q + first * p->q_strides.head * (int64_t)attend_verify_dtype_size(p->q_dtype);
  if (k) t->k = k + kv * p->k_strides.head * (int64_t)attend_verify_dtype_size(p->k_dtype);
  if (v) t->v = v + kv * p->v_strides.head * (int64_t)attend_verify_dtype_size(p->v_dtype);
  if (t->mask) t->mask += first * p->mask_strides.head;
  if (bias) t->bias = bias + first * p->bias_strides.head * (int64_t)attend_verify_dtype_size(p->bias_dtype);
  if (t->bias_head_scale) t->bias_head_scale += first;
  if (t->alibi_slopes) t->alibi_slopes += first;
  if (t->sinks) t->sinks += first;
  if (t->score_weights) t->score_weights += first * p->head_dim;
  if (t->out) t->out = (char *)t->out + first * p->out_strides.head * (int64_t)attend_verify_dtype_size(p->out_dtype);
  const int64_t rows = p->q_starts ? p->q_total : p->batch * p->q_len;
  t->lse = keep(h, (size_t)(rows * p->q_heads), sizeof(float));
  return t->lse != NULL;
}

bool held_make(held *h, const attend_verify_data *data, const way *w, int rank, int ranks, uint64_t key) {
  const attend_problem *g = &data->problem;
  *h = (held){.problem = *g, .tensors = data->tensors};
  h->q_count = calloc((size_t)(ranks * g->batch) + 1, sizeof(int64_t));
  h->k_count = calloc((size_t)(ranks * g->batch) + 1, sizeof(int64_t));
  if (!h->q_count || !h->k_count) return false;
  for (int64_t b = 0; b < g->batch; b++) {
    spread(attend_reference_keys(g, &data->tensors, b), ranks, hash(key, 2 * b), h->k_count + b, g->batch);
    spread(attend_reference_queries(g, &data->tensors, b), ranks, hash(key, 2 * b + 1), h->q_count + b, g->batch);
  }
  if (w->layout == ATTEND_MPI_HEADS) return hold_heads(h, data, rank, ranks);
  if (!hold_keys(h, data, w, rank, ranks, hash(key, -1 - rank))) return false;
  if (w->layout == ATTEND_MPI_KEYS) { /* strides that the case spreads keys by are not those of this rank */
    if (g->kv_lengths == ATTEND_LENGTHS_PER_QUERY) h->tensors.kv_lengths = data->tensors.kv_lengths;
    return true;
  }
  return hold_queries(h, data, w, rank, ranks, hash(key, -1 - rank));
}

/* ---------------------------------------------------------------------------------------------------------- results */

static void take(const held *h, const way *w, attend_verify_data *data, int rank, int ranks, int from, const char *out,
                 const float *lse, int64_t room, int32_t *numbers) {
  const attend_problem *g = &data->problem;
  const size_t size = attend_verify_dtype_size(g->out_dtype);
  int64_t row = 0;
  (void)rank;
  for (int64_t b = 0; b < g->batch; b++) {
    const int64_t n = held_rows(h, w, h->q_count, g->batch, b, from, ranks, numbers);
    for (int64_t i = 0; i < n; i++, row++)
      for (int64_t hq = 0; hq < g->q_heads; hq++) {
        const int64_t to = attend_reference_query_at(g, &data->tensors, &g->out_strides, b, hq, numbers[i]);
        for (int64_t d = 0; d < g->v_head_dim; d++)
          put(data->tensors.out, to + d, out, (hq * room + row) * g->v_head_dim + d, size);
        data->tensors.lse[attend_reference_row(g, &data->tensors, b, hq, numbers[i])] = lse[hq * room + row];
      }
  }
}

/** Rank 0 gets what every other rank has of heads: outputs where they lie, and LSE. */
static void take_heads(attend_verify_data *data, int from, int ranks, const char *out, const float *lse) {
  const attend_problem *g = &data->problem;
  const attend_tensors *t = &data->tensors;
  const int64_t group = g->kv_heads ? g->q_heads / g->kv_heads : 0, first = head_begin(g, from, ranks) * group;
  const int64_t heads = head_begin(g, from + 1, ranks) * group - first;
  const size_t size = attend_verify_dtype_size(g->out_dtype);
  for (int64_t b = 0; b < g->batch; b++)
    for (int64_t hq = 0; hq < heads; hq++)
      for (int64_t i = 0; i < attend_reference_queries(g, t, b); i++) {
        const int64_t to = attend_reference_query_at(g, t, &g->out_strides, b, first + hq, i);
        for (int64_t d = 0; d < g->v_head_dim; d++) /* whole buffers come, which begin where rank 0's does */
          put(t->out, to + d, out,
              (int64_t)(((char *)t->out - (char *)data->buffer[ATTEND_VERIFY_OUT].data) / (int64_t)size) + to + d,
              size);
        const int64_t row = g->q_starts ? hq * g->q_total + t->q_starts[b] + i : (b * heads + hq) * g->q_len + i;
        t->lse[attend_reference_row(g, t, b, first + hq, i)] = lse[row];
      }
}

bool held_collect(const held *h, const way *w, attend_verify_data *data, int rank, int ranks) {
  const attend_problem *g = &data->problem;
  if (w->layout == ATTEND_MPI_KEYS) return true;
  const bool heads = w->layout == ATTEND_MPI_HEADS;
  const attend_problem *p = &h->problem;
  const int64_t rows = p->q_starts ? p->q_total : p->batch * p->q_len;
  int64_t out_bytes = rows * p->q_heads * p->v_head_dim * (int64_t)attend_verify_dtype_size(p->out_dtype);
  const void *out = h->tensors.out;
  if (heads) out_bytes = (int64_t)data->buffer[ATTEND_VERIFY_OUT].size, out = data->buffer[ATTEND_VERIFY_OUT].data;
  const int64_t own[3] = {out_bytes, rows * p->q_heads * 4, rows};
  bool ok = true;
  if (rank > 0) {
    MPI_Send(own, 3, MPI_INT64_T, 0, 1, MPI_COMM_WORLD);
    MPI_Send(out, (int)own[0], MPI_BYTE, 0, 2, MPI_COMM_WORLD);
    MPI_Send(h->tensors.lse, (int)own[1], MPI_BYTE, 0, 3, MPI_COMM_WORLD);
    return true;
  }
  int32_t *numbers = malloc(((size_t)g->q_len + 1) * sizeof *numbers);
  for (int r = 0; r < ranks; r++) {
    int64_t size[3] = {own[0], own[1], own[2]};
    if (r) MPI_Recv(size, 3, MPI_INT64_T, r, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    char *its_out = malloc((size_t)size[0] + 1), *its_lse = malloc((size_t)size[1] + 1);
    if (!its_out || !its_lse || !numbers) abort();
    if (r) {
      MPI_Recv(its_out, (int)size[0], MPI_BYTE, r, 2, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
      MPI_Recv(its_lse, (int)size[1], MPI_BYTE, r, 3, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    } else {
      if (size[0]) memcpy(its_out, out, (size_t)size[0]);
      if (size[1]) memcpy(its_lse, h->tensors.lse, (size_t)size[1]);
    }
    if (heads)
      take_heads(data, r, ranks, its_out, (const float *)(const void *)its_lse);
    else
      take(h, w, data, rank, ranks, r, its_out, (const float *)(const void *)its_lse, size[2], numbers);
    free(its_out);
    free(its_lse);
  }
  free(numbers);
  return ok;
}
