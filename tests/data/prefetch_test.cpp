#include "tttlib/data/prefetch.hpp"

#include <atomic>
#include <chrono>
#include <stdexcept>

#include "catch.hpp"

using namespace ttt;

TEST_CASE("Prefetcher delivers items in order for any number of workers") {
  for (int workers : {0, 1, 2, 5, 20})
    for (int ahead : {1, 2, 8}) {
      Prefetcher<std::int64_t> items(3, 40, workers, ahead, [](std::int64_t i) {
        if (i % 3 == 0) std::this_thread::sleep_for(std::chrono::microseconds(100));
        return i * i;
      });
      for (std::int64_t i = 3; i < 40; ++i) REQUIRE(items.next() == i * i);
      CHECK_FALSE(items.next().has_value());
      CHECK_FALSE(items.next().has_value());
    }
}

TEST_CASE("Prefetcher with nothing to make ends at once") {
  Prefetcher<int> items(7, 7, 2, 2,
                        [](std::int64_t) -> int { throw std::logic_error("must not be called"); });
  CHECK_FALSE(items.next().has_value());
}

TEST_CASE("Prefetcher works ahead, but not further than it may") {
  std::atomic<int> made{0};
  Prefetcher<int> items(0, 100, 3, 4, [&](std::int64_t i) {
    ++made;
    return static_cast<int>(i);
  });
  const auto wait_for = [&](int count) {
    for (int i = 0; i < 5000 && made < count; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    return made.load();
  };
  CHECK(wait_for(4) == 4);
  items.next();
  CHECK(wait_for(5) == 5);
}

TEST_CASE("an exception of a worker reaches the consumer in its item's place") {
  for (int workers : {0, 1, 3}) {
    Prefetcher<std::int64_t> items(0, 6, workers, 2, [](std::int64_t i) {
      if (i == 2) throw std::runtime_error("item 2 is broken");
      return i;
    });
    CHECK(items.next() == 0);
    CHECK(items.next() == 1);
    CHECK_THROWS_WITH(items.next(), "item 2 is broken");
    CHECK(items.next() == 3);
  }
}

TEST_CASE("a Prefetcher may be dropped at any moment") {
  for (int taken = 0; taken < 5; ++taken)
    for (int workers : {0, 1, 4}) {
      std::atomic<int> running{0};
      {
        Prefetcher<int> items(0, 1000, workers, 3, [&](std::int64_t i) {
          ++running;
          std::this_thread::sleep_for(std::chrono::microseconds(200));
          --running;
          return static_cast<int>(i);
        });
        for (int i = 0; i < taken; ++i) items.next();
      }
      CHECK(running == 0);
    }
}
