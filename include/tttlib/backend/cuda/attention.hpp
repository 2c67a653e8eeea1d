#pragma once
/// Softmax attention without the N × N matrix: a block has a tile of queries and walks over tiles of keys, with running
/// maxima and sums (Rabe & Staats 2021, Dao et al. 2022). The way back is two kernels, one tile of queries and one tile of
/// keys per block, so that every sum has one owner and no atomics are needed.
/// Legend: B images, H heads, N queries, M keys, d head width, n and m of them in a tile.
/// Multiply-accumulates per head: 2·N·M·d forward, 7·N·M·d backward. Bytes: q, o once, k, v once per tile of queries;
/// backward also q, ō once per tile of keys.

#include <cmath>
#include <limits>

#include "tttlib/backend/cuda/tiles.hpp"
#include "tttlib/backend/table.hpp"
#include "tttlib/kernels/math.hpp"

namespace ttt::cuda_backend {

inline constexpr int attention_threads = 128;

struct AttentionSizes {
  std::int64_t B, H, N, M;
  int d, tile;

  /// The largest tile whose six [tile, d] and two [tile, tile] fit into shared memory.
  template <class T>
  static AttentionSizes of(const View<const T>& q, const View<const T>& k) {
    AttentionSizes s{q.shape[0], q.shape[1], q.shape[2], k.shape[2], static_cast<int>(q.shape[3]), 32};
    while (s.tile > 0 && s.shared_bytes<T>() > shared_limit) s.tile /= 2;
    if (s.tile == 0)
      fail<DeviceError>("attention", concat("heads are too wide for the GPU's shared memory: d ", q.shape[3]), "more heads, or run it on the CPU");
    return s;
  }
  template <class T>
  std::int64_t shared_bytes() const {
    return 6 * shared_size<T>(tile * tile_row(d)) + 2 * shared_size<T>(tile * tile_row(tile)) + 3 * shared_size<T>(tile);
  }
  TTT_HD std::int64_t query_tiles() const { return (N + tile - 1) / tile; }
  TTT_HD std::int64_t key_tiles() const { return (M + tile - 1) / tile; }
  /// A [tile, d] and a [tile, tile] of the block's shared memory.
  template <class T>
  TTT_DEVICE Tile<T> token_tile(Block& block) const { return {block.shared<T>(tile * tile_row(d)), tile_row(d), 1}; }
  template <class T>
  TTT_DEVICE Tile<T> score_tile(Block& block) const { return {block.shared<T>(tile * tile_row(tile)), tile_row(tile), 1}; }
  /// How many of `tile` tokens from `first` there are.
  TTT_DEVICE int tokens(std::int64_t first, std::int64_t all) const { return static_cast<int>(all - first < tile ? all - first : tile); }
};

/// o = softmax(q kᵀ/√d) v; one block per image, head and tile of queries.
template <class T>
struct Attention {
  AttentionSizes s;
  T scale;
  Tokens<const T> q, k, v;
  T* log_sums;  // [B, H, N] or null
  Tokens<T> o;
  TTT_DEVICE void operator()(Block& block) const {
    const std::int64_t head = block.index() / s.query_tiles(), b = head / s.H, h = head % s.H, first = block.index() % s.query_tiles() * s.tile;
    const int n = s.tokens(first, s.N), d = s.d;
    const Tile<T> x = s.token_tile<T>(block), keys = s.token_tile<T>(block), values = s.token_tile<T>(block), out = s.token_tile<T>(block);
    const Tile<T> scores = s.score_tile<T>(block);
    T *top = block.shared<T>(s.tile), *sum = block.shared<T>(s.tile), *shrink = block.shared<T>(s.tile);
    load_tokens(block, q, b, h, first, n, d, x, scale);
    clear(block, out.data, s.tile * tile_row(d));
    block.each_of(n, [&](int i) { top[i] = -std::numeric_limits<T>::infinity(), sum[i] = T(0); });
    for (std::int64_t from = 0; from < s.M; from += s.tile) {
      const int m = s.tokens(from, s.M);
      load_tokens(block, k, b, h, from, m, d, keys);
      load_tokens(block, v, b, h, from, m, d, values);
      product<false>(block, x, keys.turned(), scores, n, d, m);                                    // scores [n, m]
      block.each_of(n, [&](int i) {
        T highest = top[i], total = T(0);
        for (int j = 0; j < m; ++j) highest = scores(i, j) > highest || scores(i, j) != scores(i, j) ? scores(i, j) : highest;
        for (int j = 0; j < m; ++j) total += scores(i, j) = math::exp(scores(i, j) - highest);
        shrink[i] = math::exp(top[i] - highest);
        sum[i] = sum[i] * shrink[i] + total;
        top[i] = highest;
      });
      block.each_of(n * d, [&](int i) { out(i / d, i % d) *= shrink[i / d]; });
      product<true>(block, scores, values, out, n, m, d);                                          // o [n, d] += weights · v
    }
    block.each_of(n * d, [&](int i) { o.at(b, h, first + i / d, i % d) = out(i / d, i % d) / sum[i / d]; });
    if (log_sums) block.each_of(n, [&](int i) { log_sums[head * s.N + first + i] = top[i] + std::log(sum[i]); });
  }
};

/// D [B, H, N] = Σ ō·o of every query.
template <class T>
struct AttentionDots {
  AttentionSizes s;
  Tokens<const T> o, g;
  T* D;
  TTT_DEVICE void operator()(std::int64_t i) const {
    const std::int64_t head = i / s.N, token = i % s.N;
    T total = T(0);
    for (int c = 0; c < s.d; ++c) total += o.at(head / s.H, head % s.H, token, c) * g.at(head / s.H, head % s.H, token, c);
    D[i] = total;
  }
};

/// What both kernels of the way back read, and their weights P and S̄ = P ⊙ (ō vᵀ − D).
template <class T>
struct AttentionPullInputs {
  AttentionSizes s;
  T scale;
  Tokens<const T> q, k, v, g;
  const T *log_sums, *D;  // [B, H, N]

