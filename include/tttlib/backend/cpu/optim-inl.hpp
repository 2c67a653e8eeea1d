#pragma once
/// The AdamW update of one parameter in one pass. Bytes: four reads and three writes per element.

#include <cmath>

#include "tttlib/backend/cpu/elementwise-inl.hpp"

namespace ttt::cpu_backend {
inline namespace TTTLIB_KERNELS {

/// p ← p(1 − lr·wd) − lr/(1−β1^k) · m/(√v/√(1−β2^k) + eps) (Loshchilov & Hutter 2019).
template <class T>
void adamw(View<T> parameter, View<const T> grad, View<T> mean, View<T> variance, const AdamWStep& numbers) {
  const double k = static_cast<double>(numbers.step);
  const T beta1 = static_cast<T>(numbers.beta1), beta2 = static_cast<T>(numbers.beta2);
  const T decay = static_cast<T>(1 - numbers.lr * numbers.weight_decay), scale = static_cast<T>(numbers.grad_scale);
  const T rate = static_cast<T>(numbers.lr / (1 - std::pow(numbers.beta1, k)));
  const T correction = static_cast<T>(std::sqrt(1 - std::pow(numbers.beta2, k))), eps = static_cast<T>(numbers.eps);
  parallel_for(parameter.numel(), elementwise_grain, [&](std::int64_t begin, std::int64_t end) {
    T* __restrict p = parameter.data;
    T* __restrict m = mean.data;
    T* __restrict v = variance.data;
    const T* __restrict g = grad.data;
    for (std::int64_t i = begin; i < end; ++i) {
      const T gi = g[i] * scale;
      m[i] = beta1 * m[i] + (T(1) - beta1) * gi;
      v[i] = beta2 * v[i] + (T(1) - beta2) * gi * gi;
      p[i] = p[i] * decay - rate * m[i] / (std::sqrt(v[i]) / correction + eps);
    }
  });
}

}  // namespace TTTLIB_KERNELS
}  // namespace ttt::cpu_backend
