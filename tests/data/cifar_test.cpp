#include "tttlib/data/cifar.hpp"

#include <cmath>
#include <cstdlib>

#include "catch.hpp"
#include "io/temporary_folder.hpp"

using namespace ttt;

namespace {

/// One record: labels, then three planes in which byte p of channel c is p + 50 c + shift, modulo 256.
std::string record(const std::string& labels, int shift = 0) {
  std::string bytes = labels;
  for (int c = 0; c < 3; ++c)
    for (int p = 0; p < 1024; ++p) bytes += static_cast<char>(p + 50 * c + shift);
  return bytes;
}

std::string ten_names() {
  std::string names;
  for (int i = 0; i < 10; ++i) names += concat("class", i, "\n");
  return names + "\n";
}

/// A CIFAR-10 folder: two records in each training file, one test record.
void write_ten(const TemporaryFolder& folder) {
  write_bytes(folder / "batches.meta.txt", ten_names());
  for (int b = 1; b <= 5; ++b)
    write_bytes(folder / concat("data_batch_", b, ".bin"),
                record(std::string(1, static_cast<char>(b)), b) + record(std::string(1, '\x09'), b));
  write_bytes(folder / "test_batch.bin", record(std::string(1, '\x07')));
}

std::string complaint(const std::string& path, Split split) {
  return message_of<IoError>([&] { load_cifar(path, split); });
}

}  // namespace

TEST_CASE("load_cifar reads the ten-class layout, channels last") {
  const TemporaryFolder folder;
  write_ten(folder);
  const ImageDataset train = load_cifar(folder.path(), Split::train);
  CHECK(train.size() == 10);
  CHECK(train.labels == std::vector<std::int64_t>{1, 9, 2, 9, 3, 9, 4, 9, 5, 9});
  CHECK(train.height == 32);
  CHECK(train.width == 32);
  CHECK(train.class_names.size() == 10);
  CHECK(train.class_names[9] == "class9");
  CHECK(train.mean[0] == 0.4914f);
  CHECK(train.stddev[2] == 0.2616f);
  REQUIRE(train.pixels.size() == 10 * 3072);
  for (int c = 0; c < 3; ++c)
    for (int p = 0; p < 1024; ++p) REQUIRE(int(train.image_data(5)[p * 3 + c]) == (p + 50 * c + 3) % 256);
  CHECK(*train.image(5).at(1, 2) == (2 * 32 + 1 + 3) % 256);

  const ImageDataset test = load_cifar(folder.path(), Split::test);
  CHECK(test.labels == std::vector<std::int64_t>{7});
}

TEST_CASE("load_cifar reads the hundred-class layout and keeps fine labels") {
  const TemporaryFolder folder;
  std::string names;
  for (int i = 0; i < 100; ++i) names += concat("fine", i, "\r\n");
  write_bytes(folder / "fine_label_names.txt", names);
  write_bytes(folder / "train.bin", record("\x13\x63") + record(std::string("\0\x2A", 2), 1));
  write_bytes(folder / "test.bin", record(std::string("\x05\0", 2)));
  const ImageDataset train = load_cifar(folder.path(), Split::train);
  CHECK(train.labels == std::vector<std::int64_t>{99, 42});
  CHECK(train.class_names[99] == "fine99");
  CHECK(int(train.image_data(1)[1]) == 51);
  CHECK(train.mean[0] == 0.5071f);
  CHECK(load_cifar(folder.path(), Split::test).labels == std::vector<std::int64_t>{0});

  write_bytes(folder / "test.bin", record("\x05\x64"));
  CHECK(complaint(folder.path(), Split::test) ==
        "ttt::load_cifar: label out of range: " + (folder / "test.bin") +
            ", record 0, label 100; must be 0 to 99");
}

TEST_CASE("load_cifar names folders and files that are missing") {
  const TemporaryFolder folder;
  CHECK(complaint(folder / "none", Split::train) == "ttt::load_cifar: no such folder: " + (folder / "none"));
  CHECK(complaint(folder.path(), Split::train) == "ttt::load_cifar: no CIFAR files: " + folder.path() +
                                                      " has neither data_batch_1.bin nor train.bin. Hint: "
                                                      "unpack the binary version of the data set there");
  write_bytes(folder / "file", "");
  CHECK(complaint(folder / "file", Split::train) == "ttt::load_cifar: no such folder: " + (folder / "file"));

  write_ten(folder);
  std::filesystem::remove(folder / "data_batch_3.bin");
  CHECK(complaint(folder.path(), Split::train) ==
        "ttt::load_cifar: cannot open: " + (folder / "data_batch_3.bin") + ": No such file or directory");
  CHECK(load_cifar(folder.path(), Split::test).size() == 1);
  std::filesystem::remove(folder / "batches.meta.txt");
  CHECK(complaint(folder.path(), Split::test) ==
        "ttt::load_cifar: cannot open: " + (folder / "batches.meta.txt") + ": No such file or directory");
}

