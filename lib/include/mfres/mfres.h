/* SPDX-License-Identifier: MIT */
/* mfres in plain C, for programs and languages that cannot use the C++ headers. Version 1 of the interface.
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
 * - Functions that return int return 0, or -1 after an error, which mfres_error_name, mfres_error_message and
 *   mfres_error_place then tell.
 * - Strings are UTF-8 and end in a zero byte. Nothing is kept of what a call is given, but for the callbacks of
 *   mfres_options and their data. Nothing here throws, prints or aborts.
 * - Thread safety, as each function states it: "any thread" = may be called at any time from any thread; "one thread at a
 *   time" = not while another call has the same segmenter, those of "any thread" excepted. Different segmenters may be
 *   used at the same time. Callbacks must not call functions of "one thread at a time" for the segmenter that calls them.
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

/* The version of the library that this header is of; the library's own is mfres_version_number(). */
#define MFRES_VERSION_MAJOR 0
#define MFRES_VERSION_MINOR 1
#define MFRES_VERSION_PATCH 0
#define MFRES_VERSION_NUMBER (10000 * MFRES_VERSION_MAJOR + 100 * MFRES_VERSION_MINOR + MFRES_VERSION_PATCH)

/* The version of this interface. It stays the same while functions and members are only added: a library serves all
 * programs that were compiled with its number. */
#define MFRES_C_INTERFACE 1

/* Callbacks ---------------------------------------------------------------------------------------------------------*/

/* A parallel loop of the caller: it calls part(part_data, i) exactly once for every 0 <= i < parts, on any threads, and
 * returns after all calls have returned. Calls do not wait for each other. */
typedef void (*mfres_parallel_for)(void* data, int parts, void (*part)(void* part_data, int index), void* part_data);

/* Memory of `bytes` bytes that starts at a multiple of `alignment`, a power of 2; NULL if there is none. From any
 * thread, also from several at once. */
typedef void* (*mfres_allocate)(void* data, size_t bytes, size_t alignment);
/* Gives back what mfres_allocate gave. From any thread. */
typedef void (*mfres_release)(void* data, void* memory, size_t bytes);

/* Levels of messages. */
enum { MFRES_LOG_ERROR = 1, MFRES_LOG_WARNING = 2, MFRES_LOG_INFO = 3, MFRES_LOG_DEBUG = 4 };
/* Gets one message, a sentence without a line break, in the thread of the call that it is about. */
typedef void (*mfres_log)(void* data, int level, const char* message);

/* Called with the name of the running stage and the share of it that is done, 0 to 1, in the thread of the call. Return
 * 0 to go on; anything else stops the call, which then fails with the error "interrupted". */
typedef int (*mfres_progress)(void* data, const char* stage, double done);

/* Structs -----------------------------------------------------------------------------------------------------------*/

/* How a model is opened. */
typedef struct mfres_options {
    size_t struct_size;
    const char* backend;             /* NULL or "auto" = the fastest in this build; see mfres_backend_name */
    const char* precision;           /* NULL or "auto" = as the model file is stored; "f32", "bf16", "fp16", "int8" */
    const char* wait_policy;         /* of threads at barriers: NULL or "auto", "passive", "active" */
    const char* mirror;              /* NULL or "" = none; axes to average mirror images along: "x", "xyz" */
    const char* accept;              /* checks that give warnings (mfres/plausibility.h), commas between; NULL = none */
    int64_t max_memory;              /* bytes, 0 = no limit; see mfres::PredictorOptions */
    int threads;                     /* 0 = all processors this process may use */
    int device;                      /* which GPU of the backend, from 0 */
    int tf32;                        /* 1 = a GPU may round the operands of f32 products to 10 bits */
    int nondeterministic;            /* 1 = an engine may be faster and not give equal bits in every run */
    const int* cpus;                 /* CPUs to which the threads are pinned in turn, the calling one during a call; */
    size_t cpu_count;                /* how many; 0 = no affinity */
    mfres_parallel_for parallel_for; /* instead of threads of this library; NULL = none */
    void* parallel_data;             /* its first argument */
    mfres_allocate allocate;         /* for arrays of 64 KiB and more; NULL = the system's memory */
    mfres_release release;           /* given if and only if `allocate` is */
    void* memory_data;               /* their first argument */
    mfres_log log;                   /* NULL = none */
    void* log_data;                  /* its first argument */
    int log_level;                   /* messages up to it; 0 = MFRES_LOG_INFO */
    int keep_memory; /* 1 = arrays of a case stay for the next one, which then allocates nothing if it has that size */
#if UINTPTR_MAX <= 0xFFFFFFFFu
    int reserved; /* 0; in place of padding, where addresses have 32 bits */
#endif
} mfres_options;

