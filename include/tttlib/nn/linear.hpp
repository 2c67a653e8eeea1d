#pragma once
/// Linear and Mlp.

#include "tttlib/nn/drop_path.hpp"
#include "tttlib/nn/init.hpp"
#include "tttlib/nn/module.hpp"
#include "tttlib/nn/norm.hpp"
#include "tttlib/ops/composed/mlp.hpp"

namespace ttt {

/// y = x·weightᵀ + bias:   [.., in] -> [.., out].
template <class T>
class Linear : public Module<T> {
 public:
  Tensor<T> weight;  // [out, in]
  Tensor<T> bias;    // [out], undefined without bias

  Linear(std::int64_t in, std::int64_t out, bool with_bias = true) : Module<T>("Linear") {
    this->register_parameter("weight", weight, init::kaiming_uniform<T>({out, in}));
    if (with_bias) this->register_parameter("bias", bias, init::bias_uniform<T>({out, in}, out));
  }
  Tensor<T> forward(const Tensor<T>& x) override { return linear(x, weight, bias); }
};

/// fc2(gelu(fc1(x))):   [.., width] -> [.., width].
template <class T>
class Mlp : public Module<T> {
 public:
  std::shared_ptr<Linear<T>> fc1, fc2;

  Mlp(std::int64_t width, std::int64_t hidden) : Module<T>("Mlp") {
    fc1 = this->register_module("fc1", std::make_shared<Linear<T>>(width, hidden));
    fc2 = this->register_module("fc2", std::make_shared<Linear<T>>(hidden, width));
  }
  Tensor<T> forward(const Tensor<T>& x) override {
    // Layer by layer where there is no kernel, or where somebody wants to hear of each: a summary, or whose operands do not fit.
    if (module_call_log() || !detail::fuses_mlp(x, fc1->weight, fc1->bias, fc2->weight, fc2->bias)) return (*fc2)(gelu((*fc1)(x)));
    return mlp(x, fc1->weight, fc1->bias, fc2->weight, fc2->bias);
  }
  /// x + drop_path(forward(norm(x))), as one op where there is a kernel for that; without the sum where images are dropped.
  Tensor<T> add_to(const Tensor<T>& x, LayerNorm<T>& norm, const DropPath<T>& drop_path) {
    const Affine<T> numbers{norm.weight, norm.bias, norm.eps};
    if (module_call_log() || !fuses_normed_mlp(x, numbers, fc1->weight, fc1->bias, fc2->weight, fc2->bias))
      return drop_path.add_to(x, (*this)(norm(x)));
    const auto mlp = [&](bool residual) {
      const Scope scope = this->named();
      return normed_mlp(x, numbers, fc1->weight, fc1->bias, fc2->weight, fc2->bias, residual);
    };
    return drop_path.is_active() ? drop_path.add_to(x, mlp(false)) : mlp(true);
  }
};

}  // namespace ttt
