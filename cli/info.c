/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>

#include "cli/commands.h"
#include "cli/json.h"
#include "cli/options.h"
#include "cli/text.h"
#include "cli/topology.h"
#include "dispatch/choose/profile.h"

static const attend_cli_option options[] = {
    {"json", NULL, "as JSON", .take = attend_cli_take_json},
};
static const attend_cli_command command = {
    .usage = "attend info [--json]",
    .about = "Says what this machine has and what of it is used: processor features, caches, cores, threads, the limit "
             "on instruction sets, the tuning profile, the ATTEND_* environment, and how the program was built.",
    .options = options,
    .count = sizeof options / sizeof *options,
    .examples = "attend info\n"
                "attend info --json | jq .features.usable\n"
                "ATTEND_ISA=avx2 ATTEND_NUM_THREADS=4 attend info\n",
};

#ifdef __clang__
static const char compiler[] = __VERSION__;
#else
static const char compiler[] = "gcc " __VERSION__;
#endif

static char profile[ATTEND_PROFILE_PATH + 300];

/* Finds the profile in use, or why there is none. */
static attend_status find_profile(const attend_env *env) {
  attend_profile_state state;
  const attend_status status = attend_profile_get(env, &state);
  if (status != ATTEND_OK) return status;
  if (state.profile)
    snprintf(profile, sizeof profile, "%s", state.path);
  else if (*state.path)
    snprintf(profile, sizeof profile, "none: built-in rules (%s is rejected: %s)", state.path, state.why);
  else
    snprintf(profile, sizeof profile, "none: built-in rules (%s)", state.why);
  attend_cli_clean(profile);
  return status;
}

static bool has_kernels(attend_isa isa) {
  for (size_t i = 0; i < attend_kernel_count(); i++)
    if (attend_kernel_at(i)->isa == isa) return true;
  return false;
}

static int default_threads(const attend_env *env) {
  return env->num_threads > 0 ? env->num_threads : attend_default_threads();
}

/*
 * A value for the terminal, until the next is asked for. NULL if it is not set, or set to nothing, which the library
 * takes to be the same.
 */
static const char *environment_value(const char *name) {
  static char text[sizeof((attend_env *)0)->profile]; /* the longest value that is accepted */
  const char *value = getenv(name);
  if (!value || !*value) return NULL;
  snprintf(text, sizeof text, "%s", value);
  return attend_cli_clean(text);
}

/* ------------------------------------------------------------------------------------------------------------ JSON */

static void print_json(const attend_env *env) {
  const attend_cpu *cpu = attend_cpu_get();
  cJSON *root = attend_cli_json_object();
  cJSON_AddStringToObject(root, "version", attend_version());
  cJSON_AddStringToObject(root, "compiler", compiler);
  cJSON_AddBoolToObject(root, "openmp", attend_uses_openmp());
  cJSON_AddStringToObject(root, "cpu", cpu->name);
  cJSON_AddStringToObject(root, "signature", cpu->signature);

  cJSON *features = cJSON_AddObjectToObject(root, "features");
  cJSON *usable = cJSON_AddArrayToObject(features, "usable"), *unusable = cJSON_AddObjectToObject(features, "unusable");
  for (attend_cpu_feature f = 0; f < ATTEND_CPU_FEATURE_COUNT; f++) {
    if (cpu->usable >> f & 1)
      cJSON_AddItemToArray(usable, cJSON_CreateString(attend_cpu_feature_name(f)));
    else if (cpu->present >> f & 1)
      cJSON_AddStringToObject(unusable, attend_cpu_feature_name(f), attend_cpu_unusable_reason(f));
  }

  attend_cli_add_topology(root);
  cJSON_AddNumberToObject(root, "threads", default_threads(env));
  cJSON_AddStringToObject(root, "highest_isa", attend_isa_name(env->isa));
  cJSON *built = cJSON_AddArrayToObject(root, "built_isas");
  for (attend_isa isa = 0; isa < ATTEND_ISA_COUNT; isa++)
    if (has_kernels(isa)) cJSON_AddItemToArray(built, cJSON_CreateString(attend_isa_name(isa)));
  cJSON_AddStringToObject(root, "profile", profile);
  cJSON *environment = cJSON_AddObjectToObject(root, "environment");
  for (const attend_env_variable *v = attend_env_variables; v->name; v++) {
    const char *value = environment_value(v->name);
    cJSON_AddItemToObject(environment, v->name, value ? cJSON_CreateString(value) : cJSON_CreateNull());
  }
  attend_cli_json_print(root);
}

/* ------------------------------------------------------------------------------------------------------------ text */

static void print_features(const attend_cpu *cpu) {
  int indent = printf("  %-20s", "usable"), column = indent;
  for (attend_cpu_feature f = 0; f < ATTEND_CPU_FEATURE_COUNT; f++) {
    if (!(cpu->usable >> f & 1)) continue;
    if (column > 90) printf("\n%*s", column = indent, "");
    column += printf(" %s", attend_cpu_feature_name(f));
  }
  puts(cpu->usable ? "" : " none");
  for (attend_cpu_feature f = 0; f < ATTEND_CPU_FEATURE_COUNT; f++)
    if (cpu->present & ~cpu->usable & UINT64_C(1) << f)
      printf("  %-20s present, but not usable: %s\n", attend_cpu_feature_name(f), attend_cpu_unusable_reason(f));
}

static void print_text(const attend_env *env) {
  const attend_cpu *cpu = attend_cpu_get();
  printf("attend %s, built by %s, %s OpenMP; kernels for", attend_version(), compiler,
         attend_uses_openmp() ? "with" : "without");
  for (attend_isa isa = 0; isa < ATTEND_ISA_COUNT; isa++)
    if (has_kernels(isa)) printf(" %s", attend_isa_name(isa));

  printf("\n\nprocessor\n  %-20s %s\n  %-20s %s\n", "name", cpu->name, "signature", cpu->signature);
  print_features(cpu);
  attend_cli_print_topology();

  printf("\nin use\n  %-20s %d (%s)\n", "threads", default_threads(env),
         env->num_threads > 0                      ? env->num_threads_by
         : attend_topology_get()->efficiency_cores ? "the performance cores this process may use"
                                                   : "the cores this process may use");
  printf("  %-20s %s (%s)\n", "highest isa", attend_isa_name(env->isa),
         environment_value("ATTEND_ISA") ? "ATTEND_ISA" : "the processor's");
  printf("  %-20s %s\n", "profile", profile);
  puts("\nenvironment");
  for (const attend_env_variable *v = attend_env_variables; v->name; v++) {
    const char *value = environment_value(v->name);
    printf("  %-20s %s\n", v->name, value ? value : "not set");
  }
}

int cmd_info(int argc, char **argv) {
  bool json = false;
  int status;
  if (!attend_cli_parse(argc, argv, &command, &json, &status)) return status;
  attend_env env;
  attend_status read = attend_env_read(&env);
  if (read == ATTEND_OK) read = find_profile(&env);
  if (read != ATTEND_OK) return attend_cli_library_error(read);
  (json ? print_json : print_text)(&env);
  return ATTEND_EXIT_DONE;
}
