/* SPDX-License-Identifier: Apache-2.0 */
/** Profiles: used where they are sound, rejected as a whole where anything is wrong, and never in the way of a run. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dispatch/choose/profile.h"
#include "tests/support.h"

static char directory[2000], file[sizeof directory + 40];

static attend_problem some_problem(void) { return attend_test_problem(2, 8, 4, 40, 70, 16); }

static void set_up(void) {
  char here_now[1900];
  cr_assert_not_null(getcwd(here_now, sizeof here_now));
  snprintf(directory, sizeof directory, "%s/profile-XXXXXX", here_now);
  cr_assert_not_null(mkdtemp(directory));
  snprintf(file, sizeof file, "%s/test.profile", directory);
  for (const attend_env_variable *variable = attend_env_variables; variable->name; variable++) unsetenv(variable->name);
  setenv("XDG_CACHE_HOME", directory, 1);
}

static void tear_down(void) {
  char command[sizeof directory + 40];
  snprintf(command, sizeof command, "rm -rf '%s'", directory);
  cr_expect_eq(system(command), 0);
}

TestSuite(profile, .init = set_up, .fini = tear_down);

/* ------------------------------------------------------------------------------------------------------------ texts */

/** What a text says of where it is from. */
typedef struct origin {
  int version, cores;
  const char *library, *cpu;
  uint64_t rows;
} origin;

static origin here(void) {
  return (origin){ATTEND_PROFILE_VERSION, attend_topology_get()->cores, attend_version(), attend_cpu_get()->signature,
                  attend_profile_rows_hash()};
}

static const attend_kernel *rules_kernel(const attend_problem *problem) {
  char *before = getenv("ATTEND_PROFILE") ? strdup(getenv("ATTEND_PROFILE")) : NULL;
  setenv("ATTEND_PROFILE", "off", 1);
  attend_plan *plan = attend_test_plan(problem, NULL, 1);
  const attend_kernel *kernel = attend_kernel_find(attend_plan_kernel(plan));
  attend_plan_destroy(plan);
  if (before)
    setenv("ATTEND_PROFILE", before, 1);
  else
    unsetenv("ATTEND_PROFILE");
  free(before);
  return kernel;
}

/** A kernel that does some_problem() and that the rules do not choose. */
static const attend_kernel *other_kernel(const attend_problem *problem) {
  const attend_kernel *rules = rules_kernel(problem), *other = NULL;
  for (size_t i = 0; i < attend_kernel_count(); i++)
    if (attend_kernel_at(i) != rules && attend_test_can(attend_kernel_at(i), problem)) other = attend_kernel_at(i);
  cr_assert_not_null(other);
  return other;
}

static void print_hash(FILE *out, char **text, size_t *length) {
  fflush(out);
  fprintf(out, "end %016" PRIx64 "\n", attend_profile_hash(*text, *length));
  fclose(out);
}

/** A profile that knows another kernel to take exp(`logarithm`) of the time of the rules' one, for all shapes. */
static char *make_text(const origin *o, const char *logarithm, size_t *length) {
  char *text;
  const attend_problem problem = some_problem();
  FILE *out = open_memstream(&text, length);
  fprintf(out, "attend-profile %d\nlibrary %s\ncpu %s\ncores %d\nkernels %016" PRIx64 "\nthreads 3\nnoise 0.010000\n",
          o->version, o->library, o->cpu, o->cores, o->rows);
  fprintf(out, "teams 2\ncolumns 3\npoints 2\nteam 1 0.000\nteam 3 2.5\ntime -4.5\n");
  fprintf(out, "choice %s whole 1 0.0\nchoice %s whole 1 %s\n", rules_kernel(&problem)->name,
          other_kernel(&problem)->name, logarithm);
  fprintf(out, "point f32/f32 1 8/4 40x70 16/16 70 full plain 0.00000 0.00000 -0.00000\n");
  fprintf(out, "point bf16/bf16 1 32/8 1x4096 128/128 256 causal work 0.1 0.00001 -0.00001\n");
  print_hash(out, &text, length);
  return text;
}

