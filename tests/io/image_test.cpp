#include "tttlib/io/image.hpp"

#include <cstdlib>

#include "catch.hpp"
#include "io/temporary_folder.hpp"
#include "tttlib/io/heat_map.hpp"
#include "tttlib/io/image_grid.hpp"

using namespace ttt;

namespace {

Image pattern(int width, int height, int channels) {
  Image image(width, height, channels);
  for (std::size_t i = 0; i < image.pixels.size(); ++i)
    image.pixels[i] = static_cast<std::uint8_t>(i * 37 + i / 7);
  return image;
}

GridTile tile(const std::string& predicted, const std::string& actual, int size = 8) {
  GridTile result;
  result.image = pattern(size, size, 3);
  result.predicted = predicted;
  result.actual = actual;
  return result;
}

std::int64_t count(const Image& image, Color color) {
  std::int64_t n = 0;
  for (int y = 0; y < image.height; ++y)
    for (int x = 0; x < image.width; ++x) {
      const std::uint8_t* p = image.at(x, y);
      n += p[0] == color.red && p[1] == color.green && p[2] == color.blue;
    }
  return n;
}

}  // namespace

TEST_CASE("a PNG file comes back as it was written") {
  const TemporaryFolder folder;
  for (int channels = 1; channels <= 4; ++channels) {
    const Image image = pattern(13, 7, channels);
    write_png(folder / "a.png", image);
    const Image back = read_image(folder / "a.png", 0);
    CHECK(back.width == 13);
    CHECK(back.height == 7);
    CHECK(back.channels == channels);
    CHECK(back.pixels == image.pixels);
  }
  CHECK(folder.files() == 1);
}

TEST_CASE("read_image converts the number of channels") {
  const TemporaryFolder folder;
  const Image grey = pattern(5, 4, 1);
  write_png(folder / "grey.png", grey);
  const Image rgb = read_image(folder / "grey.png");
  CHECK(rgb.channels == 3);
  for (int y = 0; y < 4; ++y)
    for (int x = 0; x < 5; ++x)
      for (int c = 0; c < 3; ++c) CHECK(rgb.at(x, y)[c] == *grey.at(x, y));
  CHECK_THROWS_AS(read_image(folder / "grey.png", 5), ShapeError);
}

TEST_CASE("read_image names files that are missing, damaged or too large") {
  const TemporaryFolder folder;
  CHECK(message_of<IoError>([&] { read_image(folder / "no.png"); }) ==
        "ttt::read_image: cannot open: " + (folder / "no.png") + ": No such file or directory");
  CHECK(message_of<IoError>([&] { read_image(folder.path()); }) ==
        "ttt::read_image: not a regular file: " + folder.path());
  for (const char* text : {"", "not a picture"}) {
    write_bytes(folder / "text.png", text);
    CHECK(message_of<IoError>([&] { read_image(folder / "text.png"); }) ==
          "ttt::read_image: not a PNG or JPEG picture: " + (folder / "text.png"));
  }
  write_png(folder / "a.png", pattern(40, 40, 3));
  std::string bytes = read_bytes(folder / "a.png");
  write_bytes(folder / "cut.png", bytes.substr(0, bytes.size() / 2));
  CHECK_THAT(message_of<IoError>([&] { read_image(folder / "cut.png"); }),
             ContainsSubstring("ttt::read_image: picture is damaged: " + (folder / "cut.png") + ": "));
  // Width and height in the header: 10001 x 10000, 65535 x 65535.
  bytes.replace(16, 8, std::string("\0\0\x27\x11\0\0\x27\x10", 8));
  write_bytes(folder / "large.png", bytes);
  CHECK(message_of<IoError>([&] { read_image(folder / "large.png"); }) ==
        "ttt::read_image: picture is too large: " + (folder / "large.png") +
            ", 10001 x 10000 pixels, limit 100000000");
  bytes.replace(16, 8, std::string("\0\0\xFF\xFF\0\0\xFF\xFF", 8));
  write_bytes(folder / "bomb.png", bytes);
  CHECK(message_of<IoError>([&] { read_image(folder / "bomb.png"); }) ==
        "ttt::read_image: picture is damaged or too large: " + (folder / "bomb.png"));
}

