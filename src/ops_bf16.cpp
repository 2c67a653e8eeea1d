// The ops in bf16, compiled once.
#include "tttlib/ops/ops.hpp"

namespace ttt {
TTT_OP_INSTANCES(template, bf16)
}  // namespace ttt