static void write_file(const char *path, const char *text, size_t length) {
  FILE *out = fopen(path, "wb");
  cr_assert_not_null(out);
  cr_assert_eq(fwrite(text, 1, length, out), length);
  cr_assert_eq(fclose(out), 0);
}

static void write_profile(const char *path, const char *logarithm) {
  size_t length;
  const origin o = here();
  char *text = make_text(&o, logarithm, &length);
  write_file(path, text, length);
  free(text);
}

static bool parses(const char *text, size_t length, char *why, size_t why_size) {
  attend_profile *profile = NULL;
  /* In memory of its own, so that a sanitizer sees a read beyond the end. */
  char *copy = malloc(length + !length);
  memcpy(copy, text, length);
  const attend_status status = attend_profile_parse(copy, length, &profile, why, why_size);
  free(copy);
  cr_expect_eq(status == ATTEND_OK, profile != NULL);
  cr_expect_eq(status == ATTEND_OK, !*why, "%s", why);
  attend_profile_free(profile);
  return status == ATTEND_OK;
}

/** Changes the last `from` in a text to `to`, of the same length, and mends the hash. */
static void change(char *text, size_t length, const char *from, const char *to) {
  char last[32], *at = strstr(text, from);
  cr_assert_not_null(at, "%s", from);
  cr_assert_eq(strlen(from), strlen(to));
  for (char *next = at; next; next = strstr(at + 1, from)) at = next;
  memcpy(at, to, strlen(to));
  snprintf(last, sizeof last, "%016" PRIx64, attend_profile_hash(text, length - 21));
  memcpy(text + length - 17, last, 16);
}

/** Another text, where the first `from` is `to`, of any length, and the hash is right. Frees the first. */
static char *replace(char *text, size_t *length, const char *from, const char *to) {
  char *at = strstr(text, from), *made;
  cr_assert_not_null(at, "%s", from);
  size_t made_length;
  FILE *out = open_memstream(&made, &made_length);
  fprintf(out, "%.*s%s%.*s", (int)(at - text), text, to, (int)(text + *length - 21 - at - strlen(from)),
          at + strlen(from));
  print_hash(out, &made, &made_length);
  free(text);
  *length = made_length;
  return made;
}

static void expect_rejected_with(const char *from, const char *to, const char *reason) {
  size_t length;
  const origin o = here();
  char *text = make_text(&o, "-1.0", &length), why[256];
  change(text, length, from, to);
  cr_expect_not(parses(text, length, why, sizeof why), "%s for %s", to, from);
  cr_expect_not_null(strstr(why, reason), "%s for %s: %s", to, from, why);
  free(text);
}

/* ------------------------------------------------------------------------------------------------------------- use */

static void expect_kernel(const attend_kernel *kernel, const char *said) {
  const attend_problem problem = some_problem();
  char text[600];
  attend_plan *plan = attend_test_plan(&problem, NULL, 3);
  attend_plan_explain(plan, text, sizeof text);
  cr_expect_str_eq(attend_plan_kernel(plan), kernel->name, "%s", text);
  cr_expect_not_null(strstr(text, said), "%s", text);
  attend_plan_destroy(plan);
}

Test(profile, that_knows_better_decides) {
  const attend_problem problem = some_problem();
  write_profile(file, "-1.0");
  setenv("ATTEND_PROFILE", file, 1);
  expect_kernel(other_kernel(&problem), " % faster than the rules'");
  setenv("ATTEND_PROFILE", file, 1);
  expect_kernel(other_kernel(&problem), "nearest entry: f32/f32 1 8/4 40x70 16/16 70 full plain");
  setenv("ATTEND_PROFILE", "off", 1);
  expect_kernel(rules_kernel(&problem), "heuristic");
}

Test(profile, that_differs_by_noise_changes_nothing) {
  const attend_problem problem = some_problem();
  const attend_kernel *rules = rules_kernel(&problem);
  write_profile(file, "-0.005");
  setenv("ATTEND_PROFILE", file, 1);
  expect_kernel(rules, "as by the rules");
}

