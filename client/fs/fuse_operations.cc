#include "fs/fuse_operations.h"

#include "fs/directory_reply.h"
#include "fs/fuse_mount.h"
#include "fs/fuse_replies.h"
#include "fs/fuse_session.h"
#include "fs/read_reply.h"
#include "fs/stat.h"

#include <cerrno>
#include <chrono>
#include <fcntl.h>
#include <memory>
#include <unistd.h>
#include <utility>

namespace slipway {
namespace {

// init: what the kernel may do, and why.

void wish(fuse_conn_info* connection, unsigned flag, bool on) noexcept {
  if (on)
    connection->want |= connection->capable & flag;
  else
    connection->want &= ~flag;
}

void init(void*, fuse_conn_info* connection) noexcept {
  // Several reads of one file at once, and in any order: a miss must not hold up the others.
  wish(connection, FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO, true);
  // Lookups in one directory need not wait for each other: each is a round trip.
  wish(connection, FUSE_CAP_PARALLEL_DIROPS, true);
  // Attributes come with names, for as long as the kernel sees that they are used.
  wish(connection, FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO, true);
  // Replies are spliced from the cache file. Pages are not moved: they would leave the cache file's
  // page cache, where the next open of the image wants them.
  wish(connection, FUSE_CAP_SPLICE_WRITE, true);
  wish(connection, FUSE_CAP_SPLICE_MOVE | FUSE_CAP_SPLICE_READ, false);
  // We say which pages are old; a new mtime alone (write-back, touch) must not drop a guest's disk.
  wish(connection, FUSE_CAP_AUTO_INVAL_DATA, false);
  wish(connection, FUSE_CAP_EXPLICIT_INVAL_DATA, true);
  // The kernel's write-back cache has corrupted files of network file systems.
  wish(connection, FUSE_CAP_WRITEBACK_CACHE, false);
  // Locks stay in this kernel, where all monitors of this host meet.
  wish(connection, FUSE_CAP_POSIX_LOCKS | FUSE_CAP_FLOCK_LOCKS, false);
  // Node numbers are of this mount: no file handles to keep over it.
  wish(connection, FUSE_CAP_EXPORT_SUPPORT, false);
  // Whether a target is contained depends on where the link is: it is asked for each time.
  wish(connection, FUSE_CAP_CACHE_SYMLINKS, false);
  // O_TRUNC reaches open(), which answers it.
  wish(connection, FUSE_CAP_ATOMIC_O_TRUNC, true);

  connection->max_read = kMaxRead;
  connection->max_readahead = 1024 * 1024;  // bytes; our own read-ahead is behind it
  // Waiting misses must not keep hits out of the kernel's queue. Our own limits bound the work.
  connection->max_background = 1024;
  connection->congestion_threshold = 1024;
  connection->time_gran = 1;
}

}  // namespace

/// The static functions that libfuse calls, as friends of FuseSession.
struct FuseOperations {
  static FuseSession& session(fuse_req_t request) noexcept {
    return *static_cast<FuseSession*>(fuse_req_userdata(request));
  }

  // Names.

  static void lookup(fuse_req_t request, fuse_ino_t parent, const char* name) noexcept {
    FuseSession& fs = session(request);
    serve(fs.requests_, request, [&](const std::shared_ptr<Request>& r) {
      fs.names_.lookup(
          parent, name,
          [&fs, r](Result<Entry> entry) {
            if (!entry)
              return r->fail_with(entry.error().code);
            r->finish([&fs, entry = *entry](fuse_req_t req) {
              const fuse_entry_param param = entry_param_of(entry, fs.options_);
              // A kernel that is gone has not taken the lookup.
              if (fuse_reply_entry(req, &param) != 0 && entry.nodeid != 0)
                fs.table_.forget(entry.nodeid, 1);
            });
          },
          r->slot());
    });
  }

