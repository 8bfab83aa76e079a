/* SPDX-License-Identifier: Apache-2.0 */
/** attend-bench's own options; all others are Google Benchmark's. */
#ifndef ATTEND_BENCH_OPTIONS_H
#define ATTEND_BENCH_OPTIONS_H

#include <string>
#include <vector>

extern "C" {
#include "bench/shapes.h"
#include "dispatch/dispatch.h"
}

namespace bench {

/** Element types of q and of k and v: "f32", or "f32+bf16" and "bf16+q8_0" where they differ. */
struct Dtypes {
  std::string name;
  attend_dtype q, kv;
};

struct Options {
  bool quick = false, table = false, list_shapes = false, phases = false;
  bool sequence = false, additive = false, caches = false; // attend_sequences and so on instead of attend_shapes
  std::string markdown;                                    // "" = none
  std::vector<std::string> shapes, kernels;                // globs
  std::vector<Dtypes> dtypes;
  std::vector<int> threads;      // ascending
  std::vector<char *> remaining; // argv for Google Benchmark
};

/** Whether a name matches one of the globs. */
bool matches(const std::vector<std::string> &globs, const std::string &name);

/** The shapes that the options choose from; ends with a null name. */
const attend_shape *shapes_of(const Options &options);

/**
 * Reads the command line and fills in defaults for `cores` cores and the widest ISA allowed. Returns what is wrong, or
 * "".
 */
std::string parse_options(int argc, char **argv, int cores, const std::string &isa, Options *options);

/** Our part of --help, then Google Benchmark's. */
void print_help();

} // namespace bench

#endif
