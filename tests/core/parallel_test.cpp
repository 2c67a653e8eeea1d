#include "tttlib/core/parallel.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>

#include "catch.hpp"

using namespace ttt;

namespace {
/// The chunks of one loop, sorted.
std::vector<std::pair<std::int64_t, std::int64_t>> chunks(std::int64_t n, std::int64_t grain) {
  std::mutex mutex;
  std::vector<std::pair<std::int64_t, std::int64_t>> found;
  parallel_for(n, grain, [&](std::int64_t begin, std::int64_t end) {
    std::lock_guard lock(mutex);
    found.emplace_back(begin, end);
  });
  std::sort(found.begin(), found.end());
  return found;
}

struct Threads {
  int before = num_threads();
  explicit Threads(int n) { set_num_threads(n); }
  ~Threads() { set_num_threads(before); }
};
}  // namespace

TEST_CASE("parallel_for cuts by size alone") {
  using List = std::vector<std::pair<std::int64_t, std::int64_t>>;
  for (int n : {1, 2, 4}) {
    const Threads threads(n);
    CHECK(chunks(10, 4) == List{{0, 4}, {4, 8}, {8, 10}});
    CHECK(chunks(4, 4) == List{{0, 4}});
    CHECK(chunks(3, 100) == List{{0, 3}});
    CHECK(chunks(3, 0) == List{{0, 1}, {1, 2}, {2, 3}});
    CHECK(chunks(0, 4).empty());
    CHECK(chunks(-1, 4).empty());
  }
}

TEST_CASE("no more threads work than there are chunks, and numbers of threads are sensible") {
  const Threads threads(50);
  std::mutex mutex;
  std::set<std::thread::id> workers;
  for (int round = 0; round < 100; ++round)
    parallel_for(3, 1, [&](std::int64_t, std::int64_t) {
      std::lock_guard lock(mutex);
      workers.insert(std::this_thread::get_id());
    });
  CHECK(workers.size() <= 3);
  CHECK_THROWS_WITH(set_num_threads(1000000), "ttt::set_num_threads: at most 1024 threads are possible: 1000000");
  CHECK(num_threads() == 50);
}

TEST_CASE("TTTLIB_NUM_THREADS is a number, or a warning says so") {
  std::vector<std::string> warnings;
  const auto before = std::exchange(warning_handler(), [&](const std::string& message) { warnings.push_back(message); });
  CHECK(detail::threads_of(nullptr, 3) == 3);
  CHECK(detail::threads_of("", 3) == 3);
  CHECK(detail::threads_of("8", 3) == 8);
  CHECK(warnings.empty());
  for (const char* text : {"abc", "4x", "0", "-2", "1000000", "99999999999999999999"}) CHECK(detail::threads_of(text, 3) == 3);
  CHECK(warnings.size() == 6);
  CHECK(warnings[0] == "TTTLIB_NUM_THREADS must be a number from 1 to 1024, it is \"abc\": using 3");
  warning_handler() = before;
}

TEST_CASE("a container's share of processors") {
  const auto share = [](const char* folder, const std::vector<std::pair<const char*, const char*>>& files) {
    const auto root = std::filesystem::temp_directory_path() / folder;
    std::filesystem::create_directories(root / "cpu");
    for (const auto& [name, text] : files) std::ofstream(root / name) << text;
    const int found = detail::cgroup_processors(root.string());
    std::filesystem::remove_all(root);
    return found;
  };
  const std::string name = "tttlib_cgroup_" + std::to_string(std::hash<std::thread::id>()(std::this_thread::get_id()));
  CHECK(share(name.c_str(), {}) == 0);
  CHECK(share(name.c_str(), {{"cpu.max", "max 100000\n"}}) == 0);
  CHECK(share(name.c_str(), {{"cpu.max", "200000 100000\n"}}) == 2);
  CHECK(share(name.c_str(), {{"cpu.max", "150000 100000\n"}}) == 2);
  CHECK(share(name.c_str(), {{"cpu.max", "5000 100000\n"}}) == 1);
  CHECK(share(name.c_str(), {{"cpu/cpu.cfs_quota_us", "-1\n"}, {"cpu/cpu.cfs_period_us", "100000\n"}}) == 0);
  CHECK(share(name.c_str(), {{"cpu/cpu.cfs_quota_us", "300000\n"}, {"cpu/cpu.cfs_period_us", "100000\n"}}) == 3);
  CHECK(detail::available_processors() >= 1);
}

TEST_CASE("parallel_for visits every element once") {
  const Threads threads(4);
  std::vector<int> visits(100003);
  for (int round = 0; round < 20; ++round)
    parallel_for(100003, 1000, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) ++visits[static_cast<std::size_t>(i)];
    });
  CHECK(std::all_of(visits.begin(), visits.end(), [](int v) { return v == 20; }));
}

TEST_CASE("an exception reaches the caller, and the pool works on") {
  for (int n : {1, 3}) {
    const Threads threads(n);
    const auto broken = [](std::int64_t begin, std::int64_t) {
      if (begin == 50) throw std::runtime_error("chunk 50");
    };
    CHECK_THROWS_WITH(parallel_for(100, 10, broken), "chunk 50");
    CHECK(chunks(100, 10).size() == 10);
  }
}

TEST_CASE("a loop inside a loop runs on its caller") {
  const Threads threads(3);
  std::atomic<std::int64_t> sum{0};
  std::atomic<int> strayed{0};
  parallel_for(8, 1, [&](std::int64_t, std::int64_t) {
    const std::thread::id caller = std::this_thread::get_id();
    parallel_for(100, 10, [&](std::int64_t begin, std::int64_t end) {
      if (std::this_thread::get_id() != caller) ++strayed;
      for (std::int64_t i = begin; i < end; ++i) sum += i;
    });
  });
  CHECK(strayed == 0);
  CHECK(sum == 8 * 4950);
}

TEST_CASE("loops may be started from several threads at once") {
  const Threads threads(3);
  std::vector<std::int64_t> sums(4);
  std::vector<std::thread> callers;
  for (std::size_t t = 0; t < sums.size(); ++t)
    callers.emplace_back([&sums, t] {
      for (int round = 0; round < 200; ++round) {
        std::atomic<std::int64_t> sum{0};
        parallel_for(1000, 50, [&](std::int64_t begin, std::int64_t end) { sum += end - begin; });
        sums[t] += sum;
      }
    });
  for (std::thread& caller : callers) caller.join();
  CHECK(sums == std::vector<std::int64_t>(4, 200000));
}

TEST_CASE("the number of threads is at least one") {
  const Threads threads(-5);
  CHECK(num_threads() == 1);
}
