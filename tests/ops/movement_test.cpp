// Ops that move elements.
#include "op_case.hpp"

namespace {
using namespace ops_test;

Reference moving(const std::function<Shape(const Shape&)>& shape,
                 const std::function<Index(const Index&)>& source) {
  return [=](const Arrays& x) {
    return build(shape(x[0].shape), [&](const Index& i) { return x[0].at(source(i)); });
  };
}

std::vector<OpCase> movement() {
  const auto same = [](const Shape& s) { return s; };
  return {
      op_case(
          "expand",
          [](const auto& x) {
            return expand(x[0], {2, -1, 3});
          },
          moving(
              [](const Shape& s) {
                return Shape{2, s[0], 3};
              },
              [](const Index& i) { return i; }),
          {{normal({4, 1})}, {normal({1, 3})}, {strided(normal({4, 3}))}, {normal({0, 1})}}, 3),
      op_case(
          "sum_to",
          [](const auto& x) {
            return sum_to(x[0], {3, 1});
          },
          [](const Arrays& x) {
            Array y(Shape{3, 1});
            for_each_index(x[0].shape, [&](const Index& i) { y.at(i) += x[0].at(i); });
            return y;
          },
          {{normal({2, 3, 4})}, {strided(normal({2, 3, 4}))}, {normal({1, 3, 1})}, {normal({0, 3, 4})}}, 3),
      op_case(
          "contiguous", [](const auto& x) { return contiguous(transpose(x[0])); },
          moving(
              [](const Shape& s) {
                return Shape{s[1], s[0]};
              },
              [](const Index& i) {
                return Index{i[1], i[0]};
              }),
          {{normal({2, 3})}, {strided(normal({2, 3}))}, {normal({1, 3})}, {normal({0, 3})}}, 3),
      op_case(
          "clone", [](const auto& x) { return clone(x[0]); }, moving(same, [](const Index& i) { return i; }),
          {{normal({})}, {strided(normal({2, 3}))}, {normal({0})}}, 3),
      op_case(
          "reshape",
          [](const auto& x) {
            return reshape(x[0], {3, -1});
          },
          [](const Arrays& x) {
            Array y = x[0];
            y.shape = {3, static_cast<std::int64_t>(y.values.size()) / 3};
            return y;
          },
          {{normal({2, 3})}, {strided(normal({2, 3, 4}))}, {normal({3})}, {normal({3, 0})}}, 3),
      op_case(
          "permute",
          [](const auto& x) {
            return permute(x[0], {2, 0, 1});
          },
          moving(
              [](const Shape& s) {
                return Shape{s[2], s[0], s[1]};
              },
              [](const Index& i) {
                return Index{i[1], i[2], i[0]};
              }),
          {{normal({2, 3, 4})}, {strided(normal({2, 3, 4}))}, {normal({1, 1, 2})}, {normal({2, 0, 3})}}, 3),
      op_case(
          "unsqueeze_squeeze", [](const auto& x) { return squeeze(unsqueeze(unsqueeze(x[0], 1), -1), 1); },
          [](const Arrays& x) {
            Array y = x[0];
            y.shape.push_back(1);
            return y;
          },
          {{normal({2, 3})}, {strided(normal({2, 3}))}, {normal({0, 2})}}),
      op_case(
          "slice", [](const auto& x) { return slice(x[0], 1, 1, -1, 2); },
          moving(
              [](const Shape& s) {
                return Shape{s[0], (s[1] - 1) / 2};
              },
              [](const Index& i) {
                return Index{i[0], 1 + 2 * i[1]};
              }),
          {{normal({2, 7})}, {strided(normal({3, 5}))}, {normal({1, 2})}, {normal({0, 4})}}, 3),
      op_case(
          "overlapping_slices",
          [](const auto& x) { return slice(x[0], 0, 0, 3) * slice(x[0], 0, 1, 4) + select(x[0], 0, -1); },
          [](const Arrays& x) {
            return build(
                {3}, [&](const Index& i) { return x[0].at({i[0]}) * x[0].at({i[0] + 1}) + x[0].at({3}); });
          },
          {{normal({4})}, {strided(normal({4}))}}, 3),
      op_case(
          "split",
          [](const auto& x) {
            const auto parts = split(x[0], {1, 2, 0}, 1);
            return parts[0] * parts[1] + sum(parts[2]);
          },
          [](const Arrays& x) {
            return build({x[0].shape[0], 2}, [&](const Index& i) {
              return x[0].at({i[0], 0}) * x[0].at({i[0], i[1] + 1});
            });
          },
          {{normal({2, 3})}, {strided(normal({2, 3}))}, {normal({0, 3})}}),
      op_case("chunk", [](const auto& x) { return chunk(x[0], 2, -1)[1]; },
              moving(
                  [](const Shape& s) {
                    return Shape{s[0], 2};
                  },
                  [](const Index& i) {
                    return Index{i[0], i[1] + 3};
                  }),
              {{normal({2, 5})}, {strided(normal({1, 5}))}}),
      op_case(
          "cat",
          [](const auto& x) {
            return cat(std::decay_t<decltype(x)>{x[0], x[1], x[0]}, 1);
          },
          [](const Arrays& x) {
            const std::int64_t a = x[0].shape[1], b = x[1].shape[1];
            return build({x[0].shape[0], 2 * a + b}, [&](const Index& i) {
              return i[1] < a       ? x[0].at({i[0], i[1]})
                     : i[1] < a + b ? x[1].at({i[0], i[1] - a})
                                    : x[0].at({i[0], i[1] - a - b});
            });
          },
          {{normal({2, 3}), normal({2, 2})},
           {strided(normal({2, 3})), normal({2, 0})},
           {normal({2, 2}), strided(normal({2, 4}))}},
          3),
      op_case(
          "stack",
          [](const auto& x) {
            return stack(std::decay_t<decltype(x)>{x[0], x[1]}, 1);
          },
          [](const Arrays& x) {
            return build({x[0].shape[0], 2}, [&](const Index& i) { return x[i[1] == 0 ? 0 : 1].at({i[0]}); });
          },
          {{normal({3}), normal({3})}, {normal({0}), normal({0})}, {strided(normal({2})), normal({2})}}),
      op_case(
          "pad", [](const auto& x) { return pad(x[0], 1, 1, 2); },
          [](const Arrays& x) {
            const std::int64_t n = x[0].shape[1];
            return build({x[0].shape[0], n + 3}, [&](const Index& i) {
              return i[1] < 1 || i[1] > n ? 0.0 : x[0].at({i[0], i[1] - 1});
            });
          },
          {{normal({2, 3})}, {strided(normal({2, 3}))}, {normal({2, 1})}, {normal({2, 0})}}, 3),
      op_case(
          "flip", [](const auto& x) { return flip(x[0], 0); },
          [](const Arrays& x) {
            const Shape s = x[0].shape;
            return build(s, [&](const Index& i) { return x[0].at({s[0] - 1 - i[0], i[1]}); });
          },
          {{normal({3, 2})}, {strided(normal({3, 2}))}, {normal({1, 2})}, {normal({0, 2})}}, 3),
  };
}

TTT_OP_TABLE("movement", movement)

TEST_CASE("ops: short forms mean what PyTorch's do") {
  const auto x = reshape(arange<float>(0, 6), {1, 2, 3});  // [[0 1 2] [3 4 5]]
  CHECK(squeeze(x).shape() == Shape{2, 3});
  CHECK(flip(x, {1, 2}).to_vector() == std::vector<float>{5, 4, 3, 2, 1, 0});
  CHECK(pad(x, {{1, 0}, {0, 2}}).shape() == Shape{1, 3, 5});
  CHECK(pad(squeeze(x), {{0, 1}}).to_vector() == std::vector<float>{0, 1, 2, 0, 3, 4, 5, 0});
  const Tensors<float> parts = split(squeeze(x), 2, 1);
  CHECK(parts.size() == 2);
  CHECK(parts[1].to_vector() == std::vector<float>{2, 5});
  CHECK(split(squeeze(x), 1).size() == 2);
  CHECK(tensor({{1, 2}, {3, 4}}).shape() == Shape{2, 2});
  CHECK(full({2}, 1.5).to_vector() == std::vector<float>{1.5f, 1.5f});
  CHECK(sum(x, -1).to_vector() == std::vector<float>{3, 12});
  CHECK(max(x).item() == 5);
  CHECK(min(x).item() == 0);
  CHECK(gt(x, 2).to_vector() == std::vector<float>{0, 0, 0, 1, 1, 1});
  CHECK((x <= 1).to_vector() == std::vector<float>{1, 1, 0, 0, 0, 0});
  CHECK((x < x).to_vector() == std::vector<float>(6, 0));
  CHECK(where(x > 3, x, 0).to_vector() == std::vector<float>{0, 0, 0, 0, 4, 5});
  CHECK(where(x > 3, 9, x).to_vector() == std::vector<float>{0, 1, 2, 3, 9, 9});
  CHECK(maximum(x, 3).to_vector() == std::vector<float>{3, 3, 3, 3, 4, 5});
  CHECK(minimum(x, 3).to_vector() == std::vector<float>{0, 1, 2, 3, 3, 3});
  CHECK(clamp_min(x, 4).to_vector() == std::vector<float>{4, 4, 4, 4, 4, 5});
  CHECK(clamp_max(x, 1).to_vector() == std::vector<float>{0, 1, 1, 1, 1, 1});
  CHECK(mean(ones<double>({49})).item() == 1);  // a division, not a product with the reciprocal
}

TEST_CASE("ops: integers add, multiply, compare and count") {
  const auto n = tensor<std::int64_t>({1, -2, 3});
  CHECK((-n + 10).to_vector() == std::vector<std::int64_t>{9, 12, 7});
  CHECK((n * 2 - n).to_vector() == n.to_vector());
  CHECK(sum(n).item() == 2);
  CHECK(cumsum(n, 0).to_vector() == std::vector<std::int64_t>{1, -1, 2});
  CHECK(eq(n, 3).to_vector() == std::vector<std::int64_t>{0, 0, 1});
  const std::int64_t large = (std::int64_t(1) << 60) + 1;  // not a double
  CHECK((n + large).to_vector() == std::vector<std::int64_t>{large + 1, large - 2, large + 3});
  CHECK((large - n).to_vector() == std::vector<std::int64_t>{large - 1, large + 2, large - 3});
  CHECK((n * large).to_vector() == std::vector<std::int64_t>{large, -2 * large, 3 * large});
}

TEST_CASE("ops: integers have extrema, choices and magnitudes") {
  using I = std::vector<std::int64_t>;
  const auto n = tensor<std::int64_t>({{5, -2, 3}, {-7, 9, 9}});
  CHECK(abs(n).to_vector() == I{5, 2, 3, 7, 9, 9});
  CHECK(argmax(n, 1).to_vector() == I{0, 1});
  CHECK(argmin(n, 0).to_vector() == I{1, 0, 0});
  CHECK(max(n, 1).to_vector() == I{5, 9});
  CHECK(min(n, 0).to_vector() == I{-7, -2, 3});
  CHECK(amax(n, 1).to_vector() == I{5, 9});
  CHECK(amin(n, 0).to_vector() == I{-7, -2, 3});
  CHECK(max(n).item() == 9);
  CHECK(min(n).item() == -7);
  CHECK(maximum(n, 3).to_vector() == I{5, 3, 3, 3, 9, 9});
  CHECK(minimum(n, select(n, 0, 0)).to_vector() == I{5, -2, 3, -7, -2, 3});
  CHECK(clamp(n, -1, 4).to_vector() == I{4, -1, 3, -1, 4, 4});
  CHECK(clamp_min(n, 4).to_vector() == I{5, 4, 4, 4, 9, 9});
  CHECK(clamp_max(n, 4).to_vector() == I{4, -2, 3, -7, 4, 4});
  CHECK(where(n > 4, n, 0).to_vector() == I{5, 0, 0, 0, 9, 9});
}

TEST_CASE("ops: steps and numbers of parts beyond the axis") {
  constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
  const auto x = tensor({1, 2, 3, 4, 5});
  CHECK(slice(x, 0, 1, 3, most).to_vector() == std::vector<float>{2});
  CHECK(slice(x, 0, 2, 2, most).shape() == Shape{0});
  CHECK(chunk(x, most).size() == 5);
  CHECK(split(x, most).size() == 1);
}

TEST_CASE("ops: written as one thinks") {
  const auto a = tensor({1, 2}), b = tensor({3, 2});
  CHECK(cat({a, b}).to_vector() == std::vector<float>{1, 2, 3, 2});
  CHECK(stack({a, b}, 1).to_vector() == std::vector<float>{1, 3, 2, 2});
  CHECK(where(a > 1, 5.f, -5.f).to_vector() == std::vector<float>{-5, 5});
  CHECK((a == b).to_vector() == std::vector<float>{0, 1});
  CHECK((a != b).to_vector() == std::vector<float>{1, 0});
  CHECK((a == 1).to_vector() == std::vector<float>{1, 0});
  CHECK((a != 1).to_vector() == std::vector<float>{0, 1});
  CHECK(max_pool2d(zeros({1, 4, 4, 1}), std::size_t(2)).shape() == Shape{1, 2, 2, 1});
  CHECK(max_pool2d(zeros({1, 4, 4, 1}), 2LL).shape() == Shape{1, 2, 2, 1});
  const auto has_axis = [](auto axis) { return requires(const Tensor<float>& x) { max(x, axis); }; };
  CHECK(has_axis(0));
  CHECK_FALSE(has_axis(0.5));  // would be axis 0
  CHECK(amax(zeros({0, 3}), 1).shape() == Shape{0});
}

TEST_CASE("ops: views share storage") {
  const auto x = normal({2, 3, 4});
  CHECK(reshape(x, {6, 4}).storage() == x.storage());
  CHECK(permute(x, {2, 0, 1}).storage() == x.storage());
  CHECK(slice(x, 1, 1, 3).storage() == x.storage());
  CHECK(select(x, 0, 1).storage() == x.storage());
  CHECK(expand(x, {5, 2, 3, 4}).storage() == x.storage());
  CHECK(flip(x, 0).storage() == x.storage());
  CHECK(from_nchw(normal({2, 3, 4, 5})).shape() == Shape{2, 4, 5, 3});
  CHECK(reshape(transpose(x, 1, 2), {2, 12}).storage() != x.storage());
  const auto heads =
      permute(reshape(normal({2, 6, 8}), {2, 6, 2, 4}), {0, 2, 1, 3});  // the head split of attention
  CHECK(reshape(heads, {4, 6, 4}).shape() == Shape{4, 6, 4});
}

TEST_CASE("ops: cast is differentiable across element types") {
  const auto f = [](const Tensor<double>& x) {
    return sum(square(cast<double>(square(cast<float>(x)))));
  };  // Σ x⁴
  const auto x = tensor<double>({0.5, 2, -3});
  CHECK(grad(f)(x).to_vector() == std::vector<double>{0.5, 32, -108});
  CHECK(hvp(f, x, tensor<double>({1, 1, 1})).to_vector() == std::vector<double>{3, 48, 108});
  CHECK(cast<std::int64_t>(tensor<double>({1.9, -1.9})).to_vector() == std::vector<std::int64_t>{1, -1});
}

}  // namespace
