/* SPDX-License-Identifier: Apache-2.0 */
/** attend-bench: registers the benchmarks, runs them and prints what they found. */
#include <benchmark/benchmark.h>
#include <cblas.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <map>
#include <memory>
#include <regex>
#include <utility>

#include "bench/limits.h"
#include "bench/measure.h"
#include "bench/options.h"
#include "bench/phases_run.h"
#include "bench/table.h"

extern "C" {
#include "bench/baseline.h"
#include "dispatch/machine/os.h"
}

namespace bench {
namespace {

constexpr double quick_seconds = 100;

/** Prints one line and gives the exit status of bad usage. */
int fail(const std::string &text) {
  std::fprintf(stderr, "attend-bench: %s\n", text.c_str());
  return 2;
}

/** The widest instruction set that computes in f32 here: some kernels compute in 16 bits, or in bytes, only. */
std::string widest_f32(attend_isa highest) {
  for (size_t i = 0; i < attend_kernel_count(); i++) {
    const attend_kernel *kernel = attend_kernel_at(i);
    if (kernel->compute == ATTEND_F32 && !(kernel->can & ATTEND_CAN_INT8) &&
        attend_kernel_runnable(kernel, highest, nullptr, 0))
      return attend_isa_name(kernel->isa);
  }
  return attend_isa_name(ATTEND_ISA_SCALAR);
}

/** Every case the options select, sorted so that those with the same tensors follow one another. */
std::vector<Case> select_cases(const Options &options, attend_isa highest) {
  std::vector<std::string> kernels;
  for (const char *name : {"auto", "baseline_openblas"})
    if (matches(options.kernels, name)) kernels.push_back(name);
  for (size_t i = 0; i < attend_kernel_count(); i++) {
    const attend_kernel *kernel = attend_kernel_at(i);
    if (matches(options.kernels, kernel->name) && attend_kernel_runnable(kernel, highest, nullptr, 0))
      kernels.push_back(kernel->name);
  }
  std::vector<Case> cases;
  for (const attend_shape *shape = shapes_of(options); shape->name; shape++) {
    if (!matches(options.shapes, shape->name)) continue;
    for (const Dtypes &dtypes : options.dtypes) {
      const unsigned needed = ATTEND_DTYPE_BIT(dtypes.q) | ATTEND_DTYPE_BIT(dtypes.kv);
      for (const std::string &name : kernels) {
        const attend_kernel *kernel = attend_kernel_find(name.c_str());
        if (kernel && ((kernel->dtypes & needed) != needed || kernel->can & ATTEND_CAN_INT8)) continue;
        for (int threads : options.threads) {
          Case c = {name, shape, dtypes, threads};
          if (!c.is_baseline() || needed == ATTEND_DTYPE_BIT(ATTEND_F32)) cases.push_back(c);
        }
      }
    }
  }
  return cases;
}

/** Registers what can run; the rest goes into the context, each with its reason. */
void register_cases(const std::vector<Case> &cases, const attend_peak *widest) {
  std::regex wanted(".*");
  std::string filter = benchmark::GetBenchmarkFilter();
  bool inverted = !filter.empty() && filter[0] == '-';
  try {
    if (!filter.empty() && filter != "all") wanted = std::regex(filter.substr(inverted), std::regex::extended);
  } catch (const std::regex_error &) {
    return; /* Google Benchmark has its own say on the filter */
  }
  for (const Case &c : cases) {
    const std::string name = c.name();
    if (std::regex_search(name, wanted) == inverted) continue;
    std::string reason = why_not(c);
    if (reason.empty()) {
      benchmark::RegisterBenchmark(name.c_str(), [&c, widest](benchmark::State &state) {
        measure(state, c, widest);
      })->Unit(benchmark::kMicrosecond);
    } else {
      benchmark::AddCustomContext("skipped " + name, reason);
    }
  }
}

void register_limits(const Options &options, const attend_peak *widest) {
  if (!matches(options.kernels, "peak")) return;
  for (int threads : options.threads) {
    for (const Limit &limit : limits(widest, threads)) {
      std::string name = "peak/" + limit.name + (threads > 1 ? "/threads:" + std::to_string(threads) : "");
      benchmark::RegisterBenchmark(name.c_str(), [limit, widest, threads](benchmark::State &state) {
        measure_limit(state, limit, widest, threads);
      })->Unit(benchmark::kMicrosecond);
    }
  }
}

/** "16", or "1 to 16" where sequences differ. */
std::string span(const attend_shape &s, int64_t (*of)(const attend_shape *, int64_t)) {
  int64_t least = of(&s, 0), most = least;
  for (int64_t b = 1; b < s.batch; b++) least = std::min(least, of(&s, b)), most = std::max(most, of(&s, b));
  return (least < most ? std::to_string(least) + " to " : "") + std::to_string(most);
}

/** "batch 16, heads 32/8, queries 1, keys 128 to 2048, head dim 128". */
std::string describe(const attend_shape &s) {
  std::string text = "batch " + std::to_string(s.batch) + ", heads " + std::to_string(s.q_heads) + "/" +
                     std::to_string(s.kv_heads) + ", queries " + span(s, attend_shape_queries) + ", keys " +
                     span(s, attend_shape_length) + ", head dim " + std::to_string(s.head_dim);
  if (s.v_head_dim != s.head_dim) text += "/" + std::to_string(s.v_head_dim);
  if (s.causal != ATTEND_CAUSAL_NONE) text += ", causal";
  switch (s.form) {
  case ATTEND_FORM_PLAIN: return text;
  case ATTEND_FORM_ADDITIVE_MASK: return text + " by an additive f16 mask";
  case ATTEND_FORM_SIDE_BY_SIDE: return text + ", heads side by side";
  case ATTEND_FORM_PAGES:
    return text + ", heads side by side in pages of " + std::to_string(attend_shape_page_rows(&s)) + " keys";
  case ATTEND_FORM_SERVING: return text + ", pages of " + std::to_string(attend_shape_page_rows(&s)) + " keys";
  case ATTEND_FORM_V_IN_K: return text + ", values in the keys";
  }
  return text;
}

/** What the figures of this run depend on, for the JSON output and the head of the console's. */
void describe_machine(const Options &options, const attend_peak *widest) {
  const attend_cpu *cpu = attend_cpu_get();
  std::string features, threads;
  for (int f = 0; f < ATTEND_CPU_FEATURE_COUNT; f++)
    if (cpu->usable >> f & 1)
      features +=
          std::string(features.empty() ? "" : " ") + attend_cpu_feature_name(static_cast<attend_cpu_feature>(f));
  for (int n : options.threads) threads += (threads.empty() ? "" : ",") + std::to_string(n);
  benchmark::AddCustomContext("cpu", cpu->name);
  benchmark::AddCustomContext("cpu_features", features);
  benchmark::AddCustomContext("isa", attend_isa_name(widest->isa));
  benchmark::AddCustomContext("compiler", attend_bench_compiler());
  benchmark::AddCustomContext("attend_version", attend_version());
  benchmark::AddCustomContext("openblas_core", attend_baseline_core());
  benchmark::AddCustomContext("cores", std::to_string(attend_default_threads()));
  benchmark::AddCustomContext("threads", threads);
  for (const attend_shape *s = shapes_of(options); s->name; s++)
    if (matches(options.shapes, s->name)) benchmark::AddCustomContext(std::string("shape/") + s->name, describe(*s));
}

/** The limits as text: "f32_fma 265.2 GFLOP/s, 530.6 on 2 threads". */
std::vector<std::string> describe_peaks(const Options &options, const attend_peak *widest) {
  std::map<std::string, std::string> texts;
  for (int threads : {1, options.threads.back()}) {
    for (const Limit &limit : limits(widest, threads)) {
      char text[60];
      const double rate = probe(limit, widest, threads) * 1e-9;
      if (threads == 1)
        std::snprintf(text, sizeof text, "%.1f %s", rate, limit.unit);
      else
        std::snprintf(text, sizeof text, ", %.1f on %d threads", rate, threads);
      texts[limit.name] += text;
    }
    if (options.threads.back() == 1) break;
  }
  std::vector<std::string> lines;
  for (const auto &[name, text] : texts) {
    benchmark::AddCustomContext("peak/" + name, text);
    lines.push_back(name + " " + text);
  }
  return lines;
}

/** A reporter of Google Benchmark's that also keeps what it prints. */
template <class Base> class Recorder : public Base {
public:
  template <class... Arguments>
  explicit Recorder(Results *results, Arguments... arguments) : Base(arguments...), results_(results) {}
  void ReportRuns(const std::vector<benchmark::BenchmarkReporter::Run> &runs) override {
    results_->add(runs);
    Base::ReportRuns(runs);
  }

private:
  Results *results_;
};

/** The value of the last --name=value among the arguments, or "". */
std::string flag_value(const std::vector<char *> &arguments, const std::string &name) {
  std::string value;
  for (const std::string argument : arguments)
    if (argument.rfind(name + "=", 0) == 0) value = argument.substr(name.size() + 1);
  return value;
}

std::unique_ptr<benchmark::BenchmarkReporter> make_reporter(const Options &options, Results *results) {
  using benchmark::ConsoleReporter;
  if (flag_value(options.remaining, "--benchmark_format") == "json")
    return std::make_unique<Recorder<benchmark::JSONReporter>>(results);
  const std::string color = flag_value(options.remaining, "--benchmark_color");
  const bool colored = color.empty() || color == "auto" ? isatty(STDOUT_FILENO) : color == "true" || color == "1";
  return std::make_unique<Recorder<ConsoleReporter>>(results, colored ? ConsoleReporter::OO_ColorTabular
                                                                      : ConsoleReporter::OO_Tabular);
}

/** The command as one would type it, with the ATTEND_ variables that were set. */
std::string command_text(int argc, char **argv) {
  std::string text;
  for (const attend_env_variable *v = attend_env_variables; v->name; v++)
    if (const char *value = std::getenv(v->name)) text += std::string(v->name) + "=" + value + " ";
  text += "attend-bench";
  for (int i = 1; i < argc; i++) {
    const std::string argument = argv[i];
    const bool plain = argument.find_first_of(" *?[]'\"\\$|&;<>()") == std::string::npos && !argument.empty();
    text += " " + (plain ? argument : "'" + argument + "'");
  }
  return text;
}

bool write_markdown(const std::string &file, const std::string &command, const std::vector<std::string> &peaks,
                    const std::string &table) {
  char date[32];
  const std::time_t now = std::time(nullptr);
  std::strftime(date, sizeof date, "%Y-%m-%d", std::localtime(&now));
  std::string text = std::string("- Machine: ") + attend_cpu_get()->name + ", " +
                     std::to_string(attend_default_threads()) + " cores\n- Compiler: " + attend_bench_compiler() +
                     "\n- attend " + attend_version() + ", OpenBLAS kernels for " + attend_baseline_core() +
                     "\n- Date: " + date + "\n- Command: `" + command + "`\n- Limits:";
  for (size_t i = 0; i < peaks.size(); i++) text += (i ? "; " : " ") + peaks[i];
  text += "\n\n" + table;
  std::FILE *out = std::fopen(file.c_str(), "w");
  bool ok = out && std::fputs(text.c_str(), out) >= 0;
  return out && std::fclose(out) == 0 && ok;
}

/** A number of every sequence, as JSON. */
std::string list(const attend_shape &s, int64_t (*of)(const attend_shape *, int64_t)) {
  std::string text;
  for (int64_t b = 0; b < s.batch; b++) text += (b ? ", " : "[") + std::to_string(of(&s, b));
  return text + "]";
}

/** The standard shapes for programs that measure something else at them. */
void print_shapes() {
  const char *separator = "[\n";
  for (const attend_shape *s = attend_shapes; s->name; s++, separator = ",\n") {
    std::string text = std::string("{\"name\": \"") + s->name + "\"";
    const std::pair<const char *, int64_t> numbers[] = {{"batch", s->batch},           {"q_heads", s->q_heads},
                                                        {"kv_heads", s->kv_heads},     {"q_len", s->q_len},
                                                        {"kv_len", s->kv_len},         {"head_dim", s->head_dim},
                                                        {"v_head_dim", s->v_head_dim}, {"length_step", s->length_step}};
    for (const auto &[name, number] : numbers) text += std::string(", \"") + name + "\": " + std::to_string(number);
    text += std::string(", \"causal\": ") + (s->causal == ATTEND_CAUSAL_NONE ? "false" : "true") + ", \"form\": \"" +
            attend_shape_form_name(s->form) + "\"";
    if (s->form == ATTEND_FORM_SERVING)
      text += ", \"queries\": " + list(*s, attend_shape_queries) + ", \"keys\": " + list(*s, attend_shape_length) +
              ", \"page_rows\": " + std::to_string(attend_shape_page_rows(s));
    std::printf("%s  %s}", separator, text.c_str());
  }
  std::puts("\n]");
}

bool given(const Options &options, const std::string &argument) {
  for (const char *a : options.remaining)
    if (argument == a) return true;
  return false;
}

int run(int argc, char **argv) {
  attend_env env;
  if (attend_env_read(&env) != ATTEND_OK) return fail(attend_error_detail());
  const attend_peak *widest = attend_peak_widest(env.isa);
  if (const char *core = attend_baseline_better_core(widest->isa)) {
    setenv("OPENBLAS_CORETYPE", core, 1);
    /* OMP_PROC_BIND has bound this thread to one core; the new process would inherit that for all its threads. */
    attend_cpu_set usable;
    attend_usable_processors(&usable);
    attend_os_set_affinity(&usable);
    execv("/proc/self/exe", argv); /* OpenBLAS reads it once, before main(); if this fails it stays as it is */
  }
  openblas_set_num_threads(1);

  Options options;
  const int cores = env.num_threads ? env.num_threads : attend_default_threads();
  const std::string error = parse_options(argc, argv, cores, widest_f32(env.isa), &options);
  if (!error.empty()) return fail(error);
  if (options.list_shapes) {
    print_shapes();
    return 0;
  }
  std::vector<char *> arguments = options.remaining;
  int count = static_cast<int>(arguments.size());
  arguments.push_back(nullptr);
  benchmark::Initialize(&count, arguments.data(), print_help);
  if (count > 1) return fail(std::string("unknown option '") + arguments[1] + "'; --help lists them all");
  const std::string format = flag_value(options.remaining, "--benchmark_format");
  if (format == "csv") return fail("--benchmark_format: csv is not supported; use console or json");

  const std::vector<Case> cases = options.phases ? std::vector<Case>() : select_cases(options, env.isa);
  const bool only_list = given(options, "--benchmark_list_tests") || given(options, "--benchmark_list_tests=true");
  describe_machine(options, widest);
  if (options.phases && register_phases(env.isa) == 0)
    return fail("--phases: no kernel that runs here has any; those of AVX2, AVX-512 and AMX have");
  if (!options.phases) register_limits(options, widest);
  register_cases(cases, widest);
  if (only_list) return benchmark::RunSpecifiedBenchmarks() ? 0 : fail("nothing matches");

  if (cases.empty() && !options.markdown.empty())
    return fail("--markdown: no kernel at a shape is selected for its table");
  /* Tried now rather than after an hour of measuring. */
  const std::string partial = options.markdown + ".partial";
  if (!options.markdown.empty() && !write_markdown(partial, "", {}, ""))
    return fail("--markdown: cannot write " + partial + ": " + std::strerror(errno));
  const std::vector<std::string> peaks = describe_peaks(options, widest);
  if (options.quick) set_deadline(quick_seconds);
  Results results;
  std::unique_ptr<benchmark::BenchmarkReporter> reporter = make_reporter(options, &results);
  const size_t ran = benchmark::RunSpecifiedBenchmarks(reporter.get());
  release();
  if (ran == 0) {
    if (!options.markdown.empty()) std::remove(partial.c_str());
    return fail("no benchmark matches; --benchmark_list_tests shows their names");
  }
  if (!cases.empty()) {
    const std::string text = table(cases, results);
    const bool json = format == "json"; /* standard output is a document then */
    if (options.table) std::fputs(("\n" + text).c_str(), json ? stderr : stdout);
    if (!options.markdown.empty() && (!write_markdown(partial, command_text(argc, argv), peaks, text) ||
                                      std::rename(partial.c_str(), options.markdown.c_str()) != 0))
      return fail("--markdown: cannot write " + options.markdown + ": " + std::strerror(errno));
  }
  if (wrong_results() == 0) return 0;
  fail(std::to_string(wrong_results()) + " of the benchmarks gave a wrong result");
  return 1;
}

} // namespace
} // namespace bench

int main(int argc, char **argv) { return bench::run(argc, argv); }
