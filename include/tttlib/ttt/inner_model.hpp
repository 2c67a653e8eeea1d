#pragma once
/// Inner models F_W: what a TTT layer trains on each image. A model is a function of (tokens, weights) and the list of
/// its weights; nothing else has to be written to train it, or to differentiate through that training. The models of
/// the papers are in inner_models.hpp.

#include <concepts>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "tttlib/autograd/record.hpp"
#include "tttlib/core/cost.hpp"
#include "tttlib/ops/matmul.hpp"

namespace ttt {

/// One weight of an inner model, as one head owns it.
struct InnerParameter {
  enum class Start { normal, zeros, ones, identity };

  std::string name;
  Shape shape;                  // matrix [in, out], bias [1, out], kernel [out, in, 3, 3] …
  Start start = Start::normal;  // what training from scratch begins with
  bool trained = true;          // false: only the outer network learns it (γ and β of TTT-Linear)
};

/// A linear map x ↦ xW + b of a model, by the positions of W and b among its weights.
struct InnerLinearMap {
  static constexpr std::size_t none = static_cast<std::size_t>(-1);
  std::size_t weight = 0, bias = none;
};
/// `linear(i, x)` applies linear map i of a model: x [B, H, n, in] -> [B, H, n, out].
template <class T>
using InnerLinear = std::function<Tensor<T>(std::size_t i, const Tensor<T>& x)>;

/// F_W(x): x [B, H, n, d], weights [B, H, …] -> [B, H, n, d'].
template <class T>
struct InnerModel {
  std::string name;
  std::vector<InnerParameter> parameters;
  std::function<Tensor<T>(const Tensor<T>& x, const Tensors<T>& w)> apply;
  std::function<Tensors<T>(std::int64_t heads)> own_start;  // replaces each parameter's `start`; may be empty

  /// The same function with its linear maps handed in, which is all that the dual form (dual_form.hpp) needs to know;
  /// empty for models that are not made of linear maps used once each.
  std::vector<InnerLinearMap> maps;
  std::function<Tensor<T>(const Tensor<T>& x, const Tensors<T>& w, const InnerLinear<T>& linear)> by_maps;

  /// In training and in answering alike, products of the inner model never round their operands.
  Tensor<T> operator()(const Tensor<T>& x, const Tensors<T>& w) const {
    if (!apply) fail<Error>("InnerModel", concat("no function to apply: model \"", name, "\""), "set apply, or use inner::model");
    const MatmulPrecisionGuard in_float(MatmulPrecision::float32);
    return apply(x, w);
  }

  /// Weights W0 to start learning from: [H, …] each. Normal ones have the given deviation, cut at ±2.
  Tensors<T> initial_weights(std::int64_t heads, double deviation = 0.02) const {
    if (own_start) return own_start(heads);
    Tensors<T> w0;
    for (const InnerParameter& p : parameters) {
      Shape shape = p.shape;
      shape.insert(0, heads);
      switch (p.start) {
        case InnerParameter::Start::normal: w0.push_back(trunc_normal<T>(shape, deviation)); break;
        case InnerParameter::Start::zeros: w0.push_back(zeros<T>(shape)); break;
        case InnerParameter::Start::ones: w0.push_back(ones<T>(shape)); break;
        case InnerParameter::Start::identity: w0.push_back(identity(shape)); break;
      }
    }
    return w0;
  }

  /// Multiply-accumulates of one call on x [B, H, n, d], counted by making it on zeros.
  std::int64_t macs(const Shape& x) const {
    const NoGradGuard guard;
    Tensors<T> w;
    for (const InnerParameter& p : parameters) {
      Shape shape = p.shape;
      shape.insert(0, x[1]);
      shape.insert(0, x[0]);
      w.push_back(zeros<T>(shape));
    }
    struct Count {
      std::int64_t macs = 0, *outer = mac_counter();
      Count() { mac_counter() = &macs; }
      ~Count() { mac_counter() = outer; }
    } count;
    (*this)(zeros<T>(x), w);
    return count.macs;
  }

  /// Weights of one head.
  std::int64_t parameter_count() const {
    std::int64_t n = 0;
    for (const InnerParameter& p : parameters) n += numel(p.shape);
    return n;
  }

 private:
  /// Ones where row and column agree, zeros elsewhere: [H, in, out].
  static Tensor<T> identity(const Shape& shape) {
    Tensor<T> y = zeros<T>(shape);
    const std::int64_t rows = shape[1], columns = shape[2];
    for (std::int64_t h = 0; h < shape[0]; ++h)
      for (std::int64_t i = 0; i < rows && i < columns; ++i) y.data()[(h * rows + i) * columns + i] = T(1);
    return y;
  }
};

/// x·W_i (+ b_i) with weights w [B, H, …]: x [B, H, n, in] -> [B, H, n, out].
template <class T>
Tensor<T> apply_linear_map(const InnerLinearMap& map, const Tensor<T>& x, const Tensors<T>& w) {
  const Tensor<T> y = matmul(x, w[map.weight]);  // [B, H, n, out]
  return map.bias == InnerLinearMap::none ? y : add(y, w[map.bias]);
}

namespace inner {

/// A model of your own by weight shapes of one head, e.g.
/// `inner::model<float>("cubic", {{d, d}}, [](auto& x, auto& w) { return pow(matmul(x, w[0]), 3); })`.
/// `start(heads)` makes its initial weights, [H, …] each; by default they are small normal numbers.
template <class T = float, class F>
InnerModel<T> model(std::string name, const std::vector<Shape>& weight_shapes, F apply,
                    std::function<Tensors<T>(std::int64_t heads)> start = {}) {
  InnerModel<T> m;
  m.name = std::move(name);
  for (const Shape& shape : weight_shapes) m.parameters.push_back({concat("w", m.parameters.size() + 1), shape});
  m.apply = [apply](const Tensor<T>& x, const Tensors<T>& w) -> Tensor<T> { return apply(x, w); };
  m.own_start = std::move(start);
  return m;
}

/// A model made of linear maps, each used once, and functions of single tokens between them:
/// `f(x, linear, w)` calls `linear(i, x)` for map i. Without a list, map i is weight i without a bias.
template <class T = float, class F>
InnerModel<T> model_of_maps(std::string name, std::vector<InnerParameter> parameters, F f,
                            std::vector<InnerLinearMap> maps = {}) {
  InnerModel<T> m;
  if (maps.empty())
    for (std::size_t i = 0; i < parameters.size(); ++i) maps.push_back({i});
  m.name = std::move(name);
  m.parameters = std::move(parameters);
  m.maps = maps;
  m.by_maps = [f](const Tensor<T>& x, const Tensors<T>& w, const InnerLinear<T>& linear) -> Tensor<T> {
    return f(x, linear, w);
  };
  m.apply = [f, maps](const Tensor<T>& x, const Tensors<T>& w) -> Tensor<T> {
    return f(x, [&](std::size_t i, const Tensor<T>& at) { return apply_linear_map(maps[i], at, w); }, w);
  };
  return m;
}

}  // namespace inner
}  // namespace ttt
