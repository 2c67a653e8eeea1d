#pragma once
/// Tensors in safetensors files: an 8-byte header length, a JSON header of names, dtypes, shapes and byte
/// ranges, then the bytes, little-endian and row-major (https://huggingface.co/docs/safetensors).

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tttlib/core/upload.hpp"

namespace ttt {

class InputFile;

using Metadata = std::map<std::string, std::string>;
using NamedTensors = std::vector<std::pair<std::string, TensorBase>>;

/// One tensor of a file: dtype as written there ("F32") and the bytes [begin, end) counted from the header's
/// end.
struct SafetensorsEntry {
  std::string name;
  std::string dtype;
  Shape shape;
  std::uint64_t begin = 0, end = 0;
};

/// An open safetensors file whose header has been checked; tensors are read when asked for, from the file as
/// it was opened even if its path is replaced meanwhile. Copies share the file.
class SafetensorsFile {
 public:
  const std::string& path() const;
  const Metadata& metadata() const { return metadata_; }
  /// Every tensor, in the order of its bytes in the file.
  const std::vector<SafetensorsEntry>& entries() const { return entries_; }
  std::vector<std::string> names() const;

  bool contains(const std::string& name) const { return index_.count(name) != 0; }
  /// Throws IoError if there is no such tensor, as do all functions below.
  const SafetensorsEntry& entry(const std::string& name) const;
  const std::string& dtype(const std::string& name) const { return entry(name).dtype; }
  const Shape& shape(const std::string& name) const { return entry(name).shape; }

  /// The tensor converted to `T`, from F64, F32, F16, BF16, I64, I32, I16, I8, U8 or BOOL, on any device.
  /// Throws IoError where `T` is int64 and a value is not one, DeviceError for a device that there is not.
  template <class T = float>
  Tensor<T> get(const std::string& name, Device device = cpu()) const {
    return upload(Tensor<T>(read(name, dtype_of<T>)), device);
  }
  /// The tensor's bytes as they are in the file.
  std::vector<std::uint8_t> bytes(const std::string& name) const;

 private:
  friend SafetensorsFile load_safetensors_file(const std::string& path);
  TensorBase read(const std::string& name, DType dtype) const;

  std::shared_ptr<const InputFile> file_;
  std::uint64_t data_begin_ = 0;
  Metadata metadata_;
  std::vector<SafetensorsEntry> entries_;
  std::map<std::string, std::size_t> index_;
};

/// Opens a file and checks its whole header, which may come from anywhere.
/// Throws IoError if the file is cut short, the header is malformed or larger than 100 MB, a dtype is
/// unknown, or the byte ranges do not fit the shapes and cover the rest of the file exactly once.
SafetensorsFile load_safetensors_file(const std::string& path);

/// Row-major bytes to be written under a name, with any dtype `load_safetensors_file` knows.
struct SafetensorsItem {
  std::string name;
  std::string dtype;
  Shape shape;
  const void* data = nullptr;
};

/// Writes bytes as they are; the old file survives any failure. Throws IoError naming path and reason.
void save_safetensors_bytes(const std::string& path, const std::vector<SafetensorsItem>& items,
                            const Metadata& metadata = {});

/// Writes tensors of any layout, on any device, as F64, F32, BF16 or I64; the old file survives any failure.
/// Throws IoError naming path and reason.
void save_safetensors(const std::string& path, const NamedTensors& tensors, const Metadata& metadata = {});

}  // namespace ttt

#if !defined(TTTLIB_COMPILED)
#include "tttlib/io/safetensors-inl.hpp"
#endif
