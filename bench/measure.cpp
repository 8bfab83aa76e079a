/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/measure.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>
#include <vector>

extern "C" {
#include "bench/baseline.h"
}

namespace bench {
namespace {

constexpr size_t max_workspace_per_thread = ATTEND_BASELINE_MAX_SCORES;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

struct DestroyPlan {
  void operator()(attend_plan *plan) const { attend_plan_destroy(plan); }
};
using Plan = std::unique_ptr<attend_plan, DestroyPlan>;

Plan make_plan(const Case &c, std::string *error) {
  attend_problem problem = attend_shape_problem(c.shape, c.dtypes.q, c.dtypes.kv);
  attend_options options = ATTEND_OPTIONS_INIT;
  options.num_threads = c.threads;
  options.kernel = c.kernel.c_str();
  attend_plan *plan = nullptr;
  if (attend_plan_create(&problem, &options, &plan) != ATTEND_OK) *error = attend_error_detail();
  return Plan(plan);
}

/** The limits of a run, probed on both sides of it: clocks drift too much for one probe at the start of a session. */
class Probes {
public:
  Probes(const attend_peak *peak, attend_limit limit, int threads, const void *data, size_t bytes)
      : peak_(peak), limit_(limit), threads_(threads), data_(data), bytes_(bytes) {
    sample();
  }
  void sample() {
    const int samples = 3;
    rates_.resize(rates_.size() + samples);
    attend_peak_probe(peak_, limit_, threads_, data_, bytes_, samples, &rates_[rates_.size() - samples]);
  }
  double rate() const { return median(rates_); }

private:
  const attend_peak *peak_;
  attend_limit limit_;
  int threads_;
  const void *data_;
  size_t bytes_;
  std::vector<double> rates_;
};

constexpr unsigned char untouched = 0xa5;

/** Bytes of the 64-byte lines that do not hold what was put there before. */
size_t touched_bytes(const void *memory, size_t size) {
  const auto *bytes = static_cast<const unsigned char *>(memory);
  size_t touched = 0;
  for (size_t line = 0; line < size; line += 64) {
    const size_t length = std::min<size_t>(64, size - line);
    if (std::any_of(bytes + line, bytes + line + length, [](unsigned char b) { return b != untouched; }))
      touched += length;
  }
  return touched;
}

/** A case with everything it needs in memory: one at a time. Tensors are kept while cases share them. */
class Subject {
public:
  ~Subject() { clear(); }
  void clear();

  /** Makes a case ready and checks its result, unless that has been done. Returns what is wrong, or "". */
  std::string load(const Case &c, const attend_peak *widest);
  attend_status run();

  attend_bench_data data = {};
  const attend_peak *peak = nullptr; // with the arithmetic limit of what runs; null if that is not known
  attend_limit limit = ATTEND_LIMIT_COUNT;
  std::string label;
  attend_bench_accuracy accuracy = {};
  size_t used = 0; // bytes of the workspace that the first run wrote
  int wrong = 0;

  size_t workspace_size() const { return workspace_size_; }

private:
  std::string prepare(const attend_peak *widest);

