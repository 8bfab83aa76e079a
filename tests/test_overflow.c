/* SPDX-License-Identifier: Apache-2.0 */
/** Sizes that do not fit: every size computed from a problem is checked, and what cannot be allocated is an error. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support.h"

__extension__ typedef __int128 wide;

#define MOST ((int64_t)INT32_MAX)

static const wide room = PTRDIFF_MAX;

/* What the bytes of tensors say about a problem. Between "must" and "must not" lies what the library may decide. */
typedef enum verdict { FITS, MAY_OVERFLOW, OVERFLOWS } verdict;

static verdict worse(verdict a, verdict b) { return a > b ? a : b; }

static wide times(wide a, wide b) { return a != 0 && b > ((wide)1 << 120) / a ? (wide)1 << 120 : a * b; }

static verdict contiguous(int64_t a, int64_t b, int64_t c, int64_t d, int64_t element) {
  wide bytes = times(times(times(times(a, b), c), d), element);
  return bytes > room ? OVERFLOWS : FITS;
}

/* A tensor with strides: how far its elements lie from its address, in both directions. */
static verdict strided(const int64_t extents[4], const int64_t strides[4], int64_t element) {
  wide up = 0, down = 0;
  for (int i = 0; i < 4; i++) {
    if (extents[i] == 0) return FITS;
    wide reach = (wide)(extents[i] - 1) * strides[i];
    *(reach < 0 ? &down : &up) += reach < 0 ? -reach : reach;
  }
  up = (up + 1) * element, down *= element;
  return up > room || down > room ? OVERFLOWS : up + down > room ? MAY_OVERFLOW : FITS;
}

/* Makes a plan and compares the result with the verdict. */
static attend_status expect(const attend_problem *problem, const char *kernel, verdict v, const char *what) {
  attend_options options = ATTEND_OPTIONS_INIT;
  options.kernel = kernel, options.num_threads = 3;
  int anything;
  attend_plan *const before = (attend_plan *)&anything;
  attend_plan *plan = before;
  attend_test_forget_detail();
  attend_status status = attend_plan_create(problem, &options, &plan);
  if (status == ATTEND_OK) {
    cr_expect_neq(v, OVERFLOWS, "%s: a plan was made", what);
    cr_expect_lt(attend_plan_workspace_size(plan), PTRDIFF_MAX, "%s: workspace of %zu", what,
                 attend_plan_workspace_size(plan));
    attend_plan_destroy(plan);
  } else {
    cr_expect_eq(plan, before, "%s: *plan was touched", what);
    /* The tensors may fit where the workspace does not, and a kernel that was asked for may decline. */
    bool fitting = status == ATTEND_ERROR_OVERFLOW || (kernel && status == ATTEND_ERROR_UNSUPPORTED);
    cr_expect(fitting, "%s: %s: %s", what, attend_status_string(status), attend_error_detail());
    cr_expect(!strpbrk(attend_error_detail(), "\r\n") && attend_error_detail()[0], "%s", what);
  }
  return status;
}

/* ------------------------------------------------------------------------------------------------------- extents */

static verdict of_extents(const attend_problem *p) {
  const int64_t element = p->q_dtype == ATTEND_F16 ? 2 : 4;
  verdict v = contiguous(p->batch, p->q_heads, p->q_len, p->head_dim, element);
  v = worse(v, contiguous(p->batch, p->kv_heads, p->kv_len, p->head_dim, element));
  v = worse(v, contiguous(p->batch, p->kv_heads, p->kv_len, p->v_head_dim, element));
  v = worse(v, contiguous(p->batch, p->q_heads, p->q_len, p->v_head_dim, element));
  if (p->lse) v = worse(v, contiguous(p->batch, p->q_heads, p->q_len, 1, 4));
  if (p->weights) v = worse(v, contiguous(p->batch, p->q_heads, p->q_len, p->kv_len, 4));
  return v;
}

