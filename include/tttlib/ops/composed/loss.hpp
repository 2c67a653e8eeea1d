#pragma once
/// Losses. Each can return one number (mean, sum) or keep one value per element (none).

#include "tttlib/autograd/fused.hpp"
#include "tttlib/ops/composed/softmax.hpp"
#include "tttlib/ops/index.hpp"

namespace ttt {

/// How a loss combines its values.
enum class Reduce { mean, sum, none };

struct CrossEntropyOptions {
  double label_smoothing = 0;  // this share of each target is spread evenly over all classes
  Reduce reduce = Reduce::mean;
};

namespace detail {

template <class T>
Tensor<T> reduce_loss(const Tensor<T>& values, Reduce reduce) {
  if (reduce == Reduce::none) return values;
  return reduce == Reduce::sum ? sum(values) : mean(values);
}

/// Throws ShapeError if two operands of a loss differ in shape: broadcasting one would be a silent mistake.
template <class T>
void require_same_shape(const char* op, const Tensor<T>& prediction, const Tensor<T>& target) {
  require_defined(op, prediction);
  require_defined(op, target);
  if (prediction.shape() != target.shape())
    fail<ShapeError>(op,
                     concat("shapes differ: prediction ", prediction.shape(), ", target ", target.shape()));
}

template <class T>
void require_logits(const Tensor<T>& logits, const CrossEntropyOptions& options) {
  require_defined("cross_entropy", logits);
  if (logits.dim() < 1 || logits.size(-1) == 0)
    fail<ShapeError>("cross_entropy", concat("needs a last axis of classes: logits ", logits.shape()));
  if (!(options.label_smoothing >= 0 && options.label_smoothing <= 1))
    fail<ShapeError>("cross_entropy",
                     concat("label_smoothing out of range: ", options.label_smoothing, " is not in [0, 1]"));
}

}  // namespace detail

/// −log p(label) with p = softmax(logits): logits [.., C], labels [..] of class numbers.
/// Throws ShapeError if the shapes do not fit or a label is not in [0, C).
template <class T>
Tensor<T> cross_entropy(const Tensor<T>& logits, const Tensor<std::int64_t>& labels,
                        const CrossEntropyOptions& options = {}) {
  detail::require_logits(logits, options);
  Shape expected = logits.shape();
  expected.erase(expected.size() - 1);
  if (labels.shape() != expected)
    fail<ShapeError>("cross_entropy", concat("one label per row of logits is needed: logits ", logits.shape(),
                                             ", labels ", labels.shape()));
  detail::require_positions("cross_entropy", "classes", labels, logits.size(-1), "labels");
  require_same_device("cross_entropy", logits, labels);
  const std::int64_t C = logits.size(-1), R = labels.numel();
  const Tensor<T> x = contiguous(reshape(logits, {R, C}));                             // [R, C]
  const Tensor<std::int64_t> classes = reshape(labels, {R}).contiguous();              // [R]
  const double s = options.label_smoothing;
  Tensor<T> losses(Shape{R}, x.device());                                              // [R]
  Tensor<Wide<T>> log_sums;                                                            // [R]
  if (is_recorded<T>({x})) log_sums = Tensor<Wide<T>>(Shape{R}, x.device());
  backend::cross_entropy(view(x), view(classes), s, log_sums.data(), mutable_view(losses));
  const auto definition = [kept = detail::Constant(classes), s](const Tensors<T>& xs) {
    const Tensor<T> log_p = log_softmax(xs[0]);                                        // [R, C]
    const Tensor<std::int64_t> at = unsqueeze(kept.get("cross_entropy", "labels"), -1);  // [R, 1]
    const Tensor<T> of_label = neg(squeeze(gather(log_p, at, -1), -1));                // [R]
    return s > 0 ? sub(mul(of_label, static_cast<Wide<T>>(1 - s)), mul(mean(log_p, {-1}), static_cast<Wide<T>>(s))) : of_label;
  };
  const auto fast_rule = [kept = detail::Constant(classes), s, log_sums](const Call<T>& c, const std::vector<bool>&) {
    const Tensor<T> in = c.in(0), g = contiguous(c.g);
    Tensor<T> dx = empty_like(in);
    backend::cross_entropy_pull(view(in), view(kept.get("cross_entropy", "labels")), s, log_sums.data(), view(g), mutable_view(dx));
    return Tensors<T>{dx};
  };
  const Tensor<T> values = fused<T>("cross_entropy", losses, {x}, definition, fast_rule);  // [R]
  return detail::reduce_loss(reshape(values, expected), options.reduce);
}

/// −Σ_c target_c log p_c: logits and targets [.., C]; gradients reach the targets too.
/// Throws ShapeError if the shapes differ.
template <class T>
Tensor<T> cross_entropy(const Tensor<T>& logits, const Tensor<T>& targets,
                        const CrossEntropyOptions& options = {}) {
  detail::require_logits(logits, options);
  detail::require_same_shape("cross_entropy", logits, targets);
  const Wide<T> smoothing = static_cast<Wide<T>>(options.label_smoothing), classes = static_cast<Wide<T>>(logits.size(-1));
  Tensor<T> soft = targets;  // [.., C]
  if (smoothing > 0) soft = add(mul(soft, 1 - smoothing), smoothing / classes);
  return detail::reduce_loss(neg(sum(mul(soft, log_softmax(logits)), {-1})), options.reduce);
}

/// (prediction − target)²
template <class T>
Tensor<T> mse_loss(const Tensor<T>& prediction, const Tensor<T>& target, Reduce reduce = Reduce::mean) {
  detail::require_same_shape("mse_loss", prediction, target);
  return detail::reduce_loss(square(sub(prediction, target)), reduce);
}

/// |prediction − target|
template <class T>
Tensor<T> l1_loss(const Tensor<T>& prediction, const Tensor<T>& target, Reduce reduce = Reduce::mean) {
  detail::require_same_shape("l1_loss", prediction, target);
  return detail::reduce_loss(abs(sub(prediction, target)), reduce);
}

/// d²/(2·beta) where |d| < beta, else |d| − beta/2, with d = prediction − target; beta 0 is l1_loss.
template <class T>
Tensor<T> smooth_l1_loss(const Tensor<T>& prediction, const Tensor<T>& target, double beta = 1,
                         Reduce reduce = Reduce::mean) {
  detail::require_same_shape("smooth_l1_loss", prediction, target);
  if (!(beta >= 0)) fail<ShapeError>("smooth_l1_loss", concat("beta must not be negative: beta ", beta));
  if (beta == 0) return l1_loss(prediction, target, reduce);
  const Tensor<T> d = sub(prediction, target), size = abs(d),
                  limit = full<T>(Shape{}, static_cast<Wide<T>>(beta), d.device());
  return detail::reduce_loss(where(lt(size, limit), mul(square(d), static_cast<Wide<T>>(0.5 / beta)),
                                   add(size, static_cast<Wide<T>>(-0.5 * beta))),
                             reduce);
}

/// log(1 + e^x) = max(x, 0) + log(1 + e^−|x|), without overflow and with all digits of small values.
template <class T>
Tensor<T> softplus(const Tensor<T>& x) {
  const Tensor<Wide<T>> values = cast<Wide<T>>(x.detach());
  const Tensor<T> y = cast<T>(add(relu(values), log1p(exp(neg(abs(values))))));
  return record<T>("softplus", y, {saved(x)}, [](const Call<T>& c) { return mul(c.g, sigmoid(c.in(0))); });
}

/// −[t log σ(x) + (1−t) log(1−σ(x))] for logits x and targets t in [0, 1], as (max(x, 0) − t·x) + log(1 + e^−|x|): what is small
/// comes last, so a confident right answer keeps its loss.
template <class T>
Tensor<T> bce_with_logits(const Tensor<T>& logits, const Tensor<T>& target, Reduce reduce = Reduce::mean) {
  detail::require_same_shape("bce_with_logits", logits, target);
  const Tensor<Wide<T>> x = cast<Wide<T>>(logits.detach()), t = cast<Wide<T>>(target.detach());
  const Tensor<T> losses = cast<T>(add(sub(relu(x), mul(t, x)), log1p(exp(neg(abs(x))))));
  return detail::reduce_loss(record<T>("bce_with_logits", losses, {saved(logits), saved(target)},
                                       [](const Call<T>& c) { return mul(c.g, sub(sigmoid(c.in(0)), c.in(1))); },
                                       [](const Call<T>& c) { return neg(mul(c.g, c.in(0))); }),
                             reduce);
}

}  // namespace ttt
