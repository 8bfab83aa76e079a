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

/** Small numbers of bf16, all over the memory. */
void fill(void *memory, size_t bytes) {
  auto *numbers = static_cast<uint16_t *>(memory);
  uint32_t random = 1;
  for (size_t i = 0; i < bytes / sizeof *numbers; i++) {
    random = random * 1664525 + 1013904223;
    numbers[i] = static_cast<uint16_t>((random >> 16 & 0x80ff) | 0x3e80 | (random >> 8 & 0x7f));
  }
}

/** A limit's rate, the better of two probes; 0 where it is not asked for. */
struct Rate {
  const attend_peak *peak;
  attend_limit limit;
  const void *data;
  size_t bytes;
  bool wanted;
  double best = 0;

  void probe() {
    double rate = 0;
    if (wanted) attend_peak_probe(peak, limit, 1, data, bytes, 1, &rate);
    best = std::max(best, rate);
  }
  double seconds(double amount) const { return wanted && best > 0 ? amount / best : 0; }
};

/** What bounds a unit, as it is just before and after a run. */
struct Bounds {
  Rate flops, exps, reading;
  double flops_a_cycle; // 0: times are in ns

  void probe() { flops.probe(), exps.probe(), reading.probe(); }
  double ideal(const attend_work &w) const {
    const double cycles = w.cycles > 0 ? flops.seconds(w.cycles * flops_a_cycle) : 0;
    return std::max({cycles, flops.seconds(w.flops), exps.seconds(w.exps), reading.seconds(w.bytes)});
  }
  /** Cycles, counted by the arithmetic peak, or ns. */
  double scaled(double seconds) const {
    return flops_a_cycle > 0 ? seconds * flops.best / flops_a_cycle : seconds * 1e9;
  }
};

/** Times a phase beside its limits, which are probed before and after each run. */
void measure_phase(benchmark::State &state, const attend_phases *of, const attend_phase *phase, int dim) {
  const attend_peak *peak = attend_peak_for(of->isa);
  const size_t bytes = of->memory(dim);
  Memory memory(attend_bench_alloc(bytes));
  if (!memory) {
    state.SkipWithError("no memory");
    return;
  }
  fill(memory.get(), bytes);
  phase->run(memory.get(), dim, phase->units);
  const attend_work work = phase->work(dim);
  const bool arithmetic = of->flops_a_cycle > 0 || work.flops > 0;
  std::vector<double> times, ideals;
  for (auto _ : state) {
    Bounds bounds{{peak, of->limit, nullptr, 0, arithmetic},
                  {peak, ATTEND_LIMIT_EXP, nullptr, 0, work.exps > 0},
                  {peak, ATTEND_LIMIT_READ, memory.get(), work.footprint, work.bytes > 0},
                  of->flops_a_cycle};
    bounds.probe();
    const auto begin = std::chrono::steady_clock::now();
    phase->run(memory.get(), dim, phase->units);
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
    bounds.probe();
    times.push_back(bounds.scaled(elapsed.count() / phase->units));
    ideals.push_back(bounds.scaled(bounds.ideal(work)));
  }
  std::sort(times.begin(), times.end());
  const double undisturbed = times[times.size() / 10]; // a neighbour on the same core doubles some of these figures
  const double ideal = median(ideals);
  state.counters[of->flops_a_cycle > 0 ? "cycles" : "ns"] = undisturbed;
  state.counters["median"] = median(times);
  state.counters["ideal"] = ideal;
  state.counters["times_ideal"] = undisturbed / ideal;
  state.SetLabel(phase->unit);
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
