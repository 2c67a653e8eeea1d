#pragma once
/// Bodies of safetensors.hpp; the only file of io/ that includes the JSON library.

#include <algorithm>
#include <bit>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "tttlib/io/atomic_file.hpp"
#include "tttlib/io/input_file.hpp"
#include "tttlib/io/safetensors.hpp"

namespace ttt {

static_assert(std::endian::native == std::endian::little, "safetensors files are little-endian");

namespace detail::safetensors {

using Json = nlohmann::json;

inline constexpr std::uint64_t max_header_bytes = 100'000'000;
inline constexpr const char* metadata_key = "__metadata__";

/// Bytes per element, 0 for an unknown dtype.
TTTLIB_INLINE std::uint64_t dtype_bytes(const std::string& dtype) {
  if (dtype == "F64" || dtype == "I64") return 8;
  if (dtype == "F32" || dtype == "I32") return 4;
  if (dtype == "F16" || dtype == "BF16" || dtype == "I16") return 2;
  if (dtype == "U8" || dtype == "I8" || dtype == "BOOL") return 1;
  return 0;
}

TTTLIB_INLINE const char* dtype_name(DType dtype) {
  switch (dtype) {
    case DType::float32:
      return "F32";
    case DType::float64:
      return "F64";
    case DType::bfloat16:
      return "BF16";
    case DType::int64:
      return "I64";
  }
  return "";
}

/// Bytes of a tensor; false if its strides or its size overflow.
TTTLIB_INLINE bool byte_count(const Shape& shape, std::uint64_t element_bytes, std::uint64_t& bytes) {
  std::int64_t extent = static_cast<std::int64_t>(element_bytes);  // as if empty axes had length 1
  for (std::int64_t d : shape)
    if (__builtin_mul_overflow(extent, d > 0 ? d : 1, &extent)) return false;
  bytes = numel(shape) == 0 ? 0 : static_cast<std::uint64_t>(extent);
  return true;
}

/// Reads and checks a header; every complaint names the file.
class HeaderReader {
 public:
  explicit HeaderReader(const InputFile& file) : file_(file) {}

  Metadata metadata;
  std::vector<SafetensorsEntry> entries;
  std::uint64_t data_begin = 0;

  void read() {
    const Json header = parse(read_text());
    for (const auto& [name, value] : header.items()) {
      if (name == metadata_key) read_metadata(value);
      else entries.push_back(read_entry(name, value));
    }
    check_ranges();
  }

 private:
  [[noreturn]] void refuse(const std::string& rule, const std::string& values = "") const {
    fail<IoError>(file_.op(), rule + ": " + file_.path() + (values.empty() ? "" : ", " + values));
  }

  std::string read_text() {
    if (file_.size() < 8)
      refuse("no room for the 8-byte header length", concat("file ", file_.size(), " bytes"));
    std::uint64_t length = 0;
    file_.read(0, &length, sizeof length);
    if (length > file_.size() - 8)
      refuse("header is longer than the file",
             concat("header ", length, " bytes, file ", file_.size(), " bytes"));
    if (length > max_header_bytes)
      refuse("header is too large", concat("header ", length, " bytes, limit ", max_header_bytes));
    data_begin = 8 + length;
    std::string text(length, '\0');
    file_.read(8, text.data(), length);
    if (text.empty() || text[0] != '{') refuse("header does not begin with '{'");
    // The JSON library takes a zero byte for the end.
    if (const auto zero = text.find('\0'); zero != text.npos)
      refuse("header is not valid JSON", concat("near byte ", zero + 1, " of ", length));
    return text;
  }

  Json parse(const std::string& text) const {
    // The JSON library keeps the last of several equal keys and nests without limit: both are refused here.
    std::vector<std::set<std::string>> keys;
    const auto watch = [&](int depth, Json::parse_event_t event, Json& value) {
      using Event = Json::parse_event_t;
      if (event == Event::object_start || event == Event::array_start) {
        if (depth > 2) refuse("header is nested too deeply", concat("depth ", depth + 1, ", at most 3"));
        keys.emplace_back();
      } else if (event == Event::object_end || event == Event::array_end) {
        keys.pop_back();
      } else if (event == Event::key && !keys.back().insert(value.get_ref<const std::string&>()).second) {
        refuse("header has a name twice", quoted(value.get_ref<const std::string&>()));
      }
      return true;
    };
    try {
      return Json::parse(text, watch);
    } catch (const Json::parse_error& error) {
      refuse("header is not valid JSON", concat("near byte ", error.byte, " of ", text.size()));
    } catch (const Json::exception&) {  // such as a number too large for any type
      refuse("header is not valid JSON");
    }
  }

