#pragma once
/// Softmax and layer norm over the last axis: one row at a time in cache. Bytes: each operand once.

#include <cmath>
#include <vector>

#include "tttlib/backend/cpu/reduce-inl.hpp"

namespace ttt::cpu_backend {
inline namespace TTTLIB_KERNELS {

inline std::int64_t rows_per_chunk(std::int64_t columns) { return elementwise_grain / (columns + 1) + 1; }

template <class T>
void softmax(View<const T> x, bool log, View<T> y) {
  const std::int64_t n = x.shape.back(), rows = n == 0 ? 0 : x.numel() / n;
  parallel_for(rows, rows_per_chunk(n), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      const T* __restrict in = x.data + r * n;
      T* __restrict out = y.data + r * n;
      const T top = reduce_run<Max>(in, n, 1);
      for (std::int64_t i = 0; i < n; ++i) out[i] = math::exp(in[i] - top);
      const T total = reduce_run<Sum>(out, n, 1);
      if (log) {
        const T shift = top + std::log(total);
        for (std::int64_t i = 0; i < n; ++i) out[i] = in[i] - shift;
      } else {
        const T scale = T(1) / total;
        for (std::int64_t i = 0; i < n; ++i) out[i] *= scale;
      }
    }
  });
}

template <class T>
void softmax_pull(View<const T> y, View<const T> g, bool log, View<T> dx) {
  const std::int64_t n = y.shape.back(), rows = n == 0 ? 0 : y.numel() / n;
  parallel_for(rows, rows_per_chunk(n), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      const T* __restrict out = y.data + r * n;
      const T* __restrict cotangent = g.data + r * n;
      T* __restrict d = dx.data + r * n;
      if (log) {  // dx = g − softmax · Σg
        const T total = reduce_run<Sum>(cotangent, n, 1);
        for (std::int64_t i = 0; i < n; ++i) d[i] = cotangent[i] - math::exp(out[i]) * total;
      } else {    // dx = y (g − Σ g·y)
        for (std::int64_t i = 0; i < n; ++i) d[i] = cotangent[i] * out[i];
        const T total = reduce_run<Sum>(d, n, 1);
        for (std::int64_t i = 0; i < n; ++i) d[i] -= out[i] * total;
      }
    }
  });
}

/// Mean and 1/√(var + eps) of one row, variance from centred values.
template <class T>
void row_statistics(const T* __restrict x, std::int64_t n, T eps, T* __restrict centred, T& rstd) {
  const T mean = reduce_run<Sum>(x, n, 1) / static_cast<T>(n);
  for (std::int64_t i = 0; i < n; ++i) centred[i] = (x[i] - mean) * (x[i] - mean);
  const T variance = reduce_run<Sum>(centred, n, 1) / static_cast<T>(n);
  rstd = T(1) / std::sqrt(variance + eps);
  for (std::int64_t i = 0; i < n; ++i) centred[i] = x[i] - mean;
}

template <class T>
void layer_norm(View<const T> x, const T* w, const T* b, double eps, View<T> y) {
  const std::int64_t n = x.shape.back(), rows = n == 0 ? 0 : x.numel() / n;
  parallel_for(rows, rows_per_chunk(n), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      T* __restrict out = y.data + r * n;
      T rstd;
      row_statistics(x.data + r * n, n, static_cast<T>(eps), out, rstd);
      if (w && b)
        for (std::int64_t i = 0; i < n; ++i) out[i] = out[i] * rstd * w[i] + b[i];
      else
        for (std::int64_t i = 0; i < n; ++i) out[i] = out[i] * rstd * (w ? w[i] : T(1)) + (b ? b[i] : T(0));
    }
  });
}

/// With x̂ = (x − mean)·rstd and h = g·w: dx = rstd (h − mean(h) − x̂ mean(h·x̂)), dw = Σ g·x̂, db = Σ g.
template <class T>
void layer_norm_pull(View<const T> x, const T* w, View<const T> g, double eps, View<T> dx, T* dw, T* db) {
  const std::int64_t n = x.shape.back(), rows = n == 0 ? 0 : x.numel() / n;
  const std::int64_t grain = 16 * rows_per_chunk(n), parts = (rows + grain - 1) / grain;
  std::vector<T> partial(static_cast<std::size_t>(2 * parts * n));  // dw and db of each chunk, added in order below
  parallel_for(rows, grain, [&](std::int64_t begin, std::int64_t end) {
    std::vector<T> scratch(static_cast<std::size_t>(3 * n));
    T* __restrict xhat = scratch.data();
    T* __restrict h = xhat + n;
    T* __restrict hx = h + n;
    T* __restrict part_w = partial.data() + begin / grain * 2 * n;
    T* __restrict part_b = part_w + n;
    for (std::int64_t r = begin; r < end; ++r) {
      const T* __restrict cotangent = g.data + r * n;
      T* __restrict d = dx.data + r * n;
      T rstd;
      row_statistics(x.data + r * n, n, static_cast<T>(eps), xhat, rstd);
      for (std::int64_t i = 0; i < n; ++i) {
        xhat[i] *= rstd;
        part_w[i] += cotangent[i] * xhat[i];
        part_b[i] += cotangent[i];
      }
      if (w)
        for (std::int64_t i = 0; i < n; ++i) h[i] = cotangent[i] * w[i];
      else
        for (std::int64_t i = 0; i < n; ++i) h[i] = cotangent[i];
      for (std::int64_t i = 0; i < n; ++i) hx[i] = h[i] * xhat[i];
      const T mean_h = reduce_run<Sum>(h, n, 1) / static_cast<T>(n), mean_hx = reduce_run<Sum>(hx, n, 1) / static_cast<T>(n);
      for (std::int64_t i = 0; i < n; ++i) d[i] = rstd * (h[i] - mean_h - xhat[i] * mean_hx);
    }
  });
  for (std::int64_t i = 0; i < n; ++i) {
    T sum_w = T(0), sum_b = T(0);
    for (std::int64_t part = 0; part < parts; ++part) {
      sum_w += partial[static_cast<std::size_t>(part * 2 * n + i)];
      sum_b += partial[static_cast<std::size_t>(part * 2 * n + n + i)];
    }
    if (dw) dw[i] = sum_w;
    if (db) db[i] = sum_b;
  }
}

}  // namespace TTTLIB_KERNELS
}  // namespace ttt::cpu_backend
