// Reductions over axes.
#include <algorithm>
#include <cmath>

#include "op_case.hpp"

namespace {
using namespace ops_test;
using Values = std::vector<double>;

double total(const Values& v) {
  double s = 0;
  for (double x : v) s += x;
  return s;
}
double variance(const Values& v, double correction) {
  const double n = static_cast<double>(v.size()), m = total(v) / n;
  double s = 0;
  for (double x : v) s += (x - m) * (x - m);
  return s / (n - correction);
}
double length(const Values& v) {
  double s = 0;
  for (double x : v) s += x * x;
  return std::sqrt(s);
}
double log_sum_exp(const Values& v) {
  double s = 0;
  for (double x : v) s += std::exp(x);
  return std::log(s);
}

std::vector<OpCase> reductions() {
  const std::vector<Tensors<double>> threes{
      {normal({2, 3, 4})}, {strided(normal({2, 3, 4}))}, {normal({1, 3, 1})}, {normal({5, 1, 70})}};
  // Over an axis of length 1 the norm is |x|, with a kink at 0.
  const std::vector<Tensors<double>> off_kinks{{normal({2, 3, 4})}, {strided(normal({2, 3, 4}))}, {normal({1, 3, 1})}, {off_zero({5, 1, 70})}};
  const auto with = [](std::vector<Tensors<double>> inputs, const Tensor<double>& more) {
    inputs.push_back({more});
    return inputs;
  };
  const std::vector<Tensors<double>> apart{
      {spaced({2, 3, 4})}, {strided(spaced({2, 3, 4}))}, {spaced({1, 3, 1})}, {spaced({3, 1, 40})}};
  return {
      op_case(
          "sum", [](const auto& x) { return sum(x[0]); }, reducing({}, false, total),
          with(with(threes, normal({})), normal({0, 2, 3})), 3),
      op_case(
          "sum_02",
          [](const auto& x) {
            return sum(x[0], {0, -1});
          },
          reducing({0, 2}, false, total), with(threes, normal({2, 0, 3})), 3),
      op_case(
          "sum_1_kept", [](const auto& x) { return sum(x[0], {1}, true); }, reducing({1}, true, total),
          with(threes, normal({2, 0, 3})), 3),
      op_case(
          "mean",
          [](const auto& x) {
            return mean(x[0], {1, 2});
          },
          reducing({1, 2}, false, [](const Values& v) { return total(v) / static_cast<double>(v.size()); }),
          with(threes, normal({0, 2, 3})), 3),
      op_case(
          "var", [](const auto& x) { return var(x[0], {1}, true); },
          reducing({1}, true, [](const Values& v) { return variance(v, 1); }),
          {{normal({2, 3, 4})}, {strided(normal({2, 3, 4}))}, {normal({0, 2, 3})}, {normal({1, 2, 1})}}, 3),
      op_case(
          "var_biased", [](const auto& x) { return var(x[0], {}, false, 0); },
          reducing({}, false, [](const Values& v) { return variance(v, 0); }), threes, 3),
      op_case(
          "amax",
          [](const auto& x) {
            return amax(x[0], {0, 2});
          },
          reducing({0, 2}, false, [](const Values& v) { return *std::max_element(v.begin(), v.end()); }),
          apart),
      op_case(
          "amin", [](const auto& x) { return amin(x[0], {1}, true); },
          reducing({1}, true, [](const Values& v) { return *std::min_element(v.begin(), v.end()); }), apart),
      op_case(
          "max", [](const auto& x) { return max(x[0], 1); },
          reducing({1}, false, [](const Values& v) { return *std::max_element(v.begin(), v.end()); }), apart,
          3),
      op_case(
          "min", [](const auto& x) { return min(x[0], -1, true); },
          reducing({2}, true, [](const Values& v) { return *std::min_element(v.begin(), v.end()); }), apart),
      op_case(
          "norm", [](const auto& x) { return norm(x[0], {1}, true); }, reducing({1}, true, length),
          with(off_kinks, normal({0, 2, 3})), 3, 1e-5, 2, 1),
      op_case(
          "norm_all", [](const auto& x) { return norm(x[0]); }, reducing({}, false, length),
          with(threes, normal({})), 3, 1e-5, 2, 1),
      op_case(
          "logsumexp", [](const auto& x) { return logsumexp(x[0], 1); }, reducing({1}, false, log_sum_exp),
          threes, 3),
      op_case(
          "logsumexp_kept", [](const auto& x) { return logsumexp(x[0], -1, true); },
          reducing({2}, true, log_sum_exp), threes),
      op_case(
          "cumsum", [](const auto& x) { return cumsum(x[0], 1); },
          along(1,
                [](Values v) {
                  for (std::size_t i = 1; i < v.size(); ++i) v[i] += v[i - 1];
                  return v;
                }),
          with(threes, normal({2, 0, 3})), 3),
      op_case(
          "cumsum_reverse", [](const auto& x) { return cumsum(x[0], -1, true); },
          along(2,
                [](Values v) {
                  for (std::size_t i = v.size() - 1; i-- > 0;) v[i] += v[i + 1];
                  return v;
                }),
          threes),
  };
}
TTT_OP_TABLE("reductions", reductions)

TEST_CASE("ops: argmax and argmin name the first extremum") {
  const auto x = from_data<double>({1, 5, 5, 0, 0, 2}, {2, 3});
  CHECK(argmax(x).to_vector() == std::vector<std::int64_t>{1, 2});
  CHECK(argmin(x, 0).to_vector() == std::vector<std::int64_t>{1, 1, 1});
  CHECK(argmin(x, 1, true).shape() == Shape{2, 1});
  CHECK(argmax(strided(x)).to_vector() == std::vector<std::int64_t>{1, 2});
  CHECK(argmax(tensor<double>({1, NAN, 3})).item() == 1);  // a NaN wins, as everywhere
}

TEST_CASE("ops: long sums are the same at any number of threads") {
  const auto x = cast<float>(normal({3, 70001}));
  const int before = num_threads();
  std::vector<std::vector<float>> results;
  for (int threads : {1, 2, 5}) {
    set_num_threads(threads);
    results.push_back(sum(x).to_vector());
    for (float v : sum(x, {1}).to_vector()) results.back().push_back(v);
    for (float v : sum(transpose(x), {0}).to_vector()) results.back().push_back(v);
  }
  set_num_threads(before);
  CHECK(results[0] == results[1]);
  CHECK(results[0] == results[2]);
}

}  // namespace
