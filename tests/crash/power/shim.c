/* What a process does to the files below one directory, written down in the order in which it
 * happened.
 *
 * Preloaded into a child of tests/power.rs. Each call is made and recorded under one mutex, so that
 * the journal's order is the true one; only calls that succeeded are recorded. Files are told apart
 * by their inode numbers. Writes to the file of marks are the child's words to the test: they go
 * into the journal between the calls, and nowhere else.
 *
 * A record: kind, then u32 lengths of two parts, u64 inode, u64 offset, all little-endian as the
 * machine has them, then the parts. tests/power/journal.rs reads them.
 */
#define _GNU_SOURCE
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
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;
static const char *root, *marks;
static size_t root_len;
static int journal = -1;

__attribute__((constructor)) static void begin(void) {
    const char *to = getenv("PORTCULLIS_POWER_JOURNAL");
    root = getenv("PORTCULLIS_POWER_ROOT");
    marks = getenv("PORTCULLIS_POWER_MARKS");
    if (!to || !root || !marks)
        return;
    root_len = strlen(root);
    journal = syscall(SYS_openat, AT_FDCWD, to, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (journal < 0)
        abort();
}

/* A thread that ends the process waits for the others' calls to be recorded. */
__attribute__((destructor)) static void end(void) { pthread_mutex_lock(&order); }

static void record(char kind, uint64_t inode, uint64_t offset, const void *a, size_t a_len,
                   const void *b, size_t b_len) {
    struct __attribute__((packed)) {
        char kind;
        uint32_t a_len, b_len;
        uint64_t inode, offset;
    } head = {kind, a_len, b_len, inode, offset};
    struct iovec parts[3] = {{&head, sizeof head}, {(void *)a, a_len}, {(void *)b, b_len}};
    if (syscall(SYS_writev, journal, parts, 3) != (long)(sizeof head + a_len + b_len))
        abort();
}

/* The path of an open file, or of a name beside an open directory. */
static const char *path_of(int fd, char *into) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, into, PATH_MAX - 1);
    into[len < 0 ? 0 : len] = 0;
    return into;
}

static const char *path_at(int dir, const char *name, char *into) {
    if (name[0] == '/' || dir == AT_FDCWD)
        return name;
    path_of(dir, into);
    size_t len = strlen(into);
    snprintf(into + len, PATH_MAX - len, "/%s", name);
    return into;
}

/* The part below the root, or nothing for a path elsewhere. */
static const char *below(const char *path) {
    if (journal < 0 || strncmp(path, root, root_len) || (path[root_len] && path[root_len] != '/'))
        return NULL;
    return path[root_len] ? path + root_len + 1 : "";
}

static uint64_t inode_of(int fd) {
    struct stat found;
    return fstat(fd, &found) ? 0 : found.st_ino;
}

/* Whether an open file is one that is watched. */
static int is_ours(int fd, int *is_marks) {
    char buffer[PATH_MAX];
    int saved = errno;
    *is_marks = 0;
    if (journal < 0 || fd < 3 || fd == journal)
        return 0;
    const char *path = path_of(fd, buffer);
    errno = saved;
    *is_marks = !strcmp(path, marks);
    return *is_marks || below(path) != NULL;
}

