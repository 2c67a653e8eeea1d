#pragma once
/// A small thread pool: lazy, asleep when idle. Work is cut into chunks of the caller's size. The tiles of a product may be cut by the
/// number of threads; what each element sums, and in which order, never is, so results do not depend on it.

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>
#if defined(__linux__)
#include <sched.h>
#endif

#include "tttlib/core/error.hpp"

namespace ttt {

namespace detail {

/// As many processors as a cgroup gives time for, rounded up; 0 if it sets no limit. `root` is where version 2 or 1 is mounted.
inline int cgroup_processors(const std::string& root = "/sys/fs/cgroup") {
  long long quota = 0, period = 0;  // microseconds
  const auto read = [&](const char* name, const char* format, auto... to) {
    std::FILE* file = std::fopen((root + name).c_str(), "r");
    if (!file) return false;
    const int found = std::fscanf(file, format, to...);  // "max" and -1 mean no limit
    std::fclose(file);
    return found == static_cast<int>(sizeof...(to));
  };
  const bool limited = read("/cpu.max", "%lld %lld", &quota, &period) ||
                       (read("/cpu/cpu.cfs_quota_us", "%lld", &quota) && read("/cpu/cpu.cfs_period_us", "%lld", &period));
  return limited && quota > 0 && period > 0 && quota / period < 1'000'000 ? static_cast<int>((quota + period - 1) / period) : 0;
}

/// Processors that this process may use: those it is bound to, and no more than its container's share of time.
inline int available_processors() {
  int n = static_cast<int>(std::thread::hardware_concurrency());
#if defined(__linux__)
  cpu_set_t bound;
  if (sched_getaffinity(0, sizeof bound, &bound) == 0) n = CPU_COUNT(&bound);
#endif
  if (const int share = cgroup_processors(); share > 0 && share < n) n = share;
  return n < 1 ? 1 : n;
}

inline constexpr int most_threads = 1024;

/// What the text of TTTLIB_NUM_THREADS asks for; `otherwise` without one, and with a warning if it is no such number.
inline int threads_of(const char* text, int otherwise) {
  if (!text || !*text) return otherwise;
  char* end = nullptr;
  const long n = std::strtol(text, &end, 10);
  if (*end == '\0' && n >= 1 && n <= most_threads) return static_cast<int>(n);
  warn(concat("TTTLIB_NUM_THREADS must be a number from 1 to ", most_threads, ", it is \"", text, "\": using ", otherwise));
  return otherwise;
}

/// One loop being worked on. Every participant has a share of neighbouring chunks, the same share in every loop as long as
/// that is possible, so that what one loop left in a core's cache is there for the next; then it helps with the others'.
class ParallelJob {
 public:
  ParallelJob(std::int64_t chunks, int participants, void (*run)(const void*, std::int64_t), const void* context)
      : run_(run), context_(context), shares_used_(participants < most_shares ? participants : most_shares) {
    for (int i = 0; i < shares_used_; ++i) {
      shares_[i].next.store(chunks * i / shares_used_, std::memory_order_relaxed);
      shares_[i].end = chunks * (i + 1) / shares_used_;
    }
  }
  void work(int participant) {
    for (int i = 0; i < shares_used_; ++i) {
      Share& share = shares_[(participant + i) % shares_used_];
      for (std::int64_t chunk; (chunk = share.next.fetch_add(1, std::memory_order_relaxed)) < share.end;) {
        try {
          run_(context_, chunk);
        } catch (...) {
          std::lock_guard lock(error_mutex_);
          if (!error_) error_ = std::current_exception();
        }
      }
    }
  }
  const std::exception_ptr& error() const { return error_; }
  std::atomic<int> workers_inside{0};

 private:
  static constexpr int most_shares = 32;
  struct alignas(64) Share {  // a cache line each
    std::atomic<std::int64_t> next{0};
    std::int64_t end = 0;
  };
  void (*run_)(const void* context, std::int64_t chunk);
  const void* context_;
  int shares_used_;
  Share shares_[most_shares];
  std::exception_ptr error_;
  std::mutex error_mutex_;
};

inline void cpu_relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

class ThreadPool {
 public:
  static ThreadPool& instance() {
    static ThreadPool* pool = new ThreadPool;  // never destroyed: sleeping threads die with the process
    return *pool;
  }

  int threads() const { return threads_.load(std::memory_order_relaxed); }
  void set_threads(int n) { threads_ = n < 1 ? 1 : n; }

