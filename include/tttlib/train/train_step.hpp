#pragma once
/// What a training step does before the optimiser: loss, gradients and their norm.

#include <cmath>
#include <optional>

#include "tttlib/backend/cuda_graph.hpp"
#include "tttlib/data/loader.hpp"
#include "tttlib/nn/module.hpp"
#include "tttlib/ops/composed/loss.hpp"
#include "tttlib/optim/param_groups.hpp"
#include "tttlib/train/gradient_sums.hpp"

namespace ttt {

/// Loss and gradient norm of one batch, and what `optimizer.step` clips by.
struct StepNumbers {
  double loss = 0, norm = 0;
  Tensor<double> scale;  // []
  bool finite() const { return std::isfinite(loss) && std::isfinite(norm); }
};

/// Cross-entropy of a model's answers, its gradients in the parameters, and their norm; all numbers are read when everything has been
/// asked for, so that a GPU is waited for once. As a graph, the second batch's work is captured and replayed for all later ones: the same
/// bits with one launch; batches must have one size then. The model has to outlive it.
class TrainStep {
 public:
  /// With `sums`, which have to outlive it, of the batches of all ranks together. Throws DeviceError if a graph is asked for and the model
  /// is not on a GPU, Error for a graph with sums over ranks.
  TrainStep(Module<float>& model, double label_smoothing, double clip_grad, bool as_graph = false, GradientSums<float>* sums = nullptr)
      : model_(model), smoothing_(label_smoothing), clip_grad_(clip_grad), sums_(sums) {
    if (as_graph && sums) fail<Error>("train", "steps on several devices are not captured as graphs", "use one GPU, or no graph");
    if (as_graph) graph_.emplace(model.device());
  }

  /// Throws ShapeError if a captured step gets a batch of another size.
  StepNumbers operator()(const Batch& batch) {
    if (!graph_ || !warm_) {
      run(batch.images, batch.labels);
      warm_ = true;
    } else {
      if (!captured_) capture(batch);
      if (batch.images.shape() != images_.shape() || batch.labels.shape() != labels_.shape())
        fail<ShapeError>("train", concat("a captured step takes batches of one size: captured ", images_.shape(), ", images ", batch.images.shape(),
                                         ", labels ", batch.labels.shape()));
      backend::copy(view(batch.images), mutable_view(images_));
      backend::copy(view(batch.labels), mutable_view(labels_));
      graph_->replay();
    }
    StepNumbers numbers;
    numbers.norm = grads_.norm.item();
    numbers.loss = static_cast<double>(loss_.item());
    numbers.scale = grads_.scale;
    return numbers;
  }

  /// The loss that a step differentiates: [].
  Tensor<float> loss_of(const Tensor<float>& images, const Tensor<std::int64_t>& labels) const {
    return cross_entropy(model_(images), labels, {.label_smoothing = smoothing_});
  }

 private:
  void run(const Tensor<float>& images, const Tensor<std::int64_t>& labels) {
    model_.zero_grad();
    const Tensor<float> loss = loss_of(images, labels);  // []
    if (sums_) loss_ = sums_->backward(loss);
    else loss.backward(), loss_ = loss.detach();
    grads_ = grad_norm(model_.parameters(), clip_grad_);
  }
  void capture(const Batch& batch) {
    images_ = Tensor<float>(batch.images.shape(), batch.images.device());
    labels_ = Tensor<std::int64_t>(batch.labels.shape(), batch.labels.device());
    graph_->capture([this] { run(images_, labels_); });
    captured_ = true;
  }

  Module<float>& model_;
  double smoothing_, clip_grad_;
  GradientSums<float>* sums_;  // null: this rank is alone
  bool warm_ = false, captured_ = false;  // what the first step makes once must not be made in a capture
  Tensor<float> images_, loss_;
  Tensor<std::int64_t> labels_;
  GradNorm grads_;
  std::optional<CudaGraph> graph_;
};

}  // namespace ttt
