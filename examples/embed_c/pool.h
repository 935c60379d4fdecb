/* SPDX-License-Identifier: MIT */
/* A thread pool, as a program may have one: what it lends to mfres. */
#ifndef POOL_H
#define POOL_H

#include <pthread.h>

enum { POOL_WORKERS = 1 }; /* besides the thread that calls */

typedef struct pool {
    pthread_t workers[POOL_WORKERS];
    pthread_mutex_t mutex;
    pthread_cond_t begin, end;
    void (*part)(void* data, int index);
    void* data;
    int parts, next, done, ended;
    long loops;
} pool;

/* Runs parts until none is left. The mutex is held before and after. */
static void pool_take_parts(pool* self) {
    while (self->next < self->parts) {
        const int index = self->next++;
        pthread_mutex_unlock(&self->mutex);
        self->part(self->data, index);
        pthread_mutex_lock(&self->mutex);
        if (++self->done == self->parts)
            pthread_cond_signal(&self->end);
    }
}

static void* pool_work(void* data) {
    pool* self = data;
    pthread_mutex_lock(&self->mutex);
    while (!self->ended) {
        pool_take_parts(self);
        if (!self->ended && self->next >= self->parts)
            pthread_cond_wait(&self->begin, &self->mutex);
    }
    pthread_mutex_unlock(&self->mutex);
    return NULL;
}

/* The program's parallel loop; see mfres_parallel_for. */
static void pool_run(void* data, int parts, void (*part)(void* part_data, int index), void* part_data) {
    pool* self = data;
    pthread_mutex_lock(&self->mutex);
    ++self->loops;
    self->part = part;
    self->data = part_data;
    self->parts = parts;
    self->next = self->done = 0;
    pthread_cond_broadcast(&self->begin);
    pool_take_parts(self);
    while (self->done < self->parts)
        pthread_cond_wait(&self->end, &self->mutex);
    pthread_mutex_unlock(&self->mutex);
}

/* Returns 0, or an error of the system. */
static int pool_start(pool* self) {
    int i, error;
    self->parts = self->next = self->done = self->ended = 0;
    self->loops = 0;
    pthread_mutex_init(&self->mutex, NULL);
    pthread_cond_init(&self->begin, NULL);
    pthread_cond_init(&self->end, NULL);
    for (i = 0; i < POOL_WORKERS; ++i)
        if ((error = pthread_create(&self->workers[i], NULL, pool_work, self)) != 0)
            return error;
    return 0;
}

static void pool_stop(pool* self) {
    int i;
    pthread_mutex_lock(&self->mutex);
    self->ended = 1;
    pthread_cond_broadcast(&self->begin);
    pthread_mutex_unlock(&self->mutex);
    for (i = 0; i < POOL_WORKERS; ++i)
        pthread_join(self->workers[i], NULL);
}

#endif
