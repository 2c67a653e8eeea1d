// backward(), grad(outputs, inputs), and what they refuse.
#include "helpers.hpp"
#include "tttlib/autograd/checkpoint.hpp"
#include "tttlib/autograd/custom.hpp"

using namespace ttt;

namespace {
/// The message of the GradError that `f` throws.
template <class F>
std::string refusal(const F& f) {
  try {
    f();
  } catch (const GradError& error) {
    return error.what();
  }
  return "";
}
}  // namespace

TEST_CASE("backward accumulates into leaves") {
  const NoLeaks leaks;
  auto x = tensor<double>({1, 2}).requires_grad();
  CHECK_FALSE(x.grad().defined());
  sum(x * x).backward();
  CHECK(has_values(x.grad(), {2, 4}));
  const auto held = x.grad();
  sum(x).backward();
  CHECK(has_values(x.grad(), {3, 5}));
  CHECK(has_values(held, {2, 4}));  // a gradient that somebody holds does not change under them
  CHECK_FALSE(x.grad().is_tracked());
  x.zero_grad();
  CHECK_FALSE(x.grad().defined());
  (x * 3.0).backward(tensor<double>({1, 10}));
  CHECK(has_values(x.grad(), {3, 30}));
}

TEST_CASE("gradients of leaves share memory with nothing") {
  const NoLeaks leaks;
  auto a = ones<double>({2, 2}).requires_grad(), b = ones<double>({2, 2}).requires_grad();
  sum(a + b).backward();  // the cotangent is one number, expanded, and reaches both
  CHECK(a.grad().is_contiguous());
  CHECK(a.grad().storage() != b.grad().storage());
  auto c = ones<double>({2}).requires_grad();
  const auto u = tensor<double>({1, 2});
  c.backward(u);
  CHECK(c.grad().storage() != u.storage());
  c.backward(u);
  CHECK(has_values(c.grad(), {2, 4}));
  CHECK(has_values(u, {1, 2}));
}

TEST_CASE("the same cotangent in two places is not summed into twice") {
  const NoLeaks leaks;
  auto a = tensor<double>({1, 2, 3}).requires_grad();
  const auto gradient = [&](const Tensor<double>& y, const Tensor<double>& u) {
    a.zero_grad();
    y.backward(u);
    return a.grad().to_vector();
  };
  using Values = std::vector<double>;
  CHECK(gradient(a + a, tensor<double>({1, 2, 3})) == Values{2, 4, 6});
  {
    const auto b = a * 1.0;
    CHECK(gradient((b + b) + (b + b), tensor<double>({1, 1, 1})) == Values{4, 4, 4});
  }
  {
    const auto b = a * 1.0;  // used whole and in parts
    const auto y = sum(b) + sum(slice(b, 0, 0, 2) * 10.0) + sum(slice(b, 0, 1, 3) * 100.0);
    CHECK(gradient(y, scalar(1.0)) == Values{11, 111, 101});
  }
  {
    const auto wide = expand(unsqueeze(a, 0), {2, 3});  // [2, 3]
    const auto y = sum(slice(wide, 0, 0, 1)) + sum(wide * 2.0) + sum(wide);
    CHECK(gradient(y, scalar(1.0)) == Values{7, 7, 7});
  }
  {
    // One cotangent reaches b, c and, unchanged, both summands; then b's own sum grows.
    const auto b = a * 1.0, c = a * 1.0;
    const auto y = (b + c) + b + b;
    CHECK(gradient(y, tensor<double>({1, 2, 3})) == Values{4, 8, 12});
  }
  {
    // The cotangent of `parts` is a view of its whole; the parts' sums must not write into it.
    const auto b = a * 1.0;
    const auto joined = cat(Tensors<double>{b, b}, 0);  // [6]
    CHECK(gradient(joined + joined, tensor<double>({1, 2, 3, 4, 5, 6})) == Values{10, 14, 18});
  }
}

