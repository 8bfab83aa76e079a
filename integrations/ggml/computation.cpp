/* SPDX-License-Identifier: Apache-2.0 */
#include "computation.h"

#include <mutex>
#include <new>
#include <vector>

#include "convert.h"
#include "formats.h"
#include "ggml-impl.h"
#include "node.h"
#include "warn.h"

namespace attend_ggml {

const void *computation::read(const ggml_tensor *x, buffer &scratch, float **converted, attend_dtype &dtype,
                              attend_strides &strides) {
  if (const format *f = native_format(x->type)) {
    const auto unit = static_cast<size_t>(f->stride_unit);
    dtype = f->dtype;
    strides = {static_cast<int64_t>(x->nb[3] / unit), static_cast<int64_t>(x->nb[2] / unit),
               static_cast<int64_t>(x->nb[1] / unit)};
    return x->data;
  }
  const size_t size = converted_bytes(x);
  if (size == 0) return nullptr;
  dtype = ATTEND_F32;
  strides = converted_strides(x);
  *converted = static_cast<float *>(scratch.ask(size));
  return *converted;
}

bool computation::describe_kv(const ggml_tensor *node) {
  k_ = node->src[1], v_ = node->src[2];
  converted_k_ = converted_v_ = nullptr;
  tensors_.k = read(k_, k_buffer_, &converted_k_, problem_.k_dtype, problem_.k_strides);
  if (converted_k_ != nullptr && v_is_within_k(node)) {
    tensors_.v = tensors_.k;
    problem_.v_dtype = problem_.k_dtype;
    problem_.v_strides = problem_.k_strides;
  } else {
    tensors_.v = read(v_, v_buffer_, &converted_v_, problem_.v_dtype, problem_.v_strides);
  }
  return tensors_.k != nullptr && tensors_.v != nullptr;
}

bool computation::prepare(const ggml_tensor *node, int threads) {
  auto *slopes = static_cast<float *>(slopes_buffer_.ask(sizeof(float) * static_cast<size_t>(node->src[0]->ne[2])));
  if (slopes == nullptr) return false;
  describe(node, problem_, tensors_, slopes);
  if (!describe_kv(node)) return false;
  try {
    plan_ = find_plan(problem_, threads);
  } catch (const std::bad_alloc &) {
    plan_.reset();
  }
  if (!plan_) return false;
  workspace_size_ = attend_plan_workspace_size(plan_.get());
  workspace_ = workspace_buffer_.ask(workspace_size_);
  if (workspace_ == nullptr) return false;
  const attend_status status = attend_plan_begin(plan_.get(), &tensors_, workspace_, workspace_size_);
  if (status != ATTEND_OK) {
    warn_once(status);
    return false;
  }
  const int useful = attend_plan_useful_parts(plan_.get(), &tensors_);
  parts_ = useful > 1 ? useful : 1;
  return true;
}

void computation::convert(int part, int parts) const {
  if (converted_k_ != nullptr) attend_ggml::convert(k_, converted_k_, part, parts);
  if (converted_v_ != nullptr) attend_ggml::convert(v_, converted_v_, part, parts);
}

void computation::attend(int part) const {
  const attend_status status = attend_plan_run_part(plan_.get(), &tensors_, workspace_, workspace_size_, part, parts_);
  if (status != ATTEND_OK) GGML_LOG_ERROR("attend: %s: %s\n", attend_status_string(status), attend_error_detail());
}

/* ---------------------------------------------------------------------------------------------------- free ones */

namespace {

/* Never destroyed, as the plans. There are as many as graphs were computed at one time. */
struct pool {
  std::mutex mutex;
  std::vector<computation *> free;
};

pool &the_pool() {
  static pool *const p = new pool;
  return *p;
}

} /* namespace */

computation *acquire_computation() {
  pool &p = the_pool();
  const std::lock_guard<std::mutex> lock(p.mutex);
  if (p.free.empty()) return new (std::nothrow) computation;
  computation *c = p.free.back();
  p.free.pop_back();
  return c;
}

void release_computation(computation *c) {
  pool &p = the_pool();
  const std::lock_guard<std::mutex> lock(p.mutex);
  try {
    p.free.push_back(c);
  } catch (const std::bad_alloc &) {
    delete c;
  }
}

} /* namespace attend_ggml */
