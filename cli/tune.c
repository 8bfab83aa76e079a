/* SPDX-License-Identifier: Apache-2.0 */
#include "tune/tune.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/text.h"
#include "dispatch/choose/profile.h"

typedef struct arguments {
  double budget;
  const char *shapes, *profile;
  bool check, odd, only_check; /* the last: an option was given that goes with --check only */
  int times;                   /* options that say how long */
  int64_t count, seed;
} arguments;

/* ------------------------------------------------------------------------------------------------------- arguments */

static bool take_budget_of(void *to, double seconds) {
  arguments *a = to;
  a->budget = seconds;
  a->times++;
  return true;
}

static bool take_quick(const char *text, void *to) {
  (void)text;
  return take_budget_of(to, 60);
}

static bool take_thorough(const char *text, void *to) {
  (void)text;
  return take_budget_of(to, 1200);
}

static bool take_budget(const char *text, void *to) {
  int64_t seconds = 0;
  return attend_cli_integer("budget", text, 1, 86400, &seconds) && take_budget_of(to, (double)seconds);
}

static bool take_check(const char *text, void *to) {
  (void)text;
  ((arguments *)to)->check = true;
  return true;
}

static bool take_count(const char *text, void *to) {
  arguments *a = to;
  a->only_check = true;
  return attend_cli_integer("count", text, 1, 100000, &a->count);
}

static bool take_odd(const char *text, void *to) {
  (void)text;
  arguments *a = to;
  return a->only_check = a->odd = true;
}

static bool take_seed(const char *text, void *to) {
  arguments *a = to;
  a->only_check = true;
  return attend_cli_integer("seed", text, 0, INT_MAX, &a->seed);
}

static const attend_cli_option options[] = {
    {"quick", NULL, "about 1 minute", .take = take_quick},
    {"thorough", NULL, "about 20 minutes (default: 5)", .take = take_thorough},
    {"budget", "S", "about S seconds, 1 to 86400", .take = take_budget},
    {"shapes", "FILE",
     "measure these shapes too, before all others: a line each, 'f32 1 32/8 2048x2048 128/128 causal' (type, or types "
     "as bf16+q8_0, batch, "
     "query/key heads, queries x keys, dims of keys/values, and full, causal, window=N, lengths, mask or bias)",
     .text = offsetof(arguments, shapes)},
    {"profile", "FILE", "write there (default: ATTEND_PROFILE, else the cache directory, as 'attend info' shows)",
     .text = offsetof(arguments, profile)},
    {"check", NULL,
     "write nothing: on random shapes, compare what is chosen with a profile and without one with the best of all "
     "kernels and tilings",
     .take = take_check},
    {"count", "N", "shapes to check on (default 60)", .take = take_count},
    {"odd", NULL,
     "check on shapes that no model has: head dims of 1 to 300, groups of 1 to 16 heads, heads within rows",
     .take = take_odd},
    {"seed", "S", "of the shapes to check on (default 1)", .take = take_seed},
};
static const attend_cli_command command = {
    .usage = "attend tune [OPTION]...",
    .about = "Measures the kernels that run here, with several tilings and numbers of threads, on shapes of many "
             "sizes, and writes this machine's profile, by which the library then chooses for every shape. Let nothing "
             "else run meanwhile. Ctrl-C ends it early, with a profile of what was measured.",
    .options = options,
    .count = sizeof options / sizeof *options,
    .notes =
        "exit status: 0 done, 1 a kernel computed something wrong and was left out, 2 bad usage or nothing written",
    .examples = "attend tune --quick\n"
                "attend tune --shapes my-model.shapes --profile my-model.profile\n"
                "attend tune --check\n"
                "attend tune --check --odd --count 1000 --budget 900\n",
};

