#pragma once
/// What a run needs to go on bit for bit, and its measurements; both survive a crash at any moment.

#include <string>
#include <vector>

#include "tttlib/optim/ema.hpp"
#include "tttlib/optim/optimizer.hpp"

namespace ttt {

/// One line of metrics.jsonl.
struct EpochMetrics {
  std::int64_t epoch = 0;  // counted from 1
  double train_loss = 0, test_loss = 0, test_top1 = 0, images_per_second = 0, lr = 0, seconds = 0;
};

/// Where a run stands.
struct TrainingState {
  std::int64_t epoch = 0, batch = 0;  // the next batch to train on
  std::int64_t step = 0;              // of the schedule
  double loss_sum = 0;                // of this epoch's batches so far, weighted by images
  std::int64_t images = 0;            // of this epoch so far
  double seconds = 0;                 // spent training this epoch so far
  double best_top1 = -1;
  std::vector<EpochMetrics> history;
};

/// Writes weights, optimiser, averaged weights (may be null), the random counter and `state` into one file.
/// `identity` describes the run (model, data …); loading with another one is an error. Throws IoError.
void save_training_state(const std::string& path, Module<float>& model, const Optimizer<float>& optimizer,
                         const Ema<float>* ema, const TrainingState& state, const std::string& identity);

/// Reads it back into the same kind of objects. Throws IoError if the file belongs to another run, ShapeError naming what
/// is missing or unknown in the state of model, optimiser or averages.
TrainingState load_training_state(const std::string& path, Module<float>& model, Optimizer<float>& optimizer,
                                  Ema<float>* ema, const std::string& identity);

/// Replaces metrics.jsonl by one line per epoch. Throws IoError.
void write_metrics(const std::string& path, const std::vector<EpochMetrics>& history);

/// Weights and buffers of a model as safetensors. Throws IoError.
void save_weights(const std::string& path, const StateDict<float>& weights, const std::string& description);

/// Reads weights into a model. Throws IoError for an unreadable file, ShapeError (strict) for one that does not fit.
LoadReport load_weights(const std::string& path, Module<float>& model, bool strict = true);

}  // namespace ttt

#if !defined(TTTLIB_COMPILED)
#include "tttlib/train/training_state-inl.hpp"
#endif
