/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/options.h"

#include <benchmark/benchmark.h>
#include <fnmatch.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "cli/help.h"

namespace bench {
namespace {

/** Every type of queries with every type of keys and values. */
std::vector<Dtypes> all_dtypes() {
  std::vector<Dtypes> all;
  for (int q = ATTEND_F32; q <= ATTEND_BF16; q++)
    for (int kv = ATTEND_F32; kv < ATTEND_DTYPE_COUNT; kv++) {
      std::string name = attend_formats[q].name;
      if (q != kv) name += std::string("+") + attend_formats[kv].name;
      all.push_back({name, static_cast<attend_dtype>(q), static_cast<attend_dtype>(kv)});
    }
  return all;
}

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
  const std::vector<Dtypes> all = all_dtypes();
  dtypes->clear();
  for (const std::string &glob : split(value)) {
    bool found = false;
    for (const Dtypes &d : all) {
      if (!matches({glob}, d.name)) continue;
      found = true;
      if (std::none_of(dtypes->begin(), dtypes->end(), [&](const Dtypes &had) { return had.name == d.name; }))
        dtypes->push_back(d);
    }
    if (found) continue;
    std::string names;
    for (int kv = ATTEND_F32; kv < ATTEND_DTYPE_COUNT; kv++)
      names += std::string(names.empty() ? "" : ", ") + attend_formats[kv].name;
    return "--dtypes: no types match '" + glob + "'; there are f32, f16, bf16, and, after each of them and a +, " +
           names;
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
  if (o->dtypes.empty()) parse_dtypes(few ? "f32" : "f32,f16,bf16,f32+f16,f32+bf16", &o->dtypes); /* all take hours */
  if (o->threads.empty()) {
    o->threads = {1};
    for (int n = 2; n < cores && !few; n *= 2) o->threads.push_back(n);
    if (cores > 1 && !o->sequence) o->threads.push_back(cores);
  }
}

/** What an option is taken into: the options, and what is wrong with its value, or "". */
struct Taken {
  Options *options;
  std::string error;
};

bool give_up(void *to, const std::string &error) {
  static_cast<Taken *>(to)->error = error;
  return error.empty();
}

Options &in(void *to) { return *static_cast<Taken *>(to)->options; }

/** In front of what is given to Google Benchmark, so that a later one counts. */
void shorten(Options &o) {
  static char quick_time[] = "--benchmark_min_time=0.05";
  o.remaining.insert(o.remaining.begin() + 1, quick_time);
}

const attend_cli_option rows[] = {
    {"quick", nullptr, "auto, baseline and limits in f32, on one thread and on all: two minutes", 0,
     [](const char *, void *to) { return shorten(in(to)), in(to).quick = true; }},
    {"sequence", nullptr,
     "one causal head at lengths from 1k to 64k instead of the standard shapes: auto, blocked and baseline in f32 on "
     "one "
     "thread",
     0, [](const char *, void *to) { return shorten(in(to)), in(to).sequence = true; }},
    {"additive", nullptr, "additive scores, w tanh(q + k), at shapes of their own; a tanh counts as a product does", 0,
     [](const char *, void *to) { return in(to).additive = true; }},
    {"caches", nullptr,
     "decode over caches as engines keep them: keys and values of all heads of a token side by side, in one piece and "
     "in shuffled pages",
     0, [](const char *, void *to) { return in(to).caches = true; }},
    {"phases", nullptr,
     "instead of whole kernels the parts of their work, each alone: of streaming and decode on AVX2 and AVX-512 in ns "
     "a "
     "unit, of AMX in cycles of it, counted by the arithmetic peak. `ideal` is what a part takes if nothing but the "
     "limits probed beside it hold it up: arithmetic, the exponential, plain reading of as many bytes from the same "
     "cache",
     0, [](const char *, void *to) { return in(to).phases = true; }},
    {"shapes", "GLOBS", "e.g. tiny,'*-prefill'", 0,
     [](const char *text, void *to) { return in(to).shapes = split(text), true; }},
    {"kernels", "GLOBS", "e.g. auto,'*avx512*'; peak stands for all limits", 0,
     [](const char *text, void *to) { return give_up(to, parse_kernels(text, &in(to).kernels)); }},
    {"dtypes", "GLOBS",
     "f32, f16 or bf16, or with another type of k and v: bf16+q8_0, f32+i8, 'f16+*'; default: f32, f16, bf16, f32+f16 "
     "and f32+bf16. The scales of f8 and i8 are one f32 a row, those of i4 one for 32 elements",
     0, [](const char *text, void *to) { return give_up(to, parse_dtypes(text, &in(to).dtypes)); }},
    {"threads", "LIST", "default: 1, 2, 4, ... and all cores", 0,
     [](const char *text, void *to) { return give_up(to, parse_threads(text, &in(to).threads)); }},
    {"table", nullptr, "at the end, a line for every shape that was measured", 0,
     [](const char *, void *to) { return in(to).table = true; }},
    {"list-shapes", nullptr, "prints the standard shapes as JSON and measures nothing", 0,
     [](const char *, void *to) { return in(to).list_shapes = true; }},
    {"markdown", "FILE", "writes that table, with machine, compiler and command, as Markdown", 0,
     [](const char *text, void *to) {
       in(to).markdown = text;
       return give_up(to, *text ? "" : "--markdown: a file name is missing");
     }},
    {nullptr, nullptr, "counters", 0, nullptr},
    {nullptr, "flops", "useful FLOP/s: attended pairs x 2 (D + Dv)", 0, nullptr},
    {nullptr, "bytes", "q, out and the attended keys and values, once each, per second", 0, nullptr},
    {nullptr, "of_peak", "the larger of flops / peak_flops and bytes / peak_bytes", 0, nullptr},
    {nullptr, "workspace", nullptr, 0, nullptr},
    {nullptr, "workspace_used", "bytes asked for beside the tensors, and of these, what a run was seen to write", 0,
     nullptr},
    {nullptr, "error", nullptr, 0, nullptr},
    {nullptr, "plain_error", "largest |out - reference| / max |v| of some rows; the same of plain f32 arithmetic", 0,
     nullptr},
    {nullptr, "peak_flops", nullptr, 0, nullptr},
    {nullptr, "peak_bytes", "the kernel's arithmetic limit, and reading as many bytes, probed beside the benchmark", 0,
     nullptr},
};

const attend_cli_command command = {
    "attend-bench [OPTION]...",
    "Measures attention kernels at the standard shapes, and the limits of this machine beside them.\n\n"
    "Benchmarks are named KERNEL/SHAPE/DTYPE/threads:N, KERNEL being a row of `attend kernels`, auto (what the library "
    "picks) or baseline_openblas (sgemm, softmax, sgemm); and peak/LIMIT[/threads:N]. Every kernel is checked at a "
    "shape "
    "before it is timed there; a wrong result is an error and exit status 1.",
    rows,
    sizeof rows / sizeof *rows,
    nullptr,
    "attend-bench --quick --table\n"
    "attend-bench --shapes llama-prefill --dtypes f32 --threads 1 --table\n"
    "attend-bench --kernels auto,'stream*' --benchmark_repetitions=5 --benchmark_out=results.json\n"
    "attend-bench --phases --benchmark_filter=D128\n"
    "ATTEND_ISA=avx2 attend-bench --quick --markdown avx2.md\n"};

/** The row of "--name", or null. */
const attend_cli_option *find(const std::string &name) {
  for (const attend_cli_option &row : rows)
    if (row.name && name == std::string("--") + row.name) return &row;
  return nullptr;
}

} // namespace

bool matches(const std::vector<std::string> &globs, const std::string &name) {
  return std::any_of(globs.begin(), globs.end(),
                     [&](const std::string &glob) { return fnmatch(glob.c_str(), name.c_str(), 0) == 0; });
}

const attend_shape *shapes_of(const Options &options) {
  return options.sequence   ? attend_sequences
         : options.additive ? attend_additive
         : options.caches   ? attend_caches
                            : attend_shapes;
}

std::string parse_options(int argc, char **argv, int cores, const std::string &isa, Options *o) {
  Taken taken = {o, ""};
  o->remaining = {argv[0]};
  o->shapes = {"*"};
  for (int i = 1; i < argc; i++) {
    const std::string argument = argv[i];
    const size_t equals = argument.find('=');
    const attend_cli_option *row = find(argument.substr(0, equals));
    if (!row || (!row->value && equals != std::string::npos)) {
      o->remaining.push_back(argv[i]);
      continue;
    }
    if (row->value && equals == std::string::npos && i + 1 == argc) return argument + ": a value is missing";
    const char *value = !row->value ? nullptr : equals == std::string::npos ? argv[++i] : argv[i] + equals + 1;
    if (!row->take(value, &taken)) return taken.error;
  }
  const bool narrowed = o->quick || o->sequence || o->additive || o->caches || o->table || !o->markdown.empty() ||
                        o->shapes != std::vector<std::string>{"*"} || !o->kernels.empty() || !o->dtypes.empty() ||
                        !o->threads.empty();
  if (o->phases && narrowed)
    return "--phases measures no shapes: of the other options it takes those of Google Benchmark, such as "
           "--benchmark_filter=D128";
  if (o->sequence + o->additive + o->caches > 1)
    return "--sequence, --additive and --caches choose other shapes each: expected one of them";
  fill_in_defaults(cores, isa, o);
  return check_shapes(*o);
}

void print_help() {
  attend_cli_print_help(&command);
  std::puts("\nGoogle Benchmark's options");
  benchmark::PrintDefaultHelp();
}

} // namespace bench
