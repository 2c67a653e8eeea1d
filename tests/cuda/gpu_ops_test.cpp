// Every case of the table of ops on the GPU: values in double, float and bf16, derivatives to the case's order by
// differences, and cotangents beside the CPU's.
#include "../ops/op_case.hpp"
#include "tttlib/backend/cuda.hpp"

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
