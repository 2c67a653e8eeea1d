#pragma once
/// The GLU heads of a ViT³ block, forward and backward through their inner step: one block per (image, head), tokens
/// streamed in tiles through shared memory (paper §4; derivation in docs/derivation.md).
/// Legend: B images, H heads, N tokens, d head width, n tokens of a tile; the other symbols as in backend/cpu/ttt-inl.hpp.
/// Multiply-accumulates per image and head: 6·N·d² forward, 16·N·d² backward. Bytes: q, k, v and o once each, k and v
/// again on the way back, their cotangents once each, 2d² numbers per image and head for g, 2d² for the weights' gradient.
/// Two [d, 2d] matrices stay in shared memory if they fit (float: d ≤ 64), else in global memory, which is cached.

#include <cmath>

#include "tttlib/backend/cuda/reduce.hpp"
#include "tttlib/backend/cuda/tiles.hpp"
#include "tttlib/backend/table.hpp"
#include "tttlib/kernels/ttt_formulas.hpp"

namespace ttt::cuda_backend {

template <class T>
struct GluSizes {
  std::int64_t B, H, N;
  int d, tile;
  bool matrices_in_shared;
  T c, rate;

  GluSizes(const View<const T>& q, const TttStep& step)
      : B(q.shape[0]), H(q.shape[1]), N(q.shape[2]), d(static_cast<int>(q.shape[3])), tile(32), matrices_in_shared(true),
        c(static_cast<T>(step.c(N))), rate(static_cast<T>(step.rate)) {
    while (tile > 8 && shared_bytes() > shared_limit) tile /= 2;
    if (shared_bytes() > shared_limit) matrices_in_shared = false, tile = 32;
    while (tile > 0 && shared_bytes() > shared_limit) tile /= 2;
    if (tile == 0)
      fail<DeviceError>("ttt_heads", concat("heads are too wide for the GPU's shared memory: d ", q.shape[3]), "more heads, or run it on the CPU");
  }
  TTT_HD std::int64_t matrix_size() const { return d * tile_row(2 * d); }
  std::int64_t shared_bytes() const {
    return 2 * shared_size<T>(tile * tile_row(d)) + 2 * shared_size<T>(tile * tile_row(2 * d)) +
           (matrices_in_shared ? 2 * shared_size<T>(matrix_size()) : 0);
  }
  /// Numbers of global memory for the two matrices of every block; 0 if they are shared.
  std::int64_t scratch() const { return matrices_in_shared ? 0 : B * H * 2 * matrix_size(); }
  TTT_DEVICE int tokens(std::int64_t first) const { return static_cast<int>(N - first < tile ? N - first : tile); }
};

/// What a block works with.
template <class T>
struct GluTiles {
  Tile<T> x, y;         // [n, d] each: tokens
  Tile<T> both, other;  // [n, 2d] each: z1 and z2, or their cotangents
  Tile<T> weights, sum; // [d, 2d] each

