#pragma once
/// The heads of a ViT³ block (paper §4) as a function of queries, keys and values: H heads with a GLU inner model and one
/// extra head with a depthwise 3×3 convolution, each trained for one full-batch step with rate 1. In three forms:
/// nested (the definition, by inner_train), closed (the inner gradient written out), fused (hand-written kernels).
/// Legend: B images, h × w grid, N = h·w tokens, H heads, d head width, C = H·d channels.

#include "tttlib/autograd/fused.hpp"
#include "tttlib/ttt/closed_form.hpp"
#include "tttlib/ttt/inner_models.hpp"
#include "tttlib/ttt/inner_scan.hpp"

namespace ttt {

/// How the inner step is computed; all agree.
enum class TttPath { fused, closed, nested };

/// The form of that name. Throws Error for an unknown one, listing those there are.
inline TttPath ttt_path(const std::string& name) {
  if (name == "fused") return TttPath::fused;
  if (name == "closed") return TttPath::closed;
  if (name == "nested") return TttPath::nested;
  fail<Error>("ttt_path", concat("unknown form of the inner step \"", name, "\""), "known names: fused, closed, nested");
}

/// The weights W0 of a block's heads.
template <class T>
struct TttWeights {
  Tensor<T> w1, w2;  // [1, H, d, d]
  Tensor<T> w3;      // [d, 1, 3, 3]

