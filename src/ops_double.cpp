// The ops in double, compiled once.
#include "tttlib/ops/ops.hpp"
#include "tttlib/testing/check_grads-inl.hpp"

namespace ttt {
TTT_OP_INSTANCES(template, double)
}  // namespace ttt
