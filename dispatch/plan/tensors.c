/* SPDX-License-Identifier: Apache-2.0 */
/** Checks the addresses of a run, its workspace's included. It is part of every run, so it does no more than it must.
 */
#include <inttypes.h>

#include "dispatch/dispatch.h"

/* Fields that the first release has. */
#define FIRST_SIZE (offsetof(attend_tensors, weights) + sizeof(float *))

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

attend_status attend_take_workspace(void **workspace, size_t size, size_t needed, void **own) {
  if (*workspace || size) return attend_check_workspace(*workspace, size, needed);
  *workspace = *own = attend_alloc(needed);
  if (!*own) return attend_fail(ATTEND_ERROR_OUT_OF_MEMORY, "no memory for a workspace of %zu bytes", needed);
  return ATTEND_OK;
}

attend_status attend_check_tensors(const attend_resolved *problem, const attend_tensors *tensors,
                                   attend_tensors *full) {
  const attend_problem *p = &problem->p;
  attend_tensors t;
  attend_status status = attend_read_versioned(&t, sizeof t, FIRST_SIZE, tensors, "attend_tensors");
  if (status != ATTEND_OK) return status;
  if (attend_is_empty(problem)) {
    *full = (attend_tensors)ATTEND_TENSORS_INIT;
    return ATTEND_OK;
  }

  const bool keys = p->kv_len > 0;
  if (!p->kv_lengths) t.kv_lengths = NULL;
  if (!p->mask) t.mask = NULL;
  if (!p->bias_dtype) t.bias = NULL;
  if (!p->alibi) t.alibi_slopes = NULL;
  if (!p->sinks) t.sinks = NULL;
  if (!p->lse) t.lse = NULL;
  if (!p->weights) t.weights = NULL;
  if (p->score != ATTEND_SCORE_ADDITIVE) t.score_weights = NULL;
  const attend_address addresses[] = {
      {"q", t.q, true, attend_dtype_size(p->q_dtype)},
      {"k", t.k, keys, attend_dtype_size(p->kv_dtype)},
      {"v", t.v, keys, attend_dtype_size(p->kv_dtype)},
      {"out", t.out, true, attend_dtype_size(p->out_dtype)},
      {"kv_lengths", t.kv_lengths, p->kv_lengths != ATTEND_LENGTHS_NONE, sizeof(int32_t)},
      {"mask", t.mask, p->mask && keys, 1},
      {"bias", t.bias, p->bias_dtype && keys, p->bias_dtype ? attend_dtype_size(p->bias_dtype) : 1},
      {"alibi_slopes", t.alibi_slopes, p->alibi, sizeof(float)},
      {"sinks", t.sinks, p->sinks, sizeof(float)},
      {"lse", t.lse, p->lse, sizeof(float)},
      {"weights", t.weights, p->weights && keys, sizeof(float)},
      {"score_weights", t.score_weights, p->score == ATTEND_SCORE_ADDITIVE, sizeof(float)},
  };
  if ((status = attend_check_addresses(addresses, sizeof addresses / sizeof *addresses)) != ATTEND_OK) return status;
  if (t.reserved)
    return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT, "reserved is %" PRIu32 ", expected 0: use ATTEND_TENSORS_INIT",
                       t.reserved);
  const int64_t count = p->kv_lengths == ATTEND_LENGTHS_PER_BATCH ? p->batch : p->batch * p->q_len;
  if (t.kv_lengths &&
      (status = attend_check_lengths("kv_lengths", t.kv_lengths, count, "kv_len", p->kv_len)) != ATTEND_OK)
    return status;
  *full = t;
  return ATTEND_OK;
}
