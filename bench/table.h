/* SPDX-License-Identifier: Apache-2.0 */
/** What a run found. */
#ifndef ATTEND_BENCH_TABLE_H
#define ATTEND_BENCH_TABLE_H

#include <benchmark/benchmark.h>

#include <map>
#include <string>
#include <vector>

#include "bench/measure.h"

namespace bench {

/** The repetitions of each benchmark that Google Benchmark reports. */
class Results {
public:
  void add(const std::vector<benchmark::BenchmarkReporter::Run> &runs);

  struct Result {
    double seconds, flops, of_peak;
    std::string label;
  };
  /** The medians of a benchmark's repetitions, or null if it has given no figure. */
  const Result *find(const std::string &name) const;

private:
  struct Samples {
    std::vector<double> seconds, flops, of_peak;
  };
  std::map<std::string, Samples> samples_;
  std::map<std::string, Result> results_;
};

/** The table, as Markdown that can be read as it is: a line for every shape and type that was measured. */
std::string table(const std::vector<Case> &cases, const Results &results);

} // namespace bench

#endif
