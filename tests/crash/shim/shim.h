/* The common part of the shims that are preloaded into child processes: interposed functions of the C
 * library that open files below one directory, the root. A shim includes this file first. It defines
 * open_at and is_watched, and interposes the other calls.
 *
 * A file below the root is recognised by its path, which is read anew at each call: slow, but it is
 * also right after a rename.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *root;
static size_t root_len;

/* Opens a file, as the shim does it. */
static int open_at(int dir, const char *name, int flags, mode_t mode);
/* Whether an open file is below the root. */
static int is_watched(int fd);

static void set_root(const char *path) {
    root = path;
    root_len = strlen(path);
}

static int is_below_root(const char *path) {
    return !strncmp(path, root, root_len) && (!path[root_len] || path[root_len] == '/');
}

/* Writes the path of an open file to a buffer of PATH_MAX bytes. Keeps errno. */
static const char *path_of(int fd, char *into) {
    char link[64];
    int saved = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, into, PATH_MAX - 1);
    errno = saved;
    into[len < 0 ? 0 : len] = 0;
    return into;
}

static uint64_t inode_of(int fd) {
    struct stat found;
    return fstat(fd, &found) ? 0 : found.st_ino;
}

#define MODE_OF(flags, mode)                                                                       \
    mode_t mode = 0;                                                                               \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                                                         \
        va_list rest;                                                                              \
        va_start(rest, flags);                                                                     \
        mode = va_arg(rest, mode_t);                                                               \
        va_end(rest);                                                                              \
    }

int open(const char *name, int flags, ...) {
    MODE_OF(flags, mode)
    return open_at(AT_FDCWD, name, flags, mode);
}
int open64(const char *name, int flags, ...) {
    MODE_OF(flags, mode)
    return open_at(AT_FDCWD, name, flags, mode);
}
int openat(int dir, const char *name, int flags, ...) {
    MODE_OF(flags, mode)
    return open_at(dir, name, flags, mode);
}
int openat64(int dir, const char *name, int flags, ...) {
    MODE_OF(flags, mode)
    return open_at(dir, name, flags, mode);
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t at) { return pwrite64(fd, data, len, at); }
int ftruncate(int fd, off_t len) { return ftruncate64(fd, len); }

/* Copies within the kernel bypass write. Refused: callers fall back to read and write. */
ssize_t copy_file_range(int in, off64_t *in_at, int out, off64_t *out_at, size_t len, unsigned flags) {
    if (!is_watched(out))
        return syscall(SYS_copy_file_range, in, in_at, out, out_at, len, flags);
    errno = ENOSYS;
    return -1;
}
ssize_t sendfile64(int out, int in, off64_t *at, size_t len) {
    if (!is_watched(out))
        return syscall(SYS_sendfile, out, in, at, len);
    errno = EINVAL;
    return -1;
}
