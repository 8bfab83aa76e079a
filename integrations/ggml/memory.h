/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that may be lacking: nothing here throws or aborts, since the host goes on without us. */
#ifndef ATTEND_GGML_MEMORY_H
#define ATTEND_GGML_MEMORY_H

#include <attend/attend.h>
#include <cstddef>
#include <cstdlib>

namespace attend_ggml {

/* `size` bytes at a multiple of ATTEND_WORKSPACE_ALIGNMENT, or nullptr. */
inline void *allocate_aligned(size_t size) {
  const size_t rounded =
      (size + ATTEND_WORKSPACE_ALIGNMENT - 1) / ATTEND_WORKSPACE_ALIGNMENT * ATTEND_WORKSPACE_ALIGNMENT;
  if (rounded < size) return nullptr;
  return aligned_alloc(ATTEND_WORKSPACE_ALIGNMENT, rounded > 0 ? rounded : ATTEND_WORKSPACE_ALIGNMENT);
}

/* Bytes that are kept from run to run, and only grow. What they hold does not outlast ask(). */
class buffer {
public:
  buffer() = default;
  buffer(const buffer &) = delete;
  buffer &operator=(const buffer &) = delete;
  ~buffer() { free(memory_); }

  /* At least `size` bytes, or nullptr. A little more is taken than asked for, since a cache grows by and by. */
  void *ask(size_t size) {
    if (memory_ != nullptr && size <= size_) return memory_;
    free(memory_);
    size_ = size + size / 4;
    memory_ = size_ < size ? nullptr : allocate_aligned(size_);
    if (memory_ == nullptr) size_ = 0;
    return memory_;
  }

private:
  void *memory_ = nullptr;
  size_t size_ = 0;
};

} /* namespace attend_ggml */

#endif
