#pragma once
/// Folders for what a program writes.

#include <filesystem>
#include <string>
#include <system_error>

#include "tttlib/core/error.hpp"

namespace ttt {

/// Makes a folder and those above it; `what` says in the error what it is for. Throws IoError naming path and reason.
inline void make_folder(const std::string& op, const std::string& path, const std::string& what = "the output folder") {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) fail<IoError>(op, concat("cannot make ", what, ": ", path, ": ", error.message()));
}

}  // namespace ttt
