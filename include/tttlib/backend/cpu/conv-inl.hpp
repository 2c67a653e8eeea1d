#pragma once
/// Convolutions over channels-last images [B, H, W, C]. Channels must be contiguous (stride 1) in x and g; the other
/// strides are free. Results do not depend on the number of threads: every output is summed by one thread in a fixed
/// order, and weight gradients over fixed groups of images, added in order.

#include <vector>

#include "tttlib/backend/cpu/matmul-inl.hpp"

namespace ttt::cpu_backend {
inline namespace TTTLIB_KERNELS {

// ------------------------------------------------------------------------- general and grouped: patches · weights

/// w [O, Cg, kh, kw] -> [O, kh·kw·Cg]: the order in which patches are laid out.
template <class T>
std::vector<T> pack_kernels(View<const T> w) {
  const std::int64_t outputs = w.shape[0], channels = w.shape[1], kh = w.shape[2], kw = w.shape[3];
  std::vector<T> packed(static_cast<std::size_t>(w.numel()));
  T* to = packed.data();
  for (std::int64_t o = 0; o < outputs; ++o)
    for (std::int64_t i = 0; i < kh; ++i)
      for (std::int64_t j = 0; j < kw; ++j)
        for (std::int64_t c = 0; c < channels; ++c)
          *to++ = w.data[o * w.strides[0] + c * w.strides[1] + i * w.strides[2] + j * w.strides[3]];
  return packed;
}

/// Sizes shared by the three general kernels; `y_shape` is [B, H', W', O], `w_shape` [O, Cg, kh, kw].
struct ConvSizes {
  std::int64_t out_rows, out_columns, kh, kw, group_in, group_out, groups, patch;
  std::int64_t block;  // output rows whose patches are laid out at once: about 2^18 numbers

  ConvSizes(const Shape& y_shape, const Shape& w_shape, const ConvGeometry& geometry)
      : out_rows(y_shape[1]), out_columns(y_shape[2]), kh(w_shape[2]), kw(w_shape[3]), group_in(w_shape[1]),
        group_out(w_shape[0] / geometry.groups), groups(geometry.groups), patch(kh * kw * group_in) {
    block = (std::int64_t(1) << 18) / (out_columns * patch + 1) + 1;
    if (block > out_rows) block = out_rows;
  }
  std::int64_t blocks() const { return block == 0 ? 0 : (out_rows + block - 1) / block; }
  std::int64_t rows_in_block(std::int64_t index) const {
    const std::int64_t left = out_rows - index * block;
    return left < block ? left : block;
  }
};

/// Visits the channel runs of the patches of output rows [first, first + count): `visit(pixel, patch)` with pointers
/// to group_in channels, or `outside(patch)` where the patch hangs over the border.
template <class T, class P, class Visit, class Outside>
void walk_patches(T* image, const Strides& strides, const Shape& shape, const ConvSizes& s, const ConvGeometry& geometry,
                  std::int64_t first, std::int64_t count, P* patches, const Visit& visit, const Outside& outside) {
  for (std::int64_t oh = first; oh < first + count; ++oh)
    for (std::int64_t ow = 0; ow < s.out_columns; ++ow)
      for (std::int64_t i = 0; i < s.kh; ++i) {
        const std::int64_t ih = oh * geometry.stride[0] - geometry.padding[0] + i * geometry.dilation[0];
        for (std::int64_t j = 0; j < s.kw; ++j, patches += s.group_in) {
          const std::int64_t iw = ow * geometry.stride[1] - geometry.padding[1] + j * geometry.dilation[1];
          if (ih < 0 || ih >= shape[1] || iw < 0 || iw >= shape[2]) outside(patches);
          else visit(image + ih * strides[1] + iw * strides[2], patches);
        }
      }
}

template <class T>
void lay_out_patches(const T* image, const Strides& strides, const Shape& shape, const ConvSizes& s,
                     const ConvGeometry& geometry, std::int64_t first, std::int64_t count, T* patches) {
  const std::int64_t n = s.group_in;
  walk_patches(
      image, strides, shape, s, geometry, first, count, patches,
      [n](const T* __restrict pixel, T* __restrict patch) {
        for (std::int64_t c = 0; c < n; ++c) patch[c] = pixel[c];
      },
      [n](T* patch) {
        for (std::int64_t c = 0; c < n; ++c) patch[c] = T(0);
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
  const ConvSizes s(y.shape, w.shape, geometry);
  const std::vector<T> kernels = pack_kernels(w);
  const std::int64_t blocks = s.blocks();
  parallel_for(y.shape[0] * blocks, 1, [&](std::int64_t unit, std::int64_t) {
    const std::int64_t image = unit / blocks, first = unit % blocks * s.block, rows = s.rows_in_block(unit % blocks);
    const std::int64_t pixels = rows * s.out_columns;
    T* patches = patch_buffer<T>(pixels * s.patch);
    for (std::int64_t group = 0; group < s.groups; ++group) {
      lay_out_patches(x.data + image * x.strides[0] + group * s.group_in, x.strides, x.shape, s, geometry, first, rows,
                      patches);
      const T* k = kernels.data() + group * s.group_out * s.patch;
      T* out = y.data + image * y.strides[0] + first * y.strides[1] + group * s.group_out;
      multiply<T>({patches, pixels, s.patch, s.patch, 1}, {k, s.patch, s.group_out, 1, s.patch},
                  {out, pixels, s.group_out, y.strides[2], 1}, false);
    }
  });
}

template <class T>
void conv_input_grad(View<const T> g, View<const T> w, const ConvGeometry& geometry, View<T> x) {
  const ConvSizes s(g.shape, w.shape, geometry);
  const std::vector<T> kernels = pack_kernels(w);
  fill(x, T(0));
  parallel_for(x.shape[0], 1, [&](std::int64_t image, std::int64_t) {
    T* patches = patch_buffer<T>(s.block * s.out_columns * s.patch);
    for (std::int64_t block = 0; block < s.blocks(); ++block) {
      const std::int64_t first = block * s.block, rows = s.rows_in_block(block), pixels = rows * s.out_columns;
      for (std::int64_t group = 0; group < s.groups; ++group) {
        const T* in = g.data + image * g.strides[0] + first * g.strides[1] + group * s.group_out;
        const T* k = kernels.data() + group * s.group_out * s.patch;
        multiply<T>({in, pixels, s.group_out, g.strides[2], 1}, {k, s.group_out, s.patch, s.patch, 1},
                    {patches, pixels, s.patch, s.patch, 1}, false);
        const std::int64_t n = s.group_in;
        walk_patches(
            x.data + image * x.strides[0] + group * n, x.strides, x.shape, s, geometry, first, rows, patches,
            [n](T* __restrict pixel, const T* __restrict patch) {
              for (std::int64_t c = 0; c < n; ++c) pixel[c] += patch[c];
            },
            [](const T*) {});
      }
    }
  });
}

template <class T>
void conv_weight_grad(View<const T> x, View<const T> g, const ConvGeometry& geometry, View<T> w) {
  const ConvSizes s(g.shape, w.shape, geometry);
  const std::int64_t images = x.shape[0], size = w.numel();
  std::int64_t parts = (std::int64_t(1) << 22) / (size + 1);  // partial sums: at most 16, and about 2^22 numbers
  parts = parts < 1 ? 1 : (parts > 16 ? 16 : parts);
  if (parts > images) parts = images;
  if (parts == 0) return fill(w, T(0));
  std::vector<T> partial(static_cast<std::size_t>(parts * size));  // [parts, O, kh·kw·Cg]
  parallel_for(parts, 1, [&](std::int64_t part, std::int64_t) {
    T* patches = patch_buffer<T>(s.block * s.out_columns * s.patch);
    for (std::int64_t image = part * images / parts; image < (part + 1) * images / parts; ++image)
      for (std::int64_t block = 0; block < s.blocks(); ++block) {
        const std::int64_t first = block * s.block, rows = s.rows_in_block(block), pixels = rows * s.out_columns;
        for (std::int64_t group = 0; group < s.groups; ++group) {
          lay_out_patches(x.data + image * x.strides[0] + group * s.group_in, x.strides, x.shape, s, geometry, first,
                          rows, patches);
          const T* in = g.data + image * g.strides[0] + first * g.strides[1] + group * s.group_out;
          T* sum = partial.data() + part * size + group * s.group_out * s.patch;
          multiply<T>({in, s.group_out, pixels, 1, g.strides[2]}, {patches, pixels, s.patch, s.patch, 1},
                      {sum, s.group_out, s.patch, s.patch, 1}, true);
        }
      }
  });
  const std::int64_t taps = s.kh * s.kw;
  parallel_for(w.shape[0], elementwise_grain / (s.patch * parts + 1) + 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t o = begin; o < end; ++o)
      for (std::int64_t tap = 0; tap < taps; ++tap)
        for (std::int64_t c = 0; c < s.group_in; ++c) {
          T sum = T(0);
          for (std::int64_t part = 0; part < parts; ++part)
            sum += partial[static_cast<std::size_t>(part * size + (o * taps + tap) * s.group_in + c)];
          w.data[o * w.strides[0] + c * w.strides[1] + tap / s.kw * w.strides[2] + tap % s.kw * w.strides[3]] = sum;
        }
  });
}

// --------------------------------------------------------------------------------------- depthwise: channel lanes

/// A register of channels. The compiler lowers it to what the machine has.
#if defined(__AVX512F__)
inline constexpr std::size_t lane_bytes = 64;
#elif defined(__AVX__)
inline constexpr std::size_t lane_bytes = 32;
#else
inline constexpr std::size_t lane_bytes = 16;
#endif
template <class T>
struct Lanes {
  typedef T Vector __attribute__((vector_size(lane_bytes)));
  static constexpr std::int64_t count = static_cast<std::int64_t>(lane_bytes / sizeof(T));
};

/// Reads and writes `n` channels: a constant for whole registers, less at the end of the channels.
template <class T, bool whole>
struct LaneAccess {
  using Vector = typename Lanes<T>::Vector;
  std::size_t n = Lanes<T>::count;
  TTT_HD void load(const T* p, Vector& v) const {
    if constexpr (!whole) v = Vector{};
    std::memcpy(&v, p, (whole ? Lanes<T>::count : n) * sizeof(T));
  }
  TTT_HD void store(T* p, const Vector& v) const { std::memcpy(p, &v, (whole ? Lanes<T>::count : n) * sizeof(T)); }
};

/// Calls `body(access, channel)` for every register of channels in [begin, end).
template <class T, class Body>
void for_lanes(std::int64_t begin, std::int64_t end, const Body& body) {
  std::int64_t c = begin;
  for (; c + Lanes<T>::count <= end; c += Lanes<T>::count) body(LaneAccess<T, true>{}, c);
  if (c < end) body(LaneAccess<T, false>{static_cast<std::size_t>(end - c)}, c);
}

/// w [1 or B, C, kh, kw] -> [1 or B, kh·kw, C].
template <class T>
std::vector<T> pack_depthwise(View<const T> w) {
  const std::int64_t images = w.shape[0], channels = w.shape[1], kh = w.shape[2], kw = w.shape[3];
  std::vector<T> packed(static_cast<std::size_t>(w.numel()));
  parallel_for(images, elementwise_grain / (channels * kh * kw + 1) + 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b)
      for (std::int64_t i = 0; i < kh; ++i)
        for (std::int64_t j = 0; j < kw; ++j) {
          T* to = packed.data() + ((b * kh + i) * kw + j) * channels;
          const T* from = w.data + b * w.strides[0] + i * w.strides[2] + j * w.strides[3];
          for (std::int64_t c = 0; c < channels; ++c) to[c] = from[c * w.strides[1]];
        }
  });
  return packed;
}

