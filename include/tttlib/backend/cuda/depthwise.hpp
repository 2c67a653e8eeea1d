#pragma once
/// Depthwise convolutions of channels-last images [B, H, W, C], by kernels of all images or of one each.
/// 3 × 3 at stride 1 with a border of zeros: a thread has some neighbouring channels of one column, 16 bytes of them where
/// layouts allow, and goes down a strip of its rows with the kernel, or the sums of the kernel's gradient, in registers.
/// Other geometry: a thread per output. Operations: 2 per tap and output. Bytes: x and y once from memory; 3 × 3 reads each
/// pixel three times, from cache but for the first time; the kernels' gradients read and write their parts too.
/// Every output is summed by one thread in a fixed order; kernels' gradients in parts that depend on the shape and the
/// layout only, added in order.

#include "tttlib/backend/cuda/images.hpp"
#include "tttlib/backend/cuda/reduce.hpp"

namespace ttt::cuda_backend {

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

// ---------------------------------------------------------------- 3 × 3 with a border of zeros, a column at a time
/// The numbers of a 3 × 3 kernel of n channels, row by row, or nine sums.
template <class T, int n>
struct NineTaps {
  Channels<T, n> tap[9];

  /// From [9, step] numbers, `channel` the first; with `turned` by 180°, times `factor`.
  TTT_DEVICE void read(const T* taps, int step, int channel, bool turned, T factor) {
    for (int i = 0; i < 9; ++i) {
      tap[i] = *reinterpret_cast<const Channels<T, n>*>(taps + (turned ? 8 - i : i) * step + channel);
      for (T& value : tap[i].at) value *= factor;
    }
  }
};
/// Three neighbouring pixels of a row, from the left.
template <class S, int n>
struct ThreePixels {
  Channels<S, n> pixel[3];
  TTT_DEVICE void read(const Plane<const S>& x, int row, int column) {
    for (int b = 0; b < 3; ++b) pixel[b] = x.template read<n>(row, column + b - 1);
  }
};
/// to += Σ over b of pixel b times tap b of kernel row a, per channel.
template <class T, class S, int n>
TTT_DEVICE void add_row(const ThreePixels<S, n>& x, const NineTaps<T, n>& w, int a, Channels<T, n>& to) {
  for (int b = 0; b < 3; ++b)
    for (int i = 0; i < n; ++i) to.at[i] += convert<T>(x.pixel[b].at[i]) * w.tap[a * 3 + b].at[i];
}

/// use(row, slot) for first ≤ row ≤ last in order, after load(row, slot) `ahead` rows earlier, 1 or 2. Three slots take turns
/// by name: a move of what is still on its way from memory would wait for it.
template <class Slot, int ahead, class Load, class Use>
TTT_DEVICE void each_row(int first, int last, const Load& load, const Use& use) {
  Slot a, b, c;
  const auto turn = [&](int row, const Slot& now, Slot& next, Slot& after) {
    if (row > last) return;
    if (row + ahead <= last) load(row + ahead, ahead == 1 ? next : after);
    use(row, now);
  };
  load(first, a);
  if (ahead == 2 && first + 1 <= last) load(first + 1, b);
  for (int row = first; row <= last; row += 3) {
    turn(row, a, b, c);
    turn(row + 1, b, c, a);
    turn(row + 2, c, a, b);
  }
}

/// write(r, y[r, column]) for first ≤ r < last, y = conv(x, w): every row of x is read once, `ahead` rows before it is used.
template <int ahead, class T, class S, int n, class Write>
TTT_DEVICE void convolve_column(const Plane<const S>& x, const NineTaps<T, n>& w, int column, int first, int last, const Write& write) {
  using Row = ThreePixels<S, n>;
  Channels<T, n> above{}, here{};  // what is known of y[row − 1] and of y[row]
  each_row<Row, ahead>(
      first - 1, last, [&](int row, Row& to) { to.read(x, row, column); },
      [&](int row, const Row& now) {
        Channels<T, n> below{};
        if (row >= 0 && row < x.rows) {
          add_row(now, w, 2, above);
          add_row(now, w, 1, here);
          add_row(now, w, 0, below);
        }
        if (row > first) write(row - 1, above);
        above = here, here = below;
      });
}
/// sums += x[r + a − 1, column + b − 1]·g[r, column] over first ≤ r < last, at tap [a, b].
template <int ahead, class T, class S, int n>
TTT_DEVICE void correlate_column(const Plane<const S>& x, const Plane<const S>& g, int column, int first, int last, NineTaps<T, n>& sums) {
  struct Rows {
    ThreePixels<S, n> x;
    Channels<S, n> g;  // of the next row; zeros outside of these rows
  };
  Channels<S, n> above{}, here{};  // g[row − 1], g[row]
  each_row<Rows, ahead>(
      first - 1, last,
      [&](int row, Rows& to) {
        to.x.read(x, row, column);
        to.g = g.template read<n>(row + 1 < last ? row + 1 : -1, column);
      },
      [&](int row, const Rows& now) {
        if (row >= 0 && row < x.rows)
          for (int b = 0; b < 3; ++b)
            for (int i = 0; i < n; ++i) {
              const T value = convert<T>(now.x.pixel[b].at[i]);
              sums.tap[b].at[i] += value * convert<T>(now.g.at[i]);
              sums.tap[3 + b].at[i] += value * convert<T>(here.at[i]);
              sums.tap[6 + b].at[i] += value * convert<T>(above.at[i]);
            }
        above = here, here = now.g;
      });
}

/// at(t) becomes the sum over the threads of t's warp that are t modulo `apart` (a power of two), in each of them.
template <int apart, class At>
TTT_DEVICE void sum_over_warp([[maybe_unused]] const Block& block, const At& at) {
#if defined(__CUDACC__)
  auto& own = at(static_cast<int>(threadIdx.x));
  for (int step = warp_size / 2; step >= apart; step /= 2) own += __shfl_xor_sync(0xffffffffU, own, step);
#else
  using T = std::remove_reference_t<decltype(at(0))>;
  for (int step = warp_size / 2; step >= apart; step /= 2)
    for (int first = 0; first < block.threads(); first += warp_size) {
      T before[warp_size];
      for (int i = 0; i < warp_size; ++i) before[i] = at(first + i);
      for (int i = 0; i < warp_size; ++i) at(first + i) = before[i] + before[i ^ step];
    }
#endif
}
/// Numbers of shared memory for `sum_taps`.
inline constexpr std::int64_t taps_of_warps(int threads, int width) { return threads / warp_size * 9 * width; }
/// to(tap, channel of the slab, sum): nine sums of the threads t with the same channels, t % `across`, over the block.
template <int threads, int across, class T, int n, class To>
TTT_DEVICE void sum_taps(const Block& block, PerThread<NineTaps<T, n>>& own, T* partial, const To& to) {
  constexpr int width = across * n;
  for (int tap = 0; tap < 9; ++tap)
    for (int i = 0; i < n; ++i) sum_over_warp<across>(block, [&](int t) -> T& { return own[t].tap[tap].at[i]; });
  block.each_thread([&](int t) {
    if (t % warp_size >= across) return;
    for (int tap = 0; tap < 9; ++tap)                                                              // partial [warps, 9, width]
      *reinterpret_cast<Channels<T, n>*>(partial + (t / warp_size * 9 + tap) * width + t % warp_size * n) = own[t].tap[tap];
  });
  block.each_of(9 * width, [&](int i) {
    T total = T(0);
    for (int warp = 0; warp < threads / warp_size; ++warp) total += partial[warp * 9 * width + i];
    to(i / width, i % width, total);
  });
}

/// How blocks share out the columns of images [B, H, W, C]: a block has a slab of channels and takes `lanes` columns at a
/// time, cut into strips of rows, of all images, or of one where every image has its kernel.
template <int n>
struct ColumnShare {
  static constexpr int across = n == 1 ? 32 : 16, width = across * n, lanes = block_threads / across;
  int columns, rows, channels, slabs, groups, strips, length, units, parts, per_part;

