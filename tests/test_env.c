/* SPDX-License-Identifier: Apache-2.0 */
/** The environment variables: honoured, or an error, never replaced. Each test is a process of its own. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support.h"

static attend_problem some_problem(void) { return attend_test_problem(2, 8, 8, 64, 64, 16); }

static void clear_environment(void) {
  for (const attend_env_variable *variable = attend_env_variables; variable->name; variable++) unsetenv(variable->name);
}

TestSuite(env, .init = clear_environment);

/* Whatever reads the environment refuses it, and says which variable and which value it did not like. */
static void expect_refused(const char *variable, const char *value) {
  const attend_problem problem = some_problem();
  char what[200];
  snprintf(what, sizeof what, "%s=%.100s", variable, value);
  cr_assert_eq(setenv(variable, value, 1), 0);
  const char *quoted = strlen(value) < 40 && !strpbrk(value, "\n\r\t") ? value : NULL;
  attend_test_refuses(&problem, NULL, ATTEND_ERROR_ENVIRONMENT, variable, quoted, what);
  attend_test_tensors tensors = attend_test_tensors_create(&problem);
  EXPECT_ERROR(attend_forward(&problem, &tensors.t), ATTEND_ERROR_ENVIRONMENT, variable, "forward: %s", what);
  cr_expect(attend_test_untouched(&tensors), "%s: outputs were touched", what);
  attend_test_tensors_destroy(&tensors);
  attend_env env;
  EXPECT_ERROR(attend_env_read(&env), ATTEND_ERROR_ENVIRONMENT, variable, "attend_env_read: %s", what);
  unsetenv(variable);
}

static attend_plan *plan_under(const char *variable, const char *value, int num_threads) {
  const attend_kernel *named = attend_kernel_find(value);
  const attend_problem problem = named ? attend_test_typed_for(named, some_problem()) : some_problem();
  cr_assert_eq(setenv(variable, value, 1), 0);
  return attend_test_plan(&problem, NULL, num_threads);
}

/* ---------------------------------------------------------------------------------------------------------- table */

Test(env, table_names_every_variable_once) {
  static const char *const expected[] = {"ATTEND_ISA",         "ATTEND_KERNEL",   "ATTEND_PROFILE",
                                         "ATTEND_NUM_THREADS", "OMP_NUM_THREADS", "ATTEND_VERBOSE"};
  size_t count = 0;
  for (; attend_env_variables[count].name; count++) {
    cr_expect_str_not_empty(attend_env_variables[count].values);
    cr_expect_str_not_empty(attend_env_variables[count].meaning);
  }
  cr_expect_eq(count, COUNT(expected));
  for (size_t i = 0; i < COUNT(expected); i++) {
    int found = 0;
    for (size_t j = 0; j < count; j++) found += strcmp(attend_env_variables[j].name, expected[i]) == 0;
    cr_expect_eq(found, 1, "%s", expected[i]);
  }
}

/* Nothing set, or set to nothing, which is the same. */
Test(env, unset_and_empty_mean_the_default) {
  attend_env unset, empty;
  cr_assert_eq(attend_env_read(&unset), ATTEND_OK);
  cr_expect_str_eq(unset.kernel, "");
  cr_expect_str_eq(unset.profile, "");
  cr_expect_eq(unset.num_threads, 0);
  cr_expect_not(unset.verbose);
  for (const attend_env_variable *variable = attend_env_variables; variable->name; variable++) {
    setenv(variable->name, "", 1);
  }
  cr_assert_eq(attend_env_read(&empty), ATTEND_OK, "%s", attend_error_detail());
  cr_expect_eq(empty.isa, unset.isa);
  cr_expect_str_eq(empty.kernel, "");
  cr_expect_str_eq(empty.profile, "");
  cr_expect_eq(empty.num_threads, 0);
  cr_expect_not(empty.verbose);
}

/* ------------------------------------------------------------------------------------------------------------ ISA */

static bool isa_has_a_kernel(attend_isa isa) {
  for (size_t i = 0; i < attend_kernel_count(); i++) {
    if (attend_kernel_at(i)->isa == isa) return true;
  }
  return false;
}

