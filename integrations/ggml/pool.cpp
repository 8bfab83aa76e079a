/* SPDX-License-Identifier: Apache-2.0 */
#include "pool.h"

#include <new>
#include <system_error>

namespace attend_ggml {

pool::~pool() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
    generation_.fetch_add(1);
  }
  generation_.notify_all();
  for (std::thread &t : threads_) t.join();
}

/* What a system refuses is done without. */
void pool::start(size_t threads) {
  try {
    while (threads_.size() < threads) threads_.emplace_back(&pool::work, this);
  } catch (const std::system_error &) {
  } catch (const std::bad_alloc &) {
  }
}

/* Takes one index after the other; few, since there is one for each thread. */
void pool::take_all(std::unique_lock<std::mutex> &lock) {
  while (next_ < count_) {
    const int i = next_++;
    const std::function<void(int)> &task = *task_;
    running_++;
    lock.unlock();
    task(i);
    lock.lock();
    if (--running_ == 0) done_.notify_one();
  }
}

void pool::work() {
  unsigned seen = 0;
  for (;;) {
    generation_.wait(seen);
    std::unique_lock<std::mutex> lock(mutex_);
    seen = generation_.load();
    if (stop_) return;
    take_all(lock);
  }
}

void pool::run(int count, const std::function<void(int)> &task) {
  if (count == 1) return task(0);
  start(static_cast<size_t>(count - 1));
  std::unique_lock<std::mutex> lock(mutex_);
  task_ = &task, next_ = 0, count_ = count;
  generation_.fetch_add(1);
  lock.unlock();
  generation_.notify_all();
  lock.lock();
  take_all(lock);
  done_.wait(lock, [this] { return running_ == 0; });
}

} /* namespace attend_ggml */
