/* SPDX-License-Identifier: Apache-2.0 */
/* Lengths, starts, positions and pages of the sequences of a case. */
#include <stdlib.h>

#include "kernels/integers.h"
#include "verify/reference.h"
#include "verify/tensors.h"

static bool place_numbers(attend_verify_data *data, int which, int64_t count, uint64_t key, int32_t **numbers) {
  void *first;
  if (!attend_verify_place_list(data, which, count, sizeof(int32_t), key, &first)) return false;
  *numbers = first;
  return true;
}

/** How many numbers per query there is room for. Packed sequences need not use all of it. */
static int64_t query_count(const attend_problem *p) { return p->q_starts ? p->q_total : p->batch * p->q_len; }

/* ---------------------------------------------------------------------------------------------------------- starts */

/**
 * Starts of sequences of up to `most` rows, `total` at most together: some have none, one often has the most there can
 * be, and often rows are left that belong to no sequence.
 */
static void fill_starts(int32_t *starts, int64_t batch, int64_t most, int64_t total, uint64_t key) {
  const int64_t longest = below(key, 0, batch);
  const bool full = below(key, 1, 3) == 0, short_of_most = below(key, 2, 4) == 0;
  if (short_of_most && most > 1) most = 1 + below(key, 3, most - 1);
  int64_t left = total, first = most < left ? most : left;
  if (below(key, 4, 3) == 0) first = below(key, 5, first + 1);
  left -= first;
  starts[0] = 0;
  for (int64_t b = 0; b < batch; b++) {
    const int64_t room = most < left ? most : left, choice = below(key, 10 + 2 * b, 8);
    int64_t length = choice == 0 ? 0 : choice == 1 ? room : choice == 2 && room ? 1 : below(key, 11 + 2 * b, room + 1);
    if (b == longest)
      length = first;
    else
      left -= length;
    starts[b + 1] = starts[b] + (int32_t)length;
  }
  /* The rest goes to whoever has room. */
  for (int64_t b = 0; full && b < batch && left > 0; b++) {
    const int64_t length = starts[b + 1] - starts[b], more = most - length < left ? most - length : left;
    for (int64_t next = b + 1; next <= batch; next++) starts[next] += (int32_t)more;
    left -= more;
  }
}

static bool fill_both_starts(attend_verify_data *data, uint64_t key) {
  const attend_problem *p = &data->problem;
  int32_t *starts;
  if (p->q_starts) {
    if (!place_numbers(data, ATTEND_VERIFY_Q_STARTS, p->batch + 1, key, &starts)) return false;
    fill_starts(starts, p->batch, p->q_len, p->q_total, key);
    data->tensors.q_starts = starts;
  }
  if (p->kv_starts) {
    if (!place_numbers(data, ATTEND_VERIFY_KV_STARTS, p->batch + 1, key, &starts)) return false;
    fill_starts(starts, p->batch, p->kv_len, p->kv_total, key + 1);
    data->tensors.kv_starts = starts;
  }
  return true;
}

/* --------------------------------------------------------------------------------------------------------- lengths */

static int32_t some_length(uint64_t key, int64_t index, int64_t most) {
  const int64_t choice = below(key, 2 * index, 8);
  return (int32_t)(choice == 0 ? 0 : choice == 1 ? most : below(key, 2 * index + 1, most + 1));
}

static bool fill_lengths(attend_verify_data *data, const attend_verify_case *c, uint64_t key) {
  const attend_problem *p = &data->problem;
  const attend_tensors *t = &data->tensors;
  const bool per_query = p->kv_lengths == ATTEND_LENGTHS_PER_QUERY;
  int32_t *lengths;
  if (!place_numbers(data, ATTEND_VERIFY_LENGTHS, per_query ? query_count(p) : p->batch, key, &lengths)) return false;
  const int64_t queries = p->q_starts ? t->q_starts[p->batch] : query_count(p);
  for (int64_t i = 0; per_query && i < queries; i++) lengths[i] = some_length(key, i, p->kv_len);
  for (int64_t b = 0; !per_query && b < p->batch; b++) {
    const int64_t room = p->kv_starts ? t->kv_starts[b + 1] - t->kv_starts[b] : p->kv_len;
    lengths[b] = c->lengths_given ? c->lengths[b] : some_length(key, b, room);
  }
  data->tensors.kv_lengths = lengths;
  return true;
}

/** Near the sequence's keys, or so far away that a causal query attends none or all of them. */
static bool fill_positions(attend_verify_data *data, uint64_t key) {
  const attend_problem *p = &data->problem;
  int32_t *positions;
  if (!place_numbers(data, ATTEND_VERIFY_POSITIONS, p->batch, key, &positions)) return false;
  for (int64_t b = 0; b < p->batch; b++) {
    const int64_t queries = attend_reference_queries(p, &data->tensors, b);
    const int64_t keys = attend_reference_keys(p, &data->tensors, b), choice = below(key, 2 * b, 10);
    positions[b] = (int32_t)(below(key, 2 * b + 1, keys + queries + 3) - queries - 1);
    if (choice == 0) positions[b] = (int32_t)(keys - queries);
    if (choice == 1) positions[b] = below(key, 2 * b + 1, 2) ? INT32_MAX : INT32_MIN;
  }
  data->tensors.positions = positions;
  return true;
}