static int open_at(int dir, const char *name, int flags, mode_t mode) {
    char buffer[PATH_MAX];
    const char *part = journal < 0 ? NULL : below(path_at(dir, name, buffer));
    if (!part || !(flags & (O_CREAT | O_TRUNC)))
        return syscall(SYS_openat, dir, name, flags, mode);
    pthread_mutex_lock(&order);
    int fresh = syscall(SYS_faccessat, dir, name, F_OK) != 0;
    int fd = syscall(SYS_openat, dir, name, flags, mode);
    if (fd >= 0 && fresh)
        record('C', inode_of(fd), 0, part, strlen(part), NULL, 0);
    else if (fd >= 0 && (flags & O_TRUNC))
        record('T', inode_of(fd), 0, NULL, 0, NULL, 0);
    int saved = errno;
    pthread_mutex_unlock(&order);
    errno = saved;
    return fd;
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

ssize_t pwrite64(int fd, const void *data, size_t len, off64_t at) {
    int is_marks;
    if (!is_ours(fd, &is_marks))
        return syscall(SYS_pwrite64, fd, data, len, at);
    pthread_mutex_lock(&order);
    ssize_t done = syscall(SYS_pwrite64, fd, data, len, at);
    if (done > 0)
        record('W', inode_of(fd), at, data, done, NULL, 0);
    int saved = errno;
    pthread_mutex_unlock(&order);
    errno = saved;
    return done;
}
ssize_t pwrite(int fd, const void *data, size_t len, off_t at) { return pwrite64(fd, data, len, at); }

ssize_t write(int fd, const void *data, size_t len) {
    int is_marks;
    if (!is_ours(fd, &is_marks))
        return syscall(SYS_write, fd, data, len);
    pthread_mutex_lock(&order);
    ssize_t done = len;
    if (is_marks) {
        record('M', 0, 0, data, len, NULL, 0);
    } else {
        done = syscall(SYS_write, fd, data, len);
        if (done > 0)
            record('W', inode_of(fd), lseek(fd, 0, SEEK_CUR) - done, data, done, NULL, 0);
    }
    int saved = errno;
    pthread_mutex_unlock(&order);
    errno = saved;
    return done;
}

/* Makes a call on an open file and records it. */
#define ON_FILE(fd, call, kind, offset)                                                            \
    int is_marks;                                                                                  \
    if (!is_ours(fd, &is_marks) || is_marks)                                                       \
        return call;                                                                               \
    pthread_mutex_lock(&order);                                                                    \
    int failed = call;                                                                             \
    if (!failed)                                                                                   \
        record(kind, inode_of(fd), offset, NULL, 0, NULL, 0);                                      \
    int saved = errno;                                                                             \
    pthread_mutex_unlock(&order);                                                                  \
    errno = saved;                                                                                 \
    return failed;

int ftruncate64(int fd, off64_t len) { ON_FILE(fd, syscall(SYS_ftruncate, fd, len), 'T', len) }
int ftruncate(int fd, off_t len) { return ftruncate64(fd, len); }
int fsync(int fd) { ON_FILE(fd, syscall(SYS_fsync, fd), 'S', 0) }
int fdatasync(int fd) { ON_FILE(fd, syscall(SYS_fdatasync, fd), 'S', 0) }
/* It promises nothing, so it is a point to cut at and no more. */
int sync_file_range(int fd, off64_t at, off64_t len, unsigned flags) {
    ON_FILE(fd, syscall(SYS_sync_file_range, fd, at, len, flags), 'N', 0)
}

/* Makes a call on names and records it. */
#define ON_NAMES(kind, from_dir, from, to_dir, to, call)                                           \
    char from_buffer[PATH_MAX], to_buffer[PATH_MAX];                                               \
    const char *a = journal < 0 ? NULL : below(path_at(from_dir, from, from_buffer));              \
    const char *b = journal < 0 ? NULL : below(path_at(to_dir, to, to_buffer));                    \
    if (!a && !b)                                                                                  \
        return call;                                                                               \
    if (!a || !b)                                                                                  \
        abort();                                                                                   \
    pthread_mutex_lock(&order);                                                                    \
    int failed = call;                                                                             \
    struct stat found;                                                                             \
    if (!failed)                                                                                   \
        record(kind, fstatat(to_dir, to, &found, AT_SYMLINK_NOFOLLOW) ? 0 : found.st_ino, 0, a,    \
               strlen(a), b, strlen(b));                                                           \
    int saved = errno;                                                                             \
    pthread_mutex_unlock(&order);                                                                  \
    errno = saved;                                                                                 \
    return failed;

int unlinkat(int dir, const char *name, int flags) {
    ON_NAMES('U', dir, name, dir, name, syscall(SYS_unlinkat, dir, name, flags))
}
int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }
int mkdirat(int dir, const char *name, mode_t mode) {
    ON_NAMES('D', dir, name, dir, name, syscall(SYS_mkdirat, dir, name, mode))
}
int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }
int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) {
    ON_NAMES('R', from_dir, from, to_dir, to,
             syscall(SYS_renameat2, from_dir, from, to_dir, to, flags))
}
int renameat(int from_dir, const char *from, int to_dir, const char *to) {
    return renameat2(from_dir, from, to_dir, to, 0);
}
int rename(const char *from, const char *to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }
int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags) {
    ON_NAMES('L', from_dir, from, to_dir, to,
             syscall(SYS_linkat, from_dir, from, to_dir, to, flags))
}
int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

/* Short cuts between files, which their callers can do without. */
ssize_t copy_file_range(int in, off64_t *in_at, int out, off64_t *out_at, size_t len, unsigned flags) {
    int is_marks;
    if (!is_ours(out, &is_marks))
        return syscall(SYS_copy_file_range, in, in_at, out, out_at, len, flags);
    errno = ENOSYS;
    return -1;
}
ssize_t sendfile64(int out, int in, off64_t *at, size_t len) {
    int is_marks;
    if (!is_ours(out, &is_marks))
        return syscall(SYS_sendfile, out, in, at, len);
    errno = EINVAL;
    return -1;
}

/* Ways to change a file that nobody takes today; whoever begins to must be recorded as well. */
#define NOT_RECORDED(fd) { int is_marks; if (is_ours(fd, &is_marks)) abort(); }
ssize_t writev(int fd, const struct iovec *parts, int count) {
    NOT_RECORDED(fd)
    return syscall(SYS_writev, fd, parts, count);
}
int posix_fallocate64(int fd, off64_t at, off64_t len) {
    NOT_RECORDED(fd)
    return syscall(SYS_fallocate, fd, 0, at, len) ? errno : 0;
}