Test(env, isa_is_a_limit) {
  const attend_problem problem = some_problem();
  size_t honoured = 0;
  for (attend_isa isa = ATTEND_ISA_SCALAR; isa < ATTEND_ISA_COUNT; isa++) {
    const char *name = attend_isa_name(isa);
    const bool usable = (attend_isa_features(isa) & ~attend_cpu_get()->usable) == 0;
    if (!usable || !isa_has_a_kernel(isa)) {
      expect_refused("ATTEND_ISA", name);
      continue;
    }
    attend_plan *plan = plan_under("ATTEND_ISA", name, 1);
    const attend_kernel *kernel = attend_kernel_find(attend_plan_kernel(plan));
    cr_assert_not_null(kernel, "%s", attend_plan_kernel(plan));
    cr_expect_leq(attend_isa_rank(kernel->isa), attend_isa_rank(isa), "ATTEND_ISA=%s gives %s", name, kernel->name);
    attend_plan_destroy(plan);
    attend_env env;
    cr_expect_eq(attend_env_read(&env), ATTEND_OK);
    cr_expect_eq(env.isa, isa);
    /* nor can a kernel beyond it be asked for by name */
    for (size_t i = 0; i < attend_kernel_count(); i++) {
      attend_options options = ATTEND_OPTIONS_INIT;
      options.kernel = attend_kernel_at(i)->name;
      if (attend_isa_rank(attend_kernel_at(i)->isa) > attend_isa_rank(isa)) {
        attend_test_refuses(&problem, &options, ATTEND_ERROR_UNSUPPORTED, options.kernel, NULL, name);
      }
    }
    honoured++;
  }
  cr_expect_gt(honoured, 0);
}

Test(env, isa_scalar_always_runs) {
  attend_plan *plan = plan_under("ATTEND_ISA", "scalar", 1);
  cr_expect_eq(attend_kernel_find(attend_plan_kernel(plan))->isa, ATTEND_ISA_SCALAR);
  attend_plan_destroy(plan);
}

Test(env, isa_unknown_is_refused) {
  static const char *const bad[] = {"SCALAR", "Avx2", "avx",  "avx2 ", " avx2",      "avx2,avx512",
                                    "sse",    "0",    "none", "auto",  "two\nlines", "%n%s"};
  for (size_t i = 0; i < COUNT(bad); i++) expect_refused("ATTEND_ISA", bad[i]);
}

/* --------------------------------------------------------------------------------------------------------- kernel */

Test(env, kernel_is_used) {
  const attend_kernel *other = attend_kernel_at(attend_kernel_count() - 1);
  for (size_t i = 0; i < attend_kernel_count(); i++) {
    const attend_kernel *kernel = attend_kernel_at(i);
    const attend_problem problem = attend_test_typed_for(kernel, some_problem());
    if (!attend_test_can(kernel, &problem)) { /* it is a kernel's name, but no plan can be made */
      cr_assert_eq(setenv("ATTEND_KERNEL", kernel->name, 1), 0);
      attend_test_refuses(&problem, NULL, ATTEND_ERROR_ENVIRONMENT, "ATTEND_KERNEL", kernel->name, kernel->name);
      unsetenv("ATTEND_KERNEL");
      continue;
    }
    attend_plan *plan = plan_under("ATTEND_KERNEL", kernel->name, 1);
    cr_expect_str_eq(attend_plan_kernel(plan), kernel->name);
    char text[400];
    attend_plan_explain(plan, text, sizeof text);
    cr_expect_not_null(strstr(text, "ATTEND_KERNEL"), "explain does not say why: %s", text);
    attend_plan_destroy(plan);
    /* "auto" in the program leaves the choice to the environment; a name in the program does not */
    plan = attend_test_plan(&problem, "auto", 1);
    cr_expect_str_eq(attend_plan_kernel(plan), kernel->name);
    attend_plan_destroy(plan);
    plan = attend_test_plan(&problem, other->name, 1);
    cr_expect_str_eq(attend_plan_kernel(plan), other->name);
    attend_plan_destroy(plan);
    unsetenv("ATTEND_KERNEL");
  }
}

