#pragma once
/// Training and evaluating an image classifier: what examples/train_classifier.cpp runs.

#include <functional>

#include "tttlib/data/loader.hpp"
#include "tttlib/train/train_step.hpp"
#include "tttlib/train/training_state.hpp"

namespace ttt {

struct TrainOptions {
  std::int64_t epochs = 20, batch_size = 64;
  double lr = 1e-3, weight_decay = 0.05, warmup_epochs = 2, label_smoothing = 0.1, clip_grad = 5;
  double ema = 0;              // decay of averaged weights; 0: none
  std::uint64_t seed = 0;
  int crop_padding = 4;        // random crop after padding by this many pixels; 0: none
  bool flip = true;            // random horizontal flip
  bool cuda_graph = false;     // on a GPU: loss and gradients of a step as one launch, with the same bits
  std::string out = "runs/classifier";
  std::string description;     // of the model; a resumed run must match, as it must in data and options
  bool resume = false;         // go on with the run in `out`
  bool overwrite = false;      // replace the run in `out`, which stays whole until this one has something to save
};

/// Results on a data set.
struct Evaluation {
  double loss = 0, top1 = 0;
  std::vector<std::int64_t> predicted;             // [images]
  std::vector<std::int64_t> class_correct, class_total;  // [classes]
};

/// Runs a model over a data set in eval mode, on the device the model is on. Throws Error if the loss is no number.
Evaluation evaluate(Module<float>& model, const ImageDataset& dataset, std::int64_t batch_size = 100);

struct TrainResult {
  TrainingState state;
  Evaluation evaluation;     // of the last weights (the averaged ones with ema)
  bool interrupted = false;  // `should_stop` said so; the state is on disk
};

/// Trains on the device that the model is on, with AdamW (no decay on 1-D parameters), a cosine schedule to 0 per step times a linear warm-up ramp, label
/// smoothing and clipping; the last incomplete batch of an epoch is left out. Writes into `options.out`:
/// metrics.jsonl, last.safetensors and best.safetensors (weights), training_state.safetensors (for `resume`).
/// `should_stop` is asked after every step. Throws IoError if a file cannot be written, if `out` holds a run that is
/// neither to be resumed nor overwritten, none to resume, or one that is under way, and Error if the loss stops being
/// a number: in training naming the first op with a NaN or infinity.
TrainResult train_classifier(Module<float>& model, const ImageDataset& train, const ImageDataset& test,
                             const TrainOptions& options, const std::function<bool()>& should_stop = {});

/// The same on several devices at once, with a rank for each: every rank takes an equal share of each batch, gradients are summed while the
/// backward pass goes on, and all make the same step. `replicas` are models of one kind, each on its device; they take the weights of the first,
/// which evaluates and saves. The run is that of one device, but for rounding and random layers; it may be resumed on any number of them. Throws
/// also Error if the batch cannot be shared equally, and what make_communicator and a rank that fails throw.
TrainResult train_classifier(const std::vector<Module<float>*>& replicas, const ImageDataset& train, const ImageDataset& test,
                             const TrainOptions& options, const std::function<bool()>& should_stop = {});

}  // namespace ttt

#if !defined(TTTLIB_COMPILED)
#include "tttlib/train/classifier-inl.hpp"
#endif
