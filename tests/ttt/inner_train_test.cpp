// The TTT layer: its two forms agree, its invariants hold, its outer gradients are exact.
#include "catch.hpp"
#include "tttlib/autograd/backward.hpp"
#include "tttlib/testing/check_grads.hpp"
#include "tttlib/testing/compare.hpp"
#include "tttlib/ttt/ttt_block.hpp"

using namespace ttt;

namespace {

struct Data {
  Tensor<double> q, k, v;  // [B, H, N, d]
  Data(std::int64_t B, std::int64_t H, std::int64_t N, std::int64_t d)
      : q(randn<double>({B, H, N, d})), k(randn<double>({B, H, N, d})), v(randn<double>({B, H, N, d})) {}
};

Tensor<double> permute_tokens(const Tensor<double>& x) { return flip(x, -2); }

/// Output of one layer and the gradients of a random cotangent for (q, k, v, w…).
Tensors<double> output_and_gradients(const Function<double>& layer, const Tensors<double>& xs, const Tensor<double>& u) {
  Tensors<double> all = vjp(layer, xs, u);
  all.push_back(layer(xs));
  return all;
}

}  // namespace

TEST_CASE("closed form of the GLU heads equals the nested definition, with first and second derivatives") {
  manual_seed(1);
  const std::int64_t B = 2, H = 3, d = GENERATE(1, 4, 5);
  const std::int64_t N = GENERATE(1, 6);
  const Data data(B, H, N, d);
  const Tensors<double> w0{randn<double>({H, d, d}), randn<double>({H, d, d})};
  const InnerModel<double> model = inner::glu<double>(d);
  const Function<double> nested = [&](const Tensors<double>& x) {
    return model(x[0], inner_train<double>(model, {x[3], x[4]}, x[1], x[2], {.loss = losses::block_dot, .clip = true}));
  };
  const Function<double> closed = [&](const Tensors<double>& x) {
    return model(x[0], closed_form::glu_step<double>({x[3], x[4]}, x[1], x[2], 1.0));
  };
  const Tensors<double> xs{data.q, data.k, data.v, w0[0], w0[1]};
  const Tensor<double> u = randn<double>({B, H, N, d});
  const Tensors<double> a = output_and_gradients(nested, xs, u), b = output_and_gradients(closed, xs, u);
  for (std::size_t i = 0; i < a.size(); ++i) CHECK(relative_error(a[i], b[i]) < 1e-12);

  const auto second = [&](const Function<double>& layer) {
    const Function<double> first = [&](const Tensors<double>& x) {
      const Tensors<double> g = vjp(layer, x, u);
      Tensor<double> total = sum(square(g[0]));
      for (std::size_t i = 1; i < g.size(); ++i) total = add(total, sum(square(g[i])));
      return total;
    };
    return grad(first)(xs);
  };
  const Tensors<double> c = second(nested), e = second(closed);
  for (std::size_t i = 0; i < c.size(); ++i) CHECK(relative_error(c[i], e[i]) < 1e-10);
}

TEST_CASE("closed form of the convolution head equals the nested definition") {
  manual_seed(2);
  const std::int64_t B = 2, h = GENERATE(1, 3), w = 5, d = 4;
  const Tensor<double> q = randn<double>({B, h, w, d}), k = randn<double>({B, h, w, d}), v = randn<double>({B, h, w, d});
  const Tensor<double> w3 = randn<double>({d, 1, 3, 3}), u = randn<double>({B, h, w, d});
  const InnerModel<double> model = inner::dwconv3x3<double>(d, h, w);
  const Function<double> nested = [&](const Tensors<double>& x) {
    const Shape tokens{B, 1, h * w, d};
    const Tensors<double> trained = inner_train<double>(model, {unsqueeze(x[3], 0)}, reshape(x[1], tokens), reshape(x[2], tokens),
                                                        {.loss = losses::block_dot, .clip = true});
    return reshape(model(reshape(x[0], tokens), trained), x[0].shape());
  };
  const Function<double> closed = [&](const Tensors<double>& x) {
    return depthwise_conv2d(x[0], closed_form::dwconv3x3_step(x[3], x[1], x[2], 1.0), {.padding = 1});
  };
  const Tensors<double> xs{q, k, v, w3};
  const Tensors<double> a = output_and_gradients(nested, xs, u), b = output_and_gradients(closed, xs, u);
  for (std::size_t i = 0; i < a.size(); ++i) CHECK(relative_error(a[i], b[i]) < 1e-12);
  CHECK(check_grads(closed, xs, 2));
}