static void all_extents(attend_dtype dtype, bool lse, bool weights) {
  static const int64_t extents[] = {1, 3, INT64_C(1) << 16, MOST};
  size_t planned = 0, overflowed = 0;
  for (int i = 0; i < 1 << 12; i++) {
    attend_problem p = attend_test_problem(extents[i & 3], extents[i >> 2 & 3], 1, extents[i >> 4 & 3],
                                           extents[i >> 6 & 3], extents[i >> 8 & 3]);
    p.kv_heads = i & 1 ? p.q_heads : 1;
    p.v_head_dim = extents[i >> 10 & 3];
    p.q_dtype = dtype, p.lse = lse, p.weights = weights;
    p.kv_lengths = lse ? ATTEND_LENGTHS_PER_QUERY : ATTEND_LENGTHS_NONE;
    char what[160];
    snprintf(what, sizeof what, "B %lld, Hq %lld, Hkv %lld, Lq %lld, Lk %lld, D %lld, Dv %lld", (long long)p.batch,
             (long long)p.q_heads, (long long)p.kv_heads, (long long)p.q_len, (long long)p.kv_len,
             (long long)p.head_dim, (long long)p.v_head_dim);
    *(expect(&p, NULL, of_extents(&p), what) == ATTEND_OK ? &planned : &overflowed) += 1;
  }
  cr_expect_gt(planned, 0);
  cr_expect_gt(overflowed, 0);
}

Test(overflow, of_extents) {
  all_extents(ATTEND_F32, false, false);
  attend_test_expect_no_leak();
}

/* q and out of 16 bits may fit where LSE and lengths of 32 bits do not. */
Test(overflow, of_extents_of_halves) { all_extents(ATTEND_F16, false, false); }
Test(overflow, of_extents_with_lse) { all_extents(ATTEND_F16, true, false); }
Test(overflow, of_extents_with_weights) { all_extents(ATTEND_F32, true, true); }

/* Every kernel lays out its scratch itself. */
Test(overflow, of_every_kernels_scratch) {
  static const int64_t extents[] = {1, INT64_C(1) << 20, MOST};
  for (size_t k = 0; k < attend_kernel_count(); k++) {
    const attend_kernel *kernel = attend_kernel_at(k);
    if (!attend_test_runnable(kernel)) continue;
    for (int i = 0; i < 3 * 3 * 3 * 3 * 2 * 2; i++) {
      attend_problem p =
          attend_test_problem(1, extents[i / 27 % 3], 1, extents[i % 3], extents[i / 3 % 3], extents[i / 9 % 3]);
      p.v_head_dim = i / 81 % 2 ? MOST : 1;
      p.score = i / 162 ? ATTEND_SCORE_ADDITIVE : ATTEND_SCORE_DOT;
      char what[160];
      snprintf(what, sizeof what, "%s: Hq %lld, Lq %lld, Lk %lld, D %lld, Dv %lld", kernel->name, (long long)p.q_heads,
               (long long)p.q_len, (long long)p.kv_len, (long long)p.head_dim, (long long)p.v_head_dim);
      expect(&p, kernel->name, of_extents(&p), what);
    }
  }
}

/* ----------------------------------------------------------------------------------------------------- sequences */

/* Rows that tensors of packed and paged sequences have. */
static verdict of_sequences(const attend_problem *p) {
  const int64_t element = p->q_dtype == ATTEND_F16 ? 2 : 4, total = p->q_starts ? p->q_total : p->q_len;
  const int64_t batches = p->q_starts ? 1 : p->batch;
  const int64_t memories = p->page_rows ? p->pages : p->kv_starts ? 1 : p->batch;
  const int64_t rows = p->page_rows ? p->page_rows : p->kv_starts ? p->kv_total : p->kv_len;
  verdict v = contiguous(batches, p->q_heads, total, p->head_dim, element);
  v = worse(v, contiguous(memories, p->kv_heads, rows, p->head_dim, element));
  v = worse(v, contiguous(batches, p->q_heads, total, 1, 4));
  v = worse(v, contiguous(batches, total, 2, 1, 4));
  if (p->weights) v = worse(v, contiguous(batches, p->q_heads, total, p->kv_len, 4));
  if (p->page_rows) v = worse(v, contiguous(1, 1, p->batch, p->block_table_stride, 4));
  return v;
}