  void read_metadata(const Json& value) {
    if (!value.is_object()) refuse("__metadata__ is not an object of strings");
    for (const auto& [key, text] : value.items()) {
      if (!text.is_string()) refuse("__metadata__ is not an object of strings", "key " + quoted(key));
      metadata[key] = text.get<std::string>();
    }
  }

  SafetensorsEntry read_entry(const std::string& name, const Json& value) const {
    const std::string who = "tensor " + quoted(name);
    if (!value.is_object()) refuse("entry is not an object", who);
    for (const char* key : {"dtype", "shape", "data_offsets"})
      if (!value.contains(key)) refuse(concat("entry has no ", key), who);
    SafetensorsEntry entry;
    entry.name = name;

    if (!value["dtype"].is_string()) refuse("dtype is not a string", who);
    entry.dtype = value["dtype"].get<std::string>();
    const std::uint64_t element_bytes = dtype_bytes(entry.dtype);
    if (element_bytes == 0) refuse("unknown dtype", who + ", dtype " + quoted(entry.dtype));

    const Json& shape = value["shape"];
    if (!shape.is_array()) refuse("shape is not a list", who);
    if (shape.size() > Shape::max_rank)
      refuse("too many axes", concat(who, ", ", shape.size(), " axes, at most 8"));
    for (const Json& d : shape) {
      if (!d.is_number_unsigned() || d.get<std::uint64_t>() > INT64_MAX)
        refuse("sizes must be whole numbers from 0 to 2^63-1", who + ", shape " + shape.dump());
      entry.shape.push_back(d.get<std::int64_t>());
    }

    const Json& range = value["data_offsets"];
    if (!range.is_array() || range.size() != 2 || !range[0].is_number_unsigned() ||
        !range[1].is_number_unsigned())
      refuse("data_offsets must be two whole numbers", who);
    entry.begin = range[0].get<std::uint64_t>();
    entry.end = range[1].get<std::uint64_t>();
    const std::uint64_t available = file_.size() - data_begin;
    if (entry.begin > entry.end || entry.end > available)
      refuse("data_offsets are out of range",
             concat(who, ", bytes ", entry.begin, " to ", entry.end, " of ", available));
    std::uint64_t bytes = 0;
    if (!byte_count(entry.shape, element_bytes, bytes))
      refuse("tensor is too large", concat(who, ", ", entry.dtype, " ", entry.shape));
    if (bytes != entry.end - entry.begin)
      refuse("data_offsets do not fit the shape", concat(who, ", ", entry.dtype, " ", entry.shape, " needs ",
                                                         bytes, " bytes, has ", entry.end - entry.begin));
    return entry;
  }

  void check_ranges() {
    std::stable_sort(entries.begin(), entries.end(),
                     [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
                       return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
                     });
    std::uint64_t end = 0;
    for (const SafetensorsEntry& entry : entries) {
      if (entry.begin != end)
        refuse(entry.begin < end ? "tensors overlap" : "bytes belong to no tensor",
               concat("tensor ", quoted(entry.name), " begins at byte ", entry.begin,
                      ", the one before ends at ", end));
      end = entry.end;
    }
    const std::uint64_t available = file_.size() - data_begin;
    if (end != available)
      refuse("bytes belong to no tensor", concat("tensors end at byte ", end, " of ", available));
  }

  /// A name from an untrusted file, made fit for one line of an error message.
  static std::string quoted(const std::string& text) {
    std::string clean = "\"";
    for (char c : text.substr(0, 100)) clean += c >= 0 && c < ' ' ? '?' : c;
    return clean + (text.size() > 100 ? "...\"" : "\"");
  }

