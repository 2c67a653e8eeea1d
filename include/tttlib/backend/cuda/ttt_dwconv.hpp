#pragma once
/// The extra head of a ViT³ block, whose inner model is a depthwise 3×3 convolution, forward and backward through its
/// inner step: channels do not meet, so a block has a slab of channels of one image (paper §4; derivation in
/// docs/derivation.md). Numbers are stored as S and computed with as T.
/// Legend: B images, h × w tokens, d channels; the other symbols as in backend/cpu/ttt-inl.hpp.
/// Multiply-accumulates per image and channel: 18·h·w forward, 36·h·w backward. Bytes: q, k, v and o (and
/// dq, dk, dv) once each; what is read goes to shared memory, or, of images too large for that, is read three times, from
/// cache but for the first time. 9d numbers per image for g.

#include <cmath>

#include "tttlib/backend/cuda/depthwise.hpp"
#include "tttlib/kernels/ttt_formulas.hpp"

namespace ttt::cuda_backend {

/// Copies n numbers to shared memory; they are there after `copies_done` of the same thread and a barrier.
template <int n, class S>
TTT_DEVICE void start_copy(S* to, const S* from) {
#if defined(__CUDACC__)
  constexpr int bytes = sizeof(Channels<S, n>);
  if constexpr (bytes == 4 || bytes == 8 || bytes == 16) {  // what a GPU copies while its threads go on
    const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(to));
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" : : "r"(address), "l"(from), "n"(bytes) : "memory");
    return;
  }
#endif
  *reinterpret_cast<Channels<S, n>*>(to) = *reinterpret_cast<const Channels<S, n>*>(from);
}
TTT_DEVICE inline void copies_done() {
#if defined(__CUDACC__)
  asm volatile("cp.async.wait_all;" : : : "memory");
#endif
}

/// One image's slab of channels: 64 bytes of every pixel, n numbers to a thread, each with a strip of rows of a column, from
/// shared memory (`staged`) or where they are; or, at n = 1, 32 channels.
template <class T, class S, int n, bool staged>
struct ConvSlab {
  static constexpr int threads = 128, width = n == 1 ? 32 : 64 / static_cast<int>(sizeof(S)), across = width / n, lanes = threads / across;
  using Pixels = Plane<const S>;

  int image, first, channels, rows, columns, strips, length;
  T* of_warps;  // for sum_taps

