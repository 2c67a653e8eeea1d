#pragma once
/// Reference-counted memory on a device, and the caching allocator behind it.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "tttlib/core/device.hpp"
#include "tttlib/core/error.hpp"

namespace ttt {

/// Keeps freed host blocks for the next request of the same size: page faults on fresh activations cost more than
/// the arithmetic on them. Blocks are 64-byte aligned; sizes are rounded up so that near sizes share blocks.
class HostAllocator {
 public:
  static HostAllocator& instance() {
    static HostAllocator* allocator = new HostAllocator;  // never destroyed: storages may outlive static objects
    return *allocator;
  }

  void* allocate(std::size_t bytes) {
    const std::size_t size = rounded(bytes);
    {
      std::lock_guard lock(mutex_);
      if (auto found = free_.find(size); found != free_.end() && !found->second.empty()) {
        void* block = found->second.back();
        found->second.pop_back();
        cached_ -= size;
        use(size);
        return block;
      }
    }
    void* block = std::aligned_alloc(alignment, size);
    if (!block) {
      release_cached();
      block = std::aligned_alloc(alignment, size);
    }
    if (!block) fail<Error>("Tensor", concat("out of memory: ", bytes, " bytes asked for, ", bytes_in_use(), " in use"));
    std::lock_guard lock(mutex_);
    use(size);
    return block;
  }

  void deallocate(void* block, std::size_t bytes) {
    const std::size_t size = rounded(bytes);
    std::lock_guard lock(mutex_);
    in_use_ -= size;
    // The cache never outgrows the largest amount ever in use at once.
    if (cached_ + in_use_ + size > peak_ + slack) return std::free(block);
    free_[size].push_back(block);
    cached_ += size;
  }

  /// Returns every cached block to the system.
  void release_cached() {
    std::lock_guard lock(mutex_);
    for (auto& [size, blocks] : free_)
      for (void* block : blocks) std::free(block);
    free_.clear();
    cached_ = 0;
  }

  /// Bytes held by live storages now, and the most there ever were.
  std::size_t bytes_in_use() const { return std::lock_guard(mutex_), in_use_; }
  std::size_t peak_bytes() const { return std::lock_guard(mutex_), peak_; }
  /// Bytes of freed blocks that wait for their next use.
  std::size_t bytes_cached() const { return std::lock_guard(mutex_), cached_; }
  void reset_peak() {
    std::lock_guard lock(mutex_);
    peak_ = in_use_;
  }

 private:
  static constexpr std::size_t alignment = 64;
  static constexpr std::size_t slack = std::size_t(16) << 20;

  void use(std::size_t size) {
    in_use_ += size;
    if (in_use_ > peak_) peak_ = in_use_;
  }

  /// Rounds up to 64 bytes, and above 1 KiB to an eighth of the next lower power of two.
  static std::size_t rounded(std::size_t bytes) {
    std::size_t step = alignment;
    while (step * 16 < bytes) step *= 2;
    return bytes == 0 ? alignment : (bytes + step - 1) / step * step;
  }

  mutable std::mutex mutex_;
  std::map<std::size_t, std::vector<void*>> free_;
  std::size_t in_use_ = 0, peak_ = 0, cached_ = 0;
};

/// How a non-host device allocates; filled in by its backend.
struct DeviceAllocator {
  void* (*allocate)(std::size_t bytes, int device_index) = nullptr;
  void (*deallocate)(void* block, std::size_t bytes, int device_index) = nullptr;
};
inline DeviceAllocator& cuda_allocator() {
  static DeviceAllocator allocator;
  return allocator;
}

/// A block of memory shared by every view of it. `version` counts in-place changes.
class Storage {
 public:
  Storage(std::size_t bytes, Device device) : bytes_(bytes), device_(device) {
    if (device.is_cpu()) {
      data_ = HostAllocator::instance().allocate(bytes);
    } else if (cuda_allocator().allocate) {
      data_ = cuda_allocator().allocate(bytes, device.index);
    } else {
      fail<DeviceError>("cuda", "this program has no CUDA backend", "link tttlib::cuda, configured with -DTTTLIB_CUDA=ON");
    }
  }
  ~Storage() {
    if (device_.is_cpu()) HostAllocator::instance().deallocate(data_, bytes_);
    else cuda_allocator().deallocate(data_, bytes_, device_.index);
  }
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  void* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }
  Device device() const { return device_; }
  std::uint64_t version() const { return version_.load(std::memory_order_relaxed); }
  void bump_version() { version_.fetch_add(1, std::memory_order_relaxed); }

 private:
  void* data_ = nullptr;
  std::size_t bytes_;
  Device device_;
  std::atomic<std::uint64_t> version_{0};
};

}  // namespace ttt
