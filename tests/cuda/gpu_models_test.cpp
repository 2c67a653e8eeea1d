// Whole layers and models on the GPU, beside the CPU: fused TTT heads at orders 0, 1 and 2, inner training with
// every inner model, training steps.
#include "../ttt/heads_example.hpp"
#include "catch.hpp"
#include "tttlib/backend/cuda.hpp"
#include "tttlib/models/configs.hpp"
#include "tttlib/ops/composed/loss.hpp"
#include "tttlib/optim/optimizer.hpp"
#include "tttlib/testing/check_grads.hpp"
#include "tttlib/testing/compare.hpp"
#include "tttlib/ttt/inner_models.hpp"
#include "tttlib/ttt/inner_scan.hpp"
#include "tttlib/ttt/ttt_block.hpp"

using namespace ttt;
using namespace heads_test;

namespace {

template <class T>
Tensors<T> on_gpu(const Tensors<T>& xs) {
  Tensors<T> all;
  for (const Tensor<T>& x : xs) all.push_back(x.to(cuda()));
  return all;
}
template <class T>
Function<T> heads(TttPath path) {
  return [path](const Tensors<T>& x) { return ttt_heads<T>(x[0], {x[1], x[2], x[3]}, path); };
}
/// Value, gradients, and gradients of the gradients' product with other numbers.
template <class T>
Tensors<T> orders(const Function<T>& f, const Tensors<T>& xs, const Tensor<T>& u, const Tensors<T>& v) {
  Tensors<T> all{f(xs)};
  const auto first = [&](const Tensors<T>& at) { return vjp<T>(f, at, u); };
  for (Tensor<T>& g : first(xs)) all.push_back(g);
  const auto second = [&](const Tensors<T>& at) {
    const Tensors<T> g = first(at);
    Tensor<T> total = sum(mul(g[0], v[0]));
    for (std::size_t i = 1; i < g.size(); ++i) total = add(total, sum(mul(g[i], v[i])));
    return total;
  };
  for (Tensor<T>& g : grad(second)(xs)) all.push_back(g);
  return all;
}

/// What a residual adds to an op: x to its value, the cotangent u to that of x = xs[0], nothing to the other gradients.
void check_residual(const Function<float>& branch, const Function<float>& sum, const Tensors<float>& xs, const Tensor<float>& u) {
  CHECK(relative_error(sum(xs), add(xs[0], branch(xs))) < 1e-6);
  const Tensors<float> apart = vjp<float>(branch, xs, u), together = vjp<float>(sum, xs, u);
  CHECK(relative_error(together[0], add(apart[0], u)) < 1e-6);
  for (std::size_t i = 1; i < xs.size(); ++i) CHECK(together[i].to_vector() == apart[i].to_vector());
}

/// op(residual), a whole block as one op of bf16 products, against layers(residual), its definition in double: both without and with the
/// residual sum, at orders 0, 1 and 2.
template <class Op, class Layers>
void check_block_op(const Op& op, const Layers& layers, const Tensors<double>& x) {
  const Tensor<double> u = randn<double>(x[0].shape());
  Tensors<float> small, v_small;
  Tensors<double> v;
  for (const Tensor<double>& t : x) {
    small.push_back(cast<float>(t));
    v.push_back(randn<double>(t.shape()));
    v_small.push_back(cast<float>(v.back()));
  }
  const MatmulPrecisionGuard rounded(MatmulPrecision::bfloat16);
  for (const bool residual : {false, true}) {
    const Tensors<double> expected = orders<double>(layers(residual), x, u, v);
    const Tensors<float> all = orders<float>(op(residual), on_gpu(small), cast<float>(u).to(cuda()), on_gpu(v_small));
    for (std::size_t i = 0; i < all.size(); ++i) {
      INFO("residual " << residual << ", tensor " << i);
      CHECK(relative_error(all[i], expected[i]) < 2e-2);
    }
  }
  check_residual(op(false), op(true), on_gpu(small), cast<float>(u).to(cuda()));
}

}  // namespace