/** A profile of two points, such as "point bf16/i8", written to `file`. */
static attend_profile *profile_of(const char *first, const char *second) {
  const origin o = here();
  size_t length;
  char *text = make_text(&o, "-1.0", &length), why[256];
  attend_profile *profile;
  text = replace(replace(text, &length, "point f32/f32", first), &length, "point bf16/bf16", second);
  cr_assert_eq(attend_profile_parse(text, length, &profile, why, sizeof why), ATTEND_OK, "%s", why);
  write_file(file, text, length);
  free(text);
  return profile;
}

/** Whether such a profile decides for keys and values of these types. */
static bool covers(const char *first, const char *second, attend_dtype k, attend_dtype v) {
  attend_problem problem = attend_test_problem(1, 8, 2, 40, 70, 64);
  attend_resolved resolved;
  attend_profile *profile = profile_of(first, second);
  problem.q_dtype = ATTEND_BF16, problem.k_dtype = k, problem.v_dtype = v;
  cr_assert_eq(attend_resolve(&problem, &resolved), ATTEND_OK, "%s", attend_error_detail());
  const bool answer = attend_profile_covers(profile, &resolved);
  problem.int8_products = 1;
  cr_assert_eq(attend_resolve(&problem, &resolved), ATTEND_OK, "%s", attend_error_detail());
  cr_expect_eq(attend_profile_covers(profile, &resolved), answer, "where nothing is rounded int8_products are nothing");
  attend_profile_free(profile);
  return answer;
}

/* No profile has measured kernels that round queries to int8: where the rules choose one, they decide. */
Test(profile, leaves_int8_products_to_the_rules_where_they_round) {
  static const attend_dtype dtypes[] = {ATTEND_Q8_0, ATTEND_I8, ATTEND_Q4_0};
  static const int64_t groups[] = {1, 4, 40};
  int rounding = 0;
  attend_profile_free(profile_of("point f32/q8_0", "point bf16/i8"));
  for (int i = 0; i < 9; i++) {
    attend_problem problem = attend_test_problem(1, 2 * groups[i / 3], 2, 1, 512, 64);
    attend_resolved resolved;
    attend_env env;
    attend_choice choice;
    problem.k_dtype = problem.v_dtype = dtypes[i % 3], problem.int8_products = 1;
    const attend_kernel *rules = rules_kernel(&problem);
    if (!(rules->can & ATTEND_CAN_INT8)) continue;
    setenv("ATTEND_PROFILE", file, 1);
    cr_assert_eq(attend_resolve(&problem, &resolved), ATTEND_OK, "%s", attend_error_detail());
    cr_assert_eq(attend_env_read(&env), ATTEND_OK, "%s", attend_error_detail());
    cr_assert_eq(attend_select(&resolved, &env, NULL, 1, &choice), ATTEND_OK, "%s", attend_error_detail());
    cr_expect_eq(choice.kernel, rules, "%s instead of %s", choice.kernel->name, rules->name);
    cr_expect_eq(choice.by, ATTEND_BY_RULES);
    rounding++;
  }
  if (!rounding) cr_skip_test("no kernel that multiplies bytes runs here");
}

Test(profile, decides_for_formats_of_which_it_knows_the_kind) {
  static const char plain[] = "point f32/f32", also_plain[] = "point bf16/bf16", i8[] = "point bf16/i8",
                    q8_0[] = "point bf16/q8_0";
  cr_expect(covers(plain, also_plain, ATTEND_F16, ATTEND_BF16));
  cr_expect_not(covers(plain, also_plain, ATTEND_Q8_0, ATTEND_Q8_0));
  cr_expect_not(covers(plain, also_plain, ATTEND_I8, ATTEND_I8));
  cr_expect_not(covers(plain, also_plain, ATTEND_BF16, ATTEND_Q8_0));
  cr_expect(covers(plain, q8_0, ATTEND_Q8_0, ATTEND_Q4_0));
  cr_expect(covers(plain, q8_0, ATTEND_F32, ATTEND_F32));
  cr_expect_not(covers(plain, q8_0, ATTEND_F8_E4M3, ATTEND_F8_E4M3));
  cr_expect_not(covers(plain, q8_0, ATTEND_Q8_0, ATTEND_F16));
  cr_expect(covers(i8, q8_0, ATTEND_I4, ATTEND_F8_E5M2));
  cr_expect_not(covers(i8, q8_0, ATTEND_I8, ATTEND_Q8_0));
  cr_expect_not(covers(i8, q8_0, ATTEND_BF16, ATTEND_BF16));
}