Test(env, kernel_auto_is_the_default) {
  const attend_problem problem = some_problem();
  attend_plan *unset = attend_test_plan(&problem, NULL, 1), *set = plan_under("ATTEND_KERNEL", "auto", 1);
  cr_expect_str_eq(attend_plan_kernel(set), attend_plan_kernel(unset));
  attend_plan_destroy(unset);
  attend_plan_destroy(set);
}

Test(env, kernel_unknown_is_refused) {
  static char longest[10000];
  memset(longest, 'x', sizeof longest - 1);
  char almost[128];
  snprintf(almost, sizeof almost, "%s ", attend_kernel_at(0)->name);
  const char *const bad[] = {"AUTO", "none", "no_such_kernel", "two\nlines", "%n%s", longest, almost};
  for (size_t i = 0; i < COUNT(bad); i++) expect_refused("ATTEND_KERNEL", bad[i]);
}

Test(env, kernel_that_cannot_is_refused) {
  const attend_problem weights = attend_test_full_problem();
  size_t refused = 0;
  for (size_t i = 0; i < attend_kernel_count(); i++) {
    const attend_kernel *kernel = attend_kernel_at(i);
    if (!attend_test_runnable(kernel) || kernel->can & ATTEND_CAN_WEIGHTS) continue;
    setenv("ATTEND_KERNEL", kernel->name, 1);
    attend_test_refuses(&weights, NULL, ATTEND_ERROR_ENVIRONMENT, "ATTEND_KERNEL", kernel->name, kernel->name);
    refused++;
  }
  cr_expect_gt(refused, 0);
  unsetenv("ATTEND_KERNEL");
  attend_test_accepts(&weights, NULL, "the library's choice");
}

/* -------------------------------------------------------------------------------------------------------- threads */

Test(env, num_threads_is_used_unless_the_program_says) {
  static const char *const good[] = {"1", "2", "3", "16", "1024", "007"};
  for (size_t i = 0; i < COUNT(good); i++) {
    attend_plan *plan = plan_under("ATTEND_NUM_THREADS", good[i], 0);
    cr_expect_eq(attend_plan_max_parts(plan), atoi(good[i]), "ATTEND_NUM_THREADS=%s gives %d", good[i],
                 attend_plan_max_parts(plan));
    attend_plan_destroy(plan);
    plan = plan_under("ATTEND_NUM_THREADS", good[i], 5);
    cr_expect_eq(attend_plan_max_parts(plan), 5);
    attend_plan_destroy(plan);
  }
}

/* OpenMP's variable counts where ours is not set. What OpenMP cannot read either is as good as not set. */
Test(env, openmp_num_threads_is_used_after_ours) {
  static const struct {
    const char *value;
    int threads; /* 0: as if not set */
  } cases[] = {{"1", 1},       {"3", 3},    {"4,2", 4}, {" 6 , 2,1 ", 6}, {"+5", 5},  {"1024", 1024},
               {"5000", 1024}, {"", 0},     {"0", 0},   {"-3", 0},        {"abc", 0}, {"4x", 0},
               {"4,", 0},      {"4,,2", 0}, {",4", 0},  {"4,0", 0},       {"4 2", 0}, {"1.5", 0},
               {"%n%s", 0},    {" ", 0},    {"4,x", 0}, {"4,2,1", 4}};
  const int usual = attend_default_threads();
  const attend_problem problem = some_problem();
  for (size_t i = 0; i < COUNT(cases); i++) {
    const int expected = cases[i].threads ? cases[i].threads : usual;
    for (int way = 0; way < 3; way++) {
      attend_plan *plan = plan_under("OMP_NUM_THREADS", cases[i].value, way == 1 ? 9 : 0);
      cr_expect_eq(attend_plan_max_parts(plan),
                   way == 1   ? 9
                   : way == 2 ? 7
                              : expected,
                   "OMP_NUM_THREADS=%s, way %d: %d", cases[i].value, way, attend_plan_max_parts(plan));
      attend_plan_destroy(plan);
      if (way == 1) setenv("ATTEND_NUM_THREADS", "7", 1);
    }
    unsetenv("ATTEND_NUM_THREADS");
    attend_options options = ATTEND_OPTIONS_INIT;
    attend_plan *plan = NULL;
    options.ignore_environment = 1;
    cr_assert_eq(attend_plan_create(&problem, &options, &plan), ATTEND_OK);
    cr_expect_eq(attend_plan_max_parts(plan), usual, "OMP_NUM_THREADS=%s, ignored", cases[i].value);
    attend_plan_destroy(plan);
  }
}

