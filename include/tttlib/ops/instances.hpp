#pragma once
/// The ops that `tttlib::compiled` holds for float, double and bf16: a program that links it only declares them, and
/// compiles in seconds. `TTT_OP_INSTANCES(extern template, T)` declares, `TTT_OP_INSTANCES(template, T)` emits.
/// An op that is not listed works all the same; it is compiled where it is used.

#include "tttlib/ops/ops.hpp"

#define TTT_OP_INSTANCES(KEYWORD, T)                                                                                  \
  TTT_CREATE_INSTANCES(KEYWORD, T)                                                                                    \
  TTT_MOVEMENT_INSTANCES(KEYWORD, T)                                                                                  \
  TTT_ELEMENTWISE_INSTANCES(KEYWORD, T)                                                                               \
  TTT_OTHER_INSTANCES(KEYWORD, T)

#define TTT_CREATE_INSTANCES(KEYWORD, T)                                                                              \
  KEYWORD Tensor<T> full<T>(const Shape&, Wide<T>, Device);                                                           \
  KEYWORD Tensor<T> zeros_like<T>(const Tensor<T>&);                                                                  \
  KEYWORD Tensor<T> ones_like<T>(const Tensor<T>&);                                                                   \
  KEYWORD Tensor<T> rand<T>(const Shape&, Device);                                                                    \
  KEYWORD Tensor<T> uniform<T>(const Shape&, double, double, Device);                                                 \
  KEYWORD Tensor<T> randn<T>(const Shape&, Device);                                                                   \
  KEYWORD Tensor<T> trunc_normal<T>(const Shape&, double, double, Device);                                            \
  KEYWORD void assign<T>(Tensor<T>&, const Tensor<T>&);                                                               \
  KEYWORD Tensor<T>::Tensor(const Shape&, Device);                                                                     \
  KEYWORD View<const T> view<T>(const Tensor<T>&);                                                                     \
  KEYWORD View<T> mutable_view<T>(Tensor<T>&);                                                                         \
  KEYWORD void require_finite<T>(const char*, const Tensor<T>&, const char*);                                          \
  KEYWORD void detail::attach<T>(Tensor<T>&, const char*, const Operand&, const Operand*, std::size_t,                 \
                                 std::vector<detail::Rule<T>>);                                                        \
  KEYWORD std::pair<Tensor<T>, Tensors<T>> detail::pull_back<T>(const char*, const detail::ListFunction<T>&,           \
                                                                const Tensors<T>&, Tensor<T>);                         \
  KEYWORD T Tensor<T>::item() const;                                                                                  \
  KEYWORD std::vector<T> Tensor<T>::to_vector() const;                                                                \
  KEYWORD Tensor<T>& Tensor<T>::requires_grad(bool);                                                                  \
  KEYWORD Tensor<T> Tensor<T>::grad() const;                                                                          \
  KEYWORD void Tensor<T>::zero_grad();                                                                                \
  KEYWORD void Tensor<T>::set_grad(const Tensor<T>&) const;                                                           \
  KEYWORD void backward<T>(const Tensor<T>&, const Tensor<T>&, bool, const LeafHook&);                                \
  KEYWORD void Tensor<T>::backward(const Tensor<T>&, bool) const;

#define TTT_MOVEMENT_INSTANCES(KEYWORD, T)                                                                            \
  KEYWORD Tensor<T> broadcast_to<T>(const Tensor<T>&, Shape);                                                         \
  KEYWORD Tensor<T> sum_to<T>(const Tensor<T>&, const Shape&);                                                        \
  KEYWORD Tensor<T> contiguous<T>(const Tensor<T>&);                                                                  \
  KEYWORD Tensor<T> clone<T>(const Tensor<T>&);                                                                       \
  KEYWORD Tensor<T> reshape<T>(const Tensor<T>&, Shape);                                                              \
  KEYWORD Tensor<T> permute<T>(const Tensor<T>&, const Axes&);                                                        \
  KEYWORD Tensor<T> transpose<T>(const Tensor<T>&, std::int64_t, std::int64_t);                                       \
  KEYWORD Tensor<T> unsqueeze<T>(const Tensor<T>&, std::int64_t);                                                     \
  KEYWORD Tensor<T> squeeze<T>(const Tensor<T>&, std::int64_t);                                                       \
  KEYWORD Tensor<T> slice<T>(const Tensor<T>&, std::int64_t, std::int64_t, std::int64_t, std::int64_t);               \
  KEYWORD Tensor<T> select<T>(const Tensor<T>&, std::int64_t, std::int64_t);                                          \
  KEYWORD Tensors<T> split<T>(const Tensor<T>&, const std::vector<std::int64_t>&, std::int64_t);                      \
  KEYWORD Tensors<T> chunk<T>(const Tensor<T>&, std::int64_t, std::int64_t);                                          \
  KEYWORD Tensor<T> cat<T>(const Tensors<T>&, std::int64_t);                                                          \
  KEYWORD Tensor<T> stack<T>(const Tensors<T>&, std::int64_t);                                                        \
  KEYWORD Tensor<T> pad<T>(const Tensor<T>&, std::int64_t, std::int64_t, std::int64_t);                               \
  KEYWORD Tensor<T> flip<T>(const Tensor<T>&, std::int64_t);                                                          \
  KEYWORD Tensor<T> Tensor<T>::to(Device) const;                                                                      \
  KEYWORD Tensor<T> detail::add_same<T>(const Tensor<T>&, const Tensor<T>&);                                          \
  KEYWORD TensorBase detail::accumulate<T>(const TensorBase&, const TensorBase&, bool);                               \
  KEYWORD TensorBase detail::owned_sum<T>(const Edge&, const TensorBase&);