  const Case *case_ = nullptr;
  std::string error_;
  const attend_peak *widest_ = nullptr;
  Plan plan_;
  Memory workspace_;
  size_t workspace_size_ = 0;
};

void Subject::clear() {
  case_ = nullptr;
  plan_.reset();
  workspace_.reset();
  attend_bench_data_destroy(&data);
}

std::string Subject::load(const Case &c, const attend_peak *widest) {
  if (case_ != &c) {
    case_ = &c;
    error_ = prepare(widest);
  }
  return error_;
}

std::string Subject::prepare(const attend_peak *widest) {
  const Case &c = *case_;
  workspace_.reset();
  plan_.reset();
  widest_ = widest;
  if (data.shape != c.shape || data.problem.q_dtype != c.dtypes.q || data.problem.k_dtype != c.dtypes.kv) {
    attend_bench_data_destroy(&data);
    if (!attend_bench_data_create(&data, c.shape, c.dtypes.q, c.dtypes.kv)) return "no memory for the tensors";
  }

  attend_dtype compute = ATTEND_F32;
  if (c.is_baseline()) {
    workspace_size_ = attend_baseline_scores(c.shape) * static_cast<size_t>(c.threads);
    peak = widest;
    label = attend_baseline_core();
  } else {
    std::string problem;
    plan_ = make_plan(c, &problem);
    if (!plan_) return problem;
    workspace_size_ = attend_plan_workspace_size(plan_.get());
    const attend_kernel *kernel = attend_kernel_find(attend_plan_kernel(plan_.get()));
    compute = kernel->compute;
    peak = attend_peak_for(kernel->isa);
    label = c.kernel == kernel->name ? "" : kernel->name;
  }
  limit = compute == ATTEND_F32 ? ATTEND_LIMIT_F32 : compute == ATTEND_BF16 ? ATTEND_LIMIT_BF16 : ATTEND_LIMIT_COUNT;
  if (peak && !attend_peak_has(peak, limit)) peak = nullptr;
  workspace_.reset(attend_bench_alloc(workspace_size_));
  if (!workspace_) return "no memory for the workspace";

  attend_bench_data_poison(&data);
  std::memset(workspace_.get(), untouched, workspace_size_);
  if (run() != ATTEND_OK) return attend_error_detail();
  used = touched_bytes(workspace_.get(), workspace_size_);
  char why[200];
  if (attend_bench_data_check(&data, compute, &accuracy, why, sizeof why)) return "";
  wrong++;
  return why;
}

attend_status Subject::run() {
  if (plan_) return attend_plan_run(plan_.get(), &data.tensors, workspace_.get(), workspace_size_);
  attend_baseline_run(&data, widest_, case_->threads, static_cast<float *>(workspace_.get()));
  return ATTEND_OK;
}

Subject subject;
double deadline = std::numeric_limits<double>::infinity();

} // namespace

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  size_t n = values.size();
  return n == 0 ? 0 : (values[(n - 1) / 2] + values[n / 2]) / 2;
}

std::string why_not(const Case &c) {
  size_t needed;
  if (c.is_baseline()) {
    if (const char *reason = attend_baseline_why_not(c.shape)) return reason;
    needed = attend_baseline_scores(c.shape);
  } else {
    std::string error;
    Plan plan = make_plan(c, &error);
    if (!plan) return error;
    needed = attend_plan_workspace_size(plan.get()) / static_cast<size_t>(c.threads);
  }
  if (needed <= max_workspace_per_thread) return "";
  return "needs " + std::to_string(needed >> 20) + " MiB of workspace per thread, more than " +
         std::to_string(max_workspace_per_thread >> 20) + " MiB";
}

void measure(benchmark::State &state, const Case &c, const attend_peak *widest) {
  if (now() > deadline) {
    state.SkipWithError("not begun: the time of --quick is over");
    return;
  }
  const std::string error = subject.load(c, widest);
  if (!error.empty()) {
    state.SkipWithError(error.c_str());
    return;
  }
  const double flops = attend_shape_flops(c.shape);
  const double bytes = attend_shape_bytes(c.shape, c.dtypes.q, c.dtypes.kv);
  Probes reading(widest, ATTEND_LIMIT_READ, c.threads, subject.data.memory, static_cast<size_t>(bytes));
  std::unique_ptr<Probes> arithmetic;
  if (subject.peak) arithmetic = std::make_unique<Probes>(subject.peak, subject.limit, c.threads, nullptr, 0);

  bool ok = true;
  const double begin = now();
  for (auto _ : state) ok = subject.run() == ATTEND_OK && ok;
  const double elapsed = now() - begin;

  reading.sample();
  if (arithmetic) arithmetic->sample();
  if (!ok) {
    state.SkipWithError(attend_error_detail());
    return;
  }
  state.counters["workspace"] = static_cast<double>(subject.workspace_size());
  state.counters["workspace_used"] = static_cast<double>(subject.used);
  state.counters["error"] = subject.accuracy.error;
  state.counters["plain_error"] = subject.accuracy.plain_error;
  /* Not kIsRate: that divides by the processor time of this thread. */
  const double per_second = static_cast<double>(state.iterations()) / elapsed;
  state.counters["flops"] = flops * per_second;
  state.counters["bytes"] = bytes * per_second;
  state.counters["peak_bytes"] = reading.rate();
  if (arithmetic) {
    state.counters["peak_flops"] = arithmetic->rate();
    state.counters["of_peak"] = std::max(flops * per_second / arithmetic->rate(), bytes * per_second / reading.rate());
  }
  state.SetLabel(subject.label);
}

void release() { subject.clear(); }

void set_deadline(double seconds_from_now) { deadline = now() + seconds_from_now; }

int wrong_results() { return subject.wrong; }

} // namespace bench
