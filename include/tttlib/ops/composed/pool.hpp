#pragma once
/// Pooling of channels-last images [B, H, W, C].

#include "tttlib/ops/conv.hpp"
#include "tttlib/ops/create.hpp"
#include "tttlib/ops/index.hpp"
#include "tttlib/ops/matmul.hpp"

namespace ttt {

struct Pool2dOptions {
  Pair stride = 0;                // 0: the kernel's size, so that windows do not overlap
  Pair padding = 0;               // at most half the kernel
  bool count_include_pad = true;  // avg_pool2d: whether zeros of the padding count in the mean
};

namespace detail {

template <class T>
void require_image(const char* op, const Tensor<T>& x) {
  require_defined(op, x);
  if (x.dim() != 4) fail<ShapeError>(op, concat("needs an image [B, H, W, C]: x ", x.shape()));
}

/// Checked geometry of a pooling window, as a convolution has it.
template <class T>
Conv2dOptions pool_geometry(const char* op, const Tensor<T>& x, Pair kernel, const Pool2dOptions& options) {
  require_image(op, x);
  if (kernel.rows < 1 || kernel.columns < 1)
    fail<ShapeError>(op, concat("empty window: kernel ", kernel.rows, " x ", kernel.columns));
  if (options.padding.rows > kernel.rows / 2 || options.padding.columns > kernel.columns / 2)
    fail<ShapeError>(
        op, concat("the padding must be at most half the kernel: kernel ", kernel.rows, " x ", kernel.columns,
                   ", padding ", options.padding.rows, " x ", options.padding.columns));
  Conv2dOptions conv;
  conv.stride = {options.stride.rows ? options.stride.rows : kernel.rows,
                 options.stride.columns ? options.stride.columns : kernel.columns};
  conv.padding = options.padding;
  return conv;
}

/// The positions of one axis that each output covers.
using Windows = std::vector<std::vector<std::int64_t>>;

inline Windows sliding_windows(std::int64_t outputs, std::int64_t length, std::int64_t kernel,
                               std::int64_t stride, std::int64_t padding) {
  Windows windows(static_cast<std::size_t>(outputs));
  for (std::int64_t o = 0; o < outputs; ++o)
    for (std::int64_t at = o * stride - padding; at < o * stride - padding + kernel; ++at)
      if (at >= 0 && at < length) windows[static_cast<std::size_t>(o)].push_back(at);
  return windows;
}
/// Output o covers [⌊o·length/outputs⌋, ⌈(o+1)·length/outputs⌉).
inline Windows adaptive_windows(std::int64_t outputs, std::int64_t length) {
  Windows windows(static_cast<std::size_t>(outputs));
  for (std::int64_t o = 0; o < outputs; ++o)
    for (std::int64_t at = o * length / outputs; at < ((o + 1) * length + outputs - 1) / outputs; ++at)
      windows[static_cast<std::size_t>(o)].push_back(at);
  return windows;
}

/// Largest element of every window; the gradient goes to the first of equals.
template <class T>
Tensor<T> max_over_windows(const Tensor<T>& x, const Windows& rows, const Windows& columns) {
  const std::int64_t images = x.size(0), width = x.size(2), channels = x.size(3);
  const auto out_rows = static_cast<std::int64_t>(rows.size()),
             out_columns = static_cast<std::int64_t>(columns.size());
  std::size_t most_rows = 0, most_columns = 0;
  for (const auto& window : rows) most_rows = window.size() > most_rows ? window.size() : most_rows;
  for (const auto& window : columns)
    most_columns = window.size() > most_columns ? window.size() : most_columns;
  const auto taps = static_cast<std::int64_t>(most_rows * most_columns);
  std::vector<std::int64_t>
      positions;  // [out_rows, out_columns, taps]; short windows repeat their first element
  for (const auto& row : rows)
    for (const auto& column : columns)
      for (std::size_t i = 0; i < most_rows; ++i)
        for (std::size_t j = 0; j < most_columns; ++j) {
          const bool inside = i < row.size() && j < column.size();
          positions.push_back(row[inside ? i : 0] * width + column[inside ? j : 0]);
        }
  const std::int64_t pixels = out_rows * out_columns;
  const Tensor<std::int64_t> index = from_data(positions, {pixels * taps}, x.device());  // [P·K]
  const Tensor<T> flat = reshape(x, {images, x.size(1) * width, channels});              // [B, HW, C]
  const Tensor<T> windows =
      reshape(index_select(flat.detach(), index, 1), {images, pixels, taps, channels});  // [B, P, K, C]
  const Tensor<std::int64_t> best = argmax(windows, 2, true);                            // [B, P, 1, C]
  const Tensor<std::int64_t> choices =
      expand(reshape(index, {1, pixels, taps, 1}), {images, pixels, taps, channels});
  const Tensor<std::int64_t> chosen = squeeze(gather_at(choices, best, 2), 2);  // [B, P, C]
  return reshape(gather_at(flat, chosen, 1), {images, out_rows, out_columns, channels});
}

/// rows · x · columnsᵀ per image and channel: rows [h, H], columns [w, W], x [B, H, W, C] -> [B, h, w, C].
template <class T>
Tensor<T> resample(const Tensor<T>& x, const Tensor<T>& rows, const Tensor<T>& columns) {
  const std::int64_t images = x.size(0), width = x.size(2), channels = x.size(3), h = rows.size(0),
                     w = columns.size(0);
  const Tensor<T> down = matmul(rows, reshape(x, {images, x.size(1), width * channels}));  // [B, h, W·C]
  const Tensor<T> across = matmul(columns, reshape(down, {images * h, width, channels}));  // [B·h, w, C]
  return reshape(across, {images, h, w, channels});
}

inline std::string output_text(Pair size) { return concat("output ", size.rows, " x ", size.columns); }

/// Checked sizes of an adaptive pooling.
template <class T>
void require_output_size(const char* op, const Tensor<T>& x, Pair size) {
  require_image(op, x);
  if (size.rows < 1 || size.columns < 1 || x.size(1) < 1 || x.size(2) < 1)
    fail<ShapeError>(op, concat("empty image: x ", x.shape(), ", ", output_text(size)));
}

}  // namespace detail

/// Largest element of every window: x [B, H, W, C] -> [B, H', W', C]; padding never wins; the gradient goes
/// to the first of equals. Throws ShapeError if the window does not fit.
template <class T>
Tensor<T> max_pool2d(const Tensor<T>& x, Pair kernel, const Pool2dOptions& options = {}) {
  const Conv2dOptions conv = detail::pool_geometry("max_pool2d", x, kernel, options);
  const Shape w{1, 1, kernel.rows, kernel.columns};
  const Shape y = detail::conv_output_shape("max_pool2d", x.shape(), w, x.size(3),
                                            detail::conv_geometry("max_pool2d", conv));
  return detail::max_over_windows(
      x, detail::sliding_windows(y[1], x.size(1), kernel.rows, conv.stride.rows, conv.padding.rows),
      detail::sliding_windows(y[2], x.size(2), kernel.columns, conv.stride.columns, conv.padding.columns));
}

/// Mean of every window: x [B, H, W, C] -> [B, H', W', C]. Throws ShapeError if the window does not fit.
template <class T>
Tensor<T> avg_pool2d(const Tensor<T>& x, Pair kernel, const Pool2dOptions& options = {}) {
  const Conv2dOptions conv = detail::pool_geometry("avg_pool2d", x, kernel, options);
  const Shape w{x.size(3), 1, kernel.rows, kernel.columns};
  const Wide<T> share = 1 / static_cast<Wide<T>>(kernel.rows * kernel.columns);
  const Tensor<T> y = depthwise_conv2d(x, full<T>(w, share, x.device()), conv);
  if (options.count_include_pad) return y;
  const Shape image{1, x.size(1), x.size(2), 1}, one{1, 1, kernel.rows, kernel.columns};
  const Tensor<T> inside =
      depthwise_conv2d(ones<T>(image, x.device()), full<T>(one, share, x.device()), conv);
  return div(y, inside);  // inside [1, H', W', 1]: the share of each window that is not padding
}

/// Means over a grid of rows × columns windows that cover the image: x [B, H, W, C] -> [B, rows, columns, C].
template <class T>
Tensor<T> adaptive_avg_pool2d(const Tensor<T>& x, Pair size) {
  detail::require_output_size("adaptive_avg_pool2d", x, size);
  const auto means = [&](std::int64_t outputs, std::int64_t length) {
    std::vector<Wide<T>> weights(static_cast<std::size_t>(numel({outputs, length})));
    const detail::Windows windows = detail::adaptive_windows(outputs, length);
    for (std::size_t o = 0; o < windows.size(); ++o)
      for (std::int64_t at : windows[o])
        weights[o * static_cast<std::size_t>(length) + static_cast<std::size_t>(at)] =
            1 / static_cast<Wide<T>>(windows[o].size());
    return cast<T>(from_data(weights, {outputs, length}, x.device()));
  };
  return within_memory("adaptive_avg_pool2d", detail::output_text(size),
                       [&] { return detail::resample(x, means(size.rows, x.size(1)), means(size.columns, x.size(2))); });
}

/// Largest elements over the same windows.
template <class T>
Tensor<T> adaptive_max_pool2d(const Tensor<T>& x, Pair size) {
  detail::require_output_size("adaptive_max_pool2d", x, size);
  return within_memory("adaptive_max_pool2d", detail::output_text(size), [&] {
    return detail::max_over_windows(x, detail::adaptive_windows(size.rows, x.size(1)),
                                    detail::adaptive_windows(size.columns, x.size(2)));
  });
}

}  // namespace ttt
