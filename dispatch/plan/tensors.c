/* SPDX-License-Identifier: Apache-2.0 */
/** Checks the addresses of a run, its workspace's included. It is part of every run, so it does no more than it must.
 */
#include <inttypes.h>

#include "dispatch/plan/sequences.h"

/* Fields that 0.2 has. */
#define FIRST_SIZE (offsetof(attend_tensors, v_zero_points) + sizeof(const void *))

attend_status attend_check_lengths(const char *name, const int32_t *lengths, int64_t count, const char *field,
                                   int64_t most) {
  int bad = 0;
  for (int64_t i = 0; i < count; i++) bad |= (lengths[i] < 0) | (lengths[i] > most);
  if (!bad) return ATTEND_OK;
  int64_t i = 0;
  while (lengths[i] >= 0 && lengths[i] <= most) i++;
  return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT, "%s[%" PRId64 "] is %" PRId32 ", expected 0 to %s %" PRId64, name,
                     i, lengths[i], field, most);
}

attend_status attend_check_addresses(const attend_address *addresses, size_t count) {
  for (const attend_address *a = addresses; a < addresses + count; a++) {
    if (!a->address && a->needed)
      return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT, "%s is NULL, expected a tensor: the problem has one", a->name);
    if ((uintptr_t)a->address & (a->element - 1))
      return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT, "%s is at %p, expected a multiple of its element size %zu",
                         a->name, a->address, a->element);
  }
  return ATTEND_OK;
}

attend_status attend_check_workspace(const void *workspace, size_t size, size_t needed) {
  if (needed == 0) return ATTEND_OK;
  if (!workspace) return attend_fail(ATTEND_ERROR_WORKSPACE, "workspace is NULL, expected %zu bytes", needed);
  if (size < needed)
    return attend_fail(ATTEND_ERROR_WORKSPACE, "workspace_size is %zu, expected at least %zu", size, needed);
  if ((uintptr_t)workspace % ATTEND_WORKSPACE_ALIGNMENT)
    return attend_fail(ATTEND_ERROR_WORKSPACE, "workspace is at %p, expected a multiple of %d", workspace,
                       ATTEND_WORKSPACE_ALIGNMENT);
  return ATTEND_OK;
}

attend_status attend_take_workspace(const attend_host *host, void **workspace, size_t size, size_t needed, void **own) {
  if (*workspace || size || needed == 0) return attend_check_workspace(*workspace, size, needed);
  const attend_status status = attend_host_allocate(host, needed, "workspace", own);
  if (status == ATTEND_OK) *workspace = *own;
  return status;
}

/** A full-size copy, in which the tensors of lengths that the problem does not have are NULL. */
static attend_status read_tensors(const attend_problem *p, const attend_tensors *tensors, attend_tensors *t) {
  attend_status status = attend_read_versioned(t, sizeof *t, FIRST_SIZE, tensors, "attend_tensors");
  if (status != ATTEND_OK) return status;
  if (!p->kv_lengths) t->kv_lengths = NULL;
  if (!p->positions) t->positions = NULL;
  if (!p->q_starts) t->q_starts = NULL;
  if (!p->kv_starts) t->kv_starts = NULL;
  if (!p->kv_begins) t->kv_begins = NULL;
  if (!p->key_ranges) t->key_ranges = NULL;
  if (!p->page_rows) t->block_table = NULL;
  return ATTEND_OK;
}

static attend_status check_length_addresses(const attend_problem *p, const attend_tensors *t) {
  const attend_address addresses[] = {
      {"kv_lengths", t->kv_lengths, p->kv_lengths == ATTEND_LENGTHS_PER_BATCH, sizeof(int32_t)},
      {"q_starts", t->q_starts, p->q_starts, sizeof(int32_t)},
      {"kv_starts", t->kv_starts, p->kv_starts, sizeof(int32_t)},
      {"kv_begins", t->kv_begins, p->kv_begins, sizeof(int32_t)},
  };
  return attend_check_addresses(addresses, sizeof addresses / sizeof *addresses);
}

attend_status attend_check_lengths_only(const attend_resolved *problem, const attend_tensors *tensors,
                                        attend_tensors *full) {
  attend_tensors t;
  attend_status status = read_tensors(&problem->p, tensors, &t);
  t.block_table = NULL;
  if (problem->p.kv_lengths == ATTEND_LENGTHS_PER_QUERY) t.kv_lengths = NULL;
  if (status == ATTEND_OK) status = check_length_addresses(&problem->p, &t);
  if (status == ATTEND_OK) status = attend_check_sequences(problem, &t);
  if (status == ATTEND_OK) *full = t;
  return status;
}

/** The tensors that every problem has. */
static attend_status check_main_addresses(const attend_problem *p, const attend_tensors *t, bool queries, bool keys) {
  const attend_address addresses[] = {
      {"q", t->q, queries && p->head_dim > 0, attend_dtype_size(p->q_dtype)},
      {"k", t->k, keys && p->head_dim > 0, attend_dtype_size(p->k_dtype)},
      {"v", t->v, keys && p->v_head_dim > 0, attend_dtype_size(p->v_dtype)},
      {"out", t->out, queries && p->v_head_dim > 0, attend_dtype_size(p->out_dtype)},
  };
  return attend_check_addresses(addresses, sizeof addresses / sizeof *addresses);
}

