#pragma once
// The training run of a few steps that tests of training share.
#include <string>

#include "tttlib/train/classifier.hpp"

inline ttt::TrainOptions small_run(const std::string& out) {
  ttt::TrainOptions options;
  options.epochs = 2;
  options.batch_size = 16;
  options.warmup_epochs = 1;
  options.ema = 0.9;
  options.crop_padding = 2;
  options.out = out;
  return options;
}
