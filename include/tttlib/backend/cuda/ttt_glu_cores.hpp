#pragma once
/// The GLU heads of a ViT³ block on tensor cores, forward through their inner step: operands of products are rounded to bf16, sums,
/// weights, gradients and the step itself are floats (paper §4; derivation in docs/derivation.md).
/// One block per (image, head), a warp for every 16 of its d channels; where that makes too few blocks for a GPU and there are many
/// tokens, several blocks share them in two stages, between which their sums are added in order. All products are made turned,
/// channels by tokens: so P and R leave the product that made z as the operand that the inner gradient needs, and neither they
/// nor the trained weights ever leave registers.
/// Multiply-accumulates per image and head: 6·N·d². Bytes: q, k, v, o once each; 8d² per image and head for g if it is kept.

#include "tttlib/backend/cuda/ttt_core_parts.hpp"

namespace ttt::cuda_backend {

/// o = (q w1*) ⊙ S(q w2*) with w* = w − η·clip(g). Before the sum: g of a block's tokens.
template <int D, class S>
struct TttGluCores {
  static constexpr int threads = 2 * D, resident_blocks = D == 64 ? 3 : 8;
  static constexpr int row = D / 2 + 4, most = 208;  // pairs of a row; most tokens of a chunk
  CoreSizes s;
  Tokens<const S> q, k, v;
  const float *w1, *w2;  // [H, d, d]
  float* gradient;       // [B, H, d, 2d] or null; before the sum [B, parts, H, d, 2d]
  Tokens<S> o;
  static std::int64_t shared_bytes(const CoreSizes& s) { return 2 * shared_size<std::uint32_t>(s.chunk * row); }

