#pragma once
/// The verbs a device must offer, once, on typed strided views. Ops call these; nothing above knows a device.
/// CPU verbs are function templates (backend/cpu/), instantiated only where used. A CUDA build fills one table of
/// function pointers per element type (backend/table.hpp); without it the table is empty and using it is a clear
/// error. Outputs never overlap inputs, except in `map`, where an output may be one of the inputs; shapes were
/// checked by the op.

#include "tttlib/backend/precision.hpp"
#include "tttlib/backend/table.hpp"
#if !defined(__CUDACC__)
#include "tttlib/backend/bf16.hpp"
#include "tttlib/backend/cpu/verbs.hpp"
#endif

namespace ttt::backend {

#if !defined(__CUDACC__)
/// Calls `cpu_backend::verb` or the CUDA table's entry of the same name, by the device of `where`.
#define TTT_RUN_AS_IS(where, verb, ...) \
  return (where).device.is_cpu() ? cpu_backend::verb(__VA_ARGS__) : cuda_verbs<std::remove_const_t<T>>().verb(__VA_ARGS__)
/// The same, of bf16 by this very verb of float.
#define TTT_RUN(where, verb, ...)                                                                                                      \
  if constexpr (std::is_same_v<T, bf16>) return in_float([](const auto&... floats) { return backend::verb(floats...); }, __VA_ARGS__); \
  else TTT_RUN_AS_IS(where, verb, __VA_ARGS__)

/// y = value
template <class T>
void fill(View<T> y, std::type_identity_t<T> value) { TTT_RUN_AS_IS(y, fill, y, value); }
/// y = x, between any two layouts of one shape
template <class T>
void copy(View<const T> x, View<T> y) { TTT_RUN_AS_IS(y, copy, x, y); }
/// y = x, converted to y's element type
template <class From, class To>
void cast(View<const From> x, View<To> y) {
  if (y.device.is_cpu()) cpu_backend::cast(x, y);
  else std::get<typename Verbs<To>::template Cast<From>>(cuda_verbs<To>().casts)(x, y);
}
/// y = f(x)
template <class F, class T>
void map(F f, const View<const T>& x, const View<T>& y) {
  if constexpr (std::is_same_v<T, bf16>) in_float([f](const auto&... floats) { backend::map(f, floats...); }, x, y);
  else if (y.device.is_cpu()) cpu_backend::map(f, x, y);
  else cuda_verbs<T>().map_unary[formula::index_of<F>](f.p, f.q, x, y);
}
/// y = f(a, b)
template <class F, class T>
void map(F f, const View<const T>& a, const View<const T>& b, const View<T>& y) {
  if constexpr (std::is_same_v<T, bf16>) in_float([f](const auto&... floats) { backend::map(f, floats...); }, a, b, y);
  else if (y.device.is_cpu()) cpu_backend::map(f, a, b, y);
  else cuda_verbs<T>().map_binary[formula::index_of<F>](f.p, f.q, a, b, y);
}
/// y = condition ? a : b
template <class T>
void where(View<const T> condition, View<const T> a, View<const T> b, View<T> y) {
  TTT_RUN(y, where, condition, a, b, y);
}
/// z = x + scale · y
template <class T>
void add_scaled(View<const T> x, View<const T> y, View<const T> scale, View<T> z) {
  TTT_RUN(z, add_scaled, x, y, scale, z);
}
/// y = sum, max or min of x over the axes where y has length 1; both have the same number of axes
template <class T>
void reduce(Reduction kind, View<const T> x, View<T> y) { TTT_RUN(y, reduce, kind, x, y); }
/// y = first position of the extremum along `axis`, where y has length 1
template <class T>
void arg_reduce(Reduction kind, View<const T> x, std::size_t axis, View<std::int64_t> y) {
  TTT_RUN(y, arg_reduce, kind, x, axis, y);
}
template <class T>
bool all_finite(View<const T> x) { TTT_RUN(x, all_finite, x); }
/// running sums along `axis`, from the end if `reverse`
template <class T>
void cumsum(View<const T> x, std::size_t axis, bool reverse, View<T> y) { TTT_RUN(y, cumsum, x, axis, reverse, y); }
/// c [.., m, n] = a [.., m, k] · b [.., k, n], equal leading axes (strides may be 0)
template <class T>
void matmul(View<const T> a, View<const T> b, View<T> c) {
  if (std::is_same_v<T, bf16> && !c.device.is_cpu()) return cuda_verbs<T>().matmul(a, b, c);
  [[maybe_unused]] const ProductScope<T> scope;
  TTT_RUN(c, matmul, a, b, c);
}
/// y [rows, out] = x [rows, in] · w [out, in]ᵀ + bias [out] (null: none)
template <class T>
void linear(View<const T> x, View<const T> w, const T* bias, View<T> y) {
  if (std::is_same_v<T, bf16> && !y.device.is_cpu()) return cuda_verbs<T>().linear(x, w, bias, y);
  [[maybe_unused]] const ProductScope<T> scope;
  TTT_RUN(y, linear, x, w, counted(bias, w.shape[0], y.device), y);
}
/// Whether `mlp` has a kernel there; elsewhere it is composed of `linear`, `map` and `linear`.
inline bool fuses_mlp([[maybe_unused]] Device device) {
#if defined(TTTLIB_MATMUL_EIGEN) || defined(TTTLIB_MATMUL_BLAS)
  return !device.is_cpu();
#else
  return true;
#endif
}
/// The type of the hidden layer that `mlp` keeps, in the precision of now: bf16 on a GPU whose products are of bf16, else Wide<T>.
template <class T>
DType mlp_hidden_type(Device device) {
  const bool rounds = rounds_to_bf16<Wide<T>>() && !device.is_cpu();
  return rounds ? DType::bfloat16 : dtype_of<Wide<T>>;
}
/// y [R, C'] = gelu(x [R, C] · w1 [M, C]ᵀ + b1 [M]) · w2 [C', M]ᵀ + b2 [C']; the numbers before gelu are kept in `hidden` [R, M], of
/// the type `mlp_hidden_type`, unless its data is null; rows of x and y are side by side
template <class T>
void mlp(View<const T> x, View<const T> w1, const T* b1, View<const T> w2, const T* b2, const AnyArray& hidden, View<T> y) {
  TTT_RUN(y, mlp, x, w1, counted(b1, w1.shape[0], y.device), w2, counted(b2, w2.shape[0], y.device), hidden, y);
}
/// from `hidden` and y's cotangent g [R, C'], those of x, of the weights and of the biases; without data where not needed
template <class T>
void mlp_pull(View<const T> x, View<const T> w1, View<const T> w2, const AnyArray& hidden, View<const T> g, View<T> dx, View<T> dw1, T* db1,
              View<T> dw2, T* db2) {
  TTT_RUN(g, mlp_pull, x, w1, w2, hidden, g, dx, dw1, counted(db1, w1.shape[0], g.device), dw2, counted(db2, w2.shape[0], g.device));
}
/// y[.., i, ..] = x[.., index[.., i, ..], ..]; index has y's shape
template <class T>
void gather(View<const T> x, View<const std::int64_t> index, std::size_t axis, View<T> y) {
  TTT_RUN(y, gather, x, index, axis, y);
}
/// y[.., index[.., i, ..], ..] += g[.., i, ..]; index has g's shape, y starts at 0
template <class T>
void scatter_add(View<const T> g, View<const std::int64_t> index, std::size_t axis, View<T> y) {
  TTT_RUN(y, scatter_add, g, index, axis, updated(y));
}
/// y [B, H', W', O] from x [B, H, W, I], w [O, I/groups, kh, kw]: cross-correlation
template <class T>
void conv(View<const T> x, View<const T> w, const ConvGeometry& geometry, View<T> y) {
  [[maybe_unused]] const ProductScope<T> scope;
  TTT_RUN(y, conv, x, w, geometry, y);
}
template <class T>
void conv_input_grad(View<const T> g, View<const T> w, const ConvGeometry& geometry, View<T> x) {
  [[maybe_unused]] const ProductScope<T> scope;
  TTT_RUN(x, conv_input_grad, g, w, geometry, x);
}
template <class T>
void conv_weight_grad(View<const T> x, View<const T> g, const ConvGeometry& geometry, View<T> w) {
  [[maybe_unused]] const ProductScope<T> scope;
  TTT_RUN(w, conv_weight_grad, x, g, geometry, w);
}
/// y [B, H', W', C] from x [B, H, W, C], w [B or 1, C, kh, kw]: one kernel per channel, and per image if w has B
template <class T>
void depthwise(View<const T> x, View<const T> w, const ConvGeometry& geometry, View<T> y) {
  TTT_RUN(y, depthwise, x, w, geometry, y);
}
template <class T>
void depthwise_input_grad(View<const T> g, View<const T> w, const ConvGeometry& geometry, View<T> x) {
  TTT_RUN(x, depthwise_input_grad, g, w, geometry, x);
}
template <class T>
void depthwise_weight_grad(View<const T> x, View<const T> g, const ConvGeometry& geometry, View<T> w) {
  TTT_RUN(w, depthwise_weight_grad, x, g, geometry, w);
}
/// softmax (or its logarithm) over the last axis
template <class T>
void softmax(View<const T> x, bool log, View<T> y) { TTT_RUN(y, softmax, x, log, y); }
/// its cotangent from the output y and the cotangent g
template <class T>
void softmax_pull(View<const T> y, View<const T> g, bool log, View<T> dx) {
  TTT_RUN(dx, softmax_pull, y, g, log, dx);
}
/// losses [R] = −Σ target·log softmax(x), target = (1 − s)·[label] + s/C: logits x [R, C], labels [R]; log_sums [R] or null keeps
/// log Σ exp(x)
template <class T>
void cross_entropy(View<const T> logits, View<const std::int64_t> labels, double smoothing, Wide<T>* log_sums, View<T> losses) {
  TTT_RUN(losses, cross_entropy, logits, labels, smoothing, log_sums, losses);
}
/// its cotangent from that of the losses, g [R]
template <class T>
void cross_entropy_pull(View<const T> logits, View<const std::int64_t> labels, double smoothing, const Wide<T>* log_sums, View<const T> g,
                        View<T> dx) {
  TTT_RUN(dx, cross_entropy_pull, logits, labels, smoothing, log_sums, g, dx);
}
/// y = (x − mean)/√(var + eps) · w + b over the last axis; w, b [C] or null
template <class T>
void layer_norm(View<const T> x, const T* w, const T* b, double eps, View<T> y) {
  TTT_RUN(y, layer_norm, x, counted(w, x.shape.back(), y.device), counted(b, x.shape.back(), y.device), eps, y);
}
/// its cotangents; dw, db [C] or null
template <class T>
void layer_norm_pull(View<const T> x, const T* w, View<const T> g, double eps, View<T> dx, T* dw, T* db) {
  const std::int64_t C = x.shape.back();
  TTT_RUN(dx, layer_norm_pull, x, counted(w, C, dx.device), g, eps, dx, counted(dw, C, dx.device), counted(db, C, dx.device));
}
/// y_i = low + (high − low)·u_i with Philox numbers of (seed, stream)
template <class T>
void uniform(std::uint64_t seed, std::uint64_t stream, double low, double high, View<T> y) {
  TTT_RUN(y, uniform, seed, stream, low, high, y);
}
template <class T>
void normal(std::uint64_t seed, std::uint64_t stream, double mean, double std, View<T> y) {
  TTT_RUN(y, normal, seed, stream, mean, std, y);
}
/// normal of deviation `std`, redrawn by inversion inside [−bound, bound]
template <class T>
void truncated_normal(std::uint64_t seed, std::uint64_t stream, double std, double bound, View<T> y) {
  TTT_RUN(y, truncated_normal, seed, stream, std, bound, y);
}
/// o = softmax(q kᵀ/√d) v: q, o [B, H, N, d], k, v [B, H, M, d]; log_sums [B, H, N] or null keeps log Σ exp of the scores
template <class T>
void attention(View<const T> q, View<const T> k, View<const T> v, Wide<T>* log_sums, View<T> o) {
  TTT_RUN(o, attention, q, k, v, log_sums, o);
}
/// its cotangents from that of o
template <class T>
void attention_pull(View<const T> q, View<const T> k, View<const T> v, View<const T> o, const Wide<T>* log_sums, View<const T> g, View<T> dq,
                    View<T> dk, View<T> dv) {
  TTT_RUN(o, attention_pull, q, k, v, o, log_sums, g, dq, dk, dv);
}
/// o = the answers of GLU heads after their inner step: o [B, H, N, d]; the inner gradients are kept in g [B, H, d, 2d] unless it is null
template <class T>
void ttt_glu(const GluOperands<const T>& x, const TttStep& step, Wide<T>* g, View<T> o) {
  TTT_RUN(o, ttt_glu, x, step, g, o);
}
/// its cotangents, through the inner step, from that of o
template <class T>
void ttt_glu_pull(const GluOperands<const T>& x, const TttStep& step, const Wide<T>* g, View<const T> o_bar, const GluOperands<T>& dx) {
  TTT_RUN(o_bar, ttt_glu_pull, x, step, g, o_bar, dx);
}
/// the same for the head whose inner model is a depthwise 3×3 convolution: o [B, h, w, d] with neighbouring channels, g [B, 9, d]
template <class T>
void ttt_dwconv(const DwconvOperands<const T>& x, const TttStep& step, Wide<T>* g, View<T> o) {
  TTT_RUN(o, ttt_dwconv, x, step, g, o);
}
template <class T>
void ttt_dwconv_pull(const DwconvOperands<const T>& x, const TttStep& step, const Wide<T>* g, View<const T> o_bar, const DwconvOperands<T>& dx) {
  TTT_RUN(o_bar, ttt_dwconv_pull, x, step, g, o_bar, dx);
}
#undef TTT_RUN
#undef TTT_RUN_AS_IS
/// Whether `ttt_heads_bf16` and `ttt_mixer` have kernels for heads of width d: on GPUs, where products of floats round to bf16.
template <class T>
bool fuses_ttt_mixer(Device device, std::int64_t d) {
  return rounds_to_bf16<T>() && !device.is_cpu() && (d == 32 || d == 64);
}
/// o [B, h, w, C + d], the answers of all heads, from a buffer qkv [B, h, w, 3C + 3d], both of bf16; w1, w2 [H, d, d], w3 [1, d, 3, 3]; keeps
/// the inner gradients [B, H, d, 2d] and [B, 9, d] unless null
template <class T>
void ttt_heads_bf16(View<const bf16> qkv, View<const T> w1, View<const T> w2, View<const T> w3, const TttStep& step, T* g_glu, T* g_conv,
                    View<bf16> o) {
  cuda_verbs<T>().ttt_heads_bf16(qkv, w1, w2, w3, step, g_glu, g_conv, o);
}
/// their cotangents, through the inner step, from that of o
template <class T>
void ttt_heads_bf16_pull(View<const bf16> qkv, View<const T> w1, View<const T> w2, View<const T> w3, const TttStep& step, const T* g_glu,
                         const T* g_conv, View<const bf16> o_bar, View<bf16> dqkv, View<T> dw1, View<T> dw2, View<T> dw3) {
  cuda_verbs<T>().ttt_heads_bf16_pull(qkv, w1, w2, w3, step, g_glu, g_conv, o_bar, dqkv, dw1, dw2, dw3);
}
/// Whether `normed_mlp` has a kernel for rows of C numbers, and `ttt_mixer` its norm.
template <class T>
bool fuses_norms(Device device, std::int64_t C) {
  return rounds_to_bf16<T>() && !device.is_cpu() && C % 8 == 0;
}
/// `mlp` of layer_norm(x), x + that if `residual`; the hidden layer is kept in bf16, the normalised rows are not kept
template <class T>
void normed_mlp(View<const T> x, const RowNorm<const T>& norm, View<const T> w1, const T* b1, View<const T> w2, const T* b2, bf16* hidden,
                bool residual, View<T> y) {
  cuda_verbs<T>().normed_mlp(x, norm, w1, b1, w2, b2, hidden, residual, y);
}
/// from y's cotangent g, those of x and of all weights
template <class T>
void normed_mlp_pull(View<const T> x, const RowNorm<const T>& norm, View<const T> w1, View<const T> w2, const bf16* hidden, View<const T> g,
                     bool residual, View<T> dx, const RowNorm<T>& dnorm, View<T> dw1, T* db1, View<T> dw2, T* db2) {
  cuda_verbs<T>().normed_mlp_pull(x, norm, w1, w2, hidden, g, residual, dx, dnorm, dw1, db1, dw2, db2);
}
/// y = proj(heads(qkv(layer_norm(x)))), x + that if `residual`: a whole TTT block, x and y [B, h, w, C]; what lies between the projections
/// is rounded to bf16 and kept
template <class T>
void ttt_mixer(View<const T> x, const RowNorm<const T>& norm, const MixerWeights<const T>& w, const TttStep& step, const MixerKept& kept,
               bool residual, View<T> y) {
  cuda_verbs<T>().ttt_mixer(x, norm, w, step, kept, residual, y);
}
/// from y's cotangent g: x's and those of all weights
template <class T>
void ttt_mixer_pull(View<const T> x, const RowNorm<const T>& norm, const MixerWeights<const T>& w, const TttStep& step, const MixerKept& kept,
                    View<const T> g, bool residual, View<T> dx, const RowNorm<T>& dnorm, const MixerWeights<T>& dw) {
  cuda_verbs<T>().ttt_mixer_pull(x, norm, w, step, kept, g, residual, dx, dnorm, dw);
}
/// one AdamW update of all parameters, in place
template <class T>
void adamw(const std::vector<AdamWParameter<T>>& parameters, const AdamWStep& step, Device device) {
  static_assert(!std::is_same_v<T, bf16>, "parameters are of float or double: cast<bf16>(w) where they are used");
  if (device.is_cpu()) cpu_backend::adamw(parameters, step);
  else cuda_verbs<T>().adamw(parameters, step, device);
}
/// norm_and_scale [2], on their device = the 2-norm over all arrays, and min(1, max_norm/(norm + 1e-6))
template <class T>
void global_norm(const std::vector<ConstArray<T>>& arrays, double max_norm, double* norm_and_scale, Device device) {
  if (device.is_cpu()) cpu_backend::global_norm(arrays, max_norm, norm_and_scale);
  else cuda_verbs<T>().global_norm(arrays, max_norm, norm_and_scale, device);
}
#endif

}  // namespace ttt::backend
