#include "tttlib/io/safetensors.hpp"

#include <cmath>
#include <cstring>
#include <limits>

#include "catch.hpp"
#include "io/temporary_folder.hpp"

using namespace ttt;

namespace {

template <class T>
Tensor<T> tensor(const Shape& shape, const std::vector<double>& values) {
  Tensor<T> result(shape);
  for (std::size_t i = 0; i < values.size(); ++i) result.data()[i] = convert<T>(values[i]);
  return result;
}

template <class T>
std::vector<double> values(const Tensor<T>& t) {
  std::vector<double> result;
  for (std::int64_t i = 0; i < t.numel(); ++i) result.push_back(convert<double>(t.data()[i]));
  return result;
}

/// A file made of an arbitrary header and data.
std::string file_of(const std::string& header, const std::string& data = "") {
  std::uint64_t length = header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + header + data;
}

/// The complaint about such a file, without "ttt::load_safetensors_file: " and with the path as "FILE".
std::string complaint(const std::string& bytes) {
  const TemporaryFolder folder;
  const std::string path = folder / "x.safetensors";
  write_bytes(path, bytes);
  std::string message = message_of<IoError>([&] { load_safetensors_file(path); });
  const std::string prefix = "ttt::load_safetensors_file: ";
  if (message.rfind(prefix, 0) == 0) message.erase(0, prefix.size());
  if (const auto at = message.find(path); at != std::string::npos) message.replace(at, path.size(), "FILE");
  return message;
}

const std::string eight_bytes = "12345678";

}  // namespace

TEST_CASE("safetensors: tensors of every dtype come back as they were") {
  const TemporaryFolder folder;
  const std::string path = folder / "t.safetensors";
  const std::vector<double> numbers{0, -0.0, 1.5, -2.25, 1e30, INFINITY};
  const auto f32 = tensor<float>({2, 3}, numbers);
  const auto f64 = tensor<double>({3, 2}, {1e300, 0.1, -5e-324, 3, 4, 5});
  const auto half = tensor<bf16>({6}, numbers);
  const auto i64 = tensor<std::int64_t>({}, {-7});
  const Tensor<float> empty(Shape{0, 4});
  save_safetensors(path, {{"f32", f32}, {"f64", f64}, {"bf16", half}, {"i64", i64}, {"empty", empty}},
                   {{"case", "round trip"}, {"quote", "\"\n\xC3\xA9"}});

  const SafetensorsFile file = load_safetensors_file(path);
  CHECK(file.path() == path);
  CHECK(file.metadata() == Metadata{{"case", "round trip"}, {"quote", "\"\n\xC3\xA9"}});
  CHECK(file.names() ==
        std::vector<std::string>{"f64", "i64", "f32", "empty", "bf16"});  // widest elements first
  CHECK(file.contains("f32"));
  CHECK_FALSE(file.contains("f16"));
  CHECK(file.dtype("bf16") == "BF16");
  CHECK(file.shape("f32") == Shape{2, 3});
  CHECK(file.shape("i64") == Shape{});
  CHECK(std::memcmp(file.get<float>("f32").data(), f32.data(), 24) == 0);
  CHECK(std::memcmp(file.get<double>("f64").data(), f64.data(), 48) == 0);
  CHECK(std::memcmp(file.get<bf16>("bf16").data(), half.data(), 12) == 0);
  CHECK(file.get<std::int64_t>("i64").data()[0] == -7);
  CHECK(file.get("empty").shape() == Shape{0, 4});
  CHECK(file.bytes("i64") == std::vector<std::uint8_t>{0xF9, 255, 255, 255, 255, 255, 255, 255});
  for (const auto& entry : file.entries()) CHECK(entry.begin % 2 == 0);
}

TEST_CASE("safetensors: an empty file of tensors is valid") {
  const TemporaryFolder folder;
  save_safetensors(folder / "e", NamedTensors{});
  CHECK(load_safetensors_file(folder / "e").entries().empty());
  CHECK(read_bytes(folder / "e") == file_of("{}      "));
}

