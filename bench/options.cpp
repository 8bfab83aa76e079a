/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/options.h"

#include <benchmark/benchmark.h>
#include <fnmatch.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

namespace bench {
namespace {

const Dtypes all_dtypes[] = {{"f32", ATTEND_F32, ATTEND_F32},
                             {"f16", ATTEND_F16, ATTEND_F16},
                             {"bf16", ATTEND_BF16, ATTEND_BF16},
                             {"f32+f16", ATTEND_F32, ATTEND_F16},
                             {"f32+bf16", ATTEND_F32, ATTEND_BF16}};

std::vector<std::string> split(const std::string &list) {
  std::vector<std::string> parts;
  for (size_t at = 0; at <= list.size();) {
    size_t end = std::min(list.find(',', at), list.size());
    if (end > at) parts.push_back(list.substr(at, end - at));
    at = end + 1;
  }
  return parts;
}

/** Globs that each match one of the shapes the options choose from. */
std::string check_shapes(const Options &options) {
  for (const std::string &glob : options.shapes) {
    bool found = false;
    std::string names;
    for (const attend_shape *s = shapes_of(options); s->name; s++) {
      found = found || matches({glob}, s->name);
      names += std::string(names.empty() ? "" : ", ") + s->name;
    }
    if (!found) return "--shapes: no shape matches '" + glob + "'; there are " + names;
  }
  return options.shapes.empty() ? "--shapes: expected names or globs, separated by commas" : "";
}

std::string parse_kernels(const std::string &value, std::vector<std::string> *globs) {
  *globs = split(value);
  for (const std::string &glob : *globs) {
    bool found = matches({glob}, "auto") || matches({glob}, "baseline_openblas") || matches({glob}, "peak");
    for (size_t i = 0; i < attend_kernel_count(); i++) found = found || matches({glob}, attend_kernel_at(i)->name);
    if (!found) return "--kernels: nothing matches '" + glob + "'; `attend kernels` lists the names";
  }
  return globs->empty() ? "--kernels: expected names or globs, separated by commas" : "";
}

std::string parse_dtypes(const std::string &value, std::vector<Dtypes> *dtypes) {
  dtypes->clear();
  for (const std::string &name : split(value)) {
    auto known =
        std::find_if(std::begin(all_dtypes), std::end(all_dtypes), [&](const Dtypes &d) { return d.name == name; });
    if (known == std::end(all_dtypes)) return "--dtypes: '" + name + "' is none of f32, f16, bf16, f32+f16, f32+bf16";
    dtypes->push_back(*known);
  }
  return dtypes->empty() ? "--dtypes: expected types, separated by commas" : "";
}

std::string parse_threads(const std::string &value, std::vector<int> *threads) {
  threads->clear();
  for (const std::string &text : split(value)) {
    char *end;
    long n = std::strtol(text.c_str(), &end, 10);
    if (*end || n < 1 || n > 1024) return "--threads: '" + text + "' is no number from 1 to 1024";
    threads->push_back(static_cast<int>(n));
  }
  std::sort(threads->begin(), threads->end());
  threads->erase(std::unique(threads->begin(), threads->end()), threads->end());
  return threads->empty() ? "--threads: expected numbers, separated by commas" : "";
}

void fill_in_defaults(int cores, const std::string &isa, Options *o) {
  const bool few = o->quick || o->sequence;
  if (o->kernels.empty() && o->sequence)
    o->kernels = {"auto", "baseline_openblas", "blocked_f32__" + isa + "_*"};
  else if (o->kernels.empty())
    o->kernels = o->quick ? split("auto,baseline_openblas,peak") : split("*");
  if (o->dtypes.empty()) o->dtypes.assign(all_dtypes, few ? all_dtypes + 1 : std::end(all_dtypes));
  if (o->threads.empty()) {
    o->threads = {1};
    for (int n = 2; n < cores && !few; n *= 2) o->threads.push_back(n);
    if (cores > 1 && !o->sequence) o->threads.push_back(cores);
  }
}

} // namespace

bool matches(const std::vector<std::string> &globs, const std::string &name) {
  return std::any_of(globs.begin(), globs.end(),
                     [&](const std::string &glob) { return fnmatch(glob.c_str(), name.c_str(), 0) == 0; });
}

const attend_shape *shapes_of(const Options &options) {
  return options.sequence ? attend_sequences : options.additive ? attend_additive : attend_shapes;
}

std::string parse_options(int argc, char **argv, int cores, const std::string &isa, Options *o) {
  static char quick_time[] = "--benchmark_min_time=0.05";
  o->remaining = {argv[0]};
  o->shapes = {"*"};
  for (int i = 1; i < argc; i++) {
    std::string argument = argv[i], error;
    size_t equals = argument.find('=');
    const std::string name = argument.substr(0, equals);
    if (argument == "--quick" || argument == "--sequence") {
      (argument == "--quick" ? o->quick : o->sequence) = true;
      o->remaining.insert(o->remaining.begin() + 1, quick_time); // in front, so that a later one counts
    } else if (argument == "--additive") {
      o->additive = true;
    } else if (argument == "--phases") {
      o->phases = true;
    } else if (argument == "--table") {
      o->table = true;
    } else if (argument == "--list-shapes") {
      o->list_shapes = true;
    } else if (name == "--shapes" || name == "--kernels" || name == "--dtypes" || name == "--threads" ||
               name == "--markdown") {
      if (equals == std::string::npos && i + 1 == argc) return name + ": a value is missing";
      std::string value = equals == std::string::npos ? argv[++i] : argument.substr(equals + 1);
      if (name == "--shapes") o->shapes = split(value);
      if (name == "--kernels") error = parse_kernels(value, &o->kernels);
      if (name == "--dtypes") error = parse_dtypes(value, &o->dtypes);
      if (name == "--threads") error = parse_threads(value, &o->threads);
      if (name == "--markdown") o->markdown = value;
      if (name == "--markdown" && value.empty()) error = "--markdown: a file name is missing";
    } else {
      o->remaining.push_back(argv[i]);
    }
    if (!error.empty()) return error;
  }
  const bool narrowed = o->quick || o->sequence || o->additive || o->table || !o->markdown.empty() ||
                        o->shapes != std::vector<std::string>{"*"} || !o->kernels.empty() || !o->dtypes.empty() ||
                        !o->threads.empty();
  if (o->phases && narrowed)
    return "--phases measures no shapes: of the other options it takes those of Google Benchmark, such as "
           "--benchmark_filter=D128";
  if (o->sequence && o->additive) return "--sequence and --additive choose other shapes each: expected one of them";
  fill_in_defaults(cores, isa, o);
  return check_shapes(*o);
}

void print_help() {
  std::puts(
      "Usage: attend-bench [OPTION]...\n"
      "Measures attention kernels at the standard shapes, and the limits of this machine beside them.\n"
      "\n"
      "Benchmarks are named KERNEL/SHAPE/DTYPE/threads:N, KERNEL being a row of `attend kernels`, auto (what the\n"
      "library picks) or baseline_openblas (sgemm, softmax, sgemm); and peak/LIMIT[/threads:N]. Counters:\n"
      "  flops     useful FLOP/s: attended pairs x 2 (D + Dv)\n"
      "  bytes     q, out and the attended keys and values, once each, per second\n"
      "  of_peak   the larger of flops / peak_flops and bytes / peak_bytes\n"
      "  workspace, workspace_used   bytes asked for beside the tensors, and of these, what a run was seen to write\n"
      "  error, plain_error   largest |out - reference| / max |v| of some rows; the same of plain f32 arithmetic\n"
      "  peak_flops, peak_bytes   the kernel's arithmetic limit, and reading as many bytes, probed beside the "
      "benchmark\n"
      "Every kernel is checked at a shape before it is timed there; a wrong result is an error and exit status 1.\n"
      "\n"
      "  --quick          auto, baseline and limits in f32, on one thread and on all: two minutes\n"
      "  --sequence       one causal head at lengths from 1k to 64k instead of the standard shapes: auto, blocked and\n"
      "                   baseline in f32 on one thread\n"
      "  --additive       additive scores, w tanh(q + k), at shapes of their own; a tanh counts as a product does\n"
      "  --phases         instead of whole kernels the parts of their work, each alone: of streaming and decode on "
      "AVX2\n"
      "                   and AVX-512 in ns a unit, of AMX in cycles of it, counted by the arithmetic peak. `ideal` "
      "is\n"
      "                   what a part takes if nothing but the limits probed beside it hold it up: arithmetic, the\n"
      "                   exponential, plain reading of as many bytes from the same cache\n"
      "  --shapes GLOBS   e.g. tiny,'*-prefill'\n"
      "  --kernels GLOBS  e.g. auto,'*avx512*'; peak stands for all limits\n"
      "  --dtypes LIST    of f32, f16, bf16, and f32+f16, f32+bf16: q f32, k and v 16 bit\n"
      "  --threads LIST   default: 1, 2, 4, ... and all cores\n"
      "  --table          at the end, a line for every shape that was measured\n"
      "  --list-shapes    prints the standard shapes as JSON and measures nothing\n"
      "  --markdown FILE  writes that table, with machine, compiler and command, as Markdown\n"
      "\n"
      "Examples:\n"
      "  attend-bench --quick --table\n"
      "  attend-bench --shapes llama-prefill --dtypes f32 --threads 1 --table\n"
      "  attend-bench --kernels auto,'stream*' --benchmark_repetitions=5 --benchmark_out=results.json\n"
      "  attend-bench --phases --benchmark_filter=D128\n"
      "  ATTEND_ISA=avx2 attend-bench --quick --markdown avx2.md\n"
      "\n"
      "Google Benchmark's options:");
  benchmark::PrintDefaultHelp();
}

} // namespace bench
