#pragma once
/// Convolutions of channels-last images [B, H, W, C]. Ungrouped ones are products of patches and weights, in the precision
/// that products have (backend/cuda/matmul.hpp); grouped ones are single kernels in T, neighbouring threads on neighbouring
/// channels, with weights laid out outputs (or inputs) innermost. Depthwise ones are in backend/cuda/depthwise.hpp.
/// Operations: 2 per weight and output pixel. Bytes: x and y once, patches (kh·kw/stride² times x) written and read once.
/// Of grouped ones x and y once from memory, from cache once per tap; their weights' gradients add their parts, at most
/// 2^20 numbers or one part, twice.
/// Pieces and parts of a sum depend on the shape only and are added in order; within a product the order is the BLAS's.

#include "tttlib/backend/cuda/depthwise.hpp"
#include "tttlib/backend/cuda/images.hpp"
#include "tttlib/backend/cuda/matmul.hpp"
#include "tttlib/backend/cuda/reduce.hpp"

namespace ttt::cuda_backend {

/// w [O, C/groups, kh, kw] with its axes in the order `axes`, row-major.
template <class L, class T>
void lay_out(const View<const T>& w, const Axes& axes, T* to) {
  View<const T> from{w.data, {}, {}, w.device};
  for (std::int64_t axis : axes) {
    from.shape.push_back(w.shape[static_cast<std::size_t>(axis)]);
    from.strides.push_back(w.strides[static_cast<std::size_t>(axis)]);
  }
  copy<L, T>(from, View<T>{to, from.shape, contiguous_strides(from.shape), w.device});
}

// ------------------------------------------------------------------------------------ products of patches
/// patches [images, H', W', kh, kw, C] of x, an output pixel's neighbourhood side by side; a block has a row of output pixels.
/// Where no patch leaves the image and its pixels are neighbours, a row of a patch is one run of kw·C numbers.
template <class T, int n>
struct GatherPatches {
  Images<const T> x;
  Window window;
  int first_image, out_rows, out_columns, taps, run;  // taps: runs to a row of a patch, `run` numbers each
  T* patches;
  TTT_DEVICE void operator()(Block& block) const {
    const int line = static_cast<int>(block.index()), image = line / out_rows, kh = static_cast<int>(window.kh), packs = run / n;
    const int top = static_cast<int>(window.source(0, line - image * out_rows, 0)), down = static_cast<int>(window.dilation[0]);
    const int left = static_cast<int>(-window.padding[1]), across = static_cast<int>(window.stride[1]);
    const int right = static_cast<int>(window.dilation[1]);
    const Plane<const T> from = plane_of(x, first_image + image, 0);
    T* to = patches + std::int64_t(line) * out_columns * kh * taps * run;
    const int count = kh * out_columns * taps * packs, threads = block.threads();
    constexpr int batch = 4;  // loads on their way at once
    block.each_thread([&](int t) {
      for (int first = t; first < count; first += batch * threads) {
        Channels<T, n> value[batch];
        int at[batch];
        for (int k = 0; k < batch; ++k) {                                                          // in the order of x
          const int i = first + k * threads;
          at[k] = -1;
          if (i >= count) continue;
          const int above = i / packs, pack = i - above * packs, cell = taps == 1 ? above : above / taps, tap = above - cell * taps;
          const int a = cell / out_columns, column = cell - a * out_columns;
          value[k] = from.from_channel(pack * n).template read<n>(top + a * down, left + column * across + tap * right);
          at[k] = ((column * kh + a) * taps + tap) * run + pack * n;
        }
        for (int k = 0; k < batch; ++k)
          if (at[k] >= 0) *reinterpret_cast<Channels<T, n>*>(to + at[k]) = value[k];
      }
    });
  }
};
/// x = the sum of what patches [images, H', W', kh, kw, C] say of its pixels; a block has a row of x.
template <class T, int n>
struct AddPatches {
  const T* patches;
  int kh, kw, stride[2], padding[2], dilation[2];
  int first_image, out_rows, out_columns;
  Images<T> x;

