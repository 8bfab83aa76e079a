/* SPDX-License-Identifier: Apache-2.0 */
/** Rotary position embedding (Su et al. 2021, https://arxiv.org/abs/2104.09864) of projected heads. */
#ifndef ATTEND_LAYERS_ROPE_H
#define ATTEND_LAYERS_ROPE_H

#include "attend/layers.h"

/** Radians that each of `pairs` pairs turns by from a position to the next: those of a table, or without one theta's.
 */
void attend_rope_frequencies(const float *table, double theta, int64_t pairs, double *frequencies);

/** The cosines of all pairs at a position, and then the sines, each times `factor`. */
void attend_rope_angles(const double *frequencies, int64_t pairs, int64_t position, float factor, float *cos_sin);

/** Turns the pairs of a head; the elements after them stay. `how` is not ATTEND_ROPE_NONE. */
void attend_rope_turn(attend_rope how, int64_t pairs, const float *cos_sin, float *head);

#endif
