/* SPDX-License-Identifier: Apache-2.0 */
/** Detection of the processor, and of the cores that this process may use. */
#define _GNU_SOURCE /* for the affinity mask */
#include <criterion/criterion.h>
#include <sched.h>
#include <string.h>

#include "dispatch/machine/cpu.h"
#include "dispatch/plan/plan.h"
#include "tests/support.h"

Test(cpu, features_are_consistent) {
  const attend_cpu *cpu = attend_cpu_get();
  cr_expect_str_not_empty(cpu->name);
  cr_expect_str_not_empty(cpu->signature);
  cr_expect_null(strpbrk(cpu->name, "\r\n"));
  cr_expect_null(strpbrk(cpu->signature, "\r\n"));
  cr_expect_eq(cpu->usable & ~cpu->present, 0, "a feature is usable and not there");
  cr_expect_eq(cpu->present >> ATTEND_CPU_FEATURE_COUNT, 0, "a feature without a name");
  for (attend_cpu_feature i = 0; i < ATTEND_CPU_FEATURE_COUNT; i++) {
    cr_expect_str_not_empty(attend_cpu_feature_name(i));
    for (attend_cpu_feature j = 0; j < i; j++) {
      cr_expect_str_neq(attend_cpu_feature_name(i), attend_cpu_feature_name(j));
    }
    if (cpu->usable >> i & 1) cr_expect_null(attend_cpu_unusable_reason(i));
    if ((cpu->present & ~cpu->usable) >> i & 1) cr_expect_str_not_empty(attend_cpu_unusable_reason(i));
  }
}

#ifdef __x86_64__
/* The compiler's run-time asks CPUID and the operating system as well. It does not know what a build hides. */
Test(cpu, agrees_with_the_compiler) {
  const uint64_t usable = attend_cpu_get()->usable;
  __builtin_cpu_init();
#define EXPECT_SAME(feature, name)                                                                                     \
  cr_expect_eq(!!(usable & ATTEND_CPU_BIT(feature)),                                                                   \
               __builtin_cpu_supports(name) && !(attend_cpu_hidden & ATTEND_CPU_BIT(feature)), name)
  EXPECT_SAME(AVX2, "avx2");
  EXPECT_SAME(FMA, "fma");
  EXPECT_SAME(AVX512F, "avx512f");
  EXPECT_SAME(AVX512BW, "avx512bw");
  EXPECT_SAME(AVX512DQ, "avx512dq");
  EXPECT_SAME(AVX512VL, "avx512vl");
  EXPECT_SAME(AVX512_VNNI, "avx512vnni");
  EXPECT_SAME(AVX512_BF16, "avx512bf16");
  EXPECT_SAME(AVX_VNNI, "avxvnni");
#undef EXPECT_SAME
  cr_expect_eq(usable & (ATTEND_CPU_BIT(NEON) | ATTEND_CPU_BIT(SVE)), 0);
}

/* A build with ATTEND_HIDE: that instruction set and the wider ones cannot be used, and nothing else changes. */
Test(cpu, hides_what_the_build_hides) {
  static const attend_isa isas[] = {ATTEND_ISA_AVX2, ATTEND_ISA_AVX512, ATTEND_ISA_AVX512BF16, ATTEND_ISA_AMX};
  bool hidden = false;
  for (size_t i = 0; i < COUNT(isas); i++) {
    const uint64_t features = attend_isa_features(isas[i]) & attend_cpu_hidden;
    hidden = hidden || strcmp(attend_isa_name(isas[i]), ATTEND_TEST_HIDDEN) == 0;
    cr_expect_eq(features != 0, hidden, "%s", attend_isa_name(isas[i]));
    cr_expect_eq(attend_cpu_get()->present & features, 0, "%s", attend_isa_name(isas[i]));
    if (features)
      cr_expect_not_null(strstr(attend_cpu_unusable_reason((attend_cpu_feature)__builtin_ctzll(features)), "hides"));
  }
  cr_expect_eq(hidden, *ATTEND_TEST_HIDDEN != 0, "no instruction set is called %s", ATTEND_TEST_HIDDEN);
}
#endif

Test(cpu, names_of_types_and_bodies) {
  for (attend_isa i = 0; i < ATTEND_ISA_COUNT; i++) {
    cr_expect_str_not_empty(attend_isa_name(i));
    for (attend_isa j = 0; j < i; j++) cr_expect_str_neq(attend_isa_name(i), attend_isa_name(j));
  }
  cr_expect_eq(attend_isa_features(ATTEND_ISA_SCALAR), 0);
  cr_expect_str_eq(attend_isa_name(ATTEND_ISA_SCALAR), "scalar");
  cr_expect_str_eq(attend_body_name(ATTEND_BODY_BLOCKED), "blocked");
  cr_expect_str_eq(attend_body_name(ATTEND_BODY_TILED), "tiled");
  cr_expect_str_eq(attend_body_name(ATTEND_BODY_STREAMING), "streaming");
  cr_expect_str_eq(attend_body_name(ATTEND_BODY_DECODE), "decode");
  cr_expect_str_eq(attend_body_name(ATTEND_BODY_ROWS), "rows");
  cr_expect_str_eq(attend_dtype_name(ATTEND_F32), "f32");
  cr_expect_str_eq(attend_dtype_name(ATTEND_F16), "f16");
  cr_expect_str_eq(attend_dtype_name(ATTEND_BF16), "bf16");
  cr_expect_eq(attend_dtype_size(ATTEND_F32), 4);
  cr_expect_eq(attend_dtype_size(ATTEND_F16), 2);
  cr_expect_eq(attend_dtype_size(ATTEND_BF16), 2);
}

Test(topology, is_sane) {
  const attend_topology *t = attend_topology_get();
  cr_expect_geq(t->logical, 1);
  cr_expect_geq(t->cores, 1);
  cr_expect_leq(t->cores, t->logical);
  cr_expect_geq(attend_allowed_cores(), 1);
  cr_expect_leq(attend_allowed_cores(), t->cores);
  cr_expect_geq(attend_default_threads(), 1);
  cr_expect_leq(attend_default_threads(), attend_allowed_cores());
  cr_expect_geq(t->nodes, 1);
  cr_expect_leq(t->nodes, t->logical);
  cr_expect_geq(t->l1d, 4 << 10);
  cr_expect_geq(t->l2, t->l1d);
  cr_expect_geq(t->l3, 256 << 10);
}

/* The default number of threads is that of the cores which this process may use. */
Test(topology, respects_the_affinity_mask) {
  unsetenv("ATTEND_NUM_THREADS"), unsetenv("OMP_NUM_THREADS");
  unsetenv("OMP_PROC_BIND");
  cpu_set_t all, one;
  cr_assert_eq(sched_getaffinity(0, sizeof all, &all), 0);
  CPU_ZERO(&one);
  for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; cpu++) {
    if (CPU_ISSET(cpu, &all)) CPU_SET(cpu, &one);
  }
  cr_assert_eq(sched_setaffinity(0, sizeof one, &one), 0);
  cr_expect_eq(attend_allowed_cores(), 1);
  const attend_problem problem = attend_test_problem(4, 8, 8, 256, 256, 64);
  attend_plan *plan = attend_test_plan(&problem, NULL, 0);
  cr_expect_eq(attend_plan_max_parts(plan), 1);
  attend_plan_destroy(plan);
}