TEST_CASE("read_image reads a real JPEG") {
  const char* data = std::getenv("TTTLIB_DATA");
  if (!data) {
    WARN("skipped: set TTTLIB_DATA to the folder that contains jpeg-zoo");
    return;
  }
  const Image image = read_image(std::string(data) + "/jpeg-zoo/photos/n02817516_bearskin.JPEG");
  CHECK(image.width == 95);
  CHECK(image.height == 95);
  double mean[3] = {};
  for (std::size_t i = 0; i < image.pixels.size(); ++i) mean[i % 3] += image.pixels[i] / (95.0 * 95.0);
  CHECK(mean[0] == Approx(86.97).margin(0.5));  // manifest.csv, from another decoder
  CHECK(mean[1] == Approx(95.78).margin(0.5));
  CHECK(mean[2] == Approx(90.04).margin(0.5));
}

TEST_CASE("write_png refuses pictures that do not add up and places it cannot write") {
  const TemporaryFolder folder;
  Image image = pattern(4, 4, 3);
  CHECK(message_of<IoError>([&] { write_png(folder / "no/a.png", image); }) ==
        "ttt::write_png: cannot create: " + (folder / "no/a.png") + ": No such file or directory");
  image.pixels.pop_back();
  CHECK(message_of<ShapeError>([&] { write_png(folder / "a.png", image); }) ==
        "ttt::write_png: size and pixels do not agree: width 4, height 4, channels 3, 47 bytes");
  CHECK_THROWS_AS(write_png(folder / "a.png", Image()), ShapeError);
  CHECK(folder.files() == 0);
}

TEST_CASE("a picture has a size that memory can hold") {
  CHECK_THROWS_WITH(Image(-3, 3), "ttt::Image: no size of a picture: -3 x 3, 3 channels");
  CHECK_THROWS_WITH(Image(1 << 30, 1 << 30), "ttt::Image: out of memory: 1073741824 x 1073741824, 3 channels");
}

TEST_CASE("draw_text draws inside the picture only") {
  const Color white{255, 255, 255};
  Image image(60, 12);
  draw_text(image, 1, 1, "ring", white);
  const std::int64_t dots = count(image, white);
  CHECK(dots > 20);
  Image large(120, 24);
  draw_text(large, 2, 2, "ring", white, 2);
  CHECK(count(large, white) == 4 * dots);
  CHECK(text_width("ring", 2) == 2 * text_width("ring"));
  CHECK(text_width("") == 0);

  Image clipped(60, 12);
  draw_text(clipped, -10, 8, "ring\n\xFFring", white, 3);
  draw_text(clipped, 55, -5, "ring", white);
  draw_text(clipped, 1000, 1000, "ring", white);
  CHECK(count(clipped, white) < 60 * 12);
  Image grey(5, 5, 1);
  CHECK_THROWS_AS(draw_text(grey, 0, 0, "a", white), ShapeError);
}

TEST_CASE("fill_rectangle fills inside the picture only") {
  const Color white{255, 255, 255};
  Image image(6, 4);
  fill_rectangle(image, -2, 2, 4, 10, white);
  CHECK(count(image, white) == 4);
  fill_rectangle(image, 7, 1, 3, 1, white);
  CHECK(count(image, white) == 4);
  Image grey(5, 5, 1);
  CHECK_THROWS_AS(fill_rectangle(grey, 0, 0, 1, 1, white), ShapeError);
}

