// What goes wrong on a GPU and how it is told: no memory left in the middle of a training step, operands on different
// devices in every op, devices that there are not.
#include "../ops/op_case.hpp"
#include "tttlib/backend/cuda.hpp"
#include "tttlib/models/configs.hpp"
#include "tttlib/ops/composed/loss.hpp"
#include "tttlib/optim/optimizer.hpp"
#include "tttlib/optim/param_groups.hpp"

using namespace ttt;

namespace {

/// What is thrown, as text; empty if nothing is.
template <class F>
std::string complaint(const F& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

}  // namespace

TEST_CASE("a training step that runs out of memory says so, leaves nothing behind, and the next smaller one works", "[small]") {
  manual_seed(1);
  const auto model = create_model<float>("vit3_pico", {.num_classes = 4, .image_size = 16, .patch_size = 8});
  model->to(cuda());
  AdamW<float> optimizer(param_groups(*model, {}), {.lr = 1e-3});
  const auto step = [&](std::int64_t batch) {
    const Tensor<float> images = randn<float>({batch, 16, 16, 3}, cuda());
    const Tensor<std::int64_t> labels = full<std::int64_t>({batch}, 1, cuda());
    model->zero_grad();
    const Tensor<float> loss = cross_entropy((*model)(images), labels);
    loss.backward();
    optimizer.step();
    return loss.item();
  };
  CHECK(std::isfinite(step(2)));
  model->zero_grad();
  release_cuda_memory();
  const CudaMemory before = cuda_memory();
  set_cuda_memory_limit(before.in_use + before.cached + (6 << 20));  // more than a step of 2 images needs, less than one of 256
  const std::string message = complaint([&] { step(256); });
  INFO(message);
  CHECK(message.find("ttt::cuda:0: out of memory: ") == 0);
  for (const char* part : {" bytes asked for, ", " in use, ", " cached, limit ", ". Hint: smaller batches, or recomputed blocks", "\n  in Vit3."})
    CHECK_THAT(message, ContainsSubstring(part));
  model->zero_grad();
  CHECK(cuda_memory().in_use == before.in_use);
  CHECK(std::isfinite(step(2)));
  set_cuda_memory_limit(before.limit);
  CHECK(std::isfinite(step(256)));
}

TEST_CASE("no op takes operands on different devices", "[small]") {
  using namespace ops_test;
  int refused = 0;
  for (const auto& [name, cases] : tables())
    for (const OpCase& c : cases()) {
      const Tensors<double>& xs = c.inputs.front();
      for (std::size_t i = 0; xs.size() > 1 && i < xs.size(); ++i) {
        INFO(c.name << ", operand " << i << " on the GPU, the others on the CPU");
        Tensors<double> mixed = xs;
        mixed[i] = xs[i].to(cuda());
        CHECK_THROWS_AS(c.op(mixed), DeviceError);
        ++refused;
      }
    }
  CHECK(refused > 40);
}

TEST_CASE("labels, cotangents, gradients and inputs of modules have to be where the others are", "[small]") {
  const Tensor<float> logits = randn<float>({2, 3}).to(cuda());
  CHECK_THROWS_AS(cross_entropy(logits, tensor<std::int64_t>({0, 1})), DeviceError);
  CHECK_THROWS_AS(cross_entropy(logits.to(cpu()), tensor<std::int64_t>({0, 1}).to(cuda())), DeviceError);
  Tensor<float> leaf = logits.detach();
  leaf.requires_grad();
  CHECK_THROWS_AS(square(leaf).backward(ones<float>({2, 3})), DeviceError);
  CHECK_THROWS_AS(leaf.set_grad(ones<float>({2, 3})), DeviceError);
  CHECK_THROWS_AS(vjp<float>([](const Tensor<float>& x) { return square(x); }, logits, ones<float>({2, 3})), DeviceError);
  const auto model = create_model<float>("vit3_pico", {.num_classes = 4});
  model->to(cuda());
  CHECK(model->device() == cuda());
  CHECK_THROWS_WITH((*model)(ones<float>({1, 32, 32, 3})),
                    "ttt::conv2d: operands on different devices: a on cpu, b on cuda:0. Hint: move one with to(device)\n  in Vit3.patch_embed.proj");
}

TEST_CASE("devices have names that can be read back", "[small]") {
  CHECK(to_device("cpu") == cpu());
  CHECK(to_device("cuda") == cuda(0));
  CHECK(to_device("cuda:12") == cuda(12));
  for (const char* text : {"", "CPU", "cuda:", "cuda:-1", "cuda:x", "cuda:1 ", "cuda:123", "gpu"}) CHECK_FALSE(to_device(text));
  CHECK(describe(cpu()) == "cpu");
  CHECK(describe(cuda()).find("cuda:0 (") == 0);
  CHECK_THROWS_AS(describe(cuda(63)), DeviceError);
}
