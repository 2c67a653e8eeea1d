#pragma once
/// Parameters sorted into groups that are decayed alike, and gradient clipping.

#include "tttlib/backend/adamw.hpp"
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

/// Two groups: parameters with two axes or more are decayed; biases and norms (one axis) are not. Frozen ones are in neither.
template <class T>
std::vector<ParamGroup<T>> param_groups(Module<T>& module, const ParamGroupOptions& options = {}) {
  ParamGroup<T> decayed{{}, options.weight_decay, 1}, plain{{}, 0, 1};
  for (auto& entry : module.named_parameters())
    if (entry.second->is_tracked()) (entry.second->dim() > 1 ? decayed : plain).parameters.emplace_back(entry.first, *entry.second);
  return {decayed, plain};
}

namespace detail {
/// An option that must be a number from 0 on.
inline void require_not_negative(const char* op, const char* name, double value) {
  if (!(value >= 0)) fail<Error>(op, concat(name, " must not be negative: ", value));
}
}  // namespace detail

/// The 2-norm over all gradients, and the factor that clips it: both wait on the gradients' device.
struct GradNorm {
  Tensor<double> norm, scale;  // [], [] = min(1, max_norm/(norm + 1e-6))
};

/// Of the gradients of parameters on one device, in one pass and without waiting for it; `optimizer.step(norm.scale)` clips by it.
/// Throws DeviceError if they are on several, Error for a negative `max_norm`.
template <class T>
GradNorm grad_norm(const Tensors<T>& parameters, double max_norm) {
  detail::require_not_negative("grad_norm", "max_norm", max_norm);
  NoGradGuard guard;
  Tensors<T> grads;
  std::vector<ConstArray<T>> arrays;
  for (const Tensor<T>& p : parameters)
    if (p.grad().defined()) grads.push_back(p.grad().contiguous());
  for (const Tensor<T>& g : grads) {
    require_same_device("grad_norm", grads[0], g);
    arrays.push_back({g.data(), g.numel()});
  }
  Tensor<double> numbers(Shape{2}, grads.empty() ? cpu() : grads[0].device());
  backend::global_norm(arrays, max_norm, numbers.data(), numbers.device());
  return {Tensor<double>(numbers.storage(), 0, Shape{}, Strides{}), Tensor<double>(numbers.storage(), 1, Shape{}, Strides{})};
}

/// Scales all gradients by min(1, max_norm/(norm + 1e-6)), with one norm over all of them, and returns that norm
/// as it was before.
template <class T>
double clip_grad_norm(const Tensors<T>& parameters, double max_norm) {
  NoGradGuard guard;
  const GradNorm found = grad_norm(parameters, max_norm);
  const double norm = found.norm.item(), scale = backend::clipping_factor(norm, max_norm);
  if (scale < 1)  // never in place: two gradients may be one buffer
    for (const Tensor<T>& p : parameters)
      if (p.grad().defined()) p.set_grad(mul(p.grad(), static_cast<T>(scale)));
  return norm;
}
template <class T>
double clip_grad_norm(Module<T>& module, double max_norm) {
  return clip_grad_norm(module.parameters(), max_norm);
}

}  // namespace ttt