  AddPatches(const T* from, const Window& w, std::int64_t first, std::int64_t out_h, std::int64_t out_w, const Images<T>& to)
      : patches(from), kh(static_cast<int>(w.kh)), kw(static_cast<int>(w.kw)), first_image(static_cast<int>(first)),
        out_rows(static_cast<int>(out_h)), out_columns(static_cast<int>(out_w)), x(to) {
    for (int axis = 0; axis < 2; ++axis) {
      stride[axis] = static_cast<int>(w.stride[axis]), padding[axis] = static_cast<int>(w.padding[axis]);
      dilation[axis] = static_cast<int>(w.dilation[axis]);
    }
  }
  TTT_DEVICE void operator()(Block& block) const {
    const int rows = static_cast<int>(x.rows), line = static_cast<int>(block.index()), image = line / rows, row = line - image * rows;
    const int channels = static_cast<int>(x.channels), packs = channels / n;
    const Plane<T> to = plane_of(x, first_image + image, 0);
    const T* from = patches + std::int64_t(image) * out_rows * out_columns * kh * kw * channels;
    const int down = step(0), across = step(1), top = first(0, row);
    block.each_of(static_cast<int>(x.columns) * packs, [&](int i) {
      const int column = i / packs, channel = (i - column * packs) * n;
      Channels<T, n> sum{};
      for (int a = top; a < kh; a += down) {
        const int out_row = reader(0, row, a);
        if (out_row < 0 || out_row >= out_rows) continue;
        for (int b = first(1, column); b < kw; b += across) {
          const int out_column = reader(1, column, b);
          if (out_column < 0 || out_column >= out_columns) continue;
          const int tap = ((out_row * out_columns + out_column) * kh + a) * kw + b;
          const auto term = *reinterpret_cast<const Channels<T, n>*>(from + tap * channels + channel);
          for (int k = 0; k < n; ++k) sum.at[k] += term.at[k];
        }
      }
      to.from_channel(channel).write(row, column, sum);
    });
  }

 private:
  /// Without dilation, only every stride-th tap can have read a pixel: from which on, and how far apart.
  TTT_DEVICE int first(int axis, int position) const { return dilation[axis] == 1 ? (position + padding[axis]) % stride[axis] : 0; }
  TTT_DEVICE int step(int axis) const { return dilation[axis] == 1 ? stride[axis] : 1; }
  /// Window's, in 32 bits.
  TTT_DEVICE int reader(int axis, int in, int tap) const {
    const int at = in + padding[axis] - tap * dilation[axis], out = at / stride[axis];
    return at < 0 || out * stride[axis] != at ? -1 : out;
  }
};

/// Images [B, H, W, C] as a matrix [B·H·W, C], where the strides allow it.
template <class T>
struct PixelMatrix {
  bool possible;
  View<T> all;
  explicit PixelMatrix(const View<T>& v) {
    Shape merged;
    Strides step[1];
    backend::merge_axes(Shape{v.shape[0], v.shape[1], v.shape[2]}, {Strides{v.strides[0], v.strides[1], v.strides[2]}}, merged, step);
    possible = merged.size() == 1;
    all = {v.data, {v.shape[0] * v.shape[1] * v.shape[2], v.shape[3]}, {step[0][0], v.strides[3]}, v.device};
  }
  View<T> rows(std::int64_t first, std::int64_t n) const { return {all.data + first * all.strides[0], {n, all.shape[1]}, all.strides, all.device}; }
};

/// An ungrouped convolution of x [B, H, W, C] to y [B, H', W', O] as products with patches [pixels, kh·kw·C], in pieces of
/// so many images that the patches stay in the cache of a large GPU (2^24 numbers, or one image's).
template <class L, class T>
class PatchProducts {
 public:
  template <class X, class Y>
  PatchProducts(const L& run, const View<X>& x, const View<Y>& y, const Shape& w, const ConvGeometry& geometry)
      : run_(run), window_(geometry, w), images_(x.shape[0]), out_rows_(y.shape[1]), out_columns_(y.shape[2]), size_(w[1] * w[2] * w[3]) {
    const std::int64_t image = pixels() * size_;
    possible_ = geometry.groups == 1 && x.numel() > 0 && y.numel() > 0 && size_ > 0 && has_planes(x) && has_planes(y) && image <= 0x3fffffff;
    if (!possible_) return;
    // A kernel of one tap reads every pixel once, as it is.
    own_ = size_ == w[1] && x.shape[1] == out_rows_ && x.shape[2] == out_columns_ && geometry.stride[0] == 1 && geometry.stride[1] == 1 &&
           PixelMatrix<X>(x).possible;
    in_piece_ = own_ ? images_ : std::clamp<std::int64_t>((std::int64_t(1) << 24) / image, 1, images_);
    bool inside = x.strides[2] == x.shape[3] && geometry.dilation[1] == 1;
    for (int axis = 0; axis < 2; ++axis) inside = inside && geometry.padding[axis] == 0;
    taps_ = inside ? 1 : w[3], length_ = size_ / (w[2] * taps_);
  }
  bool possible() const { return possible_; }
  bool own() const { return own_; }
  std::int64_t pixels() const { return out_rows_ * out_columns_; }
  std::int64_t size() const { return size_; }
  std::int64_t pieces() const { return (images_ + in_piece_ - 1) / in_piece_; }
  std::int64_t scratch() const { return own_ ? 0 : in_piece_ * pixels() * size_; }

