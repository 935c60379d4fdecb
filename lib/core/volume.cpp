// SPDX-License-Identifier: MIT
#include <mfres/volume.h>

namespace mfres {

std::string_view name(Modality modality) noexcept {
    switch (modality) {
    case Modality::t1: return "t1";
    case Modality::t1ce: return "t1ce";
    case Modality::t2: return "t2";
    case Modality::flair: return "flair";
    }
    return "unknown";
}

} // namespace mfres
