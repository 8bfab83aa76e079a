/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/limits.h"

#include <algorithm>
#include <cstring>

#include "bench/measure.h"

namespace bench {
namespace {

/** A buffer to read, its pages touched: untouched ones are all one and the same. */
Memory buffer_for(const Limit &limit, int threads) {
  size_t size = limit.bytes * static_cast<size_t>(threads);
  Memory memory(attend_bench_alloc(size));
  if (memory) std::memset(memory.get(), 1, size);
  return memory;
}

} // namespace

std::vector<Limit> limits(const attend_peak *peak, int threads) {
  const attend_topology *machine = attend_topology_get();
  const size_t n = static_cast<size_t>(threads), l2 = machine->l2, l3 = machine->l3;
  /* Well within L2; then too large for L2 and well within L3; then several times L3, up to a bound. */
  const size_t in_l3 = std::max(2 * l2, l3 / 4 / n),
               in_memory = std::clamp(4 * l3, size_t(1) << 26, size_t(1) << 30) / n;
  std::vector<Limit> all = {{"f32_fma", ATTEND_LIMIT_F32, "flops", "GFLOP/s", 0},
                            {"bf16_matrix", ATTEND_LIMIT_BF16, "flops", "GFLOP/s", 0},
                            {"exp", ATTEND_LIMIT_EXP, "results", "G/s", 0},
                            {"read_l2", ATTEND_LIMIT_READ, "bytes", "GB/s", l2 / 2},
                            {"read_l3", ATTEND_LIMIT_READ, "bytes", "GB/s", in_l3},
                            {"read_memory", ATTEND_LIMIT_READ, "bytes", "GB/s", in_memory}};
  all.erase(std::remove_if(all.begin(), all.end(), [&](const Limit &l) { return !attend_peak_has(peak, l.limit); }),
            all.end());
  return all;
}

double probe(const Limit &limit, const attend_peak *peak, int threads) {
  std::vector<double> rates(5);
  Memory buffer = buffer_for(limit, threads);
  if (!buffer) return 0;
  attend_peak_probe(peak, limit.limit, threads, buffer.get(), limit.bytes * static_cast<size_t>(threads),
                    static_cast<int>(rates.size()), rates.data());
  return median(rates);
}

void measure_limit(benchmark::State &state, const Limit &limit, const attend_peak *peak, int threads) {
  release();
  Memory buffer = buffer_for(limit, threads);
  if (!buffer) {
    state.SkipWithError("no memory for the buffer");
    return;
  }
  std::vector<double> rates;
  for (auto _ : state) {
    rates.push_back(0);
    attend_peak_probe(peak, limit.limit, threads, buffer.get(), limit.bytes * static_cast<size_t>(threads), 1,
                      &rates.back());
  }
  state.counters[limit.counter] = median(rates);
  state.SetLabel(attend_isa_name(peak->isa));
}

} // namespace bench
