/* SPDX-License-Identifier: MIT */
/* mfres in plain C, for programs and languages that cannot use the C++ headers.
 *
 *   mfres_segmenter* segmenter = mfres_open("mf-res2net", NULL);
 *   mfres_volume t1 = {sizeof t1, voxels, MFRES_INT16, {240, 240, 155}, {{-1, 0, 0, 0}, {0, -1, 0, 239}, {0, 0, 1, 0}}};
 *   mfres_case patient = {sizeof patient, "patient 7", &t1, &t1ce, &t2, &flair};
 *   mfres_output output = {sizeof output, labels, 240 * 240 * 155};
 *   if (!segmenter || mfres_predict(segmenter, &patient, NULL, &output) != 0)
 *       fprintf(stderr, "%s: %s\n", mfres_error_name(segmenter), mfres_error_message(segmenter));
 *   mfres_close(segmenter);
 *
 * Rules for all of it:
 * - The first member of every struct is `struct_size`, which the caller sets to sizeof of the struct as it was compiled.
 *   Members are only ever added at the end. A library that does not know a member rejects the struct if that member is
 *   not zero. Zero is the default of every member.
 * - Functions that return int return 0, or -1 after an error, which mfres_error_name and mfres_error_message then tell.
 * - Strings are UTF-8 and end in a zero byte. Nothing is kept of what a call is given, but for the options of mfres_open
 *   that say so. Nothing here throws, prints or aborts.
 * Research use only: not a medical device.
 */
#ifndef MFRES_MFRES_H
#define MFRES_MFRES_H

#include <mfres/export.h>

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A parallel loop of the caller: it calls part(part_data, i) exactly once for every 0 <= i < parts, on any threads, and
 * returns after all calls have returned. Calls do not wait for each other. */
typedef void (*mfres_parallel_for)(void* data, int parts, void (*part)(void* part_data, int index), void* part_data);

/* Called with the name of the running stage and the share of it that is done, 0 to 1, in the thread of the call. Return
 * 0 to go on; anything else stops the call, which then fails with the error "interrupted". */
typedef int (*mfres_progress)(void* data, const char* stage, double done);

/* How a model is opened. */
typedef struct mfres_options {
    size_t struct_size;
    const char* backend;             /* NULL or "auto" = the fastest in this build */
    int threads;                     /* 0 = all processors this process may use */
    int nondeterministic;            /* 1 = an engine may be faster and not give equal bits in every run */
    int64_t max_memory;              /* bytes, 0 = no limit */
    const char* precision;           /* NULL or "auto" = as the model file is stored; "f32", "bf16", "fp16", "int8" */
    const char* wait_policy;         /* of threads at barriers: NULL or "auto", "passive", "active" */
    const char* mirror;              /* NULL or "" = none; axes to average mirror images along: "x", "xyz" */
    const char* accept;              /* checks that give warnings (mfres/plausibility.h), commas between; NULL = none */
    mfres_parallel_for parallel_for; /* instead of threads of this library; kept until mfres_close; NULL = none */
    void* parallel_data;             /* its first argument; kept as well */
} mfres_options;

/* How a case is segmented. */
typedef struct mfres_request {
    size_t struct_size;
    int resample;             /* 1 = accept other voxel sizes: resample in, and the labels back out */
    int no_recommended_sizes; /* not 0: a size of 0 means never, also where the model file recommends one */
    const char* label_scheme; /* "brats" (0, 1, 2, 4) or "brats2023" (0, 1, 2, 3); NULL = the model's */
    double min_enhancing_mm3; /* less enhancing tumour than that in all becomes necrotic core; 0 = as the model says */
    double min_component_mm3; /* smaller connected components of tumour are removed, except the largest; 0 = likewise */
    mfres_progress progress;  /* NULL = none */
    void* progress_data;      /* its first argument */
} mfres_request;

/* How a voxel is stored: the scalar types of NIfTI, with the numbers of its field "datatype". */
enum {
    MFRES_UINT8 = 2,
    MFRES_INT16 = 4,
    MFRES_INT32 = 8,
    MFRES_FLOAT32 = 16,
    MFRES_FLOAT64 = 64,
    MFRES_INT8 = 256,
    MFRES_UINT16 = 512,
    MFRES_UINT32 = 768,
    MFRES_INT64 = 1024,
    MFRES_UINT64 = 1280
};

