/* SPDX-License-Identifier: Apache-2.0 */
/** The limits of the machine as benchmarks of their own: peak/... */
#ifndef ATTEND_BENCH_LIMITS_H
#define ATTEND_BENCH_LIMITS_H

#include <benchmark/benchmark.h>

#include <string>
#include <vector>

extern "C" {
#include "bench/peaks.h"
}

namespace bench {

struct Limit {
  std::string name; // "f32_fma", "read_l2", ...
  attend_limit limit;
  const char *counter; // what is counted, and
  const char *unit;    // its unit per second, in 10^9
  size_t bytes;        // read per thread; 0 = the limit reads nothing
};

/** The limits that an ISA has here, for a number of threads. */
std::vector<Limit> limits(const attend_peak *peak, int threads);

/** The median of some short probes; 0 if there is no memory for them. */
double probe(const Limit &limit, const attend_peak *peak, int threads);

void measure_limit(benchmark::State &state, const Limit &limit, const attend_peak *peak, int threads);

} // namespace bench

#endif
