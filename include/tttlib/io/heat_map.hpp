#pragma once
/// Numbers on a grid as colours.

#include <algorithm>
#include <cmath>
#include <vector>

#include "tttlib/core/error.hpp"
#include "tttlib/io/image.hpp"

namespace ttt {

namespace detail {
/// The colour at `share` of the way from the first to the last of n stops.
template <std::size_t n>
Color between_stops(const double (&stops)[n][3], double share) {
  const double at = std::clamp(std::isfinite(share) ? share : 0.0, 0.0, 1.0) * static_cast<double>(n - 1);
  const std::size_t low = std::min(static_cast<std::size_t>(at), n - 2);
  const double part = at - static_cast<double>(low);
  const auto channel = [&](std::size_t c) { return static_cast<std::uint8_t>(stops[low][c] + part * (stops[low + 1][c] - stops[low][c])); };
  return {channel(0), channel(1), channel(2)};
}
}  // namespace detail

/// Dark blue for 0, over green, to yellow for 1.
inline Color heat_color(double share) {
  static constexpr double stops[5][3] = {{38, 16, 66}, {48, 84, 140}, {32, 146, 140}, {110, 206, 88}, {253, 231, 37}};
  return detail::between_stops(stops, share);
}
/// Blue for −1, nearly white for 0, red for 1.
inline Color signed_color(double share) {
  static constexpr double stops[3][3] = {{33, 102, 172}, {247, 247, 247}, {178, 24, 43}};
  return detail::between_stops(stops, 0.5 + share / 2);
}

/// Draws a grid of numbers, row by row, as squares of `cell` pixels with the upper left corner at (x, y); `color` makes
/// a colour of a number. Throws ShapeError if the numbers do not fill their rows.
template <class ColorOf>
void draw_heat_map(Image& image, int x, int y, const std::vector<double>& values, int columns, int cell, ColorOf color) {
  if (columns < 1 || cell < 1 || values.size() % static_cast<std::size_t>(columns) != 0)
    fail<ShapeError>("draw_heat_map", concat("numbers must fill their rows: ", values.size(), " numbers, columns ", columns, ", cell ", cell));
  for (int i = 0; i < static_cast<int>(values.size()); ++i)
    fill_rectangle(image, x + i % columns * cell, y + i / columns * cell, cell, cell, color(values[static_cast<std::size_t>(i)]));
}

}  // namespace ttt
