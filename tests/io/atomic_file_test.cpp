#include "tttlib/io/atomic_file.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <functional>
#include <iostream>

#include "catch.hpp"
#include "io/temporary_folder.hpp"
#include "tttlib/io/safetensors.hpp"

using namespace ttt;

namespace {

/// Runs `f` in a child process that may write files of at most `limit` bytes; returns what it threw, or "no
/// exception", or how the child died.
std::string with_file_size_limit(rlim_t limit, const std::function<void()>& f) {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  std::cout.flush();
  const pid_t child = ::fork();
  if (child == 0) {
    const rlimit limits{limit, limit};
    ::setrlimit(RLIMIT_FSIZE, &limits);
    std::string result;
    try {
      result = message_of<IoError>(f);
    } catch (const std::exception& error) {
      result = std::string("another exception: ") + error.what();
    }
    const ssize_t written = ::write(ends[1], result.data(), result.size());
    ::_exit(written == static_cast<ssize_t>(result.size()) ? 0 : 1);
  }
  ::close(ends[1]);
  std::string result(2000, '\0');
  const ssize_t n = ::read(ends[0], result.data(), result.size());
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  if (WIFSIGNALED(status)) return concat("killed by signal ", WTERMSIG(status));
  return result.substr(0, n > 0 ? static_cast<std::size_t>(n) : 0);
}

}  // namespace

TEST_CASE("write_file_atomically writes and replaces a file") {
  const TemporaryFolder folder;
  const std::string path = folder / "notes.txt";
  write_file_atomically(path, "first");
  CHECK(read_bytes(path) == "first");
  write_file_atomically(path, "");
  CHECK(read_bytes(path) == "");
  const std::string long_text(3'000'000, 'x');
  write_file_atomically(path, long_text);
  CHECK(read_bytes(path) == long_text);
  CHECK(folder.files() == 1);
}

TEST_CASE("a file in the working folder needs no slash") {
  const TemporaryFolder folder;
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(folder.path());
  write_file_atomically("here.txt", "text");
  std::filesystem::current_path(before);
  CHECK(read_bytes(folder / "here.txt") == "text");
}

TEST_CASE("a link stays a link to the file that is replaced") {
  const TemporaryFolder folder;
  write_bytes(folder / "real.txt", "old");
  std::filesystem::create_symlink("real.txt", folder / "link.txt");
  write_file_atomically(folder / "link.txt", "new");
  CHECK(std::filesystem::is_symlink(folder / "link.txt"));
  CHECK(read_bytes(folder / "real.txt") == "new");
  CHECK(folder.files() == 2);
}

TEST_CASE("what is no file is written to and stays what it is") {
  const TemporaryFolder folder;
  const std::string path = folder / "pipe";
  REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
  const int reader = ::open(path.c_str(), O_RDONLY | O_NONBLOCK);
  write_file_atomically(path, "text");
  char text[8] = {};
  CHECK(::read(reader, text, sizeof text) == 4);
  ::close(reader);
  CHECK(std::string(text) == "text");
  CHECK(std::filesystem::is_fifo(path));
  CHECK(folder.files() == 1);
  CHECK_THROWS_AS(write_file_atomically(folder.path(), "text"), IoError);

  // What a file descriptor is redirected to gets more bytes, as after >>.
  write_bytes(folder / "log", "before ");
  const int log = ::open((folder / "log").c_str(), O_WRONLY | O_APPEND);
  write_file_atomically(concat("/proc/self/fd/", log), "text");
  ::close(log);
  CHECK(read_bytes(folder / "log") == "before text");
}

TEST_CASE("an AtomicFile that is not committed leaves no trace") {
  const TemporaryFolder folder;
  write_bytes(folder / "a", "old");
  {
    AtomicFile file("test", folder / "a");
    file.write("new", 3);
    CHECK(folder.files() == 2);
  }
  CHECK(folder.files() == 1);
  CHECK(read_bytes(folder / "a") == "old");
}

TEST_CASE("a place that cannot be written is named with the reason") {
  const TemporaryFolder folder;
  const std::string missing = folder / "missing/a";
  CHECK(message_of<IoError>([&] { write_file_atomically(missing, "x"); }) ==
        "ttt::write_file_atomically: cannot create: " + missing + ": No such file or directory");
  std::filesystem::create_directory(folder / "taken");
  CHECK(message_of<IoError>([&] { write_file_atomically(folder / "taken", "x", "save"); }) ==
        "ttt::save: cannot replace: " + (folder / "taken") + ": Is a directory");
  CHECK(folder.files() == 1);
  if (::geteuid() == 0) return;  // root may write anywhere
  std::filesystem::permissions(folder / "taken", std::filesystem::perms::owner_read);
  CHECK(message_of<IoError>([&] { write_file_atomically(folder / "taken/a", "x"); }) ==
        "ttt::write_file_atomically: cannot create: " + (folder / "taken/a") + ": Permission denied");
}

TEST_CASE("a full disk is an IoError and the old file survives") {
  const TemporaryFolder folder;
  const std::string path = folder / "big.bin";
  write_bytes(path, "old");
  const std::string text(100'000, 'x');
  CHECK(with_file_size_limit(40'000, [&] { write_file_atomically(path, text); }) ==
        "ttt::write_file_atomically: cannot write: " + path + ": File too large");
  CHECK(read_bytes(path) == "old");
  CHECK(folder.files() == 1);
}

TEST_CASE("a checkpoint survives a full disk while the next one is saved") {
  const TemporaryFolder folder;
  const std::string path = folder / "last.safetensors";
  Tensor<float> weights(Shape{100, 100});
  for (int i = 0; i < 10'000; ++i) weights.data()[i] = static_cast<float>(i);
  save_safetensors(path, {{"w", weights}});
  const std::string before = read_bytes(path);
  CHECK(with_file_size_limit(20'000, [&] {
          save_safetensors(path, {{"w", weights}, {"b", weights}});
        }) == "ttt::save_safetensors: cannot write: " + path + ": File too large");
  CHECK(read_bytes(path) == before);
  CHECK(folder.files() == 1);
  CHECK(load_safetensors_file(path).get("w").data()[9'999] == 9'999);
}

TEST_CASE("SIGXFSZ kills as before once the file is closed") {
  const TemporaryFolder folder;
  const std::string text(100'000, 'x');
  const std::string outcome = with_file_size_limit(40'000, [&] {
    message_of<IoError>([&] { write_file_atomically(folder / "a", text); });
    const int descriptor = ::open((folder / "b").c_str(), O_WRONLY | O_CREAT, 0666);
    while (::write(descriptor, text.data(), text.size()) > 0) continue;
  });
  CHECK(outcome == concat("killed by signal ", SIGXFSZ));
}