TEST_CASE("outer gradients are exact to order 3 through two inner steps of a model of depth 2") {
  manual_seed(3);
  const std::int64_t d = 3;
  const Data data(2, 1, 4, d);
  const InnerModel<double> model = inner::mlp<double>(d, 2);
  const Tensors<double> xs{data.q, data.k, data.v, randn<double>({1, d, 2}), randn<double>({1, 2, d})};
  const auto layer = [&](std::int64_t epochs, std::int64_t batches, bool clip) {
    return Function<double>([=, &model](const Tensors<double>& x) {
      return model(x[0], inner_train<double>(model, {x[3], x[4]}, x[1], x[2],
                                             {.loss = losses::mse, .rate = 0.7, .epochs = epochs, .batches = batches, .clip = clip}));
    });
  };
  const GradCheck epochs = check_grads(layer(2, 1, false), xs, 3);
  INFO(epochs);
  CHECK(epochs);
  const GradCheck batches = check_grads(layer(1, 2, true), xs, 3);
  INFO(batches);
  CHECK(batches);
}

TEST_CASE("backward, grad(outputs, inputs) and grad(f) give the same bits through a TTT layer") {
  manual_seed(4);
  const std::int64_t d = 4;
  const Data data(2, 2, 5, d);
  const InnerModel<double> model = inner::glu<double>(d);
  const auto loss_of = [&](const Tensors<double>& x) {
    return sum(square(model(x[0], inner_train<double>(model, {x[3], x[4]}, x[1], x[2], {.clip = true}))));
  };
  const Tensors<double> xs{data.q, data.k, data.v, randn<double>({2, d, d}), randn<double>({2, d, d})};
  const Tensors<double> functional = grad(loss_of)(xs);
  Tensors<double> leaves;
  for (const auto& x : xs) leaves.push_back(clone(x).requires_grad());
  const Tensors<double> by_inputs = grad(Tensors<double>{loss_of(leaves)}, leaves);
  loss_of(leaves).backward();
  for (std::size_t i = 0; i < xs.size(); ++i) {
    CHECK(functional[i].to_vector() == by_inputs[i].to_vector());
    CHECK(functional[i].to_vector() == leaves[i].grad().to_vector());
    CHECK(sum(abs(functional[i])).item() > 0);  // keys and values learn through the inner step
  }
}

TEST_CASE("inference: the inner step works without recording, gives the same output and leaves no node") {
  manual_seed(5);
  TttBlock<double> block(8, 2, {.path = TttPath::nested});
  const Tensor<double> x = randn<double>({2, 3, 4, 8});
  const Tensor<double> recorded = block(x).detach();
  const std::int64_t before = live_nodes();
  NoGradGuard guard;
  const Tensor<double> y = block(x);
  CHECK_FALSE(y.is_tracked());
  CHECK(live_nodes() == before);
  CHECK(y.to_vector() == recorded.to_vector());
}

