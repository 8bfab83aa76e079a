/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nodes PLUGIN: milliseconds of processor time of one node of attention on one thread, by ggml's own code and then by
 * the plug-in, a line of JSON for each. The caches of four layers take turns, as in a model: one would stay in L3.
 */
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <vector>

#include "ggml-backend.h"
#include "ggml-cpp.h"
#include "ggml.h"

namespace {

constexpr int heads = 32, kv_heads = 8;

struct node {
  ggml_type type;
  int dim, queries, keys, layers, repeats;
};

const node nodes[] = {
    {GGML_TYPE_F16, 64, 1, 256, 4, 50},  {GGML_TYPE_F16, 64, 1, 1024, 4, 20},  {GGML_TYPE_F16, 64, 1, 8192, 4, 7},
    {GGML_TYPE_F16, 64, 1, 16384, 4, 5}, {GGML_TYPE_BF16, 64, 1, 8192, 4, 5},  {GGML_TYPE_Q8_0, 64, 1, 8192, 4, 5},
    {GGML_TYPE_Q4_0, 64, 1, 8192, 4, 5}, {GGML_TYPE_F16, 128, 1, 8192, 4, 5},  {GGML_TYPE_Q8_0, 128, 1, 8192, 4, 5},
    {GGML_TYPE_F16, 64, 64, 8192, 1, 3}, {GGML_TYPE_BF16, 64, 64, 8192, 1, 1}, {GGML_TYPE_Q8_0, 64, 64, 8192, 1, 1},
    {GGML_TYPE_Q4_0, 64, 64, 8192, 1, 1}};

double processor_ms() {
  timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) * 1e3 + static_cast<double>(t.tv_nsec) * 1e-6;
}

/* Random numbers; of a mask 0, and -inf for the keys after each query. */
void fill(ggml_tensor *t, bool mask, uint32_t &seed) {
  std::vector<float> numbers(static_cast<size_t>(ggml_nelements(t)));
  for (size_t i = 0; i < numbers.size(); i++) {
    seed = seed * 1664525u + 1013904223u;
    const auto keys = static_cast<size_t>(t->ne[0]), queries = static_cast<size_t>(t->ne[1]);
    if (mask)
      numbers[i] = i % keys <= keys - queries + i / keys ? 0.0f : -INFINITY;
    else
      numbers[i] = static_cast<float>(seed >> 8) / 16777216.0f - 0.5f;
  }
  std::vector<char> bytes(ggml_nbytes(t));
  ggml_quantize_chunk(t->type, numbers.data(), bytes.data(), 0, ggml_nrows(t), t->ne[0], nullptr);
  ggml_backend_tensor_set(t, bytes.data(), 0, bytes.size());
}

/* The median of a node's times. Heads lie within rows, as in a cache of llama.cpp. */
double measure(ggml_backend_t cpu, const node &n) {
  ggml_context_ptr owner(ggml_init({ggml_tensor_overhead() * 64 + ggml_graph_overhead(), nullptr, true}));
  ggml_context *c = owner.get();
  ggml_cgraph *graph = ggml_new_graph(c);
  ggml_tensor *q = ggml_new_tensor_3d(c, GGML_TYPE_F32, n.dim, heads, n.queries);
  ggml_tensor *mask = ggml_new_tensor_2d(c, GGML_TYPE_F16, n.keys, n.queries);
  std::vector<ggml_tensor *> inputs{q};
  for (int i = 0; i < n.layers; i++) {
    ggml_tensor *k = ggml_new_tensor_3d(c, n.type, n.dim, kv_heads, n.keys);
    ggml_tensor *v = ggml_new_tensor_3d(c, n.type, n.dim, kv_heads, n.keys);
    inputs.insert(inputs.end(), {k, v});
    const auto turned = [c](ggml_tensor *t) { return ggml_permute(c, t, 0, 2, 1, 3); };
    ggml_build_forward_expand(graph, ggml_flash_attn_ext(c, turned(q), turned(k), turned(v), mask,
                                                         1 / sqrtf(static_cast<float>(n.dim)), 0, 0));
  }
  ggml_backend_buffer_ptr buffer(ggml_backend_alloc_ctx_tensors(c, cpu));
  uint32_t seed = 1;
  for (ggml_tensor *t : inputs) fill(t, false, seed);
  fill(mask, true, seed);
  std::vector<double> times;
  for (int r = n.queries > 1 ? 0 : -1; r < n.repeats; r++) { /* -1 warms up */
    const double start = processor_ms();
    ggml_backend_graph_compute(cpu, graph);
    if (r >= 0) times.push_back((processor_ms() - start) / n.layers);
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

} /* namespace */

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  ggml_log_set([](ggml_log_level, const char *, void *) {}, nullptr);
  ggml_backend_load_all();
  ggml_backend_ptr cpu(ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_CPU, nullptr));
  if (!cpu) return 2;
  ggml_backend_reg_t registry = ggml_backend_dev_backend_reg(ggml_backend_get_device(cpu.get()));
  const auto set_threads = reinterpret_cast<ggml_backend_set_n_threads_t>(
      ggml_backend_reg_get_proc_address(registry, "ggml_backend_set_n_threads"));
  set_threads(cpu.get(), 1);
  std::vector<double> stock;
  for (const node &n : nodes) stock.push_back(measure(cpu.get(), n));
  if (ggml_backend_load(argv[1]) == nullptr) return 1;
  for (size_t i = 0; i < stock.size(); i++) {
    const node &n = nodes[i];
    printf("{\"type\": \"%s\", \"dim\": %d, \"queries\": %d, \"keys\": %d, \"stock\": %.4f, \"attend\": %.4f}\n",
           ggml_type_name(n.type), n.dim, n.queries, n.keys, stock[i], measure(cpu.get(), n));
    fflush(stdout);
  }
  return 0;
}
