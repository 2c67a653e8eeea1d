#pragma once
/// Conv2d on channels-last images.

#include "tttlib/nn/init.hpp"
#include "tttlib/nn/module.hpp"
#include "tttlib/ops/conv.hpp"

namespace ttt {

/// [B, H, W, in] -> [B, H', W', out], cross-correlation; groups = in = out is depthwise. Throws ShapeError for sizes
/// that make no convolution.
template <class T>
class Conv2d : public Module<T> {
 public:
  Tensor<T> weight;  // [out, in/groups, kh, kw]
  Tensor<T> bias;    // [out], undefined without bias
  Conv2dOptions options;

  Conv2d(std::int64_t in, std::int64_t out, std::int64_t kernel, const Conv2dOptions& o = {}, bool with_bias = true)
      : Module<T>("Conv2d"), options(o) {
    if (in < 1 || out < 1 || kernel < 1 || o.groups < 1 || in % o.groups != 0 || out % o.groups != 0)
      fail<ShapeError>("Conv2d", concat("needs positive sizes, and groups that divide both channels: in ", in, ", out ", out,
                                        ", kernel ", kernel, ", groups ", o.groups));
    const Shape shape{out, in / o.groups, kernel, kernel};
    this->register_parameter("weight", weight, init::kaiming_uniform<T>(shape));
    if (with_bias) this->register_parameter("bias", bias, init::bias_uniform<T>(shape, out));
  }
  Tensor<T> forward(const Tensor<T>& x) override { return conv2d(x, weight, bias, options); }
};

}  // namespace ttt
