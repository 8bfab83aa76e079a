/* SPDX-License-Identifier: Apache-2.0 */
/** What the parts of verify/ share. */
#ifndef ATTEND_VERIFY_INTERNAL_H
#define ATTEND_VERIFY_INTERNAL_H

#include "kernels/convert.h"
#include "verify/verify.h"

/* ------------------------------------------------------------------------------------------------- random numbers */

/** The output function of splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014). */
static inline uint64_t mix(uint64_t x) {
  x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
  x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
  return x ^ x >> 31;
}

/** A number that follows from a key and an index, and from nothing else. */
static inline uint64_t hash(uint64_t key, int64_t index) {
  return mix(mix(key + UINT64_C(0x9e3779b97f4a7c15)) + (uint64_t)index * UINT64_C(0x9e3779b97f4a7c15));
}

/** What all tensors of a case follow from: its seed and name. */
uint64_t attend_verify_key(const attend_verify_case *c);

/* -------------------------------------------------------------------------------------------------------- guard.c */

/** Memory between two pages that cannot be touched. */
typedef struct attend_guarded {
  unsigned char *start; /**< after the first guard page */
  size_t usable;        /**< bytes up to the second */
  unsigned char *data;  /**< the buffer in use, and its size */
  size_t size;
} attend_guarded;

/**
 * Makes room for a buffer of `size` bytes and fills it, and what is around it, with `fill`. `gap` bytes lie between it
 * and a guard page: the one after it, or with `at_start` the one before it. false: no memory.
 */
bool attend_guarded_place(attend_guarded *g, size_t size, size_t gap, bool at_start, unsigned char fill);
/** Allows nothing but reading until the buffer is placed anew. false: the system refuses. */
bool attend_guarded_freeze(attend_guarded *g);
/**
 * With the address sanitizer, which finds what guard pages do not: whether every access around the buffer is an error.
 * It is while a kernel runs, so that the checks themselves may look around.
 */
void attend_guarded_watch(const attend_guarded *g, bool watched);
/** Whether all that is around the buffer is still as it was filled. */
bool attend_guarded_intact(const attend_guarded *g, unsigned char fill);
/** Whether an address lies in a guard page or around the buffer, and if so, at which byte counted from the buffer. */
bool attend_guarded_near(const attend_guarded *g, const void *address, ptrdiff_t *at);
void attend_guarded_free(attend_guarded *g);

/* ---------------------------------------------------------------------------------------- os_posix.c, os_windows.c */

size_t attend_page_size(void);
/** Whole pages that cannot be touched, or NULL. */
void *attend_pages_reserve(size_t size);
/** Lets pages be read and, with `writing`, be written. false: the system refuses. */
bool attend_pages_allow(void *pages, size_t size, bool writing);
/** Gives back all that were reserved at once. */
void attend_pages_release(void *pages, size_t size);

/** The signal that stopped a call, and the address it is about; 0 for none. */
typedef struct attend_verify_signal {
  int number;
  void *address;
} attend_verify_signal;

/** Calls a function that may touch memory that it must not. One thread at a time in the whole process. */
attend_verify_signal attend_verify_call(void (*call)(void *context), void *context);
const char *attend_verify_signal_name(attend_verify_signal s);
/** Whether a call was stopped for touching a buffer or what is around it; and at which byte counted from the buffer. */
bool attend_verify_touched(attend_verify_signal s, const attend_guarded *buffer, ptrdiff_t *at);

/* ------------------------------------------------------------------------------------------------------ tensors.c */

enum {
  ATTEND_VERIFY_Q,
  ATTEND_VERIFY_K,
  ATTEND_VERIFY_V,
  ATTEND_VERIFY_LENGTHS,
  ATTEND_VERIFY_POSITIONS,
  ATTEND_VERIFY_Q_STARTS,
  ATTEND_VERIFY_KV_STARTS,
  ATTEND_VERIFY_KV_BEGINS,
  ATTEND_VERIFY_KEY_RANGES,
  ATTEND_VERIFY_BLOCK_TABLE,
  ATTEND_VERIFY_MASK,
  ATTEND_VERIFY_BIAS,
  ATTEND_VERIFY_BIAS_HEAD_SCALE,
  ATTEND_VERIFY_ALIBI,
  ATTEND_VERIFY_SINKS,
  ATTEND_VERIFY_SCORE_WEIGHTS,
  ATTEND_VERIFY_K_SCALES,
  ATTEND_VERIFY_V_SCALES,
  ATTEND_VERIFY_K_ZERO_POINTS,
  ATTEND_VERIFY_V_ZERO_POINTS,
  ATTEND_VERIFY_OUT, /* this and the next ones are outputs */
  ATTEND_VERIFY_LSE,
  ATTEND_VERIFY_WEIGHTS,
  ATTEND_VERIFY_SCORES,
  ATTEND_VERIFY_WORKSPACE,
  ATTEND_VERIFY_BUFFER_COUNT,
  ATTEND_VERIFY_OUTPUTS = ATTEND_VERIFY_WORKSPACE - ATTEND_VERIFY_OUT
};

