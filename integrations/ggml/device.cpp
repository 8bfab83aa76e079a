/* SPDX-License-Identifier: Apache-2.0 */
#include "device.h"

#include <new>

#include "computation.h"
#include "ggml-backend-impl.h"
#include "ggml-impl.h"
#include "node.h"
#include "pool.h"

namespace attend_ggml {
namespace {

/* ------------------------------------------------------------------------------------------------------- backend */

struct state {
  int threads = GGML_DEFAULT_N_THREADS;
  pool workers;
  computation work;
};

const char *name(ggml_backend_t) { return "ATTEND"; }

void destroy(ggml_backend_t backend) {
  delete static_cast<state *>(backend->context);
  delete backend;
}

bool changes_no_data(ggml_op op) {
  return op == GGML_OP_NONE || op == GGML_OP_RESHAPE || op == GGML_OP_VIEW || op == GGML_OP_PERMUTE ||
         op == GGML_OP_TRANSPOSE;
}

bool compute(state &s, const ggml_tensor *node) {
  computation &c = s.work;
  if (!c.prepare(node, s.threads)) return false;
  const int all = s.threads;
  if (c.converts()) s.workers.run(all, [&c, all](int part) { c.convert(part, all); });
  s.workers.run(c.parts(), [&c](int part) { c.attend(part); });
  return true;
}

ggml_status compute_graph(ggml_backend_t backend, ggml_cgraph *graph) {
  state &s = *static_cast<state *>(backend->context);
  for (int i = 0; i < ggml_graph_n_nodes(graph); i++) {
    const ggml_tensor *node = ggml_graph_node(graph, i);
    if ((node->flags & GGML_TENSOR_FLAG_COMPUTE) == 0 || changes_no_data(node->op)) continue;
    if (!can_compute(node)) {
      GGML_LOG_ERROR("attend: node %s is no attention that can be computed here\n", node->name);
      return GGML_STATUS_FAILED;
    }
    if (!compute(s, node)) return GGML_STATUS_ALLOC_FAILED;
  }
  return GGML_STATUS_SUCCESS;
}

ggml_backend_i backend_functions() {
  ggml_backend_i f{}; /* all others are optional */
  f.get_name = name;
  f.free = destroy;
  f.graph_compute = compute_graph;
  return f;
}

ggml_guid_t guid() {
  static ggml_guid g = {0x3e, 0x91, 0x5c, 0x0a, 0xd7, 0x42, 0x4b, 0x68, 0x9f, 0x17, 0xc4, 0x2d, 0x80, 0xe6, 0x51, 0xbb};
  return &g;
}

/* -------------------------------------------------------------------------------------------------------- device */

const char *device_name(ggml_backend_dev_t) { return "ATTEND"; }

const char *device_description(ggml_backend_dev_t) { return "attention by attend"; }

void device_memory(ggml_backend_dev_t, size_t *free, size_t *total) { *free = *total = 0; /* it has none of its own */ }

enum ggml_backend_dev_type device_type(ggml_backend_dev_t) { return GGML_BACKEND_DEVICE_TYPE_ACCEL; }

void device_properties(ggml_backend_dev_t dev, ggml_backend_dev_props *p) {
  p->name = device_name(dev);
  p->description = device_description(dev);
  p->type = device_type(dev);
  device_memory(dev, &p->memory_free, &p->memory_total);
  p->caps.buffer_from_host_ptr = true;
}

ggml_backend_t init_backend(ggml_backend_dev_t dev, const char *) {
  auto *s = new (std::nothrow) state;
  auto *backend = new (std::nothrow) ggml_backend{guid(), backend_functions(), dev, s};
  if (s != nullptr && backend != nullptr) return backend;
  delete s;
  delete backend;
  return nullptr;
}

ggml_backend_buffer_type_t buffer_type(ggml_backend_dev_t) { return ggml_backend_cpu_buffer_type(); }

ggml_backend_buffer_t buffer_from_host(ggml_backend_dev_t, void *memory, size_t size, size_t) {
  return ggml_backend_cpu_buffer_from_ptr(memory, size);
}

bool supports_op(ggml_backend_dev_t, const ggml_tensor *node) { return changes_no_data(node->op) || can_compute(node); }

bool supports_buffer_type(ggml_backend_dev_t, ggml_backend_buffer_type_t type) {
  return ggml_backend_buft_is_host(type);
}

ggml_backend_device_i device_functions() {
  ggml_backend_device_i f{};
  f.get_name = device_name;
  f.get_description = device_description;
  f.get_memory = device_memory;
  f.get_type = device_type;
  f.get_props = device_properties;
  f.init_backend = init_backend;
  f.get_buffer_type = buffer_type;
  f.buffer_from_host_ptr = buffer_from_host;
  f.supports_op = supports_op;
  f.supports_buft = supports_buffer_type;
  return f;
}

} /* namespace */

ggml_backend_dev_t device(ggml_backend_reg_t registry) {
  static ggml_backend_device d{device_functions(), registry, nullptr};
  return &d;
}

void set_threads(ggml_backend_t backend, int threads) {
  static_cast<state *>(backend->context)->threads = threads > 0 ? threads : 1;
}

} /* namespace attend_ggml */