static bool fill_begins(attend_verify_data *data, uint64_t key) {
  const attend_problem *p = &data->problem;
  int32_t *begins;
  if (!place_numbers(data, ATTEND_VERIFY_KV_BEGINS, p->batch, key, &begins)) return false;
  for (int64_t b = 0; b < p->batch; b++) {
    const int64_t keys = attend_reference_keys(p, &data->tensors, b), choice = below(key, 2 * b, 10);
    begins[b] = (int32_t)below(key, 2 * b + 1, choice < 6 ? keys / 2 + 1 : keys + 1);
    if (choice == 8) begins[b] = (int32_t)keys + (int32_t)below(key, 2 * b + 1, 3);
    if (choice == 9) begins[b] = below(key, 2 * b + 1, 2) ? INT32_MAX : 0;
  }
  data->tensors.kv_begins = begins;
  return true;
}

/** Ranges within the keys, over their ends, empty, and the other way round. */
static bool fill_ranges(attend_verify_data *data, uint64_t key) {
  const attend_problem *p = &data->problem;
  int32_t *ranges;
  if (!place_numbers(data, ATTEND_VERIFY_KEY_RANGES, 2 * query_count(p), key, &ranges)) return false;
  const int64_t queries = p->q_starts ? data->tensors.q_starts[p->batch] : query_count(p);
  /* Sometimes several queries in a row agree, as in documents packed one after the other. */
  const int64_t run = below(key, -1, 2) ? 1 : 1 + below(key, -2, 9);
  for (int64_t i = 0; i < queries; i++) {
    const int64_t at = 4 * (i / run), choice = below(key, at, 10);
    int64_t begin = below(key, at + 1, p->kv_len + 5) - 2, end = below(key, at + 2, p->kv_len + 5) - 2;
    if (begin > end && choice < 8) {
      const int64_t other = begin;
      begin = end, end = other;
    }
    if (choice == 0) begin = INT32_MIN;
    if (choice == 1) end = INT32_MAX;
    if (choice == 2) end = begin;
    ranges[2 * i] = (int32_t)begin, ranges[2 * i + 1] = (int32_t)end;
  }
  data->tensors.key_ranges = ranges;
  return true;
}

/* ----------------------------------------------------------------------------------------------------------- pages */

/** What no kernel may take for a page: it would read far outside of k and v. */
static int32_t no_page(const attend_problem *p, uint64_t key, int64_t index) {
  const int32_t choices[] = {-1, INT32_MIN, INT32_MAX, (int32_t)p->pages, INT32_MAX / 2};
  return choices[below(key, index, sizeof choices / sizeof *choices)];
}

/** Pages in shuffled order, no two the same as long as there are enough. */
static bool fill_table(attend_verify_data *data, uint64_t key) {
  const attend_problem *p = &data->problem;
  const int64_t stride = p->block_table_stride;
  int32_t *table, *order = malloc((size_t)(p->pages + 1) * sizeof *order);
  if (!order) return false;
  if (!place_numbers(data, ATTEND_VERIFY_BLOCK_TABLE, p->batch * stride, key, &table)) {
    free(order);
    return false;
  }
  for (int64_t n = 0; n < p->pages; n++) {
    const int64_t at = below(key, n, n + 1);
    order[n] = order[at];
    order[at] = (int32_t)n;
  }
  int64_t taken = 0;
  for (int64_t b = 0; b < p->batch; b++) {
    const int64_t keys = attend_reference_keys(p, &data->tensors, b), used = divide_up(keys, p->page_rows);
    for (int64_t n = 0; n < stride; n++) {
      int32_t *entry = &table[b * stride + n];
      *entry = n < used ? order[taken++ % p->pages] : no_page(p, key + 1, b * stride + n);
    }
  }
  free(order);
  data->tensors.block_table = table;
  return true;
}

bool attend_verify_fill_sequences(attend_verify_data *data, const attend_verify_case *c, uint64_t key) {
  const attend_problem *p = &data->problem;
  if (!fill_both_starts(data, hash(key, 1))) return false;
  if (p->kv_lengths && !fill_lengths(data, c, hash(key, 2))) return false;
  if (p->positions && !fill_positions(data, hash(key, 3))) return false;
  if (p->kv_begins && !fill_begins(data, hash(key, 4))) return false;
  if (p->key_ranges && !fill_ranges(data, hash(key, 5))) return false;
  return !p->page_rows || fill_table(data, hash(key, 6));
}
