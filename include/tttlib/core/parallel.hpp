#pragma once
/// A small thread pool: lazy, asleep when idle. Work is cut into chunks of the caller's size. The tiles of a product may be cut by the
/// number of threads; what each element sums, and in which order, never is, so results do not depend on it.

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace ttt {

namespace detail {

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

  /// Runs chunks 0 … n−1 on the caller and the workers; nested or concurrent calls run on their caller alone.
  void run(std::int64_t chunks, void (*fn)(const void*, std::int64_t), const void* context) {
    const int helpers = threads() - 1;
    if (helpers < 1 || chunks < 2 || inside() || busy_.test_and_set(std::memory_order_acquire)) {
      for (std::int64_t i = 0; i < chunks; ++i) fn(context, i);
      return;
    }
    grow(helpers);
    ParallelJob job(chunks, helpers + 1, fn, context);
    {
      std::lock_guard lock(mutex_);
      job_ = &job;
      allowed_ = helpers;
      generation_.fetch_add(1, std::memory_order_release);
    }
    if (sleeping_.load() > 0) wake_.notify_all();
    inside() = true;
    job.work(0);
    inside() = false;
    {
      std::lock_guard lock(mutex_);  // no worker can enter the job any more
      job_ = nullptr;
    }
    while (job.workers_inside.load(std::memory_order_acquire) > 0) cpu_relax();
    busy_.clear(std::memory_order_release);
    if (job.error()) std::rethrow_exception(job.error());
  }

 private:
  ThreadPool() {
    int n = static_cast<int>(std::thread::hardware_concurrency());
    if (const char* text = std::getenv("TTTLIB_NUM_THREADS")) n = std::atoi(text);
    set_threads(n);
  }

  static bool& inside() {
    thread_local bool value = false;
    return value;
  }

  void grow(int helpers) {
    while (started_ < helpers) {
      try {
        std::thread([this, number = started_] { worker(number); }).detach();
      } catch (const std::system_error&) {
        return;  // the system gives no more threads: fewer helpers, same result
      }
      ++started_;
    }
  }

  void worker(int number) {
    inside() = true;
    std::uint64_t seen = 0;
    for (;;) {
      // A short spin before sleeping: loops usually follow each other within microseconds.
      for (int spin = 0; spin < 4000 && generation_.load(std::memory_order_acquire) == seen; ++spin) cpu_relax();
      ParallelJob* job = nullptr;
      {
        std::unique_lock lock(mutex_);
        ++sleeping_;
        wake_.wait(lock, [&] { return generation_.load() != seen; });
        --sleeping_;
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

  std::atomic<int> threads_{1};
  int started_ = 0;
  std::atomic_flag busy_ = ATOMIC_FLAG_INIT;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<std::uint64_t> generation_{0};
  std::atomic<int> sleeping_{0};
  ParallelJob* job_ = nullptr;
  int allowed_ = 0;
};

}  // namespace detail

/// Threads used by kernels: TTTLIB_NUM_THREADS, or all cores.
inline int num_threads() { return detail::ThreadPool::instance().threads(); }
inline void set_num_threads(int n) { detail::ThreadPool::instance().set_threads(n); }

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
