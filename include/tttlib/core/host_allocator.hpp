#pragma once
/// The caching allocator of host memory: page faults on fresh activations cost more than the arithmetic on them.

#include <cstddef>
#include <cstdlib>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "tttlib/core/caching_allocator.hpp"

#if defined(__SANITIZE_ADDRESS__)
#define TTTLIB_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TTTLIB_ADDRESS_SANITIZER 1
#endif
#endif

namespace ttt {

/// Memory of the process. Blocks are 64-byte aligned; segments are made of huge pages where the system has them.
struct HostMemory {
  static constexpr std::size_t alignment = 64, page = std::size_t(2) << 20, slack = std::size_t(16) << 20;
#if defined(TTTLIB_ADDRESS_SANITIZER)
  static constexpr std::size_t large = std::size_t(-1);  // a sanitizer watches the borders of heap blocks only
#else
  static constexpr std::size_t large = std::size_t(64) << 10;
#endif
  void* block(std::size_t bytes) const { return std::aligned_alloc(alignment, bytes); }
  void* segment(std::size_t bytes) const {
    void* segment = std::aligned_alloc(page, bytes);
#if defined(__linux__)
    if (segment) madvise(segment, bytes, MADV_HUGEPAGE);  // fewer page faults; a refusal costs nothing
#endif
    return segment;
  }
  void release(void* block) const { std::free(block); }
  const char* name() const { return "Tensor"; }
  const char* hint() const { return ""; }
};

class HostAllocator : public CachingAllocator<HostMemory> {
 public:
  static HostAllocator& instance() {
    static HostAllocator* allocator = new HostAllocator;  // never destroyed: storages may outlive static objects
    return *allocator;
  }
};

}  // namespace ttt
