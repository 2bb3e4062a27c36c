#include "acceptance.h"
#include "samples.h"

#include <net/if.h>

using namespace slipway;

// Every limit: at it, and one past it.

namespace {

std::string path_of(std::size_t length) {
  std::string path;
  while (path.size() + 256 <= length)
    path += std::string(255, 'n') + "/";
  return path + std::string(length - path.size(), 'n');
}

template <class T>
std::vector<T> copies(std::size_t count, const T& value) {
  return std::vector<T>(count, value);
}

}  // namespace

TEST_CASE("paths, names and link targets have their longest length") {
  LookupRequest lookup{{path_of(kPathMax), {}}, "n"};
  CHECK(accepts(lookup));
  lookup.directory.path = path_of(kPathMax + 1);
  CHECK_FALSE(accepts(lookup));
  lookup = {{"", {}}, std::string(kNameMax, 'n')};
  CHECK(accepts(lookup));
  lookup.name += "n";
  CHECK_FALSE(accepts(lookup));
  CHECK(accepts(ReadlinkReply{std::string(kLinkTargetMax, 'n')}));
  CHECK_FALSE(accepts(ReadlinkReply{std::string(kLinkTargetMax + 1, 'n')}));
}

TEST_CASE("attributes have the largest sizes, times and modes that a file can have") {
  Attributes good = sample_attributes();
  good.version.size = kFileSizeMax;
  good.allocated = kFileSizeMax;
  good.mode = 07777;
  good.version.birth = good.version.mtime = good.version.ctime =
      good.atime = {std::numeric_limits<std::int64_t>::min(), 999'999'999};
  REQUIRE(accepts(good));
  const auto refused = [&](auto change) {
    Attributes bad = good;
    change(bad);
    return !accepts(bad) && !is_plausible(bad);
  };
  CHECK(refused([](Attributes& m) { m.version.size += 1; }));
  CHECK(refused([](Attributes& m) { m.allocated += 1; }));
  CHECK(refused([](Attributes& m) { m.mode += 1; }));
  CHECK(refused([](Attributes& m) { m.version.birth.nanoseconds += 1; }));
  CHECK(refused([](Attributes& m) { m.version.mtime.nanoseconds += 1; }));
  CHECK(refused([](Attributes& m) { m.version.ctime.nanoseconds += 1; }));
  CHECK(refused([](Attributes& m) { m.atime.nanoseconds += 1; }));
  CHECK(refused([](Attributes& m) { m.inode_number = 0; }));
  CHECK(refused([](Attributes& m) { m.version.id = {}; }));

  Attributes link = sample_attributes();
  link.type = FileType::kSymlink;
  link.version.size = kLinkTargetMax;
  CHECK(accepts(link));
  link.version.size += 1;
  CHECK_FALSE(accepts(link));
}

TEST_CASE("a directory's answer and question count their entries") {
  CHECK(accepts(ReaddirRequest{{}, 0, 1}));
  CHECK(accepts(ReaddirRequest{{}, 0, kReaddirEntriesMax}));
  CHECK_FALSE(accepts(ReaddirRequest{{}, 0, 0}));
  CHECK_FALSE(accepts(ReaddirRequest{{}, 0, kReaddirEntriesMax + 1}));
  const DirectoryEntry entry{1, "n", sample_attributes()};
  CHECK(accepts(ReaddirReply{copies(kReaddirEntriesMax, entry), true}));
  CHECK_FALSE(accepts(ReaddirReply{copies(kReaddirEntriesMax + 1, entry), true}));
}

TEST_CASE("a read request counts its extents and its bytes") {
  ReadRequest request;
  for (std::size_t i = 0; i < kReadExtentsMax; ++i)
    request.extents.push_back({1, i * kUnitSize, kUnitSize});
  CHECK(kReadExtentsMax * kUnitSize == kReadBytesMax);
  CHECK(accepts(request));
  request.extents.back().length += kUnitSize;  // one unit too many in bytes
  CHECK_FALSE(accepts(request));

  request.extents.assign(kReadExtentsMax + 1, {});
  for (std::size_t i = 0; i < request.extents.size(); ++i)
    request.extents[i] = {i + 1, 0, kUnitSize};
  CHECK_FALSE(accepts(request));

  request.extents = {{1, kFileSizeMax - kUnitSize, kUnitSize}};
  CHECK(accepts(request));
  request.extents[0].offset += kUnitSize;
  CHECK_FALSE(accepts(request));
}

TEST_CASE("a read reply counts its files, segments and bytes") {
  ReadFile file = sample_read_reply().files[0];
  file.version.size = kFileSizeMax;
  ReadReply reply;
  for (std::size_t i = 0; i < kReadExtentsMax; ++i) {
    reply.files.push_back(file);
    reply.files.back().handle = i + 1;
  }
  CHECK(accepts(reply));
  reply.files.push_back(file);
  reply.files.back().handle = kReadExtentsMax + 1;
  CHECK_FALSE(accepts(reply));

  reply.files = {file};
  for (std::size_t i = 0; i < kReadSegmentsMax; ++i)
    reply.segments.push_back({0, SegmentKind::kZero, i * kUnitSize, kUnitSize, 0});
  CHECK(accepts(reply));
  reply.segments.push_back({0, SegmentKind::kZero, kReadSegmentsMax * kUnitSize, kUnitSize, 0});
  CHECK_FALSE(accepts(reply));

  const Bytes data(kFrameDataMax + kUnitSize);
  reply.segments = {{0, SegmentKind::kData, 0, kFrameDataMax, kFrameDataMax}};
  reply.data = ByteView(data).first(kFrameDataMax);
  CHECK(accepts(reply));
  reply.segments = {
      {0, SegmentKind::kData, 0, kFrameDataMax + kUnitSize, kFrameDataMax + kUnitSize}};
  reply.data = data;
  CHECK_FALSE(accepts(reply));

  reply.data = {};
  reply.segments = {{0, SegmentKind::kHole, 0, static_cast<std::uint32_t>(kReadBytesMax), 0}};
  CHECK(accepts(reply));
  reply.segments[0].length += kUnitSize;
  CHECK_FALSE(accepts(reply));
}

