#pragma once
/// The CPU verbs. Their bodies are in the -inl.hpp files beside this one: included here in a header-only build,
/// compiled once for float and double in `tttlib::compiled`.

#include "tttlib/backend/table.hpp"

namespace ttt::cpu_backend {
inline namespace TTTLIB_KERNELS {

template <class T>
void fill(View<T> y, std::type_identity_t<T> value);
template <class T>
void copy(View<const T> x, View<T> y);
template <class From, class To>
void cast(View<const From> x, View<To> y);
template <class F, class T>
void map(F f, const View<const T>& x, const View<T>& y);
template <class F, class T>
void map(F f, const View<const T>& a, const View<const T>& b, const View<T>& y);
template <class T>
void where(View<const T> condition, View<const T> a, View<const T> b, View<T> y);
template <class T>
void add_scaled(View<const T> x, View<const T> y, View<const T> scale, View<T> z);
template <class T>
void reduce(Reduction kind, View<const T> x, View<T> y);
template <class T>
void arg_reduce(Reduction kind, View<const T> x, std::size_t axis, View<std::int64_t> y);
template <class T>
bool all_finite(View<const T> x);
template <class T>
void cumsum(View<const T> x, std::size_t axis, bool reverse, View<T> y);
template <class T>
void matmul(View<const T> a, View<const T> b, View<T> c);
template <class T>
void linear(View<const T> x, View<const T> w, const T* bias, View<T> y);
template <class T>
void mlp(View<const T> x, View<const T> w1, const T* b1, View<const T> w2, const T* b2, const AnyArray& hidden, View<T> y);
template <class T>
void mlp_pull(View<const T> x, View<const T> w1, View<const T> w2, const AnyArray& hidden, View<const T> g, View<T> dx, View<T> dw1, T* db1,
              View<T> dw2, T* db2);
template <class T>
void gather(View<const T> x, View<const std::int64_t> index, std::size_t axis, View<T> y);
template <class T>
void scatter_add(View<const T> g, View<const std::int64_t> index, std::size_t axis, View<T> y);
template <class T>
void conv(View<const T> x, View<const T> w, const ConvGeometry& geometry, View<T> y);
template <class T>
void conv_input_grad(View<const T> g, View<const T> w, const ConvGeometry& geometry, View<T> x);
template <class T>
void conv_weight_grad(View<const T> x, View<const T> g, const ConvGeometry& geometry, View<T> w);
template <class T>
void depthwise(View<const T> x, View<const T> w, const ConvGeometry& geometry, View<T> y);
template <class T>
void depthwise_input_grad(View<const T> g, View<const T> w, const ConvGeometry& geometry, View<T> x);
template <class T>
void depthwise_weight_grad(View<const T> x, View<const T> g, const ConvGeometry& geometry, View<T> w);
template <class T>
void softmax(View<const T> x, bool log, View<T> y);
template <class T>
void softmax_pull(View<const T> y, View<const T> g, bool log, View<T> dx);
template <class T>
void cross_entropy(View<const T> logits, View<const std::int64_t> labels, double smoothing, T* log_sums, View<T> losses);
template <class T>
void cross_entropy_pull(View<const T> logits, View<const std::int64_t> labels, double smoothing, const T* log_sums, View<const T> g, View<T> dx);
template <class T>
void layer_norm(View<const T> x, const T* w, const T* b, double eps, View<T> y);
template <class T>
void layer_norm_pull(View<const T> x, const T* w, View<const T> g, double eps, View<T> dx, T* dw, T* db);
template <class T>
void uniform(std::uint64_t seed, std::uint64_t stream, double low, double high, View<T> y);
template <class T>
void normal(std::uint64_t seed, std::uint64_t stream, double mean, double std, View<T> y);
template <class T>
void truncated_normal(std::uint64_t seed, std::uint64_t stream, double std, double bound, View<T> y);
template <class T>
void attention(View<const T> q, View<const T> k, View<const T> v, T* log_sums, View<T> o);
template <class T>
void attention_pull(View<const T> q, View<const T> k, View<const T> v, View<const T> o, const T* log_sums, View<const T> g, View<T> dq, View<T> dk,
                    View<T> dv);
template <class T>
void ttt_glu(const GluOperands<const T>& x, const TttStep& step, T* g, View<T> o);
template <class T>
void ttt_glu_pull(const GluOperands<const T>& x, const TttStep& step, const T* g, View<const T> o_bar, const GluOperands<T>& dx);
template <class T>
void ttt_dwconv(const DwconvOperands<const T>& x, const TttStep& step, T* g, View<T> o);
template <class T>
void ttt_dwconv_pull(const DwconvOperands<const T>& x, const TttStep& step, const T* g, View<const T> o_bar, const DwconvOperands<T>& dx);
template <class T>
void adamw(const std::vector<AdamWParameter<T>>& parameters, const AdamWStep& step);
template <class T>
void global_norm(const std::vector<ConstArray<T>>& arrays, double max_norm, double* norm_and_scale);

}  // namespace TTTLIB_KERNELS
}  // namespace ttt::cpu_backend

#if !defined(TTTLIB_COMPILED)
#include "tttlib/backend/cpu/attention-inl.hpp"
#include "tttlib/backend/cpu/conv-inl.hpp"
#include "tttlib/backend/cpu/depthwise-inl.hpp"
#include "tttlib/backend/cpu/elementwise-inl.hpp"
#include "tttlib/backend/cpu/index-inl.hpp"
#include "tttlib/backend/cpu/matmul-inl.hpp"
#include "tttlib/backend/cpu/mlp-inl.hpp"
#include "tttlib/backend/cpu/norm-inl.hpp"
#include "tttlib/backend/cpu/optim-inl.hpp"
#include "tttlib/backend/cpu/random-inl.hpp"
#include "tttlib/backend/cpu/reduce-inl.hpp"
#include "tttlib/backend/cpu/ttt-inl.hpp"
#endif
