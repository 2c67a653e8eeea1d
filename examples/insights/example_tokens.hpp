#pragma once
/// What the six insight programs share: tokens to look at the mechanism with, and the row that their tables share.
/// Legend: B images, N = side² tokens, H heads, d head width, C = H·d channels.

#include <fmt/format.h>

#include "tttlib/core/print.hpp"
#include "tttlib/ops/ops.hpp"
#include "tttlib/train/study.hpp"

namespace insights {

using namespace ttt;

/// Deviation of inner weights at the start: 1/√(inputs of a unit), as a layer of heads 32 wide would have. With the
/// reference's 0.02 the inner models of a run of minutes hardly answer at all.
constexpr double start_deviation = 0.177;
/// The same for two layers with a hidden width of r·d: smaller, so that the answer starts equally large at every width.
inline double start_deviation_at(double r) { return start_deviation / std::pow(r, 0.25); }

/// The inner training of a row. `mlp_l2` with its defaults is the row that most of the paper's tables share: one full-batch
/// step of rate 1 on the dot loss.
inline TokenMixer<float> mixer(const std::string& model = "mlp_l2", InnerOptions<float> options = {}, InnerLayerOptions layer = {}) {
  layer.deviation = model == "conv3x3" ? start_deviation / 3 : model == "dwconv3x3" ? 1.0 / 3 : start_deviation_at(layer.ratio > 0 ? layer.ratio : 1);
  return mixers::inner_training<float>(model, std::move(options), layer);
}

/// Features like those of images: each channel is a few waves over the grid and a little noise, so that neighbours are alike.
///   -> [B, N, C]
inline Tensor<double> example_features(std::int64_t images, std::int64_t side, std::int64_t channels) {
  const Tensor<double> waves = randn<double>({images, channels, 6}), noise = randn<double>({images, side * side, channels});
  Tensor<double> x(Shape{images, side * side, channels});  // [B, N, C]
  for (std::int64_t b = 0; b < images; ++b)
    for (std::int64_t n = 0; n < side * side; ++n)
      for (std::int64_t c = 0; c < channels; ++c) {
        const double* w = waves.data() + (b * channels + c) * 6;
        const double y = static_cast<double>(n / side) / static_cast<double>(side), z = static_cast<double>(n % side) / static_cast<double>(side);
        const std::int64_t at = (b * side * side + n) * channels + c;
        x.data()[at] = std::sin(5 * w[0] * y + 5 * w[1] * z + w[2]) + std::sin(9 * w[3] * y + 9 * w[4] * z + w[5]) + 0.3 * noise.data()[at];
      }
  return x;
}

/// x·W in heads: x [B, N, C], W [C, C] -> [B, H, N, d].
inline Tensor<double> project(const Tensor<double>& x, const Tensor<double>& w, std::int64_t heads) {
  const Tensor<double> y = reshape(matmul(x, w), {x.size(0), x.size(1), heads, w.size(1) / heads});  // [B, N, H, d]
  return permute(y, {0, 2, 1, 3});
}
/// A projection as a layer starts with: [C, C].
inline Tensor<double> example_projection(std::int64_t channels) {
  return mul(randn<double>({channels, channels}), 1 / std::sqrt(static_cast<double>(channels)));
}

/// Queries, keys and values of a few images: [B, H, N, d] each.
struct Tokens {
  Tensor<double> q, k, v;
};
inline Tokens example_tokens(std::int64_t images, std::int64_t heads, std::int64_t side, std::int64_t width) {
  const std::int64_t C = heads * width;
  const Tensor<double> x = example_features(images, side, C);                                               // [B, N, C]
  const Tensor<double> wq = example_projection(C), wk = example_projection(C), wv = example_projection(C);  // [C, C]
  return {project(x, wq, heads), project(x, wk, heads), project(x, wv, heads)};
}

/// Mean inner loss per image and head: k, v [B, H, N, d], w [B, H, …] each.
inline double inner_loss(const InnerModel<double>& model, const InnerLoss<double>& loss, const Tensors<double>& w, const Tokens& t) {
  return mean(loss(model(t.k, w), t.v)).item();
}

/// A norm over all numbers of a list.
inline double norm_of(const Tensors<double>& list) {
  double squares = 0;
  for (const Tensor<double>& x : list) squares += sum(square(x)).item();
  return std::sqrt(squares);
}

inline std::string short_number(double x) {
  return x == 0 ? "0" : std::abs(x) < 0.01 || std::abs(x) >= 1e4 ? fmt::format("{:.1e}", x) : fmt::format("{:.3f}", x);
}

}  // namespace insights
