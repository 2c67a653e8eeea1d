#pragma once
/// Layer, batch and group normalisation over channels-last tensors [.., C].

#include "tttlib/autograd/fused.hpp"
#include "tttlib/ops/create.hpp"
#include "tttlib/ops/reduce.hpp"

namespace ttt {

namespace detail {

/// Throws ShapeError unless scale and offset are undefined or [channels].
template <class T>
void require_affine(const char* op, const Tensor<T>& x, const Tensor<T>& w, const Tensor<T>& b) {
  require_defined(op, x);
  if (x.dim() < 1) fail<ShapeError>(op, "needs at least one axis: x []");
  const Shape channels{x.size(-1)};
  if (w.defined() && w.shape() != channels)
    fail<ShapeError>(op, concat("weight does not fit the last axis: x ", x.shape(), ", weight ", w.shape()));
  if (b.defined() && b.shape() != channels)
    fail<ShapeError>(op, concat("bias does not fit the last axis: x ", x.shape(), ", bias ", b.shape()));
}

/// x·w + b with either left out.
template <class T>
Tensor<T> scale_and_shift(Tensor<T> x, const Tensor<T>& w, const Tensor<T>& b) {
  if (w.defined()) x = mul(x, w);
  return b.defined() ? add(x, b) : x;
}

}  // namespace detail

/// (x − mean)/√(var + eps)·w + b over the last axis, biased variance: x [.., C], w and b [C] or undefined ->
/// [.., C]. Throws ShapeError if w or b do not fit.
template <class T>
Tensor<T> layer_norm(const Tensor<T>& input, const Tensor<T>& w = {}, const Tensor<T>& b = {},
                     double eps = 1e-5) {
  detail::require_affine("layer_norm", input, w, b);
  const Tensor<T> x = contiguous(input);
  const bool has_w = w.defined(), has_b = b.defined();
  Tensors<T> inputs{x};
  if (has_w) inputs.push_back(contiguous(w));
  if (has_b) inputs.push_back(contiguous(b));
  for (const Tensor<T>& other : inputs) require_same_device("layer_norm", x, other);
  const std::size_t at_b = has_w ? 2 : 1;
  Tensor<T> y = empty_like(x);
  backend::layer_norm(view(x), has_w ? inputs[1].data() : nullptr, has_b ? inputs[at_b].data() : nullptr, eps,
                      mutable_view(y));
  const auto definition = [=](const Tensors<T>& xs) {
    const Tensor<T> centred = sub(xs[0], mean(xs[0], {-1}, true));                              // [.., C]
    const Tensor<T> rstd = rsqrt(add(mean(square(centred), {-1}, true), static_cast<Wide<T>>(eps)));  // [.., 1]
    return detail::scale_and_shift(mul(centred, rstd), has_w ? xs[1] : Tensor<T>(),
                                   has_b ? xs[at_b] : Tensor<T>());
  };
  const auto fast_rule = [=](const Call<T>& c, const std::vector<bool>&) {
    const Tensor<T> in = c.in(0), g = contiguous(c.g);
    const Tensor<T> scale = has_w ? c.in(1) : Tensor<T>();
    Tensors<T> d{empty_like(in)};
    if (has_w) d.push_back(Tensor<T>(c.shape(1), in.device()));
    if (has_b) d.push_back(Tensor<T>(c.shape(at_b), in.device()));
    backend::layer_norm_pull(view(in), scale.data(), view(g), eps, mutable_view(d[0]),
                             has_w ? d[1].data() : nullptr, has_b ? d[at_b].data() : nullptr);
    return d;
  };
  return fused<T>("layer_norm", y, inputs, definition, fast_rule);
}

/// A layer norm's numbers, for ops that it is a part of.
template <class T>
struct Affine {
  Tensor<T> weight, bias;  // [C]
  double eps = 1e-5;
};

struct BatchNormOptions {
  bool training = true;   // statistics of the batch; else the running ones
  double momentum = 0.1;  // weight of the new batch in the running statistics
  double eps = 1e-5;
};

/// Normalises each channel of x [.., C] over all other axes, then ·w + b. In training the batch's biased
/// variance normalises, and `running_mean`, `running_var` [C] (undefined: none) take the mean and the
/// unbiased variance. Throws ShapeError if a size differs, or when training on one value per channel.
template <class T>
Tensor<T> batch_norm(const Tensor<T>& x, Tensor<T>& running_mean, Tensor<T>& running_var,
                     const Tensor<T>& w = {}, const Tensor<T>& b = {}, const BatchNormOptions& options = {}) {
  const char* op = "batch_norm";
  detail::require_affine(op, x, w, b);
  detail::require_affine(op, x, running_mean, running_var);
  if (running_mean.defined() != running_var.defined())
    fail<ShapeError>(op, concat("one running statistic without the other: running_", running_mean.defined() ? "var" : "mean", " is undefined"),
                     "pass both, or neither in training");
  const Wide<T> eps = static_cast<Wide<T>>(options.eps);
  if (!options.training) {
    if (!running_mean.defined() || !running_var.defined())
      fail<ShapeError>(op, "running statistics are needed outside of training: they are undefined");
    return detail::scale_and_shift(mul(sub(x, running_mean), rsqrt(add(running_var, eps))), w, b);
  }
  const std::int64_t channels = x.size(-1), count = channels == 0 ? 0 : x.numel() / channels;
  if (count < 2)
    fail<ShapeError>(op, concat("training needs more than one value per channel: x ", x.shape()));
  const Tensor<T> rows = reshape(x, {count, channels});   // [N, C]
  const Tensor<T> average = mean(rows, {0});              // [C]
  const Tensor<T> centred = sub(rows, average);           // [N, C]
  const Tensor<T> variance = mean(square(centred), {0});  // [C]
  if (running_mean.defined() && running_var.defined()) {
    NoGradGuard guard;
    const Wide<T> momentum = static_cast<Wide<T>>(options.momentum);
    const Wide<T> unbiased = static_cast<Wide<T>>(static_cast<double>(count) / static_cast<double>(count - 1));
    assign(running_mean, add(mul(running_mean, 1 - momentum), mul(average, momentum)));
    assign(running_var, add(mul(running_var, 1 - momentum), mul(variance, momentum * unbiased)));
  }
  return reshape(detail::scale_and_shift(mul(centred, rsqrt(add(variance, eps))), w, b), x.shape());
}

/// Normalises each group of C/groups channels over the group and all pixels of an image, then ·w + b:
/// x [B, .., C], w and b [C] or undefined -> [B, .., C]. Throws ShapeError unless groups divides C.
template <class T>
Tensor<T> group_norm(const Tensor<T>& x, std::int64_t groups, const Tensor<T>& w = {},
                     const Tensor<T>& b = {}, double eps = 1e-5) {
  detail::require_affine("group_norm", x, w, b);
  const std::int64_t images = x.size(0), channels = x.size(-1);
  if (x.dim() < 2 || groups < 1 || channels % groups != 0)
    fail<ShapeError>("group_norm",
                     concat("groups do not divide the channels: x ", x.shape(), ", groups ", groups));
  if (x.numel() == 0) return detail::scale_and_shift(x, w, b);
  const std::int64_t pixels = x.numel() / images / channels, width = channels / groups;
  const Tensor<T> by_group =
      permute(reshape(x, {images, pixels, groups, width}), {0, 2, 1, 3});  // [B, G, P, C/G]
  const Tensor<T> normal =
      layer_norm(reshape(by_group, {images, groups, pixels * width}), {}, {}, eps);  // [B, G, P·C/G]
  const Tensor<T> back =
      permute(reshape(normal, {images, groups, pixels, width}), {0, 2, 1, 3});  // [B, P, G, C/G]
  return detail::scale_and_shift(reshape(back, x.shape()), w, b);
}

}  // namespace ttt