/* As libgomp reads it, so that threads are tried with the stack that they will have. */
Test(env, openmp_stack) {
  static const struct {
    const char *ours, *gcc;
    size_t bytes;
  } cases[] = {{"16", "", 16 << 10},
               {"16k", "", 16 << 10},
               {" 3 M ", "", 3 << 20},
               {"1G", "", 1 << 30},
               {"70000B", "", 70000},
               {"2m", "1m", 2 << 20},
               {"", "64K", 64 << 10},
               {"x", "64", 64 << 10},
               {"16kk", "", 0},
               {"k", "", 0},
               {"1.5M", "", 0},
               {"16 M x", "", 0},
               {"18446744073709551615G", "", 0},
               {"99999999999999999999999", "", 0}};
  for (size_t i = 0; i < COUNT(cases); i++) {
    setenv("OMP_STACKSIZE", cases[i].ours, 1), setenv("GOMP_STACKSIZE", cases[i].gcc, 1);
    cr_expect_eq(attend_env_openmp_stack(), cases[i].bytes, "%s and %s: %zu", cases[i].ours, cases[i].gcc,
                 attend_env_openmp_stack());
  }
}

Test(env, num_threads_out_of_bounds_is_refused) {
  static const char *const bad[] = {"0",          "-1",         "1025",
                                    "99999",      "4294967297", "18446744073709551617",
                                    "abc",        "2x",         "1.5",
                                    "0x2",        "1e1",        "2 ",
                                    "two\nlines", "%n%s",       "99999999999999999999999999999999999999999999999999"};
  for (size_t i = 0; i < COUNT(bad); i++) expect_refused("ATTEND_NUM_THREADS", bad[i]);
}

/* ------------------------------------------------------------------------------------------------------- printing */

static FILE *captured[2];
static int saved[2];

/* What goes to stdout and stderr from now on goes to a file each. */
static void begin_capture(void) {
  for (int i = 0; i < 2; i++) {
    captured[i] = tmpfile();
    cr_assert_not_null(captured[i]);
    fflush(i ? stderr : stdout);
    saved[i] = dup(i + 1);
    dup2(fileno(captured[i]), i + 1);
  }
}

/* Puts the streams back, expects nothing of stdout and returns what stderr got, at most 8191 characters of it. */
static const char *end_capture(void) {
  static char text[2][8192];
  for (int i = 0; i < 2; i++) {
    fflush(i ? stderr : stdout);
    dup2(saved[i], i + 1);
    close(saved[i]);
    rewind(captured[i]);
    text[i][fread(text[i], 1, sizeof text[i] - 1, captured[i])] = '\0';
    fclose(captured[i]);
  }
  cr_expect_str_empty(text[0], "the library printed on stdout");
  return text[1];
}

static size_t count_lines(const char *text) {
  size_t lines = 0;
  for (; *text; text++) lines += *text == '\n';
  return lines;
}

/* Everything that could have something to say: plans good and bad, runs good and bad. Makes two plans. */
static void use_everything(attend_plan **plan) {
  const attend_problem problem = some_problem();
  attend_problem bad = problem;
  bad.head_dim = -1;
  attend_test_tensors tensors = attend_test_tensors_create(&problem);
  size_t size;
  *plan = attend_test_plan(&problem, NULL, 2);
  void *workspace = attend_test_workspace(*plan, &size);
  char text[200];
  attend_plan_explain(*plan, text, sizeof text);
  attend_plan_create(&bad, NULL, plan);
  attend_plan_run(*plan, &tensors.t, workspace, size);
  attend_plan_run(*plan, &tensors.t, NULL, 0);
  attend_plan_run(*plan, &tensors.t, workspace, 0);
  attend_plan_begin(*plan, &tensors.t, workspace, size);
  attend_plan_run_part(*plan, &tensors.t, workspace, size, 0, 1);
  attend_plan_run_part(*plan, &tensors.t, workspace, size, 1, 1);
  attend_forward(&problem, &tensors.t);
  attend_forward(&bad, &tensors.t);
  free(workspace);
  attend_test_tensors_destroy(&tensors);
}