/** What outputs are filled with before a run: a finite number in every element type, and no likely result. */
#define ATTEND_VERIFY_FILL 0x5a

/** The tensors of a case, where they lie, and which keys are attended. */
typedef struct attend_verify_data {
  attend_problem problem; /**< of the case, with every default filled in */
  attend_tensors tensors;
  attend_guarded buffer[ATTEND_VERIFY_BUFFER_COUNT];
  uint8_t *attended;  /**< Lk for each row of results, as attend_reference_row() counts them */
  uint8_t *row_owned; /**< for every row of results, whether it belongs to a sequence */
  uint8_t *out_owned; /**< for every element of the out buffer, whether it belongs to out */
  double v_max;       /**< the largest magnitude of the finite values that are attended */
  double score_size;  /**< size of the scores: |scale| times the largest norms of q and k, by sqrt(D); or of w */
} attend_verify_data;

extern const char *const attend_verify_buffer_names[ATTEND_VERIFY_BUFFER_COUNT];

/** Makes the tensors of a case. false: no memory. */
bool attend_verify_fill(attend_verify_data *data, const attend_verify_case *c);
/** Fills the outputs anew before a run. */
void attend_verify_clear_outputs(attend_verify_data *data);
void attend_verify_data_free(attend_verify_data *data);

static inline void attend_verify_store(void *tensor, attend_dtype dtype, int64_t index, float value) {
  if (dtype == ATTEND_F32) ((float *)tensor)[index] = value;
  if (dtype == ATTEND_F16) ((uint16_t *)tensor)[index] = f32_to_f16(value);
  if (dtype == ATTEND_BF16) ((uint16_t *)tensor)[index] = f32_to_bf16(value);
}

/** Rows that results have room for. */
static inline int64_t attend_verify_rows(const attend_problem *p) {
  return p->q_heads * (p->q_starts ? p->q_total : p->batch * p->q_len);
}

static inline size_t attend_verify_dtype_size(attend_dtype dtype) {
  return dtype == ATTEND_F32 ? 4 : dtype <= ATTEND_BF16 ? 2 : 1;
}

/** The strides of a (B, H, L, D) tensor that 0, 0, 0 stand for. */
static inline attend_strides attend_verify_contiguous(int64_t heads, int64_t rows, int64_t dim) {
  return (attend_strides){heads * rows * dim, rows * dim, dim};
}

/* ------------------------------------------------------------------------------------------------------ compare.c */

/** What the reference, and plain f32 arithmetic, make of a case. */
typedef struct attend_verify_expected {
  double *out, *lse, *weights, *scores;       /**< of the reference; scores only if the problem asks for them */
  double plain_out, plain_lse, plain_weights; /**< worst errors of plain f32, in units of what they are measured by */
  double plain_scores;                        /**< likewise */
  double score_error;                         /**< what a score may well lose in f32 */
  /** The same for kernels of bf16 products, of keys and values in a format rounded to bf16. NULL: it is the same. */
  struct attend_verify_expected *rounded;
  /** The same for kernels that round queries to int8. NULL: none may. */
  struct attend_verify_expected *int8;
} attend_verify_expected;

/** Computes it. false: no memory. */
bool attend_verify_expect(attend_verify_expected *expected, const attend_verify_data *data);
void attend_verify_expected_free(attend_verify_expected *expected);

/** The kernels that computed a case: of sequences with up to few_queries queries `few`, unless that is NULL. */
typedef struct attend_verify_ran {
  const attend_kernel *kernel, *few;
  int64_t few_queries;
} attend_verify_ran;

/**
 * Compares the outputs of a run with what is expected, and raises the errors in `result` where they are worse. Returns
 * false, with the first thing wrong in result->message, if an error is larger than allowed.
 */
bool attend_verify_compare(const attend_verify_data *data, const attend_verify_expected *expected,
                           const attend_verify_ran *ran, attend_verify_result *result);

#endif
