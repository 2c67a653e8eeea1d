// Products of operands rounded to bf16, by the instruction where the processor has it and by float products everywhere:
// both against plain loops in double over the rounded numbers.
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "catch.hpp"
#include "tttlib/backend/backend.hpp"
#include "tttlib/core/parallel.hpp"

using namespace ttt;

namespace {

using Matrix = cpu_backend::MatrixRef<float>;
using ConstMatrix = cpu_backend::MatrixRef<const float>;
enum class Layout { rows, columns, spread };
enum class Way { instruction, portable };

/// A matrix with any strides inside a buffer that is larger than it.
struct Stored {
  std::vector<float> numbers;
  Matrix matrix;
  float& at(std::int64_t i, std::int64_t j) { return matrix.data[i * matrix.row_stride + j * matrix.column_stride]; }
  ConstMatrix view() const { return {matrix.data, matrix.rows, matrix.columns, matrix.row_stride, matrix.column_stride}; }
};

Stored stored(std::int64_t rows, std::int64_t columns, Layout layout, std::mt19937& engine) {
  Stored s;
  std::int64_t row = columns + 3, column = 1;  // rows with a gap behind them
  if (layout == Layout::columns) row = 1, column = rows + 5;
  if (layout == Layout::spread) row = 3 * columns + 1, column = 3;
  s.numbers.resize(static_cast<std::size_t>(rows * row + columns * column + 1));
  std::uniform_real_distribution<float> uniform(-1, 1);
  for (float& x : s.numbers) x = uniform(engine);
  s.matrix = {s.numbers.data(), rows, columns, row, column};
  return s;
}

void multiply(Way way, const ConstMatrix& a, const ConstMatrix& b, const float* start, std::int64_t start_row, const Matrix& c) {
  if (way == Way::instruction) cpu_backend::gemm_bf16(a, b, start, start_row, c);
  else
    cpu_backend::gemm<float>(cpu_backend::rounded_to_bf16<cpu_backend::Packing::rounded_a>(a),
                             cpu_backend::rounded_to_bf16<cpu_backend::Packing::rounded_b>(b), start, start_row, c);
}

double rounded(float x) { return static_cast<double>(static_cast<float>(bf16(x))); }

/// The largest error, as a share of what float sums of k exact products may be off: k + 2 roundings of 2^-24, each of a
/// partial sum that is at most Σ |a·b| + |start|.
double worst_error(Way way, std::int64_t m, std::int64_t n, std::int64_t k, Layout la, Layout lb, int start_kind) {
  std::mt19937 engine(static_cast<unsigned>(m * 7919 + n * 31 + k));
  Stored a = stored(m, k, la, engine), b = stored(k, n, lb, engine), c = stored(m, n, Layout::rows, engine);
  const std::vector<float> bias(c.numbers.begin(), c.numbers.begin() + n), before = c.numbers;
  const float* start = start_kind == 0 ? nullptr : start_kind == 1 ? c.matrix.data : bias.data();
  std::vector<double> expected, room;
  for (std::int64_t i = 0; i < m; ++i)
    for (std::int64_t j = 0; j < n; ++j) {
      double sum = start_kind == 0 ? 0 : static_cast<double>(start_kind == 1 ? c.at(i, j) : bias[static_cast<std::size_t>(j)]);
      double size = std::abs(sum);
      for (std::int64_t l = 0; l < k; ++l) {
        const double product = rounded(a.at(i, l)) * rounded(b.at(l, j));
        sum += product;
        size += std::abs(product);
      }
      expected.push_back(sum);
      room.push_back(static_cast<double>(k + 2) * std::ldexp(size, -24) + 1e-37);
    }
  multiply(way, a.view(), b.view(), start, start_kind == 1 ? c.matrix.row_stride : 0, c.matrix);
  double worst = 0;
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      const std::size_t at = static_cast<std::size_t>(i * n + j);
      worst = std::max(worst, std::abs(static_cast<double>(c.at(i, j)) - expected[at]) / room[at]);
    }
    for (std::int64_t j = n; j < c.matrix.row_stride; ++j)  // the gap behind a row stays as it was
      if (c.at(i, j) != before[static_cast<std::size_t>(i * c.matrix.row_stride + j)]) worst = HUGE_VAL;
  }
  return worst;
}

