// A model with products of operands rounded to bf16: answers and training beside float.
#include <cmath>

#include "catch.hpp"
#include "tttlib/backend/precision.hpp"
#include "tttlib/core/parallel.hpp"
#include "tttlib/data/shapes.hpp"
#include "tttlib/models/configs.hpp"
#include "tttlib/ops/composed/loss.hpp"
#include "tttlib/optim/optimizer.hpp"
#include "tttlib/testing/compare.hpp"
#include "tttlib/train/classifier.hpp"

using namespace ttt;

namespace {

constexpr std::int64_t steps = 80, batch = 32;

std::shared_ptr<Module<float>> small_model() {
  manual_seed(1);
  return create_model<float>("vit3_pico", {.num_classes = 10, .image_size = 16});
}

/// Trains on batches in order; returns the mean loss of the last ten steps.
double train(Module<float>& model, const DataLoader& loader) {
  AdamW<float> optimizer(param_groups(model, {.weight_decay = 0.05}), {.lr = 3e-3});
  model.train();
  double last = 0;
  std::int64_t step = 0;
  for (const Batch& b : loader.epoch(0)) {
    const Tensor<float> loss = cross_entropy(model(b.images), b.labels);
    optimizer.zero_grad();
    loss.backward();
    optimizer.step();
    if (++step > steps - 10) last += static_cast<double>(loss.item()) / 10;
  }
  REQUIRE(step == steps);
  return last;
}

}  // namespace

TEST_CASE("a model trained in float answers the same under bf16, and learns when trained under it") {
  const ImageDataset images = make_shapes(steps * batch, 16, 0, Split::train), test = make_shapes(1000, 16, 0, Split::test);
  const DataLoader loader(images, {.batch_size = batch, .shuffle = true, .seed = 0});
  const auto model = small_model();
  const double loss = train(*model, loader);
  const Evaluation usual = evaluate(*model, test);
  CHECK(usual.top1 > 0.3);  // it has learned something, ten classes

  const NoGradGuard no_grad;
  const Tensor<float> some = randn<float>({64, 16, 16, 3}), logits = (*model)(some);
  const MatmulPrecisionGuard guard(MatmulPrecision::bfloat16);
  const double difference = relative_error((*model)(some), logits);
  CHECK(difference < 1.0 / 256);  // each operand is off by 1/512 at most, by a third of that on average
  CHECK(difference > 1e-5);       // and rounded it was
  const Evaluation rounded = evaluate(*model, test);
  CHECK(std::abs(rounded.top1 - usual.top1) <= 0.003);  // 3 of 1000 images
  CHECK(std::abs(rounded.loss - usual.loss) < 0.01 * usual.loss);

  const auto other = small_model();
  {
    const GradModeGuard recorded(true);
    // Two trajectories part like those of two seeds; a wrong gradient would leave the loss near log 10 = 2.30.
    CHECK(train(*other, loader) < 1.25 * loss);
  }
  CHECK(evaluate(*other, test).top1 > 0.3);
}