#define TTT_UNARY_INSTANCE(KEYWORD, T, name) KEYWORD Tensor<T> name<T>(const Tensor<T>&);
#define TTT_BINARY_INSTANCE(KEYWORD, T, name) KEYWORD Tensor<T> name<T>(const Tensor<T>&, const Tensor<T>&);
#define TTT_SCALAR_INSTANCE(KEYWORD, T, name) KEYWORD Tensor<T> name<T>(const Tensor<T>&, Wide<T>);

#define TTT_ELEMENTWISE_INSTANCES(KEYWORD, T)                                                                         \
  TTT_UNARY_INSTANCE(KEYWORD, T, neg)                                                                                 \
  TTT_UNARY_INSTANCE(KEYWORD, T, reciprocal)                                                                          \
  TTT_UNARY_INSTANCE(KEYWORD, T, reciprocal_or_zero)                                                                  \
  TTT_UNARY_INSTANCE(KEYWORD, T, square)                                                                              \
  TTT_UNARY_INSTANCE(KEYWORD, T, exp)                                                                                 \
  TTT_UNARY_INSTANCE(KEYWORD, T, log)                                                                                 \
  TTT_UNARY_INSTANCE(KEYWORD, T, log1p)                                                                               \
  TTT_UNARY_INSTANCE(KEYWORD, T, sqrt)                                                                                \
  TTT_UNARY_INSTANCE(KEYWORD, T, rsqrt)                                                                               \
  TTT_UNARY_INSTANCE(KEYWORD, T, sin)                                                                                 \
  TTT_UNARY_INSTANCE(KEYWORD, T, cos)                                                                                 \
  TTT_UNARY_INSTANCE(KEYWORD, T, tanh)                                                                                \
  TTT_UNARY_INSTANCE(KEYWORD, T, sigmoid)                                                                             \
  TTT_UNARY_INSTANCE(KEYWORD, T, erf)                                                                                 \
  TTT_UNARY_INSTANCE(KEYWORD, T, sign)                                                                                \
  TTT_UNARY_INSTANCE(KEYWORD, T, abs)                                                                                 \
  TTT_UNARY_INSTANCE(KEYWORD, T, relu)                                                                                \
  TTT_UNARY_INSTANCE(KEYWORD, T, silu)                                                                                \
  TTT_UNARY_INSTANCE(KEYWORD, T, silu_grad)                                                                           \
  TTT_UNARY_INSTANCE(KEYWORD, T, gelu)                                                                                \
  TTT_UNARY_INSTANCE(KEYWORD, T, gelu_tanh)                                                                           \
  TTT_BINARY_INSTANCE(KEYWORD, T, add)                                                                                \
  TTT_BINARY_INSTANCE(KEYWORD, T, sub)                                                                                \
  TTT_BINARY_INSTANCE(KEYWORD, T, mul)                                                                                \
  TTT_BINARY_INSTANCE(KEYWORD, T, div)                                                                                \
  TTT_BINARY_INSTANCE(KEYWORD, T, pow)                                                                                \
  TTT_BINARY_INSTANCE(KEYWORD, T, maximum)                                                                            \
  TTT_BINARY_INSTANCE(KEYWORD, T, minimum)                                                                            \
  TTT_BINARY_INSTANCE(KEYWORD, T, eq)                                                                                 \
  TTT_BINARY_INSTANCE(KEYWORD, T, ne)                                                                                 \
  TTT_BINARY_INSTANCE(KEYWORD, T, lt)                                                                                 \
  TTT_BINARY_INSTANCE(KEYWORD, T, le)                                                                                 \
  TTT_BINARY_INSTANCE(KEYWORD, T, gt)                                                                                 \
  TTT_BINARY_INSTANCE(KEYWORD, T, ge)                                                                                 \
  TTT_SCALAR_INSTANCE(KEYWORD, T, add)                                                                                \
  TTT_SCALAR_INSTANCE(KEYWORD, T, mul)                                                                                \
  TTT_SCALAR_INSTANCE(KEYWORD, T, div)                                                                                \
  KEYWORD Tensor<T> pow<T>(const Tensor<T>&, double);                                                                 \
  KEYWORD Tensor<T> where<T>(const Tensor<T>&, const Tensor<T>&, const Tensor<T>&);                                   \
  KEYWORD Tensor<T> clamp<T>(const Tensor<T>&, Wide<T>, Wide<T>);