  /// Runs chunks 0 … n−1 on the caller and no more workers than there are chunks for; nested or concurrent calls run on their
  /// caller alone.
  void run(std::int64_t chunks, void (*fn)(const void*, std::int64_t), const void* context) {
    int helpers = (chunks < threads() ? static_cast<int>(chunks) : threads()) - 1;
    if (helpers < 1 || inside() || busy_.test_and_set(std::memory_order_acquire)) {
      for (std::int64_t i = 0; i < chunks; ++i) fn(context, i);
      return;
    }
    helpers = grow(helpers);
    ParallelJob job(chunks, helpers + 1, fn, context);
    {
      std::lock_guard lock(mutex_);
      job_ = &job;
      allowed_ = helpers;
      generation_.fetch_add(1, std::memory_order_release);
    }
    for (int i = 0; i < helpers; ++i) {
      Worker& worker = *workers_[static_cast<std::size_t>(i)];
      if (worker.asleep.load()) worker.wake.notify_one();
    }
    inside() = true;
    job.work(0);
    inside() = false;
    {
      std::lock_guard lock(mutex_);  // no worker can enter the job any more
      job_ = nullptr;
    }
    while (job.workers_inside.load(std::memory_order_acquire) > 0) {
      if (helpers < processors_) cpu_relax();
      else std::this_thread::yield();  // to those who are inside and have no processor
    }
    busy_.clear(std::memory_order_release);
    if (job.error()) std::rethrow_exception(job.error());
  }

 private:
  struct Worker {
    std::condition_variable wake;
    std::atomic<bool> asleep{false};
  };

  ThreadPool() { set_threads(threads_of(std::getenv("TTTLIB_NUM_THREADS"), processors_ < most_threads ? processors_ : most_threads)); }

  static bool& inside() {
    thread_local bool value = false;
    return value;
  }

  /// How many of so many helpers there are.
  int grow(int helpers) {
    while (static_cast<int>(workers_.size()) < helpers) {
      const std::size_t before = workers_.size();
      try {
        workers_.push_back(std::make_unique<Worker>());
        std::thread([this, number = static_cast<int>(workers_.size()) - 1, self = workers_.back().get()] { work(number, *self); }).detach();
      } catch (const std::exception&) {  // no more threads, or no memory for one: fewer helpers, same result
        workers_.resize(before);
        break;
      }
    }
    return helpers < static_cast<int>(workers_.size()) ? helpers : static_cast<int>(workers_.size());
  }

  void work(int number, Worker& self) {
    inside() = true;
    std::uint64_t seen = 0;
    // A short spin before sleeping: loops usually follow each other within microseconds. Not on a processor that others need.
    const int spins = number + 1 < processors_ ? 4000 : 0;
    for (;;) {
      for (int spin = 0; spin < spins && generation_.load(std::memory_order_acquire) == seen; ++spin) cpu_relax();
      ParallelJob* job = nullptr;
      {
        std::unique_lock lock(mutex_);
        self.asleep = true;
        self.wake.wait(lock, [&] { return generation_.load() != seen; });
        self.asleep = false;
        seen = generation_.load();
        if (job_ && number < allowed_) {
          job = job_;
          job->workers_inside.fetch_add(1, std::memory_order_relaxed);
        }
      }
      if (!job) continue;
      job->work(number + 1);
      job->workers_inside.fetch_sub(1, std::memory_order_release);
    }
  }

  const int processors_ = available_processors();
  std::atomic<int> threads_{1};
  std::vector<std::unique_ptr<Worker>> workers_;
  std::atomic_flag busy_ = ATOMIC_FLAG_INIT;
  std::mutex mutex_;
  std::atomic<std::uint64_t> generation_{0};
  ParallelJob* job_ = nullptr;
  int allowed_ = 0;
};

}  // namespace detail

/// Threads used by kernels: TTTLIB_NUM_THREADS, or as many as the process may use processors (affinity, quota of a container).
inline int num_threads() { return detail::ThreadPool::instance().threads(); }
/// Throws Error for more than 1024.
inline void set_num_threads(int n) {
  if (n > detail::most_threads) fail<Error>("set_num_threads", concat("at most ", detail::most_threads, " threads are possible: ", n));
  detail::ThreadPool::instance().set_threads(n);
}

/// Calls `body(begin, end)` for consecutive chunks of at most `grain` of the range [0, n), on several threads.
/// `body` must not depend on the order of the chunks. Exceptions reach the caller.
template <class Body>
void parallel_for(std::int64_t n, std::int64_t grain, const Body& body) {
  if (n <= 0) return;
  if (grain < 1) grain = 1;
  if (n <= grain) return body(std::int64_t(0), n);
  struct Context {
    const Body& body;
    std::int64_t n, grain;
  } context{body, n, grain};
  detail::ThreadPool::instance().run(
      (n + grain - 1) / grain,
      [](const void* p, std::int64_t chunk) {
        const auto& c = *static_cast<const Context*>(p);
        const std::int64_t begin = chunk * c.grain, end = begin + c.grain;
        c.body(begin, end < c.n ? end : c.n);
      },
      &context);
}

}  // namespace ttt
