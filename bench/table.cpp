/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/table.h"

#include <algorithm>
#include <cstdio>

namespace bench {
namespace {

using Run = benchmark::BenchmarkReporter::Run;
using Row = std::vector<std::string>;

std::string format(const char *form, double value) {
  char text[32];
  std::snprintf(text, sizeof text, form, value);
  return text;
}

std::string time_text(double seconds) {
  if (seconds < 1e-3) return format("%.3g µs", seconds * 1e6);
  if (seconds < 1) return format("%.3g ms", seconds * 1e3);
  return format("%.3g s", seconds);
}

double counter(const Run &run, const char *name) {
  auto found = run.counters.find(name);
  return found == run.counters.end() ? 0 : found->second.value;
}

/** Characters, not bytes. */
size_t width(const std::string &text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

std::string render(const std::vector<Row> &rows) {
  std::vector<size_t> widths(rows[0].size(), 0);
  for (const Row &row : rows)
    for (size_t i = 0; i < row.size(); i++) widths[i] = std::max(widths[i], width(row[i]));
  std::string text;
  for (size_t r = 0; r < rows.size(); r++) {
    for (size_t i = 0; i < widths.size(); i++)
      text += "| " + rows[r][i] + std::string(widths[i] - width(rows[r][i]) + 1, ' ');
    text += "|\n";
    for (size_t i = 0; r == 0 && i < widths.size(); i++) text += "| " + std::string(widths[i], '-') + " ";
    if (r == 0) text += "|\n";
  }
  return text;
}

/** Another case at the same shape and types, or the same case with other threads. */
const Results::Result *find(const Results &results, Case like, const std::string &kernel, int threads) {
  like.kernel = kernel;
  like.threads = threads;
  return results.find(like.name());
}

/** Whether anything was measured at the shape and types of a case. */
bool any_of(const Case &like, const std::vector<Case> &cases, const Results &results) {
  return std::any_of(cases.begin(), cases.end(), [&](const Case &c) {
    return c.shape == like.shape && c.dtypes.name == like.dtypes.name && results.find(c.name());
  });
}

/** The row for the shape and types of one case. */
Row row_for(const Case &like, const std::vector<Case> &cases, const Results &results, int few, int many) {
  const Results::Result *picked = find(results, like, "auto", few), *shared = find(results, like, "auto", many);
  const Results::Result *baseline = find(results, like, "baseline_openblas", few), *best = nullptr;
  std::string best_name;
  for (const Case &c : cases) {
    if (c.shape != like.shape || c.dtypes.name != like.dtypes.name || c.threads != few) continue;
    if (c.kernel == "auto" || c.is_baseline()) continue;
    const Results::Result *result = results.find(c.name());
    if (result && (!best || result->seconds < best->seconds)) best = result, best_name = c.kernel;
  }
  const std::string none = "-";
  Row row = {like.shape->name, like.dtypes.name};
  if (picked)
    row.insert(row.end(), {picked->label, time_text(picked->seconds), format("%.1f", picked->flops * 1e-9),
                           picked->of_peak > 0 ? format("%.2f", picked->of_peak) : none});
  else
    row.insert(row.end(), 4, none);
  row.push_back(best ? best_name : none);
  row.push_back(best && picked ? format("%.2f", picked->seconds / best->seconds) : none);
  row.push_back(baseline && picked ? format("%.2f", baseline->seconds / picked->seconds) : none);
  if (many != few) row.push_back(shared && picked ? format("%.2f", picked->seconds / shared->seconds) : none);
  return row;
}

} // namespace

void Results::add(const std::vector<Run> &runs) {
  for (const Run &run : runs) {
    if (run.error_occurred) continue;
    const bool is_median = run.run_type == Run::RT_Aggregate && run.aggregate_name == "median";
    if (run.run_type != Run::RT_Iteration && !is_median) continue;
    const std::string name = run.run_name.str();
    Samples &samples = samples_[name];
    if (is_median) samples = {};
    samples.seconds.push_back(run.GetAdjustedRealTime() / benchmark::GetTimeUnitMultiplier(run.time_unit));
    samples.flops.push_back(counter(run, "flops"));
    samples.of_peak.push_back(counter(run, "of_peak"));
    results_[name] = {median(samples.seconds), median(samples.flops), median(samples.of_peak), run.report_label};
  }
}

const Results::Result *Results::find(const std::string &name) const {
  auto found = results_.find(name);
  return found == results_.end() ? nullptr : &found->second;
}

std::string table(const std::vector<Case> &cases, const Results &results) {
  int few = cases.front().threads, many = few;
  for (const Case &c : cases) few = std::min(few, c.threads), many = std::max(many, c.threads);
  Row head = {"shape",   "dtype",    "auto picks",  "time",           "GFLOP/s",
              "of peak", "best row", "best / auto", "auto / OpenBLAS"};
  if (many != few) head.push_back(std::to_string(many) + " threads / " + std::to_string(few));
  std::vector<Row> rows = {head};
  std::string last;
  for (const Case &c : cases) {
    std::string key = c.shape->name + ("/" + c.dtypes.name);
    if (key == last) continue;
    last = key;
    if (any_of(c, cases, results)) rows.push_back(row_for(c, cases, results, few, many));
  }
  return render(rows);
}

} // namespace bench
