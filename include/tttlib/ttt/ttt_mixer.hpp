#pragma once
/// A TTT block with its layer norm as one op where there is a kernel for that: proj(heads(qkv(layer_norm(x)))), or x + that, a fused twin of
/// the layers that it is made of.
/// Legend: B images, h × w grid, N = h·w tokens, H heads, d head width, C = H·d channels.

#include "tttlib/ops/composed/norm.hpp"
#include "tttlib/ops/matmul.hpp"
#include "tttlib/ttt/ttt_heads.hpp"

namespace ttt {

/// A linear layer's numbers.
template <class T>
struct Projection {
  Tensor<T> weight, bias;  // [out, in], [out]
};

/// Whether `ttt_mixer` of these operands has a kernel. Not where they do not fit together: the layers say best what is wrong.
template <class T>
bool fuses_ttt_mixer(const Tensor<T>& x, const Affine<T>& norm, const Projection<T>& qkv, const TttWeights<T>& w0, const Projection<T>& proj) {
  for (const Tensor<T>* operand : {&x, &norm.weight, &norm.bias, &qkv.weight, &qkv.bias, &w0.w1, &w0.w2, &w0.w3, &proj.weight, &proj.bias})
    if (!operand->defined() || operand->device() != x.device()) return false;
  const std::int64_t H = w0.heads(), d = w0.width(), C = H * d;
  return backend::fuses_ttt_mixer<T>(x.device(), d) && backend::fuses_norms<T>(x.device(), C) && x.dim() == 4 && x.size(3) == C && x.numel() > 0 &&
         norm.weight.shape() == Shape{C} && norm.bias.shape() == Shape{C} &&
         qkv.weight.shape() == Shape{3 * C + 3 * d, C} && qkv.bias.shape() == Shape{3 * C + 3 * d} && proj.weight.shape() == Shape{C, C + d} &&
         proj.bias.shape() == Shape{C};
}

namespace detail {
/// What `ttt_mixer` keeps for its way back.
struct KeptByMixer {
  Tensor<bf16> qkv, answers;    // [B, N, 3C + 3d], [B, N, C + d]
  Tensor<float> g_glu, g_conv;  // [B, H, d, 2d], [B, 9, d]; undefined if nothing comes back
  MixerKept memory() { return {qkv.data(), answers.data(), g_glu.data(), g_conv.data()}; }
};
}  // namespace detail

/// [B, h, w, C] -> [B, h, w, C], x added if `residual`; needs `fuses_ttt_mixer`. The numbers between the projections are rounded to bf16.
template <class T>
Tensor<T> ttt_mixer(const Tensor<T>& x, const Affine<T>& norm, const Projection<T>& qkv, const TttWeights<T>& w0, const Projection<T>& proj,
                    bool residual = false) {
  Scope scope("mixer");
  const std::int64_t H = w0.heads(), d = w0.width(), C = H * d, B = x.size(0), h = x.size(1), w = x.size(2), N = h * w;
  const Device device = x.device();
  const TttStep step = losses::block_step;
  const Tensors<T> xs{contiguous(x), qkv.weight, contiguous(qkv.bias), reshape(w0.w1, {H, d, d}), reshape(w0.w2, {H, d, d}),
                      reshape(w0.w3, {1, d, 3, 3}), proj.weight, contiguous(proj.bias), contiguous(norm.weight),
                      contiguous(norm.bias)};
  detail::KeptByMixer kept{Tensor<bf16>(Shape{B, N, 3 * C + 3 * d}, device), Tensor<bf16>(Shape{B, N, C + d}, device), {}, {}};
  if (is_recorded(xs)) kept.g_glu = Tensor<float>(Shape{B, H, d, 2 * d}, device), kept.g_conv = Tensor<float>(Shape{B, 9, d}, device);
  const auto weights = [](const auto& of) {
    return MixerWeights<const T>{view(of(1)), of(2).data(), view(of(3)), view(of(4)), view(of(5)), view(of(6)), of(7).data()};
  };
  const auto row_norm = [eps = norm.eps](const auto& of) { return RowNorm<const T>{of(8).data(), of(9).data(), eps}; };
  const auto operand = [&](std::size_t i) { return xs[i]; };
  Tensor<T> y(xs[0].shape(), device);
  backend::ttt_mixer<T>(view(xs[0]), row_norm(operand), weights(operand), step, kept.memory(), residual, mutable_view(y));
  const std::int64_t macs = B * N * (C * (3 * C + 3 * d) + C * (C + d));
  count_macs(macs + B * (6 * H * N * d * d + 18 * N * d));
  const auto definition = [H, d, eps = norm.eps, residual](const Tensors<T>& t) {
    const TttWeights<T> start{reshape(t[3], {1, H, d, d}), reshape(t[4], {1, H, d, d}), reshape(t[5], {d, 1, 3, 3})};
    const Tensor<T> branch = linear(ttt_heads_by_ops<T>(linear(layer_norm(t[0], t[8], t[9], eps), t[1], t[2]), start, false), t[6], t[7]);
    return residual ? add(t[0], branch) : branch;  // [B, h, w, C]
  };
  const auto fast_rule = [=](const Call<T>& c, const std::vector<bool>&) {
    Tensors<T> dx;
    for (std::size_t i = 0; i < 10; ++i) dx.emplace_back(c.shape(i), device);
    const Tensor<T> g = contiguous(c.g);
    const auto input = [&](std::size_t i) { return c.in(i); };
    const MixerWeights<T> into{mutable_view(dx[1]), dx[2].data(), mutable_view(dx[3]), mutable_view(dx[4]), mutable_view(dx[5]), mutable_view(dx[6]),
                               dx[7].data()};
    backend::ttt_mixer_pull<T>(view(c.in(0)), row_norm(input), weights(input), step, detail::KeptByMixer(kept).memory(), view(g),
                               residual, mutable_view(dx[0]), RowNorm<T>{dx[8].data(), dx[9].data(), 0}, into);
    count_macs(2 * macs);
    return dx;
  };
  return fused<T>("ttt_mixer", Operand(y), xs, definition, fast_rule);
}

}  // namespace ttt
