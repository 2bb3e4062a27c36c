// The operations that change something, as libfuse calls them.
#include "fs/fuse_mount.h"
#include "fs/fuse_operations.h"
#include "fs/fuse_replies.h"
#include "fs/fuse_session.h"
#include "writeback/wall_clock.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <linux/fs.h>
#include <memory>
#include <utility>

namespace slipway {
namespace {

constexpr std::uint32_t kPermissionBits = 07777;

Timestamp timestamp_of(const timespec& time) noexcept {
  return {time.tv_sec, static_cast<std::uint32_t>(time.tv_nsec)};
}

bool is_synchronous(int flags) noexcept {
  return (flags & (O_SYNC | O_DSYNC)) != 0;
}

}  // namespace

/// As FuseOperations: friends of FuseSession.
struct FuseWriteOperations {
  static FuseSession& session(fuse_req_t request) noexcept {
    return *static_cast<FuseSession*>(fuse_req_userdata(request));
  }

  /// Serves what only a writable mount does.
  template <class Body>
  static void serve_change(fuse_req_t request, Body&& body) noexcept {
    FuseSession& fs = session(request);
    if (fs.options_.writeback == nullptr) {
      fuse_reply_err(request, EROFS);
      return;
    }
    serve(fs.requests_, request, [&](const std::shared_ptr<Request>& r) { body(fs, r); });
  }

  /// For what waits for room in the log or for the server, and hands nothing out: who is killed is let
  /// go; the change may still happen. Before that begins: it may bind something better.
  static void let_be_killed(const std::shared_ptr<Request>& r) {
    r->slot()->bind(r->slot()->begin(), [weak = std::weak_ptr<Request>(r)] {
      if (const auto request = weak.lock())
        request->fail_with(ErrorCode::kCancelled);
    });
  }

  static Done<Nothing> answer_plain(const std::shared_ptr<Request>& r) {
    return [r](const Result<Nothing>& done) {
      if (!done)
        return r->fail_with(done.error().code);
      r->finish([](fuse_req_t req) { fuse_reply_err(req, 0); });
    };
  }

  static Done<Entry> answer_entry(FuseSession& fs, const std::shared_ptr<Request>& r) {
    return [&fs, r](const Result<Entry>& entry) {
      if (!entry)
        return r->fail_with(entry.error().code);
      r->finish([&fs, entry = *entry](fuse_req_t req) {
        const fuse_entry_param param = entry_param_of(entry, fs.options_);
        if (fuse_reply_entry(req, &param) != 0)
          fs.table_.forget(entry.nodeid, 1);
      });
    };
  }

  static void create(fuse_req_t request, fuse_ino_t parent, const char* name, mode_t mode,
                     fuse_file_info* info) noexcept {
    serve_change(request, [&](FuseSession& fs, const std::shared_ptr<Request>& r) {
      MakeSpec spec{parent, name, mode & kPermissionBits, {}};
      const bool truncate = (info->flags & O_TRUNC) != 0;
      fs.changes_.make_file(
          spec, (info->flags & O_EXCL) != 0,
          [&fs, r, truncate, opening = *info](const Result<Changes::Created>& made) mutable {
            if (!made)
              return r->fail_with(made.error().code);
            opening.fh = made->opened.id;
            opening.keep_cache = made->opened.keep_pages;
            const auto reply = [&fs, r, opening, entry = made->entry] {
              r->finish([&fs, opening, entry](fuse_req_t req) {
                const fuse_entry_param param = entry_param_of(entry, fs.options_);
                if (fuse_reply_create(req, &param, &opening) != 0) {
                  fs.files_.release(opening.fh);
                  fs.table_.forget(entry.nodeid, 1);
                }
              });
            };
            // Somebody else may have made it, and filled it, since the kernel looked.
            if (!truncate || made->entry.known.attributes.version.size == 0)
              return reply();
            fs.files_.truncate(opening.fh, 0, [r, reply](const Result<Nothing>& cut) {
              if (!cut)
                return r->fail_with(cut.error().code);
              reply();
            });
          },
          r->slot());
    });
  }

  static void mknod(fuse_req_t request, fuse_ino_t parent, const char* name, mode_t mode,
                    dev_t) noexcept {
    serve_change(request, [&](FuseSession& fs, const std::shared_ptr<Request>& r) {
      if (!S_ISREG(mode))
        return r->fail_with(ErrorCode::kNotPermitted);
      fs.changes_.make_file(
          MakeSpec{parent, name, mode & kPermissionBits, {}}, /*exclusive=*/true,
          [&fs, answer = answer_entry(fs, r)](const Result<Changes::Created>& made) {
            if (!made)
              return answer(fail(made.error()));
            fs.files_.release(made->opened.id);
            answer(made->entry);
          },
          r->slot());
    });
  }

  static void mkdir(fuse_req_t request, fuse_ino_t parent, const char* name,
                    mode_t mode) noexcept {
    serve_change(request, [&](FuseSession& fs, const std::shared_ptr<Request>& r) {
      fs.changes_.make_directory(MakeSpec{parent, name, mode & kPermissionBits, {}},
                                 answer_entry(fs, r), r->slot());
    });
  }