TEST_CASE("fused heads on the GPU agree with the CPU's definition at orders 0, 1 and 2") {
  manual_seed(1);
  for (const Sizes& s : {Sizes{2, 3, 5, 2, 8}, {1, 1, 1, 1, 4}, {1, 1, 7, 3, 1}, {1, 4, 3, 2, 20}, {1, 8, 9, 1, 64}, {3, 2, 2, 1, 33}, {1, 5, 7, 1, 100}}) {
    INFO(s);
    const Tensors<double> x = example<double>(s);
    const Tensor<double> u = randn<double>({s.images, s.height, s.width, (s.heads + 1) * s.d});
    Tensors<double> v;
    for (const Tensor<double>& t : x) v.push_back(randn<double>(t.shape()));
    const Tensors<double> expected = orders<double>(heads<double>(TttPath::nested), x, u, v);
    const std::int64_t before = cuda_launches();
    const Tensors<double> fused = orders<double>(heads<double>(TttPath::fused), on_gpu(x), u.to(cuda()), on_gpu(v));
    CHECK(cuda_launches() > before);
    for (std::size_t i = 0; i < fused.size(); ++i) {
      INFO("tensor " << i);
      CHECK(relative_error(fused[i], expected[i]) < 1e-11);
    }
    Tensors<float> small;
    for (const Tensor<double>& t : x) small.push_back(cast<float>(t));
    const Tensors<float> single = vjp<float>(heads<float>(TttPath::fused), on_gpu(small), cast<float>(u).to(cuda()));
    for (std::size_t i = 0; i < single.size(); ++i) {
      INFO("float tensor " << i);
      CHECK(relative_error(single[i], expected[i + 1]) < 1e-4);
    }
  }
}

TEST_CASE("heads whose products round to bf16 agree with the definition within its rounding", "[small]") {
  manual_seed(2);
  for (const Sizes& s : {Sizes{2, 3, 5, 2, 32}, {1, 1, 1, 1, 32}, {3, 4, 4, 2, 64}, {1, 7, 30, 1, 64}, {1, 17, 17, 1, 32}, {2, 25, 26, 1, 64}}) {
    INFO(s);
    const Tensors<double> x = example<double>(s);
    const Tensor<double> u = randn<double>({s.images, s.height, s.width, (s.heads + 1) * s.d});
    Tensors<float> small;
    for (const Tensor<double>& t : x) small.push_back(cast<float>(t));
    const Tensors<double> expected = vjp<double>(heads<double>(TttPath::closed), x, u);
    const MatmulPrecisionGuard rounded(MatmulPrecision::bfloat16);
    const Tensors<float> all = vjp<float>(heads<float>(TttPath::fused), on_gpu(small), cast<float>(u).to(cuda()));
    for (std::size_t i = 0; i < all.size(); ++i) {
      INFO("tensor " << i);
      const double error = relative_error(all[i], expected[i]);
      CHECK(error < 1.5e-2);           // a few roundings of 2^-9 in a row; one token averages none of them
      if (i < 3) CHECK(error > 1e-5);  // the convolution's kernel comes last and does not round
    }
  }
}

TEST_CASE("heads take weights at any address, and no tokens make zero gradients", "[small]") {
  manual_seed(12);
  const std::int64_t H = 2, d = 32;
  const Tensor<float> flat = mul(randn<float>({1 + H * d * d}, cuda()), 0.3f);
  const Tensor<float> w2 = randn<float>({1, H, d, d}, cuda()), w3 = randn<float>({d, 1, 3, 3}, cuda());
  const Tensor<float> w1 = reshape(slice(flat, 0, 1, 1 + H * d * d), {1, H, d, d}), qkv = randn<float>({2, 3, 4, 3 * (H + 1) * d}, cuda());
  const MatmulPrecisionGuard rounded(MatmulPrecision::bfloat16);
  CHECK(ttt_heads<float>(qkv, {w1, w2, w3}, TttPath::fused).to_vector() == ttt_heads<float>(qkv, {clone(w1), w2, w3}, TttPath::fused).to_vector());
  for (const Tensor<float>& g : vjp<float>(heads<float>(TttPath::fused), {zeros<float>({2, 0, 4, 3 * (H + 1) * d}, cuda()), clone(w1), w2, w3},
                                           zeros<float>({2, 0, 4, (H + 1) * d}, cuda())))
    for (const float x : g.to_vector()) REQUIRE(x == 0);
}

