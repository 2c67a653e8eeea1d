#pragma once
/// Losses of the inner training step (ViT³ paper, insight 1). Per image and head:
///   predictions V̂ [B, H, n, d], values V [B, H, n, d], weights [B, H, n] or undefined  ->  [B, H]
/// n tokens in the inner batch, d head width; the factor 1/(n√d) makes the step's size independent of both. Weights
/// multiply each token's term (the "dynamic rate"); the divisor stays n√d.

#include <cmath>
#include <concepts>
#include <functional>
#include <string>
#include <typeinfo>
#include <vector>

#include "tttlib/ops/composed/loss.hpp"

namespace ttt {

/// Any function of (prediction, value) or (prediction, value, weights) that returns one number per image and head.
template <class T>
class InnerLoss {
 public:
  using Formula = std::function<Tensor<T>(const Tensor<T>&, const Tensor<T>&, const Tensor<T>&)>;

  /// A loss of your own, or one of `losses`, which know their names.
  template <class F>
    requires(!std::same_as<std::decay_t<F>, InnerLoss>)
  InnerLoss(F f) : InnerLoss(name_of(f), f) {}  // NOLINT: implicit on purpose

  template <class F>
  InnerLoss(std::string name, F f) : name_(std::move(name)), identity_(name_ + " " + typeid(F).name()) {
    if constexpr (requires { f.separable; }) separable_ = f.separable;
    if constexpr (std::invocable<F, const Tensor<T>&, const Tensor<T>&, const Tensor<T>&>) {
      formula_ = f;
    } else {
      formula_ = [f, name = name_](const Tensor<T>& prediction, const Tensor<T>& v, const Tensor<T>& weights) {
        if (weights.defined())
          fail<Error>("InnerLoss", concat("the loss takes no weights per token: ", name),
                      "write it as a function of (prediction, v, weights); weights are [B, H, n] or undefined");
        return f(prediction, v);
      };
    }
  }

  /// predictions and values [B, H, n, d], weights [B, H, n] or undefined -> [B, H].
  Tensor<T> operator()(const Tensor<T>& prediction, const Tensor<T>& v, const Tensor<T>& weights = {}) const {
    return formula_(prediction, v, weights);
  }
  const std::string& name() const { return name_; }
  /// Tells two losses of one name apart, as far as their types differ.
  const std::string& identity() const { return identity_; }
  /// True if the loss is a sum over tokens of weight × term, so that a token's share of the gradient stands alone.
  bool separable() const { return separable_; }

 private:
  template <class F>
  static std::string name_of(const F& f) {
    if constexpr (requires { f.name; }) return f.name;
    else return "of your own";
  }

  std::string name_, identity_;
  bool separable_ = false;
  Formula formula_;
};

namespace losses {

/// 1/(n√d) for a tensor [.., n, d].
template <class T>
Wide<T> token_scale(const Tensor<T>& v) {
  return static_cast<Wide<T>>(1 / (static_cast<double>(v.size(-2)) * std::sqrt(static_cast<double>(v.size(-1)))));
}
/// Σ over tokens and channels, each token's terms times its weight: terms [.., n, d], weights [.., n] -> [..].
template <class T>
Tensor<T> weighted_sum(const Tensor<T>& terms, const Tensor<T>& weights) {
  return sum(weights.defined() ? mul(terms, unsqueeze(weights, -1)) : terms, {-2, -1});
}

/// A formula with its name; callable with or without weights.
template <class F>
struct Named {
  const char* name;
  bool separable;
  F formula;

  template <class T>
  Tensor<T> operator()(const Tensor<T>& prediction, const Tensor<T>& v, const Tensor<T>& weights = {}) const {
    return formula(prediction, v, weights);
  }
};
template <class F>
Named(const char*, bool, F) -> Named<F>;

/// −(1/(n√d)) Σ V̂·V
inline constexpr Named dot{"dot", true, []<class T>(const Tensor<T>& p, const Tensor<T>& v, const Tensor<T>& weights) {
  return mul(weighted_sum(mul(p, v), weights), -token_scale(v));
}};
/// (1/(2n√d)) Σ ‖V̂ − V‖²
inline constexpr Named mse{"mse", true, []<class T>(const Tensor<T>& p, const Tensor<T>& v, const Tensor<T>& weights) {
  return mul(weighted_sum(mse_loss(p, v, Reduce::none), weights), token_scale(v) / 2);
}};
/// sqrt((1/(n√d)) Σ ‖V̂ − V‖²), weights inside the root
inline constexpr Named rmse{"rmse", false, []<class T>(const Tensor<T>& p, const Tensor<T>& v, const Tensor<T>& weights) {
  return sqrt(mul(weighted_sum(mse_loss(p, v, Reduce::none), weights), token_scale(v)));
}};
/// (1/(n√d)) Σ |V̂ − V|: its mixed derivative ∂²L/∂V̂∂V is 0, so W_V learns nothing through the inner step
inline constexpr Named mae{"mae", true, []<class T>(const Tensor<T>& p, const Tensor<T>& v, const Tensor<T>& weights) {
  return mul(weighted_sum(l1_loss(p, v, Reduce::none), weights), token_scale(v));
}};
/// (1/(n√d)) Σ ℓ(V̂ − V), ℓ(x) = x²/2 if |x| < 1, else |x| − 1/2
inline constexpr Named smooth_l1{"smooth_l1", true, []<class T>(const Tensor<T>& p, const Tensor<T>& v, const Tensor<T>& weights) {
  return mul(weighted_sum(smooth_l1_loss(p, v, 1, Reduce::none), weights), token_scale(v));
}};

/// −Σ V̂·V, without a factor (LaCT)
inline constexpr Named dot_sum{"dot_sum", true, []<class T>(const Tensor<T>& p, const Tensor<T>& v, const Tensor<T>& weights) {
  return neg(weighted_sum(mul(p, v), weights));
}};
/// ½ Σ ‖V̂ − V‖², without a factor (TTT-Linear, TTT-MLP)
inline constexpr Named l2_sum{"l2_sum", true, []<class T>(const Tensor<T>& p, const Tensor<T>& v, const Tensor<T>& weights) {
  return mul(weighted_sum(mse_loss(p, v, Reduce::none), weights), 0.5);
}};

/// The ViT³ block's loss −(s/n) Σ V̂·V with s = 9^(−1/2) in every branch, as in the reference implementation (docs/derivation.md, section 6).
inline constexpr double block_scale = 1.0 / 3.0;
/// A block's inner step as kernels take it.
inline constexpr TttStep block_step{.rate = 1, .loss_scale = block_scale};
inline constexpr Named block_dot{"block_dot", true, []<class T>(const Tensor<T>& p, const Tensor<T>& v, const Tensor<T>& weights) {
  return mul(weighted_sum(mul(p, v), weights), static_cast<Wide<T>>(-block_step.c(v.size(-2))));
}};

/// Every loss of this file.
template <class T = float>
std::vector<InnerLoss<T>> all() {
  return {dot, mse, rmse, mae, smooth_l1, dot_sum, l2_sum, block_dot};
}
/// The loss of that name. Throws Error for an unknown one, listing those there are.
template <class T = float>
InnerLoss<T> find(const std::string& name) {
  std::string known;
  for (const InnerLoss<T>& loss : all<T>()) {
    if (loss.name() == name) return loss;
    known += (known.empty() ? "" : ", ") + loss.name();
  }
  fail<Error>("losses::find", concat("unknown inner loss \"", name, "\""), "known names: " + known);
}

}  // namespace losses
}  // namespace ttt