/// Along one axis: which source positions a target position reads, and through which tap of the kernel.
struct Taps {
  struct Read {
    std::int64_t source, tap;
  };
  std::vector<std::vector<Read>> of;  // by target position; sources ascend
  std::int64_t full_begin = 0, full_end = 0;  // targets [begin, end) read 3 neighbouring sources, moving by one

  /// Forward: target o reads source o·stride − padding + tap·dilation.
  static Taps forward(std::int64_t targets, std::int64_t sources, std::int64_t kernel, const ConvGeometry& g, int axis) {
    Taps taps;
    for (std::int64_t o = 0; o < targets; ++o) {
      std::vector<Read> reads;
      for (std::int64_t k = 0; k < kernel; ++k) {
        const std::int64_t source = o * g.stride[axis] - g.padding[axis] + k * g.dilation[axis];
        if (source >= 0 && source < sources) reads.push_back({source, k});
      }
      taps.of.push_back(reads);
    }
    taps.find_full(kernel);
    return taps;
  }
  /// Its transpose, for the gradient of the input: the roles of source and target swapped.
  static Taps transposed(std::int64_t targets, std::int64_t sources, std::int64_t kernel, const ConvGeometry& g,
                         int axis) {
    const Taps straight = forward(sources, targets, kernel, g, axis);
    Taps taps;
    taps.of.resize(static_cast<std::size_t>(targets));
    for (std::int64_t o = 0; o < sources; ++o)
      for (const Read& read : straight.of[static_cast<std::size_t>(o)])
        taps.of[static_cast<std::size_t>(read.source)].push_back({o, read.tap});
    taps.find_full(kernel);
    return taps;
  }

