#include "tttlib/core/shape.hpp"

#include <vector>

#include "catch.hpp"

using namespace ttt;

TEST_CASE("Dims: a short list of integers") {
  Dims d{2, 3};
  d.insert(0, 5);
  d.push_back(7);
  CHECK(d == Dims{5, 2, 3, 7});
  d.erase(1);
  CHECK(d == Dims{5, 3, 7});
  CHECK(d != Dims{5, 3});
  CHECK(d.back() == 7);
  CHECK(Dims{}.empty());
  CHECK(to_string(d) == "[5, 3, 7]");
  CHECK(to_string(Dims{}) == "[]");
  CHECK(Dims::filled(3, 4) == Dims{4, 4, 4});
  CHECK_THROWS_WITH(Dims::filled(9, 1), "ttt::Shape: too many axes: [1, 1, 1, 1, 1, 1, 1, 1] and 1; at most 8 are supported");
  CHECK_THROWS_WITH(Dims{}.back(), "ttt::Shape: no axes: [] has no first and no last one");
  CHECK_THROWS_AS(Dims{}.front(), ShapeError);
  CHECK(Dims({2, 3, 4}).front() == 2);
  CHECK(Dims({2, 3, 4}).back() == 4);
}

TEST_CASE("numel counts, and refuses what an int64 cannot count") {
  CHECK(numel({}) == 1);
  CHECK(numel({2, 3, 4}) == 24);
  CHECK(numel({2, 0, 4}) == 0);
  CHECK_THROWS_WITH(numel({std::int64_t(1) << 40, std::int64_t(1) << 40}),
                    "ttt::Shape: too many elements: shape [1099511627776, 1099511627776]");
}

TEST_CASE("contiguous strides are row-major") {
  CHECK(contiguous_strides({}) == Dims{});
  CHECK(contiguous_strides({2, 3, 4}) == Dims{12, 4, 1});
  CHECK(contiguous_strides({2, 0, 4}) == Dims{4, 4, 1});
}

TEST_CASE("negative axes count from the end") {
  CHECK(normalize_axis("f", -1, 3) == 2);
  CHECK(normalize_axis("f", 0, 3) == 0);
  CHECK_THROWS_WITH(normalize_axis("f", 3, 3), "ttt::f: axis out of range: axis 3 of a tensor with 3 axes");
  CHECK_THROWS_AS(normalize_axis("f", -4, 3), ShapeError);
  CHECK_THROWS_AS(normalize_axis("f", 0, 0), ShapeError);
}

TEST_CASE("broadcasting follows NumPy") {
  CHECK(broadcast_shapes("f", {2, 1, 4}, {3, 1}) == Dims{2, 3, 4});
  CHECK(broadcast_shapes("f", {}, {5}) == Dims{5});
  CHECK(broadcast_shapes("f", {0, 3}, {1, 3}) == Dims{0, 3});
  CHECK(broadcast_shapes("f", {1}, {0}) == Dims{0});
  CHECK_THROWS_WITH(broadcast_shapes("add", {2, 3}, {4, 3}),
                    "ttt::add: shapes do not broadcast: a [2, 3], b [4, 3]; axis -2 is 2 and 4");
  CHECK_THROWS_AS(broadcast_shapes("add", {0}, {2}), ShapeError);
}
