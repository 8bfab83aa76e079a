/* SPDX-License-Identifier: Apache-2.0 */
/** One benchmark: a kernel, the dispatcher's choice or the baseline, at a standard shape. */
#ifndef ATTEND_BENCH_MEASURE_H
#define ATTEND_BENCH_MEASURE_H

#include <benchmark/benchmark.h>

#include <cstdlib>
#include <memory>
#include <string>

#include "bench/options.h"

extern "C" {
#include "bench/data.h"
#include "bench/peaks.h"
#include "bench/shapes.h"
}

namespace bench {

struct Case {
  std::string kernel; // the name of a row, "auto" or "baseline_openblas"
  const attend_shape *shape;
  Dtypes dtypes;
  int threads;

  bool is_baseline() const { return kernel == "baseline_openblas"; }
  std::string name() const {
    return kernel + "/" + shape->name + "/" + dtypes.name + "/threads:" + std::to_string(threads);
  }
};

/** Why a case cannot be run, or "". */
std::string why_not(const Case &c);

/** Runs a case, which must stay where it is until release(). `widest` is the peak of the widest ISA allowed. */
void measure(benchmark::State &state, const Case &c, const attend_peak *widest);

/** Gives the memory of the last benchmark back. */
void release();

/** From then on no benchmark is begun: each is reported as an error. */
void set_deadline(double seconds_from_now);

/** Cases that gave a wrong result so far. */
int wrong_results();

double median(std::vector<double> values);

struct Free {
  void operator()(void *memory) const { std::free(memory); }
};
/** What attend_bench_alloc() gave. */
using Memory = std::unique_ptr<void, Free>;

} // namespace bench

#endif
