#pragma once
/// CIFAR-10 and CIFAR-100 in their binary format (A. Krizhevsky, "Learning multiple layers of features from
/// tiny images", 2009): per picture one label byte (100 classes: coarse, then fine), then 1024 red, green and
/// blue bytes.

#include <sys/stat.h>

#include <cstdint>
#include <string>
#include <vector>

#include "tttlib/core/error.hpp"
#include "tttlib/data/dataset.hpp"
#include "tttlib/io/input_file.hpp"

namespace ttt {

namespace detail {

/// How one of the two data sets is laid out.
struct CifarLayout {
  std::string names_file;
  std::vector<std::string> files;
  std::int64_t label_bytes;
  int classes;
  std::array<float, 3> mean, stddev;  // published values of the full training sets

  static CifarLayout ten(Split split) {
    std::vector<std::string> files{"test_batch.bin"};
    if (split == Split::train)
      files = {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin",
               "data_batch_5.bin"};
    return {"batches.meta.txt", files, 1, 10, {0.4914f, 0.4822f, 0.4465f}, {0.2470f, 0.2435f, 0.2616f}};
  }
  static CifarLayout hundred(Split split) {
    return {"fine_label_names.txt",
            {split == Split::train ? "train.bin" : "test.bin"},
            2,
            100,
            {0.5071f, 0.4865f, 0.4409f},
            {0.2673f, 0.2564f, 0.2762f}};
  }
};

/// The lines of a text file that are not empty.
inline std::vector<std::string> read_class_names(const std::string& path, int classes) {
  std::vector<std::string> names(1);
  for (unsigned char c : InputFile("load_cifar", path).read_all()) {
    if (c != '\n' && c != '\r') names.back() += static_cast<char>(c);
    else if (!names.back().empty()) names.emplace_back();
  }
  if (names.back().empty()) names.pop_back();
  if (static_cast<int>(names.size()) != classes)
    fail<IoError>("load_cifar", concat("wrong number of class names: ", path, ", ", names.size(),
                                       " names, expected ", classes));
  return names;
}

/// Appends the records of one file.
inline void read_cifar_file(const std::string& path, const CifarLayout& layout, ImageDataset& dataset) {
  constexpr std::int64_t plane = 32 * 32;
  const std::int64_t record_bytes = layout.label_bytes + 3 * plane;
  const InputFile file("load_cifar", path);
  const auto size = static_cast<std::int64_t>(file.size());
  if (size == 0 || size % record_bytes != 0)
    fail<IoError>("load_cifar", concat("wrong file size: ", path, ", ", size,
                                       " bytes; must be a positive multiple of ", record_bytes));
  const std::vector<unsigned char> bytes = file.read_all();
  dataset.pixels.reserve(dataset.pixels.size() + bytes.size());
  for (std::int64_t i = 0; i < size / record_bytes; ++i) {
    const unsigned char* record = bytes.data() + i * record_bytes;
    const int label = record[layout.label_bytes - 1];
    if (label >= layout.classes)
      fail<IoError>("load_cifar", concat("label out of range: ", path, ", record ", i, ", label ", label,
                                         "; must be 0 to ", layout.classes - 1));
    dataset.labels.push_back(label);
    const unsigned char* red = record + layout.label_bytes;
    for (std::int64_t p = 0; p < plane; ++p)
      for (std::int64_t c = 0; c < 3; ++c) dataset.pixels.push_back(red[c * plane + p]);
  }
}

}  // namespace detail

/// Reads one split of the CIFAR-10 or CIFAR-100 files in `folder`, whichever is there.
/// Throws IoError if the folder or a file is missing, a size is no multiple of a record, or a label is out of
/// range.
inline ImageDataset load_cifar(const std::string& folder, Split split) {
  struct stat info {};
  if (::stat(folder.c_str(), &info) != 0 || !S_ISDIR(info.st_mode))
    fail<IoError>("load_cifar", "no such folder: " + folder);
  const auto has = [&](const std::string& name) { return ::stat((folder + "/" + name).c_str(), &info) == 0; };
  const auto ten = detail::CifarLayout::ten(split), hundred = detail::CifarLayout::hundred(split);
  const bool is_ten = has(ten.names_file) || has(ten.files[0]);
  if (!is_ten && !has(hundred.names_file) && !has(hundred.files[0]))
    fail<IoError>(
        "load_cifar",
        concat("no CIFAR files: ", folder, " has neither ", ten.files[0], " nor ", hundred.files[0]),
        "unpack the binary version of the data set there");
  const detail::CifarLayout& layout = is_ten ? ten : hundred;

  ImageDataset dataset;
  dataset.height = dataset.width = 32;
  dataset.mean = layout.mean;
  dataset.stddev = layout.stddev;
  dataset.class_names = detail::read_class_names(folder + "/" + layout.names_file, layout.classes);
  for (const std::string& file : layout.files) detail::read_cifar_file(folder + "/" + file, layout, dataset);
  return dataset;
}

}  // namespace ttt