TEST_CASE("parts of a tensor, some of them unused") {
  const NoLeaks leaks;
  auto x = reshape(arange<double>(0, 12), {2, 6}).detach();
  x.requires_grad();
  const Tensors<double> parts = split(x, {1, 2, 3}, 1);
  sum(parts[0] * 2.0 + sum(parts[2])).backward();
  CHECK(has_values(x.grad(), {2, 0, 0, 2, 2, 2, 2, 0, 0, 2, 2, 2}));
  const auto strided = [](const Tensor<double>& x) { return sum(square(slice(x, 0, 1, 6, 2))); };
  CHECK(has_values(grad(strided)(arange<double>(0, 6)), {0, 2, 0, 6, 0, 10}));
  const auto twice = [&](const Tensor<double>& x) { return sum(square(grad(strided)(x))); };
  CHECK(has_values(grad(twice)(arange<double>(0, 6)), {0, 8, 0, 24, 0, 40}));
}

TEST_CASE("a bf16 tensor that is used twice") {
  const NoLeaks leaks;
  auto x = tensor<float>({1, 2}).requires_grad();
  const auto half = cast<bf16>(x);
  sum(cast<float>(half) * cast<float>(half)).backward();
  CHECK(x.grad().to_vector() == std::vector<float>{2, 4});
  x.zero_grad();
  const auto again = cast<bf16>(x);
  sum(cast<float>(slice(again, 0, 0, 1)) + sum(cast<float>(again))).backward();
  CHECK(x.grad().to_vector() == std::vector<float>{2, 1});
}

TEST_CASE("a second sweep needs retain_graph") {
  const NoLeaks leaks;
  auto x = tensor<double>({1, 2}).requires_grad();
  const auto y = sum(x * x);
  y.backward({}, /*retain_graph=*/true);
  y.backward();
  CHECK(has_values(x.grad(), {4, 8}));
  CHECK_THROWS_WITH(y.backward(),
                    "ttt::backward: graph already released: the saved values of reshape are gone. "
                    "Hint: pass retain_graph to the first sweep");
  const auto z = sum(x * x);
  CHECK(has_values(grad(z, x, {.retain_graph = true}), {2, 4}));
  CHECK(has_values(grad(z, x), {2, 4}));
  CHECK_THROWS_WITH(grad(z, x), ContainsSubstring("graph already released"));
}

TEST_CASE("what rules hold goes as the sweep passes, though the result lives on") {
  auto x = tensor<double>({1, 2}).requires_grad();
  auto kept = std::make_shared<int>(0);
  const std::weak_ptr<int> of_rules = kept;
  const auto y = record<double>("one", 2 * x, {x}, [kept](const Call<double>& c) { return 2 * c.g; });
  const auto z = record_joint<double>("joint", 3 * y, {y}, [kept](const Call<double>& c, const std::vector<bool>&) {
    return Tensors<double>{3 * c.g};
  });
  kept = nullptr;
  sum(z).backward({}, /*retain_graph=*/true);
  CHECK(!of_rules.expired());
  const auto loss = sum(z);
  loss.backward();
  CHECK(of_rules.expired());
  CHECK(has_values(x.grad(), {12, 12}));

  kept = std::make_shared<int>(0);
  const std::weak_ptr<int> of_checkpoint = kept;
  const auto again = sum(checkpoint([kept](const Tensors<double>& t) { return 2 * t[0]; }, Tensors<double>{x}));
  kept = nullptr;
  again.backward();
  CHECK(of_checkpoint.expired());
}

TEST_CASE("grad(outputs, inputs) takes several of each, and any tracked tensor") {
  const NoLeaks leaks;
  auto a = tensor<double>({1, 2}).requires_grad(), b = tensor<double>({3, 4}).requires_grad();
  const auto p = a * b, s = sum(p);
  const Tensors<double> g = grad(Tensors<double>{s, p}, {a, b, p}, {scalar(1.0), tensor<double>({10, 100})});
  CHECK(has_values(g[0], {33, 404}));
  CHECK(has_values(g[1], {11, 202}));
  CHECK(has_values(g[2], {11, 101}));
  CHECK_FALSE(a.grad().defined());
}

