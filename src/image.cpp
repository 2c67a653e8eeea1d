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
#include <stb_image.h>
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
    const int right = std::min(pixel(x, corner[2].x), image.width),
              bottom = std::min(pixel(y, corner[2].y), image.height);
    for (int py = std::max(pixel(y, corner[0].y), 0); py < bottom; ++py)
      for (int px = std::max(pixel(x, corner[0].x), 0); px < right; ++px) {
        image.at(px, py)[0] = color.red;
        image.at(px, py)[1] = color.green;
        image.at(px, py)[2] = color.blue;
      }
  }
}

}  // namespace ttt
