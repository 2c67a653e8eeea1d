#pragma once
/// Every operation on tensors.

#include "tttlib/autograd/backward.hpp"
#include "tttlib/ops/composed/attention.hpp"
#include "tttlib/ops/composed/dropout.hpp"
#include "tttlib/ops/composed/einsum.hpp"
#include "tttlib/ops/composed/interpolate.hpp"
#include "tttlib/ops/composed/jacobian.hpp"
#include "tttlib/ops/composed/loss.hpp"
#include "tttlib/ops/composed/mlp.hpp"
#include "tttlib/ops/composed/norm.hpp"
#include "tttlib/ops/composed/pool.hpp"
#include "tttlib/ops/composed/softmax.hpp"
#include "tttlib/ops/conv.hpp"
#include "tttlib/ops/create.hpp"
#include "tttlib/ops/elementwise.hpp"
#include "tttlib/ops/index.hpp"
#include "tttlib/ops/matmul.hpp"
#include "tttlib/ops/movement.hpp"
#include "tttlib/ops/reduce.hpp"

#include "tttlib/ops/instances.hpp"  // last: it declares what the others define
