#pragma once
/// Dropout and DropPath (stochastic depth): active in training only.

#include "tttlib/nn/module.hpp"
#include "tttlib/ops/composed/dropout.hpp"

namespace ttt {

/// Zeroes elements with probability `rate`, scales the rest by 1/(1 − rate).
template <class T>
class Dropout : public Module<T> {
 public:
  double rate;
  explicit Dropout(double r = 0.5) : Module<T>("Dropout"), rate(r) {}
  Tensor<T> forward(const Tensor<T>& x) override { return this->is_training() ? dropout(x, rate) : x; }
};

/// Zeroes whole images (first axis) with probability `rate`, scales the rest by 1/(1 − rate).
template <class T>
class DropPath : public Module<T> {
 public:
  double rate;
  explicit DropPath(double r = 0) : Module<T>("DropPath"), rate(r) {}
  /// Whether it does anything.
  bool is_active() const { return this->is_training() && rate != 0; }
  Tensor<T> forward(const Tensor<T>& x) override { return is_active() ? drop_path(x, rate) : x; }
  /// x + forward(branch), in one pass.
  Tensor<T> add_to(const Tensor<T>& x, const Tensor<T>& branch) const {
    return add_drop_path(x, branch, rate, this->is_training());
  }
};

}  // namespace ttt
