/* SPDX-License-Identifier: MIT */
/* Volumes in memory to labels in memory, in plain C.
 *   embed_c MODEL T1.nii T1CE.nii T2.nii FLAIR.nii LABELS.raw
 * MODEL is a model file or the name of weights that come with mfres. LABELS.raw gets one byte a voxel, x fastest. */
#include "../nifti_file.h"

#include <mfres/mfres.h>

/* Called while the network runs; another program would move a bar, or return 1 where its user pressed "stop". */
static int show(void* data, const char* stage, double done) {
    (void)data;
    fprintf(stderr, "\r%-12s %3.0f %%", stage, 100.0 * done);
    return 0;
}

int main(int count, char** arguments) {
    nifti_file images[4];
    mfres_volume volumes[4];
    mfres_case patient = {sizeof patient};
    mfres_request request = {sizeof request};
    mfres_output output = {sizeof output};
    mfres_segmenter* segmenter;
    int m, status;

    if (count != 7) {
        fprintf(stderr, "usage: embed_c MODEL T1.nii T1CE.nii T2.nii FLAIR.nii LABELS.raw\n");
        return 2;
    }
    memset(volumes, 0, sizeof volumes);
    for (m = 0; m < 4; ++m) {
        if (read_nifti_file(arguments[m + 2], &images[m]) != 0)
            return 6;
        volumes[m].struct_size = sizeof volumes[m];
        volumes[m].voxels = images[m].voxels;
        volumes[m].type = images[m].datatype; /* MFRES_INT16 and so on are NIfTI's numbers */
        memcpy(volumes[m].size, images[m].size, sizeof volumes[m].size);
        memcpy(volumes[m].affine, images[m].affine, sizeof volumes[m].affine);
        volumes[m].slope = images[m].slope;
        volumes[m].inter = images[m].inter;
    }
    patient.id = "example";
    patient.t1 = &volumes[0];
    patient.t1ce = &volumes[1];
    patient.t2 = &volumes[2];
    patient.flair = &volumes[3];
    request.progress = show;
    output.labels_size = (size_t)(images[0].size[0] * images[0].size[1] * images[0].size[2]);
    output.labels = malloc(output.labels_size);
    if (!output.labels)
        return 5;

    segmenter = mfres_open(arguments[1], NULL);
    status = segmenter ? mfres_predict(segmenter, &patient, &request, &output) : -1;
    fprintf(stderr, "\n");
    if (status != 0)
        fprintf(stderr, "%s: %s\n", mfres_error_name(segmenter), mfres_error_message(segmenter));
    else
        status = write_bytes(arguments[6], output.labels, output.labels_size);

    mfres_free(output.report);
    mfres_close(segmenter);
    free(output.labels);
    for (m = 0; m < 4; ++m)
        free(images[m].voxels);
    return status == 0 ? 0 : 1;
}
