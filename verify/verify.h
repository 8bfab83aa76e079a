/* SPDX-License-Identifier: Apache-2.0 */
/**
 * The check: runs a kernel on a case and compares with the scalar reference. Used by `attend verify`, the tests and the
 * tuner.
 *
 *     attend_verify *v = attend_verify_open(env.isa);
 *     attend_verify_case c;
 *     attend_verify_random_case(seed, ATTEND_DTYPE_DEFAULT, &c);
 *     if (attend_verify_prepare(v, &c)) attend_verify_run(v, kernel, &result);
 *     attend_verify_close(v);
 *
 * A case says everything about an input: run again from the same fields it gives the same bytes. A random case follows
 * from its seed alone.
 *
 * What a case checks, besides the values:
 * - every buffer lies against a guard page, or odd elements away from one; a kernel that touches the page is stopped
 *   and reported;
 * - every key and value that no query of the head group attends is NaN, and so is all that lies in gaps between rows,
 *   around buffers, in pages and rows of no sequence, in the query rows that attend nothing and in the bias of masked
 *   keys; entries of a block table beyond a sequence's keys name pages that do not exist;
 * - gaps in outputs, and rows of no sequence, must come back unchanged;
 * - workspaces are filled with garbage, a different one each time;
 * - one thread and several parts in odd order, one slice per head and many: the same bits. Keys split and merged: the
 *   same values.
 */
#ifndef ATTEND_VERIFY_VERIFY_H
#define ATTEND_VERIFY_VERIFY_H

#include "kernels/kernel.h"

/* ----------------------------------------------------------------------------------------------------------- cases */

/** How a (B, H, L, D) tensor lies in memory. */
typedef enum attend_verify_layout {
  ATTEND_VERIFY_BHSD,      /**< contiguous, strides left at 0 */
  ATTEND_VERIFY_BSHD,      /**< heads side by side in a row */
  ATTEND_VERIFY_PADDED,    /**< BHSD with odd gaps after every row, head and batch entry */
  ATTEND_VERIFY_REVERSED,  /**< padded, and the rows and heads in descending order: inputs only, as are the next ones */
  ATTEND_VERIFY_ONE_BATCH, /**< batch stride 0 */
  ATTEND_VERIFY_ONE_HEAD,  /**< head stride 0 */
  ATTEND_VERIFY_ONE_ROW,   /**< row stride 0 */
  ATTEND_VERIFY_EXPANDED,  /**< strides of 0, 0, 0 that are meant: one row for all */
  ATTEND_VERIFY_LAYOUT_COUNT
} attend_verify_layout;

/** How a mask or bias lies in memory, besides the dimensions along which it is broadcast. */
typedef enum attend_verify_layout4 {
  ATTEND_VERIFY_DENSE,         /**< keys side by side */
  ATTEND_VERIFY_SPREAD,        /**< key stride 2, odd gaps after rows */
  ATTEND_VERIFY_BACKWARD,      /**< key stride -1 */
  ATTEND_VERIFY_QUERIES_FIRST, /**< queries side by side */
  ATTEND_VERIFY_LAYOUT4_COUNT
} attend_verify_layout4;

/** Dimensions along which a mask or bias is broadcast, as a set of bits. */
enum {
  ATTEND_VERIFY_OVER_BATCH = 1,
  ATTEND_VERIFY_OVER_HEADS = 2,
  ATTEND_VERIFY_OVER_QUERIES = 4,
  ATTEND_VERIFY_OVER_KEYS = 8
};

/** What is excluded by a boolean mask, or by a bias of -inf. */
typedef enum attend_verify_pattern {
  ATTEND_VERIFY_SOME,    /**< a third of the elements at random */
  ATTEND_VERIFY_NOTHING, /**< none */
  ATTEND_VERIFY_ALL,     /**< all */
  ATTEND_VERIFY_MOST,    /**< all but one in twenty */
  ATTEND_VERIFY_ROWS,    /**< every third query row, and some others */
  ATTEND_VERIFY_BLOCKS,  /**< long runs of keys for all queries, and some others */
  ATTEND_VERIFY_BAND,    /**< as a causal mask and a window do, and a bias adds nothing to the others */
  ATTEND_VERIFY_PATTERN_COUNT
} attend_verify_pattern;

/** What numbers are in q, k and v. */
typedef enum attend_verify_values {
  ATTEND_VERIFY_NORMAL,      /**< scores of about +-1 */
  ATTEND_VERIFY_LARGE,       /**< scores of about +-1e4 */
  ATTEND_VERIFY_DOMINANT,    /**< one key far above all others */
  ATTEND_VERIFY_RISING,      /**< scores that rise from key to key: the maximum moves in every block */
  ATTEND_VERIFY_FALLING,     /**< scores that fall from key to key, until exp underflows */
  ATTEND_VERIFY_EQUAL,       /**< all scores of a row equal */
  ATTEND_VERIFY_DENORMAL,    /**< denormal numbers among the others in q, k and v */
  ATTEND_VERIFY_DENORMAL_V,  /**< nothing but denormal numbers in v */
  ATTEND_VERIFY_ZERO_Q,      /**< queries of zeros: scores of 0, however large the scale */
  ATTEND_VERIFY_HUGE_V,      /**< values near the greatest of their type: sums of two are beyond it */
  ATTEND_VERIFY_HUGE_SCORES, /**< products of +-2^28 or somewhat less, equal ones among them, for a scale that takes
                                them beyond f32: not among the random cases */
  ATTEND_VERIFY_VALUES_COUNT
} attend_verify_values;

