#include "acceptance.h"
#include "samples.h"
#include "wire/frame.h"

using namespace slipway;

// The messages of the feature "writes": what they may say, at each limit and one past it.

namespace {

template <class M, class Change>
bool accepts_changed(M message, const Change& change) {
  change(message);
  return accepts(message);
}

bool stage_accepts(const StageExtent& extent, std::size_t data) {
  static const Bytes kData(kFrameDataMax + 1, std::byte{1});
  StageRequest m = sample_stage_request();
  m.extents = {extent};
  m.data = ByteView(kData).first(data);
  return accepts(m);
}

}  // namespace

TEST_CASE("every change has an operation's number and a name that can be one") {
  const auto no_number = [](auto& m) { m.operation = 0; };
  const auto last_number = [](auto& m) { m.operation = ~OperationId{0}; };
  const LinkRequest link{1, {"a", {}}, {"vm", {}}, "b"};
  const RemoveRequest remove{1, {"vm", {}}, "b", false};
  CHECK_FALSE(accepts_changed(sample_make_request(), no_number));
  CHECK_FALSE(accepts_changed(link, no_number));
  CHECK_FALSE(accepts_changed(remove, no_number));
  CHECK_FALSE(accepts_changed(sample_rename_request(), no_number));
  CHECK_FALSE(accepts_changed(sample_setattr_request(), no_number));
  CHECK_FALSE(accepts_changed(sample_copy_request(), no_number));
  CHECK(accepts_changed(sample_make_request(), last_number));
  CHECK(accepts_changed(remove, last_number));
  for (const std::string name : {"", ".", "..", "a/b", "/"}) {
    CAPTURE(name);
    const auto renamed = [&](auto& m) { m.name = name; };
    CHECK_FALSE(accepts_changed(sample_make_request(), renamed));
    CHECK_FALSE(accepts_changed(link, renamed));
    CHECK_FALSE(accepts_changed(remove, renamed));
    CHECK_FALSE(accepts_changed(sample_rename_request(), [&](auto& m) { m.from_name = name; }));
    CHECK_FALSE(accepts_changed(sample_rename_request(), [&](auto& m) { m.to_name = name; }));
  }
  CHECK(accepts_changed(remove, [](auto& m) { m.name = std::string(kNameMax, 'n'); }));
  CHECK_FALSE(accepts_changed(remove, [](auto& m) { m.name = std::string(kNameMax + 1, 'n'); }));
  CHECK_FALSE(accepts_changed(remove, [](auto& m) { m.name = std::string("a\0b", 3); }));
  CHECK_FALSE(accepts_changed(remove, [](auto& m) { m.directory.path = "../x"; }));
}

TEST_CASE("what is made is a file, a directory or a symbolic link with a target") {
  const MakeRequest file = sample_make_request();
  MakeRequest link = file;
  link.kind = MakeKind::kSymlink;
  link.handle = 0;
  link.target = std::string(kLinkTargetMax, 't');
  CHECK(accepts(link));
  CHECK_FALSE(accepts_changed(link, [](auto& m) { m.target += 't'; }));
  CHECK_FALSE(accepts_changed(link, [](auto& m) { m.target = ""; }));
  CHECK_FALSE(accepts_changed(link, [](auto& m) { m.target = std::string("a\0b", 3); }));
  CHECK_FALSE(accepts_changed(link, [](auto& m) { m.handle = 1; }));
  CHECK_FALSE(accepts_changed(file, [](auto& m) { m.target = "t"; }));
  CHECK_FALSE(accepts_changed(file, [](auto& m) { m.kind = MakeKind::kDirectory; }));
  CHECK(accepts_changed(file, [](auto& m) {
    m.kind = MakeKind::kDirectory;
    m.handle = 0;
  }));
  for (const int kind : {0, 4, 255}) {
    CHECK_FALSE(accepts_changed(file, [&](auto& m) {
      m.kind = static_cast<MakeKind>(kind);
      m.handle = 0;
    }));
  }
  CHECK(accepts_changed(file, [](auto& m) { m.mode = 07777; }));
  CHECK_FALSE(accepts_changed(file, [](auto& m) { m.mode = 010000; }));
  Bytes body = body_of(file);
  for (const unsigned flags : {0U, 1U, 2U, 3U}) {
    body.back() = static_cast<std::byte>(flags);
    const MakeRequest decoded = decode_make_request(body).value();
    CHECK(decoded.exclusive == ((flags & 1U) != 0));
    CHECK(decoded.even_published == ((flags & 2U) != 0));
  }
  for (const unsigned flags : {4U, 5U, 128U, 255U}) {
    body.back() = static_cast<std::byte>(flags);
    CHECK_FALSE(decode_make_request(body).has_value());
  }
  body = body_of(MakeReply{true, sample_attributes()});
  body.front() = std::byte{2};
  CHECK_FALSE(decode_make_reply(body).has_value());
}