 private:
  bool is_full(std::size_t at) const {
    return at < of.size() && of[at].size() == 3 && of[at][2].source == of[at][0].source + 2;
  }
  void find_full(std::int64_t kernel) {
    if (kernel != 3) return;
    std::size_t begin = 0;
    while (begin < of.size() && !is_full(begin)) ++begin;
    std::size_t end = begin;
    while (is_full(end) && of[end][0].source == of[begin][0].source + static_cast<std::int64_t>(end - begin)) ++end;
    full_begin = static_cast<std::int64_t>(begin);
    full_end = static_cast<std::int64_t>(end);
  }
};

/// y[b, r, c] = Σ over the reads of r and c of x[b, source_r, source_c] · w[tap_r, tap_c], per channel.
template <class T>
void depthwise_apply(View<const T> x, View<const T> w, const Taps& rows, const Taps& columns, View<T> y) {
  using Vector = typename Lanes<T>::Vector;
  const std::int64_t channels = y.shape[3], kw = w.shape[3], taps = w.shape[2] * kw, out_rows = y.shape[1];
  const std::vector<T> packed = pack_depthwise(w);
  parallel_for(y.shape[0] * out_rows, elementwise_grain / (y.shape[2] * channels + 1) + 1,
               [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t unit = begin; unit < end; ++unit) {
      const std::int64_t b = unit / out_rows, row = unit % out_rows;
      const T* image = x.data + b * x.strides[0];
      const T* kernel = packed.data() + (w.shape[0] == 1 ? 0 : b * taps * channels);
      T* out = y.data + b * y.strides[0] + row * y.strides[1];
      const std::vector<Taps::Read>& row_reads = rows.of[static_cast<std::size_t>(row)];
      for_lanes<T>(0, channels, [&](const auto access, std::int64_t c) {
        auto any_column = [&](std::int64_t column) {
          Vector sum{}, value, weight;
          for (const Taps::Read& r : row_reads)
            for (const Taps::Read& s : columns.of[static_cast<std::size_t>(column)]) {
              access.load(image + r.source * x.strides[1] + s.source * x.strides[2] + c, value);
              access.load(kernel + (r.tap * kw + s.tap) * channels + c, weight);
              sum += value * weight;
            }
          access.store(out + column * y.strides[2] + c, sum);
        };
        const bool fast = row_reads.size() == 3 && columns.full_begin < columns.full_end;
        const std::int64_t fast_begin = fast ? columns.full_begin : y.shape[2];
        const std::int64_t fast_end = fast ? columns.full_end : y.shape[2];
        for (std::int64_t column = 0; column < fast_begin; ++column) any_column(column);
        if (fast) {  // 3 × 3 neighbours: nine weights stay in registers
          const std::vector<Taps::Read>& column_reads = columns.of[static_cast<std::size_t>(fast_begin)];
          Vector weight[9];
          const T* source[3];
          for (std::size_t i = 0; i < 3; ++i) {
            source[i] = image + row_reads[i].source * x.strides[1] + column_reads[0].source * x.strides[2] + c;
            for (std::size_t j = 0; j < 3; ++j)
              access.load(kernel + (row_reads[i].tap * kw + column_reads[j].tap) * channels + c, weight[3 * i + j]);
          }
          const std::int64_t step = x.strides[2];
          for (std::int64_t column = fast_begin; column < fast_end; ++column) {
            Vector sum{}, value;
            for (std::size_t i = 0; i < 3; ++i) {
              access.load(source[i], value);
              sum += value * weight[3 * i];
              access.load(source[i] + step, value);
              sum += value * weight[3 * i + 1];
              access.load(source[i] + 2 * step, value);
              sum += value * weight[3 * i + 2];
              source[i] += step;
            }
            access.store(out + column * y.strides[2] + c, sum);
          }
        }
        for (std::int64_t column = fast_end; column < y.shape[2]; ++column) any_column(column);
      });
    }
  });
}