  const InputFile& file_;
};

/// Half precision: 5 bits of exponent, 10 of significand.
TTTLIB_INLINE float half_to_float(std::uint16_t bits) {
  const int exponent = (bits >> 10) & 31, fraction = bits & 1023;
  float magnitude;
  if (exponent == 31) magnitude = fraction ? NAN : INFINITY;
  else if (exponent == 0) magnitude = std::ldexp(static_cast<float>(fraction), -24);
  else magnitude = std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
  return (bits & 0x8000) ? -magnitude : magnitude;
}

struct Half {
  std::uint16_t bits;
  explicit operator float() const { return half_to_float(bits); }
};

/// Calls `f(From{})` with the type a dtype is stored as.
template <class F>
void with_stored_type(const std::string& dtype, const F& f) {
  if (dtype == "F64") f(double{});
  else if (dtype == "F32") f(float{});
  else if (dtype == "F16") f(Half{});
  else if (dtype == "BF16") f(bf16{});
  else if (dtype == "I64") f(std::int64_t{});
  else if (dtype == "I32") f(std::int32_t{});
  else if (dtype == "I16") f(std::int16_t{});
  else if (dtype == "I8") f(std::int8_t{});
  else f(std::uint8_t{});  // U8, BOOL
}

template <class To, class From>
Tensor<To> convert_elements(const InputFile& file, const SafetensorsEntry& entry,
                            const unsigned char* bytes) {
  Tensor<To> result(entry.shape);
  for (std::int64_t i = 0; i < result.numel(); ++i) {
    From stored;
    std::memcpy(&stored, bytes + static_cast<std::size_t>(i) * sizeof stored, sizeof stored);
    if constexpr (std::is_integral_v<To> && !std::is_integral_v<From>) {
      double value;
      if constexpr (std::is_same_v<From, double>) value = stored;
      else value = static_cast<double>(static_cast<float>(stored));
      if (!(value >= -0x1p63 && value < 0x1p63 && value == std::floor(value)))
        fail<IoError>(file.op(), concat("value does not fit int64: ", file.path(), ", tensor \"", entry.name,
                                        "\", element ", i, " is ", value));
      result.data()[i] = static_cast<To>(value);
    } else if constexpr (std::is_same_v<From, Half>) {
      result.data()[i] = convert<To>(static_cast<float>(stored));
    } else {
      result.data()[i] = convert<To>(stored);
    }
  }
  return result;
}

/// The elements of a view in row-major order, read from the host memory that its first element lies in.
TTTLIB_INLINE std::vector<unsigned char> packed(const TensorBase& tensor, const unsigned char* from) {
  const std::size_t width = size_of(tensor.dtype());
  const Shape& shape = tensor.shape();
  std::vector<unsigned char> bytes(static_cast<std::size_t>(tensor.numel()) * width);
  std::int64_t position = 0;
  Dims index = Dims::filled(shape.size(), 0);
  for (std::size_t to = 0; to < bytes.size(); to += width) {
    std::memcpy(&bytes[to], from + position * static_cast<std::int64_t>(width), width);
    for (std::size_t axis = shape.size(); axis-- > 0;) {
      position += tensor.strides()[axis];
      if (++index[axis] < shape[axis]) break;
      position -= tensor.strides()[axis] * shape[axis];
      index[axis] = 0;
    }
  }
  return bytes;
}

/// The elements of a view of any layout on any device, in row-major order.
TTTLIB_INLINE std::vector<unsigned char> host_bytes(const TensorBase& tensor) {
  const std::size_t width = size_of(tensor.dtype());
  const auto* first = static_cast<const unsigned char*>(tensor.storage()->data()) + static_cast<std::size_t>(tensor.offset()) * width;
  if (tensor.device().is_cpu()) return packed(tensor, first);
  if (tensor.numel() == 0) return {};
  std::int64_t low = 0, high = 0;  // the elements that the view reaches, counted from its first
  for (std::size_t axis = 0; axis < tensor.shape().size(); ++axis) {
    const std::int64_t reach = tensor.strides()[axis] * (tensor.shape()[axis] - 1);
    (reach < 0 ? low : high) += reach;
  }
  std::vector<unsigned char> bytes(static_cast<std::size_t>(high - low + 1) * width);
  const std::int64_t before = low * static_cast<std::int64_t>(width);
  device_copy().copy(bytes.data(), cpu(), first + before, tensor.device(), bytes.size());
  return tensor.is_contiguous() ? bytes : packed(tensor, bytes.data() - before);
}

}  // namespace detail::safetensors

TTTLIB_INLINE const std::string& SafetensorsFile::path() const { return file_->path(); }

TTTLIB_INLINE std::vector<std::string> SafetensorsFile::names() const {
  std::vector<std::string> result;
  for (const auto& entry : entries_) result.push_back(entry.name);
  return result;
}

TTTLIB_INLINE const SafetensorsEntry& SafetensorsFile::entry(const std::string& name) const {
  const auto found = index_.find(name);
  if (found == index_.end())
    fail<IoError>(file_->op(), concat("no such tensor: ", path(), ", tensor \"", name, "\", the file has ",
                                      entries_.size(), " others"));
  return entries_[found->second];
}

TTTLIB_INLINE std::vector<std::uint8_t> SafetensorsFile::bytes(const std::string& name) const {
  const SafetensorsEntry& e = entry(name);
  std::vector<std::uint8_t> result(e.end - e.begin);
  file_->read(data_begin_ + e.begin, result.data(), result.size());
  return result;
}

TTTLIB_INLINE TensorBase SafetensorsFile::read(const std::string& name, DType dtype) const {
  using namespace detail::safetensors;
  const SafetensorsEntry& e = entry(name);
  const std::vector<std::uint8_t> stored = bytes(name);
  TensorBase result;
  with_stored_type(e.dtype, [&](auto from) {
    using From = decltype(from);
    switch (dtype) {
      case DType::float32:
        result = convert_elements<float, From>(*file_, e, stored.data());
        break;
      case DType::float64:
        result = convert_elements<double, From>(*file_, e, stored.data());
        break;
      case DType::bfloat16:
        result = convert_elements<bf16, From>(*file_, e, stored.data());
        break;
      case DType::int64:
        result = convert_elements<std::int64_t, From>(*file_, e, stored.data());
        break;
    }
  });
  return result;
}

TTTLIB_INLINE SafetensorsFile load_safetensors_file(const std::string& path) {
  SafetensorsFile result;
  const auto file = std::make_shared<const InputFile>("load_safetensors_file", path);
  detail::safetensors::HeaderReader reader(*file);
  reader.read();
  result.file_ = file;
  result.data_begin_ = reader.data_begin;
  result.metadata_ = std::move(reader.metadata);
  result.entries_ = std::move(reader.entries);
  for (std::size_t i = 0; i < result.entries_.size(); ++i) result.index_[result.entries_[i].name] = i;
  return result;
}

TTTLIB_INLINE void save_safetensors_bytes(const std::string& path, const std::vector<SafetensorsItem>& items,
                                          const Metadata& metadata) {
  using namespace detail::safetensors;
  const auto refuse = [&](const std::string& rule, const std::string& name) {
    fail<IoError>("save_safetensors", rule + ": " + path + ", tensor \"" + name + "\"");
  };
  // Wide elements first, so that each tensor lies at a multiple of its element size.
  std::vector<const SafetensorsItem*> order;
  for (const SafetensorsItem& item : items) order.push_back(&item);
  std::stable_sort(order.begin(), order.end(), [](const SafetensorsItem* a, const SafetensorsItem* b) {
    return dtype_bytes(a->dtype) > dtype_bytes(b->dtype);
  });

  Json header = Json::object();
  if (!metadata.empty()) header[metadata_key] = metadata;
  std::uint64_t end = 0;
  std::vector<std::uint64_t> sizes;
  for (const SafetensorsItem* item : order) {
    if (item->name == metadata_key || header.contains(item->name)) refuse("name is taken", item->name);
    std::uint64_t bytes = 0;
    if (dtype_bytes(item->dtype) == 0) refuse("unknown dtype " + item->dtype, item->name);
    if (!byte_count(item->shape, dtype_bytes(item->dtype), bytes)) refuse("tensor is too large", item->name);
    header[item->name] = {{"dtype", item->dtype},
                          {"shape", std::vector<std::int64_t>(item->shape.begin(), item->shape.end())},
                          {"data_offsets", {end, end + bytes}}};
    end += bytes;
    sizes.push_back(bytes);
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const Json::type_error&) {
    fail<IoError>("save_safetensors", "a name or a metadata value is not UTF-8: " + path);
  }
  text.resize((text.size() + 7) / 8 * 8, ' ');

  AtomicFile file("save_safetensors", path);
  const std::uint64_t length = text.size();
  file.write(&length, sizeof length);
  file.write(text.data(), text.size());
  for (std::size_t i = 0; i < order.size(); ++i) file.write(order[i]->data, sizes[i]);
  file.commit();
}

TTTLIB_INLINE void save_safetensors(const std::string& path, const NamedTensors& tensors,
                                    const Metadata& metadata) {
  using namespace detail::safetensors;
  std::vector<SafetensorsItem> items;
  std::vector<std::vector<unsigned char>> copies(tensors.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const auto& [name, tensor] = tensors[i];
    if (!tensor.defined())
      fail<IoError>("save_safetensors", "tensor holds nothing: " + path + ", tensor \"" + name + "\"");
    const void* data = static_cast<const unsigned char*>(tensor.storage()->data()) +
                       static_cast<std::size_t>(tensor.offset()) * size_of(tensor.dtype());
    if (!tensor.is_contiguous() || !tensor.device().is_cpu()) {
      copies[i] = host_bytes(tensor);
      data = copies[i].data();
    }
    items.push_back({name, dtype_name(tensor.dtype()), tensor.shape(), data});
  }
  save_safetensors_bytes(path, items, metadata);
}

}  // namespace ttt
