// Every case of the table of ops on the GPU: values in double, float and bf16, derivatives to the case's order by
// differences, and cotangents beside the CPU's.
#include "../ops/op_case.hpp"
#include "tttlib/backend/cuda.hpp"
#include "tttlib/ttt/ttt_heads.hpp"

namespace {
using namespace ops_test;

/// The same memory with the same layout on the GPU.
template <class T>
Tensor<T> on_gpu(const Tensor<T>& x) {
  auto storage = std::make_shared<Storage>(x.storage()->bytes(), cuda());
  device_copy().copy(storage->data(), cuda(), x.storage()->data(), cpu(), x.storage()->bytes());
  return Tensor<T>(std::move(storage), x.offset(), x.shape(), x.strides());
}
template <class T>
Tensors<T> on_gpu(const Tensors<T>& xs) {
  Tensors<T> all;
  for (const Tensor<T>& x : xs) all.push_back(on_gpu(x));
  return all;
}

void run_case_on_gpu(const OpCase& c) {
  for (std::size_t k = 0; k < c.inputs.size(); ++k) {
    const Tensors<double>& xs = c.inputs[k];
    std::string shapes;
    for (const Tensor<double>& x : xs) shapes += to_string(x.shape()) + (x.is_contiguous() ? " " : "(strided) ");
    INFO(c.name << ", inputs " << k << ": " << shapes);
    const Tensors<double> there = on_gpu(xs);
    default_generator().next_stream = 7;  // random ops draw the same numbers on both
    const Tensor<double> expected = c.op(xs);
    default_generator().next_stream = 7;
    const Tensor<double> y = c.op(there);
    REQUIRE(y.device() == cuda());
    CHECK(relative_error(y, expected) <= 1e-12);  // sums of up to ~1000 terms in double, in another order

    Tensors<float> floats;
    for (const Tensor<double>& x : xs) floats.push_back(on_gpu(with_layout<float>(x)));
    default_generator().next_stream = 7;
    const Tensor<float> single = c.op_float(floats);
    Tensors<double> rounded;
    for (const Tensor<double>& x : xs) rounded.push_back(cast<double>(with_layout<float>(x)));
    default_generator().next_stream = 7;
    CHECK(relative_error(single, c.op(rounded)) <= c.float_tolerance);
    check_bf16(c, xs, [](const Tensor<bf16>& x) { return on_gpu(x); });

    const GradCheck check = check_grads(c.op, there, c.order);
    INFO(check);
    CHECK(check.ok);

    const Tensor<double> u = normal(expected.shape());
    const Tensors<double> plain = vjp(c.op, xs, u), gradients = vjp(c.op, there, on_gpu(strided(u)));
    for (std::size_t i = 0; i < xs.size(); ++i) {
      CHECK(gradients[i].device() == cuda());
      const double distance = gradients[i].numel() == 0 ? 0 : amax(abs(sub(gradients[i].to(cpu()), plain[i]))).item();
      CHECK((relative_error(gradients[i], plain[i]) <= 1e-12 || distance <= 1e-15));  // some are zero but for rounding
    }
  }
}

}  // namespace

TEST_CASE("the cases of every op hold on the GPU") {
  CHECK(tables().size() >= 10);
  const std::int64_t before = cuda_launches();
  for (const auto& [name, cases] : tables())
    DYNAMIC_SECTION(name) {
      for (const OpCase& c : cases()) run_case_on_gpu(c);
    }
  CHECK(cuda_launches() > before);
}

TEST_CASE("every op runs on the GPU once, forward and back", "[small]") {
  for (const auto& [name, cases] : tables())
    for (const OpCase& c : cases()) {
      const Tensors<double>& xs = c.inputs.front();
      INFO(c.name);
      default_generator().next_stream = 7;
      const Tensor<double> y = c.op(xs);
      default_generator().next_stream = 7;
      const Tensors<double> there = vjp(c.op, on_gpu(xs), on_gpu(normal(y.shape())));
      for (const Tensor<double>& g : there) CHECK(g.device() == cuda());
    }
}