std::vector<Way> ways() {
  if (cpu_backend::has_bf16_products()) return {Way::instruction, Way::portable};
  WARN("this processor has no AVX512_BF16: only the portable product is tested");
  return {Way::portable};
}

}  // namespace

TEST_CASE("bf16 products are float sums of rounded operands, for every layout, start and odd size") {
  const std::int64_t sizes[][3] = {{1, 1, 1},   {1, 33, 5},   {5, 1, 300},  {3, 7, 0},     {8, 32, 16},   {9, 31, 17},
                                   {7, 17, 33}, {4, 16, 8},   {12, 100, 40}, {50, 129, 513}, {130, 48, 300}, {2, 40, 600},
                                   {97, 33, 385}, {13, 64, 1153}, {3, 64, 2000}, {200, 31, 770}};
  for (const Way way : ways())
    for (const auto& s : sizes)
      for (Layout la : {Layout::rows, Layout::columns, Layout::spread})
        for (Layout lb : {Layout::rows, Layout::columns, Layout::spread})
          for (int start : {0, 1, 2}) {
            INFO("way " << int(way) << ", m " << s[0] << ", n " << s[1] << ", k " << s[2] << ", layouts " << int(la) << " " << int(lb)
                        << ", start " << start);
            REQUIRE(worst_error(way, s[0], s[1], s[2], la, lb, start) <= 1);
          }
}

TEST_CASE("bf16 products of no rows and no columns touch nothing") {
  std::mt19937 engine(1);
  for (const Way way : ways()) {
    Stored a = stored(0, 5, Layout::rows, engine), b = stored(5, 4, Layout::rows, engine), none = stored(5, 0, Layout::rows, engine);
    std::vector<float> c(4, 7.0f);
    multiply(way, a.view(), b.view(), nullptr, 0, {c.data(), 0, 4, 4, 1});
    multiply(way, {b.matrix.data, 4, 5, 5, 1}, none.view(), nullptr, 0, {c.data(), 4, 0, 1, 1});
    for (float x : c) CHECK(x == 7.0f);
  }
}

TEST_CASE("bf16 products round to nearest even, and keep NaN and infinity where they are") {
  const float half_up = 1.0f + 1.0f / 256, down = 1.0f, up = 1.0f + 3.0f / 256;  // halfway: to 1 and to 1 + 4/256
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  for (const Way way : ways())
    for (const std::int64_t n : {std::int64_t(1), std::int64_t(40)}) {  // by dots, and by tiles
      const std::int64_t m = 5, k = 35;
      std::vector<float> a(static_cast<std::size_t>(m * k), 0.0f), b(static_cast<std::size_t>(k * n), 1.0f), c(static_cast<std::size_t>(m * n));
      const auto set = [&](std::int64_t row, float x) { a[static_cast<std::size_t>(row * k + k - 1)] = x; };
      set(0, half_up), set(1, up), set(2, nan), set(3, inf), set(4, -3e38f);
      multiply(way, {a.data(), m, k, k, 1}, {b.data(), k, n, 1, k}, nullptr, 0, {c.data(), m, n, n, 1});
      for (std::int64_t j = 0; j < n; ++j) {
        const auto at = [&](std::int64_t row) { return c[static_cast<std::size_t>(row * n + j)]; };
        CHECK(at(0) == down);
        CHECK(at(1) == 1.0f + 4.0f / 256);
        CHECK(std::isnan(at(2)));
        CHECK(at(3) == inf);
        CHECK(at(4) == static_cast<float>(bf16(-3e38f)));
      }
    }
}

