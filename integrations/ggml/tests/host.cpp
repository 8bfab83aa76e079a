/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A host of ggml that loads the plug-in, and in which things go wrong: host within-cpu|device PLUGIN OTHER_PLUGIN,
 * where the other one was built for another version of ggml. Ends with "N passed, N failed".
 */
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "ggml-backend.h"
#include "ggml-cpp.h"
#include "ggml.h"

/* In the place of the C library's, for the plug-in too. */
static bool no_memory = false;

extern "C" void *aligned_alloc(size_t alignment, size_t size) {
  void *memory = nullptr;
  return no_memory || posix_memalign(&memory, alignment, size) != 0 ? nullptr : memory;
}

namespace {

std::string logged;
int passed = 0, failed = 0;

void check(bool good, const char *what) {
  printf("%s %s\n", good ? "ok    " : "FAILED", what);
  (good ? passed : failed)++;
}

void log(ggml_log_level, const char *text, void *) { logged += text; }

struct shape {
  int64_t dim = 64, queries = 1, keys = 600, heads = 8, kv_heads = 2, mask_heads = 1;
  ggml_type k = GGML_TYPE_F16, v = GGML_TYPE_F16;
};

/* The result of one node of random numbers, the same for each shape; empty where it fails. */
std::vector<float> compute(ggml_backend_t backend, const shape &s, ggml_status expected = GGML_STATUS_SUCCESS) {
  ggml_context_ptr context(ggml_init({ggml_tensor_overhead() * 16 + ggml_graph_overhead(), nullptr, true}));
  ggml_tensor *q = ggml_new_tensor_3d(context.get(), GGML_TYPE_F32, s.dim, s.queries, s.heads);
  ggml_tensor *k = ggml_new_tensor_3d(context.get(), s.k, s.dim, s.keys, s.kv_heads);
  ggml_tensor *v = ggml_new_tensor_3d(context.get(), s.v, s.dim, s.keys, s.kv_heads);
  ggml_tensor *mask = ggml_new_tensor_3d(context.get(), GGML_TYPE_F16, s.keys, s.queries, s.mask_heads);
  ggml_tensor *out = ggml_flash_attn_ext(context.get(), q, k, v, mask, 1, 0, 0);
  ggml_cgraph *graph = ggml_new_graph(context.get());
  ggml_build_forward_expand(graph, out);
  ggml_backend_buffer_ptr buffer(ggml_backend_alloc_ctx_tensors(context.get(), backend));

  uint32_t seed = 1;
  const auto next = [&seed] {
    return static_cast<float>((seed = seed * 1664525u + 1013904223u) >> 8) / 16777216.0f - 0.5f;
  };
  for (ggml_tensor *t : {q, k, v, mask}) {
    std::vector<float> numbers(static_cast<size_t>(ggml_nelements(t)));
    for (float &x : numbers) x = t == mask ? (next() > 0.2f ? -INFINITY : 0.0f) : next();
    std::vector<char> bytes(ggml_nbytes(t));
    ggml_quantize_chunk(t->type, numbers.data(), bytes.data(), 0, ggml_nrows(t), t->ne[0], nullptr);
    ggml_backend_tensor_set(t, bytes.data(), 0, bytes.size());
  }
  if (ggml_backend_graph_compute(backend, graph) != expected) return {};
  std::vector<float> result(static_cast<size_t>(ggml_nelements(out)));
  ggml_backend_tensor_get(out, result.data(), 0, ggml_nbytes(out));
  return result;
}

bool same(const std::vector<float> &a, const std::vector<float> &b) {
  return !a.empty() && a.size() == b.size() && memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

bool close(const std::vector<float> &a, const std::vector<float> &b) {
  double difference = 0, all = 0;
  for (size_t i = 0; i < a.size() && i < b.size(); i++) difference += pow(a[i] - b[i], 2), all += pow(a[i], 2);
  return !a.empty() && a.size() == b.size() && difference < 5e-4 * all;
}

const shape cases[] = {{},
                       {.queries = 40},
                       {.dim = 128, .queries = 3, .kv_heads = 8},
                       {.k = GGML_TYPE_BF16, .v = GGML_TYPE_BF16},
                       {.queries = 70, .k = GGML_TYPE_Q8_0, .v = GGML_TYPE_Q4_0},
                       {.dim = 256, .queries = 2, .k = GGML_TYPE_Q6_K, .v = GGML_TYPE_Q6_K}}; /* which is converted */

/* For which there is no plan yet. */
shape longer(shape s) {
  s.keys += 8192;
  return s;
}

void within_cpu(ggml_backend_t cpu, const char *plugin) {
  const shape modulo{.queries = 5, .mask_heads = 2}; /* which no stride says */
  std::vector<std::vector<float>> stock, stock_longer;
  for (const shape &s : cases) {
    stock.push_back(compute(cpu, s));
    stock_longer.push_back(compute(cpu, longer(s)));
  }
  const std::vector<float> stock_modulo = compute(cpu, modulo);

  check(ggml_backend_load(plugin) != nullptr, "the plug-in is loaded");
  check(logged.find("within the CPU backend") != std::string::npos, "and says that it works within the CPU backend");
  bool all_close = true, any_same = false, all_same = true;
  for (size_t i = 0; i < stock.size(); i++) {
    const std::vector<float> ours = compute(cpu, cases[i]);
    all_close = all_close && close(stock[i], ours);
    any_same = any_same || same(stock[i], ours);
  }
  check(all_close && !any_same, "results are close to ggml's own, and not ggml's own");
  check(same(stock_modulo, compute(cpu, modulo)), "what it cannot do, ggml does");

  no_memory = true;
  for (size_t i = 0; i < stock.size(); i++)
    all_same = all_same && same(stock_longer[i], compute(cpu, longer(cases[i])));
  no_memory = false;
  check(all_same, "without memory ggml computes it");

  bool together = true;
  std::vector<std::thread> threads;
  std::vector<char> good(4);
  for (size_t t = 0; t < good.size(); t++)
    threads.emplace_back([t, &good] {
      ggml_backend_ptr own(ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_CPU, nullptr));
      const std::vector<float> first = compute(own.get(), cases[t]);
      good[t] = 1;
      for (int i = 0; i < 20; i++)
        if (!same(first, compute(own.get(), cases[t]))) good[t] = 0;
    });
  for (std::thread &t : threads) t.join();
  for (const char g : good) together = together && g;
  check(together, "graphs that are computed at one time do not disturb each other");
}

void device(ggml_backend_t cpu, const char *plugin) {
  setenv("ATTEND_GGML_DEVICE", "1", 1);
  check(ggml_backend_load(plugin) != nullptr, "the plug-in is loaded");
  ggml_backend_ptr ours(ggml_backend_init_by_name("ATTEND", nullptr));
  check(ours != nullptr, "there is a device ATTEND");
  if (!ours) return;
  bool all_close = true, all_refused = true;
  for (const shape &s : cases) all_close = all_close && close(compute(cpu, s), compute(ours.get(), s));
  check(all_close, "results are close to ggml's own");
  no_memory = true;
  for (const shape &s : cases)
    all_refused = all_refused && !compute(ours.get(), longer(s), GGML_STATUS_ALLOC_FAILED).empty();
  no_memory = false;
  check(all_refused, "without memory it says so");
  check(close(compute(cpu, cases[0]), compute(ours.get(), cases[0])), "and goes on afterwards");
}

} /* namespace */

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  ggml_log_set(log, nullptr);
  ggml_backend_load_all();
  ggml_backend_ptr cpu(ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_CPU, nullptr));
  if (!cpu) {
    fprintf(stderr, "host: there is no CPU backend beside this program\n");
    return 2;
  }
  logged.clear();
  check(ggml_backend_load(argv[3]) == nullptr, "a plug-in for another version is not loaded");
  check(logged.find("attend: built for ggml 0.0.0, but this is ggml ") != std::string::npos, "and says why");
  check(ggml_backend_load("/nowhere/libggml-attend.so") == nullptr, "one that is missing is not, either");
  (strcmp(argv[1], "device") == 0 ? device : within_cpu)(cpu.get(), argv[2]);
  printf("%d passed, %d failed\n", passed, failed);
  return failed > 0;
}
