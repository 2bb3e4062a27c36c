#include "server/manifest_answer.h"

#include "manifest/manifest.h"
#include "server/answer.h"
#include "server/manifest_file.h"
#include "wire/codec.h"
#include "wire/fields.h"

#include <algorithm>

namespace slipway {

namespace {

constexpr std::size_t kVersionOffset = 2 + 1 + 1;  // of the version record in a head

template <class T>
Bytes encode_reply(const FrameHeader& request, const T& reply) {
  Bytes frame;
  begin_frame(frame, reply_header(request, false));
  encode(frame, reply);
  return frame;
}

// Bytes [offset, offset + length) of the head, which name the image by `version`: the number of its
// file system is this session's, and of an image opened by its root the ctime may be another.
Bytes head_part(const ManifestFile& manifest, const VersionRecord& version, std::uint64_t offset,
                std::size_t length) {
  Bytes start(manifest.head().begin(), manifest.head().begin() + kVersionOffset);
  WireWriter writer(start);
  put(writer, version);
  const ByteView part = manifest.head().subspan(offset, length);
  Bytes bytes(part.begin(), part.end());
  if (offset < start.size()) {
    const ByteView said = ByteView(start).subspan(offset);
    std::copy_n(said.begin(), std::min(said.size(), length), bytes.begin());
  }
  return bytes;
}

}  // namespace

Result<Bytes> ManifestAnswers::answer(const FrameHeader& header, const ManifestRequest& request,
                                      std::size_t frame_max) {
  static constexpr std::size_t kAround = FrameHeader::kSize + 1 + kVersionSize + 8 + 4;  // bytes
  SLIPWAY_TRY_ASSIGN(const std::unique_ptr<ImageFile> file, store_.open(request.node));
  SLIPWAY_TRY_ASSIGN(const Attributes attributes, file->attributes());
  const std::shared_ptr<const ManifestFile> manifest = file->manifest();
  ManifestReply reply;
  if (manifest == nullptr)
    return encode_reply(header, reply);
  reply.version = attributes.version;
  if (manifest->manifest().root == request.known) {
    reply.state = ManifestState::kSame;
    return encode_reply(header, reply);
  }
  const std::size_t total = manifest->head().size();
  if (request.offset >= total)
    return fail(ErrorCode::kStale, "the manifest is another one now");
  reply.state = ManifestState::kPart;
  reply.total = total;
  reply.part = head_part(*manifest, reply.version, request.offset,
                         std::min({total - static_cast<std::size_t>(request.offset),
                                   frame_max - kAround, kFrameDataMax}));
  return encode_reply(header, reply);
}

Result<Bytes> ManifestAnswers::answer(const FrameHeader& header, const LeavesRequest& request,
                                      std::size_t frame_max) {
  SLIPWAY_TRY_ASSIGN(const std::shared_ptr<OpenImage> image, handles_.find(request.handle));
  SLIPWAY_TRY(image->file->attributes());  // lets the manifest go when the file was changed
  LeavesReply reply;
  const std::shared_ptr<const ManifestFile> file = image->file->manifest();
  if (file == nullptr)
    return encode_reply(header, reply);
  const Manifest& manifest = file->manifest();
  if (request.region >= manifest.regions.size())
    return fail(ErrorCode::kInvalid, "region {} lies behind the end of the image", request.region);
  const std::uint64_t end =
      std::min<std::uint64_t>(request.region + request.count, manifest.regions.size());
  std::size_t size = FrameHeader::kSize + 4;
  for (std::uint64_t region = request.region; region < end; ++region) {
    size += 4 + leaf_count(manifest, region) * kLeafSize;
    if (size > frame_max)
      break;
    SLIPWAY_TRY(file->read_leaves(region, reply.regions.emplace_back()));
  }
  return encode_reply(header, reply);
}

// The image as the profile box knows it. Whoever may not read it has nothing to say of it.
Result<VersionRecord> ManifestAnswers::image_of(const NodeRef& node) {
  SLIPWAY_TRY_ASSIGN(const std::unique_ptr<ImageFile> file, store_.open(node));
  SLIPWAY_TRY_ASSIGN(Attributes attributes, file->attributes());
  SLIPWAY_TRY_ASSIGN(attributes.version.id, file->shared_id());
  return attributes.version;
}

Result<Bytes> ManifestAnswers::answer(const FrameHeader& header, const ProfileRequest& request) {
  SLIPWAY_TRY_ASSIGN(const VersionRecord image, image_of(request.node));
  SLIPWAY_TRY_ASSIGN(Bytes profile, profiles_.get(image, request.role));
  return encode_reply(header, ProfileReply{std::move(profile)});
}

Result<Bytes> ManifestAnswers::answer(const FrameHeader& header, const PutProfileRequest& request) {
  SLIPWAY_TRY_ASSIGN(const VersionRecord image, image_of(request.node));
  SLIPWAY_TRY(profiles_.put(image, request.role, mount_id_, request.profile));
  Bytes frame;
  begin_frame(frame, reply_header(header, false));
  return frame;
}

}  // namespace slipway
