/* backing.c - gives ranges of the segment memory, and takes it back.
 *
 * The segment is sparse. A range is backed before its first use, since a first touch of a page that the
 * system cannot supply would be SIGBUS.
 *
 * gp_back() and gp_unback() work on the mapping. The program may close a descriptor that it does not know,
 * and open a file of its own under the number: a call by number would then change that file. The descriptor
 * is used only where the kernel cannot act on the mapping (before Linux 5.14, or for locked memory), after a
 * check that it still is the segment's.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mem/mem.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define GP_STEP_MIN (64ULL << 10) /* a committed prefix grows by its own size, within these */
#define GP_STEP_MAX (4ULL << 20)
/* for each proc, beyond the limit: for tables and ends, which must not fail because messages fill the
 * memory */
#define GP_RESERVE (2ULL << 20)

_Thread_local enum gp_purpose gp_purpose = GP_FOR_VALUES;

static uint64_t round_up(uint64_t n, uint64_t to) { return (n + to - 1) / to * to; }

static uint64_t page_bytes(void) {
    static uint64_t bytes;
    if (!bytes) bytes = (uint64_t)sysconf(_SC_PAGESIZE);
    return bytes;
}

bool gp_memfd_valid(void) {
    struct stat st;
    return gp.memfd >= 0 && fstat(gp.memfd, &st) == 0 && st.st_dev == gp.memfd_dev &&
           st.st_ino == gp.memfd_ino;
}

static int by_descriptor(int mode, uint64_t offset, uint64_t bytes) {
    if (!gp_memfd_valid()) return -EBADF;
    while (fallocate(gp.memfd, mode, (off_t)offset, (off_t)bytes) < 0)
        if (errno != EINTR) return -errno;
    return 0;
}

int gp_back(uint64_t offset, uint64_t bytes) {
    static bool unknown; /* to this kernel */
    uint64_t start = offset / page_bytes() * page_bytes(), end = round_up(offset + bytes, page_bytes());
    while (!unknown && madvise(gp.base + start, end - start, MADV_POPULATE_WRITE) < 0) {
        if (errno == EINVAL) unknown = true;
        else if (errno != EINTR && errno != EAGAIN) return -ENOMEM; /* EFAULT: a touch would be SIGBUS */
    }
    return unknown ? by_descriptor(0, offset, bytes) : 0;
}

bool gp_unback(uint64_t offset, uint64_t bytes) {
    return madvise(gp.base + offset, bytes, MADV_REMOVE) == 0 ||
           by_descriptor(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, bytes) == 0;
}

/* ---- within the limit */

uint64_t gp_committed(void) {
    uint64_t sum = 0;
    for (uint32_t p = 0; p < gp_places(); p++) sum += gp_get(&gp_proc_at(p)->committed);
    return sum;
}

int gp_commit_for(enum gp_purpose purpose, uint64_t offset, uint64_t bytes) {
    static const uint64_t beyond[] = {[GP_FOR_VALUES] = 0,
                                      [GP_FOR_TASKS] = GP_RESERVE / 2,
                                      [GP_FOR_TABLES] = GP_RESERVE,
                                      [GP_FOR_ENDS] = GP_RESERVE};
    uint64_t limit = gp.head->memory + beyond[purpose] * gp_places();
    gp.shortage = GP_SHORT_LIMIT;
    if (gp_committed() + bytes > limit) return -ENOMEM;
    atomic_fetch_add(&gp.my->committed, bytes);
    int err = gp_committed() > limit ? -ENOMEM : 0; /* another proc has taken the last bit meanwhile */
    if (err == 0 && (err = gp_back(offset, bytes)) < 0)
        gp.shortage = err == -EBADF ? GP_SHORT_DESCRIPTOR : GP_SHORT_SYSTEM;
    if (err < 0) atomic_fetch_sub(&gp.my->committed, bytes);
    return err;
}

int gp_commit(uint64_t offset, uint64_t bytes) { return gp_commit_for(GP_FOR_TABLES, offset, bytes); }

int gp_commit_upto(uint64_t start, uint64_t *done, uint64_t want, uint64_t limit) {
    if (want <= *done) return 0;
    if (want > limit) return -ENOMEM;
    uint64_t step = *done < GP_STEP_MIN ? GP_STEP_MIN : *done > GP_STEP_MAX ? GP_STEP_MAX : *done;
    uint64_t to = round_up(want, step / GP_STEP_MIN * GP_STEP_MIN);
    if (to > limit) to = limit;
    int err = gp_commit(start + *done, to - *done);
    if (err == -ENOMEM && want < to) { /* the last bit of memory: take only the needed part */
        to = round_up(want, 4096);
        if (to > limit) to = limit;
        err = gp_commit(start + *done, to - *done);
    }
    if (err == 0) *done = to;
    return err;
}
