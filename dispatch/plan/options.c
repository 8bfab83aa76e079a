/* SPDX-License-Identifier: Apache-2.0 */
/** Options of plans: checked, completed from the environment unless they say not to, and what of them a plan keeps. */
#include <string.h>

#include "dispatch/dispatch.h"

/* Fields that 0.2 has. */
#define FIRST_SIZE (offsetof(attend_options, verbose) + sizeof(int))

static attend_status check(const attend_options *o) {
  const attend_range ranges[] = {
      {"num_threads", o->num_threads, 0, ATTEND_MOST_THREADS},
      {"bind_threads", o->bind_threads, 0, 1},
      {"ignore_environment", o->ignore_environment, 0, 1},
      {"verbose", o->verbose, 0, 1},
  };
  if (!o->allocate != !o->release)
    return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT, "%s is NULL, expected a function: %s is one",
                       o->allocate ? "release" : "allocate", o->allocate ? "allocate" : "release");
  return attend_check_ranges(ranges, sizeof ranges / sizeof *ranges);
}

static attend_status take_profile(const char *name, attend_env *env) {
  const size_t length = strlen(name);
  if (length == 0 || length >= sizeof env->profile)
    return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT,
                       "profile is \"%.100s\", expected \"off\" or a file of 1 to %zu characters", name,
                       sizeof env->profile - 1);
  memcpy(env->profile, name, length + 1);
  env->profile_of_options = true;
  return ATTEND_OK;
}

attend_status attend_options_read(const attend_options *options, attend_options *o, attend_env *env) {
  attend_status status = ATTEND_OK;
  *o = (attend_options)ATTEND_OPTIONS_INIT;
  if (options) status = attend_read_versioned(o, sizeof *o, FIRST_SIZE, options, "attend_options");
  if (status != ATTEND_OK || (status = check(o)) != ATTEND_OK) return status;
  if (o->ignore_environment)
    attend_env_ignore(env);
  else if ((status = attend_env_read(env)) != ATTEND_OK)
    return status;
  if (o->verbose) env->verbose = true;
  return o->profile ? take_profile(o->profile, env) : ATTEND_OK;
}

attend_host attend_host_of(const attend_options *o) {
  return (attend_host){.allocate = o->allocate,
                       .release = o->release,
                       .memory_context = o->memory_context,
                       .parallel_for = o->parallel_for,
                       .parallel_context = o->parallel_context};
}
