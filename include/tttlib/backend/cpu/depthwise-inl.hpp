#pragma once
/// Depthwise convolutions over channels-last images [B, H, W, C]: one kernel per channel, for each image if
/// the weight says so. Channels must be contiguous (stride 1) in x and g. One register of channels is worked
/// on at a time; 3 × 3 kernels of stride 1 keep their nine weights, or their nine sums, in registers. Bytes:
/// x and y once. Results do not depend on the number of threads: a shared weight's gradient adds the images
/// in order.

#include <vector>

#include "tttlib/backend/cpu/elementwise-inl.hpp"
#include "tttlib/backend/cpu/vector.hpp"

namespace ttt::cpu_backend {
inline namespace TTTLIB_KERNELS {

/// Reads and writes `n` channels: a constant for whole registers, less at the end of the channels.
template <class T, bool whole>
struct LaneAccess {
  using Vector = typename VectorOf<T>::type;
  std::int64_t n = lanes<T>;
  TTT_HD void load(const T* p, Vector& v) const {
    if constexpr (!whole) v = Vector{};
    std::memcpy(&v, p, static_cast<std::size_t>(whole ? lanes<T> : n) * sizeof(T));
  }
  TTT_HD void store(T* p, const Vector& v) const {
    std::memcpy(p, &v, static_cast<std::size_t>(whole ? lanes<T> : n) * sizeof(T));
  }
};

/// Calls `body(access, channel)` for every register of channels in [begin, end).
template <class T, class Body>
void for_lanes(std::int64_t begin, std::int64_t end, const Body& body) {
  std::int64_t c = begin;
  for (; c + lanes<T> <= end; c += lanes<T>) body(LaneAccess<T, true>{}, c);
  if (c < end) body(LaneAccess<T, false>{end - c}, c);
}

/// w [1 or B, C, kh, kw] -> [1 or B, kh·kw, C].
template <class T>
std::vector<T> pack_depthwise(View<const T> w) {
  const std::int64_t images = w.shape[0], channels = w.shape[1], kh = w.shape[2], kw = w.shape[3];
  std::vector<T> packed(static_cast<std::size_t>(w.numel()));
  parallel_for(images, elementwise_grain / (channels * kh * kw + 1) + 1,
               [&](std::int64_t begin, std::int64_t end) {
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
  std::vector<std::vector<Read>> of;  // by target position
  std::int64_t sources = 0;
  bool three = false;    // every target t reads the sources t + first, + 1, + 2 as far as they exist
  bool flipped = false;  // … through taps 2, 1, 0 instead of 0, 1, 2
  std::int64_t first = 0;

  std::int64_t targets() const { return static_cast<std::int64_t>(of.size()); }
  const std::vector<Read>& reads(std::int64_t target) const { return of[static_cast<std::size_t>(target)]; }

  /// Forward: target o reads source o·stride − padding + tap·dilation.
  static Taps forward(std::int64_t targets, std::int64_t sources, std::int64_t kernel, const ConvGeometry& g,
                      int axis) {
    Taps taps;
    taps.of.resize(static_cast<std::size_t>(targets));
    for (std::int64_t o = 0; o < targets; ++o)
      for (std::int64_t k = 0; k < kernel; ++k) {
        const std::int64_t source = o * g.stride[axis] - g.padding[axis] + k * g.dilation[axis];
        if (source >= 0 && source < sources) taps.of[static_cast<std::size_t>(o)].push_back({source, k});
      }
    taps.sources = sources;
    taps.three = kernel == 3 && g.stride[axis] == 1 && g.dilation[axis] == 1;
    taps.first = -g.padding[axis];
    return taps;
  }
  /// Its transpose, for the gradient of the input: the roles of source and target swapped.
  static Taps transposed(std::int64_t targets, std::int64_t sources, std::int64_t kernel,
                         const ConvGeometry& g, int axis) {
    const Taps straight = forward(sources, targets, kernel, g, axis);
    Taps taps;
    taps.of.resize(static_cast<std::size_t>(targets));
    for (std::int64_t o = 0; o < sources; ++o)
      for (const Read& read : straight.reads(o))
        taps.of[static_cast<std::size_t>(read.source)].push_back({o, read.tap});
    taps.sources = sources;
    taps.three = straight.three;
    taps.flipped = true;
    taps.first = g.padding[axis] - 2;
    return taps;
  }
};

/// Three rows of one register of channels; a row outside of the image reads zeros, again and again.
template <class T>
struct ThreeRows {
  const T* row[3];
  std::int64_t step[3];

  ThreeRows(const T* image, const Strides& strides, const Taps& rows, std::int64_t target) {
    static const T zeros[lanes<T>] = {};
    for (std::int64_t i = 0; i < 3; ++i) {
      const std::int64_t source = target + rows.first + i;
      const bool inside = source >= 0 && source < rows.sources;
      row[i] = inside ? image + source * strides[1] : zeros;
      step[i] = inside ? strides[2] : 0;
    }
  }
  const T* at(std::int64_t i, std::int64_t column) const { return row[i] + column * step[i]; }
};

/// Calls `visit(column, left, middle, right)` for every target column; the flags say which neighbours exist.
/// They are constants in the middle of the image, so that `visit` has no branches there.
template <class Visit>
TTT_HD void visit_columns(const Taps& columns, const Visit& visit) {
  const auto careful = [&](std::int64_t c) {
    const auto inside = [&](std::int64_t j) {
      return c + columns.first + j >= 0 && c + columns.first + j < columns.sources;
    };
    visit(c, inside(0), inside(1), inside(2));
  };
  const std::int64_t width = columns.targets();
  std::int64_t begin = -columns.first, end = columns.sources - 2 - columns.first;
  begin = begin < 0 ? 0 : (begin > width ? width : begin);
  end = end < begin ? begin : (end > width ? width : end);
  for (std::int64_t c = 0; c < begin; ++c) careful(c);
  for (std::int64_t c = begin; c < end; ++c) visit(c, std::true_type{}, std::true_type{}, std::true_type{});
  for (std::int64_t c = end; c < width; ++c) careful(c);
}

/// Target rows [begin, end) of one image and one register of channels, 3 × 3 neighbours: nine weights in
/// registers.
template <class T, bool whole>
void depthwise_3x3(const T* image, const Strides& sx, const T* kernel, std::int64_t channels,
                   const Taps& rows, const Taps& columns, std::int64_t begin, std::int64_t end,
                   const LaneAccess<T, whole>& access, T* out, const Strides& sy) {
  using Vector = typename VectorOf<T>::type;
  Vector weight[9];
  for (std::int64_t i = 0; i < 3; ++i)
    for (std::int64_t j = 0; j < 3; ++j)
      access.load(kernel + ((rows.flipped ? 2 - i : i) * 3 + (columns.flipped ? 2 - j : j)) * channels,
                  weight[3 * i + j]);
  for (std::int64_t row = begin; row < end; ++row) {
    const ThreeRows<T> in(image, sx, rows, row);
    T* target = out + row * sy[1];
    visit_columns(
        columns, [&](std::int64_t c, auto left, auto middle, auto right) __attribute__((always_inline)) {
          Vector sum{}, value;
          for (std::int64_t i = 0; i < 3; ++i) {
            const T* source = in.at(i, c + columns.first);
            if (left) {
              access.load(source, value);
              sum += value * weight[3 * i];
            }
            if (middle) {
              access.load(source + in.step[i], value);
              sum += value * weight[3 * i + 1];
            }
            if (right) {
              access.load(source + 2 * in.step[i], value);
              sum += value * weight[3 * i + 2];
            }
          }
          access.store(target + c * sy[2], sum);
        });
  }
}

/// The same for any kernel.
template <class T, bool whole>
void depthwise_any(const T* image, const Strides& sx, const T* kernel, std::int64_t channels, std::int64_t kw,
                   const Taps& rows, const Taps& columns, std::int64_t begin, std::int64_t end,
                   const LaneAccess<T, whole>& access, T* out, const Strides& sy) {
  using Vector = typename VectorOf<T>::type;
  for (std::int64_t row = begin; row < end; ++row)
    for (std::int64_t column = 0; column < columns.targets(); ++column) {
      Vector sum{}, value, weight;
      for (const Taps::Read& r : rows.reads(row))
        for (const Taps::Read& s : columns.reads(column)) {
          access.load(image + r.source * sx[1] + s.source * sx[2], value);
          access.load(kernel + (r.tap * kw + s.tap) * channels, weight);
          sum += value * weight;
        }
      access.store(out + row * sy[1] + column * sy[2], sum);
    }
}

/// y[b, r, c] = Σ over the reads of r and c of x[b, source_r, source_c] · w[tap_r, tap_c], per channel.
template <class T>
void depthwise_apply(View<const T> x, View<const T> w, const Taps& rows, const Taps& columns, View<T> y) {
  const std::int64_t channels = y.shape[3], kw = w.shape[3], taps = w.shape[2] * kw, height = y.shape[1];
  if (y.numel() == 0) return;
  const std::vector<T> packed = pack_depthwise(w);
  std::int64_t block =
      elementwise_grain / (y.shape[2] * channels + 1) + 1;  // rows of one unit of work, all in cache
  if (block > height) block = height;
  const std::int64_t blocks = (height + block - 1) / block;
  parallel_for(y.shape[0] * blocks, elementwise_grain / (block * y.shape[2] * channels + 1) + 1,
               [&](std::int64_t first, std::int64_t last) {
                 for (std::int64_t unit = first; unit < last; ++unit) {
                   const std::int64_t b = unit / blocks, begin = unit % blocks * block;
                   const std::int64_t end = begin + block < height ? begin + block : height;
                   const T* kernel = packed.data() + (w.shape[0] == 1 ? 0 : b * taps * channels);
                   for_lanes<T>(0, channels, [&](const auto access, std::int64_t c) {
                     const T* image = x.data + b * x.strides[0] + c;
                     T* out = y.data + b * y.strides[0] + c;
                     if (rows.three && columns.three)
                       depthwise_3x3(image, x.strides, kernel + c, channels, rows, columns, begin, end,
                                     access, out, y.strides);
                     else
                       depthwise_any(image, x.strides, kernel + c, channels, kw, rows, columns, begin, end,
                                     access, out, y.strides);
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

/// sums [kh·kw, C] = Σ over one image of x · g, for one register of channels.
template <class T, bool whole>
void depthwise_correlate(const T* x, const Strides& sx, const T* g, const Strides& sg, const Taps& rows,
                         const Taps& columns, std::int64_t kw, std::int64_t channels,
                         const LaneAccess<T, whole>& access, T* sums) {
  using Vector = typename VectorOf<T>::type;
  if (rows.three && columns.three) {
    Vector sum[9] = {};  // in registers
    for (std::int64_t row = 0; row < rows.targets(); ++row) {
      const ThreeRows<T> in(x, sx, rows, row);
      const T* cotangents = g + row * sg[1];
      visit_columns(
          columns, [&](std::int64_t c, auto left, auto middle, auto right) __attribute__((always_inline)) {
            Vector cotangent, value;
            access.load(cotangents + c * sg[2], cotangent);
            for (std::int64_t i = 0; i < 3; ++i) {
              const T* source = in.at(i, c + columns.first);
              if (left) {
                access.load(source, value);
                sum[3 * i] += cotangent * value;
              }
              if (middle) {
                access.load(source + in.step[i], value);
                sum[3 * i + 1] += cotangent * value;
              }
              if (right) {
                access.load(source + 2 * in.step[i], value);
                sum[3 * i + 2] += cotangent * value;
              }
            }
          });
    }
    for (std::int64_t tap = 0; tap < 9; ++tap) access.store(sums + tap * channels, sum[tap]);
    return;
  }
  for (std::int64_t row = 0; row < rows.targets(); ++row)
    for (std::int64_t column = 0; column < columns.targets(); ++column) {
      Vector cotangent, value, sum;
      access.load(g + row * sg[1] + column * sg[2], cotangent);
      for (const Taps::Read& r : rows.reads(row))
        for (const Taps::Read& s : columns.reads(column)) {
          T* at = sums + (r.tap * kw + s.tap) * channels;
          access.load(x + r.source * sx[1] + s.source * sx[2], value);
          access.load(at, sum);
          sum += cotangent * value;
          access.store(at, sum);
        }
    }
}

/// w[b] = Σ over `parts` of sums [parts, kh·kw, C], in order; w [1 or B, C, kh, kw].
template <class T>
void sum_kernels(const T* sums, std::int64_t parts, const View<T>& w, std::int64_t b) {
  const std::int64_t channels = w.shape[1], kw = w.shape[3], size = channels * w.shape[2] * kw;
  std::vector<T> total(static_cast<std::size_t>(size), T(0));  // [kh·kw, C]
  for (std::int64_t part = 0; part < parts; ++part, sums += size)
    for (std::size_t i = 0; i < total.size(); ++i) total[i] += sums[i];
  for (std::int64_t i = 0; i < size; ++i) {
    const std::int64_t tap = i / channels;
    w.data[b * w.strides[0] + i % channels * w.strides[1] + tap / kw * w.strides[2] + tap % kw * w.strides[3]] = total[static_cast<std::size_t>(i)];
  }
}

template <class T>
void depthwise_weight_grad(View<const T> x, View<const T> g, const ConvGeometry& geometry, View<T> w) {
  const std::int64_t images = x.shape[0], channels = x.shape[3], kw = w.shape[3], taps = w.shape[2] * kw;
  const Taps rows = Taps::forward(g.shape[1], x.shape[1], w.shape[2], geometry, 0);
  const Taps columns = Taps::forward(g.shape[2], x.shape[2], kw, geometry, 1);
  constexpr std::int64_t span = 8 * lanes<T>;  // channels per unit of work
  const std::int64_t spans = (channels + span - 1) / span;
  std::vector<T> sums(static_cast<std::size_t>(images * taps * channels));  // [B, kh·kw, C]
  parallel_for(images * spans, elementwise_grain / (g.shape[1] * g.shape[2] * span + 1) + 1,
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t unit = begin; unit < end; ++unit) {
                   const std::int64_t b = unit / spans, first = unit % spans * span;
                   for_lanes<T>(first, first + span < channels ? first + span : channels,
                                [&](const auto access, std::int64_t c) {
                                  depthwise_correlate(x.data + b * x.strides[0] + c, x.strides,
                                                      g.data + b * g.strides[0] + c, g.strides, rows, columns,
                                                      kw, channels, access,
                                                      sums.data() + b * taps * channels + c);
                                });
                 }
               });
  const std::int64_t parts = w.shape[0] == 1 ? images : 1;  // a shared kernel sums over images
  parallel_for(w.shape[0], elementwise_grain / (taps * channels + 1) + 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b) sum_kernels(sums.data() + b * taps * channels, parts, w, b);
  });
}

}  // namespace TTTLIB_KERNELS
}  // namespace ttt::cpu_backend
