#pragma once
/// The extra head of a ViT³ block, whose inner model is a depthwise 3×3 convolution, forward and backward through its
/// inner step: channels do not meet, so a block has 32 channels of one image (paper §4; derivation in docs/derivation.md).
/// Legend: B images, h × w tokens, d channels; c = loss_scale/(h·w); η rate; U, G outer gradients of the trained kernel and
/// of the inner gradient g.
/// Multiply-accumulates per image and channel: 18·h·w forward, 36·h·w backward. Bytes: q, k, v and o once each from
/// memory, nine times from cache; 9d numbers per image for g.

#include <cmath>

#include "tttlib/backend/cuda/conv.hpp"
#include "tttlib/kernels/ttt_formulas.hpp"

namespace ttt::cuda_backend {

template <class T>
struct NineTaps {
  T tap[9];
};

/// One image's slab of channels; a thread has every `lanes`-th token of one channel.
template <class T>
struct ConvSlab {
  static constexpr int width = 32, lanes = block_threads / width;
  static constexpr std::int64_t shared_bytes = shared_size<T>(lanes * 9 * width) + 2 * shared_size<T>(9 * width);
  static std::int64_t blocks(const View<const T>& x) { return x.shape[0] * ((x.shape[3] + width - 1) / width); }

  std::int64_t image, first;
  int channels;
  T* partial;  // [lanes, 9, width] of shared memory