TEST_CASE("products of bf16 tensors on the GPU read bf16, sum in float and round once", "[small]") {
  const double rounding = 0x1p-8;
  const auto a = randn<bf16>({3, 8, 4096}), b = randn<bf16>({4096, 16}), w = randn<bf16>({16, 4096}), bias = randn<bf16>({16});
  const auto a_there = a.to(cuda()), b_there = b.to(cuda()), w_there = w.to(cuda()), bias_there = bias.to(cuda());
  const std::int64_t before = cuda_launches();
  const Tensor<bf16> product = matmul(a_there, b_there), layer = linear(a_there, w_there, bias_there);
  CHECK(cuda_launches() == before + 2);  // nothing is converted
  CHECK(relative_error(product, matmul(cast<double>(a), cast<double>(b))) <= rounding);
  CHECK(relative_error(layer, linear(cast<double>(a), cast<double>(w), cast<double>(bias))) <= rounding);
  const auto batch = slice(transpose(a, 1, 2), 1, 0, 4095, 3);  // [3, 1365, 8], every third row
  CHECK(relative_error(matmul(batch.to(cuda()), expand(slice(w, 1, 0, 8).to(cuda()).transpose(0, 1), {3, 8, 16})),
                       matmul(cast<double>(batch), transpose(cast<double>(slice(w, 1, 0, 8))))) <= rounding);
  CHECK(linear(zeros<bf16>({2, 0}, cuda()), zeros<bf16>({16, 0}, cuda()), bias_there).to_vector() == expand(bias, {2, 16}).to_vector());
}

TEST_CASE("sums of bf16 tensors on the GPU are made in float, and heads step in float", "[small]") {
  const double rounding = 0x1p-8;
  const auto ones_there = ones<bf16>({4096, 3}, cuda());
  CHECK(sum(ones_there, {0}).to_vector() == std::vector<bf16>(3, bf16(4096.0f)));
  CHECK(scatter_add(ones_there, zeros<std::int64_t>({4096, 3}, cuda()), 0, 2).to_vector() ==
        std::vector<bf16>{bf16(4096.0f), bf16(4096.0f), bf16(4096.0f), bf16(0.0f), bf16(0.0f), bf16(0.0f)});
  CHECK_THROWS_WITH(log(zeros<bf16>({2}, cuda())) + ones<bf16>({2}), ContainsSubstring("operands on different devices"));
  const std::int64_t H = 2, d = 8;
  const auto qkv = randn<bf16>({2, 3, 5, 3 * (H + 1) * d});
  const TttWeights<bf16> w{randn<bf16>({1, H, d, d}), randn<bf16>({1, H, d, d}), randn<bf16>({d, 1, 3, 3})};
  const TttWeights<bf16> there{w.w1.to(cuda()), w.w2.to(cuda()), w.w3.to(cuda())};
  const TttWeights<double> wide{cast<double>(w.w1), cast<double>(w.w2), cast<double>(w.w3)};
  const auto loss = [](const auto& w) { return [&w](const auto& x) { return sum(square(ttt_heads(x, w, TttPath::fused))); }; };
  const auto slope = [](const auto& f) { return [f](const auto& x) { return sum(square(grad(f)(x))); }; };
  const auto x = cast<double>(qkv);
  CHECK(relative_error(ttt_heads(qkv.to(cuda()), there, TttPath::fused), ttt_heads(x, wide, TttPath::fused)) <= rounding);
  CHECK(relative_error(grad(loss(there))(qkv.to(cuda())), grad(loss(wide))(x)) <= 3 * rounding);
  CHECK(relative_error(grad(slope(loss(there)))(qkv.to(cuda())), grad(slope(loss(wide)))(x)) <= 6 * rounding);
}
