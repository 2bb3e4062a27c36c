#include "base/checksum.h"
#include "fuzz_target.h"
#include "manifest/manifest.h"
#include "server/frame_table.h"

#include <algorithm>
#include <cassert>

using namespace slipway;

namespace {

// What travels to a client, who checks all of it.
void check_head(ByteView head) {
  const Result<Manifest> manifest = decode_head(head);
  if (!manifest)
    return;
  Bytes again;
  encode_head(again, *manifest);
  assert(std::equal(again.begin(), again.end(), head.begin(), head.end()));
  assert(manifest->regions.size() == region_count(manifest->size()));
  assert(leaf_offsets(*manifest).size() == manifest->regions.size() + 1);
  assert(zero_bytes(*manifest) <= manifest->size());
  std::uint64_t covered = 0;
  const ByteRange begin{0, std::min<std::uint64_t>(manifest->size(), 2 * kRegionSize)};
  for (const ZeroRun& run : zero_runs(*manifest, begin))
    covered += run.range.length;
  assert(covered == begin.length);
}

void check_manifest(ByteView file) {
  if (file.size() < kManifestPrologueSize)
    return;
  const Result<std::size_t> length = parse_prologue(file.first(kManifestPrologueSize));
  if (!length || *length > file.size() - kManifestPrologueSize)
    return;
  const ByteView around = file.first(kManifestPrologueSize + *length);
  const ByteView behind = file.subspan(around.size());
  if (behind.size() >= kHeadChecksumSize &&
      check_head_checksum(around, behind.first(kHeadChecksumSize)))
    check_head(around.subspan(kManifestPrologueSize));
}

// With a checksum that fits, as an owner of the file could make it.
void check_pack(ByteView file) {
  if (file.size() < kPackHeaderSize)
    return;
  const Result<PackHeader> header = parse_pack_header(file.first(kPackHeaderSize), file.size());
  if (!header)
    return;
  const ByteView table = file.subspan(header->table_begin());
  [[maybe_unused]] const bool as_it_is = parse_frame_table(*header, table).has_value();
  Bytes covered(file.begin(), file.begin() + kPackHeaderSize);
  append(covered, table.first(table.size() - sizeof(Checksum)));
  Bytes right(table.begin(), table.end() - sizeof(Checksum));
  append(right, checksum_of(covered));
  const Result<std::vector<FrameEntry>> entries = parse_frame_table(*header, right);
  if (!entries)
    return;
  for (const FrameEntry& entry : *entries)
    assert(entry.offset + entry.length + kFrameChecksumSize <= header->table_begin());
  assert(encode_frame_table(*header, *entries) == right);
}

}  // namespace

/// A manifest's head, a manifest file or a frame pack.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const ByteView input = fuzz_input(data, size);
  check_head(input);
  check_manifest(input);
  check_pack(input);
  return 0;
}