  static void symlink(fuse_req_t request, const char* target, fuse_ino_t parent,
                      const char* name) noexcept {
    serve_change(request, [&](FuseSession& fs, const std::shared_ptr<Request>& r) {
      fs.changes_.make_symlink(MakeSpec{parent, name, 0777, target}, answer_entry(fs, r),
                               r->slot());
    });
  }

  static void link(fuse_req_t request, fuse_ino_t nodeid, fuse_ino_t parent,
                   const char* name) noexcept {
    serve_change(request, [&](FuseSession& fs, const std::shared_ptr<Request>& r) {
      fs.changes_.link(nodeid, {parent, name}, answer_entry(fs, r), r->slot());
    });
  }

  static void unlink(fuse_req_t request, fuse_ino_t parent, const char* name) noexcept {
    serve_change(request, [&](FuseSession& fs, const std::shared_ptr<Request>& r) {
      fs.changes_.remove({parent, name}, /*is_directory=*/false, answer_plain(r), r->slot());
    });
  }

  static void rmdir(fuse_req_t request, fuse_ino_t parent, const char* name) noexcept {
    serve_change(request, [&](FuseSession& fs, const std::shared_ptr<Request>& r) {
      fs.changes_.remove({parent, name}, /*is_directory=*/true, answer_plain(r), r->slot());
    });
  }

  static void rename(fuse_req_t request, fuse_ino_t parent, const char* name,
                     fuse_ino_t new_parent, const char* new_name, unsigned flags) noexcept {
    serve_change(request, [&](FuseSession& fs, const std::shared_ptr<Request>& r) {
      std::uint32_t wanted = 0;
      if (flags == RENAME_NOREPLACE)
        wanted = kRenameNoReplace;
      else if (flags == RENAME_EXCHANGE)
        wanted = kRenameExchange;
      else if (flags != 0)
        return r->fail_with(ErrorCode::kInvalid);
      fs.changes_.rename({parent, name}, {new_parent, new_name}, wanted, answer_plain(r),
                         r->slot());
    });
  }

  static void write(fuse_req_t request, fuse_ino_t, const char* data, std::size_t size,
                    off_t offset, fuse_file_info* info) noexcept {
    serve_change(request, [&](FuseSession& fs, const std::shared_ptr<Request>& r) {
      if (offset < 0)
        return r->fail_with(ErrorCode::kInvalid);
      const ByteView bytes(reinterpret_cast<const std::byte*>(data), size);
      let_be_killed(r);
      fs.files_.write(info->fh, static_cast<std::uint64_t>(offset), bytes,
                      is_synchronous(info->flags), [r, size](const Result<Nothing>& written) {
                        if (!written)
                          return r->fail_with(written.error().code);
                        r->finish([size](fuse_req_t req) { fuse_reply_write(req, size); });
                      });
    });
  }

  static void fallocate(fuse_req_t request, fuse_ino_t, int mode, off_t offset, off_t length,
                        fuse_file_info* info) noexcept {
    serve_change(request, [&](FuseSession& fs, const std::shared_ptr<Request>& r) {
      if (offset < 0 || length <= 0)
        return r->fail_with(ErrorCode::kInvalid);
      let_be_killed(r);
      fs.files_.allocate(
          info->fh, mode,
          {static_cast<std::uint64_t>(offset), static_cast<std::uint64_t>(length)},
          answer_plain(r));
    });
  }

  static void copy_file_range(fuse_req_t request, fuse_ino_t, off_t offset_in,
                              fuse_file_info* info_in, fuse_ino_t, off_t offset_out,
                              fuse_file_info* info_out, std::size_t length, int flags) noexcept {
    serve_change(request, [&](FuseSession& fs, const std::shared_ptr<Request>& r) {
      if (offset_in < 0 || offset_out < 0 || flags != 0)
        return r->fail_with(ErrorCode::kInvalid);
      // The reply's field is 32 bits wide.
      const std::uint64_t at_most = std::min<std::uint64_t>(length, std::uint64_t{1} << 30);
      fs.files_.copy({info_in->fh, static_cast<std::uint64_t>(offset_in), info_out->fh,
                      static_cast<std::uint64_t>(offset_out), at_most},
                     [r](const Result<std::uint64_t>& copied) {
                       if (!copied)
                         return r->fail_with(copied.error().code);
                       r->finish([n = *copied](fuse_req_t req) { fuse_reply_write(req, n); });
                     },
                     r->slot());
    });
  }

  /// Of a mount that changes nothing there is nothing to sync.
  static void fsync(fuse_req_t request, fuse_ino_t, int, fuse_file_info* info) noexcept {
    FuseSession& fs = session(request);
    serve(fs.requests_, request, [&](const std::shared_ptr<Request>& r) {
      let_be_killed(r);
      fs.files_.sync(info->fh, answer_plain(r));
    });
  }

