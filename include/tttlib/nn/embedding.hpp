#pragma once
/// Embedding: a table of learned rows.

#include "tttlib/nn/module.hpp"
#include "tttlib/ops/index.hpp"

namespace ttt {

/// [..] integer indices -> [.., width]. Throws ShapeError for an index outside of the table.
template <class T>
class Embedding : public Module<T> {
 public:
  Tensor<T> weight;  // [count, width]

  Embedding(std::int64_t count, std::int64_t width) : Module<T>("Embedding") {
    this->register_parameter("weight", weight, randn<T>({count, width}));
  }
  using Module<T>::operator();
  Tensor<T> operator()(const Tensor<std::int64_t>& index) {
    return this->called(index.shape(), [&] { return embedding(weight, index); });
  }
  /// Indices given as numbers of the working type.
  Tensor<T> forward(const Tensor<T>& x) override { return embedding(weight, cast<std::int64_t>(x)); }
};

}  // namespace ttt
