#pragma once
/// Pictures with 8 bits per channel. Declarations only: link tttlib::image.

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "tttlib/core/error.hpp"

namespace ttt {

/// A picture, row by row from the top, channels last; 1 channel is grey, 3 are red, green, blue, and 2 or 4
/// add alpha.
struct Image {
  int width = 0, height = 0, channels = 3;
  std::vector<std::uint8_t> pixels;  // [height, width, channels]

  Image() = default;
  /// A black picture. Throws ShapeError for a negative size.
  Image(int w, int h, int c = 3) : width(w), height(h), channels(c) {
    const std::string size = concat(w, " x ", h, ", ", c, " channels");
    if (w < 0 || h < 0 || c < 0 || c > 4) fail<ShapeError>("Image", "no size of a picture: " + size);
    within_memory("Image", size, [&] { return pixels.resize(static_cast<std::size_t>(std::int64_t(w) * h * c)); });
  }

  /// The first channel of pixel (x, y).
  std::uint8_t* at(int x, int y) { return &pixels[position(x, y)]; }
  const std::uint8_t* at(int x, int y) const { return &pixels[position(x, y)]; }

 private:
  std::size_t position(int x, int y) const {
    return static_cast<std::size_t>((static_cast<std::int64_t>(y) * width + x) * channels);
  }
};

struct Color {
  std::uint8_t red = 0, green = 0, blue = 0;
};

/// What pictures of results are drawn on, and with.
inline constexpr Color paper_color{250, 250, 248}, ink_color{38, 42, 48};

/// Reads a PNG or JPEG file; `channels` converts, 0 keeps what the file has.
/// Throws IoError if the file is missing, not such a picture, damaged, or has over 100 million pixels.
Image read_image(const std::string& path, int channels = 3);

/// Writes a PNG file; the old file survives any failure. Throws IoError naming path and reason, ShapeError
/// for a picture whose size and pixels do not agree.
void write_png(const std::string& path, const Image& image);

/// The picture at another size: an area average where it shrinks, smooth in between where it grows.
/// Throws ShapeError for sizes below 1.
Image resize(const Image& image, int width, int height);

/// Fills a rectangle of an RGB picture, clipped at the borders.
void fill_rectangle(Image& image, int x, int y, int width, int height, Color color);

/// Draws one line of ASCII with its upper left corner at (x, y) onto an RGB picture, clipped at the borders;
/// each dot of the letters, which are 8 dots high, is `scale` pixels wide.
void draw_text(Image& image, int x, int y, const std::string& text, Color color, int scale = 1);

/// Pixels that `draw_text` needs from left to right.
int text_width(const std::string& text, int scale = 1);

}  // namespace ttt
