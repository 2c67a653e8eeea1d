#pragma once
/// Inner models F_W: what a TTT layer trains on each image. A model is a function of (tokens, weights) and the shapes
/// of its weights; nothing else has to be written to train it, or to differentiate through that training.

#include <functional>
#include <string>
#include <utility>

#include "tttlib/ops/conv.hpp"
#include "tttlib/ops/matmul.hpp"

namespace ttt {

/// F_W(x): x [B, H, N, d], weights [B, H, …] -> [B, H, N, d'].
template <class T>
struct InnerModel {
  std::string name;
  std::vector<Shape> weight_shapes;  // of one head: [d, d], [d, 1, 3, 3] …
  std::function<Tensor<T>(const Tensor<T>& x, const Tensors<T>& w)> apply;

  Tensor<T> operator()(const Tensor<T>& x, const Tensors<T>& w) const { return apply(x, w); }
};

namespace inner {

/// A model of your own, e.g. `inner::model<float>("cubic", {{d, d}}, [](auto& x, auto& w) { return pow(matmul(x, w[0]), 3); })`.
template <class T = float, class F>
InnerModel<T> model(std::string name, std::vector<Shape> weight_shapes, F apply) {
  return {std::move(name), std::move(weight_shapes),
          [apply](const Tensor<T>& x, const Tensors<T>& w) -> Tensor<T> { return apply(x, w); }};
}

/// xW: linear attention is this model with W0 = 0 and the dot loss.
template <class T = float>
InnerModel<T> fc(std::int64_t d) {
  return model<T>("fc", {{d, d}}, [](const Tensor<T>& x, const Tensors<T>& w) { return matmul(x, w[0]); });
}
/// SiLU(xW1)W2
template <class T = float>
InnerModel<T> mlp(std::int64_t d, std::int64_t hidden) {
  return model<T>("mlp", {{d, hidden}, {hidden, d}},
                  [](const Tensor<T>& x, const Tensors<T>& w) { return matmul(silu(matmul(x, w[0])), w[1]); });
}
/// (xW1) ⊙ SiLU(xW2): the heads of ViT³
template <class T = float>
InnerModel<T> glu(std::int64_t d) {
  return model<T>("glu", {{d, d}, {d, d}}, [](const Tensor<T>& x, const Tensors<T>& w) {
    return mul(matmul(x, w[0]), silu(matmul(x, w[1])));
  });
}
/// Depthwise 3×3 convolution on the grid of tokens (row-major, zero padding 1): the extra head of ViT³
template <class T = float>
InnerModel<T> dwconv3x3(std::int64_t d, std::int64_t height, std::int64_t width) {
  return model<T>("dwconv3x3", {{d, 1, 3, 3}}, [height, width](const Tensor<T>& x, const Tensors<T>& w) {
    if (x.size(-2) != height * width)
      fail<ShapeError>("dwconv3x3", concat("tokens do not fill the grid: x ", x.shape(), ", grid ", height, " x ", width));
    const std::int64_t images = x.size(0) * x.size(1), channels = x.size(-1);
    const Tensor<T> grid = reshape(x, {images, height, width, channels});  // [B·H, h, w, d]
    const Tensor<T> kernel = reshape(w[0], {images, channels, 3, 3});      // [B·H, d, 3, 3]
    return reshape(depthwise_conv2d(grid, kernel, {.padding = {1, 1}}), x.shape());
  });
}

}  // namespace inner
}  // namespace ttt
