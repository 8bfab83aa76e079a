/* SPDX-License-Identifier: Apache-2.0 */
/** The environment: the only place that reads it, and the one table of its variables. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch/dispatch.h"

/* How much of a value an error quotes. */
#define QUOTED "\"%.100s\""

#define SPACES " \t\n\v\f\r"

static bool is_built(attend_isa isa) {
  for (size_t i = 0; i < attend_kernel_count(); i++)
    if (attend_kernel_at(i)->isa == isa) return true;
  return false;
}

static const char isa_names[] =
#define ATTEND_ISA(id, name, rank, flops_per_us, decode_flops_per_us, decode_rows, needs) " " name
#include "kernels/cpu.def"
    ;

static attend_status parse_isa(attend_env *env, const char *value) {
  attend_isa isa = ATTEND_ISA_SCALAR;
  while (isa < ATTEND_ISA_COUNT && strcmp(value, attend_isa_name(isa)) != 0) isa++;
  if (isa == ATTEND_ISA_COUNT)
    return attend_fail(ATTEND_ERROR_ENVIRONMENT, "ATTEND_ISA is " QUOTED ", expected one of%s", value, isa_names);
  uint64_t missing = attend_isa_features(isa) & ~attend_cpu_get()->usable;
  if (missing) {
    attend_cpu_feature feature = (attend_cpu_feature)__builtin_ctzll(missing);
    return attend_fail(ATTEND_ERROR_ENVIRONMENT, "ATTEND_ISA is \"%s\", which cannot run here: needs %s: %s", value,
                       attend_cpu_feature_name(feature), attend_cpu_unusable_reason(feature));
  }
  if (!is_built(isa))
    return attend_fail(ATTEND_ERROR_ENVIRONMENT, "ATTEND_ISA is \"%s\", which this library has no kernels for", value);
  env->isa = isa;
  return ATTEND_OK;
}

static attend_status parse_kernel(attend_env *env, const char *value) {
  if (strcmp(value, "auto") == 0) return ATTEND_OK;
  if (!attend_kernel_find(value) || strlen(value) >= sizeof env->kernel)
    return attend_fail(ATTEND_ERROR_ENVIRONMENT, "ATTEND_KERNEL is " QUOTED ", which is the name of no kernel", value);
  strcpy(env->kernel, value);
  return ATTEND_OK;
}

static attend_status parse_profile(attend_env *env, const char *value) {
  if (strlen(value) >= sizeof env->profile)
    return attend_fail(ATTEND_ERROR_ENVIRONMENT, "ATTEND_PROFILE is " QUOTED ", expected less than %zu characters",
                       value, sizeof env->profile);
  strcpy(env->profile, value);
  return ATTEND_OK;
}

static attend_status parse_num_threads(attend_env *env, const char *value) {
  long number = 0;
  const char *c = value;
  while (*c >= '0' && *c <= '9' && number <= ATTEND_MOST_THREADS) number = number * 10 + (*c++ - '0');
  if (*c || number < 1 || number > ATTEND_MOST_THREADS)
    return attend_fail(ATTEND_ERROR_ENVIRONMENT, "ATTEND_NUM_THREADS is " QUOTED ", expected 1 to %d", value,
                       ATTEND_MOST_THREADS);
  env->num_threads = (int)number;
  env->num_threads_by = "ATTEND_NUM_THREADS";
  return ATTEND_OK;
}

/** A number, or a list for regions within regions, whose first number counts. Anything else OpenMP ignores, as we do.
 */
static attend_status parse_openmp_num_threads(attend_env *env, const char *value) {
  long first = 0;
  for (const char *c = value;; c++) {
    char *end;
    const long number = strtol(c, &end, 10);
    if (end == c || number < 1) return ATTEND_OK;
    if (c == value) first = number;
    c = end + strspn(end, SPACES);
    if (!*c) break;
    if (*c != ',') return ATTEND_OK;
  }
  if (env->num_threads) return ATTEND_OK;
  env->num_threads = first < ATTEND_MOST_THREADS ? (int)first : ATTEND_MOST_THREADS;
  env->num_threads_by = "OMP_NUM_THREADS";
  return ATTEND_OK;
}

static attend_status parse_verbose(attend_env *env, const char *value) {
  if (strcmp(value, "0") != 0 && strcmp(value, "1") != 0)
    return attend_fail(ATTEND_ERROR_ENVIRONMENT, "ATTEND_VERBOSE is " QUOTED ", expected 0 or 1", value);
  env->verbose = *value == '1';
  return ATTEND_OK;
}

const attend_env_variable attend_env_variables[] = {
    {"ATTEND_ISA", "NAME", "the highest instruction set to use, of those that `attend info` lists", parse_isa},
    {"ATTEND_KERNEL", "NAME, auto", "the kernel to use where a program leaves the choice to the library", parse_kernel},
    {"ATTEND_PROFILE", "FILE, off", "the tuning profile to use instead of the one in the cache directory",
     parse_profile},
    {"ATTEND_NUM_THREADS", "1 to 1024", "the most threads to use where a program does not say", parse_num_threads},
    {"OMP_NUM_THREADS", "1 or more, a list", "the same where ATTEND_NUM_THREADS is not set; of a list its first number",
     parse_openmp_num_threads},
    {"ATTEND_VERBOSE", "0, 1", "1: a line on stderr for each plan, with the kernel chosen and why", parse_verbose},
    {NULL, NULL, NULL, NULL},
};

static const char *value_of(const char *name) {
  const char *value = getenv(name);
  return value ? value : "";
}

/** The highest instruction set that the processor can run: no limit. */
static attend_isa highest_isa(void) {
  attend_isa highest = ATTEND_ISA_SCALAR;
  for (attend_isa isa = ATTEND_ISA_SCALAR; isa < ATTEND_ISA_COUNT; isa++)
    if (!(attend_isa_features(isa) & ~attend_cpu_get()->usable) && attend_isa_rank(isa) > attend_isa_rank(highest))
      highest = isa;
  return highest;
}

void attend_env_ignore(attend_env *env) {
  *env = (attend_env){.isa = highest_isa(), .profile = "off", .profile_of_options = true, .cache = "", .home = ""};
}

attend_status attend_env_read(attend_env *env) {
  *env = (attend_env){.isa = highest_isa(), .cache = value_of("XDG_CACHE_HOME"), .home = value_of("HOME")};
  for (const attend_env_variable *variable = attend_env_variables; variable->name; variable++) {
    const char *value = getenv(variable->name);
    if (!value || !*value) continue; /* set to nothing is the shell's way of taking a variable away */
    attend_status status = variable->parse(env, value);
    if (status != ATTEND_OK) return status;
  }
  return ATTEND_OK;
}

/** A number and a unit: B, K, M or G, without one K. Any other value libgomp ignores. */
static bool parse_size(const char *value, size_t *size) {
  static const char units[] = "BKMG";
  char *end;
  errno = 0;
  const unsigned long number = strtoul(value, &end, 10);
  if (errno || end == value) return false;
  end += strspn(end, SPACES);
  const char *unit = *end ? strchr(units, toupper((unsigned char)*end++)) : &units[1];
  if (!unit) return false;
  const int shift = 10 * (int)(unit - units);
  *size = (size_t)number << shift;
  return *size >> shift == number && !end[strspn(end, SPACES)];
}

size_t attend_env_openmp_stack(void) {
  const int saved_errno = errno;
  size_t size = 0;
  if (!parse_size(value_of("OMP_STACKSIZE"), &size) && !parse_size(value_of("GOMP_STACKSIZE"), &size)) size = 0;
  errno = saved_errno;
  return size;
}
