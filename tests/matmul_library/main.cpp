// Compiled header-only with TTTLIB_MATMUL_EIGEN or TTTLIB_MATMUL_BLAS: matmul, linear and conv2d by that library against
// our own product and plain sums.
#include <cmath>
#include <cstdio>
#include <tttlib/tttlib.hpp>

#if !defined(TTTLIB_MATMUL_EIGEN) && !defined(TTTLIB_MATMUL_BLAS)
#error "this program tests a build with another library's products"
#endif
using namespace ttt;

namespace {

int failures = 0;

template <class T>
void compare(const char* what, const Tensor<T>& got, const Tensor<T>& expected) {
  const double error = static_cast<double>(norm(sub(got, expected)).item() / (norm(expected).item() + T(1)));
  const bool ok = got.shape() == expected.shape() && error < (sizeof(T) == 4 ? 1e-5 : 1e-13);
  std::printf("%s: %s, error %.1e\n", ok ? "ok" : "FAILED", what, error);
  failures += !ok;
}

/// The product as a sum over a broadcast third axis: no matrix product inside.
template <class T>
Tensor<T> product_by_sums(const Tensor<T>& a, const Tensor<T>& b) {
  return sum(mul(unsqueeze(a, -1), unsqueeze(b, -3)), {-2});
}

template <class T>
void check() {
  const auto a = randn<T>({3, 37, 29}), b = randn<T>({3, 29, 41});
  compare<T>("matmul", matmul(a, b), product_by_sums(a, b));
  compare<T>("matmul, left transposed", matmul(transpose(transpose(a).contiguous()), b), product_by_sums(a, b));
  compare<T>("matmul, right transposed", matmul(a, transpose(transpose(b).contiguous())), product_by_sums(a, b));
  compare<T>("matmul, no unit stride", matmul(slice(a, -1, 0, 29, 2), slice(b, -2, 0, 29, 2)),
             product_by_sums(slice(a, -1, 0, 29, 2), slice(b, -2, 0, 29, 2)));
  compare<T>("matmul, repeated column", matmul(expand(slice(a, -1, 0, 1), {3, 37, 29}), b),
             product_by_sums(expand(slice(a, -1, 0, 1), {3, 37, 29}), b));
  compare<T>("matmul, empty sum", matmul(slice(a, -1, 0, 0), slice(b, -2, 0, 0)), zeros<T>({3, 37, 41}));
  const auto x = randn<T>({400, 29}), w = randn<T>({41, 29}), bias = randn<T>({41});
  compare<T>("linear", linear(x, w, bias), add(product_by_sums(x, transpose(w)), bias));
  const auto image = randn<T>({2, 9, 8, 3}), kernel = randn<T>({5, 3, 1, 1});
  compare<T>("conv2d", reshape(conv2d(image, kernel), {144, 5}),
             product_by_sums(reshape(image, {144, 3}), transpose(reshape(kernel, {5, 3}))));
}

}  // namespace

int main() {
  manual_seed(0);
  check<float>();
  check<double>();
  return failures == 0 ? 0 : 1;
}
