#pragma once
/// Softmax, cross-entropy and layer norm over the last axis: one row at a time in cache. Bytes: each operand once.

#include <algorithm>
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
      if (log) {
        const T shift = top + std::log(sum_of<T>(n, [=](std::int64_t i) { return math::exp(in[i] - top); }));
        for (std::int64_t i = 0; i < n; ++i) out[i] = in[i] - shift;
      } else {
        for (std::int64_t i = 0; i < n; ++i) out[i] = math::exp(in[i] - top);
        const T scale = T(1) / reduce_run<Sum>(out, n, 1);  // two short loops are faster than one that stores and adds
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
        const T total = sum_of<T>(n, [=](std::int64_t i) { return cotangent[i] * out[i]; });
        for (std::int64_t i = 0; i < n; ++i) d[i] = out[i] * (cotangent[i] - total);
      }
    }
  });
}

/// losses [R] = log Σ exp(x) − (1 − s)·x[label] − s·mean(x) of rows x [C]; log_sums [R] or null keeps log Σ exp(x). Of a label that is
/// no class: NaN.
template <class T>
void cross_entropy(View<const T> logits, View<const std::int64_t> labels, double smoothing, T* log_sums, View<T> losses) {
  const std::int64_t R = logits.shape[0], C = logits.shape[1];
  const T s = static_cast<T>(smoothing);
  parallel_for(R, rows_per_chunk(C), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      const T* __restrict x = logits.data + r * C;
      const std::int64_t label = labels.data[r];
      const T top = reduce_run<Max>(x, C, 1);
      T sums[2];  // of exp(x − top) and x − top
      sum_terms(C, sums, [=](std::int64_t i, T* terms) { terms[0] = math::exp(x[i] - top), terms[1] = x[i] - top; });
      const T log_sum = std::log(sums[0]), spread = s == T(0) ? T(0) : s * sums[1] / static_cast<T>(C);
      losses.data[r] = label >= 0 && label < C ? log_sum - (T(1) - s) * (x[label] - top) - spread : std::numeric_limits<T>::quiet_NaN();
      if (log_sums) log_sums[r] = top + log_sum;
    }
  });
}

/// dx [R, C] = g [R] · (softmax(x) − target), target = (1 − s)·[label] + s/C.
template <class T>
void cross_entropy_pull(View<const T> logits, View<const std::int64_t> labels, double smoothing, const T* log_sums, View<const T> g, View<T> dx) {
  const std::int64_t R = logits.shape[0], C = logits.shape[1];
  const T everywhere = static_cast<T>(smoothing / static_cast<double>(C)), at_label = static_cast<T>(1 - smoothing);
  parallel_for(R, rows_per_chunk(C), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      const T* __restrict x = logits.data + r * C;
      T* __restrict d = dx.data + r * C;
      const T cotangent = g.data[r], log_sum = log_sums[r];
      for (std::int64_t i = 0; i < C; ++i) d[i] = cotangent * (math::exp(x[i] - log_sum) - everywhere);
      if (const std::int64_t label = labels.data[r]; label >= 0 && label < C) d[label] -= cotangent * at_label;
    }
  });
}

/// Mean and 1/√(var + eps) of one row, variance from centred values.
template <class T>
struct RowStatistics {
  T mean, rstd;
  RowStatistics(const T* __restrict x, std::int64_t n, T eps) {
    mean = reduce_run<Sum>(x, n, 1) / static_cast<T>(n);
    const T m = mean, variance = sum_of<T>(n, [=](std::int64_t i) { return (x[i] - m) * (x[i] - m); }) / static_cast<T>(n);
    rstd = T(1) / std::sqrt(variance + eps);
  }
};

template <class T>
void layer_norm(View<const T> x, const T* w, const T* b, double eps, View<T> y) {
  const std::int64_t n = x.shape.back(), rows = n == 0 ? 0 : x.numel() / n;
  parallel_for(rows, rows_per_chunk(n), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      const T* __restrict in = x.data + r * n;
      T* __restrict out = y.data + r * n;
      const RowStatistics<T> of_row(in, n, static_cast<T>(eps));
      const T mean = of_row.mean, rstd = of_row.rstd;
      if (w && b)
        for (std::int64_t i = 0; i < n; ++i) out[i] = (in[i] - mean) * rstd * w[i] + b[i];
      else
        for (std::int64_t i = 0; i < n; ++i) out[i] = (in[i] - mean) * rstd * (w ? w[i] : T(1)) + (b ? b[i] : T(0));
    }
  });
}

/// With x̂ = (x − mean)·rstd and h = g·w: dx = rstd (h − mean(h) − x̂ mean(h·x̂)), dw = Σ g·x̂, db = Σ g.
template <class T>
void layer_norm_pull(View<const T> x, const T* w, View<const T> g, double eps, View<T> dx, T* dw, T* db) {
  const std::int64_t n = x.shape.back(), rows = n == 0 ? 0 : x.numel() / n;
  constexpr std::int64_t most_parts = 64;  // sums of dw and db are kept by chunk
  const std::int64_t grain = std::max(rows_per_chunk(n), (rows + most_parts - 1) / most_parts), parts = (rows + grain - 1) / grain;
  std::vector<T> partial(static_cast<std::size_t>(2 * parts * n));  // dw and db of each chunk, added in order below
  const std::vector<T> ones(static_cast<std::size_t>(w ? 0 : n), T(1));
  const T* __restrict scale = w ? w : ones.data();
  parallel_for(rows, grain, [&](std::int64_t begin, std::int64_t end) {
    T* __restrict part_w = partial.data() + begin / grain * 2 * n;
    T* __restrict part_b = part_w + n;
    for (std::int64_t r = begin; r < end; ++r) {
      const T* __restrict in = x.data + r * n;
      const T* __restrict cotangent = g.data + r * n;
      T* __restrict d = dx.data + r * n;
      const RowStatistics<T> of_row(in, n, static_cast<T>(eps));
      const T mean = of_row.mean, rstd = of_row.rstd;
      T sums[2];  // of h and h·x̂
      sum_terms(n, sums, [=](std::int64_t i, T* terms) {
        const T xhat = (in[i] - mean) * rstd, gradient = cotangent[i], h = gradient * scale[i];
        part_w[i] += gradient * xhat;
        part_b[i] += gradient;
        d[i] = h;
        terms[0] = h;
        terms[1] = h * xhat;
      });
      const T mean_h = sums[0] / static_cast<T>(n), mean_hx = sums[1] / static_cast<T>(n);
      for (std::int64_t i = 0; i < n; ++i) d[i] = rstd * (d[i] - mean_h - (in[i] - mean) * rstd * mean_hx);
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