template <class T>
void depthwise(View<const T> x, View<const T> w, const ConvGeometry& geometry, View<T> y) {
  depthwise_apply(x, w, Taps::forward(y.shape[1], x.shape[1], w.shape[2], geometry, 0),
                  Taps::forward(y.shape[2], x.shape[2], w.shape[3], geometry, 1), y);
}

template <class T>
void depthwise_input_grad(View<const T> g, View<const T> w, const ConvGeometry& geometry, View<T> x) {
  depthwise_apply(g, w, Taps::transposed(x.shape[1], g.shape[1], w.shape[2], geometry, 0),
                  Taps::transposed(x.shape[2], g.shape[2], w.shape[3], geometry, 1), x);
}

/// sums [kh·kw, C] += x · g over one image, for the channels of one register.
template <class T, bool whole>
void depthwise_correlate(const T* x, const Strides& sx, const T* g, const Strides& sg, const Taps& rows,
                         const Taps& columns, std::int64_t kw, std::int64_t channels, const LaneAccess<T, whole>& access,
                         T* sums) {
  using Vector = typename Lanes<T>::Vector;
  const auto width = static_cast<std::int64_t>(columns.of.size());
  auto any_column = [&](std::int64_t row, std::int64_t column) {
    Vector cotangent, value, sum;
    access.load(g + row * sg[1] + column * sg[2], cotangent);
    for (const Taps::Read& r : rows.of[static_cast<std::size_t>(row)])
      for (const Taps::Read& s : columns.of[static_cast<std::size_t>(column)]) {
        T* at = sums + (r.tap * kw + s.tap) * channels;
        access.load(x + r.source * sx[1] + s.source * sx[2], value);
        access.load(at, sum);
        sum += cotangent * value;
        access.store(at, sum);
      }
  };
  Vector inner[9] = {};  // where 3 × 3 neighbours are inside, nine sums stay in registers
  for (std::int64_t row = 0; row < static_cast<std::int64_t>(rows.of.size()); ++row) {
    const bool fast = row >= rows.full_begin && row < rows.full_end && columns.full_begin < columns.full_end;
    const std::int64_t fast_begin = fast ? columns.full_begin : width, fast_end = fast ? columns.full_end : width;
    for (std::int64_t column = 0; column < fast_begin; ++column) any_column(row, column);
    if (fast) {
      const T* source = x + rows.of[static_cast<std::size_t>(row)][0].source * sx[1] +
                        columns.of[static_cast<std::size_t>(fast_begin)][0].source * sx[2];
      const T* cotangents = g + row * sg[1] + fast_begin * sg[2];
      for (std::int64_t column = fast_begin; column < fast_end; ++column, source += sx[2], cotangents += sg[2]) {
        Vector cotangent, value;
        access.load(cotangents, cotangent);
        for (std::int64_t i = 0; i < 3; ++i)
          for (std::int64_t j = 0; j < 3; ++j) {
            access.load(source + i * sx[1] + j * sx[2], value);
            inner[3 * i + j] += cotangent * value;
          }
      }
    }
    for (std::int64_t column = fast_end; column < width; ++column) any_column(row, column);
  }
  if (rows.full_begin >= rows.full_end || columns.full_begin >= columns.full_end) return;
  for (std::int64_t tap = 0; tap < 9; ++tap) {
    Vector sum;
    access.load(sums + tap * channels, sum);
    sum += inner[tap];
    access.store(sums + tap * channels, sum);
  }
}

