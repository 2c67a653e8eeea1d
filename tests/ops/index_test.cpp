// Reading along an axis.
#include "op_case.hpp"

namespace {
using namespace ops_test;
using Positions = Tensor<std::int64_t>;

std::vector<OpCase> indexing() {
  const Positions columns =
      from_data<std::int64_t>({2, 0, 2, 1, 1, 1}, {2, 3});  // of [2, 3] along axis 1, with repeats
  const Positions rows = tensor<std::int64_t>({3, 1, 1, 0});
  return {
      op_case(
          "gather", [columns](const auto& x) { return gather(x[0], columns.to(x[0].device()), 1); },
          [columns](const Arrays& x) {
            return build({2, 3}, [&](const Index& i) {
              return x[0].at({i[0], columns.data()[i[0] * 3 + i[1]]});
            });
          },
          {{normal({2, 3})}, {strided(normal({2, 4}))}}, 3),
      op_case(
          "gather_strided_index", [columns](const auto& x) { return gather(x[0], transpose(columns.to(x[0].device())), 0); },
          [columns](const Arrays& x) {
            return build({3, 2}, [&](const Index& i) {
              return x[0].at({columns.data()[i[1] * 3 + i[0]], i[1]});
            });
          },
          {{normal({3, 2})}, {strided(normal({5, 2}))}}, 3),
      op_case(
          "gather_none",
          [](const auto& x) {
            return gather(x[0], Positions(Shape{2, 0}, x[0].device()), 1);
          },
          [](const Arrays&) {
            return Array(Shape{2, 0});
          },
          {{normal({2, 3})}}),
      op_case(
          "scatter_add", [columns](const auto& x) { return scatter_add(x[0], columns.to(x[0].device()), 1, 4); },
          [columns](const Arrays& x) {
            Array y(Shape{2, 4});
            for_each_index({2, 3}, [&](const Index& i) {
              y.at({i[0], columns.data()[i[0] * 3 + i[1]]}) += x[0].at(i);
            });
            return y;
          },
          {{normal({2, 3})}, {strided(normal({2, 3}))}}, 3),
      op_case(
          "index_select", [rows](const auto& x) { return index_select(x[0], rows.to(x[0].device()), 1); },
          [rows](const Arrays& x) {
            return build({x[0].shape[0], 4, x[0].shape[2]}, [&](const Index& i) {
              return x[0].at({i[0], rows.data()[i[1]], i[2]});
            });
          },
          {{normal({2, 4, 3})}, {strided(normal({2, 5, 3}))}, {normal({1, 4, 1})}, {normal({0, 4, 2})}}, 3),
      op_case(
          "embedding",
          [rows](const auto& x) {
            return embedding(x[0], reshape(rows.to(x[0].device()), {2, 2}));
          },
          [rows](const Arrays& x) {
            return build({2, 2, x[0].shape[1]}, [&](const Index& i) {
              return x[0].at({rows.data()[i[0] * 2 + i[1]], i[2]});
            });
          },
          {{normal({4, 3})}, {strided(normal({5, 1}))}, {normal({4, 300})}}, 3),
  };
}
TTT_OP_TABLE("indexing", indexing)

TEST_CASE("ops: one_hot and gradients of equal elements") {
  CHECK(one_hot<double>(tensor<std::int64_t>({2, 0}), 3).to_vector() ==
        std::vector<double>{0, 0, 1, 1, 0, 0});
  CHECK(one_hot(reshape(tensor<std::int64_t>({2, 0}), {2, 1}), 3).shape() == Shape{2, 1, 3});
  const auto ties = tensor<double>({1, 3, 3});
  CHECK(grad([](const Tensor<double>& x) { return max(x, 0); })(ties).to_vector() ==
        std::vector<double>{0, 1, 0});
  CHECK(grad([](const Tensor<double>& x) { return amax(x); })(ties).to_vector() ==
        std::vector<double>{0, 0.5, 0.5});
  const Positions picked = gather(tensor<std::int64_t>({5, 6, 7}), tensor<std::int64_t>({2, 2}), 0);
  CHECK(picked.to_vector() == std::vector<std::int64_t>{7, 7});
}

TEST_CASE("ops: scatter_add adds equal positions in the same order at any number of threads") {
  const auto x = cast<float>(normal({500, 37}));
  std::vector<std::int64_t> positions;
  for (std::int64_t i = 0; i < 500 * 37; ++i) positions.push_back(i * 31 % 7);
  const Positions index = from_data(positions, {500, 37});
  const int before = num_threads();
  std::vector<std::vector<float>> results;
  for (int threads : {1, 4}) {
    set_num_threads(threads);
    results.push_back(scatter_add(x, index, 0, 7).to_vector());
  }
  set_num_threads(before);
  CHECK(results[0] == results[1]);
}

}  // namespace
