#pragma once
/// Loading what is not a module: averages and the optimisers' state.

#include <map>

#include "tttlib/nn/module.hpp"

namespace ttt {

/// Copies `values` into the tensors of the same names and reports what did not match; if anything, nothing is changed.
template <class T>
LoadReport assign_by_name(StateDict<T>& tensors, const StateDict<T>& values) {
  std::map<std::string, const Tensor<T>*> by_name;
  for (const auto& entry : values) by_name[entry.first] = &entry.second;
  LoadReport report;
  std::vector<const Tensor<T>*> sources;
  for (const auto& entry : tensors) {
    const auto found = by_name.find(entry.first);
    if (found == by_name.end()) {
      report.missing.push_back(entry.first);
      continue;
    }
    if (found->second->shape() != entry.second.shape())
      report.mismatched.push_back(concat(entry.first, ": expected ", entry.second.shape(), ", state ", found->second->shape()));
    sources.push_back(found->second);
    by_name.erase(found);
  }
  for (const auto& entry : values)
    if (by_name.count(entry.first)) report.unexpected.push_back(entry.first);
  if (!report.exact()) return report;
  NoGradGuard guard;
  for (std::size_t i = 0; i < tensors.size(); ++i) assign(tensors[i].second, sources[i]->to(tensors[i].second.device()));
  return report;
}

}  // namespace ttt