/* One contrast in memory. */
typedef struct mfres_volume {
    size_t struct_size;
    const void* voxels;  /* voxel (0, 0, 0) */
    int32_t type;        /* MFRES_INT16, ... */
    int64_t size[3];     /* voxels along i, j, k, each 2 to 1024 */
    double affine[3][4]; /* from (i, j, k, 1) to millimetres: x to the right, y to anterior, z to superior */
    int64_t strides[3];  /* scalars from one voxel to the next along i, j, k; all 0 = contiguous, i fastest */
    double slope;        /* intensity = stored * slope + inter; 0 = no scaling */
    double inter;
} mfres_volume;

/* The contrasts of one patient, all on one grid, co-registered and skull-stripped. NULL = the contrast is absent, which a
 * model accepts that was trained for it. */
typedef struct mfres_case {
    size_t struct_size;
    const char* id; /* for messages and the report; NULL = "" */
    const mfres_volume* t1;
    const mfres_volume* t1ce;
    const mfres_volume* t2;
    const mfres_volume* flair;
} mfres_case;

/* Number of classes of which probabilities are given: background, necrotic and non-enhancing core, oedema, enhancing
 * tumour. */
#define MFRES_CLASSES 4

/* Where a prediction is written: memory of the caller, which after an error may hold anything. */
typedef struct mfres_output {
    size_t struct_size;
    uint8_t* labels;           /* one for each voxel of the input's grid, i fastest, then j, then k; NULL = none */
    size_t labels_size;        /* elements that fit there */
    float* probabilities;      /* MFRES_CLASSES such grids, one after the other; NULL = none */
    size_t probabilities_size; /* elements that fit there */
    char* report;              /* set by the call: the report as JSON, to be given to mfres_free; NULL after an error */
} mfres_output;

/* One model; one thread at a time may use it. */
typedef struct mfres_segmenter mfres_segmenter;

/* "0.1.0"; lives as long as the program. */
MFRES_EXPORT const char* mfres_version(void);

/* Opens a model file, or weights that come with mfres by their name ("mf-res2net"). `options` may be NULL. Returns NULL
 * after an error. */
MFRES_EXPORT mfres_segmenter* mfres_open(const char* model, const mfres_options* options);

/* The same for the bytes of a model file. `name` stands in messages and reports where a path would; NULL = "model". */
MFRES_EXPORT mfres_segmenter* mfres_open_bytes(const void* bytes, size_t size, const char* name,
                                               const mfres_options* options);

/* The error of the last call that was given this segmenter; with NULL, of the last call in this thread that was given
 * none: mfres_open and mfres_open_bytes above all. The name is the snake_case name of mfres::ErrorCode, the message a
 * sentence that names file and values. Both are "" where that call succeeded, and live until the next such call. */
MFRES_EXPORT const char* mfres_error_name(const mfres_segmenter* segmenter);
MFRES_EXPORT const char* mfres_error_message(const mfres_segmenter* segmenter);

/* Segments volumes in memory: the same bits as from files. `request` may be NULL. */
MFRES_EXPORT int mfres_predict(mfres_segmenter* segmenter, const mfres_case* patient, const mfres_request* request,
                               mfres_output* output);

/* Segments the case in a folder (BraTS file names) and writes its label map (.nii or .nii.gz) over any file of that
 * name; after an error nothing was written. `request` may be NULL. `report` (may be NULL) receives the report as JSON, to
 * be given to mfres_free. */
MFRES_EXPORT int mfres_segment_folder(mfres_segmenter* segmenter, const char* folder, const mfres_request* request,
                                      const char* output, char** report);

/* The same for four named files. */
MFRES_EXPORT int mfres_segment_files(mfres_segmenter* segmenter, const char* t1, const char* t1ce, const char* t2,
                                     const char* flair, const mfres_request* request, const char* output,
                                     char** report);

/* Frees a report; NULL is fine. */
MFRES_EXPORT void mfres_free(char* report);

/* Closes a model; NULL is fine. */
MFRES_EXPORT void mfres_close(mfres_segmenter* segmenter);

#ifdef __cplusplus
}
#endif

#endif