Test(env, verbose_prints_a_line_per_plan) {
  setenv("ATTEND_VERBOSE", "1", 1);
  attend_plan *plan;
  begin_capture();
  use_everything(&plan);
  const char *text = end_capture();
  cr_expect_eq(count_lines(text), 2, "two plans, but this was printed: %s", text);
  cr_expect_eq(strncmp(text, "attend: ", 8), 0, "a line does not say whose it is: %s", text);
  cr_expect_not_null(strstr(text, attend_plan_kernel(plan)), "a line does not name the kernel: %s", text);
  attend_plan_destroy(plan);
}

Test(env, nothing_is_printed_unasked) {
  for (int off = 0; off < 2; off++) {
    if (off) setenv("ATTEND_VERBOSE", "0", 1);
    attend_plan *plan;
    begin_capture();
    use_everything(&plan);
    setenv("ATTEND_ISA", "no such one", 1);
    attend_plan_create(NULL, NULL, NULL);
    const attend_problem problem = some_problem();
    attend_plan_create(&problem, NULL, &plan);
    unsetenv("ATTEND_ISA");
    attend_plan_destroy(plan);
    cr_expect_str_empty(end_capture(), "the library printed something");
  }
}

Test(env, verbose_has_two_values) {
  static const char *const bad[] = {"2", "-1", "yes", "true", "1 ", "01", "two\nlines", "%n%s"};
  for (size_t i = 0; i < COUNT(bad); i++) expect_refused("ATTEND_VERBOSE", bad[i]);
}

/* What a log is told: the lines after one another, and how many there were. */
typedef struct told {
  char text[4096];
  size_t lines;
} told;

static void listen(void *context, const char *line) {
  told *t = context;
  snprintf(t->text + strlen(t->text), sizeof t->text - strlen(t->text), "%s\n", line);
  t->lines++;
}

/* A log gets a line for each plan, whatever is verbose, and then stderr gets none. Errors are no plans. */
Test(env, log_of_the_options_gets_a_line_per_plan) {
  const attend_problem problem = some_problem();
  attend_problem bad = problem;
  bad.head_dim = -1;
  for (int verbose = 0; verbose < 3; verbose++) {
    told t = {.lines = 0};
    attend_options options = ATTEND_OPTIONS_INIT;
    options.log = listen, options.log_context = &t, options.verbose = verbose == 1;
    setenv("ATTEND_VERBOSE", verbose == 2 ? "1" : "0", 1);
    attend_plan *plans[2], *none = NULL;
    begin_capture();
    for (int i = 0; i < 2; i++) cr_assert_eq(attend_plan_create(&problem, &options, &plans[i]), ATTEND_OK);
    cr_expect_neq(attend_plan_create(&bad, &options, &none), ATTEND_OK);
    cr_expect_str_empty(end_capture(), "the library printed beside the log");
    cr_expect_eq(t.lines, 2);
    cr_expect_eq(count_lines(t.text), 2, "more lines than plans: %s", t.text);
    cr_expect_not_null(strstr(t.text, attend_plan_kernel(plans[0])), "a line does not name the kernel: %s", t.text);
    for (int i = 0; i < 2; i++) attend_plan_destroy(plans[i]);
  }
}

Test(env, verbose_of_the_options_is_that_of_the_environment) {
  const attend_problem problem = some_problem();
  attend_options options = ATTEND_OPTIONS_INIT;
  const char *texts[2];
  char kept[8192];
  for (int i = 0; i < 2; i++) {
    options.verbose = i;
    setenv("ATTEND_VERBOSE", i ? "0" : "1", 1);
    begin_capture();
    attend_test_accepts(&problem, &options, "verbose");
    texts[i] = end_capture();
    if (i == 0) texts[0] = strcpy(kept, texts[0]);
  }
  cr_expect_eq(count_lines(texts[1]), 1);
  cr_expect_str_eq(texts[1], texts[0]);
}

/* --------------------------------------------------------------------------------------------------- no environment */

static void explain(const attend_options *options, char *text, size_t size) {
  const attend_problem problem = some_problem();
  attend_plan *plan;
  cr_assert_eq(attend_plan_create(&problem, options, &plan), ATTEND_OK, "%s", attend_error_detail());
  attend_plan_explain(plan, text, size);
  attend_plan_destroy(plan);
}