  /// f(first image, images) for every piece.
  template <class F>
  void each_piece(const F& f) const {
    for (std::int64_t first = 0; first < images_; first += in_piece_) f(first, std::min(in_piece_, images_ - first));
  }
  /// patches [n·H'·W', kh·kw·C] of those images, in `to` or where they are.
  View<const T> gather(const View<const T>& x, std::int64_t first, std::int64_t n, T* to) const {
    if (own_) return PixelMatrix<const T>(x).all;
    constexpr int wide = channels_at_once<T>;
    const bool aligned = length_ % wide == 0 && aligned_steps(x, wide);
    if (aligned) gather_with<wide>(x, first, n, to);
    else gather_with<1>(x, first, n, to);
    return {to, {n * pixels(), size_}, {size_, 1}, x.device};
  }
  void add(const T* patches, std::int64_t first, std::int64_t n, const View<T>& x) const {
    constexpr int wide = channels_at_once<T>;
    if (reads_at_once(x, wide)) add_with<wide>(patches, first, n, x);
    else add_with<1>(patches, first, n, x);
  }

 private:
  /// Whether every run of a patch begins at a multiple of n numbers.
  bool aligned_steps(const View<const T>& x, int n) const {
    const std::int64_t column = taps_ == 1 ? window_.stride[1] * x.strides[2] : x.strides[2];
    return x.strides[0] % n == 0 && x.strides[1] % n == 0 && column % n == 0 && reinterpret_cast<std::uintptr_t>(x.data) % (sizeof(T) * n) == 0;
  }
  template <int n>
  void gather_with(const View<const T>& x, std::int64_t first, std::int64_t images, T* to) const {
    run_.blocks(images * out_rows_, block_threads, 0,
                GatherPatches<T, n>{x, window_, static_cast<int>(first), static_cast<int>(out_rows_), static_cast<int>(out_columns_),
                                    static_cast<int>(taps_), static_cast<int>(length_), to});
  }
  template <int n>
  void add_with(const T* patches, std::int64_t first, std::int64_t images, const View<T>& x) const {
    run_.blocks(images * x.shape[1], block_threads, 0,
                AddPatches<T, n>(patches, window_, first, out_rows_, out_columns_, x));
  }

  const L& run_;
  Window window_;
  std::int64_t images_, out_rows_, out_columns_, size_, in_piece_ = 1, taps_ = 1, length_ = 1;
  bool possible_ = false, own_ = false;
};

/// w [O, C, kh, kw] as a matrix [O, kh·kw·C], in `to`.
template <class L, class T>
View<const T> kernel_matrix(const View<const T>& w, T* to) {
  lay_out<L, T>(w, {0, 2, 3, 1}, to);
  const std::int64_t size = w.shape[1] * w.shape[2] * w.shape[3];
  return {to, {w.shape[0], size}, {size, 1}, w.device};
}
template <class T>
View<const T> turned(const View<const T>& matrix) {
  return {matrix.data, {matrix.shape[1], matrix.shape[0]}, {matrix.strides[1], matrix.strides[0]}, matrix.device};
}
/// g [B, H', W', O] as a matrix: itself or a copy.
template <class L, class T>
class PixelRows {
 public:
  PixelRows(const L& run, const View<const T>& g) : matrix_(g), scratch_(run, matrix_.possible ? 0 : g.numel()) {
    if (matrix_.possible) return;
    const View<T> plain{scratch_.data(), g.shape, contiguous_strides(g.shape), g.device};
    copy<L, T>(g, plain);
    matrix_ = PixelMatrix<const T>(plain);
  }
  const PixelMatrix<const T>& matrix() const { return matrix_; }

