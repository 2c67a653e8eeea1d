// A hundred training steps on the GPU beside the same hundred on the CPU.
#include "catch.hpp"
#include "tttlib/data/loader.hpp"
#include "tttlib/data/shapes.hpp"
#include "tttlib/models/configs.hpp"
#include "tttlib/ops/composed/loss.hpp"
#include "tttlib/optim/optimizer.hpp"
#include "tttlib/optim/schedule.hpp"

using namespace ttt;

namespace {

/// The loss of every step of a small ViT³ with drop path on augmented images.
std::vector<double> loss_curve(Device device) {
  manual_seed(6);
  const auto model = create_model<float>("vit3_pico", {.num_classes = 10, .image_size = 16, .patch_size = 8, .drop_path = 0.1});
  model->to(device);
  AdamW<float> optimizer(param_groups(*model, {.weight_decay = 0.05}), {.lr = 3e-3});
  CosineSchedule schedule;
  schedule.lr = 3e-3;
  schedule.total_steps = 100;
  schedule.warmup_steps = 10;
  schedule.ramp = true;
  LoaderOptions loading;
  loading.batch_size = 16;
  loading.shuffle = loading.drop_last = true;
  loading.augment.flip = true;
  loading.augment.crop_padding = 2;
  const DataLoader loader(make_shapes(320, 16, 0, Split::train), loading.feed(device));
  Tensors<float> losses;  // [] each, read when all is done
  for (std::int64_t epoch = 0; losses.size() < 100; ++epoch) {
    auto batches = loader.epoch(epoch);
    for (const Batch& batch : batches) {
      optimizer.set_lr(schedule(static_cast<std::int64_t>(losses.size())));
      const Tensor<float> loss = cross_entropy((*model)(batch.images), batch.labels, {.label_smoothing = 0.1});
      model->zero_grad();
      loss.backward();
      clip_grad_norm(*model, 5);
      optimizer.step();
      losses.push_back(loss.detach());
    }
  }
  std::vector<double> curve;
  for (const Tensor<float>& loss : losses) curve.push_back(static_cast<double>(loss.item()));
  return curve;
}

}  // namespace

TEST_CASE("a hundred training steps follow the CPU's loss curve") {
  const std::vector<double> here = loss_curve(cpu()), there = loss_curve(cuda());
  REQUIRE(here.size() == 100);
  REQUIRE(there.size() == 100);
  CHECK(here.back() < 0.95 * here.front());
  double worst = 0;
  for (std::size_t i = 0; i < 100; ++i) worst = std::max(worst, std::abs(there[i] - here[i]) / here[i]);
  INFO("largest relative difference of a loss " << worst << ", from " << here.front() << " to " << here.back());
  CHECK(worst < 1e-4);
}