  TTT_DEVICE GluTiles(Block& block, const GluSizes<T>& s, T* scratch) {
    const auto tile = [&](int rows, int columns) { return Tile<T>{block.shared<T>(rows * tile_row(columns)), tile_row(columns), 1}; };
    x = tile(s.tile, s.d), y = tile(s.tile, s.d), both = tile(s.tile, 2 * s.d), other = tile(s.tile, 2 * s.d);
    if (s.matrices_in_shared) {
      weights = tile(s.d, 2 * s.d), sum = tile(s.d, 2 * s.d);
    } else {
      T* matrices = scratch + block.index() * 2 * s.matrix_size();
      weights = {matrices, tile_row(2 * s.d), 1}, sum = {matrices + s.matrix_size(), tile_row(2 * s.d), 1};
    }
  }
};

/// w1 and w2 [H, d, d].
template <class T>
struct GluWeights {
  const T *w1, *w2;
  std::int64_t steps1[3], steps2[3];
  GluWeights(const View<const T>& a, const View<const T>& b)
      : w1(a.data), w2(b.data), steps1{a.strides[0], a.strides[1], a.strides[2]}, steps2{b.strides[0], b.strides[1], b.strides[2]} {}
  /// Those of one head side by side: -> to [d, 2d].
  TTT_DEVICE void load(Block& block, std::int64_t h, int d, const Tile<T>& to) const {
    block.each_of(2 * d * d, [&](int i) {
      const int row = i / (2 * d), column = i % (2 * d);
      to(row, column) = column < d ? w1[h * steps1[0] + row * steps1[1] + column * steps1[2]]
                                   : w2[h * steps2[0] + row * steps2[1] + (column - d) * steps2[2]];
    });
  }
};

/// Norm of column j of g [rows, ..].
template <class T>
TTT_DEVICE std::remove_const_t<T> column_norm(const Tile<T>& g, int rows, int j) {
  std::remove_const_t<T> total = 0;
  for (int i = 0; i < rows; ++i) total += g(i, j) * g(i, j);
  return std::sqrt(total);
}

/// o = (q w1*) ⊙ S(q w2*) with w* = w − η·clip(g).
template <class T>
struct TttGlu {
  GluSizes<T> s;
  Tokens<const T> q, k, v;
  GluWeights<T> w;
  T* scratch;
  T* gradient;  // [B, H, d, 2d] or null
  Tokens<T> o;
  TTT_DEVICE void operator()(Block& block) const {
    const std::int64_t b = block.index() / s.H, h = block.index() % s.H;
    const int d = s.d;
    const GluTiles<T> t(block, s, scratch);
    w.load(block, h, d, t.weights);
    block.each_of(2 * d * d, [&](int i) { t.sum(i / (2 * d), i % (2 * d)) = T(0); });
    for (std::int64_t first = 0; first < s.N; first += s.tile) {
      const int n = s.tokens(first);
      load_tokens(block, k, b, h, first, n, d, t.x);
      product<false>(block, t.x, t.weights, t.both, n, d, 2 * d);                                  // z [n, 2d] = k (w1, w2)
      block.each_of(n * d, [&](int i) {                                                            // P, R [n, 2d]
        const int token = i / d, j = i % d;
        const formula::GluTerms<T> terms(t.both(token, j), t.both(token, d + j), -s.c * v.at(b, h, first + token, j));
        t.both(token, j) = terms.P;
        t.both(token, d + j) = terms.R;
      });
      product<true>(block, t.x.turned(), t.both, t.sum, d, n, 2 * d);                              // g [d, 2d] += kᵀ (P, R)
    }
    if (gradient) {
      T* kept = gradient + block.index() * 2 * d * d;
      block.each_of(2 * d * d, [&](int i) { kept[i] = t.sum(i / (2 * d), i % (2 * d)); });
    }
    block.each_of(2 * d, [&](int j) {                                                              // w* [d, 2d]
      const formula::ClippedStep<T> step(column_norm(t.sum, d, j), s.rate);
      for (int i = 0; i < d; ++i) t.weights(i, j) = step(t.weights(i, j), t.sum(i, j));
    });
    for (std::int64_t first = 0; first < s.N; first += s.tile) {
      const int n = s.tokens(first);
      load_tokens(block, q, b, h, first, n, d, t.x);
      product<false>(block, t.x, t.weights, t.both, n, d, 2 * d);                                  // y [n, 2d] = q (w1*, w2*)
      block.each_of(n * d, [&](int i) {                                                            // o [n, d]
        o.at(b, h, first + i / d, i % d) = formula::glu_answer(t.both(i / d, i % d), t.both(i / d, d + i % d));
      });
    }
  }
};
template <class L, class T>
void ttt_glu(const GluOperands<const T>& x, const TttStep& step, T* g, View<T> o) {
  if (o.shape[0] * o.shape[1] == 0) return;
  const L run("ttt_glu", o.device);
  const GluSizes<T> s(x.q, step);
  const Scratch<L, T> scratch(run, s.scratch());
  run.blocks(s.B * s.H, block_threads, s.shared_bytes(), TttGlu<T>{s, x.q, x.k, x.v, {x.w1, x.w2}, scratch.data(), g, o});
}

/// Cotangents of q, k, v and, by image, of the weights from that of o and from the g that `ttt_glu` kept.
template <class T>
struct TttGluPull {
  GluSizes<T> s;
  Tokens<const T> q, k, v;
  GluWeights<T> w;
  const T* gradient;  // g [B, H, d, 2d]
  T* scratch;
  Tokens<const T> o_bar;
  Tokens<T> dq, dk, dv;
  T* dw;  // [B, H, d, 2d]
  TTT_DEVICE void operator()(Block& block) const {
    const std::int64_t b = block.index() / s.H, h = block.index() % s.H;
    const int d = s.d;
    const GluTiles<T> t(block, s, scratch);
    const Tile<const T> g{gradient + block.index() * 2 * d * d, 2 * d, 1};                         // [d, 2d]
    const Tile<T> total{dw + block.index() * 2 * d * d, 2 * d, 1};                                 // [d, 2d]
    w.load(block, h, d, t.weights);
    block.each_of(2 * d, [&](int j) {                                                              // w* [d, 2d]
      const formula::ClippedStep<T> step(column_norm(g, d, j), s.rate);
      for (int i = 0; i < d; ++i) t.weights(i, j) = step(t.weights(i, j), g(i, j));
    });
    block.each_of(2 * d * d, [&](int i) { t.sum(i / (2 * d), i % (2 * d)) = T(0); });
    for (std::int64_t first = 0; first < s.N; first += s.tile) {
      const int n = s.tokens(first);
      load_tokens(block, q, b, h, first, n, d, t.x);
      product<false>(block, t.x, t.weights, t.both, n, d, 2 * d);                                  // y [n, 2d]
      block.each_of(n * d, [&](int i) {                                                            // ȳ [n, 2d]
        const int token = i / d, j = i % d;
        const formula::GluTerms<T> terms(t.both(token, j), t.both(token, d + j), o_bar.at(b, h, first + token, j));
        t.both(token, j) = terms.P;
        t.both(token, d + j) = terms.R;
      });
      product<true>(block, t.x.turned(), t.both, t.sum, d, n, 2 * d);                              // U [d, 2d] += qᵀ ȳ
      product<false>(block, t.both, t.weights.turned(), t.y, n, 2 * d, d);                         // q̄ [n, d] = ȳ (w1*, w2*)ᵀ
      store_tokens(block, t.y, b, h, first, n, d, dq);
    }
    block.each_of(2 * d, [&](int j) {                                                              // U becomes D [d, 2d]
      T along = T(0);
      for (int i = 0; i < d; ++i) along += g(i, j) * t.sum(i, j);
      const formula::ClippedStepPull<T> pull(column_norm(g, d, j), along, s.rate);
      for (int i = 0; i < d; ++i) {
        total(i, j) = t.sum(i, j);
        t.sum(i, j) = pull(t.sum(i, j), g(i, j));
      }
    });
    w.load(block, h, d, t.weights);
    for (std::int64_t first = 0; first < s.N; first += s.tile) {
      const int n = s.tokens(first);
      load_tokens(block, k, b, h, first, n, d, t.x);
      product<false>(block, t.x, t.weights, t.both, n, d, 2 * d);                                  // z [n, 2d]
      product<false>(block, t.x, t.sum, t.other, n, d, 2 * d);                                     // P̄, R̄ [n, 2d] = k (D1, D2)
      block.each_of(n * d, [&](int i) {                                                            // P, R and z̄1, z̄2 [n, 2d]; v̄ [n, d]
        const int token = i / d, j = i % d;
        const formula::GluTermsPull<T> pull(t.both(token, j), t.both(token, d + j), -s.c * v.at(b, h, first + token, j), t.other(token, j),
                                            t.other(token, d + j));
        t.both(token, j) = pull.P;
        t.both(token, d + j) = pull.R;
        t.other(token, j) = pull.z1_bar;
        t.other(token, d + j) = pull.z2_bar;
        dv.at(b, h, first + token, j) = -s.c * pull.e_bar;
      });
      product<true>(block, t.x.turned(), t.other, total, d, n, 2 * d);                             // w̄ [d, 2d] += kᵀ z̄
      product<false>(block, t.both, t.sum.turned(), t.y, n, 2 * d, d);                             // k̄ [n, d] = (P, R) Dᵀ
      product<true>(block, t.other, t.weights.turned(), t.y, n, 2 * d, d);                         // k̄ [n, d] += z̄ (w1, w2)ᵀ
      store_tokens(block, t.y, b, h, first, n, d, dk);
    }
  }
};
/// dw1 and dw2 [H, d, d] = the sums over images of dw [B, H, d, 2d], w1's columns first.
template <class L, class T>
void sum_weights(const L& run, const T* dw, std::int64_t B, const View<T>& dw1, const View<T>& dw2) {
  const std::int64_t H = dw1.shape[0], d = dw1.shape[1];
  const Strides from{2 * d * d, 2 * d, 1};                                                         // of [H, d, d]
  sum_parts<L, T>(run, dw, B, H * 2 * d * d, from, dw1.shape, dw1.data, dw1.strides);
  sum_parts<L, T>(run, dw + (B > 0 ? d : 0), B, H * 2 * d * d, from, dw2.shape, dw2.data, dw2.strides);
}

template <class L, class T>
void ttt_glu_pull(const GluOperands<const T>& x, const TttStep& step, const T* g, View<const T> o_bar, const GluOperands<T>& dx) {
  const L run("ttt_glu_pull", o_bar.device);
  const std::int64_t B = x.q.shape[0], H = x.q.shape[1], d = x.w1.shape[1];
  const Scratch<L, T> dw(run, B * H * 2 * d * d);                                                  // [B, H, d, 2d]
  if (B * H > 0) {
    const GluSizes<T> s(x.q, step);
    const Scratch<L, T> scratch(run, s.scratch());
    run.blocks(B * H, block_threads, s.shared_bytes(),
               TttGluPull<T>{s, x.q, x.k, x.v, {x.w1, x.w2}, g, scratch.data(), o_bar, dx.q, dx.k, dx.v, dw.data()});
  }
  sum_weights<L>(run, dw.data(), B, dx.w1, dx.w2);
}

}  // namespace ttt::cuda_backend
