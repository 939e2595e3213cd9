/* Sets the clock on the wall for one process: LD_PRELOAD this and call shift_clock(seconds). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>

static long long shifted_s;

void shift_clock(long long seconds) { shifted_s += seconds; }

int gettimeofday(struct timeval *value, void *zone)
{
    static int (*real)(struct timeval *, void *);
    if (!real)
        real = (int (*)(struct timeval *, void *))dlsym(RTLD_NEXT, "gettimeofday");
    int result = real(value, zone);
    if (value)
        value->tv_sec += shifted_s;
    return result;
}

int clock_gettime(clockid_t which, struct timespec *value)
{
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(which, value);
    if (which == CLOCK_REALTIME)
        value->tv_sec += shifted_s;
    return result;
}