  static void fsyncdir(fuse_req_t request, fuse_ino_t nodeid, int, fuse_file_info*) noexcept {
    FuseSession& fs = session(request);
    serve(fs.requests_, request, [&](const std::shared_ptr<Request>& r) {
      if (fs.options_.writeback == nullptr)
        return r->finish([](fuse_req_t req) { fuse_reply_err(req, 0); });
      fs.changes_.sync(nodeid, answer_plain(r), r->slot());
    });
  }

  /// What setattr() asks for besides the size. False: who the mount shows as the owner can't be
  /// changed.
  static bool change_of(const FuseSession& fs, const struct stat& wanted, int to_set,
                        AttributeChange& change) noexcept {
    if ((to_set & FUSE_SET_ATTR_MODE) != 0) {
      change.mask |= kSetMode;
      change.mode = wanted.st_mode & kPermissionBits;
    }
    const bool as_user = fs.options_.idmap == IdMap::kUser;
    if ((to_set & FUSE_SET_ATTR_UID) != 0) {
      if (as_user && wanted.st_uid != fs.options_.uid)
        return false;
      change.mask |= as_user ? 0U : std::uint32_t{kSetUid};
      change.uid = wanted.st_uid;
    }
    if ((to_set & FUSE_SET_ATTR_GID) != 0) {
      if (as_user && wanted.st_gid != fs.options_.gid)
        return false;
      change.mask |= as_user ? 0U : std::uint32_t{kSetGid};
      change.gid = wanted.st_gid;
    }
    if ((to_set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_ATIME_NOW)) != 0) {
      change.mask |= kSetAtime;
      change.atime = (to_set & FUSE_SET_ATTR_ATIME_NOW) != 0 ? wall_clock()
                                                             : timestamp_of(wanted.st_atim);
    }
    if ((to_set & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW)) != 0) {
      change.mask |= kSetMtime;
      change.mtime = (to_set & FUSE_SET_ATTR_MTIME_NOW) != 0 ? wall_clock()
                                                             : timestamp_of(wanted.st_mtim);
    }
    return true;
  }

  static void setattr(fuse_req_t request, fuse_ino_t nodeid, struct stat* wanted, int to_set,
                      fuse_file_info* info) noexcept {
    serve_change(request, [&](FuseSession& fs, const std::shared_ptr<Request>& r) {
      AttributeChange change;
      if (!change_of(fs, *wanted, to_set, change))
        return r->fail_with(ErrorCode::kNotPermitted);
      const Done<TimedAttributes> reply = [&fs, r](const Result<TimedAttributes>& known) {
        if (!known)
          return r->fail_with(known.error().code);
        r->finish([&fs, known = *known](fuse_req_t req) {
          const struct stat st = stat_of(known.attributes, fs.options_);
          fuse_reply_attr(req, &st, seconds(known.valid));
        });
      };
      const auto others = [&fs, r, nodeid, change, reply] {
        if (change.mask == 0)
          return fs.names_.getattr(nodeid, reply, r->slot());
        fs.changes_.setattr(nodeid, change, reply, r->slot());
      };
      if ((to_set & FUSE_SET_ATTR_SIZE) == 0)
        return others();
      if (wanted->st_size < 0)
        return r->fail_with(ErrorCode::kInvalid);
      const auto size = static_cast<std::uint64_t>(wanted->st_size);
      const Done<Nothing> cut = [r, others](const Result<Nothing>& done) {
        if (!done)
          return r->fail_with(done.error().code);
        others();
      };
      if (info == nullptr)
        return fs.files_.truncate_node(nodeid, size, cut, r->slot());
      let_be_killed(r);
      fs.files_.truncate(info->fh, size, cut);
    });
  }

  static void setxattr(fuse_req_t request, fuse_ino_t, const char*, const char*, std::size_t,
                       int) noexcept {
    fuse_reply_err(request, EOPNOTSUPP);
  }

  static void removexattr(fuse_req_t request, fuse_ino_t, const char*) noexcept {
    fuse_reply_err(request, EOPNOTSUPP);
  }
};

void add_write_operations(fuse_lowlevel_ops& ops) noexcept {
  ops.setattr = FuseWriteOperations::setattr;
  ops.mknod = FuseWriteOperations::mknod;
  ops.mkdir = FuseWriteOperations::mkdir;
  ops.unlink = FuseWriteOperations::unlink;
  ops.rmdir = FuseWriteOperations::rmdir;
  ops.symlink = FuseWriteOperations::symlink;
  ops.rename = FuseWriteOperations::rename;
  ops.link = FuseWriteOperations::link;
  ops.create = FuseWriteOperations::create;
  ops.write = FuseWriteOperations::write;
  ops.fallocate = FuseWriteOperations::fallocate;
  ops.copy_file_range = FuseWriteOperations::copy_file_range;
  ops.fsync = FuseWriteOperations::fsync;
  ops.fsyncdir = FuseWriteOperations::fsyncdir;
  ops.setxattr = FuseWriteOperations::setxattr;
  ops.removexattr = FuseWriteOperations::removexattr;
}

}  // namespace slipway
