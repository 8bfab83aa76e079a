/* SPDX-License-Identifier: Apache-2.0 */
/** `attend run`: what it says about the work: how it is done, how long it takes, and what came of it. */
#ifndef ATTEND_CLI_RUN_H
#define ATTEND_CLI_RUN_H

#include <stdio.h>

#include "dispatch/dispatch.h"

/** A line on the plan; and, where sequences differ, one on them. */
void attend_run_explain(FILE *text, const attend_plan *plan, const attend_resolved *problem,
                        const attend_tensors *tensors);

/** The problem, in short, without the end of the line. */
void attend_run_print_problem(FILE *text, const attend_resolved *problem, const attend_tensors *tensors);

/** The times of runs, in seconds, which are sorted, and the rate of useful arithmetic. */
void attend_run_print_times(FILE *text, const attend_resolved *problem, const attend_tensors *tensors, double *times,
                            size_t count);

#endif
