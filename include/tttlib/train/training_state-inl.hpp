#pragma once
/// The run's state as JSON beside its tensors in one safetensors file, and metrics.jsonl.

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tttlib/io/atomic_file.hpp"
#include "tttlib/io/safetensors.hpp"
#include "tttlib/train/training_state.hpp"

namespace ttt {

namespace detail {

inline nlohmann::ordered_json to_json(const EpochMetrics& m) {
  return {{"epoch", m.epoch}, {"train_loss", m.train_loss}, {"test_loss", m.test_loss}, {"test_top1", m.test_top1},
          {"images_per_second", m.images_per_second}, {"lr", m.lr}, {"seconds", m.seconds}};
}

inline EpochMetrics metrics_from(const nlohmann::ordered_json& j) {
  return {j.at("epoch"), j.at("train_loss"), j.at("test_loss"), j.at("test_top1"), j.at("images_per_second"), j.at("lr"), j.at("seconds")};
}

template <class Entries>
void add_prefixed(NamedTensors& all, const char* prefix, const Entries& entries) {
  for (const auto& entry : entries) all.emplace_back(prefix + entry.first, entry.second);
}

inline StateDict<float> read_prefixed(const SafetensorsFile& file, const std::string& prefix) {
  StateDict<float> state;
  for (const std::string& name : file.names())
    if (name.rfind(prefix, 0) == 0) state.emplace_back(name.substr(prefix.size()), file.get<float>(name));
  return state;
}

inline std::vector<std::string> split_parts(const std::string& text) {
  std::vector<std::string> parts;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(", ", begin), text.size());
    parts.push_back(text.substr(begin, end - begin));
    begin = end + 2;
  }
  return parts;
}

/// What one identity has and another has not: "lr 0.001, seed 1".
inline std::string parts_unlike(const std::string& identity, const std::string& other) {
  const std::vector<std::string> others = split_parts(other);
  std::string text;
  for (const std::string& part : split_parts(identity))
    if (std::find(others.begin(), others.end(), part) == others.end()) text += (text.empty() ? "" : ", ") + part;
  return text.empty() ? "nothing else" : text;
}

}  // namespace detail

TTTLIB_INLINE void save_training_state(const std::string& path, Module<float>& model, const Optimizer<float>& optimizer,
                                       const Ema<float>* ema, const TrainingState& state, const std::string& identity) {
  NamedTensors all;
  detail::add_prefixed(all, "model.", model.state_dict());
  detail::add_prefixed(all, "optimizer.", optimizer.state_dict());
  if (ema) detail::add_prefixed(all, "ema.", ema->state_dict());
  nlohmann::ordered_json j{{"epoch", state.epoch}, {"batch", state.batch}, {"step", state.step}, {"loss_sum", state.loss_sum},
                           {"images", state.images}, {"seconds", state.seconds}, {"best_top1", state.best_top1},
                           {"seed", default_generator().seed.load()}, {"random_stream", default_generator().next_stream.load()},
                           {"history", nlohmann::ordered_json::array()}};
  for (const EpochMetrics& m : state.history) j["history"].push_back(detail::to_json(m));
  save_safetensors(path, all, {{"tttlib", "training state"}, {"run", identity}, {"state", j.dump()}});
}

TTTLIB_INLINE TrainingState load_training_state(const std::string& path, Module<float>& model, Optimizer<float>& optimizer,
                                                Ema<float>* ema, const std::string& identity) {
  const SafetensorsFile file = load_safetensors_file(path);
  const auto run = file.metadata().find("run"), text = file.metadata().find("state");
  if (run == file.metadata().end() || text == file.metadata().end()) fail<IoError>("resume", "not a training state: " + path);
  if (run->second != identity)
    fail<IoError>("resume", concat(path, " belongs to another run: it has ", detail::parts_unlike(run->second, identity), "; this run has ",
                                   detail::parts_unlike(identity, run->second)),
                  "resume with the data and options the run was started with");
  // A file without averages, or with some that nobody asked for, is no state of this run, whatever it says of itself.
  std::vector<std::string> unknown;
  for (const std::string& name : file.names())
    if (name.rfind("model.", 0) != 0 && name.rfind("optimizer.", 0) != 0 && !(ema && name.rfind("ema.", 0) == 0)) unknown.push_back(name);
  if (!unknown.empty()) fail<IoError>("resume", concat("damaged training state: ", path, ", ", LoadReport{{}, unknown, {}}.brief()));
  TrainingState state;
  try {
    const auto j = nlohmann::ordered_json::parse(text->second);
    state.epoch = j.at("epoch");
    state.batch = j.at("batch");
    state.step = j.at("step");
    state.loss_sum = j.at("loss_sum");
    state.images = j.at("images");
    state.seconds = j.at("seconds");
    state.best_top1 = j.at("best_top1");
    for (const auto& m : j.at("history")) state.history.push_back(detail::metrics_from(m));
    default_generator().seed = j.at("seed").get<std::uint64_t>();
    default_generator().next_stream = j.at("random_stream").get<std::uint64_t>();
  } catch (const nlohmann::json::exception& e) {
    fail<IoError>("resume", concat("damaged training state: ", path, ", ", e.what()));
  }
  model.load_state_dict(detail::read_prefixed(file, "model."));
  optimizer.load_state_dict(detail::read_prefixed(file, "optimizer."));
  if (ema) ema->load_state_dict(detail::read_prefixed(file, "ema."));
  return state;
}

TTTLIB_INLINE void write_metrics(const std::string& path, const std::vector<EpochMetrics>& history) {
  std::string text;
  for (const EpochMetrics& m : history) text += detail::to_json(m).dump() + "\n";
  write_file_atomically(path, text);
}

TTTLIB_INLINE void save_weights(const std::string& path, const StateDict<float>& weights, const std::string& description) {
  NamedTensors all;
  detail::add_prefixed(all, "", weights);
  save_safetensors(path, all, {{"tttlib", "weights"}, {"run", description}});
}

TTTLIB_INLINE LoadReport load_weights(const std::string& path, Module<float>& model, bool strict) {
  return model.load_state_dict(detail::read_prefixed(load_safetensors_file(path), ""), strict);
}

}  // namespace ttt
