#pragma once
/// The tables of verbs that run through a launcher L (backend/cuda/block.hpp), put together from the families of kernels.
/// Only declarations here: a family's functions come from its header, compiled once per launcher (src/cuda/*.cu).

#include <type_traits>

#include "tttlib/backend/table.hpp"

namespace ttt::cuda_backend {

template <class L, class T>
void add_copies(Verbs<T>& verbs);           // elementwise.hpp: fill, copy, casts
template <class L, class T>
void add_elementwise(Verbs<T>& verbs);      // elementwise.hpp
template <class L>
void add_integer_elementwise(Verbs<std::int64_t>& verbs);
template <class L, class T>
void add_sums(Verbs<T>& verbs);             // reduce.hpp: reduce, cumsum
template <class L, class T>
void add_reductions(Verbs<T>& verbs);       // reduce.hpp
template <class L, class T>
void add_indexing(Verbs<T>& verbs);         // index.hpp
template <class L, class T>
void add_products(Verbs<T>& verbs);         // matmul.hpp
template <class L, class T>
void add_mlps(Verbs<T>& verbs);             // mlp.hpp
template <class L, class T>
void add_convolutions(Verbs<T>& verbs);     // conv.hpp
template <class L, class T>
void add_norms(Verbs<T>& verbs);            // norm.hpp
template <class L, class T>
void add_updates(Verbs<T>& verbs);          // update.hpp
template <class L, class T>
void add_attention(Verbs<T>& verbs);        // attention.hpp
template <class L, class T>
void add_ttt_heads(Verbs<T>& verbs);        // ttt.hpp
template <class L>
void add_ttt_mixers(Verbs<float>& verbs);   // ttt_mixer.hpp

/// Calls f(verb) for every entry of a table, but for those of float alone.
template <class T, class F>
void for_each_verb(Verbs<T>& verbs, const F& f) {
#define TTT_VERB(name) f(verbs.name);
  TTT_VERB(fill) TTT_VERB(copy) TTT_VERB(where) TTT_VERB(add_scaled) TTT_VERB(reduce) TTT_VERB(arg_reduce) TTT_VERB(all_finite) TTT_VERB(cumsum)
  TTT_VERB(matmul) TTT_VERB(linear) TTT_VERB(mlp) TTT_VERB(mlp_pull) TTT_VERB(gather) TTT_VERB(scatter_add) TTT_VERB(conv) TTT_VERB(conv_input_grad)
  TTT_VERB(conv_weight_grad) TTT_VERB(depthwise) TTT_VERB(depthwise_input_grad) TTT_VERB(depthwise_weight_grad) TTT_VERB(softmax)
  TTT_VERB(softmax_pull) TTT_VERB(cross_entropy) TTT_VERB(cross_entropy_pull) TTT_VERB(layer_norm)
  TTT_VERB(layer_norm_pull) TTT_VERB(uniform) TTT_VERB(normal) TTT_VERB(truncated_normal)
  TTT_VERB(attention) TTT_VERB(attention_pull) TTT_VERB(ttt_glu) TTT_VERB(ttt_glu_pull) TTT_VERB(ttt_dwconv) TTT_VERB(ttt_dwconv_pull)
  TTT_VERB(adamw) TTT_VERB(global_norm)
#undef TTT_VERB
  std::apply([&f](auto&... verb) { (f(verb), ...); }, verbs.casts);
  for (auto& verb : verbs.map_unary) f(verb);
  for (auto& verb : verbs.map_binary) f(verb);
}

/// Every verb of float or double.
template <class L, class T>
Verbs<T> cuda_table() {
  Verbs<T> verbs{};
  add_elementwise<L>(verbs);
  add_reductions<L>(verbs);
  add_products<L>(verbs);
  add_mlps<L>(verbs);
  add_indexing<L>(verbs);
  add_convolutions<L>(verbs);
  add_norms<L>(verbs);
  add_updates<L>(verbs);
  add_attention<L>(verbs);
  add_ttt_heads<L>(verbs);
  if constexpr (std::is_same_v<T, float>) add_ttt_mixers<L>(verbs);
  return verbs;
}

namespace detail {
/// Stands for a verb that an element type does not have.
template <class Verb>
struct MissingVerb;
template <class T, class... A>
struct MissingVerb<T (*)(A...)> {
  static T call(A...) {
    fail<DTypeError>("cuda", "this op has no kernel for integers or bfloat16 on a GPU", "cast the operands to float, or move them to the CPU");
  }
};
template <class T>
void fill_gaps(Verbs<T>& verbs) {
  for_each_verb(verbs, [](auto& verb) {
    if (!verb) verb = MissingVerb<std::remove_reference_t<decltype(verb)>>::call;
  });
}
}  // namespace detail

/// The verbs of index tensors: copies, their arithmetic, sums and extrema, reading and adding at positions.
template <class L>
Verbs<std::int64_t> cuda_index_table() {
  Verbs<std::int64_t> verbs{};
  add_integer_elementwise<L>(verbs);
  add_sums<L>(verbs);
  add_indexing<L>(verbs);
  detail::fill_gaps(verbs);
  return verbs;
}
/// The verbs of bf16 tensors that have kernels of their own: copies, casts and products; others go through float (backend/bf16.hpp).
template <class L>
Verbs<bf16> cuda_bf16_table() {
  Verbs<bf16> verbs{};
  add_copies<L>(verbs);
  add_products<L>(verbs);
  detail::fill_gaps(verbs);
  return verbs;
}

/// Puts the tables of a launcher where ops find them (backend/table.hpp).
template <class L>
void register_cuda_verbs() {
  static const Verbs<float> of_float = cuda_table<L, float>();
  static const Verbs<double> of_double = cuda_table<L, double>();
  static const Verbs<std::int64_t> of_index = cuda_index_table<L>();
  static const Verbs<bf16> of_bf16 = cuda_bf16_table<L>();
  backend::registered_cuda_verbs<float>() = &of_float;
  backend::registered_cuda_verbs<double>() = &of_double;
  backend::registered_cuda_verbs<std::int64_t>() = &of_index;
  backend::registered_cuda_verbs<bf16>() = &of_bf16;
}

}  // namespace ttt::cuda_backend
