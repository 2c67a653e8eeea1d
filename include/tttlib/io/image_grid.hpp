#pragma once
/// A picture of labelled pictures: what a classifier saw and what it said.

#include <algorithm>
#include <string>
#include <vector>

#include "tttlib/core/error.hpp"
#include "tttlib/io/image.hpp"

namespace ttt {

/// One picture with what it was taken for and what it is; without `predicted` it is only named.
struct GridTile {
  Image image;
  std::string predicted;
  std::string actual;
};

struct GridOptions {
  int columns = 8;
  int scale = 3;  ///< pixels per pixel of the tiles
  int text_scale = 2;
};

namespace detail {

inline constexpr Color grid_faint{200, 203, 208};
inline constexpr Color grid_right{34, 150, 84}, grid_wrong{208, 52, 60};

/// A check mark or a cross on a field of 7 x 7 dots: the font has neither.
inline void draw_mark(Image& image, int x, int y, bool right, int scale) {
  static const char* const check[] = {"......#", ".....##", "#...##.", "##.##..",
                                      ".###...", "..#....", "......."};
  static const char* const cross[] = {"##...##", ".##.##.", "..###..", "..###..",
                                      ".##.##.", "##...##", "......."};
  for (int row = 0; row < 7; ++row)
    for (int column = 0; column < 7; ++column)
      if ((right ? check : cross)[row][column] == '#')
        fill_rectangle(image, x + column * scale, y + row * scale, scale, scale,
                       right ? grid_right : grid_wrong);
}

}  // namespace detail

/// Sets RGB tiles of one size in rows, each with a green border and "ring ✓" below it where the prediction is
/// right, a red border, "circle ✗" and "is ring" where it is wrong. Throws ShapeError for no tiles or tiles
/// of different sizes.
inline Image image_grid(const std::vector<GridTile>& tiles, const GridOptions& options = {}) {
  using namespace detail;
  const auto refuse = [](const std::string& what) { fail<ShapeError>("image_grid", what); };
  if (tiles.empty()) refuse("there are no tiles");
  if (options.columns < 1 || options.scale < 1 || options.text_scale < 1)
    refuse(concat("options must be positive: columns ", options.columns, ", scale ", options.scale,
                  ", text_scale ", options.text_scale));
  const int width = tiles[0].image.width, height = tiles[0].image.height;
  int caption_width = 0;
  bool any_wrong = false;
  const int text_scale = options.text_scale, mark_width = 10 * text_scale;
  for (const GridTile& tile : tiles) {
    const Image& image = tile.image;
    if (image.width != width || image.height != height || image.channels != 3 ||
        image.pixels.size() != static_cast<std::size_t>(width) * static_cast<std::size_t>(height) * 3)
      refuse(concat("tiles must be RGB pictures of one size: ", width, " x ", height, " first, then ",
                    image.width, " x ", image.height, " with ", image.channels, " channels"));
    const int first = text_width(tile.predicted, text_scale) + mark_width;
    caption_width = std::max({caption_width, first, text_width("is " + tile.actual, text_scale)});
    any_wrong = any_wrong || (!tile.predicted.empty() && tile.predicted != tile.actual);
  }

  const int count = static_cast<int>(tiles.size());
  const int columns = std::min(options.columns, count), rows = (count + columns - 1) / columns;
  const int border = options.scale + 1, gap = 6 * text_scale, line = 11 * text_scale;
  const int picture_width = width * options.scale + 2 * border,
            picture_height = height * options.scale + 2 * border;
  const int cell_width = std::max(picture_width, caption_width) + gap;
  const int cell_height = picture_height + line * (any_wrong ? 2 : 1) + gap;
  Image grid(columns * cell_width + gap, rows * cell_height + gap);
  fill_rectangle(grid, 0, 0, grid.width, grid.height, paper_color);

  for (int i = 0; i < count; ++i) {
    const GridTile& tile = tiles[static_cast<std::size_t>(i)];
    const bool judged = !tile.predicted.empty(), right = tile.predicted == tile.actual;
    const int x = gap + i % columns * cell_width, y = gap + i / columns * cell_height;
    fill_rectangle(grid, x, y, picture_width, picture_height,
                   judged ? (right ? grid_right : grid_wrong) : grid_faint);
    for (int row = 0; row < height; ++row)
      for (int column = 0; column < width; ++column) {
        const std::uint8_t* p = tile.image.at(column, row);
        fill_rectangle(grid, x + border + column * options.scale, y + border + row * options.scale,
                       options.scale, options.scale, {p[0], p[1], p[2]});
      }
    const int text_y = y + picture_height + 2 * text_scale;
    draw_text(grid, x, text_y, judged ? tile.predicted : tile.actual, ink_color, text_scale);
    if (judged)
      draw_mark(grid, x + text_width(tile.predicted, text_scale) + 3 * text_scale, text_y, right, text_scale);
    if (judged && !right) draw_text(grid, x, text_y + line, "is " + tile.actual, grid_wrong, text_scale);
  }
  return grid;
}

}  // namespace ttt
