/// tttlib::image: the one file that compiles the stb libraries.
#include "tttlib/io/image.hpp"

#include <algorithm>
#include <climits>
#include <cmath>

#include "tttlib/core/error.hpp"
#include "tttlib/io/atomic_file.hpp"
#include "tttlib/io/input_file.hpp"

// Static, so that a program may hold its own copy of stb as well.
#define STB_IMAGE_STATIC
#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_WRITE_STATIC
#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STBI_ONLY_JPEG
#define STBI_ONLY_PNG
#define STBI_NO_STDIO
#define STBI_WRITE_NO_STDIO
#include <stb_easy_font.h>
#define STB_IMAGE_RESIZE_STATIC
#define STB_IMAGE_RESIZE_IMPLEMENTATION
#include <stb_image.h>
#include <stb_image_resize.h>
#include <stb_image_write.h>

namespace ttt {

namespace {

constexpr std::int64_t max_pixels = 100'000'000;

std::string size_text(const Image& image) {
  return concat("width ", image.width, ", height ", image.height, ", channels ", image.channels, ", ",
                image.pixels.size(), " bytes");
}

void check_size(const char* op, const Image& image) {
  const bool valid = image.width > 0 && image.height > 0 && image.channels >= 1 && image.channels <= 4 &&
                     std::int64_t(image.width) * image.height <= max_pixels &&
                     std::int64_t(image.width) * image.height * image.channels ==
                         static_cast<std::int64_t>(image.pixels.size());
  if (!valid) fail<ShapeError>(op, "size and pixels do not agree: " + size_text(image));
}

/// Whether a file begins as a PNG or JPEG file does.
bool is_picture(const std::vector<unsigned char>& bytes) {
  const auto begins = [&](const std::vector<unsigned char>& signature) {
    return bytes.size() >= signature.size() && std::equal(signature.begin(), signature.end(), bytes.begin());
  };
  return begins({0x89, 'P', 'N', 'G'}) || begins({0xFF, 0xD8, 0xFF});
}

/// stb prints a letter as rectangles: four vertices each, upper left first, lower right third.
struct Vertex {
  float x, y, z;
  unsigned char color[4];
};

/// A copy that stb may take as mutable, with only the characters its font has.
std::string printable(const std::string& text) {
  std::string result = text;
  for (char& c : result)
    if (c < ' ' || c > '~') c = '?';
  return result;
}

}  // namespace

Image read_image(const std::string& path, int channels) {
  if (channels < 0 || channels > 4)
    fail<ShapeError>("read_image", concat("channels must be 0 to 4: channels ", channels));
  const InputFile file("read_image", path);
  if (file.size() > INT_MAX)
    fail<IoError>("read_image", concat("file is too large: ", path, ", ", file.size(), " bytes"));
  const std::vector<unsigned char> bytes = file.read_all();
  const int length = static_cast<int>(bytes.size());

  Image image;
  int stored = 0;
  if (!stbi_info_from_memory(bytes.data(), length, &image.width, &image.height, &stored))
    fail<IoError>(
        "read_image",
        (is_picture(bytes) ? "picture is damaged or too large: " : "not a PNG or JPEG picture: ") + path);
  if (std::int64_t(image.width) * image.height > max_pixels)
    fail<IoError>("read_image", concat("picture is too large: ", path, ", ", image.width, " x ", image.height,
                                       " pixels, limit ", max_pixels));
  unsigned char* pixels =
      stbi_load_from_memory(bytes.data(), length, &image.width, &image.height, &stored, channels);
  if (!pixels) fail<IoError>("read_image", concat("picture is damaged: ", path, ": ", stbi_failure_reason()));
  image.channels = channels == 0 ? stored : channels;
  const auto count = std::int64_t(image.width) * image.height * image.channels;
  image.pixels.assign(pixels, pixels + count);
  stbi_image_free(pixels);
  return image;
}

void write_png(const std::string& path, const Image& image) {
  check_size("write_png", image);
  std::string bytes;
  const auto append = [](void* to, void* data, int size) {
    static_cast<std::string*>(to)->append(static_cast<const char*>(data), static_cast<std::size_t>(size));
  };
  if (!stbi_write_png_to_func(append, &bytes, image.width, image.height, image.channels, image.pixels.data(),
                              0))
    fail<IoError>("write_png", "out of memory: " + path + ", " + size_text(image));
  write_file_atomically(path, bytes, "write_png");
}

Image resize(const Image& image, int width, int height) {
  check_size("resize", image);
  if (width < 1 || height < 1 || std::int64_t(width) * height > max_pixels)
    fail<ShapeError>("resize", concat("no size for a picture: width ", width, ", height ", height));
  Image result(width, height, image.channels);
  if (!stbir_resize_uint8(image.pixels.data(), image.width, image.height, 0, result.pixels.data(), width, height, 0, image.channels))
    fail<Error>("resize", "out of memory: " + size_text(result));
  return result;
}

void fill_rectangle(Image& image, int x, int y, int width, int height, Color color) {
  check_size("fill_rectangle", image);
  if (image.channels != 3) fail<ShapeError>("fill_rectangle", "picture must have 3 channels: " + size_text(image));
  const int right = std::min(x + width, image.width), bottom = std::min(y + height, image.height);
  for (int row = std::max(y, 0); row < bottom; ++row)
    for (int column = std::max(x, 0); column < right; ++column) {
      std::uint8_t* pixel = image.at(column, row);
      pixel[0] = color.red;
      pixel[1] = color.green;
      pixel[2] = color.blue;
    }
}

int text_width(const std::string& text, int scale) {
  std::string line = printable(text);
  return stb_easy_font_width(line.data()) * scale;
}

void draw_text(Image& image, int x, int y, const std::string& text, Color color, int scale) {
  check_size("draw_text", image);
  if (image.channels != 3) fail<ShapeError>("draw_text", "picture must have 3 channels: " + size_text(image));
  std::string line = printable(text);
  std::vector<Vertex> vertices(line.size() * 80 + 4);  // a letter has fewer than 20 rectangles
  const int rectangles = stb_easy_font_print(0, 0, line.data(), nullptr, vertices.data(),
                                             static_cast<int>(vertices.size() * sizeof(Vertex)));
  const auto pixel = [scale](int origin, float dots) {
    return origin + static_cast<int>(std::lround(dots)) * scale;
  };
  for (int i = 0; i < rectangles; ++i) {
    const Vertex* corner = &vertices[static_cast<std::size_t>(i) * 4];
    const int left = pixel(x, corner[0].x), top = pixel(y, corner[0].y);
    fill_rectangle(image, left, top, pixel(x, corner[2].x) - left, pixel(y, corner[2].y) - top, color);
  }
}

}  // namespace ttt
