/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Layers of language models over a few sequences: tokens, weights and caches, steps of any number of new tokens for
 * each sequence, and the same in plain double arithmetic that shares nothing with the library.
 */
#ifndef ATTEND_TESTS_MHA_WORLD_H
#define ATTEND_TESTS_MHA_WORLD_H

#include <stdbool.h>

#include "attend/layers.h"

enum { WORLD_BATCH = 3, WORLD_TOKENS = 24, WORLD_CACHE = 27 };

/** A layer: dims, heads and what a problem says but lengths; all dims are given. */
typedef struct attend_mha_model {
  const char *name;
  attend_mha_problem p;
  bool bias, table; /**< biases of the projections; RoPE's frequencies from a table */
} attend_mha_model;

/** Models whose layers attend_mha can say. */
extern const attend_mha_model attend_mha_models[];
extern const int attend_mha_model_count;

typedef struct attend_mha_world {
  attend_mha_problem p;
  attend_mha_tensors t;                                /**< weights, biases, sinks and caches */
  const float *tokens;                                 /**< (B, WORLD_TOKENS, E) */
  size_t cache_bytes[2];                               /**< of the key and the value cache */
  int32_t positions[WORLD_BATCH], begins[WORLD_BATCH]; /**< used where t points to them */
  void *memory;                                        /**< a list of all that is to be freed */
} attend_mha_world;

/** `by_heads`: caches are (B, Hkv, positions, dim), with a gap after each batch entry. Caches are NaN at first. */
attend_mha_world attend_mha_world_create(const attend_mha_model *model, attend_dtype cache, bool by_heads);
void attend_mha_world_destroy(attend_mha_world *world);

/** Memory that world_destroy() frees, of exactly so many bytes. */
void *attend_mha_world_allocate(attend_mha_world *world, size_t bytes);

/** How a step is run: on all sequences, or on those from `first` on. */
typedef struct attend_mha_step {
  int32_t past[WORLD_BATCH], news[WORLD_BATCH]; /**< tokens before it, and in it */
  bool packed;                                  /**< else all have as many new ones */
  int first, sequences;
} attend_mha_step;

/** The problem and the tensors of a step, to be released with the world. `out` is of as many rows as there are tokens.
 */
typedef struct attend_mha_run_data {
  attend_mha_problem p;
  attend_mha_tensors t;
  int64_t rows; /**< of out */
} attend_mha_run_data;
attend_mha_run_data attend_mha_world_step(attend_mha_world *world, const attend_mha_step *step);

/** Elements of a row of the output. */
int64_t attend_mha_world_dim(const attend_mha_problem *p);

/** The largest error of a step's output, in units of the largest number or of 1. */
double attend_mha_world_error(const attend_mha_world *world, const attend_mha_step *step,
                              const attend_mha_run_data *run);

/** Whether every row of the caches from `filled[b]` on is still NaN, with all gaps. */
bool attend_mha_world_rest_untouched(const attend_mha_world *world, const int32_t *filled);

#endif
