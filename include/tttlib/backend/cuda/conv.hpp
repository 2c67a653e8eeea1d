#pragma once
/// Convolutions of channels-last images [B, H, W, C], general, grouped and depthwise: single kernels, neighbouring threads
/// on neighbouring channels. Weights of the general ones are laid out with their outputs (or inputs) innermost first.
/// Operations: 2 per weight and output pixel. Bytes: x and y once from memory, from cache once per tap; weights'
/// gradients add their parts, at most 2^20 numbers or one part, twice.
/// Every output is summed by one thread in a fixed order; weights' gradients over rows of images in parts that depend on
/// the shape only, added in order.

#include <algorithm>

#include "tttlib/backend/cuda/elementwise.hpp"
#include "tttlib/backend/cuda/reduce.hpp"

namespace ttt::cuda_backend {

/// An image tensor [B, H, W, C] as kernels see it.
template <class T>
struct Images {
  T* data;
  std::int64_t count, rows, columns, channels;
  std::int64_t step_image, step_row, step_column, step_channel;

  Images(const View<T>& v)  // NOLINT: implicit on purpose
      : data(v.data), count(v.shape[0]), rows(v.shape[1]), columns(v.shape[2]), channels(v.shape[3]),
        step_image(v.strides[0]), step_row(v.strides[1]), step_column(v.strides[2]), step_channel(v.strides[3]) {}
  TTT_DEVICE bool inside(std::int64_t row, std::int64_t column) const { return row >= 0 && row < rows && column >= 0 && column < columns; }
  TTT_DEVICE T& at(std::int64_t image, std::int64_t row, std::int64_t column, std::int64_t channel) const {
    return data[image * step_image + row * step_row + column * step_column + channel * step_channel];
  }
  std::int64_t size() const { return count * rows * columns * channels; }
};

/// Image, row, column and channel of element i of images of those sizes.
struct ImagePosition {
  std::int64_t image, row, column, channel;
  TTT_DEVICE ImagePosition(std::int64_t i, std::int64_t rows, std::int64_t columns, std::int64_t channels) {
    const std::int64_t pixel = i / channels, line = pixel / columns;
    channel = i - pixel * channels;
    column = pixel - line * columns;
    image = line / rows;
    row = line - image * rows;
  }
};

/// A kernel [kh, kw] moved over an image.
struct Window {
  std::int64_t kh, kw, stride[2], padding[2], dilation[2];
  Window(const ConvGeometry& g, const Shape& w)
      : kh(w[2]), kw(w[3]), stride{g.stride[0], g.stride[1]}, padding{g.padding[0], g.padding[1]}, dilation{g.dilation[0], g.dilation[1]} {}
  /// The input position that output position `out` reads through `tap`, along axis 0 or 1.
  TTT_DEVICE std::int64_t source(int axis, std::int64_t out, std::int64_t tap) const {
    return out * stride[axis] - padding[axis] + tap * dilation[axis];
  }
  /// The output position that reads input position `in` through `tap`, or −1.
  TTT_DEVICE std::int64_t reader(int axis, std::int64_t in, std::int64_t tap) const {
    const std::int64_t from = in + padding[axis] - tap * dilation[axis];
    return from < 0 || from % stride[axis] != 0 ? -1 : from / stride[axis];
  }
};

/// Rows of outputs (of all images) cut into parts for a weight's gradient of `size` numbers, by shape alone.
struct RowParts {
  std::int64_t rows, parts, length;
  RowParts(std::int64_t images, std::int64_t out_rows, std::int64_t size) : rows(images * out_rows) {
    parts = std::clamp<std::int64_t>((std::int64_t(1) << 20) / std::max<std::int64_t>(size, 1), 1, std::max<std::int64_t>(rows, 1));
    if (parts > 256) parts = 256;
    length = (rows + parts - 1) / parts;
  }
};

// ------------------------------------------------------------------------------------------------ general
/// y [B, H', W', O] from x [B, H, W, C] and w [kh, kw, C/groups, O].
template <class T>
struct Conv {
  Images<const T> x;
  const T* w;
  Window window;
  std::int64_t group_in, group_out;
  Images<T> y;
  TTT_DEVICE void operator()(std::int64_t i) const {
    const ImagePosition p(i, y.rows, y.columns, y.channels);
    const std::int64_t first = p.channel / group_out * group_in;
    T sum = T(0);
    for (std::int64_t a = 0; a < window.kh; ++a)
      for (std::int64_t b = 0; b < window.kw; ++b) {
        const std::int64_t row = window.source(0, p.row, a), column = window.source(1, p.column, b);
        if (!x.inside(row, column)) continue;
        const T* pixel = &x.at(p.image, row, column, first);
        const T* tap = w + (a * window.kw + b) * group_in * y.channels + p.channel;
        for (std::int64_t c = 0; c < group_in; ++c) sum += pixel[c * x.step_channel] * tap[c * y.channels];
      }
    y.at(p.image, p.row, p.column, p.channel) = sum;
  }
};
/// x [B, H, W, C] from g [B, H', W', O] and w [kh, kw, O, C/groups].
template <class T>
struct ConvInputGrad {
  Images<const T> g;
  const T* w;
  Window window;
  std::int64_t group_in, group_out;
  Images<T> x;
  TTT_DEVICE void operator()(std::int64_t i) const {
    const ImagePosition p(i, x.rows, x.columns, x.channels);
    const std::int64_t group = p.channel / group_in, c = p.channel - group * group_in, first = group * group_out;
    T sum = T(0);
    for (std::int64_t a = 0; a < window.kh; ++a)
      for (std::int64_t b = 0; b < window.kw; ++b) {
        const std::int64_t row = window.reader(0, p.row, a), column = window.reader(1, p.column, b);
        if (!g.inside(row, column)) continue;
        const T* pixel = &g.at(p.image, row, column, first);
        const T* tap = w + ((a * window.kw + b) * g.channels + first) * group_in + c;
        for (std::int64_t o = 0; o < group_out; ++o) sum += pixel[o * g.step_channel] * tap[o * group_in];
      }
    x.at(p.image, p.row, p.column, p.channel) = sum;
  }
};
/// partial [parts, kh, kw, C/groups, O] from x [B, H, W, C] and g [B, H', W', O].
template <class T>
struct ConvWeightGrad {
  Images<const T> x, g;
  Window window;
  std::int64_t group_in, group_out;
  RowParts split;
  T* partial;
  TTT_DEVICE void operator()(std::int64_t i) const {
    const std::int64_t o = i % g.channels, c = i / g.channels % group_in, tap = i / (g.channels * group_in) % (window.kh * window.kw);
    const std::int64_t part = i / (g.channels * group_in * window.kh * window.kw), first = part * split.length;
    const std::int64_t last = first + split.length < split.rows ? first + split.length : split.rows;
    const std::int64_t a = tap / window.kw, b = tap - a * window.kw, channel = o / group_out * group_in + c;
    T sum = T(0);
    for (std::int64_t line = first; line < last; ++line) {
      const std::int64_t image = line / g.rows, row = line - image * g.rows, from = window.source(0, row, a);
      if (from < 0 || from >= x.rows) continue;
      for (std::int64_t column = 0; column < g.columns; ++column) {
        const std::int64_t at = window.source(1, column, b);
        if (at >= 0 && at < x.columns) sum += x.at(image, from, at, channel) * g.at(image, row, column, o);
      }
    }
    partial[i] = sum;
  }
};

/// w [O, C/groups, kh, kw] with its axes in the order `axes`, row-major.
template <class L, class T>
void lay_out(const L&, const View<const T>& w, const Axes& axes, T* to) {
  View<const T> from{w.data, {}, {}, w.device};
  for (std::int64_t axis : axes) {
    from.shape.push_back(w.shape[static_cast<std::size_t>(axis)]);
    from.strides.push_back(w.strides[static_cast<std::size_t>(axis)]);
  }
  copy<L, T>(from, View<T>{to, from.shape, contiguous_strides(from.shape), w.device});
}

template <class L, class T>
void conv(View<const T> x, View<const T> w, const ConvGeometry& geometry, View<T> y) {
  const L run("conv", y.device);
  const Scratch<L, T> kernels(run, w.numel());                                                     // [kh, kw, C/g, O]
  lay_out(run, w, {2, 3, 1, 0}, kernels.data());
  for_each(run, y.numel(), Conv<T>{x, kernels.data(), Window(geometry, w.shape), w.shape[1], w.shape[0] / geometry.groups, y});
}
template <class L, class T>
void conv_input_grad(View<const T> g, View<const T> w, const ConvGeometry& geometry, View<T> x) {
  const L run("conv_input_grad", x.device);
  const Scratch<L, T> kernels(run, w.numel());                                                     // [kh, kw, O, C/g]
  lay_out(run, w, {2, 3, 0, 1}, kernels.data());
  for_each(run, x.numel(), ConvInputGrad<T>{g, kernels.data(), Window(geometry, w.shape), w.shape[1], w.shape[0] / geometry.groups, x});
}
template <class L, class T>
void conv_weight_grad(View<const T> x, View<const T> g, const ConvGeometry& geometry, View<T> w) {
  const L run("conv_weight_grad", w.device);
  const std::int64_t size = w.numel();
  const RowParts split(g.shape[0], g.shape[1], size);
  const Scratch<L, T> partial(run, split.parts * size);                                            // [parts, kh, kw, C/g, O]
  for_each(run, split.parts * size,
           ConvWeightGrad<T>{x, g, Window(geometry, w.shape), w.shape[1], w.shape[0] / geometry.groups, split, partial.data()});
  const Shape taps{w.shape[2], w.shape[3], w.shape[1], w.shape[0]};
  sum_parts<L, T>(run, partial.data(), split.parts, size, contiguous_strides(taps), taps, w.data,
                  {w.strides[2], w.strides[3], w.strides[1], w.strides[0]});
}

// ---------------------------------------------------------------------------------------------- depthwise
/// The kernels w [1 or B, C, kh, kw] of depthwise convolutions.
template <class T>
struct ChannelKernels {
  T* data;
  std::int64_t step_image, step_channel, step_row, step_column;
  ChannelKernels(const View<T>& w)  // NOLINT: implicit on purpose
      : data(w.data), step_image(w.shape[0] == 1 ? 0 : w.strides[0]), step_channel(w.strides[1]), step_row(w.strides[2]), step_column(w.strides[3]) {}
  TTT_DEVICE T& at(std::int64_t image, std::int64_t channel, std::int64_t a, std::int64_t b) const {
    return data[image * step_image + channel * step_channel + a * step_row + b * step_column];
  }
};

template <class T>
struct Depthwise {
  Images<const T> x;
  ChannelKernels<const T> w;
  Window window;
  Images<T> y;
  TTT_DEVICE void operator()(std::int64_t i) const {
    const ImagePosition p(i, y.rows, y.columns, y.channels);
    T sum = T(0);
    for (std::int64_t a = 0; a < window.kh; ++a)
      for (std::int64_t b = 0; b < window.kw; ++b) {
        const std::int64_t row = window.source(0, p.row, a), column = window.source(1, p.column, b);
        if (x.inside(row, column)) sum += x.at(p.image, row, column, p.channel) * w.at(p.image, p.channel, a, b);
      }
    y.at(p.image, p.row, p.column, p.channel) = sum;
  }
};
template <class T>
struct DepthwiseInputGrad {
  Images<const T> g;
  ChannelKernels<const T> w;
  Window window;
  Images<T> x;
  TTT_DEVICE void operator()(std::int64_t i) const {
    const ImagePosition p(i, x.rows, x.columns, x.channels);
    T sum = T(0);
    for (std::int64_t a = 0; a < window.kh; ++a)
      for (std::int64_t b = 0; b < window.kw; ++b) {
        const std::int64_t row = window.reader(0, p.row, a), column = window.reader(1, p.column, b);
        if (g.inside(row, column)) sum += g.at(p.image, row, column, p.channel) * w.at(p.image, p.channel, a, b);
      }
    x.at(p.image, p.row, p.column, p.channel) = sum;
  }
};
/// partial [B, parts, kh, kw, C] from x [B, H, W, C] and g [B, H', W', C]; an image's rows in parts.
template <class T>
struct DepthwiseWeightGrad {
  Images<const T> x, g;
  Window window;
  RowParts split;  // of one image
  T* partial;
  TTT_DEVICE void operator()(std::int64_t i) const {
    const std::int64_t channel = i % g.channels, tap = i / g.channels % (window.kh * window.kw), a = tap / window.kw, b = tap - a * window.kw;
    const std::int64_t unit = i / (g.channels * window.kh * window.kw), image = unit / split.parts;
    const std::int64_t first = (unit - image * split.parts) * split.length;
    const std::int64_t last = first + split.length < g.rows ? first + split.length : g.rows;
    T sum = T(0);
    for (std::int64_t row = first; row < last; ++row) {
      const std::int64_t from = window.source(0, row, a);
      if (from < 0 || from >= x.rows) continue;
      for (std::int64_t column = 0; column < g.columns; ++column) {
        const std::int64_t at = window.source(1, column, b);
        if (at >= 0 && at < x.columns) sum += x.at(image, from, at, channel) * g.at(image, row, column, channel);
      }
    }
    partial[i] = sum;
  }
};

template <class L, class T>
void depthwise(View<const T> x, View<const T> w, const ConvGeometry& geometry, View<T> y) {
  for_each(L("depthwise", y.device), y.numel(), Depthwise<T>{x, w, Window(geometry, w.shape), y});
}
template <class L, class T>
void depthwise_input_grad(View<const T> g, View<const T> w, const ConvGeometry& geometry, View<T> x) {
  for_each(L("depthwise_input_grad", x.device), x.numel(), DepthwiseInputGrad<T>{g, w, Window(geometry, w.shape), x});
}
template <class L, class T>
void depthwise_weight_grad(View<const T> x, View<const T> g, const ConvGeometry& geometry, View<T> w) {
  const L run("depthwise_weight_grad", w.device);
  const std::int64_t images = x.shape[0], channels = x.shape[3], size = w.shape[2] * w.shape[3] * channels;
  const RowParts split(1, g.shape[1], images * size);
  const Scratch<L, T> partial(run, images * split.parts * size);                                   // [B, parts, kh, kw, C]
  for_each(run, images * split.parts * size, DepthwiseWeightGrad<T>{x, g, Window(geometry, w.shape), split, partial.data()});
  const bool shared = w.shape[0] == 1;                                                             // one kernel sums over images
  const Shape taps{shared ? 1 : images, w.shape[2], w.shape[3], channels};
  Strides from = contiguous_strides(taps);
  from[0] = split.parts * size;
  sum_parts<L, T>(run, partial.data(), shared ? images * split.parts : split.parts, size, from, taps, w.data,
                  {w.strides[0], w.strides[2], w.strides[3], w.strides[1]});
}

template <class L, class T>
void add_convolutions(Verbs<T>& verbs) {
  verbs.conv = conv<L, T>;
  verbs.conv_input_grad = conv_input_grad<L, T>;
  verbs.conv_weight_grad = conv_weight_grad<L, T>;
  verbs.depthwise = depthwise<L, T>;
  verbs.depthwise_input_grad = depthwise_input_grad<L, T>;
  verbs.depthwise_weight_grad = depthwise_weight_grad<L, T>;
}

}  // namespace ttt::cuda_backend