TEST_CASE("safetensors: the bytes on disk follow the format") {
  const TemporaryFolder folder;
  save_safetensors(folder / "a", {{"w", tensor<float>({1}, {1})}});
  const std::string header = R"({"w":{"data_offsets":[0,4],"dtype":"F32","shape":[1]}})";
  CHECK(read_bytes(folder / "a") == file_of(header + "  ", std::string("\0\0\x80\x3F", 4)));
}

TEST_CASE("safetensors: views are written in row-major order") {
  const TemporaryFolder folder;
  const auto base = tensor<float>({2, 3}, {1, 2, 3, 4, 5, 6});
  const Tensor<float> transposed(base.storage(), 0, Shape{3, 2}, Strides{1, 3});
  const Tensor<float> column(base.storage(), 1, Shape{2}, Strides{3});
  const Tensor<float> expanded(base.storage(), 2, Shape{2, 2}, Strides{0, 3});
  const Tensor<float> row(base.storage(), 3, Shape{3}, Strides{1});
  const Tensor<float> none(base.storage(), 0, Shape{0, 2}, Strides{7, 3});
  save_safetensors(folder / "v",
                   {{"t", transposed}, {"c", column}, {"e", expanded}, {"r", row}, {"n", none}});
  const auto file = load_safetensors_file(folder / "v");
  CHECK(values(file.get("t")) == std::vector<double>{1, 4, 2, 5, 3, 6});
  CHECK(values(file.get("c")) == std::vector<double>{2, 5});
  CHECK(values(file.get("e")) == std::vector<double>{3, 6, 3, 6});
  CHECK(values(file.get("r")) == std::vector<double>{4, 5, 6});
  CHECK(file.shape("n") == Shape{0, 2});
}

TEST_CASE("safetensors: raw bytes of any known dtype are written and converted on reading") {
  const TemporaryFolder folder;
  const std::uint8_t u8[3] = {0, 7, 255};
  const std::int8_t i8[2] = {-128, 127};
  const std::int16_t i16[2] = {-32768, 32767};
  const std::int32_t i32[2] = {-2147483647 - 1, 2147483647};
  const std::uint8_t flag[2] = {0, 1};
  // 1, -2, the largest, the smallest normal and subnormal half, infinity, -0
  const std::uint16_t f16[7] = {0x3C00, 0xC000, 0x7BFF, 0x0400, 0x0001, 0x7C00, 0x8000};
  const std::uint16_t nan16 = 0x7E00;
  save_safetensors_bytes(folder / "r", {{"u8", "U8", {3}, u8},
                                        {"i8", "I8", {2}, i8},
                                        {"i16", "I16", {2}, i16},
                                        {"i32", "I32", {2}, i32},
                                        {"bool", "BOOL", {2}, flag},
                                        {"f16", "F16", {7}, f16},
                                        {"nan", "F16", {}, &nan16}});
  const auto file = load_safetensors_file(folder / "r");
  CHECK(values(file.get<std::int64_t>("u8")) == std::vector<double>{0, 7, 255});
  CHECK(values(file.get<bf16>("u8")) == std::vector<double>{0, 7, 255});
  CHECK(file.bytes("u8") == std::vector<std::uint8_t>{0, 7, 255});
  CHECK(values(file.get<float>("i8")) == std::vector<double>{-128, 127});
  CHECK(values(file.get<std::int64_t>("i16")) == std::vector<double>{-32768, 32767});
  CHECK(values(file.get<double>("i32")) == std::vector<double>{-2147483648.0, 2147483647.0});
  CHECK(values(file.get<std::int64_t>("bool")) == std::vector<double>{0, 1});
  const std::vector<double> halves{1, -2, 65504, std::ldexp(1.0, -14), std::ldexp(1.0, -24), INFINITY, -0.0};
  CHECK(values(file.get<double>("f16")) == halves);
  CHECK(values(file.get<float>("f16")) == halves);
  CHECK(std::signbit(file.get("f16").data()[6]));
  CHECK(std::isnan(file.get("nan").data()[0]));
}

