#pragma once
/// A linear classifier on the pixels: the baseline that says how much a data set asks for.

#include "tttlib/nn/linear.hpp"

namespace ttt {

/// Images of one size to class scores: [B, H, W, 3] -> [B, classes].
template <class T>
class LinearPixels : public Module<T> {
 public:
  std::shared_ptr<Linear<T>> head;

  LinearPixels(std::int64_t image_size, std::int64_t num_classes) : Module<T>("LinearPixels"), pixels_(image_size * image_size * 3) {
    head = this->register_module("head", std::make_shared<Linear<T>>(pixels_, num_classes));
  }
  Tensor<T> forward(const Tensor<T>& images) override {
    if (images.dim() != 4 || images.size(0) == 0 || images.numel() != images.size(0) * pixels_)
      fail<ShapeError>("LinearPixels", concat("needs images of ", pixels_, " numbers: x ", images.shape()));
    return (*head)(reshape(images, {images.size(0), pixels_}));
  }

 private:
  std::int64_t pixels_;
};

}  // namespace ttt
