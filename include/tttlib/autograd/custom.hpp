#pragma once
/// Ops of the user's own, with the user's own rule.

#include <utility>

#include "tttlib/autograd/record.hpp"

namespace ttt {

/// An op made of a forward function and its rule: `custom_op<T>(name, forward, vjp)(x0, x1, …)`.
///   forward(xs) -> y            runs unrecorded, may compute in any way
///   vjp(xs, y, g) -> cotangents one per input, g has y's shape; written in recorded ops, so that the op
///                               works to any order. An undefined cotangent means "no rule".
/// `name` must outlive the op (a literal). Throws GradError from the sweep if the rule returns the wrong
/// number, shape or type of cotangents.
///
///     const auto cube = custom_op<double>(
///         "cube",
///         [](const Tensors<double>& x) { return x[0] * x[0] * x[0]; },
///         [](const Tensors<double>& x, const Tensor<double>&, const Tensor<double>& g) {
///           return Tensors<double>{g * x[0] * x[0] * 3.0};
///         });
///     const auto x = tensor<double>({1, 2});
///     print(grad([&](const Tensor<double>& x) { return sum(cube(x)); })(x));   // [ 3. 12.]  float64 [2]
template <class T, class Forward, class Vjp>
auto custom_op(const char* name, Forward forward, Vjp vjp) {
  return [name, forward = std::move(forward), vjp = std::move(vjp)](const auto&... xs) -> Tensor<T> {
    const Tensors<T> inputs{xs...};
    const Tensor<T> y = no_grad([&] { return forward(inputs); }).detach();
    if (!y.defined()) fail<GradError>(name, "the forward function returned an undefined tensor");
    return record_joint<T>(name, saved(y), {saved(xs)...}, [vjp](const Call<T>& c, const std::vector<bool>&) {
      Tensors<T> values;
      for (std::size_t i = 0; i < c.node.inputs.size(); ++i) values.push_back(c.in(i));
      return vjp(values, c.y(), c.g);
    });
  };
}

}  // namespace ttt
