#pragma once
/// Everything for CPU users except io/, data/ and train/, which pull in more: tensors, autograd, ops, modules,
/// optimisers, inner training, models, and the gradient checker.

#include "tttlib/autograd/backward.hpp"
#include "tttlib/autograd/checkpoint.hpp"
#include "tttlib/autograd/custom.hpp"
#include "tttlib/autograd/fused.hpp"
#include "tttlib/autograd/graph_dump.hpp"
#include "tttlib/autograd/transforms.hpp"
#include "tttlib/core/config.hpp"
#include "tttlib/core/parallel.hpp"
#include "tttlib/core/print.hpp"
#include "tttlib/models/configs.hpp"
#include "tttlib/nn/embedding.hpp"
#include "tttlib/nn/summary.hpp"
#include "tttlib/ops/ops.hpp"
#include "tttlib/optim/ema.hpp"
#include "tttlib/optim/optimizer.hpp"
#include "tttlib/optim/schedule.hpp"
#include "tttlib/testing/check_grads.hpp"
#include "tttlib/testing/compare.hpp"
#include "tttlib/ttt/inner_layer.hpp"
#include "tttlib/ttt/ttt_block.hpp"
