/* points.c - every access to memory in the core is a marked point, at which its process can be made to die.
 *
 * The core is compiled with -fsanitize=thread and linked without that sanitizer: the compiler puts a call before each access, and
 * these functions stand for the sanitizer's. So no line of the core knows of the marks.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

long points_left = -1;   /* accesses until this process dies; negative: it does not */
const uint32_t *points_word; /* not NULL: it goes on from there until this is not 0, */
long points_more;        /* and for so many accesses more */
unsigned points_stall;   /* us that it stays there first, so that others come to wait for it */

static void die(void) {
    if (points_stall) usleep(points_stall);
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

static inline void point(void) {
    if (points_left <= 0 || --points_left > 0) return;
    if (points_word && !__atomic_load_n(points_word, __ATOMIC_RELAXED)) {
        points_left = 1;
        return;
    }
    points_word = NULL;
    points_left = points_more;
    points_more = 0;
    if (points_left == 0) die();
}

void __tsan_init(void) {}
void __tsan_func_entry(void *at) { (void)at; }
void __tsan_func_exit(void) {}
void __tsan_read_range(void *p, size_t n) { (void)p; (void)n; point(); }
void __tsan_write_range(void *p, size_t n) { (void)p; (void)n; point(); }

#define PLAIN(n)                                                    \
    void __tsan_read##n(void *p) { (void)p; point(); }              \
    void __tsan_write##n(void *p) { (void)p; point(); }             \
    void __tsan_unaligned_read##n(void *p) { (void)p; point(); }    \
    void __tsan_unaligned_write##n(void *p) { (void)p; point(); }
PLAIN(1) PLAIN(2) PLAIN(4) PLAIN(8) PLAIN(16)

#define BOTH(name) point(); return name
#define ATOMIC(bits, T)                                                                                                     \
    T __tsan_atomic##bits##_load(const T *p, int o) { (void)o; BOTH(__atomic_load_n(p, __ATOMIC_SEQ_CST)); }                \
    void __tsan_atomic##bits##_store(T *p, T v, int o) { (void)o; point(); __atomic_store_n(p, v, __ATOMIC_RELEASE); }      \
    T __tsan_atomic##bits##_exchange(T *p, T v, int o) { (void)o; BOTH(__atomic_exchange_n(p, v, __ATOMIC_SEQ_CST)); }      \
    T __tsan_atomic##bits##_fetch_add(T *p, T v, int o) { (void)o; BOTH(__atomic_fetch_add(p, v, __ATOMIC_SEQ_CST)); }      \
    T __tsan_atomic##bits##_fetch_sub(T *p, T v, int o) { (void)o; BOTH(__atomic_fetch_sub(p, v, __ATOMIC_SEQ_CST)); }      \
    T __tsan_atomic##bits##_fetch_and(T *p, T v, int o) { (void)o; BOTH(__atomic_fetch_and(p, v, __ATOMIC_SEQ_CST)); }      \
    T __tsan_atomic##bits##_fetch_or(T *p, T v, int o) { (void)o; BOTH(__atomic_fetch_or(p, v, __ATOMIC_SEQ_CST)); }        \
    T __tsan_atomic##bits##_fetch_xor(T *p, T v, int o) { (void)o; BOTH(__atomic_fetch_xor(p, v, __ATOMIC_SEQ_CST)); }      \
    int __tsan_atomic##bits##_compare_exchange_strong(T *p, T *e, T v, int o, int f) {                                      \
        (void)o; (void)f;                                                                                                   \
        BOTH(__atomic_compare_exchange_n(p, e, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));                              \
    }                                                                                                                       \
    int __tsan_atomic##bits##_compare_exchange_weak(T *p, T *e, T v, int o, int f) {                                        \
        return __tsan_atomic##bits##_compare_exchange_strong(p, e, v, o, f);                                                \
    }
ATOMIC(8, uint8_t) ATOMIC(16, uint16_t) ATOMIC(32, uint32_t) ATOMIC(64, uint64_t)

void __tsan_atomic_thread_fence(int o) { (void)o; __atomic_thread_fence(__ATOMIC_SEQ_CST); }
void __tsan_atomic_signal_fence(int o) { (void)o; __atomic_signal_fence(__ATOMIC_SEQ_CST); }
