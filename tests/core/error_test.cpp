#include "tttlib/core/error.hpp"

#include "catch.hpp"
#include "tttlib/core/shape.hpp"

using namespace ttt;

TEST_CASE("an error names op, broken rule, values and what to do") {
  const auto refuse = [](const char* hint) {
    fail<ShapeError>("matmul", concat("inner sizes differ: a ", Shape{2, 3}), hint);
  };
  CHECK_THROWS_WITH(refuse(""), "ttt::matmul: inner sizes differ: a [2, 3]");
  CHECK_THROWS_WITH(refuse("transpose b"), "ttt::matmul: inner sizes differ: a [2, 3]. Hint: transpose b");
  try {
    refuse("");
  } catch (const Error& error) {
    CHECK(error.op() == "matmul");
  }
}

TEST_CASE("an error ends with the module path, which unwinds with it") {
  try {
    Scope model("vit3");
    Scope block("blocks.3");
    fail<GradError>("grad", "no");
  } catch (const std::runtime_error& error) {
    CHECK(std::string(error.what()) == "ttt::grad: no\n  in vit3.blocks.3");
  }
  CHECK(current_trail() == nullptr);
}

TEST_CASE("every kind of error is a ttt::Error") {
  CHECK_THROWS_AS(fail<ShapeError>("f", ""), Error);
  CHECK_THROWS_AS(fail<DTypeError>("f", ""), Error);
  CHECK_THROWS_AS(fail<DeviceError>("f", ""), Error);
  CHECK_THROWS_AS(fail<GradError>("f", ""), Error);
  CHECK_THROWS_AS(fail<IoError>("f", ""), Error);
}

TEST_CASE("warnings can be redirected") {
  const auto before = warning_handler();
  std::string seen;
  warning_handler() = [&](const std::string& message) { seen = message; };
  warn("careful");
  warning_handler() = before;
  CHECK(seen == "careful");
}