TEST_CASE("invariants of the inner step") {
  manual_seed(6);
  const std::int64_t B = 3, H = 2, N = 6, d = 4;
  const Data data(B, H, N, d);
  const InnerModel<double> model = inner::mlp<double>(d, d);
  const Tensors<double> w0{randn<double>({H, d, d}), randn<double>({H, d, d})};
  const auto run = [&](const Data& x, const InnerOptions<double>& options) { return model(x.q, inner_train(model, w0, x.k, x.v, options)); };

  SECTION("rate 0 applies the untrained model") {
    CHECK(relative_error(run(data, {.rate = 0}), model(data.q, expand_per_image(w0, B))) == 0);
  }
  SECTION("an image's output does not depend on another image") {
    Data changed = data;
    changed.k = cat<double>({slice(data.k, 0, 0, 2), randn<double>({1, H, N, d})});
    const Tensor<double> a = run(data, {}), b = run(changed, {});
    CHECK(slice(a, 0, 0, 2).to_vector() == slice(b, 0, 0, 2).to_vector());
    CHECK(relative_error(slice(a, 0, 2, 3), slice(b, 0, 2, 3)) > 1e-3);
  }
  SECTION("the full batch is equivariant to the order of tokens, sequential batches are not") {
    Data permuted = data;
    permuted.q = permute_tokens(data.q);
    permuted.k = permute_tokens(data.k);
    permuted.v = permute_tokens(data.v);
    CHECK(relative_error(permute_tokens(run(permuted, {})), run(data, {})) < 1e-12);
    CHECK(relative_error(permute_tokens(run(permuted, {.batches = 2})), run(data, {.batches = 2})) > 1e-3);
  }
  SECTION("a linear model from zero with the dot loss is linear attention") {
    const InnerModel<double> linear_model = inner::fc<double>(d);
    const Tensors<double> trained = inner_train<double>(linear_model, {zeros<double>({H, d, d})}, data.k, data.v, {.rate = 0.3});
    const Tensor<double> attention = matmul(data.q, matmul(transpose(data.k), data.v)) * (0.3 / (N * std::sqrt(double(d))));
    CHECK(relative_error(linear_model(data.q, trained), attention) < 1e-12);
  }
}

TEST_CASE("a user's own inner model needs a function and shapes, nothing else") {
  manual_seed(7);
  const std::int64_t d = 3;
  const auto mine = inner::model<double>("cubic", {{d, d}}, [](auto& x, auto& w) { return pow(matmul(x, w[0]), 3); });
  const Data data(1, 2, 4, d);
  const Function<double> layer = [&](const Tensors<double>& x) {
    return mine(x[0], inner_train<double>(mine, {x[3]}, x[1], x[2], {.loss = losses::mse, .rate = 0.1, .epochs = 2, .batches = 4}));
  };
  const GradCheck check = check_grads(layer, {data.q, data.k * 0.5, data.v, randn<double>({2, d, d}) * 0.3}, 2);
  INFO(check);
  CHECK(check);
}

TEST_CASE("the whole block: closed and nested agree, with and without rope") {
  manual_seed(8);
  const bool rope = GENERATE(false, true);
  TttBlock<double> block(8, 2, {.rope = rope});
  const Tensor<double> x = randn<double>({2, 3, 5, 8}), u = randn<double>({2, 3, 5, 8});
  const auto gradients = [&](TttPath path) {
    block.path = path;
    block.zero_grad();
    Tensors<double> all{block(x).detach()};
    block(x).backward(u);
    for (const auto& p : block.parameters()) all.push_back(p.grad());
    return all;
  };
  const Tensors<double> a = gradients(TttPath::closed), b = gradients(TttPath::nested);
  for (std::size_t i = 0; i < a.size(); ++i) CHECK(relative_error(a[i], b[i]) < 1e-12);
}

TEST_CASE("errors of the inner step name what clashes and where") {
  const Data data(1, 1, 3, 2);
  const InnerModel<double> model = inner::fc<double>(2);
  CHECK_THROWS_WITH(inner_train<double>(model, {zeros<double>({1, 2, 2})}, data.k, data.v, {.batches = 4}),
                    "ttt::inner_train: number of batches must lie in [1, tokens]: batches 4, tokens 3\n  in inner_step");
  const InnerModel<double> wide = inner::model<double>("wide", {{2, 5}}, [](auto& x, auto& w) { return matmul(x, w[0]); });
  CHECK_THROWS_WITH(inner_train<double>(wide, {zeros<double>({1, 2, 5})}, data.k, data.v, {}),
                    "ttt::inner_train: the output of inner model wide is not shaped like v: output [1, 1, 3, 5], v [1, 1, 3, 2]\n"
                    "  in inner_step");
  CHECK_THROWS_WITH(TttBlock<double>(8, 3), "ttt::TttBlock: heads must divide channels: channels 8, heads 3");
  CHECK_THROWS_WITH(TttBlock<double>(8, 2)(zeros<double>({2, 3, 8})),
                    "ttt::TttBlock: needs a grid [B, h, w, 8]: x [2, 3, 8]\n  in TttBlock");
}
