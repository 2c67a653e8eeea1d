#pragma once
/// What an inner training checks before it starts, so that a mistake is told once and in its own words.

#include <algorithm>
#include <cmath>
#include <utility>

#include "tttlib/ttt/inner_model.hpp"
#include "tttlib/ttt/inner_options.hpp"

namespace ttt {

/// Throws Error for a rate, momentum or weight decay that is not finite, for acts of your own beside chunks or segments, for
/// position rates without a causal chunk; ShapeError for a negative number of epochs.
template <class T>
void require_sound(const InnerOptions<T>& o) {
  const std::pair<const char*, double> numbers[] = {{"rate", o.rate}, {"momentum", o.momentum}, {"weight_decay", o.weight_decay}};
  for (const auto& entry : numbers)
    if (!std::isfinite(entry.second)) fail<Error>("inner_train", concat(entry.first, " is not finite: ", entry.first, " ", entry.second));
  InnerOptions<T> by_chunks = o;
  by_chunks.schedule.acts.clear();
  by_chunks.schedule.reversed = false;
  if (!o.schedule.acts.empty() && !by_chunks.schedule.is_plain())
    fail<Error>("inner_train", concat("acts of your own replace chunks, segments and the order of reading: ", o.schedule.acts.size(), " acts beside ",
                                      by_chunks), "leave those at their defaults");
  bool causal = o.schedule.acts.empty() && o.schedule.read == Schedule::Read::causal;
  for (const InnerAct& act : o.schedule.acts) causal = causal || act.kind == InnerAct::Kind::causal;
  if (o.position_rate.defined() && !causal)
    fail<Error>("inner_train", concat("position rates belong to causal chunks: ", o));
  if (o.epochs < 0) fail<ShapeError>("inner_train", concat("number of epochs must not be negative: epochs ", o.epochs));
}

/// Whether two tensors [B, H, N, ..] are of the same tokens.
template <class T>
bool same_tokens(const Tensor<T>& a, const Tensor<T>& b) {
  return std::equal(a.shape().begin(), a.shape().begin() + 3, b.shape().begin());
}

/// Throws ShapeError unless weights, keys, values and rates fit together.
template <class T>
void require_fit(const InnerModel<T>& model, const Tensors<T>& w0, const Tensor<T>& k, const Tensor<T>& v, const InnerOptions<T>& o) {
  const char* op = "inner_train";
  require_sound(o);
  if (k.dim() != 4 || v.dim() != 4 || !same_tokens(k, v))
    fail<ShapeError>(op, concat("needs k and v [B, H, N, d] with the same B, H, N: k ", k.shape(), ", v ", v.shape()));
  if (w0.size() != model.parameters.size())
    fail<ShapeError>(op, concat("inner model ", model.name, " has ", model.parameters.size(), " weights: w0 holds ", w0.size()));
  for (std::size_t i = 0; i < w0.size(); ++i) {
    Shape expected = model.parameters[i].shape;
    expected.insert(0, k.size(1));
    if (w0[i].shape() != expected)
      fail<ShapeError>(op, concat("weight ", model.parameters[i].name, " of inner model ", model.name, " must be [H, ..] = ", expected,
                                  ": w0 ", w0[i].shape(), ", k ", k.shape()));
  }
  if (o.token_rates.size() > 1 && o.token_rates.size() != w0.size())
    fail<ShapeError>(op, concat("token rates must be one for all weights or one each: ", o.token_rates.size(), " for ", w0.size(), " weights"));
  for (const Tensor<T>& r : o.token_rates)
    if (r.shape() != Shape{k.size(0), k.size(1), k.size(2)})
      fail<ShapeError>(op, concat("token rates must be [B, H, N]: token_rates ", r.shape(), ", k ", k.shape()));
  if (o.head_rate.defined() && o.head_rate.shape() != Shape{k.size(1)} && o.head_rate.shape() != Shape{k.size(0), k.size(1)})
    fail<ShapeError>(op, concat("head rate must be [H] or [B, H]: head_rate ", o.head_rate.shape(), ", k ", k.shape()));
}

}  // namespace ttt
