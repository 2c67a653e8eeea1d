#pragma once
/// LayerNorm and BatchNorm over the last axis (channels).

#include "tttlib/nn/module.hpp"
#include "tttlib/ops/composed/norm.hpp"

namespace ttt {

/// (x − mean)/√(var + eps) · weight + bias over the last axis.
template <class T>
class LayerNorm : public Module<T> {
 public:
  Tensor<T> weight, bias;  // [C]
  double eps;

  explicit LayerNorm(std::int64_t channels, double epsilon = 1e-5) : Module<T>("LayerNorm"), eps(epsilon) {
    this->register_parameter("weight", weight, ones<T>({channels}));
    this->register_parameter("bias", bias, zeros<T>({channels}));
  }
  Tensor<T> forward(const Tensor<T>& x) override { return layer_norm(x, weight, bias, eps); }
};

/// Normalises each channel (last axis) over all other axes. Training uses the batch's biased variance and moves the
/// running statistics (running_var takes the unbiased one); eval uses the running statistics.
template <class T>
class BatchNorm : public Module<T> {
 public:
  Tensor<T> weight, bias, running_mean, running_var;  // [C]
  double eps, momentum;

  explicit BatchNorm(std::int64_t channels, double epsilon = 1e-5, double rate = 0.1)
      : Module<T>("BatchNorm"), eps(epsilon), momentum(rate) {
    this->register_parameter("weight", weight, ones<T>({channels}));
    this->register_parameter("bias", bias, zeros<T>({channels}));
    this->register_buffer("running_mean", running_mean, zeros<T>({channels}));
    this->register_buffer("running_var", running_var, ones<T>({channels}));
  }
  Tensor<T> forward(const Tensor<T>& x) override {
    return batch_norm(x, running_mean, running_var, weight, bias,
                      {.training = this->is_training(), .momentum = momentum, .eps = eps});
  }
};

}  // namespace ttt
