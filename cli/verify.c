/* SPDX-License-Identifier: Apache-2.0 */
#include "verify/verify.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#ifdef _WIN32
#include <shlwapi.h>
#else
#include <fnmatch.h>
#endif

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/verify_output.h"
#include "dispatch/dispatch.h"

/* As many as it takes for 600 ragged, 400 paged and 300 ranged cases of each kernel of f32. Those of bf16 take a run of
   their own, with --dtype bf16 --cases 1500. */
#define DEFAULT_CASES 1200
#define LITERAL_OF(number) #number
#define LITERAL(number) LITERAL_OF(number)

#ifdef ATTEND_VERIFY_ONLY /* built without cJSON */
#define JSON_OPTION
#else
#define JSON_OPTION {"json", NULL, "the result as JSON", .take = take_json},
#endif

enum { PRINTED_FAILURES = 10 }; /* of each kernel */

/* JSON has no larger whole numbers. */
#define GREATEST_SEED (INT64_C(1) << 52)

typedef struct arguments {
  const char *kernel, *only;
  attend_dtype dtype;
  int64_t cases, seed;
  const verify_output *output;
} arguments;

static const verify_output text_output;

/* ------------------------------------------------------------------------------------------------------- arguments */

static bool is_case(const char *name) {
  if (strcmp(name, "random") == 0) return true;
  for (size_t i = 0; i < attend_verify_named_count(); i++) {
    attend_verify_case c;
    attend_verify_named_case(i, 0, ATTEND_DTYPE_DEFAULT, &c);
    if (strcmp(name, c.name) == 0) return true;
  }
  attend_cli_error("--case '%s': expected 'random' or the name of a case, as a failure gives it", name);
  return false;
}

static bool take_dtype(const char *text, void *to) {
  return attend_cli_format("dtype", text, &((arguments *)to)->dtype);
}

static bool take_case(const char *text, void *to) { return is_case(((arguments *)to)->only = text); }

static bool take_cases(const char *text, void *to) {
  return attend_cli_integer("cases", text, 0, 1000000000, &((arguments *)to)->cases);
}

static bool take_seed(const char *text, void *to) {
  return attend_cli_integer("seed", text, 0, GREATEST_SEED, &((arguments *)to)->seed);
}

#ifndef ATTEND_VERIFY_ONLY
static bool take_json(const char *text, void *to) {
  (void)text;
  ((arguments *)to)->output = &attend_verify_json;
  return true;
}
#endif

static const attend_cli_option options[] = {
    {"kernel", "GLOB", "only kernels whose name matches, '*avx2*' for example; several with commas between them",
     .text = offsetof(arguments, kernel)},
    {"dtype", "T",
     "all tensors of this type: f32, f16 or bf16; or keys and values of attention in this format: q8_0, "
     "i8, ...",
     .take = take_dtype},
    {"case", "NAME", "only the named case of that name, or only the random ones: 'random'", .take = take_case},
    {"cases", "N", "number of random cases (default " LITERAL(DEFAULT_CASES) ")", .take = take_cases},
    {"seed", "S", "seed of all numbers; random case i has seed S + i (default: another one each time)",
     .take = take_seed},
    JSON_OPTION};
static const attend_cli_command command = {
    .usage = "attend verify [OPTION]...",
    .about = "Checks every kernel that runs here, and what the library chooses ('auto'), against a plain reference in "
             "double precision, on named cases (each semantic alone and combined, in every element type) and on random "
             "ones. Buffers lie against guard pages, everything that is not attended is NaN, and each case is run "
             "several ways that must give the same bits. The kernels of other operations (softmax_*, append_*, "
             "merge_*) are checked on random cases of their own.",
    .options = options,
    .count = sizeof options / sizeof *options,
    .notes = "A failure is printed with its kernel, seed and every field of the case, and with the command that "
             "repeats it. Errors are |out - reference| / max |v|, worst of all cases, beside those of plain f32 "
             "arithmetic. 'of allowed' is the largest error as a share of what is allowed for its case. 'ragged', "
             "'paged' and 'ranged' count the cases, of those that were run, with packed sequences, with keys in pages "
             "and with key ranges.\n\nexit status: 0 all passed, 1 a case failed, 2 bad usage or nothing to verify",
    .examples = "attend verify\n"
                "attend verify --kernel 'decode*' --dtype bf16 --cases 2000\n"
                "attend verify --case random --seed 17 --cases 1\n",
};

/* False when there is no more to do, with the exit status set. */
static bool read_arguments(int argc, char **argv, arguments *a, int *status) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  *a = (arguments){.kernel = "*",
                   .cases = DEFAULT_CASES,
                   .output = &text_output,
                   .seed = ((int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000) % 1000000000};
  return attend_cli_parse(argc, argv, &command, a, status);
}

