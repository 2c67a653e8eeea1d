#include "catch.hpp"
#include "tttlib/ops/create.hpp"

using namespace ttt;

TEST_CASE("constants") {
  CHECK(zeros<double>({2, 2}).to_vector() == std::vector<double>(4, 0));
  CHECK(ones<std::int64_t>({3}).to_vector() == std::vector<std::int64_t>(3, 1));
  CHECK(full<float>({2}, 2.5f).to_vector() == std::vector<float>(2, 2.5f));
  CHECK(eye<double>(2).to_vector() == std::vector<double>{1, 0, 0, 1});
  CHECK(zeros<bf16>({2}).to_vector() == std::vector<bf16>(2, bf16(0.0f)));
  CHECK(scalar(3.0).dim() == 0);
  CHECK(scalar(3.0).item() == 3.0);
  CHECK(empty<float>({2, 5}).shape() == Shape{2, 5});
  CHECK(zeros_like(ones<double>({2})).to_vector() == std::vector<double>(2, 0));
  CHECK(tensor({1, 2}).dtype() == DType::float32);
}

TEST_CASE("ranges") {
  CHECK(arange<std::int64_t>(2, 11, 3).to_vector() == std::vector<std::int64_t>{2, 5, 8});
  CHECK(arange<double>(1, 0, -0.25).to_vector() == std::vector<double>{1, 0.75, 0.5, 0.25});
  CHECK(arange<double>(1, 0).numel() == 0);
  CHECK_THROWS_WITH(arange<double>(0, 1, 0), "ttt::arange: step must not be zero: start 0, stop 1");
  CHECK(linspace<double>(0, 1, 5).to_vector() == std::vector<double>{0, 0.25, 0.5, 0.75, 1});
  CHECK(linspace<double>(3, 9, 1).to_vector() == std::vector<double>{3});
  CHECK(linspace<double>(3, 9, 0).numel() == 0);
  CHECK_THROWS_AS(linspace<double>(0, 1, -1), ShapeError);
}

TEST_CASE("data goes in and comes out") {
  const std::vector<double> values{1, 2, 3, 4, 5, 6};
  const auto x = from_data(values, {2, 3});
  CHECK(x.to_vector() == values);
  CHECK(transpose(x).to_vector() == std::vector<double>{1, 4, 2, 5, 3, 6});
  CHECK_THROWS_WITH(from_data(values, {2, 2}), "ttt::from_data: 6 values for shape [2, 2] of 4 elements");
  CHECK_THROWS_WITH(x.item(), "ttt::item: needs one element, the tensor is [2, 3]");
  CHECK(select(select(x, 0, 1), 0, 2).item() == 6);
}

TEST_CASE("random tensors have the shape asked for") {
  CHECK(rand({2, 3}).shape() == Shape{2, 3});
  CHECK(randn<double>({0}).numel() == 0);
  CHECK(trunc_normal({4}).dtype() == DType::float32);
  for (double v : uniform<double>({1000}, -3, -1).to_vector()) {
    CHECK(v >= -3);
    CHECK(v < -1);
  }
}
