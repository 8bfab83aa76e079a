/* SPDX-License-Identifier: Apache-2.0 */
/** The kernel table, and what a plan's kernel and splitting may depend on. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch/machine/cpu.h"
#include "dispatch/plan/plan.h"
#include "tests/support.h"

/* --------------------------------------------------------------------------------------------------- kernel table */

Test(table, rows_are_well_formed) {
  cr_assert_gt(attend_kernel_count(), 0);
  for (size_t i = 0; i < attend_kernel_count(); i++) {
    const attend_kernel *kernel = attend_kernel_at(i);
    cr_assert_not_null(kernel);
    cr_assert_str_not_empty(kernel->name);
    cr_expect_eq(attend_kernel_find(kernel->name), kernel, "%s: another kernel has the name", kernel->name);
    cr_assert_lt(kernel->isa, ATTEND_ISA_COUNT, "%s", kernel->name);
    cr_expect_eq(kernel->operation, ATTEND_OP_FORWARD, "%s", kernel->name);
    cr_assert_lt(kernel->body, ATTEND_BODY_ROWS, "%s", kernel->name);
    cr_expect_eq(attend_isa_features(kernel->isa) & ~kernel->cpu, 0, "%s does not need all of its ISA", kernel->name);
    cr_expect_eq(kernel->cpu >> ATTEND_CPU_FEATURE_COUNT, 0, "%s", kernel->name);
    cr_expect_eq(kernel->can & ~(unsigned)(ATTEND_CAN_WEIGHTS | ATTEND_CAN_SPLIT | ATTEND_CAN_ADDITIVE |
                                           ATTEND_CAN_DROPOUT | ATTEND_CAN_SCORES | ATTEND_CAN_INT8),
                 0, "%s", kernel->name);
    cr_expect(kernel->compute >= ATTEND_F32 && kernel->compute <= ATTEND_BF16, "%s", kernel->name);
    cr_expect_neq(kernel->dtypes, 0, "%s", kernel->name);
    cr_expect_eq(kernel->dtypes & ~(ATTEND_DTYPES_ALL | ATTEND_DTYPES_FORMATS), 0, "%s", kernel->name);
    cr_expect_gt(kernel->q_rows, 0, "%s", kernel->name);
    cr_expect_gt(kernel->k_block, 0, "%s", kernel->name);
    cr_expect_not_null(kernel->scratch, "%s", kernel->name);
    cr_expect_not_null(kernel->forward, "%s", kernel->name);
    cr_expect(!kernel->softmax && !kernel->append && !kernel->merge, "%s", kernel->name);
    cr_expect_eq(kernel->enter == NULL, kernel->leave == NULL, "%s", kernel->name);
    if (i == 0) continue;
    const attend_isa before = attend_kernel_at(i - 1)->isa;
    cr_expect_leq(attend_isa_rank(kernel->isa), attend_isa_rank(before), "%s: widest ISA first", kernel->name);
  }
  cr_expect_eq(attend_kernel_at(attend_kernel_count() - 1)->isa, ATTEND_ISA_SCALAR);
  cr_expect_null(attend_kernel_find(""));
  cr_expect_null(attend_kernel_find("no_such_kernel"));
}

Test(table, scalar_rows_do_everything) {
  const attend_problem full = attend_test_full_problem();
  size_t of_body[ATTEND_BODY_COUNT] = {0}, with_weights = 0;
  for (size_t i = 0; i < attend_kernel_count(); i++) {
    const attend_kernel *kernel = attend_kernel_at(i);
    if (kernel->isa != ATTEND_ISA_SCALAR) continue;
    cr_expect_eq(kernel->cpu, 0, "%s", kernel->name);
    cr_expect_eq(kernel->dtypes, ATTEND_DTYPES_ALL | ATTEND_DTYPES_FORMATS, "%s", kernel->name);
    of_body[kernel->body]++;
    with_weights += attend_test_can(kernel, &full);
  }
  for (attend_body body = 0; body < ATTEND_BODY_ROWS; body++) {
    cr_expect_gt(of_body[body], 0, "no scalar kernel of the %s family", attend_body_name(body));
  }
  cr_expect_gt(with_weights, 0);
}

