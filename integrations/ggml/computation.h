/* SPDX-License-Identifier: Apache-2.0 */
/* One node at work on several threads: one thread prepares, all convert if need be, all attend. */
#ifndef ATTEND_GGML_COMPUTATION_H
#define ATTEND_GGML_COMPUTATION_H

#include <atomic>
#include <attend/attend.h>

#include "ggml.h"
#include "memory.h"
#include "plans.h"

namespace attend_ggml {

class computation {
public:
  /* By one thread, for at most `threads`. false: it cannot be done, for lack of memory say, and nothing is written. */
  bool prepare(const ggml_tensor *node, int threads);

  /* Whether all parts of convert() must have returned before the first part attends. */
  bool converts() const { return converted_k_ != nullptr || converted_v_ != nullptr; }
  void convert(int part, int parts) const;

  /* How many parts the work is worth, at least 1; and one of them. */
  int parts() const { return parts_; }
  void attend(int part) const;

  /* Set to the number of threads before they begin; the last to leave gets true. */
  std::atomic<int> inside{0};
  bool leave() { return inside.fetch_sub(1, std::memory_order_acq_rel) == 1; }

private:
  bool describe_kv(const ggml_tensor *node);
  const void *read(const ggml_tensor *x, buffer &scratch, float **converted, attend_dtype &dtype,
                   attend_strides &strides);

  attend_problem problem_{};
  attend_tensors tensors_{};
  shared_plan plan_;
  const ggml_tensor *k_ = nullptr, *v_ = nullptr;
  float *converted_k_ = nullptr, *converted_v_ = nullptr;
  void *workspace_ = nullptr;
  size_t workspace_size_ = 0;
  int parts_ = 1;
  buffer workspace_buffer_, k_buffer_, v_buffer_, slopes_buffer_;
};

/* A computation that nobody else uses, or nullptr where there is no memory for one; and back. */
computation *acquire_computation();
void release_computation(computation *c);

} /* namespace attend_ggml */

#endif