TEST_CASE("safetensors: floating-point values convert to int64 only if they are whole") {
  const TemporaryFolder folder;
  const std::string path = folder / "c";
  save_safetensors(path, {{"whole", tensor<double>({2}, {3, -4})},
                          {"part", tensor<float>({2}, {3, 0.5})},
                          {"large", tensor<double>({1}, {std::ldexp(1.0, 63)})},
                          {"nan", tensor<bf16>({1}, {NAN})}});
  const auto file = load_safetensors_file(path);
  CHECK(values(file.get<std::int64_t>("whole")) == std::vector<double>{3, -4});
  CHECK(message_of<IoError>([&] { file.get<std::int64_t>("part"); }) ==
        "ttt::load_safetensors_file: value does not fit int64: " + path +
            ", tensor \"part\", element 1 is 0.5");
  CHECK_THROWS_AS(file.get<std::int64_t>("large"), IoError);
  CHECK_THROWS_AS(file.get<std::int64_t>("nan"), IoError);
  CHECK(values(file.get<bf16>("part")) == std::vector<double>{3, 0.5});
}

TEST_CASE("safetensors: a missing tensor and a missing file are named") {
  const TemporaryFolder folder;
  const std::string path = folder / "m";
  CHECK(message_of<IoError>([&] { load_safetensors_file(path); }) ==
        "ttt::load_safetensors_file: cannot open: " + path + ": No such file or directory");
  CHECK(message_of<IoError>([&] { load_safetensors_file(folder.path()); }) ==
        "ttt::load_safetensors_file: not a regular file: " + folder.path());
  save_safetensors(path, {{"w", tensor<float>({1}, {1})}});
  const auto file = load_safetensors_file(path);
  CHECK(message_of<IoError>([&] { file.get("v"); }) ==
        "ttt::load_safetensors_file: no such tensor: " + path + ", tensor \"v\", the file has 1 others");
  CHECK_THROWS_AS(file.shape("v"), IoError);
}

TEST_CASE("safetensors: an open file is read even if it has been replaced, but not if it was cut") {
  const TemporaryFolder folder;
  const std::string path = folder / "o";
  save_safetensors(path, {{"w", tensor<double>({2}, {1, 2})}});
  const auto old = load_safetensors_file(path);
  save_safetensors(path, {{"v", tensor<double>({1}, {3})}});
  CHECK(values(old.get<double>("w")) == std::vector<double>{1, 2});

  const auto cut = load_safetensors_file(path);
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 3);
  CHECK_THAT(message_of<IoError>([&] { cut.get<double>("v"); }),
             ContainsSubstring("file ended early: " + path + ", wanted 8 bytes from byte ") &&
                 ContainsSubstring(" on, got 5"));
}

TEST_CASE("safetensors: what cannot be saved is refused and leaves no file") {
  const TemporaryFolder folder;
  const std::string path = folder / "s";
  const auto w = tensor<float>({1}, {1});
  const std::string prefix = "ttt::save_safetensors: ";
  CHECK(message_of<IoError>([&] {
          save_safetensors(path, {{"w", w}, {"w", w}});
        }) == prefix + "name is taken: " + path + ", tensor \"w\"");
  CHECK(message_of<IoError>([&] {
          save_safetensors(path, {{"__metadata__", w}});
        }) == prefix + "name is taken: " + path + ", tensor \"__metadata__\"");
  CHECK(message_of<IoError>([&] {
          save_safetensors(path, {{"w", Tensor<float>()}});
        }) == prefix + "tensor holds nothing: " + path + ", tensor \"w\"");
  CHECK(message_of<IoError>([&] {
          save_safetensors(path, {{"\xFF", w}});
        }) == prefix + "a name or a metadata value is not UTF-8: " + path);
  CHECK(message_of<IoError>([&] {
          save_safetensors_bytes(path, {{"w", "F8", {1}, "x"}});
        }) == prefix + "unknown dtype F8: " + path + ", tensor \"w\"");
  CHECK(message_of<IoError>([&] {
          save_safetensors(folder / "no/s", {{"w", w}});
        }) == prefix + "cannot create: " + (folder / "no/s") + ": No such file or directory");
  CHECK(folder.files() == 0);
}