TEST_CASE("bf16 products have the same bits at any number of threads") {
  const int threads = num_threads();
  const std::int64_t sizes[][3] = {{700, 96, 300}, {96, 700, 900}, {300, 300, 1300}, {33, 2000, 64}, {2, 3000, 200}};
  for (const Way way : ways())
    for (const auto& s : sizes)
      for (bool transposed : {false, true}) {
        std::mt19937 engine(3);
        const Stored a = stored(s[0], s[2], transposed ? Layout::columns : Layout::rows, engine),
                     b = stored(s[2], s[1], transposed ? Layout::rows : Layout::columns, engine);
        std::vector<float> first;
        for (int t : {1, 2, 3, 4}) {
          set_num_threads(t);
          std::vector<float> c(static_cast<std::size_t>(s[0] * s[1]));
          multiply(way, a.view(), b.view(), nullptr, 0, {c.data(), s[0], s[1], s[1], 1});
          if (first.empty()) first = c;
          REQUIRE((c == first));
        }
        set_num_threads(threads);
      }
}

TEST_CASE("bf16 products have the same bits, whether panels of b are packed where they are used or before, and for any number of rows") {
  if (!cpu_backend::has_bf16_products()) return;
  const std::int64_t few = cpu_backend::few_rows, sizes[][3] = {{few + 1, 45, 33}, {few + 1, 33, 385}, {few + 1, 64, 1153}, {few + 1, 31, 7}};
  for (const auto& s : sizes)
    for (const Layout layout : {Layout::rows, Layout::columns, Layout::spread})
      for (const int threads : {1, 2}) {
        INFO("n " << s[1] << ", k " << s[2] << ", layout " << int(layout) << ", threads " << threads);
        const int before = num_threads();
        set_num_threads(threads);
        std::mt19937 engine(5);
        const Stored a = stored(s[0], s[2], Layout::rows, engine), b = stored(s[2], s[1], layout, engine);
        std::vector<float> bias(static_cast<std::size_t>(s[1]), 0.25f);
        const auto product = [&](std::int64_t rows, const ConstMatrix& left) {
          std::vector<float> c(static_cast<std::size_t>(rows * s[1]));
          cpu_backend::gemm_bf16(left, b.view(), bias.data(), 0, {c.data(), rows, s[1], s[1], 1});
          return c;
        };
        const std::vector<float> many = product(few + 1, a.view());  // b is packed before
        for (const std::int64_t rows : {few, few - 3, std::int64_t(13), std::int64_t(5)}) {
          const std::vector<float> some = product(rows, a.view().block(0, rows, 0, s[2]));
          CHECK((some == std::vector<float>(many.begin(), many.begin() + rows * s[1])));
        }
        std::vector<float> turned(static_cast<std::size_t>(few * s[2]));  // a of few rows that lies along its columns is not packed row by row
        for (std::int64_t i = 0; i < few; ++i)
          for (std::int64_t k = 0; k < s[2]; ++k) turned[static_cast<std::size_t>(k * few + i)] = a.view().data[i * a.matrix.row_stride + k];
        CHECK((product(few, {turned.data(), few, s[2], 1, few}) == std::vector<float>(many.begin(), many.begin() + few * s[1])));
        const std::uint32_t* packed = cpu_backend::pack_panels_bf16<cpu_backend::Packing::whole_b>(b.view());
        std::vector<float> c(static_cast<std::size_t>(few * s[1]));
        cpu_backend::gemm_bf16_few_rows(cpu_backend::pack_rows_bf16(a.view().block(0, few, 0, s[2])), b.view(), packed, bias.data(), 0,
                                        {c.data(), few, s[1], s[1], 1});
        CHECK((c == std::vector<float>(many.begin(), many.begin() + few * s[1])));
        set_num_threads(before);
      }
}
