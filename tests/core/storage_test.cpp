#include "tttlib/core/storage.hpp"

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