TEST_CASE("resize keeps an even picture even, averages where it shrinks and reaches the corners where it grows") {
  Image halves(8, 2);
  fill_rectangle(halves, 4, 0, 4, 2, {200, 100, 50});
  const Image small = resize(halves, 2, 1);
  CHECK(small.at(0, 0)[0] < 40);
  CHECK(small.at(1, 0)[0] > 160);
  const Image large = resize(halves, 32, 8);
  CHECK((large.width == 32 && large.height == 8 && large.channels == 3));
  CHECK(large.at(0, 0)[0] == 0);
  CHECK(large.at(31, 7)[0] == 200);
  CHECK(large.at(31, 7)[2] == 50);
  Image even(5, 7);
  fill_rectangle(even, 0, 0, 5, 7, {9, 8, 7});
  CHECK(count(resize(even, 11, 3), {9, 8, 7}) == 33);
  CHECK_THROWS_AS(resize(even, 0, 3), ShapeError);
  CHECK_THROWS_AS(resize(Image(), 3, 3), ShapeError);
}

TEST_CASE("heat maps: the least number is dark blue, the largest yellow; signs differ; numbers must fill their rows") {
  Image page(6, 4);
  draw_heat_map(page, 0, 0, {0, 0.5, 1, 2, -1, std::nan("")}, 3, 2, heat_color);
  const auto red = [&](int x, int y) { return int(*page.at(x, y)); };
  CHECK(red(0, 0) == 38);   // 0
  CHECK(red(5, 1) == 253);  // 1
  CHECK(red(1, 3) == 253);  // above
  CHECK(red(3, 3) == 38);   // below
  CHECK(red(5, 3) == 38);   // not a number
  CHECK((signed_color(-1).blue > signed_color(-1).red && signed_color(1).red > signed_color(1).blue));
  CHECK((signed_color(0).red == 247 && signed_color(0).blue == 247));
  CHECK_THROWS_AS(draw_heat_map(page, 0, 0, {1, 2, 3}, 2, 1, heat_color), ShapeError);
}

TEST_CASE("image_grid shows every tile, and right and wrong predictions differ") {
  const Color green = detail::grid_right, red = detail::grid_wrong;
  const Image right = image_grid({tile("cat", "cat"), tile("dog", "dog")});
  CHECK(count(right, green) > 0);
  CHECK(count(right, red) == 0);
  const Image mixed = image_grid({tile("cat", "cat"), tile("cat", "dog")});
  CHECK(count(mixed, green) > 0);
  CHECK(count(mixed, red) > 0);
  CHECK(mixed.height > right.height);  // room for "is dog"
  const Image named = image_grid({tile("", "cat")});
  CHECK(count(named, green) + count(named, red) == 0);

  // The first tile appears at the upper left, each pixel `scale` pixels wide.
  const Image picture = pattern(8, 8, 3);
  int x0 = 0, y0 = 0;
  while (count(named, detail::grid_faint) > 0 && named.at(x0, y0)[0] != detail::grid_faint.red)
    if (++x0 == named.width) x0 = 0, ++y0;
  for (int y = 0; y < 24; ++y)
    for (int x = 0; x < 24; ++x) CHECK(*named.at(x0 + 4 + x, y0 + 4 + y) == *picture.at(x / 3, y / 3));

  const Image rows = image_grid(std::vector<GridTile>(5, tile("cat", "cat")), {.columns = 2});
  const Image row = image_grid(std::vector<GridTile>(2, tile("cat", "cat")), {.columns = 2});
  CHECK(rows.width == row.width);
  CHECK(rows.height > 2 * row.height);
}

TEST_CASE("image_grid refuses what it cannot lay out") {
  CHECK(message_of<ShapeError>([] { image_grid({}); }) == "ttt::image_grid: there are no tiles");
  CHECK(message_of<ShapeError>([] {
          image_grid({tile("a", "a", 8), tile("a", "a", 9)});
        }) ==
        "ttt::image_grid: tiles must be RGB pictures of one size: 8 x 8 first, then 9 x 9 with 3 channels");
  CHECK(message_of<ShapeError>([] { image_grid({tile("a", "a")}, {.columns = 0}); }) ==
        "ttt::image_grid: options must be positive: columns 0, scale 3, text_scale 2");
}