TEST_CASE("a whole TTT block in bf16 agrees with its definition within the rounding, at orders 0, 1 and 2", "[small]") {
  manual_seed(3);
  for (const auto& [H, d] : {std::pair<std::int64_t, std::int64_t>{2, 32}, {1, 64}}) {
    INFO("heads " << H << " of " << d);
    const std::int64_t C = H * d;
    const Tensors<double> x{randn<double>({2, 3, 5, C}),          0.1 * randn<double>({3 * C + 3 * d, C}), 0.1 * randn<double>({3 * C + 3 * d}),
                            0.2 * randn<double>({1, H, d, d}),    0.2 * randn<double>({1, H, d, d}),       0.2 * randn<double>({d, 1, 3, 3}),
                            0.1 * randn<double>({C, C + d}),      0.1 * randn<double>({C}),                1 + 0.1 * randn<double>({C}),
                            0.1 * randn<double>({C})};
    const auto mixer = [](bool residual) {
      return [residual](const Tensors<float>& t) {
        return ttt_mixer<float>(t[0], {t[8], t[9]}, {t[1], t[2]}, {t[3], t[4], t[5]}, {t[6], t[7]}, residual);
      };
    };
    const auto layers = [](bool residual) {
      return [residual](const Tensors<double>& t) {
        const Tensor<double> qkv = linear(layer_norm(t[0], t[8], t[9]), t[1], t[2]);
        const Tensor<double> y = linear(ttt_heads<double>(qkv, {t[3], t[4], t[5]}, TttPath::closed), t[6], t[7]);
        return residual ? add(t[0], y) : y;
      };
    };
    check_block_op(mixer, layers, x);

    const MatmulPrecisionGuard rounded(MatmulPrecision::bfloat16);
    TttBlock<float> block(C, H);
    Mlp<float> mlp(C, 4 * C);
    LayerNorm<float> norm(C);
    block.to(cuda()), mlp.to(cuda()), norm.to(cuda());
    const Tensor<float> images = randn<float>({8, 4, 4, C}, cuda());
    const auto fuses = [&] {
      return fuses_ttt_mixer<float>(images, {norm.weight, norm.bias}, {block.qkv->weight, block.qkv->bias}, {block.w1, block.w2, block.w3},
                                    {block.proj->weight, block.proj->bias});
    };
    CHECK(fuses());
    DropPath<float> drop_path(0.5);
    for (const bool training : {false, true}) {
      INFO("training " << training);
      drop_path.train(training);
      const MatmulPrecisionGuard again(MatmulPrecision::bfloat16);
      manual_seed(5);
      const Tensor<float> as_one = sub(block.add_to(images, norm, drop_path), images);
      const Tensor<float> mlp_as_one = sub(mlp.add_to(images, norm, drop_path), images);
      const MatmulPrecisionGuard exact(MatmulPrecision::float32);
      CHECK(!fuses());
      manual_seed(5);
      const double error = relative_error(as_one, drop_path(block(norm(images))));
      const double mlp_error = relative_error(mlp_as_one, drop_path(mlp(norm(images))));
      CHECK(mlp_error < 2e-2);
      CHECK(mlp_error > 1e-5);
      CHECK(error < 2e-2);
      CHECK(error > 1e-5);
    }
  }
}

TEST_CASE("an MLP with its layer norm as one op agrees with its definition within the rounding, at orders 0, 1 and 2", "[small]") {
  manual_seed(4);
  for (const std::int64_t C : {8, 40, 1032}) {
    INFO("C " << C);
    const std::int64_t M = 24;
    const Tensors<double> x{randn<double>({2, 9, C}), 0.2 * randn<double>({M, C}), 0.1 * randn<double>({M}), 0.2 * randn<double>({C, M}),
                            0.1 * randn<double>({C}), 1 + 0.1 * randn<double>({C}), 0.1 * randn<double>({C})};
    const auto as_one = [](bool residual) {
      return [residual](const Tensors<float>& t) { return normed_mlp<float>(t[0], {t[5], t[6], 1e-6}, t[1], t[2], t[3], t[4], residual); };
    };
    const auto layers = [](bool residual) {
      return [residual](const Tensors<double>& t) {
        const Tensor<double> y = mlp(layer_norm(t[0], t[5], t[6], 1e-6), t[1], t[2], t[3], t[4]);
        return residual ? add(t[0], y) : y;
      };
    };
    check_block_op(as_one, layers, x);
  }
}

