#pragma once
/// Training and answering by a schedule: every cell of the design space from one call.
///   full batch: {}                                          k batches, e epochs: {.epochs = e, .batches = k}
///   chunks, everybody sees everybody: {.schedule = {.chunk = 16}}
///   apply, then update:   {.schedule = {.chunk = 16, .read = Schedule::Read::before_update}}
///   causal inside chunks: {.schedule = {.chunk = 16, .read = Schedule::Read::causal}}
/// each forward or `.reversed`, with weights carried, detached or reset between `.segment`s.
/// Legend: B images, H heads, N tokens, d head width.

#include "tttlib/ttt/dual_form.hpp"

namespace ttt {

/// What the heads of a layer are asked: a model with its weights W0, [H, …] each, and queries, keys and values [B, H, N, d].
template <class T>
struct InnerTask {
  InnerModel<T> model;
  Tensors<T> w0;
  Tensor<T> q, k, v;
  InnerOptions<T> options = {};
};

namespace detail {
/// Channels of H heads side by side as heads: [B, h, w, H·d] -> [B, H, N, d], a view.
template <class T>
Tensor<T> to_heads(const Tensor<T>& x, std::int64_t H) {
  const Tensor<T> tokens = reshape(x, {x.size(0), x.size(1) * x.size(2), H, x.size(3) / H});  // [B, N, H, d]
  return permute(tokens, {0, 2, 1, 3});
}
/// One step on a causal chunk. Throws Error if the dual form is asked for and not possible, or more than one step is.
template <class T>
InnerResult<T> causal_chunk(const InnerModel<T>& model, const InnerState<T>& state, const Tensor<T>& q, const InnerData<T>& data,
                            const InnerOptions<T>& options) {
  if (options.epochs * options.batches != 1)
    fail<Error>("inner_scan", concat("a causal chunk is one step: epochs ", options.epochs, ", batches ", options.batches), "make chunks smaller");
  const std::string obstacle = dual_form_obstacle(model, options);
  if (options.schedule.causal == Schedule::Causal::dual && !obstacle.empty())
    fail<Error>("inner_scan", "the dual form is not possible: " + obstacle, "Schedule::Causal::sequential");
  const bool dual = options.schedule.causal != Schedule::Causal::sequential && obstacle.empty();
  return dual ? causal_dual(model, state, q, data, options) : causal_sequential(model, state, q, data, options);
}
}  // namespace detail

/// Carries out the options' schedule, going on from `state`: q, k, v [B, H, N, d] -> output [B, H, N, d'] and the state
/// afterwards, to be carried into the next call or detached. With acts of your own the output holds what they answered,
/// in their order. Throws like `inner_train`, and ShapeError for acts outside of the tokens.
template <class T>
InnerResult<T> inner_scan(const InnerModel<T>& model, InnerState<T> state, const Tensor<T>& q, const Tensor<T>& k,
                          const Tensor<T>& v, const InnerOptions<T>& options = {}) {
  using Kind = InnerAct::Kind;
  Scope scope("inner_scan");
  require_sound(options);
  if (q.dim() != 4 || k.dim() != 4 || !same_tokens(q, k))
    fail<ShapeError>("inner_scan", concat("needs q and k [B, H, N, d] with the same B, H, N: q ", q.shape(), ", k ", k.shape()));
  for (const Tensor<T>& w : state.w)
    if (w.dim() < 2 || w.size(0) != k.size(0) || w.size(1) != k.size(1))
      fail<ShapeError>("inner_scan", concat("the state is of other images or heads, its weights must be [B, H, ..]: w ", w.shape(),
                                            ", k ", k.shape()));
  const bool reversed = options.schedule.reversed;
  const auto in_order = [&](const Tensor<T>& x, std::int64_t axis) { return reversed ? flip(x, axis) : x; };
  InnerData<T> data{in_order(k, -2), in_order(v, -2), {}};               // [B, H, N, d]
  for (const Tensor<T>& r : options.token_rates) data.rates.push_back(in_order(r, -1));
  const Tensor<T> queries = in_order(q, -2);                             // [B, H, N, d]
  const Tensors<T> start = state.start;                                  // W0 with its history, whatever is detached later
  Tensors<T> answers;                                                    // [B, H, n, d'] each
  for (const InnerAct& act : options.schedule.plan(k.size(-2))) {
    const bool on_tokens = act.kind != Kind::detach && act.kind != Kind::reset;
    if (on_tokens && (act.first < 0 || act.first >= act.last || act.last > k.size(-2)))
      fail<ShapeError>("inner_scan", concat("an act must cover at least one of the tokens: [", act.first, ", ", act.last, "), tokens ", k.size(-2)));
    if (act.kind == Kind::update) {
      state = inner_update(model, state, data.slice(act.first, act.last), options);
    } else if (act.kind == Kind::apply) {
      answers.push_back(model(slice(queries, -2, act.first, act.last), state.w));
    } else if (act.kind == Kind::causal) {
      InnerResult<T> chunk = detail::causal_chunk(model, state, slice(queries, -2, act.first, act.last),
                                                  data.slice(act.first, act.last), options);
      answers.push_back(chunk.output);
      state = chunk.state;
    } else if (act.kind == Kind::detach) {
      state = state.detach();
    } else {
      state = {start, {}, start};
    }
  }
  if (answers.empty()) return {Tensor<T>(), state};
  const Tensor<T> output = answers.size() == 1 ? answers[0] : cat(answers, -2);  // [B, H, N, d']
  return {in_order(output, -2), state};
}

/// The same from W0, which every image starts with: w0 [H, …] each.
template <class T>
InnerResult<T> inner_scan(const InnerModel<T>& model, const Tensors<T>& w0, const Tensor<T>& q, const Tensor<T>& k,
                          const Tensor<T>& v, const InnerOptions<T>& options = {}) {
  require_fit(model, w0, k, v, options);
  return inner_scan(model, initial_state(w0, k.size(0)), q, k, v, options);
}
template <class T>
InnerResult<T> inner_scan(const InnerTask<T>& task) {
  return inner_scan(task.model, task.w0, task.q, task.k, task.v, task.options);
}

}  // namespace ttt
