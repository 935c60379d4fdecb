// SPDX-License-Identifier: MIT
// Volumes in memory to labels and probabilities in memory.
//   embed_cpp MODEL T1.nii T1CE.nii T2.nii FLAIR.nii LABELS.raw
// MODEL is a model file or the name of weights that come with mfres. LABELS.raw gets one byte a voxel, x fastest.
#include "../volumes.h"

#include <cstdio>

int main(int count, char** arguments) {
    if (count != 7) {
        std::fprintf(stderr, "usage: embed_cpp MODEL T1.nii T1CE.nii T2.nii FLAIR.nii LABELS.raw\n");
        return 2;
    }
    const auto volumes = read_volumes(arguments + 2);
    if (!volumes)
        return 6;
    auto predictor = mfres::Predictor::open(arguments[1], {});
    if (!predictor)
        return failed(predictor.error());
    const auto prediction = predictor->predict(volumes->views, {.probabilities = true});
    if (!prediction)
        return failed(prediction.error());
    for (const auto& region : prediction->report.regions)
        std::printf("%s: %.2f ml\n", region.name.c_str(), region.millilitres);
    const auto tumour = prediction->probabilities->of_class(3);
    std::printf("highest probability of enhancing tumour: %.3f\n",
                static_cast<double>(*std::max_element(tumour.begin(), tumour.end())));
    return write_bytes(arguments[6], prediction->labels.labels.data(), prediction->labels.labels.size()) == 0 ? 0 : 6;
}
