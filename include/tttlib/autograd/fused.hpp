#pragma once
/// Fused ops are twins: a fast kernel and a plain definition in recorded ops. A sweep that is not recorded
/// may use the fast rule; a recorded one differentiates the definition, so every higher order is exact.

#include <utility>

#include "tttlib/autograd/transforms.hpp"
#include "tttlib/backend/precision.hpp"

namespace ttt {

namespace detail {

/// The cotangents that are needed, from the definition.
template <class T, class Definition>
Tensors<T> pull_definition(const Definition& definition, const Call<T>& c, const std::vector<bool>& needs) {
  Tensors<T> inputs, wanted;
  for (std::size_t i = 0; i < needs.size(); ++i) {
    inputs.push_back(grad_mode() ? c.in(i) : c.in(i).detach());
    if (needs[i]) wanted.push_back(inputs[i]);
  }
  const auto of_wanted = [&](const Tensors<T>& leaves) {
    Tensors<T> all = inputs;
    for (std::size_t i = 0, next = 0; i < all.size(); ++i)
      if (needs[i]) all[i] = leaves[next++];
    return definition(all);
  };
  const Tensors<T> found = vjp(of_wanted, wanted, c.g);
  Tensors<T> cotangents(needs.size());
  for (std::size_t i = 0, next = 0; i < needs.size(); ++i)
    if (needs[i]) cotangents[i] = found[next++];
  return cotangents;
}

}  // namespace detail

/// Whether a fused op on xs enters the graph, so that its forward pass should keep what its fast rule reads.
template <class T>
bool is_recorded(const Tensors<T>& xs) {
  const std::vector<Operand> inputs(xs.begin(), xs.end());
  return detail::makes_node(inputs.data(), inputs.size());
}

/// Records `y` (computed fast, from the values of `xs`) as the result of `definition(xs)`.
/// `fast_rule(call, needs)` returns the cotangents of xs. It may read every input, and the output if `y` is
/// `saved`.
template <class T, class Definition, class FastRule>
Tensor<T> fused(const char* op, const Operand& y, const Tensors<T>& xs, Definition definition,
                FastRule fast_rule) {
  std::vector<Operand> inputs;
  for (const Tensor<T>& x : xs) inputs.push_back(saved(x));
  return record_joint<T>(op, y, inputs,
                         with_this_precision([definition = std::move(definition), fast_rule = std::move(fast_rule)](
                                                 const Call<T>& c, const std::vector<bool>& needs) -> Tensors<T> {
                           if (!grad_mode()) return fast_rule(c, needs);
                           return detail::pull_definition(definition, c, needs);
                         }));
}

/// A fast forward whose rule is always its definition.
template <class T, class Definition>
Tensor<T> fused(const char* op, const Operand& y, const Tensors<T>& xs, Definition definition) {
  const auto rule = [definition](const Call<T>& c, const std::vector<bool>& needs) {
    return detail::pull_definition(definition, c, needs);
  };
  return fused<T>(op, y, xs, definition, rule);
}

}  // namespace ttt
