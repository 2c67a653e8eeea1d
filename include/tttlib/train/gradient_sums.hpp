#pragma once
/// Gradients summed over ranks while the backward pass still makes others (as PyTorch's DistributedDataParallel does).

#include <unordered_map>
#include <utility>
#include <vector>

#include "tttlib/autograd/backward.hpp"
#include "tttlib/backend/communicator.hpp"
#include "tttlib/ops/elementwise.hpp"

namespace ttt {

/// One rank's part in it. Parameters go together in buckets, the last ones first, since the backward pass begins there.
template <class T>
class GradientSums {
 public:
  /// Of leaves, in one order on all ranks; `communicator` has to outlive it.
  GradientSums(Communicator& communicator, int rank, const Tensors<T>& parameters, std::size_t bucket_bytes = std::size_t(25) << 20)
      : communicator_(communicator), rank_(rank) {
    std::size_t bytes = bucket_bytes;
    for (auto p = parameters.rbegin(); p != parameters.rend(); ++p) {
      if (bucket_of_.count(p->node().get()) != 0) continue;  // a parameter of two modules
      if (bytes >= bucket_bytes) buckets_.emplace_back(), bytes = 0;
      bucket_of_[p->node().get()] = buckets_.size() - 1;
      buckets_.back().parameters.push_back(*p);
      bytes += static_cast<std::size_t>(p->numel()) * sizeof(T);
    }
  }

  std::size_t buckets() const { return buckets_.size(); }

  /// Accumulates the gradient of the mean of all ranks' losses, scalars, into `.grad()` on every rank, where nothing may be yet, and returns
  /// that mean. Every rank calls it. Throws Error if another rank gave up or uses other parameters.
  Tensor<T> backward(const Tensor<T>& loss) {
    const T weight = T(1) / static_cast<T>(communicator_.ranks());
    const Tensor<T> mean = mul(loss.detach(), weight);  // [], once it is summed
    const Tensor<T> cotangent = full<T>(loss.shape(), weight, loss.device());
    for (Bucket& bucket : buckets_) bucket.missing = bucket.parameters.size();
    started_ = 0;
    // The first pass loads kernels and libraries and takes memory. CUDA may wait for all GPUs to do so, and those with a sum for each other.
    const bool first = !std::exchange(settled_, true);
    if (first) {
      loss.backward(cotangent);
      communicator_.settle(rank_);
    }
    communicator_.start_sum(rank_, {mean});
    if (!first) ttt::backward(loss, cotangent, false, [this](const Node& leaf) { complete(leaf); });
    while (started_ < buckets_.size()) start_next();  // with parameters that the loss does not depend on
    communicator_.finish(rank_);
    if (first) communicator_.settle(rank_);
    return mean;
  }

 private:
  struct Bucket {
    Tensors<T> parameters;
    std::size_t missing = 0;  // whose gradients are not complete in this backward pass
  };

  /// All ranks start buckets in the same order, whatever order gradients come in.
  void complete(const Node& leaf) {
    const auto found = bucket_of_.find(&leaf);
    if (found == bucket_of_.end()) return;
    --buckets_[found->second].missing;
    while (started_ < buckets_.size() && buckets_[started_].missing == 0) start_next();
  }
  void start_next() {
    std::vector<TensorBase> grads;
    for (const Tensor<T>& p : buckets_[started_].parameters)
      if (const Tensor<T> g = p.grad(); g.defined()) grads.push_back(g);
    ++started_;
    communicator_.start_sum(rank_, grads);
  }

  Communicator& communicator_;
  int rank_;
  std::vector<Bucket> buckets_;
  std::unordered_map<const Node*, std::size_t> bucket_of_;
  std::size_t started_ = 0;
  bool settled_ = false;
};

}  // namespace ttt