template <class T>
void depthwise_weight_grad(View<const T> x, View<const T> g, const ConvGeometry& geometry, View<T> w) {
  const std::int64_t images = x.shape[0], channels = x.shape[3], kw = w.shape[3], taps = w.shape[2] * kw;
  const Taps rows = Taps::forward(g.shape[1], x.shape[1], w.shape[2], geometry, 0);
  const Taps columns = Taps::forward(g.shape[2], x.shape[2], kw, geometry, 1);
  constexpr std::int64_t span = 4 * Lanes<T>::count;  // channels per unit of work
  const std::int64_t spans = (channels + span - 1) / span;
  std::vector<T> sums(static_cast<std::size_t>(images * taps * channels));  // [B, kh·kw, C]
  parallel_for(images * spans, elementwise_grain / (g.shape[1] * g.shape[2] * span + 1) + 1,
               [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t unit = begin; unit < end; ++unit) {
      const std::int64_t b = unit / spans, first = unit % spans * span;
      for_lanes<T>(first, first + span < channels ? first + span : channels, [&](const auto access, std::int64_t c) {
        depthwise_correlate(x.data + b * x.strides[0] + c, x.strides, g.data + b * g.strides[0] + c, g.strides, rows,
                            columns, kw, channels, access, sums.data() + b * taps * channels + c);
      });
    }
  });
  const std::int64_t parts = w.shape[0] == 1 ? images : 1;  // a shared kernel sums over images, in order
  parallel_for(w.shape[0], elementwise_grain / (taps * channels + 1) + 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b)
      for (std::int64_t tap = 0; tap < taps; ++tap)
        for (std::int64_t c = 0; c < channels; ++c) {
          T sum = T(0);
          for (std::int64_t part = 0; part < parts; ++part)
            sum += sums[static_cast<std::size_t>(((b + part) * taps + tap) * channels + c)];
          w.data[b * w.strides[0] + c * w.strides[1] + tap / kw * w.strides[2] + tap % kw * w.strides[3]] = sum;
        }
  });
}

}  // namespace TTTLIB_KERNELS
}  // namespace ttt::cpu_backend