/* ---------------------------------------------------------------------------------------------------------- masks */

/* What is runnable under a mask: exactly the rows that need none of it, and each of them works. */
static void expect_only_unmasked(uint64_t mask) {
  const attend_problem f32 = attend_test_problem(1, 4, 2, 20, 37, 12);
  attend_cpu_set_test_mask(mask);
  cr_expect_eq(attend_cpu_get()->usable & mask, 0);
  for (size_t i = 0; i < attend_kernel_count(); i++) {
    const attend_kernel *kernel = attend_kernel_at(i);
    const attend_problem problem = attend_test_typed_for(kernel, f32);
    const uint64_t missing = kernel->cpu & ~attend_cpu_get()->usable;
    char why[200] = "";
    attend_env env;
    cr_assert_eq(attend_env_read(&env), ATTEND_OK);
    const bool runnable = attend_kernel_runnable(kernel, env.isa, why, sizeof why);
    cr_expect_eq(runnable, missing == 0, "%s: %s", kernel->name, why);
    attend_options options = ATTEND_OPTIONS_INIT;
    options.kernel = kernel->name;
    if (runnable) {
      if (!attend_test_can(kernel, &problem)) continue; /* it takes other keys only */
      attend_plan *plan = attend_test_plan(&problem, kernel->name, 1);
      attend_test_tensors tensors = attend_test_run(plan, &problem);
      attend_test_tensors_destroy(&tensors);
      attend_plan_destroy(plan);
    } else {
      cr_expect_str_not_empty(why, "%s: no reason", kernel->name);
      cr_expect_null(strpbrk(why, "\r\n"), "%s", why);
      attend_test_refuses(&problem, &options, ATTEND_ERROR_UNSUPPORTED, kernel->name, NULL, "masked");
      char shortened[4] = "xxx";
      attend_kernel_runnable(kernel, env.isa, shortened, 2);
      cr_expect_eq(shortened[1], '\0');
      cr_expect_eq(shortened[2], 'x', "more was written than there is room for");
      cr_expect_not(attend_kernel_runnable(kernel, env.isa, NULL, 0));
    }
  }
  attend_plan *plan = attend_test_plan(&f32, NULL, 1);
  const attend_kernel *chosen = attend_kernel_find(attend_plan_kernel(plan));
  cr_assert_not_null(chosen);
  cr_expect_eq(chosen->cpu & mask, 0, "%s was chosen under a mask", chosen->name);
  attend_plan_destroy(plan);
  attend_cpu_set_test_mask(0);
}

Test(mask, of_everything_leaves_scalar_kernels) {
  const uint64_t before = attend_cpu_get()->usable, present = attend_cpu_get()->present;
  expect_only_unmasked(UINT64_MAX);
  attend_cpu_set_test_mask(UINT64_MAX);
  cr_expect_eq(attend_cpu_get()->usable, 0);
  cr_expect_eq(attend_cpu_get()->present, present, "a mask changes what is usable, not what is there");
  for (attend_cpu_feature i = 0; i < ATTEND_CPU_FEATURE_COUNT; i++) {
    if (present >> i & 1) cr_expect_str_not_empty(attend_cpu_unusable_reason(i));
  }
  for (size_t i = 0; i < attend_kernel_count(); i++) {
    const attend_kernel *kernel = attend_kernel_at(i);
    cr_expect_eq(attend_test_runnable(kernel), kernel->isa == ATTEND_ISA_SCALAR, "%s", kernel->name);
  }
  attend_cpu_set_test_mask(0);
  cr_expect_eq(attend_cpu_get()->usable, before, "the mask stays");
}

Test(mask, of_each_isa) {
  for (attend_isa isa = 0; isa < ATTEND_ISA_COUNT; isa++) {
    /* what it needs beyond the next lower one of its family, and all that it needs */
    const uint64_t own = attend_isa_features(isa);
    expect_only_unmasked(own);
    for (attend_isa lower = 0; lower < ATTEND_ISA_COUNT; lower++) {
      const uint64_t others = attend_isa_features(lower);
      if (others != own && (others & ~own) == 0) expect_only_unmasked(own & ~others);
    }
  }
}