Test(profile, without_entries_for_a_format_leaves_its_choice_to_the_rules) {
  attend_problem problem = attend_test_problem(1, 8, 4, 40, 70, 64);
  problem.k_dtype = ATTEND_Q8_0;
  const attend_kernel *rules = rules_kernel(&problem);
  char text[600];
  write_profile(file, "-1.0");
  setenv("ATTEND_PROFILE", file, 1);
  attend_plan *plan = attend_test_plan(&problem, NULL, 3);
  attend_plan_explain(plan, text, sizeof text);
  cr_expect_str_eq(attend_plan_kernel(plan), rules->name, "%s", text);
  cr_expect_not_null(strstr(text, "heuristic"), "%s", text);
  attend_plan_destroy(plan);
}

/* Blocks, elements with scales and plain numbers lie apart, and apart from one another. */
Test(profile, knows_kinds_of_formats_by_axes_of_their_own) {
  static const attend_dtype types[] = {ATTEND_BF16, ATTEND_I8, ATTEND_Q8_0};
  float axes[COUNT(types)][ATTEND_PROFILE_AXES], other[ATTEND_PROFILE_AXES];
  attend_profile_shape shape = {ATTEND_BF16, ATTEND_BF16, 1, 8, 4, 40, 70, 64, 64, 70, false, false};
  for (size_t i = 0; i < COUNT(types); i++) {
    shape.kv_dtype = types[i];
    attend_profile_axes(&shape, axes[i]);
    for (size_t j = 0; j < i; j++) cr_expect_neq(memcmp(axes[i], axes[j], sizeof axes[i]), 0);
  }
  shape.kv_dtype = ATTEND_IQ4_NL;
  attend_profile_axes(&shape, other);
  cr_expect_eq(memcmp(axes[2], other, sizeof other), 0);
  shape.q_dtype = ATTEND_F32;
  attend_profile_axes(&shape, other);
  cr_expect_neq(memcmp(axes[2], other, sizeof other), 0);
}

Test(profile, is_looked_for_in_the_cache) {
  const attend_problem problem = some_problem();
  char place[ATTEND_PROFILE_PLACES][ATTEND_PROFILE_PATH], folder[sizeof directory + 8];
  attend_env env;
  const attend_kernel *other = other_kernel(&problem);
  snprintf(folder, sizeof folder, "%s/attend", directory);
  cr_assert_eq(mkdir(folder, 0700), 0);
  cr_assert_eq(attend_env_read(&env), ATTEND_OK);
  cr_assert_eq(attend_profile_places(&env, place), 2);
  cr_assert_eq(strncmp(place[0], folder, strlen(folder)), 0);
  write_profile(place[0], "-1.0");
  expect_kernel(other, "profile");
  /* without XDG_CACHE_HOME, or with a relative one, in HOME */
  char home[sizeof directory + 32];
  snprintf(home, sizeof home, "%s/.cache", directory);
  cr_assert_eq(symlink(directory, home), 0);
  setenv("HOME", directory, 1);
  unsetenv("XDG_CACHE_HOME");
  expect_kernel(other, "profile");
  setenv("XDG_CACHE_HOME", "relative", 1);
  expect_kernel(other, "profile");
}

Test(profile, of_the_search_path_that_is_broken_leaves_the_rules) {
  const attend_problem problem = some_problem();
  const attend_kernel *rules = rules_kernel(&problem);
  char place[ATTEND_PROFILE_PLACES][ATTEND_PROFILE_PATH], folder[sizeof directory + 8];
  attend_env env;
  attend_profile_state state;
  snprintf(folder, sizeof folder, "%s/attend", directory);
  cr_assert_eq(mkdir(folder, 0700), 0);
  cr_assert_eq(attend_env_read(&env), ATTEND_OK);
  attend_profile_places(&env, place);
  write_file(place[0], "nonsense\n", 9);
  expect_kernel(rules, "heuristic");
  cr_assert_eq(attend_env_read(&env), ATTEND_OK);
  cr_assert_eq(attend_profile_get(&env, &state), ATTEND_OK);
  cr_expect_null(state.profile);
  cr_expect_str_eq(state.path, place[0]);
  cr_expect_not_null(strstr(state.why, "damaged"), "%s", state.why);
}

