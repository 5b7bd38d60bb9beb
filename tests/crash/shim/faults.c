/* Injects faults: preloaded into a child of the campaigns kill and starve.
 *
 * Calls on files below the root fail, or kill the process. A file of six words states which calls; the
 * test changes it while the child runs. faults.rs is the test's side.
 */
#include "shim.h"
#include <signal.h>
#include <sys/mman.h>

enum { WRITE = 1, SYNC = 2, OPEN = 4, NAMES = 8, READ = 16, OPEN_TO_WRITE = 32, RANGE = 64 };
enum { KILL = 9999 };

struct control {
    uint32_t calls; /* the kinds of calls */
    uint32_t error; /* their error number, or KILL */
    uint32_t after; /* how many of them succeed first */
    uint32_t times; /* how many fail then; 0: all */
    uint32_t seen, failed;
};
static volatile struct control *control;

__attribute__((constructor)) static void begin(void) {
    const char *file = getenv("PORTCULLIS_FAULTS");
    const char *dir = getenv("PORTCULLIS_FAULTS_ROOT");
    if (!file || !dir)
        return;
    set_root(dir);
    int fd = syscall(SYS_openat, AT_FDCWD, file, O_RDWR | O_CLOEXEC, 0);
    void *mapped = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd < 0 || mapped == MAP_FAILED)
        abort();
    syscall(SYS_close, fd);
    control = mapped;
}

/* Whether this call is to fail; sets errno. */
static int fails(uint32_t kind) {
    if (!control || !(control->calls & kind))
        return 0;
    uint32_t seen = __atomic_fetch_add(&control->seen, 1, __ATOMIC_SEQ_CST);
    if (seen < control->after || (control->times && seen - control->after >= control->times))
        return 0;
    __atomic_fetch_add(&control->failed, 1, __ATOMIC_SEQ_CST);
    if (control->error == KILL)
        syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
    errno = control->error;
    return 1;
}

static int is_below(const char *path) { return control && control->calls && is_below_root(path); }

static int is_watched(int fd) {
    char path[PATH_MAX];
    return control && control->calls && fd >= 3 && is_below(path_of(fd, path));
}

static int open_at(int dir, const char *name, int flags, mode_t mode) {
    /* A name relative to an open directory is below the root if the directory is. */
    if (name[0] == '/' ? is_below(name) : dir != AT_FDCWD && is_watched(dir)) {
        int writes = (flags & O_ACCMODE) != O_RDONLY;
        int creates = flags & O_CREAT && syscall(SYS_faccessat, dir, name, F_OK);
        if (fails(OPEN | (writes ? OPEN_TO_WRITE : 0) | (creates ? NAMES : 0)))
            return -1;
    }
    return syscall(SYS_openat, dir, name, flags, mode);
}