/* False when there is no more to do, with the exit status set. */
static bool read_arguments(int argc, char **argv, arguments *a, int *status) {
  *a = (arguments){.budget = 300, .count = 60, .seed = 1};
  if (!attend_cli_parse(argc, argv, &command, a, status)) return false;
  if (a->times > 1) return attend_cli_error("tune: expected one of --quick, --thorough and --budget") == 0;
  if (a->check && a->shapes) return attend_cli_error("tune: --check takes no --shapes, its shapes are random") == 0;
  if (!a->check && a->only_check) return attend_cli_error("tune: --count, --odd and --seed go with --check") == 0;
  return true;
}

/* What would keep kernels out of the measurement, or out of the profile's use. */
static int check_environment(const attend_env *env) {
  if (*env->kernel)
    return attend_cli_error("tune: ATTEND_KERNEL is set to %s; expected it unset, to measure all kernels", env->kernel);
  if (getenv("ATTEND_ISA") && *getenv("ATTEND_ISA"))
    return attend_cli_error("tune: ATTEND_ISA is set to %s; expected it unset, to measure all kernels",
                            getenv("ATTEND_ISA"));
  return ATTEND_EXIT_DONE;
}

/* -------------------------------------------------------------------------------------------------------- progress */

static bool on_terminal;
static volatile sig_atomic_t stop;

/* The second Ctrl-C ends the program at once. */
static void note_stop(int signal_number) {
  stop = 1;
  signal(signal_number, SIG_DFL);
}

static void show_bar(double share, double left, const char *text) {
  enum { WIDTH = 24 };
  char bar[WIDTH + 1];
  const int full = (int)(WIDTH * (share < 1 ? share : 1));
  memset(bar, '-', WIDTH);
  memset(bar, '#', (size_t)full);
  bar[WIDTH] = '\0';
  fprintf(stderr, "\r\033[K[%s] %2d:%02d left  %.60s", bar, (int)left / 60, (int)left % 60, text);
}

/* A bar on a terminal, ten times a second; else a line for every tenth of the time. */
static void show_progress(const attend_tune_progress *p) {
  static double shown = -1;
  const double share = p->elapsed / p->budget, left = p->budget > p->elapsed ? p->budget - p->elapsed : 0;
  char text[200];
  if (shown >= 0 && p->elapsed - shown < (on_terminal ? 0.1 : p->budget / 10)) return;
  shown = p->elapsed;
  if (p->shapes)
    snprintf(text, sizeof text, "%zu shape%s, %s", p->shapes, p->shapes == 1 ? "" : "s", p->doing);
  else
    snprintf(text, sizeof text, "%s", p->doing);
  if (on_terminal)
    show_bar(share, left, text);
  else
    fprintf(stderr, "%3.0f %%, %.0f s left: %s\n", 100 * (share < 1 ? share : 1), left, text);
}

static void end_progress(void) {
  if (on_terminal) fputs("\r\033[K", stderr);
}

/* ---------------------------------------------------------------------------------------------------------- tuning */