TEST_CASE("create_graph records the sweep") {
  const NoLeaks leaks;
  auto x = tensor<double>({2}).requires_grad();
  const auto y = sum(x * x * x);
  const auto first = grad(y, x, {.create_graph = true});
  CHECK(first.is_tracked());
  const auto second = grad(sum(first), x, {.create_graph = true});
  CHECK(has_values(second, {12}));
  sum(second).backward();
  CHECK(has_values(x.grad(), {6}));
  const auto z = sum(x * x);
  CHECK_FALSE(grad(z, x).is_tracked());
}

TEST_CASE("unused inputs") {
  const NoLeaks leaks;
  auto x = tensor<double>({1, 2}).requires_grad(), other = tensor<double>({3}).requires_grad();
  CHECK(refusal([&] {
          grad(Tensors<double>{sum(x)}, {x, other});
        }) == "ttt::grad: no output depends on input 1 [1]. Hint: set allow_unused");
  const Tensors<double> g = grad(Tensors<double>{sum(x)}, {x, other}, {}, {.allow_unused = true});
  CHECK(has_values(g[0], {1, 1}));
  CHECK_FALSE(g[1].defined());
}

TEST_CASE("what cannot be differentiated is refused in one line") {
  const NoLeaks leaks;
  auto x = tensor<double>({1, 2}).requires_grad();
  const auto constant = tensor<double>({1});
  const auto square_of = [](const Tensor<double>& a) { return a * a; };
  CHECK(refusal([&] { (x * x).backward(); }) ==
        "ttt::backward: the tensor must be a scalar, it is [2]. Hint: pass a cotangent of that shape");
  CHECK(
      refusal([&] { constant.backward(); }) ==
      "ttt::backward: nothing to differentiate: [1] has no history. Hint: mark inputs with requires_grad()");
  CHECK_THROWS_AS((x * x).backward(constant), ShapeError);
  CHECK(refusal([&] {
          grad(square_of)(tensor<double>({1, 2}));
        }) ==
        "ttt::grad: the function must return a scalar, it returned [2]. "
        "Hint: vjp(f, xs, u) takes a cotangent of that shape");
  CHECK_THROWS_WITH(vjp(square_of, tensor<double>({1, 2}), constant),
                    "ttt::vjp: the cotangent's shape differs from the output's: cotangent [1], output [2]");
  CHECK(refusal([&] { grad(square_of)(Tensor<double>()); }) == "ttt::grad: argument 0 is undefined");
  CHECK(refusal([&] { grad([](const Tensor<double>&) { return Tensor<double>(); })(constant); }) ==
        "ttt::grad: the function returned an undefined tensor");
  CHECK(refusal([&] { grad(sum(x), constant); }) ==
        "ttt::grad: input 0 [1] is not tracked. Hint: mark it with requires_grad()");
  CHECK(refusal([&] { grad(constant, x); }) == "ttt::grad: output 0 [1] has no history");
  CHECK(refusal([&] {
          grad(Tensors<double>{sum(x)}, {x}, {constant, constant});
        }) == "ttt::grad: 1 outputs but 2 grad_outputs");
}

TEST_CASE("requires_grad is for leaves") {
  const NoLeaks leaks;
  auto x = tensor<double>({1, 2}).requires_grad();
  auto y = x * 2.0;
  CHECK(refusal([&] { y.requires_grad(); }) ==
        "ttt::requires_grad: not a leaf: [2] was made by mul_scalar. Hint: detach it first");
  CHECK_THROWS_AS(y.requires_grad(false), GradError);
  CHECK(refusal([] { Tensor<double>().requires_grad(); }) == "ttt::requires_grad: the tensor is undefined");
  sum(x).backward();
  x.requires_grad();  // already one: nothing is lost
  CHECK(x.grad().defined());
  x.requires_grad(false);
  CHECK_FALSE(x.is_tracked());
}

