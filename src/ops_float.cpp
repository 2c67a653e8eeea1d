// The ops in float, compiled once.
#include "tttlib/ops/ops.hpp"

namespace ttt {
TTT_OP_INSTANCES(template, float)
}  // namespace ttt
