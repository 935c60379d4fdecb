/* SPDX-License-Identifier: MIT */
/* Volumes in memory to labels in memory, in plain C, with the program's own threads and allocator, progress, and Ctrl-C
 * to stop.
 *   embed_c MODEL T1.nii T1CE.nii T2.nii FLAIR.nii LABELS.raw [SECONDS]
 * MODEL is a model file or the name of weights that come with mfres. LABELS.raw gets one byte a voxel, x fastest. After
 * SECONDS the case is stopped. */
#define _POSIX_C_SOURCE 200809L

#include "../nifti_file.h"
#include "pool.h"

#include <mfres/mfres.h>

#include <signal.h>
#include <time.h>

/* What Ctrl-C stops. */
static mfres_segmenter* running;

static void stop(int number) {
    (void)number;
    mfres_cancel(running);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* Called while the network runs; another program would move a bar. */
static int show(void* data, const char* stage, double done) {
    fprintf(stderr, "\r%-12s %3.0f %%", stage, 100.0 * done);
    return now() > *(const double*)data;
}

static void log_message(void* data, int level, const char* message) {
    (void)data;
    fprintf(stderr, "%s%s\n", level <= MFRES_LOG_WARNING ? "warning: " : "", message);
}

/* The program's memory for the arrays of a case; another program would take them from a block of its own. */
typedef struct memory {
    pthread_mutex_t mutex;
    size_t bytes, most;
    long blocks;
} memory;

static void* take(void* data, size_t bytes, size_t alignment) {
    memory* self = data;
    void* array = NULL;
    if (posix_memalign(&array, alignment, bytes) != 0)
        return NULL;
    pthread_mutex_lock(&self->mutex);
    ++self->blocks;
    self->bytes += bytes;
    if (self->bytes > self->most)
        self->most = self->bytes;
    pthread_mutex_unlock(&self->mutex);
    return array;
}

static void give_back(void* data, void* array, size_t bytes) {
    memory* self = data;
    pthread_mutex_lock(&self->mutex);
    self->bytes -= bytes;
    pthread_mutex_unlock(&self->mutex);
    free(array);
}

static void describe(const nifti_file* image, mfres_volume* volume) {
    volume->struct_size = sizeof *volume;
    volume->voxels = image->voxels;
    volume->type = image->datatype; /* MFRES_INT16 and so on are NIfTI's numbers */
    memcpy(volume->size, image->size, sizeof volume->size);
    memcpy(volume->affine, image->affine, sizeof volume->affine);
    volume->slope = image->slope;
    volume->inter = image->inter;
}

int main(int count, char** arguments) {
    static nifti_file images[4];
    static mfres_volume volumes[4];
    static pool threads;
    static memory arrays = {PTHREAD_MUTEX_INITIALIZER, 0, 0, 0};
    mfres_options options = {sizeof options};
    mfres_case patient = {sizeof patient};
    mfres_request request = {sizeof request};
    mfres_output output = {sizeof output};
    mfres_segmenter* segmenter;
    double deadline = 0.0;
    int m, status;

    if (count != 7 && count != 8) {
        fprintf(stderr, "usage: embed_c MODEL T1.nii T1CE.nii T2.nii FLAIR.nii LABELS.raw [SECONDS]\n");
        return 2;
    }
    for (m = 0; m < 4; ++m) {
        if (read_nifti_file(arguments[m + 2], &images[m]) != 0)
            return 6;
        describe(&images[m], &volumes[m]);
    }
    patient.id = "example";
    patient.t1 = &volumes[0];
    patient.t1ce = &volumes[1];
    patient.t2 = &volumes[2];
    patient.flair = &volumes[3];
    output.labels_size = (size_t)(images[0].size[0] * images[0].size[1] * images[0].size[2]);
    output.labels = malloc(output.labels_size);
    if (!output.labels || pool_start(&threads) != 0)
        return 5;

    options.threads = POOL_WORKERS + 1;
    options.parallel_for = pool_run;
    options.parallel_data = &threads;
    options.allocate = take;
    options.release = give_back;
    options.memory_data = &arrays;
    options.log = log_message;
    request.progress = show;
    request.progress_data = &deadline;

    segmenter = mfres_open(arguments[1], &options);
    status = segmenter ? 0 : -1;
    if (segmenter) {
        running = segmenter;
        signal(SIGINT, stop);
        deadline = now() + (count == 8 ? atof(arguments[7]) : 1e9);
        status = mfres_predict(segmenter, &patient, &request, &output);
        fprintf(stderr, "\n");
    }
    if (status != 0)
        fprintf(stderr, "%s: %s\n", mfres_error_name(segmenter), mfres_error_message(segmenter));
    else
        status = write_bytes(arguments[6], output.labels, output.labels_size);
    if (status == 0) {
        printf("whole tumour %.2f ml, tumour core %.2f ml, enhancing tumour %.2f ml\n", output.region_ml[0],
               output.region_ml[1], output.region_ml[2]);
        printf("%ld loops in the program's threads, %ld arrays and at most %.1f MiB in its memory\n", threads.loops,
               arrays.blocks, (double)arrays.most / 1048576.0);
        if (threads.loops == 0 || arrays.blocks == 0)
            status = 1;
    }

    signal(SIGINT, SIG_DFL);
    mfres_close(segmenter);
    if (arrays.bytes != 0) {
        fprintf(stderr, "%lu bytes were not given back\n", (unsigned long)arrays.bytes);
        status = 1;
    }
    pool_stop(&threads);
    free(output.labels);
    for (m = 0; m < 4; ++m)
        free(images[m].voxels);
    return status == 0 ? 0 : 1;
}