/**
 * Gives an address to those that may be NULL because they have no element: kernels add offsets to it, which C does not
 * define for NULL, and touch nothing there.
 */
static void replace_null(const attend_problem *p, attend_tensors *t) {
  static float nowhere;
  if (!t->q) t->q = &nowhere;
  if (!t->k) t->k = &nowhere;
  if (!t->v) t->v = &nowhere;
  if (!t->out) t->out = &nowhere;
  if (!t->score_weights && p->head_dim == 0) t->score_weights = &nowhere;
}

static size_t scale_size(const attend_scaling *s) { return s->dtype ? attend_dtype_size(s->dtype) : 1; }

/** Those that only some have; others become NULL. */
static attend_status check_other_addresses(const attend_problem *p, attend_tensors *t, bool queries, bool keys) {
  if (!p->mask) t->mask = NULL;
  if (!p->bias_dtype) t->bias = NULL;
  if (!p->bias_head_scale) t->bias_head_scale = NULL;
  if (!p->alibi) t->alibi_slopes = NULL;
  if (!p->sinks) t->sinks = NULL;
  if (!p->lse) t->lse = NULL;
  if (!p->weights) t->weights = NULL;
  if (!p->scores) t->scores = NULL;
  if (p->score != ATTEND_SCORE_ADDITIVE) t->score_weights = NULL;
  if (!p->k_scaling.dtype) t->k_scales = NULL;
  if (!p->v_scaling.dtype) t->v_scales = NULL;
  if (!p->k_scaling.zero_points) t->k_zero_points = NULL;
  if (!p->v_scaling.zero_points) t->v_zero_points = NULL;
  const bool per_query = p->kv_lengths == ATTEND_LENGTHS_PER_QUERY, pairs = queries && p->kv_len > 0;
  const attend_address addresses[] = {
      {"kv_lengths", t->kv_lengths, per_query && queries, sizeof(int32_t)},
      {"positions", t->positions, p->positions, sizeof(int32_t)},
      {"key_ranges", t->key_ranges, p->key_ranges && queries, sizeof(int32_t)},
      {"block_table", t->block_table, p->page_rows && p->kv_len > 0, sizeof(int32_t)},
      {"mask", t->mask, p->mask && keys && queries, 1},
      {"bias", t->bias, p->bias_dtype && keys && queries, p->bias_dtype ? attend_dtype_size(p->bias_dtype) : 1},
      {"bias_head_scale", t->bias_head_scale, p->bias_head_scale, sizeof(float)},
      {"alibi_slopes", t->alibi_slopes, p->alibi, sizeof(float)},
      {"sinks", t->sinks, p->sinks, sizeof(float)},
      {"lse", t->lse, p->lse && queries, sizeof(float)},
      {"weights", t->weights, p->weights && pairs, sizeof(float)},
      {"scores", t->scores, p->scores && pairs, sizeof(float)},
      {"score_weights", t->score_weights, p->score == ATTEND_SCORE_ADDITIVE && p->head_dim > 0, sizeof(float)},
      {"k_scales", t->k_scales, keys && p->k_scaling.dtype && p->head_dim > 0, scale_size(&p->k_scaling)},
      {"v_scales", t->v_scales, keys && p->v_scaling.dtype && p->v_head_dim > 0, scale_size(&p->v_scaling)},
      {"k_zero_points", t->k_zero_points, keys && p->k_scaling.zero_points && p->head_dim > 0,
       scale_size(&p->k_scaling)},
      {"v_zero_points", t->v_zero_points, keys && p->v_scaling.zero_points && p->v_head_dim > 0,
       scale_size(&p->v_scaling)},
  };
  const attend_status status = attend_check_addresses(addresses, sizeof addresses / sizeof *addresses);
  return status == ATTEND_OK ? check_length_addresses(p, t) : status;
}

attend_status attend_check_tensors(const attend_resolved *problem, const attend_tensors *tensors,
                                   attend_tensors *full) {
  const attend_problem *p = &problem->p;
  attend_tensors t;
  attend_status status = read_tensors(p, tensors, &t);
  if (status != ATTEND_OK) return status;
  if (attend_is_empty(problem)) {
    *full = (attend_tensors)ATTEND_TENSORS_INIT;
    return ATTEND_OK;
  }
  const bool keys = p->kv_len > 0 && (!p->kv_starts || p->kv_total > 0) && (!p->page_rows || p->pages > 0);
  const bool queries = !p->q_starts || p->q_total > 0;
  if ((status = check_main_addresses(p, &t, queries, keys)) != ATTEND_OK) return status;
  replace_null(p, &t);
  if (problem->plain) { /* nothing else to look at: a tenth of a microsecond less for the smallest runs */
    *full = (attend_tensors){.struct_size = sizeof *full, .q = t.q, .k = t.k, .v = t.v, .out = t.out};
    return ATTEND_OK;
  }
  if ((status = check_other_addresses(p, &t, queries, keys)) != ATTEND_OK) return status;
  if (t.dropout_offset > UINT32_MAX)
    return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT, "dropout_offset is %" PRIu64 ", expected less than 2^32",
                       t.dropout_offset);
  if ((status = attend_check_sequences(problem, &t)) != ATTEND_OK) return status;
  *full = t;
  return ATTEND_OK;
}
