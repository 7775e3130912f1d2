/* Threads that wait for work by spinning a little, then asleep; and a barrier that spins, since
 * the pieces between two barriers of a step take microseconds, until that was in vain. */
#define _GNU_SOURCE /* processors and affinities */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "decode.h"

#define SPINS_BEFORE_REST 4000
#define REST_NS 20000
#define SPINS_BEFORE_SLEEP 2000

typedef struct {
    Team *team;
    int member;
    pthread_t thread;
} Member;

struct Team {
    int threads;
    pid_t owner; /* a forked child has to start its own members */
    Member *members;
    void (*work)(void *, int);
    void *argument;
    _Alignas(64) atomic_uint epoch; /* one more for every piece of work, and one to stop */
    _Alignas(64) atomic_int arrived;
    _Alignas(64) atomic_uint phase;
    _Alignas(64) atomic_int asleep;
    atomic_int caller_at; /* the processor of member 0 */
    int stopping;
    unsigned started_at;
    pthread_mutex_t lock;
    pthread_cond_t woken;
};

static inline void relax(void) {
#ifdef HAVE_X86
    __builtin_ia32_pause();
#endif
}

void team_wait(Team *team) {
    if (team->threads == 1) return;
    const unsigned phase = atomic_load_explicit(&team->phase, memory_order_acquire);
    if (atomic_fetch_add_explicit(&team->arrived, 1, memory_order_acq_rel) == team->threads - 1) {
        atomic_store_explicit(&team->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&team->phase, phase + 1, memory_order_release);
        return;
    }
    /* who is waited for may want this very processor, and a yield does not always give it away */
    const struct timespec rest = {.tv_nsec = REST_NS};
    for (int spins = 0; atomic_load_explicit(&team->phase, memory_order_acquire) == phase; spins++) {
        if (spins < SPINS_BEFORE_REST)
            relax();
        else
            nanosleep(&rest, NULL);
    }
}

/* A thread that wakes where the caller runs would have to wait for its time slice, some 3 ms, each
 * time: it moves to another of its processors, if there is one. */
static void keep_away(Team *team) {
#ifdef __linux__
    const int caller_at = atomic_load_explicit(&team->caller_at, memory_order_relaxed);
    if (sched_getcpu() != caller_at) return;
    cpu_set_t others;
    if (sched_getaffinity(team->owner, sizeof others, &others)) return;
    CPU_CLR(caller_at, &others);
    if (CPU_COUNT(&others)) (void)sched_setaffinity(0, sizeof others, &others);
#else
    (void)team;
#endif
}

static void await_epoch(Team *team, unsigned seen) {
    for (int spins = 0; spins < SPINS_BEFORE_SLEEP; spins++) {
        if (atomic_load_explicit(&team->epoch, memory_order_acquire) != seen) return;
        relax();
    }
    pthread_mutex_lock(&team->lock);
    atomic_fetch_add(&team->asleep, 1);
    while (atomic_load(&team->epoch) == seen) pthread_cond_wait(&team->woken, &team->lock);
    atomic_fetch_sub(&team->asleep, 1);
    pthread_mutex_unlock(&team->lock);
}

static void *member_main(void *argument) {
    const Member *self = argument;
    Team *team = self->team;
    for (unsigned epoch = team->started_at;; epoch++) {
        await_epoch(team, epoch);
        if (team->stopping) return NULL;
        keep_away(team);
        team->work(team->argument, self->member);
        team_wait(team);
    }
}

static void announce(Team *team) {
    atomic_fetch_add(&team->epoch, 1);
    if (!atomic_load(&team->asleep)) return;
    pthread_mutex_lock(&team->lock);
    pthread_cond_broadcast(&team->woken);
    pthread_mutex_unlock(&team->lock);
}

static void stop_members(Team *team, int count) {
    team->stopping = 1;
    announce(team);
    for (int i = 1; i < count; i++) pthread_join(team->members[i].thread, NULL);
    team->stopping = 0;
}

static int start_members(Team *team) {
    pthread_mutex_init(&team->lock, NULL);
    pthread_cond_init(&team->woken, NULL);
    atomic_store(&team->arrived, 0);
    atomic_store(&team->asleep, 0);
    team->owner = getpid();
    team->started_at = atomic_load(&team->epoch);
    for (int i = 1; i < team->threads; i++) {
        team->members[i] = (Member){.team = team, .member = i};
        if (pthread_create(&team->members[i].thread, NULL, member_main, &team->members[i])) {
            stop_members(team, i);
            team->owner = -1;
            return -1;
        }
    }
    return 0;
}

Team *team_create(int threads) {
    void *memory = NULL;
    if (posix_memalign(&memory, 64, sizeof(Team))) return NULL;
    Team *team = memory;
    *team = (Team){.threads = threads, .owner = -1};
    team->members = calloc((size_t)threads, sizeof *team->members);
    if (!team->members || start_members(team)) {
        free(team->members);
        free(team);
        return NULL;
    }
    return team;
}

void team_destroy(Team *team) {
    if (!team) return;
    if (team->owner == getpid()) stop_members(team, team->threads);
    free(team->members);
    free(team);
}

int team_run(Team *team, void (*work)(void *, int), void *argument) {
    if (team->threads == 1) {
        work(argument, 0);
        return 0;
    }
    if (team->owner != getpid() && start_members(team)) return -1;
    team->work = work;
    team->argument = argument;
#ifdef __linux__
    atomic_store_explicit(&team->caller_at, sched_getcpu(), memory_order_relaxed);
#endif
    announce(team);
    work(argument, 0);
    team_wait(team);
    return 0;
}
