// A program as a user would write it: the gradient of a loss through one inner training step.
#include <cmath>
#include <cstdio>
#include <tttlib/tttlib.hpp>

int main() {
  ttt::manual_seed(0);
  const auto q = ttt::randn<double>({5, 3}), k = ttt::randn<double>({5, 3}), v = ttt::randn<double>({5, 3});
  const auto outer = [&](const ttt::Tensor<double>& w0) {
    const auto inner = [&](const ttt::Tensor<double>& w) {
      return ttt::sum(ttt::square(ttt::gelu(ttt::matmul(k, w)) - v));
    };
    return ttt::sum(ttt::square(ttt::matmul(q, w0 - 0.1 * ttt::grad(inner)(w0))));
  };
  const auto w0 = ttt::randn<double>({3, 3});
  const double slope = ttt::sum(ttt::grad(outer)(w0)).item();
  const double h = 1e-6;
  const double difference = (outer(w0 + h).item() - outer(w0 - h).item()) / (2 * h);
  std::printf("gradient through an inner step: %.6f, by differences: %.6f\n", slope, difference);
  return std::abs(slope - difference) < 1e-5 * std::abs(slope) ? 0 : 1;
}
