#pragma once
/// Evaluation, and the training of one model or of its replicas.

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <deque>
#include <filesystem>

#include "tttlib/core/hash.hpp"
#include "tttlib/io/folder.hpp"
#include "tttlib/ops/composed/loss.hpp"
#include "tttlib/optim/schedule.hpp"
#include "tttlib/train/classifier.hpp"
#include "tttlib/train/progress.hpp"
#include "tttlib/train/rank_threads.hpp"

namespace ttt {

TTTLIB_INLINE Evaluation evaluate(Module<float>& model, const ImageDataset& dataset, std::int64_t batch_size) {
  NoGradGuard guard;
  const bool was_training = model.is_training();
  model.eval();
  Evaluation result;
  result.predicted.resize(static_cast<std::size_t>(dataset.size()));
  result.class_correct.resize(dataset.class_names.size());
  result.class_total.resize(dataset.class_names.size());
  LoaderOptions options;
  options.batch_size = batch_size;
  options.feed(model.device());
  const DataLoader loader(dataset, options);
  // What the model says stays on its device until the end: to read it batch by batch, a GPU would have to stop each time.
  struct Answer {
    Tensor<std::int64_t> best;  // [B]
    Tensor<float> loss;         // []
    std::vector<std::int64_t> indices;
  };
  std::vector<Answer> answers;
  auto batches = loader.epoch(0);
  for (const Batch& batch : batches) {
    const Tensor<float> logits = model(batch.images);  // [B, classes]
    answers.push_back({argmax(logits), cross_entropy(logits, batch.labels, {.reduce = Reduce::sum}), batch.indices});
  }
  std::int64_t correct = 0;
  for (const Answer& answer : answers) {
    const std::vector<std::int64_t> best = answer.best.to_vector();  // [B]
    result.loss += static_cast<double>(answer.loss.item());
    for (std::size_t i = 0; i < best.size(); ++i) {
      const std::int64_t label = dataset.labels[static_cast<std::size_t>(answer.indices[i])];
      const bool right = best[i] == label;
      result.predicted[static_cast<std::size_t>(answer.indices[i])] = best[i];
      correct += right;
      result.class_correct[static_cast<std::size_t>(label)] += right;
      ++result.class_total[static_cast<std::size_t>(label)];
    }
  }
  result.loss /= static_cast<double>(dataset.size());
  result.top1 = static_cast<double>(correct) / static_cast<double>(dataset.size());
  model.train(was_training);
  return result;
}

namespace detail {

/// What one rank of a training has.
struct TrainingRank {
  TrainingRank(Module<float>& replica, int rank, Communicator* communicator, const std::shared_ptr<const ImageDataset>& train, LoaderOptions loading,
               const TrainOptions& options)
      : model(replica),
        loader(train, share(loading, rank, communicator, replica)),
        optimizer(param_groups(model, {.weight_decay = options.weight_decay}), {.lr = options.lr}),
        sums(communicator ? std::make_unique<GradientSums<float>>(*communicator, rank, model.parameters()) : nullptr),
        step(model, options.label_smoothing, options.clip_grad, options.cuda_graph, sums.get()) {}
  static LoaderOptions share(LoaderOptions loading, int rank, const Communicator* communicator, Module<float>& model) {
    loading.rank = rank;
    loading.ranks = communicator ? communicator->ranks() : 1;
    return loading.feed(model.device());
  }
  Module<float>& model;
  DataLoader loader;
  AdamW<float> optimizer;
  std::unique_ptr<GradientSums<float>> sums;  // null: this rank is alone
  TrainStep step;
  std::optional<DataLoader::Epoch> epoch;
  std::optional<Batch> batch;
  StepNumbers numbers;
};

/// Repeats a step whose loss or gradient was not finite with anomaly mode on, which throws at the first bad op.
[[noreturn]] inline void explain_nan(RankThreads& threads, std::deque<TrainingRank>& ranks, std::uint64_t random_stream,
                                     std::int64_t step) {
  default_generator().next_stream = random_stream;
  AnomalyGuard guard;
  threads.run([&](int rank) {
    const TrainingRank& mine = ranks[static_cast<std::size_t>(rank)];
    mine.step.loss_of(mine.batch->images, mine.batch->labels).backward();
  });
  fail<Error>("train", concat("the loss or its gradient is not finite in step ", step, ": loss ", ranks[0].numbers.loss), "lower the learning rate");
}

/// Swaps averaged weights into a model for one scope.
class UseEma {
 public:
  UseEma(Module<float>& model, const Ema<float>* ema) : model_(model), active_(ema != nullptr) {
    if (!active_) return;
    for (const auto& entry : model.state_dict()) before_.emplace_back(entry.first, clone(entry.second));
    model.load_state_dict(ema->state_dict());
  }
  ~UseEma() {
    if (active_) model_.load_state_dict(before_);
  }
  UseEma(const UseEma&) = delete;
  UseEma& operator=(const UseEma&) = delete;

