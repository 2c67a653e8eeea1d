#pragma once
/// Softmax, cross-entropy and layer norm over the last axis: one block per row. Rows are contiguous.
/// Bytes: forward, x two or three times (from cache but for the first) and y once; back, each operand once or twice; the weights' gradients add
/// 4·parts·n numbers, parts ≤ 512. Sums are trees over the block, weights' gradients add up parts in order.

#include <algorithm>
#include <limits>

#include "tttlib/backend/cuda/reduce.hpp"
#include "tttlib/kernels/math.hpp"

namespace ttt::cuda_backend {

using reduction::Max, reduction::Sum;

/// Threads for rows of n numbers.
inline int row_threads(std::int64_t n) {
  int threads = 32;
  while (threads < block_threads && threads < n) threads *= 2;
  return threads;
}
/// Runs a row program: as many blocks as rows, or as fit into a grid.
template <class L, class T, class Program>
void for_rows(const L& run, std::int64_t rows, std::int64_t n, const Program& program) {
  const int threads = row_threads(n);
  if (rows > 0) run.blocks(std::min<std::int64_t>(rows, 65535), threads, shared_size<T>(threads), program);
}

template <class T>
struct Softmax {
  const T* x;
  T* y;
  std::int64_t rows, n;
  bool log;
  TTT_DEVICE void operator()(Block& block) const {
    T* scratch = block.shared<T>(block.threads());
    for (std::int64_t row = block.index(); row < rows; row += block.count()) {
      const T* in = x + row * n;
      T* out = y + row * n;
      const T top = reduce_items<Max>(block, n, scratch, [&](std::int64_t i) { return in[i]; });
      const T total = reduce_items<Sum>(block, n, scratch, [&](std::int64_t i) { return math::exp(in[i] - top); });
      const T shift = top + std::log(total), scale = T(1) / total;
      block.each_thread([&](int t) {
        for (std::int64_t i = t; i < n; i += block.threads()) out[i] = log ? in[i] - shift : math::exp(in[i] - top) * scale;
      });
    }
  }
};
template <class L, class T>
void softmax(View<const T> x, bool log, View<T> y) {
  const std::int64_t n = x.shape.back(), rows = n == 0 ? 0 : x.numel() / n;
  for_rows<L, T>(L("softmax", y.device), rows, n, Softmax<T>{x.data, y.data, rows, n, log});
}

/// dx = y (g − Σ g·y), of the logarithm g − exp(y)·Σ g.
template <class T>
struct SoftmaxPull {
  const T *y, *g;
  T* dx;
  std::int64_t rows, n;
  bool log;
  TTT_DEVICE void operator()(Block& block) const {
    T* scratch = block.shared<T>(block.threads());
    for (std::int64_t row = block.index(); row < rows; row += block.count()) {
      const T *out = y + row * n, *cotangent = g + row * n;
      T* d = dx + row * n;
      const T total = reduce_items<Sum>(block, n, scratch, [&](std::int64_t i) { return log ? cotangent[i] : cotangent[i] * out[i]; });
      block.each_thread([&](int t) {
        for (std::int64_t i = t; i < n; i += block.threads())
          d[i] = log ? cotangent[i] - math::exp(out[i]) * total : cotangent[i] * out[i] - out[i] * total;
      });
    }
  }
};
template <class L, class T>
void softmax_pull(View<const T> y, View<const T> g, bool log, View<T> dx) {
  const std::int64_t n = y.shape.back(), rows = n == 0 ? 0 : y.numel() / n;
  for_rows<L, T>(L("softmax_pull", dx.device), rows, n, SoftmaxPull<T>{y.data, g.data, dx.data, rows, n, log});
}

/// losses [R] = log Σ exp(x) − (1 − s)·x[label] − s·mean(x) of rows x [C]; log_sums [R] or null keeps log Σ exp(x). Of a label that is
/// no class: NaN.
template <class T>
struct CrossEntropy {
  const T* x;
  const std::int64_t* labels;
  T smoothing;
  T *log_sums, *losses;
  std::int64_t rows, n;
  TTT_DEVICE void operator()(Block& block) const {
    T* scratch = block.shared<T>(block.threads());
    for (std::int64_t row = block.index(); row < rows; row += block.count()) {
      const T* in = x + row * n;
      const T top = reduce_items<Max>(block, n, scratch, [&](std::int64_t i) { return in[i]; });
      const T log_sum = std::log(reduce_items<Sum>(block, n, scratch, [&](std::int64_t i) { return math::exp(in[i] - top); }));
      T mean = T(0);
      if (smoothing > T(0)) mean = reduce_items<Sum>(block, n, scratch, [&](std::int64_t i) { return in[i] - top; }) / static_cast<T>(n);
      block.each_thread([&](int t) {
        if (t > 0) return;
        const std::int64_t label = labels[row];
        losses[row] = label >= 0 && label < n ? log_sum - (T(1) - smoothing) * (in[label] - top) - smoothing * mean
                                              : std::numeric_limits<T>::quiet_NaN();
        if (log_sums) log_sums[row] = top + log_sum;
      });
    }
  }
};
template <class L, class T>
void cross_entropy(View<const T> logits, View<const std::int64_t> labels, double smoothing, T* log_sums, View<T> losses) {
  const std::int64_t rows = logits.shape[0], n = logits.shape[1];
  for_rows<L, T>(L("cross_entropy", losses.device), rows, n,
                 CrossEntropy<T>{logits.data, labels.data, static_cast<T>(smoothing), log_sums, losses.data, rows, n});
}

/// dx = g·(softmax(x) − target), target = (1 − s)·[label] + s/C.
template <class T>
struct CrossEntropyPull {
  const T* x;
  const std::int64_t* labels;
  T at_label, everywhere;
  const T *log_sums, *g;
  T* dx;
  std::int64_t rows, n;
  TTT_DEVICE void operator()(Block& block) const {
    for (std::int64_t row = block.index(); row < rows; row += block.count())
      block.each_thread([&](int t) {
        const T cotangent = g[row], log_sum = log_sums[row];
        const std::int64_t label = labels[row];
        for (std::int64_t i = t; i < n; i += block.threads())
          dx[row * n + i] = cotangent * (math::exp(x[row * n + i] - log_sum) - everywhere - (i == label ? at_label : T(0)));
      });
  }
};
template <class L, class T>
void cross_entropy_pull(View<const T> logits, View<const std::int64_t> labels, double smoothing, const T* log_sums, View<const T> g, View<T> dx) {
  const std::int64_t rows = logits.shape[0], n = logits.shape[1];
  for_rows<L, T>(L("cross_entropy_pull", dx.device), rows, n,
                 CrossEntropyPull<T>{logits.data, labels.data, static_cast<T>(1 - smoothing), static_cast<T>(smoothing / static_cast<double>(n)),
                                     log_sums, g.data, dx.data, rows, n});
}

/// Mean and 1/√(var + eps) of a row, variance from centred values.
template <class T>
struct RowStatistics {
  T mean, rstd;
  TTT_DEVICE RowStatistics(Block& block, const T* x, std::int64_t n, T eps, T* scratch) {
    mean = reduce_items<Sum>(block, n, scratch, [&](std::int64_t i) { return x[i]; }) / static_cast<T>(n);
    const T m = mean;
    const T variance = reduce_items<Sum>(block, n, scratch, [&](std::int64_t i) { return (x[i] - m) * (x[i] - m); }) / static_cast<T>(n);
    rstd = T(1) / std::sqrt(variance + eps);
  }
};

template <class T>
struct LayerNorm {
  const T *x, *w, *b;
  T eps;
  T* y;
  std::int64_t rows, n;
  TTT_DEVICE void operator()(Block& block) const {
    T* scratch = block.shared<T>(block.threads());
    for (std::int64_t row = block.index(); row < rows; row += block.count()) {
      const T* in = x + row * n;
      T* out = y + row * n;
      const RowStatistics<T> s(block, in, n, eps, scratch);
      block.each_thread([&](int t) {
        for (std::int64_t i = t; i < n; i += block.threads())
          out[i] = (in[i] - s.mean) * s.rstd * (w ? w[i] : T(1)) + (b ? b[i] : T(0));
      });
    }
  }
};
template <class L, class T>
void layer_norm(View<const T> x, const T* w, const T* b, double eps, View<T> y) {
  const std::int64_t n = x.shape.back(), rows = n == 0 ? 0 : x.numel() / n;
  for_rows<L, T>(L("layer_norm", y.device), rows, n, LayerNorm<T>{x.data, w, b, static_cast<T>(eps), y.data, rows, n});
}

/// With x̂ = (x − mean)·rstd and h = g·w: dx = rstd (h − mean(h) − x̂ mean(h·x̂)); a block has `length` rows in a row and
/// leaves Σ g·x̂ and Σ g of them in its part of `partial` [parts, 2, n], column i always written by the same thread.
template <class T>
struct LayerNormPull {
  const T *x, *w, *g;
  T eps;
  T *dx, *partial;
  std::int64_t rows, n, length;
  TTT_DEVICE void operator()(Block& block) const {
    T* scratch = block.shared<T>(block.threads());
    const std::int64_t first = block.index() * length, last = first + length < rows ? first + length : rows;
    T* part = partial ? partial + block.index() * 2 * n : nullptr;
    for (std::int64_t row = first; row < last; ++row) {
      const T *in = x + row * n, *cotangent = g + row * n;
      T* d = dx + row * n;
      const RowStatistics<T> s(block, in, n, eps, scratch);
      const auto h = [&](std::int64_t i) { return w ? cotangent[i] * w[i] : cotangent[i]; };
      const auto xhat = [&](std::int64_t i) { return (in[i] - s.mean) * s.rstd; };
      const T mean_h = reduce_items<Sum>(block, n, scratch, h) / static_cast<T>(n);
      const T mean_hx = reduce_items<Sum>(block, n, scratch, [&](std::int64_t i) { return h(i) * xhat(i); }) / static_cast<T>(n);
      block.each_thread([&](int t) {
        for (std::int64_t i = t; i < n; i += block.threads()) {
          d[i] = s.rstd * (h(i) - mean_h - xhat(i) * mean_hx);
          if (!part) continue;
          const T for_w = cotangent[i] * xhat(i);
          part[i] = row == first ? for_w : part[i] + for_w;
          part[n + i] = row == first ? cotangent[i] : part[n + i] + cotangent[i];
        }
      });
    }
  }
};
template <class L, class T>
void layer_norm_pull(View<const T> x, const T* w, View<const T> g, double eps, View<T> dx, T* dw, T* db) {
  const L run("layer_norm_pull", dx.device);
  const std::int64_t n = x.shape.back(), rows = n == 0 ? 0 : x.numel() / n;
  const std::int64_t length = (rows + 511) / 512, parts = length == 0 ? 0 : (rows + length - 1) / length;
  const Scratch<L, T> partial(run, dw || db ? parts * 2 * n : 0);
  const int threads = row_threads(n);
  if (parts > 0)
    run.blocks(parts, threads, shared_size<T>(threads),
               LayerNormPull<T>{x.data, w, g.data, static_cast<T>(eps), dx.data, partial.data(), rows, n, length});
  if (dw) sum_parts<L, T>(run, partial.data(), parts, 2 * n, {1}, {n}, dw, {1});
  if (db) sum_parts<L, T>(run, partial.data() + (parts > 0 ? n : 0), parts, 2 * n, {1}, {n}, db, {1});
}

template <class L, class T>
void add_norms(Verbs<T>& verbs) {
  verbs.softmax = softmax<L, T>;
  verbs.softmax_pull = softmax_pull<L, T>;
  verbs.cross_entropy = cross_entropy<L, T>;
  verbs.cross_entropy_pull = cross_entropy_pull<L, T>;
  verbs.layer_norm = layer_norm<L, T>;
  verbs.layer_norm_pull = layer_norm_pull<L, T>;
}

}  // namespace ttt::cuda_backend