  static int slabs(std::int64_t d) { return static_cast<int>((d + width - 1) / width); }
  /// Of a block with that many images in shared memory.
  static std::int64_t shared_bytes(std::int64_t pixels, int images) {
    return shared_size<T>(taps_of_warps(threads, width)) + 2 * shared_size<T>(9 * width) + (staged ? images * shared_size<S>(pixels * width) : 0);
  }
  TTT_DEVICE ConvSlab(Block& block, const Images<const S>& x) : rows(static_cast<int>(x.rows)), columns(static_cast<int>(x.columns)) {
    const int d = static_cast<int>(x.channels), slabs = (d + width - 1) / width, index = static_cast<int>(block.index());
    image = index / slabs, first = (index - image * slabs) * width;
    channels = d - first < width ? d - first : width;
    strips = lanes / columns < 1 ? 1 : lanes / columns < rows ? lanes / columns : rows;
    length = (rows + strips - 1) / strips;
    of_warps = block.shared<T>(taps_of_warps(threads, width));
  }
  /// This slab of x.
  TTT_DEVICE Pixels of(const Images<const S>& x) const { return plane_of(x, image, first); }
  /// This slab of all x, from now on in shared memory.
  template <int count>
  TTT_DEVICE void stage(Block& block, Pixels (&x)[count]) const {
    if constexpr (staged) {
      Pixels tile[count];
      for (int k = 0; k < count; ++k) tile[k] = {block.shared<S>(rows * columns * width), rows, columns, columns * width, width};
      block.each_thread([&](int t) {
        const int c = t % across * n;
        for (int p = t / across; p < rows * columns && c < channels; p += lanes) {
          const int row = p / columns, column = p - row * columns;
          for (int k = 0; k < count; ++k)
            start_copy<n>(const_cast<S*>(tile[k].data) + p * width + c, x[k].data + row * x[k].step_row + column * x[k].step_column + c);
        }
        copies_done();
      });
      for (int k = 0; k < count; ++k) x[k] = tile[k];
    }
  }
  /// body(channel of the slab, column, first row, last row) for thread t's strips.
  template <class F>
  TTT_DEVICE void each(int t, const F& body) const {
    const int c = t % across * n;
    for (int i = t / across; c < channels && i < columns * strips; i += lanes) {
      const int strip = i / columns, from = strip * length, to = from + length < rows ? from + length : rows;
      if (from < to) body(c, i - strip * columns, from, to);
    }
  }
  /// to(tap, channel of the slab, sum) of corr(x, y): Σ x[row + a − 1, column + b − 1]·y[row, column].
  template <class To>
  TTT_DEVICE void correlate(Block& block, const Pixels& x, const Pixels& y, const To& to) const {
    PerThread<NineTaps<T, n>> own(block);
    block.each_lane([&](int t) {
      own[t] = NineTaps<T, n>{};
      each(t, [&](int c, int column, int from, int last) {
        correlate_column<1, T, S>(x.from_channel(c), y.from_channel(c), column, from, last, own[t]);
      });
    });
    sum_taps<threads, across>(block, own, of_warps, to);
  }
  /// y = conv(x, kernel [9, width]), or with `back` conv(x, flip kernel), its transpose, times `factor`.
  TTT_DEVICE void convolve(Block& block, const Pixels& x, const T* kernel, bool back, T factor, const Images<S>& y) const {
    const Plane<S> out = plane_of(y, image, first);
    block.each_thread([&](int t) {
      NineTaps<T, n> taps;
      taps.read(kernel, width, t % across * n, back, factor);
      each(t, [&](int c, int column, int from, int last) {
        const Plane<S> to = out.from_channel(c);
        convolve_column<1, T, S>(x.from_channel(c), taps, column, from, last,
                                 [&](int row, const Channels<T, n>& value) { to.write(row, column, value); });
      });
    });
  }
  /// Norm of channel c's nine numbers.
  TTT_DEVICE static T norm(const T* taps, int c) {
    T total = T(0);
    for (int tap = 0; tap < 9; ++tap) total += taps[tap * width + c] * taps[tap * width + c];
    return std::sqrt(total);
  }
  /// trained [9, width] = w* = w − η·clip(g [9, width]).
  TTT_DEVICE void step(Block& block, const ChannelKernels<const T>& w, const T* g, T rate, T* trained) const {
    block.each_of(channels, [&](int c) {
      const formula::ClippedStep<T> step(norm(g, c), rate);
      for (int tap = 0; tap < 9; ++tap) trained[tap * width + c] = step(w.at(0, first + c, tap / 3, tap % 3), g[tap * width + c]);
    });
  }
};

/// o = conv(q, w*) with w* = w − η·clip(g), g = corr(k, −c·v).
template <class T, class S, int n, bool staged>
struct TttDwconv {
  using Slab = ConvSlab<T, S, n, staged>;
  static constexpr int staged_images = 3;
  Images<const S> q, k, v;
  ChannelKernels<const T> w;
  T c, rate;
  T* gradient;  // [B, 9, d] or null
  Images<S> o;
  TTT_DEVICE void operator()(Block& block) const {
    const Slab slab(block, q);
    constexpr int width = Slab::width;
    T *g = block.shared<T>(9 * width), *trained = block.shared<T>(9 * width);                      // g, w* [9, width]
    typename Slab::Pixels x[] = {slab.of(q), slab.of(k), slab.of(v)};
    slab.stage(block, x);
    slab.correlate(block, x[1], x[2], [&](int tap, int channel, T sum) {
      g[tap * width + channel] = -c * sum;
      if (gradient && channel < slab.channels) gradient[(std::int64_t(slab.image) * 9 + tap) * q.channels + slab.first + channel] = -c * sum;
    });
    slab.step(block, w, g, rate, trained);
    slab.convolve(block, x[0], trained, false, T(1), o);
  }
};
/// Cotangents of q, k, v and, by image, of w from that of o and from the g that `ttt_dwconv` kept.
template <class T, class S, int n, bool staged>
struct TttDwconvPull {
  using Slab = ConvSlab<T, S, n, staged>;
  static constexpr int staged_images = 4;
  Images<const S> q, k, v;
  ChannelKernels<const T> w;
  T c, rate;
  const T* gradient;  // g [B, 9, d]
  Images<const S> o_bar;
  Images<S> dq, dk, dv;
  T* dw;  // U [B, 9, d]
  TTT_DEVICE void operator()(Block& block) const {
    const Slab slab(block, q);
    constexpr int width = Slab::width;
    T *g = block.shared<T>(9 * width), *kernel = block.shared<T>(9 * width);                       // g; w*, then U, then D [9, width]
    const std::int64_t at = std::int64_t(slab.image) * 9 * q.channels + slab.first;
    const int d = static_cast<int>(q.channels);
    typename Slab::Pixels x[] = {slab.of(q), slab.of(k), slab.of(v), slab.of(o_bar)};
    block.each_of(9 * width, [&](int i) { g[i] = i % width < slab.channels ? gradient[at + i / width * d + i % width] : T(0); });
    slab.stage(block, x);
    slab.step(block, w, g, rate, kernel);
    slab.convolve(block, x[3], kernel, true, T(1), dq);                                            // q̄ = conv(ō, flip w*)
    slab.correlate(block, x[0], x[3], [&](int tap, int channel, T sum) {                           // U = corr(q, ō)
      kernel[tap * width + channel] = sum;
      if (channel < slab.channels) dw[at + tap * d + channel] = sum;
    });
    block.each_of(slab.channels, [&](int i) {                                                      // U becomes D
      T along = T(0);
      for (int tap = 0; tap < 9; ++tap) along += g[tap * width + i] * kernel[tap * width + i];
      const formula::ClippedStepPull<T> pull(slab.norm(g, i), along, rate);
      for (int tap = 0; tap < 9; ++tap) kernel[tap * width + i] = pull(kernel[tap * width + i], g[tap * width + i]);
    });
    slab.convolve(block, x[2], kernel, true, -c, dk);                                              // k̄ = conv(−c·v, flip D)
    slab.convolve(block, x[1], kernel, false, -c, dv);                                             // v̄ = −c·conv(k, D)
  }
};