static void all_sequences(bool packed, bool weights) {
  static const int64_t extents[] = {1, 3, INT64_C(1) << 16, MOST};
  size_t planned = 0, overflowed = 0;
  for (int i = 0; i < 1 << 14; i++) {
    attend_problem p = attend_test_problem(extents[i & 3], extents[i >> 2 & 3], 1, MOST, MOST, extents[i >> 4 & 3]);
    p.kv_heads = i & 1 ? p.q_heads : 1;
    p.q_dtype = i & 2 ? ATTEND_F16 : ATTEND_F32;
    p.lse = 1, p.weights = weights, p.key_ranges = 1;
    if (packed) {
      p.q_starts = p.kv_starts = 1;
      p.q_total = extents[i >> 6 & 3], p.kv_total = extents[i >> 8 & 3];
      p.q_len = extents[i >> 10 & 3], p.kv_len = extents[i >> 12 & 3];
      if (p.q_total > p.batch * p.q_len || p.kv_total > p.batch * p.kv_len) continue;
    } else {
      p.q_len = extents[i >> 6 & 3];
      p.page_rows = extents[i >> 8 & 3], p.pages = extents[i >> 10 & 3];
      p.block_table_stride = i >> 12 & 1 ? MOST : (p.kv_len - 1) / p.page_rows + 1;
    }
    char what[200];
    snprintf(what, sizeof what,
             "B %lld, Hq %lld, Lq %lld, Lk %lld, D %lld, totals %lld, %lld, %lld pages of %lld, stride %lld",
             (long long)p.batch, (long long)p.q_heads, (long long)p.q_len, (long long)p.kv_len, (long long)p.head_dim,
             (long long)p.q_total, (long long)p.kv_total, (long long)p.pages, (long long)p.page_rows,
             (long long)p.block_table_stride);
    *(expect(&p, NULL, of_sequences(&p), what) == ATTEND_OK ? &planned : &overflowed) += 1;
  }
  cr_expect_gt(planned, 0);
  cr_expect_gt(overflowed, 0);
}

Test(overflow, of_packed_sequences) { all_sequences(true, false); }
Test(overflow, of_packed_sequences_with_weights) { all_sequences(true, true); }
Test(overflow, of_pages) {
  all_sequences(false, false);
  attend_test_expect_no_leak();
}

/* With strides of 0 every tensor may be small; what is counted, rows and the pieces they are cut into, may not be. */
Test(overflow, of_rows_without_tensors) {
  static const int64_t extents[] = {1, INT64_C(1) << 10, INT64_C(1) << 20, MOST};
  size_t planned = 0, overflowed = 0;
  for (int i = 0; i < 1 << 13; i++) {
    attend_problem p = attend_test_problem(extents[i & 3], extents[i >> 2 & 3], 1, extents[i >> 4 & 3],
                                           extents[i >> 6 & 3], i >> 8 & 1 ? 8 : 0);
    p.v_head_dim = 0, p.as_given = ATTEND_AS_GIVEN_V_HEAD_DIM | ATTEND_AS_GIVEN_STRIDES;
    if (i >> 9 & 1) p.kv_heads = p.q_heads;
    p.batch_invariant = i >> 10 & 1;
    p.q_starts = i >> 11 & 1, p.q_total = 1;
    p.kv_begins = i >> 12 & 1;
    char what[160];
    snprintf(what, sizeof what, "B %lld, Hq %lld, Hkv %lld, Lq %lld%s, Lk %lld, D %lld", (long long)p.batch,
             (long long)p.q_heads, (long long)p.kv_heads, (long long)p.q_len, p.q_starts ? " at most" : "",
             (long long)p.kv_len, (long long)p.head_dim);
    const verdict v = contiguous(p.batch, p.q_heads, p.q_len, 1, 4);
    const attend_status status = expect(&p, NULL, v, what);
    if (v == OVERFLOWS) cr_expect(attend_test_has_word(attend_error_detail(), "q_len"), "%s", attend_error_detail());
    *(status == ATTEND_OK ? &planned : &overflowed) += 1;
  }
  cr_expect_gt(planned, 0);
  cr_expect_gt(overflowed, 0);
}

/* ------------------------------------------------------------------------------------------------------- strides */

/* A tensor with strides of its own, as a place in attend_problem. */
typedef struct place {
  const char *name;
  size_t offset;
  int dimensions; /* strides it has: 3, and a contiguous dimension after them, or 4 */
} place;

static const place places[] = {
    {"q", offsetof(attend_problem, q_strides), 3},       {"k", offsetof(attend_problem, k_strides), 3},
    {"v", offsetof(attend_problem, v_strides), 3},       {"out", offsetof(attend_problem, out_strides), 3},
    {"mask", offsetof(attend_problem, mask_strides), 4}, {"bias", offsetof(attend_problem, bias_strides), 4},
};

