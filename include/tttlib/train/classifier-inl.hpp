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

namespace detail {

/// A model in eval mode for one scope.
class EvalMode {
 public:
  explicit EvalMode(Module<float>& model) : model_(model), was_training_(model.is_training()) { model_.eval(); }
  ~EvalMode() { model_.train(was_training_); }
  EvalMode(const EvalMode&) = delete;
  EvalMode& operator=(const EvalMode&) = delete;

 private:
  Module<float>& model_;
  bool was_training_;
};

}  // namespace detail

TTTLIB_INLINE Evaluation evaluate(Module<float>& model, const ImageDataset& dataset, std::int64_t batch_size) {
  NoGradGuard guard;
  const detail::EvalMode eval_mode(model);
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
  if (!std::isfinite(result.loss))
    fail<Error>("evaluate", concat("the loss is not finite: ", result.loss, " over ", dataset.size(), " images"), "look for NaN or infinity in the weights");
  result.top1 = static_cast<double>(correct) / static_cast<double>(dataset.size());
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

/// A run of training in its folder, new or resumed.
class TrainingRun {
 public:
  TrainingRun(const std::vector<Module<float>*>& replicas, const ImageDataset& train, const ImageDataset& test, const TrainOptions& options)
      : options_(options),
        test_(test),
        identity_(run_identity(options, train, test)),
        communicator_(communicator_of(replicas)),
        ranks_(make_ranks(replicas, train)),
        threads_(communicator_.get()),
        batches_(first_.loader.batches_per_epoch()) {
    if (options.ema > 0) ema_ = std::make_unique<Ema<float>>(first_.model, options.ema);
    schedule_.lr = options.lr;
    schedule_.total_steps = options.epochs * batches_;
    schedule_.warmup_steps = static_cast<std::int64_t>(options.warmup_epochs * static_cast<double>(batches_));
    schedule_.ramp = true;
    open_folder();
  }

  TrainResult run(const std::function<bool()>& should_stop) {
    for (TrainingRank& rank : ranks_) rank.model.train();
    while (state_.epoch < options_.epochs && !result_.interrupted) {
      const std::string title = concat("epoch ", state_.epoch + 1, "/", options_.epochs);
      if (train_epoch(title, should_stop)) finish_epoch(title);
      else interrupt(title);
    }
    if (result_.evaluation.predicted.empty() && !result_.interrupted) {  // resumed after the last epoch
      const UseEma averaged(first_.model, ema_.get());
      result_.evaluation = evaluate(first_.model, test_);
    }
    return std::move(result_);
  }

 private:
  static std::unique_ptr<Communicator> communicator_of(const std::vector<Module<float>*>& replicas) {
    std::vector<Device> devices;
    for (Module<float>* replica : replicas) {
      if (!replica) fail<Error>("train", concat("one of ", replicas.size(), " models is null"));
      if (std::count(replicas.begin(), replicas.end(), replica) > 1)
        fail<Error>("train", concat("one model for several ranks, of ", replicas.size()), "every rank needs a model of its own");
      devices.push_back(replica->device());
    }
    return devices.size() == 1 ? nullptr : make_communicator(devices);
  }
  /// A rank for each replica, with the weights of the first.
  std::deque<TrainingRank> make_ranks(const std::vector<Module<float>*>& replicas, const ImageDataset& train) const {
    LoaderOptions loading;
    loading.batch_size = options_.batch_size;
    loading.shuffle = loading.drop_last = true;
    loading.seed = options_.seed;
    loading.augment.crop_padding = options_.crop_padding;
    loading.augment.flip = options_.flip;
    std::deque<TrainingRank> ranks;
    const auto data = std::make_shared<const ImageDataset>(train);
    for (Module<float>* replica : replicas) {
      ranks.emplace_back(*replica, static_cast<int>(ranks.size()), communicator_.get(), data, loading, options_);
      if (ranks.size() > 1) replica->load_state_dict(ranks[0].model.state_dict());  // fails before anything is written
    }
    return ranks;
  }

  std::string path(const char* file) const { return options_.out + "/" + file; }
  void save(const std::string& to) { save_training_state(to, first_.model, first_.optimizer, ema_.get(), state_, identity_); }

  /// Whether the folder holds a run. Throws IoError unless that is what the options expect.
  bool require_folder() const {
    std::error_code error;
    const auto has = [&](const char* file) { return std::filesystem::exists(path(file), error); };
    const bool occupied = has(state_file) || has(metrics_file) || has(last_file) || has(best_file);
    if (occupied && !options_.resume && !options_.overwrite)
      fail<IoError>("train", "the output folder holds a run: " + options_.out, "resume goes on with it, overwrite starts again");
    if (options_.resume && !has(state_file))
      fail<IoError>("train", concat("nothing to resume in ", options_.out, ": it has no ", state_file), "start without resume");
    return occupied;
  }
  /// Reads what is to be resumed, or sees that a new run can be written; leaves one that is to be overwritten as it is.
  void open_folder() {
    require_folder();  // before it is made
    make_folder("train", options_.out);
    lock_.emplace("train", options_.out);
    const bool occupied = require_folder();  // nobody changes it from here on
    if (!options_.resume) {
      const std::string first = path(occupied ? "write_check.safetensors" : state_file);
      save(first);
      if (occupied) std::filesystem::remove(first);
      return;
    }
    state_ = load_training_state(path(state_file), first_.model, first_.optimizer, ema_.get(), identity_);
    for (TrainingRank& rank : ranks_) {
      if (&rank == &first_) continue;
      rank.model.load_state_dict(first_.model.state_dict());
      rank.optimizer.load_state_dict(first_.optimizer.state_dict());
    }
    write_metrics(path(metrics_file), state_.history);
  }

  /// The steps that are left of an epoch; false if `should_stop` said so.
  bool train_epoch(const std::string& title, const std::function<bool()>& should_stop) {
    for (TrainingRank& rank : ranks_) rank.epoch.emplace(rank.loader.epoch(state_.epoch, state_.batch));
    auto start = std::chrono::steady_clock::now();
    while (state_.batch < batches_) {
      step();
      const auto now = std::chrono::steady_clock::now();
      state_.seconds += std::chrono::duration<double>(now - start).count();
      start = now;
      const double rate = static_cast<double>(state_.images) / state_.seconds;
      progress_.update(title, state_.batch, batches_,
                       {state_.loss_sum / static_cast<double>(state_.images), first_.optimizer.lr(), rate,
                        static_cast<double>((schedule_.total_steps - state_.step) * options_.batch_size) / rate});
      if (should_stop && should_stop()) return false;
    }
    for (TrainingRank& rank : ranks_) rank.epoch.reset(), rank.batch.reset();
    return true;
  }
  void step() {
    const std::uint64_t random_stream = default_generator().next_stream;
    threads_.run([&](int rank) {
      TrainingRank& mine = ranks_[static_cast<std::size_t>(rank)];
      mine.batch = mine.epoch->next();
      mine.optimizer.set_lr(schedule_(state_.step));
      mine.numbers = mine.step(*mine.batch);  // the same on all ranks
      if (mine.numbers.finite()) mine.optimizer.step(mine.numbers.scale);
    });
    const StepNumbers& numbers = first_.numbers;
    if (!numbers.finite()) explain_nan(random_stream);
    if (ema_) ema_->update(first_.model);
    if (!started_) progress_.line(fmt::format("first step done, loss {:.4f}", numbers.loss));
    started_ = true;
    state_.loss_sum += numbers.loss * static_cast<double>(options_.batch_size);
    state_.images += options_.batch_size;
    ++state_.batch;
    ++state_.step;
  }
  /// Repeats a step whose loss or gradient was not finite with anomaly mode on, which throws at the first bad op.
  [[noreturn]] void explain_nan(std::uint64_t random_stream) {
    default_generator().next_stream = random_stream;
    AnomalyGuard guard;
    threads_.run([&](int rank) {
      const TrainingRank& mine = ranks_[static_cast<std::size_t>(rank)];
      mine.step.loss_of(mine.batch->images, mine.batch->labels).backward();
    });
    fail<Error>("train", concat("the loss or its gradient is not finite in step ", state_.step, ": loss ", first_.numbers.loss),
                "lower the learning rate");
  }

  /// Evaluates, saves and prints.
  void finish_epoch(const std::string& title) {
    EpochMetrics metrics;
    {
      const UseEma averaged(first_.model, ema_.get());
      result_.evaluation = evaluate(first_.model, test_);
      metrics.epoch = ++state_.epoch;
      metrics.train_loss = state_.loss_sum / static_cast<double>(state_.images);
      metrics.test_loss = result_.evaluation.loss;
      metrics.test_top1 = result_.evaluation.top1;
      metrics.images_per_second = static_cast<double>(state_.images) / state_.seconds;
      metrics.lr = first_.optimizer.lr();
      metrics.seconds = state_.seconds;
      state_.history.push_back(metrics);
      const bool best = metrics.test_top1 > state_.best_top1;
      if (best) state_.best_top1 = metrics.test_top1;
      save_weights(path(last_file), first_.model.state_dict(), identity_);
      if (best) save_weights(path(best_file), first_.model.state_dict(), identity_);
    }
    state_.batch = 0;
    state_.loss_sum = state_.seconds = 0;
    state_.images = 0;
    save(path(state_file));
    write_metrics(path(metrics_file), state_.history);
    progress_.line(fmt::format("{}  train loss {:.4f}  test loss {:.4f}  test top-1 {:.4f}  {:.0f} images/s  lr {:.2e}", title, metrics.train_loss,
                               metrics.test_loss, metrics.test_top1, metrics.images_per_second, metrics.lr));
  }
  void interrupt(const std::string& title) {
    progress_.line(title + " interrupted");
    save(path(state_file));
    if (state_.epoch == 0)  // these are of a run that has been overwritten now
      for (const char* file : {metrics_file, last_file, best_file}) std::filesystem::remove(path(file));
    result_.interrupted = true;
  }

  static constexpr const char *state_file = "training_state.safetensors", *metrics_file = "metrics.jsonl", *last_file = "last.safetensors",
                              *best_file = "best.safetensors";
  const TrainOptions& options_;
  const ImageDataset& test_;
  const std::string identity_;
  const std::unique_ptr<Communicator> communicator_;  // null: one rank
  std::deque<TrainingRank> ranks_;
  TrainingRank& first_ = ranks_[0];
  std::optional<FolderLock> lock_;
  RankThreads threads_;
  const std::int64_t batches_;  // of an epoch
  std::unique_ptr<Ema<float>> ema_;
  CosineSchedule schedule_;
  TrainResult result_;
  TrainingState& state_ = result_.state;
  ProgressBar progress_;
  bool started_ = false;
};

}  // namespace detail

TTTLIB_INLINE TrainResult train_classifier(Module<float>& model, const ImageDataset& train, const ImageDataset& test,
                                           const TrainOptions& options, const std::function<bool()>& should_stop) {
  return train_classifier(std::vector<Module<float>*>{&model}, train, test, options, should_stop);
}

TTTLIB_INLINE TrainResult train_classifier(const std::vector<Module<float>*>& replicas, const ImageDataset& train, const ImageDataset& test,
                                           const TrainOptions& options, const std::function<bool()>& should_stop) {
  return detail::TrainingRun(replicas, train, test, options).run(should_stop);
}

}  // namespace ttt
