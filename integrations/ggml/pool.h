/* SPDX-License-Identifier: Apache-2.0 */
/* Threads of the device's own, which sleep in the kernel while there is nothing to do. */
#ifndef ATTEND_GGML_POOL_H
#define ATTEND_GGML_POOL_H

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace attend_ggml {

class pool {
public:
  pool() = default;
  pool(const pool &) = delete;
  pool &operator=(const pool &) = delete;
  ~pool();

  /*
   * Calls task(i) once for every i from 0 to count - 1 and returns when all have returned. The caller works, too: where
   * no thread can be started, or after a fork(), it does everything.
   */
  void run(int count, const std::function<void(int)> &task);

private:
  void start(size_t threads);
  void work();
  void take_all(std::unique_lock<std::mutex> &lock);

  std::mutex mutex_;
  std::condition_variable done_;
  std::atomic<unsigned> generation_{0}; /* of what is to be done; threads wait for it to change */
  const std::function<void(int)> *task_ = nullptr;
  int next_ = 0, count_ = 0, running_ = 0;
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

} /* namespace attend_ggml */

#endif
