#pragma once
/// What one object file of the program offers; object.cpp is compiled under two names with different flags.

#include <vector>

struct Object {
  /// Numbers of a small computation, forward and gradient.
  std::vector<float> (*results)();
  /// Seconds one product of two 256 × 256 matrices takes in tttlib.
  double (*matmul_seconds)();
  /// The same by the Eigen the object included itself, as a user of Eigen would.
  double (*eigen_seconds)();
};

Object plain_object();
Object native_object();
