/* SPDX-License-Identifier: Apache-2.0 */
/**
 * AMX that the processor shows and this process may not use: an ordinary "not usable" with its reason, and another
 * kernel. The processor is played, so that this is tested where there is no AMX; a refusal is a real one, by a filter
 * on system calls. Criterion runs each test in a process of its own, and so each detects its processor anew.
 */
#include <criterion/criterion.h>

#ifdef __x86_64__

#include <criterion/redirect.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cli/commands.h"
#include "tests/play_x86.h"
#include "tests/support.h"

enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };

static const uint64_t amx = ATTEND_CPU_BIT(AMX_TILE) | ATTEND_CPU_BIT(AMX_BF16) | ATTEND_CPU_BIT(AMX_INT8);

/* From now on arch_prctl(ARCH_REQ_XCOMP_PERM) fails with EPERM, as in a container that does not allow it. */
static void deny(void) {
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 5),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_arch_prctl, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, REQUEST_PERMISSION, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const struct sock_fprog program = {COUNT(code), code};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
    cr_skip_test("no filter on system calls here: %s", strerror(errno));
  errno = 0;
  cr_assert_eq(syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA), -1);
  cr_assert_eq(errno, EPERM);
}

/* What `attend info` says. */
static const char *info(void) {
  static char text[8192];
  char *arguments[] = {"info", NULL};
  cr_redirect_stdout();
  cr_assert_eq(cmd_info(1, arguments), 0);
  fflush(stdout);
  FILE *out = cr_get_redirected_stdout();
  text[fread(text, 1, sizeof text - 1, out)] = 0;
  return text;
}

/* AMX is there and not usable for that reason, which `attend info` says; a bf16 problem runs on something else. */
static void expect_unusable(const attend_play_x86 *play, const char *reason, int asked) {
  unsetenv("ATTEND_ISA");
  const attend_cpu *cpu = attend_cpu_get();
  cr_expect_eq(cpu->present & amx, amx);
  cr_expect_eq(cpu->usable & amx, 0);
  cr_expect_str_eq(attend_cpu_unusable_reason(ATTEND_CPU_AMX_TILE), reason);
  cr_expect_str_eq(attend_cpu_unusable_reason(ATTEND_CPU_AMX_BF16), reason);

  attend_problem problem = attend_test_problem(1, 4, 4, 256, 256, 64);
  problem.q_dtype = ATTEND_BF16;
  for (int i = 0; i < 2; i++) {
    attend_plan *plan = attend_test_plan(&problem, NULL, 1);
    cr_expect_null(strstr(attend_plan_kernel(plan), "__amx_"), "%s was chosen", attend_plan_kernel(plan));
    attend_test_tensors t = attend_test_run(plan, &problem);
    cr_expect(attend_test_written(&t));
    attend_test_tensors_destroy(&t);
    attend_plan_destroy(plan);
  }

  /* A refusal names the first thing that is missing: on a processor without AVX-512 that is not AMX. */
  const uint64_t vectors = attend_isa_features(ATTEND_ISA_AMX) & ~amx & ~cpu->usable;
  const char *first = vectors ? attend_cpu_feature_name((attend_cpu_feature)__builtin_ctzll(vectors)) : reason;
  setenv("ATTEND_ISA", "amx", 1);
  attend_test_refuses(&problem, NULL, ATTEND_ERROR_ENVIRONMENT, "ATTEND_ISA", first, "ATTEND_ISA=amx");
  unsetenv("ATTEND_ISA");

  const char *text = info();
  char line[256];
  snprintf(line, sizeof line, "  %-20s present, but not usable: %s\n", "amx_tile", reason);
  cr_expect(strstr(text, line), "attend info does not say \"%s\":\n%s", line, text);
  cr_expect_eq(play->asked, asked, "the permission was asked for %d times", play->asked);
}

Test(amx, refused_by_the_system) {
  attend_play_x86 play = {.saves_tiles = true, .palette = true, .really_ask = true};
  attend_play_amx(&play);
  deny();
  expect_unusable(&play, "the operating system does not permit AMX to this process", 1);
}

Test(amx, shown_without_a_palette) {
  attend_play_x86 play = {.saves_tiles = true};
  attend_play_amx(&play);
  expect_unusable(&play, "the processor shows AMX but no tile palette", 0);
}

Test(amx, unknown_to_the_system) {
  attend_play_x86 play = {.palette = true};
  attend_play_amx(&play);
  expect_unusable(&play, "the operating system does not save tile registers", 0);
}

Test(amx, granted) {
  attend_play_x86 play = {.saves_tiles = true, .palette = true};
  attend_play_amx(&play);
  cr_expect_eq(attend_cpu_get()->usable & amx, amx);
  cr_expect_null(attend_cpu_unusable_reason(ATTEND_CPU_AMX_TILE));
  cr_expect_eq(attend_cpu_get()->usable & amx, amx);
  cr_expect_eq(play.asked, 1, "the permission was asked for %d times", play.asked);
}

#else

Test(amx, is_of_another_processor) { cr_skip_test("AMX is of x86-64"); }

#endif