  /// x [n, d] = q/√d, u [n, d] = ō, keys and values [m, d] -> P, S [n, m]
  TTT_DEVICE void weights(Block& block, const Tile<T>& x, const Tile<T>& u, const Tile<T>& keys, const Tile<T>& values, std::int64_t query, int n, int m,
                          const Tile<T>& P, const Tile<T>& S) const {
    product<false>(block, x, keys.turned(), P, n, s.d, m);                                         // scores [n, m]
    product<false>(block, u, values.turned(), S, n, s.d, m);                                       // ō vᵀ [n, m]
    block.each_of(n * m, [&](int item) {
      const int i = item / m, j = item % m;
      P(i, j) = math::exp(P(i, j) - log_sums[query + i]);
      S(i, j) = P(i, j) * (S(i, j) - D[query + i]);
    });
  }
};
/// q̄ = S̄ k/√d; one block per image, head and tile of queries.
template <class T>
struct AttentionPullQueries {
  AttentionPullInputs<T> in;
  Tokens<T> dq;
  TTT_DEVICE void operator()(Block& block) const {
    const AttentionSizes& s = in.s;
    const std::int64_t head = block.index() / s.query_tiles(), b = head / s.H, h = head % s.H, first = block.index() % s.query_tiles() * s.tile;
    const int n = s.tokens(first, s.N), d = s.d;
    const Tile<T> x = s.token_tile<T>(block), u = s.token_tile<T>(block), keys = s.token_tile<T>(block), values = s.token_tile<T>(block);
    const Tile<T> out = s.token_tile<T>(block), P = s.score_tile<T>(block), S = s.score_tile<T>(block);
    load_tokens(block, in.q, b, h, first, n, d, x, in.scale);
    load_tokens(block, in.g, b, h, first, n, d, u);
    clear(block, out.data, s.tile * tile_row(d));
    for (std::int64_t from = 0; from < s.M; from += s.tile) {
      const int m = s.tokens(from, s.M);
      load_tokens(block, in.k, b, h, from, m, d, keys);
      load_tokens(block, in.v, b, h, from, m, d, values);
      in.weights(block, x, u, keys, values, head * s.N + first, n, m, P, S);
      product<true>(block, S, keys, out, n, m, d);                                                 // q̄·√d [n, d] += S̄ k
    }
    store_tokens(block, out, b, h, first, n, d, dq, in.scale);
  }
};
/// v̄ = Pᵀ ō, k̄ = S̄ᵀ q/√d; one block per image, head and tile of keys.
template <class T>
struct AttentionPullKeys {
  AttentionPullInputs<T> in;
  Tokens<T> dk, dv;
  TTT_DEVICE void operator()(Block& block) const {
    const AttentionSizes& s = in.s;
    const std::int64_t head = block.index() / s.key_tiles(), b = head / s.H, h = head % s.H, from = block.index() % s.key_tiles() * s.tile;
    const int m = s.tokens(from, s.M), d = s.d;
    const Tile<T> x = s.token_tile<T>(block), u = s.token_tile<T>(block), keys = s.token_tile<T>(block), values = s.token_tile<T>(block);
    const Tile<T> out_k = s.token_tile<T>(block), out_v = s.token_tile<T>(block), P = s.score_tile<T>(block), S = s.score_tile<T>(block);
    load_tokens(block, in.k, b, h, from, m, d, keys);
    load_tokens(block, in.v, b, h, from, m, d, values);
    clear(block, out_k.data, s.tile * tile_row(d));
    clear(block, out_v.data, s.tile * tile_row(d));
    for (std::int64_t first = 0; first < s.N; first += s.tile) {
      const int n = s.tokens(first, s.N);
      load_tokens(block, in.q, b, h, first, n, d, x, in.scale);
      load_tokens(block, in.g, b, h, first, n, d, u);
      in.weights(block, x, u, keys, values, head * s.N + first, n, m, P, S);
      product<true>(block, P.turned(), u, out_v, m, n, d);                                         // v̄ [m, d] += Pᵀ ō
      product<true>(block, S.turned(), x, out_k, m, n, d);                                         // k̄ [m, d] += S̄ᵀ q/√d
    }
    store_tokens(block, out_k, b, h, from, m, d, dk);
    store_tokens(block, out_v, b, h, from, m, d, dv);
  }
};

template <class T>
T attention_scale(const AttentionSizes& s) { return static_cast<T>(1 / std::sqrt(static_cast<double>(s.d))); }

template <class L, class T>
void attention(View<const T> q, View<const T> k, View<const T> v, T* log_sums, View<T> o) {
  const AttentionSizes s = AttentionSizes::of(q, k);
  const std::int64_t blocks = s.B * s.H * s.query_tiles();
  if (blocks > 0)
    L("attention", o.device).blocks(blocks, attention_threads, s.shared_bytes<T>(), Attention<T>{s, attention_scale<T>(s), q, k, v, log_sums, o});
}
template <class L, class T>
void attention_pull(View<const T> q, View<const T> k, View<const T> v, View<const T> o, const T* log_sums, View<const T> g, View<T> dq, View<T> dk,
                    View<T> dv) {
  const L run("attention_pull", dq.device);
  const AttentionSizes s = AttentionSizes::of(q, k);
  const std::int64_t heads = s.B * s.H;
  const Scratch<L, T> D(run, heads * s.N);                                                         // [B, H, N]
  for_each(run, heads * s.N, AttentionDots<T>{s, o, g, D.data()});
  const AttentionPullInputs<T> in{s, attention_scale<T>(s), q, k, v, g, log_sums, D.data()};
  if (heads * s.N > 0) run.blocks(heads * s.query_tiles(), attention_threads, s.shared_bytes<T>(), AttentionPullQueries<T>{in, dq});
  if (heads * s.M > 0) run.blocks(heads * s.key_tiles(), attention_threads, s.shared_bytes<T>(), AttentionPullKeys<T>{in, dk, dv});
}

}  // namespace ttt::cuda_backend
