#pragma once
/// What the autograd tests share.

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "catch.hpp"
#include "tttlib/autograd/backward.hpp"
#include "tttlib/ops/matmul.hpp"
#include "tttlib/ops/reduce.hpp"

namespace ttt {

/// First line of every test: no node may outlive it.
struct NoLeaks {
  ~NoLeaks() { CHECK(live_nodes() == 0); }
};

inline bool same_bits(const Tensor<double>& a, const Tensor<double>& b) {
  const auto x = a.to_vector(), y = b.to_vector();
  return a.shape() == b.shape() &&
         (x.empty() || std::memcmp(x.data(), y.data(), x.size() * sizeof(double)) == 0);
}

/// Largest difference, relative to the largest element of b (at least 1).
inline double difference(const Tensor<double>& a, const Tensor<double>& b) {
  REQUIRE(a.shape() == b.shape());
  const auto x = a.to_vector(), y = b.to_vector();
  double worst = 0, scale = 1;
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (!(std::fabs(x[i] - y[i]) <= worst)) worst = std::fabs(x[i] - y[i]);
    if (std::fabs(y[i]) > scale) scale = std::fabs(y[i]);
  }
  return worst / scale;
}

inline bool has_values(const Tensor<double>& x, const std::vector<double>& expected) {
  return x.to_vector() == expected;
}

/// A hand-written test-time training step: one gradient step of the inner weights, per image and head.
struct TttExample {
  Shape heads{2, 2};                               // B images, H heads
  Tensor<double> q = randn<double>({2, 2, 5, 3});  // [B, H, N, d]
  Tensor<double> k = randn<double>({2, 2, 5, 3});  // [B, H, N, d]
  Tensor<double> v = randn<double>({2, 2, 5, 3});  // [B, H, N, d]
  Tensor<double> w = randn<double>({2, 3, 3});     // [H, d, d]

  static Tensor<double> output(const Tensor<double>& q, const Tensor<double>& k, const Tensor<double>& v,
                               const Tensor<double>& w0) {
    const Scope scope("inner_step");
    const auto w = expand(w0, {2, 2, 3, 3});  // [B, H, d, d]
    const auto inner = [&](const Tensor<double>& w) { return sum(square(silu(matmul(k, w)) - v)); };
    return matmul(q, w - grad(inner)(w) * 0.1);  // [B, H, N, d]
  }
  static Tensor<double> loss(const Tensors<double>& x) { return sum(square(output(x[0], x[1], x[2], x[3]))); }
  Tensors<double> all() const { return {q, k, v, w}; }
};

}  // namespace ttt