TEST_CASE("backward inside a function under grad or vjp is refused") {
  const NoLeaks leaks;
  auto w = tensor<double>({1}).requires_grad();
  const auto f = [&](const Tensor<double>& x) {
    sum(w * 2.0).backward();
    return sum(x);
  };
  const std::string message =
      "ttt::backward: called inside a function under grad or vjp. Hint: use grad(f)(x) there";
  CHECK(refusal([&] { grad(f)(tensor<double>({1})); }) == message);
  CHECK(refusal([&] { vjp(f, tensor<double>({1}), scalar(1.0)); }) == message);
  sum(w * 2.0).backward();  // and allowed again afterwards
  CHECK(has_values(w.grad(), {2}));
}

TEST_CASE("a sweep that needs an older version of a tensor says so") {
  const NoLeaks leaks;
  auto x = tensor<double>({1, 2}).requires_grad();
  const auto y = sum(x * x);
  {
    const NoGradGuard guard;
    assign(x, tensor<double>({5, 6}));
  }
  CHECK(refusal([&] { y.backward(); }) ==
        "ttt::mul: input [2] was changed in place after it was used. "
        "Hint: call backward before assign, or copy the tensor first");
  const auto e = exp(x);
  auto alias = e.detach();
  assign(alias, tensor<double>({0, 0}));
  CHECK_THROWS_WITH(sum(e).backward(), ContainsSubstring("ttt::exp: output [2] was changed in place"));
  const auto linear_only = sum(x + x);  // needs no values
  {
    const NoGradGuard guard;
    assign(x, tensor<double>({7, 8}));
  }
  linear_only.backward();
  CHECK(has_values(x.grad(), {2, 2}));
  CHECK_THROWS_WITH(assign(x, tensor<double>({1, 1})),
                    "ttt::assign: in-place change of a tracked tensor [2]. Hint: do it under NoGradGuard");
}

TEST_CASE("a missing or wrong rule throws and names op and argument") {
  const NoLeaks leaks;
  const auto x = tensor<double>({1, 2}).requires_grad();
  const auto with = [&](const Tensors<double>& returned) {
    const auto op = custom_op<double>(
        "strange", [](const Tensors<double>& xs) { return xs[0] + xs[1]; },
        [=](const Tensors<double>&, const Tensor<double>&, const Tensor<double>&) { return returned; });
    return refusal([&] { sum(op(x, x)).backward(); });
  };
  const auto fine = tensor<double>({1, 1});
  CHECK(with({fine, Tensor<double>()}) == "ttt::strange: no rule for the gradient of argument 1 [2]");
  CHECK(with({fine}) == "ttt::strange: the rule returned 1 cotangents for 2 inputs");
  CHECK(with({fine, tensor<double>({1})}) ==
        "ttt::strange: the rule of argument 1 returned [1] for an input [2]");
  CHECK(with({fine, fine}) == "");
  const auto reads_too_much =
      record<double>("forgetful", x + x, {x}, [](const Call<double>& c) { return c.in(0); });
  CHECK(refusal([&] { sum(reads_too_much).backward(); }) ==
        "ttt::forgetful: the rule asks for input [2], which the op did not save. Hint: declare it with "
        "saved(...) in record");
}

TEST_CASE("messages of a sweep carry the module path of the forward") {
  const NoLeaks leaks;
  auto x = tensor<double>({1, 2}).requires_grad();
  Tensor<double> y;
  {
    const Scope model("model");
    const Scope layer("mlp");
    y = sum(x * x);
  }
  {
    const NoGradGuard guard;
    assign(x, tensor<double>({5, 6}));
  }
  CHECK_THROWS_WITH(y.backward(), ContainsSubstring("\n  in model.mlp"));
  CHECK(current_trail() == nullptr);
}