  static void forget(fuse_req_t request, fuse_ino_t nodeid, std::uint64_t lookups) noexcept {
    session(request).table_.forget(nodeid, lookups);
    fuse_reply_none(request);
  }

  static void forget_multi(fuse_req_t request, std::size_t count,
                           fuse_forget_data* forgets) noexcept {
    for (std::size_t i = 0; i < count; ++i)
      session(request).table_.forget(forgets[i].ino, forgets[i].nlookup);
    fuse_reply_none(request);
  }

  static void getattr(fuse_req_t request, fuse_ino_t nodeid, fuse_file_info*) noexcept {
    FuseSession& fs = session(request);
    serve(fs.requests_, request, [&](const std::shared_ptr<Request>& r) {
      fs.names_.getattr(
          nodeid,
          [&fs, r](Result<TimedAttributes> known) {
            if (!known)
              return r->fail_with(known.error().code);
            r->finish([&fs, known = *known](fuse_req_t req) {
              const struct stat st = stat_of(known.attributes, fs.options_);
              fuse_reply_attr(req, &st, seconds(known.valid));
            });
          },
          r->slot());
    });
  }

  static void readlink(fuse_req_t request, fuse_ino_t nodeid) noexcept {
    FuseSession& fs = session(request);
    serve(fs.requests_, request, [&](const std::shared_ptr<Request>& r) {
      fs.names_.readlink(
          nodeid,
          [r](Result<std::string> target) {
            if (!target)
              return r->fail_with(target.error().code);
            r->finish([target = std::move(*target)](fuse_req_t req) {
              fuse_reply_readlink(req, target.c_str());
            });
          },
          r->slot());
    });
  }

  static void statfs(fuse_req_t request, fuse_ino_t nodeid) noexcept {
    FuseSession& fs = session(request);
    serve(fs.requests_, request, [&](const std::shared_ptr<Request>& r) {
      fs.names_.statfs(
          nodeid,
          [r](Result<StatfsReply> answer) {
            if (!answer)
              return r->fail_with(answer.error().code);
            r->finish([answer = *answer](fuse_req_t req) {
              struct statvfs st = {};
              st.f_bsize = st.f_frsize = 4096;
              st.f_blocks = answer.blocks;
              st.f_bfree = answer.blocks_free;
              st.f_bavail = answer.blocks_available;
              st.f_files = answer.files;
              st.f_ffree = st.f_favail = answer.files_free;
              st.f_namemax = answer.name_max;
              fuse_reply_statfs(req, &st);
            });
          },
          r->slot());
    });
  }

  // Directories.

  static void opendir(fuse_req_t request, fuse_ino_t nodeid, fuse_file_info* info) noexcept {
    FuseSession& fs = session(request);
    serve(fs.requests_, request, [&](const std::shared_ptr<Request>& r) {
      auto directory = fs.names_.open_directory(nodeid);
      if (!directory)
        return r->fail_with(directory.error().code);
      fuse_file_info opened = *info;
      opened.fh = fs.insert_directory(std::move(*directory));
      r->finish([&fs, opened](fuse_req_t req) {
        if (fuse_reply_open(req, &opened) != 0)
          fs.release_directory(opened.fh);
      });
    });
  }

  static void releasedir(fuse_req_t request, fuse_ino_t, fuse_file_info* info) noexcept {
    session(request).release_directory(info->fh);
    fuse_reply_err(request, 0);
  }

