// Links an object without optimisation and instruction-set flags, one with both, and tttlib::compiled. The
// two have to get the same numbers out of the library. A product called from the plain object may take three
// times as long at most, and has to be far quicker than the plain object's own Eigen: if copies of a kernel
// merged, the slow one could win. Times are medians of runs in turn, so that other work on the machine slows
// all of them.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>

#include "object.hpp"

namespace {

double median(std::vector<double> times) {
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

int check(bool condition, const char* what) {
  std::printf("%s: %s\n", condition ? "ok" : "FAILED", what);
  return condition ? 0 : 1;
}

}  // namespace

int main() {
  const Object plain = plain_object(), native = native_object();
  const std::vector<float> a = plain.results(), b = native.results();
  double worst = a.size() == b.size() ? 0 : HUGE_VAL;
  for (std::size_t i = 0; i < a.size() && i < b.size(); ++i)
    worst = std::max(worst, static_cast<double>(std::abs(a[i] - b[i]) / (1 + std::abs(b[i]))));

  std::vector<double> plain_times, native_times, eigen_times;
  for (int turn = 0; turn < 15; ++turn) {
    plain_times.push_back(plain.matmul_seconds());
    native_times.push_back(native.matmul_seconds());
    eigen_times.push_back(plain.eigen_seconds());
  }
  const double slow = median(plain_times), fast = median(native_times), eigen = median(eigen_times);
  std::printf("largest difference of %zu results: %.1e\n", a.size(), worst);
  std::printf("256^3 product: %.3f ms plain, %.3f ms native, %.3f ms by the plain object's own Eigen\n",
              slow * 1e3, fast * 1e3, eigen * 1e3);
  return check(worst < 1e-6, "same results") +
         check(slow < 3 * fast, "the plain object's products are as quick") +
         check(5 * slow < eigen, "and not the plain object's own copy");
}
