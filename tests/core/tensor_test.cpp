#include "tttlib/core/tensor.hpp"

#include "catch.hpp"
#include "tttlib/ops/elementwise.hpp"

using namespace ttt;

namespace {
using Ints = std::vector<std::int64_t>;
const auto iota = [](const Shape& shape) { return reshape(arange<std::int64_t>(0, numel(shape)), shape); };
}  // namespace

TEST_CASE("a tensor knows its shape, layout, type and device") {
  const Tensor<float> x(Shape{2, 3, 4});
  CHECK(x.dim() == 3);
  CHECK(x.numel() == 24);
  CHECK(x.size(-1) == 4);
  CHECK_THROWS_WITH(x.size(3), "ttt::size: axis out of range: axis 3 of a tensor with 3 axes: x [2, 3, 4]");
  CHECK(x.strides() == Strides{12, 4, 1});
  CHECK(x.is_contiguous());
  CHECK(x.dtype() == DType::float32);
  CHECK(x.device() == cpu());
  CHECK(x.defined());
  CHECK_FALSE(Tensor<float>().defined());
  CHECK_FALSE(x.is_tracked());
}

TEST_CASE("views share storage and show the right elements") {
  const auto x = iota({2, 3, 4});
  const auto is_view = [&](const Tensor<std::int64_t>& y) { return y.storage() == x.storage(); };
  const auto p = permute(x, {2, 0, 1});  // [4, 2, 3]
  CHECK(is_view(p));
  CHECK(slice(p, 0, 1, 2).to_vector() == Ints{1, 5, 9, 13, 17, 21});
  CHECK(is_view(transpose(x)));
  CHECK(is_view(reshape(x, {6, 4})));
  CHECK(is_view(reshape(x, {2, -1})));
  CHECK(is_view(unsqueeze(x, 1)));
  CHECK(is_view(squeeze(unsqueeze(x, -1), -1)));
  CHECK(is_view(slice(x, 1, 1, 3)));
  CHECK(slice(x, 2, 0, 4, 3).to_vector() == Ints{0, 3, 4, 7, 8, 11, 12, 15, 16, 19, 20, 23});
  CHECK(is_view(select(x, 1, -1)));
  CHECK(select(x, 1, -1).to_vector() == Ints{8, 9, 10, 11, 20, 21, 22, 23});
  CHECK(is_view(flip(x, 2)));
  CHECK(select(select(flip(x, 2), 0, 0), 0, 0).to_vector() == Ints{3, 2, 1, 0});
  CHECK(is_view(expand(unsqueeze(x, 0), {5, 2, 3, 4})));
  for (const auto& part : split(x, {1, 3}, 2)) CHECK(is_view(part));
  for (const auto& part : chunk(x, 2, 1)) CHECK(is_view(part));
  CHECK(chunk(x, 2, 1)[0].shape() == Shape{2, 2, 4});
  CHECK(chunk(x, 2, 1)[1].shape() == Shape{2, 1, 4});
  CHECK(is_view(x.detach()));
  CHECK(is_view(x.contiguous()));
}

TEST_CASE("head split and token view copy nothing") {
  const auto tokens = iota({2, 6, 8});                                      // [B, N, C]
  const auto heads = permute(reshape(tokens, {2, 6, 4, 2}), {0, 2, 1, 3});  // [B, h, N, d]
  CHECK(heads.storage() == tokens.storage());
  const auto merged = reshape(permute(heads, {0, 2, 1, 3}), {2, 6, 8});  // [B, N, C]
  CHECK(merged.storage() == tokens.storage());
  CHECK(merged.to_vector() == tokens.to_vector());
  const auto image = reshape(tokens, {2, 2, 3, 8});  // [B, H, W, C]
  CHECK(image.storage() == tokens.storage());
  CHECK(from_nchw(iota({2, 8, 2, 3})).shape() == Shape{2, 2, 3, 8});
}

TEST_CASE("reshape copies only what no strides can show") {
  const auto t = transpose(iota({3, 4}));  // [4, 3]
  CHECK(reshape(t, {2, 2, 3}).storage() == t.storage());
  const auto flat = flatten(t);  // [12]
  CHECK(flat.storage() != t.storage());
  CHECK(flat.to_vector() == Ints{0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11});
  CHECK_FALSE(t.is_contiguous());
  CHECK(contiguous(t).is_contiguous());
  CHECK(contiguous(t).to_vector() == t.to_vector());
}