static const int64_t magnitudes[] = {INT64_C(1) << 31, (INT64_C(1) << 31) + 1, INT64_C(1) << 59, INT64_C(1) << 60,
                                     INT64_C(1) << 61, INT64_C(1) << 62,       INT64_MAX};

static attend_problem strided_problem(attend_dtype dtype) {
  attend_problem problem = attend_test_problem(2, 3, 3, 2, 3, 5);
  problem.q_dtype = dtype, problem.bias_dtype = dtype, problem.mask = 1;
  problem.mask_strides = problem.bias_strides = (attend_strides4){0, 0, 3, 1};
  return problem;
}

static verdict of_place(const attend_problem *p, size_t at) {
  int64_t strides[4] = {0, 0, 0, 1};
  memcpy(strides, (const char *)p + places[at].offset, (size_t)places[at].dimensions * sizeof *strides);
  const int64_t keys = at == 1 || at == 2, element = at == 4 ? 1 : p->q_dtype == ATTEND_F32 ? 4 : 2;
  const int64_t extents[4] = {p->batch, p->q_heads, keys ? p->kv_len : p->q_len, at < 4 ? p->head_dim : p->kv_len};
  return strided(extents, strides, element);
}

static void set_stride(attend_problem *p, size_t at, int dimension, int64_t stride) {
  memcpy((char *)p + places[at].offset + (size_t)dimension * sizeof stride, &stride, sizeof stride);
}

Test(overflow, of_one_stride) {
  const attend_dtype dtypes[] = {ATTEND_F32, ATTEND_BF16};
  size_t fitted = 0, overflowed = 0;
  for (size_t i = 0; i < COUNT(dtypes) * COUNT(places) * 4 * COUNT(magnitudes) * 3; i++) {
    const size_t at = i % COUNT(places), rest = i / COUNT(places);
    const int dimension = (int)(rest % 4), sign = (int)(rest / 4 % 3);
    const int64_t magnitude = magnitudes[rest / 12 % COUNT(magnitudes)];
    if (dimension >= places[at].dimensions) continue;
    attend_problem p = strided_problem(dtypes[rest / 12 / COUNT(magnitudes)]);
    /* the rest as in a contiguous tensor, since all zero would mean that */
    if (at < 4) {
      const int64_t rows = at == 1 || at == 2 ? p.kv_len : p.q_len;
      set_stride(&p, at, 0, 3 * rows * 5), set_stride(&p, at, 1, rows * 5), set_stride(&p, at, 2, 5);
    }
    const int64_t stride = sign == 0 ? magnitude : sign == 1 ? -magnitude : -magnitude - 1;
    set_stride(&p, at, dimension, stride);
    char what[100];
    snprintf(what, sizeof what, "%s_strides[%d] = %lld", places[at].name, dimension, (long long)stride);
    const verdict v = of_place(&p, at);
    const attend_status status = expect(&p, NULL, v, what);
    if (v == FITS) cr_expect_eq(status, ATTEND_OK, "%s: %s", what, attend_error_detail());
    if (v == OVERFLOWS) {
      cr_expect(attend_test_has_word(attend_error_detail(), places[at].name), "%s: %s", what, attend_error_detail());
    }
    fitted += v == FITS, overflowed += v == OVERFLOWS;
  }
  cr_expect_gt(fitted, 0);
  cr_expect_gt(overflowed, 0);
  attend_test_expect_no_leak();
}

/* Each dimension's reach fits alone, and their sum does not. */
Test(overflow, of_the_sum_of_strides) {
  for (size_t at = 0; at < COUNT(places); at++) {
    for (int sign = -1; sign <= 1; sign += 2) {
      attend_problem p = attend_test_problem(2, 2, 2, 2, 2, 5);
      p.mask = 1, p.mask_strides = (attend_strides4){0, 0, 2, 1};
      p.bias_dtype = ATTEND_F16, p.bias_strides = (attend_strides4){0, 0, 2, 1};
      p.q_dtype = ATTEND_F16;
      const int64_t reach = PTRDIFF_MAX / (at == 4 ? 1 : 2) / 2 + 1;
      for (int dimension = 0; dimension < 2; dimension++)
        set_stride(&p, at, dimension, sign * (reach + 16 * dimension));
      if (at < 4) set_stride(&p, at, 2, 5);
      char what[100];
      snprintf(what, sizeof what, "%s_strides of %lld twice", places[at].name, (long long)(sign * reach));
      cr_assert_eq(of_place(&p, at), OVERFLOWS);
      expect(&p, NULL, OVERFLOWS, what);
    }
  }
}

