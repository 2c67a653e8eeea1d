#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "catch.hpp"
#include "tttlib/backend/backend.hpp"
#include "tttlib/core/parallel.hpp"

using namespace ttt;

namespace {

template <class T>
using Matrix = cpu_backend::MatrixRef<T>;

/// A matrix with any strides inside a buffer that is larger than it.
template <class T>
struct Stored {
  std::vector<T> numbers;
  Matrix<T> matrix;
  T& at(std::int64_t i, std::int64_t j) { return matrix.data[i * matrix.row_stride + j * matrix.column_stride]; }
};

enum class Layout { rows, columns, spread };

template <class T>
Stored<T> stored(std::int64_t rows, std::int64_t columns, Layout layout, std::mt19937& engine) {
  Stored<T> s;
  std::int64_t row = columns + 3, column = 1;  // rows with a gap behind them
  if (layout == Layout::columns) row = 1, column = rows + 5;
  if (layout == Layout::spread) row = 3 * columns + 1, column = 3;
  s.numbers.resize(static_cast<std::size_t>(rows * row + columns * column + 1));
  std::uniform_real_distribution<double> uniform(-1, 1);
  for (T& x : s.numbers) x = static_cast<T>(uniform(engine));
  s.matrix = {s.numbers.data(), rows, columns, row, column};
  return s;
}

template <class T>
double worst_error(std::int64_t m, std::int64_t n, std::int64_t k, Layout la, Layout lb, int start_kind) {
  std::mt19937 engine(static_cast<unsigned>(m * 7919 + n * 31 + k));
  Stored<T> a = stored<T>(m, k, la, engine), b = stored<T>(k, n, lb, engine), c = stored<T>(m, n, Layout::rows, engine);
  const std::vector<T> bias(c.numbers.begin(), c.numbers.begin() + n), before = c.numbers;
  std::vector<double> expected;
  for (std::int64_t i = 0; i < m; ++i)
    for (std::int64_t j = 0; j < n; ++j) {
      double sum = start_kind == 0 ? 0 : static_cast<double>(start_kind == 1 ? c.at(i, j) : bias[static_cast<std::size_t>(j)]);
      for (std::int64_t l = 0; l < k; ++l) sum += static_cast<double>(a.at(i, l)) * static_cast<double>(b.at(l, j));
      expected.push_back(sum);
    }
  const T* start = start_kind == 0 ? nullptr : start_kind == 1 ? c.matrix.data : bias.data();
  cpu_backend::gemm<T>({a.matrix.data, m, k, a.matrix.row_stride, a.matrix.column_stride},
                       {b.matrix.data, k, n, b.matrix.row_stride, b.matrix.column_stride}, start,
                       start_kind == 1 ? c.matrix.row_stride : 0, c.matrix);
  double worst = 0;
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = 0; j < n; ++j)
      worst = std::max(worst, std::abs(static_cast<double>(c.at(i, j)) - expected[static_cast<std::size_t>(i * n + j)]));
    for (std::int64_t j = n; j < c.matrix.row_stride; ++j)  // the gap behind a row stays as it was
      if (c.at(i, j) != before[static_cast<std::size_t>(i * c.matrix.row_stride + j)]) worst = HUGE_VAL;
  }
  return worst;
}

}  // namespace

TEMPLATE_TEST_CASE("gemm agrees with plain loops for every layout, start and odd size", "", float, double) {
  const std::int64_t sizes[][3] = {{1, 1, 1}, {1, 33, 5},  {5, 1, 300}, {3, 7, 0},    {8, 32, 16},  {9, 31, 17}, {17, 64, 257},
                                   {4, 16, 8}, {12, 100, 40}, {50, 129, 513}, {130, 48, 300}, {2, 40, 600}};
  const double bound = sizeof(TestType) == 4 ? 1e-4 : 1e-12;  // sums of up to 600 numbers in [-1, 1], any order
  for (const auto& s : sizes)
    for (Layout la : {Layout::rows, Layout::columns, Layout::spread})
      for (Layout lb : {Layout::rows, Layout::columns, Layout::spread})
        for (int start : {0, 1, 2}) {
          INFO("m " << s[0] << ", n " << s[1] << ", k " << s[2] << ", layouts " << int(la) << " " << int(lb) << ", start " << start);
          REQUIRE(worst_error<TestType>(s[0], s[1], s[2], la, lb, start) < bound);
        }
}

TEMPLATE_TEST_CASE("gemm gives the same bits at any number of threads", "", float, double) {
  const int threads = num_threads();
  const std::int64_t sizes[][3] = {{700, 96, 300}, {96, 700, 900}, {300, 300, 300}, {33, 2000, 64}};
  for (const auto& s : sizes)
    for (bool transposed : {false, true}) {
      std::mt19937 engine(3);
      Stored<TestType> a = stored<TestType>(s[0], s[2], transposed ? Layout::columns : Layout::rows, engine),
                       b = stored<TestType>(s[2], s[1], transposed ? Layout::rows : Layout::columns, engine);
      std::vector<std::vector<TestType>> results;
      for (int t : {1, 2, 3, 4}) {
        set_num_threads(t);
        results.emplace_back(static_cast<std::size_t>(s[0] * s[1]));
        cpu_backend::gemm<TestType>({a.matrix.data, s[0], s[2], a.matrix.row_stride, a.matrix.column_stride},
                                    {b.matrix.data, s[2], s[1], b.matrix.row_stride, b.matrix.column_stride}, nullptr, 0,
                                    {results.back().data(), s[0], s[1], s[1], 1});
      }
      set_num_threads(threads);
      for (const auto& result : results) REQUIRE(result == results[0]);
    }
}

TEMPLATE_TEST_CASE("gemm gives a row of a product the same bits among few rows and among many", "", float, double) {
  const std::int64_t m = cpu_backend::few_rows + 90, n = 97, k = 800;
  std::mt19937 engine(4);
  const Stored<TestType> a = stored<TestType>(m, k, Layout::rows, engine);
  for (const Layout layout : {Layout::rows, Layout::columns, Layout::spread}) {
    const Stored<TestType> b = stored<TestType>(k, n, layout, engine);
    const auto product = [&](std::int64_t rows) {
      std::vector<TestType> c(static_cast<std::size_t>(rows * n));
      cpu_backend::gemm<TestType>(Matrix<const TestType>(a.matrix).block(0, rows, 0, k), b.matrix, nullptr, 0, {c.data(), rows, n, n, 1});
      return c;
    };
    const auto all = product(m);
    for (const std::int64_t rows : {std::int64_t(3), std::int64_t(40), cpu_backend::few_rows}) {
      const auto some = product(rows);
      REQUIRE(std::equal(some.begin(), some.end(), all.begin()));
    }
  }
}
