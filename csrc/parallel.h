// Tasks handed to threads one by one.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

namespace arena {

// f(task, scratch) for each task in [0, tasks), on at most `threads` threads with 64-byte aligned scratch of their own.
// What f throws ends the work and is thrown here.
template <class F>
void parallel_for(std::int64_t tasks, int threads, std::size_t scratch_size, F&& f) {
  threads = static_cast<int>(std::clamp<std::int64_t>(threads, 1, std::max<std::int64_t>(tasks, 1)));
  const std::size_t size = (scratch_size + 63) / 64 * 64;
  const std::unique_ptr<char, decltype(&std::free)> memory(
      static_cast<char*>(std::aligned_alloc(64, std::max<std::size_t>(size * threads, 64))), &std::free);
  if (!memory) throw std::bad_alloc();
  std::atomic<std::int64_t> next{0};
  std::exception_ptr failure;
  std::mutex mutex;
  const auto work = [&](int thread) {
    try {
      for (std::int64_t task; (task = next.fetch_add(1)) < tasks;) f(task, memory.get() + size * thread);
    } catch (...) {
      const std::lock_guard<std::mutex> lock(mutex);
      failure = std::current_exception();
      next = tasks;
    }
  };
  std::vector<std::thread> others;
  others.reserve(threads - 1);
  try {
    for (int thread = 1; thread < threads; ++thread) others.emplace_back(work, thread);
  } catch (const std::exception&) {
    // No more threads to be had: the tasks are still all done, by fewer.
  }
  work(0);
  for (auto& other : others) other.join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace arena
