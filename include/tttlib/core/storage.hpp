#pragma once
/// Reference-counted memory on a device.

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "tttlib/core/device.hpp"
#include "tttlib/core/host_allocator.hpp"

namespace ttt {

/// How a non-host device allocates; filled in by its backend.
struct DeviceAllocator {
  void* (*allocate)(std::size_t bytes, int device_index) = nullptr;
  void (*deallocate)(void* block, std::size_t bytes, int device_index) = nullptr;
};
inline DeviceAllocator& cuda_allocator() {
  static DeviceAllocator allocator;
  return allocator;
}

/// How page-locked host memory is allocated, which GPUs copy from without the processor's help; filled in by a backend that
/// can use it.
inline DeviceAllocator& pinned_allocator() {
  static DeviceAllocator allocator;
  return allocator;
}

/// How tensors travel between devices; filled in by the CUDA backend. Either is done when it returns.
struct DeviceCopy {
  void (*copy)(void* to, Device to_device, const void* from, Device from_device, std::size_t bytes) = nullptr;
  /// From the host into memory that no kernel has been asked to use yet, while the device goes on with its kernels.
  void (*upload)(void* to, Device device, const void* from, std::size_t bytes) = nullptr;
};
inline DeviceCopy& device_copy() {
  static DeviceCopy function;
  return function;
}

/// A block of memory shared by every view of it. `version` counts in-place changes.
class Storage {
 public:
  /// `pinned`: page-locked host memory, where there is a backend that uses it.
  Storage(std::size_t bytes, Device device, bool pinned = false)
      : bytes_(bytes), device_(device), pinned_(pinned && device.is_cpu() && pinned_allocator().allocate) {
    if (pinned_) {
      data_ = pinned_allocator().allocate(bytes, 0);
    } else if (device.is_cpu()) {
      data_ = HostAllocator::instance().allocate(bytes);
    } else if (cuda_allocator().allocate) {
      data_ = cuda_allocator().allocate(bytes, device.index);
    } else {
      fail<DeviceError>("cuda", "this program has no CUDA backend", "link tttlib::cuda, configured with -DTTTLIB_CUDA=ON");
    }
  }
  ~Storage() {
    if (pinned_) pinned_allocator().deallocate(data_, bytes_, 0);
    else if (device_.is_cpu()) HostAllocator::instance().deallocate(data_, bytes_);
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
  bool pinned_;
  std::atomic<std::uint64_t> version_{0};
};

}  // namespace ttt
