/* Preloaded by programs of test_exhaustion.py: a call fails while the folder SCARCE has a file of its name. A limit on
 * processes does not bind root, and counts what else the user runs. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static bool is_scarce(const char *name) {
    char path[4096];
    const char *folder = getenv("SCARCE");
    snprintf(path, sizeof path, "%s/%s", folder ? folder : "/nonexistent", name);
    int before = errno;
    bool is = access(path, F_OK) == 0;
    errno = before;
    return is;
}

pid_t fork(void) {
    if (!is_scarce("fork")) return ((pid_t(*)(void))dlsym(RTLD_NEXT, "fork"))();
    errno = EAGAIN;
    return -1;
}

int pthread_create(pthread_t *thread, const pthread_attr_t *how, void *(*run)(void *), void *arg) {
    typedef int call(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    return is_scarce("pthread_create") ? EAGAIN : ((call *)dlsym(RTLD_NEXT, "pthread_create"))(thread, how, run, arg);
}

int memfd_create(const char *name, unsigned flags) {
    typedef int call(const char *, unsigned);
    if (!is_scarce("memfd_create")) return ((call *)dlsym(RTLD_NEXT, "memfd_create"))(name, flags);
    errno = ENFILE;
    return -1;
}
