#pragma once
/// What kernels on channels-last images [B, H, W, C] share: views, positions, windows, parts, and channels side by side.

#include <algorithm>
#include <cstdlib>

#include "tttlib/backend/cuda/block.hpp"
#include "tttlib/backend/table.hpp"

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

/// n numbers side by side, read and written at once: 16 bytes where n is `channels_at_once<T>`.
template <class T, int n>
struct alignas(sizeof(T) * n) Channels {
  T at[n];
};
template <class T>
inline constexpr int channels_at_once = sizeof(T) == 8 ? 2 : 4;  // of bf16 8 bytes: the sums of 8 channels would fill the registers

/// One image [rows, columns] from some channel on; outside of it are zeros.
template <class S>
struct Plane {
  S* data;
  int rows, columns, step_row, step_column;

  template <int n>
  TTT_DEVICE Channels<std::remove_const_t<S>, n> read(int row, int column) const {
    using Value = Channels<std::remove_const_t<S>, n>;
    const bool inside = row >= 0 && row < rows && column >= 0 && column < columns;
    return inside ? *reinterpret_cast<const Value*>(data + row * step_row + column * step_column) : Value{};
  }
  template <class T, int n>
  TTT_DEVICE void write(int row, int column, const Channels<T, n>& value) const {
    Channels<S, n> stored;
    for (int i = 0; i < n; ++i) stored.at[i] = convert<S>(value.at[i]);
    *reinterpret_cast<Channels<S, n>*>(data + row * step_row + column * step_column) = stored;
  }
  TTT_DEVICE Plane from_channel(int channel) const { return {data + channel, rows, columns, step_row, step_column}; }
};
template <class S>
TTT_DEVICE Plane<S> plane_of(const Images<S>& x, int image, int channel) {
  return {x.data + image * x.step_image + channel, static_cast<int>(x.rows), static_cast<int>(x.columns), static_cast<int>(x.step_row),
          static_cast<int>(x.step_column)};
}

/// Whether neighbouring channels are side by side and 32 bits hold every offset in an image.
template <class S>
bool has_planes(const View<S>& v) {
  const std::int64_t span = (v.shape[1] - 1) * std::abs(v.strides[1]) + (v.shape[2] - 1) * std::abs(v.strides[2]) + v.shape[3];
  return (v.strides[3] == 1 || v.shape[3] == 1) && span <= 0x3fffffff && v.shape[0] <= 0x3fffffff;
}
/// Whether every pixel can be read n channels at a time.
template <class S>
bool reads_at_once(const View<S>& v, int n) {
  bool multiples = v.shape[3] % n == 0 && reinterpret_cast<std::uintptr_t>(v.data) % (sizeof(S) * static_cast<std::size_t>(n)) == 0;
  for (std::size_t axis = 0; axis < 3; ++axis) multiples = multiples && (v.shape[axis] <= 1 || v.strides[axis] % n == 0);
  return multiples;
}

}  // namespace ttt::cuda_backend