Test(mask, of_each_feature) {
  for (attend_cpu_feature i = 0; i < ATTEND_CPU_FEATURE_COUNT; i++) expect_only_unmasked(UINT64_C(1) << i);
}

/* --------------------------------------------------------------------------------- instruction sets of doubtful use */

#ifdef __x86_64__
/* The processor at hand under another name: vendor and family. */
static const char *played_vendor;
static uint32_t played_family;

static attend_cpuid play_cpuid(uint32_t leaf, uint32_t subleaf) {
  attend_cpuid r = attend_x86_real.cpuid(leaf, subleaf);
  if (leaf == 0) {
    memcpy(&r.ebx, played_vendor, 4);
    memcpy(&r.edx, played_vendor + 4, 4);
    memcpy(&r.ecx, played_vendor + 8, 4);
  }
  if (leaf == 1) r.eax = (r.eax & ~0x0ff00f00u) | 15u << 8 | (played_family - 15) << 20;
  if (leaf == 7 && subleaf == 0) r.edx &= ~(1u << 22 | 1u << 24 | 1u << 25); /* AMX would be chosen before them */
  return r;
}

static void play(const char *vendor, uint32_t family) {
  static attend_x86 x86;
  x86 = attend_x86_real, x86.cpuid = play_cpuid;
  played_vendor = vendor, played_family = family;
  attend_cpu_set_test_x86(&x86);
}

/* Where vdpbf16ps is not known to be fast, its kernels are there for those who name them, and not chosen. */
static void expect_chosen(const char *vendor, uint32_t family, bool fast) {
  play(vendor, family);
  if (!(attend_cpu_get()->usable & ATTEND_CPU_BIT(AVX512_BF16)))
    cr_skip_test("no usable avx512_bf16: %s", attend_cpu_unusable_reason(ATTEND_CPU_AVX512_BF16));
  for (attend_dtype dtype = ATTEND_F32; dtype <= ATTEND_BF16; dtype++)
    for (int64_t queries = 1; queries <= 200; queries += 199) {
      attend_problem problem = attend_test_problem(1, 4, 4, queries, 300, 64);
      problem.q_dtype = problem.k_dtype = dtype;
      attend_plan *plan = attend_test_plan(&problem, NULL, 1);
      const attend_kernel *kernel = attend_kernel_find(attend_plan_kernel(plan));
      const bool expected = fast && dtype == ATTEND_BF16;
      cr_expect_eq(kernel->isa == ATTEND_ISA_AVX512BF16, expected, "%s-%u: %s for %d queries of %s", vendor,
                   (unsigned)family, kernel->name, (int)queries, attend_dtype_name(dtype));
      attend_plan_destroy(plan);
    }
  for (size_t i = 0; i < attend_kernel_count(); i++)
    if (attend_kernel_at(i)->isa == ATTEND_ISA_AVX512BF16) cr_expect(attend_test_runnable(attend_kernel_at(i)));
}

Test(unproven, bf16_products_are_chosen_on_zen_4) { expect_chosen("AuthenticAMD", 25, true); }
Test(unproven, bf16_products_are_chosen_on_zen_5) { expect_chosen("AuthenticAMD", 26, true); }
Test(unproven, bf16_products_of_another_vendor_are_not) { expect_chosen("GenuineIntel", 26, false); }
Test(unproven, bf16_products_of_another_family_are_not) { expect_chosen("AuthenticAMD", 27, false); }

/* Costs follow the processor, by the width of an instruction set's vectors. */
static void expect_pace(const char *vendor, uint32_t family, double pace, double wide_pace) {
  play(vendor, family);
  for (attend_isa isa = ATTEND_ISA_SCALAR; isa <= ATTEND_ISA_AMX; isa++)
    cr_expect_eq(attend_isa_pace(isa), isa < ATTEND_ISA_AVX512 ? pace : wide_pace, "%s: %g", attend_isa_name(isa),
                 attend_isa_pace(isa));
}
Test(pace, of_zen_4) { expect_pace("AuthenticAMD", 25, 1.3, 2.0); }
Test(pace, of_a_processor_that_was_not_measured) { expect_pace("AuthenticAMD", 24, 1.0, 1.0); }
#endif

