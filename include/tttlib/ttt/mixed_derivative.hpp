#pragma once
/// Can the values' projection learn through an inner loss? The outer gradient into W_V passes the factor ∂²L/∂V̂∂V
/// (ViT³ paper, insight 1): where it is zero, nothing arrives.

#include <limits>
#include <mutex>
#include <set>

#include "tttlib/autograd/transforms.hpp"
#include "tttlib/ttt/inner_loss.hpp"

namespace ttt {

/// What `mixed_second_derivative` found; entry ij stands for value V_ij.
struct MixedDerivative {
  double dead_share = 0;   // share of the values that get no signal: their column of ∂²L/∂V̂∂V is zero
  double magnitude = 0;    // mean |∂²L/∂V̂ᵢⱼ∂Vᵢⱼ|
  Tensor<double> entries;  // ∂²L/∂V̂ᵢⱼ∂Vᵢⱼ: [B, H, n, d]

  bool vanishes() const { return dead_share == 1; }
};
inline std::ostream& operator<<(std::ostream& out, const MixedDerivative& found) {
  return out << "mixed second derivative: " << 100 * found.dead_share << " % of the values are dead, mean size " << found.magnitude;
}

/// Measures ∂²L/∂V̂∂V at given predictions and values [B, H, n, d]. Exact where the loss acts entry by entry; a loss that
/// joins entries (rmse) mixes a little of their cross terms into `entries`, averaged over `probes` random directions.
template <class T>
MixedDerivative mixed_second_derivative(const InnerLoss<std::type_identity_t<T>>& loss, const Tensor<T>& prediction,
                                        const Tensor<T>& v, int probes = 8) {
  const Tensor<T> at = prediction.detach();
  const auto slope = [&](const Tensor<T>& values) {  // ∂L/∂V̂: [B, H, n, d]
    return grad([&](const Tensor<T>& p) { return sum(loss(p, values)); })(at);
  };
  const GradModeGuard recording(true);
  Tensor<T> first, estimate;  // [B, H, n, d]
  for (int probe = 0; probe < probes; ++probe) {
    Tensor<T> u(v.shape(), v.device());                                                      // [B, H, n, d]
    backend::normal(0x3A7, static_cast<std::uint64_t>(probe), 0, 1, mutable_view(u));        // the default generator is left alone
    u = add(u, mul(sign(u), T(0.5)));                                                        // nowhere near 0
    const Tensor<T> column = vjp(slope, v.detach(), u).detach();                             // [B, H, n, d]  (∂²L/∂V̂∂V)ᵀ u
    if (probe == 0) first = column;
    const Tensor<T> quotient = div(column, u);                                               // [B, H, n, d]
    estimate = probe == 0 ? quotient : add(estimate, quotient);
  }
  // Rounding leaves noise where the derivative is zero (|x| written as √x²): its size is that of the slope over the error.
  const double error = norm(sub(at, v.detach())).item(), steep = norm(slope(v.detach())).item();
  const double noise = error > 0 ? 100 * static_cast<double>(std::numeric_limits<T>::epsilon()) * steep / error : 0;
  MixedDerivative found;
  found.entries = Tensor<double>(v.shape());
  const std::vector<T> columns = first.to_vector(), sums = estimate.to_vector();
  std::int64_t dead = 0;
  for (std::size_t i = 0; i < sums.size(); ++i) {
    const bool is_dead = std::abs(static_cast<double>(columns[i])) <= noise;
    found.entries.data()[i] = is_dead ? 0 : static_cast<double>(sums[i]) / probes;
    dead += is_dead;
    found.magnitude += std::abs(found.entries.data()[i]) / static_cast<double>(sums.size());
  }
  found.dead_share = sums.empty() ? 1 : static_cast<double>(dead) / static_cast<double>(sums.size());
  return found;
}

/// The same on random data: predictions and values are normal numbers [1, 1, 32, 16], always the same ones.
template <class T = double>
MixedDerivative mixed_second_derivative(const InnerLoss<std::type_identity_t<T>>& loss) {
  Tensor<T> prediction(Shape{1, 1, 32, 16}), v(Shape{1, 1, 32, 16});
  backend::normal(0x3A8, 0, 0, 1, mutable_view(prediction));
  backend::normal(0x3A8, 1, 0, 1, mutable_view(v));
  return mixed_second_derivative(loss, prediction, v);
}

/// Warns, once for each loss, that the values' projection gets no gradient through the inner step.
template <class T>
void warn_if_values_cannot_learn(const InnerLoss<T>& loss) {
  static std::mutex guard;
  static std::set<std::string> seen;
  {
    const std::lock_guard<std::mutex> lock(guard);
    if (!seen.insert(loss.identity()).second) return;
  }
  if (!mixed_second_derivative<T>(loss).vanishes()) return;
  warn(concat("inner loss ", loss.name(), ": the mixed second derivative d2L/dV'dV is zero everywhere, so the projection W_V of the "
              "values gets no gradient through the inner step (ViT3 paper, arXiv 2512.01643, insight 1)"));
}

}  // namespace ttt
