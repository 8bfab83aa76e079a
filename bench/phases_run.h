/* SPDX-License-Identifier: Apache-2.0 */
/** The phases of kernels as benchmarks: phase/... */
#ifndef ATTEND_BENCH_PHASES_RUN_H
#define ATTEND_BENCH_PHASES_RUN_H

extern "C" {
#include "dispatch/dispatch.h"
}

namespace bench {

/** Registers the phases of all kernels that have some and can run here, up to an ISA. Returns how many. */
int register_phases(attend_isa highest);

} // namespace bench

#endif