TEST_CASE("no images make no answers and zero gradients on the GPU") {
  const Tensors<double> x = on_gpu(example<double>({0, 2, 2, 2, 3}));
  const Tensors<double> all = vjp<double>(heads<double>(TttPath::fused), x, zeros<double>({0, 2, 2, 9}, cuda()));
  for (std::size_t i = 1; i < all.size(); ++i) CHECK(amax(abs(all[i])).item() == 0);
}

TEST_CASE("heads read any layout, and give the same bits every time", "[small]") {
  manual_seed(4);
  const Tensors<float> x = on_gpu(example<float>({3, 4, 5, 2, 16}));
  const Tensor<float> u = randn<float>({3, 4, 5, 48}).to(cuda());
  const Tensors<float> first = vjp<float>(heads<float>(TttPath::fused), x, u), again = vjp<float>(heads<float>(TttPath::fused), x, u);
  const Tensors<float> odd{transpose(contiguous(transpose(x[0], 1, 2)), 1, 2), transpose(contiguous(transpose(x[1]))), x[2], x[3]};
  const Tensors<float> strided = vjp<float>(heads<float>(TttPath::fused), odd, u);
  for (std::size_t i = 0; i < first.size(); ++i) {
    const std::vector<float> bits = first[i].to_vector();
    const bool repeated = again[i].to_vector() == bits, any_layout = strided[i].to_vector() == bits;
    CHECK(repeated);
    CHECK(any_layout);
  }
}

TEST_CASE("nested inner training runs on the GPU with every inner model") {
  manual_seed(3);
  for (const char* name : {"fc", "mlp_l2", "glu", "swiglu", "dwconv3x3", "conv3x3"}) {
    INFO(name);
    const InnerModel<double> model = inner::make<double>(
        name, {.width = 4, .ratio = inner::has_hidden_width(name) ? 2.0 : 0.0, .grid_height = 2, .grid_width = 3});
    InnerOptions<double> options;
    options.epochs = 2;
    Tensors<double> xs;
    for (int i = 0; i < 3; ++i) xs.push_back(randn<double>({2, 2, 6, 4}));
    for (const InnerParameter& p : model.parameters) {
      Shape shape = p.shape;
      shape.insert(0, 2);
      xs.push_back(mul(randn<double>(shape), 0.3));
    }
    const Function<double> layer = [&](const Tensors<double>& x) {
      return inner_scan(model, Tensors<double>(x.begin() + 3, x.end()), x[0], x[1], x[2], options).output;
    };
    const Tensor<double> u = randn<double>({2, 2, 6, 4});
    const Tensors<double> here = vjp<double>(layer, xs, u), there = vjp<double>(layer, on_gpu(xs), u.to(cuda()));
    for (std::size_t i = 0; i < here.size(); ++i) CHECK(relative_error(there[i], here[i]) < 1e-11);
  }
}

TEST_CASE("models move to the GPU, train there, and stay what they are on the CPU") {
  for (const char* name : {"vit3_pico", "deit_nano"}) {
    INFO(name);
    const auto losses_and_weights = [name](Device device) {
      manual_seed(8);
      auto model = create_model<float>(name, {.num_classes = 5, .drop_path = 0.2});
      model->to(device);
      AdamW<float> optimizer(param_groups<float>(*model, {.weight_decay = 0.05}), {.lr = 1e-3});
      const Tensor<float> images = randn<float>({3, 32, 32, 3}).to(device);
      const Tensor<std::int64_t> labels = tensor<std::int64_t>({1, 4, 0}).to(device);
      std::vector<Tensor<float>> all;
      for (int step = 0; step < 3; ++step) {
        const Tensor<float> loss = cross_entropy((*model)(images), labels, {.label_smoothing = 0.1});
        model->zero_grad();
        loss.backward();
        clip_grad_norm(model->parameters(), 5);
        optimizer.step();
        all.push_back(loss.detach().to(cpu()));
      }
      model->eval();
      NoGradGuard guard;
      all.push_back((*model)(images).to(cpu()));
      return all;
    };
    const std::vector<Tensor<float>> here = losses_and_weights(cpu()), there = losses_and_weights(cuda());
    for (std::size_t i = 0; i < here.size(); ++i) {
      INFO("step " << i);
      CHECK(relative_error(there[i], here[i]) < 2e-3);  // AdamW divides by √v, so rounding in tiny gradients is seen
    }
  }
}
