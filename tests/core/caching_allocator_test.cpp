// The policy of the caching allocator on pretended memory: what is asked of it, what is kept, what runs out.
#include "tttlib/core/caching_allocator.hpp"

#include <cstdint>

#include "catch.hpp"

using namespace ttt;

namespace {

/// Addresses without memory behind them, up to `capacity` bytes.
struct Pretended {
  static constexpr std::size_t alignment = 256, large = 0, page = std::size_t(2) << 20, slack = std::size_t(16) << 20;
  struct Log {
    std::size_t capacity = std::size_t(1) << 40, held = 0;
    int segments = 0, released = 0;
    std::map<void*, std::size_t> sizes;
    std::uintptr_t next = std::uintptr_t(1) << 32;
  };
  Log* log;
  void* block(std::size_t) const { return nullptr; }
  void* segment(std::size_t bytes) const {
    if (log->held + bytes > log->capacity) return nullptr;
    void* at = reinterpret_cast<void*>(log->next);
    log->next += 2 * bytes;
    log->held += bytes;
    log->sizes[at] = bytes;
    ++log->segments;
    return at;
  }
  void release(void* at) const {
    log->held -= log->sizes.at(at);
    log->sizes.erase(at);
    ++log->released;
  }
  const char* name() const { return "cuda:0"; }
  const char* hint() const { return "smaller batches"; }
};
constexpr std::size_t MiB = std::size_t(1) << 20;

}  // namespace

TEST_CASE("pretended memory: small and large blocks share segments, which join again") {
  Pretended::Log log;
  CachingAllocator<Pretended> allocator(Pretended{&log});
  void *a = allocator.allocate(100), *b = allocator.allocate(MiB), *c = allocator.allocate(300);
  CHECK(log.segments == 1);
  CHECK(log.held == 2 * MiB);
  CHECK(reinterpret_cast<std::uintptr_t>(b) - reinterpret_cast<std::uintptr_t>(a) == 256);
  CHECK(reinterpret_cast<std::uintptr_t>(c) - reinterpret_cast<std::uintptr_t>(b) == MiB);
  CHECK(allocator.bytes_in_use() == 256 + MiB + 512);
  CHECK(allocator.bytes_cached() == MiB - 256 - 512);
  for (auto [block, bytes] : {std::pair<void*, std::size_t>{b, MiB}, {a, 100}, {c, 300}}) allocator.deallocate(block, bytes);
  CHECK(allocator.bytes_cached() == 2 * MiB);
  CHECK(allocator.allocate(2 * MiB) == a);  // whole again
  CHECK(log.segments == 1);
}

TEST_CASE("pretended memory: what is kept makes room before memory runs out, and the message counts") {
  Pretended::Log log;
  log.capacity = 10 * MiB;
  CachingAllocator<Pretended> allocator(Pretended{&log});
  void* a = allocator.allocate(6 * MiB);
  allocator.deallocate(a, 6 * MiB);
  CHECK(log.held == 6 * MiB);
  void* b = allocator.allocate(8 * MiB);  // needs the first segment's room
  CHECK(log.released == 1);
  CHECK(log.held == 8 * MiB);
  CHECK_THROWS_WITH(allocator.allocate(4 * MiB),
                    "ttt::cuda:0: out of memory: 4194304 bytes asked for, 8388608 in use, 0 cached. Hint: smaller batches");
  CHECK(allocator.bytes_in_use() == 8 * MiB);
  allocator.deallocate(b, 8 * MiB);
  CHECK(allocator.allocate(4 * MiB) != nullptr);
}

TEST_CASE("pretended memory: a limit holds, and lowering it gives back what is kept") {
  Pretended::Log log;
  CachingAllocator<Pretended> allocator(Pretended{&log});
  void* a = allocator.allocate(12 * MiB);
  allocator.deallocate(a, 12 * MiB);
  CHECK(log.held == 12 * MiB);
  allocator.set_limit(4 * MiB);
  CHECK(log.held == 0);
  CHECK(allocator.limit() == 4 * MiB);
  void* b = allocator.allocate(3 * MiB);
  CHECK(log.held == 4 * MiB);
  CHECK_THROWS_WITH(allocator.allocate(2 * MiB),
                    "ttt::cuda:0: out of memory: 2097152 bytes asked for, 3145728 in use, 1048576 cached, limit 4194304. Hint: smaller batches");
  CHECK_THROWS_AS(allocator.allocate(std::size_t(-1)), Error);
  allocator.deallocate(b, 3 * MiB);
}
