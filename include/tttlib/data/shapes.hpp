#pragma once
/// A generated data set: ten classes of coloured shapes and textures whose place, size, angle and colours are
/// random. A class is a signed distance function, so pictures of any size have smooth edges. Both colours of
/// a picture come from the same distribution: no pixel says anything about the class by its colour alone.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "tttlib/core/error.hpp"
#include "tttlib/core/parallel.hpp"
#include "tttlib/core/shape.hpp"
#include "tttlib/data/dataset.hpp"
#include "tttlib/data/random_stream.hpp"

namespace ttt {

namespace detail::shapes {

enum Class { circle, ring, square, triangle, cross, star, rows, columns, checkers, dots, class_count };

inline const std::vector<std::string>& class_names() {
  static const std::vector<std::string> names{"circle", "ring", "square",  "triangle", "cross",
                                              "star",   "rows", "columns", "checkers", "dots"};
  return names;
}

struct Point {
  float x = 0, y = 0;
};
using Rgb = std::array<float, 3>;

/// The random decisions of one picture, drawn one after the other from its own stream.
class Draws {
 public:
  Draws(std::uint64_t seed, std::uint64_t stream) : seed_(seed), stream_(stream) {}
  float between(float low, float high) {
    return low + (high - low) * philox_uniform<float>(seed_, stream_, counter_++);
  }
  bool coin() { return between(0, 1) < 0.5f; }

 private:
  std::uint64_t seed_, stream_, counter_ = 0;
};

/// Hue, saturation and value in [0, 1] to red, green, blue.
inline Rgb from_hsv(float hue, float saturation, float value) {
  Rgb rgb;
  for (std::size_t c = 0; c < 3; ++c) {
    const float k = std::fmod(5.0f - 2.0f * static_cast<float>(c) + hue * 6.0f, 6.0f);
    rgb[c] = value * (1 - saturation * std::clamp(std::min(k, 4 - k), 0.0f, 1.0f));
  }
  return rgb;
}

/// A colour of either of two kinds, deep or pale.
inline Rgb draw_color(Draws& draws, bool pale) {
  const float hue = draws.between(0, 1);
  return pale ? from_hsv(hue, draws.between(0.08f, 0.35f), draws.between(0.85f, 1.0f))
              : from_hsv(hue, draws.between(0.55f, 0.95f), draws.between(0.35f, 0.85f));
}

/// Distance to a closed polygon, negative inside.
inline float polygon_distance(const std::vector<Point>& corners, Point p) {
  float nearest = 1e9f;
  bool inside = false;
  for (std::size_t i = 0, j = corners.size() - 1; i < corners.size(); j = i++) {
    const Point a = corners[i], b = corners[j];
    const float ex = b.x - a.x, ey = b.y - a.y, px = p.x - a.x, py = p.y - a.y;
    const float t = std::clamp((px * ex + py * ey) / (ex * ex + ey * ey), 0.0f, 1.0f);
    nearest = std::min(nearest, std::hypot(px - t * ex, py - t * ey));
    if ((a.y > p.y) != (b.y > p.y) && px < ex * py / ey) inside = !inside;
  }
  return inside ? -nearest : nearest;
}

/// Distance from x to the nearest whole number.
inline float to_whole(float x) { return std::fabs(x - std::round(x)); }

/// A class with its random place, size and angle; lengths are fractions of the picture's side.
class Figure {
 public:
  Figure(Class kind, Draws& draws) : kind_(kind) {
    const bool texture = kind >= rows;
    const float tilt = 0.2f;  // radians; rows and columns must stay what they are
    const float angle = texture ? draws.between(-tilt, tilt) : draws.between(0, 6.2831853f);
    cosine_ = std::cos(angle);
    sine_ = std::sin(angle);
    radius_ =
        texture ? draws.between(0.18f, 0.32f) : draws.between(0.26f, 0.40f);  // a texture's is its period
    centre_.x = draws.between(radius_, 1 - radius_);
    centre_.y = draws.between(radius_, 1 - radius_);
    weight_ = draws.between(0, 1);
    if (kind == square) corners_ = regular_corners(4, radius_ * 1.1f);
    else if (kind == triangle) corners_ = regular_corners(3, radius_ * 1.15f);
    else if (kind == star) corners_ = star_corners(5, radius_ * (0.40f + 0.08f * weight_), radius_ * 1.1f);
    else if (kind == cross) corners_ = cross_corners(radius_, radius_ * (0.26f + 0.10f * weight_));
  }

  /// Signed distance of a point of the picture, negative where the foreground colour goes.
  float distance(Point p) const {
    const float dx = p.x - centre_.x, dy = p.y - centre_.y;
    const Point q{dx * cosine_ + dy * sine_, dy * cosine_ - dx * sine_};
    const float r = std::hypot(q.x, q.y), period = radius_;
    switch (kind_) {
      case circle:
        return r - radius_ * 0.9f;
      case ring: {
        const float half_width = radius_ * (0.13f + 0.09f * weight_);
        return std::fabs(r - radius_ + half_width) - half_width;
      }
      case rows:
        return (to_whole(q.y / period) - 0.20f - 0.10f * weight_) * period;
      case columns:
        return (to_whole(q.x / period) - 0.20f - 0.10f * weight_) * period;
      case checkers: {
        const float u = to_whole(q.x / period) - 0.25f, v = to_whole(q.y / period) - 0.25f;
        return (u * v > 0 ? -1.0f : 1.0f) * std::min(std::fabs(u), std::fabs(v)) * period;
      }
      case dots:
        return (std::hypot(to_whole(q.x / period), to_whole(q.y / period)) - 0.24f - 0.10f * weight_) *
               period;
      default:
        return polygon_distance(corners_, q);
    }
  }

