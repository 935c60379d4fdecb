/* SPDX-License-Identifier: MIT */
/* Where the examples get their volumes from: an uncompressed little-endian NIfTI-1 file with an sform, on a
 * little-endian machine. A program that embeds mfres has its volumes in memory already. In C, for all examples. */
#ifndef NIFTI_FILE_H
#define NIFTI_FILE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct nifti_file {
    void* voxels; /* to be freed */
    int16_t datatype;
    int64_t size[3];
    double affine[3][4];
    double slope;
    double inter;
} nifti_file;

/* Reads a file. Returns 0, or -1 with a message on stderr. */
static int read_nifti_file(const char* path, nifti_file* image) {
    unsigned char header[348];
    int32_t header_bytes = 0;
    int16_t dim[8];
    int16_t bits = 0;
    int16_t sform = 0;
    float offset = 0.0F;
    float scaling[2];
    float rows[3][4];
    int row, column;
    FILE* file = fopen(path, "rb");
    memset(image, 0, sizeof *image);
    if (!file || fread(header, 1, sizeof header, file) != sizeof header) {
        fprintf(stderr, "%s cannot be read\n", path);
        if (file)
            fclose(file);
        return -1;
    }
    memcpy(&header_bytes, header, 4);
    memcpy(dim, header + 40, sizeof dim);
    memcpy(&image->datatype, header + 70, 2);
    memcpy(&bits, header + 72, 2);
    memcpy(&offset, header + 108, 4);
    memcpy(scaling, header + 112, sizeof scaling);
    memcpy(&sform, header + 254, 2);
    memcpy(rows, header + 280, sizeof rows);
    if (header_bytes != 348 || sform <= 0) {
        fprintf(stderr, "%s is not an uncompressed little-endian NIfTI-1 file with an sform\n", path);
        fclose(file);
        return -1;
    }
    for (row = 0; row < 3; ++row) {
        image->size[row] = dim[row + 1];
        for (column = 0; column < 4; ++column)
            image->affine[row][column] = rows[row][column];
    }
    image->slope = scaling[0];
    image->inter = scaling[1];
    {
        const size_t bytes = (size_t)(image->size[0] * image->size[1] * image->size[2]) * (size_t)(bits / 8);
        image->voxels = malloc(bytes);
        if (!image->voxels || fseek(file, (long)offset, SEEK_SET) != 0 ||
            fread(image->voxels, 1, bytes, file) != bytes) {
            fprintf(stderr, "%s is too short, or too large\n", path);
            free(image->voxels);
            image->voxels = NULL;
            fclose(file);
            return -1;
        }
    }
    fclose(file);
    return 0;
}

/* Writes bytes to a file. Returns 0, or -1 with a message on stderr. */
static int write_bytes(const char* path, const void* bytes, size_t count) {
    FILE* file = fopen(path, "wb");
    const int written = file && fwrite(bytes, 1, count, file) == count;
    if (!file || fclose(file) != 0 || !written) {
        fprintf(stderr, "%s cannot be written\n", path);
        return -1;
    }
    return 0;
}

#endif
