// Preloaded into a program: notes what its writes to the files of one directory replace, and what
// fdatasync and fsync cover, so that a test can make of the files what a power cut could have left.
//
// POWER_CUT_DIRECTORY  files below it are watched
// POWER_CUT_TRACE      the file to which notes are appended
// POWER_CUT_NO_SYNC    set: syncs do nothing and are not noted
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { kWriteBegins = 1, kWriteEnds = 2, kSyncBegins = 3, kSyncEnds = 4 };

struct note {
  uint64_t what;
  uint64_t id;
  uint64_t inode;
  uint64_t offset;
  uint64_t length;  // of the old content that follows
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static uint64_t last_id;

static int is_watched(int fd) {
  char link[64], path[PATH_MAX];
  const char* const directory = getenv("POWER_CUT_DIRECTORY");
  if (directory == NULL)
    return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0)
    return 0;
  path[length] = 0;
  const size_t top = strlen(directory);
  return strncmp(path, directory, top) == 0 && path[top] == '/';
}

static uint64_t tell(uint64_t what, uint64_t id, int fd, uint64_t offset, uint64_t length) {
  struct stat info;
  fstat(fd, &info);
  char* old = length != 0 ? malloc(length) : NULL;
  if (length != 0) {
    const ssize_t got = pread(fd, old, length, (off_t)offset);
    memset(old + (got > 0 ? got : 0), 0, length - (size_t)(got > 0 ? got : 0));
  }
  pthread_mutex_lock(&mutex);
  if (id == 0)
    id = ++last_id;
  struct note note = {what, id, info.st_ino, offset, length};
  const struct iovec parts[2] = {{&note, sizeof note}, {old, length}};
  const int trace = open(getenv("POWER_CUT_TRACE"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (writev(trace, parts, 2) != (ssize_t)(sizeof note + length))
    abort();
  close(trace);
  pthread_mutex_unlock(&mutex);
  free(old);
  return id;
}

static ssize_t write_watched(const char* real, int fd, const struct iovec* parts, int count,
                             off_t offset) {
  ssize_t (*const write_parts)(int, const struct iovec*, int, off_t) = dlsym(RTLD_NEXT, real);
  if (!is_watched(fd))
    return write_parts(fd, parts, count, offset);
  uint64_t length = 0;
  for (int i = 0; i < count; ++i)
    length += parts[i].iov_len;
  const uint64_t id = tell(kWriteBegins, 0, fd, (uint64_t)offset, length);
  const ssize_t written = write_parts(fd, parts, count, offset);
  tell(kWriteEnds, id, fd, 0, 0);
  return written;
}

ssize_t pwritev(int fd, const struct iovec* parts, int count, off_t offset) {
  return write_watched("pwritev", fd, parts, count, offset);
}

ssize_t pwritev64(int fd, const struct iovec* parts, int count, off64_t offset) {
  return write_watched("pwritev64", fd, parts, count, offset);
}

ssize_t pwrite(int fd, const void* data, size_t length, off_t offset) {
  const struct iovec part = {(void*)data, length};
  return write_watched("pwritev", fd, &part, 1, offset);
}

ssize_t pwrite64(int fd, const void* data, size_t length, off64_t offset) {
  return pwrite(fd, data, length, offset);
}

static int sync_watched(const char* real, int fd) {
  int (*const sync_file)(int) = dlsym(RTLD_NEXT, real);
  if (!is_watched(fd))
    return sync_file(fd);
  if (getenv("POWER_CUT_NO_SYNC") != NULL)
    return 0;
  const uint64_t id = tell(kSyncBegins, 0, fd, 0, 0);
  const int result = sync_file(fd);
  tell(kSyncEnds, id, fd, 0, 0);
  return result;
}

int fdatasync(int fd) { return sync_watched("fdatasync", fd); }

int fsync(int fd) { return sync_watched("fsync", fd); }
