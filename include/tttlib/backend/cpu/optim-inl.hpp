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
  // By value: through references, numbers could be what the loop writes, and it would not become vector code.
  parallel_for(parameter.numel(), elementwise_grain,
               [p = parameter.data, g = grad.data, m = mean.data, v = variance.data, beta1 = static_cast<T>(numbers.beta1),
                beta2 = static_cast<T>(numbers.beta2), decay = static_cast<T>(1 - numbers.lr * numbers.weight_decay),
                scale = static_cast<T>(numbers.grad_scale), rate = static_cast<T>(numbers.lr / (1 - std::pow(numbers.beta1, k))),
                correction = static_cast<T>(std::sqrt(1 - std::pow(numbers.beta2, k))),
                eps = static_cast<T>(numbers.eps)](std::int64_t begin, std::int64_t end) {
                 TTT_INDEPENDENT
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
