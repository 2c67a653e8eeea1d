#pragma once
/// Exponential moving average of a module's weights.

#include "tttlib/nn/module.hpp"
#include "tttlib/ops/elementwise.hpp"

namespace ttt {

/// average ← decay·average + (1 − decay)·weights, for parameters and buffers alike.
template <class T>
class Ema {
 public:
  Ema(Module<T>& module, double decay) : decay_(decay) {
    if (!(decay >= 0 && decay <= 1)) fail<Error>("Ema", concat("decay must be in [0, 1]: ", decay));
    for (const auto& entry : module.state_dict()) average_.emplace_back(entry.first, clone(entry.second));
  }

  /// Throws ShapeError for a module with other parameters or buffers; nothing is changed then.
  void update(Module<T>& module) {
    NoGradGuard guard;
    const StateDict<T> now = module.state_dict();
    const auto refuse = [](const std::string& values) { fail<ShapeError>("Ema", "the module is not the averaged one: " + values); };
    if (now.size() != average_.size()) refuse(concat(now.size(), " parameters and buffers, ", average_.size(), " averaged"));
    for (std::size_t i = 0; i < average_.size(); ++i)
      if (now[i].first != average_[i].first || now[i].second.shape() != average_[i].second.shape())
        refuse(concat(now[i].first, " ", now[i].second.shape(), ", averaged ", average_[i].first, " ", average_[i].second.shape()));
    for (std::size_t i = 0; i < average_.size(); ++i)
      assign(average_[i].second, add(mul(average_[i].second, static_cast<T>(decay_)), mul(now[i].second, static_cast<T>(1 - decay_))));
  }

  /// The averaged weights, ready for `load_state_dict` or a checkpoint.
  const StateDict<T>& state_dict() const { return average_; }
  /// Copies averages in. Throws ShapeError naming what is missing, unknown or of another shape; nothing is changed then.
  void load_state_dict(const StateDict<T>& state) {
    const LoadReport report = assign_by_name(average_, state);
    if (!report.exact()) fail<ShapeError>("load_state_dict", "state does not fit the averaged weights: " + report.brief());
  }

 private:
  double decay_;
  StateDict<T> average_;
};

}  // namespace ttt
