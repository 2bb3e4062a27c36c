// Preloaded into the server: notes what its changes below one directory replace, of content, sizes
// and names, and what fsync and fdatasync cover, so that a test can make of the directory what a
// power cut could have left. The program uses descriptors of directories and relative names.
//
// POWER_CUT_DIRECTORY  what is below it is watched
// POWER_CUT_TRACE      the file to which notes are appended
// POWER_CUT_NO_SYNC    set: syncs do nothing and are not noted
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { kDataBegins = 1, kEnds = 2, kSyncBegins = 3, kSyncEnds = 4, kMade = 5, kRemoved = 6, kRenamed = 7 };

struct note {
  uint64_t what;
  uint64_t id;
  uint64_t inode;   // of the file, or of the directory
  uint64_t offset;  // of the old content
  uint64_t size;    // of the file before
  uint64_t names;   // bytes: of names, with their ends
  uint64_t length;  // bytes: of old content, which follows the names
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static uint64_t last_id;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

// The path of a descriptor, when it is watched.
static int watched_path(int fd, char* path) {
  char link[64];
  const int before = errno;
  const char* const directory = getenv("POWER_CUT_DIRECTORY");
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t length = directory != NULL ? readlink(link, path, PATH_MAX - 1) : -1;
  errno = before;
  if (length < 0)
    return 0;
  path[length] = 0;
  const size_t top = strlen(directory);
  return strncmp(path, directory, top) == 0 && (path[top] == '/' || path[top] == 0);
}

static int is_watched(int fd) {
  char path[PATH_MAX];
  return watched_path(fd, path);
}

static uint64_t put(struct note note, const char* names, const void* old) {
  const int before = errno;
  pthread_mutex_lock(&mutex);
  const char* const after = getenv("POWER_CUT_AFTER");  // what another process has noted before
  if (last_id == 0 && after != NULL)
    last_id = strtoull(after, NULL, 10);
  if (note.id == 0)
    note.id = ++last_id;
  const struct iovec parts[3] = {
      {&note, sizeof note}, {(void*)names, note.names}, {(void*)old, note.length}};
  const int trace =
      REAL(open)(getenv("POWER_CUT_TRACE"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (writev(trace, parts, 3) != (ssize_t)(sizeof note + note.names + note.length))
    abort();
  close(trace);
  pthread_mutex_unlock(&mutex);
  errno = before;
  return note.id;
}

static uint64_t begin_data(int fd, off64_t offset, uint64_t length) {
  struct stat info;
  fstat(fd, &info);
  const uint64_t size = (uint64_t)info.st_size;
  const uint64_t end = (uint64_t)offset + length < size ? (uint64_t)offset + length : size;
  const uint64_t old_length = end > (uint64_t)offset ? end - (uint64_t)offset : 0;
  char* const old = malloc(old_length + 1);
  char self[64];
  snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
  const int reader = REAL(open)(self, O_RDONLY | O_CLOEXEC);  // it may be open for writing only
  const ssize_t got = pread(reader, old, old_length, offset);
  memset(old + (got > 0 ? got : 0), 0, old_length - (uint64_t)(got > 0 ? got : 0));
  close(reader);
  const struct note note = {kDataBegins, 0, info.st_ino, (uint64_t)offset, size, 0, old_length};
  const uint64_t id = put(note, NULL, old);
  free(old);
  return id;
}

static void end_change(uint64_t id) {
  const struct note note = {kEnds, id, 0, 0, 0, 0, 0};
  put(note, NULL, NULL);
}

ssize_t pwrite64(int fd, const void* data, size_t length, off64_t offset) {
  if (!is_watched(fd))
    return REAL(pwrite64)(fd, data, length, offset);
  const uint64_t id = begin_data(fd, offset, length);
  const ssize_t written = REAL(pwrite64)(fd, data, length, offset);
  end_change(id);
  return written;
}

ssize_t pwrite(int fd, const void* data, size_t length, off_t offset) {
  return pwrite64(fd, data, length, offset);
}

ssize_t write(int fd, const void* data, size_t length) {
  if (!is_watched(fd))
    return REAL(write)(fd, data, length);
  const off64_t end = fcntl(fd, F_GETFL) & O_APPEND ? lseek64(fd, 0, SEEK_END) : -1;
  const uint64_t id = begin_data(fd, end >= 0 ? end : lseek64(fd, 0, SEEK_CUR), length);
  const ssize_t written = REAL(write)(fd, data, length);
  end_change(id);
  return written;
}

int ftruncate64(int fd, off64_t size) {
  if (!is_watched(fd))
    return REAL(ftruncate64)(fd, size);
  const uint64_t id = begin_data(fd, size, INT64_MAX - (uint64_t)size);
  const int done = REAL(ftruncate64)(fd, size);
  end_change(id);
  return done;
}

int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

int fallocate64(int fd, int mode, off64_t offset, off64_t length) {
  if (!is_watched(fd))
    return REAL(fallocate64)(fd, mode, offset, length);
  const uint64_t id = begin_data(fd, offset, (uint64_t)length);
  const int done = REAL(fallocate64)(fd, mode, offset, length);
  end_change(id);
  return done;
}

int fallocate(int fd, int mode, off_t offset, off_t length) {
  return fallocate64(fd, mode, offset, length);
}

static int sync_watched(int (*sync_file)(int), int fd) {
  if (!is_watched(fd))
    return sync_file(fd);
  if (getenv("POWER_CUT_NO_SYNC") != NULL)
    return 0;
  struct stat info;
  fstat(fd, &info);
  struct note note = {kSyncBegins, 0, info.st_ino, 0, 0, 0, 0};
  note.id = put(note, NULL, NULL);
  const int result = sync_file(fd);
  note.what = kSyncEnds;
  put(note, NULL, NULL);
  return result;
}

int fdatasync(int fd) { return sync_watched(REAL(fdatasync), fd); }

int fsync(int fd) { return sync_watched(REAL(fsync), fd); }

// Notes a change of names in a directory; `lost` is a name whose file goes, with its content. 0: it
// is not watched.
static uint64_t begin_names(uint64_t what, int directory, const char* first, const char* second,
                            const char* lost) {
  char path[PATH_MAX];
  const int is_path = first[0] == '/' && what != kRenamed;
  if (directory == AT_FDCWD || is_path || !watched_path(directory, path))
    return 0;
  char names[3 * PATH_MAX];
  const int length = snprintf(names, sizeof names, "%s%c%s%c%s", path, 0, first, 0, second) + 1;
  struct stat info, old_info;
  struct note note = {what, 0, 0, 0, UINT64_MAX, (uint64_t)length, 0};
  fstat(directory, &info);
  note.inode = info.st_ino;
  char* old = NULL;
  const int fd = lost != NULL ? REAL(openat)(directory, lost, O_RDONLY | O_NOFOLLOW | O_CLOEXEC) : -1;
  if (fd >= 0 && fstat(fd, &old_info) == 0 && S_ISREG(old_info.st_mode)) {
    note.size = note.length = (uint64_t)old_info.st_size;
    old = malloc(note.length + 1);
    const ssize_t got = pread(fd, old, note.length, 0);
    note.length = got > 0 ? (uint64_t)got : 0;
  }
  if (fd >= 0)
    close(fd);
  const uint64_t id = put(note, names, old);
  free(old);
  return id;
}

static int open_watched(int directory, const char* name, int flags, mode_t mode) {
  const int is_new = (flags & O_CREAT) != 0 && (flags & O_TMPFILE) != O_TMPFILE &&
                     faccessat(directory, name, F_OK, AT_SYMLINK_NOFOLLOW) != 0;
  const uint64_t id = is_new ? begin_names(kMade, directory, name, "", NULL) : 0;
  const int fd = REAL(openat)(directory, name, flags, mode);
  if (id != 0)
    end_change(id);
  return fd;
}

int openat(int directory, const char* name, int flags, ...) {
  va_list list;
  va_start(list, flags);
  const mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(list, mode_t) : 0;
  va_end(list);
  return open_watched(directory, name, flags, mode);
}

int openat64(int directory, const char* name, int flags, ...) {
  va_list list;
  va_start(list, flags);
  const mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(list, mode_t) : 0;
  va_end(list);
  return open_watched(directory, name, flags, mode);
}

int mkdirat(int directory, const char* name, mode_t mode) {
  const int is_new = faccessat(directory, name, F_OK, AT_SYMLINK_NOFOLLOW) != 0;
  const uint64_t id = is_new ? begin_names(kMade, directory, name, "", NULL) : 0;
  const int done = REAL(mkdirat)(directory, name, mode);
  if (id != 0)
    end_change(id);
  return done;
}

int unlinkat(int directory, const char* name, int flags) {
  const uint64_t id = begin_names(kRemoved, directory, name, "", name);
  const int done = REAL(unlinkat)(directory, name, flags);
  if (id != 0)
    end_change(id);
  return done;
}

// A change of the directory that the name goes to; one that comes from elsewhere is noted with its path.
static uint64_t begin_rename(int from, const char* a, int to, const char* b) {
  struct stat one, other;
  char path[PATH_MAX], old[2 * PATH_MAX];
  if (from == AT_FDCWD || to == AT_FDCWD || fstat(from, &one) != 0 || fstat(to, &other) != 0)
    return 0;
  if (one.st_ino == other.st_ino)
    return begin_names(kRenamed, from, a, b, b);
  if (!watched_path(from, path))
    return 0;
  snprintf(old, sizeof old, "%s/%s", path, a);
  return begin_names(kRenamed, to, old, b, b);
}

int renameat(int from, const char* a, int to, const char* b) {
  const uint64_t id = begin_rename(from, a, to, b);
  const int done = REAL(renameat)(from, a, to, b);
  if (id != 0)
    end_change(id);
  return done;
}

int renameat2(int from, const char* a, int to, const char* b, unsigned flags) {
  const uint64_t id = begin_rename(from, a, to, b);
  const int done = REAL(renameat2)(from, a, to, b, flags);
  if (id != 0)
    end_change(id);
  return done;
}