  /// `target`: parts of all columns to aim at; 0: as many as there are.
  ColumnShare(const Shape& x, std::int64_t kernels, int target)
      : columns(static_cast<int>(x[2])), rows(static_cast<int>(x[1])), channels(static_cast<int>(x[3])), slabs((channels + width - 1) / width),
        groups(static_cast<int>(kernels)) {
    constexpr int longest = 16;
    strips = (rows + longest - 1) / longest, length = (rows + strips - 1) / strips, strips = (rows + length - 1) / length;
    units = static_cast<int>(x[0]) / groups * strips * columns;
    const int turns = (units + lanes - 1) / lanes, each = target > 0 ? (turns + target - 1) / target : 1;
    parts = (turns + each - 1) / each, per_part = each * lanes;
  }
  static bool possible(const Shape& x) { return x[0] * x[1] * x[2] <= 0x3fffffff; }
  std::int64_t blocks() const { return std::int64_t(groups) * parts * slabs; }

  /// What one block does.
  struct Work {
    int first, channels, group, part;  // the first channel and how many there are
  };
  TTT_DEVICE Work work(const Block& block) const {
    const int index = static_cast<int>(block.index()), above = index / slabs, first = (index - above * slabs) * width;
    return {first, channels - first < width ? channels - first : width, above / parts, above % parts};
  }
  /// body(image, column, first row, last row) for thread t's columns of that work.
  template <class F>
  TTT_DEVICE void each(const Work& work, int t, const F& body) const {
    const int end = (work.part + 1) * per_part < units ? (work.part + 1) * per_part : units;
    if (t % across * n >= work.channels) return;
    for (int unit = work.part * per_part + t / across; unit < end; unit += lanes) {
      const int line = unit / columns, above = line / strips, first = (line - above * strips) * length;
      const int image = groups == 1 ? above : work.group;
      body(image, unit - line * columns, first, first + length < rows ? first + length : rows);
    }
  }
};

/// y = conv(x, w) of [B, H, W, C], with `turned` by w turned by 180°, which is the gradient of the input.
template <class T, int n>
struct DepthwiseColumns {
  using Share = ColumnShare<n>;
  static constexpr int step = Share::width + 4;  // numbers from tap to tap: taps of a channel in different banks
  static constexpr std::int64_t shared_bytes = shared_size<T>(9 * step);
  Images<const T> x;
  ChannelKernels<const T> w;
  Share share;
  bool turned;
  Images<T> y;
  TTT_DEVICE void operator()(Block& block) const {
    T* taps = block.shared<T>(9 * step);                                                           // [9, step]
    const auto work = share.work(block);
    block.each_of(9 * work.channels, [&](int i) {
      const int c = i / 9, tap = i - c * 9;
      taps[tap * step + c] = w.at(work.group, work.first + c, tap / 3, tap % 3);
    });
    block.each_thread([&](int t) {
      const int c = t % Share::across * n;
      if (c >= work.channels) return;
      NineTaps<T, n> kernel;
      kernel.read(taps, step, c, turned, T(1));
      share.each(work, t, [&](int image, int column, int first, int last) {
        const Plane<T> to = plane_of(y, image, work.first + c);
        convolve_column<2, T, T>(plane_of(x, image, work.first + c), kernel, column, first, last,
                              [&](int row, const Channels<T, n>& value) { to.write(row, column, value); });
      });
    });
  }
};
/// partial [groups, parts, 9, C] from x and g [B, H, W, C].
template <class T, int n>
struct DepthwiseWeightColumns {
  using Share = ColumnShare<n>;
  static constexpr std::int64_t shared_bytes = shared_size<T>(taps_of_warps(block_threads, Share::width));
  Images<const T> x, g;
  Share share;
  T* partial;
  TTT_DEVICE void operator()(Block& block) const {
    T* of_warps = block.shared<T>(taps_of_warps(block_threads, Share::width));
    const auto work = share.work(block);
    PerThread<NineTaps<T, n>> own(block);
    block.each_lane([&](int t) {
      own[t] = NineTaps<T, n>{};
      const int c = work.first + t % Share::across * n;
      share.each(work, t, [&](int image, int column, int first, int last) {
        correlate_column<2, T, T>(plane_of(x, image, c), plane_of(g, image, c), column, first, last, own[t]);
      });
    });
    T* to = partial + std::int64_t(work.group * share.parts + work.part) * 9 * share.channels + work.first;
    sum_taps<block_threads, Share::across>(block, own, of_warps, [&](int tap, int c, T sum) {
      if (c < work.channels) to[tap * share.channels + c] = sum;
    });
  }
};

/// Whether the kernels above take a convolution of x to y, or the gradient of one.
template <class X, class Y>
bool takes_columns(const View<X>& x, const Shape& w, const ConvGeometry& g, const View<Y>& y) {
  bool plain = w[2] == 3 && w[3] == 3 && x.shape == y.shape && x.numel() > 0 && has_planes(x) && has_planes(y);
  for (int axis = 0; axis < 2; ++axis) plain = plain && g.stride[axis] == 1 && g.padding[axis] == 1 && g.dilation[axis] == 1;
  return plain && ColumnShare<1>::possible(x.shape);
}
template <int n, class L, class T>
void depthwise_columns(const L& run, const View<const T>& x, const View<const T>& w, bool turned, const View<T>& y) {
  const ColumnShare<n> share(x.shape, w.shape[0], 0);
  run.blocks(share.blocks(), block_threads, DepthwiseColumns<T, n>::shared_bytes, DepthwiseColumns<T, n>{x, w, share, turned, y});
}
template <class L, class T>
void depthwise_3x3(const L& run, const View<const T>& x, const View<const T>& w, bool turned, const View<T>& y) {
  constexpr int n = channels_at_once<T>;
  if (reads_at_once(x, n) && reads_at_once(y, n)) depthwise_columns<n>(run, x, w, turned, y);
  else depthwise_columns<1>(run, x, w, turned, y);
}
template <int n, class L, class T>
void depthwise_weight_columns(const L& run, const View<const T>& x, const View<const T>& g, const View<T>& w) {
  constexpr std::int64_t wanted = 264;  // blocks, of all slabs: one round of a GPU of 132 multiprocessors
  const std::int64_t slabs = (x.shape[3] + ColumnShare<n>::width - 1) / ColumnShare<n>::width, kernels = w.shape[0];
  const ColumnShare<n> share(x.shape, kernels, static_cast<int>(std::clamp<std::int64_t>(wanted / (slabs * kernels), 1, 128)));
  const Scratch<L, T> partial(run, share.groups * share.parts * 9 * x.shape[3]);                   // [groups, parts, 3, 3, C]
  run.blocks(share.blocks(), block_threads, DepthwiseWeightColumns<T, n>::shared_bytes, DepthwiseWeightColumns<T, n>{x, g, share, partial.data()});
  const Shape taps{kernels, 3, 3, x.shape[3]};
  const Strides to{w.strides[0], w.strides[2], w.strides[3], w.strides[1]};
  Strides from = contiguous_strides(taps);
  from[0] *= share.parts;
  sum_parts<L, T>(run, partial.data(), share.parts, 9 * x.shape[3], from, taps, w.data, to);
}

// ---------------------------------------------------------------------------------------------- any geometry
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

// ------------------------------------------------------------------------------------------------------ verbs
template <class L, class T>
void depthwise(View<const T> x, View<const T> w, const ConvGeometry& geometry, View<T> y) {
  const L run("depthwise", y.device);
  if (takes_columns(x, w.shape, geometry, y)) return depthwise_3x3(run, x, w, false, y);
  for_each(run, y.numel(), Depthwise<T>{x, w, Window(geometry, w.shape), y});
}
template <class L, class T>
void depthwise_input_grad(View<const T> g, View<const T> w, const ConvGeometry& geometry, View<T> x) {
  const L run("depthwise_input_grad", x.device);
  if (takes_columns(g, w.shape, geometry, x)) return depthwise_3x3(run, g, w, true, x);
  for_each(run, x.numel(), DepthwiseInputGrad<T>{g, w, Window(geometry, w.shape), x});
}
template <class L, class T>
void depthwise_weight_grad(View<const T> x, View<const T> g, const ConvGeometry& geometry, View<T> w) {
  const L run("depthwise_weight_grad", w.device);
  if (takes_columns(x, w.shape, geometry, g)) {
    constexpr int n = channels_at_once<T>;
    if (reads_at_once(x, n) && reads_at_once(g, n)) return depthwise_weight_columns<n>(run, x, g, w);
    return depthwise_weight_columns<1>(run, x, g, w);
  }
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

}  // namespace ttt::cuda_backend
