#pragma once
/// The AdamW update of one number, and the factor that clips gradients, once for every device.

#include <cmath>

#include "tttlib/backend/table.hpp"

namespace ttt::backend {

/// p ← p(1 − lr·wd) − lr/(1−β1^k) · m/(√v/√(1−β2^k) + eps) (Loshchilov & Hutter 2019), with its constants in T.
template <class T>
struct AdamWUpdate {
  T beta1, beta2, decay, scale, rate, correction, eps;
  /// Reads the step's device pointers.
  TTT_HD AdamWUpdate(const AdamWStep& step, double lr_scale, double weight_decay) {
    AdamWRates rates = step.rates;
    if (step.device_rates) rates = {step.device_rates[0], step.device_rates[1], step.device_rates[2]};
    const double lr = rates.lr * lr_scale;
    beta1 = static_cast<T>(step.beta1), beta2 = static_cast<T>(step.beta2), eps = static_cast<T>(step.eps);
    decay = static_cast<T>(1 - lr * weight_decay), scale = step.grad_scale ? static_cast<T>(*step.grad_scale) : T(1);
    rate = static_cast<T>(lr / rates.correction1), correction = static_cast<T>(rates.correction2);
  }
  TTT_HD void operator()(T& p, T grad, T& m, T& v) const {
    const T g = grad * scale;
    m = beta1 * m + (T(1) - beta1) * g;
    v = beta2 * v + (T(1) - beta2) * g * g;
    p = p * decay - rate * m / (std::sqrt(v) / correction + eps);
  }
};

/// What gradients of a norm are multiplied with, so that it is at most `max_norm`. Of a norm that is NaN: NaN.
TTT_HD double clipping_factor(double norm, double max_norm) {
  const double scale = max_norm / (norm + 1e-6);
  return scale > 1 ? 1 : scale;
}

}  // namespace ttt::backend