/* Makes every directory on the way to a file. 0 or an errno. */
static int make_directories(const char *path) {
  char directory[ATTEND_PROFILE_PATH];
  strcpy(directory, path);
  for (char *slash = strchr(directory + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
    *slash = 0;
    if (mkdir(directory, 0777) != 0 && errno != EEXIST) return errno;
    *slash = '/';
  }
  return 0;
}

/* Where the profile goes. A place of the search path gets its directory, which may be missing. */
static bool name_profile(const arguments *a, const attend_env *env, attend_outputs *outputs) {
  static char place[ATTEND_PROFILE_PLACES][ATTEND_PROFILE_PATH];
  const bool named = *env->profile && strcmp(env->profile, "off") != 0;
  const char *target = a->profile ? a->profile : named ? env->profile : place[0];
  if (target == place[0]) {
    if (attend_profile_places(env, place) < ATTEND_PROFILE_PLACES)
      return attend_cli_error("tune: no cache directory to write to: expected --profile, XDG_CACHE_HOME or HOME") == 0;
    const int error = make_directories(target);
    if (error)
      return attend_cli_error("--profile %s: cannot make its directory: %s; --profile names another place", target,
                              strerror(error)) == 0;
  }
  outputs->file[outputs->count++] = (attend_output){.option = "profile", .path = target, .lasting = true};
  return attend_outputs_check(outputs) && attend_outputs_spare(outputs, "shapes", a->shapes);
}

static int write_result(attend_outputs *outputs, const attend_tune_result *result) {
  outputs->file[0].text = result->text;
  /* What was measured for minutes is not lost to a signal in the moment of writing; a pipe may wait for ever. */
  signal(SIGINT, outputs->file[0].stream ? SIG_DFL : SIG_IGN);
  signal(SIGTERM, outputs->file[0].stream ? SIG_DFL : SIG_IGN);
  if (!attend_outputs_stage(outputs) || !attend_outputs_commit(outputs)) return ATTEND_EXIT_BAD_INPUT;
  FILE *text = attend_outputs_text(outputs);
  attend_cli_print_clean(text, outputs->file[0].path);
  fprintf(text, ": %zu shapes, %zu kernels, %zu choices; differences above %.1f %% count\n", result->shapes,
          result->kernels, result->columns, 100 * result->noise);
  if (result->skipped)
    fprintf(stderr, "attend: %zu shapes could not be measured, the first because: %s\n", result->skipped,
            result->why_skipped);
  if (result->rare)
    fprintf(stderr, "attend: %zu shapes are left out: too few have keys and values of their kind of format\n",
            result->rare);
  if (!result->faulty) return ATTEND_EXIT_DONE;
  fprintf(stderr, "attend: left out as wrong: %d kernels, the first because: %s\n", result->faulty, result->fault);
  return ATTEND_EXIT_CHECK_FAILED;
}

static int tune(const arguments *a, const attend_env *env) {
  static attend_outputs outputs; /* its paths are too much for a stack */
  char why[256];
  attend_tune_options how = {.budget = a->budget,
                             .threads = env->num_threads ? env->num_threads : attend_default_threads(),
                             .highest = env->isa,
                             .stop = &stop,
                             .progress = show_progress};
  attend_tune_result result;
  if (!name_profile(a, env, &outputs)) return ATTEND_EXIT_BAD_INPUT;
  if (a->shapes && !attend_tune_shapes_read(a->shapes, &how.shapes, why, sizeof why))
    return attend_cli_error("--shapes %s: %s", a->shapes, why);
  setenv("ATTEND_PROFILE", "off", 1); /* what is measured is not to be chosen by an older profile */
  signal(SIGINT, note_stop);
  signal(SIGTERM, note_stop);
  const bool ok = attend_tune(&how, &result);
  end_progress();
  attend_tune_shapes_free(&how.shapes);
  if (!ok) return attend_cli_error("tune: no memory");
  int status;
  if (result.text)
    status = write_result(&outputs, &result);
  else
    status = attend_cli_error("tune: %zu shapes were measured, too few for a profile; nothing is written%s",
                              result.shapes, result.faulty ? ", and kernels failed: see 'attend verify'" : "");
  free(result.text);
  return status;
}

/* ----------------------------------------------------------------------------------------------------------- check */

static int compare(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* The value that `share` of all are not above. */
static double quantile(const double *sorted, int64_t count, double share) {
  const int64_t index = (int64_t)(share * (double)count + 0.999999) - 1;
  return sorted[index < 0 ? 0 : index];
}

static void print_distribution(const char *name, double *regret, int64_t count) {
  qsort(regret, (size_t)count, sizeof *regret, compare);
  printf("%-16s  %6.1f %%  %6.1f %%  %6.1f %%  %6.1f %%  %6.1f %%\n", name, 100 * quantile(regret, count, 0.5),
         100 * quantile(regret, count, 0.75), 100 * quantile(regret, count, 0.9), 100 * quantile(regret, count, 0.95),
         100 * regret[count - 1]);
}

static void print_regret(const attend_tune_regret *r) {
  char text[128];
  attend_tune_describe(&r->problem, text, sizeof text);
  if (r->problem.k_strides.row) strcat(text, ", heads within rows");
  printf("%-44s %10.4g us  %6.1f %%  %6.1f %%\n", text, r->best * 1e6, 100 * r->regret, 100 * r->rules_regret);
  if (r->regret > 0.05)
    printf("    chosen %.4g us: %s\n    best   %.4g us: %s\n", r->chosen * 1e6, r->chosen_name, r->best * 1e6,
           r->best_name);
}

static int check(const arguments *a, const attend_env *env) {
  attend_profile_state state;
  attend_env wanted = *env;
  if (a->profile) {
    if (strlen(a->profile) >= sizeof wanted.profile) return attend_cli_error("--profile: expected a shorter name");
    strcpy(wanted.profile, a->profile);
  }
  const attend_status found = attend_profile_get(&wanted, &state);
  if (found != ATTEND_OK) return attend_cli_library_error(found);
  const int threads = env->num_threads ? env->num_threads : attend_default_threads();
  const int64_t seconds = (int64_t)(a->budget / (double)a->count * 1000);
  const size_t count = (size_t)a->count;
  double *with = calloc(3 * count, sizeof *with);
  if (!with) return attend_cli_error("tune: no memory");
  double *without = with + count, *team = without + count;
  if (state.profile)
    fputs("profile: ", stdout), attend_cli_print_clean(stdout, state.path), puts("\n");
  else
    fputs("no profile is in use (", stdout), attend_cli_print_clean(stdout, state.why), puts(")\n");
  printf("%-44s %13s  %8s  %8s\n", "shape", "best of all", "profile", "rules");
  int64_t done = 0;
  for (; done < a->count && !stop; done++) {
    const attend_problem problem = attend_tune_random((uint64_t)a->seed, (size_t)done, a->odd);
    attend_tune_regret regret;
    char doing[128];
    attend_tune_describe(&problem, doing, sizeof doing);
    const attend_tune_progress progress = {(double)(done * seconds) / 1000, a->budget, (size_t)done, doing};
    if (on_terminal) show_progress(&progress);
    if (!attend_tune_check(&problem, env->isa, threads, wanted.profile, (double)seconds / 1000, &regret)) break;
    end_progress();
    print_regret(&regret);
    fflush(stdout);
    with[done] = regret.regret, without[done] = regret.rules_regret, team[done] = regret.team_us;
  }
  end_progress();
  if (done > 0) {
    printf("\n%" PRId64
           " shapes, %d threads; time above the best of all kernels and tilings\n%-16s  %8s  %8s  %8s  %8s  %8s\n",
           done, threads, "", "median", "75th", "90th", "95th", "worst");
    print_distribution("with profile", with, done);
    print_distribution("rules alone", without, done);
    qsort(team, (size_t)done, sizeof *team, compare);
    if (threads > 1)
      printf("waking %d threads cost %.2g us at the median, from %.2g to %.2g\n", threads, quantile(team, done, 0.5),
             team[0], team[done - 1]);
  }
  free(with);
  if (done == a->count || stop) return ATTEND_EXIT_DONE;
  return attend_cli_error("tune: a shape could not be measured: %s", attend_error_detail());
}

int cmd_tune(int argc, char **argv) {
  arguments a;
  attend_env env;
  int status;
  if (!read_arguments(argc, argv, &a, &status)) return status;
  const attend_status read = attend_env_read(&env);
  if (read != ATTEND_OK) return attend_cli_library_error(read);
  on_terminal = isatty(STDERR_FILENO);
  if (a.check) return check(&a, &env);
  status = check_environment(&env);
  return status ? status : tune(&a, &env);
}
