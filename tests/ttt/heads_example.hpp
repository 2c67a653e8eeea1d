#pragma once
// Operands of a block's heads, for tests on any device.

#include <ostream>

#include "tttlib/ttt/ttt_heads.hpp"

namespace heads_test {

using namespace ttt;

struct Sizes {
  std::int64_t images, height, width, heads, d;
};
inline std::ostream& operator<<(std::ostream& out, const Sizes& s) {
  return out << s.images << " images, " << s.height << " x " << s.width << ", " << s.heads << " heads of " << s.d;
}
/// qkv [B, h, w, 3(H + 1)d], w1 and w2 [1, H, d, d], w3 [d, 1, 3, 3].
template <class T>
Tensors<T> example(const Sizes& s) {
  return {randn<T>({s.images, s.height, s.width, 3 * (s.heads + 1) * s.d}), mul(randn<T>({1, s.heads, s.d, s.d}), T(0.4)),
          mul(randn<T>({1, s.heads, s.d, s.d}), T(0.4)), mul(randn<T>({s.d, 1, 3, 3}), T(0.4))};
}

}  // namespace heads_test