#define TTT_OTHER_INSTANCES(KEYWORD, T)                                                                               \
  TTT_BINARY_INSTANCE(KEYWORD, T, matmul)                                                                             \
  KEYWORD Tensor<T> linear<T>(const Tensor<T>&, const Tensor<T>&, const Tensor<T>&);                                  \
  KEYWORD Tensor<T> sum<T>(const Tensor<T>&, const Axes&, bool);                                                      \
  KEYWORD Tensor<T> mean<T>(const Tensor<T>&, const Axes&, bool);                                                     \
  KEYWORD Tensor<T> var<T>(const Tensor<T>&, const Axes&, bool, double);                                              \
  KEYWORD Tensor<T> amax<T>(const Tensor<T>&, const Axes&, bool);                                                     \
  KEYWORD Tensor<T> amin<T>(const Tensor<T>&, const Axes&, bool);                                                     \
  KEYWORD Tensor<std::int64_t> argmax<T>(const Tensor<T>&, std::int64_t, bool);                                       \
  KEYWORD Tensor<std::int64_t> argmin<T>(const Tensor<T>&, std::int64_t, bool);                                       \
  KEYWORD Tensor<T> norm<T>(const Tensor<T>&, const Axes&, bool);                                                     \
  KEYWORD Tensor<T> cumsum<T>(const Tensor<T>&, std::int64_t, bool);                                                  \
  KEYWORD Tensor<T> conv2d<T>(const Tensor<T>&, const Tensor<T>&, const Tensor<T>&, const Conv2dOptions&);            \
  KEYWORD Tensor<T> depthwise_conv2d<T>(const Tensor<T>&, const Tensor<T>&, const Conv2dOptions&);                    \
  KEYWORD Tensor<T> depthwise_correlation<T>(const Tensor<T>&, const Tensor<T>&, Pair, const Conv2dOptions&);         \
  KEYWORD Tensor<T> gather<T>(const Tensor<T>&, const Tensor<std::int64_t>&, std::int64_t);                           \
  KEYWORD Tensor<T> index_select<T>(const Tensor<T>&, const Tensor<std::int64_t>&, std::int64_t);                     \
  KEYWORD Tensor<T> embedding<T>(const Tensor<T>&, const Tensor<std::int64_t>&);                                      \
  KEYWORD Tensor<T> softmax<T>(const Tensor<T>&, std::int64_t);                                                       \
  KEYWORD Tensor<T> log_softmax<T>(const Tensor<T>&, std::int64_t);                                                   \
  KEYWORD Tensor<T> logsumexp<T>(const Tensor<T>&, std::int64_t, bool);                                               \
  KEYWORD Tensor<T> layer_norm<T>(const Tensor<T>&, const Tensor<T>&, const Tensor<T>&, double);                      \
  KEYWORD Tensor<T> cross_entropy<T>(const Tensor<T>&, const Tensor<std::int64_t>&, const CrossEntropyOptions&);      \
  KEYWORD Tensor<T> cross_entropy<T>(const Tensor<T>&, const Tensor<T>&, const CrossEntropyOptions&);

#if defined(TTTLIB_COMPILED)
namespace ttt {
TTT_OP_INSTANCES(extern template, float)
TTT_OP_INSTANCES(extern template, double)
TTT_OP_INSTANCES(extern template, bf16)
}  // namespace ttt
#endif
