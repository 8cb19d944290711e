/* A team of threads that shares tasks by taking them one at a time. */
#ifndef PAGEMILL_TEAM_H
#define PAGEMILL_TEAM_H

/* One task of a job. `member` is 0 for the caller and below `threads` for all: scratch memory may go by it. */
typedef void task_function(void *job, long task, int member);

/* Run tasks 0 to `count` - 1 on up to `threads` threads, the caller among them; returns when all are done. Tasks are begun
 * in order. Safe to call from several threads at once: the one that finds the team at work runs its tasks alone. */
void run_tasks(task_function *run, void *job, long count, int threads);

/* For jobs of many equal small parts: so many tasks of neighbouring parts, several for each thread. */
static inline long share_count(long parts, int threads) {
    long wanted = threads > 1 ? 4L * threads : 1;
    return parts < wanted ? parts : wanted;
}
static inline long share_start(long parts, long shares, long share) { return parts * share / shares; }

#endif
