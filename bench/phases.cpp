/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/phases_run.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "bench/measure.h"

extern "C" {
#include "bench/data.h"
#include "bench/phases.h"
}

/* The build gives the list: PHASES(amx) ... */
#define PHASES(isa) extern "C" const attend_phases attend_phases_##isa;
ATTEND_PHASES
#undef PHASES

namespace bench {
namespace {

#define PHASES(isa) &attend_phases_##isa,
const attend_phases *const all[] = {ATTEND_PHASES nullptr};
#undef PHASES

constexpr int units = 64;

/** Small numbers of bf16, all over the memory. */
void fill(void *memory, size_t bytes) {
  auto *numbers = static_cast<uint16_t *>(memory);
  uint32_t random = 1;
  for (size_t i = 0; i < bytes / sizeof *numbers; i++) {
    random = random * 1664525 + 1013904223;
    numbers[i] = static_cast<uint16_t>((random >> 16 & 0x80ff) | 0x3e80 | (random >> 8 & 0x7f));
  }
}

/** Times a phase and counts its cycles by the arithmetic peak, which is probed before and after each run. */
void measure_phase(benchmark::State &state, const attend_phases *of, const attend_phase *phase, int dim) {
  const attend_peak *peak = attend_peak_for(of->isa);
  const size_t bytes = of->memory(dim);
  Memory memory(attend_bench_alloc(bytes));
  if (!memory) {
    state.SkipWithError("no memory");
    return;
  }
  fill(memory.get(), bytes);
  phase->run(memory.get(), dim, units);
  std::vector<double> cycles;
  for (auto _ : state) {
    double rate[2] = {0, 0};
    attend_peak_probe(peak, ATTEND_LIMIT_BF16, 1, nullptr, 0, 1, &rate[0]);
    const auto begin = std::chrono::steady_clock::now();
    phase->run(memory.get(), dim, units);
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
    attend_peak_probe(peak, ATTEND_LIMIT_BF16, 1, nullptr, 0, 1, &rate[1]);
    cycles.push_back(elapsed.count() / units * std::max(rate[0], rate[1]) / of->flops_a_cycle);
  }
  std::sort(cycles.begin(), cycles.end());
  const double undisturbed = cycles[cycles.size() / 10]; // a neighbour on the same core doubles some of these figures
  state.counters["cycles"] = undisturbed;
  state.counters["median"] = median(cycles);
  state.counters["ideal"] = phase->ideal(dim);
  state.counters["times_ideal"] = undisturbed / phase->ideal(dim);
  state.SetLabel(of->unit);
}

} // namespace

int register_phases(attend_isa highest) {
  int count = 0;
  for (const attend_phases *const *of = all; *of; of++) {
    if (!attend_peak_for((*of)->isa) || attend_isa_rank((*of)->isa) > attend_isa_rank(highest)) continue;
    for (const int *dim = (*of)->dims; *dim; dim++)
      for (const attend_phase *phase = (*of)->phases; phase->name; phase++, count++) {
        const std::string name =
            std::string("phase/") + attend_isa_name((*of)->isa) + "/D" + std::to_string(*dim) + "/" + phase->name;
        benchmark::RegisterBenchmark(name.c_str(), [of, phase, dim](benchmark::State &state) {
          measure_phase(state, *of, phase, *dim);
        })->Unit(benchmark::kMicrosecond);
      }
  }
  return count;
}

} // namespace bench