/* ----------------------------------------------------------------------------------------------------------- cases */

/* Where the next case comes from: the named ones, each in the types it is asked for in, and then the random ones. */
typedef struct cursor {
  size_t named;
  attend_dtype dtype;
  int64_t random;
} cursor;

static bool next_case(const arguments *a, cursor *at, attend_verify_case *c) {
  while (at->named < attend_verify_named_count()) {
    const bool typed = attend_verify_named_is_typed(at->named);
    const attend_dtype dtype = at->dtype ? at->dtype : a->dtype ? a->dtype : ATTEND_F32;
    attend_verify_named_case(at->named, (uint64_t)a->seed, dtype, c);
    if (typed || a->dtype || dtype == ATTEND_BF16)
      at->named++, at->dtype = ATTEND_DTYPE_DEFAULT;
    else
      at->dtype = (attend_dtype)(dtype + 1);
    /* A case with types of its own mixes them. */
    if ((!a->only || strcmp(a->only, c->name) == 0) && !(typed && a->dtype)) return true;
  }
  if ((a->only && strcmp(a->only, "random") != 0) || at->random >= a->cases) return false;
  attend_verify_random_case((uint64_t)(a->seed + at->random++), a->dtype, c);
  return true;
}

static int64_t count_cases(const arguments *a) {
  cursor at = {0};
  attend_verify_case c;
  int64_t count = 0;
  while (next_case(a, &at, &c)) count++;
  return count;
}

/* --------------------------------------------------------------------------------------------------------- tallies */

static void count_reason(tally *t, const char *text) {
  int i = 0;
  while (i < REASONS - 1 && t->reasons[i].count && strcmp(t->reasons[i].text, text) != 0) i++;
  if (i == REASONS - 1) text = "other reasons";
  snprintf(t->reasons[i].text, sizeof t->reasons[i].text, "%.*s", (int)sizeof t->reasons[i].text - 1, text);
  t->reasons[i].count++;
  t->skipped++;
}

static void count_result(tally *t, const attend_verify_case *c, const attend_verify_result *r) {
  const attend_problem *p = &c->problem;
  if (r->status == ATTEND_VERIFY_SKIPPED) {
    count_reason(t, r->message);
    return;
  }
  const int wide = r->out_dtype == ATTEND_F32 ? 0 : 1;
  ++*(r->status == ATTEND_VERIFY_PASSED ? &t->passed : &t->failed);
  if (!t->kernel || t->kernel->operation == ATTEND_OP_FORWARD) {
    t->ragged += p->q_starts || p->kv_starts;
    t->paged += p->page_rows > 0;
    t->ranged += p->key_ranges;
  }
  if (r->error > t->error[wide]) t->error[wide] = r->error;
  if (r->plain_error > t->plain[wide]) t->plain[wide] = r->plain_error;
  if (r->share > t->share) t->share = r->share;
}

static bool matches_one(const char *glob, const char *name) {
#ifdef _WIN32
  return PathMatchSpecA(name, glob);
#else
  return fnmatch(glob, name, 0) == 0;
#endif
}

/* Whether a name matches one of several patterns with commas between them. */
static bool matches(const char *globs, const char *name) {
  for (const char *at = globs;; at++) {
    char glob[128];
    const size_t length = strcspn(at, ",");
    if (length < sizeof glob) {
      memcpy(glob, at, length), glob[length] = '\0';
      if (matches_one(glob, name)) return true;
    }
    at += length;
    if (!*at) return false;
  }
}

static size_t add_tally(const char *glob, const char *name, const attend_kernel *kernel, tally *tallies, size_t count) {
  if (!matches(glob, name)) return count;
  if (tallies) tallies[count] = (tally){.name = name, .kernel = kernel, .error = {-1, -1}, .plain = {-1, -1}};
  return count + 1;
}

/* Kernels that match, of every operation, and the library's choice. Without `tallies` they are only counted. */
static size_t choose_kernels(const char *glob, tally *tallies) {
  size_t count = 0;
  for (attend_operation operation = 0; operation < ATTEND_OP_COUNT; operation++) {
    const attend_kernel *kernel;
    for (size_t i = 0; (kernel = attend_kernel_of(operation, i)); i++)
      count = add_tally(glob, kernel->name, kernel, tallies, count);
    if (operation == ATTEND_OP_FORWARD) count = add_tally(glob, "auto", NULL, tallies, count);
  }
  return count;
}

/* ---------------------------------------------------------------------------------------------------------- output */

static void print_error(double error) {
  if (error < 0)
    printf("  %9s", "-");
  else
    printf("  %9.2e", error);
}

static void begin(int64_t seed) {
  printf("seed %" PRId64 "\n", seed);
  fflush(stdout);
}