TEST_CASE("load_cifar refuses files of a wrong size, wrong labels and wrong lists of names") {
  const TemporaryFolder folder;
  write_ten(folder);
  const std::string path = folder / "data_batch_2.bin", good = read_bytes(path);
  const auto size_complaint = [&](std::size_t size) {
    return concat("ttt::load_cifar: wrong file size: ", path, ", ", size,
                  " bytes; must be a positive multiple of 3073");
  };
  write_bytes(path, "");
  CHECK(complaint(folder.path(), Split::train) == size_complaint(0));
  write_bytes(path, good.substr(0, good.size() - 1));
  CHECK(complaint(folder.path(), Split::train) == size_complaint(6145));
  write_bytes(path, good + "x");
  CHECK(complaint(folder.path(), Split::train) == size_complaint(6147));

  std::string bad_label = good;
  bad_label[3073] = '\x0A';
  write_bytes(path, bad_label);
  CHECK(complaint(folder.path(), Split::train) ==
        "ttt::load_cifar: label out of range: " + path + ", record 1, label 10; must be 0 to 9");
  bad_label[3073] = '\xFF';
  write_bytes(path, bad_label);
  CHECK_THAT(complaint(folder.path(), Split::train),
             ContainsSubstring("record 1, label 255; must be 0 to 9"));

  write_bytes(folder / "batches.meta.txt", "cat\ndog");
  CHECK(complaint(folder.path(), Split::test) ==
        "ttt::load_cifar: wrong number of class names: " + (folder / "batches.meta.txt") +
            ", 2 names, expected 10");
}

TEST_CASE("load_cifar reads the real CIFAR-10 subset") {
  const char* data = std::getenv("TTTLIB_DATA");
  if (!data) {
    WARN("skipped: set TTTLIB_DATA to the folder that contains cifar-10-subset");
    return;
  }
  const ImageDataset train = load_cifar(std::string(data) + "/cifar-10-subset", Split::train);
  const ImageDataset test = load_cifar(std::string(data) + "/cifar-10-subset", Split::test);
  CHECK(train.size() == 10'000);
  CHECK(test.size() == 2'000);
  CHECK(train.class_names.front() == "airplane");
  CHECK(train.class_names.back() == "truck");
  std::vector<int> counts(10);
  for (std::int64_t label : train.labels) ++counts[static_cast<std::size_t>(label)];
  CHECK(counts == std::vector<int>(10, 1000));
  // The published statistics are those of all 50,000 pictures.
  double sum[3] = {}, squares[3] = {};
  for (std::size_t i = 0; i < train.pixels.size(); ++i) {
    const double value = train.pixels[i] / 255.0;
    sum[i % 3] += value;
    squares[i % 3] += value * value;
  }
  const double n = static_cast<double>(train.pixels.size()) / 3;
  for (std::size_t c = 0; c < 3; ++c) {
    const double mean = sum[c] / n;
    CHECK(mean == Approx(train.mean[c]).margin(0.01));
    CHECK(std::sqrt(squares[c] / n - mean * mean) == Approx(train.stddev[c]).margin(0.01));
  }
}

TEST_CASE("first_of_each_class takes as many images of each class, in their order") {
  const TemporaryFolder folder;
  for (int b = 1; b <= 5; ++b) {
    std::string bytes;
    for (int label = 9; label >= 0; --label) bytes += record(std::string(1, static_cast<char>(label)), 10 * b + label);
    write_bytes(folder / concat("data_batch_", b, ".bin"), bytes);
  }
  write_bytes(folder / "batches.meta.txt", ten_names());
  const ImageDataset all = load_cifar(folder.path(), Split::train), some = first_of_each_class(all, 20);
  REQUIRE(some.size() == 20);
  CHECK(some.labels == std::vector<std::int64_t>(all.labels.begin(), all.labels.begin() + 20));
  CHECK(some.pixels == std::vector<std::uint8_t>(all.pixels.begin(), all.pixels.begin() + 20 * 3072));
  CHECK(some.class_names == all.class_names);
  CHECK(some.mean == all.mean);
  CHECK(first_of_each_class(all, 50).pixels == all.pixels);
  CHECK(message_of<ShapeError>([&] { first_of_each_class(all, 25); }) ==
        "ttt::first_of_each_class: needs as many images of each class: 25 images, 10 classes");
  CHECK(message_of<ShapeError>([&] { first_of_each_class(all, 60); }) ==
        "ttt::first_of_each_class: a class has too few images: 6 of each of 10 classes asked for, 50 images in all");
}
