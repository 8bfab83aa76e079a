/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/peaks.h"

#include <omp.h>
#include <time.h>

/* The build gives the list, widest first: PEAK(avx512) PEAK(avx2) ... */
#define PEAK(isa) extern const attend_peak attend_peak_##isa;
ATTEND_PEAKS
#undef PEAK
#define PEAK(isa) &attend_peak_##isa,
static const attend_peak *const peaks[] = {ATTEND_PEAKS};
#undef PEAK
enum { PEAK_COUNT = sizeof peaks / sizeof *peaks };

static bool usable(const attend_peak *peak) {
  uint64_t needed = attend_isa_features(peak->isa);
  return (attend_cpu_get()->usable & needed) == needed;
}

const attend_peak *attend_peak_for(attend_isa isa) {
  for (int i = 0; i < PEAK_COUNT; i++)
    if (peaks[i]->isa == isa) return usable(peaks[i]) ? peaks[i] : NULL;
  return NULL;
}

const attend_peak *attend_peak_widest(attend_isa highest) {
  for (int i = 0; i < PEAK_COUNT; i++)
    if (attend_isa_rank(peaks[i]->isa) <= attend_isa_rank(highest) && usable(peaks[i])) return peaks[i];
  return peaks[PEAK_COUNT - 1]; /* scalar */
}

bool attend_peak_has(const attend_peak *peak, attend_limit limit) { return limit != ATTEND_LIMIT_BF16 || peak->bf16; }

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* A few microseconds of work, or one pass over the data. */
static double work(const attend_peak *peak, attend_limit limit, const void *data, size_t bytes) {
  switch (limit) {
  case ATTEND_LIMIT_F32: return peak->f32(200);
  case ATTEND_LIMIT_BF16: return peak->bf16(200);
  case ATTEND_LIMIT_EXP: return peak->exp(500);
  default: return peak->read(data, bytes);
  }
}

void attend_peak_probe(const attend_peak *peak, attend_limit limit, int threads, const void *data, size_t bytes,
                       int samples, double *rates) {
  const double duration = 0.5e-3;
  for (int s = 0; s < samples; s++) rates[s] = 0;
#pragma omp parallel num_threads(threads)
  {
    size_t share = bytes / (size_t)omp_get_num_threads() / 64 * 64;
    const void *mine = (const char *)data + (size_t)omp_get_thread_num() * share;
    work(peak, limit, mine, share);
    for (int s = 0; s < samples; s++) {
      double done = 0, begin, elapsed;
#pragma omp barrier
      begin = now();
      do {
        done += work(peak, limit, mine, share);
        elapsed = now() - begin;
      } while (elapsed < duration);
#pragma omp atomic
      rates[s] += done / elapsed;
    }
  }
}

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)

const char *attend_bench_compiler(void) {
#if defined(__clang__)
  return "clang " TEXT(__clang_major__) "." TEXT(__clang_minor__) "." TEXT(__clang_patchlevel__);
#else
  return "gcc " TEXT(__GNUC__) "." TEXT(__GNUC_MINOR__) "." TEXT(__GNUC_PATCHLEVEL__);
#endif
}
