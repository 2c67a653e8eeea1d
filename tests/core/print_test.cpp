#include "tttlib/core/print.hpp"

#include <limits>

#include "catch.hpp"
#include "tttlib/ops/create.hpp"

using namespace ttt;

TEST_CASE("numbers line up") {
  CHECK(to_string(tensor<float>({1, 2, 3})) == "[1. 2. 3.]  float32 [3]");
  CHECK(to_string(from_data<double>({1, 2.5, -3, 4}, {2, 2})) ==
        "[[ 1.0  2.5]\n"
        " [-3.0  4.0]]  float64 [2, 2]");
  CHECK(to_string(tensor<double>({0.1, 1.0 / 3, -10.25})) == "[  0.1000   0.3333 -10.2500]  float64 [3]");
  CHECK(to_string(scalar(2.5)) == "2.5  float64 []");
}

TEST_CASE("tiny and huge numbers are scientific, special ones have names") {
  CHECK(to_string(tensor<double>({1e-5, -2e-7})) == "[ 1.0000e-05 -2.0000e-07]  float64 [2]");
  CHECK(to_string(tensor<double>({1e9, 1})) == "[1.0000e+09 1.0000e+00]  float64 [2]");
  CHECK(to_string(tensor<double>({1e6, 1})) == "[1000000.       1.]  float64 [2]");
  const double inf = std::numeric_limits<double>::infinity();
  CHECK(to_string(tensor<double>({1000.5, 1e-5, 0.25})) == "[1.0005e+03 1.0000e-05 2.5000e-01]  float64 [3]");
  CHECK(to_string(tensor<double>({1234567.5, 1})) == "[1.2346e+06 1.0000e+00]  float64 [2]");
  CHECK(to_string(tensor<double>({1234.5, -0.25})) == "[1234.50   -0.25]  float64 [2]");
  CHECK(to_string(tensor<double>({-std::nan(""), 1})) == "[nan  1.]  float64 [2]");
  CHECK(to_string(tensor<double>({1.5, inf, -inf, std::nan("")})) == "[ 1.5  inf -inf  nan]  float64 [4]");
  CHECK(to_string(tensor<double>({0, 0})) == "[0. 0.]  float64 [2]");
}

TEST_CASE("integers and bf16") {
  CHECK(to_string(arange<std::int64_t>(8, 12)) == "[ 8  9 10 11]  int64 [4]");
  CHECK(to_string(from_data<bf16>({bf16(0.1f), bf16(-2.0f)}, {2})) == "[ 0.1001 -2.0000]  bfloat16 [2]");
  const std::int64_t large = std::numeric_limits<std::int64_t>::max();  // does not fit a double
  CHECK(to_string(scalar(large)) == "9223372036854775807  int64 []");
}

TEST_CASE("three axes, views, empty and undefined tensors") {
  CHECK(to_string(reshape(arange<std::int64_t>(0, 8), {2, 2, 2})) ==
        "[[[0 1]\n"
        "  [2 3]]\n"
        "\n"
        " [[4 5]\n"
        "  [6 7]]]  int64 [2, 2, 2]");
  CHECK(to_string(transpose(reshape(arange<std::int64_t>(0, 6), {2, 3}))) ==
        "[[0 3]\n"
        " [1 4]\n"
        " [2 5]]  int64 [3, 2]");
  CHECK(to_string(flip(arange<std::int64_t>(0, 3), 0)) == "[2 1 0]  int64 [3]");
  CHECK(to_string(zeros({0, 3})) == "[]  float32 [0, 3]");
  CHECK(to_string(zeros({2, 0})) == "[[]\n []]  float32 [2, 0]");
  CHECK(to_string(Tensor<float>()) == "undefined tensor");
}

TEST_CASE("large tensors are summarised") {
  CHECK(to_string(arange<std::int64_t>(0, 1001)) == "[   0    1    2 …  998  999 1000]  int64 [1001]");
  CHECK(to_string(reshape(arange<std::int64_t>(0, 2000), {1000, 2})) ==
        "[[   0    1]\n"
        " [   2    3]\n"
        " [   4    5]\n"
        " …\n"
        " [1994 1995]\n"
        " [1996 1997]\n"
        " [1998 1999]]  int64 [1000, 2]");
  const std::string text =
      to_string(arange<std::int64_t>(100, 1100));  // 1000 are shown in full, over several lines
  CHECK(text.find("…") == std::string::npos);
  std::size_t longest = 0;
  for (std::size_t at = 0, end = 0; at < text.size(); at = end + 1) {
    end = std::min(text.find('\n', at), text.size());
    longest = std::max(longest, end - at);
  }
  CHECK(longest <= 120);  // a line of 100, and the tail
}

TEST_CASE("many lines without numbers are summarised") {
  CHECK(to_string(zeros<double>({2, 0})) == "[[]\n []]  float64 [2, 0]");
  CHECK(to_string(zeros<double>({300000000, 0})) == "[[]\n []\n []\n …\n []\n []\n []]  float64 [300000000, 0]");
}

TEST_CASE("whatever has operator<< can be printed") {
  std::ostringstream out;
  out << tensor<double>({1, 2}) << '\n' << Tensors<double>{scalar(1.0), scalar(2.0)};
  CHECK(out.str() == "[1. 2.]  float64 [2]\n1.  float64 []\n2.  float64 []");
  print(true);
  print(0.1);
  print("text");
  print(tensor<double>({1, 2}));
}
