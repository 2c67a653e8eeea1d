// Long chains and shared subexpressions: no recursion, linear work, nothing kept.
#include <ctime>

#include "helpers.hpp"
#include "tttlib/autograd/custom.hpp"
#include "tttlib/autograd/sweep.hpp"

using namespace ttt;

namespace {
/// Builds, sweeps and drops a chain of n nodes; returns the processor time it took.
double chain_seconds(int n) {
  const std::clock_t begin = std::clock();
  {
    auto x = tensor<double>({1}).requires_grad();
    Tensor<double> y = x;
    for (int i = 0; i < n; ++i) y = y + 1.0;
    REQUIRE(live_nodes() == n + 1);
    REQUIRE(y.item() == n + 1);
    y.backward();
    REQUIRE(has_values(x.grad(), {1}));
  }
  return static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
}
}  // namespace

TEST_CASE("a chain of 300,000 nodes: forward, sweep and destruction without overflow, in linear time") {
  const NoLeaks leaks;
  const double small = chain_seconds(30000), large = chain_seconds(300000);
  CHECK(large < 40 * small);  // 10 is linear, 100 quadratic
}

TEST_CASE("a long chain that is dropped without a sweep") {
  const NoLeaks leaks;
  auto x = tensor<double>({1}).requires_grad();
  Tensor<double> y = x;
  for (int i = 0; i < 300000; ++i) y = y * y;  // two edges to each node
  y = {};
  CHECK(live_nodes() == 1);
}

TEST_CASE("a long chain inside a function, and a gradient of its gradient") {
  const NoLeaks leaks;
  const auto f = [](const Tensor<double>& x) {
    Tensor<double> y = x * x;
    for (int i = 0; i < 20000; ++i) y = y * 1.0;
    return sum(y);
  };
  CHECK(has_values(grad([&](const Tensor<double>& x) { return sum(grad(f)(x)); })(tensor<double>({3})), {2}));
}

TEST_CASE("shared subexpressions cost linear time") {
  const NoLeaks leaks;
  constexpr int depth = 1000;
  const auto doubling = [](const Tensor<double>& x) {
    Tensor<double> y = x;
    for (int i = 0; i < depth; ++i) y = y + y;  // 2^depth paths
    return sum(y);
  };
  const std::uint64_t before = node_counter();
  CHECK(has_values(grad(doubling)(tensor<double>({1})), {std::pow(2.0, depth)}));
  CHECK(node_counter() - before <= depth + 3);
  // Recorded, the sweep makes one sum per node; swept again, still no path is walked twice.
  const auto outer = [&](const Tensor<double>& x) { return sum(grad(doubling)(x) * x); };
  const std::uint64_t middle = node_counter();
  CHECK(has_values(grad(outer)(tensor<double>({1})), {std::pow(2.0, depth)}));
  CHECK(node_counter() - middle <= 4 * depth);
}

TEST_CASE("each node's rule runs once per sweep") {
  const NoLeaks leaks;
  int calls = 0;
  const auto product = custom_op<double>(
      "product", [](const Tensors<double>& x) { return x[0] * x[1]; },
      [&calls](const Tensors<double>& x, const Tensor<double>&, const Tensor<double>& g) {
        ++calls;
        return Tensors<double>{g * x[1], g * x[0]};
      });
  const auto f = [&](const Tensor<double>& x) {
    Tensor<double> y = x;
    for (int i = 0; i < 1000; ++i) y = product(y, y);
    return sum(y);
  };
  CHECK(has_values(grad(f)(tensor<double>({1})), {std::pow(2.0, 1000)}));
  CHECK(calls == 1000);
}

TEST_CASE("a sweep leaves out what leads to no target, and frees saved values as it passes") {
  const NoLeaks leaks;
  int calls = 0;
  const auto counted = custom_op<double>(
      "counted", [](const Tensors<double>& x) { return x[0] * 2.0; },
      [&calls](const Tensors<double>&, const Tensor<double>&, const Tensor<double>& g) {
        ++calls;
        return Tensors<double>{g * 2.0};
      });
  auto a = tensor<double>({1}).requires_grad(), b = tensor<double>({1}).requires_grad();
  const auto y = counted(a) + b;
  CHECK(has_values(grad(sum(y), b), {1}));
  CHECK(calls == 0);

  auto x = ones<double>({1000}).requires_grad();
  const std::size_t before = HostAllocator::instance().bytes_in_use();
  const auto z = sum(exp(x));
  CHECK(HostAllocator::instance().bytes_in_use() >= before + 8000);
  z.backward();
  x.zero_grad();
  CHECK(HostAllocator::instance().bytes_in_use() < before + 8000);  // z is left, exp's output is not
}

TEST_CASE("an edge keeps a value only where the rule declared it") {
  const NoLeaks leaks;
  auto x = ones<double>({1000}).requires_grad();
  const auto constant = ones<double>({1000});
  const auto kept = [&](const auto& op) {
    const Tensor<double> y = op(x * 1.0);
    std::size_t bytes = y.node()->output.saved.defined() ? y.node()->output.saved.storage()->bytes() : 0;
    for (const Edge& edge : y.node()->inputs)
      if (edge.saved.defined()) bytes += edge.saved.storage()->bytes();
    return bytes / 8;
  };
  using X = Tensor<double>;
  CHECK(kept([](const X& a) { return a + a; }) == 0);
  CHECK(kept([](const X& a) { return a * 2.0; }) == 0);
  CHECK(kept([](const X& a) { return neg(a); }) == 0);
  CHECK(kept([&](const X& a) { return a * constant; }) == 1000);  // the constant, not a
  CHECK(kept([](const X& a) { return a * a; }) == 2000);
  CHECK(kept([](const X& a) { return exp(a); }) == 1000);
  CHECK(kept([](const X& a) { return silu(a); }) == 1000);
  CHECK(kept([](const X& a) { return slice(a, 0, 0, 10); }) == 0);
  CHECK(kept([](const X& a) { return reshape(a, {10, 100}); }) == 0);
  CHECK(kept([](const X& a) { return sum(a); }) == 0);
}