/* -------------------------------------------------------------------------------------------------------- explain */

Test(explain, names_the_kernel_and_the_reason) {
  const attend_problem problems[] = {attend_test_full_problem(), attend_test_problem(1, 8, 2, 1, 5000, 64),
                                     attend_test_problem(1, 4, 4, 300, 300, 64), attend_test_problem(0, 1, 1, 1, 1, 1)};
  for (size_t i = 0; i < COUNT(problems); i++) {
    attend_plan *plan = attend_test_plan(&problems[i], NULL, 3);
    attend_env env;
    attend_resolved resolved;
    attend_choice choice;
    cr_assert_eq(attend_env_read(&env), ATTEND_OK);
    cr_assert_eq(attend_resolve(&problems[i], &resolved), ATTEND_OK);
    cr_assert_eq(attend_select(&resolved, &env, NULL, 3, &choice), ATTEND_OK);
    const size_t length = attend_plan_explain(plan, NULL, 0);
    char *text = malloc(length + 1);
    cr_assert_not_null(text);
    cr_expect_eq(attend_plan_explain(plan, text, length + 1), length);
    cr_expect_eq(strlen(text), length);
    cr_expect_not_null(strstr(text, attend_plan_kernel(plan)), "no kernel: %s", text);
    char reason[256];
    attend_choice_reason(&choice, &resolved, reason, sizeof reason);
    cr_expect_str_not_empty(reason);
    cr_expect_not_null(strstr(text, reason), "no reason: %s", text);
    cr_expect_null(strpbrk(text, "\r\n"), "more than one line: %s", text);
    free(text);
    attend_plan_destroy(plan);
  }
}

Test(explain, truncates_as_snprintf_does) {
  const attend_problem problem = attend_test_problem(1, 8, 2, 1, 5000, 64);
  attend_plan *plan = attend_test_plan(&problem, NULL, 3);
  const size_t length = attend_plan_explain(plan, NULL, 0);
  char *whole = malloc(length + 1), *part = malloc(length + 8);
  cr_assert(whole && part);
  attend_plan_explain(plan, whole, length + 1);
  for (size_t size = 0; size <= length + 4; size++) {
    memset(part, '#', length + 8);
    cr_expect_eq(attend_plan_explain(plan, part, size), length, "size %zu", size);
    const size_t written = size > length ? length : size ? size - 1 : 0;
    cr_expect_eq(memcmp(part, whole, written), 0, "size %zu", size);
    if (size) cr_expect_eq(part[written], '\0', "size %zu", size);
    for (size_t i = size; i < length + 8; i++) cr_expect_eq(part[i], '#', "size %zu: byte %zu was written", size, i);
  }
  free(whole);
  free(part);
  attend_plan_destroy(plan);
}

/* ------------------------------------------------------------------------------------------------------ selection */

static attend_choice select_for(const attend_problem *problem, const char *forced, int threads) {
  attend_env env;
  attend_resolved resolved;
  attend_choice choice;
  cr_assert_eq(attend_env_read(&env), ATTEND_OK, "%s", attend_error_detail());
  cr_assert_eq(attend_resolve(problem, &resolved), ATTEND_OK, "%s", attend_error_detail());
  cr_assert_eq(attend_select(&resolved, &env, forced, threads, &choice), ATTEND_OK, "%s", attend_error_detail());
  return choice;
}

/* The bits depend on where keys are split, and splitting after the last key is not splitting. */
static int64_t splits(const attend_choice *choice, int64_t kv_len) {
  return choice->tiling.split_keys < kv_len ? choice->tiling.split_keys : INT64_MAX;
}

