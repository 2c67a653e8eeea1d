// Convolutions, pooling and resizing of channels-last images.
#include <cmath>

#include "op_case.hpp"

namespace {
using namespace ops_test;

/// x [B, H, W, C], w [O, C/g, kh, kw]: every product of the definition.
Reference naive_conv(const Conv2dOptions& o, bool with_bias) {
  return [=](const Arrays& x) {
    const Shape &s = x[0].shape, &k = x[1].shape;
    const auto length = [](std::int64_t n, std::int64_t kernel, std::int64_t stride, std::int64_t padding,
                           std::int64_t dilation) {
      return (n + 2 * padding - dilation * (kernel - 1) - 1) / stride + 1;
    };
    const Shape out{s[0], length(s[1], k[2], o.stride.rows, o.padding.rows, o.dilation.rows),
                    length(s[2], k[3], o.stride.columns, o.padding.columns, o.dilation.columns), k[0]};
    return build(out, [&](const Index& i) {
      double sum = with_bias ? x[2].at({i[3]}) : 0;
      const std::int64_t group = i[3] / (k[0] / o.groups);
      for (std::int64_t c = 0; c < k[1]; ++c)
        for (std::int64_t a = 0; a < k[2]; ++a)
          for (std::int64_t b = 0; b < k[3]; ++b) {
            const std::int64_t r = i[1] * o.stride.rows - o.padding.rows + a * o.dilation.rows;
            const std::int64_t q = i[2] * o.stride.columns - o.padding.columns + b * o.dilation.columns;
            if (r >= 0 && r < s[1] && q >= 0 && q < s[2])
              sum += x[0].at({i[0], r, q, group * k[1] + c}) * x[1].at({i[3], c, a, b});
          }
      return sum;
    });
  };
}
/// One kernel per channel: w [C, 1, kh, kw] or [B, C, kh, kw].
Reference naive_depthwise(const Conv2dOptions& o) {
  return [=](const Arrays& x) {
    const bool shared = x[1].shape[1] == 1 && x[1].shape[0] == x[0].shape[3];
    Conv2dOptions grouped = o;
    grouped.groups = x[0].shape[3];
    Array y = naive_conv(grouped, false)(
        {x[0], build({x[0].shape[3], 1, x[1].shape[2], x[1].shape[3]}, [](const Index&) { return 0.0; })});
    for (std::int64_t image = 0; image < x[0].shape[0]; ++image) {
      const Shape one{1, x[0].shape[1], x[0].shape[2], x[0].shape[3]};
      const Array in = build(one, [&](const Index& i) { return x[0].at({image, i[1], i[2], i[3]}); });
      const Array w = build({x[0].shape[3], 1, x[1].shape[2], x[1].shape[3]}, [&](const Index& i) {
        return shared ? x[1].at({i[0], 0, i[2], i[3]}) : x[1].at({image, i[0], i[2], i[3]});
      });
      const Array out = naive_conv(grouped, false)({in, w});
      for_each_index(out.shape, [&](const Index& i) { y.at({image, i[1], i[2], i[3]}) = out.at(i); });
    }
    return y;
  };
}

OpCase conv_case(const char* name, const Conv2dOptions& o, std::vector<Tensors<double>> inputs,
                 int order = 2) {
  return op_case(
      name, [o](const auto& x) { return conv2d(x[0], x[1], {}, o); }, naive_conv(o, false), std::move(inputs),
      order);
}
OpCase depthwise_case(const char* name, const Conv2dOptions& o, std::vector<Tensors<double>> inputs,
                      int order = 2) {
  return op_case(
      name, [o](const auto& x) { return depthwise_conv2d(x[0], x[1], o); }, naive_depthwise(o),
      std::move(inputs), order);
}
/// Channels are rows of memory, as after a slice of a wider tensor.
Tensor<double> channels_of_wider(const Shape& shape) {
  Shape wide = shape;
  wide[3] += 3;
  return slice(normal(wide), 3, 2, 2 + shape[3]);
}

std::vector<OpCase> convolutions() {
  return {
      conv_case("conv2d", {.padding = 1},
                {{normal({2, 4, 5, 3}), normal({4, 3, 3, 3})},
                 {normal({1, 1, 1, 1}), normal({1, 1, 3, 3})},
                 {strided(normal({2, 3, 3, 2})), strided(normal({2, 2, 3, 3}))},
                 {channels_of_wider({1, 3, 4, 2}), normal({3, 2, 3, 3})},
                 {normal({0, 4, 5, 3}), normal({2, 3, 3, 3})}},
                3),
      op_case(
          "conv2d_bias", [](const auto& x) { return conv2d(x[0], x[1], x[2]); }, naive_conv({}, true),
          {{normal({2, 3, 3, 2}), normal({3, 2, 2, 2}), normal({3})}}, 3),
      conv_case("conv2d_patches", {.stride = 2}, {{normal({2, 4, 6, 3}), normal({5, 3, 2, 2})}}),
      conv_case("conv2d_1x1", {}, {{normal({2, 2, 3, 4}), normal({3, 4, 1, 1})}}),
      conv_case("conv2d_strided", {.stride = {2, 3}, .padding = {1, 2}, .dilation = {2, 1}},
                {{normal({2, 6, 7, 2}), normal({3, 2, 3, 2})}}, 3),
      conv_case("conv2d_groups", {.padding = 1, .groups = 2}, {{normal({2, 3, 4, 4}), normal({6, 2, 3, 3})}},
                3),
      conv_case("conv2d_many_images", {.padding = 1}, {{normal({19, 2, 2, 1}), normal({2, 1, 3, 3})}}),
      conv_case("conv2d_depthwise", {.padding = 1, .groups = 3},
                {{normal({2, 4, 4, 3}), normal({3, 1, 3, 3})}}),
      depthwise_case("depthwise", {.padding = 1},
                     {{normal({2, 5, 4, 19}), normal({19, 1, 3, 3})},
                      {normal({1, 1, 1, 1}), normal({1, 1, 3, 3})},
                      {strided(normal({2, 3, 3, 2})), strided(normal({2, 1, 3, 3}))},
                      {channels_of_wider({2, 4, 3, 8}), normal({8, 1, 3, 3})},
                      {normal({0, 3, 3, 2}), normal({2, 1, 3, 3})},
                      {normal({1, 7, 6, 33}), normal({33, 1, 3, 3})}},
                     3),
      depthwise_case("depthwise_per_image", {.padding = 1},
                     {{normal({3, 4, 5, 9}), normal({3, 9, 3, 3})},
                      {normal({2, 3, 3, 1}), normal({2, 1, 3, 3})},
                      {strided(normal({2, 3, 4, 17})), strided(normal({2, 17, 3, 3}))},
                      {normal({2, 2, 2, 3}), normal({2, 3, 3, 3})}},
                     3),
      depthwise_case("depthwise_strided", {.stride = {2, 1}, .padding = {2, 1}, .dilation = {1, 2}},
                     {{normal({2, 6, 7, 3}), normal({3, 1, 3, 2})}}, 3),
      depthwise_case(
          "depthwise_unpadded", {},
          {{normal({2, 5, 6, 3}), normal({3, 1, 3, 3})}, {normal({2, 5, 6, 3}), normal({2, 3, 5, 5})}}),
      depthwise_case("depthwise_dilated", {.padding = 2, .dilation = 2},
                     {{normal({1, 5, 5, 2}), normal({2, 1, 3, 3})}}),
  };
}
TTT_OP_TABLE("convolutions", convolutions)

/// One number per window and channel.
Reference naive_pool(Pair kernel, Pair stride, Pair padding,
                     double (*f)(const std::vector<double>& inside, std::int64_t taps)) {
  return [=](const Arrays& x) {
    const Shape& s = x[0].shape;
    const Shape out{s[0], (s[1] + 2 * padding.rows - kernel.rows) / stride.rows + 1,
                    (s[2] + 2 * padding.columns - kernel.columns) / stride.columns + 1, s[3]};
    return build(out, [&](const Index& i) {
      std::vector<double> inside;
      for (std::int64_t a = 0; a < kernel.rows; ++a)
        for (std::int64_t b = 0; b < kernel.columns; ++b) {
          const std::int64_t r = i[1] * stride.rows - padding.rows + a,
                             q = i[2] * stride.columns - padding.columns + b;
          if (r >= 0 && r < s[1] && q >= 0 && q < s[2]) inside.push_back(x[0].at({i[0], r, q, i[3]}));
        }
      return f(inside, kernel.rows * kernel.columns);
    });
  };
}
double sum_of(const std::vector<double>& v) {
  double s = 0;
  for (double x : v) s += x;
  return s;
}
double largest(const std::vector<double>& v, std::int64_t) { return *std::max_element(v.begin(), v.end()); }
double padded_mean(const std::vector<double>& v, std::int64_t taps) {
  return sum_of(v) / static_cast<double>(taps);
}
double inner_mean(const std::vector<double>& v, std::int64_t) {
  return sum_of(v) / static_cast<double>(v.size());
}

Reference naive_adaptive(Pair size, double (*f)(const std::vector<double>&, std::int64_t)) {
  return [=](const Arrays& x) {
    const Shape& s = x[0].shape;
    return build({s[0], size.rows, size.columns, s[3]}, [&](const Index& i) {
      std::vector<double> inside;
      for (std::int64_t r = 0; r < s[1]; ++r)
        for (std::int64_t q = 0; q < s[2];
             ++q) {  // position r is in window o if o·H < (r+1)·h and r·h < (o+1)·H
          const bool in_rows = i[1] * s[1] < (r + 1) * size.rows && r * size.rows < (i[1] + 1) * s[1];
          const bool in_columns =
              i[2] * s[2] < (q + 1) * size.columns && q * size.columns < (i[2] + 1) * s[2];
          if (in_rows && in_columns) inside.push_back(x[0].at({i[0], r, q, i[3]}));
        }
      return f(inside, 0);
    });
  };
}

std::vector<OpCase> pooling() {
  return {
      op_case("max_pool2d", [](const auto& x) { return max_pool2d(x[0], 3, {.stride = 2, .padding = 1}); },
              naive_pool(3, 2, 1, largest),
              {{spaced({2, 5, 6, 3})}, {strided(spaced({1, 4, 5, 2}))}, {spaced({1, 2, 2, 1})}}),
      op_case(
          "max_pool2d_2",
          [](const auto& x) {
            return max_pool2d(x[0], {2, 1});
          },
          naive_pool({2, 1}, {2, 1}, 0, largest), {{spaced({2, 4, 3, 2})}}, 3),
      op_case("avg_pool2d",
              [](const auto& x) {
                return avg_pool2d(x[0], {2, 3}, {.stride = 1, .padding = {1, 0}});
              },
              naive_pool({2, 3}, 1, {1, 0}, padded_mean),
              {{normal({2, 4, 5, 3})}, {strided(normal({1, 3, 4, 2}))}, {normal({0, 3, 3, 1})}}),
      op_case("avg_pool2d_inside",
              [](const auto& x) {
                return avg_pool2d(x[0], 3, {.stride = 2, .padding = 1, .count_include_pad = false});
              },
              naive_pool(3, 2, 1, inner_mean), {{normal({2, 4, 5, 3})}}),
      op_case("adaptive_avg_pool2d",
              [](const auto& x) {
                return adaptive_avg_pool2d(x[0], {3, 2});
              },
              naive_adaptive({3, 2}, inner_mean),
              {{normal({2, 7, 5, 3})}, {strided(normal({1, 3, 4, 2}))}, {normal({1, 2, 1, 1})}}),
      op_case("adaptive_max_pool2d",
              [](const auto& x) {
                return adaptive_max_pool2d(x[0], {3, 2});
              },
              naive_adaptive({3, 2}, largest), {{spaced({2, 7, 5, 3})}, {strided(spaced({1, 3, 4, 2}))}}),
  };
}
TTT_OP_TABLE("pooling", pooling)

/// Σ over taps of one axis after the other, pixel by pixel.
Reference naive_resize(Pair size, Interpolation mode) {
  return [=](const Arrays& x) {
    const Shape& s = x[0].shape;
    const auto taps = [mode](std::int64_t o, std::int64_t outputs, std::int64_t n) {
      std::vector<std::pair<std::int64_t, double>> result;
      const double scale = static_cast<double>(n) / static_cast<double>(outputs),
                   centre = (static_cast<double>(o) + 0.5) * scale - 0.5;
      if (mode == Interpolation::nearest)
        return result = {{static_cast<std::int64_t>(std::floor(static_cast<double>(o) * scale)), 1.0}},
               result;
      for (auto at = static_cast<std::int64_t>(std::floor(centre)) - 2;
           at <= static_cast<std::int64_t>(std::floor(centre)) + 3; ++at) {
        const double d = std::abs(static_cast<double>(at) - centre), a = -0.75;
        double weight = d < 1 ? 1 - d : 0;
        if (mode == Interpolation::bicubic)
          weight = d <= 1  ? (a + 2) * d * d * d - (a + 3) * d * d + 1
                   : d < 2 ? a * d * d * d - 5 * a * d * d + 8 * a * d - 4 * a
                           : 0;
        result.push_back({at < 0 ? 0 : at >= n ? n - 1 : at, weight});
      }
      return result;
    };
    return build({s[0], size.rows, size.columns, s[3]}, [&](const Index& i) {
      double sum = 0;
      for (const auto& row : taps(i[1], size.rows, s[1]))
        for (const auto& column : taps(i[2], size.columns, s[2]))
          sum += row.second * column.second * x[0].at({i[0], row.first, column.first, i[3]});
      return sum;
    });
  };
}
OpCase resize_case(const char* name, Pair size, Interpolation mode) {
  return op_case(name, [=](const auto& x) { return interpolate(x[0], size, mode); }, naive_resize(size, mode),
                 {{normal({2, 3, 4, 2})}, {strided(normal({1, 5, 4, 3}))}, {normal({1, 1, 1, 1})}});
}
std::vector<OpCase> resizing() {
  return {resize_case("nearest_up", {6, 9}, Interpolation::nearest),
          resize_case("nearest_down", {2, 3}, Interpolation::nearest),
          resize_case("bilinear_up", {7, 8}, Interpolation::bilinear),
          resize_case("bilinear_down", {2, 3}, Interpolation::bilinear),
          resize_case("bicubic_up", {7, 9}, Interpolation::bicubic),
          resize_case("bicubic_down", {2, 3}, Interpolation::bicubic)};
}
TTT_OP_TABLE("resizing", resizing)

TEST_CASE("ops: pooling and resizing agree with hand-worked numbers") {
  const auto x = reshape(arange<double>(0, 16), {1, 4, 4, 1});
  CHECK(max_pool2d(x, 2).to_vector() == std::vector<double>{5, 7, 13, 15});
  CHECK(avg_pool2d(x, 2).to_vector() == std::vector<double>{2.5, 4.5, 10.5, 12.5});
  CHECK(adaptive_avg_pool2d(x, 1).item() == Approx(7.5));
  CHECK(interpolate(x, 2, Interpolation::nearest).to_vector() == std::vector<double>{0, 2, 8, 10});
  const auto row = reshape(tensor<double>({0, 1}), {1, 1, 2, 1});
  CHECK(interpolate(row, {1, 4}, Interpolation::bilinear).to_vector() ==
        std::vector<double>{0, 0.25, 0.75, 1});
  const auto cubic = interpolate(row, {1, 4}, Interpolation::bicubic).to_vector();
  CHECK(cubic[0] == Approx(-0.10546875));  // the overshoot of a = −0.75
  CHECK(cubic[1] == Approx(0.19140625 + 0.0).margin(0.2));
  const auto ties = zeros<double>({1, 2, 2, 1});
  CHECK(grad([](const Tensor<double>& v) { return sum(max_pool2d(v, 2)); })(ties).to_vector() ==
        std::vector<double>{1, 0, 0, 0});
}

TEST_CASE("ops: convolutions give the same bits at any number of threads") {
  const auto x = cast<float>(normal({18, 9, 8, 24})), w = cast<float>(normal({12, 24, 3, 3})),
             d = cast<float>(normal({24, 1, 3, 3}));
  const int before = num_threads();
  std::vector<std::vector<float>> results;
  for (int threads : {1, 2, 5}) {
    set_num_threads(threads);
    std::vector<float> all;
    const auto collect = [&](const Tensors<float>& list) {
      for (const auto& t : list)
        for (float v : t.to_vector()) all.push_back(v);
    };
    const auto general = [](const Tensors<float>& v) { return conv2d(v[0], v[1], {}, {.padding = 1}); };
    const auto depthwise = [](const Tensors<float>& v) {
      return depthwise_conv2d(v[0], v[1], {.padding = 1});
    };
    collect({general({x, w}), depthwise({x, d})});
    collect(vjp(general, Tensors<float>{x, w}, ones<float>({18, 9, 8, 12})));
    collect(vjp(depthwise, Tensors<float>{x, d}, x));
    results.push_back(all);
  }
  set_num_threads(before);
  CHECK(results[0] == results[1]);
  CHECK(results[0] == results[2]);
}

}  // namespace
