/* The team of threads behind all kernels, in place of OpenMP's.
 *
 * OpenMP ends each parallel region with a barrier that every thread must reach. When something else has one of their cores,
 * all wait for the scheduler, some milliseconds for a region of microseconds; and a server's other threads do want cores.
 * Here a thread that does not run takes no task, and nobody waits for it: the others do its share.
 *
 * A job is published by a new generation of `claim`; a task is taken by counting it up. A thread that read a job's fields
 * while they were written loses that race and looks again. Idle members spin for a moment, then sleep. */
#include "team.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>

#ifdef __x86_64__
#define PAUSE() __builtin_ia32_pause()
#else
#define PAUSE() __asm__ volatile("yield")
#endif

enum {
    MAX_MEMBERS = 256,
    SPINS = 4000, /* some 60 us: more than lies between two operations of a step */
};
#define CLOSED 0xFFFFFFFFu /* no task to take while a job is being written */

static struct {
    pthread_mutex_t in_use; /* held by the caller whose job it is */
    int num_members;        /* the caller included; grows to the most that was asked for */
    atomic_ullong claim;    /* generation of the job << 32 | its next task */
    _Atomic(task_function *) run;
    _Atomic(void *) job;
    atomic_long count, num_done;
    atomic_int threads;
    pthread_mutex_t asleep;
    pthread_cond_t wake;
    atomic_int num_asleep;
} team = {.in_use = PTHREAD_MUTEX_INITIALIZER, .num_members = 1, .asleep = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

/* Take tasks until there are none. */
static void take_tasks(int member) {
    for (;;) {
        unsigned long long claim = atomic_load(&team.claim);
        long next = (long)(uint32_t)claim;
        task_function *run = atomic_load_explicit(&team.run, memory_order_relaxed);
        void *job = atomic_load_explicit(&team.job, memory_order_relaxed);
        if (next >= atomic_load_explicit(&team.count, memory_order_relaxed)) return;
        if (member >= atomic_load_explicit(&team.threads, memory_order_relaxed)) return;
        if (!atomic_compare_exchange_weak(&team.claim, &claim, claim + 1)) continue;
        run(job, next, member);
        atomic_fetch_add(&team.num_done, 1);
    }
}

static uint32_t generation(void) { return (uint32_t)(atomic_load(&team.claim) >> 32); }

static void *member_main(void *argument) {
    int member = (int)(intptr_t)argument;
    uint32_t seen = 0;
    for (;;) {
        for (int i = 0; i < SPINS && generation() == seen; i++) PAUSE();
        if (generation() == seen) {
            pthread_mutex_lock(&team.asleep);
            atomic_fetch_add(&team.num_asleep, 1);
            while (generation() == seen) pthread_cond_wait(&team.wake, &team.asleep);
            atomic_fetch_sub(&team.num_asleep, 1);
            pthread_mutex_unlock(&team.asleep);
        }
        seen = generation();
        take_tasks(member);
    }
    return 0;
}

/* If a thread can't be made, the team stays as it is. */
static void grow(int threads) {
    while (team.num_members < threads && team.num_members < MAX_MEMBERS) {
        pthread_t thread;
        if (pthread_create(&thread, 0, member_main, (void *)(intptr_t)team.num_members)) return;
        pthread_detach(thread);
        team.num_members++;
    }
}

static void publish(task_function *run, void *job, long count, int threads) {
    unsigned long long next_generation = ((unsigned long long)generation() + 1) << 32;
    atomic_store(&team.claim, (unsigned long long)generation() << 32 | CLOSED);
    atomic_store_explicit(&team.run, run, memory_order_relaxed);
    atomic_store_explicit(&team.job, job, memory_order_relaxed);
    atomic_store_explicit(&team.count, count, memory_order_relaxed);
    atomic_store_explicit(&team.threads, threads, memory_order_relaxed);
    atomic_store_explicit(&team.num_done, 0, memory_order_relaxed);
    atomic_store(&team.claim, next_generation);
    if (atomic_load(&team.num_asleep)) {
        pthread_mutex_lock(&team.asleep);
        pthread_cond_broadcast(&team.wake);
        pthread_mutex_unlock(&team.asleep);
    }
}

void run_tasks(task_function *run, void *job, long count, int threads) {
    if (threads <= 1 || count <= 1 || pthread_mutex_trylock(&team.in_use)) {
        for (long task = 0; task < count; task++) run(job, task, 0);
        return;
    }
    grow(threads);
    publish(run, job, count, threads);
    take_tasks(0);
    for (int i = 0; atomic_load(&team.num_done) < count; i++) {
        if (i < SPINS) PAUSE();
        else sched_yield(); /* the thread with the last task may be waiting for this core */
    }
    pthread_mutex_unlock(&team.in_use);
}
