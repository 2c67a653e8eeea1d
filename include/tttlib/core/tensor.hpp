#pragma once
/// Tensor<T>: a value handle on shared storage, with shape, strides, device and autograd node.
/// Copying a Tensor copies the handle. Every operation on tensors is a free function of namespace ttt (folder ops/);
/// the members declared here that need an upper layer are defined in the layer that owns them.

#include <initializer_list>
#include <memory>
#include <utility>
#include <vector>

#include "tttlib/core/dtype.hpp"
#include "tttlib/core/shape.hpp"
#include "tttlib/core/storage.hpp"

namespace ttt {

struct Node;  // autograd/node.hpp

/// The part of a tensor that does not depend on its element type; what graph edges hold.
class TensorBase {
 public:
  TensorBase() = default;
  TTT_NOINLINE TensorBase(std::shared_ptr<Storage> storage, std::int64_t offset, const Shape& shape, const Strides& strides,
                          DType dtype)
      : storage_(std::move(storage)), offset_(offset), shape_(shape), strides_(strides), dtype_(dtype) {}
  TTT_NOINLINE TensorBase(const TensorBase&) = default;
  TTT_NOINLINE TensorBase(TensorBase&&) = default;
  TTT_NOINLINE TensorBase& operator=(const TensorBase&) = default;
  TTT_NOINLINE TensorBase& operator=(TensorBase&&) = default;
  TTT_NOINLINE ~TensorBase() = default;

  /// False for a default-constructed handle.
  bool defined() const { return storage_ != nullptr; }
  const Shape& shape() const { return shape_; }
  const Strides& strides() const { return strides_; }
  std::int64_t offset() const { return offset_; }
  /// Number of axes.
  std::int64_t dim() const { return static_cast<std::int64_t>(shape_.size()); }
  /// Length of one axis; negative axes count from the end. Throws ShapeError if out of range.
  std::int64_t size(std::int64_t axis) const;
  std::int64_t numel() const { return ttt::numel(shape_); }
  DType dtype() const { return dtype_; }
  Device device() const { return storage_ ? storage_->device() : Device{}; }
  const std::shared_ptr<Storage>& storage() const { return storage_; }
  TTT_NOINLINE bool is_contiguous() const {
    std::int64_t expected = 1;
    for (std::size_t i = shape_.size(); i-- > 0;) {
      if (shape_[i] != 1 && strides_[i] != expected) return numel() == 0;
      expected *= shape_[i];
    }
    return true;
  }

  /// The autograd node that made this tensor; null for a constant.
  const std::shared_ptr<Node>& node() const { return node_; }
  void set_node(std::shared_ptr<Node> node) { node_ = std::move(node); }
  /// True if a gradient can flow to or through this tensor.
  bool is_tracked() const { return node_ != nullptr; }

 protected:
  std::shared_ptr<Storage> storage_;
  std::int64_t offset_ = 0;
  Shape shape_;
  Strides strides_;
  DType dtype_ = DType::float32;
  std::shared_ptr<Node> node_;
};

/// Throws Error if a tensor holds nothing.
inline void require_defined(const char* op, const TensorBase& x) {
  if (!x.defined()) [[unlikely]]
    fail<Error>(op, "undefined tensor", "a default-constructed Tensor holds nothing, and neither does .grad() before backward");
}

/// Turns a negative axis of x into its non-negative twin. Throws ShapeError if it is out of range, Error if x is undefined.
inline std::size_t normalize_axis(const char* op, std::int64_t axis, const TensorBase& x) {
  require_defined(op, x);
  return normalize_axis(op, axis, x.shape().size(), &x.shape());
}
inline std::int64_t TensorBase::size(std::int64_t axis) const { return shape_[normalize_axis("size", axis, *this)]; }

template <class T = float>
class Tensor : public TensorBase {
  static_assert(is_element<T>, "tensors hold float, double, ttt::bf16 or std::int64_t: other integers and bool go into a Tensor<std::int64_t>");

 public:
  using value_type = T;

  Tensor() { dtype_ = dtype_of<T>; }
  /// Uninitialised memory of that shape.
  TTT_NOINLINE explicit Tensor(const Shape& shape, Device device = cpu())
      : TensorBase(std::make_shared<Storage>(byte_count(shape), device), 0, shape, contiguous_strides(shape),
                   dtype_of<T>) {}
  /// A view of existing storage.
  Tensor(std::shared_ptr<Storage> storage, std::int64_t offset, const Shape& shape, const Strides& strides)
      : TensorBase(std::move(storage), offset, shape, strides, dtype_of<T>) {}
  /// The typed handle of an untyped one. Throws DTypeError if the element types differ.
  explicit Tensor(const TensorBase& base) : TensorBase(base) {
    if (base.dtype() != dtype_of<T>)
      fail<DTypeError>("Tensor", concat("element types differ: expected ", dtype_of<T>, ", got ", base.dtype()),
                       "cast<U>(x) converts");
  }

  /// First element; for a contiguous tensor the others follow.
  T* data() { return storage_ ? static_cast<T*>(storage_->data()) + offset_ : nullptr; }
  const T* data() const { return storage_ ? static_cast<const T*>(storage_->data()) + offset_ : nullptr; }

  /// The only element of a one-element tensor on any device. Throws ShapeError otherwise.
  T item() const;                                             // ops/create.hpp
  /// All elements in row-major order, from any device and layout.
  std::vector<T> to_vector() const;                           // ops/create.hpp
  Tensor contiguous() const;                                  // ops/movement.hpp
  Tensor reshape(const Shape& shape) const;                   // ops/movement.hpp
  Tensor permute(const Axes& axes) const;                     // ops/movement.hpp
  Tensor transpose(std::int64_t a, std::int64_t b) const;     // ops/movement.hpp
  Tensor to(Device device) const;                             // ops/movement.hpp

  /// The same values without history.
  Tensor detach() const {
    Tensor result = *this;
    result.node_ = nullptr;
    return result;
  }
  /// Makes this tensor a leaf that `backward` accumulates into.
  Tensor& requires_grad(bool on = true);                      // autograd/backward.hpp
  /// Accumulated gradient of a leaf; undefined before the first `backward`. Never carries a node.
  Tensor grad() const;                                        // autograd/backward.hpp
  void zero_grad();                                           // autograd/backward.hpp
  /// Replaces the accumulated gradient of a leaf, e.g. by a clipped one. Throws GradError if this is not a leaf.
  void set_grad(const Tensor& grad) const;                    // autograd/backward.hpp
  /// Accumulates d(this)/d(leaf) into `.grad()` of every leaf; this must be a scalar unless a cotangent is given. Passes on several threads at
  /// once may share leaves, and no other part of their graphs.
  void backward(const Tensor& cotangent = {}, bool retain_graph = false) const;  // autograd/backward.hpp

 private:
  static std::size_t byte_count(const Shape& shape) {
    for (std::int64_t d : shape)
      if (d < 0) fail<ShapeError>("Tensor", concat("negative size: shape ", shape));
    std::int64_t bytes = 0;
    if (__builtin_mul_overflow(ttt::numel(shape), sizeof(T), &bytes))
      fail<ShapeError>("Tensor", concat("too many elements: shape ", shape));
    return static_cast<std::size_t>(bytes);
  }
};

template <class T>
using Tensors = std::vector<Tensor<T>>;

}  // namespace ttt
