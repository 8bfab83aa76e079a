/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu_extension.h"

#include <cstring>
#include <new>

#include "computation.h"
#include "ggml-backend-impl.h"
#include "node.h"
#include "traits.h"

namespace attend_ggml {
namespace {

class flash_attention : public ggml::cpu::tensor_traits {
public:
  barrier_function barrier = nullptr;

  /* That of ggml's own code stands: it may have to compute the node after all. */
  bool work_size(int, const ggml_tensor *, size_t &) override { return false; }

  /*
   * On each thread of a team. The first prepares, and hands its computation to the others in the work buffer, which for
   * this operation is never empty. false, on all threads or on none, leaves the node to ggml's own code.
   */
  bool compute_forward(ggml_compute_params *params, ggml_tensor *node) override {
    if (params->use_ref || params->wdata == nullptr || params->wsize < sizeof(computation *)) return false;
    if (params->ith == 0) {
      computation *c = prepared(node, params->nth);
      memcpy(params->wdata, &c, sizeof c);
    }
    barrier(params->threadpool);
    computation *c;
    memcpy(&c, params->wdata, sizeof c);
    if (c == nullptr) {
      barrier(params->threadpool); /* ggml's own code writes into the work buffer at once */
      return false;
    }
    if (c->converts()) {
      c->convert(params->ith, params->nth);
      barrier(params->threadpool);
    }
    if (params->ith < c->parts()) c->attend(params->ith);
    if (c->leave()) release_computation(c);
    return true;
  }

private:
  static computation *prepared(const ggml_tensor *node, int threads) {
    computation *c = acquire_computation();
    if (c == nullptr) return nullptr;
    if (!c->prepare(node, threads)) {
      release_computation(c);
      return nullptr;
    }
    c->inside.store(threads, std::memory_order_relaxed); /* the barrier publishes it */
    return c;
  }
};

class extension : public ggml::cpu::extra_buffer_type {
public:
  flash_attention traits;

  /* Asked where a tensor lies in a buffer of this type: none ever does. */
  bool supports_op(ggml_backend_dev_t, const ggml_tensor *) override { return false; }

  ggml::cpu::tensor_traits *get_tensor_traits(const ggml_tensor *node) override {
    return can_compute(node) ? &traits : nullptr;
  }
};

const char *buffer_type_name(ggml_backend_buffer_type_t) { return "ATTEND"; }

ggml_backend_buffer_t allocate_no_buffer(ggml_backend_buffer_type_t, size_t) { return nullptr; }

size_t alignment(ggml_backend_buffer_type_t) { return ATTEND_WORKSPACE_ALIGNMENT; }

} /* namespace */

ggml_backend_buffer_type_t cpu_extension(ggml_backend_dev_t cpu, barrier_function barrier) {
  auto *const ours = new (std::nothrow) extension; /* never destroyed: a host may compute until its very end */
  if (ours == nullptr) return nullptr;
  ours->traits.barrier = barrier;
  static ggml_backend_buffer_type buffer_type{};
  buffer_type.iface.get_name = buffer_type_name;
  buffer_type.iface.alloc_buffer = allocate_no_buffer;
  buffer_type.iface.get_alignment = alignment;
  buffer_type.device = cpu;
  buffer_type.context = static_cast<ggml::cpu::extra_buffer_type *>(ours);
  return &buffer_type;
}

} /* namespace attend_ggml */