static const attend_problem *some_shapes(size_t *count) {
  static attend_problem shapes[40];
  static const int64_t lengths[][2] = {{1, 1},     {1, 300},   {1, 8192},  {8, 8192},   {16, 16},
                                       {17, 1000}, {128, 128}, {577, 577}, {1024, 4096}};
  static const int64_t heads[][2] = {{1, 1}, {32, 8}, {12, 12}};
  *count = 0;
  for (size_t i = 0; i < COUNT(lengths); i++) {
    for (size_t j = 0; j < COUNT(heads); j++) {
      shapes[*count] = attend_test_problem(1, heads[j][0], heads[j][1], lengths[i][0], lengths[i][1], 64);
      shapes[(*count)++].causal = i % 2 ? ATTEND_CAUSAL_NONE : ATTEND_CAUSAL_BOTTOM_RIGHT;
    }
  }
  return shapes;
}

/* The cost decides on processors that it was fitted to, the number of rows on others. */
Test(selection, reads_few_keys_in_place_and_packs_many) {
  attend_problem problem = attend_test_problem(1, 1, 1, 300, 300, 256);
  const attend_kernel *packed = select_for(&problem, NULL, 1).kernel;
  cr_expect_neq(packed->body, ATTEND_BODY_DECODE);
  problem.kv_len = 2;
  const attend_kernel *few = select_for(&problem, NULL, 1).kernel;
  if (packed->isa == ATTEND_ISA_AVX2 || packed->isa == ATTEND_ISA_AVX512)
    cr_expect_eq(few->body, ATTEND_BODY_DECODE);
  else
    cr_expect_eq(few, packed);
  problem.kv_len = 300, problem.q_len = 1;
  cr_expect_eq(select_for(&problem, NULL, 1).kernel->body, ATTEND_BODY_DECODE);
}

Test(selection, splits_no_keys_under_a_narrow_window) {
  attend_problem problem = attend_test_problem(1, 4, 4, 1, 8192, 64);
  problem.causal = ATTEND_CAUSAL_BOTTOM_RIGHT;
  attend_choice choice = select_for(&problem, NULL, 1);
  cr_expect_lt(choice.tiling.split_keys, 8192, "%s", choice.kernel->name);
  problem.window = 1, problem.window_left = 100, problem.window_right = -1;
  choice = select_for(&problem, NULL, 1);
  cr_expect_geq(choice.tiling.split_keys, 8192, "%s", choice.kernel->name);
  problem.window_left = 3000; /* more than a part: there is work in many of them */
  cr_expect_lt(select_for(&problem, NULL, 1).tiling.split_keys, 8192);
}

/* Few products, but many rows to read and write. */
Test(selection, wakes_threads_for_rows_too) {
  attend_problem problem = attend_test_problem(4, 16, 16, 1000, 1, 64);
  attend_plan *plan = attend_test_plan(&problem, NULL, 2);
  cr_expect_eq(plan->cut.useful, 2);
  attend_plan_destroy(plan);
  problem = attend_test_problem(1, 2, 2, 1, 4, 64);
  plan = attend_test_plan(&problem, NULL, 2);
  cr_expect_eq(plan->cut.useful, 1);
  attend_plan_destroy(plan);
}

/* At the bounds of a problem the cost is a number still. */
Test(selection, costs_are_finite) {
  static const int64_t extents[] = {1, 17, ATTEND_MAX_EXTENT};
  for (int i = 0; i < 3 * 3 * 2 * 3; i++) {
    attend_problem problem = attend_test_problem(1, 2, 1, extents[i % 3], extents[i / 3 % 3], 64);
    attend_resolved resolved;
    problem.causal = i / 9 % 2 ? ATTEND_CAUSAL_TOP_LEFT : ATTEND_CAUSAL_NONE;
    problem.window = i / 18 > 0;
    problem.window_left = problem.window_right = i / 18 > 1 ? 0 : -1;
    if (attend_resolve(&problem, &resolved) != ATTEND_OK) continue;
    const attend_choice choice = select_for(&problem, NULL, 1);
    const double us = attend_cost_us(&resolved, choice.kernel, &choice.tiling);
    cr_expect(us > 0 && us < 1e30, "%d: %g us", i, us);
  }
}