/* Whatever is there, good or bad, is not seen. */
Test(env, may_be_ignored) {
  static const char *const hostile[][2] = {
      {"ATTEND_ISA", "no such one"},   {"ATTEND_ISA", "scalar"},       {"ATTEND_KERNEL", "no such one"},
      {"ATTEND_PROFILE", "/dev/null"}, {"ATTEND_PROFILE", "/no/such"}, {"ATTEND_NUM_THREADS", "0"},
      {"ATTEND_NUM_THREADS", "7"},     {"OMP_NUM_THREADS", "7"},       {"ATTEND_VERBOSE", "yes"},
      {"ATTEND_VERBOSE", "1"},         {"XDG_CACHE_HOME", "/no/such"}, {"HOME", "/no/such"}};
  attend_options options = ATTEND_OPTIONS_INIT, usual = ATTEND_OPTIONS_INIT;
  char expected[400], text[400];
  usual.profile = "off";
  explain(&usual, expected, sizeof expected);
  options.ignore_environment = 1;
  for (size_t i = 0; i <= COUNT(hostile); i++) {
    /* one after the other, and then all at once */
    for (size_t j = 0; j < COUNT(hostile); j++)
      if (i == j || i == COUNT(hostile)) setenv(hostile[j][0], hostile[j][1], 1);
    begin_capture();
    explain(&options, text, sizeof text);
    cr_expect_str_empty(end_capture(), "something was printed");
    cr_expect_str_eq(text, expected, "%s=%s", hostile[i % COUNT(hostile)][0], hostile[i % COUNT(hostile)][1]);
    if (i == COUNT(hostile)) break;
    clear_environment();
  }
  /* what the options say holds all the same */
  const attend_kernel *scalar = attend_kernel_at(attend_kernel_count() - 1);
  options.kernel = scalar->name, options.num_threads = 5, options.verbose = 1;
  const attend_problem problem = attend_test_typed_for(scalar, some_problem());
  attend_plan *plan;
  begin_capture();
  cr_assert_eq(attend_plan_create(&problem, &options, &plan), ATTEND_OK, "%s", attend_error_detail());
  cr_expect_eq(count_lines(end_capture()), 1);
  cr_expect_str_eq(attend_plan_kernel(plan), scalar->name);
  cr_expect_eq(attend_plan_max_parts(plan), 5);
  attend_plan_destroy(plan);
  options.ignore_environment = 0;
  attend_test_refuses(&problem, &options, ATTEND_ERROR_ENVIRONMENT, NULL, NULL, "the same, not ignored");
}

/* -------------------------------------------------------------------------------------------------------- profile */

/* A file that cannot be used is an error of whatever would go by it; test_profile.c has those that can. */
Test(env, profile_is_off_or_a_file) {
  const attend_problem problem = some_problem();
  static char longest[10000];
  memset(longest, 'x', sizeof longest - 1);
  attend_plan *plan = plan_under("ATTEND_PROFILE", "off", 1);
  attend_plan_destroy(plan);
  const char *const bad[] = {"on", "OFF", "off ", "/", "/dev/null", "no/such/file", "two\nlines", "%n%s", longest};
  for (size_t i = 0; i < COUNT(bad); i++) {
    setenv("ATTEND_PROFILE", bad[i], 1);
    attend_test_refuses(&problem, NULL, ATTEND_ERROR_ENVIRONMENT, "ATTEND_PROFILE", NULL, "a profile");
  }
}

/* All are read anew for each plan, and none has an effect on a plan that is there. */
Test(env, is_read_when_a_plan_is_made) {
  const attend_problem problem = some_problem();
  attend_plan *plan = plan_under("ATTEND_NUM_THREADS", "3", 0);
  setenv("ATTEND_NUM_THREADS", "bad", 1);
  setenv("ATTEND_ISA", "bad", 1);
  attend_test_tensors tensors = attend_test_run(plan, &problem);
  attend_test_tensors_destroy(&tensors);
  cr_expect_eq(attend_plan_max_parts(plan), 3);
  attend_plan_destroy(plan);
}
