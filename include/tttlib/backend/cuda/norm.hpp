#pragma once
/// Softmax, cross-entropy and layer norm over the last axis. Rows are contiguous. A row of up to about 1000 numbers is one warp's, whose
/// lanes keep it in registers (softmax and layer norm); others are a block's.
/// Bytes: each operand once (of a block's rows two or three times, from cache but for the first); the weights' gradients add 4·parts·n
/// numbers, parts ≤ 512. Sums are trees over the warp or block; weights' gradients add up in order within a part.

#include <limits>

#include "tttlib/backend/cuda/reduce.hpp"
#include "tttlib/backend/cuda/rows.hpp"
#include "tttlib/kernels/math.hpp"

namespace ttt::cuda_backend {

using reduction::Max, reduction::Sum;

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
template <class T, int N, int P>
struct SoftmaxOfWarps {
  const T* x;
  T* y;
  std::int64_t rows;
  int n;
  bool log;
  TTT_DEVICE void operator()(Block& block) const {
    PerThread<RowOfWarp<T, N, P>> own(block);
    PerThread<T> top(block), sum(block);
    for (std::int64_t first = block.index() * warps_of_block; first < rows; first += block.count() * warps_of_block) {
      block.each_lane([&](int t) {
        const std::int64_t row = first + t / warp_size;
        T most = Max::identity<T>();
        if (row < rows) {
          own[t].read(t, n, x + row * n);
          own[t].each(t, n, [&](T value, int, int, int) { most = Max::combine(most, value); });
        }
        top[t] = most;
      });
      warp_reduce<Max>(block, [&](int t) -> T& { return top[t]; });
      block.each_lane([&](int t) {
        T total = T(0);
        own[t].each(t, n, [&](T& value, int, int, int) {
          const T power = math::exp(value - top[t]);
          total += power;
          if (!log) value = power;
        });
        sum[t] = total;
      });
      warp_reduce<Sum>(block, [&](int t) -> T& { return sum[t]; });
      block.each_lane([&](int t) {
        const std::int64_t row = first + t / warp_size;
        if (row >= rows) return;
        const T shift = top[t] + std::log(sum[t]), scale = T(1) / sum[t];
        own[t].each(t, n, [&](T& value, int, int, int) { value = log ? value - shift : value * scale; });
        own[t].write(t, n, y + row * n);
      });
    }
  }
};
template <class L, class T>
void softmax(View<const T> x, bool log, View<T> y) {
  const L run("softmax", y.device);
  const std::int64_t n = x.shape.back(), rows = n == 0 ? 0 : x.numel() / n;
  const auto by_warps = [&]<int N, int P>(std::integral_constant<int, N>, std::integral_constant<int, P>) {
    for_rows_of_warps(run, rows, SoftmaxOfWarps<T, N, P>{x.data, y.data, rows, static_cast<int>(n), log});
  };
  if (with_row_of_warp<T>(n, by_warps, x.data, static_cast<const T*>(y.data))) return;
  for_rows<L, T>(run, rows, n, Softmax<T>{x.data, y.data, rows, n, log});
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
template <class T, int N, int P>
struct SoftmaxPullOfWarps {
  const T *y, *g;
  T* dx;
  std::int64_t rows;
  int n;
  bool log;
  TTT_DEVICE void operator()(Block& block) const {
    PerThread<RowOfWarp<T, N, P>> own_y(block), own_g(block);
    PerThread<T> sum(block);
    for (std::int64_t first = block.index() * warps_of_block; first < rows; first += block.count() * warps_of_block) {
      block.each_lane([&](int t) {
        const std::int64_t row = first + t / warp_size;
        T total = T(0);
        if (row < rows) {
          own_y[t].read(t, n, y + row * n);
          own_g[t].read(t, n, g + row * n);
          own_g[t].each(t, n, [&](T cotangent, int j, int p, int) { total += log ? cotangent : cotangent * own_y[t].packs[p][j]; });
        }
        sum[t] = total;
      });
      warp_reduce<Sum>(block, [&](int t) -> T& { return sum[t]; });
      block.each_lane([&](int t) {
        const std::int64_t row = first + t / warp_size;
        if (row >= rows) return;
        own_g[t].each(t, n, [&](T& cotangent, int j, int p, int) {
          const T out = own_y[t].packs[p][j];
          cotangent = log ? cotangent - math::exp(out) * sum[t] : cotangent * out - out * sum[t];
        });
        own_g[t].write(t, n, dx + row * n);
      });
    }
  }
};
template <class L, class T>
void softmax_pull(View<const T> y, View<const T> g, bool log, View<T> dx) {
  const L run("softmax_pull", dx.device);
  const std::int64_t n = y.shape.back(), rows = n == 0 ? 0 : y.numel() / n;
  const auto by_warps = [&]<int N, int P>(std::integral_constant<int, N>, std::integral_constant<int, P>) {
    for_rows_of_warps(run, rows, SoftmaxPullOfWarps<T, N, P>{y.data, g.data, dx.data, rows, static_cast<int>(n), log});
  };
  if (with_row_of_warp<T>(n, by_warps, y.data, g.data, static_cast<const T*>(dx.data))) return;
  for_rows<L, T>(run, rows, n, SoftmaxPull<T>{y.data, g.data, dx.data, rows, n, log});
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
/// The same with a warp for each row, of T or rounded to bf16.
template <class T, int N, int P, class Out>
struct LayerNormOfWarps {
  const T *x, *w, *b;
  T eps;
  Out* y;
  std::int64_t rows;
  int n;
  TTT_DEVICE void operator()(Block& block) const {
    PerThread<RowOfWarp<T, N, P>> own(block);
    PerThread<T> sum(block), squares(block);
    for (std::int64_t first = block.index() * warps_of_block; first < rows; first += block.count() * warps_of_block) {
      block.each_lane([&](int t) {
        const std::int64_t row = first + t / warp_size;
        T total = T(0);
        if (row < rows) {
          own[t].read(t, n, x + row * n);
          own[t].each(t, n, [&](T value, int, int, int) { total += value; });
        }
        sum[t] = total;
      });
      warp_reduce<Sum>(block, [&](int t) -> T& { return sum[t]; });
      block.each_lane([&](int t) {
        const T mean = sum[t] / static_cast<T>(n);
        T total = T(0);
        own[t].each(t, n, [&](T& value, int, int, int) { value -= mean, total += value * value; });
        squares[t] = total;
      });
      warp_reduce<Sum>(block, [&](int t) -> T& { return squares[t]; });
      block.each_lane([&](int t) {
        const std::int64_t row = first + t / warp_size;
        if (row >= rows) return;
        const T rstd = T(1) / std::sqrt(squares[t] / static_cast<T>(n) + eps);
        RowOfWarp<T, N, P>::each_pack(t, n, [&](int p, int column) {
          const Pack<T, N> scale = w ? load_pack<N>(w + column) : same_pack<N>(T(1)), shift = b ? load_pack<N>(b + column) : same_pack<N>(T(0));
          Pack<Out, N> out;
          unrolled<N>([&](int j) { out[j] = convert<Out>(own[t].packs[p][j] * rstd * scale[j] + shift[j]); });
          store_pack(y + row * n + column, out);
        });
      });
    }
  }
};
template <class L, class T>
void layer_norm(View<const T> x, const T* w, const T* b, double eps, View<T> y) {
  const L run("layer_norm", y.device);
  const std::int64_t n = x.shape.back(), rows = n == 0 ? 0 : x.numel() / n;
  const auto by_warps = [&]<int N, int P>(std::integral_constant<int, N>, std::integral_constant<int, P>) {
    for_rows_of_warps(run, rows, LayerNormOfWarps<T, N, P, T>{x.data, w, b, static_cast<T>(eps), y.data, rows, static_cast<int>(n)});
  };
  if (with_row_of_warp<T>(n, by_warps, x.data, w, b, y.data)) return;
  for_rows<L, T>(run, rows, n, LayerNorm<T>{x.data, w, b, static_cast<T>(eps), y.data, rows, n});
}

/// y [R, C] = layer_norm(x [R, C]) rounded to bf16.
template <class L>
void normed_rows(const L& run, const View<const float>& x, const RowNorm<const float>& norm, bf16* y) {
  const std::int64_t rows = x.shape[0], n = x.shape[1];
  const auto by_warps = [&]<int N, int P>(std::integral_constant<int, N>, std::integral_constant<int, P>) {
    const auto eps = static_cast<float>(norm.eps);
    for_rows_of_warps(run, rows, LayerNormOfWarps<float, N, P, bf16>{x.data, norm.w, norm.b, eps, y, rows, static_cast<int>(n)});
  };
  if (with_row_of_warp<float>(n, by_warps, x.data, norm.w, norm.b)) return;
  const Scratch<L, float> whole(run, rows * n);
  const View<float> to{whole.data(), x.shape, x.strides, x.device};
  layer_norm<L, float>(x, norm.w, norm.b, norm.eps, to);
  cast<L, float, bf16>(View<const float>{to.data, to.shape, to.strides, to.device}, View<bf16>{y, x.shape, x.strides, x.device});
}

/// With x̂ = (x − mean)·rstd and h = g·w: dx = rstd (h − mean(h) − x̂ mean(h·x̂)), + plus unless that is null; a block has `length` rows in a row and
/// leaves Σ g·x̂ and Σ g of them in its part of `partial` [parts, 2, n], column i always written by the same thread.
template <class T>
struct LayerNormPull {
  const T *x, *w, *g, *plus;
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
          d[i] = s.rstd * (h(i) - mean_h - xhat(i) * mean_hx) + (plus ? plus[row * n + i] : T(0));
          if (!part) continue;
          const T for_w = cotangent[i] * xhat(i);
          part[i] = row == first ? for_w : part[i] + for_w;
          part[n + i] = row == first ? cotangent[i] : part[n + i] + cotangent[i];
        }
      });
    }
  }
};
/// The same with a warp for each row: a lane keeps its columns of w and of both sums over the rows of its warp, and the block adds up
/// its warps' sums in order.
template <class T, int N, int P>
struct LayerNormPullOfWarps {
  const T *x, *w, *g, *plus;
  T eps;
  T *dx, *partial;
  std::int64_t rows, length;
  int n;
  TTT_DEVICE void operator()(Block& block) const {
    using Row = RowOfWarp<T, N, P>;
    PerThread<Row> own_x(block), own_g(block), own_w(block), sum_w(block), sum_b(block);
    PerThread<T> sum_x(block), sum_h(block), squares(block), sum_hx(block);
    block.each_lane([&](int t) {
      own_w[t].set(T(1)), sum_w[t].set(T(0)), sum_b[t].set(T(0));
      if (w) own_w[t].read(t, n, w);
    });
    const std::int64_t begin = block.index() * length, end = begin + length < rows ? begin + length : rows;
    for (std::int64_t first = begin; first < end; first += warps_of_block) {
      block.each_lane([&](int t) {
        const std::int64_t row = first + t / warp_size;
        T total = T(0), total_h = T(0);
        own_x[t].set(T(0)), own_g[t].set(T(0));
        if (const std::int64_t next = row + warps_of_block; next < end) {
          constexpr int line = 128 / static_cast<int>(sizeof(T));
          for (int i = t % warp_size * line; i < n; i += warp_size * line) {
            prefetch(x + next * n + i), prefetch(g + next * n + i);
            if (plus) prefetch(plus + next * n + i);
          }
        }
        if (row < end) {
          own_x[t].read(t, n, x + row * n);
          own_g[t].read(t, n, g + row * n);
          own_x[t].each(t, n, [&](T value, int j, int p, int) { total += value, total_h += own_g[t].packs[p][j] * own_w[t].packs[p][j]; });
        }
        sum_x[t] = total, sum_h[t] = total_h;
      });
      warp_reduce<Sum>(block, [&](int t) -> T& { return sum_x[t]; });
      warp_reduce<Sum>(block, [&](int t) -> T& { return sum_h[t]; });
      block.each_lane([&](int t) {
        const T mean = sum_x[t] / static_cast<T>(n);
        T total = T(0), total_hx = T(0);
        own_x[t].each(t, n, [&](T& value, int j, int p, int) {
          value -= mean;
          total += value * value, total_hx += own_g[t].packs[p][j] * own_w[t].packs[p][j] * value;
        });
        squares[t] = total, sum_hx[t] = total_hx;
      });
      warp_reduce<Sum>(block, [&](int t) -> T& { return squares[t]; });
      warp_reduce<Sum>(block, [&](int t) -> T& { return sum_hx[t]; });
      block.each_lane([&](int t) {
        const std::int64_t row = first + t / warp_size;
        if (row >= end) return;
        const T rstd = T(1) / std::sqrt(squares[t] / static_cast<T>(n) + eps);
        const T mean_h = sum_h[t] / static_cast<T>(n), mean_hx = sum_hx[t] * rstd / static_cast<T>(n);
        own_x[t].each(t, n, [&](T& value, int j, int p, int) {
          const T cotangent = own_g[t].packs[p][j], xhat = value * rstd;
          sum_w[t].packs[p][j] += cotangent * xhat;
          sum_b[t].packs[p][j] += cotangent;
          value = rstd * (cotangent * own_w[t].packs[p][j] - mean_h - xhat * mean_hx);
        });
        if (plus)
          Row::each_pack(t, n, [&](int p, int column) {
            const Pack<T, N> more = load_pack<N>(plus + row * n + column);
            unrolled<N>([&](int j) { own_x[t].packs[p][j] += more[j]; });
          });
        own_x[t].write(t, n, dx + row * n);
      });
    }
    if (!partial) return;
    T* sums = block.shared<T>(2 * n);  // [2, n]
    for (int warp = 0; warp < warps_of_block; ++warp)
      block.each_thread([&](int t) {
        if (t / warp_size != warp) return;
        Row::each_pack(t, n, [&](int p, int column) {
          const auto add = [&](T* at, Pack<T, N> more) {
            const Pack<T, N> before = load_pack<N>(at);
            if (warp > 0) unrolled<N>([&](int j) { more[j] += before[j]; });
            store_pack(at, more);
          };
          add(sums + column, sum_w[t].packs[p]), add(sums + n + column, sum_b[t].packs[p]);
        });
      });
    T* part = partial + block.index() * 2 * n;
    block.each_of(2 * n, [&](int i) { part[i] = sums[i]; });
  }
};
template <class L, class T>
void layer_norm_pull_plus(View<const T> x, const T* w, View<const T> g, double eps, const T* plus, View<T> dx, T* dw, T* db) {
  const L run("layer_norm_pull", dx.device);
  const std::int64_t n = x.shape.back(), rows = n == 0 ? 0 : x.numel() / n;
  std::int64_t parts = 0;
  const auto pieces = [&](std::int64_t most, std::int64_t unit) {  // rows of a block, of which there are `parts`: a multiple of unit
    const std::int64_t length = std::max<std::int64_t>((rows + most * unit - 1) / (most * unit), 1) * unit;
    parts = (rows + length - 1) / length;
    return length;
  };
  const auto sum_weights = [&](const T* partial) {
    if (dw) sum_parts<L, T>(run, partial, parts, 2 * n, {1}, {n}, dw, {1});
    if (db) sum_parts<L, T>(run, partial + (parts > 0 ? n : 0), parts, 2 * n, {1}, {n}, db, {1});
  };
  const auto by_warps = [&]<int N, int P>(std::integral_constant<int, N>, std::integral_constant<int, P>) {
    const std::int64_t length = pieces(264, warps_of_block);
    const Scratch<L, T> partial(run, dw || db ? parts * 2 * n : 0);
    if (parts > 0)
      run.blocks(parts, block_threads, shared_size<T>(2 * n),
                 LayerNormPullOfWarps<T, N, P>{x.data, w, g.data, plus, static_cast<T>(eps), dx.data, partial.data(), rows, length,
                                               static_cast<int>(n)});
    sum_weights(partial.data());
  };
  if (with_row_of_warp<T>(n, by_warps, x.data, w, g.data, plus, static_cast<const T*>(dx.data))) return;
  const std::int64_t length = pieces(512, 1);
  const Scratch<L, T> partial(run, dw || db ? parts * 2 * n : 0);
  const int threads = row_threads(n);
  if (parts > 0)
    run.blocks(parts, threads, shared_size<T>(threads),
               LayerNormPull<T>{x.data, w, g.data, plus, static_cast<T>(eps), dx.data, partial.data(), rows, n, length});
  sum_weights(partial.data());
}
template <class L, class T>
void layer_norm_pull(View<const T> x, const T* w, View<const T> g, double eps, View<T> dx, T* dw, T* db) {
  layer_norm_pull_plus<L, T>(x, w, g, eps, nullptr, dx, dw, db);
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
