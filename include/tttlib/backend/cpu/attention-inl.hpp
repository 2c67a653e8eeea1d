#pragma once
/// Softmax attention without the N × N matrix: blocks of queries against blocks of keys, with running maxima and sums
/// (Rabe & Staats 2021, Dao et al. 2022).
/// Legend: B images, H heads, N queries, M keys, d head width, n and m of them in a block.
/// Multiply-accumulates per head: 2·N·M·d forward, 5·N·M·d backward. Bytes: q and o once, k and v once per block of queries.

#include <cmath>
#include <limits>

#include "tttlib/backend/cpu/reduce-inl.hpp"
#include "tttlib/backend/cpu/tokens-inl.hpp"
#include "tttlib/kernels/math.hpp"

namespace ttt::cpu_backend {
inline namespace TTTLIB_KERNELS {

inline constexpr std::int64_t query_block = 64;

/// One block of scores s [n, columns], of which m are keys, becomes exp(s − maximum); o [n, width] and the sums so far are
/// brought to the new maxima.
template <class T>
void running_softmax(std::int64_t n, std::int64_t m, std::int64_t columns, std::int64_t width, T* __restrict s, T* __restrict top, T* __restrict sum,
                     T* __restrict o) {
  for (std::int64_t i = 0; i < n; ++i, s += columns, o += width) {
    const T highest = Max::combine(reduce_run<Max>(s, m, 1), top[i]);  // a NaN stays
    const T shrink = math::exp(top[i] - highest);
    for (std::int64_t j = 0; j < m; ++j) s[j] = math::exp(s[j] - highest);
    for (std::int64_t j = m; j < columns; ++j) s[j] = T(0);
    sum[i] = sum[i] * shrink + reduce_run<Sum>(s, m, 1);
    top[i] = highest;
    for (std::int64_t c = 0; c < width; ++c) o[c] *= shrink;
  }
}

/// o = softmax(q kᵀ/√d) v: q, o [B, H, N, d], k, v [B, H, M, d]. Keeps log Σ exp of every query's scores in `log_sums`
/// [B, H, N] unless that is null.
template <class T>
void attention(View<const T> q, View<const T> k, View<const T> v, T* log_sums, View<T> o) {
  const std::int64_t H = q.shape[1], N = q.shape[2], M = k.shape[2], width = whole_lanes<T>(q.shape[3]);
  const std::int64_t blocks = (N + query_block - 1) / query_block;
  const T scale = static_cast<T>(1 / std::sqrt(static_cast<double>(q.shape[3])));
  parallel_for(q.shape[0] * H * blocks, 1, [&](std::int64_t task, std::int64_t) {
    const std::int64_t b = task / blocks / H, h = task / blocks % H, first = task % blocks * query_block, n = std::min(query_block, N - first);
    T* x = packing_buffer<T, Packing::attention>(query_block * (2 * width + token_block + 2) + 2 * token_block * width);
    T *out = x + query_block * width, *s = out + query_block * width, *top = s + query_block * token_block, *sum = top + query_block;
    T *keys = sum + query_block, *turned = keys + token_block * width;
    load_tokens(q, b, h, first, n, width, x);
    for (std::int64_t i = 0; i < n * width; ++i) x[i] *= scale, out[i] = T(0);
    for (std::int64_t i = 0; i < n; ++i) top[i] = -std::numeric_limits<T>::infinity(), sum[i] = T(0);
    for (std::int64_t from = 0; from < M; from += token_block) {
      const std::int64_t m = std::min(token_block, M - from), columns = whole_lanes<T>(m);
      load_tokens(k, b, h, from, m, width, keys);
      pack_panel(columns_of(keys, m, width, width), 0, m, columns, turned);                                        // kᵀ [d, m]
      product_in_cache<false, T>(rows_of(x, n, width), turned, columns, s, columns);       // scores [n, m]
      running_softmax(n, m, columns, width, s, top, sum, out);
      load_tokens(v, b, h, from, m, width, keys);
      const MatrixRef<const T> weights{s, n, m, columns, 1};
      product_in_cache<true, T>(weights, keys, width, out, width);                        // o [n, d] += weights · v
    }
    for (std::int64_t i = 0; i < n; ++i)
      for (std::int64_t c = 0; c < width; ++c) out[i * width + c] /= sum[i];
    store_tokens(out, width, b, h, first, n, o);
    if (log_sums)
      for (std::int64_t i = 0; i < n; ++i) log_sums[(b * H + h) * N + first + i] = top[i] + std::log(sum[i]);
  });
}

/// Cotangents of q, k, v from that of o, from o itself and the sums that `attention` kept. With P the weights and
/// D = Σ ō·o of a query: v̄ = Pᵀ ō, S̄ = P ⊙ (ō vᵀ − D), q̄ = S̄ k/√d, k̄ = S̄ᵀ q/√d.
template <class T>
void attention_pull(View<const T> q, View<const T> k, View<const T> v, View<const T> o, const T* log_sums, View<const T> g, View<T> dq, View<T> dk,
                    View<T> dv) {
  const std::int64_t H = q.shape[1], N = q.shape[2], M = k.shape[2], width = whole_lanes<T>(q.shape[3]);
  const T scale = static_cast<T>(1 / std::sqrt(static_cast<double>(q.shape[3])));
  parallel_for(q.shape[0] * H, 1, [&](std::int64_t task, std::int64_t) {
    const std::int64_t b = task / H, h = task % H, tokens = token_block * width, queries = query_block * width, scores = query_block * token_block;
    T* keys = packing_buffer<T, Packing::attention>(6 * tokens + 2 * queries + 2 * scores + N * (width + 1));
    T *values = keys + tokens, *keys_turned = values + tokens, *values_turned = keys_turned + tokens, *out_k = values_turned + tokens, *out_v = out_k + tokens;
    T *x = out_v + tokens, *u = x + queries, *P = u + queries, *S = P + scores, *D = S + scores, *out_q = D + N;
    for (std::int64_t first = 0; first < N; first += query_block) {  // D [N]
      const std::int64_t n = std::min(query_block, N - first);
      load_tokens(o, b, h, first, n, width, x);
      load_tokens(g, b, h, first, n, width, u);
      for (std::int64_t i = 0; i < n; ++i) {
        T total = T(0);
        for (std::int64_t c = 0; c < width; ++c) total += x[i * width + c] * u[i * width + c];
        D[first + i] = total;
      }
    }
    std::fill(out_q, out_q + N * width, T(0));
    for (std::int64_t from = 0; from < M; from += token_block) {
      const std::int64_t m = std::min(token_block, M - from), columns = whole_lanes<T>(m);
      load_tokens(k, b, h, from, m, width, keys);
      load_tokens(v, b, h, from, m, width, values);
      pack_panel(columns_of(keys, m, width, width), 0, m, columns, keys_turned);
      pack_panel(columns_of(values, m, width, width), 0, m, columns, values_turned);
      std::fill(out_k, out_k + m * width, T(0));
      std::fill(out_v, out_v + m * width, T(0));
      for (std::int64_t first = 0; first < N; first += query_block) {
        const std::int64_t n = std::min(query_block, N - first);
        load_tokens(q, b, h, first, n, width, x);
        load_tokens(g, b, h, first, n, width, u);
        for (std::int64_t i = 0; i < n * width; ++i) x[i] *= scale;
        product_in_cache<false, T>(rows_of(x, n, width), keys_turned, columns, P, columns);     // scores [n, m]
        product_in_cache<false, T>(rows_of(u, n, width), values_turned, columns, S, columns);   // ō vᵀ [n, m]
        for (std::int64_t i = 0; i < n; ++i) {
          const T shift = log_sums[task * N + first + i], d = D[first + i];
          T *p = P + i * columns, *s = S + i * columns;
          for (std::int64_t j = 0; j < columns; ++j) {
            p[j] = math::exp(p[j] - shift);
            s[j] = p[j] * (s[j] - d);
          }
        }
        const MatrixRef<const T> P_turned{P, m, n, 1, columns}, S_turned{S, m, n, 1, columns}, S_rows{S, n, m, columns, 1};
        product_in_cache<true, T>(P_turned, u, width, out_v, width);                         // v̄ [m, d] += Pᵀ ō
        product_in_cache<true, T>(S_turned, x, width, out_k, width);                         // k̄ [m, d] += S̄ᵀ q/√d
        T* to = out_q + first * width;
        product_in_cache<true, T>(S_rows, keys, width, to, width);                              // q̄ [n, d] += S̄ k
      }
      store_tokens(out_k, width, b, h, from, m, dk);
      store_tokens(out_v, width, b, h, from, m, dv);
    }
    for (std::int64_t i = 0; i < N * width; ++i) out_q[i] *= scale;
    store_tokens(out_q, width, b, h, 0, N, dq);
  });
}

}  // namespace TTTLIB_KERNELS
}  // namespace ttt::cpu_backend
