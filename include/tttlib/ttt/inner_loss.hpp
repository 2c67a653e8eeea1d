#pragma once
/// Losses of the inner training step (paper §3.2 and Table 1; facts in docs). Per image and head:
///   predictions [B, H, N, d], values [B, H, N, d]  ->  [B, H]
/// n = N tokens, d = head width; the factor 1/(n√d) makes the step's size independent of both.

#include <cmath>
#include <functional>

#include "tttlib/ops/reduce.hpp"

namespace ttt {

/// Any function of (prediction, value) that returns one number per image and head.
template <class T>
using InnerLoss = std::function<Tensor<T>(const Tensor<T>&, const Tensor<T>&)>;

namespace losses {

/// 1/(n√d) for a tensor [.., n, d].
template <class T>
T token_scale(const Tensor<T>& v) {
  return static_cast<T>(1 / (static_cast<double>(v.size(-2)) * std::sqrt(static_cast<double>(v.size(-1)))));
}

/// −(1/(n√d)) Σ V̂·V
inline constexpr auto dot = []<class T>(const Tensor<T>& prediction, const Tensor<T>& v) {
  return mul(sum(mul(prediction, v), {-2, -1}), -token_scale(v));
};
/// (1/(2n√d)) Σ ‖V̂ − V‖²
inline constexpr auto mse = []<class T>(const Tensor<T>& prediction, const Tensor<T>& v) {
  return mul(sum(square(sub(prediction, v)), {-2, -1}), token_scale(v) / 2);
};

/// The ViT³ block's loss −(s/n) Σ V̂·V with s = 9^(−1/2) in every branch, as in the reference implementation.
inline constexpr double block_scale = 1.0 / 3.0;
inline constexpr auto block_dot = []<class T>(const Tensor<T>& prediction, const Tensor<T>& v) {
  return mul(sum(mul(prediction, v), {-2, -1}), static_cast<T>(-block_scale / static_cast<double>(v.size(-2))));
};

}  // namespace losses
}  // namespace ttt