static void print_failure(const tally *t, const char *message) {
  printf("FAILED %s\n", message);
  if (t->failed == PRINTED_FAILURES) printf("  further failures of %s are counted, not printed\n", t->name);
  fflush(stdout);
}

static void print_tallies(const tally *tallies, size_t count, const tally *all) {
  int width = (int)strlen("kernel");
  for (size_t i = 0; i < count; i++)
    if ((int)strlen(tallies[i].name) > width) width = (int)strlen(tallies[i].name);
  printf("%-*s  %6s  %6s  %7s  %6s  %6s  %6s  %9s  %9s  %9s  %9s  %10s\n", width, "kernel", "passed", "failed",
         "skipped", "ragged", "paged", "ranged", "error f32", "plain", "error 16", "plain", "of allowed");
  for (size_t i = 0; i < count; i++) {
    const tally *t = &tallies[i];
    printf("%-*s  %6" PRId64 "  %6" PRId64 "  %7" PRId64, width, t->name, t->passed, t->failed, t->skipped);
    printf("  %6" PRId64 "  %6" PRId64 "  %6" PRId64, t->ragged, t->paged, t->ranged);
    for (int wide = 0; wide < 2; wide++) print_error(t->error[wide]), print_error(t->plain[wide]);
    printf("  %9.0f%%\n", 100 * t->share);
    for (int r = 0; r < REASONS && t->reasons[r].count; r++)
      printf("  skipped %" PRId64 ": %s\n", t->reasons[r].count, t->reasons[r].text);
  }
  printf("%" PRId64 " passed, %" PRId64 " failed, %" PRId64 " skipped\n", all->passed, all->failed, all->skipped);
}

static const verify_output text_output = {begin, print_failure, print_tallies};

/* ------------------------------------------------------------------------------------------------------------- run */

/* Every case with every kernel. False if there is no memory. */
static bool verify_all(const arguments *a, const attend_env *env, tally *tallies, size_t count) {
  attend_verify *v = attend_verify_open(env->isa);
  attend_verify_result *result = malloc(sizeof *result);
  const bool progress = isatty(STDERR_FILENO) && a->output == &text_output;
  const int64_t cases = progress ? count_cases(a) : 0;
  bool ok = v && result;
  cursor at = {0};
  attend_verify_case c;
  for (int64_t done = 0; ok && next_case(a, &at, &c); done++) {
    if (progress && done % 10 == 0) fprintf(stderr, "\r%" PRId64 " of %" PRId64 " cases", done, cases);
    ok = attend_verify_prepare(v, &c);
    for (size_t i = 0; ok && i < count; i++) {
      const attend_kernel *kernel = tallies[i].kernel;
      if (!kernel || kernel->operation == ATTEND_OP_FORWARD)
        attend_verify_run(v, kernel, result);
      else if (strcmp(c.name, "random") == 0 && (kernel->operation == ATTEND_OP_APPEND || a->dtype <= ATTEND_BF16))
        /* These have cases of their own, from the same seeds; only appending knows formats. */
        attend_verify_row_kernel(kernel, env->isa, c.seed, a->dtype, result);
      else
        continue;
      count_result(&tallies[i], &c, result);
      if (result->status != ATTEND_VERIFY_FAILED || tallies[i].failed > PRINTED_FAILURES) continue;
      if (progress) fputs("\r\033[K", stderr);
      a->output->failure(&tallies[i], result->message);
    }
  }
  if (progress) fputs("\r\033[K", stderr);
  free(result);
  attend_verify_close(v);
  return ok;
}

int cmd_verify(int argc, char **argv) {
  arguments a;
  int status;
  if (!read_arguments(argc, argv, &a, &status)) return status;
  attend_env env;
  const attend_status read = attend_env_read(&env);
  if (read != ATTEND_OK) return attend_cli_library_error(read);
  const size_t count = choose_kernels(a.kernel, NULL);
  if (count == 0) return attend_cli_error("--kernel '%s': matches no kernel; 'attend kernels' lists them", a.kernel);
  tally *tallies = calloc(count, sizeof *tallies), all = {0};
  if (!tallies) return attend_cli_error("no memory for the results");
  choose_kernels(a.kernel, tallies);

  a.output->begin(a.seed);
  if (!verify_all(&a, &env, tallies, count)) {
    free(tallies);
    return attend_cli_error("no memory for the tensors of a case");
  }
  for (size_t i = 0; i < count; i++) {
    all.passed += tallies[i].passed;
    all.failed += tallies[i].failed;
    all.skipped += tallies[i].skipped;
  }
  a.output->end(tallies, count, &all);
  free(tallies);
  if (all.failed) return ATTEND_EXIT_CHECK_FAILED;
  return all.passed ? ATTEND_EXIT_DONE : attend_cli_error("verify: no case could be run, so that nothing is verified");
}