TEST_CASE("bad views are refused with their numbers") {
  const auto x = iota({2, 3});
  CHECK_THROWS_WITH(reshape(x, {4, 2}),
                    "ttt::reshape: number of elements differs: x [2, 3] has 6, target [4, 2]");
  CHECK_THROWS_AS(reshape(x, {-1, 4}), ShapeError);
  CHECK_THROWS_AS(reshape(x, {-1, -1, 6}), ShapeError);
  CHECK_THROWS_WITH(permute(x, {0, 0}), "ttt::permute: an axis appears twice: axes [0, 0]");
  CHECK_THROWS_WITH(slice(x, 1, 2, 5),
                    "ttt::slice: range out of bounds: x [2, 3], axis 1 of length 3, range [2, 5) step 1");
  CHECK_THROWS_WITH(select(x, 0, 2), "ttt::select: index 2 out of range: x [2, 3], axis 0");
  CHECK_THROWS_WITH(squeeze(x, 0), "ttt::squeeze: axis 0 is not of length 1: x [2, 3]");
  CHECK_THROWS_WITH(expand(x, {4, 3}),
                    "ttt::expand: shapes do not broadcast: x [2, 3], target [4, 3]; axis 0 is 2 and 4");
  CHECK_THROWS_WITH(split(x, {1, 1}, 1), "ttt::split: lengths add up to 2, axis 1 of x [2, 3] has 3");
  CHECK_THROWS_AS(cat(Tensors<std::int64_t>{}, 0), ShapeError);
  CHECK_THROWS_AS(cat(Tensors<std::int64_t>{x, iota({3, 2})}, 0), ShapeError);
}

TEST_CASE("joining, padding and cloning make new storage") {
  const auto x = iota({2, 2});
  CHECK(cat(Tensors<std::int64_t>{x, x}, 1).to_vector() == Ints{0, 1, 0, 1, 2, 3, 2, 3});
  CHECK(stack(Tensors<std::int64_t>{x, x}, 0).shape() == Shape{2, 2, 2});
  CHECK(pad(x, 0, 1, 0).to_vector() == Ints{0, 0, 0, 1, 2, 3});
  CHECK(clone(x).storage() != x.storage());
}

TEST_CASE("empty tensors pass through") {
  const auto x = zeros<double>({0, 3});
  CHECK((x + x).shape() == Shape{0, 3});
  CHECK(reshape(x, {3, 0}).numel() == 0);
  CHECK(transpose(x).shape() == Shape{3, 0});
  CHECK(slice(x, 1, 1, 1).shape() == Shape{0, 0});
  CHECK(cat(Tensors<double>{x, ones<double>({1, 3})}, 0).to_vector() == std::vector<double>{1, 1, 1});
}

TEST_CASE("types do not mix") {
  const TensorBase base = zeros<double>({2});
  CHECK_THROWS_WITH(
      Tensor<float>(base),
      "ttt::Tensor: element types differ: expected float32, got float64. Hint: cast<U>(x) converts");
  CHECK(cast<float>(tensor<double>({1.5, 2})).to_vector() == std::vector<float>{1.5f, 2.0f});
  CHECK(cast<std::int64_t>(tensor<double>({1.5, -2.5})).to_vector() == Ints{1, -2});
  const auto half = cast<bf16>(tensor<float>({1.0f, 0.1f}));
  CHECK(cast<float>(half).to_vector() == std::vector<float>{1.0f, 0.10009765625f});
}

TEST_CASE("assign writes through to every view and counts it") {
  auto x = zeros<double>({2, 2});
  const auto row = select(x, 0, 1);
  assign(x, ones<double>({2, 2}));
  CHECK(row.to_vector() == std::vector<double>{1, 1});
  CHECK(x.storage()->version() == 1);
  auto part = slice(x, 0, 0, 1);
  assign(part, full<double>({1, 2}, 7));
  CHECK(x.to_vector() == std::vector<double>{7, 7, 1, 1});
  auto line = arange<double>(0, 4);
  assign(line, flip(line, 0));  // source and target overlap
  CHECK(line.to_vector() == std::vector<double>{3, 2, 1, 0});
  CHECK_THROWS_WITH(assign(x, ones<double>({2})), "ttt::assign: shapes differ: target [2, 2], source [2]");
  auto wide = expand(ones<double>({1, 2}), {3, 2});
  CHECK_THROWS_WITH(
      assign(wide, zeros<double>({3, 2})),
      ContainsSubstring("ttt::assign: elements of the target share memory: [3, 2] is expanded along axis 0"));
}
