#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include "schedule/workers.h"
#include "util/xalloc.h"

struct task {
    struct task *next;
    loop_fn work, done;
    void *userdata;
};

struct workers {
    struct loop *loop;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct task *tasks, **tail;
    bool stop;
    int n_threads;
    pthread_t threads[];
};

static struct task *take(struct workers *workers)
{
    struct task *task = NULL;

    pthread_mutex_lock(&workers->lock);
    while (!workers->tasks && !workers->stop)
        pthread_cond_wait(&workers->wake, &workers->lock);
    if (!workers->stop) {
        task = workers->tasks;
        workers->tasks = task->next;
        if (!workers->tasks)
            workers->tail = &workers->tasks;
    }
    pthread_mutex_unlock(&workers->lock);
    return task;
}

static void *run(void *userdata)
{
    struct workers *workers = userdata;
    struct task *task;

    while ((task = take(workers)) != NULL) {
        task->work(task->userdata);
        if (task->done)
            loop_post(workers->loop, task->done, task->userdata);
        free(task);
    }
    return NULL;
}

struct workers *workers_new(struct loop *loop, int threads)
{
    struct workers *workers = xcalloc(1, sizeof(*workers) + (size_t)threads * sizeof(pthread_t));
    sigset_t all, old;

    workers->loop = loop;
    workers->tail = &workers->tasks;
    pthread_mutex_init(&workers->lock, NULL);
    pthread_cond_init(&workers->wake, NULL);
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    for (int i = 0; i < threads; i++) {
        if (pthread_create(&workers->threads[i], NULL, run, workers) != 0)
            abort();
        workers->n_threads++;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return workers;
}

void workers_add(struct workers *workers, loop_fn work, loop_fn done, void *userdata)
{
    struct task *task = xnew0(struct task);

    task->work = work;
    task->done = done;
    task->userdata = userdata;
    pthread_mutex_lock(&workers->lock);
    *workers->tail = task;
    workers->tail = &task->next;
    pthread_cond_signal(&workers->wake);
    pthread_mutex_unlock(&workers->lock);
}

void workers_stop(struct workers *workers)
{
    pthread_mutex_lock(&workers->lock);
    workers->stop = true;
    pthread_cond_broadcast(&workers->wake);
    pthread_mutex_unlock(&workers->lock);
    for (int i = 0; i < workers->n_threads; i++)
        pthread_join(workers->threads[i], NULL);
    workers->n_threads = 0;
}

struct workers *workers_free(struct workers *workers)
{
    if (!workers)
        return NULL;
    workers_stop(workers);
    while (workers->tasks) {
        struct task *task = workers->tasks;

        workers->tasks = task->next;
        if (!task->done)
            task->work(task->userdata);
        free(task);
    }
    pthread_mutex_destroy(&workers->lock);
    pthread_cond_destroy(&workers->wake);
    free(workers);
    return NULL;
}