/// Starts Program<T, S, n, staged> with the largest n and, if it fits, the staging that these views allow.
template <template <class, class, int, bool> class Program, class T, class S, class L, class... Parts>
void run_dwconv(const L& run, const DwconvOperands<const S, const T>& x, const TttStep& step, bool at_once, const Parts&... rest) {
  constexpr int n = channels_at_once<S>;
  const View<const S>& q = x.q;
  if (q.numel() == 0) return;
  const T c = static_cast<T>(step.c(q.shape[1] * q.shape[2])), rate = static_cast<T>(step.rate);
  const auto start = [&](const auto& program) {
    using P = std::decay_t<decltype(program)>;
    run.blocks(q.shape[0] * P::Slab::slabs(q.shape[3]), P::Slab::threads, P::Slab::shared_bytes(q.shape[1] * q.shape[2], P::staged_images), program);
  };
  using Staged = Program<T, S, n, true>;
  if (!at_once) return start(Program<T, S, 1, false>{x.q, x.k, x.v, x.w, c, rate, rest...});
  if (Staged::Slab::shared_bytes(q.shape[1] * q.shape[2], Staged::staged_images) <= shared_limit) start(Staged{x.q, x.k, x.v, x.w, c, rate, rest...});
  else start(Program<T, S, n, false>{x.q, x.k, x.v, x.w, c, rate, rest...});
}

/// o [B, h, w, d] of q, k, v as they are stored, and g [B, 9, d] unless it is null.
template <class L, class T, class S = T>
void ttt_dwconv(const DwconvOperands<const S, const T>& x, const TttStep& step, T* g, View<S> o) {
  const L run("ttt_dwconv", o.device);
  constexpr int n = channels_at_once<S>;
  const bool at_once = reads_at_once(x.q, n) && reads_at_once(x.k, n) && reads_at_once(x.v, n) && reads_at_once(o, n);
  run_dwconv<TttDwconv, T, S>(run, x, step, at_once, g, o);
}
template <class L, class T, class S = T>
void ttt_dwconv_pull(const DwconvOperands<const S, const T>& x, const TttStep& step, const T* g, View<const S> o_bar,
                     const DwconvOperands<S, T>& dx) {
  const L run("ttt_dwconv_pull", o_bar.device);
  constexpr int n = channels_at_once<S>;
  const std::int64_t B = x.q.shape[0], d = x.q.shape[3];
  const Scratch<L, T> sums(run, B * 9 * d);                                                        // [B, 9, d]
  bool at_once = reads_at_once(o_bar, n);
  for (const View<const S>* read : {&x.q, &x.k, &x.v}) at_once = at_once && reads_at_once(*read, n);
  for (const View<S>* written : {&dx.q, &dx.k, &dx.v}) at_once = at_once && reads_at_once(*written, n);
  run_dwconv<TttDwconvPull, T, S>(run, x, step, at_once, g, o_bar, dx.q, dx.k, dx.v, sums.data());
  const std::int64_t parts = x.q.numel() > 0 ? B : 0;  // without tokens nobody writes them
  sum_parts<L, T>(run, sums.data(), parts, 9 * d, {3 * d, d, 1}, {3, 3, d}, dx.w.data, {dx.w.strides[2], dx.w.strides[3], dx.w.strides[1]});
}

}  // namespace ttt::cuda_backend
