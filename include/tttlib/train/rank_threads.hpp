#pragma once
/// The threads of a training on several devices: one for every rank, asleep between calls; rank 0 is the caller's.

#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "tttlib/autograd/anomaly.hpp"
#include "tttlib/backend/communicator.hpp"
#include "tttlib/backend/precision.hpp"
#include "tttlib/core/random.hpp"

namespace ttt {

class RankThreads {
 public:
  /// As many as the communicator, which has to outlive them, has ranks; without one, the caller alone.
  explicit RankThreads(Communicator* communicator = nullptr) : communicator_(communicator) {
    try {
      for (int rank = 1; rank < ranks(); ++rank) threads_.emplace_back([this, rank] { serve(rank); });
    } catch (...) {  // the system gives no more threads
      stop();
      throw;
    }
  }
  ~RankThreads() { stop(); }
  RankThreads(const RankThreads&) = delete;
  RankThreads& operator=(const RankThreads&) = delete;

  int ranks() const { return communicator_ ? communicator_->ranks() : 1; }

  /// Calls f(rank) on all ranks at once and returns when they are done. Numbers are drawn with the caller's seed, by every rank from streams of
  /// its own, at the place where the caller is; precision and anomaly mode are the caller's. Where a rank throws, the others stop
  /// waiting for it, and the caller gets the first exception.
  void run(const std::function<void(int rank)>& f) {
    if (ranks() == 1) return f(0);
    {
      const std::lock_guard lock(mutex_);
      task_ = &f;
      seed_ = default_generator().seed;
      stream_ = default_generator().next_stream;
      precision_ = matmul_precision();
      anomaly_ = anomaly_mode();
      error_ = nullptr;
      busy_ = ranks() - 1;
      ++tasks_;
    }
    changed_.notify_all();
    guarded(f, 0);
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return busy_ == 0; });
    if (error_) std::rethrow_exception(error_);
  }

 private:
  void serve(int rank) {
    const Scope name(concat("rank ", rank));
    Generator numbers;
    const GeneratorGuard own(numbers);
    std::uint64_t done = 0;
    for (;;) {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return tasks_ != done; });
      done = tasks_;
      if (!task_) return;
      const auto& f = *task_;
      numbers.seed = seed_;
      numbers.next_stream = stream_ | static_cast<std::uint64_t>(rank) << 40;  // beyond what any run draws, below the streams of data
      const MatmulPrecisionGuard precision(precision_);
      const AnomalyGuard anomaly(anomaly_);
      lock.unlock();
      guarded(f, rank);
      lock.lock();
      --busy_;
      changed_.notify_all();
    }
  }
  void stop() {
    {
      const std::lock_guard lock(mutex_);
      task_ = nullptr;
      ++tasks_;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }
  void guarded(const std::function<void(int)>& f, int rank) {
    std::string why = "unknown error";
    try {
      return f(rank);
    } catch (const std::exception& e) {
      why = e.what();
      keep_first_error();
    } catch (...) {
      keep_first_error();
    }
    communicator_->give_up(rank, why);
  }
  void keep_first_error() {
    const std::lock_guard lock(mutex_);
    if (!error_) error_ = std::current_exception();
  }

  Communicator* communicator_;
  std::mutex mutex_;
  std::condition_variable changed_;
  const std::function<void(int)>* task_ = nullptr;  // null: the end
  std::uint64_t tasks_ = 0, seed_ = 0, stream_ = 0;
  MatmulPrecision precision_ = MatmulPrecision::float32;
  bool anomaly_ = false;
  int busy_ = 0;
  std::exception_ptr error_;
  std::vector<std::thread> threads_;
};

}  // namespace ttt
