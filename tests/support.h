/* SPDX-License-Identifier: Apache-2.0 */
/** What the tests of the API share: problems, their tensors, and the rules every error obeys. */
#ifndef ATTEND_TESTS_SUPPORT_H
#define ATTEND_TESTS_SUPPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "attend/attend.h"
#include "dispatch/dispatch.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* ------------------------------------------------------------------------------------------------------- problems */

/** A problem of a given shape with everything else at its default. */
attend_problem attend_test_problem(int64_t batch, int64_t q_heads, int64_t kv_heads, int64_t q_len, int64_t kv_len,
                                   int64_t head_dim);

/**
 * A small problem that has everything a problem can have beside one another: every input but starts and pages, and
 * every output but scores.
 */
attend_problem attend_test_full_problem(void);
/** The same with the queries, keys and values of all sequences packed, and fewer rows than there may be. */
attend_problem attend_test_packed_problem(void);
/** The same with keys and values in pages. */
attend_problem attend_test_paged_problem(void);

/* -------------------------------------------------------------------------------------------------------- tensors */

/** The tensors of a problem in the order of attend_tensors. */
typedef enum attend_test_name {
  Q,
  K,
  V,
  OUT,
  KV_LENGTHS,
  POSITIONS,
  Q_STARTS,
  KV_STARTS,
  KV_BEGINS,
  KEY_RANGES,
  BLOCK_TABLE,
  MASK,
  BIAS,
  BIAS_HEAD_SCALE,
  ALIBI_SLOPES,
  SINKS,
  SCORE_WEIGHTS,
  LSE,
  WEIGHTS,
  SCORES,
  TENSORS
} attend_test_name;

/** Names of the fields of attend_tensors, by attend_test_name. */
extern const char *const attend_test_names[TENSORS];

/** Every tensor of a problem, each in memory of its own that ends where the tensor ends. */
typedef struct attend_test_tensors {
  attend_tensors t; /**< to be passed to the library; NULL where the problem has no such tensor or it has no element */
  void *memory[TENSORS];
  size_t bytes[TENSORS];
  size_t element[TENSORS]; /**< bytes of one element */
} attend_test_tensors;

/**
 * Makes the tensors of a problem whose q, k, v and out are contiguous and whose other strides are not negative. The
 * same problem always gets the same inputs; outputs hold a pattern. Packed sequences are as long as may be, the last
 * ones shorter; block tables hold garbage where they are not to be read.
 */
attend_test_tensors attend_test_tensors_create(const attend_problem *problem);
void attend_test_tensors_destroy(attend_test_tensors *tensors);

/** Makes a field of attend_tensors point somewhere else. */
void attend_test_point(attend_tensors *tensors, attend_test_name name, void *address);

/** Fills the outputs with the pattern again. */
void attend_test_reset(attend_test_tensors *tensors);
/** Whether no byte of any output was written. */
bool attend_test_untouched(const attend_test_tensors *tensors);
/** Whether every element of every output was written. */
bool attend_test_written(const attend_test_tensors *tensors);
/** Whether all outputs of two runs of one problem are the same bits. */
bool attend_test_same(const attend_test_tensors *a, const attend_test_tensors *b);

/* ---------------------------------------------------------------------------------------------------------- plans */

/** Whether a kernel can run on this machine, under the environment as it is. */
bool attend_test_runnable(const attend_kernel *kernel);

/** Whether it also takes a problem. */
bool attend_test_can(const attend_kernel *kernel, const attend_problem *problem);

/** Whether any kernel of this machine does. */
bool attend_test_possible(const attend_problem *problem);

/** A problem with q, k, v and out of the type in which a kernel computes, which every kernel takes. */
attend_problem attend_test_typed_for(const attend_kernel *kernel, attend_problem problem);

/** Makes a plan, or fails the test. A NULL kernel is the library's choice. */
attend_plan *attend_test_plan(const attend_problem *problem, const char *kernel, int num_threads);

/** An aligned workspace of a plan, filled with 0xff, so that every float in it is a NaN. Freed with free(). */
void *attend_test_workspace(const attend_plan *plan, size_t *size);

/** Runs a plan on new tensors with a workspace of its own, or fails the test. */
attend_test_tensors attend_test_run(const attend_plan *plan, const attend_problem *problem);

/* --------------------------------------------------------------------------------------------------------- errors */

/** Makes sure that an error detail seen from now on is a new one. */
void attend_test_forget_detail(void);

/** Whether a text holds a word, not as a part of a longer one. */
bool attend_test_has_word(const char *text, const char *word);

/**
 * Expects that a call returned an error, and that the detail is one line which names `field` and shows `value`, where
 * these are not NULL. `what` says which case it was.
 */
void attend_test_expect_error(attend_status got, attend_status expected, const char *field, const char *value,
                              const char *what);

/** Makes a call and expects an error of it. `what` is a format with its arguments. */
#define EXPECT_ERROR(call, expected, field, ...)                                                                       \
  do {                                                                                                                 \
    char what_[256];                                                                                                   \
    snprintf(what_, sizeof what_, __VA_ARGS__);                                                                        \
    attend_test_forget_detail();                                                                                       \
    attend_test_expect_error(call, expected, field, NULL, what_);                                                      \
  } while (0)

/** Expects that attend_plan_create() refuses, and leaves *plan alone. */
void attend_test_refuses(const attend_problem *problem, const attend_options *options, attend_status expected,
                         const char *field, const char *value, const char *what);

/** Expects that, and that attend_forward() refuses and leaves the outputs of `base`, a problem that is right, alone. */
void attend_test_refuses_both(const attend_problem *base, const attend_problem *problem, attend_status expected,
                              const char *field, const char *value, const char *what);

/** Expects that attend_plan_create() accepts. */
void attend_test_accepts(const attend_problem *problem, const attend_options *options, const char *what);

/** Expects that nothing allocated so far was lost. Where the build has no LeakSanitizer there is nothing to ask. */
void attend_test_expect_no_leak(void);

/** From `true` to `false`, what is allocated may be lost: by a library that is not ours. */
void attend_test_allow_leaks(bool allowed);
/** Expects that memory, which is readable, ends where it should. Skips the test where no sanitizer tells. */
void attend_test_expect_exact(const void *memory, size_t size);

/** Skips the test in a build with AddressSanitizer or ThreadSanitizer. */
void attend_test_skip_under_sanitizers(const char *why);

#endif
