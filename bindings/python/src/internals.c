/* SPDX-License-Identifier: Apache-2.0 */
#include "internals.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch/choose/profile.h"
#include "dispatch/dispatch.h"
#include "dispatch/machine/cpu.h"
#include "dispatch/machine/topology.h"
#include "tune/tune.h"

attend_status attend_python_info(const attend_python_sink *sink) {
  attend_env env;
  attend_profile_state state;
  attend_status status = attend_env_read(&env);
  if (status == ATTEND_OK) status = attend_profile_get(&env, &state);
  if (status != ATTEND_OK) return status;
  const attend_cpu *cpu = attend_cpu_get();
  const attend_topology *topology = attend_topology_get();
  sink->text(sink->context, "version", attend_version(), false);
  sink->text(sink->context, "cpu", cpu->name, false);
  sink->text(sink->context, "signature", cpu->signature, false);
  sink->text(sink->context, "usable", NULL, true);
  sink->text(sink->context, "unusable", NULL, true);
  for (attend_cpu_feature f = 0; f < ATTEND_CPU_FEATURE_COUNT; f++) {
    char text[300];
    if (cpu->usable >> f & 1) {
      sink->text(sink->context, "usable", attend_cpu_feature_name(f), true);
    } else if (cpu->present >> f & 1) {
      snprintf(text, sizeof text, "%s: %s", attend_cpu_feature_name(f), attend_cpu_unusable_reason(f));
      sink->text(sink->context, "unusable", text, true);
    }
  }
  sink->number(sink->context, "logical_processors", topology->logical);
  sink->number(sink->context, "cores", topology->cores);
  sink->number(sink->context, "l1d", (double)topology->l1d);
  sink->number(sink->context, "l2", (double)topology->l2);
  sink->number(sink->context, "l3", (double)topology->l3);
  sink->number(sink->context, "threads", env.num_threads > 0 ? env.num_threads : attend_default_threads());
  sink->text(sink->context, "highest_isa", attend_isa_name(env.isa), false);
  sink->flag(sink->context, "openmp", attend_uses_openmp());
  sink->text(sink->context, "profile", state.profile ? state.path : "none", false);
  sink->text(sink->context, "no_profile_because", state.profile ? "" : state.why, false);
  return ATTEND_OK;
}

attend_status attend_python_kernels(const attend_python_sink *sink) {
  attend_env env;
  const attend_status status = attend_env_read(&env);
  if (status != ATTEND_OK) return status;
  for (attend_operation operation = 0; operation < ATTEND_OP_COUNT; operation++) {
    const attend_kernel *kernel;
    for (size_t i = 0; (kernel = attend_kernel_of(operation, i)) != NULL; i++) {
      char why[256] = "";
      const bool runnable = attend_kernel_runnable(kernel, env.isa, why, sizeof why);
      sink->next(sink->context);
      sink->text(sink->context, "name", kernel->name, false);
      sink->text(sink->context, "operation", attend_operation_name(operation), false);
      sink->text(sink->context, "body", attend_body_name(kernel->body), false);
      sink->text(sink->context, "isa", attend_isa_name(kernel->isa), false);
      sink->text(sink->context, "dtypes", NULL, true);
      for (attend_dtype dtype = ATTEND_F32; (int)dtype < ATTEND_DTYPE_COUNT; dtype++)
        if (kernel->dtypes & ATTEND_DTYPE_BIT(dtype))
          sink->text(sink->context, "dtypes", attend_dtype_name(dtype), true);
      sink->text(sink->context, "can", NULL, true);
      for (int bit = 0; bit < ATTEND_CAN_COUNT; bit++)
        if (operation == ATTEND_OP_FORWARD && kernel->can >> bit & 1)
          sink->text(sink->context, "can", attend_can_name(bit), true);
      sink->flag(sink->context, "runnable", runnable);
      sink->text(sink->context, "reason", why, false);
    }
  }
  return ATTEND_OK;
}

attend_status attend_python_profile_path(char path[ATTEND_PYTHON_PATH]) {
  _Static_assert((int)ATTEND_PYTHON_PATH == (int)ATTEND_PROFILE_PATH, "as the library");
  attend_env env;
  const attend_status status = attend_env_read(&env);
  if (status != ATTEND_OK) return status;
  if (*env.profile && strcmp(env.profile, "off") != 0) {
    snprintf(path, ATTEND_PYTHON_PATH, "%s", env.profile);
    return ATTEND_OK;
  }
  char place[ATTEND_PROFILE_PLACES][ATTEND_PROFILE_PATH];
  if (attend_profile_places(&env, place) == 0)
    return attend_fail(ATTEND_ERROR_ENVIRONMENT,
                       "no place for the profile: ATTEND_PROFILE, XDG_CACHE_HOME and HOME are not set");
  memcpy(path, place[0], ATTEND_PYTHON_PATH);
  return ATTEND_OK;
}

attend_status attend_python_tune(double seconds, int threads, const volatile int *stop, char **text, size_t *length,
                                 char *report, size_t report_size) {
  attend_env env;
  const attend_status status = attend_env_read(&env);
  if (status != ATTEND_OK) return status;
  if (*env.kernel)
    return attend_fail(ATTEND_ERROR_ENVIRONMENT,
                       "ATTEND_KERNEL is set to %s; expected it unset, to measure all kernels", env.kernel);
  if (getenv("ATTEND_ISA") && *getenv("ATTEND_ISA"))
    return attend_fail(ATTEND_ERROR_ENVIRONMENT, "ATTEND_ISA is set; expected it unset, to measure all kernels");
  attend_tune_result result;
  const attend_tune_options options = {
      .budget = seconds,
      .threads = threads           ? threads
                 : env.num_threads ? env.num_threads
                                   : attend_default_threads(),
      .highest = env.isa,
      .stop = (volatile sig_atomic_t *)stop,
  };
  if (!attend_tune(&options, &result)) return attend_fail(ATTEND_ERROR_OUT_OF_MEMORY, "tune: no memory");
  *text = result.text, *length = result.length;
  snprintf(report, report_size, "%zu shapes, %zu kernels%s%s", result.shapes, result.kernels,
           result.faulty ? "; left out, as it computed something wrong: " : "", result.faulty ? result.fault : "");
  return ATTEND_OK;
}