/* Options name a file, or none; ATTEND_PROFILE, good or bad, is then not looked at. */
Test(profile, of_the_options_comes_before_all_others) {
  const attend_problem problem = some_problem();
  const attend_kernel *other = other_kernel(&problem), *rules = rules_kernel(&problem);
  attend_options options = ATTEND_OPTIONS_INIT;
  options.num_threads = 3;
  write_profile(file, "-1.0");
  const char *const named[] = {file, "off"}, *const variable[] = {NULL, "off", file, "/no/such/file"};
  for (size_t i = 0; i < COUNT(named) * COUNT(variable) * 2; i++) {
    const char *value = variable[i / 2 % COUNT(variable)], *kernel = (i % 2 ? rules : other)->name;
    value ? setenv("ATTEND_PROFILE", value, 1) : unsetenv("ATTEND_PROFILE");
    options.ignore_environment = i / 2 / COUNT(variable) > 0;
    char name[sizeof file];
    options.profile = strcpy(name, named[i % 2]);
    attend_plan *plan;
    cr_assert_eq(attend_plan_create(&problem, &options, &plan), ATTEND_OK, "%s", attend_error_detail());
    memset(name, 'x', sizeof name - 1); /* strings need not stay */
    char text[600];
    attend_plan_explain(plan, text, sizeof text);
    cr_expect_str_eq(attend_plan_kernel(plan), kernel, "%s beside %s: %s", named[i % 2], value, text);
    attend_plan_destroy(plan);
  }
}

Test(profile, of_the_options_that_cannot_be_used_is_an_error) {
  const attend_problem problem = some_problem();
  static char longest[10000];
  char broken[sizeof file + 8];
  memset(longest, 'x', sizeof longest - 1);
  snprintf(broken, sizeof broken, "%s.broken", file);
  write_file(broken, "nonsense\n", 9);
  const char *const bad[] = {"",           "on",   "OFF",   "off ", "/", "/dev/null", "no/such/file",
                             "two\nlines", "%n%s", longest, broken};
  attend_options options = ATTEND_OPTIONS_INIT;
  for (size_t i = 0; i < COUNT(bad) * 2; i++) {
    options.profile = bad[i / 2], options.ignore_environment = (int)(i % 2);
    attend_test_refuses(&problem, &options, ATTEND_ERROR_INVALID_ARGUMENT, "profile", NULL, bad[i / 2]);
  }
  /* a file that was mended is read again */
  write_profile(broken, "-1.0");
  options.profile = broken;
  attend_test_accepts(&problem, &options, "a mended file");
  attend_test_expect_no_leak();
}

/* A kernel that was asked for, and problems that profiles do not cover, are what they are without. */
Test(profile, does_not_overrule) {
  attend_problem problem = some_problem();
  const attend_kernel *rules = rules_kernel(&problem);
  write_profile(file, "-1.0");
  setenv("ATTEND_PROFILE", file, 1);
  attend_plan *plan = attend_test_plan(&problem, rules->name, 1);
  cr_expect_str_eq(attend_plan_kernel(plan), rules->name);
  attend_plan_destroy(plan);
  problem.batch_invariant = 1;
  plan = attend_test_plan(&problem, NULL, 1);
  cr_expect_str_eq(attend_plan_kernel(plan), rules->name);
  attend_plan_destroy(plan);
}

Test(profile, gives_the_same_bits_for_any_number_of_threads) {
  const attend_problem problem = some_problem();
  write_profile(file, "-1.0");
  setenv("ATTEND_PROFILE", file, 1);
  attend_plan *one = attend_test_plan(&problem, NULL, 1);
  attend_test_tensors expected = attend_test_run(one, &problem);
  for (int threads = 2; threads < 9; threads++) {
    attend_plan *plan = attend_test_plan(&problem, NULL, threads);
    cr_expect_str_eq(attend_plan_kernel(plan), attend_plan_kernel(one));
    attend_test_tensors got = attend_test_run(plan, &problem);
    cr_expect(attend_test_same(&got, &expected), "%d threads", threads);
    attend_test_tensors_destroy(&got);
    attend_plan_destroy(plan);
  }
  attend_test_tensors_destroy(&expected);
  attend_plan_destroy(one);
}

