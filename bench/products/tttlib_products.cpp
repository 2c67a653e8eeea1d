// Our matrix products against Eigen's on the shapes of ViT³, in GFLOP/s; one line a shape, then the geometric mean of the
// ratios. Eigen runs on one thread (its own threads need OpenMP): compare with --threads 1, the default.
//
//   tttlib_products [--threads N] [--repeat N]

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <vector>

#include "../timing.hpp"
#include "tttlib/backend/backend.hpp"
#include "tttlib/backend/cpu/eigen.hpp"
#include "tttlib/core/parallel.hpp"

namespace {

struct Shape {
  const char* what;
  long m, n, k;
  bool transposed_a, transposed_b;
  int times;  // in a row, so that a small product takes long enough to be timed
};

/// Median seconds of one of `times` calls in a row.
template <class Work>
double seconds_in_a_row(int repeat, int times, const Work& work) {
  return median_seconds(repeat, [&] {
           for (int i = 0; i < times; ++i) work();
         }) / times;
}

using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

double ratio(const Shape& s, int repeat) {
  const RowMajor a = RowMajor::Random(s.transposed_a ? s.k : s.m, s.transposed_a ? s.m : s.k);
  const RowMajor b = RowMajor::Random(s.transposed_b ? s.n : s.k, s.transposed_b ? s.k : s.n);
  RowMajor c(s.m, s.n), expected(s.m, s.n);
  const auto by_eigen = [&] {
    if (s.transposed_a) expected.noalias() = a.transpose() * b;
    else if (s.transposed_b) expected.noalias() = a * b.transpose();
    else expected.noalias() = a * b;
  };
  const auto ours = [&] {
    ttt::cpu_backend::gemm<float>({a.data(), s.m, s.k, s.transposed_a ? 1 : s.k, s.transposed_a ? s.m : 1},
                                  {b.data(), s.k, s.n, s.transposed_b ? 1 : s.n, s.transposed_b ? s.k : 1}, nullptr, 0,
                                  {c.data(), s.m, s.n, s.n, 1});
  };
  by_eigen();
  ours();
  const double error = static_cast<double>((c - expected).norm() / expected.norm());
  const double operations = 2.0 * static_cast<double>(s.m) * static_cast<double>(s.n) * static_cast<double>(s.k);
  const double eigen = operations / seconds_in_a_row(repeat, s.times, by_eigen) / 1e9;
  const double own = operations / seconds_in_a_row(repeat, s.times, ours) / 1e9;
  std::printf("%-44s %5ld x %4ld x %4ld   Eigen %6.1f   ours %6.1f   ratio %.2f   difference %.0e\n", s.what, s.m, s.n, s.k, eigen,
              own, own / eigen, error);
  return own / eigen;
}

}  // namespace

int main(int argc, char** argv) {
  int threads = 1, repeat = 9;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (!std::strcmp(argv[i], "--threads")) threads = std::atoi(argv[i + 1]);
    else if (!std::strcmp(argv[i], "--repeat")) repeat = std::atoi(argv[i + 1]);
  }
  if (threads < 1 || repeat < 1 || argc % 2 == 0) return std::fprintf(stderr, "tttlib_products [--threads N] [--repeat N]\n"), 1;
  ttt::set_num_threads(threads);
  const Shape shapes[] = {
      {"ViT3-T qkv, 8 images", 1568, 672, 192, false, true, 2},
      {"ViT3-T fc1, 8 images", 1568, 768, 192, false, true, 2},
      {"ViT3-T fc2, 8 images", 1568, 192, 768, false, true, 2},
      {"its gradient into the input", 1568, 768, 192, false, false, 2},
      {"its gradient into the weight", 192, 768, 1568, true, false, 2},
      {"ViT3-S fc1, 1 image", 196, 1536, 384, false, true, 3},
      {"inner step: k.w, one head", 196, 64, 64, false, false, 50},
      {"inner step: k^T.p, one head", 64, 64, 196, true, false, 50},
      {"inner step of vit3_nano: k.w", 64, 32, 32, false, false, 300},
      {"inner step of vit3_nano: k^T.p", 32, 32, 64, true, false, 300},
      {"1024 cubed", 1024, 1024, 1024, false, false, 1},
  };
  double logarithms = 0;
  for (const Shape& s : shapes) logarithms += std::log(ratio(s, repeat));
  std::printf("geometric mean of the ratios: %.2f\n", std::exp(logarithms / static_cast<double>(std::size(shapes))));
}
