#pragma once
/// Fused ops are twins: a fast kernel and a plain definition in recorded ops. A sweep that is not recorded may use
/// the fast rule; a recorded one differentiates the definition, so every higher order is exact.

#include <utility>

#include "tttlib/autograd/transforms.hpp"

namespace ttt {

/// Records `y` (computed fast, from the values of `xs`) as the result of `definition(xs)`.
/// `fast_rule(call, needs)` returns the cotangents of xs. It may read every input, and the output if `y` is `saved`.
template <class T, class Definition, class FastRule>
Tensor<T> fused(const char* op, const Operand& y, const Tensors<T>& xs, Definition definition, FastRule fast_rule) {
  std::vector<Operand> inputs;
  for (const Tensor<T>& x : xs) inputs.push_back(saved(x));
  return record_joint<T>(op, y, inputs,
                         [definition = std::move(definition), fast_rule = std::move(fast_rule)](
                             const Call<T>& c, const std::vector<bool>& needs) -> Tensors<T> {
                           if (!grad_mode()) return fast_rule(c, needs);
                           Tensors<T> xs;
                           for (std::size_t i = 0; i < needs.size(); ++i) xs.push_back(c.in(i));
                           return vjp(definition, xs, c.g);
                         });
}

/// A fast forward whose rule is always its definition.
template <class T, class Definition>
Tensor<T> fused(const char* op, const Operand& y, const Tensors<T>& xs, Definition definition) {
  return fused<T>(op, y, xs, definition, [definition](const Call<T>& c, const std::vector<bool>& needs) {
    Tensors<T> inputs;
    for (std::size_t i = 0; i < needs.size(); ++i) inputs.push_back(c.in(i).detach());
    return vjp(definition, inputs, c.g);
  });
}

}  // namespace ttt
