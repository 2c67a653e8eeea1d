#pragma once
/// General and grouped convolutions over channels-last images [B, H, W, C], as products of patches and
/// weights. Operations: 2 per weight and output pixel. Channels must be contiguous (stride 1) in x and g; the
/// other strides are free. Results do not depend on the number of threads: every output is summed by one
/// thread in a fixed order, and weight gradients over fixed groups of images, added in order.

#include <algorithm>
#include <vector>

#include "tttlib/backend/cpu/matmul-inl.hpp"

namespace ttt::cpu_backend {
inline namespace TTTLIB_KERNELS {

/// w [O, Cg, kh, kw] -> [O, kh·kw·Cg]: the order in which patches are laid out; in a buffer of this thread.
template <class T>
const T* pack_kernels(View<const T> w) {
  const std::int64_t outputs = w.shape[0], channels = w.shape[1], kh = w.shape[2], kw = w.shape[3];
  T* packed = packing_buffer<T, Packing::convolution>(w.numel());
  for (std::int64_t o = 0; o < outputs; ++o)
    for (std::int64_t c = 0; c < channels; ++c) {
      const T* from = w.data + o * w.strides[0] + c * w.strides[1];
      T* to = packed + o * kh * kw * channels + c;
      for (std::int64_t i = 0; i < kh; ++i)
        for (std::int64_t j = 0; j < kw; ++j, to += channels) *to = from[i * w.strides[2] + j * w.strides[3]];
    }
  return packed;
}

/// Sizes shared by the three general kernels; `y_shape` is [B, H', W', O], `w_shape` [O, Cg, kh, kw].
struct ConvSizes {
  std::int64_t out_rows, out_columns, kh, kw, group_in, group_out, groups, patch;
  std::int64_t block;  // output rows whose patches are laid out at once: about 2^18 numbers

  ConvSizes(const Shape& y_shape, const Shape& w_shape, const ConvGeometry& geometry)
      : out_rows(y_shape[1]),
        out_columns(y_shape[2]),
        kh(w_shape[2]),
        kw(w_shape[3]),
        group_in(w_shape[1]),
        group_out(w_shape[0] / geometry.groups),
        groups(geometry.groups),
        patch(kh * kw * group_in) {
    block = (std::int64_t(1) << 18) / (out_columns * patch + 1) + 1;
    if (block > out_rows) block = out_rows;
  }
  std::int64_t blocks() const { return block == 0 ? 0 : (out_rows + block - 1) / block; }
  std::int64_t rows_in_block(std::int64_t index) const {
    const std::int64_t left = out_rows - index * block;
    return left < block ? left : block;
  }
};

/// Visits the patches of output rows [first, first + count) in runs as long as they are neighbours in the image:
/// `visit(pixels, patch, n)` for n numbers, or `outside(patch, n)` where the patch hangs over the border.
template <class T, class P, class Visit, class Outside>
void walk_patches(T* image, const Strides& strides, const Shape& shape, const ConvSizes& s,
                  const ConvGeometry& geometry, std::int64_t first, std::int64_t count, P* patches,
                  const Visit& visit, const Outside& outside) {
  const bool neighbours = strides[2] == s.group_in && geometry.dilation[1] == 1;  // a row of a patch is one run
  for (std::int64_t oh = first; oh < first + count; ++oh)
    for (std::int64_t ow = 0; ow < s.out_columns; ++ow) {
      const std::int64_t left = ow * geometry.stride[1] - geometry.padding[1];
      for (std::int64_t i = 0; i < s.kh; ++i) {
        const std::int64_t ih = oh * geometry.stride[0] - geometry.padding[0] + i * geometry.dilation[0];
        const bool inside = ih >= 0 && ih < shape[1];
        for (std::int64_t j = 0; j < s.kw;) {
          const std::int64_t iw = left + j * geometry.dilation[1];
          const bool visible = inside && iw >= 0 && iw < shape[2];
          std::int64_t taps = 1;
          if (!inside) taps = s.kw - j;
          else if (neighbours && visible) taps = std::min(s.kw - j, shape[2] - iw);
          if (visible) visit(image + ih * strides[1] + iw * strides[2], patches, taps * s.group_in);
          else outside(patches, taps * s.group_in);
          patches += taps * s.group_in, j += taps;
        }
      }
    }
}

template <class T>
void lay_out_patches(const T* image, const Strides& strides, const Shape& shape, const ConvSizes& s,
                     const ConvGeometry& geometry, std::int64_t first, std::int64_t count, T* patches) {
  walk_patches(
      image, strides, shape, s, geometry, first, count, patches,
      [](const T* __restrict pixels, T* __restrict patch, std::int64_t n) {
        for (std::int64_t i = 0; i < n; ++i) patch[i] = pixels[i];
      },
      [](T* patch, std::int64_t n) {
        for (std::int64_t i = 0; i < n; ++i) patch[i] = T(0);
      });
}

/// One buffer per thread for patches.
template <class T>
T* patch_buffer(std::int64_t count) {
  thread_local std::vector<T> buffer;
  if (buffer.size() < static_cast<std::size_t>(count)) buffer.resize(static_cast<std::size_t>(count));
  return buffer.data();
}

template <class T>
void conv(View<const T> x, View<const T> w, const ConvGeometry& geometry, View<T> y) {
  const MatmulPrecision precision = matmul_precision();  // of this thread, for all that help it
  const ConvSizes s(y.shape, w.shape, geometry);
  const T* kernels = pack_kernels(w);
  const std::int64_t blocks = s.blocks();
  parallel_for(y.shape[0] * blocks, 1, [&](std::int64_t unit, std::int64_t) {
    const std::int64_t image = unit / blocks, first = unit % blocks * s.block,
                       rows = s.rows_in_block(unit % blocks);
    const std::int64_t pixels = rows * s.out_columns;
    T* patches = patch_buffer<T>(pixels * s.patch);
    for (std::int64_t group = 0; group < s.groups; ++group) {
      lay_out_patches(x.data + image * x.strides[0] + group * s.group_in, x.strides, x.shape, s, geometry,
                      first, rows, patches);
      const T* k = kernels + group * s.group_out * s.patch;
      T* out = y.data + image * y.strides[0] + first * y.strides[1] + group * s.group_out;
      multiply<T>({patches, pixels, s.patch, s.patch, 1}, {k, s.patch, s.group_out, 1, s.patch}, nullptr, 0,
                  {out, pixels, s.group_out, y.strides[2], 1}, precision);
    }
  });
}

template <class T>
void conv_input_grad(View<const T> g, View<const T> w, const ConvGeometry& geometry, View<T> x) {
  const MatmulPrecision precision = matmul_precision();  // of this thread, for all that help it
  const ConvSizes s(g.shape, w.shape, geometry);
  const T* kernels = pack_kernels(w);
  fill(x, T(0));
  parallel_for(x.shape[0], 1, [&](std::int64_t image, std::int64_t) {
    T* patches = patch_buffer<T>(s.block * s.out_columns * s.patch);
    for (std::int64_t block = 0; block < s.blocks(); ++block) {
      const std::int64_t first = block * s.block, rows = s.rows_in_block(block),
                         pixels = rows * s.out_columns;
      for (std::int64_t group = 0; group < s.groups; ++group) {
        const T* in = g.data + image * g.strides[0] + first * g.strides[1] + group * s.group_out;
        const T* k = kernels + group * s.group_out * s.patch;
        multiply<T>({in, pixels, s.group_out, g.strides[2], 1}, {k, s.group_out, s.patch, s.patch, 1}, nullptr, 0,
                    {patches, pixels, s.patch, s.patch, 1}, precision);
        walk_patches(
            x.data + image * x.strides[0] + group * s.group_in, x.strides, x.shape, s, geometry, first, rows, patches,
            [](T* __restrict run, const T* __restrict patch, std::int64_t n) {
              for (std::int64_t i = 0; i < n; ++i) run[i] += patch[i];
            },
            [](const T*, std::int64_t) {});
      }
    }
  });
}

template <class T>
void conv_weight_grad(View<const T> x, View<const T> g, const ConvGeometry& geometry, View<T> w) {
  const MatmulPrecision precision = matmul_precision();  // of this thread, for all that help it
  const ConvSizes s(g.shape, w.shape, geometry);
  const std::int64_t images = x.shape[0], size = w.numel();
  std::int64_t parts =
      (std::int64_t(1) << 22) / (size + 1);  // partial sums: at most 16, and about 2^22 numbers
  parts = parts < 1 ? 1 : (parts > 16 ? 16 : parts);
  if (parts > images) parts = images;
  if (parts == 0) return fill(w, T(0));
  std::vector<T> partial(static_cast<std::size_t>(parts * size));  // [parts, O, kh·kw·Cg]
  parallel_for(parts, 1, [&](std::int64_t part, std::int64_t) {
    T* patches = patch_buffer<T>(s.block * s.out_columns * s.patch);
    for (std::int64_t image = part * images / parts; image < (part + 1) * images / parts; ++image)
      for (std::int64_t block = 0; block < s.blocks(); ++block) {
        const std::int64_t first = block * s.block, rows = s.rows_in_block(block),
                           pixels = rows * s.out_columns;
        for (std::int64_t group = 0; group < s.groups; ++group) {
          lay_out_patches(x.data + image * x.strides[0] + group * s.group_in, x.strides, x.shape, s, geometry,
                          first, rows, patches);
          const T* in = g.data + image * g.strides[0] + first * g.strides[1] + group * s.group_out;
          T* sum = partial.data() + part * size + group * s.group_out * s.patch;
          multiply<T>({in, s.group_out, pixels, 1, g.strides[2]}, {patches, pixels, s.patch, s.patch, 1}, sum, s.patch,
                      {sum, s.group_out, s.patch, s.patch, 1}, precision);
        }
      }
  });
  const std::int64_t taps = s.kh * s.kw;
  parallel_for(
      w.shape[0], elementwise_grain / (s.patch * parts + 1) + 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t o = begin; o < end; ++o)
          for (std::int64_t tap = 0; tap < taps; ++tap)
            for (std::int64_t c = 0; c < s.group_in; ++c) {
              T sum = T(0);
              for (std::int64_t part = 0; part < parts; ++part)
                sum += partial[static_cast<std::size_t>(part * size + (o * taps + tap) * s.group_in + c)];
              w.data[o * w.strides[0] + c * w.strides[1] + tap / s.kw * w.strides[2] +
                     tap % s.kw * w.strides[3]] = sum;
            }
      });
}

}  // namespace TTTLIB_KERNELS
}  // namespace ttt::cpu_backend
