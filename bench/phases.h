/* SPDX-License-Identifier: Apache-2.0 */
/** The parts of a kernel's work, each alone: what they take tells why the whole takes what it does. */
#ifndef ATTEND_BENCH_PHASES_H
#define ATTEND_BENCH_PHASES_H

#include "dispatch/dispatch.h"

/** A part of a kernel's work on a unit: a group of query rows and a block of keys. */
typedef struct attend_phase {
  const char *name;
  double (*ideal)(int dim);                      /**< cycles a unit, if nothing but its own limit held it up */
  void (*run)(void *memory, int dim, int units); /**< so many units, one after the other */
} attend_phase;

/** The phases of a kernel, attend_phases_<isa>, defined by a bench/phase_<isa>.c. */
typedef struct attend_phases {
  attend_isa isa;
  const char *unit;          /**< what a unit is */
  double flops_a_cycle;      /**< of the arithmetic peak: what tells how long a cycle is */
  int dims[4];               /**< head dims at which they are timed; 0 ends them */
  size_t (*memory)(int dim); /**< bytes that the phases need, aligned to 64, random bf16 numbers in all of them */
  attend_phase phases[12];   /**< a NULL name ends them */
} attend_phases;

#endif
