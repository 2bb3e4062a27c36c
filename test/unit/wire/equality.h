#pragma once

#include "wire/lease_messages.h"
#include "wire/manifest_messages.h"
#include "wire/messages.h"
#include "wire/read_messages.h"
#include "wire/setup.h"
#include "wire/write_messages.h"

#include <algorithm>

// Equality of messages, member by member, for tests; the product never compares most of them.

namespace slipway {

template <class M>

requires requires(const M& a, const M& b) {
  a == b;
}

bool same(const M& a, const M& b) {
  return a == b;
}

inline bool same(const LookupRequest& a, const LookupRequest& b) {
  return a.directory == b.directory && a.name == b.name;
}

inline bool same(const GetattrRequest& a, const GetattrRequest& b) {
  return a.handle == b.handle && a.node == b.node;
}

inline bool same(const ReaddirRequest& a, const ReaddirRequest& b) {
  return a.directory == b.directory && a.cursor == b.cursor && a.entries_max == b.entries_max;
}

inline bool same(const ReaddirReply& a, const ReaddirReply& b) {
  return a.entries == b.entries && a.end == b.end;
}

inline bool same(const ReadlinkRequest& a, const ReadlinkRequest& b) {
  return a.node == b.node;
}

inline bool same(const ReadlinkReply& a, const ReadlinkReply& b) {
  return a.target == b.target;
}

inline bool same(const StatfsRequest& a, const StatfsRequest& b) {
  return a.node == b.node;
}

inline bool same(const OpenRequest& a, const OpenRequest& b) {
  return a.handle == b.handle && a.node == b.node && a.flags == b.flags;
}

inline bool same(const CloseRequest& a, const CloseRequest& b) {
  return a.handle == b.handle;
}

inline bool same(const CancelRequest& a, const CancelRequest& b) {
  return a.cookie == b.cookie;
}

inline bool same(const ReadRequest& a, const ReadRequest& b) {
  return a.accept_zstd == b.accept_zstd && a.want_leaves == b.want_leaves && a.extents == b.extents;
}

inline bool same(const ReadReply& a, const ReadReply& b) {
  return a.files == b.files && a.segments == b.segments &&
         std::equal(a.data.begin(), a.data.end(), b.data.begin(), b.data.end());
}

inline bool same(const ConfirmRequest& a, const ConfirmRequest& b) {
  return a.handle == b.handle && a.regions == b.regions;
}

inline bool same(const ConfirmReply& a, const ConfirmReply& b) {
  return a.version == b.version && a.young == b.young && a.equal == b.equal;
}

inline bool same(const ManifestRequest& a, const ManifestRequest& b) {
  return a.node == b.node && a.offset == b.offset && a.known == b.known;
}

inline bool same(const ManifestReply& a, const ManifestReply& b) {
  return a.state == b.state && a.version == b.version && a.total == b.total && a.part == b.part;
}

inline bool same(const LeavesRequest& a, const LeavesRequest& b) {
  return a.handle == b.handle && a.region == b.region && a.count == b.count;
}

inline bool same(const LeavesReply& a, const LeavesReply& b) {
  return a.regions == b.regions;
}

inline bool same(const ProfileRequest& a, const ProfileRequest& b) {
  return a.node == b.node && a.role == b.role;
}

inline bool same(const ProfileReply& a, const ProfileReply& b) {
  return a.profile == b.profile;
}

inline bool same(const PutProfileRequest& a, const PutProfileRequest& b) {
  return a.node == b.node && a.role == b.role && a.profile == b.profile;
}

inline bool same(const MakeRequest& a, const MakeRequest& b) {
  return a.operation == b.operation && a.kind == b.kind && a.directory == b.directory &&
         a.name == b.name && a.mode == b.mode && a.target == b.target && a.handle == b.handle &&
         a.exclusive == b.exclusive && a.even_published == b.even_published;
}

inline bool same(const MakeReply& a, const MakeReply& b) {
  return a.made == b.made && a.attributes == b.attributes;
}

inline bool same(const LinkRequest& a, const LinkRequest& b) {
  return a.operation == b.operation && a.file == b.file && a.directory == b.directory &&
         a.name == b.name;
}

inline bool same(const RemoveRequest& a, const RemoveRequest& b) {
  return a.operation == b.operation && a.directory == b.directory && a.name == b.name &&
         a.is_directory == b.is_directory;
}

inline bool same(const RenameRequest& a, const RenameRequest& b) {
  return a.operation == b.operation && a.from == b.from && a.from_name == b.from_name &&
         a.to == b.to && a.to_name == b.to_name && a.flags == b.flags;
}

inline bool same(const SetattrRequest& a, const SetattrRequest& b) {
  return a.operation == b.operation && a.handle == b.handle && a.node == b.node &&
         a.mask == b.mask && a.mode == b.mode && a.uid == b.uid && a.gid == b.gid &&
         a.atime == b.atime && a.mtime == b.mtime;
}

inline bool same(const CopyRequest& a, const CopyRequest& b) {
  return a.operation == b.operation && a.from == b.from && a.from_offset == b.from_offset &&
         a.to == b.to && a.to_offset == b.to_offset && a.length == b.length;
}

inline bool same(const ChangeReply& a, const ChangeReply& b) {
  return a.before == b.before && a.after == b.after && a.bytes == b.bytes;
}

inline bool same(const SyncRequest& a, const SyncRequest& b) {
  return a.node == b.node;
}

inline bool same(const StageRequest& a, const StageRequest& b) {
  return a.group == b.group && a.checkpoint == b.checkpoint && a.part == b.part &&
         a.extents == b.extents &&
         std::equal(a.data.begin(), a.data.end(), b.data.begin(), b.data.end());
}

inline bool same(const CommitFile& a, const CommitFile& b) {
  return a.node == b.node && a.handle == b.handle && a.base == b.base && a.keep == b.keep &&
         a.size == b.size && a.mtime == b.mtime && a.make == b.make;
}

inline bool same(const CommitRequest& a, const CommitRequest& b) {
  return a.group == b.group && a.checkpoint == b.checkpoint && a.parts == b.parts &&
         a.even_published == b.even_published &&
         std::equal(a.files.begin(), a.files.end(), b.files.begin(), b.files.end(),
                    [](const CommitFile& x, const CommitFile& y) { return same(x, y); });
}

inline bool same(const CommitResult& a, const CommitResult& b) {
  return a.status == b.status && a.conflict_name == b.conflict_name &&
         a.attributes == b.attributes;
}

inline bool same(const CommitReply& a, const CommitReply& b) {
  return std::equal(a.files.begin(), a.files.end(), b.files.begin(), b.files.end(),
                    [](const CommitResult& x, const CommitResult& y) { return same(x, y); });
}

inline bool same(const LeaseRequest& a, const LeaseRequest& b) {
  return a.action == b.action && a.path == b.path && a.group == b.group && a.epoch == b.epoch &&
         a.unsent_bytes == b.unsent_bytes;
}

inline bool same(const LeaseReply& a, const LeaseReply& b) {
  return a.outcome == b.outcome && a.whole_export == b.whole_export && a.more == b.more &&
         a.leases == b.leases;
}

inline bool same(const PrepareRequest& a, const PrepareRequest& b) {
  return a.directory == b.directory && a.name == b.name && a.files == b.files &&
         a.directories == b.directories && a.tidy == b.tidy && a.kept == b.kept;
}

inline bool same(const PrepareReply& a, const PrepareReply& b) {
  return a.may_make == b.may_make && a.exists == b.exists && a.files == b.files &&
         a.directories == b.directories;
}

inline bool same(const RecordHeader& a, const RecordHeader& b) {
  return a.length == b.length && a.kind == b.kind;
}

inline bool same(const ClientSetup& a, const ClientSetup& b) {
  return a.version_min == b.version_min && a.version_max == b.version_max &&
         a.features == b.features && a.secret == b.secret && a.client_id == b.client_id &&
         a.mount_id == b.mount_id && a.suites == b.suites && a.connections == b.connections &&
         a.export_path == b.export_path && a.client_name == b.client_name;
}

inline bool same(const ServerSetup& a, const ServerSetup& b) {
  return a.error == b.error && a.error_message == b.error_message && a.version == b.version &&
         a.features == b.features && a.secret == b.secret && a.session_id == b.session_id &&
         a.suite == b.suite && a.data_port == b.data_port && a.addresses == b.addresses &&
         a.requests_in_flight_max == b.requests_in_flight_max &&
         a.bytes_in_flight_max == b.bytes_in_flight_max && a.export_id == b.export_id &&
         a.initialised == b.initialised && a.read_only == b.read_only && a.uid == b.uid &&
         a.gid == b.gid && a.machine_id == b.machine_id && a.export_root == b.export_root &&
         a.root == b.root;
}

}  // namespace slipway
