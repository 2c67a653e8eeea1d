#pragma once
/// The table of verbs that a device other than the CPU fills in, and the plain structs verbs take.

#include <tuple>
#include <vector>

#include "tttlib/backend/view.hpp"
#include "tttlib/kernels/formulas.hpp"

namespace ttt {

enum class Reduction : int { sum, max, min };

/// Geometry of a 2-D convolution over [rows, columns].
struct ConvGeometry {
  std::int64_t stride[2] = {1, 1};
  std::int64_t padding[2] = {0, 0};
  std::int64_t dilation[2] = {1, 1};
  std::int64_t groups = 1;
};

/// What of AdamW changes from step to step k, counted from 1: the rate, 1 − β1^k and √(1 − β2^k).
struct AdamWRates {
  double lr = 1e-3, correction1 = 1, correction2 = 1;
};
/// Numbers of one AdamW step.
struct AdamWStep {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
  AdamWRates rates;
  const double* device_rates = nullptr;  // the three of them in the device's memory, where a graph reads them; null: `rates`
  const double* grad_scale = nullptr;    // a number there that gradients count times; null: 1
};
/// One of the parameters of a step, with its gradient and its moments: n numbers each, side by side.
template <class T>
struct AdamWParameter {
  T* parameter = nullptr;
  const T* grad = nullptr;
  T *mean = nullptr, *variance = nullptr;
  std::int64_t n = 0;
  double lr_scale = 1, weight_decay = 0;
};

/// n numbers side by side.
template <class T>
struct ConstArray {
  const T* data = nullptr;
  std::int64_t n = 0;
};

/// Numbers side by side, of a type that the device chose.
struct AnyArray {
  void* data = nullptr;
  DType type = DType::float32;
};

/// Numbers of the inner step of a TTT head: its rate, and the loss's factor before −(1/N) Σ V̂·V.
struct TttStep {
  double rate = 1, loss_scale = 1;
  /// c, the factor before −Σ V̂·V over that many tokens.
  double c(std::int64_t tokens) const { return loss_scale / static_cast<double>(tokens); }
};

/// What the GLU heads of a TTT block work on, or where the cotangents go: q, k, v [B, H, N, d] as T, w1, w2 [H, d, d] as W.
template <class T, class W = T>
struct GluOperands {
  View<T> q, k, v;
  View<W> w1, w2;
};
/// The same of the extra head: q, k, v [B, h, w, d] with neighbouring channels, w [1, d, 3, 3].
template <class T, class W = T>
struct DwconvOperands {
  View<T> q, k, v;
  View<W> w;
};

/// The weights of a TTT block, or where their gradients go: projections qkv [3C + 3d, C] and proj [C, C + d] with their biases, w1 and
/// w2 [H, d, d], w3 [1, d, 3, 3].
template <class T>
struct MixerWeights {
  View<T> qkv;
  T* qkv_bias;
  View<T> w1, w2, w3, proj;
  T* proj_bias;
};
/// A layer norm over rows of C numbers, or where its gradients go; eps is the former's.
template <class T>
struct RowNorm {
  T *w, *b;  // [C]
  double eps;
};
/// What lies between its projections, qkv [B, N, 3C + 3d] and the heads' answers [B, N, C + d], and the inner gradients
/// [B, H, d, 2d] and [B, 9, d] (null where nothing comes back).
struct MixerKept {
  bf16 *qkv, *answers;
  float *g_glu, *g_conv;
};

/// One table per element type; entry by entry the functions of `ttt::backend` below.
template <class T>
struct Verbs {
  using X = View<const T>;
  using Y = View<T>;
  using Index = View<const std::int64_t>;