/**
 * What is not finite, beside all of the keys and values that nobody attends. One element of an attended key: of a key
 * that only some queries attend, if there is one. Or elements here and there.
 */
typedef enum attend_verify_nonfinite {
  ATTEND_VERIFY_FINITE,
  ATTEND_VERIFY_NAN_IN_K,
  ATTEND_VERIFY_INF_IN_K,
  ATTEND_VERIFY_NAN_IN_V,
  ATTEND_VERIFY_INF_IN_V,
  ATTEND_VERIFY_NAN_IN_BOTH,    /**< of the key and of its value */
  ATTEND_VERIFY_SCATTERED_IN_V, /**< one element in the values of some keys, most often of those that nobody attends,
                                   whose other elements are numbers then */
  ATTEND_VERIFY_NONFINITE_COUNT
} attend_verify_nonfinite;

/** Everything about an input. */
typedef struct attend_verify_case {
  const char *name; /**< "random" for the random ones */
  uint64_t seed;    /**< of the numbers in the tensors, their alignment, and of all fields if the case is random */

  attend_dtype dtype;     /**< that was asked for, or DEFAULT */
  attend_problem problem; /**< strides included */
  bool lengths_given;     /**< the lengths of the sequences are `lengths`, not random */
  int32_t lengths[4];
  bool packed; /**< q, k and v are parts of one (B, L, Hq + 2 Hkv, D) tensor */
  attend_verify_layout q, k, v, out;
  attend_verify_layout4 mask, bias;
  unsigned mask_over, bias_over; /**< ATTEND_VERIFY_OVER_... */
  attend_verify_pattern mask_pattern, bias_pattern;
  attend_verify_values values;
  attend_verify_nonfinite nonfinite;
} attend_verify_case;

size_t attend_verify_named_count(void);

/**
 * The index-th named case with all its fields, element type `dtype` where the case names none of its own, and strides.
 * `dtype` DEFAULT is f32.
 */
void attend_verify_named_case(size_t index, uint64_t seed, attend_dtype dtype, attend_verify_case *c);
/** Whether the case names element types of its own, so that the dtype asked for plays no part. */
bool attend_verify_named_is_typed(size_t index);

/** The random case of a seed; q, k, v and out of type `dtype` unless that is DEFAULT. */
void attend_verify_random_case(uint64_t seed, attend_dtype dtype, attend_verify_case *c);

/**
 * A random case of little work in which bytes make the choices, one after the other, as far as they go: for fuzzers.
 * The seed makes the rest, and the numbers in the tensors.
 */
void attend_verify_case_from(const uint8_t *bytes, size_t size, uint64_t seed, attend_verify_case *c);

/** Fills in the strides that follow from the layouts and the seed, and the bits of as_given that they need. The
 * functions above have done so. */
void attend_verify_lay_out(attend_verify_case *c);

/** Every field on one line, as snprintf does: returns the length of the whole text. */
size_t attend_verify_describe(const attend_verify_case *c, char *buffer, size_t size);

/* ------------------------------------------------------------------------------------------------------- the check */

typedef enum attend_verify_status {
  ATTEND_VERIFY_PASSED,
  ATTEND_VERIFY_FAILED,
  ATTEND_VERIFY_SKIPPED /**< the kernel cannot run here or cannot do the problem: message says why */
} attend_verify_status;

typedef struct attend_verify_result {
  attend_verify_status status;
  double error;       /**< worst |out - reference| / max |v| of all runs; infinite where one is finite and one is not */
  double plain_error; /**< the same of plain f32 arithmetic; negative: not known */
  attend_dtype out_dtype; /**< type of what was written */
  double share;       /**< the worst error as a share of what is allowed: out, LSE and weights; above 1 is a failure */
  char message[4096]; /**< failed: what, kernel, seed and every field of the case. skipped: the reason. passed: "" */
} attend_verify_result;

/** Holds buffers, which are used again from case to case, and the results of the reference. */
typedef struct attend_verify attend_verify;

/** NULL if there is no memory. Kernels of an ISA of higher rank than `highest` are skipped. */
attend_verify *attend_verify_open(attend_isa highest);
void attend_verify_close(attend_verify *v);

/** Makes the tensors of a case and computes the reference. false: no memory. */
bool attend_verify_prepare(attend_verify *v, const attend_verify_case *c);

/**
 * Runs a kernel, or what the library chooses if it is NULL, on the case that was prepared last. One thread at a time in
 * the whole process, because it catches the signals of a kernel that touches memory it must not.
 */
void attend_verify_run(attend_verify *v, const attend_kernel *kernel, attend_verify_result *result);

/**
 * Checks a kernel of another operation than attention on the random case of a seed, with tensors of type `dtype` unless
 * that is DEFAULT: masked softmax and merging against sums in double, appending against kernels/convert.h and, for a
 * cache in a format, against what this folder quantises and reads; with guard pages, NaN in all that must not be read,
 * and gaps that must come back unchanged. One thread at a time in the whole process.
 */
void attend_verify_row_kernel(const attend_kernel *kernel, attend_isa highest, uint64_t seed, attend_dtype dtype,
                              attend_verify_result *result);

#endif
