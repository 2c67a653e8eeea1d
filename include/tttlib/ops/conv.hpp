#pragma once
/// Convolutions of channels-last images [B, H, W, C] (cross-correlations, as everybody calls them).
/// Each comes as a trio of bilinear maps: forward F(x, w), gradient of the input I(g, w), gradient of the
/// weight K(x, g). The rules of each name the other two, so every order of derivative works.

#include "tttlib/backend/precision.hpp"
#include "tttlib/core/cost.hpp"
#include "tttlib/ops/elementwise.hpp"

namespace ttt {

/// Rows and columns of a 2-D option; one number stands for both.
struct Pair {
  std::int64_t rows, columns;
  template <class I>
    requires(std::is_integral_v<I> && !std::is_same_v<I, bool>)
  Pair(I both) : rows(static_cast<std::int64_t>(both)), columns(rows) {}  // NOLINT: implicit on purpose
  Pair(std::int64_t r, std::int64_t c) : rows(r), columns(c) {}
};

struct Conv2dOptions {
  Pair stride = 1, padding = 0, dilation = 1;
  std::int64_t groups = 1;
};

namespace detail {

inline ConvGeometry conv_geometry(const char* op, const Conv2dOptions& o) {
  if (o.stride.rows < 1 || o.stride.columns < 1 || o.dilation.rows < 1 || o.dilation.columns < 1 ||
      o.padding.rows < 0 || o.padding.columns < 0 || o.groups < 1)
    fail<ShapeError>(op, concat("options out of range: stride ", o.stride.rows, " x ", o.stride.columns,
                                ", padding ", o.padding.rows, " x ", o.padding.columns, ", dilation ",
                                o.dilation.rows, " x ", o.dilation.columns, ", groups ", o.groups));
  return {{o.stride.rows, o.stride.columns},
          {o.padding.rows, o.padding.columns},
          {o.dilation.rows, o.dilation.columns},
          o.groups};
}

/// [B, H', W', outputs] of an image shape and a kernel shape [.., kh, kw].
inline Shape conv_output_shape(const char* op, const Shape& x, const Shape& w, std::int64_t outputs,
                               const ConvGeometry& geometry) {
  Shape y{x[0], 0, 0, outputs};
  for (std::size_t axis = 0; axis < 2; ++axis) {
    std::int64_t reach = 0;
    if (__builtin_mul_overflow(geometry.dilation[axis], w[2 + axis] - 1, &reach))
      fail<ShapeError>(op, concat("too large a kernel: w ", w, ", dilation ", geometry.dilation[axis]));
    reach = add_lengths(op, reach, 1);
    const std::int64_t padded = add_lengths(op, add_lengths(op, x[1 + axis], geometry.padding[axis]), geometry.padding[axis]);
    if (w[2 + axis] < 1 || padded < reach)
      fail<ShapeError>(op,
                       concat("kernel does not fit: x ", x, ", w ", w, ", padding ", geometry.padding[axis],
                              "; it covers ", reach, " of ", padded, axis == 0 ? " rows" : " columns"));
    y[1 + axis] = (padded - reach) / geometry.stride[axis] + 1;
  }
  return y;
}

/// x itself if neighbouring channels are neighbours in memory, else a copy in row-major order.
template <class T>
Tensor<T> with_unit_channels(const Tensor<T>& x) {
  return x.shape().back() == 1 || x.strides().back() == 1 ? x : contiguous(x);
}

/// What tells the general from the depthwise trio: names and verbs.
struct GeneralConv {
  static constexpr const char *forward_name = "conv2d", *input_name = "conv2d_input_grad",
                              *weight_name = "conv2d_weight_grad";
  template <class T>
  static void forward(View<const T> x, View<const T> w, const ConvGeometry& g, View<T> y) {
    backend::conv(x, w, g, y);
  }
  template <class T>
  static void input_grad(View<const T> y, View<const T> w, const ConvGeometry& g, View<T> x) {
    backend::conv_input_grad(y, w, g, x);
  }
  template <class T>
  static void weight_grad(View<const T> x, View<const T> y, const ConvGeometry& g, View<T> w) {
    backend::conv_weight_grad(x, y, g, w);
  }
};
struct DepthwiseConv {
  static constexpr const char *forward_name = "depthwise_conv2d", *input_name = "depthwise_conv2d_input_grad",
                              *weight_name = "depthwise_conv2d_weight_grad";
  template <class T>
  static void forward(View<const T> x, View<const T> w, const ConvGeometry& g, View<T> y) {
    backend::depthwise(x, w, g, y);
  }
  template <class T>
  static void input_grad(View<const T> y, View<const T> w, const ConvGeometry& g, View<T> x) {
    backend::depthwise_input_grad(y, w, g, x);
  }
  template <class T>
  static void weight_grad(View<const T> x, View<const T> y, const ConvGeometry& g, View<T> w) {
    backend::depthwise_weight_grad(x, y, g, w);
  }
};

/// Shapes of one convolution, carried from rule to rule.
struct ConvShapes {
  ConvGeometry geometry;
  Shape x, w, y;
};

/// Multiply-accumulates of any of the three: output elements times kernel elements per output.
template <class Kind>
std::int64_t macs_of(const ConvShapes& s) {
  const std::int64_t window = s.w[2] * s.w[3];
  return numel(s.y) * window * (std::is_same_v<Kind, DepthwiseConv> ? 1 : s.w[1]);
}

template <class Kind, class T>
Tensor<T> conv_input_grad(const Tensor<T>& g, const Tensor<T>& w, const ConvShapes& s);
template <class Kind, class T>
Tensor<T> conv_weight_grad(const Tensor<T>& x, const Tensor<T>& g, const ConvShapes& s);

/// F(x, w)
template <class Kind, class T>
Tensor<T> conv_forward(const Tensor<T>& image, const Tensor<T>& w, const ConvShapes& s) {
  const Tensor<T> x = with_unit_channels(image);
  Tensor<T> y(s.y, x.device());
  Kind::template forward<T>(view(x), view(w), s.geometry, mutable_view(y));
  count_macs(macs_of<Kind>(s));
  return record<T>(
      Kind::forward_name, y, {{x, w.is_tracked()}, {w, x.is_tracked()}},
      with_this_precision([s](const Call<T>& c) { return conv_input_grad<Kind>(c.g, c.in(1), s); }),
      with_this_precision([s](const Call<T>& c) { return conv_weight_grad<Kind>(c.in(0), c.g, s); }));
}
/// I(g, w)
template <class Kind, class T>
Tensor<T> conv_input_grad(const Tensor<T>& cotangent, const Tensor<T>& w, const ConvShapes& s) {
  const Tensor<T> g = with_unit_channels(cotangent);
  Tensor<T> x(s.x, g.device());
  Kind::template input_grad<T>(view(g), view(w), s.geometry, mutable_view(x));
  count_macs(macs_of<Kind>(s));
  return record<T>(
      Kind::input_name, x, {{g, w.is_tracked()}, {w, g.is_tracked()}},
      with_this_precision([s](const Call<T>& c) { return conv_forward<Kind>(c.g, c.in(1), s); }),
      with_this_precision([s](const Call<T>& c) { return conv_weight_grad<Kind>(c.g, c.in(0), s); }));
}
/// K(x, g)
template <class Kind, class T>
Tensor<T> conv_weight_grad(const Tensor<T>& image, const Tensor<T>& cotangent, const ConvShapes& s) {
  const Tensor<T> x = with_unit_channels(image), g = with_unit_channels(cotangent);
  Tensor<T> w(s.w, x.device());
  Kind::template weight_grad<T>(view(x), view(g), s.geometry, mutable_view(w));
  count_macs(macs_of<Kind>(s));
  return record<T>(
      Kind::weight_name, w, {{x, g.is_tracked()}, {g, x.is_tracked()}},
      with_this_precision([s](const Call<T>& c) { return conv_input_grad<Kind>(c.in(1), c.g, s); }),
      with_this_precision([s](const Call<T>& c) { return conv_forward<Kind>(c.in(0), c.g, s); }));
}

}  // namespace detail

/// One kernel per channel: x [B, H, W, C], w [C, 1, kh, kw], or [B, C, kh, kw] with kernels of their own for
/// every image   ->   [B, H', W', C]. `options.groups` is not used. Throws ShapeError if the shapes do not
/// fit.
template <class T>
Tensor<T> depthwise_conv2d(const Tensor<T>& x, const Tensor<T>& w, const Conv2dOptions& options = {}) {
  const char* op = "depthwise_conv2d";
  require_same_device(op, x, w);
  if (x.dim() != 4 || w.dim() != 4)
    fail<ShapeError>(op, concat("needs x [B, H, W, C] and w [C, 1, kh, kw] or [B, C, kh, kw]: x ", x.shape(),
                                ", w ", w.shape()));
  const std::int64_t images = x.size(0), channels = x.size(3);
  const bool shared = w.size(0) == channels && w.size(1) == 1;
  if (!shared && (w.size(0) != images || w.size(1) != channels))
    fail<ShapeError>(
        op, concat("one kernel per channel is needed: x ", x.shape(), ", w ", w.shape(), "; w is neither [",
                   channels, ", 1, kh, kw] nor [", images, ", ", channels, ", kh, kw]"));
  detail::ConvShapes s;
  s.geometry = detail::conv_geometry(op, options);
  const Tensor<T> kernels = shared ? reshape(w, {1, channels, w.size(2), w.size(3)}) : w;
  s.x = x.shape();
  s.w = kernels.shape();
  s.y = detail::conv_output_shape(op, s.x, s.w, channels, s.geometry);
  return detail::conv_forward<detail::DepthwiseConv>(x, kernels, s);
}

/// Correlation of each image's channels with those of another, over the offsets of a kernel: what a depthwise
/// kernel's gradient is. x [B, H, W, C], g [B, H', W', C], kernel (kh, kw)   ->   [B, C, kh, kw]. Throws
/// ShapeError if g is not shaped like the convolution's output.
template <class T>
Tensor<T> depthwise_correlation(const Tensor<T>& x, const Tensor<T>& g, Pair kernel,
                                const Conv2dOptions& options = {}) {
  const char* op = "depthwise_correlation";
  require_same_device(op, x, g);
  if (x.dim() != 4) fail<ShapeError>(op, concat("needs x [B, H, W, C]: x ", x.shape()));
  detail::ConvShapes s;
  s.geometry = detail::conv_geometry(op, options);
  s.x = x.shape();
  s.w = {x.size(0), x.size(3), kernel.rows, kernel.columns};
  s.y = detail::conv_output_shape(op, s.x, s.w, x.size(3), s.geometry);
  if (g.shape() != s.y)
    fail<ShapeError>(op, concat("g does not fit: x ", x.shape(), ", g ", g.shape(), ", expected ", s.y));
  return detail::conv_weight_grad<detail::DepthwiseConv>(x, g, s);
}

/// x [B, H, W, C], w [O, C/groups, kh, kw], bias [O] or undefined   ->   [B, H', W', O] with
/// H' = (H + 2·padding − dilation·(kh−1) − 1)/stride + 1. Throws ShapeError if the shapes do not fit.
template <class T>
Tensor<T> conv2d(const Tensor<T>& x, const Tensor<T>& w, const Tensor<T>& bias = {},
                 const Conv2dOptions& options = {}) {
  const char* op = "conv2d";
  require_same_device(op, x, w);
  if (x.dim() != 4 || w.dim() != 4)
    fail<ShapeError>(
        op, concat("needs x [B, H, W, C] and w [O, C/groups, kh, kw]: x ", x.shape(), ", w ", w.shape()));
  const std::int64_t channels = x.size(3), outputs = w.size(0), groups = options.groups;
  detail::ConvShapes s;
  s.geometry = detail::conv_geometry(op, options);
  if (w.size(1) * groups != channels || outputs % groups != 0)
    fail<ShapeError>(op,
                     concat("channels do not fit: x ", x.shape(), " has ", channels, ", w ", w.shape(),
                            " takes ", w.size(1), " x ", groups, " groups and gives ", outputs),
                     "images are channels last, [B, H, W, C]; from_nchw(x) converts");
  if (bias.defined() && bias.shape() != Shape{outputs})
    fail<ShapeError>(op, concat("bias does not fit: bias ", bias.shape(), ", w ", w.shape()));
  s.x = x.shape();
  s.w = w.shape();
  s.y = detail::conv_output_shape(op, s.x, s.w, outputs, s.geometry);
  const Tensor<T> y = groups > 1 && groups == channels && groups == outputs
                          ? depthwise_conv2d(x, w, options)
                          : detail::conv_forward<detail::GeneralConv>(x, w, s);  // [B, H', W', O]
  return bias.defined() ? add(y, bias) : y;
}

}  // namespace ttt