/* A choice is made for a shape; the number of threads cuts rows at most. */
Test(selection, does_not_depend_on_threads) {
  static const int threads[] = {1, 2, 3, 7, 64, 1024};
  size_t count;
  const attend_problem *shapes = some_shapes(&count);
  for (size_t i = 0; i < count; i++) {
    for (size_t k = 0; k <= attend_kernel_count(); k++) {
      const attend_kernel *kernel = k ? attend_kernel_at(k - 1) : NULL;
      if (kernel && !attend_test_can(kernel, &shapes[i])) continue;
      const char *forced = kernel ? kernel->name : NULL;
      const attend_choice one = select_for(&shapes[i], forced, 1);
      if (kernel) cr_expect_eq(one.kernel, kernel);
      for (size_t j = 1; j < COUNT(threads); j++) {
        const attend_choice more = select_for(&shapes[i], forced, threads[j]);
        cr_expect_eq(more.kernel, one.kernel, "shape %zu: %s for %d threads", i, more.kernel->name, threads[j]);
        cr_expect_eq(more.tiling.split_keys, one.tiling.split_keys, "shape %zu, %s, %d threads", i, one.kernel->name,
                     threads[j]);
      }
    }
  }
}

/* What a kernel's contract asks of a tiling. */
Test(selection, tiling_suits_the_kernel) {
  size_t count;
  const attend_problem *shapes = some_shapes(&count);
  for (size_t i = 0; i < count; i++) {
    for (size_t k = 0; k < attend_kernel_count(); k++) {
      const attend_kernel *kernel = attend_kernel_at(k);
      if (!attend_test_can(kernel, &shapes[i])) continue;
      const attend_tiling t = select_for(&shapes[i], kernel->name, 3).tiling;
      const int64_t rows = shapes[i].q_heads / shapes[i].kv_heads * shapes[i].q_len;
      cr_expect_gt(t.slice_rows, 0, "%s", kernel->name);
      cr_expect(t.slice_rows >= rows || t.slice_rows % kernel->q_rows == 0, "%s: %lld rows a slice", kernel->name,
                (long long)t.slice_rows);
      cr_expect_gt(t.split_keys, 0, "%s", kernel->name);
      cr_expect(t.split_keys >= shapes[i].kv_len || t.split_keys % kernel->k_block == 0, "%s: %lld keys a slice",
                kernel->name, (long long)t.split_keys);
      cr_expect(t.split_keys >= shapes[i].kv_len || kernel->can & ATTEND_CAN_SPLIT, "%s cannot split", kernel->name);
      if (kernel->body != ATTEND_BODY_TILED) continue;
      cr_expect_gt(t.strip_rows, 0, "%s", kernel->name);
      cr_expect_eq(t.strip_rows % kernel->q_rows, 0, "%s: %lld rows a strip", kernel->name, (long long)t.strip_rows);
    }
  }
}

