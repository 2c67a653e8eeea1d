// Matrix products.
#include "op_case.hpp"

namespace {
using namespace ops_test;

/// [.., m, k] x [.., k, n]
Array naive_matmul(const Arrays& x) {
  const Shape &a = x[0].shape, &b = x[1].shape;
  const std::int64_t k = a.back();
  Shape batch = broadcast_shapes("test", Shape(a.begin(), a.end() - 2), Shape(b.begin(), b.end() - 2));
  batch.push_back(a[a.size() - 2]);
  batch.push_back(b.back());
  return build(batch, [&](Index i) {
    double s = 0;
    for (std::int64_t l = 0; l < k; ++l) {
      Index left = i, right = i;
      left[i.size() - 1] = l;
      right[i.size() - 2] = l;
      s += x[0].at(left) * x[1].at(right);
    }
    return s;
  });
}

std::vector<OpCase> products() {
  return {
      op_case(
          "matmul", [](const auto& x) { return matmul(x[0], x[1]); }, naive_matmul,
          {{normal({2, 3, 4}), normal({4, 5})},  // one tall product
           {normal({1, 1}), normal({1, 1})},
           {normal({0, 4}), normal({4, 5})},
           {normal({3, 0}), normal({0, 2})},  // an empty inner axis gives zeros
           {strided(normal({3, 4})), normal({4, 5})},
           {transpose(normal({4, 3})), transpose(normal({5, 4}))},
           {normal({2, 1, 3, 4}), strided(normal({5, 4, 2}))},
           {expand(normal({3, 1}), {3, 4}), normal({4, 2})},  // a repeated operand
           {normal({9, 2, 3}), normal({9, 3, 2})}},
          3),
      op_case(
          "matmul_vectors", [](const auto& x) { return matmul(x[0], x[1]); },
          [](const Arrays& x) {
            Array y(Shape{});
            for (std::int64_t i = 0; i < x[0].shape[0]; ++i) y.values[0] += x[0].at({i}) * x[1].at({i});
            return y;
          },
          {{normal({4}), normal({4})}, {normal({1}), normal({1})}, {strided(normal({3})), normal({3})}}, 3),
      op_case(
          "matmul_matrix_vector", [](const auto& x) { return matmul(x[0], x[1]); },
          [](const Arrays& x) {
            return build(Shape(x[0].shape.begin(), x[0].shape.end() - 1), [&](Index i) {
              double s = 0;
              i.push_back(0);
              for (i.back() = 0; i.back() < x[1].shape[0]; ++i.back()) s += x[0].at(i) * x[1].at({i.back()});
              return s;
            });
          },
          {{normal({3, 4}), normal({4})}, {normal({2, 3, 4}), strided(normal({4}))}}),
      op_case(
          "linear", [](const auto& x) { return linear(x[0], x[1], x[2]); },
          [](const Arrays& x) {
            Shape shape = x[0].shape;
            shape[shape.size() - 1] = x[1].shape[0];
            return build(shape, [&](const Index& i) {
              double s = x[2].at({i.back()});
              Index from = i;
              for (from.back() = 0; from.back() < x[1].shape[1]; ++from.back())
                s += x[0].at(from) * x[1].at({i.back(), from.back()});
              return s;
            });
          },
          {{normal({2, 3, 4}), normal({5, 4}), normal({5})},
           {normal({4}), normal({5, 4}), normal({5})},
           {strided(normal({3, 4})), strided(normal({2, 4})), strided(normal({2}))},
           {normal({1, 1}), normal({1, 1}), normal({1})},
           {normal({0, 4}), normal({3, 4}), normal({3})}},
          3),
      op_case(
          "linear_without_bias", [](const auto& x) { return linear(x[0], x[1]); },
          [](const Arrays& x) {
            return build({x[0].shape[0], x[1].shape[0]}, [&](const Index& i) {
              double s = 0;
              for (std::int64_t l = 0; l < x[1].shape[1]; ++l) s += x[0].at({i[0], l}) * x[1].at({i[1], l});
              return s;
            });
          },
          {{normal({3, 4}), normal({2, 4})}, {strided(normal({3, 4})), normal({2, 4})}}, 3),
  };
}
TTT_OP_TABLE("products", products)

/// Σ over all letters, by definition.
Reference naive_einsum(const std::string& a, const std::string& b, const std::string& out) {
  return [=](const Arrays& x) {
    std::map<char, std::int64_t> sizes;
    for (std::size_t i = 0; i < a.size(); ++i) sizes[a[i]] = x[0].shape[i];
    for (std::size_t i = 0; i < b.size(); ++i) sizes[b[i]] = x[1].shape[i];
    Shape all, shape;
    std::string letters;
    for (const auto& [letter, size] : sizes) {
      letters += letter;
      all.push_back(size);
    }
    for (char c : out) shape.push_back(sizes[c]);
    Array y(shape);
    for_each_index(all, [&](const Index& index) {
      const auto pick = [&](const std::string& term) {
        Index i;
        for (char c : term) i.push_back(index[letters.find(c)]);
        return i;
      };
      y.at(pick(out)) += x[0].at(pick(a)) * (b.empty() ? 1 : x[1].at(pick(b)));
    });
    return y;
  };
}
OpCase einsum_case(const std::string& a, const std::string& b, const std::string& out,
                   std::vector<Tensors<double>> inputs) {
  const std::string equation = a + (b.empty() ? "" : "," + b) + "->" + out;
  return op_case(
      "einsum " + equation, [equation](const auto& x) { return einsum(equation, x); },
      naive_einsum(a, b, out), std::move(inputs), 2, 1e-5, 4);
}

std::vector<OpCase> einsums() {
  return {
      einsum_case("bij", "bjk", "bik",
                  {{normal({2, 3, 4}), normal({2, 4, 5})},
                   {normal({1, 3, 1}), strided(normal({1, 1, 2}))},
                   {normal({0, 3, 4}), normal({0, 4, 5})}}),
      einsum_case("bhnd", "bhmd", "bhnm", {{normal({2, 2, 3, 4}), strided(normal({2, 2, 5, 4}))}}),
      einsum_case("i", "j", "ji", {{normal({3}), normal({4})}}),
      einsum_case("ij", "ij", "", {{normal({3, 4}), strided(normal({3, 4}))}}),
      einsum_case("abc", "cd", "da", {{normal({2, 3, 4}), normal({4, 5})}}),  // b is summed first
      einsum_case("ijk", "", "kj", {{normal({2, 3, 4})}, {strided(normal({2, 1, 4}))}}),
      einsum_case("ij", "", "", {{normal({2, 3})}}),
  };
}
TTT_OP_TABLE("einsum", einsums)

TEST_CASE("ops: large products are cut into tiles and stay the same at any number of threads") {
  const auto a = cast<float>(normal({300, 257})), b = cast<float>(normal({257, 310}));
  const auto exact = matmul(cast<double>(a), cast<double>(b));
  const int before = num_threads();
  std::vector<std::vector<float>> results;
  for (int threads : {1, 3}) {
    set_num_threads(threads);
    results.push_back(matmul(a, b).to_vector());
  }
  set_num_threads(before);
  CHECK(results[0] == results[1]);
  CHECK(relative_error(from_data(results[0], {300, 310}), exact) < 1e-6);
}

}  // namespace