TEST_CASE("a hook is told of each leaf when its gradient is whole, while the sweep goes on") {
  const NoLeaks leaks;
  auto x = randn<double>({3, 4});
  auto a = randn<double>({4, 4}).requires_grad(), b = randn<double>({4, 4}).requires_grad(), c = randn<double>({4, 4}).requires_grad();
  auto unused = ones<double>({2}).requires_grad();
  const auto loss = [&] {
    const auto hidden = matmul(matmul(x, a), b);
    return sum(square(matmul(checkpoint([b](const Tensor<double>& y) { return exp(matmul(y, b)); }, hidden), c)));  // b is used twice
  };
  const std::vector<Tensor<double>*> leaves{&a, &b, &c};
  loss().backward();
  Tensors<double> expected;
  for (auto* leaf : leaves) expected.push_back(leaf->grad()), leaf->zero_grad();

  std::vector<const Node*> told;
  backward(loss(), {}, false, [&](const Node& leaf) {
    for (std::size_t i = 0; i < leaves.size(); ++i)
      if (leaves[i]->node().get() == &leaf) CHECK(same_bits(leaves[i]->grad(), expected[i]));
    told.push_back(&leaf);
    CHECK(a.grad().defined() == (told.size() == 3));
  });
  CHECK(told == std::vector<const Node*>{c.node().get(), b.node().get(), a.node().get()});
  CHECK_FALSE(unused.grad().defined());

  told.clear();
  backward(loss(), {}, false, [&](const Node& leaf) { told.push_back(&leaf); });  // on top of what is there
  CHECK(told.size() == 3);
  for (std::size_t i = 0; i < leaves.size(); ++i) CHECK(same_bits(leaves[i]->grad(), expected[i] + expected[i]));
  told.clear();
  auto leaf = ones<double>({2}).requires_grad();
  const auto u = tensor<double>({1, 2});
  backward(leaf, u, false, [&](const Node& node) { told.push_back(&node); });
  CHECK(told == std::vector<const Node*>{leaf.node().get()});
  CHECK(has_values(leaf.grad(), {1, 2}));
  CHECK(leaf.grad().storage() != u.storage());
}

TEST_CASE("gradients that a hook sees share memory with nothing, and what it throws ends the sweep") {
  const NoLeaks leaks;
  auto a = ones<double>({2, 2}).requires_grad(), b = ones<double>({2, 2}).requires_grad(), c = ones<double>({2, 2}).requires_grad();
  backward(sum((a + b) * c), {}, false, [&](const Node& leaf) {
    for (auto* each : {&a, &b, &c})
      if (each->node().get() == &leaf) {  // as a sum over ranks does
        auto g = each->grad();
        assign(g, full<double>({2, 2}, 7));
      }
  });
  for (auto* each : {&a, &b, &c}) CHECK(has_values(each->grad(), {7, 7, 7, 7}));
  CHECK_THROWS_WITH(backward(sum(a + b), {}, false, [](const Node&) { fail<Error>("hook", "enough"); }), ContainsSubstring("ttt::hook: enough"));
  CHECK_FALSE(in_sweep());
}

TEST_CASE("backward that reaches no leaf is an error") {
  Tensor<double> kept;
  const auto f = [&](const Tensor<double>& x) {
    kept = x * x;
    return sum(kept);
  };
  grad(f)(tensor<double>({1, 2}));
  REQUIRE(kept.is_tracked());
  CHECK_THROWS_WITH(kept.backward(tensor<double>({1, 1})),
                    "ttt::backward: no tensor with requires_grad() is reached from the output [2], made by mul. "
                    "Hint: what a function under grad or vjp computes is differentiated there, not afterwards");
}