/* A tiling that does not suit the kernel is refused like any other argument. */
Test(selection, bad_tilings_are_refused) {
  const attend_problem problem = attend_test_problem(1, 8, 1, 40, 3000, 16);
  attend_problem weights = problem;
  weights.weights = 1;
  size_t checked = 0;
  for (size_t k = 0; k < attend_kernel_count(); k++) {
    const attend_kernel *kernel = attend_kernel_at(k);
    if (!attend_test_can(kernel, &problem)) continue;
    const int64_t tile = kernel->q_rows, block = kernel->k_block;
    const struct {
      const char *field;
      attend_tiling tiling;
    } bad[] = {
        {"slice_rows", {0, tile, 4096, false, false, 1}},
        {"slice_rows", {-tile, tile, 4096, false, false, 1}},
        {"slice_rows", {tile + 1, tile, 4096, false, false, 1}},
        {"strip_rows", {tile, 0, 4096, false, false, 1}},
        {"strip_rows", {tile, tile + 1, 4096, false, false, 1}},
        {"strip_rows", {tile, INT64_MIN, 4096, false, false, 1}},
        {"split_keys", {tile, tile, 0, false, false, 1}},
        {"split_keys", {tile, tile, -block, false, false, 1}},
        {"split_keys", {tile, tile, block + 1, false, false, 1}},
    };
    attend_options options = ATTEND_OPTIONS_INIT;
    options.kernel = kernel->name;
    attend_plan *plan = NULL;
    for (size_t i = tile > 1 ? 0 : 3; i < COUNT(bad); i++) {
      EXPECT_ERROR(attend_plan_create_tiled(&problem, &options, &bad[i].tiling, &plan), ATTEND_ERROR_INVALID_ARGUMENT,
                   bad[i].field, "%s, %s", kernel->name, bad[i].field);
    }
    const attend_tiling split = {tile, tile, block, false, false, 1};
    if (!(kernel->can & ATTEND_CAN_SPLIT)) {
      EXPECT_ERROR(attend_plan_create_tiled(&problem, &options, &split, &plan), ATTEND_ERROR_UNSUPPORTED, "split_keys",
                   "%s", kernel->name);
    }
    if (kernel->can & ATTEND_CAN_WEIGHTS) {
      EXPECT_ERROR(attend_plan_create_tiled(&weights, &options, &split, &plan), ATTEND_ERROR_UNSUPPORTED, "split_keys",
                   "%s", kernel->name);
    }
    cr_expect_null(plan);
    checked++;
  }
  cr_expect_gt(checked, 0);
}

/* Heads of a slice of a problem on which decode is forced, with keys and values as the strides say. */
static int heads_together(int64_t group, int64_t heads, int64_t keys, attend_strides k, attend_strides v) {
  attend_problem problem = attend_test_problem(1, group * heads, heads, 1, keys, 64);
  problem.k_strides = k, problem.v_strides = v;
  return select_for(&problem, "decode_f32__scalar_q4k32", 4).tiling.heads;
}

Test(selection, decode_computes_heads_together_that_lie_side_by_side) {
  const attend_strides apart = {0}, together = {0, 64, 8 * 64}, gaps = {0, 64, 9 * 64}, half = {0, 128, 16 * 64};
  const attend_strides many = {0, 64, 64 * 64};
  const int64_t keys = (int64_t)attend_topology_get()->l2 / 64 / 16; /* K and V are twice the L2 cache */
  cr_expect_eq(heads_together(4, 8, keys, together, together), 8);
  cr_expect_eq(heads_together(3, 8, keys, together, together), 8);
  cr_expect_eq(heads_together(2, 8, keys, together, together), 1, "few rows");
  cr_expect_eq(heads_together(16, 8, keys, together, together), 8);
  cr_expect_eq(heads_together(17, 8, keys, together, together), 1, "many rows");
  cr_expect_eq(heads_together(4, 8, keys / 16, together, together), 1, "in the cache");
  cr_expect_eq(heads_together(4, 8, keys, apart, apart), 1, "head by head");
  cr_expect_eq(heads_together(4, 8, keys, together, apart), 1);
  cr_expect_eq(heads_together(4, 8, keys, gaps, gaps), 1, "gaps between rows");
  cr_expect_eq(heads_together(4, 8, keys, half, half), 1, "gaps between heads");
  cr_expect_eq(heads_together(4, 64, keys, many, many), 1, "more heads than a slice may have");
}