TEST_CASE("confirm counts its regions, the last of which is the end of the largest file") {
  ConfirmRequest request{1, {}};
  for (std::size_t i = 0; i < kConfirmRegionsMax; ++i)
    request.regions.push_back({i, {}, {}});
  CHECK(accepts(request));
  request.regions.push_back({kConfirmRegionsMax, {}, {}});
  CHECK_FALSE(accepts(request));
  request.regions = {{kFileSizeMax / kRegionSize - 1, {}, {}}};
  CHECK(accepts(request));
  request.regions[0].region += 1;
  CHECK_FALSE(accepts(request));

  ConfirmReply reply = sample_confirm_reply();
  reply.equal.assign(kConfirmRegionsMax, 1);
  CHECK(accepts(reply));
  reply.equal.push_back(1);
  CHECK_FALSE(accepts(reply));
}

TEST_CASE("the client's set-up message has its limits") {
  ClientSetup m = sample_client_setup();
  m.connections = kConnectionsMax;
  m.suites = copies(kSuitesMax, CipherSuite::kAes256Gcm);
  m.export_path = std::string(kPathMax, '/');
  m.client_name = std::string(kNameMax, 'n');
  REQUIRE(accepts(m));
  const auto refused = [&](auto change) {
    ClientSetup bad = m;
    change(bad);
    return !accepts(bad);
  };
  CHECK(refused([](ClientSetup& bad) { bad.connections += 1; }));
  CHECK(refused([](ClientSetup& bad) { bad.suites.push_back(CipherSuite::kAes256Gcm); }));
  CHECK(refused([](ClientSetup& bad) { bad.suites.clear(); }));
  CHECK(refused([](ClientSetup& bad) { bad.export_path += "/"; }));
  CHECK(refused([](ClientSetup& bad) { bad.client_name += "n"; }));
}

TEST_CASE("the server's set-up message has its limits") {
  ServerSetup m = sample_server_setup();
  m.data_port = kDataPortLast;
  m.addresses = copies(kAddressesMax, "fe80::1%" + std::string(IF_NAMESIZE - 1, 'e'));
  m.requests_in_flight_max = kRequestsInFlightMax;
  m.bytes_in_flight_max = kBytesInFlightMax;
  m.export_root = "/" + path_of(kPathMax - 1);
  REQUIRE(accepts(m));
  const auto changed = [&](auto change) {
    ServerSetup other = m;
    change(other);
    return accepts(other);
  };
  CHECK(changed([](ServerSetup& o) { o.data_port = 0; }));
  CHECK(changed([](ServerSetup& o) { o.data_port = kDataPortFirst; }));
  CHECK(changed([](ServerSetup& o) { o.requests_in_flight_max = 1; }));
  CHECK(changed([](ServerSetup& o) { o.bytes_in_flight_max = kUnitSize; }));
  CHECK(changed([](ServerSetup& o) { o.export_root = "/"; }));
  CHECK_FALSE(changed([](ServerSetup& o) { o.data_port = kDataPortLast + 1; }));
  CHECK_FALSE(changed([](ServerSetup& o) { o.data_port = kDataPortFirst - 1; }));
  CHECK_FALSE(changed([](ServerSetup& o) { o.addresses.push_back("::1"); }));
  CHECK_FALSE(changed([](ServerSetup& o) { o.addresses[3] += "e"; }));
  CHECK_FALSE(changed([](ServerSetup& o) { o.requests_in_flight_max = 0; }));
  CHECK_FALSE(changed([](ServerSetup& o) { o.requests_in_flight_max += 1; }));
  CHECK_FALSE(changed([](ServerSetup& o) { o.bytes_in_flight_max = kUnitSize - 1; }));
  CHECK_FALSE(changed([](ServerSetup& o) { o.bytes_in_flight_max += 1; }));
  CHECK_FALSE(changed([](ServerSetup& o) { o.export_root += "n"; }));
}

TEST_CASE("a preamble names one of the connections, a record has its longest length") {
  const auto decodes = [](std::uint16_t connection) {
    return decode_preamble(encode_preamble({kProtocolVersion, connection, 0, {}})).has_value();
  };
  CHECK_FALSE(decodes(0));
  CHECK(decodes(1));
  CHECK(decodes(kConnectionsMax));
  CHECK_FALSE(decodes(kConnectionsMax + 1));
  const auto record = encode_record_header({1000, RecordKind::kClose});
  CHECK(decode_record_header(record, 1000).has_value());
  CHECK_FALSE(decode_record_header(record, 999).has_value());
}
