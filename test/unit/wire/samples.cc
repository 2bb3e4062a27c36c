#include "samples.h"

#include "equality.h"
#include "wire/frame.h"

#include <algorithm>
#include <tuple>

namespace slipway {
namespace {

constexpr std::uint64_t kCookie = 0x0102030405060708;
constexpr FileId kImageId{1, 0x1122334455667788};

template <std::size_t kSize>
std::array<std::byte, kSize> counting_bytes(unsigned first) {
  std::array<std::byte, kSize> out{};
  for (std::size_t i = 0; i < kSize; ++i)
    out[i] = static_cast<std::byte>(first + i);
  return out;
}

VersionRecord sample_version(std::uint64_t size) {
  return {kImageId, {1600000000, 1}, size, {1700000000, 999999999}, {-1, 500}};
}

NodeRef sample_node() {
  return {"vm/disk.img", kImageId};
}

template <class M>
Bytes encoded(const M& message) {
  Bytes bytes;
  encode(bytes, message);
  return bytes;
}

/// A message without a frame: `to_bytes` and `from_bytes` are its encoder and decoder.
template <class M, class Encoder, class Decoder>
WireSample bare_sample(std::string name, const M& value, Encoder to_bytes, Decoder from_bytes) {
  WireSample sample;
  sample.name = std::move(name);
  sample.bytes = to_bytes(value);
  sample.recode = [to_bytes, from_bytes](ByteView bytes) -> Result<Bytes> {
    SLIPWAY_TRY_ASSIGN(const M message, from_bytes(bytes));
    return to_bytes(message);
  };
  sample.decodes_to_value = [value, from_bytes](ByteView bytes) {
    const Result<M> message = from_bytes(bytes);
    return message.has_value() && same(*message, value);
  };
  return sample;
}

/// A whole frame: header and body.
template <class M, class Decoder>
WireSample frame_sample(std::string name, const FrameHeader& header, const M& value,
                        Decoder decode_body) {
  WireSample sample;
  sample.name = std::move(name);
  begin_frame(sample.bytes, header);
  encode(sample.bytes, value);
  sample.recode = [decode_body](ByteView bytes) -> Result<Bytes> {
    SLIPWAY_TRY_ASSIGN(const FrameHeader got, decode_frame_header(bytes));
    SLIPWAY_TRY_ASSIGN(const M message, decode_body(frame_body(bytes)));
    Bytes out;
    begin_frame(out, got);
    encode(out, message);
    return out;
  };
  sample.decodes_to_value = [header, value, decode_body](ByteView bytes) {
    const Result<FrameHeader> got = decode_frame_header(bytes);
    if (!got.has_value() || !(*got == header))
      return false;
    const Result<M> message = decode_body(frame_body(bytes));
    return message.has_value() && same(*message, value);
  };
  return sample;
}

FrameHeader request(MessageType type) {
  return {type, 0, 0, kCookie, 0, 0};
}

FrameHeader reply(MessageType type) {
  return {type, kFrameReply, 0, kCookie, 0, 0};
}

/// The body of ping, goodbye and the reply to close.
struct Nothing {};

void encode(Bytes& /*to*/, const Nothing& /*m*/) {}

bool same(const Nothing& /*a*/, const Nothing& /*b*/) {
  return true;
}

Result<Nothing> decode_nothing(ByteView body) {
  if (!body.empty())
    return fail(ErrorCode::kProtocol, "a body of {} bytes where there is none", body.size());
  return Nothing{};
}

struct ErrorBody {
  FrameHeader request;
  Error error;
};

bool same(const ErrorBody& a, const ErrorBody& b) {
  return a.request == b.request && a.error.code == b.error.code &&
         a.error.message == b.error.message;
}

WireSample error_sample() {
  const auto to_bytes = [](const ErrorBody& m) { return encode_error_reply(m.request, m.error); };
  const auto from_bytes = [](ByteView bytes) -> Result<ErrorBody> {
    SLIPWAY_TRY_ASSIGN(const FrameHeader header, decode_frame_header(bytes));
    ErrorBody m{header, decode_error_reply(header, frame_body(bytes))};
    m.request.flags = 0;
    m.request.status = 0;
    if (m.error.message.find("unreadable") != std::string::npos)
      return fail(ErrorCode::kProtocol, "{}", m.error.message);
    return m;
  };
  const ErrorBody value{request(MessageType::kLookup), {ErrorCode::kNotFound, "no 'disk' in 'vm'"}};
  return bare_sample("error_reply", value, to_bytes, from_bytes);
}

void add_setup(std::vector<WireSample>& to) {
  to.push_back(bare_sample("client_setup", sample_client_setup(), encoded<ClientSetup>,
                           decode_client_setup));
  to.push_back(bare_sample("server_setup", sample_server_setup(), encoded<ServerSetup>,
                           decode_server_setup));
  ServerSetup refused;
  refused.error = static_cast<std::uint32_t>(ErrorCode::kNotDirectory);
  refused.error_message = "/srv/vm is not a directory";
  to.push_back(
      bare_sample("server_setup_refused", refused, encoded<ServerSetup>, decode_server_setup));
  for (WireSample& sample : to)
    sample.may_trail = true;

  to.push_back(bare_sample(
      "preamble", Preamble{kProtocolVersion, 3, 7, counting_bytes<16>(0x40)},
      [](const Preamble& m) {
        const auto bytes = encode_preamble(m);
        return Bytes(bytes.begin(), bytes.end());
      },
      decode_preamble));
  to.push_back(bare_sample(
      "record_header", RecordHeader{0x12345, RecordKind::kFrame},
      [](const RecordHeader& m) {
        const auto bytes = encode_record_header(m);
        return Bytes(bytes.begin(), bytes.end());
      },
      [](ByteView bytes) { return decode_record_header(bytes, kFrameMax + 16); }));
}

void add_control(std::vector<WireSample>& to) {
  using enum MessageType;
  to.push_back(frame_sample("ping_request", request(kPing), Nothing{}, decode_nothing));
  to.push_back(frame_sample("ping_reply", reply(kPing), Nothing{}, decode_nothing));
  to.push_back(frame_sample("numbered_request", FrameHeader{kGoodbye, 0, 0, kCookie, 9, 8},
                            Nothing{}, decode_nothing));
  to.push_back(frame_sample("cancel_request", FrameHeader{kCancel, 0, 0, 0, 0, 0},
                            CancelRequest{kCookie}, decode_cancel_request));
  to.push_back(frame_sample("goodbye_request", request(kGoodbye), Nothing{}, decode_nothing));
  to.push_back(frame_sample("goodbye_reply", reply(kGoodbye), Nothing{}, decode_nothing));
  to.push_back(error_sample());
}

void add_names(std::vector<WireSample>& to) {
  using enum MessageType;
  const NodeRef directory{"vm", {}};
  to.push_back(frame_sample("lookup_request", request(kLookup),
                            LookupRequest{directory, "disk.img"}, decode_lookup_request));
  to.push_back(
      frame_sample("lookup_reply", reply(kLookup), sample_attributes(), decode_attributes));
  to.push_back(frame_sample("getattr_request", request(kGetattr), GetattrRequest{5, sample_node()},
                            decode_getattr_request));
  to.push_back(
      frame_sample("getattr_reply", reply(kGetattr), sample_attributes(), decode_attributes));
  to.push_back(frame_sample("readdir_request", request(kReaddir),
                            ReaddirRequest{directory, 17, 1000}, decode_readdir_request));
  Attributes link = sample_attributes();
  link.type = FileType::kSymlink;
  link.version.size = 9;
  const ReaddirReply listing{{{18, "disk.img", sample_attributes()}, {19, "link", link}}, true};
  to.push_back(frame_sample("readdir_reply", reply(kReaddir), listing, decode_readdir_reply));
  to.push_back(frame_sample("readlink_request", request(kReadlink), ReadlinkRequest{sample_node()},
                            decode_readlink_request));
  to.push_back(frame_sample("readlink_reply", reply(kReadlink), ReadlinkReply{"../base.img"},
                            decode_readlink_reply));
  to.push_back(frame_sample("statfs_request", request(kStatfs), StatfsRequest{NodeRef{}},
                            decode_statfs_request));
  to.push_back(frame_sample("statfs_reply", reply(kStatfs),
                            StatfsReply{1000000, 600000, 500000, 4096, 4000, 255},
                            decode_statfs_reply));
}

void add_reading(std::vector<WireSample>& to) {
  using enum MessageType;
  to.push_back(frame_sample("open_request", request(kOpen), OpenRequest{5, sample_node(), 0},
                            decode_open_request));
  to.push_back(frame_sample("open_write_request", request(kOpen),
                            OpenRequest{5, sample_node(), kOpenWrite}, decode_open_request));
  to.push_back(frame_sample("open_published_request", request(kOpen),
                            OpenRequest{5, sample_node(), kOpenWrite | kOpenPublished},
                            decode_open_request));
  to.push_back(
      frame_sample("close_request", request(kClose), CloseRequest{5}, decode_close_request));
  to.push_back(frame_sample("open_reply", reply(kOpen), sample_attributes(), decode_attributes));
  to.push_back(frame_sample("close_reply", reply(kClose), Nothing{}, decode_nothing));
  FrameHeader prefetch = request(kRead);
  prefetch.flags = kFramePrefetch;
  to.push_back(frame_sample("read_request", prefetch, sample_read_request(), decode_read_request));
  FrameHeader more = reply(kRead);
  more.flags |= kFrameMore;
  to.push_back(frame_sample("read_reply", more, sample_read_reply(), decode_read_reply));
  to.push_back(frame_sample("confirm_request", request(kConfirm), sample_confirm_request(),
                            decode_confirm_request));
  to.push_back(
      frame_sample("confirm_reply", reply(kConfirm), sample_confirm_reply(), decode_confirm_reply));
}

void add_manifests(std::vector<WireSample>& to) {
  using enum MessageType;
  ReadRequest wanting = sample_read_request();
  wanting.want_leaves = true;
  to.push_back(frame_sample("read_leaves_request", request(kRead), wanting, decode_read_request));
  to.push_back(frame_sample("read_leaves_reply", reply(kRead), sample_leaves_read_reply(),
                            decode_read_reply));
  to.push_back(frame_sample("manifest_request", request(kManifest), sample_manifest_request(),
                            decode_manifest_request));
  to.push_back(frame_sample("manifest_reply", reply(kManifest), sample_manifest_reply(),
                            decode_manifest_reply));
  const VersionRecord version = sample_manifest_reply().version;
  to.push_back(frame_sample("manifest_reply_same", reply(kManifest),
                            ManifestReply{ManifestState::kSame, version, 0, {}},
                            decode_manifest_reply));
  to.push_back(frame_sample("manifest_reply_none", reply(kManifest), ManifestReply{},
                            decode_manifest_reply));
  to.push_back(frame_sample("leaves_request", request(kLeaves), LeavesRequest{5, 9, 2},
                            decode_leaves_request));
  to.push_back(
      frame_sample("leaves_reply", reply(kLeaves), sample_leaves_reply(), decode_leaves_reply));
  to.push_back(frame_sample("profile_request", request(kProfile),
                            ProfileRequest{sample_node(), "boot"}, decode_profile_request));
  const Bytes profile = sample_put_profile_request().profile;
  to.push_back(
      frame_sample("profile_reply", reply(kProfile), ProfileReply{profile}, decode_profile_reply));
  to.push_back(frame_sample("put_profile_request", request(kPutProfile),
                            sample_put_profile_request(), decode_put_profile_request));
  to.push_back(frame_sample("put_profile_reply", reply(kPutProfile), Nothing{}, decode_nothing));
}

void add_changes(std::vector<WireSample>& to) {
  using enum MessageType;
  to.push_back(
      frame_sample("make_request", request(kMake), sample_make_request(), decode_make_request));
  MakeRequest link = sample_make_request();
  link.kind = MakeKind::kSymlink;
  link.target = "../base/disk.img";
  link.handle = 0;
  link.exclusive = false;
  link.even_published = true;
  to.push_back(frame_sample("make_symlink_request", request(kMake), link, decode_make_request));
  to.push_back(frame_sample("make_reply", reply(kMake), MakeReply{true, sample_attributes()},
                            decode_make_reply));
  // Members one by one: g++ 12 takes the temporaries of an initializer for uninitialized.
  LinkRequest linked;
  linked.operation = 78;
  linked.file = sample_node();
  linked.directory.path = "vm";
  linked.name = "again";
  to.push_back(frame_sample("link_request", request(kLink), linked, decode_link_request));
  to.push_back(frame_sample("link_reply", reply(kLink), sample_attributes(), decode_attributes));
  RemoveRequest removed;
  removed.operation = 79;
  removed.directory.path = "vm";
  removed.name = "old";
  removed.is_directory = true;
  to.push_back(frame_sample("remove_request", request(kRemove), removed, decode_remove_request));
  to.push_back(frame_sample("remove_reply", reply(kRemove), Nothing{}, decode_nothing));
  to.push_back(frame_sample("rename_request", request(kRename), sample_rename_request(),
                            decode_rename_request));
  to.push_back(
      frame_sample("rename_reply", reply(kRename), sample_attributes(), decode_attributes));
  to.push_back(frame_sample("setattr_request", request(kSetattr), sample_setattr_request(),
                            decode_setattr_request));
  to.push_back(frame_sample("setattr_reply", reply(kSetattr), sample_change_reply(),
                            decode_change_reply));
  to.push_back(
      frame_sample("copy_request", request(kCopy), sample_copy_request(), decode_copy_request));
  to.push_back(
      frame_sample("copy_reply", reply(kCopy), sample_change_reply(), decode_change_reply));
  to.push_back(frame_sample("sync_request", request(kSync), SyncRequest{sample_node()},
                            decode_sync_request));
  to.push_back(frame_sample("sync_reply", reply(kSync), Nothing{}, decode_nothing));
}

void add_checkpoints(std::vector<WireSample>& to) {
  using enum MessageType;
  to.push_back(
      frame_sample("stage_request", request(kStage), sample_stage_request(), decode_stage_request));
  to.push_back(frame_sample("stage_reply", reply(kStage), Nothing{}, decode_nothing));
  to.push_back(frame_sample("commit_request", request(kCommit), sample_commit_request(),
                            decode_commit_request));
  to.push_back(frame_sample("commit_make_request", request(kCommit), sample_commit_make_request(),
                            decode_commit_request));
  to.push_back(
      frame_sample("commit_reply", reply(kCommit), sample_commit_reply(), decode_commit_reply));
  to.push_back(frame_sample("prepare_request", request(kPrepare), sample_prepare_request(),
                            decode_prepare_request));
  to.push_back(
      frame_sample("prepare_reply", reply(kPrepare), sample_prepare_reply(), decode_prepare_reply));
}

void add_leases(std::vector<WireSample>& to) {
  using enum MessageType;
  to.push_back(frame_sample("lease_request", request(kLease),
                            LeaseRequest{LeaseAction::kRenew, "vm/disk.img", "", 7, 4096},
                            decode_lease_request));
  to.push_back(frame_sample("lease_break_request", request(kLease),
                            LeaseRequest{LeaseAction::kBreak, "", "vm", 7, 0},
                            decode_lease_request));
  to.push_back(frame_sample("lease_await_request", request(kLease),
                            LeaseRequest{LeaseAction::kAwait, "", "", 0, 0},
                            decode_lease_request));
  to.push_back(
      frame_sample("lease_reply", reply(kLease), sample_lease_reply(), decode_lease_reply));
}

}  // namespace

Attributes sample_attributes() {
  Attributes m;
  m.version = sample_version(std::uint64_t{20} << 30);
  m.inode_number = 0x8877665544332211;
  m.mode = 0640;
  m.nlink = 2;
  m.uid = 1000;
  m.gid = 100;
  m.allocated = std::uint64_t{3} << 30;
  m.atime = {1700000001, 2};
  m.young = true;
  return m;
}

ClientSetup sample_client_setup() {
  ClientSetup m;
  m.features = 0x8000000000000001;
  m.secret = counting_bytes<32>(0x00);
  m.client_id = counting_bytes<16>(0x20);
  m.mount_id = counting_bytes<16>(0x30);
  m.suites = {CipherSuite::kAes256Gcm, CipherSuite::kChaCha20Poly1305};
  m.export_path = "/srv/vm";
  m.client_name = "host7";
  return m;
}

ServerSetup sample_server_setup() {
  ServerSetup m;
  m.features = 2;
  m.secret = counting_bytes<32>(0x80);
  m.session_id = counting_bytes<16>(0x40);
  m.suite = CipherSuite::kAes256Gcm;
  m.data_port = 60123;
  m.addresses = {"192.0.2.1", "2001:db8::1", "fe80::1%eth0"};
  m.requests_in_flight_max = 256;
  m.bytes_in_flight_max = std::uint64_t{32} << 20;
  m.export_id = counting_bytes<16>(0x50);
  m.initialised = true;
  m.uid = 1001;
  m.gid = 101;
  m.machine_id = counting_bytes<16>(0x60);
  m.export_root = "/srv/vm";
  m.root = sample_attributes();
  m.root.version.id = {0, 2};
  m.root.version.size = 0;
  m.root.type = FileType::kDirectory;
  m.root.mode = 0755;
  m.root.young = false;
  return m;
}

ReadRequest sample_read_request() {
  return {true,
          {{5, 0, 5 * kUnitSize}, {6, 3 * kUnitSize, kUnitSize}, {5, kRegionSize, kUnitSize}}};
}

ReadReply sample_read_reply() {
  static const Bytes kData = [] {
    Bytes data;
    append(data, sample_zstd_frame());
    append(data, as_bytes("tail!"));
    return data;
  }();
  const auto frame_size = static_cast<std::uint32_t>(sample_zstd_frame().size());
  ReadReply m;
  m.files = {{5, 0, true, sample_version(4 * kUnitSize + 5)},
             {6, static_cast<std::uint32_t>(ErrorCode::kStale), false, {}}};
  m.segments = {{0, SegmentKind::kHole, 0, kUnitSize, 0},
                {0, SegmentKind::kZero, kUnitSize, 2 * kUnitSize, 0},
                {0, SegmentKind::kZstd, 3 * kUnitSize, kUnitSize, frame_size},
                {0, SegmentKind::kData, 4 * kUnitSize, 5, 5}};
  m.data = kData;
  return m;
}

ConfirmRequest sample_confirm_request() {
  ConfirmRequest m;
  m.handle = 5;
  m.regions = {{0, counting_bytes<kUnitsPerRegion / 8>(1), counting_bytes<16>(0xa0)},
               {9, counting_bytes<kUnitsPerRegion / 8>(2), counting_bytes<16>(0xb0)}};
  return m;
}

ConfirmReply sample_confirm_reply() {
  return {sample_version(std::uint64_t{20} << 30), false, {1, 0}};
}

ReadReply sample_leaves_read_reply() {
  static const Bytes kData = [] {
    const auto leaves = counting_bytes<64>(0x10);
    Bytes data(leaves.begin(), leaves.end());
    append(data, as_bytes("tail!"));
    return data;
  }();
  ReadReply m;
  m.files = {{5, 0, false, sample_version(kRegionSize + 3 * kUnitSize + 5)}};
  m.segments = {{0, SegmentKind::kHole, kRegionSize, kUnitSize, 0},
                {0, SegmentKind::kLeaves, kRegionSize, 3 * kUnitSize + 5, 64},
                {0, SegmentKind::kData, kRegionSize + 3 * kUnitSize, 5, 5}};
  m.data = kData;
  return m;
}

ManifestRequest sample_manifest_request() {
  return {sample_node(), 65536, counting_bytes<32>(0x80)};
}

ManifestReply sample_manifest_reply() {
  const auto part = counting_bytes<20>(0x01);
  return {ManifestState::kPart,
          sample_version(std::uint64_t{20} << 30),
          65556,
          {part.begin(), part.end()}};
}

LeavesReply sample_leaves_reply() {
  const auto leaf = counting_bytes<32>(0x20);
  return {{{leaf.begin(), leaf.end()}, {}}};
}

PutProfileRequest sample_put_profile_request() {
  const auto profile = counting_bytes<24>(0x30);  // opaque on the wire
  return {sample_node(), "resume-2", {profile.begin(), profile.end()}};
}

MakeRequest sample_make_request() {
  return {77, MakeKind::kFile, {"vm", {}}, "new.img", 0640, "", 12, true};
}

RenameRequest sample_rename_request() {
  return {80, {"vm", {}}, "a.part", {"vm/done", {}}, "a", kRenameExchange};
}

SetattrRequest sample_setattr_request() {
  return {81,  5,    sample_node(), kSetMode | kSetUid | kSetGid | kSetAtime | kSetMtime,
          0600, 1000, 100,           {-1, 5},
          {1700000001, 999999999}};
}

CopyRequest sample_copy_request() {
  return {82, 5, 0x10000, 6, 0x20001, 0x300000};
}

ChangeReply sample_change_reply() {
  return {sample_version(4096), sample_attributes(), 0x300000};
}

StageRequest sample_stage_request() {
  static const Bytes kData = [] {
    const auto plain = counting_bytes<5>(0x61);
    Bytes data(plain.begin(), plain.end());
    append(data, sample_zstd_frame());
    return data;
  }();
  StageRequest m;
  m.group = counting_bytes<16>(0xa0);
  m.checkpoint = 9;
  m.part = 3;
  m.extents = {{0, StageKind::kData, 1001, 5, 5},
               {0, StageKind::kZstd, 65536, kUnitSize, 11},
               {1, StageKind::kZero, 3, 70000, 0},
               {1, StageKind::kHole, 131072, std::uint64_t{1} << 40, 0},
               {2, StageKind::kAllocate, 0, 1, 0}};
  m.data = kData;
  return m;
}

CommitRequest sample_commit_request() {
  CommitRequest m;
  m.group = counting_bytes<16>(0xa0);
  m.checkpoint = 9;
  m.parts = 4;
  m.files = {{sample_node(), 0, sample_version(70000), 70000, 80000, {1700000002, 3}},
             {{"", kImageId}, 5, sample_version(4096), 100, 0, {1700000003, 4}}};
  m.even_published = true;
  return m;
}

CommitRequest sample_commit_make_request() {
  CommitRequest m = sample_commit_request();
  m.even_published = false;
  CommitFile directory;
  directory.node.path = "vm/new";
  directory.base = sample_version(0);
  directory.base.id.inode = 4712;
  directory.make = CommitMake{MakeKind::kDirectory, 0750};
  CommitFile file = directory;
  file.node.path = "vm/new/disk.img";
  file.base.id.inode = 4713;
  file.size = 4096;
  file.mtime = {1700000005, 6};
  file.make = CommitMake{MakeKind::kFile, 0644};
  m.files.push_back(directory);
  m.files.push_back(file);
  return m;
}

PrepareRequest sample_prepare_request() {
  PrepareRequest m;
  m.directory.path = "vm";
  m.name = "new";
  m.files = 16;
  m.directories = 4;
  m.tidy = true;
  m.kept = {{0, 4712}, kImageId};
  return m;
}

PrepareReply sample_prepare_reply() {
  PrepareReply m;
  m.may_make = true;
  Attributes file = sample_attributes();
  file.version.size = 0;
  Attributes directory = file;
  directory.type = FileType::kDirectory;
  m.files = {file, file};
  m.directories = {directory};
  return m;
}

LeaseReply sample_lease_reply() {
  LeaseEntry held;
  held.group = "vm";
  held.epoch = 7;
  held.held = true;
  held.ours = true;
  held.host = "host7";
  held.user = "ann";
  held.uid = 1000;
  held.age_ms = 90'000;
  held.expires_in_ms = -2;
  held.unsent_bytes = 65536;
  held.wanted_by = "host8";
  LeaseEntry free;
  free.group = "";
  return {LeaseOutcome::kHeld, false, true, {held, free}};
}

CommitReply sample_commit_reply() {
  return {{{0, "", sample_attributes()},
           {static_cast<std::uint32_t>(ErrorCode::kStale), "disk.img.conflict-host-9", {}}}};
}

ByteView sample_zstd_frame() {
  // Magic; descriptor (single segment, 2-byte content size); content size less 256; block header
  // (last, run-length, kUnitSize); the byte.
  static constexpr std::array<unsigned char, 11> kFrame = {0x28, 0xb5, 0x2f, 0xfd, 0x60, 0x00,
                                                           0x3f, 0x03, 0x00, 0x02, 0xab};
  return std::as_bytes(std::span(kFrame));
}

std::vector<WireSample> wire_samples() {
  std::vector<WireSample> samples;
  add_setup(samples);
  add_control(samples);
  add_names(samples);
  add_reading(samples);
  add_manifests(samples);
  add_changes(samples);
  add_checkpoints(samples);
  add_leases(samples);
  return samples;
}

}  // namespace slipway
