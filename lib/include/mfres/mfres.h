/* SPDX-License-Identifier: MIT */
/* mfres in plain C, for programs and languages that cannot use the C++ headers.
 *
 *   mfres_error error;
 *   mfres_segmenter* segmenter = mfres_open("m.safetensors", NULL, &error);
 *   char* report = NULL;
 *   if (!segmenter || mfres_segment_folder(segmenter, "BraTS19_CBICA_AAB_1", "labels.nii.gz", &report, &error) != 0)
 *       fprintf(stderr, "%s: %s\n", error.name, error.message);
 *   mfres_free(report);
 *   mfres_close(segmenter);
 *
 * Strings are UTF-8 and end in a zero byte. Nothing here throws, prints or aborts.
 * Research use only: not a medical device.
 */
#ifndef MFRES_MFRES_H
#define MFRES_MFRES_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What went wrong. `name` is the snake_case name of mfres::ErrorCode, empty after a success; both texts are cut to fit.
 */
typedef struct mfres_error {
    char name[48];
    char message[1024];
} mfres_error;

/* As mfres::SegmenterOptions and mfres::SegmentOptions. All zero is the default of every member, so that
 * `mfres_options options = {0};` stays right when members are added. */
typedef struct mfres_options {
    const char* backend;      /* NULL or "auto" = the fastest in this build */
    int threads;              /* 0 = all processors this process may use */
    int64_t max_memory;       /* bytes, 0 = no limit */
    const char* precision;    /* NULL or "auto" = as the model file is stored; "f32", "bf16", "fp16", "int8" */
    const char* waiting;      /* of threads: NULL or "auto", "passive", "active" */
    const char* mirror;       /* NULL or "" = none; axes to average mirror images along: "x", "xyz" */
    double min_enhancing_mm3; /* less enhancing tumour than that in all becomes necrotic core; 0 = as the model says */
    double min_component_mm3; /* smaller connected components of tumour are removed, except the largest; 0 = likewise */
    int no_recommended_sizes; /* not 0: a size of 0 means never, also where the model file recommends one */
} mfres_options;

/* One model; one thread at a time may use it. */
typedef struct mfres_segmenter mfres_segmenter;

/* "0.1.0"; lives as long as the program. */
const char* mfres_version(void);

/* Opens a model file. `options` may be NULL. Returns NULL after an error, which `error` (may be NULL) then tells. */
mfres_segmenter* mfres_open(const char* model, const mfres_options* options, mfres_error* error);

/* Segments the case in a folder (BraTS file names) and writes its label map (.nii or .nii.gz) over any file of that
 * name. Returns 0, or -1 after an error, and then nothing was written. `report` (may be NULL) receives the report as
 * JSON, to be given to mfres_free. */
int mfres_segment_folder(mfres_segmenter* segmenter, const char* folder, const char* output, char** report,
                         mfres_error* error);

/* The same for four named files. */
int mfres_segment_files(mfres_segmenter* segmenter, const char* t1, const char* t1ce, const char* t2, const char* flair,
                        const char* output, char** report, mfres_error* error);

/* Frees a report; NULL is fine. */
void mfres_free(char* report);

/* Closes a model; NULL is fine. */
void mfres_close(mfres_segmenter* segmenter);

#ifdef __cplusplus
}
#endif

#endif