TEST_CASE("safetensors: files cut short or with a header too large") {
  CHECK(complaint("") == "no room for the 8-byte header length: FILE, file 0 bytes");
  CHECK(complaint("1234567") == "no room for the 8-byte header length: FILE, file 7 bytes");
  std::string bytes = file_of("{}");
  CHECK(complaint(bytes.substr(0, 9)) ==
        "header is longer than the file: FILE, header 2 bytes, file 9 bytes");
  bytes.replace(0, 8, "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF");
  CHECK(complaint(bytes) ==
        "header is longer than the file: FILE, header 18446744073709551615 bytes, file 10 bytes");

  const TemporaryFolder folder;
  const std::string path = folder / "huge";
  std::uint64_t length = 100'000'001;
  write_bytes(path, std::string(reinterpret_cast<const char*>(&length), 8));
  std::filesystem::resize_file(path, 8 + length);  // a hole: takes no room on the disk
  CHECK(message_of<IoError>([&] { load_safetensors_file(path); }) ==
        "ttt::load_safetensors_file: header is too large: " + path +
            ", header 100000001 bytes, limit 100000000");

  // Every prefix of a good file is refused.
  save_safetensors(folder / "good", {{"w", tensor<float>({2}, {1, 2})}});
  const std::string good = read_bytes(folder / "good");
  for (std::size_t n = 0; n < good.size(); ++n) CHECK(complaint(good.substr(0, n)) != "no exception");
}

