/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Profiles: what `attend tune` measured on this machine, and what is concluded from it for other shapes. docs/tuning.md
 * describes the file and the model.
 */
#ifndef ATTEND_DISPATCH_PROFILE_H
#define ATTEND_DISPATCH_PROFILE_H

#include "dispatch/dispatch.h"

/** The version of the file format and of the axes. */
#define ATTEND_PROFILE_VERSION 4

enum {
  ATTEND_PROFILE_AXES = 13,
  ATTEND_PROFILE_MOST_POINTS = 512,
  ATTEND_PROFILE_MOST_COLUMNS = 256,
  ATTEND_PROFILE_MOST_TEAMS = 8,
  ATTEND_PROFILE_BLOCK = 16, /* points that are looked at together */
  ATTEND_PROFILE_NAME = 96   /* bytes of a point's name */
};

/** What a profile knows a shape by. */
typedef struct attend_profile_shape {
  attend_dtype q_dtype, kv_dtype; /**< the latter of keys; values are of the same kind of format */
  int64_t batch, q_heads, kv_heads, q_len, kv_len, head_dim, v_head_dim;
  int64_t reach; /**< keys that a query attends at most: kv_len, or the width of the window */
  bool causal;   /**< causal or with a window: queries attend different ranges of keys */
  bool work;     /**< with a boolean mask, bias, ALiBi or softcap: something to do for each score */
} attend_profile_shape;

attend_profile_shape attend_profile_shape_of(const attend_resolved *problem);

/** Coordinates in which shapes that lie close together like the same choices: logarithms, mostly. */
void attend_profile_axes(const attend_profile_shape *shape, float axes[ATTEND_PROFILE_AXES]);

/** Multiply-adds of a shape, each query taken to attend `reach` keys, and what a run, a head and a row are worth. */
double attend_profile_products(const attend_profile_shape *shape);

/** How alike two shapes are: 1 for the same, falling to 0 with their distance. */
static inline float attend_profile_likeness(float distance) { return 1.0f / (1.0f + distance * 0.125f); }

/** What a column of a profile is about: logarithms of times on one thread. */
typedef struct attend_profile_column {
  const attend_kernel *kernel; /**< by the reference time; NULL: the reference time itself, in ns a multiply-add */
  attend_variant variant;
  float mean;
} attend_profile_column;

/** What it costs to have a run done by more threads than one. */
typedef struct attend_profile_team {
  int threads;
  float us;
} attend_profile_team;

/**
 * Column c at a shape is estimated as mean[c] plus the sum over all points of weight[point][c] times the likeness of
 * the shape and the point.
 */
typedef struct attend_profile {
  int threads; /**< kernels and splits are chosen for so many, whatever a run has */
  float noise; /**< relative: what is not faster by more than this is no faster */
  int teams, columns, points;
  unsigned kinds; /**< 1 << attend_format_kind of the points: of others it knows nothing */
  attend_profile_team team[ATTEND_PROFILE_MOST_TEAMS]; /**< from 1 to `threads` */
  attend_profile_column *column;                       /**< the reference first, then each kernel's together */
  char (*name)[ATTEND_PROFILE_NAME];
  int stride;     /**< points, rounded up to whole blocks; those beyond weigh nothing */
  float *axes;    /**< [stride / BLOCK][AXES][BLOCK] */
  float *weights; /**< [columns][stride] */
} attend_profile;

/** A hash of what the rows of the kernel table say. */
uint64_t attend_profile_rows_hash(void);

/** The hash at the end of a file, of everything before it. */
uint64_t attend_profile_hash(const char *text, size_t length);

/**
 * Reads a profile from the text of a file. ATTEND_ERROR_OUT_OF_MEMORY; or ATTEND_ERROR_ENVIRONMENT if it is no profile,
 * or is not for this library, processor, number of cores or table of kernels, with the reason in `why`.
 */
attend_status attend_profile_parse(const char *text, size_t length, attend_profile **profile, char *why,
                                   size_t why_size);

void attend_profile_free(attend_profile *profile);

/** What is in use under an environment. */
typedef struct attend_profile_state {
  const attend_profile *profile; /**< NULL: none; valid for ever */
  const char *path;              /**< of the profile, or of the file that was rejected; "" if there is no file */
  const char *why;               /**< why there is none, or "" */
} attend_profile_state;

/**
 * The profile that options or the environment name, or else the first file of the search path. Files are read once per
 * process. If a file was named and cannot be used, `state` is left alone, and it is ATTEND_ERROR_INVALID_ARGUMENT of
 * the options, ATTEND_ERROR_ENVIRONMENT of the environment; of the search path, the first file that is there counts,
 * and if it cannot be used, the state says why.
 */
attend_status attend_profile_get(const attend_env *env, attend_profile_state *state);

/**
 * The files that are looked for where the environment names none, the first one where `attend tune` writes. Returns
 * their number.
 */
enum { ATTEND_PROFILE_PLACES = 2, ATTEND_PROFILE_PATH = 4096 };
int attend_profile_places(const attend_env *env, char place[ATTEND_PROFILE_PLACES][ATTEND_PROFILE_PATH]);

/**
 * Whether a profile decides for a problem. The rules alone decide where the choice must not depend on batch, queries
 * and keys (batch_invariant), for attention weights, additive scores and dropout, where keys and values are of
 * different kinds of formats, and for kinds of which no shape was tuned: kernels read blocks with scales of their own
 * and elements with scales elsewhere by other code, and neither as plain numbers. Likewise where the rules choose a
 * kernel that rounds queries to int8 (attend_select()).
 */
bool attend_profile_covers(const attend_profile *profile, const attend_resolved *problem);

/**
 * Replaces the kernel and the variant of a choice of the rules where the profile knows a faster one. Only the team
 * follows `threads`.
 */
void attend_profile_choose(const attend_profile *profile, const attend_resolved *problem, const attend_env *env,
                           int threads, attend_choice *choice);

/** Says in words why a profile chose as it did. */
void attend_profile_reason(const attend_choice *choice, const attend_resolved *problem, char *text, size_t size);

#endif
