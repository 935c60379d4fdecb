// SPDX-License-Identifier: MIT
// A program as a user of the installed library writes it: only public headers, an expected error, exit code 0.
#include <mfres/case.h>
#include <mfres/complexity.h>
#include <mfres/network.h>
#include <mfres/segmenter.h>
#include <mfres/status.h>
#include <mfres/volume.h>

#include <cstdio>

int main() {
    const auto segmenter = mfres::Segmenter::open("there-is-no-such-file.safetensors", {});
    if (segmenter.ok() || segmenter.error().code != mfres::ErrorCode::file_not_found)
        return 1;
    std::printf("mfres %s, %zu backends: %s\n", std::string(mfres::version()).c_str(),
                mfres::available_backends().size(), segmenter.error().message.c_str());
    return mfres::available_backends().empty() ? 1 : 0;
}