 private:
  /// Corners alternate between two radii, `points` of each.
  static std::vector<Point> star_corners(int points, float inner, float outer) {
    std::vector<Point> corners;
    for (int i = 0; i < 2 * points; ++i) {
      const float radius = i % 2 ? inner : outer;
      const float angle = 3.1415927f * static_cast<float>(i) / static_cast<float>(points);
      corners.push_back({radius * std::cos(angle), radius * std::sin(angle)});
    }
    return corners;
  }
  static std::vector<Point> regular_corners(int points, float radius) {
    return star_corners(points, radius * std::cos(3.1415927f / static_cast<float>(points)), radius);
  }
  static std::vector<Point> cross_corners(float a, float b) {
    return {{a, b},   {b, b},   {b, a},   {-b, a}, {-b, b}, {-a, b},
            {-a, -b}, {-b, -b}, {-b, -a}, {b, -a}, {b, -b}, {a, -b}};
  }

  Class kind_;
  Point centre_;
  float cosine_, sine_, radius_, weight_;
  std::vector<Point> corners_;  // around the origin
};

/// A speck or a hair across the picture, to be ignored.
struct Distractor {
  Rgb color;
  Point centre;
  float cosine, sine, half_length, half_width;

  explicit Distractor(Draws& draws) : color(draw_color(draws, draws.coin())) {
    const float angle = draws.between(0, 6.2831853f);
    cosine = std::cos(angle);
    sine = std::sin(angle);
    centre = {draws.between(0, 1), draws.between(0, 1)};
    half_length = draws.coin() ? draws.between(0.05f, 0.2f) : 0;
    half_width = half_length > 0 ? 0.012f : draws.between(0.02f, 0.045f);
  }
  float distance(Point p) const {
    const float dx = p.x - centre.x, dy = p.y - centre.y;
    const float along = std::max(std::fabs(dx * cosine + dy * sine) - half_length, 0.0f);
    return std::hypot(along, dy * cosine - dx * sine) - half_width;
  }
};

/// How much of a pixel lies inside, from the distance of its centre.
inline float coverage(float distance, float pixels) {
  return std::clamp(0.5f - distance * pixels, 0.0f, 1.0f);
}

inline void mix(Rgb& color, const Rgb& other, float amount) {
  for (std::size_t c = 0; c < 3; ++c) color[c] += (other[c] - color[c]) * amount;
}

/// Paints one [size, size, 3] picture.
inline void paint(Class kind, int size, std::uint64_t seed, std::int64_t picture, std::uint8_t* out) {
  Draws draws(seed, data_stream(DataDraw::shape, picture));
  const bool pale = draws.coin();
  const Rgb front = draw_color(draws, pale), back = draw_color(draws, !pale);
  const Figure figure(kind, draws);
  std::vector<Distractor> distractors;
  while (distractors.size() < 4) distractors.emplace_back(draws);
  const float light_angle = draws.between(0, 6.2831853f);
  const float light_x = 0.3f * std::cos(light_angle), light_y = 0.3f * std::sin(light_angle);

  const float pixels = static_cast<float>(size);
  for (int y = 0; y < size; ++y)
    for (int x = 0; x < size; ++x) {
      const Point p{(static_cast<float>(x) + 0.5f) / pixels, (static_cast<float>(y) + 0.5f) / pixels};
      Rgb color = back;
      mix(color, front, coverage(figure.distance(p), pixels));
      for (const Distractor& d : distractors) mix(color, d.color, coverage(d.distance(p), pixels));
      const float light = 0.95f + light_x * (p.x - 0.5f) + light_y * (p.y - 0.5f);
      const std::uint64_t pixel =
          static_cast<std::uint64_t>(y) * static_cast<std::uint64_t>(size) + static_cast<std::uint64_t>(x);
      const PhiloxBlock noise = philox(seed, data_stream(DataDraw::shape_noise, picture), pixel);
      for (std::size_t c = 0; c < 3; ++c) {
        const float value = color[c] * light + 0.1f * (uniform24(noise.word[c]) - 0.5f);
        *out++ = static_cast<std::uint8_t>(std::lround(255 * std::clamp(value, 0.0f, 1.0f)));
      }
    }
}

}  // namespace detail::shapes

/// Generates `n` pictures of ten classes in turn. Picture i depends on seed, split, size and i alone, and the
/// splits use different random numbers. Throws ShapeError for a negative n or a size below 16.
inline ImageDataset make_shapes(std::int64_t n, int size, std::uint64_t seed, Split split) {
  using namespace detail::shapes;
  if (n < 0 || size < 16)
    fail<ShapeError>("make_shapes",
                     concat("n must not be negative, size at least 16: n ", n, ", size ", size));
  ImageDataset dataset;
  dataset.height = dataset.width = size;
  dataset.class_names = class_names();
  dataset.mean = {0.57f, 0.57f, 0.57f};
  dataset.stddev = {0.265f, 0.265f, 0.265f};
  within_memory("make_shapes", concat(n, " pictures of size ", size), [&] {
    dataset.labels.resize(static_cast<std::size_t>(n));
    dataset.pixels.resize(static_cast<std::size_t>(numel({n, size, size, 3})));
  });
  const std::int64_t first = split == Split::train ? 0 : std::int64_t(1) << 48;
  parallel_for(n, 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const auto kind = static_cast<Class>(i % class_count);
      dataset.labels[static_cast<std::size_t>(i)] = kind;
      paint(kind, size, seed, first + i, dataset.image_data(i));
    }
  });
  return dataset;
}

}  // namespace ttt
