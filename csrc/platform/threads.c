/* threads.c: the thread pool. Workers are started when first needed, sleep when there is no work, and are
 * forgotten in a forked child, which starts its own. The calling thread works along, and returns as soon as
 * all is done: it waits for workers that have begun, never for one that has yet to wake up. */
#define _POSIX_C_SOURCE 200809L /* pthread_sigmask, with -std=c11 */
#include "platform/environment.h"
#include "internal.h"
#include <stdatomic.h>

#if defined _WIN32
#include <windows.h>
typedef SRWLOCK mutex;
typedef CONDITION_VARIABLE condition;
#define MUTEX_INIT SRWLOCK_INIT
#define CONDITION_INIT CONDITION_VARIABLE_INIT
#define lock(m) AcquireSRWLockExclusive(m)
#define try_lock(m) TryAcquireSRWLockExclusive(m)
#define unlock(m) ReleaseSRWLockExclusive(m)
#define wait_for(c, m) SleepConditionVariableSRW(c, m, INFINITE, 0)
#define wake_all(c) WakeAllConditionVariable(c)
#define give_way() SwitchToThread()
#else
#include <pthread.h>
#include <sched.h>
#include <signal.h>
typedef pthread_mutex_t mutex;
typedef pthread_cond_t condition;
#define MUTEX_INIT PTHREAD_MUTEX_INITIALIZER
#define CONDITION_INIT PTHREAD_COND_INITIALIZER
#define lock(m) pthread_mutex_lock(m)
#define try_lock(m) (pthread_mutex_trylock(m) == 0)
#define unlock(m) pthread_mutex_unlock(m)
#define wait_for(c, m) pthread_cond_wait(c, m)
#define wake_all(c) pthread_cond_broadcast(c)
#define give_way() sched_yield()
#endif

#if defined __x86_64__ || defined __i386__ || defined _M_X64
#include <immintrin.h>
#define relax() _mm_pause()
#elif defined __aarch64__
#define relax() __asm__ volatile("isb")
#else
#define relax() ((void)0)
#endif

/* The items of a job are cut into one share per thread. A thread works through its own share and then helps
 * with the others: the same items go to the same core again and again, and nobody waits for a late riser. */
enum { MAX_SHARES = 64 };

/* How often a worker that has done its part looks for more before it sleeps, and how many pauses later it lets threads of
 * others have its CPU: some hundred microseconds, as to fall asleep and wake up takes a good part of that. */
enum { LOOKS = 16000, LOOKS_BETWEEN = 64 };

enum { STACK = 1 << 20 }; /* bytes, of a worker: a product packs on it; some systems give 128 KB */

typedef struct {
    size_t count;
    void (*body)(void *context, size_t i);
    void *context;
    int shares;
    struct {
        atomic_size_t next; /* the first item that nobody has claimed */
        char padding[64 - sizeof(atomic_size_t)];
    } share[MAX_SHARES];
} job;

static mutex in_use = MUTEX_INIT; /* held by the thread whose job the pool runs */
static mutex state = MUTEX_INIT;  /* guards what follows */
static condition work = CONDITION_INIT, done = CONDITION_INIT;
static job *current;             /* NULL: nothing to join */
static unsigned long job_number; /* so that a worker joins each job once */
static int started;              /* workers that exist */
/* Read without the lock, which two threads that look at the same moment would have to sleep for: */
static atomic_ulong announced;   /* job_number, told after `state` is free again */
static atomic_int working;       /* workers inside the current job */
static atomic_int caller_sleeps; /* until no worker is inside */
static atomic_int awake;         /* workers that have done their part, and look for more before they sleep */
static atomic_int wanted = 1;    /* threads, the calling one included */

static void claim_all(job *j, int first)
{
    for (int k = 0; k < j->shares; k++) {
        const int s = (first + k) % j->shares;
        const size_t end = j->count * (size_t)(s + 1) / (size_t)j->shares;
        size_t i;
        while ((i = atomic_fetch_add_explicit(&j->share[s].next, 1, memory_order_relaxed)) < end)
            j->body(j->context, i);
    }
}