Test(selection, batch_invariant_does_not_depend_on_batch_or_kv_len) {
  static const int64_t batches[] = {1, 2, 5, 64, 1000}, kv_lens[] = {1, 31, 512, 513, 1024, 5000, 70000};
  size_t count;
  const attend_problem *shapes = some_shapes(&count);
  for (size_t i = 0; i < count; i++) {
    for (size_t k = 0; k <= attend_kernel_count(); k++) {
      const attend_kernel *kernel = k ? attend_kernel_at(k - 1) : NULL;
      const attend_kernel *chosen = NULL;
      int64_t split = 0, longest = 0;
      for (size_t j = 0; j < COUNT(batches) * COUNT(kv_lens); j++) {
        attend_problem problem = shapes[i];
        problem.batch_invariant = 1, problem.kv_lengths = ATTEND_LENGTHS_PER_BATCH;
        problem.causal = ATTEND_CAUSAL_TOP_LEFT;
        problem.batch = batches[j % COUNT(batches)], problem.kv_len = kv_lens[j / COUNT(batches)];
        if (kernel && !attend_test_can(kernel, &problem)) continue;
        const attend_choice choice = select_for(&problem, kernel ? kernel->name : NULL, 3);
        if (chosen) cr_expect_eq(choice.kernel, chosen, "%s or %s", choice.kernel->name, chosen->name);
        /* kv_lens ascend: a split seen once is that of all longer ones, and shorter ones have none or the same */
        const int64_t own = splits(&choice, problem.kv_len);
        if (chosen && problem.kv_len == longest)
          cr_expect_eq(own, split, "%s: batch %lld", choice.kernel->name, (long long)problem.batch);
        if (chosen && split < INT64_MAX)
          cr_expect_eq(own, split, "%s: kv_len %lld", choice.kernel->name, (long long)problem.kv_len);
        if (chosen && split == INT64_MAX && own < INT64_MAX) {
          cr_expect_geq(own, longest, "%s: keys not split at %lld are at %lld", choice.kernel->name, (long long)longest,
                        (long long)problem.kv_len);
        }
        chosen = choice.kernel, split = own, longest = problem.kv_len;
      }
    }
  }
}

/* The same end to end: a sequence alone, and among others in longer memory, to the bit. */
Test(selection, batch_invariant_bits) {
  enum { HEADS = 4, QUERIES = 3, KEYS = 300, LONGER = 5000, DIM = 16, BATCH = 3, AT = 1 };
  for (size_t k = 0; k <= attend_kernel_count(); k++) {
    const char *name = k ? attend_kernel_at(k - 1)->name : NULL;
    attend_problem alone = attend_test_problem(1, HEADS, 1, QUERIES, KEYS, DIM);
    alone.batch_invariant = 1, alone.kv_lengths = ATTEND_LENGTHS_PER_BATCH, alone.lse = 1;
    attend_problem among = alone;
    among.batch = BATCH, among.kv_len = LONGER;
    if (name &&
        (!attend_test_can(attend_kernel_at(k - 1), &alone) || !attend_test_can(attend_kernel_at(k - 1), &among)))
      continue;
    attend_plan *one = attend_test_plan(&alone, name, 2), *many = attend_test_plan(&among, name, 2);
    attend_test_tensors a = attend_test_tensors_create(&alone), b = attend_test_tensors_create(&among);
    /* the middle entry of the batch becomes the one alone */
    const size_t q = HEADS * QUERIES * DIM, kv = LONGER * DIM;
    memcpy((float *)b.memory[Q] + AT * q, a.memory[Q], q * sizeof(float));
    memcpy((float *)b.memory[K] + AT * kv, a.memory[K], a.bytes[K]);
    memcpy((float *)b.memory[V] + AT * kv, a.memory[V], a.bytes[V]);
    ((int32_t *)b.memory[KV_LENGTHS])[AT] = KEYS;
    cr_assert_eq(attend_plan_run(one, &a.t, NULL, 0), ATTEND_OK, "%s", attend_error_detail());
    cr_assert_eq(attend_plan_run(many, &b.t, NULL, 0), ATTEND_OK, "%s", attend_error_detail());
    cr_expect_eq(memcmp((float *)b.memory[OUT] + AT * q, a.memory[OUT], a.bytes[OUT]), 0, "%s",
                 attend_plan_kernel(one));
    cr_expect_eq(memcmp((float *)b.memory[LSE] + AT * HEADS * QUERIES, a.memory[LSE], a.bytes[LSE]), 0, "%s",
                 attend_plan_kernel(one));
    attend_test_tensors_destroy(&a);
    attend_test_tensors_destroy(&b);
    attend_plan_destroy(one);
    attend_plan_destroy(many);
  }
}
