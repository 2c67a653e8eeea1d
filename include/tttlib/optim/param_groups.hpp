#pragma once
/// Parameters sorted into groups that are decayed alike, and gradient clipping.

#include <cmath>

#include "tttlib/nn/module.hpp"
#include "tttlib/ops/reduce.hpp"

namespace ttt {

/// Parameters (handles of the module's leaves) with their names and one weight decay.
template <class T>
struct ParamGroup {
  StateDict<T> parameters;
  double weight_decay = 0;
  double lr_scale = 1;  // multiplies the optimiser's rate
};

struct ParamGroupOptions {
  double weight_decay = 0;
};

/// Two groups: parameters with two axes or more are decayed; biases and norms (one axis) are not.
template <class T>
std::vector<ParamGroup<T>> param_groups(Module<T>& module, const ParamGroupOptions& options = {}) {
  ParamGroup<T> decayed{{}, options.weight_decay, 1}, plain{{}, 0, 1};
  for (auto& entry : module.named_parameters())
    (entry.second->dim() > 1 ? decayed : plain).parameters.emplace_back(entry.first, *entry.second);
  return {decayed, plain};
}

/// Scales all gradients by min(1, max_norm/(norm + 1e-6)), with one norm over all of them, and returns that norm
/// as it was before.
template <class T>
double clip_grad_norm(const Tensors<T>& parameters, double max_norm) {
  NoGradGuard guard;
  double squares = 0;
  for (const Tensor<T>& p : parameters)
    if (p.grad().defined()) squares += static_cast<double>(sum(square(p.grad())).item());
  const double norm = std::sqrt(squares), scale = max_norm / (norm + 1e-6);
  if (scale < 1)
    for (const Tensor<T>& p : parameters)
      if (p.grad().defined()) p.set_grad(mul(p.grad(), static_cast<T>(scale)));
  return norm;
}
template <class T>
double clip_grad_norm(Module<T>& module, double max_norm) {
  return clip_grad_norm(module.parameters(), max_norm);
}

}  // namespace ttt