  struct Registers {
    CoreOperand<D> w;  // then w*
    CoreColumns<D> g;
    CoreTokens<D> x;
    CoreProducts z;
    CoreValues e, next;
    FragmentA terms[2];
    FragmentB turned[2];
    CoreSums squares;
  };
  TTT_DEVICE void operator()(Block& block) const {
    const CorePlace place(block, s);
    const PairTile keys{block.shared<std::uint32_t>(s.chunk * row), row}, queries{block.shared<std::uint32_t>(s.chunk * row), row};
    const CoreWeights<D> weights(w1, w2, place.h);
    const HeadTokens<const S> all_q(q, place.b, place.h), all_k(k, place.b, place.h);
    const auto values = [&](int t) { return HeadTokens<const S>(v, place.b, place.h, CoreLane(t).channel); };
    PerThread<Registers> r(block);
    const auto operand = [&](int t) -> const CoreOperand<D>& { return r[t].w; };
    const auto tokens = [&](int t) -> CoreTokens<D>& { return r[t].x; };
    const auto z = [&](int t) -> CoreProducts& { return r[t].z; };
    const auto g = [&](int t) -> CoreColumns<D>& { return r[t].g; };
    const auto terms = [&](int t) { return r[t].terms; };
    const auto turned = [&](int t) { return r[t].turned; };

    for (int first = place.begin; first < place.end && s.stage != CoreStage::after_sum; first += s.chunk) {
      const int rows = s.rows(first, place.end);
      block.each_thread([&](int t) {
        load_pairs<D>(block, all_k, first, place.end, rows, keys, t);
        if (first > place.begin) return;
        if (s.stage == CoreStage::whole) load_pairs<D>(block, all_q, first, place.end, rows, queries, t);
        weights.load(CoreLane(t), r[t].g);
        as_operand<D>(r[t].g, r[t].w);
        r[t].g = CoreColumns<D>{};
      });
      block.each_lane([&](int t) {
        r[t].next.load(values(t), first, place.end, CoreLane(t));
        for (FragmentA& nothing : r[t].terms) nothing = FragmentA{};
      });
      for (int at = 0; at < rows; at += 16) {  // the outer product is that of the tokens before: they are ready
        load_16_tokens<D>(block, tokens, keys, at);
        block.each_lane([&](int t) {
          r[t].e = r[t].next;
          r[t].next.load(values(t), first + at + 16, place.end, CoreLane(t));
          r[t].z.clear();
        });
        multiply_tokens<D>(block, z, operand, tokens);                                             // z [channels, 16] = wᵀ kᵀ
        add_outer<D>(block, g, terms, keys, at > 0 ? at - 16 : 0, turned);                         // gᵀ [channels, d] += (P, R) k
        block.each_lane([&](int t) { turn_into_terms(r[t].z, r[t].e, -s.c, r[t].terms); });        // P, R [channels, 16]
      }
      add_outer<D>(block, g, terms, keys, rows - 16, turned);
      block.barrier();
    }
    if (s.stage == CoreStage::before_sum) {
      block.each_lane([&](int t) { store_columns<D>(r[t].g, gradient + block.index() * 2 * D * D, CoreLane(t)); });
      return;
    }
    if (s.stage == CoreStage::after_sum) block.each_lane([&](int t) { load_columns<D>(gradient + place.matrix(s, D), CoreLane(t), r[t].g); });

    sum_columns<D>(block, [&](int t) -> CoreSums& { return r[t].squares; }, g, g);
    block.each_lane([&](int t) {
      const CoreLane lane(t);
      if (s.stage == CoreStage::whole && gradient) store_columns<D>(r[t].g, gradient + place.matrix(s, D), lane);
      weights.step(lane, r[t].squares, s.rate, r[t].g);                                            // w*ᵀ [channels, d]
      as_operand<D>(r[t].g, r[t].w);
    });

    for (int first = place.begin; first < place.end; first += s.chunk) {
      const int rows = s.rows(first, place.end);
      if (first > place.begin || s.stage == CoreStage::after_sum) {
        block.barrier();
        block.each_thread([&](int t) { load_pairs<D>(block, all_q, first, place.end, rows, queries, t); });
      }
      for (int at = 0; at < rows; at += 16) {
        load_16_tokens<D>(block, tokens, queries, at);
        block.each_lane([&](int t) { r[t].z.clear(); });
        multiply_tokens<D>(block, z, operand, tokens);                                             // y [channels, 16] = w*ᵀ qᵀ
        block.each_lane([&](int t) {
          const HeadTokens<S> answers(o, place.b, place.h, CoreLane(t).channel);
          TTT_UNROLL
          for (int half = 0; half < 2; ++half) {                                                   // o [channels, 8]
            Accumulator& y = r[t].z.of[0][half];
            TTT_UNROLL
            for (int i = 0; i < 4; ++i) y.at[i] *= rough_silu(r[t].z.of[1][half].at[i]).value;
            store_values(y, answers, first + at + 8 * half, place.end, CoreLane(t));
          }
        });
      }
    }
  }
};

/// y [B, H, d, 2d] = the sums over the parts of partial [B, parts, H, d, 2d].
template <class L>
void sum_core_parts(const L& run, const CoreSizes& s, const float* partial, std::int64_t d, float* y) {
  const std::int64_t step = s.H * 2 * d * d;
  sum_parts<L, float>(run, partial, s.parts, step, {s.parts * step, 1}, {s.B, step}, y, {step, 1});
}
/// o [B, H, N, d] from tokens of float or bf16; keeps `gradient` g [B, H, d, 2d] unless it is null. Needs `fits_tensor_cores`.
template <class L, int D, class S>
void ttt_glu_by_cores(const GluOperands<const S, const float>& x, const TttStep& step, float* gradient, View<S> o) {
  using Program = TttGluCores<D, S>;
  const CoreSizes s(x.q.shape, step, Program::most);
  if (s.B * s.H == 0) return;
  const L run("ttt_glu", o.device);
  const PlainWeights<L> w(run, x.w1, x.w2);
  const auto start = [&](CoreStage stage, float* g) {
    run.blocks(s.blocks(), Program::threads, Program::shared_bytes(s), Program{s.at(stage), x.q, x.k, x.v, w.w1(), w.w2(), g, o});
  };
  if (s.parts == 1) return start(CoreStage::whole, gradient);
  const Scratch<L, float> partial(run, s.blocks() * 2 * D * D), total(run, gradient ? 0 : s.B * s.H * 2 * D * D);
  float* g = gradient ? gradient : total.data();
  start(CoreStage::before_sum, partial.data());
  sum_core_parts<L>(run, s, partial.data(), D, g);
  start(CoreStage::after_sum, g);
}

}  // namespace ttt::cuda_backend
