/* Threads that wait for work by spinning a little, then asleep; and a barrier that only spins,
 * since the pieces between two barriers of a step take microseconds. */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "decode.h"

#define SPINS_BEFORE_YIELD 4000
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
    for (int spins = 0; atomic_load_explicit(&team->phase, memory_order_acquire) == phase; spins++) {
        if (spins < SPINS_BEFORE_YIELD)
            relax();
        else
            sched_yield();
    }
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
    announce(team);
    work(argument, 0);
    team_wait(team);
    return 0;
}