  std::int64_t heads() const { return w1.size(1); }
  std::int64_t width() const { return w1.size(2); }
};

/// What the H heads and the extra head are asked: q, k, v [B, H, N, d] and [B, 1, N, d], views of one buffer.
template <class T>
struct TttTasks {
  InnerTask<T> glu, conv;
};

namespace detail {

/// Throws ShapeError unless qkv is [B, h, w, 3C + 3d] for these weights.
template <class T>
void require_buffer(const Tensor<T>& qkv, const TttWeights<T>& w0) {
  if (qkv.dim() != 4 || qkv.size(3) != 3 * (w0.heads() + 1) * w0.width())
    fail<ShapeError>("ttt_heads", concat("needs q, k, v of all heads [B, h, w, 3(H + 1)d]: qkv ", qkv.shape(), ", w1 ", w0.w1.shape()));
}
/// The parts of a buffer, views as the kernels take them: `kinds` × [B, H, N, d] of the H heads, then as many × [B, h, w, d] of the extra
/// head. With q, k, v it is [B, h, w, 3C + 3d], with answers alone [B, h, w, C + d].
template <class T>
Tensors<T> head_parts(const Tensor<T>& buffer, std::int64_t H, std::int64_t d, std::size_t kinds) {
  std::vector<std::int64_t> widths(2 * kinds, d);
  std::fill_n(widths.begin(), kinds, H * d);
  Tensors<T> parts = split(buffer, widths, -1);                                                // [B, h, w, C] and [B, h, w, d] each
  for (std::size_t i = 0; i < kinds; ++i) parts[i] = to_heads(parts[i], H);                    // [B, H, N, d]
  return parts;
}

}  // namespace detail

/// The tasks in a block's buffer: qkv [B, h, w, 3C + 3d]. Throws ShapeError for another width.
template <class T>
TttTasks<T> ttt_tasks(const Tensor<T>& qkv, const TttWeights<T>& w0) {
  detail::require_buffer(qkv, w0);
  const std::int64_t H = w0.heads(), d = w0.width();
  const Tensors<T> parts = detail::head_parts(qkv, H, d, 3);                                   // 3 × [B, H, N, d], 3 × [B, h, w, d]
  const InnerOptions<T> options{.loss = losses::block_dot, .clip = true};
  using detail::to_heads;
  return {{inner::glu<T>(d), {reshape(w0.w1, {H, d, d}), reshape(w0.w2, {H, d, d})},           // W0: 2 × [H, d, d]
           parts[0], parts[1], parts[2], options},
          {inner::dwconv3x3<T>(d, qkv.size(1), qkv.size(2)), {unsqueeze(w0.w3, 0)},            // W0: [1, d, 1, 3, 3]
           to_heads(parts[3], 1), to_heads(parts[4], 1), to_heads(parts[5], 1), options}};
}

/// The answers as recorded ops: qkv [B, h, w, 3C + 3d] -> [B, h, w, C + d]. Of bf16, the step is made in float.
template <class T>
Tensor<T> ttt_heads_by_ops(const Tensor<T>& qkv, const TttWeights<T>& w0, bool nested) {
  if constexpr (!std::is_same_v<T, Wide<T>>) {
    const TttWeights<Wide<T>> wide{cast<Wide<T>>(w0.w1), cast<Wide<T>>(w0.w2), cast<Wide<T>>(w0.w3)};
    return cast<T>(ttt_heads_by_ops(cast<Wide<T>>(qkv), wide, nested));
  }
  const TttTasks<T> tasks = ttt_tasks(qkv, w0);
  const InnerTask<T>&glu = tasks.glu, &conv = tasks.conv;
  const Shape all{qkv.size(0), qkv.size(1), qkv.size(2), w0.heads() * w0.width()}, one{all[0], all[1], all[2], w0.width()};
  Tensor<T> o1, o2;  // [B, H, N, d] and [B, h, w, d]
  if (nested) {
    o1 = inner_scan(glu).output;
    o2 = reshape(inner_scan(conv).output, one);
  } else {
    o1 = glu.model(glu.q, closed_form::glu_step(glu.w0, glu.k, glu.v, 1));
    const Tensor<T> q = reshape(conv.q, one), k = reshape(conv.k, one), v = reshape(conv.v, one);  // [B, h, w, d]
    o2 = depthwise_conv2d(q, closed_form::dwconv3x3_step(w0.w3, k, v, 1), {.padding = {1, 1}});
  }
  return cat<T>({reshape(permute(o1, {0, 2, 1, 3}), all), o2}, -1);
}

/// The same by kernels that keep a head's step in cache and read the buffer by strides; a fused twin of the closed form.
///   qkv [B, h, w, 3C + 3d] -> [B, h, w, C + d].
template <class T>
Tensor<T> ttt_heads_fused(const Tensor<T>& qkv, const TttWeights<T>& w0) {
  Scope scope("inner_step");
  detail::require_buffer(qkv, w0);
  const std::int64_t H = w0.heads(), d = w0.width(), B = qkv.size(0), h = qkv.size(1), w = qkv.size(2), N = h * w;
  const TttStep step = losses::block_step;
  const Tensors<T> xs{contiguous(qkv), reshape(w0.w1, {H, d, d}), reshape(w0.w2, {H, d, d}), reshape(w0.w3, {1, d, 3, 3})};
  for (const Tensor<T>& x : xs) require_same_device("ttt_heads", xs[0], x);
  const bool kept = is_recorded(xs);  // inner gradients are kept for the way back only
  const Device device = qkv.device();
  Tensor<T> o(Shape{B, h, w, (H + 1) * d}, device);
  Tensor<Wide<T>> g1, g2;
  if (kept) g1 = Tensor<Wide<T>>(Shape{B, H, d, 2 * d}, device), g2 = Tensor<Wide<T>>(Shape{B, 9, d}, device);
  {
    const NoGradGuard guard;
    const Tensors<T> in = detail::head_parts(xs[0], H, d, 3);
    Tensors<T> out = detail::head_parts(o, H, d, 1);
    backend::ttt_glu<T>({view(in[0]), view(in[1]), view(in[2]), view(xs[1]), view(xs[2])}, step, kept ? g1.data() : nullptr, mutable_view(out[0]));
    backend::ttt_dwconv<T>({view(in[3]), view(in[4]), view(in[5]), view(xs[3])}, step, kept ? g2.data() : nullptr, mutable_view(out[1]));
  }
  count_macs(B * (6 * H * N * d * d + 18 * N * d));
  const auto definition = [H, d](const Tensors<T>& x) {
    return ttt_heads_by_ops<T>(x[0], {reshape(x[1], {1, H, d, d}), reshape(x[2], {1, H, d, d}), reshape(x[3], {d, 1, 3, 3})}, false);
  };
  const auto fast_rule = [=](const Call<T>& c, const std::vector<bool>&) {
    Tensors<T> dx;
    for (std::size_t i = 0; i < 4; ++i) dx.emplace_back(c.shape(i), c.g.device());
    const NoGradGuard guard;
    const Tensors<T> in = detail::head_parts(c.in(0), H, d, 3), o_bar = detail::head_parts(contiguous(c.g), H, d, 1);
    Tensors<T> out = detail::head_parts(dx[0], H, d, 3);
    backend::ttt_glu_pull<T>({view(in[0]), view(in[1]), view(in[2]), view(c.in(1)), view(c.in(2))}, step, g1.data(), view(o_bar[0]),
                             {mutable_view(out[0]), mutable_view(out[1]), mutable_view(out[2]), mutable_view(dx[1]), mutable_view(dx[2])});
    backend::ttt_dwconv_pull<T>({view(in[3]), view(in[4]), view(in[5]), view(c.in(3))}, step, g2.data(), view(o_bar[1]),
                                {mutable_view(out[3]), mutable_view(out[4]), mutable_view(out[5]), mutable_view(dx[3])});
    return dx;
  };
  return fused<T>("ttt_heads", Operand(o), xs, definition, fast_rule);
}

/// The answers of a block's heads: qkv [B, h, w, 3C + 3d] -> [B, h, w, C + d]. Throws ShapeError for another width.
template <class T>
Tensor<T> ttt_heads(const Tensor<T>& qkv, const TttWeights<T>& w0, TttPath path) {
  return path == TttPath::fused ? ttt_heads_fused(qkv, w0) : ttt_heads_by_ops(qkv, w0, path == TttPath::nested);
}

}  // namespace ttt