  static void read_directory(fuse_req_t request, std::size_t size, off_t offset,
                             const fuse_file_info* info, bool with_attributes) noexcept {
    FuseSession& fs = session(request);
    serve(fs.requests_, request, [&](const std::shared_ptr<Request>& r) {
      const auto directory = fs.find_directory(info->fh);
      if (!directory)
        return r->fail_with(ErrorCode::kBadHandle);
      if (offset < 0)
        return r->fail_with(ErrorCode::kInvalid);
      const auto from = static_cast<std::uint64_t>(offset);
      if (from == 0)
        directory->rewind();
      directory->load(
          from < kDotEntries ? 0 : from - kDotEntries,
          [&fs, r, directory, size, from, with_attributes](Result<Directory::Loaded> chunk) {
            if (!chunk)
              return r->fail_with(chunk.error().code);
            r->finish([&fs, directory, size, from, with_attributes,
                       chunk = std::move(*chunk)](fuse_req_t req) {
              DirectoryReply reply(req, fs.names_, fs.table_, fs.options_, size, with_attributes);
              reply.fill(*directory, *chunk, from);
              reply.send();
            });
          },
          r->slot());
    });
  }

  static void readdir(fuse_req_t request, fuse_ino_t, std::size_t size, off_t offset,
                      fuse_file_info* info) noexcept {
    read_directory(request, size, offset, info, false);
  }

  static void readdirplus(fuse_req_t request, fuse_ino_t, std::size_t size, off_t offset,
                          fuse_file_info* info) noexcept {
    read_directory(request, size, offset, info, true);
  }

  // Files.

  static void open(fuse_req_t request, fuse_ino_t nodeid, fuse_file_info* info) noexcept {
    FuseSession& fs = session(request);
    OpenMode mode;
    mode.write = (info->flags & O_ACCMODE) != O_RDONLY;
    mode.truncate = (info->flags & O_TRUNC) != 0;
    const bool is_read_only = fs.options_.writeback == nullptr;
    if (is_read_only && fs.options_.writable_opens && (info->flags & O_ACCMODE) == O_RDWR)
      mode.write = false;
    if (is_read_only && (mode.write || mode.truncate)) {
      fuse_reply_err(request, EROFS);
      return;
    }
    serve(fs.requests_, request, [&](const std::shared_ptr<Request>& r) {
      fs.files_.open(
          nodeid, mode,
          [&fs, r, opening = *info](Result<Files::Opened> opened) mutable {
            if (!opened)
              return r->fail_with(opened.error().code);
            opening.fh = opened->id;
            opening.keep_cache = opened->keep_pages;
            opening.noflush = 1;  // there is nothing to flush
            r->finish([&fs, opening](fuse_req_t req) {
              if (fuse_reply_open(req, &opening) != 0)
                fs.files_.release(opening.fh);
            });
          },
          r->slot());
    });
  }

  static void release(fuse_req_t request, fuse_ino_t, fuse_file_info* info) noexcept {
    session(request).files_.release(info->fh);
    fuse_reply_err(request, 0);
  }

  static void reply_content(fuse_req_t request, const Content& content) {
    const auto plan = plan_read_reply(content);
    if (!plan) {
      fuse_reply_err(request, reply_errno(plan.error().code));
    } else if (plan->fd >= 0) {
      fuse_bufvec buffer = FUSE_BUFVEC_INIT(plan->length);
      buffer.buf[0].flags = static_cast<fuse_buf_flags>(FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK);
      buffer.buf[0].fd = plan->fd;
      buffer.buf[0].pos = static_cast<off_t>(plan->offset);
      fuse_reply_data(request, &buffer, static_cast<fuse_buf_copy_flags>(0));
    } else {
      fuse_reply_iov(request, plan->memory.data(), static_cast<int>(plan->memory.size()));
    }
  }

  static void read(fuse_req_t request, fuse_ino_t, std::size_t size, off_t offset,
                   fuse_file_info* info) noexcept {
    FuseSession& fs = session(request);
    serve(fs.requests_, request, [&](const std::shared_ptr<Request>& r) {
      const ByteRange range{static_cast<std::uint64_t>(offset), size};
      if (offset < 0 || !is_valid(range))
        return r->fail_with(ErrorCode::kInvalid);
      fs.files_.read(
          info->fh, range,
          [r](Result<Content> content) {
            if (!content)
              return r->fail_with(content.error().code);
            r->finish(
                [content = std::move(*content)](fuse_req_t req) { reply_content(req, content); });
          },
          r->slot());
    });
  }

