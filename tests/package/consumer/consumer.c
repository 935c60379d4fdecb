/* SPDX-License-Identifier: MIT */
/* The plain C header from a C compiler: an expected error, exit code 0. */
#include <mfres/mfres.h>

#include <stdio.h>
#include <string.h>

int main(void) {
    mfres_segmenter* segmenter = mfres_open("there-is-no-such-file.safetensors", NULL);
    if (segmenter || strcmp(mfres_error_name(NULL), "file_not_found") != 0)
        return 1;
    printf("mfres %s from C: %s\n", mfres_version(), mfres_error_message(NULL));
    mfres_close(segmenter);
    return 0;
}
