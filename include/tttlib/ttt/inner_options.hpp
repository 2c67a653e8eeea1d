#pragma once
/// The choices of an inner training: loss, step, and schedule; and both as text.

#include <ostream>

#include "tttlib/ttt/inner_loss.hpp"

namespace ttt {

/// One act of a schedule on the tokens [first, last).
struct InnerAct {
  enum class Kind {
    update,  // train on these tokens
    apply,   // answer these tokens with the weights as they are
    causal,  // answer token n after one step on the tokens up to n, all gradients taken at the chunk's start; keep the last weights
    detach,  // go on from the same numbers without history: truncated gradients
    reset,   // go back to W0
  };
  Kind kind = Kind::update;
  std::int64_t first = 0, last = 0;
};

/// In which order tokens are trained on and answered. By default: train on all of them, then answer all of them.
struct Schedule {
  /// When a chunk is answered: after its update (nobody is left out), before it, or token by token.
  enum class Read { after_update, before_update, causal };
  /// How a causal chunk is computed: by the dual form where model and step allow it, or weights for every token.
  enum class Causal { automatic, dual, sequential };
  /// What happens to the weights between segments.
  enum class Between { carry, detach, reset };

  std::int64_t chunk = 0;           // tokens per chunk, the last one may be shorter; 0: all
  Read read = Read::after_update;
  Causal causal = Causal::automatic;
  bool reversed = false;            // from the last token to the first
  std::int64_t segment = 0;         // tokens per segment, the last one may be shorter; 0: all
  Between between = Between::carry;
  std::vector<InnerAct> acts = {};  // a list of your own instead of chunks, segments and `read`

  /// The acts on that many tokens, in order; positions count along the scan, so a reversed one starts at the last token.
  std::vector<InnerAct> plan(std::int64_t tokens) const {
    using Kind = InnerAct::Kind;
    if (!acts.empty()) return acts;
    if (chunk < 0 || segment < 0) fail<ShapeError>("Schedule", concat("sizes must not be negative: chunk ", chunk, ", segment ", segment));
    std::vector<InnerAct> list;
    const std::int64_t per_segment = segment > 0 && segment < tokens ? segment : tokens;
    for (std::int64_t start = 0; start < tokens; start += per_segment) {
      const std::int64_t stop = start + per_segment < tokens ? start + per_segment : tokens;
      if (start > 0 && between != Between::carry) list.push_back({between == Between::detach ? Kind::detach : Kind::reset});
      const std::int64_t per_chunk = chunk > 0 && chunk < stop - start ? chunk : stop - start;
      for (std::int64_t first = start; first < stop; first += per_chunk) {
        const std::int64_t last = first + per_chunk < stop ? first + per_chunk : stop;
        if (read == Read::causal) list.push_back({Kind::causal, first, last});
        if (read == Read::before_update) list.push_back({Kind::apply, first, last});
        if (read != Read::causal) list.push_back({Kind::update, first, last});
        if (read == Read::after_update) list.push_back({Kind::apply, first, last});
      }
    }
    return list;
  }
  /// True for training on all tokens before any is answered.
  bool is_plain() const { return chunk == 0 && read == Read::after_update && !reversed && segment == 0 && acts.empty(); }
};

/// Newton–Schulz orthogonalisation of the update (Muon), by its coefficients; see `newton_schulz`.
enum class NewtonSchulz { off, constant, stepwise };

/// Everything about an inner training but the model and the tokens.
template <class T>
struct InnerOptions {
  InnerLoss<T> loss = losses::dot;
  double rate = 1;                               // η
  std::int64_t epochs = 1;                       // passes over the tokens of an update
  std::int64_t batches = 1;                      // consecutive parts per pass, each its own step; 1 = full batch
  bool clip = false;                             // g / (‖g‖ + 1), see clip_inner_gradient
  double momentum = 0;                           // M ← g + momentum·M; the step follows M
  double weight_decay = 0;                       // W ← W − η·weight_decay·W besides the step
  NewtonSchulz newton_schulz = NewtonSchulz::off;
  bool row_norm = false;                         // each output unit's weights keep the norm they have in W0 (LaCT)
  Tensor<T> head_rate = {};                      // [H] or [B, H]: a factor of η
  Tensors<T> token_rates = {};                   // [B, H, N]: weights of the tokens in the loss; one for all parameters or one each
  Tensor<T> position_rate = {};                  // [chunk]: a factor of η for the token at that position of a causal chunk
  Schedule schedule = {};
};

/// One line, e.g. "loss mse, rate 0.5, 2 epochs of 4 batches, column clip".
template <class T>
std::string to_string(const InnerOptions<T>& o) {
  std::string text = concat("loss ", o.loss.name(), ", rate ", o.rate);
  if (o.head_rate.defined()) text += " per head";
  if (!o.token_rates.empty()) text += o.token_rates.size() == 1 ? " per token" : " per token and parameter";
  if (o.position_rate.defined()) text += " per position";
  text += ", " + concat(o.epochs, o.epochs == 1 ? " epoch" : " epochs") + (o.batches == 1 ? " of the full batch" : concat(" of ", o.batches, " batches"));
  if (o.clip) text += ", column clip";
  if (o.momentum != 0) text += concat(", momentum ", o.momentum);
  if (o.newton_schulz != NewtonSchulz::off)
    text += concat(", Newton-Schulz ", o.newton_schulz == NewtonSchulz::constant ? "constant" : "stepwise");
  if (o.weight_decay != 0) text += concat(", weight decay ", o.weight_decay);
  if (o.row_norm) text += ", row norm";
  const Schedule& s = o.schedule;
  if (!s.acts.empty()) return text + concat(", ", s.acts.size(), " scheduled acts", s.reversed ? ", reversed" : "");
  if (s.chunk > 0) text += concat(", chunks of ", s.chunk);
  if (s.read == Schedule::Read::before_update) text += ", apply then update";
  if (s.read == Schedule::Read::causal) text += ", causal";
  if (s.read == Schedule::Read::causal && s.causal != Schedule::Causal::automatic)
    text += s.causal == Schedule::Causal::dual ? " (dual form)" : " (sequential form)";
  if (s.segment > 0) {
    const char* between = s.between == Schedule::Between::carry ? "carried" : s.between == Schedule::Between::detach ? "detached" : "reset";
    text += concat(", segments of ", s.segment, ", ", between, " between");
  }
  return text + (s.reversed ? ", reversed" : "");
}
template <class T>
std::ostream& operator<<(std::ostream& out, const InnerOptions<T>& options) {
  return out << to_string(options);
}

}  // namespace ttt
