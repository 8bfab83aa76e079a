/* SPDX-License-Identifier: Apache-2.0 */
/**
 * A tuning profile. A file is bound to its machine and ends in its own hash, which no fuzzer finds: unless the first
 * byte is '!', both are put around the bytes. A profile that is taken then chooses kernels.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch/choose/profile.h"
#include "tests/fuzz/fuzz.h"
#include "tune/internal.h"

/** The bytes as a file of this machine. */
static char *make_file(const uint8_t *bytes, size_t size, size_t *length) {
  char head[512], *text = malloc(sizeof head + size + 32);
  attend_fuzz_check(text, "a profile", "no memory");
  *length =
      (size_t)snprintf(head, sizeof head, "attend-profile %d\nlibrary %s\ncpu %s\ncores %d\nkernels %016" PRIx64 "\n",
                       ATTEND_PROFILE_VERSION, attend_version(), attend_cpu_get()->signature,
                       attend_topology_get()->cores, attend_profile_rows_hash());
  memcpy(text, head, *length);
  memcpy(text + *length, bytes, size);
  *length += size;
  *length += (size_t)sprintf(text + *length, "end %016" PRIx64 "\n", attend_profile_hash(text, *length));
  return text;
}

/** What it says about some shapes. */
static void choose(const attend_profile *profile) {
  attend_env env;
  attend_fuzz_check(attend_env_read(&env) == ATTEND_OK, "the environment", attend_error_detail());
  for (size_t i = 0; i < 8; i++) {
    const attend_problem problem = attend_tune_random(1, i, i % 2);
    attend_resolved resolved;
    attend_choice choice = {.by = ATTEND_BY_RULES};
    char text[512];
    attend_fuzz_check(attend_resolve(&problem, &resolved) == ATTEND_OK, "a shape", attend_error_detail());
    for (size_t k = 0; k < attend_kernel_count() && !choice.kernel; k++)
      if (attend_kernel_runnable(attend_kernel_at(k), env.isa, NULL, 0) &&
          attend_kernel_can(attend_kernel_at(k), &resolved, NULL, 0))
        choice.kernel = attend_kernel_at(k);
    if (!choice.kernel || !attend_profile_covers(profile, &resolved)) continue;
    attend_profile_choose(profile, &resolved, &env, 2, &choice);
    attend_fuzz_check(choice.kernel && attend_kernel_runnable(choice.kernel, env.isa, NULL, 0), "a choice",
                      "it cannot run here");
    if (choice.by == ATTEND_BY_PROFILE) attend_profile_reason(&choice, &resolved, text, sizeof text);
  }
}

/** Parses the bytes. NULL only with a reason. */
static attend_profile *parse(const uint8_t *bytes, size_t size, char why[256]) {
  const bool raw = size > 0 && bytes[0] == '!';
  size_t length = size - raw;
  char *made = raw ? NULL : make_file(bytes, size, &length), *text = malloc(length ? length : 1);
  attend_fuzz_check(text, "a profile", "no memory");
  if (length)
    memcpy(text, raw ? (const char *)bytes + 1 : made, length); /* of its exact size, without a zero after it */
  free(made);
  attend_profile *profile = NULL;
  const attend_status status = attend_profile_parse(text, length, &profile, why, 256);
  attend_fuzz_check((status == ATTEND_OK) == (profile != NULL) && (profile || *why), "a profile",
                    "no reason, or no profile");
  free(text);
  return profile;
}

/** Whether a file is made as the library wants it: else nothing that is fuzzed would come beyond its head. */
static void check_head(void) {
  static const char smallest[] =
      "threads 1\nnoise 0\nteams 1\ncolumns 2\npoints 1\nteam 1 0\ntime 0\n"
      "choice stream_f32__scalar_q4k32 split 1 0\npoint f32/f32 1 1/1 1x1 8/8 1 full plain 0 0\n";
  char why[256];
  attend_profile *profile = parse((const uint8_t *)smallest, sizeof smallest - 1, why);
  attend_fuzz_check(profile, "the smallest profile", why);
  attend_profile_free(profile);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  static bool checked;
  char why[256];
  if (!checked) check_head();
  checked = true;
  attend_profile *profile = parse(bytes, size, why);
  if (profile) choose(profile);
  attend_profile_free(profile);
  return 0;
}
