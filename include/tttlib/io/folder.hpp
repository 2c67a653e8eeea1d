#pragma once
/// Folders for what a program writes.

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
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

/// Keeps others that ask for it out of a folder until it is destroyed or the process ends. Where a file system has no locks it does nothing.
class FolderLock {
 public:
  /// Throws IoError if another process, or another lock of this one, has the folder.
  FolderLock(const std::string& op, const std::string& path) : descriptor_(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    if (descriptor_ < 0 || ::flock(descriptor_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) return;
    ::close(descriptor_);
    fail<IoError>(op, "the folder is in use by another run: " + path, "wait for it, or write into another folder");
  }
  ~FolderLock() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int descriptor_;
};

}  // namespace ttt