/* Strides in all combinations of tensors and signs. */
Test(overflow, of_strides_in_all_combinations) {
  const int64_t strides[] = {0, INT64_C(1) << 31, -(INT64_C(1) << 31), INT64_C(1) << 62, -(INT64_C(1) << 62)};
  size_t overflowed = 0;
  for (int i = 1; i < 5 * 5 * 5 * 5 * 5 * 5; i++) {
    attend_problem p = strided_problem(ATTEND_F32);
    char what[200] = "";
    verdict v = FITS;
    for (size_t at = 0, digits = (size_t)i; at < COUNT(places); at++, digits /= 5) {
      const int64_t stride = strides[digits % 5];
      if (stride == 0) continue;
      if (at < 4) set_stride(&p, at, 1, 1 << 20), set_stride(&p, at, 2, 5);
      set_stride(&p, at, 0, stride);
      v = worse(v, of_place(&p, at));
      snprintf(what + strlen(what), sizeof what - strlen(what), "%s_strides %lld ", places[at].name, (long long)stride);
    }
    overflowed += expect(&p, NULL, v, what) == ATTEND_ERROR_OVERFLOW;
  }
  cr_expect_gt(overflowed, 0);
}

/* The stride of a dimension with a single entry is never used, whatever it is. */
Test(overflow, not_of_unused_strides) {
  attend_problem p = attend_test_problem(1, 1, 1, 1, 1, 5);
  p.mask = 1, p.bias_dtype = ATTEND_F32;
  for (size_t at = 0; at < COUNT(places); at++) {
    for (int dimension = 0; dimension < places[at].dimensions; dimension++) {
      set_stride(&p, at, dimension, dimension % 2 ? INT64_MIN : INT64_MAX);
    }
  }
  attend_test_accepts(&p, NULL, "strides of single entries");
}

/* --------------------------------------------------------------------------------------------------- allocations */

/* More bytes than any processor has addresses for. */
#define UNALLOCATABLE ((size_t)1 << 48)

/* A plan whose workspace no machine has: running it without one is an error like any other. */
Test(overflow, of_what_the_machine_has) {
  size_t found = 0;
  for (size_t k = 0; k < attend_kernel_count(); k++) {
    const attend_kernel *kernel = attend_kernel_at(k);
    attend_problem p = attend_test_problem(1, MOST, 1, 1, MOST, 1);
    p.k_strides.row = p.v_strides.row = 0, p.k_strides.batch = p.v_strides.batch = 1; /* all keys at one address */
    p.q_strides.batch = 1;                                                            /* and all queries */
    for (p.v_head_dim = 1; p.v_head_dim <= MOST / 2; p.v_head_dim *= 2) {
      attend_options options = ATTEND_OPTIONS_INIT;
      options.kernel = kernel->name, options.num_threads = 1024;
      attend_plan *plan;
      if (attend_plan_create(&p, &options, &plan) != ATTEND_OK) break;
      if (attend_plan_workspace_size(plan) >= UNALLOCATABLE) {
        float q = 1, key = 1, out = 2;
        attend_tensors t = ATTEND_TENSORS_INIT;
        t.q = &q, t.k = &key, t.v = &key, t.out = &out;
        EXPECT_ERROR(attend_plan_run(plan, &t, NULL, 0), ATTEND_ERROR_OUT_OF_MEMORY, NULL, "%s", kernel->name);
        EXPECT_ERROR(attend_plan_run(plan, &t, &t, attend_plan_workspace_size(plan) - 1), ATTEND_ERROR_WORKSPACE,
                     "workspace_size", "%s", kernel->name);
        cr_expect_eq(out, 2.0f);
        found++;
      }
      attend_plan_destroy(plan);
    }
  }
  cr_expect_gt(found, 0, "no kernel has a plan of that size");
}