DIR *opendir(const char *name) {
    int fd = open_at(AT_FDCWD, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    return fd < 0 ? NULL : fdopendir(fd);
}

/* A full disk accepts half of a write before it fails. A kill may happen halfway through a write. */
#define WRITES(fd, len, call)                                                                      \
    if (is_watched(fd)) {                                                                          \
        uint32_t seen = control->seen;                                                             \
        if (control->calls & WRITE && seen == control->after && len > 1 &&                         \
            (control->error == ENOSPC || control->error == KILL)) {                                \
            size_t full_len = len;                                                                 \
            len = full_len / 2;                                                                    \
            ssize_t done = call;                                                                   \
            if (control->error == ENOSPC && done > 0) {                                            \
                __atomic_fetch_add(&control->after, 1, __ATOMIC_SEQ_CST);                          \
                __atomic_fetch_add(&control->seen, 1, __ATOMIC_SEQ_CST);                           \
                return done;                                                                       \
            }                                                                                      \
            len = full_len;                                                                        \
        }                                                                                          \
        if (fails(WRITE))                                                                          \
            return -1;                                                                             \
    }                                                                                              \
    return call;

ssize_t pwrite64(int fd, const void *data, size_t len, off64_t at) {
    WRITES(fd, len, syscall(SYS_pwrite64, fd, data, len, at))
}
ssize_t write(int fd, const void *data, size_t len) {
    WRITES(fd, len, syscall(SYS_write, fd, data, len))
}

/* Files that were read to the end: they are in the page cache, so reading them cannot fail. */
static uint64_t cached[256];
static uint32_t cached_len;

static int read_fails(int fd) {
    if (!is_watched(fd))
        return 0;
    uint64_t inode = inode_of(fd);
    for (uint32_t n = 0; n < cached_len && n < 256; n++)
        if (cached[n] == inode)
            return 0;
    return fails(READ);
}

#define ON_FILE(kind, fd, call) return is_watched(fd) && fails(kind) ? -1 : (call);
#define ON_NAME(kind, name, call) return is_below(name) && fails(kind) ? -1 : (call);

ssize_t pread64(int fd, void *data, size_t len, off64_t at) {
    return read_fails(fd) ? -1 : syscall(SYS_pread64, fd, data, len, at);
}
ssize_t pread(int fd, void *data, size_t len, off_t at) { return pread64(fd, data, len, at); }
ssize_t read(int fd, void *data, size_t len) {
    if (read_fails(fd))
        return -1;
    ssize_t done = syscall(SYS_read, fd, data, len);
    if (done == 0 && len > 0 && is_watched(fd)) {
        uint32_t n = __atomic_fetch_add(&cached_len, 1, __ATOMIC_SEQ_CST);
        if (n < 256)
            cached[n] = inode_of(fd);
    }
    return done;
}

int ftruncate64(int fd, off64_t len) { ON_FILE(WRITE, fd, syscall(SYS_ftruncate, fd, len)) }
int fsync(int fd) { ON_FILE(SYNC, fd, syscall(SYS_fsync, fd)) }
int fdatasync(int fd) { ON_FILE(SYNC, fd, syscall(SYS_fdatasync, fd)) }
int sync_file_range(int fd, off64_t at, off64_t len, unsigned flags) {
    ON_FILE(RANGE, fd, syscall(SYS_sync_file_range, fd, at, len, flags))
}
int fchmod(int fd, mode_t mode) { ON_FILE(NAMES, fd, syscall(SYS_fchmod, fd, mode)) }

static int is_watched_at(int dir, const char *name) {
    return name[0] == '/' || dir == AT_FDCWD ? is_below(name) : is_watched(dir);
}
int unlinkat(int dir, const char *name, int flags) {
    return is_watched_at(dir, name) && fails(NAMES) ? -1 : syscall(SYS_unlinkat, dir, name, flags);
}
int unlink(const char *name) { ON_NAME(NAMES, name, syscall(SYS_unlinkat, AT_FDCWD, name, 0)) }
int rmdir(const char *name) {
    ON_NAME(NAMES, name, syscall(SYS_unlinkat, AT_FDCWD, name, AT_REMOVEDIR))
}
int mkdir(const char *name, mode_t mode) {
    ON_NAME(NAMES, name, syscall(SYS_mkdirat, AT_FDCWD, name, mode))
}
int mkdirat(int dir, const char *name, mode_t mode) {
    return is_watched_at(dir, name) && fails(NAMES) ? -1 : syscall(SYS_mkdirat, dir, name, mode);
}
int renameat(int from_dir, const char *from, int to_dir, const char *to) {
    return is_watched_at(from_dir, from) && fails(NAMES)
               ? -1
               : syscall(SYS_renameat2, from_dir, from, to_dir, to, 0);
}
int chmod(const char *name, mode_t mode) {
    ON_NAME(NAMES, name, syscall(SYS_fchmodat, AT_FDCWD, name, mode))
}
int rename(const char *from, const char *to) {
    ON_NAME(NAMES, from, syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0))
}