static void *make_plan(void *unused) {
  const attend_problem problem = some_problem();
  attend_plan *plan = NULL;
  cr_expect_eq(attend_plan_create(&problem, NULL, &plan), ATTEND_OK);
  attend_plan_destroy(plan);
  return unused;
}

Test(profile, is_read_by_many_threads_at_once_and_in_a_child) {
  const attend_problem problem = some_problem();
  pthread_t thread[8];
  write_profile(file, "-1.0");
  const attend_kernel *other = other_kernel(&problem);
  setenv("ATTEND_PROFILE", file, 1);
  for (size_t i = 0; i < COUNT(thread); i++) cr_assert_eq(pthread_create(&thread[i], NULL, make_plan, NULL), 0);
  for (size_t i = 0; i < COUNT(thread); i++) pthread_join(thread[i], NULL);
  /* once read, it is kept, though the file is gone */
  unlink(file);
  expect_kernel(other, "profile");
  const pid_t child = fork();
  if (child == 0) {
    attend_plan *plan = NULL;
    const bool ok =
        attend_plan_create(&problem, NULL, &plan) == ATTEND_OK && strcmp(attend_plan_kernel(plan), other->name) == 0;
    _exit(ok ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  cr_expect_eq(status, 0);
}

/* Longer strips are those of the rules where a strip holds all rows: nothing was measured of them there. */
Test(profile, says_nothing_for_a_variant_that_is_the_same_as_another) {
  const attend_problem problem = some_problem();
  const attend_kernel *rules = rules_kernel(&problem);
  const origin o = here();
  size_t length;
  char *text = make_text(&o, "-1.0", &length);
  change(text, length, "whole 1 ", "whole 2 ");
  write_file(file, text, length);
  free(text);
  setenv("ATTEND_PROFILE", file, 1);
  expect_kernel(rules, "as by the rules");
}

/* ----------------------------------------------------------------------------------------------------------- faults */

Test(profile, is_rejected_for_another_machine_or_library) {
  size_t length;
  char why[256];
  origin right = here();
  char *text = make_text(&right, "-1.0", &length);
  cr_assert(parses(text, length, why, sizeof why), "%s", why);
  free(text);
  const struct {
    const char *reason;
    origin o;
  } wrong[] = {{"attend-profile 999, this is 4", {999, right.cores, right.library, right.cpu, right.rows}},
               {"library 0.0.9", {right.version, right.cores, "0.0.9", right.cpu, right.rows}},
               {"cpu Other-1-2-3", {right.version, right.cores, right.library, "Other-1-2-3", right.rows}},
               {"cores 999", {right.version, 999, right.library, right.cpu, right.rows}},
               {"kernels ", {right.version, right.cores, right.library, right.cpu, right.rows + 1}}};
  for (size_t i = 0; i < COUNT(wrong); i++) {
    text = make_text(&wrong[i].o, "-1.0", &length);
    cr_expect_not(parses(text, length, why, sizeof why));
    cr_expect_not_null(strstr(why, wrong[i].reason), "%s", why);
    write_file(file, text, length);
    const attend_problem problem = some_problem();
    setenv("ATTEND_PROFILE", file, 1);
    attend_test_refuses(&problem, NULL, ATTEND_ERROR_ENVIRONMENT, "ATTEND_PROFILE", NULL, wrong[i].reason);
    unsetenv("ATTEND_PROFILE");
    free(text);
  }
}

Test(profile, is_rejected_cut_off_anywhere) {
  size_t length;
  const origin o = here();
  char why[256], *text = make_text(&o, "-1.0", &length);
  for (size_t cut = 0; cut < length; cut++) {
    cr_expect_not(parses(text, cut, why, sizeof why), "%zu of %zu bytes", cut, length);
    cr_expect_str_not_empty(why);
  }
  free(text);
}

Test(profile, is_rejected_changed_anywhere) {
  size_t length;
  const origin o = here();
  char why[256], *text = make_text(&o, "-1.0", &length);
  for (size_t at = 0; at < length; at++) {
    text[at] ^= 1 << at % 7;
    cr_expect_not(parses(text, length, why, sizeof why), "byte %zu", at);
    text[at] ^= 1 << at % 7;
  }
  free(text);
}

/* With a hash that is right: what a faulty tuner could write. */
Test(profile, is_rejected_with_nonsense_under_a_right_hash) {
  expect_rejected_with("threads 3", "threads 0", "whole number");
  expect_rejected_with("noise 0", "noise x", "decimal");
  expect_rejected_with("noise 0.010000", "noise 0.010 00", "end of the line");
  expect_rejected_with("columns 3", "columns 4", "choice");
  expect_rejected_with("columns 3", "columns 2", "point");
  expect_rejected_with("points 2", "points 1", "no more than 1");
  expect_rejected_with("points 2", "points 3", "point");
  expect_rejected_with("team 1 0", "team 2 0", "teams from 1");
  expect_rejected_with("team 3 2", "team 1 2", "whole number");
  expect_rejected_with("time -4.5", "time --.5", "decimal");
  expect_rejected_with("whole 1 ", "whole 0 ", "whole number");
  expect_rejected_with("whole 1 ", "whale 1 ", "split");
  expect_rejected_with("point f32/f32", "point f33/f32", "f32");
  expect_rejected_with("point f32/f32", "point f32/i9 ", "f32");
  expect_rejected_with("point bf16/bf16", "point q8_0/q8_0", "f32");
  expect_rejected_with("8/4 40x70", "8/9 40x70", "whole number");
  expect_rejected_with("full plain", "full plane", "plain");
}

Test(profile, is_rejected_if_it_is_random) {
  char bytes[512], why[256];
  uint64_t x = 1;
  for (int trial = 0; trial < 2000; trial++) {
    const size_t length = trial % sizeof bytes;
    for (size_t i = 0; i < length; i++) {
      x = x * UINT64_C(6364136223846793005) + 1442695040888963407;
      bytes[i] = trial % 2 ? (char)(x >> 56) : "attend-profile 1\nlibrary 0"[(x >> 40) % 26];
    }
    cr_expect_not(parses(bytes, length, why, sizeof why));
  }
}

/* Random changes with the hash mended: whatever is read, nothing is touched that is not ours (sanitizers watch). */
Test(profile, with_any_change_under_a_right_hash_is_harmless) {
  size_t length;
  const origin o = here();
  char why[256], last[32], *text = make_text(&o, "-1.0", &length);
  uint64_t x = 7;
  for (int trial = 0; trial < 3000; trial++) {
    x = x * UINT64_C(6364136223846793005) + 1442695040888963407;
    const size_t at = (x >> 33) % (length - 21);
    const char before = text[at];
    text[at] = (char)(x >> 56);
    snprintf(last, sizeof last, "%016" PRIx64, attend_profile_hash(text, length - 21));
    memcpy(text + length - 17, last, 16);
    parses(text, length, why, sizeof why);
    text[at] = before;
  }
  free(text);
}

Test(profile, that_no_memory_is_left_for_is_an_error) {
  const attend_problem problem = some_problem();
  for (long nth = 1; nth <= 3; nth++) {
    char name[sizeof file + 8];
    snprintf(name, sizeof name, "%s.%ld", file, nth);
    write_profile(name, "-1.0");
    setenv("ATTEND_PROFILE", name, 1);
    attend_fail_allocation(nth);
    attend_test_refuses(&problem, NULL, ATTEND_ERROR_OUT_OF_MEMORY, NULL, NULL, name);
    attend_fail_allocation(0);
    attend_test_accepts(&problem, NULL, name);
  }
  attend_test_expect_no_leak();
}

/* A pipe that nobody writes to must not be waited for. */
Test(profile, that_is_no_file_is_rejected) {
  const attend_problem problem = some_problem();
  cr_assert_eq(mkfifo(file, 0600), 0);
  setenv("ATTEND_PROFILE", file, 1);
  attend_test_refuses(&problem, NULL, ATTEND_ERROR_ENVIRONMENT, "ATTEND_PROFILE", NULL, "a pipe");
}
