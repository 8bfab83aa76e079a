/* SPDX-License-Identifier: Apache-2.0 */
/** The parts of a kernel's work, each alone: what they take tells why the whole takes what it does. */
#ifndef ATTEND_BENCH_PHASES_H
#define ATTEND_BENCH_PHASES_H

#include "bench/peaks.h"

/** What a unit of a phase takes at least: the longest of these, by the limits of the machine. */
typedef struct attend_work {
  double flops, exps;
  double bytes;     /**< that are read */
  size_t footprint; /**< bytes that they are read from again and again, which tells from which cache */
  double cycles;    /**< of the arithmetic, where that is what is known */
} attend_work;

/** A part of a kernel's work, cut into units. */
typedef struct attend_phase {
  const char *name;
  const char *unit; /**< what a unit is */
  int units;        /**< of a run */
  attend_work (*work)(int dim);
  void (*run)(void *memory, int dim, int units); /**< so many units, one after the other */
} attend_phase;

/** The phases of a kernel, attend_phases_<isa>, defined by a bench/phase_<isa>.c. */
typedef struct attend_phases {
  attend_isa isa;
  attend_limit limit;        /**< of the arithmetic */
  double flops_a_cycle;      /**< of the arithmetic peak: what tells how long a cycle is; 0: figures are in ns */
  int dims[4];               /**< head dims at which they are timed; 0 ends them */
  size_t (*memory)(int dim); /**< bytes that the phases need, aligned to 64, random bf16 numbers in all of them */
  attend_phase phases[12];   /**< a NULL name ends them */
} attend_phases;

#endif