 private:
  Module<float>& model_;
  bool active_;
  StateDict<float> before_;
};

/// A number that tells data sets apart by what they hold, wherever they lie.
inline std::uint64_t fingerprint(const ImageDataset& data) {
  Fnv of;
  const auto add = [&of](std::uint64_t word) {
    of.add(word);
    of.hash ^= of.hash >> 29;  // so that high bits reach low ones
  };
  std::size_t i = 0;
  for (; i + 8 <= data.pixels.size(); i += 8) {
    std::uint64_t word;
    std::memcpy(&word, data.pixels.data() + i, 8);
    add(word);
  }
  for (; i < data.pixels.size(); ++i) add(data.pixels[i]);
  for (const std::int64_t label : data.labels) add(static_cast<std::uint64_t>(label));
  for (const std::string& name : data.class_names) {
    for (const char c : name) add(static_cast<unsigned char>(c));
    add(256);
  }
  return of.hash;
}

/// What makes a run the same run: everything its bits depend on. Numbers in full; parts are parted by ", ".
inline std::string run_identity(const TrainOptions& o, const ImageDataset& train, const ImageDataset& test) {
  return fmt::format(
      "{}, images {} of {} x {} and {} for testing, classes {}, data {:016x} and {:016x}, epochs {}, batch {}, lr {}, decay {}, "
      "warm-up {}, smoothing {}, clip {}, ema {}, crop {}, flip {}, seed {}",
      o.description, train.size(), train.height, train.width, test.size(), train.class_names.size(), fingerprint(train),
      fingerprint(test), o.epochs, o.batch_size, o.lr, o.weight_decay, o.warmup_epochs, o.label_smoothing, o.clip_grad, o.ema,
      o.crop_padding, o.flip, o.seed);
}

}  // namespace detail

TTTLIB_INLINE TrainResult train_classifier(Module<float>& model, const ImageDataset& train, const ImageDataset& test,
                                           const TrainOptions& options, const std::function<bool()>& should_stop) {
  return train_classifier(std::vector<Module<float>*>{&model}, train, test, options, should_stop);
}

TTTLIB_INLINE TrainResult train_classifier(const std::vector<Module<float>*>& replicas, const ImageDataset& train, const ImageDataset& test,
                                           const TrainOptions& options, const std::function<bool()>& should_stop) {
  std::vector<Device> devices;
  for (Module<float>* replica : replicas) {
    if (!replica) fail<Error>("train", concat("one of ", replicas.size(), " models is null"));
    if (std::count(replicas.begin(), replicas.end(), replica) > 1)
      fail<Error>("train", concat("one model for several ranks, of ", replicas.size()), "every rank needs a model of its own");
    devices.push_back(replica->device());
  }
  const std::unique_ptr<Communicator> communicator = devices.size() == 1 ? nullptr : make_communicator(devices);
  LoaderOptions loading;
  loading.batch_size = options.batch_size;
  loading.shuffle = loading.drop_last = true;
  loading.seed = options.seed;
  loading.augment.crop_padding = options.crop_padding;
  loading.augment.flip = options.flip;
  std::deque<detail::TrainingRank> ranks;
  const auto data = std::make_shared<const ImageDataset>(train);
  for (Module<float>* replica : replicas) ranks.emplace_back(*replica, static_cast<int>(ranks.size()), communicator.get(), data, loading, options);
  Module<float>& model = ranks[0].model;
  for (detail::TrainingRank& rank : ranks)
    if (&rank != &ranks[0]) rank.model.load_state_dict(model.state_dict());  // fails before anything is written
  RankThreads threads(communicator.get());
  AdamW<float>& optimizer = ranks[0].optimizer;
  const std::int64_t batches = ranks[0].loader.batches_per_epoch();

  std::error_code error;
  const auto has = [&](const char* file) { return std::filesystem::exists(options.out + "/" + file, error); };
  const bool occupied = has("training_state.safetensors") || has("metrics.jsonl") || has("last.safetensors") || has("best.safetensors");
  if (occupied && !options.resume && !options.overwrite)
    fail<IoError>("train", "the output folder holds a run: " + options.out, "resume goes on with it, overwrite starts again");
  if (options.resume && !has("training_state.safetensors"))
    fail<IoError>("train", "nothing to resume in " + options.out + ": it has no training_state.safetensors", "start without resume");
  make_folder("train", options.out);
  const std::string state_path = options.out + "/training_state.safetensors";
  const std::string identity = detail::run_identity(options, train, test);

  std::unique_ptr<Ema<float>> ema;
  if (options.ema > 0) ema = std::make_unique<Ema<float>>(model, options.ema);
  CosineSchedule schedule;
  schedule.lr = options.lr;
  schedule.total_steps = options.epochs * batches;
  schedule.warmup_steps = static_cast<std::int64_t>(options.warmup_epochs * static_cast<double>(batches));
  schedule.ramp = true;

  TrainResult result;
  TrainingState& state = result.state;
  if (options.resume) {
    state = load_training_state(state_path, model, optimizer, ema.get(), identity);
    for (detail::TrainingRank& rank : ranks) {
      if (&rank == &ranks[0]) continue;
      rank.model.load_state_dict(model.state_dict());
      rank.optimizer.load_state_dict(optimizer.state_dict());
    }
    write_metrics(options.out + "/metrics.jsonl", state.history);
  } else {
    // Fails early if nothing can be written, and leaves a run that is to be overwritten as it is.
    const std::string first = occupied ? options.out + "/write_check.safetensors" : state_path;
    save_training_state(first, model, optimizer, ema.get(), state, identity);
    if (occupied) std::filesystem::remove(first);
  }

  for (detail::TrainingRank& rank : ranks) rank.model.train();
  ProgressBar progress;
  bool started = false;
  while (state.epoch < options.epochs) {
    const std::string title = concat("epoch ", state.epoch + 1, "/", options.epochs);
    for (detail::TrainingRank& rank : ranks) rank.epoch.emplace(rank.loader.epoch(state.epoch, state.batch));
    auto start = std::chrono::steady_clock::now();
    while (state.batch < batches) {
      const std::uint64_t random_stream = default_generator().next_stream;
      threads.run([&](int rank) {
        detail::TrainingRank& mine = ranks[static_cast<std::size_t>(rank)];
        mine.batch = mine.epoch->next();
        mine.optimizer.set_lr(schedule(state.step));
        mine.numbers = mine.step(*mine.batch);  // the same on all ranks
        if (mine.numbers.finite()) mine.optimizer.step(mine.numbers.scale);
      });
      const StepNumbers& numbers = ranks[0].numbers;
      if (!numbers.finite()) detail::explain_nan(threads, ranks, random_stream, state.step);
      if (ema) ema->update(model);
      if (!started) progress.line(fmt::format("first step done, loss {:.4f}", numbers.loss));
      started = true;
      state.loss_sum += numbers.loss * static_cast<double>(options.batch_size);
      state.images += options.batch_size;
      ++state.batch;
      ++state.step;
      const auto now = std::chrono::steady_clock::now();
      state.seconds += std::chrono::duration<double>(now - start).count();
      start = now;
      const double rate = static_cast<double>(state.images) / state.seconds;
      progress.update(title, state.batch, batches,
                      {state.loss_sum / static_cast<double>(state.images), optimizer.lr(), rate,
                       static_cast<double>((schedule.total_steps - state.step) * options.batch_size) / rate});
      if (should_stop && should_stop()) {
        progress.line(title + " interrupted");
        save_training_state(state_path, model, optimizer, ema.get(), state, identity);
        if (state.epoch == 0)  // these are of a run that has been overwritten now
          for (const char* file : {"metrics.jsonl", "last.safetensors", "best.safetensors"}) std::filesystem::remove(options.out + "/" + file);
        result.interrupted = true;
        return result;
      }
    }
    for (detail::TrainingRank& rank : ranks) rank.epoch.reset(), rank.batch.reset();
    EpochMetrics metrics;
    {
      const detail::UseEma averaged(model, ema.get());
      result.evaluation = evaluate(model, test);
      metrics.epoch = ++state.epoch;
      metrics.train_loss = state.loss_sum / static_cast<double>(state.images);
      metrics.test_loss = result.evaluation.loss;
      metrics.test_top1 = result.evaluation.top1;
      metrics.images_per_second = static_cast<double>(state.images) / state.seconds;
      metrics.lr = optimizer.lr();
      metrics.seconds = state.seconds;
      state.history.push_back(metrics);
      const bool best = metrics.test_top1 > state.best_top1;
      if (best) state.best_top1 = metrics.test_top1;
      save_weights(options.out + "/last.safetensors", model.state_dict(), identity);
      if (best) save_weights(options.out + "/best.safetensors", model.state_dict(), identity);
    }
    state.batch = 0;
    state.loss_sum = state.seconds = 0;
    state.images = 0;
    save_training_state(state_path, model, optimizer, ema.get(), state, identity);
    write_metrics(options.out + "/metrics.jsonl", state.history);
    char text[160];
    std::snprintf(text, sizeof text, "%s  train loss %.4f  test loss %.4f  test top-1 %.4f  %.0f images/s  lr %.2e", title.c_str(),
                  metrics.train_loss, metrics.test_loss, metrics.test_top1, metrics.images_per_second, metrics.lr);
    progress.line(text);
  }
  if (result.evaluation.predicted.empty()) {  // resumed after the last epoch
    const detail::UseEma averaged(model, ema.get());
    result.evaluation = evaluate(model, test);
  }
  return result;
}

}  // namespace ttt
