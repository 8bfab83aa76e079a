/* SPDX-License-Identifier: Apache-2.0 */
/** attend-bench's own options; all others are Google Benchmark's. */
#ifndef ATTEND_BENCH_OPTIONS_H
#define ATTEND_BENCH_OPTIONS_H

#include <string>
#include <vector>

extern "C" {
#include "dispatch/dispatch.h"
}

namespace bench {

/** Element types of q and of k and v: "f32", or "f32+bf16" where they differ. */
struct Dtypes {
  std::string name;
  attend_dtype q, kv;
};

struct Options {
  bool quick = false, table = false, list_shapes = false;
  std::string markdown;                     // "" = none
  std::vector<std::string> shapes, kernels; // globs
  std::vector<Dtypes> dtypes;
  std::vector<int> threads;      // ascending
  std::vector<char *> remaining; // argv for Google Benchmark
};

/** Whether a name matches one of the globs. */
bool matches(const std::vector<std::string> &globs, const std::string &name);

/** Reads the command line and fills in defaults for `cores` cores. Returns what is wrong, or "". */
std::string parse_options(int argc, char **argv, int cores, Options *options);

/** Our part of --help, then Google Benchmark's. */
void print_help();

} // namespace bench

#endif