  TTT_DEVICE ConvSlab(Block& block, std::int64_t d) {
    const std::int64_t slabs = (d + width - 1) / width;
    image = block.index() / slabs, first = block.index() % slabs * width;
    channels = static_cast<int>(d - first < width ? d - first : width);
    partial = block.shared<T>(lanes * 9 * width);
  }
  /// Calls body(row, column, channel of the image, channel of the slab) for this block's tokens and channels, in one phase.
  template <class F>
  TTT_DEVICE void each(Block& block, std::int64_t rows, std::int64_t columns, const F& body) const {
    block.each_thread([&](int t) {
      const int c = t % width;
      if (c >= channels) return;
      for (std::int64_t p = t / width; p < rows * columns; p += lanes) body(p / columns, p % columns, first + c, c);
    });
  }
  /// sums [9, width] = corr(x, y): Σ x[row + a − 1, column + b − 1]·y[row, column], lanes added in order.
  TTT_DEVICE void correlate(Block& block, const Images<const T>& x, const Images<const T>& y, T* sums) const {
    PerThread<NineTaps<T>> own(block);
    block.each_thread([&](int t) {
      for (T& tap : own[t].tap) tap = T(0);
    });
    block.each_thread([&](int t) {
      const int c = t % width;
      for (std::int64_t p = t / width; c < channels && p < y.rows * y.columns; p += lanes) {
        const std::int64_t row = p / y.columns, column = p - row * y.columns;
        const T value = y.at(image, row, column, first + c);
        for (int a = 0; a < 3; ++a)
          for (int b = 0; b < 3; ++b)
            if (x.inside(row + a - 1, column + b - 1)) own[t].tap[a * 3 + b] += x.at(image, row + a - 1, column + b - 1, first + c) * value;
      }
      for (int tap = 0; tap < 9; ++tap) partial[(t / width * 9 + tap) * width + c] = own[t].tap[tap];
    });
    block.each_of(9 * width, [&](int i) {
      T total = T(0);
      for (int lane = 0; lane < lanes; ++lane) total += partial[lane * 9 * width + i];
      sums[i] = total;
    });
  }
  /// y = conv(x, kernel [9, width]), or with `back` its transpose, times `factor`.
  TTT_DEVICE void convolve(Block& block, const Images<const T>& x, const T* kernel, bool back, T factor, const Images<T>& y) const {
    each(block, y.rows, y.columns, [&](std::int64_t row, std::int64_t column, std::int64_t channel, int c) {
      T sum = T(0);
      for (int a = -1; a <= 1; ++a)
        for (int b = -1; b <= 1; ++b) {
          const std::int64_t from = back ? row - a : row + a, at = back ? column - b : column + b;
          if (x.inside(from, at)) sum += x.at(image, from, at, channel) * kernel[((a + 1) * 3 + b + 1) * width + c];
        }
      y.at(image, row, column, channel) = factor * sum;
    });
  }
  /// Norm of channel c's nine numbers.
  TTT_DEVICE static T norm(const T* taps, int c) {
    T total = T(0);
    for (int tap = 0; tap < 9; ++tap) total += taps[tap * width + c] * taps[tap * width + c];
    return std::sqrt(total);
  }
  /// u [9, width] = w − η·clip(g [9, width]).
  TTT_DEVICE void step(Block& block, const ChannelKernels<const T>& w, const T* g, T rate, T* u) const {
    block.each_of(channels, [&](int c) {
      const T n = norm(g, c);
      for (int tap = 0; tap < 9; ++tap)
        u[tap * width + c] = formula::clipped_step(w.at(0, first + c, tap / 3, tap % 3), g[tap * width + c], n, rate);
    });
  }
};

/// o = conv(q, u) with u = w − η·clip(g), g = −c·corr(k, v).
template <class T>
struct TttDwconv {
  Images<const T> q, k, v;
  ChannelKernels<const T> w;
  T c, rate;
  T* gradient;  // [B, 9, d] or null
  Images<T> o;
  TTT_DEVICE void operator()(Block& block) const {
    const ConvSlab<T> slab(block, q.channels);
    T *g = block.shared<T>(9 * slab.width), *u = block.shared<T>(9 * slab.width);                  // [9, 32] each
    slab.correlate(block, k, v, g);
    block.each_of(9 * slab.width, [&](int i) {
      g[i] *= -c;
      if (gradient && i % slab.width < slab.channels)
        gradient[(slab.image * 9 + i / slab.width) * q.channels + slab.first + i % slab.width] = g[i];
    });
    slab.step(block, w, g, rate, u);
    slab.convolve(block, q, u, false, T(1), o);
  }
};
/// Cotangents of q, k, v and, by image, of w from that of o and from the g that `ttt_dwconv` kept.
template <class T>
struct TttDwconvPull {
  Images<const T> q, k, v;
  ChannelKernels<const T> w;
  T c, rate;
  const T* gradient;  // g [B, 9, d]
  Images<const T> o;
  Images<T> dq, dk, dv;
  T* dw;  // U [B, 9, d]
  TTT_DEVICE void operator()(Block& block) const {
    const ConvSlab<T> slab(block, q.channels);
    constexpr int width = ConvSlab<T>::width;
    T *g = block.shared<T>(9 * width), *u = block.shared<T>(9 * width);                            // [9, 32] each
    const auto at = [&](int i) { return (slab.image * 9 + i / width) * q.channels + slab.first + i % width; };
    block.each_of(9 * width, [&](int i) { g[i] = i % width < slab.channels ? gradient[at(i)] : T(0); });
    slab.step(block, w, g, rate, u);
    slab.convolve(block, o, u, true, T(1), dq);                                                    // q̄ = convᵀ(ō, u)
    slab.correlate(block, q, o, u);                                                                // U = corr(q, ō)
    block.each_of(slab.channels, [&](int i) {                                                      // U becomes G
      T along = T(0);
      for (int tap = 0; tap < 9; ++tap) along += g[tap * width + i] * u[tap * width + i];
      const formula::ClippedStepPull<T> pull(slab.norm(g, i), along, rate);
      for (int tap = 0; tap < 9; ++tap) {
        dw[at(tap * width + i)] = u[tap * width + i];
        u[tap * width + i] = pull(u[tap * width + i], g[tap * width + i]);
      }
    });
    slab.convolve(block, v, u, true, -c, dk);                                                      // k̄ = −c·convᵀ(v, G)
    slab.convolve(block, k, u, false, -c, dv);                                                     // v̄ = −c·conv(k, G)
  }
};

template <class T>
T dwconv_loss_factor(const View<const T>& q, const TttStep& step) {
  return static_cast<T>(step.loss_scale / static_cast<double>(q.shape[1] * q.shape[2]));
}
template <class L, class T>
void ttt_dwconv(View<const T> q, View<const T> k, View<const T> v, View<const T> w, const TttStep& step, T* gradient, View<T> o) {
  const L run("ttt_dwconv", o.device);
  const std::int64_t blocks = ConvSlab<T>::blocks(q);
  if (blocks > 0)
    run.blocks(blocks, block_threads, ConvSlab<T>::shared_bytes,
               TttDwconv<T>{q, k, v, w, dwconv_loss_factor(q, step), static_cast<T>(step.rate), gradient, o});
}
template <class L, class T>
void ttt_dwconv_pull(View<const T> q, View<const T> k, View<const T> v, View<const T> w, const TttStep& step, const T* gradient, View<const T> o,
                     View<T> dq, View<T> dk, View<T> dv, View<T> dw) {
  const L run("ttt_dwconv_pull", o.device);
  const std::int64_t B = q.shape[0], d = q.shape[3], blocks = ConvSlab<T>::blocks(q);
  const Scratch<L, T> sums(run, B * 9 * d);                                                        // [B, 9, d]
  if (blocks > 0)
    run.blocks(blocks, block_threads, ConvSlab<T>::shared_bytes,
               TttDwconvPull<T>{q, k, v, w, dwconv_loss_factor(q, step), static_cast<T>(step.rate), gradient, o, dq, dk, dv, sums.data()});
  sum_parts<L, T>(run, sums.data(), B, 9 * d, {3 * d, d, 1}, {3, 3, d}, dw.data, {dw.strides[2], dw.strides[3], dw.strides[1]});
}

}  // namespace ttt::cuda_backend
