#include "tttlib/core/storage.hpp"

#include <random>
#include <thread>

#include "catch.hpp"
#include "tttlib/core/tensor.hpp"

using namespace ttt;

TEST_CASE("the allocator gives a freed block to the next request of its size") {
  HostAllocator& allocator = HostAllocator::instance();
  void* first = allocator.allocate(100000);
  CHECK(reinterpret_cast<std::uintptr_t>(first) % 64 == 0);
  allocator.deallocate(first, 100000);
  void* second = allocator.allocate(99990);  // rounds to the same size
  CHECK(second == first);
  allocator.deallocate(second, 99990);
}

TEST_CASE("the allocator counts what is in use, and the peak") {
  HostAllocator& allocator = HostAllocator::instance();
  const std::size_t before = allocator.bytes_in_use();
  allocator.reset_peak();
  {
    Storage a(1 << 20, cpu());
    Storage b(1 << 20, cpu());
    CHECK(allocator.bytes_in_use() == before + (2 << 20));
  }
  CHECK(allocator.bytes_in_use() == before);
  CHECK(allocator.peak_bytes() == before + (2 << 20));
}

TEST_CASE("the cache is bounded by the peak of what was in use") {
  HostAllocator& allocator = HostAllocator::instance();
  allocator.release_cached();
  CHECK(allocator.bytes_cached() == 0);
  allocator.reset_peak();
  for (std::size_t size = 1 << 20; size < (64u << 20);
       size += 1 << 20)  // one at a time, all of different sizes
    Storage block(size, cpu());
  CHECK(allocator.bytes_cached() + allocator.bytes_in_use() <= allocator.peak_bytes() + (16 << 20));
  allocator.release_cached();
  CHECK(allocator.bytes_cached() == 0);
}

TEST_CASE("blocks of any sizes, freed in any order, never overlap and leave nothing behind") {
  HostAllocator& allocator = HostAllocator::instance();
  const std::size_t before = allocator.bytes_in_use();
  std::mt19937 random(1);
  struct Block {
    unsigned char* at;
    std::size_t bytes;
    unsigned char mark;
  };
  std::vector<Block> live;
  std::size_t damaged = 0, misplaced = 0;
  const auto drop = [&](std::size_t i) {
    const Block b = live[i];
    for (std::size_t at : {std::size_t(0), b.bytes / 2, b.bytes - 1}) damaged += b.at[at] != b.mark;
    allocator.deallocate(b.at, b.bytes);
    live[i] = live.back();
    live.pop_back();
  };
  for (int i = 0; i < 20000; ++i) {
    if (live.size() < 40 && random() % 2 == 0) {
      const std::size_t most[] = {2000, 70000, 300000, 6000000}, bytes = 1 + random() % most[random() % 4];
      const Block b{static_cast<unsigned char*>(allocator.allocate(bytes)), bytes, static_cast<unsigned char>(random())};
      misplaced += reinterpret_cast<std::uintptr_t>(b.at) % 64 != 0;
      for (std::size_t at : {std::size_t(0), bytes / 2, bytes - 1}) b.at[at] = b.mark;
      live.push_back(b);
    } else if (!live.empty()) {
      drop(random() % live.size());
    }
  }
  while (!live.empty()) drop(0);
  CHECK(damaged == 0);
  CHECK(misplaced == 0);
  CHECK(allocator.bytes_in_use() == before);
}

#if !defined(TTTLIB_ADDRESS_SANITIZER)  // which gets heap blocks only, to watch their borders
TEST_CASE("a large request takes a part of a larger free block, and neighbours join again") {
  HostAllocator& allocator = HostAllocator::instance();
  allocator.release_cached();
  const std::size_t mebi = std::size_t(1) << 20;
  allocator.deallocate(allocator.allocate(12 * mebi), 12 * mebi);
  const std::size_t cached = allocator.bytes_cached();
  REQUIRE(cached >= 12 * mebi);
  void* parts[] = {allocator.allocate(3 * mebi), allocator.allocate(5 * mebi), allocator.allocate(4 * mebi)};
  CHECK(allocator.bytes_cached() == cached - 12 * mebi);
  allocator.deallocate(parts[1], 5 * mebi);
  allocator.deallocate(parts[0], 3 * mebi);
  allocator.deallocate(parts[2], 4 * mebi);
  void* whole = allocator.allocate(12 * mebi);
  CHECK(allocator.bytes_cached() == cached - 12 * mebi);
  allocator.deallocate(whole, 12 * mebi);
}
#endif

TEST_CASE("an empty storage has an address of its own") {
  Storage a(0, cpu()), b(0, cpu());
  CHECK(a.data() != nullptr);
  CHECK(a.data() != b.data());
}

TEST_CASE("storages can be made and dropped on several threads") {
  const std::size_t before = HostAllocator::instance().bytes_in_use();
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([t] {
      for (std::size_t i = 1; i < 300; ++i) {
        Storage s(i * 64, cpu());
        *static_cast<int*>(s.data()) = t;
      }
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(HostAllocator::instance().bytes_in_use() == before);
}

TEST_CASE("what cannot be allocated is one clear line") {
  CHECK_THROWS_WITH(Tensor<float>(Shape{std::int64_t(1) << 61}),
                    "ttt::Tensor: too many elements: shape [2305843009213693952]");
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // their allocators abort instead
  const std::size_t before = HostAllocator::instance().bytes_in_use(),
                    peak = HostAllocator::instance().peak_bytes();
  CHECK_THROWS_WITH(Tensor<float>(Shape{std::int64_t(1) << 60}),
                    ContainsSubstring("ttt::Tensor: out of memory: 4611686018427387904 bytes asked for"));
  CHECK(HostAllocator::instance().bytes_in_use() == before);
  CHECK(HostAllocator::instance().peak_bytes() == peak);
#endif
  CHECK_THROWS_WITH(Tensor<float>(Shape{2, -3}), "ttt::Tensor: negative size: shape [2, -3]");
  CHECK_THROWS_WITH(Tensor<float>(Shape{2}, cuda()),
                    "ttt::cuda: this program has no CUDA backend. Hint: link tttlib::cuda, configured with "
                    "-DTTTLIB_CUDA=ON");
}
