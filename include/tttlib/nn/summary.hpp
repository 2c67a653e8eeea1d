#pragma once
/// A table of a model's modules: output shapes, parameters, multiply-accumulates.

#include <set>

#include "tttlib/nn/module.hpp"

namespace ttt {

struct Summary {
  std::vector<ModuleCall> calls;  // in the order modules were entered
  std::int64_t parameters = 0, macs = 0;
};

/// Runs the model once on zeros of `input_shape` (e.g. [1, 224, 224, 3]) in eval mode and collects every module call.
template <class T>
Summary summarize(Module<T>& model, const Shape& input_shape) {
  NoGradGuard guard;
  Summary summary;
  summary.parameters = model.num_parameters();
  struct Watch {
    Module<T>& model;
    const bool was_training = model.is_training();
    Watch(Module<T>& m, Summary& s) : model(m) { model.eval(), module_call_log() = &s.calls, mac_counter() = &s.macs; }
    ~Watch() { model.train(was_training), module_call_log() = nullptr, mac_counter() = nullptr; }
  } watch(model, summary);
  model(zeros<T>(input_shape));
  return summary;
}

/// 1234567 -> "1,234,567"
inline std::string with_thousands(std::int64_t n) {
  std::string digits = std::to_string(n), text;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0 && digits[i - 1] != '-') text += ',';
    text += digits[i];
  }
  return text;
}

/// The table as text, modules down to `max_depth` levels below the model.
inline std::string to_string(const Summary& summary, int max_depth = 3) {
  std::vector<std::vector<std::string>> rows{{"module", "kind", "output", "parameters", "multiply-accumulates"}};
  for (const ModuleCall& call : summary.calls) {
    if (call.depth > max_depth) continue;
    std::int64_t parameters = 0;
    std::set<std::string> counted;  // a module may be called twice
    for (const ModuleCall& inner : summary.calls)
      if ((inner.path == call.path || inner.path.rfind(call.path + ".", 0) == 0) && counted.insert(inner.path).second)
        parameters += inner.own_parameters;
    const std::size_t dot = call.path.rfind('.');
    const std::string name = call.depth == 0 || dot == std::string::npos ? call.path : call.path.substr(dot + 1);
    rows.push_back({std::string(static_cast<std::size_t>(2 * call.depth), ' ') + name, call.kind, to_string(call.output),
                    with_thousands(parameters), with_thousands(call.macs)});
  }
  rows.push_back({"total", "", "", with_thousands(summary.parameters), with_thousands(summary.macs)});
  std::vector<std::size_t> width(5);
  for (const auto& row : rows)
    for (std::size_t c = 0; c < 5; ++c) width[c] = row[c].size() > width[c] ? row[c].size() : width[c];
  std::string text;
  for (const auto& row : rows) {
    for (std::size_t c = 0; c < 5; ++c) {
      const std::string space(width[c] - row[c].size(), ' ');
      text += (c > 0 ? "  " : "") + (c < 3 ? row[c] + space : space + row[c]);
    }
    text += '\n';
  }
  return text;
}
inline std::ostream& operator<<(std::ostream& out, const Summary& summary) { return out << to_string(summary); }

}  // namespace ttt