  void (*fill)(Y y, T value);
  void (*copy)(X x, Y y);
  /// y = x converted, for every element type of x.
  template <class From>
  using Cast = void (*)(View<const From> x, Y y);
  std::tuple<Cast<float>, Cast<double>, Cast<bf16>, Cast<std::int64_t>> casts;
  void (*map_unary[int(formula::Unary::count)])(double p, double q, X x, Y y);
  void (*map_binary[int(formula::Binary::count)])(double p, double q, X a, X b, Y y);
  void (*where)(X condition, X a, X b, Y y);
  void (*add_scaled)(X x, X y, X scale, Y z);
  void (*reduce)(Reduction kind, X x, Y y);
  void (*arg_reduce)(Reduction kind, X x, std::size_t axis, View<std::int64_t> y);
  bool (*all_finite)(X x);
  void (*cumsum)(X x, std::size_t axis, bool reverse, Y y);
  void (*matmul)(X a, X b, Y c);
  void (*linear)(X x, X w, const T* bias, Y y);
  void (*mlp)(X x, X w1, const T* b1, X w2, const T* b2, const AnyArray& hidden, Y y);
  void (*mlp_pull)(X x, X w1, X w2, const AnyArray& hidden, X g, Y dx, Y dw1, T* db1, Y dw2, T* db2);
  void (*gather)(X x, Index index, std::size_t axis, Y y);
  void (*scatter_add)(X g, Index index, std::size_t axis, Y y);
  void (*conv)(X x, X w, const ConvGeometry& geometry, Y y);
  void (*conv_input_grad)(X g, X w, const ConvGeometry& geometry, Y x);
  void (*conv_weight_grad)(X x, X g, const ConvGeometry& geometry, Y w);
  void (*depthwise)(X x, X w, const ConvGeometry& geometry, Y y);
  void (*depthwise_input_grad)(X g, X w, const ConvGeometry& geometry, Y x);
  void (*depthwise_weight_grad)(X x, X g, const ConvGeometry& geometry, Y w);
  void (*softmax)(X x, bool log, Y y);
  void (*softmax_pull)(X y, X g, bool log, Y dx);
  void (*cross_entropy)(X logits, Index labels, double smoothing, Wide<T>* log_sums, Y losses);
  void (*cross_entropy_pull)(X logits, Index labels, double smoothing, const Wide<T>* log_sums, X g, Y dx);
  void (*layer_norm)(X x, const T* w, const T* b, double eps, Y y);
  void (*layer_norm_pull)(X x, const T* w, X g, double eps, Y dx, T* dw, T* db);
  void (*uniform)(std::uint64_t seed, std::uint64_t stream, double low, double high, Y y);
  void (*normal)(std::uint64_t seed, std::uint64_t stream, double mean, double std, Y y);
  void (*truncated_normal)(std::uint64_t seed, std::uint64_t stream, double std, double bound, Y y);
  void (*attention)(X q, X k, X v, Wide<T>* log_sums, Y o);
  void (*attention_pull)(X q, X k, X v, X o, const Wide<T>* log_sums, X g, Y dq, Y dk, Y dv);
  void (*ttt_glu)(const GluOperands<const T>& x, const TttStep& step, Wide<T>* g, Y o);
  void (*ttt_glu_pull)(const GluOperands<const T>& x, const TttStep& step, const Wide<T>* g, X o_bar, const GluOperands<T>& dx);
  void (*ttt_dwconv)(const DwconvOperands<const T>& x, const TttStep& step, Wide<T>* g, Y o);
  void (*ttt_dwconv_pull)(const DwconvOperands<const T>& x, const TttStep& step, const Wide<T>* g, X o_bar, const DwconvOperands<T>& dx);
  // Those of float alone, where products of floats round to bf16:
  void (*normed_mlp)(X x, const RowNorm<const T>& norm, X w1, const T* b1, X w2, const T* b2, bf16* hidden, bool residual, Y y);
  void (*normed_mlp_pull)(X x, const RowNorm<const T>& norm, X w1, X w2, const bf16* hidden, X g, bool residual, Y dx, const RowNorm<T>& dnorm,
                          Y dw1, T* db1, Y dw2, T* db2);
  void (*ttt_heads_bf16)(View<const bf16> qkv, X w1, X w2, X w3, const TttStep& step, T* g_glu, T* g_conv, View<bf16> o);
  void (*ttt_heads_bf16_pull)(View<const bf16> qkv, X w1, X w2, X w3, const TttStep& step, const T* g_glu, const T* g_conv,
                              View<const bf16> o_bar, View<bf16> dqkv, Y dw1, Y dw2, Y dw3);
  void (*ttt_mixer)(X x, const RowNorm<const T>& norm, const MixerWeights<const T>& w, const TttStep& step, const MixerKept& kept, bool residual,
                    Y y);
  void (*ttt_mixer_pull)(X x, const RowNorm<const T>& norm, const MixerWeights<const T>& w, const TttStep& step, const MixerKept& kept, X g,
                         bool residual, Y dx, const RowNorm<T>& dnorm, const MixerWeights<T>& dw);
  void (*adamw)(const std::vector<AdamWParameter<T>>& parameters, const AdamWStep& step, Device device);
  void (*global_norm)(const std::vector<ConstArray<T>>& arrays, double max_norm, double* norm_and_scale, Device device);
};

namespace backend {

/// The CUDA table of an element type; null until the CUDA backend registers itself.
template <class T>
const Verbs<T>*& registered_cuda_verbs() {
  static const Verbs<T>* table = nullptr;
  return table;
}
template <class T>
TTT_NOINLINE const Verbs<T>& cuda_verbs() {
  if (const Verbs<T>* table = registered_cuda_verbs<T>()) return *table;
  fail<DeviceError>("cuda", "this program has no CUDA backend", "link tttlib::cuda, configured with -DTTTLIB_CUDA=ON");
}

}  // namespace backend
}  // namespace ttt
