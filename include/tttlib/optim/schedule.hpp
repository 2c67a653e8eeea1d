#pragma once
/// Learning-rate schedules: plain functions of the step, counted from 0.

#include <cmath>
#include <cstdint>

namespace ttt {

/// Cosine decay with a linear warm-up.
struct CosineSchedule {
  double lr = 1e-3, lr_min = 0, warmup_lr_init = 0;
  std::int64_t total_steps = 1, warmup_steps = 0;
  /// true: the warm-up ramp (i+1)/warmup multiplies the cosine; false: it replaces it, from `warmup_lr_init` to `lr`.
  bool ramp = false;

  /// Rate used in step i: lr_min + ½(lr − lr_min)(1 + cos(π·i/total)), from `total_steps` on lr_min.
  double operator()(std::int64_t i) const {
    constexpr double pi = 3.14159265358979323846;
    const double at = static_cast<double>(i), warmup = static_cast<double>(warmup_steps);
    if (!ramp && i < warmup_steps) return warmup_lr_init + at * (lr - warmup_lr_init) / warmup;
    if (i >= total_steps) return lr_min;
    const double cosine = lr_min + 0.5 * (lr - lr_min) * (1 + std::cos(pi * at / static_cast<double>(total_steps)));
    return ramp && i < warmup_steps ? cosine * (at + 1) / warmup : cosine;
  }
};

}  // namespace ttt
