#pragma once
/// The AdamW update of one number, once for every device.

#include <cmath>

#include "tttlib/backend/table.hpp"

namespace ttt::backend {

/// p ← p(1 − lr·wd) − lr/(1−β1^k) · m/(√v/√(1−β2^k) + eps) (Loshchilov & Hutter 2019), with its constants in T.
template <class T>
struct AdamWUpdate {
  T beta1, beta2, decay, scale, rate, correction, eps;
  explicit AdamWUpdate(const AdamWStep& numbers) {
    const double k = static_cast<double>(numbers.step);
    beta1 = static_cast<T>(numbers.beta1), beta2 = static_cast<T>(numbers.beta2);
    decay = static_cast<T>(1 - numbers.lr * numbers.weight_decay), scale = static_cast<T>(numbers.grad_scale);
    rate = static_cast<T>(numbers.lr / (1 - std::pow(numbers.beta1, k)));
    correction = static_cast<T>(std::sqrt(1 - std::pow(numbers.beta2, k))), eps = static_cast<T>(numbers.eps);
  }
  TTT_HD void operator()(T& p, T grad, T& m, T& v) const {
    const T g = grad * scale;
    m = beta1 * m + (T(1) - beta1) * g;
    v = beta2 * v + (T(1) - beta2) * g * g;
    p = p * decay - rate * m / (std::sqrt(v) / correction + eps);
  }
};

}  // namespace ttt::backend