  static void lseek(fuse_req_t request, fuse_ino_t, off_t offset, int whence,
                    fuse_file_info* info) noexcept {
    FuseSession& fs = session(request);
    serve(fs.requests_, request, [&](const std::shared_ptr<Request>& r) {
      if (offset < 0 || (whence != SEEK_DATA && whence != SEEK_HOLE))
        return r->fail_with(ErrorCode::kInvalid);
      fs.files_.seek(
          info->fh, static_cast<std::uint64_t>(offset),
          whence == SEEK_DATA ? SeekFor::kData : SeekFor::kHole,
          [r](Result<std::uint64_t> found) {
            if (!found) {
              const bool behind = found.error().code == ErrorCode::kNotFound;
              const int error = behind ? ENXIO : reply_errno(found.error().code);
              return r->finish([error](fuse_req_t req) { fuse_reply_err(req, error); });
            }
            r->finish(
                [at = *found](fuse_req_t req) { fuse_reply_lseek(req, static_cast<off_t>(at)); });
          },
          r->slot());
    });
  }

  static void ioctl(fuse_req_t request, fuse_ino_t, unsigned command, void*, fuse_file_info* info,
                    unsigned flags, const void*, std::size_t, std::size_t out_size) noexcept {
    FuseSession& fs = session(request);
    serve(fs.requests_, request, [&](const std::shared_ptr<Request>& r) {
      if (command != kPrefetchIoctl || out_size < sizeof(PrefetchReport) ||
          (flags & FUSE_IOCTL_DIR) != 0)
        return r->finish([](fuse_req_t req) { fuse_reply_err(req, ENOTTY); });
      const Result<PrefetchReport> report = fs.files_.prefetch(info->fh);
      if (!report)
        return r->fail_with(report.error().code);
      r->finish([report = *report](fuse_req_t req) {
        fuse_reply_ioctl(req, 0, &report, sizeof report);
      });
    });
  }

  /// Only asked without default_permissions, on a mount of and for one user.
  static void access(fuse_req_t request, fuse_ino_t nodeid, int mask) noexcept {
    const auto node = session(request).table_.find(nodeid);
    int error = 0;
    if (!node)
      error = ESTALE;
    else if ((mask & W_OK) != 0 && session(request).options_.writeback == nullptr)
      error = EROFS;
    else if ((mask & X_OK) != 0 && node->attributes.type == FileType::kRegular &&
             (stat_of(node->attributes, session(request).options_).st_mode & 0111) == 0)
      error = EACCES;
    fuse_reply_err(request, error);
  }
};

const fuse_lowlevel_ops& fuse_operations() noexcept {
  // Left out on purpose, so that the kernel remembers ENOSYS and stops asking: getxattr, listxattr
  // (EOPNOTSUPP from then on), flush (success), poll, bmap; getlk, setlk, flock (the kernel's local
  // locks).
  static const fuse_lowlevel_ops operations = [] {
    fuse_lowlevel_ops ops = {};
    ops.init = init;
    ops.lookup = FuseOperations::lookup;
    ops.forget = FuseOperations::forget;
    ops.forget_multi = FuseOperations::forget_multi;
    ops.getattr = FuseOperations::getattr;
    ops.readlink = FuseOperations::readlink;
    ops.statfs = FuseOperations::statfs;
    ops.opendir = FuseOperations::opendir;
    ops.releasedir = FuseOperations::releasedir;
    ops.readdir = FuseOperations::readdir;
    ops.readdirplus = FuseOperations::readdirplus;
    ops.open = FuseOperations::open;
    ops.release = FuseOperations::release;
    ops.read = FuseOperations::read;
    ops.lseek = FuseOperations::lseek;
    ops.ioctl = FuseOperations::ioctl;
    ops.access = FuseOperations::access;
    add_write_operations(ops);
    return ops;
  }();
  return operations;
}

}  // namespace slipway