/* How a case is segmented. */
typedef struct mfres_request {
    size_t struct_size;
    const char* label_scheme; /* "brats" (0, 1, 2, 4), "brats2023" (0, 1, 2, 3) ..., or a mapping as
                                 "1:ncr,2:ed,3:et"; NULL = the model's */
    double min_enhancing_mm3; /* less enhancing tumour than that in all becomes necrotic core; 0 = as the model says */
    double min_component_mm3; /* smaller connected components of tumour are removed, except the largest; 0 = likewise */
    int no_recommended_sizes; /* 1: a size of 0 means never, also where the model file recommends one */
    int resample;             /* 1 = accept other voxel sizes: resample in, and the labels back out */
    int any_contrasts;        /* 1 = accept any contrasts that are there, also without training. For measurements */
    int preview_uncertainty;  /* 1 = draw into the preview where the network is not sure */
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

/* The same as files, .nii or .nii.gz: a folder with BraTS file names, or each by its path. */
typedef struct mfres_files {
    size_t struct_size;
    const char* id;     /* NULL = the name of the folder in which they lie */
    const char* folder; /* either this, or those below */
    const char* t1;     /* NULL = the contrast is absent */
    const char* t1ce;
    const char* t2;
    const char* flair;
    const char* affine; /* where a header has both: "sform", "qform"; NULL or "auto" = the sform, and they must agree */
} mfres_files;

/* Where voxels lie. */
typedef struct mfres_grid {
    size_t struct_size;
    int64_t size[3];     /* as in mfres_volume */
    double affine[3][4]; /* likewise */
} mfres_grid;

/* Number of classes of which probabilities are given: background, necrotic and non-enhancing core, oedema, enhancing
 * tumour. */
#define MFRES_CLASSES 4
/* Number of regions: whole tumour, tumour core, enhancing tumour, as BraTS defines them. */
#define MFRES_REGIONS 3

/* Where results go: memory of the caller, files, or both. After an error no file was written, and the memory may hold
 * anything. */
typedef struct mfres_output {
    size_t struct_size;
    uint8_t* labels;                /* one for each voxel of the input's grid, i fastest, then j, then k; NULL = none */
    size_t labels_size;             /* elements that fit there */
    float* probabilities;           /* MFRES_CLASSES such grids, one after the other; NULL = none */
    size_t probabilities_size;      /* elements that fit there */
    const char* label_file;         /* .nii or .nii.gz to write; NULL = none */
    const char* probability_file;   /* 4-D, .nii or .nii.gz to write; NULL = none */
    const char* probability_format; /* of that file: NULL or "float32", or "uint8" */
    const char* preview_file;       /* PNG to write; NULL = none */
    int keep_existing;              /* 1 = the error file_exists where a file is there already */
    int64_t class_voxels[MFRES_CLASSES];  /* set by the call: voxels of each class; 0 for the background */
    double class_ml[MFRES_CLASSES];       /* set by the call: their volume, millilitres */
    int64_t region_voxels[MFRES_REGIONS]; /* set by the call: voxels of each region */
    double region_ml[MFRES_REGIONS];      /* set by the call: their volume, millilitres */
} mfres_output;

/* One model. */
typedef struct mfres_segmenter mfres_segmenter;

/* Functions ---------------------------------------------------------------------------------------------------------*/

/* "0.1.0"; lives as long as the program. Any thread. */
MFRES_EXPORT const char* mfres_version(void);
/* MFRES_VERSION_NUMBER and MFRES_C_INTERFACE of the library. Any thread. */
MFRES_EXPORT int mfres_version_number(void);
MFRES_EXPORT int mfres_c_interface(void);

/* The name of a backend that works here, the fastest first; NULL for an index behind the last or below 0. Lives as long
 * as the program. Any thread. */
MFRES_EXPORT const char* mfres_backend_name(int index);

/* Opens a model file, or weights that come with mfres by their name ("mf-res2net"). `options` may be NULL. Returns NULL
 * after an error. Any thread. */
MFRES_EXPORT mfres_segmenter* mfres_open(const char* model, const mfres_options* options);

/* The same for the bytes of a model file. `name` stands in messages and reports where a path would; NULL = "model". Any
 * thread. */
MFRES_EXPORT mfres_segmenter* mfres_open_bytes(const void* bytes, size_t size, const char* name,
                                               const mfres_options* options);

/* The error of the last call that was given this segmenter; with NULL, of the last call in this thread that was given
 * none: mfres_open, mfres_open_bytes and mfres_read_grid. The name is the snake_case name of mfres::ErrorCode, the
 * message a sentence that names file and values, the place the file, node or member that it is about (may be ""). All
 * are "" where that call succeeded, and live until the next such call. One thread at a time. */
MFRES_EXPORT const char* mfres_error_name(const mfres_segmenter* segmenter);
MFRES_EXPORT const char* mfres_error_message(const mfres_segmenter* segmenter);
MFRES_EXPORT const char* mfres_error_place(const mfres_segmenter* segmenter);

/* Prepares the model for cases whose brain has the given extent in voxels along x (left and right), y and z: compiles
 * the network, takes its memory and runs it once on zeros, so that the first such case takes no longer than the next.
 * One thread at a time. */
MFRES_EXPORT int mfres_warm_up(mfres_segmenter* segmenter, const int64_t brain_size[3]);

/* Segments volumes in memory: the same bits as from files. `request` may be NULL. One thread at a time. */
MFRES_EXPORT int mfres_predict(mfres_segmenter* segmenter, const mfres_case* patient, const mfres_request* request,
                               mfres_output* output);

/* Segments files. `request` may be NULL. For results in memory mfres_read_grid tells their size. One thread at a time. */
MFRES_EXPORT int mfres_segment(mfres_segmenter* segmenter, const mfres_files* files, const mfres_request* request,
                               mfres_output* output);

/* The report of the last case that mfres_predict or mfres_segment segmented, as JSON (docs/formats.md); "" where there
 * is none, or no memory for it. Lives until the next call with this segmenter. One thread at a time. */
MFRES_EXPORT const char* mfres_report(mfres_segmenter* segmenter);

/* Stops the call of mfres_predict, mfres_segment or mfres_warm_up that is running with this segmenter: it fails with the
 * error "interrupted". No effect if none is running. Any thread and signal handlers, but not
 * during or after mfres_close. */
MFRES_EXPORT void mfres_cancel(mfres_segmenter* segmenter);

/* The grid of a NIfTI file, or of the first contrast of the case in a folder; only a header is read. `affine` as in
 * mfres_files. Sets all of `grid` but struct_size. Any thread. */
MFRES_EXPORT int mfres_read_grid(const char* path, const char* affine, mfres_grid* grid);

/* Closes a model; NULL is fine. One thread at a time. */
MFRES_EXPORT void mfres_close(mfres_segmenter* segmenter);

#ifdef __cplusplus
}
#endif

#endif