static void worker(int number)
{
    unsigned long seen = 0;
    environment_enter();
    lock(&state);
    for (;;) {
        while (!current || job_number == seen || number >= atomic_load(&wanted) - 1)
            wait_for(&work, &state);
        job *j = current;
        seen = job_number;
        atomic_fetch_add(&working, 1);
        unlock(&state);
        claim_all(j, number + 1);
        if (atomic_fetch_sub(&working, 1) == 1 && atomic_load(&caller_sleeps)) {
            lock(&state);
            wake_all(&done);
            unlock(&state);
        }
        atomic_fetch_add(&awake, 1);
        for (int look = 1; look <= LOOKS && atomic_load_explicit(&announced, memory_order_relaxed) <= seen; look++)
            if (look % LOOKS_BETWEEN)
                relax();
            else
                give_way();
        atomic_fetch_sub(&awake, 1);
        lock(&state);
    }
}

#if defined _WIN32
static DWORD WINAPI worker_main(LPVOID number)
{
    worker((int)(intptr_t)number);
    return 0;
}

static int start_worker(int number)
{
    HANDLE thread = CreateThread(NULL, STACK, worker_main, (LPVOID)(intptr_t)number, 0, NULL);
    if (thread)
        CloseHandle(thread);
    return thread != NULL;
}

static void prepare_for_fork(void)
{
}
#else
static void *worker_main(void *number)
{
    worker((int)(intptr_t)number);
    return NULL;
}

/* Workers take no signals, so that the process's go to threads that expect them; what the CPU raises on an instruction of
 * theirs is no such signal. A thread begins with the mask of the one that starts it. */
static int start_worker(int number)
{
    static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS};
    sigset_t blocked, before;
    pthread_attr_t attributes;
    pthread_t thread;
    if (pthread_attr_init(&attributes))
        return 0;
    pthread_attr_setstacksize(&attributes, STACK);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    sigfillset(&blocked);
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        sigdelset(&blocked, own[i]);
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    const int error = pthread_create(&thread, &attributes, worker_main, (void *)(intptr_t)number);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return error == 0;
}

/* A fork waits for the job that runs, so that the child inherits no half-done one. The child has no workers. */
static void before_fork(void)
{
    lock(&in_use);
    lock(&state);
}

static void after_fork_in_parent(void)
{
    unlock(&state);
    unlock(&in_use);
}

static void after_fork_in_child(void)
{
    in_use = (mutex)MUTEX_INIT;
    state = (mutex)MUTEX_INIT;
    work = (condition)CONDITION_INIT;
    done = (condition)CONDITION_INIT;
    started = 0;
    atomic_store(&working, 0);
    atomic_store(&awake, 0);
}

static void prepare_for_fork(void)
{
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}
#endif

/* Called with `state` locked. */
static void start_workers(int count)
{
    static int prepared;
    if (!prepared) {
        prepare_for_fork();
        prepared = 1;
    }
    while (started < count && start_worker(started))
        started++;
}

/* Wait until no worker is inside the job: they are at their last item, so look for a moment before sleeping. */
static void wait_for_workers(void)
{
    for (int spin = 0; spin < 4000 && atomic_load(&working) > 0; spin++)
        relax();
    if (atomic_load(&working) == 0)
        return;
    lock(&state);
    atomic_store(&caller_sleeps, 1);
    while (atomic_load(&working) > 0)
        wait_for(&done, &state);
    atomic_store(&caller_sleeps, 0);
    unlock(&state);
}

void fastopt_for_each(size_t count, void (*body)(void *context, size_t i), void *context)
{
    const int threads = atomic_load(&wanted);
    if (threads == 1 || count < 2 || !try_lock(&in_use)) { /* or another thread has the pool: go it alone */
        for (size_t i = 0; i < count; i++)
            body(context, i);
        return;
    }
    job j;
    j.count = count;
    j.body = body;
    j.context = context;
    j.shares = threads < MAX_SHARES ? threads : MAX_SHARES;
    for (int s = 0; s < j.shares; s++)
        atomic_init(&j.share[s].next, count * (size_t)s / (size_t)j.shares);

    lock(&state);
    start_workers(threads - 1);
    current = &j;
    const unsigned long number = ++job_number;
    wake_all(&work);
    unlock(&state);
    atomic_store(&announced, number);

    claim_all(&j, 0);

    lock(&state);
    current = NULL;
    unlock(&state);
    wait_for_workers();
    unlock(&in_use);
}

int fastopt_workers_awake(void)
{
    return atomic_load_explicit(&awake, memory_order_relaxed) > 0;
}

int fastopt_threads_get(void)
{
    return atomic_load(&wanted);
}

void fastopt_threads_set(int n)
{
    atomic_store(&wanted, n);
}
