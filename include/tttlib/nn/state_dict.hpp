#pragma once
/// Tensors by name: what modules, averages and optimisers save and load.

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tttlib/ops/create.hpp"

namespace ttt {

/// Tensors by name, in the order modules registered them: a state dict, or gradients by name.
template <class T>
using StateDict = std::vector<std::pair<std::string, Tensor<T>>>;

/// What a state dict and a module disagree on.
struct LoadReport {
  std::vector<std::string> missing;     // in the module, not in the dict
  std::vector<std::string> unexpected;  // in the dict, not in the module
  std::vector<std::string> mismatched;  // "name: module [..], state [..]"
  bool exact() const { return missing.empty() && unexpected.empty() && mismatched.empty(); }
  /// One line per kind of disagreement; empty if there is none.
  std::string to_string() const {
    std::string text;
    auto list = [&](const char* title, const std::vector<std::string>& names) {
      if (names.empty()) return;
      text += concat(text.empty() ? "" : "\n", title, " (", names.size(), "): ");
      for (std::size_t i = 0; i < names.size(); ++i) text += (i ? ", " : "") + names[i];
    };
    list("missing", missing);
    list("unexpected", unexpected);
    list("other shape", mismatched);
    return text;
  }
  /// The same in one line, with the first three names of each kind.
  std::string brief() const {
    std::string text;
    auto list = [&](const char* title, const std::vector<std::string>& names) {
      if (names.empty()) return;
      text += concat(text.empty() ? "" : "; ", names.size(), " ", title, " (");
      for (std::size_t i = 0; i < names.size() && i < 3; ++i) text += (i ? ", " : "") + names[i];
      text += names.size() > 3 ? ", …)" : ")";
    };
    list("missing", missing);
    list("unexpected", unexpected);
    list("of another shape", mismatched);
    return text;
  }
};

/// Copies `values` into the tensors of the same names, in place, and reports what did not match; if anything, nothing is
/// changed, or with `partly` only what matches. `owner` is what the report calls the side of `tensors`.
template <class T>
LoadReport assign_by_name(StateDict<T>& tensors, const StateDict<T>& values, const char* owner = "expected", bool partly = false) {
  std::map<std::string, const Tensor<T>*> by_name;
  for (const auto& entry : values) by_name[entry.first] = &entry.second;
  LoadReport report;
  std::vector<std::pair<Tensor<T>*, const Tensor<T>*>> copies;
  for (auto& entry : tensors) {
    const auto found = by_name.find(entry.first);
    if (found == by_name.end()) {
      report.missing.push_back(entry.first);
      continue;
    }
    if (found->second->shape() == entry.second.shape()) copies.emplace_back(&entry.second, found->second);
    else report.mismatched.push_back(concat(entry.first, ": ", owner, " ", entry.second.shape(), ", state ", found->second->shape()));
    by_name.erase(found);
  }
  for (const auto& entry : values)
    if (by_name.count(entry.first)) report.unexpected.push_back(entry.first);
  if (!report.exact() && !partly) return report;
  NoGradGuard guard;
  for (const auto& [to, from] : copies) assign(*to, from->to(to->device()));
  return report;
}

}  // namespace ttt
