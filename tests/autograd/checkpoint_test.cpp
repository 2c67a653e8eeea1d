// checkpoint: the same values and gradients as without it, to second order, with less memory.
#include "tttlib/autograd/checkpoint.hpp"

#include "helpers.hpp"

using namespace ttt;

namespace {
/// Two layers with a parameter each and a random mask, as in a block with dropout.
struct Block {
  Tensor<double> w1, w2;
  Tensor<double> operator()(const Tensor<double>& x) const {
    const auto mask =
        where(gt(rand<double>(x.shape()), full<double>(x.shape(), 0.3)), ones_like(x), zeros_like(x));
    return matmul(tanh(matmul(x * mask, w1)), w2);
  }
};

struct Case {
  Tensor<double> x = randn<double>({4, 3}), w1 = randn<double>({3, 3}), w2 = randn<double>({3, 3});

  /// Σ of squares after two blocks that share parameters, checkpointed or not.
  static Tensor<double> loss(const Tensors<double>& p, bool recompute) {
    manual_seed(21);
    const Block block{p[1], p[2]};
    Tensor<double> h = recompute ? checkpoint(block, p[0]) : block(p[0]);
    h = recompute ? checkpoint(block, h) : block(h);
    return sum(square(h)) + sum(rand<double>({2}));  // and the counter goes on where it was
  }
  Tensors<double> all() const { return {x, w1, w2}; }
};
}  // namespace

TEST_CASE("checkpoint gives the same value and gradients, captured parameters included") {
  const NoLeaks leaks;
  manual_seed(20);
  const Case c;
  const auto plain = value_and_grad([](const Tensors<double>& p) { return Case::loss(p, false); })(c.all());
  const auto again = value_and_grad([](const Tensors<double>& p) { return Case::loss(p, true); })(c.all());
  CHECK(same_bits(plain.first, again.first));
  for (std::size_t i = 0; i < 3; ++i) CHECK(difference(plain.second[i], again.second[i]) < 1e-14);

  Tensors<double> leaves;
  for (const auto& p : c.all()) leaves.push_back(clone(p).requires_grad());
  Case::loss(leaves, true).backward();
  for (std::size_t i = 0; i < 3; ++i) CHECK(difference(leaves[i].grad(), plain.second[i]) < 1e-14);
}

TEST_CASE("checkpoint is differentiable again") {
  const NoLeaks leaks;
  manual_seed(22);
  const Case c;
  const Tensors<double> directions{randn<double>({4, 3}), randn<double>({3, 3}), randn<double>({3, 3})};
  const auto second = [&](bool recompute) {
    return grad([&](const Tensors<double>& p) {
      const Tensors<double> g = grad([&](const Tensors<double>& q) { return Case::loss(q, recompute); })(p);
      return sum(g[0] * directions[0]) + sum(g[1] * directions[1]) + sum(g[2] * directions[2]);
    })(c.all());
  };
  const Tensors<double> plain = second(false), again = second(true);
  for (std::size_t i = 0; i < 3; ++i) CHECK(difference(plain[i], again[i]) < 1e-12);
}

TEST_CASE("checkpoint puts the random counter back") {
  const NoLeaks leaks;
  manual_seed(23);
  auto x = tensor<double>({1, 2}).requires_grad();
  const auto y = sum(checkpoint([](const Tensor<double>& a) { return a * rand<double>({2}); }, x));
  rand<double>({5});
  const std::uint64_t stream = default_generator().next_stream;
  manual_seed(24);
  rand<double>({5});
  y.backward();  // replays the old seed
  CHECK(default_generator().next_stream == 1);
  CHECK(default_generator().seed == 24);
  manual_seed(23);
  CHECK(same_bits(x.grad(), rand<double>({2})));
  CHECK(stream == 2);
}

TEST_CASE("a tensor both captured and passed to checkpoint gets both gradients, once each") {
  const NoLeaks leaks;
  auto x = tensor<double>({3}).requires_grad();
  const auto y = x * 1.0;
  sum(checkpoint([y](const Tensor<double>& a) { return a * y; }, y)).backward();  // x²
  CHECK(has_values(x.grad(), {6}));
  // Captured tensors that depend on each other: x directly, and y = x through its own node.
  x.zero_grad();
  const auto z = x * 1.0;
  sum(checkpoint([x, z](const Tensor<double>& a) { return a * x * z; }, tensor<double>({5})))
      .backward();  // 5x²
  CHECK(has_values(x.grad(), {30}));
}

TEST_CASE("an inner step under checkpoint") {
  const NoLeaks leaks;
  manual_seed(25);
  const TttExample step;
  const Tensors<double> expected = grad(TttExample::loss)(step.all());
  const Tensors<double> found =
      grad([](const Tensors<double>& x) { return checkpoint(TttExample::loss, x); })(step.all());
  for (std::size_t i = 0; i < 4; ++i) CHECK(difference(found[i], expected[i]) < 1e-14);
}

TEST_CASE("checkpoint keeps inputs only") {
  const NoLeaks leaks;
  auto x = ones<double>({1000}).requires_grad();
  const auto deep = [](const Tensor<double>& a) {
    Tensor<double> y = a;
    for (int i = 0; i < 10; ++i) y = exp(y * 0.1);
    return sum(y);
  };
  const std::size_t before = HostAllocator::instance().bytes_in_use();
  const auto y = checkpoint(deep, x);
  CHECK(HostAllocator::instance().bytes_in_use() < before + 1000);
  CHECK(live_nodes() == 2);  // x and the checkpoint
  y.backward();
  CHECK(difference(x.grad(), grad(deep)(x.detach())) < 1e-15);
}

TEST_CASE("checkpoint of constants, without recording, and of functions that ignore an argument") {
  const NoLeaks leaks;
  const auto f = [](const Tensor<double>& a) { return a * 2.0; };
  CHECK_FALSE(checkpoint(f, tensor<double>({1})).is_tracked());
  auto x = tensor<double>({1}).requires_grad(), unused = tensor<double>({1}).requires_grad();
  CHECK_FALSE(no_grad([&] { return checkpoint(f, x); }).is_tracked());
  const auto first = [](const Tensors<double>& p) { return sum(p[0] * p[0]); };
  const auto y = checkpoint(first, Tensors<double>{x, unused});
  const Tensors<double> g = grad(Tensors<double>{y}, {x, unused}, {}, {.allow_unused = true});
  CHECK(has_values(g[0], {2}));
  CHECK_FALSE(g[1].defined());
}

TEST_CASE("checkpoint refuses what would give a silently wrong gradient") {
  const NoLeaks leaks;
  auto x = tensor<double>({1}).requires_grad(), w = tensor<double>({2}).requires_grad();
  auto current = w;
  const auto by_reference = [&current](const Tensor<double>& a) { return sum(a + current); };
  const auto y = checkpoint(by_reference, x);
  current = tensor<double>({3}).requires_grad();
  CHECK_THROWS_WITH(
      y.backward(),
      ContainsSubstring("ttt::checkpoint: run again, the function uses other captured tensors"));
  const auto z = checkpoint([w](const Tensor<double>& a) { return sum(a + w); }, x);
  {
    const NoGradGuard guard;
    assign(w, tensor<double>({9}));
  }
  CHECK_THROWS_WITH(z.backward(),
                    ContainsSubstring("ttt::checkpoint: captured tensor [1] was changed in place"));
  const auto inside = checkpoint([w](const Tensor<double>& a) { return sum(a * w); }, x);
  inside.backward();
  CHECK_THROWS_WITH(inside.backward(), ContainsSubstring("graph already released"));
}
