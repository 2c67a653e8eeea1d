#pragma once
/// A whole TTT block on a GPU: projection to q, k, v of all heads, the heads, projection back; what lies between is kept in bf16, and all
/// products have operands in bf16 and sums in float.
/// Legend: R = B·N rows of tokens, C channels, H heads of width d, W = 3C + 3d.
/// Operations of the projections: 2·R·(C·W + C·(C + d)) forward, twice that back. Bytes: rounding 6·R·C, back twice; 2·R·W and
/// 2·R·(C + d) written by one kernel and read by the next, back the same for their cotangents, and once more for the sums of biases.

#include "tttlib/backend/cuda/mlp.hpp"
#include "tttlib/backend/cuda/ttt.hpp"

namespace ttt::cuda_backend {

struct MixerSizes {
  std::int64_t B, h, w, C, H, d, R, width;  // width: 3C + 3d
  MixerSizes(const Shape& x, const Shape& w1)
      : B(x[0]), h(x[1]), w(x[2]), C(x[3]), H(w1[0]), d(w1[1]), R(B * h * w), width(3 * (H + 1) * d) {}

  /// Part i of q, k, v [B, H, N, d] in rows of `row` numbers.
  template <class T>
  View<T> heads(T* rows, std::int64_t row, std::int64_t i, Device device) const {
    return {rows + i * C, {B, H, h * w, d}, {h * w * row, d, row, 1}, device};
  }
  /// Part i of those of the extra head [B, h, w, d], which follow `parts` parts of the others.
  template <class T>
  View<T> extra(T* rows, std::int64_t row, std::int64_t i, std::int64_t parts, Device device) const {
    return {rows + parts * C + i * d, {B, h, w, d}, {h * w * row, w * row, row, 1}, device};
  }
};

/// y [B, h, w, C] from x [B, h, w, C], both with rows side by side.
template <class L>
void ttt_mixer(View<const float> x, const MixerWeights<const float>& w, const TttStep& step, const MixerKept& kept, View<float> y) {
  const MixerSizes s(x.shape, w.w1.shape);
  if (s.R == 0) return;
  const Device device = y.device;
  const L run("ttt_mixer", device);
  const std::int64_t width = s.width, out = s.C + s.d;
  const RoundedOperands<L, 3> rounded(run, {View<const float>{x.data, {s.R, s.C}, {s.C, 1}, device}, w.qkv, w.proj});
  multiply_bf16<L, bf16>(run, rounded[0], transposed(rounded[1]), w.qkv_bias, rows_at(kept.qkv, s.R, width, width, device));
  const bf16* qkv = kept.qkv;
  with_core_width(s.d, [&](auto d) {
    ttt_glu_by_cores<L, d, bf16>(s.heads(qkv, width, 0, device), s.heads(qkv, width, 1, device), s.heads(qkv, width, 2, device), {w.w1, w.w2}, step,
                                 kept.g_glu, s.heads(kept.answers, out, 0, device));
  });
  ttt_dwconv<L, float, bf16>(s.extra(qkv, width, 0, 3, device), s.extra(qkv, width, 1, 3, device), s.extra(qkv, width, 2, 3, device), w.w3, step,
                             kept.g_conv, s.extra(kept.answers, out, 0, 1, device));
  const View<const bf16> answers{kept.answers, {s.R, out}, {out, 1}, device};                      // [R, C + d]
  multiply_bf16<L, float>(run, answers, transposed(rounded[2]), w.proj_bias, rows_at(y.data, s.R, s.C, s.C, device));
}

/// The cotangents of x and of all weights from that of y, g [B, h, w, C].
template <class L>
void ttt_mixer_pull(View<const float> x, const MixerWeights<const float>& w, const TttStep& step, const MixerKept& kept, View<const float> g,
                    View<float> dx, const MixerWeights<float>& dw) {
  const MixerSizes s(x.shape, w.w1.shape);
  const Device device = g.device;
  const L run("ttt_mixer_pull", device);
  const std::int64_t width = s.width, out = s.C + s.d;
  const RoundedOperands<L, 3> rounded(run, {View<const float>{x.data, {s.R, s.C}, {s.C, 1}, device}, w.qkv, w.proj});
  const Scratch<L, bf16> of_y(run, s.R * s.C), of_answers(run, s.R * out), of_qkv(run, s.R * width);
  const View<bf16> dy = rows_at(of_y.data(), s.R, s.C, s.C, device), danswers = rows_at(of_answers.data(), s.R, out, out, device);
  const View<bf16> dqkv = rows_at(of_qkv.data(), s.R, width, width, device);
  pass_with_column_sums(run, RoundRows{g.data, dy.data, s.C, static_cast<int>(s.C), reinterpret_cast<std::uintptr_t>(g.data) % 16 == 0}, s.R, s.C,
                        dw.proj_bias);
  multiply_bf16<L, bf16>(run, dy, rounded[2], nullptr, danswers);                                  // [R, C] x [C, C + d]
  multiply_bf16<L, float>(run, transposed(dy), rows_at(kept.answers, s.R, out, out, device), nullptr, dw.proj);   // [C, R] x [R, C + d]
  const bf16 *qkv = kept.qkv, *cotangent = danswers.data;
  with_core_width(s.d, [&](auto d) {
    ttt_glu_pull_by_cores<L, d, bf16>(s.heads(qkv, width, 0, device), s.heads(qkv, width, 1, device), s.heads(qkv, width, 2, device), {w.w1, w.w2},
                                      step, kept.g_glu, s.heads(cotangent, out, 0, device), s.heads(dqkv.data, width, 0, device),
                                      s.heads(dqkv.data, width, 1, device), s.heads(dqkv.data, width, 2, device), dw.w1, dw.w2);
  });
  ttt_dwconv_pull<L, float, bf16>(s.extra(qkv, width, 0, 3, device), s.extra(qkv, width, 1, 3, device), s.extra(qkv, width, 2, 3, device), w.w3, step,
                                  kept.g_conv, s.extra(cotangent, out, 0, 1, device), s.extra(dqkv.data, width, 0, 3, device),
                                  s.extra(dqkv.data, width, 1, 3, device), s.extra(dqkv.data, width, 2, 3, device), dw.w3);
  column_sums(run, dqkv, dw.qkv_bias);
  multiply_bf16<L, float>(run, dqkv, rounded[1], nullptr, rows_at(dx.data, s.R, s.C, s.C, device));  // [R, W] x [W, C]
  multiply_bf16<L, float>(run, transposed(dqkv), rounded[0], nullptr, dw.qkv);                     // [W, R] x [R, C]
}

template <class L>
void add_ttt_mixers(Verbs<float>& verbs) {
  verbs.ttt_mixer = ttt_mixer<L>;
  verbs.ttt_mixer_pull = ttt_mixer_pull<L>;
}

}  // namespace ttt::cuda_backend