 private:
  PixelMatrix<const T> matrix_;
  Scratch<L, T> scratch_;
};

template <class L, class T>
void conv_by_patches(const L& run, const PatchProducts<L, T>& by, const View<const T>& x, const View<const T>& w, const PixelMatrix<T>& y) {
  const Scratch<L, T> kernels(run, w.numel()), patches(run, by.scratch());
  const View<const T> matrix = turned(kernel_matrix<L, T>(w, kernels.data()));                     // [kh·kw·C, O]
  by.each_piece([&](std::int64_t first, std::int64_t n) {
    multiply_chosen<L, T>(run, by.gather(x, first, n, patches.data()), matrix, nullptr, y.rows(first * by.pixels(), n * by.pixels()));
  });
}
template <class L, class T>
void conv_input_grad_by_patches(const L& run, const PatchProducts<L, T>& by, const View<const T>& g, const View<const T>& w, const View<T>& x) {
  const Scratch<L, T> kernels(run, w.numel()), patches(run, by.scratch());
  const View<const T> matrix = kernel_matrix<L, T>(w, kernels.data());                             // [O, kh·kw·C]
  const PixelRows<L, T> rows(run, g);
  if (by.own()) return multiply_chosen<L, T>(run, rows.matrix().all, matrix, nullptr, PixelMatrix<T>(x).all);
  by.each_piece([&](std::int64_t first, std::int64_t n) {
    const View<T> of_pixels{patches.data(), {n * by.pixels(), by.size()}, {by.size(), 1}, x.device};
    multiply_chosen<L, T>(run, rows.matrix().rows(first * by.pixels(), n * by.pixels()), matrix, nullptr, of_pixels);
    by.add(patches.data(), first, n, x);
  });
}
template <class L, class T>
void conv_weight_grad_by_patches(const L& run, const PatchProducts<L, T>& by, const View<const T>& x, const View<const T>& g, const View<T>& w) {
  const std::int64_t size = w.numel(), slots = std::min<std::int64_t>(by.pieces(), 16);
  const Scratch<L, T> patches(run, by.scratch()), partial(run, slots * size);                      // [slots, O, kh, kw, C]
  const PixelRows<L, T> rows(run, g);
  std::int64_t filled = 0;
  by.each_piece([&](std::int64_t first, std::int64_t n) {
    if (filled == slots) {  // their sum goes to the first one
      sum_parts<L, T>(run, partial.data(), slots, size, {1}, {size}, partial.data(), {1});
      filled = 1;
    }
    const View<T> sums{partial.data() + filled++ * size, {w.shape[0], by.size()}, {by.size(), 1}, w.device};
    multiply_chosen<L, T>(run, turned(rows.matrix().rows(first * by.pixels(), n * by.pixels())), by.gather(x, first, n, patches.data()), nullptr, sums);
  });
  const Shape taps{w.shape[0], w.shape[2], w.shape[3], w.shape[1]};
  sum_parts<L, T>(run, partial.data(), filled, size, contiguous_strides(taps), taps, w.data,
                  {w.strides[0], w.strides[2], w.strides[3], w.strides[1]});
}

// -------------------------------------------------------------------------------- kernels, groups as well
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

// ------------------------------------------------------------------------------------------------ verbs
template <class L, class T>
void conv(View<const T> x, View<const T> w, const ConvGeometry& geometry, View<T> y) {
  const L run("conv", y.device);
  const PatchProducts<L, T> by(run, x, y, w.shape, geometry);
  const PixelMatrix<T> pixels(y);
  if (by.possible() && pixels.possible) return conv_by_patches(run, by, x, w, pixels);
  const Scratch<L, T> kernels(run, w.numel());                                                     // [kh, kw, C/g, O]
  lay_out<L, T>(w, {2, 3, 1, 0}, kernels.data());
  for_each(run, y.numel(), Conv<T>{x, kernels.data(), Window(geometry, w.shape), w.shape[1], w.shape[0] / geometry.groups, y});
}
template <class L, class T>
void conv_input_grad(View<const T> g, View<const T> w, const ConvGeometry& geometry, View<T> x) {
  const L run("conv_input_grad", x.device);
  const PatchProducts<L, T> by(run, x, g, w.shape, geometry);
  if (by.possible()) return conv_input_grad_by_patches(run, by, g, w, x);
  const Scratch<L, T> kernels(run, w.numel());                                                     // [kh, kw, O, C/g]
  lay_out<L, T>(w, {2, 3, 0, 1}, kernels.data());
  for_each(run, x.numel(), ConvInputGrad<T>{g, kernels.data(), Window(geometry, w.shape), w.shape[1], w.shape[0] / geometry.groups, x});
}
template <class L, class T>
void conv_weight_grad(View<const T> x, View<const T> g, const ConvGeometry& geometry, View<T> w) {
  const L run("conv_weight_grad", w.device);
  const PatchProducts<L, T> by(run, x, g, w.shape, geometry);
  if (by.possible()) return conv_weight_grad_by_patches(run, by, x, g, w);
  const std::int64_t size = w.numel();
  const RowParts split(g.shape[0], g.shape[1], size);
  const Scratch<L, T> partial(run, split.parts * size);                                            // [parts, kh, kw, C/g, O]
  for_each(run, split.parts * size,
           ConvWeightGrad<T>{x, g, Window(geometry, w.shape), w.shape[1], w.shape[0] / geometry.groups, split, partial.data()});
  const Shape taps{w.shape[2], w.shape[3], w.shape[1], w.shape[0]};
  sum_parts<L, T>(run, partial.data(), split.parts, size, contiguous_strides(taps), taps, w.data,
                  {w.strides[2], w.strides[3], w.strides[1], w.strides[0]});
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