TEST_CASE("safetensors: headers that are not JSON") {
  CHECK(complaint(file_of("")) == "header does not begin with '{': FILE");
  CHECK(complaint(file_of(" {}")) == "header does not begin with '{': FILE");
  CHECK(complaint(file_of("[]")) == "header does not begin with '{': FILE");
  CHECK(complaint(file_of("{\"a\":")) == "header is not valid JSON: FILE, near byte 6 of 5");
  CHECK(complaint(file_of("{\"\xFF\":1}")) == "header is not valid JSON: FILE, near byte 3 of 7");
  CHECK(complaint(file_of("{} {}")) == "header is not valid JSON: FILE, near byte 4 of 5");
  CHECK(complaint(file_of("{\"a\":1e999}")) == "header is not valid JSON: FILE");
  CHECK(complaint(file_of(std::string("{}\0", 3))) == "header is not valid JSON: FILE, near byte 3 of 3");
  CHECK(complaint(file_of("{\"a\":" + std::string(100'000, '['))) ==
        "header is nested too deeply: FILE, depth 4, at most 3");
  CHECK(complaint(file_of("{}")) == "no exception");
  CHECK(complaint(file_of("{}   \n")) == "no exception");
}

TEST_CASE("safetensors: entries that are malformed") {
  const auto entry = [](const std::string& fields) {
    return file_of("{\"w\":{" + fields + "}}", eight_bytes);
  };
  CHECK(complaint(file_of("{\"w\":3}")) == "entry is not an object: FILE, tensor \"w\"");
  CHECK(complaint(entry(R"("shape":[2],"data_offsets":[0,8])")) == "entry has no dtype: FILE, tensor \"w\"");
  CHECK(complaint(entry(R"("dtype":"F32","data_offsets":[0,8])")) ==
        "entry has no shape: FILE, tensor \"w\"");
  CHECK(complaint(entry(R"("dtype":"F32","shape":[2])")) == "entry has no data_offsets: FILE, tensor \"w\"");
  CHECK(complaint(entry(R"("dtype":32,"shape":[2],"data_offsets":[0,8])")) ==
        "dtype is not a string: FILE, tensor \"w\"");
  CHECK(complaint(entry(R"("dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8])")) ==
        "unknown dtype: FILE, tensor \"w\", dtype \"F8_E4M3\"");
  CHECK(complaint(entry(R"("dtype":"F32","shape":2,"data_offsets":[0,8])")) ==
        "shape is not a list: FILE, tensor \"w\"");
  CHECK(complaint(entry(R"("dtype":"F32","shape":[1,1,1,1,1,1,1,1,2],"data_offsets":[0,8])")) ==
        "too many axes: FILE, tensor \"w\", 9 axes, at most 8");
  for (const char* shape : {"[-2]", "[2.0]", "[\"2\"]", "[null]", "[9223372036854775808]", "[1e30]"})
    CHECK_THAT(
        complaint(entry(concat(R"("dtype":"F32","data_offsets":[0,8],"shape":)", shape))),
        ContainsSubstring("sizes must be whole numbers from 0 to 2^63-1: FILE, tensor \"w\", shape ["));
  for (const char* range : {"[0]", "[0,4,8]", "[0,8.0]", "[-1,8]", "8", "[\"0\",8]"})
    CHECK(complaint(entry(concat(R"("dtype":"F32","shape":[2],"data_offsets":)", range))) ==
          "data_offsets must be two whole numbers: FILE, tensor \"w\"");
  CHECK(complaint(entry(R"("dtype":"F32","shape":[2],"data_offsets":[0,8],"note":"kept out")")) ==
        "no exception");
}

TEST_CASE("safetensors: sizes that overflow") {
  const auto complaint_of_shape = [](const std::string& shape) {
    return complaint(
        file_of("{\"w\":{\"dtype\":\"F32\",\"shape\":" + shape + ",\"data_offsets\":[0,8]}}", eight_bytes));
  };
  CHECK(complaint_of_shape("[4294967296,4294967296]") ==
        "tensor is too large: FILE, tensor \"w\", F32 [4294967296, 4294967296]");
  CHECK(complaint_of_shape("[4611686018427387906]") ==
        "tensor is too large: FILE, tensor \"w\", F32 [4611686018427387906]");  // times 4 is 8 modulo 2^64
  CHECK(complaint_of_shape("[0,4294967296,4294967296]") ==
        "tensor is too large: FILE, tensor \"w\", F32 [0, 4294967296, 4294967296]");
}

TEST_CASE("safetensors: byte ranges that do not fit") {
  const auto one = [](const std::string& range) {
    return complaint(
        file_of("{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":" + range + "}}", eight_bytes));
  };
  CHECK(one("[0,8]") == "no exception");
  CHECK(one("[0,9]") == "data_offsets are out of range: FILE, tensor \"w\", bytes 0 to 9 of 8");
  CHECK(one("[8,0]") == "data_offsets are out of range: FILE, tensor \"w\", bytes 8 to 0 of 8");
  CHECK(one("[0,18446744073709551615]") ==
        "data_offsets are out of range: FILE, tensor \"w\", bytes 0 to 18446744073709551615 of 8");
  CHECK(one("[0,4]") ==
        "data_offsets do not fit the shape: FILE, tensor \"w\", F32 [2] needs 8 bytes, has 4");

  const auto two = [](const std::string& a, const std::string& b) {
    return complaint(file_of("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" + a +
                                 "},\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" + b + "}}",
                             eight_bytes));
  };
  CHECK(two("[0,4]", "[4,8]") == "no exception");
  CHECK(two("[4,8]", "[0,4]") == "no exception");
  CHECK(two("[0,4]", "[3,7]") ==
        "tensors overlap: FILE, tensor \"b\" begins at byte 3, the one before ends at 4");
  CHECK(two("[0,4]", "[0,4]") ==
        "tensors overlap: FILE, tensor \"b\" begins at byte 0, the one before ends at 4");
  CHECK(two("[1,5]", "[4,8]") ==
        "bytes belong to no tensor: FILE, tensor \"a\" begins at byte 1, the one before ends at 0");
  CHECK(complaint(file_of("{}", "rest")) == "bytes belong to no tensor: FILE, tensors end at byte 0 of 4");
}

TEST_CASE("safetensors: names that appear twice, and metadata") {
  const std::string entry = R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
  CHECK(complaint(file_of("{\"w\":" + entry + ",\"w\":" + entry + "}", eight_bytes)) ==
        "header has a name twice: FILE, \"w\"");
  CHECK(complaint(file_of(R"({"w":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
                          eight_bytes)) == "header has a name twice: FILE, \"dtype\"");
  CHECK(complaint(file_of(R"({"a\nb":1,"a\nb":1})")) == "header has a name twice: FILE, \"a?b\"");
  CHECK(complaint(file_of(R"({"__metadata__":[]})")) == "__metadata__ is not an object of strings: FILE");
  CHECK(complaint(file_of(R"({"__metadata__":{"epoch":3}})")) ==
        "__metadata__ is not an object of strings: FILE, key \"epoch\"");
  CHECK(complaint(file_of(R"({"__metadata__":{"dtype":"x"}})")) == "no exception");
}
