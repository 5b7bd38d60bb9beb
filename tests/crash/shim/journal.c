/* Records every change of the files below the root in a journal: preloaded into a child of power.rs.
 *
 * Each call is made and recorded under one mutex, so the journal has the order of the calls. Only calls
 * that succeeded are recorded. Files are identified by their inode numbers. The child writes marks for
 * the test to a separate file: these writes go into the journal between the calls, and nowhere else.
 *
 * A record is a kind, the u32 lengths of two parts, a u64 inode, a u64 offset, all in native byte order,
 * and then the parts. power/journal.rs reads the records.
 */
#include "shim.h"
#include <pthread.h>
#include <sys/uio.h>

static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;
static const char *marks;
static int journal = -1;

__attribute__((constructor)) static void begin(void) {
    const char *to = getenv("PORTCULLIS_POWER_JOURNAL");
    const char *dir = getenv("PORTCULLIS_POWER_ROOT");
    marks = getenv("PORTCULLIS_POWER_MARKS");
    if (!to || !dir || !marks)
        return;
    set_root(dir);
    journal = syscall(SYS_openat, AT_FDCWD, to, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (journal < 0)
        abort();
}

/* The thread that ends the process waits until the calls of the other threads are recorded. */
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

/* The path of a name relative to an open directory. */
static const char *path_at(int dir, const char *name, char *into) {
    if (name[0] == '/' || dir == AT_FDCWD)
        return name;
    path_of(dir, into);
    size_t len = strlen(into);
    snprintf(into + len, PATH_MAX - len, "/%s", name);
    return into;
}

/* The part of a path below the root; NULL for another path. */
static const char *below(const char *path) {
    if (journal < 0 || !is_below_root(path))
        return NULL;
    return path[root_len] ? path + root_len + 1 : "";
}

static int is_marks(int fd) {
    char path[PATH_MAX];
    return journal >= 0 && fd >= 3 && fd != journal && !strcmp(path_of(fd, path), marks);
}

static int is_watched(int fd) {
    char path[PATH_MAX];
    return journal >= 0 && fd >= 3 && fd != journal && below(path_of(fd, path)) != NULL;
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

ssize_t pwrite64(int fd, const void *data, size_t len, off64_t at) {
    if (!is_watched(fd))
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

ssize_t write(int fd, const void *data, size_t len) {
    int is_mark = is_marks(fd);
    if (!is_mark && !is_watched(fd))
        return syscall(SYS_write, fd, data, len);
    pthread_mutex_lock(&order);
    ssize_t done = len;
    if (is_mark) {
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
    if (!is_watched(fd))                                                                           \
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
int fsync(int fd) { ON_FILE(fd, syscall(SYS_fsync, fd), 'S', 0) }
int fdatasync(int fd) { ON_FILE(fd, syscall(SYS_fdatasync, fd), 'S', 0) }
/* It makes nothing durable. It is recorded as a point for a power cut. */
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

/* Calls that are not recorded, since the store does not make them. If it does, extend this shim. */
#define NOT_RECORDED(fd)                                                                           \
    if (is_watched(fd) || is_marks(fd))                                                            \
        abort();
ssize_t writev(int fd, const struct iovec *parts, int count) {
    NOT_RECORDED(fd)
    return syscall(SYS_writev, fd, parts, count);
}
int posix_fallocate64(int fd, off64_t at, off64_t len) {
    NOT_RECORDED(fd)
    return syscall(SYS_fallocate, fd, 0, at, len) ? errno : 0;
}
