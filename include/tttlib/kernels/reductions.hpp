#pragma once
/// What a reduction starts from and how it combines two numbers, once for every device.

#include <limits>

#include "tttlib/core/config.hpp"

namespace ttt::reduction {

struct Sum {
  template <class T>
  TTT_HD static constexpr T identity() { return T(0); }
  template <class T>
  TTT_HD static T combine(T a, T b) { return a + b; }
};
/// NaN wins.
struct Max {
  template <class T>
  TTT_HD static constexpr T identity() {
    return std::numeric_limits<T>::has_infinity ? -std::numeric_limits<T>::infinity() : std::numeric_limits<T>::lowest();
  }
  template <class T>
  TTT_HD static T combine(T a, T b) { return ((a > b) | (a != a)) ? a : b; }  // for vectors too
};
struct Min {
  template <class T>
  TTT_HD static constexpr T identity() {
    return std::numeric_limits<T>::has_infinity ? std::numeric_limits<T>::infinity() : std::numeric_limits<T>::max();
  }
  template <class T>
  TTT_HD static T combine(T a, T b) { return ((a < b) | (a != a)) ? a : b; }
};

/// True if `candidate` takes the lead from an earlier `leader`: it is larger (`largest`) or smaller, or the first NaN.
template <class T>
TTT_HD bool overtakes(T candidate, T leader, bool largest) {
  return leader == leader && ((largest ? candidate > leader : candidate < leader) || candidate != candidate);
}

}  // namespace ttt::reduction
