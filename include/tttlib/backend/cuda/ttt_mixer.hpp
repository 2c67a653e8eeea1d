#pragma once
/// A whole TTT block on a GPU: layer norm, projection to q, k, v of all heads, the heads, projection back; what lies between is kept in bf16, and all
/// products have operands in bf16 and sums in float.
/// Legend: R = B·N rows of tokens, C channels, H heads of width d, W = 3C + 3d.
/// Operations of the projections: 2·R·(C·W + C·(C + d)) forward, twice that back. Bytes: rounding 6·R·C, back twice; 2·R·W and
/// 2·R·(C + d) written by one kernel and read by the next, back the same for their cotangents, and once more for the sums of biases.

#include "tttlib/backend/cuda/mlp.hpp"
#include "tttlib/backend/cuda/ttt.hpp"

namespace ttt::cuda_backend {

/// A buffer [B, h, w, ..] of all heads' channels, part by part: first those of the H heads, then those of the extra head.
template <class T>
struct HeadsBuffer {
  View<T> all;
  std::int64_t H, d, parts;
  HeadsBuffer(const View<T>& of, const Shape& w1) : all(of), H(w1[0]), d(w1[1]), parts(of.shape[3] / ((H + 1) * d)) {}

  /// Part i of the H heads [B, H, N, d].
  View<T> glu(std::int64_t i) const {
    const std::int64_t row = all.shape[3], N = all.shape[1] * all.shape[2];
    return {all.data + i * H * d, {all.shape[0], H, N, d}, {N * row, d, row, 1}, all.device};
  }
  /// Part i of the extra head [B, h, w, d].
  View<T> conv(std::int64_t i) const {
    return {all.data + (parts * H + i) * d, {all.shape[0], all.shape[1], all.shape[2], d}, contiguous_strides(all.shape), all.device};
  }
};

template <class L>
void ttt_heads_bf16(View<const bf16> qkv, View<const float> w1, View<const float> w2, View<const float> w3, const TttStep& step, float* g_glu,
                    float* g_conv, View<bf16> o) {
  const HeadsBuffer<const bf16> in(qkv, w1.shape);
  const HeadsBuffer<bf16> out(o, w1.shape);
  with_core_width(in.d, [&](auto d) {
    ttt_glu_by_cores<L, d, bf16>({in.glu(0), in.glu(1), in.glu(2), w1, w2}, step, g_glu, out.glu(0));
  });
  ttt_dwconv<L, float, bf16>({in.conv(0), in.conv(1), in.conv(2), w3}, step, g_conv, out.conv(0));
}
template <class L>
void ttt_heads_bf16_pull(View<const bf16> qkv, View<const float> w1, View<const float> w2, View<const float> w3, const TttStep& step,
                         const float* g_glu, const float* g_conv, View<const bf16> o_bar, View<bf16> dqkv, View<float> dw1, View<float> dw2,
                         View<float> dw3) {
  const HeadsBuffer<const bf16> in(qkv, w1.shape), from(o_bar, w1.shape);
  const HeadsBuffer<bf16> to(dqkv, w1.shape);
  with_core_width(in.d, [&](auto d) {
    ttt_glu_pull_by_cores<L, d, bf16>({in.glu(0), in.glu(1), in.glu(2), w1, w2}, step, g_glu, from.glu(0),
                                      {to.glu(0), to.glu(1), to.glu(2), dw1, dw2});
  });
  ttt_dwconv_pull<L, float, bf16>({in.conv(0), in.conv(1), in.conv(2), w3}, step, g_conv, from.conv(0), {to.conv(0), to.conv(1), to.conv(2), dw3});
}

/// The rows of tokens of a mixer: x and y [B, h, w, C], buffers [B, h, w, 3C + 3d] and [B, h, w, C + d].
struct MixerRows {
  std::int64_t B, h, w, C, d, R;
  Device device;
  MixerRows(const View<const float>& x, const Shape& w1)
      : B(x.shape[0]), h(x.shape[1]), w(x.shape[2]), C(x.shape[3]), d(w1[1]), R(B * h * w), device(x.device) {}
  std::int64_t width() const { return 3 * C + 3 * d; }
  template <class T>
  View<T> rows(T* data, std::int64_t width) const { return {data, {R, width}, {width, 1}, device}; }
  template <class T>
  View<T> grid(T* data, std::int64_t width) const {
    const Shape shape{B, h, w, width};
    return {data, shape, contiguous_strides(shape), device};
  }
};

/// y [B, h, w, C] from x [B, h, w, C], both with rows side by side; a residual x is added by the last product.
template <class L>
void ttt_mixer(View<const float> x, const RowNorm<const float>& norm, const MixerWeights<const float>& w, const TttStep& step, const MixerKept& kept,
               bool residual, View<float> y) {
  const MixerRows s(x, w.w1.shape);
  const L run("ttt_mixer", s.device);
  const bf16 *qkv = kept.qkv, *answers = kept.answers;
  const RoundedOperands<L, 2> rounded(run, {w.qkv, w.proj});
  {
    const Scratch<L, bf16> normed(run, s.R * s.C);
    normed_rows(run, s.rows(x.data, s.C), norm, normed.data());                                                          // [R, C]
    multiply_bf16<L, bf16>(run, s.rows<const bf16>(normed.data(), s.C), transposed(rounded[0]), w.qkv_bias, s.rows(kept.qkv, s.width()));
  }
  ttt_heads_bf16<L>(s.grid(qkv, s.width()), w.w1, w.w2, w.w3, step, kept.g_glu, kept.g_conv, s.grid(kept.answers, s.C + s.d));
  multiply_bf16<L, float>(run, s.rows(answers, s.C + s.d), transposed(rounded[1]), w.proj_bias, s.rows(y.data, s.C),     // [R, C]
                          residual ? x.data : nullptr);
}

/// The cotangents of x and of all weights from that of y, g [B, h, w, C]. The normalised rows are made again: x is all that is kept of them.
template <class L>
void ttt_mixer_pull(View<const float> x, const RowNorm<const float>& norm, const MixerWeights<const float>& w, const TttStep& step,
                    const MixerKept& kept, View<const float> g, bool residual, View<float> dx, const RowNorm<float>& dnorm,
                    const MixerWeights<float>& dw) {
  const MixerRows s(x, w.w1.shape);
  const L run("ttt_mixer_pull", s.device);
  const std::int64_t width = s.width(), out = s.C + s.d;
  const bf16 *qkv = kept.qkv, *answers = kept.answers;
  const RoundedOperands<L, 2> rounded(run, {w.qkv, w.proj});
  const Scratch<L, bf16> of_y(run, s.R * s.C), of_answers(run, s.R * out), of_qkv(run, s.R * width);
  const View<const bf16> dy = s.rows<const bf16>(of_y.data(), s.C), dqkv = s.rows<const bf16>(of_qkv.data(), width);
  const bool aligned = reinterpret_cast<std::uintptr_t>(g.data) % 16 == 0;
  pass_with_column_sums(run, RoundRows{g.data, of_y.data(), s.C, static_cast<int>(s.C), aligned}, s.R, s.C, dw.proj_bias);
  multiply_bf16<L, bf16>(run, dy, rounded[1], nullptr, s.rows(of_answers.data(), out));                                  // [R, C] x [C, C + d]
  multiply_bf16<L, float>(run, transposed(dy), s.rows(answers, out), nullptr, dw.proj);                                  // [C, R] x [R, C + d]
  ttt_heads_bf16_pull<L>(s.grid(qkv, width), w.w1, w.w2, w.w3, step, kept.g_glu, kept.g_conv, s.grid<const bf16>(of_answers.data(), out),
                         s.grid(of_qkv.data(), width), dw.w1, dw.w2, dw.w3);
  column_sums(run, dqkv, dw.qkv_bias);
  {
    const Scratch<L, bf16> normed(run, s.R * s.C);
    normed_rows(run, s.rows(x.data, s.C), norm, normed.data());                                                          // [R, C]
    multiply_bf16<L, float>(run, transposed(dqkv), s.rows<const bf16>(normed.data(), s.C), nullptr, dw.qkv);             // [W, R] x [R, C]
  }
  const Scratch<L, float> of_normed(run, s.R * s.C);
  multiply_bf16<L, float>(run, dqkv, rounded[0], nullptr, s.rows(of_normed.data(), s.C));                                // [R, W] x [W, C]
  layer_norm_pull_plus<L, float>(s.rows(x.data, s.C), norm.w, s.rows<const float>(of_normed.data(), s.C), norm.eps, residual ? g.data : nullptr,
                                 s.rows(dx.data, s.C), dnorm.w, dnorm.b);
}

template <class L>
void add_ttt_mixers(Verbs<float>& verbs) {
  verbs.ttt_heads_bf16 = ttt_heads_bf16<L>;
  verbs.ttt_heads_bf16_pull = ttt_heads_bf16_pull<L>;
  verbs.ttt_mixer = ttt_mixer<L>;
  verbs.ttt_mixer_pull = ttt_mixer_pull<L>;
}

}  // namespace ttt::cuda_backend
