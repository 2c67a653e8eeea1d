#pragma once
/// The two layers of an MLP: two products that add their bias, and GELU in a pass of its own between them. The GELU that cuBLASLt
/// has as an epilogue is not documented to be the exact one, xΦ(x), that ours is, and fusing libraries match its tanh form with it.
/// Legend: R rows, C width, M hidden width, h = x·w1ᵀ + b1.
/// Operations: 4·R·C·M forward, 4·R·C·M for h̄ and x̄. Bytes beyond the products': 2·R·M numbers forward, 4·R·M back.

#include "tttlib/backend/cuda/matmul.hpp"

namespace ttt::cuda_backend {

/// y [R, C'] = gelu(x·w1ᵀ + b1)·w2ᵀ + b2: x [R, C], w1 [M, C], w2 [C', M]; keeps h [R, M] in `hidden` unless that is null.
template <class L, class T>
void mlp(View<const T> x, View<const T> w1, const T* b1, View<const T> w2, const T* b2, T* hidden, View<T> y) {
  const L run("mlp", y.device);
  const std::int64_t R = x.shape[0], M = w1.shape[0];
  const Scratch<L, T> scratch(run, R * M);
  const View<T> activated{scratch.data(), {R, M}, {M, 1}, y.device}, h{hidden ? hidden : scratch.data(), {R, M}, {M, 1}, y.device};
  linear<L, T>(x, w1, b1, h);                             // h [R, M]
  map_unary<L, formula::Gelu, T>(0, 0, h, activated);     // gelu(h) [R, M], in place if h is not kept
  linear<L, T>(activated, w2, b2, y);                     // y [R, C']
}

/// activated = gelu(h), dh = dh·gelu'(h)
template <class T>
struct GeluBothWays {
  const T* h;
  T *activated, *dh;
  TTT_DEVICE void operator()(std::int64_t i) const {
    const formula::GeluJet<T> gelu(h[i]);
    activated[i] = gelu.value;
    dh[i] *= gelu.first;
  }
};

/// From h and the cotangent g [R, C'] of y: gelu(h) and h̄ = (g·w2) ⊙ gelu'(h), both [R, M], and dx [R, C] = h̄·w1.
template <class L, class T>
void mlp_pull(View<const T> w1, View<const T> w2, const T* hidden, View<const T> g, T* activated, T* dh, View<T> dx) {
  const L run("mlp_pull", dx.device);
  const std::int64_t R = g.shape[0], M = w1.shape[0];
  const View<T> of_hidden{dh, {R, M}, {M, 1}, dx.device};
  matmul<L, T>(g, w2, of_hidden);                                        // g·w2 [R, M]
  for_each(run, R * M, GeluBothWays<T>{hidden, activated, dh});          // gelu(h), h̄ [R, M]
  matmul<L, T>(of_hidden, w1, dx);                                       // x̄ [R, C]
}

template <class L, class T>
void add_mlps(Verbs<T>& verbs) {
  verbs.mlp = mlp<L, T>;
  verbs.mlp_pull = mlp_pull<L, T>;
}

}  // namespace ttt::cuda_backend
