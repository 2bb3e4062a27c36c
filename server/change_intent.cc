#include "server/change_intent.h"

#include "wire/codec.h"
#include "wire/fields.h"

#include <unistd.h>

namespace slipway {

namespace {

/// What stood at a name.
struct Sighting {
  bool is_there = false;
  std::uint64_t inode = 0;
  Timestamp birth;

  friend bool operator==(const Sighting&, const Sighting&) = default;
};

Sighting sighting_of(const Result<Attributes>& found) {
  if (!found)
    return {};
  return {true, found->version.id.inode, found->version.birth};
}

Bytes encode_sightings(std::initializer_list<Sighting> sightings) {
  Bytes bytes;
  WireWriter writer(bytes);
  for (const Sighting& seen : sightings) {
    put_bool(writer, seen.is_there);
    writer.u64(seen.inode);
    put(writer, seen.birth);
  }
  return bytes;
}

Sighting get_sighting(WireReader& from) noexcept {
  Sighting seen;
  seen.is_there = get_bool(from);
  seen.inode = from.u64();
  seen.birth = get_timestamp(from);
  return seen;
}

/// Both names of a change, or one and nothing.
struct Intent {
  bool good = false;
  Sighting first;
  Sighting second;
};

Intent decode_intent(ByteView bytes, bool has_second) {
  WireReader from(bytes);
  Intent intent;
  intent.first = get_sighting(from);
  if (has_second)
    intent.second = get_sighting(from);
  intent.good = from.finish("intent").has_value();
  return intent;
}

template <class T>
Bytes encoded(const T& reply) {
  Bytes body;
  encode(body, reply);
  return body;
}

bool is_as_made(ImageStore& store, const MakeRequest& request, const Attributes& found) {
  if (found.uid != ::geteuid())
    return false;
  switch (request.kind) {
    case MakeKind::kFile:
      return found.type == FileType::kRegular && found.version.size == 0;
    case MakeKind::kDirectory:
      return found.type == FileType::kDirectory;
    case MakeKind::kSymlink:
      break;
  }
  if (found.type != FileType::kSymlink)
    return false;
  const Result<std::string> target =
      store.readlink({path_below(request.directory.path, request.name), found.version.id});
  return target && *target == request.target;
}

}  // namespace

std::string path_below(const std::string& directory, const std::string& name) {
  return directory.empty() ? name : directory + "/" + name;
}

Bytes intent_of(ImageStore& store, const MakeRequest& request) {
  return encode_sightings({sighting_of(store.lookup(request.directory, request.name))});
}

Bytes intent_of(ImageStore& store, const LinkRequest& request) {
  return encode_sightings({sighting_of(store.getattr(request.file)),
                           sighting_of(store.lookup(request.directory, request.name))});
}

Bytes intent_of(ImageStore& store, const RemoveRequest& request) {
  return encode_sightings({sighting_of(store.lookup(request.directory, request.name))});
}

Bytes intent_of(ImageStore& store, const RenameRequest& request) {
  return encode_sightings({sighting_of(store.lookup(request.from, request.from_name)),
                           sighting_of(store.lookup(request.to, request.to_name))});
}

Bytes intent_of(ImageStore&, const SetattrRequest&) {
  return {};
}

Bytes intent_of(ImageStore&, const CopyRequest&) {
  return {};
}

std::optional<Bytes> done_since(ByteView intent, ImageStore& store, const MakeRequest& request) {
  const Intent was = decode_intent(intent, false);
  const Result<Attributes> now = store.lookup(request.directory, request.name);
  if (!was.good || was.first.is_there || !now || !is_as_made(store, request, *now))
    return std::nullopt;
  return encoded(MakeReply{true, *now});
}

std::optional<Bytes> done_since(ByteView intent, ImageStore& store, const LinkRequest& request) {
  const Intent was = decode_intent(intent, true);
  const Result<Attributes> now = store.lookup(request.directory, request.name);
  if (!was.good || !was.first.is_there || was.second.is_there || sighting_of(now) != was.first)
    return std::nullopt;
  return encoded(*now);
}

std::optional<Bytes> done_since(ByteView intent, ImageStore& store, const RemoveRequest& request) {
  const Intent was = decode_intent(intent, false);
  const Result<Attributes> now = store.lookup(request.directory, request.name);
  // That it can't be looked for is no sign of anything.
  if (!was.good || !was.first.is_there || (!now && now.error().code != ErrorCode::kNotFound) ||
      sighting_of(now) == was.first)
    return std::nullopt;
  return Bytes();
}

std::optional<Bytes> done_since(ByteView intent, ImageStore& store, const RenameRequest& request) {
  const Intent was = decode_intent(intent, true);
  const Result<Attributes> from = store.lookup(request.from, request.from_name);
  const Result<Attributes> to = store.lookup(request.to, request.to_name);
  const bool is_exchange = (request.flags & kRenameExchange) != 0;
  // Two names of one file: nothing tells whether it was done, and nothing is lost by doing it.
  if (!was.good || !was.first.is_there || was.first == was.second || sighting_of(to) != was.first ||
      sighting_of(from) == was.first || (is_exchange && sighting_of(from) != was.second))
    return std::nullopt;
  return encoded(*to);
}

std::optional<Bytes> done_since(ByteView, ImageStore&, const SetattrRequest&) {
  return std::nullopt;
}

std::optional<Bytes> done_since(ByteView, ImageStore&, const CopyRequest&) {
  return std::nullopt;
}

}  // namespace slipway