TEST_CASE("a rename has one flag at most, a change of attributes only known ones") {
  for (const std::uint32_t flags : {0U, 1U, 2U})
    CHECK(accepts_changed(sample_rename_request(), [&](auto& m) { m.flags = flags; }));
  for (const std::uint32_t flags : {3U, 4U, 0x80000000U})
    CHECK_FALSE(accepts_changed(sample_rename_request(), [&](auto& m) { m.flags = flags; }));
  CHECK(accepts_changed(sample_setattr_request(), [](auto& m) { m.mask = 63; }));
  CHECK_FALSE(accepts_changed(sample_setattr_request(), [](auto& m) { m.mask = 64; }));
  CHECK_FALSE(accepts_changed(sample_setattr_request(), [](auto& m) { m.mode = 010000; }));
  CHECK_FALSE(accepts_changed(sample_setattr_request(),
                              [](auto& m) { m.mtime.nanoseconds = 1'000'000'000; }));
  CHECK_FALSE(accepts_changed(sample_setattr_request(),
                              [](auto& m) { m.atime.nanoseconds = 1'000'000'000; }));
}

TEST_CASE("a copy stays within the largest file") {
  const CopyRequest copy = sample_copy_request();
  CHECK(accepts_changed(copy, [](auto& m) { m.length = kFileSizeMax - m.to_offset; }));
  CHECK_FALSE(accepts_changed(copy, [](auto& m) { m.length = kFileSizeMax - m.to_offset + 1; }));
  CHECK_FALSE(accepts_changed(copy, [](auto& m) { m.from_offset = kFileSizeMax; }));
  CHECK_FALSE(accepts_changed(copy, [](auto& m) { m.to_offset = ~std::uint64_t{0}; }));
  CHECK_FALSE(accepts_changed(copy, [](auto& m) { m.from = 0; }));
  CHECK_FALSE(accepts_changed(copy, [](auto& m) { m.to = 0; }));
  CHECK(accepts_changed(sample_change_reply(), [](auto& m) { m.bytes = kFileSizeMax; }));
  CHECK_FALSE(accepts_changed(sample_change_reply(), [](auto& m) { m.bytes = kFileSizeMax + 1; }));
}

TEST_CASE("a staged extent is of a known kind, with the bytes that the kind says") {
  using enum StageKind;
  constexpr std::uint32_t kMost = kStageExtentMax;
  CHECK(stage_accepts({0, kData, 7, 1, 1}, 1));
  CHECK(stage_accepts({0, kData, 7, kMost, kMost}, kMost));
  CHECK_FALSE(stage_accepts({0, kData, 7, kMost + 1, kMost + 1}, kMost + 1));
  CHECK_FALSE(stage_accepts({0, kData, 7, 2, 1}, 1));
  CHECK_FALSE(stage_accepts({0, kData, 7, 0, 0}, 0));
  CHECK(stage_accepts({0, kZstd, 7, kMost, kMost - 1}, kMost - 1));
  CHECK_FALSE(stage_accepts({0, kZstd, 7, kMost, kMost}, kMost));
  CHECK_FALSE(stage_accepts({0, kZstd, 7, kMost + 1, 100}, 100));
  CHECK_FALSE(stage_accepts({0, kZstd, 7, kMost, 0}, 0));
  for (const StageKind kind : {kZero, kHole, kAllocate}) {
    CHECK(stage_accepts({0, kind, 7, kFileSizeMax - 7, 0}, 0));
    CHECK_FALSE(stage_accepts({0, kind, 7, kFileSizeMax - 6, 0}, 0));
    CHECK_FALSE(stage_accepts({0, kind, 7, 1, 1}, 1));
    CHECK_FALSE(stage_accepts({0, kind, 7, 0, 0}, 0));
  }
  CHECK_FALSE(stage_accepts({0, static_cast<StageKind>(5), 7, 1, 0}, 0));
  CHECK(stage_accepts({kCommitFilesMax - 1, kZero, 7, 1, 0}, 0));
  CHECK_FALSE(stage_accepts({kCommitFilesMax, kZero, 7, 1, 0}, 0));
  // The data is exactly what the extents say.
  CHECK_FALSE(stage_accepts({0, kData, 7, 5, 5}, 4));
  CHECK_FALSE(stage_accepts({0, kData, 7, 5, 5}, 6));
}

TEST_CASE("a part has bounded extents and data, and its place in a checkpoint") {
  static const Bytes data(kFrameDataMax + kStageExtentMax, std::byte{1});
  StageRequest m = sample_stage_request();
  m.extents.clear();
  for (std::size_t at = 0; at < kFrameDataMax; at += kStageExtentMax)
    m.extents.push_back({0, StageKind::kData, at, kStageExtentMax, kStageExtentMax});
  m.data = ByteView(data).first(kFrameDataMax);
  CHECK(accepts(m));
  m.extents.push_back({0, StageKind::kData, kFrameDataMax, 1, 1});
  m.data = ByteView(data).first(kFrameDataMax + 1);
  CHECK_FALSE(accepts(m));

  m.data = {};
  m.extents.assign(kStageExtentsMax, {0, StageKind::kZero, 1, 1, 0});
  CHECK(accepts(m));
  CHECK(FrameHeader::kSize + body_of(m).size() + kFrameDataMax <= kFrameMax + 64 * 1024);
  m.extents.push_back({0, StageKind::kZero, 1, 1, 0});
  CHECK_FALSE(accepts(m));

  const StageRequest stage = sample_stage_request();
  CHECK_FALSE(accepts_changed(stage, [](auto& n) { n.checkpoint = 0; }));
  CHECK(accepts_changed(stage, [](auto& n) { n.part = kStagePartsMax - 1; }));
  CHECK_FALSE(accepts_changed(stage, [](auto& n) { n.part = kStagePartsMax; }));
  Bytes cut = body_of(stage);
  cut.resize(40);
  CHECK_FALSE(decode_stage_request(cut).has_value());
}

TEST_CASE("a commit names a bounded number of files, each kept up to its size at most") {
  const CommitRequest commit = sample_commit_request();
  CHECK(accepts_changed(commit, [](auto& m) { m.parts = 0; }));
  CHECK(accepts_changed(commit, [](auto& m) { m.parts = kStagePartsMax; }));
  CHECK_FALSE(accepts_changed(commit, [](auto& m) { m.parts = kStagePartsMax + 1; }));
  CHECK_FALSE(accepts_changed(commit, [](auto& m) { m.checkpoint = 0; }));
  CHECK(accepts_changed(commit, [](auto& m) { m.even_published = false; }));
  Bytes body = body_of(commit);
  for (const unsigned flags : {2U, 4U, 128U}) {  // the second one says that something follows
    body[body.size() - 4] = static_cast<std::byte>(flags);
    CHECK_FALSE(decode_commit_request(body).has_value());
  }
  CHECK(accepts_changed(commit, [](auto& m) { m.files.clear(); }));
  CHECK(accepts_changed(commit, [](auto& m) { m.files.resize(kCommitFilesMax, m.files[0]); }));
  CHECK_FALSE(
      accepts_changed(commit, [](auto& m) { m.files.resize(kCommitFilesMax + 1, m.files[0]); }));
  CHECK_FALSE(accepts_changed(commit, [](auto& m) { m.files[0].keep = 70001; }));
  CHECK(accepts_changed(commit, [](auto& m) { m.files[0].size = kFileSizeMax; }));
  CHECK_FALSE(accepts_changed(commit, [](auto& m) { m.files[0].size = kFileSizeMax + 1; }));
  CHECK_FALSE(accepts_changed(commit, [](auto& m) { m.files[0].base.size = kFileSizeMax + 1; }));
  CHECK_FALSE(accepts_changed(commit, [](auto& m) { m.files[0].mtime.nanoseconds = 1000000000; }));
  CHECK_FALSE(accepts_changed(commit, [](auto& m) { m.files[1].node.path = "/x"; }));
}

TEST_CASE("a commit's answer has attributes where it succeeded") {
  const CommitReply reply = sample_commit_reply();
  CHECK(accepts(CommitReply{}));
  CHECK(accepts_changed(reply, [](auto& m) { m.files.resize(kCommitFilesMax, m.files[0]); }));
  CHECK_FALSE(
      accepts_changed(reply, [](auto& m) { m.files.resize(kCommitFilesMax + 1, m.files[0]); }));
  CHECK(accepts_changed(reply, [](auto& m) { m.files[1].conflict_name.assign(kNameMax, 'c'); }));
  CHECK_FALSE(
      accepts_changed(reply, [](auto& m) { m.files[1].conflict_name.assign(kNameMax + 1, 'c'); }));
  Bytes body = body_of(reply);
  body.pop_back();
  CHECK_FALSE(decode_commit_reply(body).has_value());
  body = body_of(reply);
  body.push_back(std::byte{0});
  CHECK_FALSE(decode_commit_reply(body).has_value());
}

TEST_CASE("a commit makes files and directories that have a path, each once, in their order") {
  const CommitRequest commit = sample_commit_make_request();
  CHECK(accepts(commit));
  CHECK(accepts_changed(commit, [](auto& m) { m.files[2].make->mode = 07777; }));
  CHECK_FALSE(accepts_changed(commit, [](auto& m) { m.files[2].make->mode = 010000; }));
  CHECK_FALSE(accepts_changed(commit, [](auto& m) { m.files[2].make->kind = MakeKind::kSymlink; }));
  CHECK_FALSE(
      accepts_changed(commit, [](auto& m) { m.files[2].make->kind = static_cast<MakeKind>(0); }));
  CHECK_FALSE(accepts_changed(commit, [](auto& m) { m.files[2].node.path.clear(); }));
  CHECK(accepts_changed(commit, [](auto& m) { m.files.resize(kCommitFilesMax, m.files[3]); }));
  CHECK(accepts_changed(commit, [](auto& m) { m.even_published = true; }));

  static constexpr std::size_t kMakeSize = 4 + 1 + 4;
  const Bytes good = body_of(commit);
  const std::size_t list = good.size() - 2 * kMakeSize - 4;
  REQUIRE(good.at(list) == std::byte{2});
  REQUIRE(good.at(list - 4) == std::byte{2});  // of the flags, the one that says that it is there
  const auto refuses = [&](std::size_t at, unsigned value) {
    Bytes bad = good;
    bad.at(at) = static_cast<std::byte>(value);
    return !decode_commit_request(bad).has_value();
  };
  CHECK(refuses(list - 4, 0));
  CHECK(refuses(list - 4, 6));
  CHECK(refuses(list, 1));
  CHECK(refuses(list, 3));
  CHECK(refuses(list + 4, 3));              // both the same
  CHECK(refuses(list + 4 + kMakeSize, 2));  // both the same
  CHECK(refuses(list + 4 + kMakeSize, 4));  // of four
  CHECK(refuses(list + 4, 1));              // one without a path
  CHECK_FALSE(refuses(list + 4, 0));
  Bytes none(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(list + 4));
  none.at(list) = std::byte{0};
  CHECK_FALSE(decode_commit_request(none).has_value());
}

TEST_CASE("a commit that makes nothing has the bytes that it had before any could") {
  CommitRequest commit = sample_commit_make_request();
  for (CommitFile& file : commit.files)
    file.make.reset();
  const Bytes body = body_of(commit);
  CHECK(body.at(body.size() - 4) == std::byte{0});
  const auto decoded = decode_commit_request(body);
  REQUIRE(decoded.has_value());
  CHECK_FALSE(decoded->files[3].make.has_value());
}

TEST_CASE("prepare asks for so many inodes, and keeps so many") {
  const PrepareRequest request = sample_prepare_request();
  CHECK(accepts(PrepareRequest{}));
  CHECK(accepts_changed(request, [](auto& m) { m.files = m.directories = kPrepareMax; }));
  CHECK_FALSE(accepts_changed(request, [](auto& m) { m.files = kPrepareMax + 1; }));
  CHECK_FALSE(accepts_changed(request, [](auto& m) { m.directories = kPrepareMax + 1; }));
  CHECK_FALSE(accepts_changed(request, [](auto& m) { m.files = ~std::uint32_t{0}; }));
  CHECK(accepts_changed(request, [](auto& m) { m.kept.assign(kPrepareKeptMax, {0, 1}); }));
  CHECK_FALSE(accepts_changed(request, [](auto& m) { m.kept.assign(kPrepareKeptMax + 1, {0, 1}); }));
  CHECK(accepts_changed(request, [](auto& m) { m.name.clear(); }));
  CHECK(accepts_changed(request, [](auto& m) { m.name.assign(kNameMax, 'n'); }));
  CHECK_FALSE(accepts_changed(request, [](auto& m) { m.name.assign(kNameMax + 1, 'n'); }));
  for (const char* const name : {".", "..", "a/b", "/"}) {
    CAPTURE(name);
    CHECK_FALSE(accepts_changed(request, [&](auto& m) { m.name = name; }));
  }
  CHECK_FALSE(accepts_changed(request, [](auto& m) { m.directory.path = "/vm"; }));
}

TEST_CASE("the inodes that were prepared are files here and directories there") {
  const PrepareReply reply = sample_prepare_reply();
  CHECK(accepts(PrepareReply{}));
  CHECK(accepts_changed(reply, [](auto& m) { m.files.assign(kPrepareMax, m.files[0]); }));
  CHECK_FALSE(accepts_changed(reply, [](auto& m) { m.files.assign(kPrepareMax + 1, m.files[0]); }));
  CHECK_FALSE(accepts_changed(
      reply, [](auto& m) { m.directories.assign(kPrepareMax + 1, m.directories[0]); }));
  CHECK_FALSE(accepts_changed(reply, [](auto& m) { m.files[1].type = FileType::kFifo; }));
  CHECK_FALSE(accepts_changed(reply, [](auto& m) { m.files.swap(m.directories); }));
  CHECK_FALSE(accepts_changed(reply, [](auto& m) { m.files[0].version.id = {}; }));
  CHECK(accepts_changed(reply, [](auto& m) { m.exists = true; }));
}

TEST_CASE("the largest answer to prepare fits a connection inside SSH") {
  PrepareReply reply = sample_prepare_reply();
  reply.files.assign(kPrepareMax, reply.files[0]);
  reply.directories.assign(kPrepareMax, reply.directories[0]);
  CHECK(FrameHeader::kSize + body_of(reply).size() <= kSshFrameMax);
  PrepareRequest request = sample_prepare_request();
  request.directory.path = std::string(kPathMax, 'p');
  request.kept.assign(kPrepareKeptMax, {0, 1});
  CHECK(FrameHeader::kSize + body_of(request).size() <= kSshFrameMax);
}
