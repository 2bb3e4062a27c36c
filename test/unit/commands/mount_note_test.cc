#include "commands/mount_note.h"

#include "commands/exit_codes.h"
#include "commands/unsent_writes.h"
#include "commands/wording.h"
#include "control/runtime_directory.h"
#include "support/catch.h"
#include "support/temp_dir.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <unistd.h>

using namespace slipway;

namespace {

/// Root's directory is a constant, and other mounts may have notes there.
std::vector<MountNote> notes_of(const std::string& cache) {
  std::vector<MountNote> notes = mount_notes();
  std::erase_if(notes, [&](const MountNote& note) { return note.cache != cache; });
  return notes;
}

}  // namespace

TEST_CASE("a mount's note says what its cache and mountpoint are, whatever bytes they have") {
  const TempDir dir;
  ::setenv("XDG_RUNTIME_DIR", dir.path().c_str(), 1);
  const std::string cache = dir / "a\nb\xff c";
  CHECK_FALSE(has_mount_note(cache));
  write_mount_note({cache, "/m\xfe", "host:/vms"});
  REQUIRE(has_mount_note(cache));
  REQUIRE(notes_of(cache).size() == 1);
  CHECK(notes_of(cache)[0].mountpoint == "/m\xfe");
  CHECK(notes_of(cache)[0].source == "host:/vms");

  // One per cache: the next mount's takes its place.
  write_mount_note({cache, "/other", "host:/vms"});
  REQUIRE(notes_of(cache).size() == 1);
  CHECK(notes_of(cache)[0].mountpoint == "/other");
  forget_mountpoint(notes_of(cache)[0]);
  CHECK(notes_of(cache)[0].mountpoint.empty());

  remove_mount_note(cache);
  CHECK(notes_of(cache).empty());
  CHECK_FALSE(has_mount_note(cache));
}

TEST_CASE("a file that is no mount's note is left out") {
  const TempDir dir;
  ::setenv("XDG_RUNTIME_DIR", dir.path().c_str(), 1);
  const std::string path = runtime_directory().value() + "/not-a-note.mount";
  const auto before = mount_notes().size();
  std::ofstream(path) << "slipway-mount 2" << '\0' << "/cache" << '\0';
  CHECK(mount_notes().size() == before);
  ::unlink(path.c_str());
}

TEST_CASE("the note of a cache that has nothing unsent goes when that is seen") {
  const TempDir dir;
  ::setenv("XDG_RUNTIME_DIR", dir.path().c_str(), 1);
  write_mount_note({dir / "gone", "/mnt", "host:/vms"});
  const auto unsent = find_unsent_writes(dir / "gone");
  REQUIRE(unsent.has_value());
  CHECK_FALSE(unsent->has_value());
  CHECK_FALSE(has_mount_note(dir / "gone"));
  CHECK_FALSE(warn_of_unsent_at("/mnt"));
}

TEST_CASE("one is one and two are several") {
  CHECK(counted(0, "conflict") == "0 conflicts");
  CHECK(counted(1, "conflict") == "1 conflict");
  CHECK(counted(2, "conflict") == "2 conflicts");
}

TEST_CASE("of several paths a failure counts before what is unsent, and that before a conflict") {
  CHECK(worse_exit(kExitOk, kExitOk) == kExitOk);
  CHECK(worse_exit(kExitConflict, kExitOk) == kExitConflict);
  CHECK(worse_exit(kExitOk, kExitConflict) == kExitConflict);
  CHECK(worse_exit(kExitConflict, kExitUnsent) == kExitUnsent);
  CHECK(worse_exit(kExitFailure, kExitUnsent) == kExitFailure);
}

TEST_CASE("lines that do not fit an answer are left out, from the end") {
  const std::vector<std::string> lines(3, std::string(30'000, 'x'));
  CHECK(lines_that_fit(lines, 0).size() == 2);
  CHECK(lines_that_fit(lines, 2).size() == 1);
  CHECK(lines_that_fit(lines, 3).empty());
}
