#pragma once
/// Worker threads that make numbered items ahead of the consumer, who receives them in order.

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace ttt {

/// Calls `make(i)` for i in [first, end) on `workers` threads, at most `ahead` items before the consumer;
/// without workers, on the consumer's own thread. An exception of `make(i)` reaches the consumer in place of
/// item i.
template <class Item>
class Prefetcher {
 public:
  using Make = std::function<Item(std::int64_t)>;

  Prefetcher(std::int64_t first, std::int64_t end, int workers, int ahead, Make make)
      : make_(std::move(make)), next_made_(first), next_taken_(first), end_(end), ahead_(ahead) {
    for (int i = 0; i < workers && i < end - first; ++i) {
      try {
        workers_.emplace_back([this] { work(); });
      } catch (const std::system_error&) {
        break;  // the system has no more threads: fewer workers, or none, do the same
      }
    }
  }
  /// Waits for items in the making and drops them.
  ~Prefetcher() {
    {
      std::lock_guard lock(mutex_);
      stopped_ = true;
    }
    changed_.notify_all();
    for (std::thread& worker : workers_) worker.join();
  }
  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;

  /// The next item, or nothing after the last.
  std::optional<Item> next() {
    if (next_taken_ == end_) return std::nullopt;
    if (workers_.empty()) return make_(next_taken_++);
    Result result;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return ready_.count(next_taken_) != 0; });
      result = std::move(ready_.extract(next_taken_).mapped());
      ++next_taken_;
    }
    changed_.notify_all();
    if (result.error) std::rethrow_exception(result.error);
    return std::move(result.item);
  }

 private:
  struct Result {
    std::optional<Item> item;
    std::exception_ptr error;
  };

  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock,
                    [&] { return stopped_ || next_made_ == end_ || next_made_ < next_taken_ + ahead_; });
      if (stopped_ || next_made_ == end_) return;
      const std::int64_t number = next_made_++;
      lock.unlock();
      Result result;
      try {
        result.item = make_(number);
      } catch (...) {
        result.error = std::current_exception();
      }
      lock.lock();
      ready_.emplace(number, std::move(result));
      changed_.notify_all();
    }
  }

  Make make_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::int64_t, Result> ready_;
  std::int64_t next_made_, next_taken_, end_;
  int ahead_;
  bool stopped_ = false;
  std::vector<std::thread> workers_;
};

}  // namespace ttt
